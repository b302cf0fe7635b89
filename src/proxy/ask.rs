//! What a client's request asks for, as far as a proxy has to know. Pure.

use super::route::Job;
use crate::wire::dialect::Asked;
use crate::wire::{Endpoint, Object};
use memchr::memchr_iter;

/// Bytes that count as one token where nobody has counted better.
const BYTES_PER_TOKEN: u64 = 4;
/// What vLLM makes of a completion that does not say how long it may be.
const DEFAULT_MAX_TOKENS: u64 = 16;

/// Reads a request.
///
/// # Errors
/// When its body is no JSON object: the words for the client.
pub(super) fn read(endpoint: Endpoint, body: &[u8]) -> Result<Asked, String> {
    let body = Object::parse(body).map_err(|error| format!("the body is not a JSON object: {error}"))?;
    Ok(Asked { endpoint, body, token_ids: None })
}

/// How much work it is, by estimate.
pub(super) fn job(asked: &Asked, body_bytes: usize) -> Job {
    let key = match asked.endpoint {
        Endpoint::Completions => "prompt",
        Endpoint::Chat => "messages",
    };
    let told = |key| asked.body.get::<u64>(key);
    let max_tokens = told("max_completion_tokens").or_else(|| told("max_tokens"));
    Job {
        prompt_tokens: asked.body.raw(key).map_or(0, |prompt| prompt_tokens(prompt.get())),
        max_tokens: max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
        body_bytes: body_bytes as u64,
    }
}

/// Tokens of a prompt: a list of ids is counted, anything else estimated.
fn prompt_tokens(json: &str) -> u64 {
    let inside = json.trim_start().strip_prefix('[').map(str::trim_start);
    if inside.is_some_and(|inside| inside.starts_with(|first: char| first.is_ascii_digit())) {
        return memchr_iter(b',', json.as_bytes()).count() as u64 + 1;
    }
    json.len() as u64 / BYTES_PER_TOKEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_weighs_its_ids_or_a_quarter_of_its_bytes() {
        for (endpoint, body, prompt, max) in [
            (Endpoint::Completions, r#"{"prompt": [ 1, 2,3], "max_tokens": 7}"#, 3, 7),
            (Endpoint::Completions, r#"{"prompt":"12345678901234"}"#, 4, 16),
            (Endpoint::Completions, r#"{"prompt":[]}"#, 0, 16),
            (Endpoint::Chat, r#"{"messages":[{"content":"1,2,3,4"}],"max_completion_tokens":9}"#, 5, 9),
            (Endpoint::Chat, r#"{}"#, 0, 16),
        ] {
            let asked = read(endpoint, body.as_bytes()).unwrap();
            let job = job(&asked, body.len());
            assert_eq!((job.prompt_tokens, job.max_tokens), (prompt, max), "{body}");
            assert_eq!(job.body_bytes, body.len() as u64);
        }
    }

    #[test]
    fn what_is_no_object_is_refused_in_words() {
        for body in ["", "null", "[1]", "{"] {
            let error = read(Endpoint::Chat, body.as_bytes()).unwrap_err();
            assert!(error.starts_with("the body is not a JSON object"), "{error}");
        }
    }
}
