//! What happened, as values: records, outcomes, the metric table, distributions, verdicts. Pure: every
//! number is a fold over records and can be made again from the files of a run.
//! Deliberately absent: sockets, clocks, files, and anything that knows how a number is printed.

mod accuracy;
mod binomial;
pub mod check;
mod distribution;
mod events;
mod formula;
mod lateness;
mod lengths;
mod metric;
mod notice;
mod offset;
mod outcome;
mod plateau;
mod record;
mod repeat;
mod run;
mod server;
mod slo;
mod span;
mod steady;
mod summary;
#[cfg(test)]
pub(crate) mod testing;
mod through;
mod timeline;
mod truth;
mod validity;
mod verdict;
mod warning;

pub use accuracy::{
    AccuracyFacts, AccuracyFault, AccuracyResult, ArmAnswer, ArmFacts, ArmResult, Asking, DocumentResult,
    PairedResult, PairedScore, PairedVerdict, PromptLengthBin, Reply, Score, TextEquality, TokenLogprob,
    Trend,
};
pub use distribution::{Distribution, INTERVAL_METHOD, PERCENTILE_METHOD, Percentile};
pub use events::EventTimes;
pub use lengths::{LengthBin, OutputLength};
pub use metric::{Better, Definition, METRICS, Metric, Per, ToldBy, Unit, VllmNames, VllmNeeds};
pub use offset::Offset;
pub use outcome::{EndedIn, Outcome, Rules, StreamFacts, StreamFault, TransportEnd};
pub use plateau::{
    Batch, BatchBin, BatchFault, BatchNote, DecodeSide, NodeShare, Observed, ObservedNode, Plateau, Prompts,
    TpotBuckets, WhyNot,
};
pub use record::{Flag, Flags, Kind, OutputTokensSource, PromptTokensSource, RequestRecord, Stamps};
pub use repeat::{BatchResult, PrefillPhase, RepeatFacts, StageFacts, Way};
pub use run::{
    DatasetFacts, Detail, Host, Manifest, NodeFacts, RampUp, Run, RunFile, SCHEMA, Settings, State,
    TargetFacts, TickerFacts,
};
pub use server::{CounterName, GaugeName, HistogramCounts, HistogramName, NodeCounts, NodeDelta, is_told};
pub use slo::{Slo, SloError};
pub use steady::{Growth, Steady};
pub use summary::{Counts, Lateness, Measured, Rates, Summary, TokenTotals, View};
pub use through::{Added, Comparison, ProxyCost};
pub use timeline::{Bin, Timeline};
pub use truth::{MeasuringErrors, TrueTimes};
pub use validity::{Reason, Validity};
pub use verdict::{ClientState, ClientVerdict};
pub use warning::Warning;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_names_every_metric_and_outcome() {
        let metrics = METRICS.iter().map(|metric| metric.key);
        let by_vllm = METRICS.iter().filter_map(|metric| metric.vllm).map(|names| names.key);
        let outcomes = Outcome::ALL.iter().map(|outcome| outcome.word());
        for word in metrics.chain(by_vllm).chain(outcomes) {
            testing::assert_in_authority(&word.into());
        }
    }

    #[test]
    fn the_authority_names_the_columns_of_a_bin() {
        let bin = serde_json::to_value(Bin::default()).unwrap();
        for column in bin.as_object().unwrap().keys() {
            assert!(include_str!("../../METRICS.md").contains(column), "METRICS.md has no {column}");
        }
    }
}
