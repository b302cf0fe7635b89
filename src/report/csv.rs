//! Tables for spreadsheets and data frames: a row a request, a row a number, a row a bin of time, a row a question.
//! A missing value is an empty cell. A cell of text that a spreadsheet would take for a formula gets a
//! `'` in front. Deliberately absent: anything that is not in the records or the summary.

mod accuracy;
mod compare;
mod documents;
mod ladder;
mod repeat;
mod requests;
mod server;
mod summary;
#[cfg(test)]
mod tests;
mod timeline;

pub use compare::compare_csv;
pub use documents::documents_csv;
pub use ladder::ladder_csv;
pub use repeat::repeat_csv;
pub use requests::requests_csv;
pub use server::{anatomy_csv, nodes_csv};
pub use summary::summary_csv;
pub use timeline::timeline_csv;

use super::text::plain;

/// Foreign text as a cell: no control characters, and never the start of a formula.
fn text_cell(text: &str) -> String {
    let text = plain(text);
    let formula = text.trim_start().starts_with(['=', '+', '-', '@']);
    if formula { format!("'{text}") } else { text }
}

/// A number with that many decimals, or an empty cell.
fn number_cell(value: Option<f64>, decimals: usize) -> String {
    value.filter(|value| value.is_finite()).map(|value| format!("{value:.decimals$}")).unwrap_or_default()
}

/// Anything that prints itself, or an empty cell.
fn cell(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// The rows as CSV, the head first.
fn csv_bytes(head: &[String], rows: impl Iterator<Item = Vec<String>>) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in std::iter::once(head.to_vec()).chain(rows) {
        writer.write_record(&row).expect("memory takes every row, and all rows have the head's cells");
    }
    writer.into_inner().expect("memory takes every byte")
}
