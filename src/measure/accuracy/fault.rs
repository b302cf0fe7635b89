//! Why an accuracy run does not count: conditions and texts.

use super::{AccuracyResult, PairedResult, PairedVerdict};
use crate::measure::Run;
use serde::{Deserialize, Serialize};

/// Why an accuracy run does not count, or what it found against the deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum AccuracyFault {
    /// Too many questions have no answer.
    Unanswered {
        /// Who was asked.
        arm: String,
        /// Questions without an answer.
        questions: usize,
        /// Questions asked.
        of: usize,
        /// Greatest share allowed.
        limit: f64,
    },
    /// The candidate answers worse than the baseline, by more than chance.
    Worse {
        /// The one that is worse.
        candidate: String,
        /// The one that is the measure.
        baseline: String,
        /// The way of reading that shows it.
        filter: String,
        /// Right in the baseline alone.
        only_baseline: usize,
        /// Right in the candidate alone.
        only_candidate: usize,
        /// One-sided probability of that by chance.
        p: f64,
    },
    /// A margin was named, and no loss within it was shown.
    MarginNotShown {
        /// The one that was to be shown as good.
        candidate: String,
        /// The one that is the measure.
        baseline: String,
        /// The way of reading that decides.
        filter: String,
        /// The margin.
        margin: f64,
        /// Lower end of the difference's interval, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lower: Option<f64>,
        /// Roughly how many questions would show it, if nothing is lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        questions_needed: Option<usize>,
    },
    /// The score is below what was asked for.
    BelowScore {
        /// The way of reading with the most right answers.
        filter: String,
        /// Its score.
        score: f64,
        /// The least that passes.
        limit: f64,
    },
    /// Answers hold the code of another prompt: they were made from its KV.
    Swapped {
        /// Who was asked.
        arm: String,
        /// Such answers.
        answers: usize,
        /// Answers in all.
        of: usize,
    },
    /// The texts of a probe differ from the baseline's more often than that differs from itself.
    TextsPart {
        /// The one whose texts are others.
        candidate: String,
        /// The one that is the measure.
        baseline: String,
        /// Answers of another text, and all.
        differ: (usize, usize),
        /// The same of the baseline and itself.
        floor: (usize, usize),
        /// One-sided probability of that by chance.
        p: f64,
    },
    /// Right answers become fewer from the first request to the last.
    Falling {
        /// Who was asked.
        candidate: String,
        /// The one that it is compared with, where it is the difference that falls.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        baseline: Option<String>,
        /// One-sided probability of such a fall by chance.
        p: f64,
    },
}

/// One-sided probability below which a fall over send order is no chance. Small, because nobody asked for the test.
const FALLING: f64 = 0.001;

/// All faults of an accuracy run: none of a run that asked nothing.
pub(in crate::measure) fn faults(run: &Run) -> Vec<AccuracyFault> {
    let (Some(result), Some(facts)) = (&run.accuracy, &run.manifest.accuracy) else { return Vec::new() };
    let name = |arm: usize| facts.arm_name(arm);
    let mut faults: Vec<AccuracyFault> = Vec::new();
    for (index, arm) in result.arms.iter().enumerate() {
        let (questions, of, limit) = (arm.errors, arm.answered + arm.errors, facts.max_error_rate);
        if limit * (of as f64) < questions as f64 {
            faults.push(AccuracyFault::Unanswered { arm: name(index), questions, of, limit });
        }
    }
    for (index, arm) in result.arms.iter().enumerate() {
        let swapped = arm.swapped.filter(|&answers| 0 < answers);
        faults.extend(swapped.map(|answers| AccuracyFault::Swapped {
            arm: name(index),
            answers,
            of: arm.answered,
        }));
    }
    faults.extend(texts_part(result, &name));
    for pair in result.judging() {
        let names = (name(pair.candidate), name(pair.baseline));
        faults.extend(worse(result, pair, &names));
        faults.extend(facts.margin.and_then(|margin| margin_not_shown(result, pair, &names, margin)));
    }
    faults.extend(facts.fail_under.and_then(|limit| below(result, limit)));
    faults.extend(falling(result, &name));
    faults
}

