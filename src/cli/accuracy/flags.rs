use crate::accuracy::{KvProbe, Selection};
use crate::cli::{at_least_one, share, usage};
use crate::cluster::Topology;
use crate::command::Error;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(next_help_heading = "Questions")]
pub(super) struct QuestionArgs {
    /// The task, as lm_eval names it
    #[arg(long, value_name = "TASK", conflicts_with = "task")]
    pub(super) tasks: Option<String>,
    /// A declared task that generates text, in lm_eval's YAML
    #[arg(long, value_name = "FILE")]
    pub(super) task_yaml: Option<PathBuf>,
    /// Directory with test.jsonl and train.jsonl, or the file of the split that is asked [default: what `pdbench dataset
    /// fetch` got, else the project's own problems]
    #[arg(long, value_name = "PATH")]
    pub(super) dataset_path: Option<PathBuf>,
    /// Worked examples before each question [default: the task's]
    #[arg(long, visible_alias = "num-few-shot", value_name = "N")]
    pub(super) num_fewshot: Option<usize>,
    /// Seed of their draws [default: 1234, or the fourth of --seed]
    #[arg(long, value_name = "SEED", allow_negative_numbers = true)]
    pub(super) fewshot_seed: Option<i64>,
    /// Seeds as lm_eval takes them, of random, numpy, torch and the worked examples; the fourth, or the only one, counts
    #[arg(long, value_name = "SEEDS")]
    pub(super) seed: Option<String>,
    /// Only the first N documents, or a share of them below 1
    #[arg(long, value_name = "N", value_parser = limit)]
    pub(super) limit: Option<f64>,
    /// Only these documents, by number, such as 0,5,7
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "limit")]
    pub(super) samples: Vec<usize>,
    /// Which worked examples they get: those of a full run, or those that lm_eval draws for --samples
    #[arg(long, default_value = "full", value_name = "MODE", requires = "samples")]
    pub(super) samples_mode: SamplesMode,
    /// Prompts of kv-probe
    #[arg(long, default_value_t = KvProbe::default().count, value_name = "N", value_parser = at_least_one)]
    pub(super) probes: usize,
    /// Tokens of a KV block: prompts of kv-probe lie around multiples of it
    #[arg(long, default_value_t = KvProbe::default().block_tokens, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..=4096))]
    pub(super) block_size: u32,
    /// Shortest prompt of kv-probe in tokens: longer than the chunks of the KV store
    #[arg(long, default_value_t = KvProbe::default().tokens.0, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(32..=100_000))]
    pub(super) probe_min_tokens: u32,
    /// Longest prompt of kv-probe in tokens
    #[arg(long, default_value_t = KvProbe::default().tokens.1, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(32..=100_000))]
    pub(super) probe_max_tokens: u32,
    /// Text before all else; a conversation's system message
    #[arg(long, value_name = "TEXT")]
    pub(super) system_instruction: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Asking")]
pub(super) struct AskingArgs {
    /// API [default: chat where --base-url ends in /chat/completions, else completions]
    #[arg(long, value_name = "NAME")]
    pub(super) api: Option<Api>,
    /// lm_eval's --model_args: model=NAME,base_url=URL,num_concurrent=N,max_retries=N,timeout=SECONDS,max_gen_toks=N,
    /// verify_certificate=BOOL,tokenizer=DIR,tokenizer_backend=huggingface|None,tokenized_requests=BOOL,max_length=N (which
    /// token ids are cut to)
    #[arg(long, value_name = "LIST")]
    pub(super) model_args: Option<String>,
    /// What of a prompt is sent to completions: its text, or its token ids as lm_eval's own default does
    #[arg(long, default_value = "text", value_name = "FORM")]
    pub(super) prompt_format: Format,
    /// Ask in a conversation; to completions it is rendered by --tokenizer's template
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "NAME")]
    pub(super) apply_chat_template: Option<String>,
    /// Worked examples are turns of their own in a conversation
    #[arg(long, default_value = "true", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(super) fewshot_as_multiturn: bool,
    /// What changes the task's generation, such as temperature=0.7,max_gen_toks=512
    #[arg(long, value_name = "LIST")]
    pub(super) gen_kwargs: Option<String>,
    /// Longest answer in tokens [default: the task's, else 256]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) max_tokens: Option<usize>,
    /// Questions in one request
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) batch_size: Option<usize>,
    /// Requests in flight at a time to each deployment that is asked [default: 32]
    #[arg(long, visible_alias = "max-concurrency", value_name = "N", value_parser = at_least_one)]
    pub(super) num_concurrent: Option<usize>,
    /// Tries after the first, after 408, 429, 5xx and broken connections [default: 3]
    #[arg(long, value_name = "N")]
    pub(super) max_retries: Option<u32>,
    /// Stream the answers
    #[arg(long, conflicts_with = "paths")]
    pub(super) stream: bool,
    /// Ways of asking: PD proxies route streamed and whole answers differently
    #[arg(long, value_name = "WHICH")]
    pub(super) paths: Option<PathsWord>,
    /// Ask for log probabilities: where answers part, they tell rounding from damage
    #[arg(long)]
    pub(super) logprobs: bool,
    /// Do as lm_eval does where that changes requests: the longest prompt first, and one by one with the end-of-sequence
    /// token as a stop
    #[arg(long, value_name = "TOOL")]
    pub(super) compat: Option<Compat>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Held against")]
