use super::super::testing::{HOSTILE, golden, with};
use super::*;
use crate::measure::Outcome;

fn result(change: impl FnOnce(&mut Run)) -> Map<String, Value> {
    let mut result = Map::new();
    with(|run, _| change(run), |reported| result = vllm_result(reported));
    result
}

#[test]
fn the_result_is_as_before() {
    with(
        |run, _| {
            let settings = &mut run.manifest.settings;
            settings.vllm_result = Some(Detail::Detailed);
            settings.metadata = Map::from_iter([("version".to_owned(), json!("0.3.3"))]);
            settings.percentile_metrics =
                METRICS.iter().filter_map(|m| Some(m.vllm?.key.to_owned())).collect();
            run.records[3].text = Some(HOSTILE.to_owned());
        },
        |reported| golden("vllm-result.json", &vllm_result_bytes(reported)),
    );
}

#[test]
fn a_list_has_an_item_for_each_request_and_zeros_for_the_failed() {
    let result = result(|run| run.manifest.settings.vllm_result = Some(Detail::Detailed));
    for key in ["input_lens", "ttfts", "itls", "latencies", "start_times", "queue_times", "errors"] {
        assert_eq!(result[key].as_array().map(Vec::len), Some(12), "{key}");
    }
    // The record 4 failed before its first token, the record 8 in its stream; the probe is no item.
    let at = |key: &str, record: usize| result[key][record - 1].clone();
    assert_eq!(
        (at("output_lens", 4), at("latencies", 4), at("ttfts", 4)),
        (json!(0), json!(0.0), json!(0.0))
    );
    assert_eq!(at("itls", 4), json!([]));
    assert_eq!(
        (at("output_lens", 8), at("latencies", 8), at("ttfts", 8)),
        (json!(0), json!(0.0), json!(0.0579))
    );
    assert_eq!(at("itls", 8), json!([0.01, 0.01, 0.01]));
    assert!(at("errors", 4).as_str().is_some_and(|text| text.starts_with("http_5xx: ")));
    assert_eq!((at("errors", 1), at("queue_times", 6)), (json!(""), json!(0.12)));
}

#[test]
fn what_was_not_measured_is_vllms_zero() {
    let mut result = Map::new();
    with(
        |run, summary| {
            run.records.clear();
            *summary = super::super::testing::summary(run);
            summary.vllm.duration_s = None;
        },
        |reported| result = vllm_result(reported),
    );
    assert_eq!((&result["duration"], &result["mean_ttft_ms"]), (&json!(0.0), &json!(0.0)));
    assert_eq!(result["latencies"], json!([]));
}

#[test]
fn metadata_stands_behind_the_number_of_prompts_and_hides_nothing_measured() {
    let result = result(|run| {
        let pairs = [("tp", "1"), ("backend", "mine"), ("duration", "long"), ("pdbench", "x")];
        run.manifest.settings.metadata =
            pairs.map(|(key, value)| (key.to_owned(), json!(value))).into_iter().collect();
    });
    let keys: Vec<&str> = result.keys().map(String::as_str).collect();
    assert_eq!(&keys[6..10], ["num_prompts", "tp", "duration", "request_rate"]);
    assert_eq!((&result["backend"], result["duration"].is_f64()), (&json!("mine"), true));
    assert_eq!((keys.last(), result["pdbench"].is_object()), (Some(&"pdbench"), true));
}

#[test]
fn a_ramp_tells_when_it_passed_each_whole_rate() {
    let result = result(|run| {
        run.manifest.settings.request_rate = None;
        run.manifest.settings.ramp_up =
            Some(RampUp { strategy: "linear".to_owned(), start_rps: 1.0, end_rps: 3.5 });
    });
    assert_eq!((&result["request_rate"], &result["ramp_up_start_rps"]), (&json!("inf"), &json!(1)));
    assert_eq!(result["ramp_up_end_rps"], json!(3.5));
    // Rates 1, 1.23, 1.45, … over 12 requests: 2 is passed at the sixth, 3 at the tenth.
    assert_eq!(
        result["rps_change_events"],
        json!([
            {"rps": 1, "timestamp": "2026-01-02T03:04:06"},
            {"rps": 2, "timestamp": "2026-01-02T03:04:06.600000"},
            {"rps": 3, "timestamp": "2026-01-02T03:04:07"},
        ])
    );
}

#[test]
fn the_file_is_named_as_vllm_names_it() {
    let mut run = super::super::testing::run();
    let manifest = &mut run.manifest;
    manifest.settings.label = None;
    manifest.target.model = "/models/deep-seek".to_owned();
    manifest.started = "2026-01-02T04:04:05.000000+01:00".to_owned();
    assert_eq!(vllm_result_name(manifest), "openai-10.0qps-concurrency4-deep-seek-20260102-040407.json");
    (manifest.settings.request_rate, manifest.settings.max_concurrency) = (None, None);
    assert_eq!(vllm_result_name(manifest), "openai-infqps-deep-seek-20260102-040407.json");
    manifest.settings.ramp_up =
        Some(RampUp { strategy: "exponential".to_owned(), start_rps: 1.0, end_rps: 2.5 });
    let name = "openai-ramp-up-exponential-1qps-2.5qps-deep-seek-20260102-040407.json";
    assert_eq!(vllm_result_name(manifest), name);
}

#[test]
fn no_name_leads_out_of_the_directory() {
    let mut run = super::super::testing::run();
    run.manifest.settings.label = Some("../../up\u{1b}[31m".to_owned());
    run.manifest.target.model = format!("a/..\\b{}", "x".repeat(500));
    let name = vllm_result_name(&run.manifest);
    assert!(
        name.starts_with(".._.._up") && !name.contains(['/', '\\', '\u{1b}']) && name.len() < 255,
        "{name}"
    );
}

#[test]
fn floats_are_printed_as_python_prints_them() {
    let table = [
        (10.0, "10.0"),
        (0.5, "0.5"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (1.5e-7, "1.5e-07"),
        (1e16, "1e+16"),
        (f64::INFINITY, "inf"),
    ];
    for (value, text) in table {
        assert_eq!(python::float(value), text);
    }
}

#[test]
fn a_failure_without_words_is_named_by_its_outcome() {
    let mut run = super::super::testing::run();
    run.records[4].error = None;
    assert_eq!((error(&run.records[4]), error(&run.records[1])), ("http_5xx".to_owned(), String::new()));
    assert_eq!(run.records[4].outcome, Outcome::Http5xx);
}
