//! One request through its two legs, in the order of its dialect.

use super::Proxy;
use super::answer::Answer;
use super::batch::Fire;
use super::before::RANK;
use super::body::{Beside, Relay, ReplyBody, Source};
use super::fan::without_key;
use super::forward::passed_headers;
use super::front::{Ending, Visit};
use super::instance::Assigned;
use super::leg::{FaultKind, LegFault};
use super::prefill::{LegEnd, Prefill, Written, prefill};
use super::problem::{Problem, Reply, mark};
use super::replica::Recorder;
use super::route::Job;
use super::timing::Timing;
use super::upstream::call;
use crate::cluster::{Node, Role};
use crate::wire::dialect::{Asked, DialectError, Leg, Order, Pair};
use crate::wire::{Object, Secret};
use bytes::Bytes;
use hyper::header::TRANSFER_ENCODING;
use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::Instant;

/// Longest error of an instance that is read whole.
const LONGEST_ERROR: usize = 1 << 20;

/// A request that has its instances.
pub(super) struct Journey {
    pub proxy: Arc<Proxy>,
    pub asked: Asked,
    /// Lines of the client's head that go to the instances.
    pub passed: Vec<u8>,
    pub request_id: String,
    pub nonce: u128,
    pub prefill: Assigned,
    pub decode: Assigned,
    pub job: Job,
    pub timing: Timing,
    pub visit: Visit,
    /// It sets a batch off.
    pub fire: Option<Fire>,
    /// Its decode leg is one of a batch.
    pub tap: Option<Box<Recorder>>,
}

/// What a journey came to: an answer that is ready to be relayed, or what is told instead.
pub(super) type Departure = Result<Reply, Problem>;

impl Journey {
    /// Goes through both legs as far as the head of the answer.
    pub async fn go(self) -> Reply {
        let order = self.proxy.config.dialect.order();
        let departed = match order {
            Order::PrefillFirst => self.prefill_first().await,
            Order::Together | Order::DecodeFirst => self.together(order).await,
        };
        departed.unwrap_or_else(Problem::reply)
    }

    /// The prefill leg to its end, then the decode leg.
    async fn prefill_first(mut self) -> Departure {
        if let Some(fire) = self.fire.take() {
            return self.fired(fire).await;
        }
        self.ask_before().await?;
        let notice = self.expect_notice();
        if self.shows_first_token() {
            return self.prefill_shown(notice).await;
        }
        let answer = match self.prefilled().await {
            Ok(answer) => Object::parse(&answer).ok(),
            Err(end) => return self.prefill_failed(end).await,
        };
        if let Some(reply) = self.prefill_alone(answer.as_ref()) {
            return Ok(reply);
        }
        self.noticed(notice).await.map_err(|fault| self.failed(Role::Prefill, &fault))?;
        let answered = self.decoded(answer.as_ref()).await?;
        match answer.filter(|_| self.proxy.config.dialect.continues_prefill() && answered.is_success()) {
            Some(first) => self.whole_of_both(&first, answered).await,
            None => Ok(self.relay(answered, None, None).await),
        }
    }

    /// The decode leg behind a prefill leg, at its instance, or once at another where that one takes no connection and
    /// the KV is not bound to it; the head of its answer.
    pub(super) async fn decoded(&mut self, answer: Option<&Object>) -> Result<Answer, Problem> {
        let request = self.decode_request(answer)?;
        let mut answered = self.decoded_here(&request).await;
        if let Err(LegFault { kind: FaultKind::Connect, .. }) = answered
            && let Some(request) = self.moved(answer)
        {
            answered = self.decoded_here(&request?).await;
        }
        answered.map_err(|fault| self.failed(Role::Decode, &fault))
    }

    /// Gives the request another decode instance, and makes its leg for that; `None` where there is none, or the KV is
    /// where no other instance finds it.
    fn moved(&mut self, answer: Option<&Object>) -> Option<Result<Written, Problem>> {
        let config = &self.proxy.config;
        let free = config.dialect.any_can_decode(config.kv_notify.is_some());
        // The one that took no connection is down by now.
        let other = free.then(|| self.proxy.roster.assign(Role::Decode, self.job)).flatten()?;
        self.decode.instance.stats.moved.fetch_add(1, Relaxed);
        self.decode = other;
        Some(self.decode_request(answer))
    }

    /// Sends the decode leg to its instance; the head of its answer.
    pub(super) async fn decoded_here(&mut self, request: &Written) -> Result<Answer, LegFault> {
        self.timing.decode_sent.get_or_insert_with(Instant::now);
        let answered = call(&self.decode.instance, &request.request(), &self.proxy.config.timeouts).await;
        self.timing.decode_head = Some(Instant::now());
        answered
    }

