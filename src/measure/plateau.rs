//! The plateau of a batch of replicas: the time in which all of them generate at once, and what came out of it. One
//! pure fold over records, the same whoever sent them and whoever wrote them down. A request that set the replicas
//! off is one of them by its own decode leg: `N` extra decodes are `N + 1` records.
//! Deliberately absent: numbers of the main load, and who was to blame.

mod course;
mod fault;
mod note;
mod observed;
#[cfg(test)]
mod tests;
mod window;

pub use course::BatchBin;
pub use fault::{BatchFault, WhyNot};
pub use note::BatchNote;
pub use observed::{Observed, ObservedNode, TpotBuckets};

use super::{Definition, Distribution, Kind, Metric, Offset, RequestRecord};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use window::{Window, tokens_within};

/// What a batch was meant to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// Replicas, all in flight at the same time.
    pub expected: usize,
    /// What they send.
    pub prompts: Prompts,
    /// Decode instances that they were to be spread over; those of the records are added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// What the decode instances' own counters say about it; absent where nobody asked them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode_side: Option<DecodeSide>,
}

/// What the replicas of a batch send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prompts {
    /// All the same prompt.
    #[default]
    Same,
    /// Each its own.
    Unique,
}

/// Differences of the decode instances' counters over a batch, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DecodeSide {
    /// Prompt tokens whose KV was computed there again.
    pub local_compute: f64,
    /// Prompt tokens from the instance's own prefix cache.
    pub local_cache_hit: f64,
    /// Prompt tokens whose KV came from outside.
    pub external_kv_transfer: f64,
    /// Requests that were thrown out of the batch for want of room.
    pub preemptions: f64,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    /// Replicas that there should have been.
    pub expected: usize,
    /// Replicas with a record.
    pub replicas: usize,
    /// Those that ended ok.
    pub ok: usize,
    /// Streams that the plateau was measured on. Fewer than expected only in a batch with a fault.
    pub streams: usize,
    /// When the first replica was sent: the seconds below count from here.
    #[serde(rename = "origin_us")]
    pub origin: Offset,
    /// From when on every stream had two tokens …
    pub start_s: Option<f64>,
    /// … until when the first of them had its last.
    pub end_s: Option<f64>,
    /// Tokens in between; one whose step an edge cuts counts by the share that lies inside.
    pub tokens: f64,
    /// Aggregate decode throughput: those tokens per second of the plateau.
    pub decode_tok_per_s: Option<f64>,
    /// Tokens of the ok replicas from the first send to the last token per second of that: with prefill's rest, ramp
    /// and drain in it, and no measure of decoding.
    pub tok_per_s_with_ramp_and_drain: Option<f64>,
    /// Send to first token of the ok replicas: queue, KV fetch and first step.
    pub ttft_ms: Distribution,
    /// Time per output token of each stream inside the plateau: the batch's step.
    pub tpot_ms: Distribution,
    /// Gaps that lie inside the plateau.
    pub itl_ms: Distribution,
    /// Time per output token of the ok replicas from first to last token.
    pub tpot_all_ms: Distribution,
    /// All gaps of the ok replicas.
    pub itl_all_ms: Distribution,
    /// By decode instance, by name.
    pub nodes: Vec<NodeShare>,
    /// The fullest instance's replicas over the mean of all.
    pub balance_replicas: Option<f64>,
    /// The fastest instance's decode throughput over the mean of all.
    pub balance_tok_per_s: Option<f64>,
    /// The course of the batch.
    pub bins: Vec<BatchBin>,
    /// What a reader has to know.
    pub notes: Vec<BatchNote>,
    /// Why it does not count; empty when it does.
    pub faults: Vec<BatchFault>,
}

/// One decode instance's part of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeShare {
    /// Its name; empty where nobody knows which one it was.
    pub node: String,
    /// Replicas that went there.
    pub replicas: usize,
    /// Those that ended ok.
    pub ok: usize,
    /// Its tokens in the plateau per second of that.
    pub decode_tok_per_s: Option<f64>,
    /// Median time per output token of its streams inside the plateau.
    pub tpot_p50_ms: Option<f64>,
    /// Median time to first token of its ok replicas.
    pub ttft_p50_ms: Option<f64>,
}

/// Percentiles that the distributions have beside the median.
pub(super) const PERCENTILES: [f64; 2] = [90.0, 99.0];

