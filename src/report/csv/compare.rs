use super::super::compared::letter;
use super::{cell, csv_bytes, text_cell};
use crate::measure::compare::{Difference, Finding, Row, Table};

/// A row for each number of each side.
pub fn compare_csv(table: &Table) -> Vec<u8> {
    let head = [
        "side",
        "name",
        "baseline",
        "runs",
        "metric",
        "statistic",
        "definition",
        "unit",
        "better",
        "value",
        "low",
        "high",
        "least",
        "greatest",
        "difference",
        "difference_low",
        "difference_high",
        "difference_percent",
        "basis",
        "finding",
    ];
    let head: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    let rows = table.rows.iter().flat_map(|row| (0..table.sides.len()).map(move |nth| line(table, row, nth)));
    csv_bytes(&head, rows)
}

fn line(table: &Table, row: &Row, nth: usize) -> Vec<String> {
    let (what, found, side) = (&row.what, &row.cells[nth], &table.sides[nth]);
    let number = |value: Option<f64>| cell(value.filter(|value| value.is_finite()));
    let (low, high) = found.interval.unzip();
    let (least, greatest) = found.spread.as_ref().map(|spread| spread.range).unzip();
    let difference = row.differences[nth].as_ref();
    let (below, above) = difference.and_then(|difference| difference.interval).unzip();
    let better = match what.better {
        crate::measure::Better::Lower => "lower",
        crate::measure::Better::Higher => "higher",
    };
    vec![
        letter(nth),
        text_cell(&side.name),
        (nth == table.baseline).to_string(),
        side.runs.len().to_string(),
        text_cell(&what.key),
        what.statistic.to_owned(),
        what.definition.map_or("", |definition| definition.word()).to_owned(),
        what.unit.to_owned(),
        better.to_owned(),
        number(found.value),
        number(low),
        number(high),
        number(least),
        number(greatest),
        number(difference.map(|difference| difference.absolute)),
        number(below),
        number(above),
        number(difference.and_then(|difference| difference.relative).map(|share| 100.0 * share)),
        difference.map_or("", |difference| difference.basis.word()).to_owned(),
        difference
            .and_then(|difference: &Difference| difference.finding)
            .map_or("", Finding::words)
            .to_owned(),
    ]
}
