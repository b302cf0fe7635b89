//! What an accuracy run asked, and what came out of it: values for the files of a run and for its reports. The
//! arithmetic is in the room `accuracy`.

mod fault;
mod notice;

pub use fault::AccuracyFault;
pub(super) use fault::faults;
pub(super) use notice::{median_answer_ms, streams, warnings};

use super::Outcome;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a request of an accuracy run asked, and the answers to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Asking {
    /// Number of the arm that it belongs to: an index into [`AccuracyFacts::arms`].
    pub arm: usize,
    /// Numbers of the questions, in the order of the answers.
    pub questions: Vec<u32>,
    /// The answers, where one text in the record does not say it all: to several questions, or with log probabilities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replies: Vec<Reply>,
}

/// One answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Its text.
    pub text: String,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Its tokens with their log probabilities, where they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenLogprob>,
}

/// One token of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// Its text.
    pub token: String,
    /// How much likelier it was than the next best, nats; `None` where only one was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Its log probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprob: Option<f64>,
    /// The likeliest other token in its place, where one was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What an accuracy run was asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccuracyFacts {
    /// The task's declaration with all defaults.
    pub task: Map<String, Value>,
    /// Questions of the run.
    pub questions: usize,
    /// Documents of the whole split.
    pub documents: usize,
    /// Worked examples before each question.
    pub num_fewshot: usize,
    /// Seed of their draws.
    pub fewshot_seed: i64,
    /// Text before all else, where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_instruction: Option<String>,
    /// How questions are put: `text`, `token-ids`, `multi-turn` or `single-turn`.
    pub form: String,
    /// What is generated, as the task's file says it, with what the command line changed.
    pub generation: Map<String, Value>,
    /// Questions in one request.
    pub batch_size: usize,
    /// Requests in flight at a time.
    pub num_concurrent: usize,
    /// Tries after the first.
    pub max_retries: u32,
    /// The documents are the project's own, not those that the task is known for.
    pub own_documents: bool,
    /// Who is asked; the first is the one whose accuracy is in question.
    pub arms: Vec<ArmFacts>,
    /// Largest loss that still counts as none, where one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Score below which the run fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_under: Option<f64>,
    /// Share of questions without an answer above which the run is invalid.
    pub max_error_rate: f64,
    /// `--limit`, as typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Value>,
    /// `--gen-kwargs`, as lm_eval shows them.
    pub gen_kwargs: Map<String, Value>,
    /// `--model_args` that lm_eval would have been given.
    pub model_args: Map<String, Value>,
    /// sha256 over all that shapes the answers: task, shots, seed, form, generation, model, URL. Answers of one key are
    /// never taken for those of another.
    pub key: String,
}

/// One deployment, or one way of asking it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmFacts {
    /// `candidate`, `baseline`, `baseline again`, `streamed`.
    pub name: String,
    /// Where it is: a base URL, or `embedded`.
    pub base_url: String,
    /// Its model's name.
    pub model: String,
    /// Its answers are streamed.
    pub streamed: bool,
}

/// What came out of an accuracy run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccuracyResult {
    /// The task's name …
    pub task: String,
    /// … and what tables call it.
    pub alias: String,
    /// Its version.
    pub version: Value,
    /// Worked examples before each question.
    pub n_shot: usize,
    /// Names of the ways of reading, in the order of the task's file; the metric is exact_match.
    pub filters: Vec<String>,
    /// What each arm scored.
    pub arms: Vec<ArmResult>,
    /// Each arm after the first beside the first, or a baseline beside itself.
    pub comparisons: Vec<PairedResult>,
    /// sha256 over the hashes of all sample lines of the first arm, as lm_eval has it.
    pub task_hash: String,
    /// One for each question, in order. Not in `run.json`: made again from records and questions.
    #[serde(skip)]
    pub documents: Vec<DocumentResult>,
}

/// What one arm scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmResult {
    /// Questions with an answer.
    pub answered: usize,
    /// Questions without one, after all tries.
    pub errors: usize,
    /// Questions that took more than one try.
    pub retried: usize,
    /// By way of reading.
    pub scores: Vec<Score>,
    /// Share of the answers that were cut at the limit of tokens.
    pub cut_share: Option<f64>,
    /// Share of the answers that have no text.
    pub empty_share: Option<f64>,
    /// Answers with the code of another prompt, of a probe of KV: they were made from its KV.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swapped: Option<usize>,
    /// Mean output tokens of an answer, where the server tells them.
    pub mean_output_tokens: Option<f64>,
    /// Over send order, by the first way of reading that has any right answer, or the first.
    pub trend: Option<Trend>,
    /// By length of the prompt, shortest first.
    pub by_length: Vec<PromptLengthBin>,
}

impl AccuracyFacts {
    /// What an arm is called.
    pub fn arm_name(&self, arm: usize) -> String {
        self.arms.get(arm).map_or_else(|| format!("arm {arm}"), |arm| arm.name.clone())
    }
}

impl AccuracyResult {
    /// The comparisons that judge an arm: all but that of a baseline with itself.
    pub fn judging(&self) -> impl Iterator<Item = &PairedResult> {
        self.comparisons.iter().filter(|pair| !pair.is_floor)
    }

