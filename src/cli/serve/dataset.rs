use crate::cli::{at_least_one, usage};
use crate::command::{DatasetPlan, Error};
use crate::wire::Endpoint;
use crate::workload::{
    Custom, Order, OutputLen, Oversample, Random, RandomForm, RangeRatio, ShareGpt, Sonnet, Templating,
};
use clap::Args;
use std::num::NonZeroU32;
use std::path::PathBuf;

/// What is sent.
#[derive(Debug, Args)]
#[command(next_help_heading = "Dataset")]
pub(super) struct DatasetArgs {
    /// Where prompts come from: random (tokens without meaning), sonnet (lines of verse up to a length), sharegpt
    /// (recorded conversations) or custom (your own) [default: random; sonnet to the embedded cluster]
    #[arg(long, value_name = "NAME")]
    dataset_name: Option<String>,
    /// File: text with a verse a line for sonnet [default: built in]; JSON lines for custom, each with
    /// `prompt` or `messages` and perhaps `output_tokens`; a JSON list of conversations for sharegpt
    #[arg(long, value_name = "FILE")]
    dataset_path: Option<PathBuf>,
    /// What the file's SHA-256 has to be, in hexadecimal; another file is refused
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub(super) dataset_sha256: Option<String>,
    /// Send requests that are longer than the model takes (max_model_len of /v1/models), instead of refusing them
    #[arg(long)]
    pub(super) skip_length_check: bool,
    /// Requests to send [default: 1000; 200 to the embedded cluster]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) num_prompts: Option<usize>,
    /// Prompt length, tokens; the same as --random-input-len or --sonnet-input-len
    #[arg(long, value_name = "TOKENS", conflicts_with_all = ["sonnet_input_len", "random_input_len"])]
    input_len: Option<u32>,
    /// Output length, tokens; for any dataset
    #[arg(long, value_name = "TOKENS", conflicts_with_all = [
        "sonnet_output_len", "custom_output_len", "random_output_len", "sharegpt_output_len",
    ])]
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
    /// Mean prompt length, tokens; special tokens included, prefix not [default: 1024]
    #[arg(long, value_name = "TOKENS")]
    random_input_len: Option<u32>,
    /// Mean output length, tokens [default: 128]
    #[arg(long, value_name = "TOKENS")]
    random_output_len: Option<u32>,
    /// How far random lengths lie from their means: drawn from mean·(1 − R) to mean·(1 + R), R in [0, 1); or
    /// {"input": R, "output": R} [default: 0]
    #[arg(long, value_name = "R", allow_hyphen_values = true)]
    random_range_ratio: Option<RangeRatio>,
    /// Length of the beginning that all random prompts share, tokens [default: 0]
    #[arg(long, value_name = "TOKENS")]
    random_prefix_len: Option<u32>,
    /// Send random prompts as lists of token ids, exactly as long as asked for; completions only
    #[arg(long)]
    random_token_ids: bool,
    /// Output length, tokens [default: as many as the recorded reply has]
    #[arg(long, value_name = "TOKENS")]
    sharegpt_output_len: Option<NonZeroU32>,
    /// Send custom prompts as they are, without the tokenizer's chat template
    #[arg(long)]
    skip_chat_template: bool,
    /// Send custom and sharegpt prompts in the order of the file
    #[arg(long)]
    disable_shuffle: bool,
    /// Send each custom or sharegpt prompt once, even if that is fewer than --num-prompts
    #[arg(long)]
    no_oversample: bool,
}

