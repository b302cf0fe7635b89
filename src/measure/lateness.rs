use super::{Distribution, Lateness, Offset, Outcome, Rates, RequestRecord, Run};

/// How lags are summed up in [`Lateness`].
const LAG_PERCENTILES: [f64; 3] = [50.0, 90.0, 99.0];
/// Length of the window whose mean lag is the worst, seconds.
const WINDOW_S: f64 = 10.0;

/// Client lag of one request: when it was ready, and how much later it was sent, ms.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Lag {
    ready: Offset,
    ms: f64,
}

/// Requests with the same ready instant, at least two: sent one after the other, so that all but the
/// first must be late.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Burst {
    size: usize,
    spread_ms: f64,
}

impl Lateness {
    /// Folds the sent requests of the main load.
    pub(super) fn of(run: &Run) -> Self {
        let (lags, largest) = split_bursts(run);
        let above = |limit_ms: f64| lags.iter().filter(|lag| limit_ms < lag.ms).count();
        Self {
            above_1_ms: above(1.0),
            above_10_ms: above(10.0),
            above_100_ms: above(100.0),
            worst_10_s_mean_ms: worst_window(&lags),
            burst_spread_ms: largest.map(|burst| burst.spread_ms),
            burst_size: largest.map_or(0, |burst| burst.size),
            client_lag_ms: Distribution::of(lags.into_iter().map(|lag| lag.ms).collect(), &LAG_PERCENTILES),
        }
    }
}

/// How many requests outside bursts were sent more than `limit_ms` after they were ready.
pub(super) fn late_by_more(run: &Run, limit_ms: f64) -> usize {
    split_bursts(run).0.iter().filter(|lag| limit_ms < lag.ms).count()
}

/// The lags outside bursts by ready instant, and the largest burst. The first of a burst counts as
/// outside: nothing of its burst was in its way.
fn split_bursts(run: &Run) -> (Vec<Lag>, Option<Burst>) {
    let mut sends: Vec<(Offset, Offset)> =
        run.main().filter_map(|record| record.sent.map(|sent| (record.ready_or_due(), sent))).collect();
    sends.sort_unstable();
    let mut largest: Option<Burst> = None;
    let mut lags = Vec::new();
    for same_ready in sends.chunk_by(|one, next| one.0 == next.0) {
        let ((ready, first), (_, last)) = (same_ready[0], same_ready[same_ready.len() - 1]);
        lags.push(Lag { ready, ms: first.ms_since(ready).max(0.0) });
        let size = same_ready.len();
        if 2 <= size && largest.is_none_or(|burst| burst.size < size) {
            largest = Some(Burst { size, spread_ms: last.ms_since(first) });
        }
    }
    (lags, largest)
}

/// The greatest mean lag of the requests that became ready within 10 s, over all windows that begin
/// with a request and end before the last; the whole run when it is shorter.
fn worst_window(lags: &[Lag]) -> Option<f64> {
    let last = lags.last()?.ready;
    let (mut end, mut sum, mut worst) = (0, 0.0, None);
    for (begin, from) in lags.iter().enumerate() {
        if begin > 0 {
            sum -= lags[begin - 1].ms;
            if last.seconds_since(from.ready) < WINDOW_S {
                break;
            }
        }
        while end < lags.len() && lags[end].ready.seconds_since(from.ready) < WINDOW_S {
            sum += lags[end].ms;
            end += 1;
        }
        let mean = sum / (end - begin) as f64;
        worst = Some(worst.unwrap_or(0.0_f64).max(mean));
    }
    worst
}

impl Rates {
    /// Requests of the main load over the time from its start to the last of these instants.
    pub(super) fn of(run: &Run) -> Self {
        let settled =
            |record: &RequestRecord| (record.outcome != Outcome::CancelledAtEnd).then_some(record.finished);
        let sent_ready = |record: &RequestRecord| record.sent.map(|_| record.ready_or_due());
        Self {
            offered_per_s: run
                .manifest
                .settings
                .request_rate
                .and_then(|_| rate(run, |record| Some(record.scheduled))),
            admitted_per_s: rate(run, sent_ready),
            sent_per_s: rate(run, |record| record.sent),
            achieved_per_s: rate(run, settled),
        }
    }
}

/// How many records have the instant, over the time from the start of the main load to the last of them.
fn rate(run: &Run, instant: impl Fn(&RequestRecord) -> Option<Offset>) -> Option<f64> {
    let instants = || run.main().filter_map(&instant);
    let seconds = instants().max()?.seconds_since(run.manifest.main_start);
    (0.0 < seconds).then(|| instants().count() as f64 / seconds)
}
