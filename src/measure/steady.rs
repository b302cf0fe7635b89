//! The part of a run in which it had settled, and whether it ever did. The start of a run is cut by MSER-5 (White,
//! Cobb and Spratt 2000): of all cuts in the first half, the one after which the mean of what is left has the
//! smallest standard error, over batches of five. The drain is cut at the last send.

use super::{Definition, Distribution, METRICS, Measured, Metric, Offset, RequestRecord, Run, span};
use serde::{Deserialize, Serialize};

/// Fewest sent requests that anything is said about.
const FEWEST: usize = 100;
/// Values in a batch: the 5 of MSER-5.
const BATCH: usize = 5;
/// Most samples of what is in flight.
const SAMPLES: usize = 1000;
/// Share of the requests admitted in the second half of the sending that must have been completed in it.
const KEPT_UP: f64 = 0.9;
/// Standard deviations of a Poisson count by which completions must fall short, so that chance is no backlog.
const BEYOND_CHANCE: f64 = 3.0;

/// What a settled run looks like without its beginning and its drain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Steady {
    /// Where it begins, seconds from the start of the main load.
    pub from_s: f64,
    /// Where it ends: the last send.
    pub to_s: f64,
    /// Requests that were sent within.
    pub requests: usize,
    /// Ok requests that finished within, per second.
    pub request_throughput_per_s: f64,
    /// Output tokens of ok requests that came within, per second.
    pub output_throughput_per_s: f64,
    /// Strict distributions over the ok requests that were sent within, in the order of the metric table.
    pub metrics: Vec<Measured>,
}

/// An offered load beyond what the server can take: the longer the run, the longer the latencies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// Requests admitted per second in the second half of the sending.
    pub admitted_per_s: f64,
    /// Requests that ended per second in it.
    pub ended_per_s: f64,
    /// In flight in the middle of the sending.
    pub in_flight_middle: usize,
    /// In flight at the last send.
    pub in_flight_end: usize,
}

impl Steady {
    /// The settled part of a run; `None` for fewer than 100 requests, for one burst, and where the start reaches
    /// into the second half, so that nothing can be told from it.
    pub(super) fn of(run: &Run) -> Option<Self> {
        let sending = Sending::of(run)?;
        let settled = sending.settled_by_ttft(run)?.max(sending.settled_by_in_flight()?);
        // Less than a tenth of the sending says nothing.
        let length = sending.last.seconds_since(sending.first);
        let worth = length / 10.0 <= sending.last.seconds_since(settled);
        worth.then(|| sending.window(run, settled))
    }

    /// The distribution of the metric with this key.
    pub fn distribution(&self, key: &str) -> Option<&Distribution> {
        self.metrics.iter().find(|measured| measured.key == key).map(|measured| &measured.distribution)
    }
}

impl Growth {
    /// Whether completions fell behind admissions through the second half of the sending. `None` where they did not,
    /// where a concurrency limit keeps what is in flight from growing, and for fewer than 100 requests.
    pub(super) fn of(run: &Run) -> Option<Self> {
        let sending = Sending::of(run).filter(|_| run.manifest.settings.max_concurrency.is_none())?;
        // Where the sending is over before answers come, nothing can be told.
        let e2el = |record: &RequestRecord| Some(record.finished.seconds_since(record.sent?));
        let mut latencies: Vec<f64> = run.main().filter_map(e2el).collect();
        latencies.sort_unstable_by(f64::total_cmp);
        if sending.last.seconds_since(sending.first) < 2.0 * latencies[latencies.len() / 4] {
            return None;
        }
        let middle = Offset::from_tenths(sending.first.tenths().midpoint(sending.last.tenths()));
        let admitted = sending.sent_by(sending.last) - sending.sent_by(middle);
        let ended = sending.ended_by(sending.last) - sending.ended_by(middle);
        let behind = admitted as f64 - ended as f64;
        let seconds = sending.last.seconds_since(middle);
        let chance = BEYOND_CHANCE * ((admitted + ended) as f64).sqrt();
        let grew = chance.max((1.0 - KEPT_UP) * admitted as f64) < behind;
        grew.then(|| Self {
            admitted_per_s: admitted as f64 / seconds,
            ended_per_s: ended as f64 / seconds,
            in_flight_middle: sending.in_flight(middle),
            in_flight_end: sending.in_flight(sending.last),
        })
    }
}

