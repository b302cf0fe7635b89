//! The result file of `vllm bench serve --save-result`: its keys in its order, then one key of ours.

use super::Reported;
use super::fold::has;
use super::python;
use super::text::bare;
use crate::measure::{Detail, Distribution, METRICS, Manifest, Offset, RampUp, RequestRecord, Run};
use crate::wire::python_json::{Ascii, dumps};
use crate::workload::{Burstiness, Ramp};
use jiff::fmt::temporal::Pieces;
use jiff::tz::{Offset as ZoneOffset, TimeZone};
use jiff::{Timestamp, Zoned};
use serde_json::{Map, Value, json};

/// Most bytes of a name that is not ours inside of a file name.
const LONGEST_NAME: usize = 60;

/// What `vllm bench serve` would have saved. Times in lists are seconds; what does not exist is vLLM's 0.
/// The last key, `pdbench`, is ours.
pub fn vllm_result(reported: &Reported<'_>) -> Map<String, Value> {
    let manifest = &reported.run.manifest;
    let mut result = Map::new();
    let detailed = manifest.settings.vllm_result == Some(Detail::Detailed);
    let lists = lists(reported.run).into_iter().filter(|list| detailed || !list.detail);
    let (before, after) = totals(reported);
    let groups = [setup(manifest), before, lists.map(|list| (list.key, list.values)).collect(), after];
    for (key, value) in groups.into_iter().flatten() {
        result.insert(key.to_owned(), value);
        if key == "num_prompts" {
            // A key of the user's that vLLM has, too, keeps its place and, where it comes later, vLLM's value.
            result.extend(manifest.settings.metadata.clone());
        }
    }
    if let Some(ramp) = &manifest.settings.ramp_up {
        result.insert("rps_change_events".to_owned(), rate_changes(ramp, reported.run));
    }
    result.extend(statistics(reported));
    result.shift_remove("pdbench");
    result.insert("pdbench".to_owned(), own(reported));
    result
}

/// The bytes of the file: one line without an end, in the form of Python's `json.dump`.
pub fn vllm_result_bytes(reported: &Reported<'_>) -> Vec<u8> {
    dumps(&vllm_result(reported), Ascii::Escaped).expect("a map of JSON values is JSON").into_bytes()
}

/// The name that vLLM would have given the file: label or backend, load, model and the time of the end.
/// Names of users and servers appear in it without what could lead to another place.
pub fn vllm_result_name(manifest: &Manifest) -> String {
    let settings = &manifest.settings;
    let label = settings.label.as_deref().filter(|label| !label.is_empty());
    let label = harmless(label.unwrap_or(&manifest.target.backend));
    let limit = settings.max_concurrency.map_or(String::new(), |limit| format!("-concurrency{limit}"));
    let model = model_id(manifest).rsplit('/').next().unwrap_or_default();
    let load = match &settings.ramp_up {
        Some(RampUp { strategy, start_rps, end_rps }) => {
            format!("ramp-up-{strategy}-{}qps-{}qps", bare(*start_rps), bare(*end_rps))
        }
        None => format!("{}qps", python::float(settings.request_rate.unwrap_or(f64::INFINITY))),
    };
    format!("{label}-{load}{limit}-{}-{}.json", harmless(model), date(manifest))
}

/// A name as a part of a file name: no separator, nothing that steers a terminal, not too long.
fn harmless(name: &str) -> String {
    let kept = |c: char| if c == '/' || c == '\\' || c.is_control() { '_' } else { c };
    let mut harmless: String = super::plain(name).chars().map(kept).collect();
    let end = (0..=LONGEST_NAME).rev().find(|&end| harmless.is_char_boundary(end)).unwrap_or(0);
    harmless.truncate(end);
    harmless
}

fn model_id(manifest: &Manifest) -> &str {
    manifest.target.model_id.as_deref().unwrap_or(&manifest.target.model)
}

/// An instant of the run by the clock on the wall, in the zone where the run was made.
pub(super) fn wall(manifest: &Manifest, at: Offset) -> Zoned {
    let zone = Pieces::parse(&manifest.started).ok().and_then(|pieces| pieces.to_numeric_offset());
    let since_1970 = manifest.started_unix_us.saturating_add(at.tenths() / 10);
    let instant = i64::try_from(since_1970).ok().and_then(|us| Timestamp::from_microsecond(us).ok());
    instant.unwrap_or_default().to_zoned(TimeZone::fixed(zone.unwrap_or(ZoneOffset::UTC)))
}

