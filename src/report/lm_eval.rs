//! The files that lm_eval (0.4.13) writes: its keys in its order, so that what reads those reads these. What only lm_eval
//! knows of itself is `null` or `N/A`; a last key, `pdbench`, is ours.

mod table;

pub use table::lm_eval_table;

use super::python::{self, strings};
use super::vllm_json::wall;
use super::{Reported, plain};
use crate::measure::{
    AccuracyFacts, AccuracyResult, ArmAnswer, DocumentResult, Manifest, Offset, Run, Score,
};
use crate::wire::python_json::{Ascii, dumps, dumps_indented};
use crate::wire::sha256;
use serde_json::{Map, Value, json};

/// Resamplings of lm_eval by default. A mean needs none; the key is lm_eval's.
const BOOTSTRAP_ITERS: u64 = 100_000;
/// Seeds of lm_eval by default. They draw nothing in a task like ours; the keys are lm_eval's.
const SEEDS: [(&str, u64); 3] = [("random_seed", 0), ("numpy_seed", 1234), ("torch_seed", 1234)];
/// Most bytes of a name that is not ours inside of a file name.
const LONGEST_NAME: usize = 120;
/// What stands for what only lm_eval knows.
const UNKNOWN: &str = "N/A";

/// What lm_eval would have saved as `results_….json`; empty for a run that asked nothing.
pub fn lm_eval_results(reported: &Reported<'_>) -> Map<String, Value> {
    let (run, manifest) = (reported.run, &reported.run.manifest);
    let (Some(result), Some(facts)) = (&run.accuracy, &manifest.accuracy) else { return Map::new() };
    let of_task = |value: Value| Value::Object(Map::from_iter([(result.task.clone(), value)]));
    let answered = result.arms.first().map_or(0, |arm| arm.answered);
    let source = model_source(facts);
    let chat = is_chat(facts);
    let entries = [
        ("results", of_task(scores(result, answered))),
        ("group_subtasks", json!({})),
        ("configs", of_task(Value::Object(task_config(facts)))),
        ("versions", of_task(result.version.clone())),
        ("n-shot", of_task(json!(result.n_shot))),
        ("higher_is_better", of_task(json!({"exact_match": true}))),
        ("n-samples", of_task(json!({"original": facts.documents, "effective": answered}))),
        ("config", config(facts, source)),
        ("git_hash", Value::Null),
        ("date", json!(manifest.started_unix_us as f64 / 1e6)),
        ("pretty_env_info", json!(UNKNOWN)),
        ("transformers_version", json!(UNKNOWN)),
        ("lm_eval_version", json!(UNKNOWN)),
        ("upper_git_hash", Value::Null),
        ("task_hashes", of_task(json!(result.task_hash))),
        ("model_source", json!(source)),
        ("model_name", json!(model_name(manifest))),
        ("model_name_sanitized", json!(sanitized(model_name(manifest)))),
        ("system_instruction", json!(facts.system_instruction)),
        ("system_instruction_sha", json!(facts.system_instruction.as_deref().map(sha256))),
        ("fewshot_as_multiturn", if chat { json!(facts.form == "multi-turn") } else { Value::Null }),
        ("chat_template", if chat { json!("") } else { Value::Null }),
        ("chat_template_sha", Value::Null),
        ("total_evaluation_time_seconds", json!(python::float(end(manifest).as_us() / 1e6))),
        ("pdbench", own(reported, facts)),
    ];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The bytes of that file.
pub fn lm_eval_results_bytes(reported: &Reported<'_>) -> Vec<u8> {
    dumps_indented(&lm_eval_results(reported)).expect("a map of JSON values is JSON").into_bytes()
}

/// What lm_eval would have saved as `samples_….jsonl`, of the first arm: a line for each way of reading and question, all
/// of one way first. A question without an answer has none.
pub fn lm_eval_samples(run: &Run) -> String {
    let (Some(result), Some(facts)) = (&run.accuracy, &run.manifest.accuracy) else { return String::new() };
    let mut lines = String::new();
    for (nth, filter) in result.filters.iter().enumerate() {
        for document in &result.documents {
            let Some(line) = sample(document, nth, filter, facts) else { continue };
            lines += &dumps(&line, Ascii::AsTheyAre).expect("a map of JSON values is JSON");
            lines.push('\n');
        }
    }
    lines
}

/// The directory of lm_eval's files below `--output-path`: the model's name without what has a meaning in a path.
pub fn lm_eval_directory(manifest: &Manifest) -> String {
    file_name(&sanitized(model_name(manifest)))
}

/// `results_<date>.json`.
pub fn lm_eval_results_name(manifest: &Manifest) -> String {
    format!("results_{}.json", date(manifest))
}

/// `samples_<task>_<date>.jsonl`.
pub fn lm_eval_samples_name(run: &Run) -> String {
    let task = run.accuracy.as_ref().map_or("", |result| &result.task);
    format!("samples_{}_{}.jsonl", file_name(task), date(&run.manifest))
}

/// The line that lm_eval prints over its table.
pub fn lm_eval_headline(facts: &AccuracyFacts) -> String {
    let limit = python::repr(&limit(facts));
    format!(
        "{} ({}), gen_kwargs: ({}), limit: {limit}, num_fewshot: {}, batch_size: {}",
        model_source(facts),
        plain(&python::repr(&Value::Object(facts.model_args.clone()))),
        plain(&python::repr(&Value::Object(facts.gen_kwargs.clone()))),
        facts.num_fewshot,
        facts.batch_size
    )
}

fn scores(result: &AccuracyResult, answered: usize) -> Value {
    let mut scores = Map::new();
    scores.insert("name".to_owned(), json!(result.task));
    scores.insert("alias".to_owned(), json!(result.alias));
    scores.insert("sample_len".to_owned(), json!(answered));
    let none = Vec::new();
    let of_first: &Vec<Score> = result.arms.first().map_or(&none, |arm| &arm.scores);
    for (filter, score) in result.filters.iter().zip(of_first) {
        let or_unknown = |value: Option<f64>| value.map_or(json!(UNKNOWN), |value| json!(value));
        scores.insert(format!("exact_match,{filter}"), or_unknown(score.mean));
        scores.insert(format!("exact_match_stderr,{filter}"), or_unknown(score.stderr));
    }
    Value::Object(scores)
}

/// The task's declaration with what the command line changed, and with the model's arguments, which lm_eval mixes in.
fn task_config(facts: &AccuracyFacts) -> Map<String, Value> {
    let mut config = facts.task.clone();
    config.insert("generation_kwargs".to_owned(), Value::Object(facts.generation.clone()));
    let shots = json!(facts.num_fewshot);
    match config.get_mut("num_fewshot") {
        Some(there) => *there = shots,
        None => {
            // Where lm_eval has it.
            let at = config.keys().position(|key| key == "fewshot_config").map_or(config.len(), |at| at + 1);
            config.shift_insert(at, "num_fewshot".to_owned(), shots);
        }
    }
    let metadata = config.entry("metadata").or_insert_with(|| json!({}));
    if let Value::Object(metadata) = metadata {
        metadata.extend(facts.model_args.clone());
    }
    config
}

fn config(facts: &AccuracyFacts, source: &str) -> Value {
    let mut config = Map::new();
    let mut put = |key: &str, value: Value| config.insert(key.to_owned(), value);
    put("model", json!(source));
    put("model_args", Value::Object(facts.model_args.clone()));
    put("batch_size", json!(facts.batch_size.to_string()));
    put("batch_sizes", json!([]));
    put("device", Value::Null);
    put("use_cache", Value::Null);
    put("limit", limit(facts));
    put("bootstrap_iters", json!(BOOTSTRAP_ITERS));
    put("gen_kwargs", Value::Object(facts.gen_kwargs.clone()));
    for (key, seed) in SEEDS {
        put(key, json!(seed));
    }
    put("fewshot_seed", json!(facts.fewshot_seed));
    Value::Object(config)
}

/// `--limit` as lm_eval keeps it: a float.
fn limit(facts: &AccuracyFacts) -> Value {
    match &facts.limit {
        Some(limit) => limit.as_f64().map_or_else(|| limit.clone(), |limit| json!(limit)),
        None => Value::Null,
    }
}

fn own(reported: &Reported<'_>, facts: &AccuracyFacts) -> Value {
    let manifest = &reported.run.manifest;
    json!({
        "version": manifest.version,
        "run_id": manifest.run_id,
        "validity": reported.summary.validity,
        "simulated": manifest.target.simulated,
        "own_documents": facts.own_documents,
        "form": facts.form,
        "errors": reported.run.accuracy.as_ref().and_then(|result| result.arms.first()).map(|arm| arm.errors),
    })
}

/// One line: what was asked, answered and read in one way. `None` without an answer.
fn sample(
    document: &DocumentResult,
    nth: usize,
    filter: &str,
    facts: &AccuracyFacts,
) -> Option<Map<String, Value>> {
    let answer: &ArmAnswer = document.answers.first()?;
    let (texts, (read, right)) = (answer.texts.as_ref()?, answer.read.get(nth)?);
    // A conversation is one element of a tuple there.
    let prompt = if document.chat { json!([document.prompt]) } else { json!(document.prompt) };
    let [doc_hash, prompt_hash, target_hash] = &document.hashes;
    let entries = [
        ("doc_id", json!(document.doc_id)),
        ("doc", Value::Object(document.doc.clone())),
        ("target", json!(document.target)),
        ("arguments", json!({"gen_args_0": {"arg_0": prompt, "arg_1": facts.generation}})),
        ("resps", json!([texts])),
        ("filtered_resps", json!([strings(read)])),
        ("filter", json!(filter)),
        ("metrics", json!(["exact_match"])),
        ("doc_hash", json!(doc_hash)),
        ("prompt_hash", json!(prompt_hash)),
        ("target_hash", json!(target_hash)),
        ("exact_match", json!(f64::from(u8::from(*right)))),
    ];
    Some(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn is_chat(facts: &AccuracyFacts) -> bool {
    ["multi-turn", "single-turn"].contains(&facts.form.as_str())
}

/// What lm_eval calls the way to such a server.
fn model_source(facts: &AccuracyFacts) -> &'static str {
    if is_chat(facts) { "local-chat-completions" } else { "local-completions" }
}

/// The name in the model's arguments, as lm_eval has it, or else that of the first arm.
fn model_name(manifest: &Manifest) -> &str {
    let facts = manifest.accuracy.as_ref();
    let named = facts.and_then(|facts| facts.model_args.get("model")).and_then(Value::as_str);
    named.unwrap_or_else(|| {
        facts.and_then(|facts| facts.arms.first()).map_or(&manifest.target.model, |arm| &arm.model)
    })
}

/// Each stretch of characters that have a meaning in a path becomes `__`.
fn sanitized(name: &str) -> String {
    let mut clean = String::new();
    let mut within = false;
    for c in name.chars() {
        let meant = "\"<>:/|\\?*[]".contains(c);
        match (meant, within) {
            (true, false) => clean += "__",
            (true, true) => {}
            (false, _) => clean.push(c),
        }
        within = meant;
    }
    clean
}

/// A name as a part of a path: never another place, nothing that steers a terminal, not too long.
fn file_name(name: &str) -> String {
    let kept = |c: char| if matches!(c, '/' | '\\') { '_' } else { c };
    let mut name: String = plain(name).chars().map(kept).collect();
    let end = (0..=LONGEST_NAME).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
    name.truncate(end);
    if name.chars().all(|c| c == '.') { "_".repeat(name.len().max(1)) } else { name }
}

fn end(manifest: &Manifest) -> Offset {
    manifest.main_end.unwrap_or_default()
}

/// When the run had ended, by the clock on the wall: Python's `isoformat()` with `-` for `:`.
fn date(manifest: &Manifest) -> String {
    let moment = wall(manifest, end(manifest));
    let form = if moment.subsec_nanosecond() < 1000 { "%Y-%m-%dT%H-%M-%S" } else { "%Y-%m-%dT%H-%M-%S.%6f" };
    moment.strftime(form).to_string()
}

#[cfg(test)]
#[path = "lm_eval/tests.rs"]
mod tests;
