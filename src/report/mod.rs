//! What a run looks like from outside: the console, tables for machines, one page for people, and the
//! files that hold the run itself. Every format is a pure function of [`Reported`] to bytes; only the
//! journal and the writer touch files.
//! Deliberately absent: metrics by name (formats loop over the metric table) and arithmetic on records
//! that belongs into a summary.

mod accuracy;
pub mod chart;
mod check;
mod console;
mod csv;
mod fold;
mod html;
mod journal;
mod lm_eval;
mod python;
mod run_file;
mod scores;
#[cfg(test)]
mod testing;
mod text;
mod vllm_json;
mod writer;

pub use console::{Style, console, strict_block, verdict_lines, vllm_block};
pub use csv::{documents_csv, repeat_csv, requests_csv, summary_csv, timeline_csv};
pub use html::report_html;
pub use journal::{BrokenLine, Journal, JournalSink, ReadBack, read_journal};
pub use lm_eval::{
    lm_eval_directory, lm_eval_headline, lm_eval_results, lm_eval_results_bytes, lm_eval_results_name,
    lm_eval_samples, lm_eval_samples_name, lm_eval_table,
};
pub use run_file::{RunFileError, read_run_file, run_file_bytes};
pub use scores::scores_bytes;
pub use text::plain;
pub use vllm_json::{vllm_result, vllm_result_bytes, vllm_result_name};
pub use writer::{
    Existing, WriteError, create_run_directory, probe_result, probe_writable, write_atomic, write_result,
};

use crate::measure::{Run, Summary, Timeline};

/// A run with what has been folded from it, once, for all formats.
#[derive(Clone, Copy, Debug)]
pub struct Reported<'a> {
    /// The run.
    pub run: &'a Run,
    /// Its numbers.
    pub summary: &'a Summary,
    /// Its course.
    pub timeline: &'a Timeline,
}

/// The derived files of a run directory, by name.
pub fn files(reported: &Reported<'_>) -> Vec<(&'static str, Vec<u8>)> {
    let mut files = vec![
        ("requests.csv", requests_csv(reported)),
        ("summary.csv", summary_csv(reported)),
        ("timeline.csv", timeline_csv(reported)),
        ("report.html", report_html(reported).into_bytes()),
    ];
    if !reported.summary.batches.is_empty() {
        files.push(("repeat.csv", repeat_csv(reported)));
    }
    if reported.run.accuracy.is_some() {
        files.push(("documents.csv", documents_csv(reported)));
        files.push(("pdbench_scores.json", scores_bytes(reported)));
        files.push(("lm_eval_results.json", lm_eval_results_bytes(reported)));
        files.push(("lm_eval_samples.jsonl", lm_eval_samples(reported.run).into_bytes()));
    }
    if reported.run.manifest.settings.vllm_result.is_some() {
        files.push(("vllm-result.json", vllm_result_bytes(reported)));
    }
    files
}
