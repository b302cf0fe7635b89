//! Turns requests into bytes on the wire, with their ids.

use super::dataset::Dataset;
use super::{Salt, ServePlan};
use crate::load::Prepared;
use crate::measure::PromptTokensSource;
use crate::wire::dialect::{Asked, Leg};
use crate::wire::openai::{BodyOptions, head, head_with, request_body};
use crate::wire::{Endpoint, Object, Target};
use crate::workload::{Ends, Prompt, Request, TokenCounter};

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

impl<'a> Writing<'a> {
    /// As a plan wants the requests to `target`.
    pub(super) fn of(
        plan: &'a ServePlan,
        target: &'a Target,
        model: &str,
        run_id: &str,
        dataset: &Dataset,
    ) -> Self {
        Self {
            target,
            endpoint: plan.endpoint,
            path: &plan.path,
            options: BodyOptions {
                model: model.to_owned(),
                logprobs: plan.logprobs,
                ignore_eos: plan.ignore_eos,
                chat_content: plan.chat_content,
                chat_tokens_field: plan.chat_tokens_field,
                extra: plan.extra_body.clone(),
            },
            id_prefix: plan.request_id_prefix.clone().unwrap_or_else(|| format!("{run_id}-")),
            prompt_tokens_source: dataset.prompt_tokens_source(),
        }
    }

    /// A request as the dialects take it.
    pub(super) fn asked(&self, request: &Request) -> Asked {
        let body = request_body(self.endpoint, request, &self.options);
        let body = serde_json::to_vec(&body).expect("a map of JSON values is JSON");
        let body = Object::parse(&body).expect("what was written as an object reads back as one");
        Asked { endpoint: self.endpoint, body, token_ids: None }
    }

    /// A request to a proxy, as a leg that nobody has changed.
    pub(super) fn plain_leg(&self, request: &Request, id: &str) -> Leg {
        let asked = self.asked(request);
        Leg {
            path: asked.endpoint.path(),
            request_id: format!("{}{id}", self.id_prefix),
            headers: Vec::new(),
            body: asked.body.to_bytes(),
        }
    }

    /// A leg of a request, ready to be written to an instance.
    pub(super) fn leg(&self, target: &Target, place: usize, leg: &Leg, request: &Request) -> Prepared {
        Prepared {
            bytes: head_with(target, leg.path, &leg.request_id, &leg.headers, &leg.body),
            id: leg.request_id.clone(),
            place,
            lead: None,
            prompt_tokens: request.prompt_tokens,
            prompt_tokens_source: self.prompt_tokens_source,
            requested_tokens: request.output_tokens,
            ignore_eos: self.options.ignore_eos,
            asking: None,
            attempt: 1,
        }
    }

    /// One request, ready to be written.
    pub(super) fn prepare(&self, request: &Request, id: &str) -> Prepared {
        let body = request_body(self.endpoint, request, &self.options);
        let body = serde_json::to_vec(&body).expect("a map of JSON values is JSON");
        let id = format!("{}{id}", self.id_prefix);
        Prepared {
            bytes: head(self.target, self.path, &id, &body),
            id,
            place: 0,
            lead: None,
            prompt_tokens: request.prompt_tokens,
            prompt_tokens_source: self.prompt_tokens_source,
            requested_tokens: request.output_tokens,
            ignore_eos: self.options.ignore_eos,
            asking: None,
            attempt: 1,
        }
    }

    /// The main load; consumes the requests one by one, so that no prompt is held twice for long.
    pub(super) fn prepare_all(&self, requests: Vec<Request>) -> Vec<Prepared> {
        requests.into_iter().enumerate().map(|(i, request)| self.prepare(&request, &i.to_string())).collect()
    }
}

/// What a salt puts in front of each prompt of the run.
pub(super) fn salt_text(salt: &Salt, run_id: &str) -> String {
    match salt {
        Salt::Text(text) => text.clone(),
        Salt::OfTheRun => format!("[{run_id}]"),
    }
}

/// Tokens that a salt adds to each prompt.
pub(super) fn salt_tokens(salt: Option<&str>, counter: &TokenCounter) -> u32 {
    salt.map_or(0, |text| count(&format!("{text} "), counter))
}

/// The requests with a salt and a blank in front of each prompt: of its first turn, in a conversation.
pub(super) fn salted(mut requests: Vec<Request>, salt: Option<&str>, counter: &TokenCounter) -> Vec<Request> {
    let Some(salt) = salt.map(|text| format!("{text} ")) else { return requests };
    let (tokens, ids) = (count(&salt, counter), token_ids(&salt, counter));
    for request in &mut requests {
        match &mut request.prompt {
            Prompt::TokenIds(prompt) => drop(prompt.splice(..0, ids.iter().copied())),
            Prompt::Text(text) => text.insert_str(0, &salt),
            Prompt::Messages(turns) => {
                if let Some(first) = turns.first_mut() {
                    first.content.insert_str(0, &salt);
                }
            }
        }
        request.prompt_tokens += tokens;
    }
    requests
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

/// A text's token ids, where there is a tokenizer to tell them.
fn token_ids(text: &str, counter: &TokenCounter) -> Vec<u32> {
    let tokenizer = counter.tokenizer();
    tokenizer.and_then(|tokenizer| tokenizer.encode(text, Ends::Bare).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Message;

    #[test]
    fn a_salt_stands_in_front_of_every_prompt() {
        let text = Request { prompt: Prompt::Text("one".to_owned()), prompt_tokens: 1, output_tokens: 7 };
        let turn = |content: &str| Message { role: "user".to_owned(), content: content.to_owned() };
        let turns = Prompt::Messages(vec![turn("two"), turn("three")]);
        let requests = vec![text.clone(), Request { prompt: turns, ..text }];
        assert_eq!(salted(requests.clone(), None, &TokenCounter::Estimate), requests);
        let made = salted(requests, Some(&salt_text(&Salt::OfTheRun, "id")), &TokenCounter::Estimate);
        assert_eq!((made[0].prompt.text().as_ref(), made[0].prompt_tokens), ("[id] one", 3));
        assert_eq!(made[1].prompt.text(), "[id] two\nthree");
    }

    #[test]
    fn a_warmup_is_as_long_as_its_model_and_begins_like_no_other() {
        let like = Request { prompt: Prompt::Text("é".repeat(300)), prompt_tokens: 150, output_tokens: 7 };
        let warmup = |number| warmup_request("run", number, &like, &TokenCounter::Estimate);
        let (first, second) = (warmup(1), warmup(2));
        assert!(first.prompt.text().len().abs_diff(600) <= 1 && first.output_tokens == 7);
        assert_ne!(first.prompt.text()[..16], second.prompt.text()[..16]);
    }
}
