//! Response bodies that stamp what they hand to the socket. A stream's body drives its request through the
//! cluster; dropping it, which is what the server does when the client goes away, cancels the request.

use super::cluster::Decoding;
use super::events::{Shape, Usage};
use super::truth::{Ended, Entry};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

type Journey = Pin<Box<dyn Future<Output = Option<Decoding>> + Send>>;

/// The body of any response.
pub(super) enum ReplyBody {
    /// Bytes that are there; `None` once they are handed over. An answer brings its entry and its tokens.
    Whole(Option<Bytes>, Option<(Box<Entry>, u32)>),
    /// A stream of events.
    Events(Box<EventBody>),
}

/// The events of one request.
pub(super) struct EventBody {
    shape: Shape,
    state: State,
    /// Events to hand over before the next token.
    queue: VecDeque<Bytes>,
    made: u32,
}

enum State {
    /// Before the KV has reached a decode node.
    Journey(Journey),
    Decoding(Box<Decoding>),
    /// Every token is handed over; the last events may be left.
    Closing(Box<Decoding>),
    Over,
}

impl EventBody {
    /// The stream of the request that `journey` takes to a decode node.
    pub fn new(shape: Shape, journey: Journey) -> Self {
        Self { shape, state: State::Journey(journey), queue: VecDeque::new(), made: 0 }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                if self.queue.is_empty() {
                    self.close();
                }
                return Poll::Ready(Some(Ok(event)));
            }
            match &mut self.state {
                State::Over | State::Closing(_) => return Poll::Ready(None),
                State::Journey(journey) => match ready!(journey.as_mut().poll(context)) {
                    None => return self.fail(),
                    Some(decoding) => self.state = State::Decoding(Box::new(decoding)),
                },
                State::Decoding(decoding) => match ready!(decoding.tokens.poll_next(context)) {
                    None => return self.fail(),
                    Some(()) => self.token(),
                },
            }
        }
    }

    /// Builds the next token's event, and those that come with it.
    fn token(&mut self) {
        let State::Decoding(decoding) = &mut self.state else { return };
        let index = self.made;
        self.made += 1;
        let before = decoding.usage();
        let usage = |completion_tokens| Usage { completion_tokens, ..before };
        if index == 0 {
            self.queue.extend(self.shape.role(usage(0)));
        }
        let last = self.made == decoding.answer.tokens;
        let finish = last.then_some(&decoding.answer.finish);
        self.queue.push_back(self.shape.token(decoding.answer.piece(index), finish, usage(self.made)));
        decoding.entry.write(1);
        if last {
            self.queue.extend(self.shape.usage(usage(self.made)));
            self.queue.push_back(Shape::done());
            if let State::Decoding(decoding) = std::mem::replace(&mut self.state, State::Over) {
                self.state = State::Closing(decoding);
            }
        }
    }

    /// Once the last event is handed over, the request is complete.
    fn close(&mut self) {
        if let State::Closing(decoding) = &mut self.state {
            decoding.entry.close(Ended::Complete);
            self.state = State::Over;
        }
    }

    /// A node is gone: the connection is cut.
    fn fail(&mut self) -> Poll<Option<io::Result<Bytes>>> {
        if let State::Decoding(decoding) = &mut self.state {
            decoding.entry.close(Ended::Error);
        }
        self.state = State::Over;
        Poll::Ready(Some(Err(io::Error::other("a node of the simulated cluster is gone"))))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            ReplyBody::Events(events) => {
                events.poll_event(context).map(|event| event.map(|bytes| bytes.map(Frame::data)))
            }
            ReplyBody::Whole(bytes, entry) => {
                if let Some((mut entry, tokens)) = entry.take() {
                    entry.write(tokens);
                    entry.close(Ended::Complete);
                }
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ReplyBody::Whole(bytes, _) => bytes.is_none(),
            ReplyBody::Events(events) => matches!(events.state, State::Over) && events.queue.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Whole(Some(bytes), _) => SizeHint::with_exact(bytes.len() as u64),
            ReplyBody::Whole(None, _) => SizeHint::with_exact(0),
            ReplyBody::Events(_) => SizeHint::default(),
        }
    }
}
