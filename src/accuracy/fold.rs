//! Questions and records → what each arm scored, and what it did beside the others.

use super::probe::KV_PROBE;
use super::question::Question;
use super::score::{Scoring, mean, stderr};
use super::statistics::{p_falling, paired, wilson};
use super::task::Task;
use crate::measure::{
    AccuracyFacts, AccuracyResult, ArmAnswer, ArmResult, DocumentResult, PairedResult, PromptLengthBin,
    Reply, RequestRecord, Score, TextEquality, TokenLogprob, Trend,
};
use crate::wire::sha256;
use std::collections::BTreeSet;

/// The largest loss that counts as none where nothing else was said: one point in a hundred.
pub const USUAL_MARGIN: f64 = 0.01;

/// Names of the arms, see [`crate::measure::ArmFacts::name`].
pub const ARMS: [&str; 4] = ["candidate", "streamed", "baseline", "baseline again"];

/// Parts of the send order that a trend is shown in.
const WINDOWS: usize = 10;
/// Bins of prompt lengths.
const LENGTHS: usize = 4;
/// A token that was likelier than the next best by more than this, in nats, is no matter of rounding.
const SURE: f64 = 0.5;

/// An answer as it came, with what its record says of it.
struct Told<'a> {
    reply: Reply,
    record: &'a RequestRecord,
    alone: bool,
}

/// What has been told to one arm's question so far.
#[derive(Default)]
struct Heard<'a> {
    told: Vec<Told<'a>>,
    attempts: u32,
    failure: Option<&'a RequestRecord>,
}

/// What became of the questions of a run.
pub fn fold(
    facts: &AccuracyFacts,
    task: &Task,
    questions: &[Question],
    records: &[RequestRecord],
) -> AccuracyResult {
    let heard = heard(facts, questions.len(), records);
    let scoring = Scoring::new(task);
    let filters: Vec<String> = task.filters().map(str::to_owned).collect();
    let documents: Vec<DocumentResult> = questions
        .iter()
        .enumerate()
        .map(|(number, question)| DocumentResult {
            doc_id: question.doc_id,
            doc: question.doc.clone(),
            target: question.target_text(),
            prompt: question.prompt.clone(),
            chat: question.messages.is_some(),
            hashes: [question.doc_hash(), question.prompt_hash(), question.target_hash()],
            answers: heard.iter().map(|arm| answer(&arm[number], question, task.repeats, &scoring)).collect(),
        })
        .collect();
    let codes = (task.name == KV_PROBE).then(|| codes(&documents));
    let arms = 0..facts.arms.len();
    let arms: Vec<ArmResult> = arms.map(|arm| arm_result(arm, task, &documents, codes.as_ref())).collect();
    let pair = |(baseline, candidate): (usize, usize)| {
        let decisive = arms[baseline].best_read().unwrap_or(0);
        compare((baseline, candidate), decisive, facts, &documents, &heard)
    };
    let comparisons = pairs(facts).into_iter().map(pair).collect();
    AccuracyResult {
        task: task.name.clone(),
        alias: task.alias.clone(),
        version: task.version.clone(),
        n_shot: facts.num_fewshot,
        task_hash: task_hash(filters.len(), &documents),
        filters,
        arms,
        comparisons,
        documents,
    }
}

/// Questions of an arm that still want an answer, and whether asking again may help.
pub fn unanswered(
    facts: &AccuracyFacts,
    repeats: usize,
    questions: usize,
    records: &[RequestRecord],
) -> Vec<(usize, usize, usize)> {
    let heard = heard(facts, questions, records);
    let mut missing = Vec::new();
    for (arm, of_arm) in heard.iter().enumerate() {
        for (number, heard) in of_arm.iter().enumerate() {
            let wanting = repeats.saturating_sub(heard.told.len());
            if 0 < wanting {
                missing.push((arm, number, wanting));
            }
        }
    }
    missing
}

