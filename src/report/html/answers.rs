use super::super::Reported;
use super::super::accuracy::{divergence, p_words, trend_words};
use super::super::chart::{LineChart, Series};
use super::super::text::{percent, plain};
use super::Section;
use super::accuracy::{ARMS, heads, of};
use super::charts::{figure, gallery};
use super::markup::{Html, note, paragraph, table};
use super::outcomes::bar;
use crate::measure::{ArmResult, TextEquality};

/// Questions without an answer that are listed.
const ERRORS: usize = 200;
/// Characters of an error that are shown.
const ERROR_CHARACTERS: usize = 300;

/// Whether right answers become fewer over the run.
pub(super) fn order(reported: &Reported<'_>) -> Option<Section> {
    let (facts, result) = of(reported)?;
    let names: Vec<String> = (0..result.arms.len()).map(|arm| plain(&facts.arm_name(arm))).collect();
    let trends = || result.arms.iter().enumerate().filter_map(|(at, arm)| Some((at, arm.trend.as_ref()?)));
    let series: Vec<Series<'_>> = trends()
        .map(|(at, trend)| {
            let mut before = 0;
            let points = trend.windows.iter().map(|&(right, of)| {
                let middle = before as f64 + of as f64 / 2.0;
                before += of;
                (middle, (0 < of).then(|| 100.0 * right as f64 / of as f64))
            });
            Series { name: &names[at], colour: ARMS[at % ARMS.len()], points: points.collect() }
        })
        .collect();
    let svg =
        LineChart { label: "Right answers by send order", unit: "% right", across: "", series: &series }
            .svg()?;
    let mut body = note(
        "Questions in the order in which they were sent, in equal parts. A deployment whose cache goes bad answers worse \
         and worse. Questions that are sent longest first get easier, which can hide that; the difference to a baseline \
         cannot.",
    );
    body.add(gallery(vec![figure("Right answers", "over the questions sent", &svg)]));
    for (at, trend) in trends() {
        body.add(paragraph(&format!("{}: {}.", names[at], trend_words(trend))));
    }
    let falls = result.judging().filter_map(|pair| Some((pair, pair.p_falling?)));
    for (pair, p) in falls {
        body.add(paragraph(&format!(
            "{} less {}: a fall of the difference: p = {}.",
            plain(&facts.arm_name(pair.candidate)),
            plain(&facts.arm_name(pair.baseline)),
            p_words(Some(p))
        )));
    }
    Some(Section { id: "order", title: "Over the run", body })
}

/// Right answers by length of the prompt.
pub(super) fn lengths(reported: &Reported<'_>) -> Option<Section> {
    let (facts, result) = of(reported)?;
    let binned = |arm: &&ArmResult| 1 < arm.by_length.len();
    result.arms.iter().find(binned)?;
    let lines = result.arms.iter().enumerate().filter(|(_, arm)| binned(arm)).flat_map(|(index, arm)| {
        let name = plain(&facts.arm_name(index));
        arm.by_length.iter().map(move |bin| {
            let bytes = format!("{} – {}", bin.bytes.0, bin.bytes.1);
            let cells =
                [&name, &bytes, &bin.right.to_string(), &bin.of.to_string(), &percent(bin.right, bin.of)];
            let mut cells: Vec<Html> = cells.map(|cell| Html::of(cell)).into();
            cells.push(bar(bin.right, bin.of, false));
            cells
        })
    });
    let mut body = note("A fault at a block’s or a chunk’s bounds shows in prompts of some lengths alone.");
    body.add(table(&heads(&["Arm", "Prompt, bytes", "right", "of", "share", ""], 2), lines.collect()));
    Some(Section { id: "lengths", title: "By length of the prompt", body })
}

/// Where the texts of two arms begin to differ.
pub(super) fn divergences(reported: &Reported<'_>) -> Option<Section> {
    let (facts, result) = of(reported)?;
    let differing = |texts: &TextEquality| texts.diverged.iter().sum::<usize>();
    result.comparisons.iter().find(|pair| 0 < differing(&pair.texts))?;
    let lines = result.comparisons.iter().flat_map(|pair| {
        let names = format!("{} – {}", facts.arm_name(pair.candidate), facts.arm_name(pair.baseline));
        let all = differing(&pair.texts);
        divergence(&pair.texts).into_iter().map(move |(place, n)| {
            let mut cells: Vec<Html> = [plain(&names), place, n.to_string(), percent(n, all)]
                .iter()
                .map(|cell| Html::of(cell))
                .collect();
            cells.push(bar(n, all, false));
            cells
        })
    });
    let mut body = note(
        "Greedy answers of equal servers differ too, at places where two tokens are about as likely: hold the counts \
         against those of the baseline with itself. Many at the first character are no such chance.",
    );
    body.add(table(&heads(&["Arms", "First different character", "texts", "share", ""], 2), lines.collect()));
    Some(Section { id: "divergence", title: "Where texts differ", body })
}

/// Questions that have no answer.
pub(super) fn errors(reported: &Reported<'_>) -> Option<Section> {
    let (facts, result) = of(reported)?;
    let errors = || {
        result.documents.iter().flat_map(|document| {
            let failed = |(arm, answer): (usize, &'_ crate::measure::ArmAnswer)| {
                let (outcome, words) = answer.error.clone()?;
                Some((document.doc_id, arm, outcome, words, answer.attempts))
            };
            document.answers.iter().enumerate().filter_map(failed).collect::<Vec<_>>()
        })
    };
    let all = errors().count();
    if all == 0 {
        return None;
    }
    let lines = errors().take(ERRORS).map(|(doc_id, arm, outcome, words, attempts)| {
        let words: String = plain(&words).chars().take(ERROR_CHARACTERS).collect();
        let mut cells: Vec<Html> = [
            doc_id.to_string(),
            plain(&facts.arm_name(arm)),
            outcome.word().to_owned(),
            attempts.to_string(),
        ]
        .iter()
        .map(|cell| Html::of(cell))
        .collect();
        cells.push(Html::of(&words).within("<div class=\"foreign\">", "</div>"));
        cells
    });
    let mut body = note(&format!(
        "{all} without an answer after all tries{}.",
        if ERRORS < all { format!(", the first {ERRORS} of which stand here") } else { String::new() }
    ));
    body.add(table(&heads(&["Document", "Arm", "last outcome", "tries", "in words"], 5), lines.collect()));
    Some(Section { id: "unanswered", title: "Questions without an answer", body })
}
