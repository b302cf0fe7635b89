use crate::command::ReportPlan;
use clap::Args;
use std::path::PathBuf;

/// Makes the tables and the page of a run again from its manifest and its journal.
#[derive(Debug, Args)]
#[command(
    long_about = "Makes requests.csv, summary.csv, timeline.csv, report.html and, for batches of replicas, repeat.csv \
    of a run again, from its run.json and records.jsonl, and prints the result. A run that was killed is recovered as far as its journal goes."
)]
pub(super) struct ReportArgs {
    /// The run's directory, such as reports/20260101-120000-serve-1a2b, or that of a ladder of runs
    directory: PathBuf,
    /// Accepted and not needed: a run that did not come to its end is always recovered
    #[arg(long)]
    recover: bool,
}

impl ReportArgs {
    pub(super) fn plan(self) -> ReportPlan {
        ReportPlan { directory: self.directory }
    }
}
