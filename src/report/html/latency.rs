use super::super::Reported;
use super::super::fold::{PercentileCell, Row, columns, has, percentile_cell, rows, throughputs, too_few};
use super::super::text::{MISSING, bare, decimals, fixed, number};
use super::Section;
use super::markup::{Align, Html, note, table};
use crate::measure::{Definition, INTERVAL_METHOD, METRICS, PERCENTILE_METHOD, Per, Percentile};

/// The latencies by our own definitions, with their intervals.
pub(super) fn strict(reported: &Reported<'_>) -> Option<Section> {
    let rows = rows(reported, Definition::Strict);
    if rows.is_empty() {
        return None;
    }
    let percentiles = columns(&rows);
    let mut head = vec![("Metric".to_owned(), Align::Left)];
    let named = |name: &str| (name.to_owned(), Align::Right);
    head.extend(["mean", "p50"].map(named));
    head.extend(percentiles.iter().map(|&p| named(&format!("p{}", bare(p)))));
    head.extend(["max", "std", "n"].map(named));
    let lines = rows.iter().map(|row| line(reported, row, &percentiles)).collect();
    let mut body = note(match reported.run.accuracy {
        None => {
            "Ok requests only, from the send; from the schedule too where the two differ by more than 5 %."
        }
        Some(_) => "Ok requests of all arms, from the send.",
    });
    body.add(table(&head, lines));
    body.add(note(&format!("Percentiles: {PERCENTILE_METHOD}. Small figures: {INTERVAL_METHOD}.")));
    Some(Section { id: "latency", title: "Latency", body })
}

fn line(reported: &Reported<'_>, row: &Row<'_>, percentiles: &[f64]) -> Vec<Html> {
    let values = row.distribution;
    let places = decimals(values.max);
    let figure = |value| Html::of(&fixed(value, places));
    let mut cells = vec![name(row), figure(values.mean), median(row, places)];
    cells.extend(percentiles.iter().map(|&p| match percentile_cell(reported, row, p, places) {
        PercentileCell::Missing => Html::of(MISSING),
        PercentileCell::Value(percentile, figure) => with_interval(&figure, Some(percentile), places),
        PercentileCell::Censored(bound) => with_small(&bound, "cut by a time-out"),
        PercentileCell::TooFew(percentile) => {
            let extreme = if percentile.p < 50.0 { values.min } else { values.max };
            with_small(&fixed(extreme, places), &too_few(values.count, percentile).replacen(" (", "\n(", 1))
        }
    }));
    cells.extend([figure(values.max), figure(values.std), Html::of(&values.count.to_string())]);
    cells
}

fn name(row: &Row<'_>) -> Html {
    let mut html = Html::new();
    if row.from_schedule {
        return Html::of("from schedule").within("<span class=\"twin\">", "</span>");
    }
    let unit = match row.metric.per {
        Per::Request => row.metric.unit.word().to_owned(),
        Per::Gap => format!("{} per gap", row.metric.unit.word()),
    };
    html.text(&format!("{}, {unit}", row.metric.short));
    html.add(Html::of(row.metric.name).within("<small>", "</small>"));
    html
}

fn median(row: &Row<'_>, places: usize) -> Html {
    with_interval(&fixed(row.distribution.median, places), row.distribution.percentile(50.0), places)
}

fn with_interval(figure: &str, percentile: Option<&Percentile>, places: usize) -> Html {
    match percentile.and_then(|percentile| percentile.interval) {
        Some((low, high)) => {
            with_small(figure, &format!("{} – {}", fixed(Some(low), places), fixed(Some(high), places)))
        }
        None => Html::of(figure),
    }
}

fn with_small(figure: &str, small: &str) -> Html {
    let mut html = Html::of(figure);
    html.add(Html::of(small).within("<small>", "</small>"));
    html
}

/// The numbers as `vllm bench serve` defines them, apart from ours; it asks no questions.
pub(super) fn vllm(reported: &Reported<'_>) -> Option<Section> {
    if reported.run.accuracy.is_some() {
        return None;
    }
    let (settings, view) = (&reported.run.manifest.settings, &reported.summary.vllm);
    let mut head = vec![("Metric".to_owned(), Align::Left)];
    let named = |name: String| (name, Align::Right);
    head.extend(["mean", "median", "std"].map(|name| named(name.to_owned())));
    head.extend(settings.percentiles.iter().map(|&p| named(format!("P{}", bare(p)))));
    let mut lines = Vec::new();
    for metric in METRICS {
        let Some(names) = metric.vllm.filter(|names| has(names.needs, settings)) else { continue };
        let Some(values) = view.distribution(metric.key) else { continue };
        let figure = |value| Html::of(&fixed(value, 2));
        let mut cells = vec![Html::of(&format!("{} ({})", names.label, metric.unit.word()))];
        cells.extend([values.mean, values.median, values.std].map(figure));
        let percentiles = settings.percentiles.iter().map(|&p| values.percentile(p));
        cells.extend(percentiles.map(|found| figure(found.and_then(|percentile| percentile.value))));
        lines.push(cells);
    }
    let mut body = note(
        "The same run by the definitions of `vllm bench serve`, to compare with its results: role-only chunks \
         count as first tokens, and every percentile is printed however few values there are.",
    );
    body.add(table(&head, lines));
    let head =
        [("Total".to_owned(), Align::Left), named("value".to_owned()), ("unit".to_owned(), Align::Left)];
    let totals = throughputs(view).into_iter().filter(|(.., value)| value.is_some());
    let lines =
        totals.map(|(name, unit, value)| vec![Html::of(name), Html::of(&number(value)), Html::of(unit)]);
    body.add(table(&head, lines.collect()));
    Some(Section { id: "vllm", title: "vLLM’s definitions", body })
}
