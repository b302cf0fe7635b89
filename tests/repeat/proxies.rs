//! Replicas that a proxy sends.

use crate::nodes::{Nodes, listen, over, plateaus, serve};
use pdbench::Exit;
use pdbench::measure::{BatchFault, Kind};
use pdbench::proxy::{Benchmark, Config as ProxyConfig, Trigger, run};
use pdbench::runtime::{Clock, StopHandle, stop_channel};
use pdbench::sim::Config;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

fn nodes() -> Nodes {
    Nodes::start(Config { topology: "1p2d".parse().unwrap(), ..Config::default() })
}

/// A proxy of ours in front of the nodes.
async fn proxy(nodes: &Nodes, benchmark: Option<Benchmark>) -> (String, StopHandle) {
    let of = |names: &[String]| names.iter().map(|name| name.parse().unwrap()).collect();
    let config = ProxyConfig {
        prefill: of(&nodes.prefill),
        decode: of(&nodes.decode),
        benchmark,
        ..ProxyConfig::default()
    };
    let listener = listen();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, signal) = stop_channel();
    tokio::spawn(run(listener, config, Clock::start(), signal));
    sleep(Duration::from_millis(20)).await;
    (url, stop)
}

#[tokio::test(start_paused = true)]
async fn our_proxys_replicas_join_the_records() {
    let nodes = nodes();
    let (url, _stop) = proxy(&nodes, Some(Benchmark { trigger: None })).await;
    let ran = serve(&["--pd-proxy", &url, "--repeat-d-times", "15,31", "--output-len", "100"]).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stdout, ran.stderr);
    let records = ran.records();
    let of = |kind| records.iter().filter(|record| record.kind == kind).count();
    assert_eq!((of(Kind::Main), of(Kind::Replica)), (2, 16 + 32));
    let mut numbers: Vec<u32> = records.iter().map(|record| record.i).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    let plateaus = plateaus(&ran);
    assert_eq!(plateaus.iter().map(|plateau| plateau.streams).collect::<Vec<_>>(), [16, 32]);
    assert_eq!(plateaus[1].nodes.len(), 2);
    over(&ran);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_does_not_repeat_is_an_error_and_says_what_it_wants() {
    let nodes = nodes();
    let (url, _stop) = proxy(&nodes, None).await;
    let ran = serve(&["--pd-proxy", &url, "--repeat-d-times", "15", "--output-len", "20"]).await;
    assert!(matches!(ran.exit, Exit::Invalid | Exit::Aborted), "{:?}", ran.exit);
    assert!(ran.stdout.starts_with("INVALID") || ran.stderr.contains("--benchmark-mode"), "{}", ran.stdout);
    over(&ran);
}

/// A run through a proxy whose replicas only the decode instances' counters show.
async fn external(nodes: &Nodes, url: &str, replicas: &str, more: &[&str]) -> crate::common::Ran {
    let mut arguments = vec!["--pd-proxy", url, "--repeat-proxy", "external", "--expect-replicas", replicas];
    arguments.extend(["--output-len", "300", "--decode"]);
    arguments.extend(nodes.decode.iter().map(String::as_str));
    arguments.extend(more);
    serve(&arguments).await
}

#[tokio::test(start_paused = true)]
async fn silent_replicas_are_counted_by_the_decode_instances() {
    let nodes = nodes();
    let trigger = Some(Trigger { repeat_p_request: 1, repeat_d_times: 31 });
    let (url, _stop) = proxy(&nodes, Some(Benchmark { trigger })).await;
    let ran = external(&nodes, &url, "31", &[]).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stdout, ran.stderr);
    let plateau = &plateaus(&ran)[0];
    assert_eq!((plateau.replicas, plateau.streams), (32, 32));
    let cost = Config::default().cost;
    let truth = 2.0 * cost.plateau_tokens_per_s(16, 512, 3..300);
    let found = plateau.decode_tok_per_s.unwrap();
    assert!((found - truth).abs() < 0.05 * truth, "measured {found}, true {truth}");
    over(&ran);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_that_did_not_fire_is_told() {
    let nodes = nodes();
    let (url, _stop) = proxy(&nodes, None).await;
    let ran = external(&nodes, &url, "31", &[]).await;
    assert_eq!(ran.exit, Exit::Invalid, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.lines().next().unwrap().contains("the repeat did not fire"), "{}", ran.stdout);
    over(&ran);
}

/// The Gaudi fork's proxy in chat mode: the second request sets off copies of the chat's body at `/v1/completions`,
/// which all fail with 400, while its client gets a whole answer.
async fn fork(decode: Vec<String>, copies: usize) -> String {
    let listener = listen();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut posts = 0;
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let Some(request) = read_request(&mut client).await else { continue };
            posts += usize::from(request.starts_with("POST"));
            if posts == 2 && request.starts_with("POST") {
                for nth in 0..copies {
                    let copy = request.replacen("/v1/chat/completions", "/v1/completions", 1);
                    let node = decode[nth % decode.len()].clone();
                    tokio::spawn(async move { answer_of(&node, &copy).await });
                }
            }
            let answer = answer_of(&decode[0], &request).await;
            client.write_all(&answer).await.unwrap();
        }
    });
    url
}

async fn read_request(client: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if client.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length.map_or(0, |length| length.parse().unwrap()) <= body.len() {
            return Some(text.replacen("\r\n", "\r\nconnection: close\r\n", 1));
        }
    }
}

async fn answer_of(node: &str, request: &str) -> Vec<u8> {
    let mut upstream = TcpStream::connect(node).await.unwrap();
    upstream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).await.unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn copies_that_all_fail_in_silence_make_the_run_invalid_though_the_client_saw_success() {
    let nodes = nodes();
    let url = fork(nodes.decode.clone(), 31).await;
    let ran = external(&nodes, &url, "31", &["--backend", "openai-chat"]).await;
    assert_eq!(ran.exit, Exit::Invalid, "{}{}", ran.stdout, ran.stderr);
    let main: Vec<_> = ran.main_records();
    assert!(main.len() == 1 && main[0].is_ok(), "{:?}", main[0].error);
    let faults = &plateaus(&ran)[0].faults;
    assert_eq!(faults, &[BatchFault::DidNotFire { finished: 1.0, expected: 32 }]);
    over(&ran);
}
