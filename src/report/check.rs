//! What several formats say of a check in the same way.

use super::Reported;
use super::text::counted;
use crate::cluster::Role;
use crate::measure::check::{BLIND, CheckFacts, CheckResult, PairResult, Verdict};

/// What was asked and what came of it.
pub(super) type Checked<'a> = (&'a CheckFacts, &'a CheckResult);

/// A run that is a check, as such.
pub(super) fn checked<'a>(reported: &Reported<'a>) -> Option<Checked<'a>> {
    Some((reported.run.manifest.check.as_ref()?, reported.summary.check.as_ref()?))
}

/// How many steps went well and how many pairs were seen to work, in one line.
pub(super) fn check_line(reported: &Reported<'_>, check: &CheckResult) -> String {
    let steps = |verdict| check.steps.iter().filter(|step| step.verdict == verdict).count();
    let good = check.pairs.iter().filter(|pair| pair.verdict == Verdict::Ok).count();
    let simulated = if reported.run.manifest.target.simulated { " (simulated)" } else { "" };
    let counts = &reported.summary.counts;
    format!(
        "{} steps ok, {} wrong, {} not told; {good} of {} pairs work; {} of {} ok{simulated}",
        steps(Verdict::Ok),
        steps(Verdict::Wrong),
        steps(Verdict::NotTold),
        check.pairs.len(),
        counts.ok,
        counted(counts.sent, "request")
    )
}

/// The numbers of prefill and of decode instances that pairs were made of.
pub(super) fn sides(facts: &CheckFacts) -> (Vec<usize>, Vec<usize>) {
    let alive = |role| facts.of(role).filter(|&node| facts.nodes[node].silent.is_none()).collect();
    (alive(Role::Prefill), alive(Role::Decode))
}

/// A pair in one letter: a dot where it works, `X` where it does not, `?` where nobody told.
pub(super) fn sign(pair: Option<&PairResult>) -> &'static str {
    match pair.map(|pair| pair.verdict) {
        Some(Verdict::Ok) => "·",
        Some(Verdict::Wrong) => "X",
        Some(Verdict::NotTold) | None => "?",
    }
}

/// What is wrong with a pair, in a few words; how many requests it had where nothing is.
pub(super) fn pair_words(pair: &PairResult) -> String {
    let parts = [(pair.failed, "failed"), (pair.unmoved, "without all KV"), (pair.wrong, "wrong")];
    let wrong: Vec<String> =
        parts.iter().filter(|(count, _)| 0 < *count).map(|(count, what)| format!("{count} {what}")).collect();
    match wrong.is_empty() {
        true => format!("{} of {} moved, {} right", pair.moved, pair.requests, pair.right),
        false => format!("{} of {}", wrong.join(", "), pair.requests),
    }
}

/// The last line of a check.
pub(super) fn blind_words() -> String {
    format!("Not seen by this check: {BLIND}.")
}
