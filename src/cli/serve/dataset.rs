use crate::cli::{at_least_one, usage};
use crate::command::{DatasetPlan, Error};
use crate::workload::{Custom, Order, OutputLen, Oversample, Sonnet};
use clap::Args;
use std::path::PathBuf;

/// What is sent.
#[derive(Debug, Args)]
#[command(next_help_heading = "Dataset")]
pub(super) struct DatasetArgs {
    /// Where prompts come from: sonnet (lines of verse up to a length) or custom (your own)
    #[arg(long, value_name = "NAME")]
    dataset_name: Option<String>,
    /// File: text with a verse a line for sonnet [default: built in]; JSON lines for custom, each with
    /// `prompt` or `messages` and perhaps `output_tokens`
    #[arg(long, value_name = "FILE")]
    dataset_path: Option<PathBuf>,
    /// Requests to send [default: 1000; 200 to the embedded cluster]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) num_prompts: Option<usize>,
    /// Prompt length, tokens; for sonnet the same as --sonnet-input-len
    #[arg(long, value_name = "TOKENS", conflicts_with = "sonnet_input_len")]
    input_len: Option<u32>,
    /// Output length, tokens; for any dataset
    #[arg(long, value_name = "TOKENS", conflicts_with_all = ["sonnet_output_len", "custom_output_len"])]
    output_len: Option<u32>,
    /// Prompt length, tokens [default: 550]
    #[arg(long, value_name = "TOKENS")]
    sonnet_input_len: Option<u32>,
    /// Output length, tokens [default: 150]
    #[arg(long, value_name = "TOKENS")]
    sonnet_output_len: Option<u32>,
    /// Length of the beginning that all prompts share, tokens [default: 200]
    #[arg(long, value_name = "TOKENS")]
    sonnet_prefix_len: Option<u32>,
    /// Output length, tokens; -1 for each line's own `output_tokens` [default: that where it is, else 256]
    #[arg(long, value_name = "TOKENS", allow_hyphen_values = true)]
    custom_output_len: Option<OutputLen>,
    /// Send custom prompts in the order of the file
    #[arg(long)]
    disable_shuffle: bool,
    /// Send each custom prompt once, even if that is fewer than --num-prompts
    #[arg(long)]
    no_oversample: bool,
}

impl DatasetArgs {
    pub(super) fn plan(self, embedded: bool, num_prompts: usize, seed: u32) -> Result<DatasetPlan, Error> {
        let choose = "choose --dataset-name sonnet or --dataset-name custom";
        match self.dataset_name.as_deref() {
            Some("sonnet") => Ok(self.sonnet(num_prompts, seed)),
            Some("custom") => self.custom(num_prompts, seed),
            None if embedded => Ok(self.sonnet(num_prompts, seed)),
            None => {
                Err(usage("the default dataset of `vllm bench serve`, random, is not built yet").help(choose))
            }
            Some(known @ ("random" | "sharegpt" | "prefix_repetition" | "timed_trace")) => {
                Err(usage(format!("dataset {known} is not built yet")).help(choose))
            }
            Some(other) => Err(usage(format!("`{}` is not a dataset", other.escape_debug())).help(choose)),
        }
    }

    fn sonnet(self, num_prompts: usize, seed: u32) -> DatasetPlan {
        let default = Sonnet::default();
        DatasetPlan::Sonnet {
            path: self.dataset_path,
            sonnet: Sonnet {
                input_len: self.sonnet_input_len.or(self.input_len).unwrap_or(default.input_len),
                output_len: self.sonnet_output_len.or(self.output_len).unwrap_or(default.output_len),
                prefix_len: self.sonnet_prefix_len.unwrap_or(default.prefix_len),
                num_prompts,
                seed,
                ..default
            },
        }
    }

    fn custom(self, num_prompts: usize, seed: u32) -> Result<DatasetPlan, Error> {
        let path = self.dataset_path.ok_or_else(|| {
            usage("dataset custom has no file")
                .help("name it with --dataset-path; datasets/custom-example.jsonl shows the form")
        })?;
        let output_len = match (self.custom_output_len, self.output_len) {
            (Some(len), _) => len,
            (None, Some(len)) => len.to_string().parse().map_err(|error: String| usage(error))?,
            (None, None) => OutputLen::PerLineOrDefault,
        };
        let custom = Custom {
            num_prompts,
            seed,
            output_len,
            order: if self.disable_shuffle { Order::AsInFile } else { Order::Shuffled },
            oversample: if self.no_oversample { Oversample::Never } else { Oversample::Repeat },
            ..Custom::default()
        };
        Ok(DatasetPlan::Custom { path, custom })
    }
}
