use super::super::Reported;
use super::{cell, csv_bytes, number_cell, text_cell};
use crate::measure::BatchResult;

/// A row for each batch of replicas, then one for each of its decode instances. Empty but for its head in a run without.
pub fn repeat_csv(reported: &Reported<'_>) -> Vec<u8> {
    let head = [
        "batch",
        "node",
        "valid",
        "replicas",
        "ok",
        "streams",
        "decode_tok_per_s",
        "tpot_p50_ms",
        "tpot_p99_ms",
        "itl_p50_ms",
        "itl_p99_ms",
        "ttft_p50_ms",
        "ttft_p99_ms",
        "plateau_start_s",
        "plateau_end_s",
        "plateau_tokens",
        "tok_per_s_with_ramp_and_drain",
        "balance_replicas",
        "balance_tok_per_s",
        "prefill_requests",
        "prefill_ttft_p50_ms",
        "prefill_tok_per_s",
    ];
    let head: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    let rows = reported.summary.batches.iter().flat_map(rows);
    csv_bytes(&head, rows)
}

fn rows(batch: &BatchResult) -> Vec<Vec<String>> {
    let plateau = &batch.plateau;
    let prefill = batch.prefill.as_ref();
    let number = |value| number_cell(value, 4);
    let mut rows = vec![vec![
        plateau.expected.to_string(),
        String::new(),
        plateau.is_valid().to_string(),
        plateau.replicas.to_string(),
        plateau.ok.to_string(),
        plateau.streams.to_string(),
        number(plateau.decode_tok_per_s),
        number(plateau.tpot_ms.median),
        number(plateau.tpot_ms.value(99.0)),
        number(plateau.itl_ms.median),
        number(plateau.itl_ms.value(99.0)),
        number(plateau.ttft_ms.median),
        number(plateau.ttft_ms.value(99.0)),
        number(plateau.start_s),
        number(plateau.end_s),
        number(Some(plateau.tokens)),
        number(plateau.tok_per_s_with_ramp_and_drain),
        number(plateau.balance_replicas),
        number(plateau.balance_tok_per_s),
        cell(prefill.map(|prefill| prefill.requests)),
        number(prefill.and_then(|prefill| prefill.ttft_ms.median)),
        number(prefill.and_then(|prefill| prefill.prompt_tok_per_s)),
    ]];
    rows.extend(plateau.nodes.iter().map(|node| {
        let mut row = vec![
            plateau.expected.to_string(),
            text_cell(&node.node),
            String::new(),
            node.replicas.to_string(),
            node.ok.to_string(),
            String::new(),
            number(node.decode_tok_per_s),
            number(node.tpot_p50_ms),
            String::new(),
            String::new(),
            String::new(),
            number(node.ttft_p50_ms),
        ];
        row.resize(22, String::new());
        row
    }));
    rows
}
