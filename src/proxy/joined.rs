//! Answers of which the prefill instance gives the first token: both legs' streams, joined event by event.

use super::answer::{Answer, AnswerBody};
use super::body::{ReplyBody, Source};
use super::front::Ending;
use super::journey::{Departure, Journey};
use super::leg::{FaultKind, LegFault};
use super::notices::Waiting;
use super::prefill::{LegEnd, read, send};
use super::problem::{Problem, Reply};
use crate::cluster::Role;
use crate::wire::Object;
use crate::wire::dialect::{Joiner, shown_alone, whole_answer};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Response};
use serde_json::json;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::Instant;

/// Longest event of a stream that is joined.
const LONGEST_EVENT: usize = 1 << 20;
/// Longest decode answer that is joined in one piece.
const LONGEST_ANSWER: usize = 64 << 20;

/// What became of the decode leg behind a prefill leg, with the request itself.
type Behind = Pin<Box<dyn Future<Output = (Box<Journey>, Result<Answer, Problem>)> + Send>>;

/// The body of a joined answer.
pub(super) struct Joined {
    joiner: Joiner,
    stage: Stage,
    /// What the client may see of the bytes read last.
    out: Vec<u8>,
    fault: Option<LegFault>,
}

enum Stage {
    /// The prefill instance's stream.
    Prefill(AnswerBody, Box<Journey>, Option<Waiting>),
    /// Until the head of the decode instance's answer.
    Between(Behind),
    /// The decode instance's stream.
    Decode(AnswerBody, Box<Journey>),
    /// Nothing more.
    Ended,
}

impl Journey {
    /// Whether this answer's first token is the prefill instance's, in a stream.
    pub(super) fn shows_first_token(&self) -> bool {
        let config = &self.proxy.config;
        let asked = config.first_token == super::FirstToken::Prefill && config.dialect.shows_first_token();
        self.asked.streams() && (config.dialect.continues_prefill() || asked)
    }

    /// The prefill leg, whose answer goes to the client as it comes, and the decode leg behind it.
    pub(super) async fn prefill_shown(mut self, notice: Option<Waiting>) -> Departure {
        let mut answered = self.prefill_answered().await;
        if answered.as_ref().is_err_and(|end| self.prefill_moved(end)) {
            answered = self.prefill_answered().await;
        }
        let answer = match answered {
            Ok(answer) => answer,
            Err(end) => return self.prefill_failed(end).await,
        };
        let config = &self.proxy.config;
        let mut joiner = Joiner::new(config.dialect, self.asked.endpoint, LONGEST_EVENT);
        if answer.is_stream() {
            let headers = self.stream_headers();
            let stage = Stage::Prefill(answer.body, Box::new(self), notice);
            return Ok(Joined::reply(joiner, stage, Vec::new(), headers));
        }
        let answer = match read(answer).await {
            Ok(bytes) => Object::parse(&bytes).unwrap_or_default(),
            Err(fault) => return self.prefill_failed(LegEnd::Fault(fault)).await,
        };
        self.prefill_over();
        if let Some(reply) = self.prefill_alone(Some(&answer)) {
            return Ok(reply);
        }
        let mut out = Vec::new();
        joiner.prefill_answer(&answer, &mut out);
        let headers = self.stream_headers();
        let behind: Behind = Box::pin(Box::new(self).decode_behind(Some(answer), notice));
        Ok(Joined::reply(joiner, Stage::Between(behind), out, headers))
    }

    /// Sends the prefill leg to its instance; the head of its answer.
    async fn prefill_answered(&mut self) -> Result<Answer, LegEnd> {
        let request = self.prefill_request().map_err(LegEnd::Unspeakable)?;
        self.timing.prefill_sent.get_or_insert_with(Instant::now);
        send(&self.prefill.instance, &request, &self.proxy.config.timeouts).await
    }

    fn stream_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        self.told(headers)
    }

    /// The decode leg behind a prefill leg that the client has seen.
    async fn decode_behind(
        mut self: Box<Self>,
        answer: Option<Object>,
        notice: Option<Waiting>,
    ) -> (Box<Journey>, Result<Answer, Problem>) {
        if let Err(fault) = self.noticed(notice).await {
            let problem = self.failed(Role::Prefill, &fault);
            return (self, Err(problem));
        }
        let answered = self.decoded(answer.as_ref()).await;
        // The prompt is not carried through the whole answer.
        self.asked.body = Object::default();
        self.asked.token_ids = None;
        let answered = match answered {
            Ok(answer) if !answer.is_success() => {
                let what = format!("it answered with status {}", answer.status);
                Err(self.failed(Role::Decode, &LegFault::new(FaultKind::Protocol, what)))
            }
            answered => answered,
        };
        (self, answered)
    }

    /// The whole answer, where the prefill instance has given it alone.
    pub(super) fn prefill_alone(&mut self, answer: Option<&Object>) -> Option<Reply> {
        let answer =
            answer.filter(|answer| self.proxy.config.dialect.ends_with_prefill(&self.asked, answer))?;
        let (bytes, kind) = match self.asked.streams() {
            true => (shown_alone(&self.asked, answer), "text/event-stream; charset=utf-8"),
            false => (whole_answer(&self.asked, answer, None), "application/json"),
        };
        Some(self.whole_reply(bytes, kind))
    }

    /// One answer of both, to a client that wants no stream.
    pub(super) async fn whole_of_both(mut self, first: &Object, decode: Answer) -> Departure {
        let read = decode.collect(LONGEST_ANSWER).await;
        let decode = read.and_then(|bytes| {
            let parsed = Object::parse(&bytes);
            parsed.map_err(|error| {
                LegFault::new(FaultKind::Protocol, format!("its answer is no JSON: {error}"))
            })
        });
        let decode = decode.map_err(|fault| self.failed(Role::Decode, &fault))?;
        let bytes = whole_answer(&self.asked, first, Some(&decode));
        Ok(self.whole_reply(bytes, "application/json"))
    }

    fn whole_reply(&mut self, bytes: Vec<u8>, kind: &'static str) -> Reply {
        self.visit.end(Ending::Ok);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let mut reply = Response::new(ReplyBody::whole(Bytes::from(bytes)));
        *reply.headers_mut() = self.told(headers);
        reply
    }
}

