//! The table that lm_eval prints, to the last space: scripts read it.

use super::super::plain;
use crate::measure::AccuracyResult;
use serde_json::Value;

/// Heads of the columns.
const HEADS: [&str; 9] = ["Tasks", "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"];

/// The scores of the first arm as lm_eval prints them, ways of reading by name; ends with an empty line, as `print` leaves
/// one.
pub fn lm_eval_table(result: &AccuracyResult) -> String {
    let none = Vec::new();
    let scores = result.arms.first().map_or(&none, |arm| &arm.scores);
    let mut readings: Vec<_> = result.filters.iter().zip(scores).collect();
    readings.sort_by_key(|(filter, _)| *filter);
    let rows: Vec<[String; 9]> = readings
        .iter()
        .enumerate()
        .map(|(nth, (filter, score))| {
            let first = |text: String| if nth == 0 { text } else { String::new() };
            let stderr = score.stderr.map_or("   N/A".to_owned(), |stderr| format!("{stderr:.4}"));
            [
                first(plain(&result.alias)),
                first(version(&result.version)),
                plain(filter),
                result.n_shot.to_string(),
                "exact_match".to_owned(),
                "↑".to_owned(),
                score.mean.map_or("N/A".to_owned(), |mean| format!("{mean:.4}")),
                "±".to_owned(),
                stderr,
            ]
        })
        .collect();
    table(&rows)
}

fn version(version: &Value) -> String {
    match version {
        Value::Null => "    N/A".to_owned(),
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

/// A column whose cells are numbers, or nothing, stands right, with as many decimals in all cells as the one that needs
/// most; trailing zeros are not needed.
struct Column {
    numeric: bool,
    decimals: usize,
}

fn table(rows: &[[String; 9]]) -> String {
    let columns: Vec<Column> =
        (0..HEADS.len()).map(|at| Column::of(rows.iter().map(|row| &*row[at]))).collect();
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().zip(&columns).map(|(cell, column)| column.cell(cell)).collect())
        .collect();
    let width = |at: usize| {
        let longest = cells.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        // A rule has at least three dashes.
        longest.max(HEADS[at].chars().count()).max(3)
    };
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    let heads = HEADS.iter().zip(&widths).map(|(head, &width)| centred(head, width));
    let rule = columns.iter().zip(&widths).map(|(column, &width)| {
        if column.numeric { format!("{}:", "-".repeat(width - 1)) } else { "-".repeat(width) }
    });
    let mut text = line(heads) + &line(rule);
    for row in &cells {
        let row = row.iter().zip(columns.iter().zip(&widths));
        text += &line(row.map(|(cell, (column, &width))| {
            let padding = " ".repeat(width - cell.chars().count());
            let cell = cell.replace('|', "\\|");
            if column.numeric { padding + &cell } else { cell + &padding }
        }));
    }
    text + "\n"
}

fn line(cells: impl Iterator<Item = String>) -> String {
    format!("|{}|\n", cells.collect::<Vec<_>>().join("|"))
}

fn centred(text: &str, width: usize) -> String {
    let free = width - text.chars().count();
    let left = free / 2;
    format!("{}{text}{}", " ".repeat(left), " ".repeat(free - left))
}

impl Column {
    fn of<'a>(cells: impl Iterator<Item = &'a str> + Clone) -> Self {
        let filled = || cells.clone().filter(|cell| !cell.is_empty());
        let numeric = filled().next().is_some() && filled().all(|cell| cell.parse::<f64>().is_ok());
        let decimals = filled().filter_map(|cell| cell.parse().ok()).map(needed).max().unwrap_or(0);
        Self { numeric, decimals }
    }

    fn cell(&self, cell: &str) -> String {
        match cell.parse::<f64>() {
            Ok(number) if self.numeric => format!("{number:.*}", self.decimals),
            Ok(number) => format!("{number:.*}", needed(number)),
            Err(_) => cell.to_owned(),
        }
    }
}

/// Decimals that a number needs.
fn needed(number: f64) -> usize {
    format!("{number}").split_once('.').map_or(0, |(_, decimals)| decimals.len())
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::accuracy_result;
    use super::*;
    use serde_json::json;

    /// What lm_eval 0.4.13 prints of such scores: value and standard error by way of reading, in the order of the task.
    fn printed(scores: &[(&str, Option<f64>, Option<f64>)], version: Value) -> String {
        let mut result = accuracy_result();
        let score = result.arms[0].scores[0].clone();
        result.filters = scores.iter().map(|(filter, ..)| (*filter).to_owned()).collect();
        result.arms[0].scores = scores
            .iter()
            .map(|&(_, mean, stderr)| crate::measure::Score { mean, stderr, ..score.clone() })
            .collect();
        (result.alias, result.version, result.n_shot) = ("gsm8k".to_owned(), version, 3);
        lm_eval_table(&result)
    }

    #[test]
    fn the_table_is_that_of_lm_eval_to_the_last_space() {
        let text = printed(
            &[
                ("strict-match", Some(0.447_308_567_096_285_1), Some(0.013_695_795_709_089_898)),
                ("flexible-extract", Some(0.642_911_296_436_694_4), Some(0.013_197_931_775_445_208)),
            ],
            json!(3.0),
        );
        let expected = "\
|Tasks|Version|     Filter     |n-shot|  Metric   |   |Value |   |Stderr|
|-----|------:|----------------|-----:|-----------|---|-----:|---|-----:|
|gsm8k|      3|flexible-extract|     3|exact_match|↑  |0.6429|±  |0.0132|
|     |       |strict-match    |     3|exact_match|↑  |0.4473|±  |0.0137|

";
        assert_eq!(text, expected);
    }

    #[test]
    fn trailing_zeros_go_as_far_as_no_cell_needs_them() {
        let rows = |scores: &[(&str, Option<f64>, Option<f64>)]| -> Vec<String> {
            printed(scores, json!(3.0)).lines().skip(1).map(str::to_owned).collect()
        };
        let expected = [
            "|-----|------:|----------------|-----:|-----------|---|----:|---|-----:|",
            "|gsm8k|      3|flexible-extract|     3|exact_match|↑  |0.645|±  |0.0339|",
            "|     |       |strict-match    |     3|exact_match|↑  |0.040|±  |0.0139|",
            "",
        ];
        let scores =
            [("strict-match", Some(0.04), Some(0.0139)), ("flexible-extract", Some(0.645), Some(0.0339))];
        assert_eq!(rows(&scores), expected);
        let expected = [
            "|-----|------:|------|-----:|-----------|---|----:|---|-----:|",
            "|gsm8k|      3|a     |     3|exact_match|↑  |    1|±  |     0|",
            "|     |       |b     |     3|exact_match|↑  |    0|±  |     0|",
            "",
        ];
        assert_eq!(rows(&[("a", Some(1.0), Some(0.0)), ("b", Some(0.0), Some(0.0))]), expected);
        let expected = [
            "|-----|------:|------|-----:|-----------|---|----:|---|------|",
            "|gsm8k|      3|a     |     3|exact_match|↑  |    1|±  |   N/A|",
            "",
        ];
        assert_eq!(rows(&[("a", Some(1.0), None)]), expected);
    }

    #[test]
    fn a_version_that_is_a_word_stands_left() {
        let text = printed(&[("none", Some(0.5), Some(0.25))], json!("Yaml"));
        assert!(text.contains("|-----|-------|------|"), "{text}");
        assert!(text.contains("|gsm8k|Yaml   |none  |     3|exact_match|↑  |  0.5|±  |  0.25|"), "{text}");
    }
}
