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

#[cfg(test)]
mod tests {
    use super::super::testing::{at, failed, record, run};
    use super::*;

    /// An answer due, ready and sent at these times, ms, finished 100 ms after the send.
    fn sent(scheduled: f64, ready: f64, sent: f64) -> RequestRecord {
        let times = format!("{sent} {} {}", sent + 50.0, sent + 100.0);
        RequestRecord { scheduled: at(scheduled), ready: Some(at(ready)), ..record(&times) }
    }

    #[test]
    fn a_burst_counts_by_its_spread_and_its_first_by_its_lag() {
        let mut records: Vec<_> = (0..5).map(|k| sent(0.0, 0.0, 2.0 + f64::from(k))).collect();
        records.extend([sent(0.0, 100.0, 130.0), sent(0.0, 200.0, 200.5)]);
        let lateness = Lateness::of(&run(records));
        assert_eq!((lateness.burst_size, lateness.burst_spread_ms), (5, Some(4.0)));
        assert_eq!((lateness.client_lag_ms.count, lateness.client_lag_ms.max), (3, Some(30.0)));
        assert_eq!((lateness.above_1_ms, lateness.above_10_ms, lateness.above_100_ms), (2, 1, 0));
    }

    #[test]
    fn a_run_without_bursts_has_no_spread() {
        let lateness = Lateness::of(&run(vec![sent(0.0, 0.0, 1.0), sent(1.0, 1.0, 1.0)]));
        assert_eq!((lateness.burst_size, lateness.burst_spread_ms), (0, None));
        assert_eq!(Lateness::of(&run(vec![])).worst_10_s_mean_ms, None);
    }

    #[test]
    fn a_send_before_the_slots_last_stamp_is_not_late() {
        assert_eq!(Lateness::of(&run(vec![sent(0.0, 5.0, 4.9)])).client_lag_ms.max, Some(0.0));
    }

    #[test]
    fn the_worst_10_seconds_are_found_wherever_they_begin() {
        // One request a second for 60 s, 1 ms late, but 21 ms late from the 33rd to the 37th second.
        let lag = |second: u32| if (33..38).contains(&second) { 21.0 } else { 1.0 };
        let due = |second: u32| f64::from(second) * 1000.0;
        let records = (0..60).map(|second| sent(due(second), due(second), due(second) + lag(second)));
        let lateness = Lateness::of(&run(records.collect()));
        assert_eq!(lateness.worst_10_s_mean_ms, Some(11.0));
        let short = run(vec![sent(0.0, 0.0, 2.0), sent(500.0, 500.0, 504.0)]);
        assert_eq!(Lateness::of(&short).worst_10_s_mean_ms, Some(3.0));
    }

    #[test]
    fn rates_tell_offered_admitted_sent_and_achieved_apart() {
        let mut run = run(vec![sent(500.0, 500.0, 500.0), sent(1000.0, 2000.0, 2500.0)]);
        run.records.push(failed("2500 3900", Outcome::CancelledAtEnd));
        run.records[2].scheduled = at(1500.0);
        run.manifest.settings.request_rate = Some(2.0);
        let rates = Rates::of(&run);
        assert_eq!(rates.offered_per_s, Some(2.0));
        assert_eq!(rates.admitted_per_s, Some(3.0 / 2.5));
        assert_eq!(rates.sent_per_s, Some(3.0 / 2.5));
        assert_eq!(rates.achieved_per_s, Some(2.0 / 2.6));
        run.manifest.settings.request_rate = None;
        assert_eq!(Rates::of(&run).offered_per_s, None);
    }
}
