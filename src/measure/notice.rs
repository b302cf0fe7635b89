//! When a run has something to tell about itself; the texts stand in `warning.rs`.

use super::{
    ClientState, Counts, Flag, Growth, METRICS, Metric, OutputLength, OutputTokensSource, PromptTokensSource,
    Prompts, Rates, Reason, RequestRecord, Run, Summary, TokenTotals, View, Warning, accuracy,
};

/// Share of events, tokens or time below which a difference is not worth a word.
const SHARE: f64 = 0.05;

/// All warnings, the weightiest first. The summary is whole but for its warnings.
pub(super) fn warnings(run: &Run, summary: &Summary) -> Vec<Warning> {
    if run.accuracy.is_some() {
        let mut warnings = accuracy::warnings(run, summary);
        if accuracy::streams(run) {
            warnings.extend(about_streams(run, &summary.counts, &summary.tokens));
        }
        return warnings;
    }
    let cut = summary.counts.cancelled;
    if run.manifest.check.is_some() {
        // How fast it was is not what it is about.
        let unfinished = (0 < cut).then_some(Warning::Unfinished { requests: cut });
        let simulated = run.manifest.target.simulated.then_some(Warning::SimulatedTarget);
        return simulated.into_iter().chain(unfinished).collect();
    }
    let degraded = summary.client.state == ClientState::Degraded;
    let simulated = run.manifest.target.simulated;
    let mut warnings: Vec<Warning> = [
        simulated.then_some(Warning::SimulatedTarget),
        failures(summary),
        (0 < cut).then_some(Warning::Unfinished { requests: cut }),
        degraded.then(|| Warning::ClientDegraded { evidence: summary.client.evidence.clone() }),
        closed_loop(run, &summary.rates),
        Growth::of(run).map(Warning::Unstable),
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
        output_length(run).filter(|_| !run.manifest.settings.strict_osl).map(Warning::OutputLength),
        cached_tokens(run).filter(|_| tokens.handed_over.is_none()),
        sent_before(run, tokens),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Output lengths of the ok requests, where they are too far from what was asked for.
pub(super) fn output_length(run: &Run) -> Option<OutputLength> {
    OutputLength::of(ok(run))
}

fn cached_tokens(run: &Run) -> Option<Warning> {
    let told = || ok(run).filter_map(|record| Some((record.cached_tokens?, record.prompt_tokens)));
    let cached: u64 = told().map(|(cached, _)| u64::from(cached)).sum();
    let prompt: u64 = told().map(|(_, prompt)| u64::from(prompt)).sum();
    let share = cached as f64 / prompt as f64;
    let shared = shared_share(run);
    (shared + SHARE < share).then_some(Warning::CachedTokens { share, shared })
}

/// The share of a prompt that all prompts have in common by intention, and that a cache may therefore hold.
fn shared_share(run: &Run) -> f64 {
    if run.manifest.repeat.as_ref().is_some_and(|repeat| repeat.prompts == Prompts::Same) {
        return 1.0;
    }
    let settings = &run.manifest.settings;
    match (settings.prefix_len, settings.input_len) {
        (Some(prefix), Some(input)) if 0 < input => f64::from(prefix.min(input)) / f64::from(input),
        _ => 0.0,
    }
}

/// A server that counts its cached tokens has told already whether it knew the prompts.
fn sent_before(run: &Run, tokens: &TokenTotals) -> Option<Warning> {
    let latest = run.manifest.sent_before.last().filter(|_| tokens.cached.is_none())?;
    Some(Warning::SentBefore { runs: run.manifest.sent_before.len(), latest: latest.clone() })
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

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_in_authority, at, failed, record, run};
    use super::super::{Flags, LengthBin, Outcome};
    use super::*;

    fn noticed(run: &Run) -> Vec<Warning> {
        let warnings = Summary::of(run).warnings;
        for warning in &warnings {
            assert!(!warning.text().is_empty() && !warning.try_this().is_empty());
            assert_in_authority(&serde_json::to_value(warning).unwrap()["warning"]);
        }
        warnings
    }

    /// Answers 1 s apart, each changed, and a percentile that so few can tell.
    fn load(count: u32, change: impl Fn(&mut RequestRecord)) -> Run {
        let one = |nth: u32| {
            let mut record = record(&format!("{} {} {}", 1000 * nth, 1000 * nth + 50, 1000 * nth + 100));
            change(&mut record);
            record
        };
        let mut run = run((0..count).map(one).collect());
        run.manifest.settings.percentiles = vec![50.0];
        run
    }

    #[test]
    fn a_plain_run_has_nothing_to_tell() {
        assert_eq!(noticed(&load(100, |_| {})), []);
    }

    /// A hundred answers of two tokens where three were asked for.
    fn two_thirds() -> OutputLength {
        let bin = LengthBin { from_percent: 50, below_percent: Some(75), requests: 100 };
        OutputLength { mean: 2.0, requested: 3.0, lengths: vec![bin] }
    }

    #[test]
    fn each_property_of_the_answers_has_its_warning() {
        type Change = fn(&mut RequestRecord);
        let flag = |flag| move |record: &mut RequestRecord| record.flags = Flags::from([(flag, 1)]);
        let flagged = [
            (Flag::MissingDone, Warning::MissingDone { requests: 100 }),
            (Flag::AfterDone, Warning::AfterDone { requests: 100 }),
            (Flag::StaleRetry, Warning::StaleRetries { requests: 100 }),
            (Flag::Coalesced, Warning::Coalesced { share: 0.5 }),
            (Flag::BufferedByProxy, Warning::BufferedByProxy { requests: 100, of: 100 }),
        ];
        for (name, warning) in flagged {
            assert_eq!(noticed(&load(100, flag(name))), [warning]);
        }
        let changed: [(Change, Warning); 5] = [
            (|record| record.prompt_tokens_source = PromptTokensSource::Estimate, Warning::EstimatedTokens),
            (
                |record| record.output_tokens_source = OutputTokensSource::Events,
                Warning::NoUsage { requests: 100, of: 100 },
            ),
            (|record| record.cached_tokens = Some(4), Warning::CachedTokens { share: 0.4, shared: 0.0 }),
            (|record| record.requested_tokens = Some(3), Warning::OutputLength(two_thirds())),
            (
                |record| (record.output_tokens, record.requested_tokens) = (6, Some(6)),
                Warning::TokensPerEvent { tokens: 3.0 },
            ),
        ];
        for (change, warning) in changed {
            assert_eq!(noticed(&load(100, change)), [warning]);
        }
    }

    #[test]
    fn a_cache_may_hold_what_all_prompts_share_and_no_more() {
        let mut run = load(100, |record| record.cached_tokens = Some(4));
        for (prefix, told) in [(40, None), (36, None), (34, Some(0.34))] {
            (run.manifest.settings.prefix_len, run.manifest.settings.input_len) = (Some(prefix), Some(100));
            let warning = told.map(|shared| Warning::CachedTokens { share: 0.4, shared });
            assert_eq!(noticed(&run), Vec::from_iter(warning), "{prefix}");
        }
    }

    #[test]
    fn prompts_that_were_sent_before_are_told_unless_the_server_counts_its_cache() {
        let mut run = load(100, |_| {});
        run.manifest.sent_before = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(noticed(&run), [Warning::SentBefore { runs: 2, latest: "b".to_owned() }]);
        run.records[0].cached_tokens = Some(0);
        assert_eq!(noticed(&run), []);
    }

    #[test]
    fn a_degraded_client_is_told_with_its_evidence() {
        let mut run = load(100, |_| {});
        for record in &mut run.records {
            record.ready = Some(at(f64::from(record.i) * 1000.0 - 1.5));
            record.scheduled = at(f64::from(record.i) * 1000.0 - 1.5);
        }
        let warnings = noticed(&run);
        assert_eq!(warnings, [Warning::ClientDegraded { evidence: Summary::of(&run).client.evidence }]);
    }

    #[test]
    fn failures_within_the_budget_are_told_with_the_most_frequent_kind() {
        let mut run = load(100, |_| {});
        run.records[3] = failed("3000 3050", Outcome::Reset);
        run.records[4] = failed("4000 4050", Outcome::Http5xx);
        run.records[5] = failed("5000 5050", Outcome::Reset);
        run.records[6] = failed("6000 6050", Outcome::CancelledAtEnd);
        let failures = Warning::Failures { failed: 3, of: 99, most: Outcome::Reset };
        assert_eq!(noticed(&run), [failures, Warning::Unfinished { requests: 1 }]);
    }

    #[test]
    fn failures_that_make_a_run_invalid_are_not_told_twice() {
        let mut run = load(10, |_| {});
        run.records[3] = failed("3000 3050", Outcome::Reset);
        assert_eq!(noticed(&run), []);
    }

    #[test]
    fn a_simulated_target_comes_first_and_its_estimate_is_exact() {
        let mut run = load(100, |_| {});
        run.manifest.dataset.token_counter = "estimate".to_owned();
        assert_eq!(noticed(&run), [Warning::EstimatedTokens]);
        run.manifest.target.simulated = true;
        assert_eq!(noticed(&run), [Warning::SimulatedTarget]);
    }

    #[test]
    fn too_few_requests_for_a_percentile_are_told_by_their_number() {
        let mut run = load(120, |_| {});
        run.manifest.settings.percentiles = vec![50.0, 95.0, 99.0];
        let warnings = noticed(&run);
        let texts: Vec<_> = warnings.iter().map(Warning::text).collect();
        assert_eq!(texts, ["p99 is little more than the max of 120 (p99 needs 299)"]);
    }

    #[test]
    fn a_limit_that_sets_the_pace_is_called_a_closed_loop() {
        // Due 20 times a second, let through 17.3 times, each at once when its slot came free.
        let mut run = load(100, |_| {});
        for record in &mut run.records {
            let nth = f64::from(record.i + 1);
            let sent = nth / 17.3 * 1000.0;
            record.scheduled = at(nth / 20.0 * 1000.0);
            record.ready = Some(at(sent));
            record.sent = record.ready;
            record.events = [at(sent + 50.0), at(sent + 100.0)].into_iter().collect();
            record.finished = at(sent + 100.0);
        }
        run.manifest.settings.request_rate = Some(20.0);
        assert!(!noticed(&run).iter().any(|warning| matches!(warning, Warning::ClosedLoop { .. })));
        run.manifest.settings.max_concurrency = Some(2);
        let warnings = noticed(&run);
        let said = "offered 20 req/s, admitted 17.3: this is a closed loop (100.0 % of the requests waited for a \
                    slot of the concurrency limit)";
        assert_eq!(warnings[0].text(), said);
        assert_eq!(shifted(&run), ["ttft", "e2el"]);
    }

    /// Keys of the metrics whose values from the schedule are told.
    fn shifted(run: &Run) -> Vec<String> {
        let told = noticed(run).into_iter().filter_map(|warning| match warning {
            Warning::FromSchedule { key, .. } => Some(key),
            _ => None,
        });
        told.collect()
    }

    #[test]
    fn a_lag_that_shifts_a_latency_by_more_than_5_percent_is_told() {
        // TTFT is 50 ms and E2EL 100 ms from the send.
        let mut run = load(100, |_| {});
        for (lag_ms, told) in [(2.5, vec![]), (2.6, vec!["ttft"]), (5.1, vec!["ttft", "e2el"])] {
            for record in &mut run.records {
                record.scheduled = at(f64::from(record.i) * 1000.0 + 500.0 - lag_ms);
                record.ready = Some(record.scheduled);
                record.sent = Some(at(f64::from(record.i) * 1000.0 + 500.0));
                record.events =
                    [550.0, 600.0].iter().map(|ms| at(f64::from(record.i) * 1000.0 + ms)).collect();
                record.finished = at(f64::from(record.i) * 1000.0 + 600.0);
            }
            assert_eq!(shifted(&run), told, "{lag_ms} ms");
        }
    }
}
