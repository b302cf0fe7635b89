//! The prefill leg by itself: sent, read to its end, and judged.

use super::answer::Answer;
use super::config::Timeouts;
use super::forward::leg_head;
use super::instance::Instance;
use super::journey::Journey;
use super::leg::{FaultKind, LegFault};
use super::problem::Problem;
use super::upstream::{Request, call, warm};
use crate::cluster::Role;
use crate::wire::Object;
use crate::wire::dialect::Leg;
use crate::wire::openai::{Answer as Said, ChunkReader, read_answer};
use crate::wire::sse::Splitter;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::Instant;

/// Longest answer of a prefill instance: it holds one token, and what the other side has to know.
const LONGEST: usize = 16 << 20;
/// Longest event in it.
const LONGEST_EVENT: usize = 1 << 20;

/// How a leg ended that did not succeed.
pub(super) enum LegEnd {
    /// It failed.
    Fault(LegFault),
    /// It was answered with a status that is no success, for the client to see.
    Status(Box<Answer>),
    /// It could not be made.
    Unspeakable(Problem),
}

/// A leg, ready to be written.
pub(super) struct Written {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Written {
    pub fn new(leg: Leg, instance: &Instance, passed: &[u8]) -> Self {
        Self { head: leg_head(&leg, &instance.name, passed), body: leg.body }
    }

    pub fn request(&self) -> Request<'_> {
        Request { head: &self.head, body: &self.body }
    }
}

/// A prefill leg under way: its answer in the end, empty where it was a stream.
pub(super) type Prefill = Pin<Box<dyn Future<Output = Result<Vec<u8>, LegEnd>> + Send>>;

/// Sends a prefill leg and reads its answer.
pub(super) async fn prefill(
    instance: Arc<Instance>,
    request: Written,
    timeouts: Timeouts,
) -> Result<Vec<u8>, LegEnd> {
    let answer = send(&instance, &request, &timeouts).await?;
    drop(request);
    read(answer).await.map_err(LegEnd::Fault)
}

/// Sends a prefill leg; the head of its answer, if that is a success.
pub(super) async fn send(
    instance: &Arc<Instance>,
    request: &Written,
    timeouts: &Timeouts,
) -> Result<Answer, LegEnd> {
    let answer = call(instance, &request.request(), timeouts).await.map_err(LegEnd::Fault)?;
    if answer.is_success() { Ok(answer) } else { Err(LegEnd::Status(Box::new(answer))) }
}

impl Journey {
    /// The prefill leg, at its instance, or once at another where that one takes no connection; its answer.
    pub(super) async fn prefilled(&mut self) -> Result<Vec<u8>, LegEnd> {
        let mut ended = self.prefilled_here().await;
        if ended.as_ref().is_err_and(|end| self.prefill_moved(end)) {
            ended = self.prefilled_here().await;
        }
        self.prefill_over();
        ended
    }

    /// Gives the request another prefill instance after a leg to one that took no connection and, by that, is down.
    pub(super) fn prefill_moved(&mut self, end: &LegEnd) -> bool {
        let LegEnd::Fault(LegFault { kind: FaultKind::Connect, .. }) = end else { return false };
        let Some(other) = self.proxy.roster.assign(Role::Prefill, self.job) else { return false };
        self.prefill.instance.stats.moved.fetch_add(1, Relaxed);
        self.prefill = other;
        true
    }

    /// Sends the prefill leg and reads its answer, with a connection for the decode leg opened meanwhile.
    async fn prefilled_here(&mut self) -> Result<Vec<u8>, LegEnd> {
        let request = self.prefill_request().map_err(LegEnd::Unspeakable)?;
        let timeouts = self.proxy.config.timeouts;
        self.timing.prefill_sent.get_or_insert_with(Instant::now);
        {
            let mut leg = pin!(prefill(Arc::clone(&self.prefill.instance), request, timeouts));
            tokio::select! {
                biased;
                ended = &mut leg => ended,
                () = warm(&self.decode.instance, &timeouts) => leg.await,
            }
        }
    }

    /// The prefill leg has ended, however it did.
    pub(super) fn prefill_over(&mut self) {
        self.timing.prefill_ended = Some(Instant::now());
        self.prefill.worked();
    }
}

/// Reads a successful answer to its end.
pub(super) async fn read(answer: Answer) -> Result<Vec<u8>, LegFault> {
    if answer.is_stream() { drain(answer).await } else { whole(answer).await }
}

fn disguised(message: &str) -> LegFault {
    LegFault::new(FaultKind::Protocol, format!("it answered 200 with an error: {message}"))
}

/// Reads a stream to its end; an error in it fails the leg.
async fn drain(mut answer: Answer) -> Result<Vec<u8>, LegFault> {
    let (mut splitter, mut chunks) = (Splitter::new(LONGEST_EVENT), ChunkReader::default());
    let (mut error, mut events) = (None, 0);
    while let Some(bytes) = answer.body.next().await {
        let fed = splitter.feed(&bytes?, |event| {
            events += 1;
            if let Ok(chunk) = chunks.read(event.data)
                && let Some(said) = chunk.error
            {
                error.get_or_insert(said.message);
            }
        });
        fed.map_err(|too_large| LegFault::new(FaultKind::Protocol, too_large.to_string()))?;
    }
    match error {
        Some(message) => Err(disguised(&message)),
        None if events == 0 => Err(disguised("a stream without an event")),
        None => Ok(Vec::new()),
    }
}

/// Reads an answer that is no stream; `null`, nothing and errors fail the leg.
async fn whole(answer: Answer) -> Result<Vec<u8>, LegFault> {
    let body = answer.collect(LONGEST).await?;
    match (Object::parse(&body), read_answer(&body)) {
        (Ok(object), _) if !object.has("error") => Ok(body),
        (_, Said::Error(error)) => Err(disguised(&error.message)),
        (_, Said::Completion { .. }) => Ok(body),
    }
}
