use super::super::Reported;
use super::super::accuracy::verdict_of;
use super::super::text::{plain, plain_lines};
use super::Section;
use super::accuracy::of;
use super::markup::{Html, note};
use crate::measure::{AccuracyFacts, ArmAnswer, DocumentResult, PairedResult};
use serde_json::Value;

/// Questions that are shown with both answers.
const SHOWN: usize = 200;
/// Characters of a text that are shown.
const CHARACTERS: usize = 4000;

/// A question that one of two arms has right alone.
struct Discordant<'a> {
    pair: &'a PairedResult,
    reading: usize,
    document: &'a DocumentResult,
    baseline_right: bool,
}

/// The questions that two arms answered differently, both texts side by side; a loss before a gain.
pub(super) fn discordant(reported: &Reported<'_>) -> Option<Section> {
    let (facts, result) = of(reported)?;
    let mut found: Vec<Discordant<'_>> = Vec::new();
    for pair in result.judging() {
        let Some(reading) = verdict_of(result, pair) else { continue };
        let right = |document: &DocumentResult, arm: usize| {
            document.answers.get(arm).and_then(|answer| answer.read.get(reading)).map(|(_, right)| *right)
        };
        found.extend(result.documents.iter().filter_map(|document| {
            let (candidate, baseline) = (right(document, pair.candidate)?, right(document, pair.baseline)?);
            let one = Discordant { pair, reading, document, baseline_right: baseline };
            (candidate != baseline).then_some(one)
        }));
    }
    if found.is_empty() {
        return None;
    }
    // Stable: documents stay in their order.
    found.sort_by_key(|one| !one.baseline_right);
    let left_out = found.len().saturating_sub(SHOWN);
    let mut body = note(&format!(
        "{} that one side alone has right, those of the baseline first.{}",
        super::super::text::counted(found.len(), "question"),
        match left_out {
            0 => String::new(),
            n => format!(" {n} are left out here and stand in documents.csv."),
        }
    ));
    for one in found.iter().take(SHOWN) {
        body.add(question(facts, result.filters.get(one.reading).map_or("", |name| name), one));
    }
    Some(Section { id: "discordant", title: "Answered differently", body })
}

fn question(facts: &AccuracyFacts, filter: &str, one: &Discordant<'_>) -> Html {
    let (candidate, baseline) = (facts.arm_name(one.pair.candidate), facts.arm_name(one.pair.baseline));
    let who = if one.baseline_right { &baseline } else { &candidate };
    let mut html = Html::new();
    html.raw("<details class=\"question\"><summary>Document ");
    html.text(&one.document.doc_id.to_string()).raw(": right in ").text(&plain(who)).raw(" alone ");
    html.text(&format!("({})", plain(filter))).raw("</summary>\n");
    html.add(text("Question", &asked(one.document))).add(text("Gold", &one.document.target));
    html.raw("<div class=\"sides\">\n");
    for (name, arm) in [(&baseline, one.pair.baseline), (&candidate, one.pair.candidate)] {
        let Some(answer) = one.document.answers.get(arm) else { continue };
        html.raw("<div>")
            .add(text(&format!("{}: {}", plain(name), read(answer, one.reading)), &answered(answer)));
        html.raw("</div>\n");
    }
    html.raw("</div>\n</details>\n");
    html
}

/// A foreign text under its heading.
fn text(heading: &str, text: &str) -> Html {
    let text = plain_lines(text);
    let all = text.chars().count();
    let mut shown: String = text.chars().take(CHARACTERS).collect();
    if CHARACTERS < all {
        shown += &format!("… ({} more characters)", all - CHARACTERS);
    }
    let mut html = Html::of(heading).within("<h4>", "</h4>");
    html.add(Html::of(&shown).within("<pre>", "</pre>\n"));
    html
}

/// The question of a document, or all of it where it has none of that name.
fn asked(document: &DocumentResult) -> String {
    match document.doc.get("question") {
        Some(Value::String(question)) => question.clone(),
        _ => Value::Object(document.doc.clone()).to_string(),
    }
}

fn read(answer: &ArmAnswer, reading: usize) -> String {
    let found = answer.read.get(reading).map(|(read, _)| read);
    let found =
        found.map_or(String::new(), |read| read.as_str().map_or_else(|| read.to_string(), str::to_owned));
    let ended =
        answer.finish_reason.as_deref().map_or(String::new(), |why| format!(", ended by {}", plain(why)));
    format!("read {}{ended}", plain(&found))
}

fn answered(answer: &ArmAnswer) -> String {
    answer.texts.as_ref().map(|texts| texts.join("\n––––\n")).unwrap_or_default()
}
