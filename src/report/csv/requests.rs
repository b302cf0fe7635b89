use super::super::Reported;
use super::{cell, csv_bytes, number_cell, text_cell};
use crate::measure::{Definition, Flag, METRICS, Metric, Offset, Per, RequestRecord};

/// A column: its name, and its cell of a record.
type Column = (&'static str, fn(&RequestRecord) -> String);

/// What stands before the metrics. Times in milliseconds since the run's origin, to a tenth of a microsecond.
const BEFORE: &[Column] = &[
    ("i", |record| record.i.to_string()),
    ("kind", |record| text_cell(&word(record.kind))),
    ("id", |record| text_cell(&record.id)),
    ("outcome", |record| record.outcome.word().to_owned()),
    ("ended_in", |record| record.ended_in.word().to_owned()),
    ("scheduled_ms", |record| instant(Some(record.scheduled))),
    ("ready_ms", |record| instant(record.ready)),
    ("sent_ms", |record| instant(record.sent)),
    ("connected_ms", |record| instant(record.connected)),
    ("headers_ms", |record| instant(record.headers)),
    ("first_token_ms", |record| instant(record.events.first())),
    ("finished_ms", |record| instant(Some(record.finished))),
];

/// What stands behind them.
const AFTER: &[Column] = &[
    ("events", |record| record.events.len().to_string()),
    ("coalesced", |record| record.flags.get(&Flag::Coalesced).copied().unwrap_or(0).to_string()),
    ("node", |record| text_cell(record.node.as_deref().unwrap_or_default())),
    ("stage", |record| cell(record.stage)),
    ("prompt_tokens", |record| record.prompt_tokens.to_string()),
    ("output_tokens", |record| record.output_tokens.to_string()),
    ("cached_tokens", |record| cell(record.cached_tokens)),
    ("finish_reason", |record| text_cell(record.finish_reason.as_deref().unwrap_or_default())),
    ("http_status", |record| cell(record.http_status)),
    ("error", |record| text_cell(record.error.as_deref().unwrap_or_default())),
];

/// A row for each record of the run, of every kind; a column for each metric that has one value a request, by our definition.
pub fn requests_csv(reported: &Reported<'_>) -> Vec<u8> {
    let metrics: Vec<&Metric> = METRICS.iter().filter(|metric| metric.per == Per::Request).collect();
    let names = |columns: &[Column]| columns.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
    let metric_names = metrics.iter().map(|metric| format!("{}_{}", metric.key, metric.unit.word()));
    let head: Vec<String> = names(BEFORE).into_iter().chain(metric_names).chain(names(AFTER)).collect();
    let rows = reported.run.records.iter().map(|record| {
        let values = metrics.iter().map(|metric| number_cell(metric.value(record, Definition::Strict), 4));
        let before = BEFORE.iter().map(|(_, cell)| cell(record));
        before.chain(values).chain(AFTER.iter().map(|(_, cell)| cell(record))).collect()
    });
    csv_bytes(&head, rows)
}

fn instant(at: Option<Offset>) -> String {
    number_cell(at.map(|at| at.as_us() / 1000.0), 4)
}

/// The word that the record's file has for a value.
fn word(value: impl serde::Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    json.as_str().unwrap_or_default().to_owned()
}
