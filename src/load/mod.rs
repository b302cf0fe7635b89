//! The load generator. A pacer decides when each request goes out and writes it on an open connection; shards
//! read the answers and stamp every event; finished records go to a sink. All waiting is done here, all
//! judging in `measure`, all protocols in `wire`.
//! Deliberately absent: retries, files, and what a number means.

mod connection;
mod driver;
mod fault;
mod lead;
mod leg_usage;
mod live;
mod opening;
mod pacer;
mod patience;
mod preconnect;
mod reading;
#[cfg(test)]
mod reading_tests;
mod shard;
mod stamp;
mod stream;
mod tally;
mod tls;
mod tunnel;
mod watch;
mod whole;

pub use fault::LoadError;
pub use live::{Live, LiveView};
pub use pacer::Ending;
pub use patience::Timeouts;
pub use reading::ReadLimits;
pub use watch::WatchReport;

use crate::measure::{Asking, Kind, Offset, PromptTokensSource, RequestRecord, Stamps};
use crate::runtime::{Clock, StopSignal, Worker, Workers};
use crate::wire::{Secret, Tls};
use connection::Connection;
use driver::Driver;
use pacer::PassLimits;
use shard::{Job, ShardContext};
use stamp::StampClock;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::oneshot;
use watch::Watch;

/// Takes finished records, about once a second from each shard.
pub type Sink = Arc<dyn Fn(Vec<RequestRecord>) + Send + Sync>;

/// What all passes of a load have in common.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// Where to connect: at least one place, which a request names by its number.
    pub places: Vec<Place>,
    /// Threads that read, at least 1.
    pub shards: usize,
    /// Patience.
    pub timeouts: Timeouts,
    /// Sizes beyond which a response is refused.
    pub read_limits: ReadLimits,
    /// Whose text is kept.
    pub keep_text: KeepText,
    /// Which clock should stamp what arrives.
    pub stamps: Stamps,
    /// The clock of the run.
    pub clock: Clock,
    /// Where pacer and shards live.
    pub workers: Workers,
    /// How the pacer waits.
    pub pacing: Pacing,
    /// Taken out of whatever a server says.
    pub secrets: Arc<[Secret]>,
}

/// Which answers' text is kept in the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepText {
    /// None: what people ask and are told is private.
    #[default]
    Nothing,
    /// That of answers that were not ok.
    Errors,
    /// All.
    All,
}

/// A place that takes requests.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where to connect.
    pub address: SocketAddr,
    /// How to speak TLS there; `None` for plain HTTP.
    pub tls: Option<Tls>,
    /// What opens a way through an HTTP proxy at that place, before TLS.
    pub tunnel: Option<Arc<[u8]>>,
    /// What its records call it; `None` where there is only one.
    pub name: Option<String>,
    /// A small request that makes a connection opened ahead known to both ends.
    pub greeting: Option<Vec<u8>>,
}

/// Takes the whole body of an ok answer that is no stream, with the number of its request within the pass.
pub type Answers = Arc<dyn Fn(usize, Vec<u8>) + Send + Sync>;

/// How the pacer waits for the next send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// By the runtime's timer, which has steps of 1 ms: for virtual time.
    Runtime,
    /// Asleep until shortly before the instant, then spinning for so long: on a thread of its own.
    Thread {
        /// Longest spin.
        spin: Duration,
    },
}

/// A request ready to be written.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Its id.
    pub id: String,
    /// Number of the place it goes to.
    pub place: usize,
    /// Head and body.
    pub bytes: Vec<u8>,
    /// What has to be answered before, where this request needs it.
    pub lead: Option<Lead>,
    /// Tokens of its prompt …
    pub prompt_tokens: u32,
    /// … and who counted them.
    pub prompt_tokens_source: PromptTokensSource,
    /// Output tokens asked for.
    pub requested_tokens: u32,
    /// The server is told to ignore the end-of-sequence token.
    pub ignore_eos: bool,
    /// The questions that it asks, in an accuracy run.
    pub asking: Option<Asking>,
    /// Which try it is, from 1.
    pub attempt: u32,
}

