use super::super::console::rate_word;
use super::{cell, csv_bytes, text_cell};
use crate::measure::RunFile;
use crate::measure::compare::Spread;
use crate::measure::ladder::{COLUMNS, Column, Ladder, Rung};

/// What several runs have in common.
type Statistic = fn(&Spread) -> Option<f64>;

/// A row for each run; behind those of one rate, where they are several, mean, interval and range.
pub fn ladder_csv(ladder: &Ladder) -> Vec<u8> {
    let head = ["rate_per_s", "row", "run_id", "seed", "verdict", "client", "sent", "ok", "failed"];
    let head = head.into_iter().chain(COLUMNS.iter().map(|column| column.key));
    let head: Vec<String> = head.map(str::to_owned).collect();
    let rows = ladder.rungs.iter().flat_map(|rung| {
        let runs = rung.runs.iter().map(|run| of_run(rung, run));
        runs.chain(together(rung)).collect::<Vec<_>>()
    });
    csv_bytes(&head, rows)
}

fn of_run(rung: &Rung, run: &RunFile) -> Vec<String> {
    let summary = run.summary.as_ref();
    let mut row = vec![
        rate_word(rung),
        "run".to_owned(),
        text_cell(&run.manifest.run_id),
        run.manifest.settings.seed.to_string(),
        run.standing_word().to_owned(),
        summary.map_or("", |summary| summary.client.state.word()).to_owned(),
        cell(summary.map(|summary| summary.counts.sent)),
        cell(summary.map(|summary| summary.counts.ok)),
        cell(summary.map(|summary| summary.counts.failed)),
    ];
    row.extend(COLUMNS.iter().map(|column| cell(summary.and_then(column.value))));
    row
}

fn together(rung: &Rung) -> Vec<Vec<String>> {
    if rung.runs.len() < 2 {
        return Vec::new();
    }
    let statistics: [(&str, Statistic); 5] = [
        ("mean", |spread| Some(spread.mean)),
        ("low", |spread| Some(spread.interval?.0)),
        ("high", |spread| Some(spread.interval?.1)),
        ("least", |spread| Some(spread.range.0)),
        ("greatest", |spread| Some(spread.range.1)),
    ];
    let row = |(name, value): (&str, Statistic)| {
        let mut row = vec![rate_word(rung), name.to_owned()];
        row.resize(9, String::new());
        let of = |column: &Column| cell(rung.spread(column).as_ref().and_then(value));
        row.extend(COLUMNS.iter().map(of));
        row
    };
    statistics.into_iter().map(row).collect()
}
