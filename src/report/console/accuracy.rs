use super::super::Reported;
use super::super::accuracy::{
    Tone, answered_words, answers_words, arm_latency, arm_words, asked_words, difference_words,
    discordant_words, divergence, errors_words, length_words, p_words, paired_headline, score_cells, sides,
    texts_words, trend_words, verdict_of,
};
use super::super::fold::{rows, token_words};
use super::super::lm_eval::{lm_eval_headline, lm_eval_table};
use super::super::text::{bare, decimals, fixed, number, plain, wrapped};
use super::strict::{client, latencies, line, warnings};
use super::{Paint, Style};
use crate::measure::{AccuracyFacts, AccuracyResult, Definition, Distribution, PairedResult};

/// An accuracy run: lm_eval's table, each arm, each comparison, how long it took, how the client did.
pub(super) fn accuracy_block(reported: &Reported<'_>, style: Style) -> String {
    let (Some(result), Some(facts)) = (&reported.run.accuracy, &reported.run.manifest.accuracy) else {
        return String::new();
    };
    let head = format!("{:=^50}", " pdbench (accuracy) ");
    let mut text = format!("{}\n{}", lm_eval_headline(facts), lm_eval_table(result));
    text += &format!("{}\n", style.paint(Paint::Bold, &head));
    text += &line("Questions", &asked_words(facts, result));
    for index in 0..result.arms.len() {
        text += &arm(reported, (facts, result), index, style);
    }
    for pair in &result.comparisons {
        text += &comparison((facts, result), pair, style);
    }
    text + &speed(reported, style) + &client(reported, style) + &warnings(reported, style) + how_to_read()
}

/// What was asked, and what came of it.
type Answers<'a> = (&'a AccuracyFacts, &'a AccuracyResult);

fn arm(reported: &Reported<'_>, (facts, result): Answers<'_>, index: usize, style: Style) -> String {
    let arm = &result.arms[index];
    let mut text =
        format!("\n{}\n", style.paint(Paint::Bold, wrapped(&arm_words(facts, index), 2).trim_end()));
    text += &line("  Answered", &answered_words(arm));
    if let Some(words) = errors_words(result, index) {
        text += &line("  Errors", &words);
    }
    let row = |name: &str, cells: [&str; 6]| {
        let [right, of, share, interval, invalid, as_wrong] = cells;
        format!("  {name:<18}{right:>7}{of:>7}{share:>9}{interval:>18}{invalid:>9}{as_wrong:>10}\n")
    };
    text += &row("Read by", ["right", "of", "share", "95 % (Wilson)", "invalid", "as wrong"]);
    for (filter, score) in result.filters.iter().zip(&arm.scores) {
        let cells = score_cells(score, arm);
        text += &row(&plain(filter), cells.each_ref().map(String::as_str));
    }
    text += &line("  Answers", &answers_words(arm));
    if let Some(trend) = &arm.trend {
        text += &line("  Over the run", &trend_words(trend));
    }
    if 1 < arm.by_length.len() {
        text += &line("  By prompt", &length_words(arm));
    }
    let latency = arm_latency(result, index, &reported.run.manifest.settings.all_percentiles());
    if 0 < latency.count {
        text += &line("  E2EL (ms)", &latency_words(&latency));
    }
    text
}

fn latency_words(values: &Distribution) -> String {
    let places = decimals(values.max);
    let mut words = format!("mean {}, p50 {}", fixed(values.mean, places), fixed(values.median, places));
    for percentile in values.percentiles.iter().filter(|p| p.p != 50.0 && p.enough(values.count)) {
        words += &format!(", p{} {}", bare(percentile.p), fixed(percentile.value, places));
    }
    words + &format!(", max {}", fixed(values.max, places))
}

/// Two arms side by side: the verdict first, but where the baseline stands beside itself.
fn comparison((facts, result): Answers<'_>, pair: &PairedResult, style: Style) -> String {
    let sides = sides(facts, pair);
    let names = format!("{} against {}", sides.0, sides.1);
    let decisive = verdict_of(result, pair);
    let headline = decisive.and_then(|at| Some((paired_headline(&pair.scores[at]), result.filters.get(at)?)));
    let mut text = match headline {
        _ if pair.is_floor => {
            let head = format!("{names}: what equal servers differ by");
            format!("\n{}\n", style.paint(Paint::Bold, &head))
        }
        Some(((words, tone), filter)) => {
            let paint = match tone {
                Tone::Good => Paint::Green,
                Tone::Bad => Paint::Red,
                Tone::Open => Paint::Yellow,
            };
            let head = wrapped(&format!("{names}: {words} ({})", plain(filter)), 2);
            format!("\n{}\n", style.paint(paint, head.trim_end()))
        }
        None => format!("\n{}\n", style.paint(Paint::Bold, &names)),
    };
    for (filter, score) in result.filters.iter().zip(&pair.scores) {
        text += &wrapped(&format!("  {}: {}", plain(filter), discordant_words(score, &sides)), 4);
        text += &wrapped(&format!("    {}", difference_words(score, &sides)), 4);
    }
    text += &line("  Texts", &texts_words(pair, result.floor()));
    let places = divergence(&pair.texts).into_iter().filter(|(_, n)| 0 < *n);
    let places: Vec<String> = places.map(|(label, n)| format!("{label}: {n}")).collect();
    if !places.is_empty() {
        text += &line("  Differ from", &format!("character {}", places.join(", ")));
    }
    if let Some(p) = pair.p_falling {
        text += &line("  Over the run", &format!("a fall of the difference: p = {}", p_words(Some(p))));
    }
    text
}

/// What of the usual latencies these answers have, and how many came a second.
fn speed(reported: &Reported<'_>, style: Style) -> String {
    let view = &reported.summary.strict;
    let mut text = String::from("\n");
    if !rows(reported, Definition::Strict).is_empty() {
        text = latencies(reported, style);
    }
    let words = format!(
        "{} req/s, {} output tok/s over {} s",
        number(view.request_throughput_per_s),
        number(view.output_throughput_per_s),
        number(view.duration_s)
    );
    text += &line("Throughput", &words);
    text + &line("Tokens", &token_words(reported))
}

fn how_to_read() -> &'static str {
    "
Scores are of answered questions, as lm_eval counts them; `as wrong` counts
those without an answer as wrong. A comparison is of the same questions: only
those that one arm alone has right count. `–` is a value that does not exist.
Every text and what was read in it is in documents.csv.
"
}