/// A request that goes before another and is part of it: a prefill leg. Its whole answer is awaited; if it is not ok,
/// neither is the request.
#[derive(Clone)]
pub struct Lead {
    /// Number of the place it goes to.
    pub place: usize,
    /// Head and body.
    pub bytes: Vec<u8>,
    /// Makes head and body of the request from the answer's body; `None` where the answer changes nothing.
    pub then: Option<Then>,
}

/// Makes head and body of a request from the whole answer to its lead, or says in words what that lacks.
pub type Then = Arc<dyn Fn(&[u8]) -> Result<Vec<u8>, String> + Send + Sync>;

impl fmt::Debug for Lead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lead").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Which requests share a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// All of a pass.
    #[default]
    All,
    /// Those to the same place.
    EachPlace,
}

/// Requests that are sent by one schedule.
#[derive(Clone)]
pub struct Pass {
    /// Why they are sent.
    pub kind: Kind,
    /// The batch that they belong to.
    pub stage: Option<u32>,
    /// Who wants their answers, where these are no streams.
    pub answers: Option<Answers>,
    /// What is sent.
    pub requests: Vec<Prepared>,
    /// When, from the start of the pass; as long as `requests`, ascending.
    pub schedule: Vec<Duration>,
    /// Most requests in flight at a time, …
    pub max_concurrency: Option<usize>,
    /// … and whether that is of all of them, or of those to each place, none of which then waits for another.
    pub share: Share,
    /// Longest time of sending.
    pub max_duration: Option<Duration>,
    /// Failure share in a window of the last 200 requests at which the pass gives up.
    pub max_error_rate: Option<f64>,
}

impl Pass {
    /// Requests that are sent as soon as they can be, without a limit of any kind.
    pub fn at_once(kind: Kind, requests: Vec<Prepared>) -> Self {
        Self {
            kind,
            stage: None,
            answers: None,
            schedule: vec![Duration::ZERO; requests.len()],
            requests,
            max_concurrency: None,
            share: Share::All,
            max_duration: None,
            max_error_rate: None,
        }
    }
}

/// How a pass went; the requests themselves are in the records.
#[derive(Clone, Debug, PartialEq)]
pub struct PassReport {
    /// When it started: its schedule counts from here.
    pub start: Offset,
    /// When its last request ended.
    pub end: Offset,
    /// Requests sent.
    pub sent: usize,
    /// Why nothing more was sent.
    pub ending: Ending,
    /// The record of a probe, or of a prefill, that failed.
    pub failed_probe: Option<Box<RequestRecord>>,
    /// What was seen of the client meanwhile; measured passes only.
    pub watch: Option<WatchReport>,
}

/// A pass as its shards see it.
struct PassShared {
    kind: Kind,
    stage: Option<u32>,
    answers: Option<Answers>,
    first_i: u32,
    requests: Vec<Prepared>,
}

/// An open connection between two requests, registered with the shard that reads it.
struct Idle {
    shard: usize,
    place: usize,
    connection: Connection,
}

const PACER: LoadError = LoadError::Panicked("the pacer");
const SHARD: LoadError = LoadError::Panicked("a reader");

/// A load generator with its threads and open connections, ready for one pass after another.
pub struct Load {
    config: Arc<LoadConfig>,
    driver: Option<Driver>,
    shards: Vec<Worker<()>>,
    live: Arc<Live>,
    next_i: u32,
}

