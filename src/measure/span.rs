//! What happens per second: the spans that throughputs are divided by, and the peaks.

use super::{Definition, Offset, RequestRecord, Run};

/// One second, in tenths of a microsecond.
const SECOND: u64 = 10_000_000;

/// The span that throughputs are divided by, seconds; `None` when it has no length.
/// vLLM: from the start of the main load to the end of its last request, of whatever outcome.
/// Strict: from the first send to the last token event, over ok requests.
pub(super) fn duration_s(run: &Run, definition: Definition) -> Option<f64> {
    let (start, end) = match definition {
        Definition::Vllm => {
            let last = run.main().map(|record| record.finished).max();
            (run.manifest.main_start, run.manifest.main_end.or(last)?)
        }
        Definition::Strict => {
            let ok = || run.main().filter(|record| record.is_ok());
            (ok().filter_map(|record| record.sent).min()?, ok().map(last_token).max()?)
        }
    };
    Some(end.seconds_since(start)).filter(|&seconds| 0.0 < seconds)
}

/// The last token event, or the end of an answer that had its tokens in no event.
fn last_token(record: &RequestRecord) -> Offset {
    record.events.last().unwrap_or(record.finished)
}

/// When the tokens of an answer came: each event with its tokens, as far as the server tells, else
/// with an equal share; all at the end of an answer that had no events. They add up to `output_tokens`.
pub(super) fn token_events(record: &RequestRecord) -> impl Iterator<Item = (Offset, f64)> + '_ {
    let (total, events) = (record.output_tokens, record.events.len());
    let told = record.events_tokens.len() == events
        && record.events_tokens.iter().map(|&tokens| u64::from(tokens)).sum::<u64>() == u64::from(total);
    let share = f64::from(total) / events as f64;
    let tokens = move |nth: usize| if told { f64::from(record.events_tokens[nth]) } else { share };
    let unseen = (events == 0).then_some((record.finished, f64::from(total)));
    record.events.iter().enumerate().map(move |(nth, at)| (at, tokens(nth))).chain(unseen)
}

/// Most output tokens of ok requests in any one second.
pub(super) fn peak_tokens_per_s(run: &Run, definition: Definition) -> Option<f64> {
    match definition {
        Definition::Vllm => bucket_peaks(run).map(|(tokens, _)| tokens as f64),
        Definition::Strict => window_peak(run),
    }
}

/// Most requests in flight. vLLM: ok requests that touch the same bucket of one second. Strict: at one
/// instant, whatever their outcome.
pub(super) fn peak_concurrency(run: &Run, definition: Definition) -> Option<f64> {
    match definition {
        Definition::Vllm => bucket_peaks(run).map(|(_, requests)| requests as f64),
        Definition::Strict => sweep_peak(run),
    }
}

/// vLLM's peaks: events per bucket and requests per bucket, in buckets of one second from the first
/// send on, over ok requests. A role-only chunk is an event.
fn bucket_peaks(run: &Run) -> Option<(u64, u64)> {
    let ok = || run.main().filter(|record| record.is_ok()).filter_map(|record| Some((record, record.sent?)));
    let origin = ok().map(|(_, sent)| sent).min()?;
    let bucket = |at: Offset| (at.tenths().saturating_sub(origin.tenths()) / SECOND) as usize;
    let end =
        |record: &RequestRecord, sent: Offset| record.events.last().or(record.role).unwrap_or(sent).max(sent);
    let last = ok().map(|(record, sent)| bucket(end(record, sent))).max()?;
    let (mut events, mut touched) = (vec![0_u64; last + 1], vec![0_u64; last + 1]);
    for (record, sent) in ok() {
        for at in record.role.into_iter().chain(record.events.iter()) {
            events[bucket(at).min(last)] += 1;
        }
        for requests in &mut touched[bucket(sent)..=bucket(end(record, sent))] {
            *requests += 1;
        }
    }
    Some((events.into_iter().max()?, touched.into_iter().max()?))
}

/// The greatest number of tokens in any window (t − 1 s, t].
fn window_peak(run: &Run) -> Option<f64> {
    let ok = run.main().filter(|record| record.is_ok());
    let mut arrivals: Vec<(Offset, f64)> = ok.flat_map(token_events).collect();
    arrivals.sort_unstable_by_key(|&(at, _)| at);
    let (mut oldest, mut tokens, mut peak) = (0, 0.0, None);
    for &(at, came) in &arrivals {
        tokens += came;
        while arrivals[oldest].0.tenths() + SECOND <= at.tenths() {
            tokens -= arrivals[oldest].1;
            oldest += 1;
        }
        peak = Some(f64::max(tokens, peak.unwrap_or(0.0)));
    }
    peak
}

