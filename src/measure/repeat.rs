//! A run of one or more batches of replicas: what was asked for, and what came of each batch. A pure fold.

use super::plateau::{Batch, BatchFault, Observed, PERCENTILES, Plateau, Prompts, of_metric};
use super::{Distribution, Kind, RequestRecord, Run};
use serde::{Deserialize, Serialize};

/// What a run of batches was told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RepeatFacts {
    /// Who sends the replicas.
    pub way: Way,
    /// What they send.
    pub prompts: Prompts,
    /// How the legs are spoken; absent where a proxy speaks them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
    /// Rest between the KV and the replicas, seconds.
    pub settle_s: f64,
    /// Time over which a batch is let in, seconds; 0 for all at once.
    pub ramp_s: f64,
    /// The batches, in their order.
    pub stages: Vec<StageFacts>,
}

/// Who sends the replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// pdbench, straight to the decode instances.
    Direct,
    /// pdbench's own proxy, which keeps records of them.
    Proxy,
    /// A foreign proxy, whose replicas nobody sees: what is known is what the decode instances count.
    External,
}

/// What is known of one batch besides its records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageFacts {
    /// What it was meant to be.
    pub batch: Batch,
    /// How it was made sure that the KV was there: `prefill_answered`, `seen_by_decode`, `keys_in_store`, or
    /// `not_seen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_ready: Option<String>,
    /// From the last prefill answer until then, seconds, without the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_ready_s: Option<f64>,
    /// What the decode instances counted, where nobody saw the replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
}

/// One batch of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchResult {
    /// The requests that put its KV where the replicas find it; absent where a proxy sent them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill: Option<PrefillPhase>,
    /// Its replicas.
    pub plateau: Plateau,
}

/// The prefill phase of a batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PrefillPhase {
    /// Requests.
    pub requests: usize,
    /// Those that ended ok.
    pub ok: usize,
    /// Prompt tokens of these.
    pub prompt_tokens: u64,
    /// From the first send to the last end, seconds.
    pub seconds: Option<f64>,
    /// Prompt tokens per second of that.
    pub prompt_tok_per_s: Option<f64>,
    /// Send to first token, where the answers are streams.
    pub ttft_ms: Distribution,
    /// Send to end of the ok ones.
    pub leg_ms: Distribution,
}

/// What came of each batch of a run; nothing in a run without any.
pub(super) fn batches(run: &Run) -> Vec<BatchResult> {
    let Some(facts) = &run.manifest.repeat else { return Vec::new() };
    let of_stage =
        |stage: usize| run.records.iter().filter(move |record| record.stage == u32::try_from(stage).ok());
    let result = |(stage, known): (usize, &StageFacts)| {
        let plateau = match &known.observed {
            Some(observed) => Plateau::observed(observed, &known.batch),
            None => Plateau::of(of_stage(stage), &known.batch),
        };
        BatchResult { prefill: PrefillPhase::of(of_stage(stage)), plateau }
    };
    facts.stages.iter().enumerate().map(result).collect()
}

impl PrefillPhase {
    fn of<'a>(records: impl Iterator<Item = &'a RequestRecord>) -> Option<Self> {
        let all: Vec<_> = records.filter(|record| record.kind == Kind::Prefill).collect();
        let ok = || all.iter().filter(|record| record.is_ok());
        let first = all.iter().filter_map(|record| record.sent).min()?;
        let last = all.iter().map(|record| record.finished).max()?;
        let prompt_tokens = ok().map(|record| u64::from(record.prompt_tokens)).sum();
        let seconds = Some(last.seconds_since(first)).filter(|&seconds| 0.0 < seconds);
        let leg = |record: &RequestRecord| Some(record.finished.ms_since(record.sent?));
        Some(Self {
            requests: all.len(),
            ok: ok().count(),
            prompt_tokens,
            seconds,
            prompt_tok_per_s: seconds.map(|seconds| prompt_tokens as f64 / seconds),
            ttft_ms: of_metric("ttft", &all),
            leg_ms: Distribution::of(ok().filter_map(|record| leg(record)).collect(), &PERCENTILES),
        })
    }
}

impl BatchResult {
    /// Its faults: those of the plateau, and prefills that failed.
    pub(super) fn faults(&self) -> Vec<BatchFault> {
        let failed = self.prefill.as_ref().filter(|prefill| prefill.ok < prefill.requests);
        let failed = failed.map(|prefill| BatchFault::PrefillFailed {
            failed: prefill.requests - prefill.ok,
            of: prefill.requests,
        });
        failed.into_iter().chain(self.plateau.faults.iter().cloned()).collect()
    }
}
