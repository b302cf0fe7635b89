//! A small made-up run for the tests of the reports: every way to end, and texts that attack each format.

mod accuracy;

pub use accuracy::{accuracy_result, with_accuracy};

use super::Reported;
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
        ready: Some(ms(due)),
        sent: Some(ms(due + 0.1)),
        connected: Some(ms(due + 0.6)),
        headers: Some(ms(first - 1.0)),
        events: (0..4).map(|n| ms(first) + Duration::from_millis(10 * n)).collect(),
        finished: ms(first + 30.2),
        stamps: Stamps::Kernel,
        requested_tokens: Some(4),
        ignore_eos: true,
        prompt_tokens: 550,
        prompt_tokens_source: PromptTokensSource::Usage,
        output_tokens: 4,
        output_tokens_source: OutputTokensSource::Usage,
        cached_tokens: Some(0),
        finish_reason: Some("length".to_owned()),
        outcome: Outcome::Ok,
        ended_in: EndedIn::End,
        http_status: Some(200),
        bytes: 1234,
        ..RequestRecord::due(i, Kind::Main, format!("pdbench-{i}"), ms(due))
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
        broken: Vec::new(),
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
            model_id: None,
            addresses: Vec::new(),
            http_proxy: None,
            tls_verified: None,
            simulated: true,
            topology: Some("1p1d".to_owned()),
        },
        nodes: Vec::new(),
        repeat: None,
        accuracy: None,
        check: None,
        stamps: Stamps::Kernel,
        dataset: DatasetFacts {
            name: "sonnet".to_owned(),
            path: "embedded".to_owned(),
            sha256: "ab".repeat(32),
            token_counter: "estimate".to_owned(),
            tokenizer_load_ms: None,
            remark: None,
        },
        sent_before: Vec::new(),
        comparison: None,
        simulator: simulator.as_object().cloned(),
        ticker: None,
        in_flight: None,
    }
}

fn settings() -> Settings {
    Settings {
        num_prompts: 12,
        request_rate: Some(10.0),
        ramp_up: None,
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
        strict_osl: false,
        label: Some(HOSTILE.to_owned()),
        metadata: serde_json::Map::new(),
        salt: None,
        vllm_result: None,
    }
}

/// Twelve main records and a probe: nine good ones, two failures with hostile texts, one cut by the end of the run.
pub fn run() -> Run {
    let mut records: Vec<_> = (0..13).map(record).collect();
    records[0].kind = Kind::Probe;
    records[1].id = format!("@id{HOSTILE}");
    records[2].flags.insert(Flag::Coalesced, 1);
    records[6].ready = Some(ms(1720.0)); // waited for a slot
    records[6].sent = Some(ms(1720.2));
    records[6].events = (0..4).map(|n| ms(1780.0) + Duration::from_millis(10 * n)).collect();
    fail(&mut records[4], Outcome::Http5xx, EndedIn::Headers, "=cmd('calc')!A1\r\nno decode node");
    records[4].events = EventTimes::default();
    records[4].http_status = Some(503);
    fail(&mut records[8], Outcome::StreamError, EndedIn::Stream, HOSTILE);
    fail(&mut records[12], Outcome::CancelledAtEnd, EndedIn::Stream, "the run ended");
    Run { manifest: manifest(), records, accuracy: None }
}

fn fail(record: &mut RequestRecord, outcome: Outcome, ended_in: EndedIn, error: &str) {
    record.outcome = outcome;
    record.ended_in = ended_in;
    record.error = Some(error.to_owned());
    record.finish_reason = None;
}

