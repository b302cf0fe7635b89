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

#[cfg(test)]
mod tests {
    use super::super::testing::with_accuracy;
    use super::*;

    #[test]
    fn scores_are_whole_for_programs_and_hold_no_text_of_an_answer() {
        with_accuracy(
            |_| (),
            |reported| {
                let bytes = scores_bytes(reported);
                let scores: Value = serde_json::from_slice(&bytes).unwrap();
                assert_eq!(scores["result"]["arms"][1]["scores"][1]["right"], 6);
                assert_eq!(scores["asked"]["margin"], 0.01);
                assert_eq!(scores["validity"]["reasons"][0]["fault"]["fault"], "margin_not_shown");
                // The first question has no answer from the candidate.
                let counts: Vec<_> =
                    (0..3).map(|arm| scores["latency"][arm]["e2el_ms"]["count"].clone()).collect();
                assert_eq!(counts, [7, 8, 8]);
                assert_eq!(scores["latency"][0]["e2el_ms"]["median"], 104.0);
                assert!(!String::from_utf8(bytes).unwrap().contains("nine and nine"));
            },
        );
    }

    #[test]
    fn an_accuracy_run_has_its_files_and_that_of_vllm_only_where_it_was_asked_for() {
        with_accuracy(
            |_| (),
            |reported| {
                let names: Vec<_> = super::super::files(reported).into_iter().map(|(name, _)| name).collect();
                let own =
                    ["documents.csv", "pdbench_scores.json", "lm_eval_results.json", "lm_eval_samples.jsonl"];
                assert_eq!(names[..4], ["requests.csv", "summary.csv", "timeline.csv", "report.html"]);
                assert_eq!(names[4..], own);
            },
        );
    }
}