    /// Both legs at once, or the decode leg and then the prefill leg that it asks for. The client's head waits for
    /// the first sign that the prefill leg is good: its end, or a piece of the decode instance's answer.
    async fn together(mut self, order: Order) -> Departure {
        self.ask_before().await?;
        let mut leg = self.start_prefill(order)?;
        let request = self.decode_request(None)?;
        let written = request.request();
        let timeouts = self.proxy.config.timeouts;
        let decode = Arc::clone(&self.decode.instance);
        self.timing.decode_sent = Some(Instant::now());
        let mut answered = pin!(call(&decode, &written, &timeouts));
        let mut prefilled = false;
        let mut answer = loop {
            tokio::select! {
                biased;
                ended = &mut leg, if !prefilled => {
                    prefilled = true;
                    self.prefill_over();
                    if let Err(end) = ended {
                        return self.prefill_failed(end).await;
                    }
                }
                answer = &mut answered => break answer.map_err(|fault| self.failed(Role::Decode, &fault))?,
            }
        };
        self.timing.decode_head = Some(Instant::now());
        let mut ahead = None;
        while answer.is_success() && !prefilled && ahead.is_none() && !answer.body.is_ended() {
            tokio::select! {
                biased;
                ended = &mut leg => {
                    prefilled = true;
                    self.prefill_over();
                    if let Err(end) = ended {
                        return self.prefill_failed(end).await;
                    }
                }
                piece = answer.body.next() => match piece {
                    Some(Ok(bytes)) => ahead = Some(bytes),
                    Some(Err(fault)) => return Err(self.failed(Role::Decode, &fault)),
                    None => {}
                },
            }
        }
        let beside = (!prefilled).then_some(leg);
        Ok(self.relay(answer, ahead, beside).await)
    }

    /// The prefill leg of the concurrent orders, under way or waiting for the decode instance to ask for it.
    fn start_prefill(&mut self, order: Order) -> Result<Prefill, Problem> {
        let timeouts = self.proxy.config.timeouts;
        let instance = Arc::clone(&self.prefill.instance);
        if order == Order::Together {
            let request = self.prefill_request()?;
            self.timing.prefill_sent = Some(Instant::now());
            return Ok(Box::pin(prefill(instance, request, timeouts)));
        }
        let waiting = self.proxy.calls.expect(&self.request_id);
        let (dialect, asked, request_id) =
            (self.proxy.config.dialect, self.asked.clone(), self.request_id.clone());
        let (passed, nonce) = (self.passed.clone(), self.nonce);
        let (prefill_node, decode_node) = (instance.node(), self.decode.instance.node());
        let metaserver = self.proxy.metaserver_url.clone();
        Ok(Box::pin(async move {
            let Some(params) = waiting.called(timeouts.kv_ready).await else {
                // It had no need of a prefill, or will run into its own patience.
                return Ok(Vec::new());
            };
            let pair = Pair {
                prefill: &prefill_node,
                decode: &decode_node,
                request_id: &request_id,
                nonce,
                metaserver: &metaserver,
                rank: RANK,
            };
            let leg = dialect.prefill_leg(&asked, &pair, Some(&params));
            let leg =
                leg.map_err(|error| LegEnd::Fault(LegFault::new(FaultKind::Protocol, error.to_string())))?;
            let request = Written::new(leg, &instance, &passed);
            prefill(instance, request, timeouts).await
        }))
    }

