//! Turns questions into requests.

use super::AccuracyPlan;
use crate::accuracy::{Question, Task};
use crate::command::{Error, Exit};
use crate::load::Prepared;
use crate::measure::{Asking, PromptTokensSource};
use crate::wire::openai::head;
use crate::wire::{Endpoint, Target};
use crate::workload::{Ends, Tokenizer};
use serde_json::{Map, Value, json};

/// Context of a model to lm_eval where nobody says more.
pub(super) const MAX_LENGTH: usize = 2048;
/// Longest answer where neither task nor command line says.
const MAX_GEN_TOKS: u64 = 256;
/// What lm_eval sends as `seed`, whatever seeds it was given.
const WIRE_SEED: u32 = 1234;

/// How the requests of one arm are written.
pub(super) struct Arm<'a> {
    pub(super) number: usize,
    pub(super) place: usize,
    pub(super) target: &'a Target,
    pub(super) model: &'a str,
    pub(super) path: &'a str,
    pub(super) endpoint: Endpoint,
    pub(super) streamed: bool,
}

/// How questions become requests.
pub(super) struct Asker<'a> {
    pub(super) questions: &'a [Question],
    /// What stands for each prompt, where that is not its text.
    pub(super) token_ids: Vec<Vec<u32>>,
    /// All of a body but the prompt and the model.
    pub(super) generation: Generation,
    pub(super) logprobs: bool,
    /// What request ids begin with.
    pub(super) id_prefix: String,
}

/// Which request of a run it is: no two of one arm and question are the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Try {
    /// Which try, from 1.
    pub(super) attempt: u32,
    /// Number within its pass.
    pub(super) nth: usize,
}

/// What is asked of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Generation {
    pub(super) max_tokens: u32,
    temperature: Value,
    pub(super) stop: Vec<String>,
    rest: Map<String, Value>,
}

impl Generation {
    /// The task's, changed by the command line's, as lm_eval reads them; and the declaration that this is.
    pub(super) fn of(plan: &AccuracyPlan, task: &Task, eos: Option<&str>) -> (Self, Map<String, Value>) {
        let mut declared = task.generation.clone();
        declared.extend(plan.gen_kwargs.clone());
        if let Some(most) = plan.max_tokens {
            declared.shift_remove("max_tokens");
            declared.insert("max_gen_toks".to_owned(), most.into());
        }
        let mut rest = declared.clone();
        let mut take = |key: &str| rest.shift_remove(key);
        take("do_sample");
        let most = take("max_gen_toks").and_then(|most| most.as_u64());
        let most = take("max_tokens").and_then(|most| most.as_u64()).or(most);
        let most = most.or(plan.usual_max_tokens.map(u64::from)).unwrap_or(MAX_GEN_TOKS);
        let temperature = take("temperature").unwrap_or(json!(0));
        let mut stop: Vec<String> = match take("until") {
            Some(Value::Array(stops)) => {
                stops.iter().filter_map(|stop| stop.as_str().map(str::to_owned)).collect()
            }
            Some(Value::String(stop)) => vec![stop],
            _ => Vec::new(),
        };
        if let Some(eos) = eos.filter(|eos| !stop.iter().any(|stop| stop == eos)) {
            stop.push(eos.to_owned());
        }
        let max_tokens = u32::try_from(most).unwrap_or(u32::MAX).max(1);
        (Self { max_tokens, temperature, stop, rest }, declared)
    }
}

impl Asker<'_> {
    /// One request for these questions, in the words of lm_eval.
    pub(super) fn prepare(&self, arm: &Arm<'_>, numbers: &[usize], batched: bool, which: Try) -> Prepared {
        let first = &self.questions[numbers[0]];
        let mut body = Map::new();
        let mut put = |key: &str, value: Value| body.insert(key.to_owned(), value);
        match &first.messages {
            Some(messages) => put("messages", json!(messages)),
            None => put("prompt", self.prompt(numbers, batched)),
        };
        put("model", arm.model.into());
        put("max_tokens", self.generation.max_tokens.into());
        put("temperature", self.generation.temperature.clone());
        let most_stops = if arm.endpoint == Endpoint::Chat { 4 } else { usize::MAX };
        let stops: Vec<&String> = self.generation.stop.iter().take(most_stops).collect();
        put("stop", json!(stops));
        put("seed", WIRE_SEED.into());
        for (key, value) in &self.generation.rest {
            put(key, value.clone());
        }
        if self.logprobs {
            match arm.endpoint {
                Endpoint::Completions => drop(put("logprobs", json!(2))),
                Endpoint::Chat => {
                    put("logprobs", json!(true));
                    put("top_logprobs", json!(2));
                }
            }
        }
        if arm.streamed {
            put("stream", json!(true));
            put("stream_options", json!({"include_usage": true}));
        }
        let body = serde_json::to_vec(&body).expect("a map of JSON values is JSON");
        let Try { attempt, nth } = which;
        let id = format!("{}q{}-{}-{attempt}-{nth}", self.id_prefix, numbers[0], arm.number);
        let bytes: usize = numbers.iter().map(|&number| self.questions[number].prompt.len()).sum();
        let counted =
            numbers.iter().map(|&number| self.token_ids.get(number).map(Vec::len)).sum::<Option<usize>>();
        Prepared {
            bytes: head(arm.target, arm.path, &id, &body),
            id,
            place: arm.place,
            lead: None,
            prompt_tokens: counted.unwrap_or(bytes.div_ceil(4)) as u32,
            prompt_tokens_source: match counted {
                Some(_) => PromptTokensSource::Tokenizer,
                None => PromptTokensSource::Estimate,
            },
            requested_tokens: self.generation.max_tokens.saturating_mul(numbers.len() as u32),
            ignore_eos: false,
            asking: Some(Asking {
                arm: arm.number,
                questions: numbers.iter().map(|&number| number as u32).collect(),
                replies: Vec::new(),
            }),
            attempt,
        }
    }

    /// One text, or a list of them; token ids are always a list of lists.
    fn prompt(&self, numbers: &[usize], batched: bool) -> Value {
        if !self.token_ids.is_empty() {
            return numbers.iter().map(|&number| json!(self.token_ids[number])).collect();
        }
        match (numbers, batched) {
            ([one], false) => self.questions[*one].prompt.as_str().into(),
            _ => numbers.iter().map(|&number| self.questions[number].prompt.as_str()).collect(),
        }
    }
}

/// The token ids of each prompt as lm_eval sends them, and how many prompts had to be cut: of one that is too long for
/// `max_length`, the answer's tokens and one more being kept free, the end is sent.
pub(super) fn token_ids(
    questions: &[Question],
    tokenizer: &Tokenizer,
    max_tokens: u32,
    max_length: usize,
) -> Result<(Vec<Vec<u32>>, usize), Error> {
    let room = max_length.saturating_sub(1 + max_tokens as usize).max(1);
    let mut cut = 0;
    let encoded = questions.iter().map(|question| {
        let ids = tokenizer.encode(&question.prompt, Ends::Bare).map_err(|error| {
            Error::new(
                Exit::Usage,
                format!("cannot encode the prompt of document {}: {error}", question.doc_id),
            )
            .help(error.help().to_owned())
        })?;
        cut += usize::from(room < ids.len());
        Ok(ids[ids.len().saturating_sub(room)..].to_vec())
    });
    let encoded = encoded.collect::<Result<Vec<_>, Error>>()?;
    Ok((encoded, cut))
}
