use super::super::Reported;
use super::super::accuracy::{
    Tone, answered_words, answers_words, arm_words, asked_words, difference_words, discordant_words,
    paired_headline, score_cells, sides, texts_words, verdict_of,
};
use super::super::chart::{BLUE, Colour, GREEN, Interval, IntervalChart, Marker, ORANGE, PURPLE};
use super::super::text::plain;
use super::Section;
use super::charts::{figure, gallery};
use super::markup::{Align, Html, note, paragraph, table};
use crate::measure::{AccuracyFacts, AccuracyResult, PairedResult};

/// Colours of the arms, in their order.
pub(super) const ARMS: [Colour; 4] = [BLUE, ORANGE, GREEN, PURPLE];

/// What was asked and what came of it, where that was what the run is about.
pub(super) fn of<'a>(reported: &Reported<'a>) -> Option<(&'a AccuracyFacts, &'a AccuracyResult)> {
    Some((reported.run.manifest.accuracy.as_ref()?, reported.run.accuracy.as_ref()?))
}

/// Heads of a table: the first column is of words, as many more as are told, the others of numbers.
pub(super) fn heads(names: &[&str], words: usize) -> Vec<(String, Align)> {
    let align = |nth| if nth < words { Align::Left } else { Align::Right };
    names.iter().enumerate().map(|(nth, name)| ((*name).to_owned(), align(nth))).collect()
}

/// The scores of each arm with their intervals.
pub(super) fn scores(reported: &Reported<'_>) -> Option<Section> {
    let (facts, result) = of(reported)?;
    let mut body = note(&format!("{}: {}.", plain(&result.task), asked_words(facts, result)));
    if facts.own_documents {
        let words = "The questions are the project’s own, in the manner of the task: arms can be compared by them, and \
                     no score with a published one.";
        body.add(Html::of(words).within("<p><span class=\"badge\">OWN DOCUMENTS</span> ", "</p>\n"));
    }
    let head =
        heads(&["Arm", "Read by", "right", "of", "share", "95 % (Wilson)", "invalid", "errors as wrong"], 2);
    let lines = result.arms.iter().enumerate().flat_map(|(index, arm)| {
        let name = facts.arm_name(index);
        let readings = result.filters.iter().zip(&arm.scores);
        readings.map(move |(filter, score)| {
            let mut cells = vec![Html::of(&plain(&name)), Html::of(&plain(filter))];
            cells.extend(score_cells(score, arm).iter().map(|cell| Html::of(cell)));
            cells
        })
    });
    body.add(table(&head, lines.collect()));
    for (index, arm) in result.arms.iter().enumerate() {
        body.add(paragraph(&format!(
            "{}: {}; {}.",
            arm_words(facts, index),
            answered_words(arm),
            answers_words(arm)
        )));
    }
    if let Some(chart) = score_chart(facts, result) {
        body.add(gallery(vec![chart]));
    }
    body.add(note(
        "The share is of answered questions, as lm_eval counts. The interval is Wilson’s: what this many questions can \
         tell of all questions of the kind.",
    ));
    Some(Section { id: "accuracy", title: "Accuracy", body })
}

fn score_chart(facts: &AccuracyFacts, result: &AccuracyResult) -> Option<Html> {
    let rows: Vec<Interval> = result
        .arms
        .iter()
        .enumerate()
        .flat_map(|(index, arm)| {
            let name = facts.arm_name(index);
            result.filters.iter().zip(&arm.scores).filter_map(move |(filter, score)| {
                let (low, high) = score.interval?;
                Some(Interval {
                    name: plain(&format!("{name}, {filter}")),
                    colour: ARMS[index % ARMS.len()],
                    value: 100.0 * score.mean?,
                    ends: (100.0 * low, 100.0 * high),
                })
            })
        })
        .collect();
    let chart = IntervalChart { label: "Scores with their intervals", unit: "%", rows: &rows, markers: &[] };
    Some(figure("Scores", "95 % intervals", &chart.svg()?))
}

/// What the pairs of answers to the same questions show.
pub(super) fn comparisons(reported: &Reported<'_>) -> Option<Section> {
    let (facts, result) = of(reported)?;
    if result.comparisons.is_empty() {
        return None;
    }
    let mut body = Html::new();
    for pair in &result.comparisons {
        body.add(comparison(facts, result, pair));
    }
    let charts: Vec<Html> = difference_chart(facts, result).into_iter().collect();
    if !charts.is_empty() {
        body.add(gallery(charts));
    }
    body.add(note(
        "Only questions that one side alone has right tell the two apart: McNemar’s exact test asks whether they are \
         split by chance, Tango’s interval how great the difference may be. No loss is shown when the whole interval \
         lies above minus the margin.",
    ));
    Some(Section { id: "comparison", title: "Against the baseline", body })
}

fn comparison(facts: &AccuracyFacts, result: &AccuracyResult, pair: &PairedResult) -> Html {
    let sides = sides(facts, pair);
    let mut html = Html::of(&format!("{} against {}", sides.0, sides.1)).within("<h3>", "</h3>\n");
    match verdict_of(result, pair).filter(|_| !pair.is_floor) {
        Some(at) => {
            let (words, tone) = paired_headline(&pair.scores[at]);
            let open = match tone {
                Tone::Good => "<p><span class=\"state good\">",
                Tone::Bad => "<p><span class=\"state bad\">",
                Tone::Open => "<p><span class=\"state warn\">",
            };
            html.raw(open).text(&words).raw("</span> ");
            html.text(&format!("({})", plain(result.filters.get(at).map_or("", |name| name)))).raw("</p>\n");
        }
        None => {
            html.add(paragraph("What equal servers differ by."));
        }
    }
    for (filter, score) in result.filters.iter().zip(&pair.scores) {
        html.add(paragraph(&format!(
            "{}: {}; {}.",
            plain(filter),
            discordant_words(score, &sides),
            difference_words(score, &sides)
        )));
    }
    html.add(paragraph(&format!("Texts: {}.", texts_words(pair, result.floor()))));
    html
}

fn difference_chart(facts: &AccuracyFacts, result: &AccuracyResult) -> Option<Html> {
    let rows: Vec<Interval> = result
        .comparisons
        .iter()
        .flat_map(|pair| {
            let name = facts.arm_name(pair.candidate);
            result.filters.iter().zip(&pair.scores).filter_map(move |(filter, score)| {
                let (low, high) = score.interval?;
                Some(Interval {
                    name: plain(&format!("{name}, {filter}")),
                    colour: ARMS[pair.candidate % ARMS.len()],
                    value: 100.0 * score.difference?,
                    ends: (100.0 * low, 100.0 * high),
                })
            })
        })
        .collect();
    let margin = result.comparisons.iter().flat_map(|pair| &pair.scores).map(|score| score.margin).next()?;
    let markers = [
        Marker { label: "margin".to_owned(), value: -100.0 * margin },
        // The axis says 0.
        Marker { label: String::new(), value: 0.0 },
    ];
    let chart = IntervalChart {
        label: "Differences to the baseline with their intervals",
        unit: "%",
        rows: &rows,
        markers: &markers,
    };
    Some(figure("Difference to the baseline", "points, 95 % intervals", &chart.svg()?))
}
