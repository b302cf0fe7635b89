use super::leg::{FaultKind, LegFault, LegWatch};
use super::upstream::{Read, cut, read_some};
use crate::wire::http1::{Limits, Part, ResponseReader};
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// Longest head of an answer, in bytes.
const LONGEST_HEAD: usize = 64 << 10;
/// Most bytes of one read. The buffer is one for all streams of a thread, so a stream holds none while it waits.
const READ: usize = 64 << 10;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

/// The head of an answer, and what came with it.
pub(super) struct Head {
    status: u16,
    headers: HeaderMap,
    reader: ResponseReader,
    keep_alive: bool,
    /// Bytes of the body that came with the head.
    rest: Vec<u8>,
}

impl Head {
    pub fn status(&self) -> u16 {
        self.status
    }
}

/// An instance's answer: its head, and a body that is read as it is asked for.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: AnswerBody,
}

/// The body of an answer. Dropped before its end it closes the connection, which is how an instance is told to stop.
pub(super) struct AnswerBody {
    connection: Option<TcpStream>,
    reader: ResponseReader,
    rest: Vec<u8>,
    keep_alive: bool,
    watch: LegWatch,
    idle: Duration,
    /// Created at the first wait; it is set anew only when it fires.
    timer: Option<Pin<Box<Sleep>>>,
    last_read: Instant,
}

/// Reads until a head is whole; interim heads are passed over.
pub(super) async fn read_head(connection: &TcpStream, bytes: &mut Vec<u8>) -> Result<Head, LegFault> {
    loop {
        if let Some(head) = parse_head(bytes)? {
            return Ok(head);
        }
        if LONGEST_HEAD < bytes.len() {
            return Err(LegFault::new(FaultKind::Protocol, "the head of its answer is over 64 KiB"));
        }
        read_some(connection, bytes).await?;
    }
}

fn protocol(what: impl std::fmt::Display) -> LegFault {
    LegFault::new(FaultKind::Protocol, format!("its answer is no HTTP/1.1: {what}"))
}

fn parse_head(bytes: &mut Vec<u8>) -> Result<Option<Head>, LegFault> {
    loop {
        let mut lines = [httparse::EMPTY_HEADER; 128];
        let mut response = httparse::Response::new(&mut lines);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Partial) => return Ok(None),
            Ok(httparse::Status::Complete(length)) => length,
            Err(error) => return Err(protocol(error)),
        };
        let status = response.code.unwrap_or(0);
        if (100..200).contains(&status) {
            bytes.drain(..length);
            continue;
        }
        let mut headers = HeaderMap::with_capacity(response.headers.len());
        for line in response.headers.iter() {
            let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(protocol)?;
            headers.append(name, HeaderValue::from_bytes(line.value).map_err(protocol)?);
        }
        let mut reader = ResponseReader::new(Limits { head: LONGEST_HEAD, body: u64::MAX });
        let mut input = bytes.as_slice();
        let keep_alive = match reader.next(&mut input) {
            Ok(Some(Part::Head(head))) => head.keep_alive,
            Ok(_) => return Err(protocol("its head is not whole")),
            Err(error) => return Err(protocol(error)),
        };
        let rest = input.to_vec();
        return Ok(Some(Head { status, headers, reader, keep_alive, rest }));
    }
}

impl Answer {
    fn new(read: Read, mut watch: LegWatch, idle: Duration) -> Self {
        let Head { status, headers, reader, keep_alive, rest } = read.head;
        watch.head(status);
        let mut body = AnswerBody {
            connection: Some(read.connection),
            reader,
            rest,
            keep_alive: keep_alive && !read.unsent,
            watch,
            idle,
            timer: None,
            last_read: Instant::now(),
        };
        if body.rest.is_empty() {
            // A body of no bytes is whole already.
            let _ = body.reader.next(&mut &[][..]);
            body.settle();
        }
        Self { status, headers, body }
    }

    /// What came of a leg that was sent.
    pub fn of(read: Result<Read, LegFault>, mut watch: LegWatch, idle: Duration) -> Result<Self, LegFault> {
        match read {
            Ok(read) => Ok(Self::new(read, watch, idle)),
            Err(fault) => {
                watch.fail(&fault);
                Err(fault)
            }
        }
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Reads the body whole, up to a limit.
    pub async fn collect(mut self, longest: usize) -> Result<Vec<u8>, LegFault> {
        let mut all = Vec::new();
        while let Some(bytes) = self.body.next().await {
            all.extend_from_slice(&bytes?);
            if longest < all.len() {
                let message = format!("its answer is over {longest} bytes");
                return Err(LegFault::new(FaultKind::Protocol, message));
            }
        }
        Ok(all)
    }

    /// Whether the body is an event stream.
    pub fn is_stream(&self) -> bool {
        let kind = self.headers.get("content-type").and_then(|value| value.to_str().ok());
        kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream"))
    }
}

impl AnswerBody {
    /// Everything was read.
    pub fn is_ended(&self) -> bool {
        self.connection.is_none() && self.rest.is_empty()
    }

