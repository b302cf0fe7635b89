use super::KeepText;
use super::tally::{Tally, TokenEvent};
use crate::measure::{
    EndedIn, Flag, Kind, Offset, Outcome, RequestRecord, Rules, StreamFacts, StreamFault, TransportEnd,
};
use crate::wire::http1::{Head, Http1Error, Limits, Part, ResponseReader};
use crate::wire::openai::{BadChunk, Chunk, ChunkReader, Piece};
use crate::wire::sse::{Event, Splitter};
use crate::wire::{Secret, server_timing};
use std::sync::Arc;

/// Reads one response into its record: bytes and stamps in, no sockets, no clock.
pub(super) struct Reading {
    pub(super) record: RequestRecord,
    response: ResponseReader,
    splitter: Splitter,
    chunks: ChunkReader,
    pub(super) facts: StreamFacts,
    /// When the last event of any kind came.
    pub(super) last_event: Option<Offset>,
    pub(super) keep_text: KeepText,
    keep_alive: bool,
    /// Taken out of whatever the server says.
    secrets: Arc<[Secret]>,
    /// How far the request has come, as its stream says; what is read says more.
    phase: EndedIn,
    /// When the last bytes came.
    last_bytes: Offset,
    /// The body as far as it held no event: an error page, or an answer that is no stream.
    pub(super) opening: Vec<u8>,
    /// How much of that is kept.
    most_opening: usize,
    pub(super) tally: Tally,
}

/// How far a response has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More is to come.
    More,
    /// It is whole.
    Whole,
}

/// Sizes beyond which a response is refused.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Head and body.
    pub response: Limits,
    /// Most bytes of one event.
    pub event: usize,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { response: Limits::default(), event: 1 << 20 }
    }
}

/// Bytes of a body without events that are kept to tell what it is.
pub(super) const OPENING: usize = 64 << 10;
/// Bytes of an answer that somebody wants: its KV's block numbers may be many.
pub(super) const ANSWER: usize = 16 << 20;
/// Bytes of an explanation that go into the record.
const ERROR_TEXT: usize = 2 << 10;

impl Reading {
    pub(super) fn new(
        record: RequestRecord,
        limits: ReadLimits,
        keep_text: KeepText,
        secrets: Arc<[Secret]>,
    ) -> Self {
        Self {
            record,
            response: ResponseReader::new(limits.response),
            splitter: Splitter::new(limits.event),
            chunks: ChunkReader::default(),
            facts: StreamFacts::default(),
            last_event: None,
            keep_text,
            keep_alive: false,
            secrets,
            phase: EndedIn::Queue,
            last_bytes: Offset::default(),
            opening: Vec::new(),
            most_opening: OPENING,
            tally: Tally::new(keep_text != KeepText::Nothing),
        }
    }

    /// Keeps so much of a body without events.
    pub(super) fn keeping(mut self, most: usize) -> Self {
        self.most_opening = most;
        self
    }

    /// Notes how far the request itself has come.
    pub(super) fn reached(&mut self, phase: EndedIn) {
        self.phase = phase;
    }

    /// True while no byte of a response has come.
    pub(super) fn is_untouched(&self) -> bool {
        self.record.bytes == 0
    }

    /// True once the response is whole and its connection may carry a further request.
    pub(super) fn reusable(&self) -> bool {
        self.response.ended() && self.keep_alive
    }

    /// Takes what one read from the socket gave, which arrived at `at`.
    ///
    /// # Errors
    /// How the transport ended, when the response cannot be read on.
    pub(super) fn take(&mut self, mut bytes: &[u8], at: Offset) -> Result<Progress, TransportEnd> {
        self.tally.read();
        self.last_bytes = at;
        self.record.bytes += bytes.len() as u64;
        let taken = loop {
            match self.response.next(&mut bytes) {
                Ok(None) => break Ok(Progress::More),
                Ok(Some(Part::Head(head))) => self.head(head, at),
                Ok(Some(Part::Body(piece))) => {
                    if let Err(end) = self.body(piece, at) {
                        break Err(end);
                    }
                }
                Ok(Some(Part::End)) => break Ok(Progress::Whole),
                Err(error) => break Err(self.refuse(&error)),
            }
        };
        if taken == Ok(Progress::Whole) && !bytes.is_empty() {
            self.keep_alive = false;
        }
        taken
    }

    /// Tells that the connection closed.
    pub(super) fn closed(&mut self) -> TransportEnd {
        self.keep_alive = false;
        if self.response.closed() {
            return TransportEnd::Complete;
        }
        self.explain(|| "the connection closed before the response was whole".into());
        TransportEnd::Cut
    }

