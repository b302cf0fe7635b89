//! Small records and runs for tests, in milliseconds.

use super::{
    DatasetFacts, EndedIn, Host, Kind, Manifest, Offset, Outcome, OutputTokensSource, PromptTokensSource,
    RequestRecord, Run, SCHEMA, Settings, Slo, Stamps, State, TargetFacts,
};

/// METRICS.md must name the word that files use for something.
pub(crate) fn assert_in_authority(word: &serde_json::Value) {
    let word = word.as_str().expect("a word");
    assert!(include_str!("../../METRICS.md").contains(&format!("`{word}`")), "METRICS.md has no `{word}`");
}

/// An instant, from milliseconds.
pub(crate) fn at(ms: f64) -> Offset {
    Offset::from_tenths((ms * 1e4).round() as u64)
}

/// An ok record from the times of its send and then of its token events, ms: one token an event, due
/// and ready when sent, finished with the last.
pub(crate) fn record(times_ms: &str) -> RequestRecord {
    let times: Vec<Offset> = times_ms.split_whitespace().map(|ms| at(ms.parse().unwrap())).collect();
    let (sent, events) = times.split_first().expect("the time of the send");
    RequestRecord {
        ready: Some(*sent),
        sent: Some(*sent),
        events: events.iter().copied().collect(),
        finished: *times.last().expect("at least the send"),
        requested_tokens: Some(events.len() as u32),
        ignore_eos: true,
        prompt_tokens: 10,
        prompt_tokens_source: PromptTokensSource::Usage,
        output_tokens: events.len() as u32,
        output_tokens_source: OutputTokensSource::Usage,
        finish_reason: Some("length".to_owned()),
        outcome: Outcome::Ok,
        ended_in: EndedIn::End,
        http_status: Some(200),
        ..RequestRecord::due(0, Kind::Main, "0".to_owned(), *sent)
    }
}

/// The same, cut by another outcome.
pub(crate) fn failed(times_ms: &str, outcome: Outcome) -> RequestRecord {
    RequestRecord { outcome, ended_in: EndedIn::Stream, ..record(times_ms) }
}

/// A run of these main records, numbered in their order, that began at 0.
pub(crate) fn run(mut records: Vec<RequestRecord>) -> Run {
    for (i, record) in records.iter_mut().enumerate() {
        record.i = i as u32;
        record.id = i.to_string();
    }
    Run { manifest: manifest(records.len()), records, accuracy: None }
}

fn manifest(num_prompts: usize) -> Manifest {
    Manifest {
        schema: SCHEMA,
        run_id: "20260101-000000-serve-0000".to_owned(),
        verb: "serve".to_owned(),
        state: State::Complete,
        interrupted_by: None,
        broken: Vec::new(),
        command_line: vec!["pdbench".to_owned(), "serve".to_owned()],
        settings: settings(num_prompts),
        version: "pdbench 0".to_owned(),
        host: Host { kernel: "Linux".to_owned(), cores: 2, memory_bytes: None },
        started: "2026-01-01T00:00:00.000000Z".to_owned(),
        started_unix_us: 1_767_225_600_000_000,
        main_start: Offset::default(),
        main_end: None,
        target: TargetFacts {
            base_url: "http://127.0.0.1:8000".to_owned(),
            endpoint: "/v1/completions".to_owned(),
            backend: "openai".to_owned(),
            model: "model".to_owned(),
            model_id: None,
            addresses: vec!["127.0.0.1:8000".to_owned()],
            http_proxy: None,
            tls_verified: None,
            simulated: false,
            topology: None,
        },
        nodes: Vec::new(),
        repeat: None,
        accuracy: None,
        check: None,
        stamps: Stamps::User,
        dataset: DatasetFacts {
            name: "custom".to_owned(),
            path: "prompts.jsonl".to_owned(),
            sha256: String::new(),
            token_counter: "tokenizer".to_owned(),
            tokenizer_load_ms: None,
            remark: None,
        },
        sent_before: Vec::new(),
        comparison: None,
        simulator: None,
        ticker: None,
        in_flight: None,
    }
}

fn settings(num_prompts: usize) -> Settings {
    Settings {
        num_prompts,
        request_rate: None,
        ramp_up: None,
        burstiness: Some(1.0),
        max_concurrency: None,
        max_duration_s: None,
        seed: 0,
        num_warmups: 0,
        input_len: None,
        output_len: None,
        prefix_len: None,
        ignore_eos: true,
        percentiles: vec![99.0],
        percentile_metrics: vec!["ttft".to_owned(), "tpot".to_owned(), "itl".to_owned()],
        slo: Slo::default(),
        max_error_rate: 0.05,
        strict_osl: false,
        label: None,
        metadata: serde_json::Map::new(),
        salt: None,
        vllm_result: None,
    }
}
