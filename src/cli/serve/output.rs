use crate::cli::{share, usage};
use crate::command::{Error, Existing, ResultPlan};
use crate::load::KeepText;
use crate::measure::{Detail, METRICS, Metric, Slo};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};
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
    /// Percentiles of vLLM's block, in its order
    #[arg(long, default_value = "99", value_delimiter = ',', value_name = "LIST", value_parser = percentile)]
    metric_percentiles: Vec<f64>,
    /// Share of failed requests above which the run is invalid, and the load given up
    #[arg(long, default_value_t = 0.05, value_name = "SHARE", value_parser = share)]
    pub(super) max_error_rate: f64,
    /// Exit with status 1 if any request failed
    #[arg(long)]
    pub(super) strict: bool,
    /// Make the run invalid when answers are on average over 10 % longer or shorter than asked for
    #[arg(long)]
    pub(super) strict_osl: bool,
    /// Write the result file of `vllm bench serve`, too
    #[arg(long)]
    save_result: bool,
    /// Have it hold a value for each request, and the answers' text; implies --save-text all
    #[arg(long)]
    save_detailed: bool,
    /// Write it behind what the file holds already; implies --save-result
    #[arg(long)]
    append_result: bool,
    /// Directory of that file, made where it is missing [default: the current directory]
    #[arg(long, value_name = "DIR")]
    result_dir: Option<PathBuf>,
    /// Its name [default: {label or backend}-{rate}qps[-concurrency{N}]-{model}-{date}.json]
    #[arg(long, value_name = "FILE")]
    result_filename: Option<PathBuf>,
    /// What to remember of the run, in the result file and in run.json
    #[arg(long, value_name = "KEY=VALUE", num_args = 0..)]
    metadata: Vec<String>,
    /// Keep the text of answers in records.jsonl: of none, of those that were not ok, or of all
    #[arg(long, default_value = "none", value_name = "WHICH")]
    save_text: SaveText,
    /// Parent of the run's directory
    #[arg(long, default_value = "reports", value_name = "DIR")]
    pub(super) output_dir: PathBuf,
    /// A free name of the run; the result file's name begins with it
    #[arg(long, value_name = "TEXT")]
    pub(super) label: Option<String>,
    /// Show no progress
    #[arg(long, visible_alias = "no-progress")]
    pub(super) disable_tqdm: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SaveText {
    None,
    Errors,
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

    /// As typed, each once.
    pub(super) fn percentiles(&self) -> Vec<f64> {
        let mut once: Vec<f64> = Vec::new();
        for &p in &self.metric_percentiles {
            if !once.contains(&p) {
                once.push(p);
            }
        }
        once
    }

    /// Keys and values in the order of their first appearance, blanks around them cut, as vLLM does.
    pub(super) fn metadata(&self) -> Result<Map<String, Value>, Error> {
        let pair = |item: &String| match item.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_owned(), value.trim().into())),
            None => Err(usage(format!("`{}` in --metadata has no `=`", item.escape_debug()))
                .help("want KEY=VALUE; several may follow one --metadata")),
        };
        self.metadata.iter().map(pair).collect()
    }

    pub(super) fn result(&self) -> Option<ResultPlan> {
        (self.save_result || self.append_result).then(|| ResultPlan {
            directory: self.result_dir.clone(),
            name: self.result_filename.clone().filter(|name| !name.as_os_str().is_empty()),
            existing: if self.append_result { Existing::Append } else { Existing::Replace },
            detail: if self.save_detailed { Detail::Detailed } else { Detail::Summary },
        })
    }

    pub(super) fn percentile_metrics(&self) -> Vec<String> {
        self.percentile_metrics.clone()
    }

    pub(super) fn save_text(&self) -> KeepText {
        match self.save_text {
            SaveText::All => KeepText::All,
            _ if self.save_detailed && self.result().is_some() => KeepText::All,
            SaveText::Errors => KeepText::Errors,
            SaveText::None => KeepText::Nothing,
        }
    }
}

fn metric(text: &str) -> Result<String, String> {
    if Metric::find_vllm(text.trim()).is_some() {
        return Ok(text.trim().to_owned());
    }
    let known: Vec<&str> = METRICS.iter().filter_map(|metric| Some(metric.vllm.as_ref()?.key)).collect();
    Err(format!("`{text}` is not one of {}", known.join(", ")))
}

fn percentile(text: &str) -> Result<f64, String> {
    let parsed = text.trim().parse::<f64>().ok().filter(|p| (0.0..=100.0).contains(p));
    parsed.ok_or_else(|| format!("`{text}` is not a percentile: want a number from 0 to 100"))
}
