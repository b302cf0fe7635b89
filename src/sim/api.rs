//! Request bodies: what vLLM's OpenAI API takes, checked in its order and refused in its words. Pure.
//! Deliberately absent: what the simulated model cannot give (logprobs, echo, several choices) is refused,
//! never ignored; sampling parameters are ignored.

use super::Config;
use super::answer::Limits;
use super::events::UsageIn;
use super::handoff::KvParams;
use super::prompt::{Prompt, token_ids};
use crate::wire::Endpoint;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

/// A refusal: status and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: u16,
    pub body: String,
}

impl Refusal {
    fn new(status: u16, kind: &str, param: Value, message: &str) -> Self {
        let error = json!({ "message": message, "type": kind, "param": param, "code": status });
        Self { status, body: json!({ "error": error }).to_string() }
    }

    /// A parameter that will not do; vLLM repeats its name and value at the end.
    fn parameter(name: &str, value: Option<Value>, message: &str) -> Self {
        let value = value.map_or_else(String::new, |value| format!(", value={value}"));
        let message = format!("{message} (parameter={name}{value})");
        Self::new(400, "BadRequestError", name.into(), &message)
    }

    /// A fault that was asked for, in vLLM's shape.
    pub fn fault(status: u16) -> Self {
        let code = StatusCode::from_u16(status).ok();
        let kind = code.and_then(|code| code.canonical_reason()).unwrap_or("Error");
        Self::new(status, kind, Value::Null, "A fault of the simulated cluster, as asked for.")
    }

    /// An `x-sim-fault` that cannot be read.
    pub fn no_fault(why: &str) -> Self {
        Self::parameter("x-sim-fault", None, why)
    }

    /// A body longer than the server takes, in bytes.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("The request's body is longer than {limit} bytes or was cut short.");
        Self::new(413, "RequestEntityTooLarge", Value::Null, &message)
    }
}

/// What a request for an answer means.
#[derive(Debug)]
pub(super) struct Ask {
    pub prompt: Prompt,
    pub limits: Limits,
    pub stream: bool,
    pub usage: UsageIn,
    /// What it says of its KV.
    pub kv: Option<KvParams>,
    /// SGLang's name for the pair of legs.
    pub room: Option<u64>,
}

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    prompt: Option<PromptField>,
    messages: Option<Vec<Turn>>,
    /// An explicit null is no limit.
    #[serde(default, deserialize_with = "given")]
    max_tokens: Option<Option<i64>>,
    max_completion_tokens: Option<i64>,
    min_tokens: Option<i64>,
    ignore_eos: Option<bool>,
    stop: Option<OneOrMany>,
    include_stop_str_in_output: Option<bool>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<i64>,
    temperature: Option<f64>,
    echo: Option<bool>,
    logprobs: Option<Value>,
    prompt_logprobs: Option<Value>,
    kv_transfer_params: Option<KvParams>,
    bootstrap_room: Option<u64>,
}

/// Tells a null from what is absent.
fn given<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::deserialize(value).map(Some)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PromptField {
    Text(String),
    Ids(Vec<u32>),
    Texts(Vec<String>),
    IdLists(Vec<Vec<u32>>),
}

#[derive(Deserialize)]
struct Turn {
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Default, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
    continuous_usage_stats: Option<bool>,
}

/// Reads the body of a request to `endpoint`.
pub(super) fn parse(endpoint: Endpoint, bytes: &[u8], config: &Config) -> Result<Ask, Refusal> {
    let body: Body = from_json(bytes)?;
    body.check(config)?;
    let prompt = body.prompt(endpoint, config)?;
    let limits = body.limits(endpoint, &prompt, config)?;
    let stream = body.stream.unwrap_or(false);
    let (kv, room) = (body.kv_transfer_params.clone(), body.bootstrap_room);
    let usage = match body.stream_options.unwrap_or_default() {
        StreamOptions { include_usage: Some(true), continuous_usage_stats: Some(true) } => {
            UsageIn::EveryChunk
        }
        StreamOptions { include_usage: Some(true), .. } => UsageIn::LastChunk,
        _ => UsageIn::Nothing,
    };
    Ok(Ask { prompt, limits, stream, usage, kv, room })
}

/// The ids of what `/tokenize` is asked about.
pub(super) fn tokenize(bytes: &[u8], config: &Config) -> Result<Vec<u32>, Refusal> {
    let body: Body = from_json(bytes)?;
    body.check(config)?;
    match (&body.prompt, &body.messages) {
        (Some(PromptField::Text(text)), _) => Ok(token_ids(text).collect()),
        (_, Some(turns)) => Ok(token_ids(&join(turns)).collect()),
        _ => Err(Refusal::parameter("prompt", None, "prompt must be a text.")),
    }
}

fn from_json(bytes: &[u8]) -> Result<Body, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        let at = bytes.split(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
        let offset = at.map(|line| line.len() + 1).sum::<usize>() + error.column();
        let place = format!("body.{offset}");
        let message =
            format!("1 validation error:\n  {{'type': 'json_invalid', 'loc': '{place}', 'msg': '{error}'}}");
        Refusal::new(400, "Bad Request", place.into(), &message)
    })
}

