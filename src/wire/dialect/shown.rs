//! An answer in one piece as a client sees it: as events of a stream, or with the other leg's text behind it.

use super::Asked;
use super::join::{choices, index, put, put_usage_right};
use crate::wire::{Endpoint, Object};
use serde_json::value::RawValue;

/// The whole stream of an answer that the prefill leg gave alone, in one piece.
pub fn shown_alone(asked: &Asked, answer: &Object) -> Vec<u8> {
    let mut out = Vec::new();
    for choice in choices(answer) {
        let nothing = || Delta { text: None, fields: Object::default() };
        let delta = Delta::of(&choice).unwrap_or_else(nothing);
        show(asked.endpoint, answer, &choice, &delta, true, &mut out);
    }
    let options: Option<Object> = asked.body.get("stream_options");
    if options.and_then(|options| options.get("include_usage")).unwrap_or(false) && answer.has("usage") {
        let mut chunk = chunk_like(asked.endpoint, answer);
        chunk.set("choices", [0; 0]);
        chunk.set("usage", answer.raw("usage"));
        put(&chunk, &mut out);
    }
    out.extend_from_slice(b"data: [DONE]\n\n");
    out
}

/// The answer in one piece to a client that wants no stream: the first token from the prefill leg and, where it was
/// not the last, what the decode leg made behind it.
pub fn whole_answer(asked: &Asked, prefill: &Object, decode: Option<&Object>) -> Vec<u8> {
    let mut answer = decode.unwrap_or(prefill).clone();
    answer.remove("kv_transfer_params");
    if decode.is_some() {
        put_usage_right(&mut answer);
    }
    let text = |answer: &Object| {
        choices(answer).first().and_then(|choice| choice.get::<String>("text")).unwrap_or_default()
    };
    let mut turned = choices(&answer);
    for choice in &mut turned {
        let whole = text(prefill) + &decode.map(text).unwrap_or_default();
        match asked.endpoint {
            Endpoint::Completions => choice.set("text", whole),
            Endpoint::Chat => {
                choice.remove("text");
                let mut message = Object::default();
                message.set("role", "assistant");
                message.set("content", whole);
                choice.set("message", message);
            }
        }
    }
    if asked.endpoint == Endpoint::Chat {
        answer.set("object", "chat.completion");
    }
    answer.set("choices", turned);
    answer.to_bytes()
}

/// The text of a choice of a whole answer, as the delta of a chat and as text.
pub(super) struct Delta {
    text: Option<Box<RawValue>>,
    fields: Object,
}

impl Delta {
    /// `None` where there is nothing to show.
    pub(super) fn of(choice: &Object) -> Option<Self> {
        if let Some(text) = choice.raw("text") {
            let mut fields = Object::default();
            fields.set_raw("content", text.to_owned());
            return Some(Self { text: Some(text.to_owned()), fields });
        }
        let message: Object = choice.get("message")?;
        let mut fields = Object::default();
        for key in ["content", "reasoning", "reasoning_content", "tool_calls"] {
            let value = message.raw(key).filter(|value| !["null", "\"\"", "[]"].contains(&value.get()));
            if let Some(value) = value {
                fields.set_raw(key, value.to_owned());
            }
        }
        let empty = fields.to_bytes() == b"{}";
        (!empty).then(|| Self { text: message.raw("content").map(ToOwned::to_owned), fields })
    }
}

/// Events that show a choice of a whole answer: of a chat first the role. With `ending` they tell its end too.
pub(super) fn show(
    endpoint: Endpoint,
    answer: &Object,
    choice: &Object,
    delta: &Delta,
    ending: bool,
    out: &mut Vec<u8>,
) {
    let empty = || serde_json::value::to_raw_value("").expect("a text is JSON");
    let mut emit = |key: &str, value: Box<RawValue>, ends: bool| {
        let mut shown = Object::default();
        shown.set("index", index(choice));
        shown.set_raw(key, value);
        let logprobs = choice.raw("logprobs").filter(|_| key == "text");
        shown.set("logprobs", logprobs);
        for end in ["finish_reason", "stop_reason"] {
            shown.set(end, choice.raw(end).filter(|_| ends));
        }
        let mut chunk = chunk_like(endpoint, answer);
        chunk.set("choices", [shown]);
        put(&chunk, out);
    };
    match endpoint {
        Endpoint::Completions => emit("text", delta.text.clone().unwrap_or_else(empty), ending),
        Endpoint::Chat => {
            let mut role = Object::default();
            role.set("role", "assistant");
            role.set("content", "");
            emit("delta", raw(&role), false);
            emit("delta", raw(&delta.fields), ending);
        }
    }
}

/// A chunk that belongs to an answer, without choices.
fn chunk_like(endpoint: Endpoint, answer: &Object) -> Object {
    let mut chunk = Object::default();
    let object = match endpoint {
        Endpoint::Completions => "text_completion",
        Endpoint::Chat => "chat.completion.chunk",
    };
    for key in ["id", "object", "created", "model"] {
        match (key, answer.raw(key)) {
            ("object", _) => chunk.set(key, object),
            (_, Some(value)) => chunk.set_raw(key, value.to_owned()),
            (_, None) => {}
        }
    }
    chunk
}

fn raw(object: &Object) -> Box<RawValue> {
    serde_json::value::to_raw_value(object).expect("an object of JSON values is JSON")
}
