//! A node: an engine with its KV, and what a request goes through there. Before the engine its KV may come from
//! elsewhere; after the last token its KV may go elsewhere.

use super::answer::{Answer, Finish, Limits};
use super::door::{Door, Slot};
use super::engine::{Engine, SharedPool, reusable};
use super::fabric::{Fabric, Member, Offer};
use super::faults::{FaultKind, Faults};
use super::handoff::{Fetch, Leg};
use super::metaserver::Call;
use super::metrics::{Metrics, expose};
use super::prompt::{Prompt, mix};
use super::sequence::{Job, Token, Tokens};
use super::truth::{Ended, Entry, TruthLog};
use super::wrong::Taken;
use super::{Config, handoff};
use crate::cluster::Role;
use crate::runtime::Clock;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// One node of a cluster. Its engine ends when it is dropped.
#[derive(Debug)]
pub(super) struct Node {
    pub config: Arc<Config>,
    pub fabric: Arc<Fabric>,
    pub log: Arc<TruthLog>,
    pub metrics: Metrics,
    /// Who it is.
    pub member: Member,
    pool: SharedPool,
    clock: Clock,
    door: Arc<Door<Job>>,
    pub(super) named: AtomicU64,
    /// What it took over from others.
    pub(super) taken: Taken,
}

/// A request that a node took.
#[derive(Debug)]
pub(super) struct Accepted {
    /// Its id.
    pub id: String,
    /// Its id as vLLM extends it.
    pub full_id: String,
    /// When head and body had been read.
    pub received: Instant,
    pub prompt: Prompt,
    /// What its answer may be.
    pub limits: Limits,
    /// What it is for the node.
    pub leg: Leg,
    /// What goes wrong with it.
    pub faults: Faults,
}

/// A request in a node's engine.
#[derive(Debug)]
pub(super) struct Serving {
    pub entry: Entry,
    pub answer: Answer,
    pub prompt: Prompt,
    /// Prompt tokens that did not have to be computed, known with the first token.
    pub cached_tokens: u32,
    pub faults: Faults,
    pub full_id: String,
    leg: Leg,
    tokens: Option<Tokens>,
    last: Instant,
}

impl Serving {
    /// Waits for the next token and notes it; `None` when the node is gone.
    pub fn poll_token(&mut self, context: &mut Context<'_>) -> Poll<Option<()>> {
        let Some(tokens) = &mut self.tokens else { return Poll::Ready(None) };
        tokens.poll_next(context).map(|token| token.map(|token| self.note(&token)))
    }

    fn note(&mut self, token: &Token) {
        self.entry.work(&token.work);
        self.cached_tokens = token.work.cached_tokens + token.work.external_tokens;
        self.last = token.due;
    }

    /// What becomes of its KV after the last token; `None` when it stays where it is.
    pub fn outgoing(&mut self) -> Option<Outgoing> {
        let slot = self.tokens.take()?.into_held()?;
        Some(Outgoing {
            leg: self.leg.clone(),
            slot,
            prompt: self.prompt.clone(),
            full_id: std::mem::take(&mut self.full_id),
            ready: self.last,
            faults: self.faults.clone(),
            by_length: self.answer.finish == Finish::Length,
        })
    }
}

/// KV of a request that made its last token.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub leg: Leg,
    pub slot: Slot<Job>,
    pub prompt: Prompt,
    pub full_id: String,
    pub ready: Instant,
    pub faults: Faults,
    /// Whether it made as many tokens as it was to.
    pub by_length: bool,
}

/// KV that did not have to be computed.
struct Arrived {
    local_tokens: u32,
    external_tokens: u32,
    at: Instant,
    /// Index of the prefill node that it came from; `None` from a store.
    from: Option<usize>,
}

impl Node {
    /// Starts a node that listens on `address`, on the current runtime.
    pub fn start(
        config: &Arc<Config>,
        fabric: &Arc<Fabric>,
        log: &Arc<TruthLog>,
        clock: Clock,
        (role, index, address): (Role, usize, SocketAddr),
    ) -> Arc<Self> {
        let config = Arc::new(config.of_node(role, index));
        let (metrics, pool) = (Metrics::new(), SharedPool::new(&config));
        Arc::new(Self {
            door: Engine::start(&config, &pool, &metrics, log),
            config,
            fabric: Arc::clone(fabric),
            log: Arc::clone(log),
            member: fabric.join(role, index, address),
            metrics,
            pool,
            clock,
            named: AtomicU64::new(0),
            taken: Taken::default(),
        })
    }

