//! What else to know of an accuracy run.

use crate::measure::{AccuracyResult, ClientState, Distribution, Kind, Run, Summary, Warning};

/// Share of the answers above which being cut, or having no text, is worth a word.
const SHARE: f64 = 0.01;

/// Share of the codes of a probe up to which a model does not recite. Assumed; no source.
const RECITED: f64 = 0.5;

/// Warnings of an accuracy run, the weightiest first; retries and closed loops are its normal course.
pub(in crate::measure) fn warnings(run: &Run, summary: &Summary) -> Vec<Warning> {
    let (Some(result), Some(facts)) = (&run.accuracy, &run.manifest.accuracy) else { return Vec::new() };
    let cancelled = summary.counts.cancelled;
    // A saturated client makes no such run invalid: it is told here.
    let seen = summary.client.state != ClientState::Ok;
    let mut warnings: Vec<Warning> = [
        run.manifest.target.simulated.then_some(Warning::SimulatedTarget),
        facts.own_documents.then(|| Warning::OwnDocuments { task: result.task.clone() }),
        (0 < cancelled).then_some(Warning::Unfinished { requests: cancelled }),
        seen.then(|| Warning::ClientDegraded { evidence: summary.client.evidence.clone() }),
        not_recited(result),
    ]
    .into_iter()
    .flatten()
    .collect();
    for (index, arm) in result.arms.iter().enumerate() {
        let name = || facts.arm_name(index);
        let (errors, of) = (arm.errors, arm.answered + arm.errors);
        let within = 0 < errors && errors as f64 <= facts.max_error_rate * of as f64;
        let above = |share: Option<f64>| share.filter(|&share| SHARE < share);
        let about = [
            within.then(|| Warning::Unanswered { arm: name(), questions: errors, of }),
            above(arm.cut_share).map(|share| Warning::CutAnswers { arm: name(), share }),
            above(arm.empty_share).map(|share| Warning::EmptyAnswers { arm: name(), share }),
        ];
        warnings.extend(about.into_iter().flatten());
    }
    warnings
}

/// A probe of a model that does not say the codes: the baseline's where there is one, for what the candidate does not say
/// may be lost.
fn not_recited(result: &AccuracyResult) -> Option<Warning> {
    let baseline = result.comparisons.first().map(|pair| pair.baseline);
    let arm = result.arms.get(baseline.unwrap_or(0)).filter(|arm| arm.swapped.is_some())?;
    let (right, of) = (arm.scores.get(arm.best_read()?)?.right, arm.answered);
    (right as f64 <= RECITED * of as f64 && 0 < of).then_some(Warning::NotRecited {
        right,
        of,
        compared: baseline.is_some(),
    })
}

/// True when some answers of the run are streamed, so that what is said of streams has a meaning.
pub(in crate::measure) fn streams(run: &Run) -> bool {
    run.manifest.accuracy.as_ref().is_none_or(|facts| facts.arms.iter().any(|arm| arm.streamed))
}

/// Median time from the send to the end of a question's answer, ms: what a client's delay is held against where no token
/// has a time of its own.
pub(in crate::measure) fn median_answer_ms(run: &Run) -> Option<f64> {
    let questions = run.records.iter().filter(|record| record.kind == Kind::Question && record.is_ok());
    let took = questions.filter_map(|record| Some(record.finished.seconds_since(record.sent?) * 1000.0));
    Distribution::of(took.collect(), &[]).median
}
