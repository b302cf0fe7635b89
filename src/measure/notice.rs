//! When a run has something to tell about itself; the texts stand in `warning.rs`.

use super::{
    ClientState, Counts, Flag, METRICS, Metric, OutputTokensSource, PromptTokensSource, Rates, Reason,
    RequestRecord, Run, Summary, TokenTotals, View, Warning,
};

/// Share of events, tokens or time below which a difference is not worth a word.
const SHARE: f64 = 0.05;
/// How far the mean output length may be off, as a share of what was asked for.
const LENGTH_SHARE: f64 = 0.10;

/// All warnings, the weightiest first. The summary is whole but for its warnings.
pub(super) fn warnings(run: &Run, summary: &Summary) -> Vec<Warning> {
    let cut = summary.counts.cancelled;
    let degraded = summary.client.state == ClientState::Degraded;
    let simulated = run.manifest.target.simulated;
    let mut warnings: Vec<Warning> = [
        simulated.then_some(Warning::SimulatedTarget),
        failures(summary),
        (0 < cut).then_some(Warning::Unfinished { requests: cut }),
        degraded.then(|| Warning::ClientDegraded { evidence: summary.client.evidence.clone() }),
        closed_loop(run, &summary.rates),
    ]
    .into_iter()
    .flatten()
    .collect();
    warnings.extend(METRICS.iter().filter_map(|metric| from_schedule(metric, &summary.strict)));
    warnings.extend(few_samples(run, &summary.counts));
    warnings.extend(about_tokens(run, &summary.counts, &summary.tokens));
    warnings.extend(about_streams(run, &summary.counts, &summary.tokens));
    warnings
}

fn failures(summary: &Summary) -> Option<Warning> {
    let counts = &summary.counts;
    let judged = summary
        .validity
        .reasons
        .iter()
        .any(|reason| matches!(reason, Reason::FailureShare { .. } | Reason::NoOkRequest));
    let failures = counts.by_outcome.iter().filter(|(outcome, _)| outcome.is_failure() && !judged);
    // Of equals the first in the order of outcomes: `max_by_key` takes the last.
    let most = failures.rev().max_by_key(|(_, count)| *count)?.0;
    Some(Warning::Failures { failed: counts.failed, of: counts.ok + counts.failed, most })
}

/// An open loop that the limit closes: it admits less than was offered, or many requests waited.
fn closed_loop(run: &Run, rates: &Rates) -> Option<Warning> {
    run.manifest.settings.max_concurrency?;
    let (offered_per_s, admitted_per_s) = rates.offered_per_s.zip(rates.admitted_per_s)?;
    let waited = run.main().filter(|record| record.scheduled < record.ready_or_due()).count();
    let waited = waited as f64 / run.main().count() as f64;
    (admitted_per_s < (1.0 - SHARE) * offered_per_s || SHARE < waited).then_some(Warning::ClosedLoop {
        offered_per_s,
        admitted_per_s,
        waited,
    })
}

/// The statistic in which a latency from the schedule is furthest from the one from the send.
fn from_schedule(metric: &Metric, strict: &View) -> Option<Warning> {
    let sent = strict.distribution(metric.key)?;
    let scheduled = strict.distribution(metric.from_schedule?)?;
    let percentiles = sent.percentiles.iter().zip(&scheduled.percentiles);
    let pairs = [
        ("mean".to_owned(), sent.mean, scheduled.mean),
        ("median".to_owned(), sent.median, scheduled.median),
    ]
    .into_iter()
    .chain(percentiles.map(|(sent, scheduled)| (format!("p{}", sent.p), sent.value, scheduled.value)))
    .filter_map(|(statistic, sent, scheduled)| Some((statistic, sent?, scheduled?)));
    let apart = |&(_, sent, scheduled): &(String, f64, f64)| (scheduled - sent).abs() / sent.abs();
    let (statistic, from_send_ms, from_schedule_ms) =
        pairs.filter(|pair| SHARE < apart(pair)).max_by(|one, other| apart(one).total_cmp(&apart(other)))?;
    Some(Warning::FromSchedule { key: metric.key.to_owned(), statistic, from_send_ms, from_schedule_ms })
}

fn few_samples(run: &Run, counts: &Counts) -> Vec<Warning> {
    let count = counts.ok;
    let too_few = |p: f64| {
        let needs = super::distribution::values_needed(p);
        (0 < count && count < needs).then_some(Warning::FewSamples { p, count, needs })
    };
    run.manifest.settings.percentiles.iter().filter_map(|&p| too_few(p)).collect()
}

fn ok(run: &Run) -> impl Iterator<Item = &RequestRecord> {
    run.main().filter(|record| record.is_ok())
}

fn about_tokens(run: &Run, counts: &Counts, tokens: &TokenTotals) -> Vec<Warning> {
    // The simulator counts by the same estimate, so against it the estimate is exact.
    let estimated = run.main().any(|record| record.prompt_tokens_source == PromptTokensSource::Estimate)
        || (run.manifest.dataset.token_counter == "estimate" && !run.manifest.target.simulated);
    let unsaid = ok(run).filter(|record| record.output_tokens_source == OutputTokensSource::Events).count();
    let per_event = tokens.per_event.filter(|&tokens| 1.0 + SHARE < tokens);
    [
        estimated.then_some(Warning::EstimatedTokens),
        (0 < unsaid).then_some(Warning::NoUsage { requests: unsaid, of: counts.ok }),
        per_event.map(|tokens| Warning::TokensPerEvent { tokens }),
        output_length(run),
        cached_tokens(run),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn output_length(run: &Run) -> Option<Warning> {
    let lengths = ok(run)
        .filter_map(|record| Some((f64::from(record.output_tokens), f64::from(record.requested_tokens?))));
    let (count, got, asked) =
        lengths.fold((0.0, 0.0, 0.0), |(count, got, asked), (a, b)| (count + 1.0, got + a, asked + b));
    let (mean, requested) = (got / count, asked / count);
    (LENGTH_SHARE * requested < (mean - requested).abs()).then_some(Warning::OutputLength { mean, requested })
}

fn cached_tokens(run: &Run) -> Option<Warning> {
    let told = || ok(run).filter_map(|record| Some((record.cached_tokens?, record.prompt_tokens)));
    let cached: u64 = told().map(|(cached, _)| u64::from(cached)).sum();
    let prompt: u64 = told().map(|(_, prompt)| u64::from(prompt)).sum();
    let share = cached as f64 / prompt as f64;
    (SHARE < share).then_some(Warning::CachedTokens { share })
}

fn about_streams(run: &Run, counts: &Counts, tokens: &TokenTotals) -> Vec<Warning> {
    let having = |flag| Some(ok(run).filter(|record| record.has(flag)).count()).filter(|&count| 0 < count);
    [
        having(Flag::BufferedByProxy).map(|requests| Warning::BufferedByProxy { requests, of: counts.ok }),
        tokens.coalesced_share.filter(|&share| SHARE < share).map(|share| Warning::Coalesced { share }),
        having(Flag::MissingDone).map(|requests| Warning::MissingDone { requests }),
        having(Flag::AfterDone).map(|requests| Warning::AfterDone { requests }),
        having(Flag::StaleRetry).map(|requests| Warning::StaleRetries { requests }),
    ]
    .into_iter()
    .flatten()
    .collect()
}
