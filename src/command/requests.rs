//! Turns requests into bytes on the wire, with their ids.

use crate::load::Prepared;
use crate::measure::PromptTokensSource;
use crate::wire::openai::{BodyOptions, head, request_body};
use crate::wire::{Endpoint, Target};
use crate::workload::{Prompt, Request, TokenCounter};

/// What all requests of a run are written with.
pub(super) struct Writing<'a> {
    pub(super) target: &'a Target,
    pub(super) endpoint: Endpoint,
    pub(super) path: &'a str,
    pub(super) options: BodyOptions,
    /// What ids begin with.
    pub(super) id_prefix: String,
    /// Where the lengths of prompts come from.
    pub(super) prompt_tokens_source: PromptTokensSource,
}

impl Writing<'_> {
    /// One request, ready to be written.
    pub(super) fn prepare(&self, request: &Request, id: &str) -> Prepared {
        let body = request_body(self.endpoint, request, &self.options);
        let body = serde_json::to_vec(&body).expect("a map of JSON values is JSON");
        let id = format!("{}{id}", self.id_prefix);
        Prepared {
            bytes: head(self.target, self.path, &id, &body),
            id,
            prompt_tokens: request.prompt_tokens,
            prompt_tokens_source: self.prompt_tokens_source,
            requested_tokens: request.output_tokens,
            ignore_eos: self.options.ignore_eos,
        }
    }

    /// The main load; consumes the requests one by one, so that no prompt is held twice for long.
    pub(super) fn prepare_all(&self, requests: Vec<Request>) -> Vec<Prepared> {
        requests.into_iter().enumerate().map(|(i, request)| self.prepare(&request, &i.to_string())).collect()
    }
}

/// A short prompt that no dataset has, so that it warms nothing the load would use.
pub(super) fn probe_request(run_id: &str, output_tokens: u32, counter: &TokenCounter) -> Request {
    let text = format!("In one short sentence, say that you are ready. (Check {run_id})");
    Request {
        prompt_tokens: count(&text, counter),
        prompt: Prompt::Text(text),
        output_tokens: output_tokens.clamp(1, 10),
    }
}

/// A prompt of the same length as `like` whose beginning no other prompt shares.
pub(super) fn warmup_request(run_id: &str, number: usize, like: &Request, counter: &TokenCounter) -> Request {
    if let Prompt::TokenIds(ids) = &like.prompt {
        let mut ids = ids.clone();
        ids.rotate_left((number + 1) % like.prompt_tokens.max(1) as usize);
        return Request { prompt: Prompt::TokenIds(ids), ..like.clone() };
    }
    let marker = format!("Warm-up {number} of {run_id}. ");
    let text: String = marker.chars().chain(like.prompt.text().chars()).collect();
    let mut end = like.prompt.text().len().max(marker.len()).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text[..end].to_owned();
    Request {
        prompt_tokens: count(&text, counter),
        prompt: Prompt::Text(text),
        output_tokens: like.output_tokens,
    }
}

/// Tokens of a text that no dataset has; a tokenizer that cannot take it is no reason to stop.
fn count(text: &str, counter: &TokenCounter) -> u32 {
    counter.count(text).unwrap_or_else(|_| TokenCounter::estimate(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warmup_is_as_long_as_its_model_and_begins_like_no_other() {
        let like = Request { prompt: Prompt::Text("é".repeat(300)), prompt_tokens: 150, output_tokens: 7 };
        let warmup = |number| warmup_request("run", number, &like, &TokenCounter::Estimate);
        let (first, second) = (warmup(1), warmup(2));
        assert!(first.prompt.text().len().abs_diff(600) <= 1 && first.output_tokens == 7);
        assert_ne!(first.prompt.text()[..16], second.prompt.text()[..16]);
    }
}
