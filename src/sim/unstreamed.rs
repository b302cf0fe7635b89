//! Answers that are not streamed: one body when all is made, with a choice for each prompt.

use super::answer::Answer;
use super::api::Refusal;
use super::events::{Choice, Usage, whole};
use super::likelihood::Likelihood;
use super::node::{Accepted, Node, Serving};
use super::serving::{Reply, failed, refused, reply};
use super::stream::{NodeBody, Trouble};
use super::truth::Ended;
use crate::wire::Endpoint;
use hyper::StatusCode;
use serde_json::Value;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

/// What a body tells beside its answers.
#[derive(Debug)]
pub(super) struct Told {
    pub endpoint: Endpoint,
    /// The request's id.
    pub id: String,
    /// When it was read, in seconds since 1970.
    pub created: u64,
    /// How many of the likeliest tokens.
    pub logprobs: Option<usize>,
}

/// Answers all of `accepted` in one body.
pub(super) async fn answer_whole(
    node: &Arc<Node>,
    told: Told,
    accepted: Vec<Accepted>,
    trouble: Trouble,
    reset: &AtomicBool,
) -> Reply {
    let servings = all(accepted.into_iter().map(|accepted| made(Arc::clone(node), accepted))).await;
    let Some(mut servings) = servings.into_iter().collect::<Option<Vec<_>>>() else { return failed() };
    if let Some(reply) = go_wrong(node, &mut servings, trouble, reset).await {
        return reply;
    }
    let settled = all(servings.iter_mut().map(|serving| {
        let (node, outgoing) = (Arc::clone(node), serving.outgoing());
        async move { node.settle(outgoing?).await }
    }));
    let kv_transfer_params = settled.await.into_iter().next().flatten();
    let logprobs: Vec<Option<Value>> = servings.iter().map(|serving| told.logprobs(serving, node)).collect();
    let choices: Vec<Choice<'_>> = servings
        .iter()
        .zip(&logprobs)
        .map(|(serving, logprobs)| Choice { answer: &serving.answer, logprobs: logprobs.as_ref() })
        .collect();
    let sum = |of: fn(&Serving) -> u32| servings.iter().map(of).sum();
    let usage = Usage {
        prompt_tokens: sum(|serving| serving.prompt.tokens),
        cached_tokens: sum(|serving| serving.cached_tokens),
        completion_tokens: sum(|serving| serving.answer.tokens),
    };
    let head = (told.created, node.config.model.as_str());
    let bytes = whole(told.endpoint, &told.id, head, &choices, usage, kv_transfer_params);
    let entries = servings.into_iter().map(|serving| (serving.entry, serving.answer.tokens)).collect();
    reply(StatusCode::OK, "application/json", NodeBody::Whole(Some(bytes), entries))
}

/// Waits for all tokens of an answer; `None` when the node is gone.
async fn made(node: Arc<Node>, accepted: Accepted) -> Option<Serving> {
    let mut serving = node.serve(accepted).await?;
    for _ in 0..serving.answer.tokens {
        if poll_fn(|context| serving.poll_token(context)).await.is_none() {
            serving.entry.close(Ended::Error);
            return None;
        }
    }
    Some(serving)
}

/// A reply when it does not come to the answers.
async fn go_wrong(
    node: &Node,
    servings: &mut [Serving],
    trouble: Trouble,
    reset: &AtomicBool,
) -> Option<Reply> {
    if trouble.stall_after.is_some() {
        std::future::pending::<()>().await;
    }
    let reply = if trouble.reset_after.is_some() {
        reset.store(true, Ordering::Relaxed);
        reply(StatusCode::OK, "application/json", NodeBody::Reset)
    } else if trouble.fail_prefill || trouble.error_after.is_some() {
        node.metrics.lock().failed += 1;
        refused(Refusal::fault(500))
    } else {
        return None;
    };
    servings.iter_mut().for_each(|serving| serving.entry.close(Ended::Error));
    Some(reply)
}

impl Told {
    fn logprobs(&self, serving: &Serving, node: &Node) -> Option<Value> {
        let answer: &Answer = &serving.answer;
        let mut likelihood =
            Likelihood::new(self.endpoint, serving.prompt.hash, node.config.seed, self.logprobs?);
        Some(likelihood.tell((0..answer.tokens).map(|index| answer.token(index))))
    }
}

/// What all of `futures` come to, in their order. Dropping it drops them.
async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = pending.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, done) in pending.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                *done = Some(output);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}
