//! Response bodies of a node that stamp what they hand to the socket. A stream's body drives its request through
//! the node; dropping it, which is what the server does when the client goes away, cancels the request.

use super::api::Refusal;
use super::events::{Shape, Usage};
use super::faults::FaultKind;
use super::likelihood::Likelihood;
use super::node::{Node, Serving};
use super::truth::{Ended, Entry};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use serde_json::Value;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

type Journey = Pin<Box<dyn Future<Output = Option<Serving>> + Send>>;
type Settling = Pin<Box<dyn Future<Output = Option<Value>> + Send>>;
type Event = Poll<Option<io::Result<Bytes>>>;

/// The body of any response.
pub(super) enum NodeBody {
    /// Bytes that are there; `None` once they are handed over. Answers bring their entries and tokens.
    Whole(Option<Bytes>, Vec<(Entry, u32)>),
    /// A stream of events.
    Stream(Box<Stream>),
    /// A connection that is reset.
    Reset,
}

/// The events of one request.
pub(super) struct Stream {
    node: Arc<Node>,
    shape: Shape,
    likelihood: Option<Likelihood>,
    state: State,
    /// Events to hand over before the next token.
    queue: VecDeque<Bytes>,
    made: u32,
    /// Events handed over.
    handed: u32,
    trouble: Trouble,
    /// Told when the connection is to be reset.
    reset: Arc<AtomicBool>,
}

/// What goes wrong with an answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    pub reset_after: Option<u32>,
    pub error_after: Option<u32>,
    pub stall_after: Option<u32>,
    pub fail_prefill: bool,
}

enum State {
    /// Before the request is in the engine.
    Journey(Journey),
    Making(Box<Serving>),
    /// Every token is made; its KV goes elsewhere.
    Settling(Box<Serving>, Settling),
    /// The last events are left.
    Closing(Box<Serving>),
    Over,
}

impl Trouble {
    /// Those of `faults` that concern what is sent.
    pub fn of(faults: &super::Faults) -> Self {
        let after = |wanted: fn(FaultKind) -> Option<u32>| faults.find(wanted);
        Self {
            reset_after: after(|kind| if let FaultKind::ResetAfter(n) = kind { Some(n) } else { None }),
            error_after: after(|kind| match kind {
                FaultKind::ErrorAfter(n) => Some(n),
                _ => None,
            }),
            fail_prefill: after(|kind| (kind == FaultKind::FailPrefill).then_some(0)).is_some(),
            stall_after: after(|kind| if let FaultKind::StallAfter(n) = kind { Some(n) } else { None }),
        }
    }
}

