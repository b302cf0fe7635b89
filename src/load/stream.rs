use super::connection::{Close, Connection};
use super::driver::Ended;
use super::lead::Led;
use super::pacer::Turn;
use super::reading::{ANSWER, OPENING, Progress, Reading};
use super::shard::ShardContext;
use super::{Idle, PassShared};
use crate::measure::{EndedIn, Flag, Kind, Offset, Outcome, RequestRecord, Stamps, TransportEnd};
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Sleep, sleep_until};

/// A kept-alive connection that closes within this after a send had been closed before it.
const STALE_WITHIN: Duration = Duration::from_secs(1);

/// A connection on which the request has been written, as far as one call could; under TLS, not at all.
pub(super) struct Open {
    pub(super) connection: Connection,
    /// When it began to be written, if it has.
    pub(super) sent: Option<Offset>,
    pub(super) written: usize,
    /// A connection for what follows a lead.
    pub(super) second: Option<Connection>,
}

/// One request from its turn to its record. The record is handed over when this is dropped, so that a request
/// that is cancelled, or whose task panics, is recorded like any other.
pub(super) struct Stream {
    pub(super) shard: Arc<ShardContext>,
    pub(super) pass: Arc<PassShared>,
    pub(super) turn: Turn,
    pub(super) reading: Option<Reading>,
    /// The connection, once it has brought the whole answer and may carry another.
    pub(super) connection: Option<Connection>,
    pub(super) end: Option<TransportEnd>,
    /// How far the lead has come, where there is one.
    pub(super) led: Led,
    /// The request is in the live count.
    counted: bool,
    /// When the last bytes came.
    pub(super) last_read: Option<Offset>,
}

impl Stream {
    /// A request; `sent` when it has been written already.
    pub(super) fn new(
        shard: Arc<ShardContext>,
        pass: Arc<PassShared>,
        turn: Turn,
        sent: Option<Offset>,
    ) -> Self {
        let mut stream = Self {
            shard,
            pass,
            turn,
            reading: None,
            connection: None,
            end: None,
            led: Led::default(),
            counted: sent.is_some(),
            last_read: None,
        };
        stream.reading = Some(stream.new_reading(sent));
        stream
    }

    /// Where the leg goes that is under way.
    pub(super) fn place(&self) -> usize {
        self.led.place(&self.pass.requests[self.turn.index])
    }

    /// Sends the request, unless it has been, and reads the answer to its end.
    pub(super) async fn run(mut self, open: Option<Open>) {
        let written = open.as_ref().and_then(|open| open.sent);
        self.count();
        let sent = written.unwrap_or_else(|| self.shard.stamp_clock.now());
        self.record().sent = Some(sent);
        let open = match self.pass.requests[self.turn.index].lead.is_some() {
            false => open,
            true => match Box::pin(self.lead(open, sent)).await {
                Ok(second) => second,
                Err(end) => {
                    self.end = Some(end);
                    return;
                }
            },
        };
        self.end = Some(self.exchange(open, sent).await);
    }

    /// Sends and reads, on a fresh connection once more where a kept-alive one had been closed.
    pub(super) async fn exchange(&mut self, open: Option<Open>, sent: Offset) -> TransportEnd {
        let reused = open.is_some();
        let began = open.as_ref().and_then(|open| open.sent).unwrap_or_else(|| self.shard.stamp_clock.now());
        let end = self.attempt(open).await;
        if !reused || !self.was_stale(end, began) {
            return end;
        }
        // The server had closed the kept-alive connection: the only retry there is.
        self.reading = Some(self.new_reading(Some(sent)));
        self.record().flags.insert(Flag::StaleRetry, 1);
        let again = self.shard.stamp_clock.now();
        let end = self.attempt(None).await;
        if self.was_stale(end, again) { TransportEnd::Stale } else { end }
    }

    /// Counts the request as sent, once.
    fn count(&mut self) {
        if !std::mem::replace(&mut self.counted, true) {
            self.shard.live.sent();
        }
    }

    /// The server had closed the connection before it saw the request. One that dies later took the request.
    fn was_stale(&self, end: TransportEnd, sent: Offset) -> bool {
        matches!(end, TransportEnd::Cut | TransportEnd::Reset)
            && self.shard.stamp_clock.now() - sent < STALE_WITHIN
            && self.reading.as_ref().is_some_and(Reading::is_untouched)
    }

