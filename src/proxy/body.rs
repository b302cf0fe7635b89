use super::answer::AnswerBody;
use super::front::{Ending, Visit};
use super::instance::Assigned;
use super::joined::Joined;
use super::leg::LegFault;
use super::replica::Recorder;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A leg that runs while the answer is relayed.
pub(super) type Beside = Pin<Box<dyn Future<Output = Result<(), LegFault>> + Send>>;

/// The body of an answer to a client.
pub(super) enum ReplyBody {
    /// All of it, or nothing any more.
    Whole(Bytes),
    /// What instances say, as they say it.
    Live(Box<Live>),
}

/// A body that is still being made.
pub(super) struct Live {
    source: Source,
    fault: Option<LegFault>,
    /// Bytes went to hyper that it may not have written yet.
    unwritten: bool,
}

/// Where a live body comes from.
pub(super) enum Source {
    /// One instance's answer.
    Relay(Relay),
    /// The answers of both legs.
    Joined(Joined),
}

/// An instance's answer on its way to the client. When the client goes it is dropped, and everything with it.
pub(super) struct Relay {
    /// What the instance said before the head was sent on.
    pub ahead: Option<Bytes>,
    pub answer: AnswerBody,
    /// Length of the body, where the instance told it.
    pub length: Option<u64>,
    /// The other leg; when it fails the answer is broken off.
    pub beside: Option<Beside>,
    /// The places on the instances, prefill first.
    pub assigned: Vec<Assigned>,
    pub visit: Visit,
    /// Reads along, where the leg is one of a batch.
    pub tap: Option<Box<Recorder>>,
}

impl ReplyBody {
    pub fn whole(bytes: Bytes) -> Self {
        ReplyBody::Whole(bytes)
    }

    pub fn live(source: Source) -> Self {
        ReplyBody::Live(Box::new(Live { source, fault: None, unwritten: false }))
    }
}

impl Live {
    /// The next piece. hyper drops what it has not written when a body fails: a fault waits until what came before
    /// it had its chance.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, LegFault>>> {
        if self.fault.is_none() {
            let polled = match &mut self.source {
                Source::Relay(relay) => relay.poll(context),
                Source::Joined(joined) => joined.poll(context),
            };
            match ready!(polled) {
                Some(Err(fault)) => self.fault = Some(fault),
                piece => {
                    self.unwritten = true;
                    return Poll::Ready(piece);
                }
            }
        }
        if std::mem::take(&mut self.unwritten) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.fault.clone().map(Err))
    }

    fn is_ended(&self) -> bool {
        match &self.source {
            Source::Relay(relay) => self.fault.is_none() && relay.is_ended(),
            Source::Joined(_) => false,
        }
    }

    fn length(&self) -> Option<u64> {
        match &self.source {
            Source::Relay(relay) => relay.length,
            Source::Joined(_) => None,
        }
    }
}

impl Relay {
    pub fn new(answer: AnswerBody, length: Option<u64>, assigned: Vec<Assigned>, visit: Visit) -> Self {
        Self { ahead: None, answer, length, beside: None, assigned, visit, tap: None }
    }

    /// Everything was handed on, and the request counted.
    fn is_ended(&self) -> bool {
        self.is_read() && self.visit.is_ended()
    }

    fn is_read(&self) -> bool {
        self.ahead.is_none() && self.answer.is_ended()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, LegFault>>> {
        if let Some(beside) = &mut self.beside
            && let Poll::Ready(ended) = beside.as_mut().poll(context)
        {
            self.beside = None;
            self.assigned.first_mut().map(Assigned::worked);
            if let Err(fault) = ended {
                self.visit.end(Ending::Broken);
                return Poll::Ready(Some(Err(fault)));
            }
        }
        let ahead = self.ahead.take().map(|bytes| Poll::Ready(Some(Ok(bytes))));
        let piece = ready!(ahead.unwrap_or_else(|| self.answer.poll_data(context)));
        match &piece {
            Some(Ok(bytes)) => {
                // The decode instance speaks: it has what the prefill instance held for it.
                self.assigned.iter_mut().for_each(Assigned::released);
                self.tap.iter_mut().for_each(|tap| tap.body(bytes));
                if self.is_read() {
                    self.whole();
                }
            }
            Some(Err(fault)) => {
                self.tap.iter_mut().for_each(|tap| tap.fail(fault));
                self.visit.end(Ending::Broken);
            }
            None => self.whole(),
        }
        Poll::Ready(piece)
    }

    fn whole(&mut self) {
        self.tap.iter_mut().for_each(|tap| tap.whole());
        self.visit.end(Ending::Ok);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // A leg whose answer nobody reads may still be computing what the other one has had already.
        if self.answer.is_ended()
            && let Some(beside) = self.beside.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(beside);
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = LegFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, LegFault>>> {
        match self.get_mut() {
            ReplyBody::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            ReplyBody::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            ReplyBody::Live(live) => live.poll(context).map(|part| part.map(|part| part.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ReplyBody::Whole(bytes) => bytes.is_empty(),
            ReplyBody::Live(live) => live.is_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ReplyBody::Live(live) => live.length().map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
