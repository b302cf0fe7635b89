//! Servers that fall silent: what ends, when, and as what. In virtual time.

use crate::common::script::{Act, ScriptServer, chunk, stream_head, token, usage_and_done, whole};
use crate::common::{Ran, run_in};
use pdbench::Exit;
use pdbench::measure::{EndedIn, Flag, Outcome, RequestRecord};
use pdbench::runtime::Workers;
use std::time::Duration;
use tempfile::tempdir;

/// Loads a scripted server without a probe; records of the main load.
async fn load(scripts: Vec<Vec<Act>>, arguments: &[&str]) -> (Exit, Vec<RequestRecord>, String) {
    let server = ScriptServer::start(scripts).await;
    let place = tempdir().unwrap();
    let base = [
        "serve",
        "--base-url",
        &server.url,
        "--dataset-name",
        "sonnet",
        "--model",
        "m",
        "--sonnet-output-len",
        "3",
        "--probe",
        "none",
    ];
    let ran = run_in(place.path(), &[&base, arguments].concat(), Workers::Local).await;
    let Ran { exit, stderr, .. } = &ran;
    (*exit, ran.main_records(), stderr.clone())
}

fn ended(record: &RequestRecord) -> (Outcome, EndedIn, u64) {
    let took = record.finished - record.sent.unwrap();
    (record.outcome, record.ended_in, took.as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_silence_in_the_stream_ends_after_the_idle_timeout_not_later() {
    let script = vec![stream_head(), Act::Wait(Duration::from_secs(1)), chunk(&token("a")), Act::Hang];
    let (exit, records, stderr) = load(vec![script], &["--num-prompts", "1"]).await;
    assert_eq!(ended(&records[0]), (Outcome::TimeoutIdle, EndedIn::Stream, 121), "{stderr}");
    assert_eq!((exit, records[0].events.len()), (Exit::Invalid, 1));
}

#[tokio::test(start_paused = true)]
async fn no_first_token_ends_after_its_own_timeout() {
    let silent = vec![Act::Hang];
    let (_, records, _) = load(vec![silent], &["--num-prompts", "1"]).await;
    assert_eq!(ended(&records[0]), (Outcome::TimeoutFirstToken, EndedIn::Headers, 600));
    let headed = vec![stream_head(), chunk(": ping\n\n"), Act::Hang];
    let (_, records, _) = load(vec![headed], &["--num-prompts", "1", "--timeout-first-token", "5"]).await;
    assert_eq!(ended(&records[0]), (Outcome::TimeoutFirstToken, EndedIn::FirstToken, 5));
}

#[tokio::test(start_paused = true)]
async fn a_slow_drip_ends_after_the_request_timeout() {
    let mut script = vec![stream_head()];
    for _ in 0..100 {
        script.extend([Act::Wait(Duration::from_secs(1)), chunk(&token("a"))]);
    }
    let (_, records, _) = load(vec![script], &["--num-prompts", "1", "--timeout-request", "7.5"]).await;
    assert_eq!(ended(&records[0]), (Outcome::TimeoutRequest, EndedIn::Stream, 7));
    assert_eq!(records[0].events.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn max_duration_bounds_a_burst_that_hangs() {
    let arguments = ["--num-prompts", "4", "--max-duration", "20", "--drain-timeout", "5"];
    let (_, records, _) = load(vec![vec![Act::Hang]], &arguments).await;
    assert_eq!(records.len(), 4);
    for record in &records {
        assert_eq!(ended(record), (Outcome::CancelledAtEnd, EndedIn::Headers, 25));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_closed_between_requests_is_opened_again_once() {
    let closes = vec![Act::Wait(Duration::ZERO), Act::Close];
    let scripts = vec![whole(3), closes, whole(3)];
    let (exit, records, stderr) = load(scripts, &["--num-prompts", "2", "--max-concurrency", "1"]).await;
    assert_eq!(exit, Exit::Valid, "{stderr}");
    assert_eq!(records[1].flags.get(&Flag::StaleRetry), Some(&1));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_sent_twice_is_late_from_its_first_send_on() {
    // It takes the second request half a second to find out that the connection had been closed.
    let closes = vec![Act::Wait(Duration::from_millis(500)), Act::Close];
    let scripts = vec![whole(3), closes, whole(3)];
    let (exit, records, stderr) = load(scripts, &["--num-prompts", "2", "--rate", "1"]).await;
    assert_eq!(exit, Exit::Valid, "{stderr}");
    let record = &records[1];
    assert_eq!(record.flags.get(&Flag::StaleRetry), Some(&1));
    assert!(record.sent.unwrap() - record.scheduled <= Duration::from_millis(2));
    let ttft = record.events.first().unwrap() - record.sent.unwrap();
    assert!((500..510).contains(&ttft.as_millis()), "{ttft:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_with_a_request_is_not_asked_again() {
    let dies = vec![Act::Wait(Duration::from_secs(30)), Act::Close];
    let scripts = vec![whole(3), dies, whole(3)];
    let (_, records, _) = load(scripts, &["--num-prompts", "2", "--max-concurrency", "1"]).await;
    assert_eq!(ended(&records[1]), (Outcome::Truncated, EndedIn::Headers, 30));
    assert!(records[1].flags.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_free_when_the_response_has_ended_not_when_its_last_bytes_came() {
    let tokens: String = (0..3).map(|_| token("a")).collect();
    let closing = vec![
        Act::Write(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        Act::Write((tokens + &usage_and_done(3)).into_bytes()),
        Act::Wait(Duration::from_secs(3)),
        Act::Close,
    ];
    let (_, records, _) = load(vec![closing], &["--num-prompts", "2", "--max-concurrency", "1"]).await;
    assert_eq!(records[0].finished, records[1].ready.unwrap());
    assert!(records[1].sent.unwrap() - records[1].ready.unwrap() < Duration::from_millis(2));
    assert_eq!(ended(&records[0]).2, 3);
}

#[tokio::test(start_paused = true)]
async fn too_many_failures_end_the_load_and_keep_the_results() {
    let busy = b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nwait".to_vec();
    let scripts = vec![vec![Act::Write(busy)]];
    let (exit, records, _) = load(scripts, &["--num-prompts", "500", "--rate", "100"]).await;
    assert_eq!(exit, Exit::Aborted);
    assert!((50..60).contains(&records.len()), "{}", records.len());
    assert!(
        records.iter().all(|record| record.outcome == Outcome::Http5xx && record.http_status == Some(503))
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_server_echoes_is_in_no_file() {
    let echo = "{\"error\":{\"message\":\"unknown key canary-in-header\"}}";
    let answer = format!("HTTP/1.1 500 No\r\ncontent-length: {}\r\n\r\n{echo}", echo.len());
    let server = ScriptServer::start(vec![vec![Act::Write(answer.into_bytes())]]).await;
    let place = tempdir().unwrap();
    let arguments = [
        "serve",
        "--base-url",
        &server.url,
        "--dataset-name",
        "sonnet",
        "--model",
        "m",
        "--num-prompts",
        "3",
        "--probe",
        "none",
        "--header",
        "X-Api-Key=canary-in-header",
    ];
    let ran = run_in(place.path(), &arguments, Workers::Local).await;
    for (name, bytes) in crate::common::files_of(&ran.directory()) {
        assert!(!String::from_utf8_lossy(&bytes).contains("canary"), "{name}");
    }
    assert!(!ran.stdout.contains("canary") && !ran.stderr.contains("canary"));
}
