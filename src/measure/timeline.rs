use super::span::token_events;
use super::{Definition, Metric, Offset, RequestRecord, Run, distribution};
use serde::{Deserialize, Serialize};

/// The course of the main load in bins of equal width.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Width of a bin, seconds.
    pub bin_s: f64,
    /// The bins, from the start of the main load to its end, without a hole.
    pub bins: Vec<Bin>,
}

/// What happened within one bin of a [`Timeline`]. The sums over all bins are the totals of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Where it begins, seconds from the start of the main load.
    pub start_s: f64,
    /// Requests due.
    pub scheduled: usize,
    /// Requests sent.
    pub sent: usize,
    /// Requests that ended ok.
    pub finished_ok: usize,
    /// Requests that failed.
    pub failed: usize,
    /// Requests cut by the end of the run.
    pub cancelled: usize,
    /// Requests in flight, mean over the time of the bin.
    pub in_flight: f64,
    /// Output tokens of ok requests. Not whole where one event has several tokens.
    pub output_tokens: f64,
    /// Median strict TTFT of the requests whose first token came in this bin, ms.
    pub ttft_p50_ms: Option<f64>,
}

/// Widths that a bin can have, in tenths of a second; beyond them multiples of the last.
const WIDTHS: [u64; 9] = [10, 20, 50, 100, 200, 300, 600, 1200, 3000];
/// Most bins that a chart can show.
const MOST_BINS: u64 = 600;
/// A tenth of a second, in tenths of a microsecond.
const TENTH: u64 = 1_000_000;

impl Timeline {
    /// Folds the records of the main load. Bins are 1 s wide; 0.1 s when the run is shorter than 10 s,
    /// wider when it would take more than 600 of them.
    pub fn of(run: &Run) -> Self {
        let start = run.manifest.main_start;
        let Some(end) = run.main().flat_map(stamps).max() else { return Self::default() };
        let ruler = Ruler::over(start, end);
        let mut bins: Vec<Bin> =
            (0..ruler.count).map(|nth| Bin { start_s: ruler.start_s(nth), ..Bin::default() }).collect();
        let mut ttfts = vec![Vec::new(); ruler.count];
        let ttft = Metric::find("ttft");
        for record in run.main() {
            count(record, &ruler, &mut bins);
            let value = ttft.and_then(|ttft| ttft.value(record, Definition::Strict));
            if let Some((first, value)) = record.events.first().zip(value) {
                ttfts[ruler.bin(first)].push(value);
            }
        }
        for (bin, mut ttfts) in bins.iter_mut().zip(ttfts) {
            ttfts.sort_unstable_by(f64::total_cmp);
            bin.ttft_p50_ms = distribution::median(&ttfts);
        }
        Self { bin_s: ruler.width as f64 / 1e7, bins }
    }
}

/// The instants of a record that must lie within the timeline.
fn stamps(record: &RequestRecord) -> impl Iterator<Item = Offset> {
    [Some(record.scheduled), record.sent, record.events.last(), Some(record.finished)].into_iter().flatten()
}

fn count(record: &RequestRecord, ruler: &Ruler, bins: &mut [Bin]) {
    bins[ruler.bin(record.scheduled)].scheduled += 1;
    let end = &mut bins[ruler.bin(record.finished)];
    match record.outcome {
        outcome if outcome.is_failure() => end.failed += 1,
        _ if record.is_ok() => end.finished_ok += 1,
        _ => end.cancelled += 1,
    }
    if record.is_ok() {
        for (at, tokens) in token_events(record) {
            bins[ruler.bin(at)].output_tokens += tokens;
        }
    }
    if let Some(sent) = record.sent {
        bins[ruler.bin(sent)].sent += 1;
        let crossed = ruler.bin(sent)..=ruler.bin(record.finished);
        for (nth, bin) in bins.iter_mut().enumerate().filter(|(nth, _)| crossed.contains(nth)) {
            bin.in_flight += ruler.share(nth, sent, record.finished);
        }
    }
}

/// Where the bins lie, in tenths of a microsecond.
struct Ruler {
    start: u64,
    end: u64,
    width: u64,
    count: usize,
}

impl Ruler {
    fn over(start: Offset, end: Offset) -> Self {
        let (start, end) = (start.tenths(), end.tenths().max(start.tenths()));
        let length = end - start;
        let width = if length < 100 * TENTH { TENTH } else { wide_enough(length) };
        Self { start, end, width, count: length.div_ceil(width).max(1) as usize }
    }

