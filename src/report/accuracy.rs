//! What console and page say in the same words of an accuracy run.

use super::Reported;
use super::text::{MISSING, counted, percent, plain};
use crate::measure::{
    AccuracyFacts, AccuracyResult, ArmResult, Distribution, Outcome, PairedResult, PairedScore,
    PairedVerdict, Score, TextEquality, Trend,
};

/// What a comparison comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Open,
}

/// A share of 1 as points of a hundred, with that many decimals and its sign where it is a difference.
pub(super) fn points(share: Option<f64>, decimals: usize) -> String {
    share.map_or(MISSING.to_owned(), |share| format!("{:.decimals$} %", 100.0 * share))
}

fn signed(share: Option<f64>) -> String {
    share.map_or(MISSING.to_owned(), |share| format!("{:+.2}", 100.0 * share))
}

/// The margin, without decimals that say nothing.
pub(super) fn margin_words(margin: f64) -> String {
    let text = format!("{:.4}", 100.0 * margin);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A probability with four decimals, or as a bound where they say nothing.
pub(super) fn p_words(p: Option<f64>) -> String {
    match p {
        None => MISSING.to_owned(),
        Some(p) if p < 0.0001 => "< 0.0001".to_owned(),
        Some(p) => format!("{p:.4}"),
    }
}

/// An interval of a share: `61.67 – 66.83 %`.
pub(super) fn interval_words(interval: Option<(f64, f64)>) -> String {
    match interval {
        Some((low, high)) => format!("{:.2} – {:.2} %", 100.0 * low, 100.0 * high),
        None => MISSING.to_owned(),
    }
}

/// The first line of a run, after the verdict: the best score and how many questions were answered.
pub(super) fn score_line(reported: &Reported<'_>, result: &AccuracyResult) -> String {
    let facts = reported.run.manifest.accuracy.as_ref();
    let arm = result.arms.first();
    let score = arm.and_then(|arm| Some((arm, arm.best_read()?))).map(|(arm, at)| {
        format!(
            "{} {}",
            points(arm.scores[at].mean, 2),
            plain(result.filters.get(at).map_or("", |name| name))
        )
    });
    let answered: usize = result.arms.iter().map(|arm| arm.answered).sum();
    let asked = facts.map_or(answered, |facts| facts.questions * result.arms.len());
    let own = facts.is_some_and(|facts| facts.own_documents);
    let notes: Vec<&str> =
        [(reported.run.manifest.target.simulated, "simulated"), (own, "the project's own documents")]
            .into_iter()
            .filter_map(|(holds, note)| holds.then_some(note))
            .collect();
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
    format!(
        "{} {} right, {answered} of {asked} answered{notes}",
        plain(&result.task),
        score.unwrap_or_else(|| MISSING.to_owned())
    )
}

/// What was asked, in one line.
pub(super) fn asked_words(facts: &AccuracyFacts, result: &AccuracyResult) -> String {
    let form = match facts.form.as_str() {
        "token-ids" => "as token ids".to_owned(),
        "multi-turn" => "as a conversation, a turn for each example".to_owned(),
        "single-turn" => "as one message of a conversation".to_owned(),
        "text" => "as text".to_owned(),
        other => format!("as {}", plain(other)),
    };
    let own = if facts.own_documents { "; the documents are the project's own" } else { "" };
    format!(
        "{} of {} documents, {} (seed {}), {form}; {} in flight{}{own}",
        facts.questions,
        facts.documents,
        counted(result.n_shot, "worked example"),
        facts.fewshot_seed,
        counted(facts.num_concurrent, "request"),
        if 1 < facts.batch_size { format!(" of {} questions each", facts.batch_size) } else { String::new() },
    )
}

/// Who an arm is: `candidate at http://… (model, streamed)`.
pub(super) fn arm_words(facts: &AccuracyFacts, index: usize) -> String {
    match facts.arms.get(index) {
        Some(arm) => {
            let streamed = if arm.streamed { ", streamed" } else { "" };
            format!("{} at {} ({}{streamed})", plain(&arm.name), plain(&arm.base_url), plain(&arm.model))
        }
        None => facts.arm_name(index),
    }
}

/// Answered, unanswered and retried questions of an arm.
pub(super) fn answered_words(arm: &ArmResult) -> String {
    format!(
        "{} of {}, {} without an answer, {} took more than one try",
        arm.answered,
        counted(arm.answered + arm.errors, "question"),
        arm.errors,
        arm.retried
    )
}

/// How answers ended, as far as that is known.
pub(super) fn answers_words(arm: &ArmResult) -> String {
    let mut words = format!(
        "{} cut at the limit of tokens, {} empty",
        points(arm.cut_share, 1),
        points(arm.empty_share, 1)
    );
    if let Some(tokens) = arm.mean_output_tokens {
        words += &format!("; {tokens:.1} output tokens on average");
    }
    words
}

/// The last outcomes of an arm's questions without an answer, by number; `None` where all have one.
pub(super) fn errors_words(result: &AccuracyResult, arm: usize) -> Option<String> {
    let answers = result.documents.iter().filter_map(|document| document.answers.get(arm));
    let outcomes: Vec<Outcome> =
        answers.filter_map(|answer| answer.error.as_ref()).map(|(outcome, _)| *outcome).collect();
    let count = |outcome: &Outcome| outcomes.iter().filter(|other| *other == outcome).count();
    let kinds = Outcome::ALL.iter().map(|outcome| (outcome, count(outcome))).filter(|(_, n)| 0 < *n);
    let words: Vec<String> = kinds.map(|(outcome, n)| format!("{n} {}", outcome.word())).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// The share of right answers in each part of the send order, and whether they fall.
pub(super) fn trend_words(trend: &Trend) -> String {
    let share = |&(right, of): &(usize, usize)| match of {
        0 => MISSING.to_owned(),
        of => format!("{:.0}", 100.0 * right as f64 / of as f64),
    };
    let shares: Vec<String> = trend.windows.iter().map(share).collect();
    format!("{} % right by send order; a fall: p = {}", shares.join(" "), p_words(Some(trend.p_falling)))
}

/// Share of right answers by length of the prompt.
pub(super) fn length_words(arm: &ArmResult) -> String {
    let bins = arm.by_length.iter().map(|bin| {
        format!("{} up to {} bytes", percent(bin.right, bin.of).replace(" %", "\u{a0}%"), bin.bytes.1)
    });
    bins.collect::<Vec<_>>().join(", ").replace('\u{a0}', " ")
}

/// The verdict of a comparison: that of any reading that is worse, else of the one that decides.
pub(super) fn verdict_of(result: &AccuracyResult, pair: &PairedResult) -> Option<usize> {
    let worse = pair.scores.iter().position(|score| score.verdict == PairedVerdict::Worse);
    worse.or_else(|| result.decisive(pair)).filter(|&at| at < pair.scores.len())
}

/// That verdict in words.
pub(super) fn paired_headline(score: &PairedScore) -> (String, Tone) {
    let margin = margin_words(score.margin);
    match score.verdict {
        PairedVerdict::Worse => {
            (format!("WORSE, by more than chance (p = {})", p_words(score.p_worse)), Tone::Bad)
        }
        PairedVerdict::WithinMargin => (format!("NO LOSS BEYOND {margin}"), Tone::Good),
        PairedVerdict::Unclear => {
            let needed = score.questions_needed.map_or(String::new(), |n| {
                format!(": about {} questions would, if nothing is lost", super::text::count(n as u64))
            });
            (format!("CANNOT TELL whether the loss is below {margin}{needed}"), Tone::Open)
        }
    }
}

/// Names of the two sides of a comparison: candidate, baseline.
pub(super) fn sides(facts: &AccuracyFacts, pair: &PairedResult) -> (String, String) {
    (plain(&facts.arm_name(pair.candidate)), plain(&facts.arm_name(pair.baseline)))
}

/// Right and wrong answers of two arms.
pub(super) fn discordant_words(score: &PairedScore, (candidate, baseline): &(String, String)) -> String {
    let told = score.both + score.only_baseline + score.only_candidate;
    format!(
        "of {}: {} right in both, {} in {baseline} alone, {} in {candidate} alone, {} in neither",
        counted(score.questions, "question"),
        score.both,
        score.only_baseline,
        score.only_candidate,
        score.questions.saturating_sub(told)
    )
}

/// The difference with its interval and tests.
pub(super) fn difference_words(score: &PairedScore, (candidate, _): &(String, String)) -> String {
    let (low, high) = score.interval.unzip();
    format!(
        "difference {} points (95 %: {} to {}); McNemar p = {} two-sided, {} that {candidate} is worse",
        signed(score.difference),
        signed(low),
        signed(high),
        p_words(score.p_two_sided),
        p_words(score.p_worse)
    )
}

/// How many texts are the same, beside what equal servers reach.
pub(super) fn texts_words(pair: &PairedResult, floor: Option<&PairedResult>) -> String {
    let equal = |texts: &TextEquality| {
        format!("{} of {} equal ({})", texts.equal, texts.questions, percent(texts.equal, texts.questions))
    };
    let mut words = equal(&pair.texts);
    if let Some(floor) = floor.filter(|_| !pair.is_floor) {
        words += &format!("; the baseline with itself {}", equal(&floor.texts));
    }
    if let Some(sure) = pair.texts.sure {
        words += &format!("; {sure} differ where both were sure of their token (by more than 0.5 nat)");
    }
    words
}

/// Where texts that differ begin to, as places with counts: characters from the start. Places without any are there too.
pub(super) fn divergence(texts: &TextEquality) -> Vec<(String, usize)> {
    let bounds = TextEquality::BOUNDS;
    let label = |at: usize| match bounds.get(at + 1) {
        Some(&next) if next == bounds[at] + 1 => bounds[at].to_string(),
        Some(next) => format!("{} – {}", bounds[at], next - 1),
        None => format!("{} –", bounds[at]),
    };
    texts.diverged.iter().take(bounds.len()).enumerate().map(|(at, &n)| (label(at), n)).collect()
}

/// What stands in the columns of a score's row: right, of, share, interval, invalid, with errors as wrong.
pub(super) fn score_cells(score: &Score, arm: &ArmResult) -> [String; 6] {
    let as_wrong = if arm.errors == 0 { MISSING.to_owned() } else { points(score.errors_as_wrong, 2) };
    [
        score.right.to_string(),
        arm.answered.to_string(),
        points(score.mean, 2),
        interval_words(score.interval),
        points(score.invalid_share, 1),
        as_wrong,
    ]
}

/// Times from the send to the end of an arm's answers, ms.
pub(super) fn arm_latency(result: &AccuracyResult, arm: usize, percentiles: &[f64]) -> Distribution {
    let answers = result.documents.iter().filter_map(|document| document.answers.get(arm));
    let answered = answers.filter(|answer| answer.texts.is_some());
    Distribution::of(answered.filter_map(|answer| answer.latency_ms).collect(), percentiles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_margin_has_no_idle_decimals() {
        assert_eq!([0.01, 0.005, 0.07, 0.1].map(margin_words), ["1 %", "0.5 %", "7 %", "10 %"]);
    }

    #[test]
    fn places_of_divergence_name_their_bounds() {
        let texts = TextEquality { diverged: vec![1, 2, 3, 4, 5, 6], ..TextEquality::default() };
        let labels: Vec<String> = divergence(&texts).into_iter().map(|(label, _)| label).collect();
        assert_eq!(labels, ["0", "1 – 15", "16 – 63", "64 – 255", "256 – 1023", "1024 –"]);
    }
}