    /// What equal servers differ by: the comparison of a baseline with itself.
    pub fn floor(&self) -> Option<&PairedResult> {
        self.comparisons.iter().find(|pair| pair.is_floor)
    }

    /// The way of reading that decides a comparison: the one that has most right answers of the baseline.
    pub fn decisive(&self, pair: &PairedResult) -> Option<usize> {
        self.arms.get(pair.baseline)?.best_read()
    }
}

impl ArmResult {
    /// The way of reading with the most right answers, the first of equals.
    pub fn best_read(&self) -> Option<usize> {
        let most = self.scores.iter().map(|score| score.right).max()?;
        self.scores.iter().position(|score| score.right == most)
    }
}

/// One way of reading's score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Right answers.
    pub right: usize,
    /// Share of right ones among the answered, as lm_eval sums it.
    pub mean: Option<f64>,
    /// Its standard error, as lm_eval has it.
    pub stderr: Option<f64>,
    /// Wilson's 95 % interval of the share.
    pub interval: Option<(f64, f64)>,
    /// The share if questions without an answer count as wrong.
    pub errors_as_wrong: Option<f64>,
    /// Share of the answers from which nothing could be read.
    pub invalid_share: Option<f64>,
}

/// Whether right answers become fewer, or more, from the first request to the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// Right answers and all, by equal parts of the send order.
    pub windows: Vec<(usize, usize)>,
    /// Probability of a fall as great as this one if the order did not matter; one-sided.
    pub p_falling: f64,
}

/// Questions of like length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromptLengthBin {
    /// Shortest and longest prompt, bytes.
    pub bytes: (usize, usize),
    /// Right answers.
    pub right: usize,
    /// Questions.
    pub of: usize,
}

/// Two arms, question by question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedResult {
    /// Index of the arm that is the measure.
    pub baseline: usize,
    /// Index of the arm that is judged.
    pub candidate: usize,
    /// This only shows how much equal servers differ.
    pub is_floor: bool,
    /// By way of reading.
    pub scores: Vec<PairedScore>,
    /// Whether the texts are the same.
    pub texts: TextEquality,
    /// Fall of the difference over send order: as [`Trend::p_falling`].
    pub p_falling: Option<f64>,
}

/// Right and wrong answers of two arms to the same questions, read one way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedScore {
    /// Questions that both answered.
    pub questions: usize,
    /// Right in both.
    pub both: usize,
    /// Right in the baseline alone.
    pub only_baseline: usize,
    /// Right in the candidate alone.
    pub only_candidate: usize,
    /// Candidate less baseline, as shares.
    pub difference: Option<f64>,
    /// Tango's 95 % score interval of the difference.
    pub interval: Option<(f64, f64)>,
    /// Exact McNemar test, two-sided: could they be equally right?
    pub p_two_sided: Option<f64>,
    /// The same, one-sided: a small value says that the candidate is worse.
    pub p_worse: Option<f64>,
    /// The margin it is held against.
    pub margin: f64,
    /// What follows.
    pub verdict: PairedVerdict,
    /// Roughly how many questions would show that any loss is within the margin, if nothing is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions_needed: Option<usize>,
}

/// What a paired comparison shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairedVerdict {
    /// The candidate answers worse, by more than chance, and a loss within the margin is not shown.
    Worse,
    /// Any loss is smaller than the margin.
    WithinMargin,
    /// Neither: more questions would tell.
    Unclear,
}

/// Whether two arms answered in the same words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TextEquality {
    /// Questions that both answered.
    pub questions: usize,
    /// With the same text.
    pub equal: usize,
    /// Where those that differ begin to: characters from the start, by the bounds of [`TextEquality::BOUNDS`].
    pub diverged: Vec<usize>,
    /// Differences where both were sure of their token, by more than 0.5 nat; `None` without log probabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sure: Option<usize>,
}

impl TextEquality {
    /// Lower bounds of the bins of [`TextEquality::diverged`], characters; the last has no end.
    pub const BOUNDS: [usize; 6] = [0, 1, 16, 64, 256, 1024];
}

/// One question, and what each arm answered.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentResult {
    /// Number of the document within its split.
    pub doc_id: usize,
    /// The document.
    pub doc: Map<String, Value>,
    /// The gold, as one text.
    pub target: String,
    /// The prompt, or the conversation as JSON.
    pub prompt: String,
    /// Whether it is a conversation.
    pub chat: bool,
    /// sha256 of the document, the prompt and the target, as lm_eval has them.
    pub hashes: [String; 3],
    /// By arm.
    pub answers: Vec<ArmAnswer>,
}

/// What one arm answered to a question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArmAnswer {
    /// The texts, as many as the task wants; `None` while one is missing.
    pub texts: Option<Vec<String>>,
    /// By way of reading: what was read, and whether it is right. Empty without texts.
    pub read: Vec<(Value, bool)>,
    /// Why it has no answer: outcome and words of the last try.
    pub error: Option<(Outcome, String)>,
    /// Tries, all answers together.
    pub attempts: u32,
    /// Why the first answer ended.
    pub finish_reason: Option<String>,
    /// Output tokens of the answer, where it was asked alone and the server tells.
    pub output_tokens: Option<u32>,
    /// Time from the send to the end of the answer, milliseconds.
    pub latency_ms: Option<f64>,
    /// Number of its request within the run.
    pub i: Option<u32>,
}
