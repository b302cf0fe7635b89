//! The server's side of a run: a fold over what was scraped.

use super::observation::{History, histories};
use super::{
    Anatomy, CounterName, Diagnosis, GaugeName, HistogramName, KvMoved, NodeCounts, NodeDelta, ServerNote,
    ServerRole, max_over_mean, note,
};
use crate::measure::{Offset, Run};
use serde::{Deserialize, Serialize};

/// What the nodes tell about a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerSide {
    /// Node by node, in the order in which they were named.
    pub nodes: Vec<NodeSide>,
    /// How evenly the nodes of a role were used.
    pub roles: Vec<RoleSide>,
    /// Where the time to the first token went; absent where no node tells its times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anatomy: Option<Anatomy>,
    /// What that means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// Whether KV went from prefill to decode nodes; absent where no decode node tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv: Option<KvMoved>,
    /// What a reader has to know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<ServerNote>,
}

/// What one node counted over the main load. What it does not tell is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeSide {
    /// Its name.
    pub node: String,
    /// What it does.
    pub role: ServerRole,
    /// Engines behind its address.
    pub engines: usize,
    /// Scrapes that it answered, in all the run.
    pub scrapes: usize,
    /// Scrapes that it did not answer.
    pub missed: usize,
    /// Why it did not answer the last of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How often it began anew: its counts then are a lower bound.
    pub restarts: usize,
    /// Requests that ended.
    pub requests: Option<f64>,
    /// Tokens of prompts.
    pub prompt_tokens: Option<f64>,
    /// Those that it computed.
    pub computed_tokens: Option<f64>,
    /// Those that its prefix cache had.
    pub cached_tokens: Option<f64>,
    /// Those whose KV came from elsewhere.
    pub external_tokens: Option<f64>,
    /// Tokens of answers.
    pub generation_tokens: Option<f64>,
    /// Requests that lost their place.
    pub preemptions: Option<f64>,
    /// Bytes of KV that its connector moved.
    pub kv_bytes: Option<f64>,
    /// Transfers, or keys, that failed.
    pub failed_transfers: Option<f64>,
    /// Mean wait for the first step, ms.
    pub queue_ms: Option<f64>,
    /// Mean time from the first step to the first token, ms.
    pub prefill_ms: Option<f64>,
    /// Mean time from arrival to the first token, ms.
    pub ttft_ms: Option<f64>,
    /// Mean time from arrival to the last token, ms.
    pub e2e_ms: Option<f64>,
    /// Mean time between two tokens, ms.
    pub itl_ms: Option<f64>,
    /// Mean time of one transfer of KV, ms.
    pub transfer_ms: Option<f64>,
    /// Requests in the batch, mean and most over the scrapes of the main load.
    pub running_mean: Option<f64>,
    /// The most.
    pub running_peak: Option<f64>,
    /// Requests waiting, the same.
    pub waiting_mean: Option<f64>,
    /// The most.
    pub waiting_peak: Option<f64>,
    /// Share of the KV cache in use, in [0, 1], the same.
    pub kv_usage_mean: Option<f64>,
    /// The most.
    pub kv_usage_peak: Option<f64>,
}

impl NodeSide {
    /// Share of the prompt tokens whose KV came from elsewhere, in [0, 1].
    pub fn external_share(&self) -> Option<f64> {
        let sources = [self.computed_tokens, self.cached_tokens, self.external_tokens];
        let all: f64 = sources.into_iter().flatten().sum();
        self.external_tokens.filter(|_| 0.0 < all).map(|external| external / all)
    }
}

/// How evenly the nodes of a role were used: the greatest over the mean; absent for one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoleSide {
    /// The role.
    pub role: ServerRole,
    /// Its nodes.
    pub nodes: usize,
    /// By requests that ended.
    pub balance_requests: Option<f64>,
    /// By tokens: of prompts on prefill nodes, of answers on the others.
    pub balance_tokens: Option<f64>,
}

/// A node with what it counted over the main load.
pub(super) struct Watched<'a> {
    pub(super) history: &'a History,
    pub(super) delta: NodeDelta,
    /// Looks from before the main load to behind it.
    pub(super) looks: Vec<(Offset, &'a NodeCounts)>,
}

