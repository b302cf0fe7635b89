//! What several formats say in the same way: the verdict in a sentence, the rows of the latency table,
//! and where in a request's life the failures happened.

use super::Reported;
use super::accuracy::score_line;
use super::check::check_line;
use super::text::{MISSING, bare, count, counted, fixed, number, plain};
use crate::measure::{
    Added, BatchResult, Definition, Distribution, EndedIn, METRICS, Metric, Percentile, ProxyCost, Reason,
    Run, Settings, State, Steady, View, VllmNeeds,
};

/// Relative difference above which a latency from the schedule stands beside the one from the send.
const WORTH_SAYING: f64 = 0.05;

/// What a batch of replicas is called.
pub(super) fn batch_label(batch: &BatchResult) -> String {
    format!("Batch of {}", batch.plateau.expected)
}

/// The verdict in one word.
pub(super) fn verdict(reported: &Reported<'_>) -> &'static str {
    if reported.summary.validity.valid { "VALID" } else { "INVALID" }
}

/// How many requests went well, or what the answers are worth, in one line that says so when no server but a simulator
/// answered.
pub(super) fn bill(reported: &Reported<'_>) -> String {
    if let Some(result) = &reported.run.accuracy {
        return score_line(reported, result);
    }
    if let Some(check) = &reported.summary.check {
        return check_line(reported, check);
    }
    let counts = &reported.summary.counts;
    let simulated = if reported.run.manifest.target.simulated { " (simulated)" } else { "" };
    format!("{} ok, {} failed of {} sent{simulated}", counts.ok, counts.failed, counts.sent)
}

/// Tokens of the ok requests in one line.
pub(super) fn token_words(reported: &Reported<'_>) -> String {
    let tokens = &reported.summary.tokens;
    let mut words = format!("{} in, {} out", count(tokens.input), count(tokens.output));
    if let Some(cached) = tokens.cached {
        words += &format!(", {} of the input from a cache", count(cached));
    }
    if let Some(handed) = tokens.handed_over {
        words += &format!(", {} of the input handed over by prefill nodes", count(handed));
    }
    if let Some(per_event) = tokens.per_event {
        words += &format!("; {per_event:.2} per event");
    }
    if let Some(share) = tokens.coalesced_share.filter(|&share| 0.0005 <= share) {
        words += &format!(", {:.1} % of the events in a packet with the one before", 100.0 * share);
    }
    words
}

/// What the proxy adds, with the half of its interval.
pub(super) fn added_words(added: &Added) -> String {
    let plus_minus = added.plus_minus_ms.map_or(String::new(), |ms| format!(" ± {}", fixed(Some(ms), 3)));
    format!("{:+.3}{plus_minus}", added.added_ms)
}

/// How a comparison was made, and the proxy's processor time.
pub(super) fn proxy_words(cost: &ProxyCost) -> String {
    let mut words = format!(
        "{} ok through the proxy ({} failed), {} straight to the instances ({} failed), by turns in the same run",
        cost.through, cost.failed_through, cost.direct, cost.failed_direct
    );
    if let Some(cpu) = cost.cpu_ms_per_request {
        words += &format!("; the proxy took {} ms of processor time a request", number(Some(cpu)));
    }
    words
}

/// The settled part of a run in one line.
pub(super) fn steady_words(steady: &Steady) -> String {
    let mut words = format!(
        "{} – {} s (MSER-5, without start and drain): {}, {} req/s, {} output tok/s",
        number(Some(steady.from_s)),
        number(Some(steady.to_s)),
        counted(steady.requests, "request"),
        number(Some(steady.request_throughput_per_s)),
        number(Some(steady.output_throughput_per_s)),
    );
    for (key, short) in [("ttft", "TTFT"), ("tpot", "TPOT")] {
        if let Some(median) = steady.distribution(key).and_then(|values| values.median) {
            words += &format!(", {short} p50 {} ms", number(Some(median)));
        }
    }
    words
}

/// `INTERRUPTED at 37 %: why` where the run did not come to its planned end.
pub(super) fn interruption(reported: &Reported<'_>) -> Option<String> {
    let manifest = &reported.run.manifest;
    if manifest.state == State::Complete {
        return None;
    }
    let counts = &reported.summary.counts;
    let why = manifest.interrupted_by.as_deref().map_or("it left no word why".to_owned(), plain);
    let share = 100.0 * counts.sent as f64 / counts.planned.max(1) as f64;
    Some(format!("INTERRUPTED at {share:.0} % of {} planned: {why}", counted(counts.planned, "request")))
}

/// One row of a latency table.
pub(super) struct Row<'a> {
    pub(super) metric: &'static Metric,
    /// The row above measured from the schedule instead of the send.
    pub(super) from_schedule: bool,
    pub(super) distribution: &'a Distribution,
}

