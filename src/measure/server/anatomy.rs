//! Where a user's time to the first token went: the parts that somebody measured, and the rest, which is shown and never
//! spread over them. All times are means, so that they add up.

use super::side::Watched;
use super::{HistogramCounts, HistogramName, ServerRole};
use crate::measure::{Definition, Metric, RequestRecord, Run};
use serde::{Deserialize, Serialize};

/// The mean time to the first token from the schedule, in parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anatomy {
    /// Ok requests whose TTFT this is.
    pub requests: usize,
    /// Their mean TTFT from the schedule, ms: the sum of all parts.
    pub from_schedule_ms: f64,
    /// Their mean TTFT from the send, ms.
    pub ttft_ms: f64,
    /// How the first token came about.
    pub way: TokenWay,
    /// No connector tells how long KV took: on the decode nodes its wait is part of [`PartName::DecodeQueue`].
    pub kv_wait_in_queue: bool,
    /// The parts in the order of time, the rest last.
    pub parts: Vec<Part>,
}

/// Where the first token came from, and whether the legs of a request followed one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenWay {
    /// From a decode node, asked when prefill had ended.
    DecodeAfterPrefill,
    /// From a decode node, asked at the same time: its queue has the prefill in it.
    DecodeBesidePrefill,
    /// From the prefill node.
    Prefill,
    /// From a node that does both.
    Alone,
}

/// A part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Which.
    pub name: PartName,
    /// Mean over the requests, ms. Only the rest can be below 0: then parts overlap or were measured of other requests.
    pub ms: f64,
    /// Who measured it.
    pub source: PartSource,
}

/// Parts of a time to the first token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartName {
    /// From the schedule to the send: the wait for a slot and the client's own lateness.
    Client,
    /// In the proxy, as it tells, apart from its waits for the nodes.
    Proxy,
    /// Of the prefill node (or the one that does all): the wait for the first step.
    PrefillQueue,
    /// From the first step to the end of the prompt.
    PrefillCompute,
    /// In the nodes' HTTP servers and tokenizers.
    NodeOverhead,
    /// KV on its way.
    KvTransfer,
    /// On the decode node: the wait for the first step, without KV's way where that is known.
    DecodeQueue,
    /// From the decode node's first step to its first token.
    DecodeFirstStep,
    /// What nobody measured: networks, a foreign proxy.
    Rest,
}

/// Who measured a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartSource {
    /// The client's records.
    Records,
    /// `server-timing` of `pdbench proxy`, less what the prefill node tells of its leg.
    ServerTiming,
    /// Histograms of the prefill nodes.
    PrefillMetrics,
    /// Histograms of the decode nodes.
    DecodeMetrics,
    /// Histograms of both.
    NodeMetrics,
    /// Histograms of the connector that moves KV.
    ConnectorMetrics,
    /// Nobody: what is left.
    Residual,
}

/// How much longer than the user's TTFT the parts may be together before they cannot have followed one another.
const OVERLAP: f64 = 1.05;

impl PartName {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            PartName::Client => "client queue",
            PartName::Proxy => "proxy",
            PartName::PrefillQueue => "prefill queue",
            PartName::PrefillCompute => "prefill compute",
            PartName::NodeOverhead => "node overhead",
            PartName::KvTransfer => "KV transfer",
            PartName::DecodeQueue => "decode queue",
            PartName::DecodeFirstStep => "decode first step",
            PartName::Rest => "not measured",
        }
    }

    /// The word that files have for it.
    pub fn key(self) -> &'static str {
        match self {
            PartName::Client => "client",
            PartName::Proxy => "proxy",
            PartName::PrefillQueue => "prefill_queue",
            PartName::PrefillCompute => "prefill_compute",
            PartName::NodeOverhead => "node_overhead",
            PartName::KvTransfer => "kv_transfer",
            PartName::DecodeQueue => "decode_queue",
            PartName::DecodeFirstStep => "decode_first_step",
            PartName::Rest => "rest",
        }
    }
}