/// The greatest number of requests between `sent` and `finished` at one instant. One that ends at the
/// instant where another begins has handed its slot over.
fn sweep_peak(run: &Run) -> Option<f64> {
    let mut steps: Vec<(Offset, i64)> = run
        .main()
        .filter_map(|record| record.sent.map(|sent| (sent, record.finished)))
        .filter(|(sent, finished)| sent < finished)
        .flat_map(|(sent, finished)| [(sent, 1), (finished, -1)])
        .collect();
    steps.sort_unstable();
    let in_flight = steps.into_iter().scan(0, |now, (_, step)| {
        *now += step;
        Some(*now)
    });
    in_flight.max().map(|peak| peak as f64)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, failed, record, run};
    use super::super::{Outcome, Summary};
    use super::*;
    use Definition::{Strict, Vllm};

    /// Two answers of 10 tokens, 100 ms apart, from 1 s and from 1.5 s on.
    fn two_streams() -> Run {
        let stream = |from: u32| (0..=10).map(|k| format!("{} ", from + 100 * k)).collect::<String>();
        run(vec![record(&stream(1000)), record(&stream(1500))])
    }

    #[test]
    fn vllm_divides_by_the_whole_run_and_strict_by_the_ok_span() {
        let mut run = two_streams();
        run.records.push(failed("2600 2700", Outcome::Reset));
        assert_eq!(duration_s(&run, Strict), Some(1.5));
        assert_eq!(duration_s(&run, Vllm), Some(2.7));
        run.manifest.main_end = Some(at(3000.0));
        assert_eq!(duration_s(&run, Vllm), Some(3.0));
    }

    #[test]
    fn throughputs_are_counts_over_the_span() {
        let summary = Summary::of(&two_streams());
        let table = [(Strict, 1.5), (Vllm, 2.5)];
        for (definition, seconds) in table {
            let view = summary.view(definition);
            assert_eq!(view.request_throughput_per_s, Some(2.0 / seconds));
            assert_eq!(view.output_throughput_per_s, Some(20.0 / seconds));
            assert_eq!(view.total_token_throughput_per_s, Some(40.0 / seconds));
            assert_eq!(view.request_goodput_per_s, None);
        }
    }

    #[test]
    fn without_an_ok_request_there_is_no_strict_throughput() {
        let summary = Summary::of(&run(vec![failed("0 100", Outcome::Reset)]));
        assert_eq!((summary.strict.duration_s, summary.strict.request_throughput_per_s), (None, None));
        assert_eq!(summary.vllm.request_throughput_per_s, Some(0.0));
        assert_eq!(summary.vllm.max_output_tokens_per_s, None);
    }

    #[test]
    fn a_sliding_second_finds_the_peak_that_buckets_cut_in_two() {
        // 1.1 … 2.0 and 1.6 … 2.5: (1.0, 2.0] holds 10 + 5, (1.5, 2.5] holds 5 + 10.
        assert_eq!(peak_tokens_per_s(&two_streams(), Strict), Some(15.0));
        // From 1.0 on, in [1.0, 2.0): 9 + 4; in [2.0, 3.0): 1 + 6.
        assert_eq!(peak_tokens_per_s(&two_streams(), Vllm), Some(13.0));
    }

    #[test]
    fn events_exactly_one_second_apart_are_not_in_one_second() {
        assert_eq!(peak_tokens_per_s(&run(vec![record("0 0 1000 2000")]), Strict), Some(1.0));
    }

    #[test]
    fn peaks_weigh_events_by_their_tokens_strictly() {
        let several = RequestRecord { output_tokens: 8, ..record("0 100 200") };
        let told = RequestRecord { events_tokens: vec![7, 1], output_tokens: 8, ..record("0 100 1150") };
        assert_eq!(peak_tokens_per_s(&run(vec![several.clone()]), Strict), Some(8.0));
        assert_eq!(peak_tokens_per_s(&run(vec![several]), Vllm), Some(2.0));
        assert_eq!(peak_tokens_per_s(&run(vec![told]), Strict), Some(7.0));
    }

    #[test]
    fn a_slot_handed_over_is_one_request_in_flight_but_two_to_vllm() {
        let run = run(vec![record("0 100 200"), record("200 300 400"), failed("300 350", Outcome::Reset)]);
        assert_eq!(peak_concurrency(&run, Strict), Some(2.0));
        assert_eq!(peak_concurrency(&run, Vllm), Some(2.0));
        let handed_over = super::super::testing::run(run.records[..2].to_vec());
        assert_eq!(peak_concurrency(&handed_over, Strict), Some(1.0));
        assert_eq!(peak_concurrency(&handed_over, Vllm), Some(2.0));
    }

    #[test]
    fn the_tokens_of_events_add_up_to_the_answer() {
        let table = [(vec![], 8), (vec![7, 1], 8), (vec![7, 2], 8), (vec![1], 3)];
        for (events_tokens, output_tokens) in table {
            let record = RequestRecord { events_tokens, output_tokens, ..record("0 100 200") };
            assert_eq!(
                token_events(&record).map(|(_, tokens)| tokens).sum::<f64>(),
                f64::from(output_tokens)
            );
        }
        let unseen = RequestRecord { output_tokens: 5, ..record("70") };
        assert_eq!(token_events(&unseen).collect::<Vec<_>>(), [(at(70.0), 5.0)]);
    }
}
