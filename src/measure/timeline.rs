use super::Run;
use serde::{Deserialize, Serialize};

/// The course of the main load in bins of equal width.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Width of a bin, seconds.
    pub bin_s: f64,
    /// The bins, from the start of the main load to its end, without a hole.
    pub bins: Vec<Bin>,
}

/// What happened within one bin of a [`Timeline`]. The sums over all bins are the totals of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Where it begins, seconds from the start of the main load.
    pub start_s: f64,
    /// Requests due.
    pub scheduled: usize,
    /// Requests sent.
    pub sent: usize,
    /// Requests that ended ok.
    pub finished_ok: usize,
    /// Requests that failed.
    pub failed: usize,
    /// Requests cut by the end of the run.
    pub cancelled: usize,
    /// Requests in flight, mean over the time of the bin.
    pub in_flight: f64,
    /// Output tokens of ok requests. Not whole where one event has several tokens.
    pub output_tokens: f64,
    /// Median strict TTFT of the requests whose first token came in this bin, ms.
    pub ttft_p50_ms: Option<f64>,
}

impl Timeline {
    /// Folds the records of the main load.
    pub fn of(_run: &Run) -> Self {
        Self::default()
    }
}