    pub(super) fn reading(&mut self) -> &mut Reading {
        self.reading.as_mut().expect("it is taken out only when the stream is dropped")
    }

    pub(super) fn record(&mut self) -> &mut RequestRecord {
        &mut self.reading().record
    }

    async fn attempt(&mut self, open: Option<Open>) -> TransportEnd {
        let (mut connection, written) = match open {
            Some(open) => (open.connection, open.written),
            // Boxed: its state, a handshake's above all, is not to be carried through the whole answer.
            None => match Box::pin(self.connect()).await {
                Ok(opened) => opened,
                Err(end) => return end,
            },
        };
        self.reading().reached(EndedIn::Send);
        let mut timer = pin!(sleep_until(self.shard.config.clock.at(self.wake().into())));
        if let Some(end) = self.write(&mut connection, written, timer.as_mut()).await {
            return end;
        }
        self.reading().reached(EndedIn::Headers);
        let end = self.read(&mut connection, timer).await;
        self.connection = Some(connection).filter(Connection::is_open);
        end
    }

    /// What reads the answer of the leg that is under way.
    pub(super) fn new_reading(&self, sent: Option<Offset>) -> Reading {
        let (request, config) = (&self.pass.requests[self.turn.index], &self.shard.config);
        let i = self.pass.first_i + self.turn.index as u32;
        let record = RequestRecord {
            ready: Some(self.turn.ready),
            sent,
            stamps: self.shard.stamp_clock.stamps(),
            // A prefill leg makes one token.
            requested_tokens: Some(if self.led.is_under_way() { 1 } else { request.requested_tokens }),
            ignore_eos: request.ignore_eos && !self.led.is_under_way(),
            prompt_tokens: request.prompt_tokens,
            prompt_tokens_source: request.prompt_tokens_source,
            node: config.places[self.place()].name.clone(),
            stage: self.pass.stage,
            asking: request.asking.clone(),
            attempt: request.attempt,
            ..RequestRecord::due(i, self.pass.kind, request.id.clone(), self.turn.scheduled)
        };
        let whole = self.pass.answers.is_some() || self.led.is_under_way() || request.asking.is_some();
        let keep = if whole { ANSWER } else { OPENING };
        Reading::new(record, config.read_limits, config.keep_text, Arc::clone(&config.secrets)).keeping(keep)
    }

