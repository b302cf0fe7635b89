//! What became of one replica: bytes and stamps in, a record out. Handed over when it is dropped, so that a replica
//! that is cancelled has a record too.

use super::batch::Collector;
use super::leg::{FaultKind, LegFault};
use crate::measure::{
    EndedIn, Flag, Kind, Offset, Outcome, OutputTokensSource, PromptTokensSource, RequestRecord, Rules,
    StreamFacts, StreamFault, TransportEnd,
};
use crate::wire::openai::{Answer, BadChunk, Chunk, ChunkReader, Piece, Usage, read_answer};
use crate::wire::sse::{Event, Splitter};
use std::sync::Arc;

/// Longest event.
const LONGEST_EVENT: usize = 1 << 20;
/// Bytes of a body without events that are kept to tell what it is.
const OPENING: usize = 64 << 10;
/// Bytes of an explanation that go into the record.
const ERROR_TEXT: usize = 2 << 10;

/// What all replicas of a batch were asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub requested_tokens: Option<u32>,
    pub ignore_eos: bool,
    /// By estimate.
    pub prompt_tokens: u32,
}

/// Writes the record of one replica.
#[derive(Debug)]
pub(super) struct Recorder {
    collector: Arc<Collector>,
    record: RequestRecord,
    facts: StreamFacts,
    splitter: Splitter,
    chunks: ChunkReader,
    opening: Vec<u8>,
    usage: Option<Usage>,
    /// An event without text that ends the answer: a token only if usage says so.
    held: Option<Offset>,
    phase: EndedIn,
    end: TransportEnd,
}

impl Recorder {
    /// One that is released now.
    pub fn new(
        collector: Arc<Collector>,
        i: u32,
        id: String,
        node: &str,
        wanted: Wanted,
        at: Offset,
    ) -> Self {
        let record = RequestRecord {
            ready: Some(at),
            requested_tokens: wanted.requested_tokens,
            ignore_eos: wanted.ignore_eos,
            prompt_tokens: wanted.prompt_tokens,
            node: Some(node.to_owned()),
            ..RequestRecord::due(i, Kind::Replica, id, at)
        };
        Self {
            collector,
            record,
            facts: StreamFacts::default(),
            splitter: Splitter::new(LONGEST_EVENT),
            chunks: ChunkReader::default(),
            opening: Vec::new(),
            usage: None,
            held: None,
            phase: EndedIn::Queue,
            end: TransportEnd::Cancelled,
        }
    }

    fn now(&self) -> Offset {
        self.collector.clock.now().into()
    }

    /// It is being sent.
    pub fn sent(&mut self) {
        self.record.sent = Some(self.now());
        self.phase = EndedIn::Headers;
    }

    /// The head of its answer is there.
    pub fn head(&mut self, status: u16, encoded: bool) {
        self.record.headers = Some(self.now());
        self.record.http_status = Some(status);
        (self.facts.status, self.facts.encoded) = (Some(status), encoded);
        self.phase = EndedIn::FirstToken;
    }

