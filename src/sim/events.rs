//! Responses as bytes, in the shapes of vLLM 0.30: the events of a stream share a beginning and an end
//! that are made once per request. Pure.

use super::answer::{Answer, Finish};
use crate::wire::Endpoint;
use bytes::Bytes;
use serde_json::{Value, json};

/// Where a stream tells usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsageIn {
    /// Nowhere.
    Nothing,
    /// In a chunk of its own before `[DONE]`.
    LastChunk,
    /// In every chunk, and in one of its own.
    EveryChunk,
}

/// Tokens of a request, as responses tell them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
    pub completion_tokens: u32,
}

/// What the bytes of one response have in common.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    endpoint: Endpoint,
    usage: UsageIn,
    /// `"id":…,"object":…,"created":…,"model":…` of a chunk.
    head: String,
    /// Everything before a token event's text, `data: ` included.
    prefix: String,
}

const TOKEN_END: &str = "\",\"logprobs\":null,\"finish_reason\":null,\"stop_reason\":null,\"prompt_token_ids\":null,\"token_ids\":null}]";
const CHAT_TOKEN_END: &str = "\"},\"logprobs\":null,\"finish_reason\":null,\"token_ids\":null}]";

/// What the id of a response begins with.
fn id_prefix(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Completions => "cmpl-",
        Endpoint::Chat => "chatcmpl-",
    }
}

impl Shape {
    /// The shape of a response to request `id`, created at `created` (seconds since 1970).
    pub fn new(endpoint: Endpoint, usage: UsageIn, id: &str, created: u64, model: &str) -> Self {
        let (object, text) = match endpoint {
            Endpoint::Completions => ("text_completion", "\"index\":0,\"text\":\""),
            Endpoint::Chat => ("chat.completion.chunk", "\"index\":0,\"delta\":{\"content\":\""),
        };
        let id = quoted(&format!("{}{id}", id_prefix(endpoint)));
        let model = quoted(model);
        let head = format!("\"id\":{id},\"object\":\"{object}\",\"created\":{created},\"model\":{model}");
        let prefix = format!("data: {{{head},\"choices\":[{{{text}");
        Self { endpoint, usage, head, prefix }
    }

    /// The chunk that comes before the first token, for a chat: its role alone.
    pub fn role(&self, usage: Usage) -> Option<Bytes> {
        (self.endpoint == Endpoint::Chat).then(|| {
            let mut event = format!(
                "data: {{{},\"choices\":[{{\"index\":0,\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}},\
                 \"logprobs\":null,\"finish_reason\":null}}]",
                self.head
            );
            self.push_usage(&mut event, usage);
            event.push_str(",\"prompt_token_ids\":null,\"prompt_text\":null}\n\n");
            event.into()
        })
    }

    /// The event of one token, with its text and, where they were asked for, its `logprobs`; `finish` for the last
    /// one.
    pub fn token(
        &self,
        piece: &str,
        logprobs: Option<&Value>,
        finish: Option<&Finish>,
        usage: Usage,
    ) -> Bytes {
        let mut event = String::with_capacity(self.prefix.len() + piece.len() + 192);
        event.push_str(&self.prefix);
        match piece.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
            false => event.push_str(piece), // as the words are: nothing to escape
            true => event.push_str(unquoted(&quoted(piece))),
        }
        match (finish, self.endpoint, logprobs) {
            (None, Endpoint::Completions, None) => event.push_str(TOKEN_END),
            (None, Endpoint::Chat, None) => event.push_str(CHAT_TOKEN_END),
            (finish, endpoint, logprobs) => event.push_str(&token_end(finish, endpoint, logprobs)),
        }
        self.push_usage(&mut event, usage);
        event.push_str("}\n\n");
        event.into()
    }

    /// The chunk without choices that tells usage, if the request asked for it.
    pub fn usage(&self, usage: Usage) -> Option<Bytes> {
        (self.usage != UsageIn::Nothing).then(|| {
            let (head, usage) = (&self.head, usage_text(usage));
            let print = fingerprint();
            format!(
                "data: {{{head},\"choices\":[],\"usage\":{usage},\"system_fingerprint\":\"{print}\"}}\n\n"
            )
            .into()
        })
    }

    /// The last event.
    pub fn done() -> Bytes {
        Bytes::from_static(b"data: [DONE]\n\n")
    }

    /// An error inside a stream whose head said 200.
    pub fn error(error: &str) -> Bytes {
        format!("data: {error}\n\n").into()
    }

    fn push_usage(&self, event: &mut String, usage: Usage) {
        if self.usage == UsageIn::EveryChunk {
            event.push_str(",\"usage\":");
            event.push_str(&usage_text(usage));
        }
    }
}

