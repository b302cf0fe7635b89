//! A prefill node: one batch at a time, in the order of arrival. Its KV capacity bounds the prefix cache
//! alone. Deliberately absent: KV that waits for its transfer, and chunks of a prompt beside other prompts.

use super::door::{Command, Door, Inbox, Next};
use super::metrics::Metrics;
use super::prefix_cache::PrefixCache;
use super::prompt::Prompt;
use super::{Config, Cost};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The way to one prefill node, whose task ends when the last handle is gone.
#[derive(Debug)]
pub(super) struct PrefillNode {
    door: Arc<Door<Job>>,
    /// What the node counts.
    pub metrics: Metrics,
}

/// What a prefill came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefilled {
    /// The batch's beginning.
    pub start: Instant,
    /// The batch's end; the KV can leave.
    pub end: Instant,
    /// Tokens that were in the prefix cache.
    pub cached_tokens: u32,
}

#[derive(Debug)]
struct Job {
    prompt: Prompt,
    received: Instant,
    done: oneshot::Sender<Prefilled>,
}

impl PrefillNode {
    /// Starts a node on the current runtime.
    pub fn start(config: &Config) -> Self {
        let (door, inbox) = Door::open();
        let metrics = Metrics::new();
        metrics.lock().nixl = true;
        let cost = config.cost.clone();
        let cache =
            config.prefix_cache.then(|| PrefixCache::new(cost.kv_capacity_tokens / cost.block_tokens));
        let engine = Engine {
            cost,
            cache,
            metrics: metrics.clone(),
            inbox,
            queue: VecDeque::new(),
            batch: Vec::new(),
        };
        tokio::spawn(engine.run());
        Self { door, metrics }
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.door.in_flight()
    }

    /// Forgets every cached block.
    pub fn reset_cache(&self) {
        self.door.tell(Command::ResetCache);
    }

    /// Computes the KV of `prompt`; dropping the future takes the request out of the node. `None` when the
    /// node is gone.
    pub async fn prefill(&self, prompt: &Prompt, received: Instant) -> Option<Prefilled> {
        let mut slot = self.door.enter();
        let (done, answer) = oneshot::channel();
        slot.submit(Job { prompt: prompt.clone(), received, done });
        let prefilled = answer.await.ok();
        slot.finish();
        prefilled
    }
}

/// A request in the running batch.
struct Running {
    number: u64,
    job: Job,
    cached_tokens: u32,
}

struct Engine {
    cost: Cost,
    cache: Option<PrefixCache>,
    metrics: Metrics,
    inbox: Inbox<Job>,
    queue: VecDeque<(u64, Job)>,
    batch: Vec<Running>,
}

impl Engine {
    async fn run(mut self) {
        let mut free_at: Option<Instant> = None;
        loop {
            let first = match self.queue.front() {
                Some((_, job)) => job.received,
                None => match self.inbox.recv().await {
                    Some(command) => {
                        self.take(command);
                        continue;
                    }
                    None => return,
                },
            };
            let start = free_at.map_or(first, |free_at| free_at.max(first));
            let uncached = self.fill_batch(start);
            let end = start + self.cost.prefill(uncached);
            if !self.wait_until(end).await {
                return;
            }
            self.finish_batch(start, end);
            free_at = Some(end);
        }
    }

    /// Obeys commands until `due`; false when nobody is left to give any.
    async fn wait_until(&mut self, due: Instant) -> bool {
        loop {
            match self.inbox.until(due).await {
                Next::Command(command) => self.take(command),
                Next::Due => return true,
                Next::Gone => return false,
            }
        }
    }

    fn take(&mut self, command: Command<Job>) {
        match command {
            Command::Submit(number, job) => {
                self.queue.push_back((number, job));
                self.metrics.lock().waiting += 1;
            }
            Command::Cancel(number) => self.cancel(number),
            Command::ResetCache => {
                if let Some(cache) = &mut self.cache {
                    cache.clear();
                }
            }
        }
    }

    /// A cancelled request leaves at once; the time of a batch that has begun stays what it was.
    fn cancel(&mut self, number: u64) {
        let mut counts = self.metrics.lock();
        if let Some(at) = self.queue.iter().position(|(queued, _)| *queued == number) {
            self.queue.remove(at);
            counts.waiting -= 1;
            counts.aborted += 1;
        } else if let Some(at) = self.batch.iter().position(|running| running.number == number) {
            let running = self.batch.remove(at);
            counts.running -= 1;
            counts.kv_tokens -= u64::from(running.job.prompt.tokens);
            counts.aborted += 1;
        }
    }

    /// Takes requests that had arrived at `start` from the queue, as long as their uncached tokens fit one
    /// step, and at least one. Gives the uncached tokens.
    fn fill_batch(&mut self, start: Instant) -> u64 {
        let mut uncached = 0;
        while let Some((_, job)) = self.queue.front().filter(|(_, job)| job.received <= start) {
            let cached_tokens = self.cached_tokens(&job.prompt);
            let more = u64::from(job.prompt.tokens - cached_tokens);
            if !self.batch.is_empty() && self.cost.prefill_batch_tokens < uncached + more {
                break;
            }
            let Some((number, job)) = self.queue.pop_front() else { break };
            uncached += more;
            if let Some(cache) = &mut self.cache {
                cache.keep(&job.prompt.blocks);
            }
            self.count_started(&job, cached_tokens, start);
            self.batch.push(Running { number, job, cached_tokens });
        }
        self.metrics.lock().iteration_tokens.observe(uncached as f64);
        uncached
    }

    /// Whole blocks found in the cache; as in vLLM the last token is always computed.
    fn cached_tokens(&self, prompt: &Prompt) -> u32 {
        let blocks = self.cache.as_ref().map_or(0, |cache| cache.cached(&prompt.blocks)) as u64;
        let reusable = u64::from(prompt.tokens.saturating_sub(1)) / self.cost.block_tokens;
        (blocks.min(reusable) * self.cost.block_tokens) as u32
    }

    fn count_started(&self, job: &Job, cached_tokens: u32, start: Instant) {
        let (tokens, cached) = (u64::from(job.prompt.tokens), u64::from(cached_tokens));
        let mut counts = self.metrics.lock();
        counts.waiting -= 1;
        counts.running += 1;
        counts.kv_tokens += tokens;
        if self.cache.is_some() {
            counts.prefix_queries += tokens;
            counts.prefix_hits += cached;
        }
        counts.queue.observe((start - job.received).as_secs_f64());
    }

    fn finish_batch(&mut self, start: Instant, end: Instant) {
        let mut counts = self.metrics.lock();
        for Running { job, cached_tokens, .. } in self.batch.drain(..) {
            let (tokens, cached) = (u64::from(job.prompt.tokens), u64::from(cached_tokens));
            let (whole, busy) = ((end - job.received).as_secs_f64(), (end - start).as_secs_f64());
            counts.running -= 1;
            counts.kv_tokens -= tokens;
            counts.computed += tokens - cached;
            counts.cache_hit += cached;
            counts.generated += 1;
            counts.finished_length += 1;
            counts.ttft.observe(whole);
            counts.e2e.observe(whole);
            counts.prefill.observe(busy);
            counts.inference.observe(busy);
            counts.decode.observe(0.0);
            counts.prompt_tokens.observe(tokens as f64);
            counts.generation_tokens.observe(1.0);
            // The request may have gone away at this very instant.
            let _ = job.done.send(Prefilled { start, end, cached_tokens });
        }
    }
}