impl Load {
    /// Starts the shards. Inside a tokio runtime only.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(config: LoadConfig, live: Arc<Live>, sink: &Sink) -> Result<Self, LoadError> {
        let config = Arc::new(config);
        let stamp_clock = Arc::new(StampClock::new(config.clock, config.stamps));
        let (ended_sender, ended) = unbounded_channel();
        let (mut senders, mut workers) = (Vec::new(), Vec::new());
        for number in 0..config.shards.max(1) {
            let (sender, jobs) = unbounded_channel::<Job>();
            let context = ShardContext::new(
                number,
                Arc::clone(&config),
                Arc::clone(&stamp_clock),
                Arc::clone(&live),
                ended_sender.clone(),
                Arc::clone(sink),
            );
            senders.push(sender);
            workers
                .push(config.workers.start(&format!("shard-{number}"), shard::run(Arc::new(context), jobs))?);
        }
        let driver = Driver {
            clock: config.clock,
            pacing: config.pacing,
            shards: senders,
            ended,
            idle: config.places.iter().map(|_| Vec::new()).collect(),
            live: Arc::clone(&live),
            drain_timeout: config.timeouts.drain,
            failed_probe: None,
        };
        Ok(Self { config, driver: Some(driver), shards: workers, live, next_i: 0 })
    }

    /// Sends the requests of a pass and waits until all of them have ended.
    ///
    /// # Errors
    /// When the operating system gives no thread, or a thread of the load has died.
    pub async fn pass(&mut self, pass: Pass, stop: StopSignal) -> Result<PassReport, LoadError> {
        let driver = self.driver.take().ok_or(PACER)?;
        let limits = PassLimits {
            max_concurrency: pass.max_concurrency,
            lanes: match pass.share {
                Share::All => Vec::new(),
                Share::EachPlace => pass.requests.iter().map(|request| request.place).collect(),
            },
            max_duration: pass.max_duration,
            max_error_rate: pass.max_error_rate,
        };
        let planned = pass.requests.len();
        let shared = Arc::new(PassShared {
            kind: pass.kind,
            stage: pass.stage,
            answers: pass.answers,
            first_i: self.next_i,
            requests: pass.requests,
        });
        let watch = match pass.kind {
            Kind::Main | Kind::Replica | Kind::Question => {
                let (live, shards) = (Arc::clone(&self.live), driver.shards.clone());
                Some(Watch::start(self.config.workers, self.config.clock, live, shards).await?)
            }
            _ => None,
        };
        let sending = driver.run(shared, pass.schedule, limits, stop);
        let done = self.config.workers.start("pacer", sending)?.join().await;
        let seen = match watch {
            Some(watch) => watch.end().await,
            None => None,
        };
        let (driver, mut report) = done.ok_or(PACER)?;
        report.watch = seen;
        self.driver = Some(driver);
        // Where lanes were cut short, those that were sent are not the first ones.
        self.next_i += planned as u32;
        Ok(report)
    }

    /// Opens connections ahead, so many to each place beside those that are open (no place behind an HTTP proxy), and greets on each where the place
    /// has a greeting. Gives why some could not be opened.
    ///
    /// # Errors
    /// When a thread of the load has died.
    pub async fn preconnect(&mut self, wanted: &[usize]) -> Result<Vec<String>, LoadError> {
        let driver = self.driver.as_mut().ok_or(PACER)?;
        preconnect::open_ahead(driver, wanted).await
    }

    /// Waits until the record of every request that has ended is with the sink.
    ///
    /// # Errors
    /// When a thread of the load has died.
    pub async fn flush(&mut self) -> Result<(), LoadError> {
        let dead = || SHARD;
        let driver = self.driver.as_ref().ok_or_else(dead)?;
        for shard in &driver.shards {
            let (done, wait) = oneshot::channel();
            shard.send(Job::Flush(done)).map_err(|_| dead())?;
            wait.await.map_err(|_| dead())?;
        }
        Ok(())
    }

    /// Numbers for records of requests that somebody else sent: so many, from the one it gives.
    pub fn take_numbers(&mut self, count: usize) -> u32 {
        let first = self.next_i;
        self.next_i += count as u32;
        first
    }

    /// Closes the connections and waits until every record is with the sink.
    ///
    /// # Errors
    /// When a thread of the load has died with records that it had not handed over.
    pub async fn finish(mut self) -> Result<(), LoadError> {
        self.driver = None;
        let mut ended = Ok(());
        for shard in self.shards {
            ended = shard.join().await.ok_or(SHARD).and(ended);
        }
        ended
    }
}