impl DatasetArgs {
    pub(super) fn plan(
        self,
        embedded: bool,
        num_prompts: usize,
        seed: u32,
        endpoint: Endpoint,
    ) -> Result<DatasetPlan, Error> {
        let choose = "choose one of random, sonnet, sharegpt, custom with --dataset-name";
        let templating = match endpoint {
            Endpoint::Completions => Templating::Sent,
            Endpoint::Chat => Templating::Counted,
        };
        match self.dataset_name.as_deref() {
            Some("sonnet") => Ok(self.sonnet(num_prompts, seed, templating)),
            Some("custom") => self.custom(num_prompts, seed, templating),
            Some("sharegpt") => self.sharegpt(num_prompts, seed),
            None if embedded => Ok(self.sonnet(num_prompts, seed, templating)),
            Some("random") | None => self.random(num_prompts, seed, endpoint),
            Some(known @ ("prefix_repetition" | "timed_trace")) => {
                Err(usage(format!("dataset {known} is not built yet")).help(choose))
            }
            Some(other) => Err(usage(format!("`{}` is not a dataset", other.escape_debug())).help(choose)),
        }
    }

    fn random(self, num_prompts: usize, seed: u32, endpoint: Endpoint) -> Result<DatasetPlan, Error> {
        if self.dataset_sha256.is_some() {
            return Err(usage("--dataset-sha256 with dataset random: there is no file to check")
                .help("leave it out; the same seed makes the same prompts"));
        }
        if self.random_token_ids && endpoint == Endpoint::Chat {
            return Err(usage("--random-token-ids with a chat: only completions take token ids")
                .help("leave it out, or use --backend openai"));
        }
        let default = Random::default();
        Ok(DatasetPlan::Random(Random {
            input_len: self.random_input_len.or(self.input_len).unwrap_or(default.input_len),
            output_len: self.random_output_len.or(self.output_len).unwrap_or(default.output_len),
            range_ratio: self.random_range_ratio.unwrap_or_default(),
            prefix_len: self.random_prefix_len.unwrap_or(default.prefix_len),
            num_prompts,
            seed,
            form: if self.random_token_ids { RandomForm::TokenIds } else { RandomForm::Text },
        }))
    }

    fn sharegpt(self, num_prompts: usize, seed: u32) -> Result<DatasetPlan, Error> {
        let path = self.dataset_path.ok_or_else(|| {
            usage("dataset sharegpt has no file")
                .help("name a local JSON file with --dataset-path; nothing is downloaded")
        })?;
        let output_len = match (self.sharegpt_output_len, self.output_len) {
            (Some(len), _) => Some(len),
            (None, Some(len)) => {
                Some(NonZeroU32::new(len).ok_or_else(|| usage("--output-len 0: want at least one token"))?)
            }
            (None, None) => None,
        };
        let order = if self.disable_shuffle { Order::AsInFile } else { Order::Shuffled };
        let oversample = if self.no_oversample { Oversample::Never } else { Oversample::Repeat };
        let sharegpt = ShareGpt { num_prompts, seed, output_len, order, oversample };
        Ok(DatasetPlan::ShareGpt { path, sharegpt })
    }

    fn sonnet(self, num_prompts: usize, seed: u32, templating: Templating) -> DatasetPlan {
        let default = Sonnet::default();
        DatasetPlan::Sonnet {
            path: self.dataset_path,
            sonnet: Sonnet {
                input_len: self.sonnet_input_len.or(self.input_len).unwrap_or(default.input_len),
                output_len: self.sonnet_output_len.or(self.output_len).unwrap_or(default.output_len),
                prefix_len: self.sonnet_prefix_len.unwrap_or(default.prefix_len),
                num_prompts,
                seed,
                templating,
            },
        }
    }

    fn custom(self, num_prompts: usize, seed: u32, templating: Templating) -> Result<DatasetPlan, Error> {
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
            templating: if self.skip_chat_template { Templating::Off } else { templating },
        };
        Ok(DatasetPlan::Custom { path, custom })
    }
}

/// A SHA-256 in hexadecimal, in small letters.
fn sha256(text: &str) -> Result<String, String> {
    let sum = text.trim().to_ascii_lowercase();
    let fits = sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    if fits { Ok(sum) } else { Err("want the 64 hexadecimal digits that `sha256sum FILE` prints".to_owned()) }
}
