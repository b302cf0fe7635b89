//! A decode node: continuous batching. A step's length follows from the batch at its start; who arrives
//! meanwhile joins at its end. Steps follow one another by the cost model's own instants, so that the
//! timer's rounding never adds up.

use super::counts::Counts;
use super::door::{Command, Door, Inbox, Next, Slot};
use super::link::Link;
use super::metrics::Metrics;
use super::truth::TruthLog;
use super::{Config, Cost, Emission};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The way to one decode node, whose task ends when the last handle is gone.
#[derive(Debug)]
pub(super) struct DecodeNode {
    door: Arc<Door<Job>>,
    link: Arc<Link>,
    cost: Cost,
    /// What the node counts.
    pub metrics: Metrics,
}

/// What a decode node is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    /// Prompt tokens, whose KV waits on a prefill node.
    pub prompt_tokens: u32,
    /// Tokens that the answer will have, at least 1.
    pub output_tokens: u32,
    /// Most tokens that it could have had: what KV is reserved for.
    pub max_tokens: u32,
    /// Whether the answer ends at its limit or by itself.
    pub at_limit: bool,
    /// When the request reached the node.
    pub received: Instant,
}

/// The tokens of one answer as they are made. Dropping it takes the request out of the node.
#[derive(Debug)]
pub(super) struct Tokens {
    /// When the KV had arrived.
    pub kv_arrived: Instant,
    left: u32,
    made: mpsc::UnboundedReceiver<()>,
    slot: Slot<Job>,
}

impl Tokens {
    /// Waits for the next token; `None` after the last one, and when the node is gone.
    pub fn poll_next(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<()>> {
        let token = std::task::ready!(self.made.poll_recv(context));
        if token.is_some() {
            self.left -= 1;
            if self.left == 0 {
                self.slot.finish();
            }
        }
        std::task::Poll::Ready(token)
    }
}

#[derive(Debug)]
struct Job {
    order: Order,
    kv_arrived: Instant,
    made: mpsc::UnboundedSender<()>,
}

impl DecodeNode {
    /// Starts a node on the current runtime that pulls KV over `link`.
    pub fn start(config: &Config, link: &Arc<Link>, log: &Arc<TruthLog>) -> Self {
        let (door, inbox) = Door::open();
        let metrics = Metrics::new();
        metrics.lock().nixl = true;
        let engine = Engine {
            cost: config.cost.clone(),
            emission: config.emission,
            metrics: metrics.clone(),
            log: Arc::clone(log),
            inbox,
            waiting: VecDeque::new(),
            running: Vec::new(),
            reserved: 0,
            admitted: 0,
        };
        tokio::spawn(engine.run());
        Self { door, link: Arc::clone(link), cost: config.cost.clone(), metrics }
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.door.in_flight()
    }

    /// Pulls the prompt's KV and queues the request for the batch. `None` when the node is gone.
    pub async fn decode(&self, order: Order) -> Option<Tokens> {
        let mut slot = self.door.enter();
        let deferred = Deferred::new(&self.metrics);
        let tokens = u64::from(order.prompt_tokens);
        let (start, kv_arrived) = self.link.transfer(tokens, order.received).await;
        drop(deferred);
        {
            let mut counts = self.metrics.lock();
            counts.transferred += tokens;
            counts.external_queries += tokens;
            counts.external_hits += tokens;
            counts.transfer.observe((kv_arrived - start).as_secs_f64());
            counts.transfer_bytes.observe(self.cost.kv_bytes(tokens) as f64);
        }
        let (sender, made) = mpsc::unbounded_channel();
        let submitted = slot.submit(Job { order, kv_arrived, made: sender });
        submitted.then_some(Tokens { kv_arrived, left: order.output_tokens, made, slot })
    }
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

/// One request in the batch.
struct Sequence {
    number: u64,
    job: Job,
    /// Where in a step it emits, in (0, 1].
    phase: f64,
    /// Prompt and output tokens so far.
    context: u64,
    /// Tokens of KV that were set aside for it.
    reserved: u64,
    made: u32,
    admitted: Instant,
    first: Instant,
    last: Instant,
    gone: bool,
}

struct Engine {
    cost: Cost,
    emission: Emission,
    metrics: Metrics,
    log: Arc<TruthLog>,
    inbox: Inbox<Job>,
    waiting: VecDeque<(u64, Job)>,
    /// In the order of their phases.
    running: Vec<Sequence>,
    reserved: u64,
    admitted: u64,
}

impl Engine {
    async fn run(mut self) {
        let mut next_start: Option<Instant> = None;
        loop {
            if self.running.is_empty() {
                let Some((_, job)) = self.waiting.front() else {
                    let Some(command) = self.inbox.recv().await else { return };
                    self.take(command);
                    continue;
                };
                next_start = Some(next_start.map_or(job.kv_arrived, |at| at.max(job.kv_arrived)));
            }
            let Some(start) = next_start else { return };
            self.admit(start);
            let Some(end) = self.step(start).await else { return };
            self.running.retain(|sequence| !sequence.gone);
            next_start = Some(end);
        }
    }