impl Plateau {
    /// Folds the records of one batch; those that are no replicas are passed over.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a RequestRecord>, batch: &Batch) -> Self {
        let replicas: Vec<&RequestRecord> =
            records.into_iter().filter(|record| record.kind == Kind::Replica).collect();
        let found = window::find(&replicas);
        let window = found.window;
        let origin = replicas.iter().filter_map(|record| record.sent).min().unwrap_or_default();
        let tokens = window.map_or(0.0, |window| {
            found.streams.iter().map(|stream| tokens_within(stream, window)).fold(0.0, |sum, more| sum + more)
        });
        let nodes = node_shares(&replicas, &found.streams, window, batch);
        let mut plateau = Self {
            expected: batch.expected,
            replicas: replicas.len(),
            ok: replicas.iter().filter(|record| record.is_ok()).count(),
            streams: if window.is_some() { found.streams.len() } else { 0 },
            origin,
            start_s: window.map(|window| window.start.seconds_since(origin)),
            end_s: window.map(|window| window.end.seconds_since(origin)),
            tokens,
            decode_tok_per_s: window.map(|window| tokens / window.seconds()),
            tok_per_s_with_ramp_and_drain: with_ramp_and_drain(&replicas, origin),
            ttft_ms: of_metric("ttft", &replicas),
            tpot_all_ms: of_metric("tpot", &replicas),
            itl_all_ms: of_metric("itl", &replicas),
            balance_replicas: max_over_mean(nodes.iter().map(|node| node.replicas as f64)),
            balance_tok_per_s: max_over_mean(nodes.iter().filter_map(|node| node.decode_tok_per_s)),
            nodes,
            bins: course::bins(&replicas, origin),
            ..Self::default()
        };
        if let Some(window) = window {
            let inside = |values: fn(&RequestRecord, Window) -> Vec<f64>| {
                let values = found.streams.iter().flat_map(|stream| values(stream, window)).collect();
                Distribution::of(values, &PERCENTILES)
            };
            plateau.tpot_ms = inside(|stream, window| Vec::from_iter(window::tpot_within(stream, window)));
            plateau.itl_ms = inside(window::gaps_within);
        }
        plateau.notes = note::notes(&plateau, &replicas, batch);
        plateau.faults = fault::faults(&replicas, batch, found.why_not);
        plateau
    }

    /// True when the batch counts.
    pub fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }

    /// Length of the plateau, seconds.
    pub fn length_s(&self) -> Option<f64> {
        Some(self.end_s? - self.start_s?)
    }

    /// The batch's step, ms: the median time per output token inside the plateau, or over all where nobody saw the
    /// streams.
    pub fn step_ms(&self) -> Option<f64> {
        self.tpot_ms.median.or(self.tpot_all_ms.median)
    }
}

/// The strict distribution of the metric with this key.
pub(super) fn of_metric(key: &str, records: &[&RequestRecord]) -> Distribution {
    let of = |metric: &Metric| metric.distribution(records.iter().copied(), Definition::Strict, &PERCENTILES);
    Metric::find(key).map(of).unwrap_or_default()
}

fn with_ramp_and_drain(replicas: &[&RequestRecord], origin: Offset) -> Option<f64> {
    let ok = || replicas.iter().filter(|record| record.is_ok());
    let tokens: u64 = ok().map(|record| u64::from(record.output_tokens)).sum();
    let end = ok().map(|record| record.events.last().unwrap_or(record.finished)).max()?;
    Some(end.seconds_since(origin)).filter(|&seconds| 0.0 < seconds).map(|seconds| tokens as f64 / seconds)
}

fn name_of(record: &RequestRecord) -> &str {
    record.node.as_deref().unwrap_or_default()
}

fn node_shares(
    replicas: &[&RequestRecord],
    streams: &[&RequestRecord],
    window: Option<Window>,
    batch: &Batch,
) -> Vec<NodeShare> {
    let mut by_node: BTreeMap<&str, Vec<&RequestRecord>> =
        batch.nodes.iter().map(|node| (node.as_str(), Vec::new())).collect();
    for &record in replicas {
        by_node.entry(name_of(record)).or_default().push(record);
    }
    let share = |(node, records): (&str, Vec<&RequestRecord>)| {
        let own = || streams.iter().filter(|stream| name_of(stream) == node);
        let tokens = |window| own().map(|stream| tokens_within(stream, window)).sum::<f64>();
        let steps = window
            .map(|window| own().filter_map(|stream| window::tpot_within(stream, window)).collect::<Vec<_>>());
        NodeShare {
            node: node.to_owned(),
            replicas: records.len(),
            ok: records.iter().filter(|record| record.is_ok()).count(),
            decode_tok_per_s: window.map(|window| tokens(window) / window.seconds()),
            tpot_p50_ms: Distribution::of(steps.unwrap_or_default(), &[]).median,
            ttft_p50_ms: of_metric("ttft", &records).median,
        }
    };
    by_node.into_iter().map(share).collect()
}

/// How far the greatest of several is above their mean; `None` for nothing, and where all are nothing.
fn max_over_mean(values: impl Iterator<Item = f64> + Clone) -> Option<f64> {
    let (count, sum) = values.clone().fold((0_usize, 0.0), |(count, sum), value| (count + 1, sum + value));
    let max = values.fold(0.0, f64::max);
    (0.0 < sum).then(|| max / (sum / count as f64))
}
