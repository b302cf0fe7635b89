//! The plateau of replicas that nobody saw: what the decode instances counted of them, sampled while they ran.

use super::super::{Distribution, Offset};
use super::window::Window;
use super::{Batch, BatchBin, BatchFault, NodeShare, Plateau, WhyNot, max_over_mean, note};
use serde::{Deserialize, Serialize};

/// What the decode instances counted over one batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Output tokens that each replica was to make.
    pub output_len: u32,
    /// By instance.
    pub nodes: Vec<ObservedNode>,
}

/// What one decode instance counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ObservedNode {
    /// Its name.
    pub node: String,
    /// When, tokens generated since the start, and requests running.
    pub samples_us: Vec<(Offset, f64, f64)>,
    /// Requests finished since the start.
    pub requests: f64,
    /// Its own time per output token of these requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpot: Option<TpotBuckets>,
}

/// Requests by their time per output token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TpotBuckets {
    /// Upper bound in milliseconds, `None` for no bound, and requests of the bucket, not cumulative.
    pub buckets: Vec<(Option<f64>, f64)>,
    /// Sum over the requests, milliseconds.
    pub sum_ms: f64,
}

/// Share of the greatest number running from which the batch counts as full.
const FULL: f64 = 0.95;

impl Plateau {
    /// The plateau by the decode instances' counters. They know no first tokens and no gaps, so those stay empty.
    pub fn observed(observed: &Observed, batch: &Batch) -> Self {
        let total = Totals::of(observed);
        let most = total.points.iter().map(|point| point.running).fold(0.0, f64::max);
        let window = total.longest_full(FULL * most);
        let full = window.is_some() && FULL * batch.expected as f64 <= most;
        let requests: f64 = observed.nodes.iter().map(|node| node.requests).sum();
        let rate = |node: &ObservedNode, window: Window| {
            (node.tokens_at(window.end) - node.tokens_at(window.start)) / window.seconds()
        };
        let nodes: Vec<NodeShare> = observed
            .nodes
            .iter()
            .map(|node| NodeShare {
                node: node.node.clone(),
                replicas: node.requests as usize,
                ok: node.requests as usize,
                decode_tok_per_s: window.map(|window| rate(node, window)),
                tpot_p50_ms: node.tpot.as_ref().and_then(|tpot| merged([tpot]).median),
                ttft_p50_ms: None,
            })
            .collect();
        let origin = total.points.first().map_or(Offset::default(), |point| point.at);
        let rates = || nodes.iter().filter_map(|node| node.decode_tok_per_s);
        let decode_tok_per_s = window.map(|_| rates().sum::<f64>());
        let mut plateau = Self {
            expected: batch.expected,
            replicas: requests as usize,
            ok: requests as usize,
            streams: if window.is_some() { most as usize } else { 0 },
            origin,
            start_s: window.map(|window| window.start.seconds_since(origin)),
            end_s: window.map(|window| window.end.seconds_since(origin)),
            tokens: decode_tok_per_s.zip(window).map_or(0.0, |(rate, window)| rate * window.seconds()),
            decode_tok_per_s,
            tpot_all_ms: merged(observed.nodes.iter().filter_map(|node| node.tpot.as_ref())),
            balance_replicas: max_over_mean(nodes.iter().map(|node| node.replicas as f64)),
            balance_tok_per_s: max_over_mean(rates()),
            bins: total.bins(origin),
            nodes,
            ..Self::default()
        };
        plateau.notes = note::notes(&plateau, &[], batch);
        plateau.faults = faults(observed, batch, requests, most, full);
        plateau
    }
}

fn faults(observed: &Observed, batch: &Batch, requests: f64, most: f64, full: bool) -> Vec<BatchFault> {
    let expected = batch.expected;
    if requests < 2.0 && 1 < expected {
        return vec![BatchFault::DidNotFire { finished: requests, expected }];
    }
    let off = |what: &str, found: f64, expected: f64| {
        (found != expected).then(|| BatchFault::CountsOff { what: what.to_owned(), found, expected })
    };
    let tokens = observed.nodes.iter().filter_map(|node| node.samples_us.last()).map(|sample| sample.1).sum();
    let never_full = (!full).then_some(BatchFault::NoPlateau { why: WhyNot::NeverFull { most, expected } });
    let requests = off("requests", requests, expected as f64);
    let tokens = off("tokens", tokens, expected as f64 * f64::from(observed.output_len));
    requests.into_iter().chain(tokens).chain(never_full).collect()
}