impl Body {
    /// What needs no prompt to be refused.
    fn check(&self, config: &Config) -> Result<(), Refusal> {
        if let Some(model) = self.model.as_ref().filter(|model| **model != config.model) {
            let message = format!("The model `{model}` does not exist.");
            return Err(Refusal::new(404, "NotFoundError", "model".into(), &message));
        }
        if let Some(low) = self.temperature.filter(|temperature| *temperature < 0.0) {
            let message = format!("temperature must be non-negative, got {low:?}.");
            return Err(Refusal::parameter("temperature", Some(low.into()), &message));
        }
        if self.stream_options.is_some() && self.stream != Some(true) {
            let message = "Stream options can only be defined when `stream=True`.";
            return Err(Refusal::parameter("stream_options", None, message));
        }
        if let Some(n) = self.n.filter(|n| *n != 1) {
            let message = format!("The simulated cluster gives one choice: n must be 1, got {n}.");
            return Err(Refusal::parameter("n", Some(n.into()), &message));
        }
        let asked = |value: &Option<Value>| !matches!(value, None | Some(Value::Null | Value::Bool(false)));
        for (name, present) in [
            ("echo", self.echo == Some(true)),
            ("logprobs", asked(&self.logprobs)),
            ("prompt_logprobs", asked(&self.prompt_logprobs)),
        ] {
            if present {
                let message = format!("The simulated cluster does not give {name}.");
                return Err(Refusal::parameter(name, None, &message));
            }
        }
        Ok(())
    }

    fn prompt(&self, endpoint: Endpoint, config: &Config) -> Result<Prompt, Refusal> {
        let block = config.cost.block_tokens;
        let prompt = match (endpoint, &self.prompt, &self.messages) {
            (Endpoint::Chat, _, Some(turns)) => Prompt::from_text(&join(turns), block),
            (Endpoint::Chat, _, None) => {
                return Err(Refusal::parameter("messages", None, "messages must be provided."));
            }
            (Endpoint::Completions, Some(prompt), _) => match prompt {
                PromptField::Text(text) => Prompt::from_text(text, block),
                PromptField::Ids(ids) => Prompt::from_ids(ids.iter().copied(), block),
                PromptField::Texts(texts) => Prompt::from_text(only(texts)?, block),
                PromptField::IdLists(lists) => Prompt::from_ids(only(lists)?.iter().copied(), block),
            },
            (Endpoint::Completions, None, _) => Prompt::from_text("", block),
        };
        if prompt.tokens == 0 && endpoint == Endpoint::Completions {
            let message = "Either prompt or prompt_embeds must be provided and non-empty.";
            return Err(Refusal::parameter("prompt", None, message));
        }
        Ok(prompt)
    }

    fn limits(&self, endpoint: Endpoint, prompt: &Prompt, config: &Config) -> Result<Limits, Refusal> {
        let longest = config.cost.context_limit();
        let asked = match endpoint {
            Endpoint::Completions => self.max_tokens.unwrap_or(Some(16)),
            Endpoint::Chat => self.max_completion_tokens.or(self.max_tokens.flatten()),
        };
        let room = longest.saturating_sub(u64::from(prompt.tokens));
        let max_tokens = match asked {
            Some(tokens) => u64::try_from(tokens).ok().filter(|tokens| 0 < *tokens).ok_or_else(|| {
                let message = format!("max_tokens must be at least 1, got {tokens}.");
                Refusal::parameter("max_tokens", Some(tokens.into()), &message)
            })?,
            None => config.answer_tokens.min(room).max(1),
        };
        if longest < max_tokens {
            let message = format!(
                "max_tokens={max_tokens} cannot be greater than max_model_len=max_total_tokens={longest}. \
                 Please request fewer output tokens."
            );
            return Err(Refusal::parameter("max_tokens", Some(max_tokens.into()), &message));
        }
        if room < max_tokens {
            return Err(too_long(longest, max_tokens, u64::from(prompt.tokens)));
        }
        let min_tokens = self.min_tokens.unwrap_or(0);
        let min_tokens = u32::try_from(min_tokens).ok().filter(|min| u64::from(*min) <= max_tokens);
        let stop = match &self.stop {
            None => Vec::new(),
            Some(OneOrMany::One(text)) => vec![text.clone()],
            Some(OneOrMany::Many(texts)) => texts.clone(),
        };
        if stop.iter().any(String::is_empty) {
            return Err(Refusal::parameter("stop", None, "stop cannot contain an empty string."));
        }
        Ok(Limits {
            max_tokens: u32::try_from(max_tokens).unwrap_or(u32::MAX),
            ends_by_itself: asked.is_none() && max_tokens < room,
            min_tokens: min_tokens.ok_or_else(|| {
                let message = format!("min_tokens must be from 0 to max_tokens={max_tokens}.");
                Refusal::parameter("min_tokens", self.min_tokens.map(Value::from), &message)
            })?,
            eos_probability: if self.ignore_eos == Some(true) { 0.0 } else { config.eos_probability },
            stop,
            include_stop: self.include_stop_str_in_output == Some(true),
        })
    }
}

fn too_long(longest: u64, max_tokens: u64, prompt_tokens: u64) -> Refusal {
    let message = format!(
        "This model's maximum context length is {longest} tokens. However, you requested {max_tokens} output \
         tokens and your prompt contains {prompt_tokens} input tokens, for a total of {} tokens. Please reduce \
         the length of the input prompt or the number of requested output tokens.",
        prompt_tokens + max_tokens
    );
    Refusal::parameter("input_tokens", Some(prompt_tokens.into()), &message)
}

fn only<T>(list: &[T]) -> Result<&T, Refusal> {
    match list {
        [one] => Ok(one),
        _ => {
            let message = format!("The simulated cluster takes one prompt per request, got {}.", list.len());
            Err(Refusal::parameter("prompt", None, &message))
        }
    }
}

/// All text of a conversation, turns joined by line ends.
fn join(turns: &[Turn]) -> String {
    let texts = turns.iter().map(|turn| match &turn.content {
        None => String::new(),
        Some(Content::Text(text)) => text.clone(),
        Some(Content::Parts(parts)) => parts.iter().filter_map(|part| part.text.as_deref()).collect(),
    });
    texts.collect::<Vec<_>>().join("\n")
}