fn heard<'a>(facts: &AccuracyFacts, questions: usize, records: &'a [RequestRecord]) -> Vec<Vec<Heard<'a>>> {
    let new = || (0..questions).map(|_| Heard::default()).collect::<Vec<_>>();
    let mut heard: Vec<Vec<Heard<'a>>> = facts.arms.iter().map(|_| new()).collect();
    for record in records {
        let Some(asking) = &record.asking else { continue };
        let Some(arm) = heard.get_mut(asking.arm) else { continue };
        let replies = replies(record);
        for (nth, &number) in asking.questions.iter().enumerate() {
            let Some(heard) = arm.get_mut(number as usize) else { continue };
            heard.attempts += 1;
            match &replies {
                Some(replies) => heard.told.push(Told {
                    reply: replies[nth].clone(),
                    record,
                    alone: asking.questions.len() == 1,
                }),
                None => heard.failure = Some(record),
            }
        }
    }
    heard
}

/// The answers of a request, one for each of its questions; `None` if it failed.
fn replies(record: &RequestRecord) -> Option<Vec<Reply>> {
    let asking = record.asking.as_ref()?;
    if !record.is_ok() {
        return None;
    }
    let replies = match asking.replies.is_empty() {
        false => asking.replies.clone(),
        true => vec![Reply {
            text: record.text.clone().unwrap_or_default(),
            finish_reason: record.finish_reason.clone(),
            tokens: Vec::new(),
        }],
    };
    (replies.len() == asking.questions.len()).then_some(replies)
}

fn answer(heard: &Heard<'_>, question: &Question, repeats: usize, scoring: &Scoring<'_>) -> ArmAnswer {
    let first = heard.told.first();
    let texts: Option<Vec<String>> = (repeats <= heard.told.len())
        .then(|| heard.told[..repeats].iter().map(|told| told.reply.text.clone()).collect());
    let scored = texts.as_ref().map(|texts| scoring.score(&question.target, texts)).unwrap_or_default();
    let error = heard.failure.filter(|_| texts.is_none()).map(|record| {
        let words = record.error.clone().unwrap_or_else(|| match record.is_ok() {
            true => "it did not answer each question".to_owned(),
            false => record.outcome.word().to_owned(),
        });
        (record.outcome, words)
    });
    let ms = |record: &RequestRecord| {
        let sent = record.sent.unwrap_or(record.scheduled);
        record.finished.since(sent).as_secs_f64() * 1e3
    };
    ArmAnswer {
        read: scored.into_iter().map(|scored| (scored.extracted, scored.right)).collect(),
        texts,
        error,
        attempts: heard.attempts,
        finish_reason: first.and_then(|told| told.reply.finish_reason.clone()),
        output_tokens: first.filter(|told| told.alone).map(|told| told.record.output_tokens),
        latency_ms: first.map(|told| ms(told.record)),
        i: first.map(|told| told.record.i),
    }
}

