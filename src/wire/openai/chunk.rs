use super::logprobs::{LikelyToken, Logprobs};
use memchr::memchr;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Token counts of one leg, as a server reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
    /// Prompt tokens that came from a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u32>,
}

/// What one event of a stream says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chunk<'a> {
    /// The part of the answer it carries.
    pub piece: Piece<'a>,
    /// Why the answer ended, where it says so.
    pub finish_reason: Option<Cow<'a, str>>,
    /// Token counts so far, or at the end.
    pub usage: Option<Usage>,
    /// Ids of its tokens were told: how many.
    pub token_ids: Option<u32>,
    /// The answer's id, as it stands in the JSON.
    pub id: Option<&'a str>,
    /// The server says that it failed.
    pub error: Option<ServerError>,
}

/// The part of an answer that an event carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Piece<'a> {
    /// No choice at all: usage alone, or an error.
    #[default]
    None,
    /// The role-only first delta of a chat.
    Role,
    /// A token event; its text may be empty.
    Token(Cow<'a, str>),
}

/// A server's error object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// What it says.
    pub message: String,
    /// Its code, as text, where there is one.
    pub code: Option<String>,
}

/// Data of an event that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChunk {
    /// Not UTF-8, from this byte of the data on.
    #[error("invalid UTF-8 at byte {0} of the event")]
    Utf8(usize),
    /// Not JSON, or JSON of no known shape.
    #[error("{0}")]
    Json(String),
}

/// Reads the events of one stream. Most of them differ in nothing but the text of one token: those are
/// told by comparing the bytes before and after it with the last parsed event's, without parsing JSON.
#[derive(Debug, Default)]
pub struct ChunkReader {
    /// Bytes before and after the text of the last plain token event, with [`FIELD`] and the [`BLANK`] line; empty
    /// until one was parsed.
    before: Vec<u8>,
    after: Vec<u8>,
}

/// What stands before the data of an event …
const FIELD: &[u8] = b"data: ";
/// … and after it.
const BLANK: &[u8] = b"\n\n";

/// A string that stays in the packet it came in. (`Option<Cow<str>>` alone would copy it.)
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct WireChunk<'a> {
    // Of any type: a server's odd id is no reason to lose its answer.
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<Vec<WireChoice<'a>>>,
    #[serde(default)]
    usage: Option<WireUsage>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireChoice<'a> {
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    delta: Option<WireMessage<'a>>,
    #[serde(borrow, default)]
    message: Option<WireMessage<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    token_ids: Option<&'a RawValue>,
    #[serde(default)]
    index: Option<u32>,
    #[serde(borrow, default)]
    logprobs: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireMessage<'a> {
    #[serde(borrow, default)]
    role: Option<Text<'a>>,
    #[serde(borrow, default)]
    content: Option<Text<'a>>,
    #[serde(borrow, default)]
    reasoning: Option<Text<'a>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Text<'a>>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: Option<u32>,
    #[serde(default)]
    completion_tokens: Option<u32>,
    #[serde(default)]
    prompt_tokens_details: Option<WireDetails>,
}

#[derive(Deserialize)]
struct WireDetails {
    #[serde(default)]
    cached_tokens: Option<u32>,
}

impl From<WireUsage> for Usage {
    fn from(usage: WireUsage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens.unwrap_or(0),
            completion_tokens: usage.completion_tokens.unwrap_or(0),
            cached_tokens: usage.prompt_tokens_details.and_then(|details| details.cached_tokens),
        }
    }
}

impl<'a> WireMessage<'a> {
    /// The delta's part of the answer. A role with no text beside it is no token.
    fn piece(self) -> Piece<'a> {
        let has_tool = self.tool_calls.is_some_and(|calls| !matches!(calls.get(), "null" | "[]"));
        let texts =
            [self.content, self.reasoning, self.reasoning_content].map(|text| text.map(|text| text.0));
        let told = has_tool || texts.iter().any(Option::is_some);
        let text = texts.into_iter().flatten().find(|text| !text.is_empty());
        match (text, has_tool, self.role) {
            (Some(text), _, _) => Piece::Token(text),
            (None, true, _) => Piece::Token(Cow::Borrowed("")),
            (None, false, Some(_)) => Piece::Role,
            (None, false, None) if told => Piece::Token(Cow::Borrowed("")),
            (None, false, None) => Piece::None,
        }
    }
}

