use super::answer::AnswerBody;
use super::front::{Ending, Visit};
use super::instance::Assigned;
use super::leg::LegFault;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A leg that runs while the answer is relayed.
pub(super) type Beside = Pin<Box<dyn Future<Output = Result<(), LegFault>> + Send>>;

/// The body of an answer to a client.
pub(super) enum ReplyBody {
    /// All of it, or nothing any more.
    Whole(Bytes),
    /// An instance's answer as it comes.
    Relay(Box<Relay>),
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
    fault: Option<LegFault>,
    /// Bytes went to hyper that it may not have written yet.
    unwritten: bool,
}

impl ReplyBody {
    pub fn whole(bytes: Bytes) -> Self {
        ReplyBody::Whole(bytes)
    }
}

impl Relay {
    pub fn new(answer: AnswerBody, length: Option<u64>, assigned: Vec<Assigned>, visit: Visit) -> Self {
        Self { ahead: None, answer, length, beside: None, assigned, visit, fault: None, unwritten: false }
    }

    fn is_ended(&self) -> bool {
        self.ahead.is_none() && self.fault.is_none() && self.answer.is_ended()
    }

    fn poll_beside(&mut self, context: &mut Context<'_>) {
        if let Some(beside) = &mut self.beside
            && let Poll::Ready(ended) = beside.as_mut().poll(context)
        {
            self.beside = None;
            self.fault = ended.err();
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, LegFault>>> {
        self.poll_beside(context);
        if self.fault.is_none() {
            let ahead = self.ahead.take().map(|bytes| Poll::Ready(Some(Ok(bytes))));
            match ahead.unwrap_or_else(|| self.answer.poll_data(context)) {
                Poll::Ready(Some(Err(fault))) => self.fault = Some(fault),
                Poll::Ready(Some(Ok(bytes))) => {
                    self.unwritten = true;
                    // The decode instance speaks: it has what the prefill instance held for it.
                    self.assigned.iter_mut().for_each(Assigned::released);
                    if self.is_ended() {
                        self.visit.end(Ending::Ok);
                    }
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Poll::Ready(None) => {
                    self.visit.end(Ending::Ok);
                    return Poll::Ready(None);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        if std::mem::take(&mut self.unwritten) {
            // hyper drops what it has not written when a body fails: let it write first.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.visit.end(Ending::Broken);
        Poll::Ready(self.fault.clone().map(Err))
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
            ReplyBody::Relay(relay) => relay.poll(context).map(|part| part.map(|part| part.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ReplyBody::Whole(bytes) => bytes.is_empty(),
            // Asked before the first piece too, when the end has not been noted yet.
            ReplyBody::Relay(relay) => relay.is_ended() && relay.visit.is_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ReplyBody::Relay(relay) => relay.length.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
