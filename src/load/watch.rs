use super::live::Live;
use super::shard::Job;
use crate::measure::Offset;
use crate::runtime::{Clock, Worker, Workers};
use hdrhistogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// What was seen of the client itself while a pass went on, by a clock of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchReport {
    /// How late the ticks of 1 ms were at the 99th percentile, milliseconds; absent in virtual time.
    pub tick_p99_late_ms: Option<f64>,
    /// Processor share of the busiest shard's thread, in [0, 1]; absent in virtual time.
    pub busiest_shard: Option<f64>,
    /// Requests in flight, sampled at even distances.
    pub in_flight: Vec<(Offset, u32)>,
}

/// A watch that goes on.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    worker: Worker<WatchReport>,
    clock: Clock,
    since: Duration,
    shards: Vec<UnboundedSender<Job>>,
    /// Processor time of each shard when the watch began.
    used: Vec<Option<Duration>>,
}

const TICK: Duration = Duration::from_millis(1);
/// Longest lateness that is told apart.
const LONGEST_US: u64 = 60_000_000;
/// First distance between two samples of what is in flight: a prime, to fall in step with no steady arrivals.
const SAMPLE: Duration = Duration::from_millis(97);
/// Above so many samples every other one is dropped, and the distance doubles.
const MOST_SAMPLES: usize = 2000;

impl Watch {
    /// Starts watching, on a thread of its own in production.
    pub(super) async fn start(
        workers: Workers,
        clock: Clock,
        live: Arc<Live>,
        shards: Vec<UnboundedSender<Job>>,
    ) -> io::Result<Self> {
        let used = usage(&shards).await;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let worker = match workers {
            Workers::Threads => workers.start("watch", async move { tick(clock, &live, &asked) })?,
            Workers::Local => workers.start("watch", sample(clock, live, asked))?,
        };
        Ok(Self { stop, worker, clock, since: clock.now(), shards, used })
    }

    /// Stops watching and tells what was seen; `None` when the watch has died.
    pub(super) async fn end(self) -> Option<WatchReport> {
        let took = (self.clock.now() - self.since).as_secs_f64();
        let used = usage(&self.shards).await;
        self.stop.store(true, Ordering::Relaxed);
        let mut report = self.worker.join().await?;
        if report.tick_p99_late_ms.is_some() && 0.0 < took {
            let shares = self
                .used
                .iter()
                .zip(used)
                .filter_map(|(&before, after)| Some(((after? - before?).as_secs_f64() / took).min(1.0)));
            report.busiest_shard = shares.max_by(f64::total_cmp);
        }
        Some(report)
    }
}

/// Samples at even distances, thinned out as they grow many.
struct Samples {
    taken: Vec<(Offset, u32)>,
    distance: Duration,
    next: Duration,
}

impl Samples {
    fn new(now: Duration) -> Self {
        Self { taken: Vec::new(), distance: SAMPLE, next: now }
    }

    /// Takes a sample if it is time for one.
    fn at(&mut self, now: Duration, live: &Live) {
        if now < self.next {
            return;
        }
        self.taken.push((now.into(), u32::try_from(live.view().in_flight).unwrap_or(u32::MAX)));
        self.next += self.distance;
        if MOST_SAMPLES < self.taken.len() {
            let mut keep = false;
            self.taken.retain(|_| {
                keep = !keep;
                keep
            });
            self.distance *= 2;
        }
    }
}

/// Real time: wakes every millisecond and notes how late it was.
fn tick(clock: Clock, live: &Live, stop: &AtomicBool) -> WatchReport {
    // Without it a sleep ends up to 50 µs later, which is nothing here.
    let _ = nix::sys::prctl::set_timerslack(1);
    let mut late_us = Histogram::<u64>::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are in order");
    let mut samples = Samples::new(clock.now());
    let mut due = clock.now();
    while !stop.load(Ordering::Relaxed) {
        due += TICK;
        std::thread::sleep(due.saturating_sub(clock.now()));
        let now = clock.now();
        let late = (now.saturating_sub(due).as_micros().max(1) as u64).min(LONGEST_US);
        // A stall hides the ticks within it: they are counted as late as they would have been.
        let _ = late_us.record_correct(late, TICK.as_micros() as u64);
        samples.at(now, live);
        due = due.max(now - (now - due).min(TICK));
    }
    WatchReport {
        tick_p99_late_ms: Some(late_us.value_at_quantile(0.99) as f64 / 1000.0),
        busiest_shard: None,
        in_flight: samples.taken,
    }
}

/// Virtual time: only the samples; a paused clock is never late.
async fn sample(clock: Clock, live: Arc<Live>, stop: Arc<AtomicBool>) -> WatchReport {
    let mut samples = Samples::new(clock.now());
    while !stop.load(Ordering::Relaxed) {
        samples.at(clock.now(), &live);
        tokio::time::sleep_until(clock.at(samples.next)).await;
    }
    WatchReport { tick_p99_late_ms: None, busiest_shard: None, in_flight: samples.taken }
}

/// Processor time that each shard has used.
async fn usage(shards: &[UnboundedSender<Job>]) -> Vec<Option<Duration>> {
    let mut used = Vec::with_capacity(shards.len());
    for shard in shards {
        let (reply, answer) = oneshot::channel();
        // A dead shard has no usage; the pass tells of its death.
        let asked = shard.send(Job::Usage(reply)).is_ok();
        used.push(if asked { answer.await.ok().flatten() } else { None });
    }
    used
}

/// Processor time that this thread has used.
pub(super) fn thread_cpu() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).ok()?;
    let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    u64::try_from(us).ok().map(Duration::from_micros)
}