impl ChunkReader {
    /// Reads the data of one event.
    ///
    /// # Errors
    /// When it is not UTF-8 or not a JSON object.
    pub fn read<'a>(&mut self, data: &'a [u8]) -> Result<Chunk<'a>, BadChunk> {
        if let Some(text) = self.plain_token(data) {
            return Ok(Chunk { piece: Piece::Token(Cow::Borrowed(text)), ..Chunk::default() });
        }
        let text = std::str::from_utf8(data).map_err(|error| BadChunk::Utf8(error.valid_up_to()))?;
        let chunk = parse(text)?;
        self.learn(data, &chunk);
        Ok(chunk)
    }

    /// The token's text, and the length of the whole event, if a stream's next bytes begin with a `data` line and a
    /// blank line that have the shape of the last plain event. Between two events only.
    pub fn plain_event<'a>(&self, bytes: &'a [u8]) -> Option<(&'a str, usize)> {
        if self.before.is_empty() {
            return None;
        }
        let rest = bytes.strip_prefix(self.before.as_slice())?;
        let text = plain_text(rest)?;
        rest[text.len()..].starts_with(&self.after).then(|| {
            let text_and_frame = self.before.len() + text.len() + self.after.len();
            (text, text_and_frame)
        })
    }

    /// The token's text if the data have the shape of the last plain event's.
    fn plain_token<'a>(&self, data: &'a [u8]) -> Option<&'a str> {
        let (before, after) = (self.before.get(FIELD.len()..)?, self.after.strip_suffix(BLANK)?);
        let rest = data.strip_prefix(before)?;
        let text = plain_text(rest)?;
        (&rest[text.len()..] == after).then_some(text)
    }

    /// Remembers the shape of an event that says nothing but one token's text.
    fn learn(&mut self, data: &[u8], chunk: &Chunk<'_>) {
        let Piece::Token(Cow::Borrowed(text)) = &chunk.piece else { return };
        let plain = chunk.finish_reason.is_none()
            && chunk.usage.is_none()
            && chunk.token_ids.is_none()
            && chunk.error.is_none()
            && memchr(b'\n', data).is_none();
        let start = (text.as_ptr() as usize).checked_sub(data.as_ptr() as usize);
        let Some(start) = start.filter(|&start| plain && !text.is_empty() && start <= data.len()) else {
            return;
        };
        self.before.clear();
        self.before.extend([FIELD, &data[..start]].into_iter().flatten());
        self.after.clear();
        self.after.extend([&data[start + text.len()..], BLANK].into_iter().flatten());
    }
}

/// The text in front of the next quote, if it stands for itself: without a backslash and control characters it is one
/// JSON string and cannot end the field early.
fn plain_text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\')?;
    if bytes[end] != b'"' {
        return None;
    }
    std::str::from_utf8(&bytes[..end]).ok()
}

/// Parses an object; serde alone would take a list for one.
fn parse_object(text: &str) -> Result<WireChunk<'_>, BadChunk> {
    if !text.trim_start().starts_with('{') {
        return Err(BadChunk::Json("not a JSON object".to_owned()));
    }
    serde_json::from_str(text).map_err(|error| BadChunk::Json(error.to_string()))
}

fn parse(text: &str) -> Result<Chunk<'_>, BadChunk> {
    let wire = parse_object(text)?;
    let error = server_error(&wire);
    let mut chunk = Chunk {
        id: wire.id.map(RawValue::get),
        usage: wire.usage.map(Usage::from),
        error,
        ..Chunk::default()
    };
    // Requests ask for one choice; of several, the first is the one that is timed.
    if let Some(choice) = wire.choices.and_then(|choices| choices.into_iter().next()) {
        chunk.finish_reason = choice.finish_reason.map(|reason| reason.0);
        chunk.token_ids = choice.token_ids.and_then(count_items);
        chunk.piece = match (choice.text, choice.delta) {
            (Some(text), _) => Piece::Token(text.0),
            (None, Some(delta)) => delta.piece(),
            (None, None) => Piece::None,
        };
    }
    Ok(chunk)
}