/// One choice of an answer that is not streamed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'a> {
    pub answer: &'a Answer,
    pub logprobs: Option<&'a Value>,
}

/// The body of an answer that is not streamed; `kv_transfer_params` is what the other leg will be told.
pub(super) fn whole(
    endpoint: Endpoint,
    id: &str,
    (created, model): (u64, &str),
    choices: &[Choice<'_>],
    usage: Usage,
    kv_transfer_params: Option<Value>,
) -> Bytes {
    let id = format!("{}{id}", id_prefix(endpoint));
    let details = match usage.cached_tokens {
        0 => Value::Null,
        cached => json!({ "cached_tokens": cached }),
    };
    let usage = json!({
        "prompt_tokens": usage.prompt_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "completion_tokens": usage.completion_tokens,
        "prompt_tokens_details": details,
        "completion_tokens_details": null,
    });
    let choices: Value =
        choices.iter().enumerate().map(|(index, choice)| choice.told(endpoint, index)).collect();
    let body = match endpoint {
        Endpoint::Completions => json!({
            "id": id, "object": "text_completion", "created": created, "model": model, "choices": choices,
            "service_tier": null, "system_fingerprint": fingerprint(), "usage": usage,
            "kv_transfer_params": kv_transfer_params, "ec_transfer_params": null, "metrics": null,
        }),
        Endpoint::Chat => json!({
            "id": id, "object": "chat.completion", "created": created, "model": model, "choices": choices,
            "service_tier": null, "system_fingerprint": fingerprint(), "usage": usage,
            "prompt_logprobs": null, "prompt_token_ids": null, "kv_transfer_params": kv_transfer_params,
        }),
    };
    body.to_string().into()
}

impl Choice<'_> {
    fn told(&self, endpoint: Endpoint, index: usize) -> Value {
        let Self { answer, logprobs } = self;
        let (reason, stop) = (answer.finish.reason(), stop_reason(&answer.finish));
        match endpoint {
            Endpoint::Completions => json!({
                "index": index, "text": answer.text(), "logprobs": logprobs, "finish_reason": reason,
                "stop_reason": stop, "token_ids": null, "prompt_logprobs": null,
                "prompt_token_ids": null, "routed_experts": null,
            }),
            Endpoint::Chat => json!({
                "index": index,
                "message": {
                    "role": "assistant", "content": answer.text(), "refusal": null, "annotations": null,
                    "audio": null, "function_call": null, "tool_calls": [], "reasoning": null,
                },
                "logprobs": logprobs, "finish_reason": reason, "stop_reason": stop, "token_ids": null,
            }),
        }
    }
}

/// How the cluster names itself.
pub(super) fn fingerprint() -> &'static str {
    concat!("pdbench-sim-", env!("CARGO_PKG_VERSION"))
}

fn usage_text(usage: Usage) -> String {
    let Usage { prompt_tokens, cached_tokens, completion_tokens } = usage;
    let details = match cached_tokens {
        0 => String::new(),
        cached => format!(",\"prompt_tokens_details\":{{\"cached_tokens\":{cached}}}"),
    };
    let total = prompt_tokens + completion_tokens;
    format!(
        "{{\"prompt_tokens\":{prompt_tokens},\"total_tokens\":{total},\"completion_tokens\":{completion_tokens}{details}}}"
    )
}

fn token_end(finish: Option<&Finish>, endpoint: Endpoint, logprobs: Option<&Value>) -> String {
    let reason = finish.map_or(Value::Null, |finish| finish.reason().into());
    let stop = finish.map_or(Value::Null, stop_reason);
    let logprobs = logprobs.unwrap_or(&Value::Null);
    match (endpoint, finish) {
        (Endpoint::Completions, _) => format!(
            "\",\"logprobs\":{logprobs},\"finish_reason\":{reason},\"stop_reason\":{stop},\
             \"prompt_token_ids\":null,\"token_ids\":null}}]"
        ),
        (Endpoint::Chat, Some(_)) => format!(
            "\"}},\"logprobs\":{logprobs},\"finish_reason\":{reason},\"stop_reason\":{stop},\"token_ids\":null}}]"
        ),
        (Endpoint::Chat, None) => {
            format!("\"}},\"logprobs\":{logprobs},\"finish_reason\":null,\"token_ids\":null}}]")
        }
    }
}

fn stop_reason(finish: &Finish) -> Value {
    match finish {
        Finish::Stop(text) => text.as_str().into(),
        Finish::Length | Finish::End => Value::Null,
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}