/// The rows of a view's table, in the order of the metric table: each metric that this run can have,
/// with its from-schedule twin under it where the two differ enough to matter. Questions have no schedule, and of answers
/// that are not streamed only what they have stands there.
pub(super) fn rows<'a>(reported: &Reported<'a>, definition: Definition) -> Vec<Row<'a>> {
    let view = reported.summary.view(definition);
    let mut rows = Vec::new();
    for metric in METRICS.iter().filter(|metric| applies(metric, reported) && !is_twin(metric)) {
        let Some(distribution) = view.distribution(metric.key) else { continue };
        if reported.run.accuracy.is_some() || reported.summary.check.is_some() {
            if is_latency(metric) && 0 < distribution.count {
                rows.push(Row { metric, from_schedule: false, distribution });
            }
            continue;
        }
        rows.push(Row { metric, from_schedule: false, distribution });
        if let Some((metric, distribution)) = differing_twin(view, metric) {
            rows.push(Row { metric, from_schedule: true, distribution });
        }
    }
    rows
}

/// The same metric from the schedule, where it differs by more than 5 % in any statistic.
pub(super) fn differing_twin<'a>(
    view: &'a View,
    metric: &Metric,
) -> Option<(&'static Metric, &'a Distribution)> {
    let twin = Metric::find(metric.from_schedule?)?;
    let (sent, due) = (view.distribution(metric.key)?, view.distribution(twin.key)?);
    let percentiles = sent.percentiles.iter().zip(&due.percentiles).map(|(a, b)| (a.value, b.value));
    let mut pairs = [(sent.mean, due.mean), (sent.median, due.median)].into_iter().chain(percentiles);
    let differs =
        pairs.any(|pair| matches!(pair, (Some(a), Some(b)) if WORTH_SAYING * a.abs() < (b - a).abs()));
    differs.then_some((twin, due))
}

/// True when another metric names this one as its from-schedule twin.
pub(super) fn is_twin(metric: &Metric) -> bool {
    METRICS.iter().any(|other| other.from_schedule == Some(metric.key))
}

/// True for what the server does to a request, rather than the client.
pub(super) fn is_latency(metric: &Metric) -> bool {
    metric.vllm.is_some_and(|names| names.needs == VllmNeeds::Nothing)
}

/// True when the run has what the metric needs to say anything.
pub(super) fn applies(metric: &Metric, reported: &Reported<'_>) -> bool {
    metric.vllm.is_none_or(|names| has(names.needs, &reported.run.manifest.settings))
}

/// True when vLLM would print a metric with these needs.
pub(super) fn has(needs: VllmNeeds, settings: &Settings) -> bool {
    match needs {
        VllmNeeds::Nothing => true,
        VllmNeeds::Limit => settings.max_concurrency.is_some(),
        VllmNeeds::LimitAndRate => settings.max_concurrency.is_some() && settings.request_rate.is_some(),
    }
}

/// The percentiles that get a column: those asked for, without the median, which always has one.
pub(super) fn columns(rows: &[Row<'_>]) -> Vec<f64> {
    let first = rows.first().map(|row| row.distribution.percentiles.as_slice()).unwrap_or_default();
    first.iter().map(|percentile| percentile.p).filter(|&p| p != 50.0).collect()
}

/// What a table says where a percentile of a row should stand.
pub(super) enum PercentileCell<'a> {
    /// Nothing was measured.
    Missing,
    /// A percentile, with its figure.
    Value(&'a Percentile, String),
    /// A percentile that too few values back.
    TooFew(&'a Percentile),
    /// A percentile among requests that were cut by a time-out: it is not below this.
    Censored(String),
}

/// What stands where the percentile `p` of a row should.
pub(super) fn percentile_cell<'a>(
    reported: &Reported<'_>,
    row: &Row<'a>,
    p: f64,
    decimals: usize,
) -> PercentileCell<'a> {
    let found = row.distribution.percentile(p).filter(|percentile| percentile.value.is_some());
    let from_start = row.from_schedule || row.metric.from_schedule.is_some();
    let censored = reported.summary.validity.reasons.iter().find_map(|reason| match reason {
        Reason::CensoredPercentile { p: from, at_least_s, .. } if *from <= p => Some(at_least_s),
        _ => None,
    });
    match (found, censored) {
        (_, Some(at_least_s)) if from_start => PercentileCell::Censored(format!("≥ {at_least_s} s")),
        (None, _) => PercentileCell::Missing,
        (Some(few), _) if !few.enough(row.distribution.count) => PercentileCell::TooFew(few),
        (Some(enough), _) => PercentileCell::Value(enough, fixed(enough.value, decimals)),
    }
}

