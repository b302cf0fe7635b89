use crate::cli::usage;
use crate::command::Error;
use crate::measure::{METRICS, Metric, Slo};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// What is judged, kept and shown.
#[derive(Debug, Args)]
#[command(next_help_heading = "Results")]
pub(super) struct OutputArgs {
    /// Objectives in milliseconds, such as ttft:500 tpot:50 e2el:10000
    #[arg(long, value_name = "METRIC:MS", num_args = 1..)]
    goodput: Vec<String>,
    /// Metrics of vLLM's block
    #[arg(long, default_value = "ttft,tpot,itl", value_delimiter = ',', value_name = "LIST", value_parser = metric)]
    percentile_metrics: Vec<String>,
    /// Percentiles of vLLM's block
    #[arg(long, default_value = "99", value_delimiter = ',', value_name = "LIST", value_parser = percentile)]
    metric_percentiles: Vec<f64>,
    /// Share of failed requests above which the run is invalid, and the load given up
    #[arg(long, default_value_t = 0.05, value_name = "SHARE", value_parser = share)]
    pub(super) max_error_rate: f64,
    /// Exit with status 1 if any request failed
    #[arg(long)]
    pub(super) strict: bool,
    /// Keep the text of the answers in records.jsonl
    #[arg(long, default_value = "none", value_name = "WHICH")]
    save_text: SaveText,
    /// Parent of the run's directory
    #[arg(long, default_value = "reports", value_name = "DIR")]
    pub(super) output_dir: PathBuf,
    /// A free name of the run
    #[arg(long, value_name = "TEXT")]
    pub(super) label: Option<String>,
    /// Show no progress
    #[arg(long, visible_alias = "no-progress")]
    pub(super) disable_tqdm: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SaveText {
    None,
    All,
}

impl OutputArgs {
    pub(super) fn slo(&self) -> Result<Slo, Error> {
        Slo::parse(&self.goodput).map_err(|error| {
            usage("--goodput cannot be used")
                .caused_by(error)
                .help("want items such as ttft:500 tpot:50 e2el:10000")
        })
    }

    pub(super) fn percentiles(&self) -> Vec<f64> {
        let mut sorted = self.metric_percentiles.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.dedup();
        sorted
    }

    pub(super) fn percentile_metrics(&self) -> Vec<String> {
        self.percentile_metrics.clone()
    }

    pub(super) fn save_text(&self) -> bool {
        matches!(self.save_text, SaveText::All)
    }
}

fn metric(text: &str) -> Result<String, String> {
    if Metric::find_vllm(text).is_some() {
        return Ok(text.to_owned());
    }
    let known: Vec<&str> = METRICS.iter().filter_map(|metric| Some(metric.vllm.as_ref()?.key)).collect();
    Err(format!("`{text}` is not one of {}", known.join(", ")))
}

fn percentile(text: &str) -> Result<f64, String> {
    let parsed = text.trim().parse::<f64>().ok().filter(|p| 0.0 < *p && *p < 100.0);
    parsed.ok_or_else(|| format!("`{text}` is not a percentile: want a number between 0 and 100"))
}

fn share(text: &str) -> Result<f64, String> {
    let parsed = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    parsed.ok_or_else(|| format!("`{text}` is not a share: want a number from 0 to 1"))
}
