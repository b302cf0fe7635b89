use super::super::Reported;
use super::super::fold::FailurePlaces;
use super::super::text::{percent, plain};
use super::Section;
use super::markup::{Align, Html, note, table};

/// Failed requests that are shown with their error.
const EXAMPLES: usize = 10;
/// Characters of an error that are shown.
const ERROR_CHARACTERS: usize = 300;

/// What else a reader should know, each with what to try.
pub(super) fn warnings(reported: &Reported<'_>) -> Option<Section> {
    let warnings = &reported.summary.warnings;
    if warnings.is_empty() {
        return None;
    }
    let mut body = Html::new();
    body.raw("<ul class=\"warnings\">\n");
    for warning in warnings {
        body.raw("<li>").text(&plain(&warning.text()));
        body.raw("<span>Try: ").text(warning.try_this()).raw("</span></li>\n");
    }
    body.raw("</ul>\n");
    Some(Section { id: "warnings", title: "Warnings", body })
}

/// What became of the requests, where the failures happened, and some of their errors.
pub(super) fn outcomes(reported: &Reported<'_>) -> Option<Section> {
    let counts = &reported.summary.counts;
    let head = |names: [(&str, Align); 4]| names.map(|(name, align)| (name.to_owned(), align));
    let lines = counts.by_outcome.iter().map(|&(outcome, n)| {
        let texts = [outcome.word(), &n.to_string(), &percent(n, counts.sent)].map(Html::of);
        let mut cells = Vec::from(texts);
        cells.push(bar(n, counts.sent, outcome.is_failure()));
        cells
    });
    let columns =
        [("Outcome", Align::Left), ("requests", Align::Right), ("share", Align::Right), ("", Align::Left)];
    let mut body =
        note(&format!("{} planned, {} sent, {} not sent.", counts.planned, counts.sent, counts.not_sent));
    body.add(table(&head(columns), lines.collect()));
    if 0 < counts.failed {
        body.raw("<h3>Where the failures happened</h3>\n");
        let lines = FailurePlaces::of(reported.run).all().into_iter().map(|(place, hint, n)| {
            [place, &n.to_string(), &percent(n, counts.failed), hint].map(Html::of).into()
        });
        let columns = [
            ("Place", Align::Left),
            ("failures", Align::Right),
            ("share", Align::Right),
            ("points at", Align::Left),
        ];
        body.add(table(&head(columns), lines.collect()));
        body.add(examples(reported));
    }
    Some(Section { id: "outcomes", title: "Outcomes", body })
}

/// A bar as long as the share is great; nothing to read that the table does not say.
pub(super) fn bar(part: usize, whole: usize, failure: bool) -> Html {
    // A single failure among thousands is still to be seen.
    let least = if part == 0 { 0.0 } else { 1.0 };
    let width = (100.0 * part as f64 / whole.max(1) as f64).max(least);
    let mut html = Html::new();
    html.raw(if failure {
        "<svg class=\"bar failure\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
    } else {
        "<svg class=\"bar\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
    });
    html.raw("<rect height=\"8\" width=\"").text(&format!("{width:.2}")).raw("\"/></svg>");
    html
}

fn examples(reported: &Reported<'_>) -> Html {
    let failed = reported.run.main().filter(|record| record.outcome.is_failure());
    let lines: Vec<Vec<Html>> = failed
        .take(EXAMPLES)
        .map(|record| {
            let error: String =
                plain(record.error.as_deref().unwrap_or("–")).chars().take(ERROR_CHARACTERS).collect();
            let mut cells = vec![Html::of(&record.i.to_string())];
            cells.push(Html::of(&plain(&record.id)).within("<span class=\"id\">", "</span>"));
            cells.extend([record.outcome.word(), record.ended_in.word()].map(Html::of));
            cells.push(Html::of(&error).within("<div class=\"foreign\">", "</div>"));
            cells
        })
        .collect();
    let columns = ["#", "id", "outcome", "ended in", "error"].map(|name| (name.to_owned(), Align::Left));
    let mut html = Html::new();
    html.raw("<h3>The first failures</h3>\n").add(table(&columns, lines));
    html
}