    pub(super) fn pair<'a>(&'a self, prefill: &'a Node, decode: &'a Node) -> Pair<'a> {
        Pair {
            prefill,
            decode,
            request_id: &self.request_id,
            nonce: self.nonce,
            metaserver: &self.proxy.metaserver_url,
            rank: RANK,
        }
    }

    pub(super) fn prefill_request(&mut self) -> Result<Written, Problem> {
        let (prefill, decode) = (self.prefill.instance.node(), self.decode.instance.node());
        let made = self.proxy.config.dialect.prefill_leg(&self.asked, &self.pair(&prefill, &decode), None);
        match made {
            Ok(leg) => Ok(Written::new(leg, &self.prefill.instance, &self.passed)),
            Err(error) => Err(self.unspeakable(&error)),
        }
    }

    pub(super) fn decode_request(&mut self, answer: Option<&Object>) -> Result<Written, Problem> {
        match self.decode_leg(answer) {
            Ok(leg) => Ok(Written::new(leg, &self.decode.instance, &self.passed)),
            Err(error) => Err(self.unspeakable(&error)),
        }
    }

    pub(super) fn decode_leg(&self, answer: Option<&Object>) -> Result<Leg, DialectError> {
        let (prefill, decode) = (self.prefill.instance.node(), self.decode.instance.node());
        self.proxy.config.dialect.decode_leg(&self.asked, &self.pair(&prefill, &decode), answer)
    }

    /// A leg that the dialect cannot make.
    pub(super) fn unspeakable(&mut self, error: &DialectError) -> Problem {
        if let DialectError::MissingField { .. } = error {
            return self.failed(Role::Prefill, &LegFault::new(FaultKind::Protocol, error.to_string()));
        }
        self.visit.end(Ending::Refused);
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Problem::new(status, error.to_string())
    }

    pub(super) fn failed(&mut self, role: Role, fault: &LegFault) -> Problem {
        self.visit.end(Ending::Failed);
        let instance = match role {
            Role::Prefill => &self.prefill.instance.name,
            Role::Decode | Role::Mixed => &self.decode.instance.name,
        };
        let status = match fault.kind {
            FaultKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        };
        Problem::of_leg(role, instance, status, &without_key(&self.proxy, &fault.message))
    }

    /// The prefill leg ended badly: its status is the client's, its fault ours to tell.
    pub(super) async fn prefill_failed(mut self, end: LegEnd) -> Departure {
        match end {
            LegEnd::Fault(fault) => Err(self.failed(Role::Prefill, &fault)),
            LegEnd::Status(answer) => Ok(self.pass_on(*answer, Role::Prefill).await),
            LegEnd::Unspeakable(problem) => Err(problem),
        }
    }

    /// The decode instance's answer, on its way.
    pub(super) async fn relay(self, answer: Answer, ahead: Option<Bytes>, beside: Option<Prefill>) -> Reply {
        if !answer.is_success() {
            return self.pass_on(answer, Role::Decode).await;
        }
        let beside = beside.map(|leg| -> Beside { Box::pin(judged(leg)) });
        self.depart(answer, ahead, beside)
    }

    /// An answer that is no success, as it is, with the name of its leg. Where the instances have a key of their own
    /// it is read whole: an instance may quote the key, which the client must not see.
    async fn pass_on(mut self, answer: Answer, role: Role) -> Reply {
        self.visit.end(Ending::Passed);
        let instance = answer.body.instance().to_owned();
        let mut reply = match self.proxy.config.instance_key.clone() {
            None => self.depart(answer, None, None),
            Some(key) => self.depart_without(&key, answer).await,
        };
        mark(&mut reply, role, &instance);
        reply
    }

    async fn depart_without(mut self, key: &Secret, mut answer: Answer) -> Reply {
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let headers = self.told(passed_headers(std::mem::take(&mut answer.headers)));
        let body = match answer.collect(LONGEST_ERROR).await {
            Ok(body) => key.redact(String::from_utf8_lossy(&body).into_owned()),
            Err(fault) => format!("(the rest is missing: {fault})"),
        };
        if let Some(tap) = &mut self.tap {
            tap.body(body.as_bytes());
            tap.whole();
        }
        let mut reply = Response::new(ReplyBody::whole(Bytes::from(body)));
        *reply.status_mut() = status;
        *reply.headers_mut() = headers;
        for value in reply.headers_mut().values_mut() {
            if value.to_str().is_ok_and(|value| value.contains(key.expose())) {
                *value = HeaderValue::from_static("[redacted]");
            }
        }
        reply
    }

    fn depart(self, answer: Answer, ahead: Option<Bytes>, beside: Option<Beside>) -> Reply {
        // Beside a transfer coding a length says nothing (RFC 9112, 6.3).
        let framed = answer.headers.contains_key(TRANSFER_ENCODING);
        let length = answer.headers.get(CONTENT_LENGTH).filter(|_| !framed);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let headers = self.told(passed_headers(answer.headers));
        let mut relay = Relay::new(answer.body, length, vec![self.prefill, self.decode], self.visit);
        (relay.ahead, relay.beside, relay.tap) = (ahead, beside, self.tap);
        let mut reply = Response::new(ReplyBody::live(Source::Relay(relay)));
        *reply.status_mut() = status;
        *reply.headers_mut() = headers;
        reply
    }

    /// With what the proxy has to say: who served, and where the time went.
    pub(super) fn told(&self, mut headers: HeaderMap) -> HeaderMap {
        let names = [
            ("x-pdbench-prefill", self.prefill.instance.name.clone()),
            ("x-pdbench-decode", self.decode.instance.name.clone()),
            ("server-timing", self.timing.header()),
        ];
        for (name, value) in names {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
        let id = HeaderName::from_static("x-request-id");
        if let (false, Ok(value)) = (headers.contains_key(&id), HeaderValue::from_str(&self.request_id)) {
            headers.insert(id, value);
        }
        headers
    }
}

/// A prefill leg of which only success or failure is of interest.
async fn judged(leg: Prefill) -> Result<(), LegFault> {
    match leg.await {
        Ok(_) => Ok(()),
        Err(LegEnd::Fault(fault)) => Err(fault),
        Err(LegEnd::Status(answer)) => {
            let message = format!("the prefill instance answered {}", answer.status);
            Err(LegFault::new(FaultKind::Protocol, message))
        }
        Err(LegEnd::Unspeakable(problem)) => Err(LegFault::new(FaultKind::Protocol, problem.message)),
    }
}
