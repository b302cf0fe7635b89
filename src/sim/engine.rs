//! The engine of a node, whatever its role: continuous batching as in vLLM's V1. A step takes the next token of
//! every sequence that decodes and, beside them, prompt tokens up to a budget; long prompts take several steps.
//! A step's length follows from its batch; who arrives meanwhile joins at its end. Steps follow one another by
//! the cost model's own instants, so that the timer's rounding never adds up.

use super::door::{Command, Door, Inbox, Next};
use super::metrics::Metrics;
use super::pool::{Blocks, Pool};
use super::sequence::{Job, Sequence};
use super::truth::TruthLog;
use super::{Config, Cost, Emission};
use crate::runtime;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// A node's KV blocks, shared between its engine and those that look for a prompt's beginning.
#[derive(Clone, Debug)]
pub(super) struct SharedPool(Arc<Mutex<Pool>>);

impl SharedPool {
    /// The pool of a node of `config`'s cluster.
    pub fn new(config: &Config) -> Self {
        let blocks = config.cost.kv_capacity_tokens / config.cost.block_tokens;
        Self(Arc::new(Mutex::new(Pool::new(blocks, config.prefix_cache))))
    }

    /// The pool itself.
    pub fn lock(&self) -> MutexGuard<'_, Pool> {
        runtime::lock(&self.0)
    }
}

/// One node's scheduler and the sequences in it.
pub(super) struct Engine {
    cost: Cost,
    emission: Emission,
    metrics: Metrics,
    log: Arc<TruthLog>,
    inbox: Inbox<Job>,
    pool: SharedPool,
    /// Those that lost their place first, then in the order of arrival.
    waiting: VecDeque<Sequence>,
    /// In the order of admission: the last one loses its place first.
    running: Vec<Sequence>,
    /// KV that stays after its request's end, by slot.
    held: BTreeMap<u64, Blocks>,
    admitted: u64,
    /// When the next step may begin.
    free_at: Instant,
}

