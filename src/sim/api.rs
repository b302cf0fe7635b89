//! Request bodies: what vLLM's OpenAI API takes, checked in its order and refused in its words. Pure.
//! Deliberately absent: what the simulated model cannot give (echo, several choices for a prompt) is refused, never
//! ignored; sampling parameters are ignored.

use super::Config;
use super::answer::Limits;
use super::events::UsageIn;
use super::handoff::KvParams;
use super::known::{Asked, Known};
use super::likelihood;
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
    /// At least one, each with what its answer may be.
    pub prompts: Vec<(Prompt, Limits)>,
    pub stream: bool,
    pub usage: UsageIn,
    /// How many of the likeliest tokens are told.
    pub logprobs: Option<usize>,
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
    top_logprobs: Option<i64>,
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
    role: Option<String>,
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

/// Most prompts of one request. Assumed; no source.
const MOST_PROMPTS: usize = 4096;

/// Reads the body of a request to `endpoint`.
pub(super) fn parse(endpoint: Endpoint, bytes: &[u8], config: &Config) -> Result<Ask, Refusal> {
    let body: Body = from_json(bytes)?;
    body.check(config)?;
    let logprobs = body.top_logprobs(endpoint)?;
    let stream = body.stream.unwrap_or(false);
    let prompts = body.prompts(endpoint, config)?;
    if stream && prompts.len() != 1 {
        let message = format!("The simulated cluster streams one prompt per request, got {}.", prompts.len());
        return Err(Refusal::parameter("prompt", None, &message));
    }
    let limited = |prompt| body.limits(endpoint, &prompt, config).map(|limits| (prompt, limits));
    let prompts = prompts.into_iter().map(limited).collect::<Result<_, _>>()?;
    let (kv, room) = (body.kv_transfer_params.clone(), body.bootstrap_room);
    let usage = match body.stream_options.unwrap_or_default() {
        StreamOptions { include_usage: Some(true), continuous_usage_stats: Some(true) } => {
            UsageIn::EveryChunk
        }
        StreamOptions { include_usage: Some(true), .. } => UsageIn::LastChunk,
        _ => UsageIn::Nothing,
    };
    Ok(Ask { prompts, stream, usage, logprobs, kv, room })
}

/// The ids of what `/tokenize` is asked about, and the prompt that they are.
pub(super) fn tokenize(bytes: &[u8], config: &Config) -> Result<(Vec<u32>, Prompt), Refusal> {
    let body: Body = from_json(bytes)?;
    body.check(config)?;
    match (&body.prompt, &body.messages) {
        (Some(PromptField::Text(text)), _) => Ok((token_ids(text).collect(), from_text(text, config))),
        (_, Some(turns)) => Ok((token_ids(&join(turns)).collect(), from_turns(turns, config))),
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
        for (name, present) in
            [("echo", self.echo == Some(true)), ("prompt_logprobs", asked(&self.prompt_logprobs))]
        {
            if present {
                let message = format!("The simulated cluster does not give {name}.");
                return Err(Refusal::parameter(name, None, &message));
            }
        }
        Ok(())
    }

    /// How many of the likeliest tokens are asked for.
    fn top_logprobs(&self, endpoint: Endpoint) -> Result<Option<usize>, Refusal> {
        let none = matches!(self.logprobs, None | Some(Value::Null | Value::Bool(false)));
        let (name, top) = match (endpoint, none) {
            (Endpoint::Completions, true) => return Ok(None),
            (Endpoint::Completions, false) => ("logprobs", self.logprobs.as_ref().and_then(Value::as_i64)),
            (Endpoint::Chat, true) if self.top_logprobs.is_none_or(|top| top == 0) => return Ok(None),
            (Endpoint::Chat, true) => {
                let message = "when using `top_logprobs`, `logprobs` must be set to true.";
                return Err(Refusal::parameter("top_logprobs", None, message));
            }
            (Endpoint::Chat, false) => ("top_logprobs", Some(self.top_logprobs.unwrap_or(0))),
        };
        let most = likelihood::MOST;
        let top = top.and_then(|top| usize::try_from(top).ok()).filter(|top| *top <= most);
        top.map(Some).ok_or_else(|| {
            let message = format!("{name} must be a whole number from 0 to {most}.");
            Refusal::parameter(name, None, &message)
        })
    }

    fn prompts(&self, endpoint: Endpoint, config: &Config) -> Result<Vec<Prompt>, Refusal> {
        let (text, ids) = (
            |text: &String| from_text(text, config),
            |ids: &Vec<u32>| Prompt::from_ids(ids.iter().copied(), config.cost.block_tokens),
        );
        let prompts = match (endpoint, &self.prompt, &self.messages) {
            (Endpoint::Chat, _, Some(turns)) => return Ok(vec![from_turns(turns, config)]),
            (Endpoint::Chat, _, None) => {
                return Err(Refusal::parameter("messages", None, "messages must be provided."));
            }
            (Endpoint::Completions, None, _) => Vec::new(),
            (Endpoint::Completions, Some(prompt), _) => match prompt {
                PromptField::Text(one) => vec![text(one)],
                PromptField::Ids(one) => vec![ids(one)],
                PromptField::Texts(all) => all.iter().map(text).collect(),
                PromptField::IdLists(all) => all.iter().map(ids).collect(),
            },
        };
        if prompts.is_empty() || prompts.iter().any(|prompt| prompt.tokens == 0) {
            let message = "Either prompt or prompt_embeds must be provided and non-empty.";
            return Err(Refusal::parameter("prompt", None, message));
        }
        if MOST_PROMPTS < prompts.len() {
            let (count, most) = (prompts.len(), MOST_PROMPTS);
            let message = format!("The simulated cluster takes {most} prompts per request, got {count}.");
            return Err(Refusal::parameter("prompt", None, &message));
        }
        Ok(prompts)
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
            room: u32::try_from(room).unwrap_or(u32::MAX),
            min_tokens: min_tokens.ok_or_else(|| {
                let message = format!("min_tokens must be from 0 to max_tokens={max_tokens}.");
                Refusal::parameter("min_tokens", self.min_tokens.map(Value::from), &message)
            })?,
            ignore_eos: self.ignore_eos == Some(true),
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

/// A prompt that is a text.
fn from_text(text: &str, config: &Config) -> Prompt {
    let known = Known::of(text, Asked::BehindMarker, config.book.as_deref());
    Prompt { known, ..Prompt::from_text(text, config.cost.block_tokens) }
}

/// A prompt that is a conversation: what the user said last is what it asks.
fn from_turns(turns: &[Turn], config: &Config) -> Prompt {
    let last = turns.iter().rev().find(|turn| turn.role.as_deref().is_none_or(|role| role == "user"));
    let known = last.and_then(|turn| Known::of(&turn.text(), Asked::Whole, config.book.as_deref()));
    Prompt { known, ..Prompt::from_text(&join(turns), config.cost.block_tokens) }
}

/// All text of a conversation, turns joined by line ends.
fn join(turns: &[Turn]) -> String {
    turns.iter().map(Turn::text).collect::<Vec<_>>().join("\n")
}

impl Turn {
    fn text(&self) -> String {
        match &self.content {
            None => String::new(),
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => parts.iter().filter_map(|part| part.text.as_deref()).collect(),
        }
    }
}