    /// An id for a request that came without one: 16 hexadecimal digits, the same in each run.
    pub fn new_id(&self) -> String {
        let count = self.named.fetch_add(1, Ordering::Relaxed);
        let own = self
            .member
            .engine_id
            .bytes()
            .fold(mix(self.config.seed), |hash, byte| mix(hash ^ u64::from(byte)));
        format!("{:016x}", mix(own ^ count))
    }

    /// Wall time of now in whole seconds since 1970.
    pub fn unix_s(&self) -> u64 {
        (self.config.wall_anchor_unix_us + self.clock.now().as_micros() as u64) / 1_000_000
    }

    /// The exposition of the node's metrics.
    pub fn expose(&self) -> String {
        expose(&self.metrics.lock(), &self.config)
    }

    /// Finds no prompt's beginning of before any more.
    pub fn reset_cache(&self) {
        self.pool.lock().reset();
    }

    /// Takes `accepted` into the engine, its KV before it. Dropping the future takes it out again; `None` when
    /// the engine is gone.
    pub async fn serve(self: Arc<Self>, accepted: Accepted) -> Option<Serving> {
        let Accepted { id, full_id, received, prompt, limits, leg, faults } = accepted;
        let earlier = self.taken.one_more();
        let mut entry = Entry::open(&self.log, id.clone(), received, prompt.tokens, &self.member);
        let arrived = match &leg {
            _ if faults.has(FaultKind::MadeUpKv) && self.member.role == Role::Decode => {
                let local_tokens = self.local_tokens(&prompt);
                Some(self.arrived(&prompt, local_tokens, prompt.tokens, received, None))
            }
            Leg::Fetch(fetch) => {
                let _deferred = Deferred::new(&self.metrics);
                self.fetch(fetch, &prompt, received, &full_id, &faults).await
            }
            Leg::Alone if self.member.role != Role::Prefill => self.look_up(&prompt, received, &faults).await,
            _ => None,
        };
        let faults = faults.coming_from(arrived.as_ref().and_then(|arrived| arrived.from));
        if let Some(arrived) = &arrived {
            entry.kv_arrived(arrived.at);
        }
        let answer = match arrived.as_ref().is_some_and(|arrived| 0 < arrived.external_tokens) {
            true => {
                let (answer, wrong) = self.answer_from_taken(id, &prompt, &limits, &faults, earlier);
                entry.kv_wrong(wrong);
                answer
            }
            false => Answer::new(&prompt, &self.config, &limits),
        };
        let (sender, made) = mpsc::unbounded_channel();
        let waited = Instant::now();
        // Without a wait for KV the request is ready when it came, by the same clock as all else.
        let ready =
            arrived.as_ref().map_or(if matches!(leg, Leg::Fetch(_)) { waited } else { received }, |a| a.at);
        let job = Job {
            output_tokens: answer.tokens,
            at_limit: answer.finish.reason() == "length",
            received,
            ready: ready.max(received),
            external_tokens: arrived.as_ref().map_or(0, |arrived| arrived.external_tokens),
            local_tokens: arrived.as_ref().map_or(0, |arrived| arrived.local_tokens),
            moved: arrived.is_some(),
            hold: self.gives(&leg),
            prompt: prompt.clone(),
            made: sender,
        };
        let mut slot = self.door.enter();
        let (left, hold) = (job.output_tokens, job.hold);
        if !slot.submit(job) {
            entry.close(Ended::Error);
            return None;
        }
        let tokens = Some(Tokens::new(slot, left, hold, made));
        Some(Serving {
            entry,
            answer,
            prompt,
            cached_tokens: 0,
            faults,
            full_id,
            leg,
            tokens,
            last: received,
        })
    }

    /// Whether KV goes elsewhere after the last token.
    fn gives(&self, leg: &Leg) -> bool {
        match leg {
            Leg::Give(_) => true,
            Leg::Alone => self.member.role == Role::Prefill && self.fabric.has_store(),
            Leg::Fetch(_) => false,
        }
    }

    /// Tokens of `prompt` that the node's own cache has.
    fn local_tokens(&self, prompt: &Prompt) -> u32 {
        let context = u64::from(prompt.tokens).max(1);
        reusable(&self.pool.lock(), &prompt.blocks, context, self.config.cost.block_tokens) as u32
    }