fn arm_result(
    arm: usize,
    task: &Task,
    documents: &[DocumentResult],
    codes: Option<&BTreeSet<&str>>,
) -> ArmResult {
    let all = || documents.iter().map(|document| (document, &document.answers[arm]));
    let answered: Vec<_> = all().filter(|(_, answer)| answer.texts.is_some()).collect();
    let of = answered.len();
    let share = |count: usize| (0 < of).then(|| count as f64 / of as f64);
    let scores: Vec<Score> = task
        .pipelines
        .iter()
        .enumerate()
        .map(|(filter, pipeline)| {
            let nothing = pipeline.nothing();
            let values: Vec<f64> =
                answered.iter().map(|(_, answer)| f64::from(u8::from(answer.read[filter].1))).collect();
            let right = answered.iter().filter(|(_, answer)| answer.read[filter].1).count();
            let invalid = |answer: &ArmAnswer| nothing.as_ref() == Some(&answer.read[filter].0);
            Score {
                right,
                mean: mean(&values),
                stderr: stderr(&values),
                interval: wilson(right, of),
                errors_as_wrong: (!documents.is_empty()).then(|| right as f64 / documents.len() as f64),
                invalid_share: share(answered.iter().filter(|(_, answer)| invalid(answer)).count()),
            }
        })
        .collect();
    let best = best(&scores);
    let cut = |answer: &ArmAnswer| answer.finish_reason.as_deref() == Some("length");
    let empty = |answer: &ArmAnswer| answer.texts.iter().flatten().all(String::is_empty);
    let tokens: Vec<f64> = answered
        .iter()
        .filter_map(|(_, answer)| answer.output_tokens)
        .filter(|&n| 0 < n)
        .map(f64::from)
        .collect();
    let mut in_order: Vec<(u32, f64)> = answered
        .iter()
        .filter_map(|(_, answer)| Some((answer.i?, f64::from(u8::from(answer.read.get(best)?.1)))))
        .collect();
    in_order.sort_by_key(|(i, _)| *i);
    let values: Vec<f64> = in_order.into_iter().map(|(_, right)| right).collect();
    let mut by_length: Vec<(usize, bool)> = answered
        .iter()
        .filter_map(|(document, answer)| Some((document.prompt.len(), answer.read.get(best)?.1)))
        .collect();
    by_length.sort_by_key(|(bytes, _)| *bytes);
    ArmResult {
        answered: of,
        errors: documents.len() - of,
        retried: all().filter(|(_, answer)| task.repeats < answer.attempts as usize).count(),
        cut_share: share(answered.iter().filter(|(_, answer)| cut(answer)).count()),
        empty_share: share(answered.iter().filter(|(_, answer)| empty(answer)).count()),
        mean_output_tokens: mean(&tokens),
        swapped: codes.map(|codes| answered.iter().filter(|(_, answer)| is_swapped(answer, codes)).count()),
        trend: trend(&values),
        by_length: parts(&by_length, LENGTHS).map(length_bin).collect(),
        scores,
    }
}

/// What the prompts of a probe hold.
fn codes(documents: &[DocumentResult]) -> BTreeSet<&str> {
    documents.iter().map(|document| document.target.as_str()).collect()
}

/// Whether an answer holds the code of another prompt.
fn is_swapped(answer: &ArmAnswer, codes: &BTreeSet<&str>) -> bool {
    answer.read.iter().any(|(read, right)| !right && read.as_str().is_some_and(|read| codes.contains(read)))
}

/// The way of reading with the highest score; the first of equals.
fn best(scores: &[Score]) -> usize {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if scores[best].right < score.right {
            best = index;
        }
    }
    best
}

fn trend(in_order: &[f64]) -> Option<Trend> {
    let p_falling = p_falling(in_order)?;
    let window = |part: &[f64]| (part.iter().filter(|&&right| right == 1.0).count(), part.len());
    Some(Trend { windows: parts(in_order, WINDOWS).map(window).collect(), p_falling })
}

fn length_bin(part: &[(usize, bool)]) -> PromptLengthBin {
    let bytes = |end: Option<&(usize, bool)>| end.map_or(0, |(bytes, _)| *bytes);
    let right = part.iter().filter(|(_, right)| *right).count();
    PromptLengthBin { bytes: (bytes(part.first()), bytes(part.last())), right, of: part.len() }
}

/// A list in so many parts, as equal as can be; fewer where it is short.
fn parts<T>(list: &[T], count: usize) -> impl Iterator<Item = &[T]> {
    let count = count.min(list.len());
    (0..count).map(move |nth| &list[nth * list.len() / count..(nth + 1) * list.len() / count])
}