    /// One step from `start`, whose end it gives; `None` when nobody is left to work for.
    async fn step(&mut self, start: Instant) -> Option<Instant> {
        let context = self.running.iter().map(|sequence| sequence.context).sum();
        let length = self.cost.decode_step(self.running.len() as u64, context);
        self.metrics.lock().iteration_tokens.observe(self.running.len() as f64);
        let mut emitted = 0;
        while let Some(sequence) = self.running.get(emitted) {
            let due = start + length.mul_f64(sequence.phase);
            if !self.wait_until(due).await {
                return None;
            }
            emitted = self.emit(emitted, start, length);
        }
        let end = start + length;
        self.wait_until(end).await.then_some(end)
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
                self.waiting.push_back((number, job));
                self.metrics.lock().waiting += 1;
            }
            Command::Cancel(number) => self.cancel(number),
            Command::ResetCache => {}
        }
    }

    /// A cancelled request frees its place and its KV at once; the step keeps its length.
    fn cancel(&mut self, number: u64) {
        let mut counts = self.metrics.lock();
        if let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == number) {
            self.waiting.remove(at);
            counts.waiting -= 1;
            counts.aborted += 1;
        } else if let Some(sequence) = self.running.iter_mut().find(|s| s.number == number && !s.gone) {
            sequence.gone = true;
            self.reserved -= sequence.reserved;
            counts.running -= 1;
            counts.kv_tokens -= sequence.context;
            counts.aborted += 1;
        }
    }

    /// Takes waiting requests into the batch in their order, as long as there are places and KV for them.
    fn admit(&mut self, start: Instant) {
        while let Some((_, job)) = self.waiting.front().filter(|(_, job)| job.kv_arrived <= start) {
            let most = u64::from(job.order.prompt_tokens) + u64::from(job.order.max_tokens);
            let reserved = most.next_multiple_of(self.cost.block_tokens);
            let fits = self.reserved + reserved <= self.cost.kv_capacity_tokens || self.running.is_empty();
            if !fits || self.cost.max_num_seqs <= self.running.len() as u64 {
                return;
            }
            let Some((number, job)) = self.waiting.pop_front() else { return };
            self.reserved += reserved;
            let context = u64::from(job.order.prompt_tokens);
            let mut counts = self.metrics.lock();
            counts.waiting -= 1;
            counts.running += 1;
            counts.kv_tokens += context;
            counts.queue.observe((start - job.order.received).as_secs_f64());
            drop(counts);
            let phase = self.phase();
            let sequence = Sequence {
                number,
                phase,
                context,
                reserved,
                made: 0,
                admitted: start,
                first: start,
                last: start,
                gone: false,
                job,
            };
            let at = self.running.partition_point(|other| other.phase <= phase);
            self.running.insert(at, sequence);
        }
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

    /// Hands out the tokens that are due by now, from the sequence at `from` on; gives the first that is not.
    fn emit(&mut self, from: usize, start: Instant, length: Duration) -> usize {
        let now = Instant::now();
        let mut counts = self.metrics.lock();
        let mut next = from;
        let mut worst = Duration::ZERO;
        while let Some(sequence) = self.running.get_mut(next) {
            let due = start + length.mul_f64(sequence.phase);
            if now < due {
                break;
            }
            next += 1;
            if sequence.gone {
                continue;
            }
            worst = worst.max(now - due);
            sequence.make(due, &mut counts);
            if sequence.gone {
                self.reserved -= sequence.reserved;
            }
        }
        drop(counts);
        self.log.late_by(worst);
        next
    }
}

impl Sequence {
    /// One more token, due at `due`; the last one ends the sequence.
    fn make(&mut self, due: Instant, counts: &mut Counts) {
        self.made += 1;
        self.context += 1;
        counts.kv_tokens += 1;
        counts.generated += 1;
        if self.made == 1 {
            self.first = due;
            counts.ttft.observe((due - self.job.order.received).as_secs_f64());
        } else {
            counts.inter_token.observe((due - self.last).as_secs_f64());
        }
        self.last = due;
        // The request may have gone away at this very instant; its cancellation is in the queue.
        let _ = self.job.made.send(());
        if self.made == self.job.order.output_tokens {
            self.gone = true;
            self.count_finished(counts);
        }
    }

    fn count_finished(&self, counts: &mut Counts) {
        let order = &self.job.order;
        let decode = (self.last - self.first).as_secs_f64();
        counts.running -= 1;
        counts.kv_tokens -= self.context;
        match order.at_limit {
            true => counts.finished_length += 1,
            false => counts.finished_stop += 1,
        }
        if 1 < self.made {
            counts.per_output_token.observe(decode / f64::from(self.made - 1));
        }
        counts.e2e.observe((self.last - order.received).as_secs_f64());
        counts.prefill.observe((self.first - self.admitted).as_secs_f64());
        counts.decode.observe(decode);
        counts.inference.observe((self.last - self.admitted).as_secs_f64());
        counts.prompt_tokens.observe(f64::from(order.prompt_tokens));
        counts.generation_tokens.observe(f64::from(self.made));
    }
}
