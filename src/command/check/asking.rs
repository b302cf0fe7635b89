//! Turns what is to be asked into requests.

use super::CheckPlan;
use super::ground::{Ground, Spot};
use crate::command::direct::Legs;
use crate::command::{Error, Instance};
use crate::load::{Lead, Prepared};
use crate::measure::check::{ANSWER, Ask, Errand, PREFILL_LEG};
use crate::measure::{Asking as Tag, PromptTokensSource};
use crate::wire::dialect::{Asked, Order};
use crate::wire::openai::head;
use crate::wire::{Endpoint, Object};
use crate::workload::SONNETS;
use serde_json::json;

/// How requests are made.
pub(super) struct Asking<'a> {
    plan: &'a CheckPlan,
    dialect: Option<crate::wire::dialect::Dialect>,
    proxy: Option<Instance>,
    baseline: Option<Instance>,
    nodes: Vec<Instance>,
    model: String,
    /// Tokens of a prompt.
    input_tokens: u32,
    run_id: &'a str,
}

/// Bytes of a token, roughly.
const TOKEN_BYTES: usize = 4;
/// Prompts differ in length by multiples of this, so that they end at other places of a block.
const STEP: usize = 37;

impl<'a> Asking<'a> {
    pub(super) fn of(plan: &'a CheckPlan, ground: &Ground, run_id: &'a str) -> Self {
        let instance = |spot: &Spot| Instance { node: spot.node.clone(), target: spot.target.clone() };
        // Four bytes a token is a guess: a byte is a token to some.
        let most =
            ground.max_model_len().map_or(u32::MAX, |tokens| (tokens / 2).try_into().unwrap_or(u32::MAX));
        Self {
            plan,
            dialect: ground.dialect,
            proxy: ground.proxy.as_ref().map(instance),
            baseline: ground.baseline.as_ref().map(instance),
            nodes: ground.nodes.iter().map(instance).collect(),
            model: ground.model.clone(),
            input_tokens: plan.input_tokens.min(most.saturating_sub(plan.output_tokens).max(1)),
            run_id,
        }
    }

    /// Records that a request leaves.
    pub(super) fn legs(&self, ask: &Ask) -> usize {
        let together = self.dialect.is_some_and(|dialect| dialect.order() == Order::Together);
        if together && matches!(ask.errand, Errand::Pair { .. }) { 2 } else { 1 }
    }

    /// What the ids of all requests with a prompt have in them.
    pub(super) fn id_of_prompt(&self, prompt: usize) -> String {
        format!("{}-p{prompt}-", self.run_id)
    }

    /// One request, or its two legs. `stop` ends its answer.
    pub(super) fn prepare(
        &self,
        ask: &Ask,
        number: usize,
        stop: Option<String>,
    ) -> Result<Vec<Prepared>, Error> {
        let id = format!("{}{number}", self.id_of_prompt(ask.prompt));
        let (first_node, baseline) = (usize::from(self.proxy.is_some()), &self.baseline);
        let body = self.body(ask, stop.as_deref());
        let plain = |instance: &Instance, place: usize| {
            let bytes = head(&instance.target, Endpoint::Completions.path(), &id, &body.to_bytes());
            vec![self.prepared(ask, number, (id.clone(), place, bytes, None), ANSWER)]
        };
        Ok(match ask.errand {
            Errand::Proxy { .. } => self.proxy.as_ref().map_or_else(Vec::new, |proxy| plain(proxy, 0)),
            Errand::Alone { node } => plain(&self.nodes[node], first_node + node),
            Errand::Baseline => {
                baseline.as_ref().map_or_else(Vec::new, |one| plain(one, first_node + self.nodes.len()))
            }
            Errand::Pair { prefill, decode } => {
                let Some(dialect) = self.dialect else { return Ok(Vec::new()) };
                let legs = Legs {
                    dialect,
                    asked: Asked { endpoint: Endpoint::Completions, body, token_ids: None },
                    prefill: self.nodes[prefill].clone(),
                    decode: self.nodes[decode].clone(),
                    id,
                };
                let (from, to) = (first_node + prefill, first_node + decode);
                if dialect.order() == Order::Together {
                    let (id, prefill, decode) = legs.both()?;
                    let one =
                        |place, bytes, leg| self.prepared(ask, number, (id.clone(), place, bytes, None), leg);
                    return Ok(vec![one(from, prefill, PREFILL_LEG), one(to, decode, ANSWER)]);
                }
                let (id, bytes, lead) = legs.led(from)?;
                vec![self.prepared(ask, number, (id, to, bytes, Some(lead)), ANSWER)]
            }
        })
    }

    fn prepared(
        &self,
        ask: &Ask,
        number: usize,
        (id, place, bytes, lead): (String, usize, Vec<u8>, Option<Lead>),
        leg: usize,
    ) -> Prepared {
        let requested_tokens = if leg == PREFILL_LEG { 1 } else { self.plan.output_tokens };
        Prepared {
            id,
            place,
            bytes,
            lead,
            prompt_tokens: self.length(ask.prompt).div_ceil(TOKEN_BYTES) as u32,
            prompt_tokens_source: PromptTokensSource::Estimate,
            requested_tokens,
            ignore_eos: !ask.stops,
            asking: Some(Tag { arm: leg, questions: vec![number as u32], replies: Vec::new() }),
            attempt: 1,
        }
    }

    /// A completion with log probabilities, whole unless it is to be a stream.
    fn body(&self, ask: &Ask, stop: Option<&str>) -> Object {
        let mut body = json!({
            "model": self.model,
            "prompt": self.prompt(ask.prompt),
            "max_tokens": self.plan.output_tokens,
            "temperature": 0,
            "ignore_eos": true,
        });
        match ask.errand {
            Errand::Proxy { streamed: true } => {
                body["stream"] = json!(true);
                body["stream_options"] = json!({"include_usage": true});
            }
            // Not every proxy can join the log probabilities of two legs.
            Errand::Proxy { streamed: false } => body["stream"] = json!(false),
            _ => {
                body["stream"] = json!(false);
                body["logprobs"] = json!(2);
            }
        }
        if let Some(stop) = stop {
            body["stop"] = json!([stop]);
        }
        for (key, value) in &self.plan.serve.extra_body {
            body[key] = value.clone();
        }
        Object::parse(body.to_string().as_bytes()).expect("what was written as an object reads back as one")
    }

    fn length(&self, prompt: usize) -> usize {
        let bytes = self.input_tokens as usize * TOKEN_BYTES;
        bytes.saturating_sub(STEP * (prompt % 7)).max(TOKEN_BYTES)
    }

    /// Verse behind a number that no other prompt of any run begins with.
    fn prompt(&self, prompt: usize) -> String {
        let lines: Vec<&str> = SONNETS.lines().filter(|line| !line.is_empty()).collect();
        let mut text = format!("{prompt} of {}\n", self.run_id);
        let length = self.length(prompt);
        for line in lines.iter().cycle().skip(prompt % lines.len().max(1)) {
            if length <= text.len() {
                break;
            }
            text.push_str(line);
            text.push('\n');
        }
        text.truncate(length);
        text
    }
}