/// A probe's texts, which are the same where nothing is lost, beside those of the baseline and itself.
fn texts_part(result: &AccuracyResult, name: &dyn Fn(usize) -> String) -> Vec<AccuracyFault> {
    let is_probe = result.arms.first().is_some_and(|arm| arm.swapped.is_some());
    let counts = |pair: &PairedResult| (pair.texts.questions - pair.texts.equal, pair.texts.questions);
    let floor = result.comparisons.iter().find(|pair| pair.is_floor).map(counts);
    let Some(floor) = floor.filter(|_| is_probe) else { return Vec::new() };
    let part = |pair: &PairedResult| {
        let differ = counts(pair);
        let p = as_many_by_chance(differ, floor);
        (p < 0.05).then(|| AccuracyFault::TextsPart {
            candidate: name(pair.candidate),
            baseline: name(pair.baseline),
            differ,
            floor,
            p,
        })
    };
    result.judging().filter_map(part).collect()
}

/// Fisher's exact test, one-sided: of the marked ones of two groups, so many or more fall into the first by chance.
fn as_many_by_chance(first: (usize, usize), second: (usize, usize)) -> f64 {
    let (marked, all) = (first.0 + second.0, first.1 + second.1);
    let ln_choose =
        |n: usize, k: usize| -> f64 { (0..k).map(|i| ((n - i) as f64).ln() - ((i + 1) as f64).ln()).sum() };
    let whole = ln_choose(all, marked);
    let of = |in_first: usize| {
        let rest = marked - in_first;
        if second.1 < rest {
            0.0
        } else {
            (ln_choose(first.1, in_first) + ln_choose(second.1, rest) - whole).exp()
        }
    };
    (first.0..=marked.min(first.1)).map(of).sum::<f64>().min(1.0)
}

/// Each way of reading that shows a loss.
fn worse(result: &AccuracyResult, pair: &PairedResult, names: &(String, String)) -> Vec<AccuracyFault> {
    let readings = pair.scores.iter().zip(&result.filters);
    let worse = readings.filter(|(score, _)| score.verdict == PairedVerdict::Worse);
    let fault = worse.map(|(score, filter)| AccuracyFault::Worse {
        candidate: names.0.clone(),
        baseline: names.1.clone(),
        filter: filter.clone(),
        only_baseline: score.only_baseline,
        only_candidate: score.only_candidate,
        p: score.p_worse.unwrap_or(1.0),
    });
    fault.collect()
}

/// The reading that decides leaves it open. One that is worse is a fault of its own.
fn margin_not_shown(
    result: &AccuracyResult,
    pair: &PairedResult,
    names: &(String, String),
    margin: f64,
) -> Option<AccuracyFault> {
    let at = result.decisive(pair)?;
    let score = pair.scores.get(at).filter(|score| score.verdict == PairedVerdict::Unclear)?;
    Some(AccuracyFault::MarginNotShown {
        candidate: names.0.clone(),
        baseline: names.1.clone(),
        filter: result.filters.get(at)?.clone(),
        margin,
        lower: score.interval.map(|(low, _)| low),
        questions_needed: score.questions_needed,
    })
}

fn below(result: &AccuracyResult, limit: f64) -> Option<AccuracyFault> {
    let arm = result.arms.first()?;
    let at = arm.best_read()?;
    let score = arm.scores.get(at)?.mean.filter(|&score| score < limit)?;
    Some(AccuracyFault::BelowScore { filter: result.filters.get(at)?.clone(), score, limit })
}

