use super::super::Reported;
use super::{csv_bytes, number_cell};
use crate::measure::Bin;

/// A column: its name, and its cell of a bin with the bins' width in seconds.
type Column = (&'static str, fn(&Bin, f64) -> String);

const COLUMNS: &[Column] = &[
    ("start_s", |bin, _| number_cell(Some(bin.start_s), 3)),
    ("width_s", |_, width| number_cell(Some(width), 3)),
    ("scheduled", |bin, _| bin.scheduled.to_string()),
    ("sent", |bin, _| bin.sent.to_string()),
    ("finished_ok", |bin, _| bin.finished_ok.to_string()),
    ("failed", |bin, _| bin.failed.to_string()),
    ("cancelled", |bin, _| bin.cancelled.to_string()),
    ("in_flight", |bin, _| number_cell(Some(bin.in_flight), 3)),
    ("output_tokens", |bin, _| number_cell(Some(bin.output_tokens), 3)),
    ("output_tokens_per_s", |bin, width| number_cell(Some(bin.output_tokens / width), 3)),
    ("ttft_p50_ms", |bin, _| number_cell(bin.ttft_p50_ms, 4)),
];

/// A row for each bin of the time line.
pub fn timeline_csv(reported: &Reported<'_>) -> Vec<u8> {
    let head: Vec<String> = COLUMNS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let width = reported.timeline.bin_s;
    let rows = reported.timeline.bins.iter();
    csv_bytes(&head, rows.map(|bin| COLUMNS.iter().map(|(_, cell)| cell(bin, width)).collect()))
}