    /// Writes what is left of the request; `Some` when it cannot be finished in time. A connection that
    /// refuses further bytes may still hold an answer: the reading finds out.
    async fn write(
        &mut self,
        connection: &mut Connection,
        mut written: usize,
        mut timer: std::pin::Pin<&mut Sleep>,
    ) -> Option<TransportEnd> {
        let (pass, made) = (Arc::clone(&self.pass), self.led.made());
        let bytes = self.led.bytes(&pass.requests[self.turn.index], made.as_deref());
        while written < bytes.len() || connection.owes_bytes() {
            match connection.try_write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::select! {
                        biased;
                        _ = connection.socket().writable() => {}
                        () = timer.as_mut() => {
                            let (deadline, end) = self.deadline();
                            if deadline <= self.shard.stamp_clock.now() {
                                self.reading().explain(|| "the request could not be written in time".into());
                                return Some(end);
                            }
                            timer.as_mut().reset(self.shard.config.clock.at(self.wake().into()));
                        }
                    }
                }
                Err(_) => break,
            }
        }
        None
    }

    async fn read(
        &mut self,
        connection: &mut Connection,
        mut timer: std::pin::Pin<&mut Sleep>,
    ) -> TransportEnd {
        loop {
            let readable = poll_fn(|context| match connection.socket().poll_read_ready(context) {
                Poll::Ready(ready) => Poll::Ready(Some(ready)),
                Poll::Pending => timer.as_mut().poll(context).map(|()| None),
            });
            if readable.await.is_none() {
                let (deadline, end) = self.deadline();
                if deadline <= self.shard.stamp_clock.now() {
                    return end;
                }
                timer.as_mut().reset(self.shard.config.clock.at(self.wake().into()));
            } else if let Some(end) = self.read_once(connection) {
                return end;
            }
        }
    }

    /// One read from the socket; `Some` when it was the last.
    fn read_once(&mut self, connection: &mut Connection) -> Option<TransportEnd> {
        let shard = Arc::clone(&self.shard);
        let mut buffer = shard.buffer();
        let reading = self.reading.as_mut()?;
        let received = match connection.try_read(&shard.stamp_clock, &mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) => {
                reading.explain(|| format!("the connection broke: {error}"));
                return Some(TransportEnd::Reset);
            }
        };
        self.last_read = Some(received.at);
        if !received.bytes.is_empty() {
            if received.stamps == Stamps::User {
                reading.record.stamps = Stamps::User;
            }
            let before = reading.record.events.len();
            let progress = reading.take(received.bytes, received.at);
            shard.live.tokens((reading.record.events.len() - before) as u64);
            match progress {
                Ok(Progress::More) => {}
                Ok(Progress::Whole) => return Some(TransportEnd::Complete),
                Err(end) => return Some(end),
            }
        }
        received.end.map(|end| closed(reading, end))
    }

    /// When to look at the deadline again: the next event may bring it no nearer than this.
    fn wake(&self) -> Offset {
        let soon = self.shard.stamp_clock.now() + self.shard.config.timeouts.idle;
        self.deadline().0.min(soon)
    }

    /// When the request runs out of time as things stand, and what that is called.
    pub(super) fn deadline(&self) -> (Offset, TransportEnd) {
        let timeouts = &self.shard.config.timeouts;
        let reading = self.reading.as_ref();
        let sent = reading.and_then(|reading| reading.record.sent).unwrap_or_default();
        let silent = match reading.filter(|reading| !reading.record.events.is_empty()) {
            None => (sent + timeouts.first_token, TransportEnd::FirstTokenTimeout),
            Some(reading) => (reading.last_event.unwrap_or(sent) + timeouts.idle, TransportEnd::IdleTimeout),
        };
        let whole = timeouts.request.map(|most| (sent + most, TransportEnd::RequestTimeout));
        whole.filter(|whole| whole.0 < silent.0).unwrap_or(silent)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Some(reading) = self.reading.take() else { return };
        let end = self.end.unwrap_or(match std::thread::panicking() || self.shard.is_broken() {
            true => TransportEnd::Internal,
            false => TransportEnd::Cancelled,
        });
        let now = self.shard.stamp_clock.now();
        let at = self.last_read.filter(|_| end == TransportEnd::Complete).unwrap_or(now);
        let reusable = end == TransportEnd::Complete && reading.reusable();
        let answer = self.pass.answers.as_ref().map(|answers| (answers, reading.opening.clone()));
        let finished = catch_unwind(AssertUnwindSafe(|| reading.finish(end, at)));
        let mut record =
            finished.unwrap_or_else(|_| self.new_reading(None).finish(TransportEnd::Internal, at));
        if let Some((answers, body)) = answer.filter(|_| record.is_ok()) {
            let taken = catch_unwind(AssertUnwindSafe(|| answers(self.turn.index, body)));
            if taken.is_err() {
                record.outcome = Outcome::Internal;
            }
        }
        if record.outcome == Outcome::Internal {
            record.error.get_or_insert_with(|| "a task of pdbench panicked".into());
        }
        self.count();
        self.shard.live.ended(&record);
        let (shard, place) = (self.shard.number, self.place());
        let idle = self.connection.take().filter(|_| reusable);
        let idle = idle.map(|connection| Idle { shard, place, connection });
        let idle = [idle, self.led.told(&mut record)];
        let failed = record.outcome.is_failure();
        let first_of_all = matches!(record.kind, Kind::Probe | Kind::Prefill);
        let probe = (first_of_all && failed).then(|| Box::new(record.clone()));
        self.shard.hand_over(Ended { index: self.turn.index, at, failed, probe, idle }, record);
    }
}

/// What the end of a connection means for the response on it.
fn closed(reading: &mut Reading, end: Close) -> TransportEnd {
    match end {
        Close::Whole => reading.closed(),
        Close::Unannounced => {
            reading.explain(|| "the connection closed without TLS's word for an end".into());
            TransportEnd::Cut
        }
        // A server may refuse a handshake after its end, when it knows who is there.
        Close::Fault(why) => {
            let end = if reading.is_untouched() { TransportEnd::Tls } else { TransportEnd::Reset };
            reading.explain(|| why);
            end
        }
    }
}
