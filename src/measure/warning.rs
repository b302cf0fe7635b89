use super::Outcome;
use serde::{Deserialize, Serialize};

/// Something a reader of the numbers should know; its texts stand in this file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "warning", rename_all = "snake_case")]
pub enum Warning {
    /// The answers came from the simulator.
    SimulatedTarget,
    /// Some requests failed, within the error budget.
    Failures {
        /// Requests that failed.
        failed: usize,
        /// Requests that ended ok or failed.
        of: usize,
        /// The most frequent way to fail.
        most: Outcome,
    },
    /// Requests were cut by the end of the run.
    Unfinished {
        /// How many.
        requests: usize,
    },
    /// The client could be seen in the numbers.
    ClientDegraded {
        /// What that rests on.
        evidence: Vec<String>,
    },
    /// The concurrency limit, not the schedule, set the pace.
    ClosedLoop {
        /// Requests per second by the schedule.
        offered_per_s: f64,
        /// Requests per second that the limit let through.
        admitted_per_s: f64,
        /// Share of the requests that waited for a slot.
        waited: f64,
    },
    /// A latency from the schedule differs from the one from the send.
    FromSchedule {
        /// Key of the metric from the send.
        key: String,
        /// `mean`, `median` or a percentile such as `p99`: where they differ most.
        statistic: String,
        /// From the send, ms.
        from_send_ms: f64,
        /// From the schedule, ms.
        from_schedule_ms: f64,
    },
    /// Too few requests for a percentile that was asked for.
    FewSamples {
        /// The percentile.
        p: f64,
        /// Ok requests.
        count: usize,
        /// Ok requests that it needs.
        needs: usize,
    },
    /// Prompt lengths are estimates.
    EstimatedTokens,
    /// Answers without usage: their tokens were counted by events.
    NoUsage {
        /// How many ok answers.
        requests: usize,
        /// Ok answers.
        of: usize,
    },
    /// Ok answers whose stream ended without `[DONE]`.
    MissingDone {
        /// How many.
        requests: usize,
    },
    /// Ok answers with data after `[DONE]`.
    AfterDone {
        /// How many.
        requests: usize,
    },
    /// Ok answers that arrived in one piece.
    BufferedByProxy {
        /// How many.
        requests: usize,
        /// Ok answers.
        of: usize,
    },
    /// Many token events shared a packet with the one before.
    Coalesced {
        /// Share of the token events.
        share: f64,
    },
    /// One event carries several tokens.
    TokensPerEvent {
        /// How many on average.
        tokens: f64,
    },
    /// Answers are longer or shorter than asked for.
    OutputLength {
        /// Mean output tokens of the ok requests.
        mean: f64,
        /// Mean asked for.
        requested: f64,
    },
    /// Prompt tokens came from a cache.
    CachedTokens {
        /// Share of the prompt tokens.
        share: f64,
    },
    /// Requests that were sent again because a kept-alive connection had been closed.
    StaleRetries {
        /// How many.
        requests: usize,
    },
}

impl Warning {
    /// What happened and why it may be, one line.
    pub fn text(&self) -> String {
        String::new()
    }

    /// What to try, one line.
    pub fn try_this(&self) -> &'static str {
        ""
    }
}