/// Items of a JSON list; `None` for anything else.
fn count_items(raw: &RawValue) -> Option<u32> {
    let items: Vec<serde::de::IgnoredAny> = serde_json::from_str(raw.get()).ok()?;
    u32::try_from(items.len()).ok()
}

/// The error that a chunk or body carries: `{"error": …}`, or an object of its own kind `error`.
fn server_error(wire: &WireChunk<'_>) -> Option<ServerError> {
    let plain = |raw: &RawValue| match serde_json::from_str::<Value>(raw.get()) {
        Ok(Value::Null) | Err(_) => None,
        Ok(Value::String(text)) => Some(text),
        Ok(other) => Some(other.to_string()),
    };
    if let Some(raw) = wire.error {
        return match serde_json::from_str::<Value>(raw.get()) {
            Ok(Value::Null) => None,
            Err(_) => Some(ServerError { message: raw.get().to_owned(), code: None }),
            Ok(Value::Object(fields)) => {
                let text = |key: &str| match fields.get(key) {
                    None | Some(Value::Null) => None,
                    Some(Value::String(text)) => Some(text.clone()),
                    Some(other) => Some(other.to_string()),
                };
                let message = text("message").unwrap_or_else(|| raw.get().to_owned());
                Some(ServerError { message, code: text("code").or_else(|| text("type")) })
            }
            Ok(Value::String(message)) => Some(ServerError { message, code: wire.code.and_then(plain) }),
            Ok(other) => Some(ServerError { message: other.to_string(), code: None }),
        };
    }
    wire.object.is_some_and(|kind| kind.get() == "\"error\"").then(|| ServerError {
        message: wire.message.and_then(plain).unwrap_or_else(|| "an error object without a message".into()),
        code: wire.code.and_then(plain),
    })
}

/// A whole answer that came as one JSON body instead of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A completion.
    Completion {
        /// One text, or one for each prompt, in their order.
        choices: Vec<Choice>,
        /// Token counts.
        usage: Option<Usage>,
    },
    /// An error object, or a body that means as much (`null`, nothing, a web page).
    Error(ServerError),
}

/// One text of a whole answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// It.
    pub text: String,
    /// Why it ended.
    pub finish_reason: Option<String>,
    /// Its tokens, and by how many nats each was likelier than the next best; where log probabilities were asked for.
    pub tokens: Vec<LikelyToken>,
}

impl WireChoice<'_> {
    fn whole(self) -> Choice {
        let tokens = self.logprobs.and_then(|raw| serde_json::from_str::<Logprobs>(raw.get()).ok());
        let content = self.message.and_then(|message| message.content);
        Choice {
            text: self.text.or(content).map_or_else(String::new, |text| text.0.into_owned()),
            finish_reason: self.finish_reason.map(|reason| reason.0.into_owned()),
            tokens: tokens.map(Logprobs::tokens).unwrap_or_default(),
        }
    }
}

/// Reads a body that held no event.
pub fn read_answer(body: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    let told = |message: String| Answer::Error(ServerError { message, code: None });
    if text.is_empty() {
        return told("an empty body".into());
    }
    let Ok(wire) = parse_object(text) else {
        return told(format!("expected an event stream, got `{}`", excerpt(text, 200)));
    };
    if let Some(error) = server_error(&wire) {
        return Answer::Error(error);
    }
    let usage = wire.usage.map(Usage::from);
    match wire.choices.filter(|choices| !choices.is_empty()) {
        Some(mut choices) => {
            choices.sort_by_key(|choice| choice.index);
            Answer::Completion { choices: choices.into_iter().map(WireChoice::whole).collect(), usage }
        }
        None => told(format!("expected an event stream, got `{}`", excerpt(text, 200))),
    }
}

/// The first `most` characters of a text, control characters escaped.
fn excerpt(text: &str, most: usize) -> String {
    text.chars().take(most).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
#[path = "chunk_tests.rs"]
mod tests;