/// When the main load had ended.
fn date(manifest: &Manifest) -> String {
    wall(manifest, manifest.main_end.unwrap_or_default()).strftime("%Y%m%d-%H%M%S").to_string()
}

type Entries = Vec<(&'static str, Value)>;

fn setup(manifest: &Manifest) -> Entries {
    let (settings, target) = (&manifest.settings, &manifest.target);
    let counter = &manifest.dataset.token_counter;
    let mut entries = vec![
        ("date", json!(date(manifest))),
        ("endpoint_type", json!(target.backend)),
        ("backend", json!(target.backend)),
        ("label", json!(settings.label)),
        ("model_id", json!(model_id(manifest))),
        ("tokenizer_id", json!((counter != "estimate").then_some(counter))),
        ("num_prompts", json!(settings.num_prompts)),
        ("request_rate", settings.request_rate.map_or(json!("inf"), |rate| json!(rate))),
        // Python would write `Infinity`, which is no JSON.
        ("burstiness", settings.burstiness.map_or(json!("inf"), |shape| json!(shape))),
        ("max_concurrency", json!(settings.max_concurrency)),
    ];
    if let Some(RampUp { strategy, start_rps, end_rps }) = &settings.ramp_up {
        entries.extend([
            ("ramp_up_strategy", json!(strategy)),
            ("ramp_up_start_rps", whole_if_it_is(*start_rps)),
            ("ramp_up_end_rps", whole_if_it_is(*end_rps)),
        ]);
    }
    entries
}

/// vLLM takes the ends of a ramp as whole numbers; ours may have a fraction.
fn whole_if_it_is(rate: f64) -> Value {
    if rate.fract() == 0.0 && rate.abs() < 1e15 { json!(rate as i64) } else { json!(rate) }
}

/// The numbers in front of the lists and those behind them.
fn totals(reported: &Reported<'_>) -> (Entries, Entries) {
    let (summary, view) = (reported.summary, &reported.summary.vllm);
    let number = |value: Option<f64>| json!(value.unwrap_or(0.0));
    let goodput = reported.run.manifest.settings.slo.is_empty().then_some(Value::Null);
    let before = vec![
        ("duration", number(view.duration_s)),
        ("completed", json!(summary.counts.ok)),
        ("failed", json!(summary.counts.failed)),
        ("total_input_tokens", json!(summary.tokens.input)),
        ("total_output_tokens", json!(summary.tokens.output)),
        ("request_throughput", number(view.request_throughput_per_s)),
        ("request_goodput", goodput.unwrap_or_else(|| number(view.request_goodput_per_s))),
        ("output_throughput", number(view.output_throughput_per_s)),
        ("total_token_throughput", number(view.total_token_throughput_per_s)),
    ];
    let after = vec![
        ("max_output_tokens_per_s", number(view.max_output_tokens_per_s)),
        ("max_concurrent_requests", json!(view.max_concurrent_requests.unwrap_or(0.0) as u64)),
        ("rtfx", json!(0.0)),
    ];
    (before, after)
}

/// A list with one item for each request, in the order in which they were due.
struct List {
    key: &'static str,
    /// Only with `--save-detailed`.
    detail: bool,
    values: Value,
}

fn lists(run: &Run) -> [List; 9] {
    let list = |key, detail, item: &dyn Fn(&RequestRecord) -> Value| List {
        key,
        detail,
        values: Value::Array(run.main().map(item).collect()),
    };
    let sent = |record: &RequestRecord| record.sent.unwrap_or(record.scheduled);
    [
        list("input_lens", true, &|record| json!(record.prompt_tokens)),
        list("output_lens", true, &|record| json!(if record.is_ok() { record.output_tokens } else { 0 })),
        list("ttfts", true, &|record| {
            json!(events(record).next().map_or(0.0, |first| first.seconds_since(sent(record))))
        }),
        list("itls", true, &|record| {
            let gaps = events(record).zip(events(record).skip(1));
            Value::Array(gaps.map(|(before, at)| json!(at.seconds_since(before))).collect())
        }),
        list("latencies", false, &|record| {
            let end = events(record).last().filter(|_| record.is_ok());
            json!(end.map_or(0.0, |end| end.seconds_since(sent(record))))
        }),
        list("start_times", true, &|record| json!(sent(record).as_secs_f64())),
        list("queue_times", false, &|record| {
            json!(record.ready_or_due().seconds_since(record.scheduled).max(0.0))
        }),
        list("generated_texts", true, &|record| {
            json!(record.text.as_deref().filter(|_| record.is_ok()).unwrap_or_default())
        }),
        list("errors", true, &|record| json!(error(record))),
    ]
}

/// What vLLM takes for tokens: a role-only chunk is one.
fn events(record: &RequestRecord) -> impl Iterator<Item = Offset> + '_ {
    record.role.into_iter().chain(record.events.iter())
}

