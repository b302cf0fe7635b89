//! The truth log: what the cluster did for each request, by its own clock, one JSON line per request
//! when it ends, after one header line. What a client claims to have measured is held against it.
//! Deliberately absent: files; lines go to a sink that the caller opened.

use super::fabric::Member;
use super::sequence::Work;
use super::{Config, Totals};
use crate::cluster::Role;
use crate::measure::{EventTimes, Offset};
use crate::runtime::{self, Clock};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// Takes the lines of a truth log, each without its line end. Called while the cluster works: hand the
/// line over and return.
pub type TruthSink = Box<dyn FnMut(String) + Send>;

/// The version of the truth log's lines.
pub const TRUTH_SCHEMA: u32 = 4;

/// First line of a truth log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TruthHeader {
    /// [`TRUTH_SCHEMA`].
    pub schema: u32,
    /// Wall time at the clock's origin, microseconds since 1970.
    pub wall_anchor_unix_us: u64,
    /// See [`Config::to_map`].
    pub parameters: Map<String, Value>,
}

/// What happened to one request at one node: a line of the truth log. The legs of one request share its id. Times
/// are since the clock's origin. Those of prefill and KV are the cost model's own, up to 1 ms before the runtime's
/// timer acts on them; those of reading and writing are stamps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// `x-request-id`, or what the cluster made up: the response's id without its `cmpl-` or `chatcmpl-`.
    pub id: String,
    /// Head and body of the request had been read.
    pub received_us: Offset,
    /// The node's first step with its prompt began; `None` where its KV came from elsewhere, and when the prompt
    /// was not computed when the request ended.
    pub prefill_start_us: Option<Offset>,
    /// Its prompt was computed, and with it its first token.
    pub prefill_end_us: Option<Offset>,
    /// The last KV block that came from elsewhere reached the node.
    pub kv_arrived_us: Option<Offset>,
    /// When each event with a token was handed to the socket's write, `[first, gap, gap…]`; one instant for
    /// the body of an answer that is not streamed.
    pub writes_us: EventTimes,
    /// Prompt tokens.
    pub prompt_tokens: u32,
    /// Those of them that the node had cached.
    pub cached_tokens: u32,
    /// Those of them whose KV came from another node or the store.
    pub external_tokens: u32,
    /// Those of them that the node computed.
    pub computed_tokens: u32,
    /// How often the request lost its place to others.
    pub preempted: u32,
    /// Output tokens handed to the socket.
    pub output_tokens: u32,
    /// What was wrong with the KV that came from elsewhere, if something was.
    pub kv_wrong: Option<KvWrong>,
    /// How the request ended.
    pub ended: Ended,
    /// The node's role.
    pub role: Role,
    /// The node's index within its role.
    pub node: u32,
}

/// What was wrong with KV that a node took over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvWrong {
    /// It was damaged: the answer left the right one at this token, counted from 0.
    Corrupted {
        /// The token's number.
        from_token: u32,
    },
    /// It was that of another request.
    Swapped {
        /// The other request's id.
        with: String,
    },
}

/// How a request that was accepted ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// The whole answer was handed to the socket.
    Complete,
    /// The client went away, or the cluster was stopped at once.
    Cancelled,
    /// The cluster failed.
    Error,
}

/// Where ended requests are told: the sink, if there is one, and the totals.
pub(super) struct TruthLog {
    clock: Clock,
    state: Mutex<State>,
}

impl std::fmt::Debug for TruthLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TruthLog").finish_non_exhaustive()
    }
}

struct State {
    sink: Option<TruthSink>,
    totals: Totals,
}

impl TruthLog {
    /// A log that has told its header.
    pub fn start(config: &Config, clock: Clock, mut sink: Option<TruthSink>) -> Arc<Self> {
        if let Some(sink) = &mut sink {
            let header = TruthHeader {
                schema: TRUTH_SCHEMA,
                wall_anchor_unix_us: config.wall_anchor_unix_us,
                parameters: config.to_map(),
            };
            sink(serde_json::to_string(&header).expect("maps with text keys are JSON"));
        }
        Arc::new(Self { clock, state: Mutex::new(State { sink, totals: Totals::default() }) })
    }

    /// `instant` since the clock's origin.
    pub fn offset(&self, instant: Instant) -> Offset {
        instant.saturating_duration_since(self.clock.at(Duration::ZERO)).into()
    }

    /// Counts a request that was refused.
    pub fn rejected(&self) {
        self.lock().totals.rejected += 1;
    }

    /// Notes how long after its due time a node acted.
    pub fn late_by(&self, lateness: Duration) {
        let mut state = self.lock();
        state.totals.worst_lateness = state.totals.worst_lateness.max(lateness);
    }

    /// What has been counted so far.
    pub fn totals(&self) -> Totals {
        self.lock().totals.clone()
    }

    fn tell(&self, truth: &Truth) {
        let mut state = self.lock();
        state.totals.add(truth);
        if let Some(sink) = &mut state.sink {
            sink(serde_json::to_string(truth).expect("a record of numbers and text is JSON"));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        runtime::lock(&self.state)
    }
}

/// One request's line while the request lives. Dropping it tells the line; unless it was closed before,
/// the request counts as cancelled.
#[derive(Debug)]
pub(super) struct Entry {
    log: Arc<TruthLog>,
    truth: Truth,
}

impl Entry {
    /// The line of a request with `prompt_tokens` that `node` read at `received`.
    pub fn open(
        log: &Arc<TruthLog>,
        id: String,
        received: Instant,
        prompt_tokens: u32,
        node: &Member,
    ) -> Self {
        let truth = Truth {
            id,
            received_us: log.offset(received),
            prefill_start_us: None,
            prefill_end_us: None,
            kv_arrived_us: None,
            writes_us: EventTimes::default(),
            prompt_tokens,
            cached_tokens: 0,
            external_tokens: 0,
            computed_tokens: 0,
            preempted: 0,
            output_tokens: 0,
            kv_wrong: None,
            ended: Ended::Cancelled,
            role: node.role,
            node: node.index as u32,
        };
        Self { log: Arc::clone(log), truth }
    }

    /// Notes how the node came by the prompt's KV. What it computed itself it prefilled, unless that was only
    /// the end of what came from elsewhere.
    pub fn work(&mut self, work: &Work) {
        if work.external_tokens == 0 && self.truth.kv_arrived_us.is_none() {
            self.truth.prefill_start_us = Some(self.log.offset(work.started));
            self.truth.prefill_end_us = Some(self.log.offset(work.first));
        }
        self.truth.cached_tokens = work.cached_tokens;
        self.truth.external_tokens = work.external_tokens;
        self.truth.computed_tokens = work.computed_tokens;
        self.truth.preempted = work.preempted;
    }

    /// Notes that KV from elsewhere reached the node.
    pub fn kv_arrived(&mut self, at: Instant) {
        self.truth.kv_arrived_us = Some(self.log.offset(at));
    }

    /// Notes what is wrong with that KV.
    pub fn kv_wrong(&mut self, wrong: Option<KvWrong>) {
        self.truth.kv_wrong = wrong;
    }

    /// Stamps the event with the next `tokens` output tokens.
    pub fn write(&mut self, tokens: u32) {
        self.truth.writes_us.push(self.log.clock.now().into());
        self.truth.output_tokens += tokens;
    }

    /// Settles how the request ended.
    pub fn close(&mut self, ended: Ended) {
        self.truth.ended = ended;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.log.tell(&self.truth);
    }
}
