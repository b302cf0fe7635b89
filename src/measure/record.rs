use super::{Asking, EndedIn, EventTimes, Offset, Outcome};
use crate::wire::ServerTiming;
use crate::wire::openai::Usage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why a request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The one request before the load that shows that the target answers.
    Probe,
    /// Sent before the clock of the main run starts.
    Warmup,
    /// The measured load.
    Main,
    /// Puts the KV of the replicas to come where they find it.
    Prefill,
    /// One of many equal decode requests that are held to be in flight at the same time.
    Replica,
    /// Asks for the answer to a question, or to several.
    Question,
    /// Part of a functional check; `asking` says which.
    Check,
}

/// Which clock stamped what came from the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stamps {
    /// The kernel, when the packet arrived.
    Kernel,
    /// This process, when it had read the packet.
    #[default]
    User,
}

/// Where a count of prompt tokens comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptTokensSource {
    /// The server's usage object.
    Usage,
    /// Our tokenizer.
    Tokenizer,
    /// The estimate of four bytes a token.
    Estimate,
}

/// Where a count of output tokens comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputTokensSource {
    /// The server's usage object.
    Usage,
    /// Token events were counted.
    Events,
}

/// Something worth knowing about a stream that does not change its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// Token events without text.
    EmptyText,
    /// Token events that shared a packet, and so a stamp, with the one before.
    Coalesced,
    /// The stream ended without `[DONE]`.
    MissingDone,
    /// Data came after `[DONE]`.
    AfterDone,
    /// The last event had no blank line after it.
    Unterminated,
    /// Tokens told in one place contradict those told in another.
    Mismatch,
    /// The whole answer arrived in one read: its TTFT and ITL mean nothing.
    BufferedByProxy,
    /// Sent again on a fresh connection because a kept-alive one had been closed.
    StaleRetry,
}

/// Counts of flags, only those that are not zero.
pub type Flags = BTreeMap<Flag, u32>;

/// What happened to one request. All times are offsets from the run's origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Number within the run, over all kinds, in sending order.
    pub i: u32,
    /// Why it was sent.
    pub kind: Kind,
    /// Request id, as sent in `x-request-id`.
    pub id: String,
    /// When it was due.
    #[serde(rename = "scheduled_us")]
    pub scheduled: Offset,
    /// When it could have been sent: when due, or when the slot it had to wait for became free.
    #[serde(rename = "ready_us", default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Offset>,
    /// When it started: before connecting where no connection was open, else before the write.
    #[serde(rename = "sent_us", default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Offset>,
    /// When its own new connection was open.
    #[serde(rename = "connected_us", default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<Offset>,
    /// When the response head was whole.
    #[serde(rename = "headers_us", default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Offset>,
    /// When a chunk with nothing but a role came.
    #[serde(rename = "role_us", default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Offset>,
    /// When each token event came.
    #[serde(rename = "events_us")]
    pub events: EventTimes,
    /// Tokens of each event, where the server tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events_tokens: Vec<u32>,
    /// When it ended, whatever the outcome.
    #[serde(rename = "finished_us")]
    pub finished: Offset,
    /// Which clock stamped the events.
    pub stamps: Stamps,
    /// Output tokens asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_tokens: Option<u32>,
    /// The server was told to ignore the end-of-sequence token.
    pub ignore_eos: bool,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Where that count comes from.
    pub prompt_tokens_source: PromptTokensSource,
    /// Tokens of the answer.
    pub output_tokens: u32,
    /// Where that count comes from.
    pub output_tokens_source: OutputTokensSource,
    /// The prefill leg's usage, where a proxy joined two streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill_usage: Option<Usage>,
    /// Prompt tokens that came from a cache, where the server tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u32>,
    /// The last finish reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// The phase it ended in.
    pub ended_in: EndedIn,
    /// HTTP status, once there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// What went wrong, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What else is worth knowing.
    #[serde(default, skip_serializing_if = "Flags::is_empty")]
    pub flags: Flags,
    /// Bytes read from the socket.
    pub bytes: u64,
    /// The instance that it went to, as `host:port`, where the sender chose among several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Number, from 0, of the batch that it belongs to, in a run of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<u32>,
    /// Where a proxy says its time went, milliseconds by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_timing: Option<ServerTiming>,
    /// Sends of this request in this run, from 1; above 1 only in a further pass.
    pub attempt: u32,
    /// Which questions it asked, in an accuracy run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asking: Option<Asking>,
    /// Seconds after which the server wants to be asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
    /// The answer's text, where it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl RequestRecord {
    /// A request that is due, and of which nothing else is known.
    pub fn due(i: u32, kind: Kind, id: String, scheduled: Offset) -> Self {
        Self {
            i,
            kind,
            id,
            scheduled,
            ready: None,
            sent: None,
            connected: None,
            headers: None,
            role: None,
            events: EventTimes::default(),
            events_tokens: Vec::new(),
            finished: scheduled,
            stamps: Stamps::User,
            requested_tokens: None,
            ignore_eos: false,
            prompt_tokens: 0,
            prompt_tokens_source: PromptTokensSource::Estimate,
            output_tokens: 0,
            output_tokens_source: OutputTokensSource::Events,
            prefill_usage: None,
            cached_tokens: None,
            finish_reason: None,
            outcome: Outcome::Internal,
            ended_in: EndedIn::Queue,
            http_status: None,
            error: None,
            flags: Flags::new(),
            bytes: 0,
            node: None,
            stage: None,
            server_timing: None,
            attempt: 1,
            asking: None,
            retry_after_s: None,
            text: None,
        }
    }

    /// True when its latencies count.
    pub fn is_ok(&self) -> bool {
        self.outcome == Outcome::Ok
    }

    /// Counts a flag once more.
    pub fn flag(&mut self, flag: Flag) {
        *self.flags.entry(flag).or_insert(0) += 1;
    }

    /// True when it is part of the measured load.
    pub fn is_main(&self) -> bool {
        matches!(self.kind, Kind::Main | Kind::Replica | Kind::Question | Kind::Check)
    }

    /// True when the flag was counted at least once.
    pub fn has(&self, flag: Flag) -> bool {
        self.flags.get(&flag).is_some_and(|&count| 0 < count)
    }

    /// When it could have been sent: `ready`, or when due where no wait was recorded.
    pub fn ready_or_due(&self) -> Offset {
        self.ready.unwrap_or(self.scheduled)
    }
}