impl Engine {
    /// Starts an engine on the current runtime; it ends when the last handle to its door is gone.
    pub fn start(
        config: &Config,
        pool: &SharedPool,
        metrics: &Metrics,
        log: &Arc<TruthLog>,
    ) -> Arc<Door<Job>> {
        let (door, inbox) = Door::open();
        let engine = Self {
            cost: config.cost.clone(),
            emission: config.emission,
            metrics: metrics.clone(),
            log: Arc::clone(log),
            inbox,
            pool: pool.clone(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            held: BTreeMap::new(),
            admitted: 0,
            free_at: Instant::now(),
        };
        tokio::spawn(engine.run());
        door
    }

    async fn run(mut self) {
        loop {
            if self.running.is_empty() && self.waiting.is_empty() {
                let Some(command) = self.inbox.recv().await else { return };
                self.take(command);
                continue;
            }
            while let Some(command) = self.inbox.at_hand() {
                self.take(command);
            }
            self.running.retain(|sequence| !sequence.gone);
            if let Some(front) = self.waiting.front().filter(|_| self.running.is_empty()) {
                self.free_at = self.free_at.max(front.job.ready);
            }
            let start = self.free_at;
            self.plan(start);
            if !self.running.is_empty() {
                let Some(end) = self.step(start).await else { return };
                self.free_at = end;
            } else if !self.waiting.is_empty() {
                // What is held elsewhere leaves no room: only a command can change that.
                let Some(command) = self.inbox.recv().await else { return };
                self.take(command);
                self.free_at = self.free_at.max(Instant::now());
            }
        }
    }

    fn take(&mut self, command: Command<Job>) {
        match command {
            Command::Submit(number, job) => self.waiting.push_back(Sequence::new(number, job)),
            Command::Cancel(number) => self.cancel(number),
        }
        self.count_places();
    }

    /// A cancelled request frees its place and its KV at once; a step that has begun keeps its length.
    fn cancel(&mut self, number: u64) {
        if let Some(blocks) = self.held.remove(&number) {
            self.pool.lock().give_back(blocks);
        } else if let Some(at) = self.waiting.iter().position(|sequence| sequence.number == number) {
            self.waiting.remove(at);
            self.metrics.lock().aborted += 1;
        } else if let Some(sequence) = self.running.iter_mut().find(|s| s.number == number && !s.gone) {
            sequence.gone = true;
            self.pool.lock().give_back(std::mem::take(&mut sequence.blocks));
            self.metrics.lock().aborted += 1;
        }
    }

    fn count_places(&self) {
        let mut counts = self.metrics.lock();
        counts.waiting = self.waiting.len() as u64;
        counts.running = self.running.iter().filter(|sequence| !sequence.gone).count() as u64;
        counts.kv_tokens = self.pool.lock().used() * self.cost.block_tokens;
    }

    /// Decides what the step from `start` does: first those in the batch, then those that wait.
    fn plan(&mut self, start: Instant) {
        let mut budget = self.cost.prefill_batch_tokens;
        let (mut index, mut preempted) = (0, false);
        while index < self.running.len() {
            let sequence = &mut self.running[index];
            let tokens = if sequence.decoding { sequence.left() } else { sequence.left().min(budget) };
            sequence.scheduled = tokens;
            let upto = sequence.computed + tokens;
            while index < self.running.len() && !self.fits(index, upto) {
                self.preempt();
                preempted = true;
            }
            if let Some(sequence) = self.running.get_mut(index) {
                extend(sequence, upto, &self.cost, &mut self.pool.lock());
                if !sequence.decoding {
                    budget -= tokens;
                }
            }
            index += 1;
        }
        while (!preempted || self.running.is_empty()) && self.admit(start, &mut budget) {}
        self.count_places();
    }

    /// Whether there is room for the blocks that the sequence at `index` needs for `upto` tokens.
    fn fits(&self, index: usize, upto: u64) -> bool {
        let more = upto.div_ceil(self.cost.block_tokens).saturating_sub(self.running[index].blocks.count());
        more <= self.pool.lock().room()
    }

    /// The sequence admitted last loses its place and its KV, and waits before all others.
    fn preempt(&mut self) {
        let Some(mut sequence) = self.running.pop() else { return };
        self.pool.lock().give_back(std::mem::take(&mut sequence.blocks));
        if let Some(work) = &mut sequence.work {
            work.preempted += 1;
        }
        self.waiting.push_front(sequence);
        self.metrics.lock().preemptions += 1;
    }

    /// Takes the first waiting sequence into the batch, if it is ready and there is a place, room and budget
    /// for it.
    fn admit(&mut self, start: Instant, budget: &mut u64) -> bool {
        let full = self.cost.max_num_seqs <= self.running.len() as u64;
        let Some(sequence) = self.waiting.front().filter(|s| !full && s.job.ready <= start) else {
            return false;
        };
        let mut pool = self.pool.lock();
        let hashes = &sequence.job.prompt.blocks;
        let block = self.cost.block_tokens;
        let moved = sequence.work.is_none() && sequence.job.moved;
        let here = match moved {
            true => u64::from(sequence.job.local_tokens + sequence.job.external_tokens),
            false => reusable(&pool, hashes, sequence.context(), block),
        };
        // As in vLLM the last token is always computed; after a transfer a tail of up to one block rides along.
        let computed = here.min(sequence.context() - 1);
        let left = sequence.context() - computed;
        let decoding = moved && left <= block;
        let tokens = if decoding { left } else { left.min(*budget) };
        let found = pool.found(&hashes[..hashes.len().min((computed / block) as usize)]);
        let blocks = (computed + tokens).div_ceil(block) - found as u64;
        if tokens == 0 || pool.room() < blocks + pool.idle_of(&hashes[..found]) {
            return false;
        }
        let shared: Vec<u64> = hashes[..found].to_vec();
        let reuses = pool.reuses();
        let Some(mut sequence) = self.waiting.pop_front() else { return false };
        pool.share(&mut sequence.blocks, &shared);
        sequence.named = found;
        sequence.computed = computed;
        sequence.decoding = decoding;
        sequence.scheduled = tokens;
        extend(&mut sequence, computed + tokens, &self.cost, &mut pool);
        drop(pool);
        if !decoding {
            *budget -= tokens;
        }
        let prompt_tokens = u64::from(sequence.job.prompt.tokens);
        if sequence.admit(start, computed) {
            let mut counts = self.metrics.lock();
            counts.queue.observe((start - sequence.job.received).as_secs_f64());
            if reuses {
                counts.prefix_queries += prompt_tokens;
                counts.prefix_hits += sequence.work.map_or(0, |work| u64::from(work.cached_tokens));
            }
            drop(counts);
            sequence.phase = self.phase();
        }
        self.running.push(sequence);
        true
    }

    /// The next request's phase. Multiples of the golden ratio, modulo 1, spread evenly however many there
    /// are and whichever end.
    fn phase(&mut self) -> f64 {
        self.admitted += 1;
        match self.emission {
            Emission::Together => 1.0,
            Emission::Staggered => 1.0 - (self.admitted as f64 * 0.618_033_988_749_894_9).fract(),
        }
    }

    /// One step from `start`, whose end it gives; `None` when nobody is left to work for.
    async fn step(&mut self, start: Instant) -> Option<Instant> {
        let length = self.length();
        if length.is_zero() {
            // A step without cost still lets others work, or time would stand still.
            tokio::task::yield_now().await;
        }
        let phase = |sequence: &Sequence| if sequence.decoding { sequence.phase } else { 1.0 };
        let mut phases: Vec<(usize, f64)> = self.running.iter().map(phase).enumerate().collect();
        phases.sort_by(|(_, one), (_, other)| one.total_cmp(other));
        let dues: Vec<_> =
            phases.into_iter().map(|(at, phase)| (at, start + length.mul_f64(phase))).collect();
        let mut next = 0;
        while let Some((_, due)) = dues.get(next) {
            if !self.wait_until(*due).await {
                return None;
            }
            next += self.emit(&dues[next..]);
        }
        Some(start + length)
    }

    /// The length of the step that was planned: its prompt tokens' cost and its decoding sequences' cost.
    fn length(&self) -> Duration {
        let (mut prompt_tokens, mut sequences, mut context) = (0, 0, 0);
        for sequence in &self.running {
            if sequence.decoding {
                sequences += 1;
                context += sequence.context();
            } else {
                prompt_tokens += sequence.scheduled;
            }
        }
        self.metrics.lock().iteration_tokens.observe((prompt_tokens + sequences) as f64);
        let prefill = if prompt_tokens == 0 { Duration::ZERO } else { self.cost.prefill(prompt_tokens) };
        let decode = if sequences == 0 { Duration::ZERO } else { self.cost.decode_step(sequences, context) };
        prefill + decode
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

    /// Does what is due by now of `dues`, and says how many that were.
    fn emit(&mut self, dues: &[(usize, Instant)]) -> usize {
        let now = Instant::now();
        let mut worst = Duration::ZERO;
        let (mut done, mut ended) = (0, false);
        {
            let (mut counts, mut pool) = (self.metrics.lock(), self.pool.lock());
            for (at, due) in dues.iter().take_while(|(_, due)| *due <= now) {
                done += 1;
                let sequence = &mut self.running[*at];
                if sequence.gone {
                    continue;
                }
                worst = worst.max(now - *due);
                sequence.computed += std::mem::take(&mut sequence.scheduled);
                if sequence.left() == 0 {
                    sequence.make(*due, &mut counts);
                }
                if sequence.gone {
                    ended = true;
                    let blocks = std::mem::take(&mut sequence.blocks);
                    match sequence.job.hold {
                        true => drop(self.held.insert(sequence.number, blocks)),
                        false => pool.give_back(blocks),
                    }
                }
            }
        }
        if ended {
            self.count_places();
        }
        self.log.late_by(worst);
        done
    }
}

/// Tokens of whole blocks that the pool has of a prompt with `hashes`, in a context of `context` tokens.
pub(super) fn reusable(pool: &Pool, hashes: &[u64], context: u64, block_tokens: u64) -> u64 {
    (pool.found(hashes) as u64).min((context - 1) / block_tokens) * block_tokens
}

/// Gives `sequence` the blocks for `upto` tokens; those of its prompt that are full then can be found.
fn extend(sequence: &mut Sequence, upto: u64, cost: &Cost, pool: &mut Pool) {
    while sequence.blocks.count() < upto.div_ceil(cost.block_tokens) {
        pool.take(&mut sequence.blocks);
    }
    let hashes = &sequence.job.prompt.blocks;
    let full = hashes.len().min((upto / cost.block_tokens) as usize);
    while sequence.named < full {
        pool.name(&mut sequence.blocks, hashes[sequence.named]);
        sequence.named += 1;
    }
}
