use super::driver::Ended;
use super::live::Live;
use super::pacer::Turn;
use super::stamp::{ReadBuffer, StampClock};
use super::stream::{Open, Stream};
use super::watch::thread_cpu;
use super::{Idle, LoadConfig, PassShared, Sink, preconnect};
use crate::measure::RequestRecord;
use crate::runtime::lock;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// What a shard is asked to do.
pub(super) enum Job {
    /// Read this request's answer, after connecting and writing it where that has not been done.
    Start(Arc<PassShared>, Turn, Option<Open>),
    /// Open a connection to this place and hand it back.
    Connect(usize, oneshot::Sender<Result<Idle, String>>),
    /// Drop everything that is in flight.
    Cancel,
    /// Hand finished records on now, and say when it is done.
    Flush(oneshot::Sender<()>),
    /// Tell the processor time that this shard's thread has used.
    Usage(oneshot::Sender<Option<Duration>>),
}

/// What the streams of a shard share. Only the shard's own thread uses it, so its locks are never waited for.
pub(super) struct ShardContext {
    pub(super) number: usize,
    pub(super) config: Arc<LoadConfig>,
    pub(super) stamp_clock: Arc<StampClock>,
    pub(super) live: Arc<Live>,
    buffer: Mutex<ReadBuffer>,
    outbox: Mutex<Vec<RequestRecord>>,
    ended: UnboundedSender<Ended>,
    sink: Sink,
    /// The shard ends although requests are in flight: because it or the pacer panicked.
    broken: AtomicBool,
}

/// How often finished records go to the journal.
const OUTBOX_PERIOD: Duration = Duration::from_secs(1);

impl ShardContext {
    pub(super) fn new(
        number: usize,
        config: Arc<LoadConfig>,
        stamp_clock: Arc<StampClock>,
        live: Arc<Live>,
        ended: UnboundedSender<Ended>,
        sink: Sink,
    ) -> Self {
        Self {
            number,
            config,
            stamp_clock,
            live,
            buffer: Mutex::new(ReadBuffer::new()),
            outbox: Mutex::new(Vec::new()),
            ended,
            sink,
            broken: AtomicBool::new(false),
        }
    }

    /// True when what is in flight ends by a fault of ours.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    pub(super) fn buffer(&self) -> MutexGuard<'_, ReadBuffer> {
        lock(&self.buffer)
    }

    /// Takes a finished record and tells the pacer that its place is free.
    pub(super) fn hand_over(&self, ended: Ended, record: RequestRecord) {
        lock(&self.outbox).push(record);
        // The pacer may be gone when a run is torn down; the record is safe in the outbox.
        let _ = self.ended.send(ended);
    }

    /// Passes finished records on.
    fn flush(&self) {
        let records = std::mem::take(&mut *lock(&self.outbox));
        if !records.is_empty() {
            (self.sink)(records);
        }
    }
}

impl Drop for ShardContext {
    /// Where the shard panicked there are records left.
    fn drop(&mut self) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.flush()));
    }
}

/// What a shard is asked to do. However it ends, each request that it was given leaves a record.
struct Inbox {
    context: Arc<ShardContext>,
    jobs: UnboundedReceiver<Job>,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.context.broken.store(true, Ordering::Relaxed);
        self.jobs.close();
        while let Ok(job) = self.jobs.try_recv() {
            if let Job::Start(pass, turn, open) = job {
                let sent = open.as_ref().and_then(|open| open.sent);
                drop(Stream::new(Arc::clone(&self.context), pass, turn, sent));
            }
        }
    }
}

/// Runs a shard until its jobs end.
pub(super) async fn run(context: Arc<ShardContext>, jobs: UnboundedReceiver<Job>) {
    let mut streams = JoinSet::new();
    // Dropped before the streams, so that these know why they end.
    let mut inbox = Inbox { context: Arc::clone(&context), jobs };
    let mut tick = interval_at(Instant::now() + OUTBOX_PERIOD, OUTBOX_PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            job = inbox.jobs.recv() => match job {
                Some(Job::Start(pass, turn, open)) => {
                    let sent = open.as_ref().and_then(|open| open.sent);
                    streams.spawn(Stream::new(Arc::clone(&context), pass, turn, sent).run(open));
                }
                Some(Job::Connect(place, reply)) => {
                    let opening = preconnect::open(Arc::clone(&context), place);
                    streams.spawn(async move { drop(reply.send(opening.await)) });
                }
                Some(Job::Cancel) => streams.abort_all(),
                Some(Job::Flush(reply)) => {
                    context.flush();
                    // Whoever asked may be gone.
                    let _ = reply.send(());
                }
                Some(Job::Usage(reply)) => drop(reply.send(thread_cpu())),
                None => break,
            },
            Some(_) = streams.join_next() => {}
            _ = tick.tick() => {
                context.flush();
            }
        }
    }
    drop(inbox);
    streams.shutdown().await;
    context.flush();
}
