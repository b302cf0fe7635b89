use serde::{Deserialize, Serialize};

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// What a model is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Plain text: `prompt` of a completion, or the one user message of a chat.
    Text(String),
    /// A conversation.
    Messages(Vec<Message>),
    /// Ids of a model's tokens; for completions only.
    TokenIds(Vec<u32>),
}

/// One request to send: what, not when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What the model is asked.
    pub prompt: Prompt,
    /// Length of the prompt in tokens, by the workload's counter.
    pub prompt_tokens: u32,
    /// Output tokens asked for, at least 1.
    pub output_tokens: u32,
}

impl Prompt {
    /// All text of the prompt, turns joined by line ends: what an estimate of its length counts. Token ids
    /// are no text.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Prompt::Text(text) => text.into(),
            Prompt::TokenIds(_) => "".into(),
            Prompt::Messages(turns) => {
                let contents: Vec<&str> = turns.iter().map(|turn| turn.content.as_str()).collect();
                contents.join("\n").into()
            }
        }
    }
}
