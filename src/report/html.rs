//! The page for people: one file without a script, a font or a link to anywhere, whose policy lets a
//! browser load nothing but its own style sheet. A list of sections, each a function of the run.
//! Deliberately absent: anything that moves.

mod accuracy;
mod answers;
mod batches;
mod charts;
mod check;
mod client;
mod facts;
mod head;
mod latency;
mod load;
mod markup;
mod outcomes;
mod questions;
mod style;
#[cfg(test)]
mod tests;

use super::Reported;
use super::fold::verdict;
use super::text::plain;
use markup::Html;
use style::{base64, style_sheet};

/// A part of the page with a heading of its own.
struct Section {
    /// Its anchor.
    id: &'static str,
    /// Its heading, which the list of contents shows too.
    title: &'static str,
    body: Html,
}

/// The sections in their order; each is left out when a run has nothing to say there.
const SECTIONS: &[fn(&Reported<'_>) -> Option<Section>] = &[
    outcomes::warnings,
    accuracy::scores,
    accuracy::comparisons,
    questions::discordant,
    answers::order,
    answers::lengths,
    answers::divergences,
    answers::errors,
    batches::batches,
    latency::strict,
    load::throughput,
    load::proxy_cost,
    charts::distributions,
    charts::course,
    outcomes::outcomes,
    client::client,
    latency::vllm,
    facts::facts,
    facts::how_to_read,
];

/// Those of a check, which is not about speed.
const CHECK_SECTIONS: &[fn(&Reported<'_>) -> Option<Section>] =
    &[outcomes::warnings, check::steps, check::pairs, check::instances, outcomes::outcomes, facts::facts];

/// The whole page.
pub fn report_html(reported: &Reported<'_>) -> String {
    let sections = if reported.summary.check.is_some() { CHECK_SECTIONS } else { SECTIONS };
    let sections: Vec<Section> = sections.iter().filter_map(|section| section(reported)).collect();
    let manifest = &reported.run.manifest;
    let word = verdict(reported);
    let title = format!("{word} · {} · pdbench {}", plain(&manifest.target.model), plain(&manifest.verb));
    let style = style_sheet();
    let mut page = Html::new();
    page.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
        .raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-")
        .text(&base64(&style::sha256(style.as_bytes())))
        .raw("'; base-uri 'none'; form-action 'none'\">\n")
        .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
        .raw("<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n")
        .raw("<title>")
        .text(&title)
        .raw("</title>\n<style>")
        .trusted(&style)
        .raw("</style>\n</head>\n<body>\n<main>\n")
        .add(head::masthead(reported))
        .add(head::banner(reported))
        .add(head::cards(reported))
        .add(contents(&sections));
    for section in sections {
        page.raw("<section class=\"card\" id=\"")
            .raw(section.id)
            .raw("\">\n<h2>")
            .raw(section.title)
            .raw("</h2>\n")
            .add(section.body)
            .raw("</section>\n");
    }
    page.raw("</main>\n<footer>Made by ")
        .text(&plain(&manifest.version))
        .raw(" from run ")
        .text(&plain(&manifest.run_id))
        .raw(". Everything on this page is also in its data block and in the files beside it.</footer>\n")
        .raw("<script type=\"application/json\" id=\"pdbench-data\">")
        .trusted(&data(reported))
        .raw("</script>\n</body>\n</html>\n");
    page.into_string()
}

fn contents(sections: &[Section]) -> Html {
    let mut nav = Html::new();
    nav.raw("<nav aria-label=\"Contents\">");
    for section in sections {
        nav.raw("<a href=\"#").raw(section.id).raw("\">").raw(section.title).raw("</a>");
    }
    nav.raw("</nav>\n");
    nav
}

/// What the page was made from, for programs: JSON that cannot end the element it stands in.
fn data(reported: &Reported<'_>) -> String {
    let mut data = serde_json::json!({
        "manifest": reported.run.manifest,
        "summary": reported.summary,
        "timeline": reported.timeline,
    });
    if let Some(result) = &reported.run.accuracy {
        data["accuracy"] = serde_json::json!(result);
    }
    let mut escaped = String::new();
    for c in data.to_string().chars() {
        match c {
            // Only strings have them, where this stands for the same character.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => escaped += &format!("\\u{:04x}", u32::from(c)),
            _ => escaped.push(c),
        }
    }
    escaped
}
