//! Two or more runs side by side: the numbers they have in common, the difference of each with what it may be worth,
//! and the settings in which the runs differ, without which no difference means anything.
//! Deliberately absent: reading files, and how a table is printed.

mod between;
mod difference;
mod facts;
mod quantity;
mod recorded;
mod result_file;
mod student;
mod table;
#[cfg(test)]
mod tests;
mod within;

pub use between::Spread;
pub use difference::{Basis, Difference, Finding};
pub use facts::{Fact, Known, Weight};
pub use quantity::{Group, Quantity, What};
pub use result_file::ResultFileError;
pub use table::{Cell, DifferingFact, Row, Table};

use super::ClientState;

/// One run as a comparison takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedRun {
    /// What it is called: its directory or file.
    pub name: String,
    /// Under which settings its numbers came about.
    pub facts: Vec<Fact>,
    /// Whether its numbers count.
    pub standing: Standing,
    /// Its numbers, by both definitions where it has both.
    pub quantities: Vec<Quantity>,
    /// Percentiles that too few values back, and that are missing.
    pub too_few: Vec<TooFew>,
}

/// A percentile that too few values back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooFew {
    /// Such as `TTFT p99`.
    pub name: String,
    /// Values that there are.
    pub count: usize,
    /// Values that it takes.
    pub needs: usize,
}

/// Whether the numbers of a run count, and how its requests went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// The run's own verdict; `None` where nobody judged it.
    pub valid: Option<bool>,
    /// Why it is invalid.
    pub reasons: Vec<String>,
    /// It was stopped before its planned end.
    pub interrupted: bool,
    /// More was offered than the server takes: latencies depend on the run's length.
    pub unstable: bool,
    /// Whether the client kept up.
    pub client: Option<ClientState>,
    /// Whole answers.
    pub ok: usize,
    /// Failures, where they are told.
    pub failed: Option<usize>,
    /// The answers came from a simulator of ours.
    pub simulated: bool,
    /// Only a summary was there: no number has an interval.
    pub summary_only: bool,
}

/// A run, or several runs of the same settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Side {
    /// What the user called it.
    pub name: String,
    /// At least one.
    pub runs: Vec<ComparedRun>,
}

/// A 95 % interval.
pub type Interval = (f64, f64);
