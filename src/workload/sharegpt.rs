use super::{DatasetError, Order, Oversample, Prompt, PythonRandom, Request, TokenCounter};
use serde_json::Value;
use std::num::NonZeroU32;

/// Prompts from recorded conversations: a JSON list in the form of ShareGPT. What
/// `vllm bench serve --dataset-name sharegpt` sends: the first turn of each conversation, asked for as many
/// tokens as the second turn has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGpt {
    /// How many prompts to make.
    pub num_prompts: usize,
    /// Seed of order and repetition, as `random.seed` takes it.
    pub seed: u32,
    /// Output tokens asked of each request; `None` for those of the recorded reply.
    pub output_len: Option<NonZeroU32>,
    /// In which order conversations are taken.
    pub order: Order,
    /// What happens where there are fewer conversations than prompts.
    pub oversample: Oversample,
}

/// vLLM's limits: fewer tokens in a prompt or a reply say nothing, …
const SHORTEST: u32 = 4;
/// … more in a prompt are left out, …
const LONGEST_PROMPT: u32 = 1024;
/// … as are more in both together.
const LONGEST: u32 = 2048;

const SHAPE: &str =
    r#"want a JSON list of {"conversations": [{"value": "a question"}, {"value": "a reply"}]}"#;

impl ShareGpt {
    /// The prompts made of the conversations of `text`.
    ///
    /// # Errors
    /// If the text is no such list, or none of its conversations is within the limits.
    pub fn requests(&self, text: &str, counter: &TokenCounter) -> Result<Vec<Request>, DatasetError> {
        let all: Vec<Value> = serde_json::from_str(text)
            .map_err(|error| DatasetError::whole(format!("not a JSON list: {error}"), SHAPE))?;
        let turns = |entry: &Value| entry["conversations"].as_array().map_or(0, Vec::len);
        let mut all: Vec<Value> = all.into_iter().filter(|entry| 2 <= turns(entry)).collect();
        if self.order == Order::Shuffled {
            PythonRandom::new(self.seed.into()).shuffle(&mut all);
        }
        let mut requests = Vec::new();
        for entry in &all {
            if self.num_prompts <= requests.len() {
                break;
            }
            requests.extend(self.request(entry, counter)?);
        }
        if requests.is_empty() {
            let what = format!(
                "no conversation has two turns of {SHORTEST} tokens, {LONGEST_PROMPT} at most in the first and \
                 {LONGEST} in both"
            );
            return Err(DatasetError::whole(what, SHAPE));
        }
        if self.oversample == Oversample::Repeat {
            let mut random = PythonRandom::new(self.seed.into());
            let missing = self.num_prompts.saturating_sub(requests.len());
            let again: Vec<Request> = (0..missing).map(|_| random.choice(&requests).clone()).collect();
            requests.extend(again);
        }
        Ok(requests)
    }

    /// The request of a conversation, if it is within the limits.
    fn request(&self, entry: &Value, counter: &TokenCounter) -> Result<Option<Request>, DatasetError> {
        let said = |turn: usize| {
            let value = entry["conversations"][turn]["value"].as_str();
            value.ok_or_else(|| DatasetError::whole("a turn without text in `value`", SHAPE))
        };
        let (prompt, reply) = (said(0)?, said(1)?);
        let prompt_tokens = counter.count(prompt)?;
        let reply_tokens = counter.count(reply)?;
        let output_tokens = self.output_len.map_or(reply_tokens, NonZeroU32::get);
        let fits = SHORTEST <= prompt_tokens
            && (self.output_len.is_some() || SHORTEST <= output_tokens)
            && prompt_tokens <= LONGEST_PROMPT
            && prompt_tokens.saturating_add(output_tokens) <= LONGEST;
        let prompt = Prompt::Text(prompt.to_owned());
        Ok(fits.then_some(Request { prompt, prompt_tokens, output_tokens }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::testing::{counter, made, vectors};

    fn sharegpt(num_prompts: usize) -> ShareGpt {
        let (order, oversample) = (Order::default(), Oversample::default());
        ShareGpt { num_prompts, seed: 0, output_len: None, order, oversample }
    }

    #[test]
    fn conversations_are_taken_as_vllm_takes_them() {
        let vectors = vectors();
        let text = serde_json::to_string(&vectors.conversations).unwrap();
        assert_eq!(vectors.sharegpt.len(), 8);
        for case in vectors.sharegpt {
            let sharegpt = ShareGpt {
                seed: case.seed,
                output_len: case.output_len.and_then(NonZeroU32::new),
                oversample: if case.oversample { Oversample::Repeat } else { Oversample::Never },
                ..sharegpt(case.num_prompts)
            };
            assert_eq!(made(&sharegpt.requests(&text, &counter()).unwrap()), case.made);
        }
    }

    #[test]
    fn a_list_of_something_else_is_refused_with_its_shape() {
        for text in ["{}", "[1]", "[]", r#"[{"conversations": [{"value": 1}, {"value": "b"}]}]"#] {
            let error = sharegpt(3).requests(text, &TokenCounter::Estimate).unwrap_err();
            assert_eq!(error.help(), SHAPE, "{error}");
        }
    }
}