impl TokenWay {
    /// In words, a sentence.
    pub fn words(self) -> &'static str {
        match self {
            TokenWay::DecodeAfterPrefill => "First tokens come from the decode nodes, asked after prefill.",
            TokenWay::DecodeBesidePrefill => {
                "First tokens come from the decode nodes, asked at the same time as prefill: their queue has the \
                 prefill in it, which is told apart here."
            }
            TokenWay::Prefill => "First tokens come from the prefill nodes; decode has no part in the TTFT.",
            TokenWay::Alone => "First tokens come from nodes that do both.",
        }
    }
}

impl PartSource {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            PartSource::Records => "client's records",
            PartSource::ServerTiming => "proxy's server-timing",
            PartSource::PrefillMetrics => "prefill nodes' /metrics",
            PartSource::DecodeMetrics => "decode nodes' /metrics",
            PartSource::NodeMetrics => "nodes' /metrics",
            PartSource::ConnectorMetrics => "connector's /metrics",
            PartSource::Residual => "residual",
        }
    }
}

/// The histograms of all nodes of a role together, in seconds.
#[derive(Default)]
struct Times(Vec<(HistogramName, HistogramCounts)>);

impl Times {
    fn of(watched: &[Watched<'_>], role: ServerRole) -> Self {
        use HistogramName::{E2e, NixlTransfer, Prefill, Queue, StoreLoad, StoreSave, Ttft};
        let sum = |name| {
            let mut whole = HistogramCounts::default();
            let nodes = watched.iter().filter(|node| node.history.role == role);
            nodes.filter_map(|node| node.delta.histogram(name)).for_each(|counts| whole.add(counts));
            (0.0 < whole.count).then_some((name, whole))
        };
        Self(
            [Queue, Prefill, Ttft, E2e, NixlTransfer, StoreLoad, StoreSave]
                .into_iter()
                .filter_map(sum)
                .collect(),
        )
    }

    fn get(&self, wanted: HistogramName) -> Option<&HistogramCounts> {
        self.0.iter().find(|(name, _)| *name == wanted).map(|(_, counts)| counts)
    }

    /// Mean, ms.
    fn ms(&self, name: HistogramName) -> Option<f64> {
        Some(1e3 * self.get(name)?.mean()?)
    }

    /// Time of a request in an operation that not every request needs, and that several ranks do at once, ms.
    fn ms_per_request(&self, name: HistogramName) -> Option<f64> {
        let operation = self.get(name)?;
        let share = operation.count / self.get(HistogramName::Ttft)?.count;
        Some(1e3 * operation.mean()? * share.min(1.0))
    }
}

impl Anatomy {
    pub(super) fn of(run: &Run, watched: &[Watched<'_>]) -> Option<Self> {
        if !watched.iter().any(|node| node.history.tells_times()) {
            return None;
        }
        let user = User::of(run)?;
        let mixed = Times::of(watched, ServerRole::Mixed);
        let prefill = Times::of(watched, ServerRole::Prefill);
        let decode = Times::of(watched, ServerRole::Decode);
        let way = way(&user, &prefill, &decode, mixed.get(HistogramName::Ttft).is_some());
        let mut parts = Parts::default();
        parts.add(PartName::Client, Some(user.client_ms), PartSource::Records);
        match way {
            TokenWay::Alone => parts.prefill(&mixed, HistogramName::Ttft, None, PartSource::NodeMetrics),
            TokenWay::Prefill => {
                parts.prefill(
                    &prefill,
                    HistogramName::Ttft,
                    user.timing("queue"),
                    PartSource::PrefillMetrics,
                );
            }
            TokenWay::DecodeAfterPrefill => parts.both(&user, &prefill, &decode),
            TokenWay::DecodeBesidePrefill => parts.beside(&user, &prefill, &decode),
        }
        let measured: f64 = parts.0.iter().map(|part| part.ms).sum();
        let from_schedule_ms = user.client_ms + user.ttft_ms;
        parts.0.push(Part {
            name: PartName::Rest,
            ms: from_schedule_ms - measured,
            source: PartSource::Residual,
        });
        let told = parts.0.iter().any(|part| part.name == PartName::KvTransfer);
        let queues = parts.0.iter().any(|part| part.name == PartName::DecodeQueue);
        Some(Self {
            requests: user.records.len(),
            from_schedule_ms,
            ttft_ms: user.ttft_ms,
            way,
            kv_wait_in_queue: queues && !told,
            parts: parts.0,
        })
    }

    /// What to know where [`Anatomy::kv_wait_in_queue`] is set, a sentence.
    pub fn kv_words(&self) -> &'static str {
        "No connector tells how long KV took: the wait for it is part of the decode queue."
    }