impl ObservedNode {
    /// Tokens at an instant, between two samples in proportion.
    fn tokens_at(&self, at: Offset) -> f64 {
        let after = self.samples_us.partition_point(|sample| sample.0 < at);
        let (Some(before), next) =
            (after.checked_sub(1).map(|i| self.samples_us[i]), self.samples_us.get(after))
        else {
            return self.samples_us.first().map_or(0.0, |sample| sample.1);
        };
        match next {
            Some(next) => {
                let share = at.seconds_since(before.0) / next.0.seconds_since(before.0);
                before.1 + share * (next.1 - before.1)
            }
            None => before.1,
        }
    }

    /// Requests running at an instant: those of the last sample.
    fn running_at(&self, at: Offset) -> f64 {
        let after = self.samples_us.partition_point(|sample| sample.0 <= at);
        after.checked_sub(1).map_or(0.0, |i| self.samples_us[i].2)
    }
}

/// All instances together, at every instant of a sample.
struct Totals {
    points: Vec<Point>,
}

struct Point {
    at: Offset,
    tokens: f64,
    running: f64,
}

impl Totals {
    fn of(observed: &Observed) -> Self {
        let mut instants: Vec<Offset> =
            observed.nodes.iter().flat_map(|node| node.samples_us.iter().map(|sample| sample.0)).collect();
        instants.sort_unstable();
        instants.dedup();
        let point = |at| Point {
            at,
            tokens: observed.nodes.iter().map(|node| node.tokens_at(at)).sum(),
            running: observed.nodes.iter().map(|node| node.running_at(at)).sum(),
        };
        Self { points: instants.into_iter().map(point).collect() }
    }

    /// The longest stretch in which at least so many ran.
    fn longest_full(&self, least: f64) -> Option<Window> {
        let full = |point: &Point| 0.0 < point.running && least <= point.running;
        let stretches = self.points.chunk_by(|one, next| full(one) == full(next));
        let windows = stretches.filter(|stretch| full(&stretch[0])).filter_map(|stretch| {
            let (start, end) = (stretch.first()?.at, stretch.last()?.at);
            (start < end).then_some(Window { start, end })
        });
        windows.max_by_key(|window| window.end - window.start)
    }

    fn bins(&self, origin: Offset) -> Vec<BatchBin> {
        let bin = |pair: &[Point]| {
            let seconds = pair[1].at.seconds_since(pair[0].at);
            (0.0 < seconds).then(|| BatchBin {
                start_s: pair[0].at.seconds_since(origin),
                batch: pair[0].running,
                tok_per_s: (pair[1].tokens - pair[0].tokens) / seconds,
            })
        };
        self.points.windows(2).filter_map(bin).collect()
    }
}

/// What histograms tell of a distribution: count, mean, and a median within its bucket.
fn merged<'a>(histograms: impl IntoIterator<Item = &'a TpotBuckets>) -> Distribution {
    let mut buckets: Vec<(Option<f64>, f64)> = Vec::new();
    let mut sum = 0.0;
    for histogram in histograms {
        sum += histogram.sum_ms;
        for &(bound, count) in &histogram.buckets {
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, known)) => *known += count,
                None => buckets.push((bound, count)),
            }
        }
    }
    let count: f64 = buckets.iter().map(|(_, count)| count).sum();
    if count < 1.0 {
        return Distribution::default();
    }
    let (mut before, mut low, mut median) = (0.0, 0.0, None);
    for (bound, here) in buckets {
        if median.is_none() && count / 2.0 <= before + here && 0.0 < here {
            median = bound.map(|bound| low + (bound - low) * (count / 2.0 - before) / here);
        }
        (before, low) = (before + here, bound.unwrap_or(low));
    }
    Distribution { count: count as usize, mean: Some(sum / count), median, ..Distribution::default() }
}