    fn refuse(&mut self, error: &Http1Error) -> TransportEnd {
        self.explain(|| error.to_string());
        match error {
            Http1Error::HeadTooLarge(_) | Http1Error::BodyTooLarge(_) => TransportEnd::TooLarge,
            Http1Error::Malformed(_) => TransportEnd::Cut,
        }
    }

    /// Keeps the first explanation: without secrets, and then no longer than it needs to be.
    pub(super) fn explain(&mut self, what: impl FnOnce() -> String) {
        if self.record.error.is_none() {
            self.record.error = Some(cut(self.redacted(what()), ERROR_TEXT));
        }
    }

    /// A text without the secrets of this run.
    pub(super) fn redacted(&self, mut text: String) -> String {
        for secret in self.secrets.iter().map(Secret::expose).filter(|secret| !secret.is_empty()) {
            if text.contains(secret) {
                text = text.replace(secret, "[redacted]");
            }
        }
        text
    }

    fn head(&mut self, head: Head, at: Offset) {
        self.record.headers = Some(at);
        self.record.http_status = Some(head.status);
        self.facts.status = Some(head.status);
        self.keep_alive = head.keep_alive;
        self.record.retry_after_s = head.retry_after_s;
        self.record.server_timing = head.server_timing.as_deref().and_then(server_timing);
        if let Some(encoding) = head.content_encoding {
            self.facts.encoded = true;
            self.explain(|| format!("content-encoding `{encoding}`, which was not asked for"));
        }
        if let Some(location) = head.location.filter(|_| (300..400).contains(&head.status)) {
            self.explain(|| format!("HTTP {} to {location}; redirects are not followed", head.status));
        }
    }

