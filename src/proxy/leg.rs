use super::instance::Instance;
use crate::runtime::lock;
use crate::wire::prometheus::Histogram;
use memchr::memmem;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// Upper bounds of latency histograms, in seconds.
const BOUNDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0, 300.0, 1800.0,
];

/// Why a leg failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LegFault {
    pub kind: FaultKind,
    /// What happened, without the instance's name.
    pub message: String,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// No connection.
    Connect,
    /// Something did not come in time.
    Timeout,
    /// The connection ended before the answer did.
    Cut,
    /// What came is no HTTP, or not what the dialect needs.
    Protocol,
}

impl LegFault {
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for LegFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LegFault {}

impl FaultKind {
    pub fn word(self) -> &'static str {
        match self {
            FaultKind::Connect => "connect",
            FaultKind::Timeout => "timeout",
            FaultKind::Cut => "cut",
            FaultKind::Protocol => "protocol",
        }
    }
}

/// What the legs of one instance did so far.
#[derive(Debug)]
pub(super) struct LegStats {
    pub in_flight: AtomicU32,
    pub bytes: AtomicU64,
    /// Blank lines in event streams: events.
    pub events: AtomicU64,
    pub stale_retries: AtomicU64,
    /// Legs that went elsewhere because the instance took no connection.
    pub moved: AtomicU64,
    told: Mutex<Told>,
}

/// What is counted once a leg.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// By status class or fault.
    pub ended: BTreeMap<&'static str, u64>,
    /// Opening a connection.
    pub connect: Histogram,
    /// From the send to the head of the answer.
    pub head: Histogram,
    /// To the first byte of its body.
    pub first_byte: Histogram,
    /// To its end.
    pub whole: Histogram,
}

impl Default for LegStats {
    fn default() -> Self {
        let histogram = || Histogram::new(BOUNDS);
        Self {
            in_flight: AtomicU32::new(0),
            bytes: AtomicU64::new(0),
            events: AtomicU64::new(0),
            stale_retries: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            told: Mutex::new(Told {
                ended: BTreeMap::new(),
                connect: histogram(),
                head: histogram(),
                first_byte: histogram(),
                whole: histogram(),
            }),
        }
    }
}

impl LegStats {
    pub fn told(&self) -> Told {
        lock(&self.told).clone()
    }

    pub fn connected(&self, after: Duration) {
        lock(&self.told).connect.observe(after.as_secs_f64());
    }
}

/// One leg from its send to its end; a leg that is dropped before was cancelled.
#[derive(Debug)]
pub(super) struct LegWatch {
    pub instance: Arc<Instance>,
    started: Instant,
    class: Option<&'static str>,
    begun: bool,
    ended: bool,
    /// It is no leg, only a question to the instance.
    errand: bool,
    /// The last byte of the body was a line end.
    line_end: bool,
}

impl LegWatch {
    pub fn start(instance: &Arc<Instance>) -> Self {
        instance.stats.in_flight.fetch_add(1, Relaxed);
        Self {
            instance: Arc::clone(instance),
            started: Instant::now(),
            class: None,
            begun: false,
            ended: false,
            errand: false,
            line_end: false,
        }
    }

    /// A question beside the legs: it is counted with none of them.
    pub fn errand(instance: &Arc<Instance>) -> Self {
        let mut watch = Self::start(instance);
        watch.errand = true;
        watch
    }

    /// The head of the answer is there.
    pub fn head(&mut self, status: u16) {
        self.class = Some(match status {
            0..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        });
        if self.errand {
            return;
        }
        lock(&self.instance.stats.told).head.observe(self.started.elapsed().as_secs_f64());
    }

    /// Bytes of its body are there.
    pub fn body(&mut self, bytes: &[u8]) {
        if self.errand {
            return;
        }
        let stats = &self.instance.stats;
        if !self.begun {
            self.begun = true;
            lock(&stats.told).first_byte.observe(self.started.elapsed().as_secs_f64());
        }
        let across = u64::from(self.line_end && bytes.first() == Some(&b'\n'));
        self.line_end = bytes.last() == Some(&b'\n');
        stats.bytes.fetch_add(bytes.len() as u64, Relaxed);
        stats.events.fetch_add(across + memmem::find_iter(bytes, b"\n\n").count() as u64, Relaxed);
    }

    /// Its answer is whole.
    pub fn whole(&mut self) {
        self.end(self.class.unwrap_or("2xx"));
    }

    /// It failed.
    pub fn fail(&mut self, fault: &LegFault) {
        self.end(fault.kind.word());
        if matches!(fault.kind, FaultKind::Connect | FaultKind::Cut) {
            self.instance.suspicion.notify_one();
        }
    }

    fn end(&mut self, class: &'static str) {
        if std::mem::replace(&mut self.ended, true) || self.errand {
            return;
        }
        let mut told = lock(&self.instance.stats.told);
        *told.ended.entry(class).or_insert(0) += 1;
        told.whole.observe(self.started.elapsed().as_secs_f64());
    }
}

impl Drop for LegWatch {
    fn drop(&mut self) {
        self.end("cancelled");
        self.instance.stats.in_flight.fetch_sub(1, Relaxed);
    }
}
