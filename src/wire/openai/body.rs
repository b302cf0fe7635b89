use crate::wire::{Endpoint, Target};
use crate::workload::{Prompt, Request};
use serde_json::{Map, Value, json};

/// What all requests of a run have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct BodyOptions {
    /// Model name.
    pub model: String,
    /// Log probabilities per token, of completions.
    pub logprobs: Option<u32>,
    /// Tell the server to go on past the end-of-sequence token.
    pub ignore_eos: bool,
    /// The form of a chat's one message.
    pub chat_content: ChatContent,
    /// The chat field that carries the output length.
    pub chat_tokens_field: TokensField,
    /// Merged last, key by key.
    pub extra: Map<String, Value>,
}

/// The form of a chat's one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChatContent {
    /// Plain text: what several PD proxies take alone.
    #[default]
    Text,
    /// A list with one part of type `text`, as `vllm bench serve` sends.
    Parts,
}

/// The chat field that carries the output length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokensField {
    /// `max_tokens`: what PD proxies lower for the prefill leg.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`, as `vllm bench serve` sends.
    MaxCompletionTokens,
}

/// The JSON body of one streamed request: the keys of `vllm bench serve` in its order, so that a server sees no
/// difference but the two of the chat that the options tell.
pub fn request_body(endpoint: Endpoint, request: &Request, options: &BodyOptions) -> Map<String, Value> {
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| body.insert(key.to_owned(), value);
    put("model", json!(options.model));
    let tokens_field = match endpoint {
        Endpoint::Completions => {
            let prompt = match &request.prompt {
                Prompt::TokenIds(ids) => json!(ids),
                prompt => json!(prompt.text()),
            };
            put("prompt", prompt);
            put("repetition_penalty", json!(1.0));
            "max_tokens"
        }
        Endpoint::Chat => {
            put("messages", messages(&request.prompt, options.chat_content));
            match options.chat_tokens_field {
                TokensField::MaxTokens => "max_tokens",
                TokensField::MaxCompletionTokens => "max_completion_tokens",
            }
        }
    };
    put(tokens_field, json!(request.output_tokens));
    if endpoint == Endpoint::Completions {
        put("logprobs", json!(options.logprobs));
    }
    put("stream", json!(true));
    put("stream_options", json!({"include_usage": true}));
    if options.ignore_eos {
        put("ignore_eos", json!(true));
    }
    for (key, value) in &options.extra {
        put(key, value.clone());
    }
    body
}

fn messages(prompt: &Prompt, content: ChatContent) -> Value {
    match (prompt, content) {
        (Prompt::Messages(turns), _) => json!(turns),
        (prompt, ChatContent::Text) => json!([{"role": "user", "content": prompt.text()}]),
        (prompt, ChatContent::Parts) => {
            json!([{"role": "user", "content": [{"type": "text", "text": prompt.text()}]}])
        }
    }
}

/// Head and body of one POST, ready to be written.
pub fn head(target: &Target, path: &str, id: &str, body: &[u8]) -> Vec<u8> {
    head_with(target, path, id, &[], body)
}

/// The same with further headers.
pub fn head_with(
    target: &Target,
    path: &str,
    id: &str,
    further: &[(&'static str, String)],
    body: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 512);
    let mut line = |name: &str, value: &str| {
        for part in [name, ": ", value, "\r\n"] {
            bytes.extend_from_slice(part.as_bytes());
        }
    };
    line(&format!("POST {}{path} HTTP/1.1\r\nhost", target.request_base()), &target.authority());
    if let Some(authorization) = target.proxy_authorization() {
        line("proxy-authorization", authorization.expose());
    }
    line("content-type", "application/json");
    line("accept", "text/event-stream, application/json");
    line("accept-encoding", "identity");
    line("user-agent", concat!("pdbench/", env!("CARGO_PKG_VERSION")));
    line("x-request-id", id);
    if let Some(key) = target.api_key() {
        line("authorization", &format!("Bearer {}", key.expose()));
    }
    for (name, value) in target.headers() {
        line(name, value.expose());
    }
    for (name, value) in further {
        line(name, value);
    }
    line("content-length", &body.len().to_string());
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes.shrink_to_fit();
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> BodyOptions {
        BodyOptions {
            model: "m".into(),
            logprobs: None,
            ignore_eos: true,
            chat_content: ChatContent::Text,
            chat_tokens_field: TokensField::MaxTokens,
            extra: Map::from_iter([("temperature".into(), json!(0.0)), ("max_tokens".into(), json!(7))]),
        }
    }

    fn request() -> Request {
        Request { prompt: Prompt::Text("a \"b\"".into()), prompt_tokens: 2, output_tokens: 5 }
    }

    #[test]
    fn a_completion_asks_for_a_stream_with_usage() {
        let plain = BodyOptions { extra: Map::new(), ignore_eos: false, ..options() };
        assert_eq!(
            serde_json::to_string(&request_body(Endpoint::Completions, &request(), &plain)).unwrap(),
            concat!(
                r#"{"model":"m","prompt":"a \"b\"","repetition_penalty":1.0,"max_tokens":5,"logprobs":null,"#,
                r#""stream":true,"stream_options":{"include_usage":true}}"#
            )
        );
    }

    #[test]
    fn token_ids_are_sent_as_a_list() {
        let request = Request { prompt: Prompt::TokenIds(vec![7, 0, 9]), ..request() };
        assert_eq!(request_body(Endpoint::Completions, &request, &options())["prompt"], json!([7, 0, 9]));
    }

    #[test]
    fn extra_keys_are_merged_last() {
        let body = request_body(Endpoint::Completions, &request(), &options());
        assert_eq!((&body["max_tokens"], &body["ignore_eos"]), (&json!(7), &json!(true)));
    }

    #[test]
    fn a_chat_sends_plain_content_and_the_field_it_is_told() {
        let options = BodyOptions {
            extra: Map::new(),
            chat_tokens_field: TokensField::MaxCompletionTokens,
            ..options()
        };
        let body = request_body(Endpoint::Chat, &request(), &options);
        assert_eq!(body["messages"], json!([{"role": "user", "content": "a \"b\""}]));
        assert!(!body.contains_key("logprobs") && !body.contains_key("repetition_penalty"));
        assert_eq!((body.get("max_tokens"), &body["max_completion_tokens"]), (None, &json!(5)));
    }
}
