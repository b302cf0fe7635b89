use super::super::chart::{BLUE, GREEN, LineChart, ORANGE, Series};
use super::super::console::{conclusions, failed_words, rate_word};
use super::super::text::{bare, counted, number, plain};
use super::charts::{figure, gallery};
use super::markup::{Align, Html, note, paragraph, table};
use super::{Document, Section};
use crate::measure::RunFile;
use crate::measure::ladder::{COLUMNS, Column, Ladder, Rung};

/// The page of a ladder: where it breaks, the curves over the rate, every run with a link to its own page.
pub fn ladder_html(ladder: &Ladder) -> String {
    let model = ladder.runs().next().map_or(String::new(), |run| plain(&run.manifest.target.model));
    let simulated = ladder.runs().any(|run| run.manifest.target.simulated);
    let mut head = Html::new();
    head.raw("<p class=\"eyebrow\"><span>pdbench serve</span> · ")
        .text(&counted(ladder.runs().count(), "run"));
    head.raw("</p>\n<h1>")
        .text(&model)
        .raw("</h1>\n<p class=\"where\">")
        .text(&plain(&ladder.id))
        .raw("</p>\n");
    if simulated {
        head.raw("<p class=\"simulated\"><span class=\"badge\">SIMULATED</span> ")
            .raw("The answers came from a simulator. This page states nothing about real hardware.</p>\n");
    }
    let sections = [said(ladder), curves(ladder), Some(runs(ladder))].into_iter().flatten().collect();
    let footer =
        format!("Made by {} from ladder {}. Each run has a page of its own.", ladder.version, ladder.id);
    let title = format!("{model} · pdbench serve, {}", counted(ladder.rungs.len(), "rate"));
    Document { title: &title, head, sections, footer: &footer, data: None }.page()
}

fn said(ladder: &Ladder) -> Option<Section> {
    let words = conclusions(ladder);
    let mut body = Html::new();
    for words in &words {
        body.add(paragraph(words));
    }
    (!words.is_empty()).then_some(Section { id: "result", title: "Where it breaks", body })
}

/// TTFT, TPOT and throughputs over the offered rate; `None` with fewer than two rates.
fn curves(ladder: &Ladder) -> Option<Section> {
    let mut rungs: Vec<(f64, &Rung)> =
        ladder.rungs.iter().filter_map(|rung| Some((rung.rate?, rung))).collect();
    rungs.sort_by(|one, two| one.0.total_cmp(&two.0));
    if rungs.len() < 2 {
        return None;
    }
    let points = |key: &str| {
        let column = COLUMNS.iter().find(|column| column.key == key);
        rungs
            .iter()
            .map(|(rate, rung)| (*rate, column.and_then(|column| of_rung(rung, column))))
            .collect::<Vec<_>>()
    };
    let offered = rungs.iter().map(|(rate, _)| (*rate, Some(*rate))).collect();
    let series = |name, colour, points| Series { name, colour, points };
    let charts = [
        (
            "Time to first token",
            "ms",
            vec![series("p50", BLUE, points("ttft_p50_ms")), series("p99", ORANGE, points("ttft_p99_ms"))],
        ),
        (
            "Time per output token",
            "ms",
            vec![series("p50", BLUE, points("tpot_p50_ms")), series("p99", ORANGE, points("tpot_p99_ms"))],
        ),
        (
            "Requests",
            "req/s",
            vec![
                series("offered", ORANGE, offered),
                series("achieved", BLUE, points("achieved_per_s")),
                series("good", GREEN, points("request_goodput_per_s")),
            ],
        ),
        ("Output tokens", "tok/s", vec![series("of ok requests", BLUE, points("output_throughput_per_s"))]),
    ];
    let figures = charts.into_iter().filter_map(|(caption, unit, series)| {
        let has = |series: &Series<'_>| series.points.iter().any(|point| point.1.is_some());
        let series: Vec<Series<'_>> = series.into_iter().filter(has).collect();
        let svg = LineChart { label: caption, unit, across: "req/s", series: &series }.svg()?;
        Some(figure(caption, "over the offered rate", &svg))
    });
    let mut body = note("Strict definitions. Of several runs at a rate, their mean.");
    body.add(gallery(figures.collect()));
    Some(Section { id: "curves", title: "Over the rate", body })
}

/// The number of a rung: of several runs their mean.
fn of_rung(rung: &Rung, column: &Column) -> Option<f64> {
    let alone = || rung.runs.iter().find_map(|run| column.value_of(run));
    rung.spread(column).map(|spread| spread.mean).or_else(alone)
}

fn runs(ladder: &Ladder) -> Section {
    let mut head: Vec<(String, Align)> =
        ["Rate, req/s", "Seed", "Verdict"].map(|name| (name.to_owned(), Align::Left)).to_vec();
    head.extend(COLUMNS.iter().map(|column| (format!("{}, {}", column.short, column.unit), Align::Right)));
    let rows = ladder.rungs.iter().flat_map(|rung| {
        let runs = rung.runs.iter().map(|run| row(rung, run));
        runs.chain(together(rung)).collect::<Vec<_>>()
    });
    Section { id: "runs", title: "Runs", body: table(&head, rows.collect()) }
}

fn row(rung: &Rung, run: &RunFile) -> Vec<Html> {
    let mut link = Html::new();
    link.raw("<a href=\"")
        .text(&run.manifest.run_id)
        .raw("/report.html\">")
        .text(&rate_word(rung))
        .raw("</a>");
    let seed = Html::of(&run.manifest.settings.seed.to_string());
    let mut cells = vec![link, seed, Html::of(&format!("{}{}", run.standing_word(), failed_words(run)))];
    cells.extend(COLUMNS.iter().map(|column| Html::of(&number(column.value_of(run)))));
    cells
}

/// Mean with its interval, or range, of the runs of one rate.
fn together(rung: &Rung) -> Option<Vec<Html>> {
    let several = 1 < rung.runs.len();
    let cell = |column: &Column| {
        let Some(spread) = rung.spread(column) else { return Html::of(&number(None)) };
        let words = match spread.interval {
            Some((_, high)) => {
                format!("{} ± {}", number(Some(spread.mean)), number(Some(high - spread.mean)))
            }
            None => format!("{} – {}", number(Some(spread.range.0)), number(Some(spread.range.1))),
        };
        Html::of(&words)
    };
    several.then(|| {
        let name = format!("{} together", rung.rate.map_or(rate_word(rung), bare));
        let enough = if rung.runs.len() < 5 { "range" } else { "mean ± 95 %" };
        let mut cells = vec![Html::of(&name), Html::of(&counted(rung.runs.len(), "run")), Html::of(enough)];
        cells.extend(COLUMNS.iter().map(cell));
        cells
    })
}