impl ServerSide {
    /// Folds what was scraped; `None` of a run in which nothing was.
    pub fn of(run: &Run) -> Option<Self> {
        if run.observations.is_empty() {
            return None;
        }
        let (start, end) = span(run);
        let histories = histories(&run.observations);
        let watched: Vec<Watched<'_>> = histories
            .iter()
            .map(|history| {
                let looks = history.around(start, end);
                let delta = NodeDelta::over(looks.iter().map(|(_, counts)| *counts)).unwrap_or_default();
                Watched { history, delta, looks }
            })
            .collect();
        let nodes: Vec<NodeSide> = watched.iter().map(|watched| watched.side((start, end))).collect();
        let anatomy = Anatomy::of(run, &watched);
        let kv = KvMoved::of(run, &watched);
        let mut side = Self { roles: roles(&nodes), nodes, anatomy, diagnosis: None, kv, notes: Vec::new() };
        side.notes = note::notes(&side);
        // Parts that cannot be so together mean nothing.
        if !side.notes.iter().any(|note| matches!(note, ServerNote::PartsOverlap { .. })) {
            side.diagnosis = side.anatomy.as_ref().and_then(|anatomy| Diagnosis::of(anatomy, &side.nodes));
        }
        Some(side)
    }
}

/// From the start of the main load to its end.
pub(super) fn span(run: &Run) -> (Offset, Offset) {
    let end = run.manifest.main_end.or_else(|| run.main().map(|record| record.finished).max());
    (run.manifest.main_start, end.unwrap_or(run.manifest.main_start))
}

impl Watched<'_> {
    fn side(&self, (start, end): (Offset, Offset)) -> NodeSide {
        let Self { history, delta, looks } = self;
        let gauges = |name: GaugeName| -> Vec<f64> {
            let within = looks.iter().filter(|(at, _)| start < *at && *at <= end);
            within.filter_map(|(_, counts)| counts.gauge(name)).collect()
        };
        let mean =
            |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        let most = |values: &[f64]| values.iter().copied().reduce(f64::max);
        let (running, waiting) = (gauges(GaugeName::Running), gauges(GaugeName::Waiting));
        let usage = gauges(GaugeName::KvUsage);
        let missed: Vec<&String> = history.looks.iter().filter_map(|look| look.told.as_ref().err()).collect();
        let ms = |name: HistogramName| delta.mean(name).map(|seconds| 1e3 * seconds);
        NodeSide {
            node: history.node.clone(),
            role: history.role,
            engines: delta.engines,
            scrapes: history.looks.iter().filter(|look| look.told.is_ok()).count(),
            missed: missed.len(),
            why: missed.last().map(|why| (*why).clone()),
            restarts: delta.restarts,
            requests: delta.finished(),
            prompt_tokens: delta.grown(CounterName::PromptTokens),
            computed_tokens: delta.grown(CounterName::LocalCompute),
            cached_tokens: delta.grown(CounterName::LocalCacheHit),
            external_tokens: delta.grown(CounterName::ExternalKv),
            generation_tokens: delta.grown(CounterName::GenerationTokens),
            preemptions: delta.grown(CounterName::Preemptions),
            kv_bytes: delta.kv_bytes(),
            failed_transfers: delta.failed_transfers(),
            queue_ms: ms(HistogramName::Queue),
            prefill_ms: ms(HistogramName::Prefill),
            ttft_ms: ms(HistogramName::Ttft),
            e2e_ms: ms(HistogramName::E2e),
            itl_ms: ms(HistogramName::InterToken),
            transfer_ms: ms(HistogramName::NixlTransfer).or_else(|| ms(HistogramName::StoreLoad)),
            running_mean: mean(&running),
            running_peak: most(&running),
            waiting_mean: mean(&waiting),
            waiting_peak: most(&waiting),
            kv_usage_mean: mean(&usage),
            kv_usage_peak: most(&usage),
        }
    }
}

fn roles(nodes: &[NodeSide]) -> Vec<RoleSide> {
    let of = |role: ServerRole| {
        let of_role: Vec<&NodeSide> = nodes.iter().filter(|node| node.role == role).collect();
        let balance = |value: fn(&NodeSide) -> Option<f64>| {
            let values: Option<Vec<f64>> = of_role.iter().map(|node| value(node)).collect();
            max_over_mean(&values?)
        };
        (!of_role.is_empty()).then(|| RoleSide {
            role,
            nodes: of_role.len(),
            balance_requests: balance(|node| node.requests),
            balance_tokens: match role {
                ServerRole::Prefill => balance(|node| node.prompt_tokens),
                _ => balance(|node| node.generation_tokens),
            },
        })
    };
    [ServerRole::Prefill, ServerRole::Decode, ServerRole::Mixed].into_iter().filter_map(of).collect()
}
