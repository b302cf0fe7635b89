use super::super::Reported;
use super::super::check::{blind_words, checked, pair_words, sides, sign};
use super::super::text::{MISSING, plain};
use super::Section;
use super::markup::{Align, Html, note, table};
use crate::measure::check::{PairResult, Verdict};

/// What is wrong, then what was looked at, step by step.
pub(super) fn steps(reported: &Reported<'_>) -> Option<Section> {
    let (_, result) = checked(reported)?;
    let head = ["Step", "Verdict", "What that rests on"].map(|name| (name.to_owned(), Align::Left));
    let row = |step: &crate::measure::check::StepResult| {
        vec![
            Html::of(step.step.title()),
            word(step.verdict, step.verdict.word()),
            Html::of(&plain(&step.words)),
        ]
    };
    let mut body = Html::new();
    if !result.faults.is_empty() {
        body.raw("<ul class=\"warnings\">\n");
        for fault in &result.faults {
            body.raw("<li>").text(&plain(&fault.what()));
            body.raw("<span>Try: ").text(fault.what_to_do()).raw("</span></li>\n");
        }
        body.raw("</ul>\n");
    }
    body.add(table(&head, result.steps.iter().map(row).collect()));
    body.add(note(&blind_words()));
    Some(Section { id: "check", title: "What works", body })
}

/// Every pair: a row for each prefill instance, a column for each decode instance.
pub(super) fn pairs(reported: &Reported<'_>) -> Option<Section> {
    let (facts, result) = checked(reported)?;
    let (prefill, decode) = sides(facts);
    if prefill.is_empty() || decode.is_empty() {
        return None;
    }
    let mut head = vec![("Prefill".to_owned(), Align::Left)];
    head.extend(decode.iter().map(|&to| (plain(&facts.nodes[to].place()), Align::Left)));
    let row = |&from: &usize| {
        let mut cells = vec![Html::of(&plain(&facts.nodes[from].place()))];
        cells.extend(decode.iter().map(|&to| cell(result.pair(from, to))));
        cells
    };
    let mut body = note("Each pair of a prefill and a decode instance, with the requests that it was sent.");
    body.add(table(&head, prefill.iter().map(row).collect()));
    Some(Section { id: "pairs", title: "Pairs", body })
}

fn cell(pair: Option<&PairResult>) -> Html {
    let verdict = pair.map_or(Verdict::NotTold, |pair| pair.verdict);
    let mut html = word(verdict, sign(pair));
    let words = pair.map_or_else(|| MISSING.to_owned(), pair_words);
    html.add(Html::of(&words).within("<small>", "</small>"));
    html
}

/// A word in the colour of a verdict.
fn word(verdict: Verdict, word: &str) -> Html {
    let open = match verdict {
        Verdict::Ok => "<span class=\"state good\">",
        Verdict::NotTold => "<span class=\"state warn\">",
        Verdict::Wrong => "<span class=\"state bad\">",
    };
    Html::of(word).within(open, "</span>")
}

/// What each instance told of itself.
pub(super) fn instances(reported: &Reported<'_>) -> Option<Section> {
    let (facts, _) = checked(reported)?;
    if facts.nodes.is_empty() {
        return None;
    }
    let names = ["Role", "Instance", "Answers", "Models", "Longest, tokens", "KV block, tokens"];
    let head = names.map(|name| (name.to_owned(), Align::Left));
    let number = |value: Option<u64>| Html::of(&value.map_or(MISSING.to_owned(), |value| value.to_string()));
    let row = |node: &crate::measure::check::NodeTold| {
        let models = if node.models.is_empty() { MISSING.to_owned() } else { plain(&node.models.join(", ")) };
        vec![
            Html::of(&node.role.to_string()),
            Html::of(&plain(&node.address)),
            Html::of(&node.silent.as_deref().map_or("yes".to_owned(), |why| format!("no: {}", plain(why)))),
            Html::of(&models),
            number(node.max_model_len),
            number(node.block_size),
        ]
    };
    let body = table(&head, facts.nodes.iter().map(row).collect());
    Some(Section { id: "instances", title: "Instances", body })
}
