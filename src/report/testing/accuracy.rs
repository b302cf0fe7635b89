//! A small made-up accuracy run: a candidate, a baseline and the baseline again, texts that attack each format.

use super::{HOSTILE, record};
use crate::measure::*;
use crate::report::Reported;
use serde_json::{Map, Value, json};

fn map(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

/// What was asked: 8 of 10 documents.
pub fn accuracy_facts() -> AccuracyFacts {
    let arm = |name: &str, base_url: &str, streamed| ArmFacts {
        name: name.to_owned(),
        base_url: base_url.to_owned(),
        model: format!("org/model{HOSTILE}"),
        streamed,
    };
    AccuracyFacts {
        task: map(json!({
            "task": "gsm8k",
            "dataset_path": "openai/gsm8k",
            "fewshot_config": {"sampler": "default"},
            "metric_list": [{"metric": "exact_match"}],
            "generation_kwargs": {"until": ["Question:"]},
            "metadata": {"version": 3.0},
        })),
        questions: 8,
        documents: 10,
        num_fewshot: 3,
        fewshot_seed: 1234,
        system_instruction: None,
        form: "text".to_owned(),
        generation: map(json!({"until": ["Question:"], "do_sample": false, "temperature": 0.0})),
        batch_size: 1,
        num_concurrent: 4,
        max_retries: 3,
        own_documents: true,
        arms: vec![
            arm("candidate", "http://pd:8000", false),
            arm("baseline", "http://aggregated:8000", false),
            arm("baseline again", "http://aggregated:8000", false),
        ],
        margin: Some(0.01),
        fail_under: None,
        max_error_rate: 0.2,
        limit: Some(json!(8)),
        gen_kwargs: Map::new(),
        model_args: map(
            json!({"model": "org/model", "base_url": "http://pd:8000/v1/completions", "tokenizer_backend": null}),
        ),
        shaping: Map::new(),
        key: "ab".repeat(32),
    }
}

fn score(right: usize, of: usize) -> Score {
    Score {
        right,
        mean: Some(right as f64 / of as f64),
        stderr: Some(0.18),
        interval: Some((0.1, 0.9)),
        errors_as_wrong: Some(right as f64 / 8.0),
        invalid_share: Some(0.125),
    }
}

fn arm(strict: usize, flexible: usize, errors: usize) -> ArmResult {
    let answered = 8 - errors;
    ArmResult {
        answered,
        errors,
        retried: 1,
        scores: vec![score(strict, answered), score(flexible, answered)],
        cut_share: Some(0.125),
        empty_share: Some(0.0),
        swapped: None,
        mean_output_tokens: Some(21.5),
        trend: Some(Trend { windows: vec![(2, 2), (1, 2), (2, 3), (0, 0)], p_falling: 0.31 }),
        by_length: vec![
            PromptLengthBin { bytes: (20, 40), right: 3, of: 4 },
            PromptLengthBin { bytes: (41, 90), right: 2, of: 4 },
        ],
    }
}

fn paired(counts: [usize; 4], interval: (f64, f64), verdict: PairedVerdict) -> PairedScore {
    let [both, only_baseline, only_candidate, neither] = counts;
    let questions = both + only_baseline + only_candidate + neither;
    PairedScore {
        questions,
        both,
        only_baseline,
        only_candidate,
        difference: Some((only_candidate as f64 - only_baseline as f64) / questions as f64),
        interval: Some(interval),
        p_two_sided: Some(0.625),
        p_worse: Some(0.3125),
        margin: 0.01,
        verdict,
        questions_needed: Some(53_000),
    }
}

/// What came of it.
pub fn accuracy_result() -> AccuracyResult {
    let pair = |candidate, is_floor, scores| PairedResult {
        baseline: 1,
        candidate,
        is_floor,
        scores,
        texts: TextEquality {
            questions: 7,
            equal: if is_floor { 6 } else { 3 },
            diverged: if is_floor { vec![0, 0, 0, 1, 0, 0] } else { vec![1, 0, 2, 0, 1, 0] },
            sure: Some(if is_floor { 0 } else { 2 }),
        },
        p_falling: Some(0.44),
    };
    let unclear = || paired([3, 3, 1, 0], (-0.62, 0.21), PairedVerdict::Unclear);
    let equal = || PairedScore {
        p_two_sided: Some(1.0),
        p_worse: Some(1.0),
        ..paired([6, 0, 0, 2], (-0.32, 0.32), PairedVerdict::Unclear)
    };
    AccuracyResult {
        task: "gsm8k".to_owned(),
        alias: "gsm8k".to_owned(),
        version: json!(3.0),
        n_shot: 3,
        filters: vec!["strict-match".to_owned(), "flexible-extract".to_owned()],
        arms: vec![arm(3, 4, 1), arm(5, 6, 0), arm(5, 6, 0)],
        comparisons: vec![pair(0, false, vec![unclear(), unclear()]), pair(2, true, vec![equal(), equal()])],
        task_hash: "cd".repeat(32),
        documents: (0..8).map(document).collect(),
    }
}

fn answer(text: &str, right: bool, i: u32) -> ArmAnswer {
    let read = if right { "18" } else { "=17" };
    ArmAnswer {
        texts: Some(vec![text.to_owned()]),
        read: vec![(json!(if right { read } else { "[invalid]" }), right), (json!(read), right)],
        error: None,
        attempts: 1 + u32::from(i == 3),
        finish_reason: Some("stop".to_owned()),
        output_tokens: Some(20 + i),
        latency_ms: Some(100.0 + f64::from(i)),
        i: Some(i),
    }
}

/// The first has an answer from the baseline alone; of the others the candidate has three wrong that the baseline has
/// right, and one the other way round.
fn document(doc_id: usize) -> DocumentResult {
    let nth = doc_id as u32;
    let gold = format!("9 + 9 = 18{HOSTILE}\n#### 18");
    let candidate = match doc_id {
        0 => ArmAnswer {
            error: Some((Outcome::Http5xx, format!("no decode node{HOSTILE}"))),
            attempts: 4,
            ..ArmAnswer::default()
        },
        1..=3 => answer(&format!("=wrong{HOSTILE} Ünï"), false, nth),
        _ => answer("9 + 9\n#### 18", true, nth),
    };
    let baseline = || answer("nine and nine\n#### 18", doc_id != 7, nth + 10);
    DocumentResult {
        doc_id,
        doc: map(json!({"question": format!("How many{HOSTILE}?"), "answer": gold})),
        target: gold,
        prompt: format!("Question: How many{HOSTILE}?\nAnswer:"),
        chat: false,
        hashes: ["d", "p", "t"].map(|letter| letter.repeat(64)),
        answers: vec![candidate, baseline(), baseline()],
    }
}

/// Calls `test` with an accuracy run, which `change` may have changed before, and with what is folded from it.
pub fn with_accuracy(change: impl FnOnce(&mut Run), test: impl FnOnce(&Reported<'_>)) {
    let mut run = super::run();
    run.manifest.verb = "accuracy".to_owned();
    run.manifest.accuracy = Some(accuracy_facts());
    run.accuracy = Some(accuracy_result());
    // Not streamed: no token has a time of its own.
    let question = |i| RequestRecord { kind: Kind::Question, events: EventTimes::default(), ..record(i) };
    run.records = (0..23).map(question).collect();
    change(&mut run);
    let (summary, timeline) = (Summary::of(&run), Timeline::of(&run));
    test(&Reported { run: &run, summary: &summary, timeline: &timeline });
}
