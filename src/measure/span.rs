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
    let end = |record: &RequestRecord, sent: Offset| record.events.last().or(record.role).unwrap_or(sent);
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