pub(super) struct AgainstArgs {
    /// A deployment of the same model without disaggregation: every question is asked there, too
    #[arg(long, value_name = "URL", conflicts_with_all = ["baseline_run", "baseline_sim"])]
    pub(super) baseline_url: Option<String>,
    /// Its model's name [default: as --model]
    #[arg(long, value_name = "NAME", requires = "baseline_url")]
    pub(super) baseline_model: Option<String>,
    /// The answers of an earlier run with the same questions
    #[arg(long, value_name = "DIR", conflicts_with = "baseline_sim")]
    pub(super) baseline_run: Option<PathBuf>,
    /// A simulated cluster without faults, such as 1m
    #[arg(long, value_name = "TOPOLOGY")]
    pub(super) baseline_sim: Option<Topology>,
    /// Ask the baseline so often: 2 shows how much it differs from itself [default: 1, and 2 for kv-probe]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(super) baseline_passes: Option<u8>,
    /// Largest loss that still counts as none, a share such as 0.01; the run fails unless a loss within it is shown
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(super) margin: Option<f64>,
    /// Fail below this score, a share
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(super) fail_under: Option<f64>,
    /// Share of questions without an answer above which the run is invalid
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub(super) max_error_rate: f64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Results")]
pub(super) struct ResultArgs {
    /// Where lm_eval's files are put: DIR/<model>/results_<date>.json
    #[arg(long, value_name = "DIR")]
    pub(super) output_path: Option<PathBuf>,
    /// With --output-path, every answer too: samples_<task>_<date>.jsonl
    #[arg(long)]
    pub(super) log_samples: bool,
    /// Go on with this run: what was answered is not asked again
    #[arg(long, value_name = "DIR")]
    pub(super) resume: Option<PathBuf>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Api {
    Completions,
    Chat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    TokenIds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PathsWord {
    Whole,
    Streamed,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SamplesMode {
    Full,
    #[value(name = "lm_eval", alias = "lm-eval")]
    LmEval,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Compat {
    #[value(name = "lm_eval", alias = "lm-eval")]
    LmEval,
}

impl QuestionArgs {
    pub(super) fn selection(&self) -> Selection {
        match (self.limit, self.samples.is_empty(), self.samples_mode) {
            (Some(limit), ..) if limit < 1.0 => Selection::Share(limit),
            (Some(limit), ..) => Selection::First(limit as usize),
            (None, true, _) => Selection::All,
            (None, false, SamplesMode::Full) => Selection::These(self.samples.clone()),
            (None, false, SamplesMode::LmEval) => Selection::TheseAlone(self.samples.clone()),
        }
    }

    pub(super) fn probe(&self, seed: i64) -> KvProbe {
        KvProbe {
            count: self.probes,
            block_tokens: self.block_size,
            tokens: (self.probe_min_tokens, self.probe_max_tokens.max(self.probe_min_tokens)),
            seed: seed.unsigned_abs(),
        }
    }

    /// The seed of the worked examples.
    pub(super) fn seed(&self) -> Result<i64, Error> {
        if let Some(seed) = self.fewshot_seed {
            return Ok(seed);
        }
        let Some(seeds) = &self.seed else { return Ok(1234) };
        let seeds: Vec<&str> = seeds.split(',').map(str::trim).collect();
        let chosen = match seeds.as_slice() {
            [only] => only.parse().ok(),
            [_, _, _, fourth] => fourth.parse().ok(),
            _ => None,
        };
        chosen.ok_or_else(|| {
            usage("--seed wants one whole number, or four with commas between them")
                .help("the fourth is that of the worked examples")
        })
    }
}

/// Keys and values of `a=1,b=x`, as they were typed.
pub(super) fn items<'a>(flag: &str, text: &'a str) -> Result<Vec<(&'a str, &'a str)>, Error> {
    let pair = |item: &'a str| {
        let (key, value) = item.split_once('=').ok_or_else(|| {
            usage(format!("{flag}: `{}` has no `=`", item.escape_debug())).help("want KEY=VALUE,KEY=VALUE")
        })?;
        Ok((key.trim(), value.trim()))
    };
    text.split(',').filter(|item| !item.trim().is_empty()).map(pair).collect()
}

/// `a=1,b=x` as lm_eval reads it: numbers, True, False and None are values of their own, all else is text.
pub(super) fn pairs(flag: &str, text: &str) -> Result<Map<String, Value>, Error> {
    Ok(items(flag, text)?.into_iter().map(|(key, value)| (key.to_owned(), value_of(value))).collect())
}

fn value_of(text: &str) -> Value {
    match text.to_ascii_lowercase().as_str() {
        "true" => return json!(true),
        "false" => return json!(false),
        "none" => return Value::Null,
        _ => {}
    }
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(whole), _) => json!(whole),
        (_, Ok(number)) if number.is_finite() => json!(number),
        _ => json!(text),
    }
}

fn limit(text: &str) -> Result<f64, String> {
    let parsed =
        text.parse::<f64>().ok().filter(|limit| 0.0 < *limit && (*limit < 1.0 || limit.fract() == 0.0));
    parsed.ok_or_else(|| format!("`{text}` is no limit: want a whole number above 0, or a share below 1"))
}