/// The sends and ends of a run's main load.
struct Sending {
    first: Offset,
    last: Offset,
    sent: Vec<Offset>,
    ended: Vec<Offset>,
}

impl Sending {
    fn of(run: &Run) -> Option<Self> {
        // Batches of replicas are sent each at one instant.
        if run.manifest.repeat.is_some() {
            return None;
        }
        let both = run.main().filter_map(|record| Some((record.sent?, record.finished)));
        let (mut sent, mut ended): (Vec<_>, Vec<_>) = both.unzip();
        sent.sort_unstable();
        ended.sort_unstable();
        let (first, last) = (*sent.first()?, *sent.last()?);
        // All at once is one burst: it never settles.
        let spread = run.main().any(|record| record.ready_or_due() != run.manifest.main_start);
        (FEWEST <= sent.len() && first < last && spread).then_some(Self { first, last, sent, ended })
    }

    fn sent_by(&self, at: Offset) -> usize {
        self.sent.partition_point(|sent| *sent <= at)
    }

    fn ended_by(&self, at: Offset) -> usize {
        self.ended.partition_point(|ended| *ended <= at)
    }

    fn in_flight(&self, at: Offset) -> usize {
        self.sent_by(at).saturating_sub(self.ended_by(at))
    }

    /// When TTFT had settled: the send of the first request that is kept.
    fn settled_by_ttft(&self, run: &Run) -> Option<Offset> {
        let ttft = Metric::find("ttft")?;
        let value = |record: &RequestRecord| Some((record.sent?, ttft.value(record, Definition::Strict)?));
        let mut values: Vec<_> = run.main().filter(|record| record.is_ok()).filter_map(value).collect();
        values.sort_unstable_by_key(|(sent, _)| *sent);
        let series: Vec<f64> = values.iter().map(|(_, ttft)| *ttft).collect();
        mser5(&series).map(|kept| values[kept].0)
    }

    /// When the number of requests in flight had settled.
    fn settled_by_in_flight(&self) -> Option<Offset> {
        let samples = self.sent.len().min(SAMPLES);
        let length = self.last.tenths() - self.first.tenths();
        let at = |nth: usize| {
            Offset::from_tenths(self.first.tenths() + (length as f64 * nth as f64 / samples as f64) as u64)
        };
        let series: Vec<f64> = (0..samples).map(|nth| self.in_flight(at(nth)) as f64).collect();
        mser5(&series).map(at)
    }

    fn window(&self, run: &Run, from: Offset) -> Steady {
        let start = run.manifest.main_start;
        let within = |at: Offset| from <= at && at <= self.last;
        let seconds = self.last.seconds_since(from);
        let ok = || run.main().filter(|record| record.is_ok());
        let sent = || run.main().filter(|record| record.sent.is_some_and(within));
        let tokens = ok().flat_map(span::token_events).filter(|(at, _)| within(*at));
        let percentiles = run.manifest.settings.all_percentiles();
        let metrics = METRICS.iter().map(|metric| Measured {
            key: metric.key.to_owned(),
            distribution: metric.distribution(sent(), Definition::Strict, &percentiles),
        });
        Steady {
            from_s: from.seconds_since(start),
            to_s: self.last.seconds_since(start),
            requests: sent().count(),
            request_throughput_per_s: ok().filter(|record| within(record.finished)).count() as f64 / seconds,
            output_throughput_per_s: tokens.map(|(_, tokens)| tokens).sum::<f64>() / seconds,
            metrics: metrics.collect(),
        }
    }
}