impl PercentileCell<'_> {
    /// The cell where there is room for a figure only.
    pub(super) fn figure(self) -> String {
        match self {
            PercentileCell::Missing | PercentileCell::TooFew(_) => MISSING.to_owned(),
            PercentileCell::Value(_, figure) | PercentileCell::Censored(figure) => figure,
        }
    }
}

/// What stands for a percentile that too few values back: `max of 120 (p99 needs 299)`.
pub(super) fn too_few(values: usize, percentile: &Percentile) -> String {
    let extreme = if percentile.p < 50.0 { "min" } else { "max" };
    format!("{extreme} of {values} (p{} needs {})", bare(percentile.p), percentile.needs)
}

/// The objectives in words: `TTFT ≤ 500 ms and TPOT ≤ 50 ms`. `None` without any.
pub(super) fn objectives(settings: &Settings) -> Option<String> {
    let words = |(key, limit): (&String, &f64)| match Metric::find(key) {
        Some(metric) => format!("{} ≤ {limit} {}", metric.short, metric.unit.word()),
        None => format!("{key} ≤ {limit}"),
    };
    let limits: Vec<_> = settings.slo.0.iter().map(words).collect();
    (!limits.is_empty()).then(|| limits.join(" and "))
}

/// Failed requests of the main load by the part of their life that they ended in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FailurePlaces {
    /// Before the request was out.
    pub(super) before_request: usize,
    /// Before the first token.
    pub(super) before_token: usize,
    /// After the first token.
    pub(super) after_token: usize,
}

impl FailurePlaces {
    pub(super) fn of(run: &Run) -> Self {
        let mut places = Self::default();
        for record in run.main().filter(|record| record.outcome.is_failure()) {
            let place = match record.ended_in {
                _ if !record.events.is_empty() => &mut places.after_token,
                EndedIn::Headers | EndedIn::FirstToken | EndedIn::Stream | EndedIn::End => {
                    &mut places.before_token
                }
                _ => &mut places.before_request,
            };
            *place += 1;
        }
        places
    }

    /// Each place with its count and what it points at.
    pub(super) fn all(self) -> [(&'static str, &'static str, usize); 3] {
        [
            ("before the request was out", "network, TLS or this machine", self.before_request),
            ("before the first token", "prefill or KV transfer", self.before_token),
            ("after the first token", "decode", self.after_token),
        ]
    }
}

/// Seconds, requests or tokens per second of a view, in the order in which reports list them.
pub(super) fn throughputs(view: &View) -> [(&'static str, &'static str, Option<f64>); 7] {
    [
        ("duration", "s", view.duration_s),
        ("request_throughput", "req/s", view.request_throughput_per_s),
        ("request_goodput", "req/s", view.request_goodput_per_s),
        ("output_throughput", "tok/s", view.output_throughput_per_s),
        ("total_token_throughput", "tok/s", view.total_token_throughput_per_s),
        ("max_output_tokens_per_s", "tok/s", view.max_output_tokens_per_s),
        ("max_concurrent_requests", "requests", view.max_concurrent_requests),
    ]
}

/// The distribution of the client's lag in one line; the same words on the console and on the page.
pub(super) fn lag_words(lag: &Distribution) -> String {
    let decimals = 3;
    let mut words = format!("mean {}, p50 {}", fixed(lag.mean, decimals), fixed(lag.median, decimals));
    for percentile in lag.percentiles.iter().filter(|percentile| percentile.p != 50.0) {
        if percentile.enough(lag.count) {
            words += &format!(", p{} {}", bare(percentile.p), fixed(percentile.value, decimals));
        }
    }
    words + &format!(", max {} ms", fixed(lag.max, decimals))
}