    /// A part, ms.
    pub fn ms(&self, name: PartName) -> Option<f64> {
        self.parts.iter().find(|part| part.name == name).map(|part| part.ms)
    }

    /// A part's share of the whole.
    pub fn share(&self, name: PartName) -> f64 {
        self.ms(name).map_or(0.0, |ms| ms / self.from_schedule_ms)
    }
}

/// What the user saw.
struct User<'a> {
    records: Vec<&'a RequestRecord>,
    ttft_ms: f64,
    client_ms: f64,
}

impl<'a> User<'a> {
    /// `None` where no answer was streamed.
    fn of(run: &'a Run) -> Option<Self> {
        let ttft = Metric::find("ttft")?;
        let of = |record: &'a RequestRecord| Some((record, ttft.value(record, Definition::Strict)?));
        let seen: Vec<(&RequestRecord, f64)> = run.main().filter_map(of).collect();
        let count = seen.len() as f64;
        let client = seen.iter().filter_map(|(record, _)| Some(record.sent?.ms_since(record.scheduled)));
        (!seen.is_empty()).then(|| Self {
            ttft_ms: seen.iter().map(|(_, ttft)| ttft).sum::<f64>() / count,
            client_ms: client.sum::<f64>() / count,
            records: seen.iter().map(|(record, _)| *record).collect(),
        })
    }

    /// What the proxy tells, mean over all requests, ms; `None` where it tells it of fewer than half.
    fn timing(&self, name: &str) -> Option<f64> {
        let told = self.records.iter().filter_map(|record| record.server_timing.as_ref()?.get(name).copied());
        let (count, sum) = told.fold((0, 0.0), |(count, sum), ms| (count + 1, sum + ms));
        (self.records.len() < 2 * count).then(|| sum / count as f64)
    }

    /// The answers are two streams joined, the first one the prefill node's.
    fn joined(&self) -> bool {
        let joined = self.records.iter().filter(|record| record.prefill_usage.is_some()).count();
        self.records.len() < 2 * joined
    }
}

/// How the first token came about. Of the ways whose times fit into the user's, the one that leaves the least over.
fn way(user: &User<'_>, prefill: &Times, decode: &Times, mixed: bool) -> TokenWay {
    let first = prefill.ms(HistogramName::Ttft);
    let leg = prefill.ms(HistogramName::E2e).or(first);
    let decode = decode.ms(HistogramName::Ttft);
    let (first, leg, decode) = match (first, leg, decode) {
        (None, _, None) if mixed => return TokenWay::Alone,
        (Some(_), _, None) => return TokenWay::Prefill,
        (None, ..) => return TokenWay::DecodeAfterPrefill,
        (Some(first), leg, Some(decode)) => (first, leg.unwrap_or(first), decode),
    };
    if user.joined() {
        return TokenWay::Prefill;
    }
    let ways = [
        (leg + decode, TokenWay::DecodeAfterPrefill),
        (decode, TokenWay::DecodeBesidePrefill),
        (first, TokenWay::Prefill),
    ];
    let fitting = ways.into_iter().filter(|(ms, _)| *ms <= OVERLAP * user.ttft_ms);
    let best = fitting.max_by(|one, other| one.0.total_cmp(&other.0));
    best.map_or(TokenWay::DecodeAfterPrefill, |(_, way)| way)
}

#[derive(Default)]
struct Parts(Vec<Part>);

impl Parts {
    /// What nobody tells is no part.
    fn add(&mut self, name: PartName, ms: Option<f64>, source: PartSource) {
        self.0.extend(ms.map(|ms| Part { name, ms: ms.max(0.0), source }));
    }