/// Which arms are held against which: baseline and candidate.
fn pairs(facts: &AccuracyFacts) -> Vec<(usize, usize)> {
    let at = |name: &str| facts.arms.iter().position(|arm| arm.name == name);
    let [candidate, streamed, baseline, again] = ARMS.map(at);
    let mut pairs = Vec::new();
    for arm in [candidate, streamed].into_iter().flatten() {
        pairs.extend(baseline.map(|baseline| (baseline, arm)));
    }
    pairs.extend(candidate.zip(streamed));
    pairs.extend(baseline.zip(again));
    pairs
}

fn compare(
    (baseline, candidate): (usize, usize),
    decisive: usize,
    facts: &AccuracyFacts,
    documents: &[DocumentResult],
    heard: &[Vec<Heard<'_>>],
) -> PairedResult {
    let both: Vec<(&ArmAnswer, &ArmAnswer)> = documents
        .iter()
        .map(|document| (&document.answers[baseline], &document.answers[candidate]))
        .filter(|(one, other)| one.texts.is_some() && other.texts.is_some())
        .collect();
    let margin = facts.margin.unwrap_or(USUAL_MARGIN);
    let filters = both.first().map_or(0, |(one, _)| one.read.len());
    let scores: Vec<_> = (0..filters)
        .map(|filter| {
            let count = |one: bool, other: bool| {
                let same =
                    |(a, b): &&(&ArmAnswer, &ArmAnswer)| a.read[filter].1 == one && b.read[filter].1 == other;
                both.iter().filter(same).count()
            };
            paired(count(true, true), count(true, false), count(false, true), count(false, false), margin)
        })
        .collect();
    let mut in_order: Vec<(u32, f64)> = both
        .iter()
        .filter_map(|(one, other)| {
            let value = |answer: &ArmAnswer| {
                f64::from(u8::from(answer.read.get(decisive).is_some_and(|read| read.1)))
            };
            Some((other.i?, value(other) - value(one)))
        })
        .collect();
    in_order.sort_by_key(|(i, _)| *i);
    let differences: Vec<f64> = in_order.into_iter().map(|(_, difference)| difference).collect();
    PairedResult {
        baseline,
        candidate,
        is_floor: facts.arms[baseline].name == ARMS[2] && facts.arms[candidate].name == ARMS[3],
        scores,
        texts: equality(&heard[baseline], &heard[candidate]),
        p_falling: p_falling(&differences),
    }
}

fn equality(one: &[Heard<'_>], other: &[Heard<'_>]) -> TextEquality {
    let mut texts = TextEquality { diverged: vec![0; TextEquality::BOUNDS.len()], ..TextEquality::default() };
    for (one, other) in one.iter().zip(other) {
        let (Some(one), Some(other)) = (one.told.first(), other.told.first()) else { continue };
        texts.questions += 1;
        if one.reply.text == other.reply.text {
            texts.equal += 1;
            continue;
        }
        let same = one.reply.text.chars().zip(other.reply.text.chars()).take_while(|(a, b)| a == b).count();
        let bin = TextEquality::BOUNDS.iter().rposition(|&bound| bound <= same).unwrap_or(0);
        texts.diverged[bin] += 1;
        if let Some(sure) = both_sure(&one.reply.tokens, &other.reply.tokens) {
            *texts.sure.get_or_insert(0) += usize::from(sure);
        }
    }
    texts
}

/// Whether both were sure of their tokens where these first differ; `None` where nobody told.
fn both_sure(one: &[TokenLogprob], other: &[TokenLogprob]) -> Option<bool> {
    let (a, b) = one.iter().zip(other).find(|(a, b)| a.token != b.token)?;
    Some(SURE < a.margin? && SURE < b.margin?)
}

/// sha256 over the hashes of all sample lines: filter by filter, in document order.
fn task_hash(filters: usize, documents: &[DocumentResult]) -> String {
    let answered = || documents.iter().filter(|document| document.answers[0].texts.is_some());
    let lines = (0..filters).flat_map(|_| answered().map(|document| document.hashes.concat()));
    sha256(lines.collect::<String>())
}
