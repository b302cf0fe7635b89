//! One answer of two legs. The client sees each token once, one end, and one usage: the decode leg's.
//!
//! Where the decode leg makes the first token again, the prefill's stream is relayed without its `[DONE]`, its usage
//! and its finish reasons ("length" after one token is not the end), then the decode's stream without the role and the
//! first token event of every choice that the client has already. A token event that is left out and that ends its
//! choice is relayed with empty text, so that the end is told. From there on bytes pass unread.
//!
//! Where the decode leg goes on behind the first token, all of its events pass; their usage counts that token to the
//! prompt and is put right.
//!
//! With sampling the two legs draw the first token each for itself, and the text may then not read on. An event that
//! bears several tokens is taken for one: vLLM sends the first token alone at every stream interval.

use super::Dialect;
use super::events::{Events, data};
use super::shown::{Delta, show};
use crate::wire::sse::TooLarge;
use crate::wire::{Endpoint, Object};
use std::collections::BTreeSet;

/// Joins the two legs of one streamed answer, bytes in, bytes out.
#[derive(Debug)]
pub struct Joiner {
    endpoint: Endpoint,
    /// The decode leg goes on behind the first token, as a completion.
    continues: bool,
    events: Events,
    /// Choices whose first token the client has, and whose repetition is still to come.
    shown: BTreeSet<u64>,
    /// Nothing more is left out.
    passing: bool,
    /// The prefill leg has told of an error in its stream.
    failed: bool,
}

impl Joiner {
    /// For one answer; events may have up to `max_event` bytes.
    pub fn new(dialect: Dialect, endpoint: Endpoint, max_event: usize) -> Self {
        Self {
            endpoint,
            continues: dialect.continues_prefill(),
            events: Events::new(max_event),
            shown: BTreeSet::new(),
            passing: false,
            failed: false,
        }
    }

    /// Takes bytes of the prefill leg's stream and puts what the client may see of them into `out`.
    ///
    /// # Errors
    /// When an event is too large; the answer cannot be joined then.
    pub fn prefill(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), TooLarge> {
        while self.events.take(&mut bytes)? {
            self.relay_prefill(out);
        }
        Ok(())
    }

    /// The prefill leg's stream has ended. Called before [`Joiner::decode`].
    pub fn prefill_ended(&mut self, out: &mut Vec<u8>) {
        if self.events.end() {
            self.relay_prefill(out);
        }
    }

    /// Whether the prefill leg told of an error in its stream. The client has seen it, and a decode leg has no sense.
    pub fn prefill_failed(&self) -> bool {
        self.failed
    }

    /// Shows the first token of a prefill leg that answered in one piece.
    pub fn prefill_answer(&mut self, answer: &Object, out: &mut Vec<u8>) {
        for choice in choices(answer) {
            if let Some(delta) = Delta::of(&choice) {
                self.shown.insert(index(&choice));
                show(self.endpoint, answer, &choice, &delta, false, out);
            }
        }
    }