    /// Bytes of its body have come.
    pub fn body(&mut self, bytes: &[u8]) {
        let at = self.now();
        self.record.bytes += bytes.len() as u64;
        if !self.facts.answered {
            let room = OPENING.saturating_sub(self.opening.len());
            self.opening.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        if !self.facts.status.is_some_and(|status| (200..300).contains(&status)) {
            return;
        }
        let before = self.record.events.len();
        let mut splitter = std::mem::replace(&mut self.splitter, Splitter::new(0));
        if let Err(error) = splitter.feed(bytes, |event| self.event(event, at)) {
            self.explain(error.to_string());
            self.end = TransportEnd::TooLarge;
        }
        self.splitter = splitter;
        for _ in before + 1..self.record.events.len() {
            self.record.flag(Flag::Coalesced);
        }
    }

    fn event(&mut self, event: Event<'_>, at: Offset) {
        self.facts.answered = true;
        self.opening = Vec::new();
        if event.data == b"[DONE]" {
            self.facts.done = true;
            return;
        }
        let mut chunks = std::mem::take(&mut self.chunks);
        match chunks.read(event.data) {
            Ok(chunk) => self.chunk(chunk, at),
            Err(error) => {
                let fault = match error {
                    BadChunk::Utf8(_) => StreamFault::Utf8,
                    BadChunk::Json(_) => StreamFault::Json,
                };
                self.facts.fault.get_or_insert(fault);
                self.explain(error.to_string());
            }
        }
        self.chunks = chunks;
    }

    fn chunk(&mut self, chunk: Chunk<'_>, at: Offset) {
        if let Some(error) = chunk.error {
            self.facts.fault.get_or_insert(StreamFault::Error);
            self.explain(error.message);
        }
        let finishes = chunk.finish_reason.is_some();
        match chunk.piece {
            Piece::None => {}
            Piece::Role if self.record.events.is_empty() && self.record.role.is_none() => {
                self.record.role = Some(at);
            }
            Piece::Token(text) if !text.is_empty() || !finishes || chunk.token_ids.is_some() => {
                self.record.events.push(at);
                self.phase = EndedIn::Stream;
                if text.is_empty() {
                    self.record.flag(Flag::EmptyText);
                }
            }
            Piece::Role | Piece::Token(_) => self.held = Some(at),
        }
        if let Some(reason) = chunk.finish_reason {
            self.facts.finished = true;
            self.record.finish_reason = Some(reason.into_owned());
        }
        self.usage = chunk.usage.or(self.usage);
    }

    /// Its answer is whole.
    pub fn whole(&mut self) {
        if self.end == TransportEnd::Cancelled {
            self.end = TransportEnd::Complete;
        }
    }

    /// Its leg failed.
    pub fn fail(&mut self, fault: &LegFault) {
        self.explain(fault.message.clone());
        self.end = match fault.kind {
            FaultKind::Connect => {
                self.phase = EndedIn::Connect;
                TransportEnd::Refused
            }
            FaultKind::Timeout if self.record.events.is_empty() => TransportEnd::FirstTokenTimeout,
            FaultKind::Timeout => TransportEnd::IdleTimeout,
            FaultKind::Cut | FaultKind::Protocol => TransportEnd::Cut,
        };
    }

    fn explain(&mut self, what: String) {
        if self.record.error.is_none() {
            let mut what = self.collector.redacted(what);
            what.truncate((0..=ERROR_TEXT).rev().find(|&at| what.is_char_boundary(at)).unwrap_or(0));
            self.record.error = Some(what);
        }
    }

    /// A body without events: a whole answer, or an error.
    fn opened(&mut self) {
        let opening = std::mem::take(&mut self.opening);
        if !self.facts.status.is_some_and(|status| (200..300).contains(&status)) {
            let text = String::from_utf8_lossy(&opening).into_owned();
            return self.explain(if text.is_empty() { "an empty body".to_owned() } else { text });
        }
        match read_answer(&opening) {
            Answer::Error(error) => self.explain(error.message),
            Answer::Completion { usage, choices } => {
                let finish_reason = choices.into_iter().next().and_then(|choice| choice.finish_reason);
                self.facts.answered = true;
                self.facts.finished = finish_reason.is_some();
                self.record.finish_reason = finish_reason;
                self.usage = usage;
                self.record.flag(Flag::BufferedByProxy);
            }
        }
    }

    /// Counts tokens by the best account there is.
    fn count(&mut self) {
        let record = &mut self.record;
        let told = self.usage.map(|usage| usage.completion_tokens);
        if let Some(held) = self.held.filter(|_| told.is_some_and(|told| record.events.len() < told as usize))
        {
            record.events.push(held);
        }
        record.output_tokens = record.events.len() as u32;
        if let Some(usage) = self.usage {
            (record.output_tokens, record.output_tokens_source) =
                (usage.completion_tokens, OutputTokensSource::Usage);
            (record.prompt_tokens, record.prompt_tokens_source) =
                (usage.prompt_tokens, PromptTokensSource::Usage);
            record.cached_tokens = usage.cached_tokens;
        }
        self.facts.usage_tokens = told;
        self.facts.token_events = record.events.len() as u32;
        if self.facts.answered && self.facts.finished && !self.facts.done && 0 < self.facts.token_events {
            record.flag(Flag::MissingDone);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.end == TransportEnd::Complete && !self.facts.answered {
            self.opened();
        }
        self.count();
        let rules = Rules {
            requested_tokens: self.record.requested_tokens.unwrap_or(0),
            ignore_eos: self.record.ignore_eos,
            may_be_empty: false,
        };
        self.record.outcome = Outcome::judge(self.end, &self.facts, rules);
        self.record.ended_in = if self.end == TransportEnd::Complete { EndedIn::End } else { self.phase };
        if self.record.outcome == Outcome::Ok {
            self.record.ended_in = EndedIn::End;
            self.record.error = None;
        }
        self.record.finished = self.now();
        self.record.events.shrink();
        let placeholder = RequestRecord::due(0, Kind::Replica, String::new(), Offset::default());
        self.collector.take(std::mem::replace(&mut self.record, placeholder));
    }
}