    fn start_s(&self, nth: usize) -> f64 {
        (nth as u64 * self.width) as f64 / 1e7
    }

    /// The bin of an instant; the first and the last bin take in what lies outside.
    fn bin(&self, at: Offset) -> usize {
        ((at.tenths().saturating_sub(self.start) / self.width) as usize).min(self.count - 1)
    }

    /// Which share of the bin's time lies between two instants. The last bin ends with the run.
    fn share(&self, nth: usize, from: Offset, to: Offset) -> f64 {
        let begin = self.start + nth as u64 * self.width;
        let end = (begin + self.width).min(self.end);
        let covered = to.tenths().min(end).saturating_sub(from.tenths().max(begin));
        if begin < end { covered as f64 / (end - begin) as f64 } else { 0.0 }
    }
}

/// The least width with which no more than [`MOST_BINS`] bins cover the length.
pub(super) fn wide_enough(length: u64) -> u64 {
    let fits = |width: &u64| length.div_ceil(*width) <= MOST_BINS;
    let widest = WIDTHS[WIDTHS.len() - 1] * TENTH;
    let width = WIDTHS.into_iter().map(|tenths| tenths * TENTH).find(fits);
    width.unwrap_or_else(|| length.div_ceil(MOST_BINS).next_multiple_of(widest))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, failed, record, run};
    use super::super::{Outcome, Summary};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bins_are_finer_in_short_runs_and_coarser_in_long_ones() {
        let table =
            [(50, 0.1, 1), (9_950, 0.1, 100), (10_000, 1.0, 10), (600_000, 1.0, 600), (600_001, 2.0, 301)];
        let long = [(3_600_000, 10.0, 360), (720_000_000, 1200.0, 600)];
        for (end_ms, bin_s, bins) in table.into_iter().chain(long) {
            let timeline = Timeline::of(&run(vec![record(&format!("0 {end_ms}"))]));
            assert_eq!((timeline.bin_s, timeline.bins.len()), (bin_s, bins), "{end_ms} ms");
        }
        assert_eq!(Timeline::of(&run(vec![])), Timeline::default());
    }

    #[test]
    fn a_request_is_in_flight_for_its_share_of_each_bin() {
        let timeline = Timeline::of(&run(vec![record("50 120 250"), failed("100 150 225", Outcome::Reset)]));
        let in_flight: Vec<f64> = timeline.bins.iter().map(|bin| bin.in_flight).collect();
        assert_eq!(in_flight, [0.5, 2.0, 1.5]); // the last bin ends with the run, after 50 ms
        let ttfts: Vec<_> = timeline.bins.iter().map(|bin| bin.ttft_p50_ms).collect();
        assert_eq!(ttfts, [None, Some(70.0), None]);
    }

    #[test]
    fn bins_begin_at_the_start_of_the_main_load() {
        let mut run = run(vec![record("1050 1150 1250")]);
        run.manifest.main_start = at(1000.0);
        let timeline = Timeline::of(&run);
        assert_eq!(timeline.bins.iter().map(|bin| bin.sent).collect::<Vec<_>>(), [1, 0, 0]);
        assert_eq!(timeline.bins[2].start_s, 0.2);
    }

    proptest! {
        #[test]
        fn the_bins_add_up_to_the_totals(
            requests in proptest::collection::vec((0_u32..40_000, 0_u32..3000, 1_u32..50, 0_usize..26), 0..60)
        ) {
            let made = requests.iter().map(|&(sent, gap, tokens, outcome)| RequestRecord {
                outcome: Outcome::ALL[if outcome < 13 { 0 } else { outcome }],
                output_tokens: tokens,
                ..record(&format!("{sent} {} {}", sent + gap, sent + 2 * gap))
            });
            let run = run(made.collect());
            let (timeline, summary) = (Timeline::of(&run), Summary::of(&run));
            let total = |count: fn(&Bin) -> usize| timeline.bins.iter().map(count).sum::<usize>();
            prop_assert_eq!(total(|bin| bin.scheduled), summary.counts.sent);
            prop_assert_eq!(total(|bin| bin.sent), summary.counts.sent);
            prop_assert_eq!(total(|bin| bin.finished_ok), summary.counts.ok);
            prop_assert_eq!(total(|bin| bin.failed), summary.counts.failed);
            prop_assert_eq!(total(|bin| bin.cancelled), summary.counts.cancelled);
            let tokens: f64 = timeline.bins.iter().map(|bin| bin.output_tokens).sum();
            prop_assert!((tokens - summary.tokens.output as f64).abs() < 1e-6);
        }
    }
}
