//! One request inside an engine: what it asks, how far it is, and what it counts.

use super::counts::Counts;
use super::door::Slot;
use super::pool::Blocks;
use super::prompt::Prompt;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What an engine is asked for.
#[derive(Debug)]
pub(super) struct Job {
    pub prompt: Prompt,
    /// Tokens that the answer will have, at least 1.
    pub output_tokens: u32,
    /// Whether the answer ends at its limit or by itself.
    pub at_limit: bool,
    /// When the request reached the node.
    pub received: Instant,
    /// When it may be admitted: the KV that was waited for is there.
    pub ready: Instant,
    /// Prompt tokens whose KV came from elsewhere, behind `local_tokens` that the node had.
    pub external_tokens: u32,
    pub local_tokens: u32,
    /// Whether KV came from elsewhere at all.
    pub moved: bool,
    /// Whether its KV stays in the node's cache until its slot is dropped.
    pub hold: bool,
    pub made: mpsc::UnboundedSender<Token>,
}

/// A token that was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    /// When, by the cost model.
    pub due: Instant,
    /// What the request has met so far.
    pub work: Work,
}

/// How a node came by a request's KV.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    /// The first step with it began.
    pub started: Instant,
    /// Its first token was made; `started` before that.
    pub first: Instant,
    /// Prompt tokens found in the node's own cache.
    pub cached_tokens: u32,
    /// Prompt tokens whose KV came from elsewhere.
    pub external_tokens: u32,
    /// Prompt tokens computed here for the first token.
    pub computed_tokens: u32,
    /// How often it lost its place.
    pub preempted: u32,
}

/// The tokens of one answer as they are made. Dropping it takes the request out of the node.
#[derive(Debug)]
pub(super) struct Tokens {
    left: u32,
    hold: bool,
    made: mpsc::UnboundedReceiver<Token>,
    slot: Slot<Job>,
}

impl Tokens {
    /// The `left` tokens of the job in `slot`, whose KV stays if `hold` is set.
    pub fn new(slot: Slot<Job>, left: u32, hold: bool, made: mpsc::UnboundedReceiver<Token>) -> Self {
        Self { left, hold, made, slot }
    }

    /// Waits for the next token; `None` after the last one, and when the node is gone.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Token>> {
        let token = ready!(self.made.poll_recv(context));
        if token.is_some() {
            self.left -= 1;
            if self.left == 0 && !self.hold {
                self.slot.finish();
            }
        }
        Poll::Ready(token)
    }

    /// The slot whose drop lets go of the KV that the node holds, if it holds any.
    pub fn into_held(self) -> Option<Slot<Job>> {
        self.hold.then_some(self.slot)
    }
}

/// One request in an engine, waiting or in the batch.
#[derive(Debug)]
pub(super) struct Sequence {
    pub number: u64,
    pub job: Job,
    /// Where in a step it emits, in (0, 1].
    pub phase: f64,
    pub blocks: Blocks,
    /// Full blocks of the prompt that others find, or found before.
    pub named: usize,
    /// Tokens whose KV is in the node.
    pub computed: u64,
    /// Output tokens so far.
    pub made: u32,
    /// Tokens of the step under way.
    pub scheduled: u64,
    /// Whether what is left to compute rides along as one sequence of a decode step.
    pub decoding: bool,
    /// Set at the first admission.
    pub work: Option<Work>,
    pub last: Instant,
    pub gone: bool,
}

impl Sequence {
    /// A request that was submitted.
    pub fn new(number: u64, job: Job) -> Self {
        Self {
            number,
            phase: 1.0,
            blocks: Blocks::default(),
            named: 0,
            computed: 0,
            made: 0,
            scheduled: 0,
            decoding: false,
            work: None,
            last: job.received,
            gone: false,
            job,
        }
    }

    /// Prompt and output tokens so far.
    pub fn context(&self) -> u64 {
        u64::from(self.job.prompt.tokens) + u64::from(self.made)
    }

    /// Tokens still to be computed before the next one is made.
    pub fn left(&self) -> u64 {
        self.context() - self.computed
    }

    /// Notes the admission at `start` with `found` tokens of the node's own; true for the first one.
    pub fn admit(&mut self, start: Instant, found: u64) -> bool {
        let first = self.work.is_none();
        if self.made == 0 {
            let (external_tokens, preempted) = match &self.work {
                None => (self.job.external_tokens, 0),
                Some(before) => (0, before.preempted),
            };
            let cached_tokens = (found as u32).saturating_sub(external_tokens);
            let started = self.work.map_or(start, |work| work.started);
            let computed_tokens = self.job.prompt.tokens - found as u32;
            self.work = Some(Work {
                started,
                first: started,
                cached_tokens,
                external_tokens,
                computed_tokens,
                preempted,
            });
        }
        first
    }

    /// One more token, due at `due`.
    pub fn make(&mut self, due: Instant, counts: &mut Counts) {
        let Some(work) = &mut self.work else { return };
        self.made += 1;
        self.decoding = true;
        counts.generated += 1;
        if self.made == 1 {
            work.first = due;
            counts.ttft.observe((due - self.job.received).as_secs_f64());
            counts.computed += u64::from(work.computed_tokens);
            counts.cache_hit += u64::from(work.cached_tokens);
            counts.transferred += u64::from(work.external_tokens);
        } else {
            counts.inter_token.observe((due - self.last).as_secs_f64());
        }
        self.last = due;
        // The request may have gone away at this very instant; its cancellation is in the queue.
        let _ = self.job.made.send(Token { due, work: *work });
        if self.made == self.job.output_tokens {
            self.gone = true;
            self.count_finished(counts);
        }
    }

    fn count_finished(&self, counts: &mut Counts) {
        let Some(work) = &self.work else { return };
        let decode = (self.last - work.first).as_secs_f64();
        match self.job.at_limit {
            true => counts.finished_length += 1,
            false => counts.finished_stop += 1,
        }
        if 1 < self.made {
            counts.per_output_token.observe(decode / f64::from(self.made - 1));
        }
        counts.e2e.observe((self.last - self.job.received).as_secs_f64());
        counts.prefill.observe((work.first - work.started).as_secs_f64());
        counts.decode.observe(decode);
        counts.inference.observe((self.last - work.started).as_secs_f64());
        counts.prompt_tokens.observe(f64::from(self.job.prompt.tokens));
        counts.generation_tokens.observe(f64::from(self.made));
    }
}