impl Joined {
    fn reply(joiner: Joiner, stage: Stage, out: Vec<u8>, headers: HeaderMap) -> Reply {
        let joined = Self { joiner, stage, out, fault: None };
        let mut reply = Response::new(ReplyBody::live(Source::Joined(joined)));
        *reply.headers_mut() = headers;
        reply
    }

    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, LegFault>>> {
        loop {
            if !self.out.is_empty() {
                let bytes = Bytes::copy_from_slice(&self.out);
                self.out.clear();
                return Poll::Ready(Some(Ok(bytes)));
            }
            if let Some(fault) = self.fault.take() {
                self.stage = Stage::Ended;
                return Poll::Ready(Some(Err(fault)));
            }
            match std::mem::replace(&mut self.stage, Stage::Ended) {
                Stage::Ended => return Poll::Ready(None),
                Stage::Prefill(mut body, journey, notice) => {
                    let Poll::Ready(read) = body.poll_data(context) else {
                        self.stage = Stage::Prefill(body, journey, notice);
                        return Poll::Pending;
                    };
                    self.prefill(read, body, journey, notice);
                }
                Stage::Between(mut behind) => {
                    let Poll::Ready((journey, answered)) = behind.as_mut().poll(context) else {
                        self.stage = Stage::Between(behind);
                        return Poll::Pending;
                    };
                    match answered {
                        Ok(answer) => self.stage = Stage::Decode(answer.body, journey),
                        Err(problem) => self.tell(&problem),
                    }
                }
                Stage::Decode(mut body, journey) => {
                    let Poll::Ready(read) = body.poll_data(context) else {
                        self.stage = Stage::Decode(body, journey);
                        return Poll::Pending;
                    };
                    if self.joiner.passes() && matches!(read, Some(Ok(_))) {
                        self.stage = Stage::Decode(body, journey);
                        return Poll::Ready(read);
                    }
                    self.decode(read, body, journey);
                }
            }
        }
    }

    fn prefill(
        &mut self,
        read: Option<Result<Bytes, LegFault>>,
        body: AnswerBody,
        mut journey: Box<Journey>,
        notice: Option<Waiting>,
    ) {
        match read {
            Some(Ok(bytes)) => match self.joiner.prefill(&bytes, &mut self.out) {
                Ok(()) => self.stage = Stage::Prefill(body, journey, notice),
                Err(large) => self.break_off(journey, LegFault::new(FaultKind::Protocol, large.to_string())),
            },
            Some(Err(fault)) => self.break_off(journey, fault),
            None => {
                self.joiner.prefill_ended(&mut self.out);
                if self.joiner.prefill_failed() {
                    // The client has read what it was.
                    return self
                        .break_off(journey, LegFault::new(FaultKind::Protocol, "an error in its stream"));
                }
                journey.prefill_over();
                self.stage = Stage::Between(Box::pin(journey.decode_behind(None, notice)));
            }
        }
    }

    fn decode(&mut self, read: Option<Result<Bytes, LegFault>>, body: AnswerBody, mut journey: Box<Journey>) {
        match read {
            Some(Ok(bytes)) => {
                journey.prefill.released();
                match self.joiner.decode(&bytes, &mut self.out) {
                    Ok(()) => self.stage = Stage::Decode(body, journey),
                    Err(large) => {
                        self.break_off(journey, LegFault::new(FaultKind::Protocol, large.to_string()));
                    }
                }
            }
            Some(Err(fault)) => self.break_off(journey, fault),
            None => {
                self.joiner.decode_ended(&mut self.out);
                journey.visit.end(Ending::Ok);
            }
        }
    }

    /// Tells the client in its stream, whose head was sent long ago, and breaks it off.
    fn tell(&mut self, problem: &Problem) {
        let error = json!({ "error": { "message": problem.message, "type": "UpstreamError", "param": null,
            "code": problem.status.as_u16() } });
        self.out.extend_from_slice(format!("data: {error}\n\n").as_bytes());
        self.fault = Some(LegFault::new(FaultKind::Cut, problem.message.clone()));
    }

    fn break_off(&mut self, mut journey: Box<Journey>, fault: LegFault) {
        journey.visit.end(Ending::Broken);
        self.fault = Some(fault);
    }
}
