//! Whether KV went to the decode nodes, and when it stopped.

use super::side::{Watched, span};
use super::{CounterName, HistogramName, NodeCounts, NodeDelta, ServerRole};
use crate::measure::{Definition, Metric, Offset, Run};
use serde::{Deserialize, Serialize};

/// What the decode nodes tell of where the KV of their prompts came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KvMoved {
    /// Prompt tokens whose KV came from elsewhere.
    pub external_tokens: f64,
    /// Prompt tokens that they computed.
    pub computed_tokens: f64,
    /// Prompt tokens that their own caches had.
    pub cached_tokens: f64,
    /// Requests that got their first token there.
    pub requests: f64,
    /// There are prefill nodes that could have sent it.
    pub expected: bool,
    /// The longest time in which none came, though it had come before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<KvStop>,
}

/// A time in which no KV came though requests went on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KvStop {
    /// Last look at which some had come, seconds from the start of the main load.
    pub from_s: f64,
    /// First look at which some came again; `None` where none did.
    pub until_s: Option<f64>,
    /// Requests that got their first token meanwhile.
    pub requests: f64,
    /// Median TTFT of the requests sent before, ms.
    pub ttft_before_ms: Option<f64>,
    /// Median TTFT of those sent in between, ms.
    pub ttft_during_ms: Option<f64>,
}

/// Requests that must have gone without KV before that is a stop.
const REQUESTS: f64 = 5.0;

/// What the decode nodes counted between two looks.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    from: Offset,
    to: Offset,
    external: f64,
    computed: f64,
    cached: f64,
    requests: f64,
}

impl KvMoved {
    pub(super) fn of(run: &Run, watched: &[Watched<'_>]) -> Option<Self> {
        let decode = || watched.iter().filter(|node| node.history.role == ServerRole::Decode);
        let sum = |name| decode().map(|node| node.delta.grown(name)).sum::<Option<f64>>();
        decode().next()?;
        let first_tokens = |node: &Watched<'_>| Some(node.delta.histogram(HistogramName::Ttft)?.count);
        Some(Self {
            external_tokens: sum(CounterName::ExternalKv)?,
            computed_tokens: sum(CounterName::LocalCompute)?,
            cached_tokens: sum(CounterName::LocalCacheHit)?,
            requests: decode().filter_map(first_tokens).sum(),
            expected: watched.iter().any(|node| node.history.role == ServerRole::Prefill),
            stop: stop(run, &steps(decode())),
        })
    }

    /// A deployment that should move KV moved none, and computed all prompts twice.
    pub fn moved_nothing(&self) -> bool {
        let fresh = self.cached_tokens <= self.computed_tokens && 0.0 < self.computed_tokens;
        self.expected && self.external_tokens == 0.0 && 0.0 < self.requests && fresh
    }
}

/// What all decode nodes counted, look by look. Each node is looked at about when the first one is.
fn steps<'a>(nodes: impl Iterator<Item = &'a Watched<'a>>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for node in nodes {
        for pair in node.looks.windows(2) {
            let step = Step::between(pair[0], pair[1]);
            // The step of the first node in which this one ends.
            match steps.iter_mut().find(|known| known.from < step.to && step.to <= known.to) {
                Some(known) => known.add(&step),
                None => steps.push(step),
            }
        }
    }
    steps.sort_by_key(|step| step.to);
    steps
}

impl Step {
    fn between((from, before): (Offset, &NodeCounts), (to, after): (Offset, &NodeCounts)) -> Self {
        let delta = NodeDelta::between(before, after);
        let grown = |name| delta.grown(name).unwrap_or(0.0);
        Self {
            from,
            to,
            external: grown(CounterName::ExternalKv),
            computed: grown(CounterName::LocalCompute),
            cached: grown(CounterName::LocalCacheHit),
            requests: delta.histogram(HistogramName::Ttft).map_or(0.0, |ttft| ttft.count),
        }
    }

    fn add(&mut self, other: &Self) {
        self.external += other.external;
        self.computed += other.computed;
        self.cached += other.cached;
        self.requests += other.requests;
    }
}

/// The longest stretch, by requests, of steps without KV from elsewhere behind one with some.
fn stop(run: &Run, steps: &[Step]) -> Option<KvStop> {
    let first = steps.iter().position(|step| 0.0 < step.external)?;
    let mut stretches: Vec<(usize, usize)> = Vec::new();
    for (at, step) in steps.iter().enumerate().skip(first) {
        match (0.0 < step.external, stretches.last_mut()) {
            (false, Some(last)) if last.1 == at => last.1 = at + 1,
            (false, _) => stretches.push((at, at + 1)),
            (true, _) => {}
        }
    }
    let sum = |(from, to): (usize, usize), value: fn(&Step) -> f64| -> f64 {
        steps[from..to].iter().map(value).sum()
    };
    let counts = |stretch: &(usize, usize)| {
        // What the nodes' own caches had need not come.
        REQUESTS <= sum(*stretch, |step| step.requests)
            && sum(*stretch, |step| step.cached) < sum(*stretch, |step| step.computed)
    };
    let (from, to) = stretches
        .into_iter()
        .filter(counts)
        .max_by(|a, b| sum(*a, |step| step.requests).total_cmp(&sum(*b, |step| step.requests)))?;
    let (began, ended) = (steps[from].from, steps.get(to).map(|next| next.from));
    let start = run.manifest.main_start;
    let during = |sent: Offset| began < sent && ended.is_none_or(|ended| sent <= ended);
    Some(KvStop {
        from_s: began.seconds_since(start),
        until_s: ended.map(|ended| ended.seconds_since(start)),
        requests: sum((from, to), |step| step.requests),
        ttft_before_ms: median_ttft(run, |sent| sent <= began && span(run).0 <= sent),
        ttft_during_ms: median_ttft(run, during),
    })
}

fn median_ttft(run: &Run, sent: impl Fn(Offset) -> bool) -> Option<f64> {
    let ttft = Metric::find("ttft")?;
    let records = run.main().filter(|record| record.sent.is_some_and(&sent));
    let mut values: Vec<f64> = records.filter_map(|record| ttft.value(record, Definition::Strict)).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