    /// Takes bytes of the decode leg's stream and puts what the client may see of them into `out`.
    ///
    /// # Errors
    /// When an event is too large; the answer cannot be joined then.
    pub fn decode(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), TooLarge> {
        while !self.passing && self.events.take(&mut bytes)? {
            self.relay_decode(out);
        }
        if self.passing {
            out.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Whether all that comes from now on is for the client, as it is.
    pub fn passes(&self) -> bool {
        self.passing
    }

    /// The decode leg's stream has ended.
    pub fn decode_ended(&mut self, out: &mut Vec<u8>) {
        if !self.passing && self.events.end() {
            self.relay_decode(out);
        }
    }

    fn relay_prefill(&mut self, out: &mut Vec<u8>) {
        let event = self.events.held();
        if data(event).is_some_and(|data| data.trim_ascii() == b"[DONE]") {
            return;
        }
        // What is no chunk is for the client to judge: a comment, an error.
        let Some(mut chunk) = read(event) else {
            let object = data(event).and_then(|data| Object::parse(&data).ok());
            self.failed |= object.is_some_and(|object| object.has("error"));
            return out.extend_from_slice(event);
        };
        let mut kept = Vec::new();
        let mut touched = false;
        for mut choice in choices(&chunk) {
            let has_token = has_token(&choice);
            if has_token {
                self.shown.insert(index(&choice));
            }
            if choice.has("finish_reason") {
                touched = true;
                for end in ["finish_reason", "stop_reason"] {
                    if choice.has(end) {
                        choice.set(end, None::<&str>);
                    }
                }
                if !has_token {
                    continue;
                }
            }
            kept.push(choice);
        }
        match (kept.is_empty(), touched) {
            // The prefill's usage, or its end alone.
            (true, _) => {}
            (false, false) => out.extend_from_slice(event),
            (false, true) => {
                chunk.set("choices", kept);
                put(&chunk, out);
            }
        }
    }

    fn relay_decode(&mut self, out: &mut Vec<u8>) {
        let event = self.events.held();
        self.passing = !self.continues && self.shown.is_empty();
        let chunk = if self.passing { None } else { read(event) };
        let Some(mut chunk) = chunk else { return out.extend_from_slice(event) };
        if self.continues {
            let changed = put_usage_right(&mut chunk) | (self.endpoint == Endpoint::Chat);
            if self.endpoint == Endpoint::Chat {
                as_chat_chunk(&mut chunk);
            }
            return if changed { put(&chunk, out) } else { out.extend_from_slice(event) };
        }
        let before = choices(&chunk);
        let after: Vec<_> = before.iter().filter_map(|choice| self.unseen(choice)).collect();
        if after.len() == before.len() && after.iter().all(|(_, touched)| !touched) {
            out.extend_from_slice(self.events.held());
        } else if !after.is_empty() {
            chunk.set("choices", after.into_iter().map(|(choice, _)| choice).collect::<Vec<_>>());
            put(&chunk, out);
        }
        self.passing = self.shown.is_empty();
    }

    /// What of a choice the client has not seen, and whether that is not all of it.
    fn unseen(&mut self, choice: &Object) -> Option<(Object, bool)> {
        let at = index(choice);
        if !self.shown.contains(&at) {
            return Some((choice.clone(), false));
        }
        let has_token = has_token(choice);
        if has_token {
            self.shown.remove(&at);
        }
        match (choice.has("finish_reason"), has_token) {
            // An end without a token before it: the legs differ, and the end is what the client lacks.
            (true, false) => {
                self.shown.remove(&at);
                Some((choice.clone(), false))
            }
            (true, true) => Some((without_token(choice), true)),
            (false, _) => None,
        }
    }
}

/// The chunk that an event bears, where it is one with choices or usage, and no error.
fn read(event: &[u8]) -> Option<Object> {
    let chunk = Object::parse(&data(event)?).ok()?;
    (!chunk.has("error") && (chunk.has("choices") || chunk.has("usage"))).then_some(chunk)
}

pub(super) fn choices(chunk: &Object) -> Vec<Object> {
    chunk.get("choices").unwrap_or_default()
}

pub(super) fn index(choice: &Object) -> u64 {
    choice.get("index").unwrap_or(0)
}

/// Whether a streamed choice bears a token: any text field, or any delta but the one that only tells the role.
fn has_token(choice: &Object) -> bool {
    let delta: Object = choice.get("delta").unwrap_or_default();
    let content = match delta.get::<String>("content") {
        Some(text) => !text.is_empty() || !delta.has("role"),
        None => delta.has("content"),
    };
    choice.has("text")
        || content
        || ["reasoning", "reasoning_content", "tool_calls"].iter().any(|key| delta.has(key))
}

fn without_token(choice: &Object) -> Object {
    let mut choice = choice.clone();
    if choice.has("text") {
        choice.set("text", "");
    }
    if choice.has("delta") {
        choice.set("delta", Object::default());
    }
    for key in ["logprobs", "token_ids"] {
        if choice.has(key) {
            choice.set(key, None::<&str>);
        }
    }
    choice
}

pub(super) fn put(chunk: &Object, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    // Values keep the bytes they came with, and a line end between them would end the event's line.
    out.extend(
        chunk.to_bytes().into_iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }),
    );
    out.extend_from_slice(b"\n\n");
}

/// Counts the first token to the answer rather than to the prompt; whether there was a usage.
pub(super) fn put_usage_right(chunk: &mut Object) -> bool {
    let Some(mut usage) = chunk.get::<Object>("usage") else { return false };
    for (key, change) in [("prompt_tokens", -1), ("completion_tokens", 1)] {
        if let Some(tokens) = usage.get::<i64>(key) {
            usage.set(key, tokens.saturating_add(change).max(0));
        }
    }
    chunk.set("usage", usage);
    true
}

/// A chunk of a completion as one of a chat.
fn as_chat_chunk(chunk: &mut Object) {
    let mut turned = choices(chunk);
    for choice in &mut turned {
        let mut delta = Object::default();
        if let Some(text) = choice.raw("text") {
            delta.set_raw("content", text.to_owned());
        }
        choice.remove("text");
        choice.set("delta", delta);
    }
    chunk.set("object", "chat.completion.chunk");
    chunk.set("choices", turned);
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
