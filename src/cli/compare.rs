use crate::command::ComparePlan;
use clap::Args;
use std::path::PathBuf;

/// Puts two or more runs side by side, and says which differences are more than chance.
#[derive(Debug, Args)]
#[command(
    long_about = "Puts two or more runs side by side: the settings that differ, the metrics with their differences against the \
    first, and for each difference whether it is higher, lower, or none that could be found, with a 95 % interval where the \
    records allow one. A run is a directory of pdbench or a result file of `vllm bench serve --save-result`; runs of the same \
    settings are one side behind commas (A1,A2,A3,A4,A5), or as the directory of `serve --runs`."
)]
pub(super) struct CompareArgs {
    /// Run directories or result files; runs of the same settings behind commas
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
    /// The run that the others are held against [default: the first]
    #[arg(long, value_name = "RUN")]
    baseline: Option<String>,
    /// Write every number with its difference to this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write the comparison as a page to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl CompareArgs {
    pub(super) fn plan(self) -> ComparePlan {
        ComparePlan { sides: self.runs, baseline: self.baseline, csv: self.csv, html: self.html }
    }
}
