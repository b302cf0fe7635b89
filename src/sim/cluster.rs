//! The nodes together, and a request's way through them: prefill, link, decode.

use super::answer::Answer;
use super::decode::{DecodeNode, Order, Tokens};
use super::events::Usage;
use super::link::Link;
use super::metrics::expose;
use super::prefill::PrefillNode;
use super::prompt::{Prompt, mix};
use super::truth::{Ended, Entry, TruthLog};
use super::{Config, Routing};
use crate::runtime::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::time::Instant;

/// A running cluster. Its nodes' tasks end when it is dropped.
pub(super) struct Cluster {
    /// What was asked for.
    pub config: Config,
    /// Where ended requests are told.
    pub log: Arc<TruthLog>,
    clock: Clock,
    prefill: Vec<PrefillNode>,
    decode: Vec<DecodeNode>,
    prefill_turn: AtomicUsize,
    decode_turn: AtomicUsize,
    named: AtomicU64,
}

/// An accepted request.
pub(super) struct Job {
    /// Its id.
    pub id: String,
    /// When head and body had been read.
    pub received: Instant,
    /// What it asks.
    pub prompt: Prompt,
    /// What it will be answered.
    pub answer: Answer,
    /// Most tokens that the request allowed.
    pub max_tokens: u32,
}

/// A request whose KV has reached its decode node.
pub(super) struct Decoding {
    /// Its line of the truth log.
    pub entry: Entry,
    /// Its tokens, as they are made.
    pub tokens: Tokens,
    /// Its answer.
    pub answer: Answer,
    /// Length of its prompt.
    pub prompt_tokens: u32,
    /// Prompt tokens that were in the prefix cache.
    pub cached_tokens: u32,
}

impl Decoding {
    /// Its prompt's tokens, before any output.
    pub fn usage(&self) -> Usage {
        let (prompt_tokens, cached_tokens) = (self.prompt_tokens, self.cached_tokens);
        Usage { prompt_tokens, cached_tokens, completion_tokens: 0 }
    }
}

impl Cluster {
    /// Starts every node on the current runtime.
    pub fn start(config: Config, clock: Clock, log: Arc<TruthLog>) -> Arc<Self> {
        let link = Arc::new(Link::new(config.cost.clone()));
        let prefill = (0..config.topology.prefill.max(1)).map(|_| PrefillNode::start(&config)).collect();
        let decode =
            (0..config.topology.decode.max(1)).map(|_| DecodeNode::start(&config, &link, &log)).collect();
        Arc::new(Self {
            config,
            log,
            clock,
            prefill,
            decode,
            prefill_turn: AtomicUsize::new(0),
            decode_turn: AtomicUsize::new(0),
            named: AtomicU64::new(0),
        })
    }

    /// An id for a request that came without one: 16 hexadecimal digits, the same in each run.
    pub fn new_id(&self) -> String {
        let count = self.named.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}", mix(mix(self.config.seed) ^ count))
    }

    /// Wall time of now in whole seconds since 1970.
    pub fn unix_s(&self) -> u64 {
        (self.config.wall_anchor_unix_us + self.clock.now().as_micros() as u64) / 1_000_000
    }

    /// The exposition of every node's metrics.
    pub fn expose(&self) -> String {
        let prefill = self.prefill.iter().map(|node| &node.metrics);
        let nodes = prefill.chain(self.decode.iter().map(|node| &node.metrics));
        expose(nodes, &self.config.model, self.config.cost.kv_capacity_tokens)
    }

    /// Empties every prefix cache.
    pub fn reset_caches(&self) {
        self.prefill.iter().for_each(PrefillNode::reset_cache);
    }

    /// Takes `job` through prefill and link to its decode node. Dropping the future takes it out of every
    /// node; `None` when a node is gone.
    pub async fn serve(self: Arc<Self>, job: Job) -> Option<Decoding> {
        let prompt_tokens = job.prompt.tokens;
        let mut entry = Entry::open(&self.log, job.id, job.received, prompt_tokens);
        let decoding = self.legs(&mut entry, &job.prompt, job.received, &job.answer, job.max_tokens).await;
        let Some((tokens, cached_tokens)) = decoding else {
            entry.close(Ended::Error);
            return None;
        };
        Some(Decoding { entry, tokens, answer: job.answer, prompt_tokens, cached_tokens })
    }

    async fn legs(
        &self,
        entry: &mut Entry,
        prompt: &Prompt,
        received: Instant,
        answer: &Answer,
        max_tokens: u32,
    ) -> Option<(Tokens, u32)> {
        let chosen = self.choose(&self.prefill_turn, self.prefill.iter().map(PrefillNode::in_flight));
        let prefilled = self.prefill[chosen].prefill(prompt, received).await?;
        entry.prefilled(chosen as u32, prefilled.start, prefilled.end, prefilled.cached_tokens);
        let order = Order {
            prompt_tokens: prompt.tokens,
            output_tokens: answer.tokens,
            max_tokens,
            at_limit: answer.finish.reason() == "length",
            received: prefilled.end,
        };
        let chosen = self.choose(&self.decode_turn, self.decode.iter().map(DecodeNode::in_flight));
        let tokens = self.decode[chosen].decode(order).await?;
        entry.kv_arrived(chosen as u32, tokens.kv_arrived);
        Some((tokens, prefilled.cached_tokens))
    }

    /// The index of the node to take, of nodes with these many requests in flight.
    fn choose(&self, turn: &AtomicUsize, in_flight: impl ExactSizeIterator<Item = usize>) -> usize {
        match self.config.routing {
            Routing::RoundRobin => turn.fetch_add(1, Ordering::Relaxed) % in_flight.len(),
            Routing::LeastInFlight => {
                in_flight.enumerate().min_by_key(|(_, busy)| *busy).map_or(0, |(index, _)| index)
            }
        }
    }
}
