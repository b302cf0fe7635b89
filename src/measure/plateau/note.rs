//! What a reader of a batch has to know: conditions and texts.

use super::super::{Flag, OutputTokensSource, RequestRecord};
use super::{Batch, Plateau, Prompts};
use serde::{Deserialize, Serialize};

/// What a reader of a batch has to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum BatchNote {
    /// All replicas had the same prompt.
    SamePrompts,
    /// The answers do not say how many tokens they have: events were counted.
    NoUsage {
        /// How many do not.
        replicas: usize,
    },
    /// Events carry several tokens, and the server does not say how many each.
    TokensPerEventUntold {
        /// Mean tokens of an event.
        tokens: f64,
    },
    /// Events came in a packet with the one before.
    Coalesced {
        /// Share of the events.
        share: f64,
    },
    /// Few steps lie inside the plateau.
    ShortPlateau {
        /// Steps of the median stream.
        steps: f64,
    },
    /// The decode instances computed prompt tokens again instead of fetching their KV.
    Recomputed {
        /// Prompt tokens, as share of all.
        share: f64,
    },
    /// The decode instances had the prompts in their own prefix caches.
    PrefixCacheOnDecode {
        /// Prompt tokens, as share of all.
        share: f64,
    },
    /// Requests were thrown out of the batch for want of room.
    Preempted {
        /// How many times.
        times: f64,
    },
}

/// Share below which a difference is not worth a word.
const SHARE: f64 = 0.05;
/// Steps below which a plateau is short.
const FEW_STEPS: f64 = 20.0;

/// All notes of a batch, whose plateau is whole but for them.
pub(super) fn notes(plateau: &Plateau, replicas: &[&RequestRecord], batch: &Batch) -> Vec<BatchNote> {
    let ok = || replicas.iter().filter(|record| record.is_ok() && !record.events.is_empty());
    let events: usize = ok().map(|record| record.events.len()).sum();
    let per_event = |count: u64| (0 < events).then(|| count as f64 / events as f64);
    let counted = ok().filter(|record| record.output_tokens_source == OutputTokensSource::Events).count();
    let untold = ok().filter(|record| record.events_tokens.is_empty());
    let tokens = per_event(ok().map(|record| u64::from(record.output_tokens)).sum());
    let untold = tokens.filter(|&tokens| 1.0 + SHARE < tokens && 0 < untold.count());
    let coalesced = ok().map(|record| record.flags.get(&Flag::Coalesced).copied().map_or(0, u64::from)).sum();
    let coalesced = per_event(coalesced).filter(|&share| SHARE < share);
    let steps = plateau.length_s().zip(plateau.tpot_ms.median.filter(|&step| 0.0 < step));
    let steps = steps.map(|(seconds, step)| 1000.0 * seconds / step);
    let same = batch.prompts == Prompts::Same && 1 < batch.expected;
    [
        same.then_some(BatchNote::SamePrompts),
        (0 < counted).then_some(BatchNote::NoUsage { replicas: counted }),
        untold.map(|tokens| BatchNote::TokensPerEventUntold { tokens }),
        coalesced.map(|share| BatchNote::Coalesced { share }),
        steps.filter(|&steps| steps < FEW_STEPS).map(|steps| BatchNote::ShortPlateau { steps }),
    ]
    .into_iter()
    .flatten()
    .chain(decode_side(batch))
    .collect()
}

fn decode_side(batch: &Batch) -> Vec<BatchNote> {
    let Some(side) = batch.decode_side else { return Vec::new() };
    let prompt = side.local_compute + side.local_cache_hit + side.external_kv_transfer;
    let share = |tokens: f64| Some(tokens / prompt).filter(|&share| SHARE < share);
    let recomputed = share(side.local_compute).map(|share| BatchNote::Recomputed { share });
    let cached = share(side.local_cache_hit).map(|share| BatchNote::PrefixCacheOnDecode { share });
    let preempted = (0.0 < side.preemptions).then_some(BatchNote::Preempted { times: side.preemptions });
    [recomputed, cached, preempted].into_iter().flatten().collect()
}

impl BatchNote {
    /// What a reader should know, one line.
    pub fn text(&self) -> String {
        match self {
            BatchNote::SamePrompts => {
                "all replicas have the same prompt: they share KV blocks and one hot store key, and on an MoE model \
                 identical prompts route to identical experts; --repeat-prompts unique is nearer to real load"
                    .to_owned()
            }
            BatchNote::NoUsage { replicas } => {
                format!("{replicas} answers have no usage: their events were counted as tokens")
            }
            BatchNote::TokensPerEventUntold { tokens } => format!(
                "{tokens:.2} tokens an event, and the server does not say which event has how many: each got an equal \
                 share of its answer"
            ),
            BatchNote::Coalesced { share } => format!(
                "{:.1} % of the events came in a packet with the one before: ITL is too small and too large by turns",
                100.0 * share
            ),
            BatchNote::ShortPlateau { steps } => {
                format!("only {steps:.1} steps lie inside the plateau: ask for more output tokens")
            }
            BatchNote::Recomputed { share } => format!(
                "the decode instances computed {:.1} % of the prompt tokens again: the KV was not there, or not found",
                100.0 * share
            ),
            BatchNote::PrefixCacheOnDecode { share } => format!(
                "the decode instances had {:.1} % of the prompt tokens in their own prefix caches: TTFT has less KV \
                 transfer in it than real load",
                100.0 * share
            ),
            BatchNote::Preempted { times } => {
                format!("requests were preempted {times} times for want of KV room: the batch was not whole")
            }
        }
    }
}
