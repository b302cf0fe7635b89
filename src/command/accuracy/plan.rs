use crate::accuracy::{Form, KvProbe, Selection};
use crate::command::ServePlan;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// What `accuracy` was asked to do.
#[derive(Debug)]
pub struct AccuracyPlan {
    /// How the deployment in question is reached. Nothing is said of its load.
    pub serve: ServePlan,
    /// Name of the task.
    pub task: String,
    /// Its file, where one was named.
    pub task_yaml: Option<PathBuf>,
    /// Its documents: a directory of splits, or the file of the split that is asked.
    pub dataset_path: Option<PathBuf>,
    /// Where `dataset fetch` puts what it gets; `None` where the environment names no home.
    pub cache: Option<PathBuf>,
    /// Worked examples before each question; `None` as the task has it.
    pub num_fewshot: Option<usize>,
    /// Seed of their draws.
    pub fewshot_seed: i64,
    /// Which documents.
    pub selection: Selection,
    /// `--limit`, as typed.
    pub limit: Option<Value>,
    /// How questions are put.
    pub form: Form,
    /// What is sent of them.
    pub prompt_format: PromptFormat,
    /// Text before all else.
    pub system_instruction: Option<String>,
    /// Which prompts a probe of KV has.
    pub probe: KvProbe,
    /// What changes the task's generation.
    pub gen_kwargs: Map<String, Value>,
    /// Longest answer in tokens; `None` as the task has it.
    pub max_tokens: Option<u32>,
    /// The same where the task says nothing either; `None` for lm_eval's 256.
    pub usual_max_tokens: Option<u32>,
    /// Tokens of prompt and answer together, which token ids are cut to; `None` for lm_eval's 2048.
    pub max_length: Option<usize>,
    /// Questions in one request.
    pub batch_size: usize,
    /// Requests in flight to a deployment at a time.
    pub num_concurrent: usize,
    /// Tries after the first.
    pub max_retries: u32,
    /// Ways of asking.
    pub paths: Paths,
    /// Ask for the log probabilities of the two best tokens.
    pub logprobs: bool,
    /// What the deployment is held against.
    pub baseline: Option<Baseline>,
    /// How often the baseline is asked: twice shows how much it differs from itself.
    pub baseline_passes: usize,
    /// Largest loss that still counts as none.
    pub margin: Option<f64>,
    /// Score below which the run fails.
    pub fail_under: Option<f64>,
    /// Share of questions without an answer above which the run is invalid.
    pub max_error_rate: f64,
    /// Where lm_eval's files are put.
    pub output_path: Option<PathBuf>,
    /// One of them holds every answer.
    pub log_samples: bool,
    /// Send the longest prompt first, and the end-of-sequence token as a stop, as lm_eval does one by one.
    pub as_lm_eval: bool,
    /// A run to go on with.
    pub resume: Option<PathBuf>,
    /// Share of the embedded cluster's answers that are right.
    pub right: f64,
    /// Arguments that lm_eval would have been given, for its file.
    pub model_args: Map<String, Value>,
}

/// What of a prompt is sent to completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptFormat {
    /// Its text.
    Text,
    /// Its token ids without special ones, the left end cut off where it is too long: lm_eval's own default.
    TokenIds,
    /// A conversation, rendered by the model's chat template.
    ChatTemplate,
}

/// Ways of asking: a PD proxy may route them differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// Answers come whole.
    Whole,
    /// Answers are streamed.
    Streamed,
    /// Each question is asked both ways.
    Both,
}

/// What a deployment is held against.
#[derive(Debug)]
pub enum Baseline {
    /// Another deployment, asked meanwhile.
    Deployment(Box<ServePlan>),
    /// The answers of an earlier run.
    Run(PathBuf),
}