    fn body(&mut self, mut piece: &[u8], at: Offset) -> Result<(), TransportEnd> {
        if self.facts.answered {
            piece = self.plain_events(piece, at);
            if piece.is_empty() {
                return Ok(());
            }
        } else {
            let room = self.most_opening - self.opening.len();
            self.opening.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        if !self.is_stream() {
            return Ok(());
        }
        // Taken out for the time of the call, so that its events may change the rest.
        let mut splitter = std::mem::replace(&mut self.splitter, Splitter::new(0));
        let fed = splitter.feed(piece, |event| self.event(event, at));
        self.splitter = splitter;
        fed.map_err(|too_large| {
            self.explain(|| too_large.to_string());
            TransportEnd::TooLarge
        })
    }

    /// Takes the events at the front of a piece that are a token's text in the usual frame, as nearly all are; gives
    /// what is left.
    fn plain_events<'a>(&mut self, mut piece: &'a [u8], at: Offset) -> &'a [u8] {
        while !self.facts.done
            && let Some((text, len)) = self.chunks.plain_event(piece)
            && self.splitter.pass_over(len)
        {
            self.last_event = Some(at);
            let event = TokenEvent { text: text.into(), ..TokenEvent::default() };
            self.tally.token(&mut self.record, &event, at);
            piece = &piece[len..];
        }
        piece
    }

    /// Events are looked for in successful, unencoded bodies, whatever their content type.
    fn is_stream(&self) -> bool {
        self.facts.status.is_some_and(|status| (200..300).contains(&status)) && !self.facts.encoded
    }

    fn event(&mut self, event: Event<'_>, at: Offset) {
        self.last_event = Some(at);
        if !self.facts.answered {
            self.facts.answered = true;
            self.opening = Vec::new();
        }
        if event.data == b"[DONE]" {
            if self.facts.done {
                self.record.flag(Flag::AfterDone);
            }
            self.facts.done = true;
            return;
        }
        if self.facts.done {
            self.record.flag(Flag::AfterDone);
        }
        let mut chunks = std::mem::take(&mut self.chunks);
        match chunks.read(event.data) {
            Ok(chunk) => self.chunk(chunk, event.event == b"error", event.data, at),
            Err(error) => self.bad_chunk(&error, &event),
        }
        self.chunks = chunks;
    }

    fn bad_chunk(&mut self, error: &BadChunk, event: &Event<'_>) {
        let fault = match error {
            BadChunk::Utf8(_) => StreamFault::Utf8,
            BadChunk::Json(_) => StreamFault::Json,
        };
        self.facts.fault.get_or_insert(fault);
        let text = self.redacted(String::from_utf8_lossy(event.data).into_owned());
        self.explain(|| {
            let start: String = text.chars().take(120).flat_map(char::escape_debug).collect();
            format!("event at byte {} of the body: {error}: `{start}`", event.at)
        });
    }

    fn chunk(&mut self, chunk: Chunk<'_>, named_error: bool, data: &[u8], at: Offset) {
        if named_error || chunk.error.is_some() {
            self.facts.fault.get_or_insert(StreamFault::Error);
            self.explain(|| match &chunk.error {
                Some(error) => match &error.code {
                    Some(code) => format!("{} (code {code})", error.message),
                    None => error.message.clone(),
                },
                None => String::from_utf8_lossy(data).into_owned(),
            });
        }
        let finishes = chunk.finish_reason.is_some();
        match chunk.piece {
            Piece::None => {}
            Piece::Role if self.record.role.is_none() && self.record.events.is_empty() => {
                self.record.role = Some(at);
            }
            Piece::Token(text) if !text.is_empty() || !finishes || chunk.token_ids.is_some() => {
                let event = TokenEvent { text, ids: chunk.token_ids, usage: chunk.usage };
                self.tally.token(&mut self.record, &event, at);
            }
            Piece::Role if !finishes => {
                let event = TokenEvent { ids: chunk.token_ids, usage: chunk.usage, ..TokenEvent::default() };
                self.tally.token(&mut self.record, &event, at);
            }
            Piece::Role | Piece::Token(_) => self.tally.hold(chunk.usage, at),
        }
        if let Some(reason) = chunk.finish_reason {
            self.facts.finished = true;
            self.record.finish_reason = Some(reason.into_owned());
        }
        if let Some(usage) = chunk.usage {
            self.tally.usage(usage, chunk.id.unwrap_or_default(), self.facts.finished);
        }
    }

    /// Closes the record.
    pub(super) fn finish(mut self, end: TransportEnd, at: Offset) -> RequestRecord {
        let mut splitter = std::mem::replace(&mut self.splitter, Splitter::new(0));
        let last_bytes = self.last_bytes;
        if end == TransportEnd::Complete && splitter.finish(|event| self.event(event, last_bytes)) {
            self.record.flag(Flag::Unterminated);
        }
        if end == TransportEnd::Complete && self.is_stream() && !self.facts.answered && !self.facts.encoded {
            self.whole_answer();
        }
        let tally = std::mem::replace(&mut self.tally, Tally::new(false));
        self.facts.usage_tokens = tally.close(&mut self.record);
        self.facts.token_events = self.record.events.len() as u32;
        if self.facts.answered && self.facts.finished && !self.facts.done && 0 < self.facts.token_events {
            self.record.flag(Flag::MissingDone);
        }
        let refused = self.facts.status.is_some_and(|status| !(200..300).contains(&status));
        if refused {
            self.explain_refusal();
        }
        let rules = Rules {
            requested_tokens: self.record.requested_tokens.unwrap_or(0),
            ignore_eos: self.record.ignore_eos,
            may_be_empty: self.record.kind == Kind::Question,
        };
        self.record.outcome = Outcome::judge(end, &self.facts, rules);
        if self.record.outcome == Outcome::EmptyOutput {
            self.explain(|| "the answer is well-formed but has no token".into());
        }
        self.record.ended_in = self.ended_in(end);
        if self.record.outcome == Outcome::Ok {
            // Whatever the connection did after the answer was whole.
            self.record.ended_in = EndedIn::End;
            self.record.error = None;
        }
        self.record.finish_reason = self.record.finish_reason.take().map(|text| self.redacted(text));
        let kept =
            self.record.text.take().filter(|_| self.keep_text == KeepText::All || !self.record.is_ok());
        self.record.text = kept.map(|text| self.redacted(text));
        self.record.finished = at;
        self.record.events.shrink();
        self.record
    }

    fn ended_in(&self, end: TransportEnd) -> EndedIn {
        match end {
            TransportEnd::Complete => EndedIn::End,
            TransportEnd::Dns => EndedIn::Dns,
            TransportEnd::Tls => EndedIn::Tls,
            _ if self.record.headers.is_none() => self.phase,
            _ if self.record.events.is_empty() => EndedIn::FirstToken,
            _ => EndedIn::Stream,
        }
    }

    fn explain_refusal(&mut self) {
        let body = String::from_utf8_lossy(&self.opening).into_owned();
        self.explain(|| if body.is_empty() { "an empty body".into() } else { body });
    }
}

/// A text cut to at most `most` bytes.
fn cut(mut text: String, most: usize) -> String {
    let end = (0..=most.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text.truncate(end);
    text
}
