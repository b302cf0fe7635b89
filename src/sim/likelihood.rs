//! How likely each token of an answer was, and what else was: made up, but the same each time, and with the sum of
//! all below one. The likeliest token is always the one that was said; mostly by far, at every eighth place or so
//! hardly more than the next. Pure.

use super::answer::follow;
use super::prompt::{mix, uniform, word};
use crate::wire::Endpoint;
use serde_json::{Map, Value, json};

/// Most other tokens that can be asked for, as with vLLM's `max_logprobs`.
pub(super) const MOST: usize = 20;

/// Follows an answer token by token.
#[derive(Clone, Debug)]
pub(super) struct Likelihood {
    endpoint: Endpoint,
    seed: u64,
    /// Likeliest tokens that are told.
    top: usize,
    /// What the next token follows from.
    state: u64,
    /// Characters so far.
    offset: usize,
}

const MARGIN: u64 = u64::from_be_bytes(*b"margin  "); // another draw than the words'
/// e^-margin times this, and one, is the sum of all: the alternatives from the third on have a third of the second.
const TAIL: f64 = 1.3;
/// Between one alternative and the next, from the second on, in nats.
const STEP: f64 = 1.5;

impl Likelihood {
    /// For the answer to the prompt with hash `prompt`, telling the `top` likeliest tokens.
    pub fn new(endpoint: Endpoint, prompt: u64, seed: u64, top: usize) -> Self {
        Self { endpoint, seed, top, state: prompt, offset: 0 }
    }

    /// The `logprobs` of a choice with the next `tokens`.
    pub fn tell<'a>(&mut self, tokens: impl Iterator<Item = &'a str>) -> Value {
        let told: Vec<_> = tokens.map(|token| (token, self.next(token))).collect();
        match self.endpoint {
            Endpoint::Chat => {
                let content = told.iter().map(|(token, (_, likely))| {
                    let mut told = one(token, likely[0].1);
                    let others = likely[..self.top.min(likely.len())].iter();
                    told["top_logprobs"] = others.map(|(token, logprob)| one(token, *logprob)).collect();
                    told
                });
                json!({ "content": content.collect::<Vec<_>>() })
            }
            Endpoint::Completions => {
                let top = told.iter().map(|(_, (_, likely))| {
                    likely
                        .iter()
                        .map(|(token, logprob)| (token.clone(), (*logprob).into()))
                        .collect::<Map<_, _>>()
                });
                json!({
                    "text_offset": told.iter().map(|(_, (offset, _))| *offset).collect::<Vec<_>>(),
                    "token_logprobs": told.iter().map(|(_, (_, likely))| likely[0].1).collect::<Vec<_>>(),
                    "tokens": told.iter().map(|(token, _)| *token).collect::<Vec<_>>(),
                    "top_logprobs": top.collect::<Vec<_>>(),
                })
            }
        }
    }

    /// Where the next token begins, and the likeliest in its place, at least one: itself.
    fn next(&mut self, token: &str) -> (usize, Vec<(String, f64)>) {
        let draw = mix(self.state ^ mix(self.seed ^ MARGIN));
        let spread = uniform(mix(draw));
        let margin = if draw.is_multiple_of(8) { 0.01 + 0.18 * spread } else { 1.05 + 6.0 * spread };
        let first = -(TAIL * (-margin).exp()).ln_1p();
        let mut likely = vec![(token.to_owned(), first)];
        let others = (1..).map(|turn| word(mix(draw ^ turn)).into_iter().collect::<String>());
        for other in others {
            if self.top <= likely.len() {
                break;
            }
            if likely.iter().all(|(there, _)| *there != other) {
                let behind = margin + STEP * (likely.len() - 1) as f64;
                likely.push((other, first - behind));
            }
        }
        let offset = self.offset;
        self.offset += token.chars().count();
        self.state = follow(self.state, token);
        (offset, likely)
    }
}

fn one(token: &str, logprob: f64) -> Value {
    json!({ "token": token, "logprob": logprob, "bytes": token.as_bytes() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn margins(count: usize) -> Vec<f64> {
        let mut likelihood = Likelihood::new(Endpoint::Completions, 7, 0, 20);
        let likely = (0..count).map(|_| likelihood.next("abc ").1);
        likely.map(|likely| likely[0].1 - likely[1].1).collect()
    }

    #[test]
    fn every_eighth_choice_or_so_was_a_close_one() {
        let margins = margins(8000);
        let close = margins.iter().filter(|margin| **margin < 0.2).count();
        assert!((850..1150).contains(&close), "{close}");
        assert!(margins.iter().all(|margin| (0.0..0.2).contains(margin) || 1.0 < *margin));
    }

    #[test]
    fn the_likeliest_are_in_order_and_no_more_than_all() {
        let mut likelihood = Likelihood::new(Endpoint::Completions, 7, 0, 20);
        for _ in 0..500 {
            let (_, likely) = likelihood.next("abc ");
            assert_eq!(likely.len(), 20);
            assert!(likely.windows(2).all(|pair| pair[1].1 < pair[0].1));
            assert!(likely.iter().map(|(_, logprob)| logprob.exp()).sum::<f64>() < 1.0);
        }
    }

    #[test]
    fn a_completion_tells_tokens_as_vllm_does() {
        let told = Likelihood::new(Endpoint::Completions, 7, 0, 2).tell(["añb ", "cd"].into_iter());
        assert_eq!((&told["tokens"], &told["text_offset"]), (&json!(["añb ", "cd"]), &json!([0, 4])));
        for index in 0..2 {
            let top = told["top_logprobs"][index].as_object().unwrap();
            let token = told["tokens"][index].as_str().unwrap();
            assert_eq!((top.len(), &top[token]), (2, &told["token_logprobs"][index]));
        }
        let chosen = Likelihood::new(Endpoint::Completions, 7, 0, 0).tell(["ab"].into_iter());
        assert_eq!(chosen["top_logprobs"][0].as_object().unwrap().len(), 1);
    }

    #[test]
    fn a_chat_tells_tokens_as_vllm_does() {
        let told = Likelihood::new(Endpoint::Chat, 7, 0, 2).tell(["ñ"].into_iter());
        let token = &told["content"][0];
        assert_eq!((&token["token"], &token["bytes"]), (&json!("ñ"), &json!([195, 177])));
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 2);
        assert_eq!(token["top_logprobs"][0]["logprob"], token["logprob"]);
        let plain = Likelihood::new(Endpoint::Chat, 7, 0, 0).tell(["ñ"].into_iter());
        assert_eq!(plain["content"][0]["top_logprobs"], json!([]));
    }

    #[test]
    fn tokens_told_one_by_one_are_those_told_together() {
        let fresh = || Likelihood::new(Endpoint::Completions, 9, 3, 1);
        let (whole, mut parts) = (fresh().tell(["ab", "cd"].into_iter()), fresh());
        let [first, second] = ["ab", "cd"].map(|token| parts.tell([token].into_iter()));
        for key in ["tokens", "token_logprobs", "text_offset", "top_logprobs"] {
            assert_eq!(whole[key], json!([first[key][0], second[key][0]]));
        }
    }
}