fn view(run: &Run, definition: Definition, duration_s: f64) -> View {
    let measured = |metric: &Metric| Measured {
        key: metric.key.to_owned(),
        distribution: Distribution::of(
            metric.collect(run.main(), definition),
            &run.manifest.settings.percentiles,
        ),
    };
    View {
        duration_s: Some(duration_s),
        request_throughput_per_s: Some(9.0 / duration_s),
        request_goodput_per_s: Some(6.0 / duration_s),
        output_throughput_per_s: Some(36.0 / duration_s),
        total_token_throughput_per_s: Some(4986.0 / duration_s),
        max_output_tokens_per_s: Some(40.0),
        max_concurrent_requests: Some(2.0),
        metrics: METRICS.iter().filter(|metric| metric.told_by == ToldBy::Stamps).map(measured).collect(),
    }
}

/// A summary of [`run`] that was written down by hand where it is not a distribution, so that these
/// tests hold whatever the folds make of it.
pub fn summary(run: &Run) -> Summary {
    let of = |outcome| run.main().filter(|record| record.outcome == outcome).count();
    let by_outcome = Outcome::ALL.map(|outcome| (outcome, of(outcome)));
    let strict = view(run, Definition::Strict, 1.25);
    Summary {
        validity: Validity {
            valid: false,
            reasons: vec![Reason::FailureShare { failed: 2, of: 11, limit: 0.05 }],
        },
        counts: Counts {
            planned: 12,
            sent: 12,
            not_sent: 0,
            ok: 9,
            failed: 2,
            cancelled: 1,
            by_outcome: by_outcome.into_iter().filter(|(_, n)| 0 < *n).collect(),
        },
        tokens: TokenTotals {
            input: 4950,
            output: 36,
            cached: Some(0),
            handed_over: None,
            per_event: Some(1.0),
            coalesced_share: Some(0.0278),
        },
        vllm: view(run, Definition::Vllm, 1.3),
        steady: None,
        proxy_cost: None,
        rates: Rates {
            offered_per_s: Some(10.0),
            admitted_per_s: Some(9.9),
            sent_per_s: Some(9.9),
            achieved_per_s: Some(8.8),
        },
        lateness: Lateness {
            client_lag_ms: strict.distribution("client_lag").cloned().unwrap_or_default(),
            above_1_ms: 0,
            above_10_ms: 0,
            above_100_ms: 0,
            worst_10_s_mean_ms: Some(0.108),
            burst_spread_ms: None,
            burst_size: 0,
        },
        strict,
        client: ClientVerdict {
            state: ClientState::Ok,
            evidence: vec!["client lag p99 0.2 ms, limit 1 ms".to_owned()],
        },
        batches: Vec::new(),
        check: None,
        warnings: vec![Warning::SimulatedTarget, Warning::EstimatedTokens],
    }
}

/// A time line of [`run`] in bins of half a second.
pub fn timeline() -> Timeline {
    let bin = |at: usize| Bin {
        start_s: 0.5 * at as f64,
        scheduled: 5 - at,
        sent: 5 - at,
        finished_ok: 4 - at,
        failed: usize::from(at < 2),
        cancelled: usize::from(at == 2),
        in_flight: 0.6,
        output_tokens: 16.0,
        ttft_p50_ms: (at != 1).then_some(55.0),
    };
    Timeline { bin_s: 0.5, bins: (0..3).map(bin).collect() }
}

/// Calls `test` with the run, its summary and its time line, each of which it may have changed before.
pub fn with(change: impl FnOnce(&mut Run, &mut Summary), test: impl FnOnce(&Reported<'_>)) {
    let mut run = run();
    let mut summary = summary(&run);
    change(&mut run, &mut summary);
    test(&Reported { run: &run, summary: &summary, timeline: &timeline() });
}

/// Compares with the file of that name under `tests/golden/report`; `UPDATE_GOLDEN=1` rewrites it.
pub fn golden(name: &str, bytes: &[u8]) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/report").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
    let expected = std::fs::read(&path).unwrap_or_default();
    assert_eq!(
        String::from_utf8_lossy(bytes),
        String::from_utf8_lossy(&expected),
        "{} differs; UPDATE_GOLDEN=1 rewrites it",
        path.display()
    );
}
