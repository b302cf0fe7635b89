use super::super::Reported;
use super::{cell, csv_bytes, number_cell, text_cell};
use crate::measure::{AccuracyResult, ArmAnswer, DocumentResult};
use serde_json::Value;

/// A row for each question and arm, questions in order; two columns for each way of reading. Empty without questions.
pub fn documents_csv(reported: &Reported<'_>) -> Vec<u8> {
    let Some(result) = &reported.run.accuracy else { return Vec::new() };
    let facts = reported.run.manifest.accuracy.as_ref();
    let name = |arm: usize| facts.map_or_else(|| arm.to_string(), |facts| facts.arm_name(arm));
    let rows = result.documents.iter().flat_map(|document| {
        let answers = document.answers.iter().enumerate();
        answers.map(move |(arm, answer)| row(result, document, &name(arm), answer))
    });
    csv_bytes(&head(result), rows)
}

fn head(result: &AccuracyResult) -> Vec<String> {
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut head = named(&["doc_id", "arm"]);
    for filter in &result.filters {
        head.extend([text_cell(&format!("extracted_{filter}")), text_cell(&format!("right_{filter}"))]);
    }
    head.extend(named(&[
        "outcome",
        "error",
        "attempts",
        "finish_reason",
        "output_tokens",
        "latency_ms",
        "prompt_bytes",
        "i",
        "text",
    ]));
    head
}

fn row(result: &AccuracyResult, document: &DocumentResult, arm: &str, answer: &ArmAnswer) -> Vec<String> {
    let mut row = vec![document.doc_id.to_string(), text_cell(arm)];
    for nth in 0..result.filters.len() {
        match answer.read.get(nth) {
            Some((read, right)) => row.extend([text_cell(&extracted(read)), u8::from(*right).to_string()]),
            None => row.extend([String::new(), String::new()]),
        }
    }
    let (outcome, error) = match (&answer.texts, &answer.error) {
        (_, Some((outcome, error))) => (outcome.word(), error.as_str()),
        (Some(_), None) => ("ok", ""),
        // It was never asked: the run ended first.
        (None, None) => ("", ""),
    };
    row.extend([
        outcome.to_owned(),
        text_cell(error),
        answer.attempts.to_string(),
        text_cell(answer.finish_reason.as_deref().unwrap_or_default()),
        cell(answer.output_tokens),
        number_cell(answer.latency_ms, 4),
        document.prompt.len().to_string(),
        cell(answer.i),
        text_cell(
            &answer.texts.as_ref().map(|texts| texts.join(" | ")).unwrap_or_default().replace('\n', " "),
        ),
    ]);
    row
}

/// What was read, a list as JSON.
fn extracted(read: &Value) -> String {
    read.as_str().map_or_else(|| read.to_string(), str::to_owned)
}
