use crate::measure::RequestRecord;
use hdrhistogram::Histogram;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a run that goes on, for a progress display; the results never come from here.
#[derive(Debug)]
pub struct Live {
    sent: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
    tokens: AtomicU64,
    /// Time to first token, microseconds, 1 µs to 1 h with 3 digits.
    ttft_us: Mutex<Histogram<u64>>,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LiveView {
    /// Requests sent.
    pub sent: u64,
    /// Requests sent and not ended.
    pub in_flight: u64,
    /// Requests ended, whatever the outcome.
    pub ended: u64,
    /// Requests failed.
    pub failed: u64,
    /// Token events received.
    pub tokens: u64,
    /// Median time to first token of the ok requests so far, ms.
    pub ttft_p50_ms: Option<f64>,
}

impl Default for Live {
    fn default() -> Self {
        let ttft_us = Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are in order");
        Self {
            sent: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            ttft_us: Mutex::new(ttft_us),
        }
    }
}

impl Live {
    pub(super) fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn tokens(&self, count: u64) {
        self.tokens.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, record: &RequestRecord) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        if record.outcome.is_failure() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        if let (true, Some(sent), Some(first)) = (record.is_ok(), record.sent, record.events.first())
            && let Ok(mut ttft) = self.ttft_us.lock()
        {
            ttft.saturating_record(first.since(sent).as_micros().max(1) as u64);
        }
    }

    /// The counters now.
    pub fn view(&self) -> LiveView {
        let (sent, ended) = (self.sent.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed));
        let ttft = self.ttft_us.lock().ok();
        LiveView {
            sent,
            ended,
            in_flight: sent.saturating_sub(ended),
            failed: self.failed.load(Ordering::Relaxed),
            tokens: self.tokens.load(Ordering::Relaxed),
            ttft_p50_ms: ttft
                .filter(|ttft| !ttft.is_empty())
                .map(|ttft| ttft.value_at_quantile(0.5) as f64 / 1000.0),
        }
    }
}
