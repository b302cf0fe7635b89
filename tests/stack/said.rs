//! What is asked, and what an answer comes to, streamed or not.

use crate::client::Answer;
use pdbench::wire::Endpoint;
use serde_json::{Value, json};

/// A request of a test.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub endpoint: Endpoint,
    pub stream: bool,
    /// Which prompt: no two have a beginning in common.
    pub number: usize,
    pub prompt_tokens: usize,
    pub output_tokens: usize,
}

/// An answer without what differs from server to server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub status: u16,
    /// It ended as its framing says.
    pub whole: bool,
    /// The text of each token event.
    pub pieces: Vec<String>,
    pub finish: Option<String>,
    /// Prompt, completion and total tokens, for each usage that was said.
    pub usage: Vec<[u64; 3]>,
    /// Chunks that say nothing but who speaks.
    pub roles: usize,
    pub done: usize,
    /// Error objects.
    pub errors: usize,
    /// Different ids of its events.
    pub ids: usize,
}

impl Ask {
    /// Every kind of request, `each` of each kind, with prompts of about `prompt_tokens`.
    pub fn all_kinds(each: usize, prompt_tokens: usize) -> Vec<Self> {
        let mut asks = Vec::new();
        for endpoint in [Endpoint::Completions, Endpoint::Chat] {
            for stream in [true, false] {
                for _ in 0..each {
                    let number = asks.len();
                    // Neither block for block, nor all as long.
                    let (prompt_tokens, output_tokens) = (prompt_tokens + 7 * number, 9 + number);
                    asks.push(Self { endpoint, stream, number, prompt_tokens, output_tokens });
                }
            }
        }
        asks
    }

    pub fn streamed(number: usize, prompt_tokens: usize, output_tokens: usize) -> Self {
        Self { endpoint: Endpoint::Completions, stream: true, number, prompt_tokens, output_tokens }
    }

    pub fn path(&self) -> &'static str {
        self.endpoint.path()
    }

    pub fn body(&self) -> Value {
        let text: String =
            (0..self.prompt_tokens).map(|at| format!("{:03} ", (at + 101 * self.number) % 997)).collect();
        let mut body = json!({ "model": "simulated", "ignore_eos": true, "stream": self.stream });
        match self.endpoint {
            Endpoint::Completions => {
                body["prompt"] = text.into();
                body["max_tokens"] = self.output_tokens.into();
            }
            Endpoint::Chat => {
                body["messages"] = json!([{ "role": "user", "content": text }]);
                body["max_completion_tokens"] = self.output_tokens.into();
            }
        }
        if self.stream {
            body["stream_options"] = json!({ "include_usage": true });
        }
        body
    }
}

impl Said {
    pub fn of(answer: &Answer) -> Self {
        let mut said = Self { status: answer.status, whole: answer.whole, ..Self::default() };
        let mut ids = Vec::new();
        match answer.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
            false => said.event(&serde_json::from_str(&answer.text).unwrap_or(Value::Null), &mut ids),
            true => {
                for event in answer.text.split_terminator("\n\n") {
                    match event.strip_prefix("data: ").unwrap_or_else(|| panic!("{event:?}")) {
                        "[DONE]" => said.done += 1,
                        data => said.event(&serde_json::from_str(data).unwrap(), &mut ids),
                    }
                }
            }
        }
        ids.sort_unstable();
        ids.dedup();
        said.ids = ids.len();
        said
    }

    fn event(&mut self, event: &Value, ids: &mut Vec<String>) {
        self.errors += usize::from(event.get("error").is_some());
        ids.extend(event["id"].as_str().map(str::to_owned));
        if let Some(choice) = event["choices"].get(0) {
            let chat = choice.get("delta").or_else(|| choice.get("message"));
            let text = chat.map_or_else(|| choice.get("text"), |chat| chat.get("content"));
            let text = text.and_then(Value::as_str).unwrap_or_default();
            let role_alone = choice["delta"].get("role").is_some() && text.is_empty();
            self.roles += usize::from(role_alone);
            if !role_alone {
                self.pieces.push(text.to_owned());
            }
            if let Some(reason) = choice["finish_reason"].as_str() {
                self.finish = Some(reason.to_owned());
            }
        }
        if event["usage"].is_object() {
            let count = |key: &str| event["usage"][key].as_u64().unwrap();
            self.usage.push([count("prompt_tokens"), count("completion_tokens"), count("total_tokens")]);
        }
    }

    pub fn text(&self) -> String {
        self.pieces.concat()
    }
}
