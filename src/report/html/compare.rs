use super::super::chart::{BLUE, GREEN, Interval, IntervalChart, Marker, ORANGE};
use super::super::compared::{
    finding_words, heading, letter, notes, range_words, row_name, standing_words, weight_words,
};
use super::super::text::{MISSING, decimals, fixed, plain};
use super::charts::{figure, gallery};
use super::markup::{Align, Html, note, table as markup_table};
use super::{Document, Section};
use crate::measure::compare::{DifferingFact, Row, Table};

/// The comparison as a page of its own.
pub fn compare_html(table: &Table, version: &str) -> String {
    let sections = vec![runs(table), settings(table), numbers(table), how_to_read(table)];
    let title = "Runs side by side";
    let mut head = Html::new();
    head.raw("<p class=\"eyebrow\"><span>pdbench compare</span></p>\n<h1>").text(title).raw("</h1>\n");
    let footer = format!("Made by {version}.");
    Document { title: &format!("{title} · pdbench"), head, sections, footer: &footer, data: None }.page()
}

fn heads(names: &[&str]) -> Vec<(String, Align)> {
    let align = |nth| if nth == 0 { Align::Left } else { Align::Right };
    names.iter().enumerate().map(|(nth, name)| ((*name).to_owned(), align(nth))).collect()
}

fn words(cells: Vec<String>) -> Vec<Html> {
    cells.iter().map(|cell| Html::of(cell)).collect()
}

fn runs(table: &Table) -> Section {
    let head = ["", "Run", "Verdict"].map(|name| (name.to_owned(), Align::Left));
    let rows = table.sides.iter().enumerate().flat_map(|(nth, side)| {
        let mark = if nth == table.baseline { " (baseline)" } else { "" };
        side.runs.iter().map(move |run| {
            words(vec![format!("{}{mark}", letter(nth)), plain(&run.name), standing_words(run)])
        })
    });
    Section { id: "runs", title: "Runs", body: markup_table(&head, rows.collect()) }
}

fn settings(table: &Table) -> Section {
    let mut body = Html::new();
    if table.facts.is_empty() {
        body.add(note("None of those that are recorded."));
    } else {
        let mut head = vec![("Setting".to_owned(), Align::Left), ("Weight".to_owned(), Align::Left)];
        head.extend((0..table.sides.len()).map(|nth| (letter(nth), Align::Left)));
        let row = |fact: &DifferingFact| {
            let values = fact.values.iter().map(|value| plain(value.as_deref().unwrap_or(MISSING)));
            words([plain(&fact.name), fact.weight.word().to_owned()].into_iter().chain(values).collect())
        };
        body.add(markup_table(&head, table.facts.iter().map(row).collect()));
        let mut weights: Vec<&str> = table.facts.iter().map(|fact| fact.weight.word()).collect();
        weights.dedup();
        for weight in weights {
            body.add(note(weight_words(weight)));
        }
    }
    let untold = table.untold.iter().map(|(name, sides)| {
        let letters: Vec<String> = sides.iter().map(|&nth| letter(nth)).collect();
        format!("{name} ({})", letters.join(", "))
    });
    let untold: Vec<String> = untold.collect();
    if !untold.is_empty() {
        body.add(note(&format!("Not told: {}.", untold.join("; "))));
    }
    Section { id: "settings", title: "Settings that differ", body }
}

fn numbers(table: &Table) -> Section {
    let mut body = Html::new();
    for nth in (0..table.sides.len()).filter(|nth| *nth != table.baseline) {
        body.add(against(table, nth));
    }
    Section { id: "numbers", title: "Numbers", body }
}

fn against(table: &Table, nth: usize) -> Html {
    let (from, to) = (letter(table.baseline), letter(nth));
    let title = format!("{to} against {from}");
    let minus = format!("{to} − {from}");
    let head = heads(&[&title, &from, &to, &minus, "in %", "95 %", "Difference"]);
    let mut body = Html::new();
    let mut groups: Vec<_> = table.rows.iter().map(|row| row.what.group).collect();
    groups.dedup();
    for group in groups {
        let rows = table.rows.iter().filter(|row| row.what.group == group);
        body.raw("<h3>").text(heading(group)).raw("</h3>\n");
        body.add(markup_table(&head, rows.map(|row| words(line(table, row, nth))).collect()));
    }
    body.add(gallery(chart(table, nth, &title).into_iter().collect()));
    body
}

fn line(table: &Table, row: &Row, nth: usize) -> Vec<String> {
    let (from, to) = (row.cells[table.baseline].value, row.cells[nth].value);
    let places = decimals(from.into_iter().chain(to).reduce(f64::max));
    let difference = row.differences[nth].as_ref();
    let signed = |value: f64| format!("{value:+.places$}");
    let interval = difference.and_then(|difference| difference.interval);
    let interval = interval.map(|(low, high)| format!("{} … {}", signed(low), signed(high)));
    let interval = difference.and_then(range_words).map(str::to_owned).or(interval);
    let relative = difference.and_then(|difference| difference.relative);
    vec![
        row_name(table, row),
        fixed(from, places),
        fixed(to, places),
        difference.map_or(MISSING.to_owned(), |difference| signed(difference.absolute)),
        relative.map_or(MISSING.to_owned(), |share| format!("{:+.1}", 100.0 * share)),
        interval.unwrap_or(MISSING.to_owned()),
        difference
            .and_then(|difference| finding_words(difference, row.what.better))
            .unwrap_or(MISSING.to_owned()),
    ]
}

/// The differences that have an interval, in percent of the baseline: green for the better, orange for the worse.
fn chart(table: &Table, nth: usize, title: &str) -> Option<Html> {
    let interval = |row: &Row| {
        let difference = row.differences[nth].as_ref()?;
        let (low, high) = difference.relative_interval?;
        Some(Interval {
            name: row_name(table, row),
            colour: match difference.is_better(row.what.better) {
                Some(true) => GREEN,
                Some(false) => ORANGE,
                None => BLUE,
            },
            value: 100.0 * difference.relative?,
            ends: (100.0 * low, 100.0 * high),
        })
    };
    let rows: Vec<Interval> = table.rows.iter().filter_map(interval).collect();
    let svg = IntervalChart {
        label: title,
        unit: "%",
        rows: &rows,
        markers: &[Marker { label: "no difference".to_owned(), value: 0.0 }],
    }
    .svg()?;
    Some(figure(title, "in % of the baseline, with 95 % intervals", &svg))
}

fn how_to_read(table: &Table) -> Section {
    let mut body = Html::new();
    for words in notes(table) {
        body.add(note(&words));
    }
    Section { id: "how-to-read", title: "How to read this page", body }
}
