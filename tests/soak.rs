//! Many requests, most of them fine, some met by every fault in turn, in virtual time: as many records as requests, each
//! with the outcome of its fault, and memory that does not grow with the faults. `scripts/soak.sh` runs hours of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::run_in;
use common::script::{Act, ScriptServer, chunk, end, stream_head, token, usage_and_done, whole};
use pdbench::runtime::Workers;
use std::collections::BTreeMap;
use std::time::Duration;
use tempfile::tempdir;

/// Requests a second of virtual time.
const RATE: usize = 5;

/// A fault, and the outcome that it is to have; the outcome of a script is found by its place in the round.
fn round() -> Vec<(Vec<Act>, &'static str)> {
    let a = token("a");
    let raw = |text: &str| Act::Write(text.as_bytes().to_vec());
    let stream = |chunks: &[&str]| {
        let mut acts = vec![stream_head()];
        acts.extend(chunks.iter().map(|data| chunk(data)));
        acts.push(end());
        acts
    };
    let slow = || {
        let pause = Act::Wait(Duration::from_millis(700));
        vec![stream_head(), chunk(&a.repeat(3)), pause, chunk(&(a.clone() + &usage_and_done(4))), end()]
    };
    let error = "data: {\"error\":{\"message\":\"KV load failed\",\"code\":500}}\n\n";
    let mut scripts = vec![
        (vec![raw("HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbusy")], "http_5xx"),
        (vec![raw("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull")], "error_in_200"),
        (stream(&[&a, error]), "stream_error"),
        (vec![stream_head(), chunk(&a), Act::Close], "truncated"),
        (vec![stream_head(), chunk(&a), Act::Wait(Duration::from_millis(50)), Act::Reset], "reset"),
        (stream(&[&a, "data: {oops\n\n", &usage_and_done(4)]), "bad_json"),
        (stream(&[&a, &usage_and_done(1)]), "short_output"),
        (stream(&[&usage_and_done(0)]), "empty_output"),
        (vec![stream_head(), chunk(&a), Act::Hang], "timeout_idle"),
        (vec![Act::Hang], "timeout_first_token"),
    ];
    let fine = 90 - scripts.len();
    scripts.extend((0..fine).map(|nth| (if nth % 3 == 0 { slow() } else { whole(4) }, "ok")));
    // Spread over the round: 37 has no factor with 90.
    let place = |nth: usize| nth * 37 % scripts.len();
    (0..scripts.len()).map(|nth| scripts[place(nth)].clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn hours_of_faults_leave_one_record_each_and_nothing_else() {
    let minutes: usize = std::env::var("PDBENCH_SOAK_MINUTES").map_or(3, |text| text.parse().unwrap());
    let round = round();
    let count = minutes * 60 * RATE / round.len() * round.len();
    let server =
        ScriptServer::round_and_round(round.iter().map(|(script, _)| script.clone()).collect()).await;
    let place = tempdir().unwrap();
    let (rate, count_text) = (RATE.to_string(), count.to_string());
    let arguments = [
        "serve",
        "--base-url",
        &server.url,
        "--dataset-name",
        "sonnet",
        "--model",
        "m",
        "--probe",
        "none",
        "--sonnet-input-len",
        "64",
        "--sonnet-prefix-len",
        "20",
        "--sonnet-output-len",
        "4",
        "--ignore-eos",
        "--num-prompts",
        &count_text,
        "--rate",
        &rate,
        "--max-error-rate",
        "1",
        "--timeout-first-token",
        "20",
        "--timeout-idle",
        "15",
    ];
    let ran = run_in(place.path(), &arguments, Workers::Local).await;
    let records = ran.main_records();
    assert_eq!(records.len(), count, "{}", ran.stderr);
    assert!(records.iter().enumerate().all(|(nth, record)| record.i as usize == nth));
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &records {
        *seen.entry(record.outcome.word()).or_default() += 1;
    }
    let mut expected: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, outcome) in &round {
        *expected.entry(outcome).or_default() += count / round.len();
    }
    assert_eq!(seen, expected);
    let summary = ran.run_file().summary.unwrap();
    assert_eq!(summary.counts.sent, count);
    assert_eq!(summary.counts.ok + summary.counts.failed, count);
}
