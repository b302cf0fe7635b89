//! A small made-up run for the tests of the reports: every way to end, and texts that attack each format.

use crate::measure::*;
use std::time::Duration;

/// What a hostile server or user may have put into any text.
pub const HOSTILE: &str = "</script><script>alert(1)</script>&\"'\u{1b}[31m\u{2028}\u{202e}";

fn ms(ms: f64) -> Offset {
    Offset::from_tenths((ms * 10_000.0).round() as u64)
}

/// A good answer: sent on time, 4 tokens 10 ms apart, first one after 50 ms and a little more for each `i`.
pub fn record(i: u32) -> RequestRecord {
    let due = 1000.0 + 100.0 * f64::from(i);
    let first = due + 50.0 + f64::from(i);
    RequestRecord {
        i,
        kind: Kind::Main,
        id: format!("pdbench-{i}"),
        scheduled: ms(due),
        ready: Some(ms(due)),
        sent: Some(ms(due + 0.1)),
        connected: Some(ms(due + 0.6)),
        headers: Some(ms(first - 1.0)),
        role: None,
        events: (0..4).map(|n| ms(first) + Duration::from_millis(10 * n)).collect(),
        events_tokens: Vec::new(),
        finished: ms(first + 30.2),
        stamps: Stamps::Kernel,
        requested_tokens: Some(4),
        ignore_eos: true,
        prompt_tokens: 550,
        prompt_tokens_source: PromptTokensSource::Usage,
        output_tokens: 4,
        output_tokens_source: OutputTokensSource::Usage,
        prefill_usage: None,
        cached_tokens: Some(0),
        finish_reason: Some("length".to_owned()),
        outcome: Outcome::Ok,
        ended_in: EndedIn::End,
        http_status: Some(200),
        error: None,
        flags: Flags::new(),
        bytes: 1234,
        attempt: 1,
        text: None,
    }
}

/// The manifest of a simulated run of 12 requests with hostile names.
pub fn manifest() -> Manifest {
    let simulator = serde_json::json!({"sim-prefill-rate": 12_000, "sim-note": HOSTILE});
    Manifest {
        schema: SCHEMA,
        run_id: "20260102-030405-serve-0a1b".to_owned(),
        verb: "serve".to_owned(),
        state: State::Complete,
        interrupted_by: None,
        command_line: ["pdbench", "serve", "--label", HOSTILE].map(str::to_owned).to_vec(),
        settings: settings(),
        version: "pdbench 0.1.0".to_owned(),
        host: Host { kernel: "Linux 6.1".to_owned(), cores: 8, memory_bytes: Some(64 << 30) },
        started: "2026-01-02T03:04:05.000000Z".to_owned(),
        started_unix_us: 1_767_323_045_000_000,
        main_start: ms(1000.0),
        main_end: Some(ms(2300.0)),
        target: TargetFacts {
            base_url: "embedded".to_owned(),
            endpoint: "/v1/completions".to_owned(),
            backend: "openai".to_owned(),
            model: format!("=model{HOSTILE}"),
            addresses: Vec::new(),
            simulated: true,
            topology: Some("1p1d".to_owned()),
        },
        stamps: Stamps::Kernel,
        dataset: DatasetFacts {
            name: "sonnet".to_owned(),
            path: "embedded".to_owned(),
            sha256: "ab".repeat(32),
            token_counter: "estimate".to_owned(),
        },
        simulator: simulator.as_object().cloned(),
    }
}

fn settings() -> Settings {
    Settings {
        num_prompts: 12,
        request_rate: Some(10.0),
        burstiness: Some(1.0),
        max_concurrency: Some(4),
        max_duration_s: None,
        seed: 0,
        num_warmups: 0,
        input_len: Some(550),
        output_len: Some(4),
        prefix_len: Some(200),
        ignore_eos: true,
        percentiles: vec![50.0, 99.0],
        percentile_metrics: ["ttft", "tpot", "itl"].map(str::to_owned).to_vec(),
        slo: Slo([("ttft".to_owned(), 58.0)].into()),
        max_error_rate: 0.05,
        label: Some(HOSTILE.to_owned()),
    }
}