    /// The instance it comes from.
    pub fn instance(&self) -> &str {
        &self.watch.instance.name
    }

    /// The next bytes, as they come; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, LegFault>> {
        poll_fn(|context| self.poll_data(context)).await
    }

    /// The next bytes; `None` at the end.
    pub fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, LegFault>>> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            match self.take(&rest) {
                Ok(None) => {}
                Ok(Some(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                Err(fault) => return Poll::Ready(Some(Err(self.fail(fault)))),
            }
        }
        loop {
            if self.connection.is_none() {
                return Poll::Ready(None);
            }
            let read = match self.poll_read(context) {
                Poll::Ready(read) => read,
                Poll::Pending => return self.poll_timer(context),
            };
            match read {
                Ok(None) => {}
                Ok(Some(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                Err(fault) => return Poll::Ready(Some(Err(self.fail(fault)))),
            }
        }
    }

    /// Reads once into the thread's buffer.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, LegFault>> {
        BUFFER.with_borrow_mut(|buffer| {
            let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(None)) };
            // Not `try_read`: after a read that did not fill the buffer this one knows that nothing is left.
            let mut space = ReadBuf::new(buffer);
            if let Err(error) = ready!(Pin::new(connection).poll_read(context, &mut space)) {
                return Poll::Ready(Err(cut(&error)));
            }
            let count = space.filled().len();
            if count == 0 {
                return Poll::Ready(self.closed());
            }
            self.last_read = Instant::now();
            Poll::Ready(self.take(&buffer[..count]))
        })
    }

    /// The connection was closed: an end only for a body that runs to there.
    fn closed(&mut self) -> Result<Option<Bytes>, LegFault> {
        self.keep_alive = false;
        if self.reader.closed() {
            self.settle();
            return Ok(None);
        }
        Err(LegFault::new(FaultKind::Cut, "it closed the connection before its answer was whole"))
    }

    /// The body's bytes among those that were read, without their framing.
    fn take(&mut self, mut input: &[u8]) -> Result<Option<Bytes>, LegFault> {
        let mut body = Body::None;
        loop {
            match self.reader.next(&mut input) {
                Ok(Some(Part::Body(piece))) => body.add(piece),
                Ok(Some(Part::End)) => {
                    self.keep_alive &= input.is_empty();
                    break;
                }
                Ok(Some(Part::Head(_))) => {}
                Ok(None) => break,
                Err(error) => return Err(protocol(error)),
            }
        }
        let bytes = match body {
            Body::None => None,
            Body::One(piece) => Some(Bytes::copy_from_slice(piece)),
            Body::Several(all) => Some(Bytes::from(all)),
        };
        if let Some(bytes) = &bytes {
            self.watch.body(bytes);
        }
        self.settle();
        Ok(bytes)
    }

    /// Gives the connection back once the answer is whole.
    fn settle(&mut self) {
        if self.reader.ended() {
            self.watch.whole();
            if let Some(connection) = self.connection.take().filter(|_| self.keep_alive) {
                self.watch.instance.pool.put(connection);
            }
        }
    }

    fn fail(&mut self, fault: LegFault) -> LegFault {
        self.watch.fail(&fault);
        self.connection = None;
        fault
    }

    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, LegFault>>> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.idle)));
        while timer.as_mut().poll(context).is_ready() {
            let due = self.last_read + self.idle;
            if due <= Instant::now() {
                let fault = LegFault::new(FaultKind::Timeout, format!("silence of {:?}", self.idle));
                return Poll::Ready(Some(Err(self.fail(fault))));
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

/// What one read held of a body.
enum Body<'a> {
    None,
    One(&'a [u8]),
    Several(Vec<u8>),
}

impl<'a> Body<'a> {
    fn add(&mut self, piece: &'a [u8]) {
        match self {
            Body::None => *self = Body::One(piece),
            Body::One(first) => *self = Body::Several([first, piece].concat()),
            Body::Several(all) => all.extend_from_slice(piece),
        }
    }
}