    /// Fetches the prompt's KV from the node that `fetch` names; `None` when it is not to be had.
    async fn fetch(
        &self,
        fetch: &Fetch,
        prompt: &Prompt,
        received: Instant,
        full_id: &str,
        faults: &Faults,
    ) -> Option<Arrived> {
        let local_tokens = self.local_tokens(prompt);
        self.metrics.lock().external_queries += u64::from(prompt.tokens - local_tokens);
        let wait = if fetch.wait { self.fabric.wait() } else { Duration::ZERO };
        let taking = self.fabric.take(&fetch.key, wait);
        let offer = match &fetch.metaserver {
            None => taking.await,
            Some(url) => {
                let blocks = u64::from(prompt.tokens).div_ceil(self.config.cost.block_tokens);
                let Member { engine_id, address, .. } = &self.member;
                let body = handoff::layerwise_params(engine_id, *address, full_id, blocks).to_string();
                let mut call = Call::post(url, body);
                tokio::select! {
                    offer = taking => {
                        call.detach();
                        offer
                    }
                    () = call.failed() => None,
                }
            }
        };
        let from = offer.as_ref().and_then(|offer| self.origin(offer));
        let faults = faults.coming_from(from);
        let wanted = offer.filter(|offer| {
            let engine = fetch.engine_id.as_ref().is_none_or(|id| *id == offer.engine_id);
            let port = fetch.port.is_none_or(|port| port == offer.address.port());
            offer.there && !faults.lose_kv() && engine && port && offer.hash == prompt.hash
        });
        {
            let mut counts = self.metrics.lock();
            counts.nixl |= fetch.nixl;
            counts.failed_transfers += u64::from(fetch.nixl && wanted.is_none());
        }
        let offer = wanted?;
        let tokens = u64::from(prompt.tokens - local_tokens);
        let posted = offer.ready.max(received);
        let (posted, at) = match offer.arrives {
            Some(at) => (offer.ready, at),
            None => (posted, self.fabric.link.occupy(tokens, posted, faults.slowness())),
        };
        sleep_until(at).await;
        if fetch.nixl {
            let mut counts = self.metrics.lock();
            // As NIXL tells it: from the posting of the transfer to its end, with the wait for others on the link.
            counts.transfer.observe((at - posted).as_secs_f64());
            counts.transfer_bytes.observe(self.config.cost.kv_bytes(tokens) as f64);
        }
        // The prefill node's blocks are free from here on.
        drop(offer);
        Some(self.arrived(prompt, local_tokens, prompt.tokens, at, from))
    }

    /// Index of the prefill node that made an offer.
    fn origin(&self, offer: &Offer) -> Option<usize> {
        self.fabric.member_at(offer.address.port()).map(|member| member.index)
    }

    /// Looks for the beginning of `prompt` where KV lies without a name: what was delivered here, the store.
    async fn look_up(&self, prompt: &Prompt, received: Instant, faults: &Faults) -> Option<Arrived> {
        let local_tokens = self.local_tokens(prompt);
        let key = delivered_key(&self.member.engine_id, prompt.before_last);
        if let Some(offer) = self.fabric.take(&key, Duration::ZERO).await {
            let (at, from) = (offer.arrives.unwrap_or(received), self.origin(&offer));
            self.metrics.lock().external_queries += u64::from(prompt.tokens - local_tokens);
            return Some(self.arrived(prompt, local_tokens, offer.tokens.max(local_tokens), at, from));
        }
        if let Some(timeout) = self.fabric.store_is_dead().filter(|_| self.fabric.has_store()) {
            let _deferred = Deferred::new(&self.metrics);
            sleep_until(received + timeout).await;
            return None;
        }
        let at = self.load(prompt, local_tokens, received, &faults.coming_from(None))?;
        let _deferred = Deferred::new(&self.metrics);
        sleep_until(at.1).await;
        Some(self.arrived(prompt, local_tokens, at.0, at.1, None))
    }

    /// The first `tokens` of `prompt` are here: what of them came from elsewhere, the last one always computed.
    fn arrived(
        &self,
        prompt: &Prompt,
        local_tokens: u32,
        tokens: u32,
        at: Instant,
        from: Option<usize>,
    ) -> Arrived {
        let external_tokens = tokens.min(prompt.tokens - 1) - local_tokens;
        self.metrics.lock().external_hits += u64::from(external_tokens);
        Arrived { local_tokens, external_tokens, at, from }
    }
}

/// Where KV lies that was delivered to the engine `engine_id` for a prompt with `hash`.
pub(super) fn delivered_key(engine_id: &str, hash: u64) -> String {
    format!("delivered/{engine_id}/{hash:016x}")
}

/// A request that waits for its KV.
struct Deferred(Metrics);

impl Deferred {
    fn new(metrics: &Metrics) -> Self {
        metrics.lock().deferred += 1;
        Self(metrics.clone())
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        self.0.lock().deferred -= 1;
    }
}