/// Empty for an ok answer, else the outcome and what is known about it.
fn error(record: &RequestRecord) -> String {
    match (record.is_ok(), &record.error) {
        (true, _) => String::new(),
        (false, None) => record.outcome.word().to_owned(),
        (false, Some(error)) => format!("{}: {error}", record.outcome.word()),
    }
}

/// When a ramp passed each whole number of requests per second: at the request that first had that rate.
fn rate_changes(ramp_up: &RampUp, run: &Run) -> Value {
    let manifest = &run.manifest;
    let moment = |at| {
        let moment = wall(manifest, at);
        let form =
            if moment.subsec_nanosecond() < 1000 { "%Y-%m-%dT%H:%M:%S" } else { "%Y-%m-%dT%H:%M:%S.%6f" };
        moment.strftime(form).to_string()
    };
    let event = |rps: i64, at| json!({"rps": rps, "timestamp": moment(at)});
    let mut reached = ramp_up.start_rps as i64;
    let mut changes = vec![event(reached, manifest.main_start)];
    let shape = ramp_up.strategy.parse();
    let ramp =
        shape.and_then(|shape| Ramp::new(shape, ramp_up.start_rps, ramp_up.end_rps, Burstiness::Constant));
    for (i, record) in run.main().enumerate() {
        let rate = ramp.as_ref().map_or(0.0, |ramp| ramp.rate_at(i, manifest.settings.num_prompts));
        while reached < rate as i64 {
            reached += 1;
            changes.push(event(reached, record.scheduled));
        }
    }
    Value::Array(changes)
}

/// Mean, median, deviation and percentiles of each metric that vLLM would print.
fn statistics(reported: &Reported<'_>) -> Vec<(String, Value)> {
    let settings = &reported.run.manifest.settings;
    let mut entries = Vec::new();
    for metric in METRICS {
        let Some(names) = metric.vllm else { continue };
        let asked = settings.percentile_metrics.iter().any(|key| key == names.key);
        if !asked || !has(names.needs, settings) {
            continue;
        }
        let (key, unit) = (names.key, metric.unit.word());
        let none = Distribution::default();
        let distribution = reported.summary.vllm.distribution(metric.key).unwrap_or(&none);
        let mut put = |statistic: &str, value: Option<f64>| {
            entries.push((format!("{statistic}_{key}_{unit}"), json!(value.unwrap_or(0.0))));
        };
        put("mean", distribution.mean);
        put("median", distribution.median);
        put("std", distribution.std);
        for &p in &settings.percentiles {
            let value = distribution.value(p);
            put(&format!("p{}", bare(p)), value);
        }
    }
    entries
}

/// Parts of the manifest that say what was run, where and with what.
const MANIFEST: [&str; 13] = [
    "run_id",
    "verb",
    "version",
    "state",
    "interrupted_by",
    "started",
    "command_line",
    "settings",
    "host",
    "target",
    "stamps",
    "dataset",
    "sent_before",
];

/// What vLLM's keys cannot say: whether the numbers count, and what they are by our definitions.
fn own(reported: &Reported<'_>) -> Value {
    let summary = reported.summary;
    let manifest = serde_json::to_value(&reported.run.manifest).unwrap_or_default();
    let of_manifest = |key: &str| Some((key.to_owned(), manifest.get(key)?.clone()));
    json!({
        "schema": reported.run.manifest.schema,
        "simulated": reported.run.manifest.target.simulated,
        "validity": summary.validity,
        "client": summary.client,
        "warnings": summary.warnings,
        "counts": summary.counts,
        "strict": summary.strict,
        "rates": summary.rates,
        "manifest": MANIFEST.into_iter().filter_map(of_manifest).collect::<Map<_, _>>(),
    })
}

#[cfg(test)]
mod tests;