impl Stream {
    /// The stream of the request that `journey` takes into `node`'s engine.
    pub fn new(
        node: &Arc<Node>,
        (shape, likelihood): (Shape, Option<Likelihood>),
        journey: Journey,
        trouble: Trouble,
        reset: &Arc<AtomicBool>,
    ) -> Self {
        Self {
            node: Arc::clone(node),
            shape,
            likelihood,
            state: State::Journey(journey),
            queue: VecDeque::new(),
            made: 0,
            handed: 0,
            trouble,
            reset: Arc::clone(reset),
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Event {
        loop {
            if matches!(self.state, State::Making(_) | State::Settling(..) | State::Closing(_))
                && let Some(event) = self.trouble(context)
            {
                return event;
            }
            if let Some(event) = self.queue.pop_front() {
                self.handed += 1;
                if self.queue.is_empty() {
                    self.close();
                }
                return Poll::Ready(Some(Ok(event)));
            }
            match &mut self.state {
                State::Over | State::Closing(_) => return Poll::Ready(None),
                State::Journey(journey) => match ready!(journey.as_mut().poll(context)) {
                    None => return self.fail(),
                    Some(serving) => self.state = State::Making(Box::new(serving)),
                },
                State::Making(serving) => match ready!(serving.poll_token(context)) {
                    None => return self.fail(),
                    Some(()) => self.token(),
                },
                State::Settling(_, settling) => {
                    ready!(settling.as_mut().poll(context));
                    self.end();
                }
            }
        }
    }

    /// What goes wrong before the next event, if something does.
    fn trouble(&mut self, context: &Context<'_>) -> Option<Event> {
        let reached = |after: Option<u32>| after.is_some_and(|after| after <= self.handed);
        if reached(self.trouble.stall_after) {
            return Some(Poll::Pending);
        }
        if reached(self.trouble.reset_after) {
            // Once around, so that what was handed over before is written.
            if !self.reset.swap(true, Ordering::Relaxed) {
                context.waker().wake_by_ref();
                return Some(Poll::Pending);
            }
            return Some(self.fail());
        }
        if reached(self.trouble.error_after) || self.trouble.fail_prefill && 0 < self.made {
            let error = Shape::error(&Refusal::fault(500).body);
            self.settle_as(Ended::Error);
            self.node.metrics.lock().failed += 1;
            self.state = State::Over;
            self.queue.clear();
            self.queue.push_back(Shape::done());
            return Some(Poll::Ready(Some(Ok(error))));
        }
        None
    }

    /// Builds the next token's event, and those that come with it.
    fn token(&mut self) {
        let State::Making(serving) = &mut self.state else { return };
        let index = self.made;
        self.made += 1;
        let (prompt_tokens, cached_tokens) = (serving.prompt.tokens, serving.cached_tokens);
        let usage = |completion_tokens| Usage { prompt_tokens, cached_tokens, completion_tokens };
        if index == 0 {
            self.queue.extend(self.shape.role(usage(0)));
        }
        let last = self.made == serving.answer.tokens;
        let finish = last.then_some(&serving.answer.finish);
        let told = self
            .likelihood
            .as_mut()
            .map(|likelihood| likelihood.tell([serving.answer.token(index)].into_iter()));
        let piece = serving.answer.piece(index);
        self.queue.push_back(self.shape.token(piece, told.as_ref(), finish, usage(self.made)));
        serving.entry.write(1);
        if last {
            let outgoing = serving.outgoing();
            let node = Arc::clone(&self.node);
            let settling = async move { node.settle(outgoing?).await };
            if let State::Making(serving) = std::mem::replace(&mut self.state, State::Over) {
                self.state = State::Settling(serving, Box::pin(settling));
            }
        }
    }

    /// The events behind the last token.
    fn end(&mut self) {
        if let State::Settling(serving, _) = std::mem::replace(&mut self.state, State::Over) {
            let (prompt_tokens, cached_tokens) = (serving.prompt.tokens, serving.cached_tokens);
            let usage = Usage { prompt_tokens, cached_tokens, completion_tokens: self.made };
            self.queue.extend(self.shape.usage(usage));
            self.queue.push_back(Shape::done());
            self.state = State::Closing(serving);
        }
    }

    /// Once the last event is handed over, the request is complete.
    fn close(&mut self) {
        if let State::Closing(serving) = &mut self.state {
            serving.entry.close(Ended::Complete);
            self.state = State::Over;
        }
    }

    /// The connection is cut.
    fn fail(&mut self) -> Event {
        self.settle_as(Ended::Error);
        self.state = State::Over;
        self.queue.clear();
        Poll::Ready(Some(Err(io::Error::other("the simulated node is gone"))))
    }

    fn settle_as(&mut self, ended: Ended) {
        if let State::Making(serving) | State::Settling(serving, _) | State::Closing(serving) =
            &mut self.state
        {
            serving.entry.close(ended);
        }
    }
}

impl Body for NodeBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            NodeBody::Stream(events) => {
                events.poll_event(context).map(|event| event.map(|bytes| bytes.map(Frame::data)))
            }
            NodeBody::Whole(bytes, entries) => {
                for (mut entry, tokens) in entries.drain(..) {
                    entry.write(tokens);
                    entry.close(Ended::Complete);
                }
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            NodeBody::Reset => Poll::Ready(Some(Err(io::Error::other("reset, as asked for")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            NodeBody::Whole(bytes, _) => bytes.is_none(),
            NodeBody::Stream(events) => matches!(events.state, State::Over) && events.queue.is_empty(),
            NodeBody::Reset => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            NodeBody::Whole(Some(bytes), _) => SizeHint::with_exact(bytes.len() as u64),
            NodeBody::Whole(None, _) => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}