    /// A node that computes the prompt, up to the end of `whole`.
    fn prefill(&mut self, times: &Times, whole: HistogramName, proxy: Option<f64>, source: PartSource) {
        self.add(PartName::Proxy, proxy, PartSource::ServerTiming);
        let (queue, compute) = (times.ms(HistogramName::Queue), times.ms(HistogramName::Prefill));
        self.add(PartName::PrefillQueue, queue, source);
        self.add(PartName::PrefillCompute, compute, source);
        self.add(PartName::NodeOverhead, overhead(times, whole), PartSource::NodeMetrics);
    }

    /// Legs that follow one another.
    fn both(&mut self, user: &User<'_>, prefill: &Times, decode: &Times) {
        // The proxy's view of the leg has what the node does after its last token, such as saving KV.
        let leg = user.timing("prefill").zip(prefill.ms(HistogramName::E2e));
        let beyond = leg.map(|(seen, told)| (seen - told).max(0.0));
        let saved = prefill.ms_per_request(HistogramName::StoreSave).zip(beyond);
        let saved = saved.map(|(save, beyond)| save.min(beyond));
        let around = beyond.map(|beyond| beyond - saved.unwrap_or(0.0));
        let own = [user.timing("queue"), user.timing("kv-ready"), around];
        let proxy = own.into_iter().flatten().reduce(|a, b| a + b);
        self.prefill(prefill, HistogramName::E2e, proxy, PartSource::PrefillMetrics);
        self.decode(decode, saved, 0.0);
    }

    /// Legs side by side: the decode node waits for what the prefill node does.
    fn beside(&mut self, user: &User<'_>, prefill: &Times, decode: &Times) {
        self.prefill(prefill, HistogramName::E2e, user.timing("queue"), PartSource::PrefillMetrics);
        self.decode(decode, None, prefill.ms(HistogramName::E2e).unwrap_or(0.0));
    }

    /// The decode leg, whose queue has `within` in it that is told of already, and `saved` as KV's way before it.
    fn decode(&mut self, times: &Times, saved: Option<f64>, within: f64) {
        use HistogramName::{NixlTransfer, Prefill, Queue, StoreLoad};
        let queue = times.ms(Queue).map(|queue| (queue - within).max(0.0));
        let step = times.ms(Prefill);
        let loaded = times.ms_per_request(NixlTransfer).or_else(|| times.ms_per_request(StoreLoad));
        // KV that is waited for before the first step is in the queue's time; more than that was loaded within the step.
        let loaded = loaded.map(|ms| ms.min(queue.unwrap_or(0.0).max(step.unwrap_or(0.0))));
        let in_queue = loaded.zip(queue).is_some_and(|(loaded, queue)| loaded <= queue);
        let less = |whole: Option<f64>, here: bool| {
            whole.map(|ms| if here { ms - loaded.unwrap_or(0.0) } else { ms })
        };
        let moved = loaded.into_iter().chain(saved).reduce(|a, b| a + b);
        self.add(PartName::KvTransfer, moved, PartSource::ConnectorMetrics);
        self.add(PartName::DecodeQueue, less(queue, in_queue), PartSource::DecodeMetrics);
        self.add(PartName::DecodeFirstStep, less(step, !in_queue), PartSource::DecodeMetrics);
        let more = overhead(times, HistogramName::Ttft);
        match self.0.iter_mut().find(|part| part.name == PartName::NodeOverhead) {
            Some(part) => part.ms += more.unwrap_or(0.0),
            None => self.add(PartName::NodeOverhead, more, PartSource::NodeMetrics),
        }
    }
}

/// What a node takes up to the end of `whole` besides queue and prefill, ms.
fn overhead(times: &Times, whole: HistogramName) -> Option<f64> {
    let known = times.ms(HistogramName::Queue)? + times.ms(HistogramName::Prefill)?;
    Some((times.ms(whole)? - known).max(0.0))
}

#[cfg(test)]
#[path = "anatomy_tests.rs"]
mod tests;
