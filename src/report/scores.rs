//! What an accuracy run came to, for programs: `pdbench_scores.json`.

use super::Reported;
use super::accuracy::arm_latency;
use crate::measure::AccuracyResult;
use serde_json::{Value, json};

/// The file's bytes: verdict, what was asked, what came of it, and how long answers took; JSON, indented, with a line end.
pub fn scores_bytes(reported: &Reported<'_>) -> Vec<u8> {
    let (run, summary) = (reported.run, reported.summary);
    let manifest = &run.manifest;
    let view = &summary.strict;
    let scores = json!({
        "schema": manifest.schema,
        "run_id": manifest.run_id,
        "version": manifest.version,
        "state": manifest.state,
        "simulated": manifest.target.simulated,
        "validity": summary.validity,
        "warnings": summary.warnings,
        "asked": manifest.accuracy,
        "result": run.accuracy,
        "latency": run.accuracy.as_ref().map(|result| latencies(reported, result)),
        "throughput": {
            "duration_s": view.duration_s,
            "request_throughput_per_s": view.request_throughput_per_s,
            "output_throughput_per_s": view.output_throughput_per_s,
        },
        "client": summary.client,
    });
    let mut bytes = serde_json::to_vec_pretty(&scores).expect("a map of JSON values is JSON");
    bytes.push(b'\n');
    bytes
}

/// Times from send to end of the answers, by arm.
fn latencies(reported: &Reported<'_>, result: &AccuracyResult) -> Vec<Value> {
    let facts = reported.run.manifest.accuracy.as_ref();
    let percentiles = reported.run.manifest.settings.all_percentiles();
    let of = |arm: usize| {
        json!({
            "arm": facts.map(|facts| facts.arm_name(arm)),
            "e2el_ms": arm_latency(result, arm, &percentiles),
        })
    };
    (0..result.arms.len()).map(of).collect()
}