/// The difference to a baseline outranks the candidate's own course: what falls in both is the questions' doing.
fn falling(result: &AccuracyResult, name: &dyn Fn(usize) -> String) -> Vec<AccuracyFault> {
    let paired = || result.judging().filter_map(|pair| pair.p_falling.map(|p| (pair, p)));
    if paired().next().is_some() {
        let falls = paired().filter(|(_, p)| *p < FALLING).map(|(pair, p)| AccuracyFault::Falling {
            candidate: name(pair.candidate),
            baseline: Some(name(pair.baseline)),
            p,
        });
        return falls.collect();
    }
    let trend = result.arms.first().and_then(|arm| arm.trend.as_ref()).map(|trend| trend.p_falling);
    let falls = trend.filter(|p| *p < FALLING);
    falls.map(|p| AccuracyFault::Falling { candidate: name(0), baseline: None, p }).into_iter().collect()
}

impl AccuracyFault {
    /// What is wrong, with figures, one line.
    pub fn what(&self) -> String {
        match self {
            AccuracyFault::Unanswered { arm, questions, of, limit } => format!(
                "{arm}: {questions} of {of} questions have no answer ({}), more than the {} allowed",
                percent(*questions as f64 / *of as f64),
                percent(*limit)
            ),
            AccuracyFault::Worse { candidate, baseline, filter, only_baseline, only_candidate, p } => {
                format!(
                    "{candidate} answers worse than {baseline}: {only_baseline} questions right there alone, \
                 {only_candidate} here alone ({filter}, p = {p:.2e})"
                )
            }
            AccuracyFault::MarginNotShown {
                candidate,
                baseline,
                filter,
                margin,
                lower,
                questions_needed,
            } => {
                let interval = match lower {
                    Some(lower) => format!("the interval goes down to {:+.2} %", 100.0 * lower),
                    None => "nothing was answered by both".to_owned(),
                };
                let needed = questions_needed
                    .map(|n| format!("; about {n} questions would show it, if nothing is lost"));
                format!(
                    "not shown that {candidate} loses at most {} against {baseline}: {interval} ({filter}){}",
                    percent(*margin),
                    needed.unwrap_or_default()
                )
            }
            AccuracyFault::BelowScore { filter, score, limit } => {
                format!("the score is {score:.4} ({filter}), below the {limit} asked for")
            }
            AccuracyFault::Swapped { arm, answers, of } => {
                format!(
                    "{arm}: {answers} of {of} answers hold the code of another prompt: they came from its KV"
                )
            }
            AccuracyFault::TextsPart { candidate, baseline, differ, floor, p } => format!(
                "{candidate} differs from {baseline} in {} of {} texts, {baseline} from itself in {} of {} (p = {p:.1e})",
                differ.0, differ.1, floor.0, floor.1
            ),
            AccuracyFault::Falling { candidate, baseline: None, p } => {
                format!("{candidate}: right answers become fewer over the run (p = {p:.1e})")
            }
            AccuracyFault::Falling { candidate, baseline: Some(baseline), p } => {
                format!("{candidate} falls behind {baseline} over the run (p = {p:.1e})")
            }
        }
    }

    /// What to do about it, one line.
    pub fn what_to_do(&self) -> &'static str {
        match self {
            AccuracyFault::Unanswered { .. } => {
                "look at the errors by kind, lower --num-concurrent, or allow more with --max-error-rate"
            }
            AccuracyFault::Worse { .. } => {
                "look at the questions that only the baseline has right, in report.html; hold the difference against \
                 the baseline's with itself (--baseline-passes 2)"
            }
            AccuracyFault::MarginNotShown { .. } => {
                "ask more questions (raise or drop --limit), or name a wider --margin"
            }
            AccuracyFault::BelowScore { .. } => {
                "look at the share of invalid and cut answers first: a chat template or --max-tokens may be what is wrong"
            }
            AccuracyFault::Swapped { .. } => {
                "find the prompts by their codes in documents.csv: same length or same first blocks point at the \
                 prefix cache, neighbours in time at the transfer"
            }
            AccuracyFault::TextsPart { .. } => {
                "look where the texts part, in report.html: at the first token the KV of the prompt is damaged, later \
                 that of the answer; --logprobs tells rounding from damage"
            }
            AccuracyFault::Falling { .. } => {
                "restart the deployment and run again: what comes back with the load is a fault of KV transfer or cache"
            }
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
#[path = "fault_tests.rs"]
mod tests;