/// The index of the first value to keep: of the cuts d in the first half of the n batch means, the first with the
/// smallest Σ(y − ȳ)² / (n − d)², over the means from d on. `None` when that is the last of them, where MSER is
/// taken to have found nothing, and with fewer than ten batches.
fn mser5(values: &[f64]) -> Option<usize> {
    let means: Vec<f64> =
        values.chunks_exact(BATCH).map(|batch| batch.iter().sum::<f64>() / BATCH as f64).collect();
    let n = means.len();
    if n < 10 {
        return None;
    }
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    let (mut best, mut least) = (n, f64::INFINITY);
    // Welford's sums, from the end on, so that each cut takes one step.
    for (d, value) in means.iter().enumerate().rev() {
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        squares += delta * (value - mean);
        let error = squares / (count * count);
        if d <= n / 2 && error <= least {
            (best, least) = (d, error);
        }
    }
    (best < n / 2).then_some(best * BATCH)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{record, run};
    use super::*;
    use proptest::prelude::*;

    /// Requests sent every `gap` ms that each take `latency(nth)` ms to their only token.
    fn load(count: u32, gap: f64, latency: impl Fn(u32) -> f64) -> Run {
        let one = |nth: u32| {
            let sent = f64::from(nth) * gap;
            record(&format!("{sent} {}", sent + latency(nth)))
        };
        run((0..count).map(one).collect())
    }

    #[test]
    fn a_constant_series_is_kept_whole_and_a_trend_never_settles() {
        assert_eq!(mser5(&[3.0; 100]), Some(0));
        let trend: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(mser5(&trend), None);
        assert_eq!(mser5(&[1.0; 49]), None);
    }

    #[test]
    fn a_high_beginning_is_cut_where_it_ends() {
        let noise = |nth: usize| (nth * 7919 % 13) as f64 / 13.0;
        let series: Vec<f64> = (0..200).map(|nth| noise(nth) + if nth < 40 { 20.0 } else { 0.0 }).collect();
        assert_eq!(mser5(&series), Some(40));
    }

    proptest! {
        #[test]
        fn the_cut_is_the_one_a_plain_sum_finds(values in prop::collection::vec(0.0..100.0, 50..300)) {
            let means: Vec<f64> = values.chunks_exact(5).map(|b| b.iter().sum::<f64>() / 5.0).collect();
            let n = means.len();
            let error = |d: usize| {
                let rest = &means[d..];
                let mean = rest.iter().sum::<f64>() / rest.len() as f64;
                rest.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / (rest.len() as f64).powi(2)
            };
            let least = (0..=n / 2).map(error).fold(f64::INFINITY, f64::min);
            match mser5(&values) {
                Some(cut) => prop_assert!(error(cut / 5) <= least * (1.0 + 1e-9)),
                None => prop_assert!(error(n / 2) <= least * (1.0 + 1e-9)),
            }
        }
    }

    #[test]
    fn a_slow_start_and_the_drain_are_outside_the_window() {
        // 300 requests at 100/s: the first 50 take 900 ms, the others 100 ms.
        let run = load(300, 10.0, |nth| if nth < 50 { 900.0 } else { 100.0 });
        let steady = Steady::of(&run).unwrap();
        assert!((0.5..1.5).contains(&steady.from_s), "{}", steady.from_s);
        assert_eq!(steady.to_s, 2.99);
        let ttft = steady.distribution("ttft").unwrap();
        assert_eq!((ttft.mean, ttft.count), (Some(100.0), steady.requests));
        assert!((95.0..105.0).contains(&steady.request_throughput_per_s), "{steady:?}");
        assert_eq!(Growth::of(&run), None);
    }

    #[test]
    fn a_queue_that_grows_has_no_steady_state_and_is_told() {
        // 100/s offered, 50/s served: each request waits 10 ms longer than the one before.
        let run = load(400, 10.0, |nth| 20.0 + 10.0 * f64::from(nth));
        assert_eq!(Steady::of(&run), None);
        let growth = Growth::of(&run).unwrap();
        assert!((growth.admitted_per_s - 100.0).abs() < 1.0 && (growth.ended_per_s - 50.0).abs() < 1.0);
        assert!(growth.in_flight_middle < growth.in_flight_end);
        let mut limited = run;
        limited.manifest.settings.max_concurrency = Some(10);
        assert_eq!(Growth::of(&limited), None);
    }

    #[test]
    fn chance_is_no_growth() {
        // In flight swings between 10 and 20 with a period of 1 s.
        let run = load(1000, 10.0, |nth| if nth / 50 % 2 == 0 { 100.0 } else { 200.0 });
        assert_eq!(Growth::of(&run), None);
        assert!(Steady::of(&run).is_some());
    }

    #[test]
    fn few_requests_and_one_burst_have_no_steady_state() {
        assert_eq!(Steady::of(&load(99, 10.0, |_| 5.0)), None);
        let mut burst = load(200, 0.001, f64::from);
        for record in &mut burst.records {
            record.scheduled = burst.manifest.main_start;
            record.ready = Some(burst.manifest.main_start);
        }
        assert_eq!((Steady::of(&burst), Growth::of(&burst)), (None, None));
    }
}
