//! Panics in parts of the load: whatever was in flight is recorded as a fault of pdbench, nothing hangs, nothing that
//! was measured is lost, and whoever asked is told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::script::{Act, ScriptServer, chunk, stream_head, token, whole};
use pdbench::load::{
    KeepText, Live, Load, LoadConfig, LoadError, Pacing, Pass, Place, Prepared, ReadLimits, Sink, Timeouts,
};
use pdbench::measure::{Kind, Outcome, PromptTokensSource, RequestRecord, Stamps};
use pdbench::runtime::{Clock, Workers, stop_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Kept = Arc<Mutex<Vec<RequestRecord>>>;

/// A load of `scripts`, on threads as in production, and where its records go.
async fn load(
    scripts: Vec<Vec<Act>>,
    sink: impl Fn(&Kept, Vec<RequestRecord>) + Send + Sync + 'static,
) -> (Load, Kept, ScriptServer) {
    let server = ScriptServer::start(scripts).await;
    let address = server.url.trim_start_matches("http://").parse().unwrap();
    let config = LoadConfig {
        places: vec![Place { address, tls: None, tunnel: None, name: None, greeting: None }],
        shards: 1,
        timeouts: Timeouts::default(),
        read_limits: ReadLimits::default(),
        keep_text: KeepText::Nothing,
        stamps: Stamps::Kernel,
        clock: Clock::start(),
        workers: Workers::Threads,
        pacing: Pacing::Thread { spin: Duration::ZERO },
        secrets: Arc::new([]),
    };
    let kept = Kept::default();
    let into = Arc::clone(&kept);
    let sink: Sink = Arc::new(move |records| sink(&into, records));
    (Load::start(config, Arc::new(Live::default()), &sink).unwrap(), kept, server)
}

fn keep(kept: &Kept, records: Vec<RequestRecord>) {
    kept.lock().unwrap().extend(records);
}

fn requests(count: usize) -> Vec<Prepared> {
    let body = "{}";
    let head =
        format!("POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let one = |nth: usize| Prepared {
        id: nth.to_string(),
        place: 0,
        bytes: head.clone().into_bytes(),
        lead: None,
        prompt_tokens: 1,
        prompt_tokens_source: PromptTokensSource::Estimate,
        requested_tokens: 4,
        ignore_eos: false,
        asking: None,
        attempt: 1,
    };
    (0..count).map(one).collect()
}

/// Outcomes by number of the request.
fn outcomes(kept: &Kept) -> Vec<Outcome> {
    let mut records = kept.lock().unwrap().clone();
    records.sort_by_key(|record| record.i);
    let numbers: Vec<u32> = records.iter().map(|record| record.i).collect();
    assert_eq!(numbers, (0..records.len() as u32).collect::<Vec<_>>());
    records.iter().map(|record| record.outcome).collect()
}

fn hang() -> Vec<Act> {
    vec![stream_head(), chunk(&token("a")), Act::Hang]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pacer_that_panics_leaves_a_record_of_what_was_in_flight() {
    let (mut load, kept, server) = load(vec![whole(4), hang()], keep).await;
    // The third time has no request: the pacer runs out of its list.
    let late = Duration::from_millis(300);
    let pass =
        Pass { schedule: vec![Duration::ZERO, late / 2, late], ..Pass::at_once(Kind::Main, requests(2)) };
    let ended = load.pass(pass, stop_channel().1).await;
    assert!(matches!(ended, Err(LoadError::Panicked("the pacer"))), "{ended:?}");
    let again = load.pass(Pass::at_once(Kind::Main, requests(1)), stop_channel().1).await;
    assert!(matches!(again, Err(LoadError::Panicked("the pacer"))));
    load.finish().await.unwrap();
    assert_eq!(outcomes(&kept), [Outcome::Ok, Outcome::Internal]);
    let records = kept.lock().unwrap();
    assert!(records[1].error.as_ref().unwrap().contains("panicked") && records[1].events.len() == 1);
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_panics_leaves_a_record_of_every_request_that_it_was_given() {
    // It panics when it hands the first records on, which are kept all the same.
    let first = Mutex::new(true);
    let brittle = move |kept: &Kept, records| {
        keep(kept, records);
        let is_first = std::mem::replace(&mut *first.lock().unwrap(), false);
        assert!(!is_first, "this sink is brittle");
    };
    let (mut load, kept, server) = load(vec![whole(4), whole(4), hang()], brittle).await;
    let mut schedule = vec![Duration::ZERO; 5];
    schedule.push(Duration::from_secs(3));
    let pass = Pass { schedule, ..Pass::at_once(Kind::Main, requests(6)) };
    let report = load.pass(pass, stop_channel().1).await.unwrap();
    assert_eq!(report.sent, 6);
    let ended = load.finish().await;
    assert!(matches!(ended, Err(LoadError::Panicked("a reader"))), "{ended:?}");
    let mut seen = outcomes(&kept);
    seen.sort();
    // The sixth came when nobody was there to read its answer: it was not sent.
    assert_eq!(seen, [[Outcome::Ok; 2].as_slice(), &[Outcome::Internal; 3]].concat());
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_the_answers_and_panics_costs_one_request() {
    let answer = "{\"choices\":[{\"text\":\"a\",\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}";
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
    let (mut load, kept, _server) = load(vec![vec![Act::Write(answer.into_bytes())]], keep).await;
    let taken = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&taken);
    let pass = Pass {
        answers: Some(Arc::new(move |nth, body| {
            assert_ne!(nth, 1, "this one is not wanted");
            into.lock().unwrap().push((nth, body.len()));
        })),
        max_concurrency: Some(1),
        ..Pass::at_once(Kind::Prefill, requests(3))
    };
    let report = load.pass(pass, stop_channel().1).await.unwrap();
    load.finish().await.unwrap();
    assert_eq!((report.sent, report.failed_probe.unwrap().outcome), (3, Outcome::Internal));
    assert_eq!(outcomes(&kept), [Outcome::Ok, Outcome::Internal, Outcome::Ok]);
    let numbers: Vec<usize> = taken.lock().unwrap().iter().map(|(nth, _)| *nth).collect();
    assert_eq!(numbers, [0, 2]);
}
