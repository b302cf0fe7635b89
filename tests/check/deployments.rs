//! Checks of nodes and proxies with addresses, sound and broken.

use crate::setup::{Nodes, check, config, listen};
use pdbench::Exit;
use pdbench::measure::check::{Step, Verdict};
use pdbench::proxy::{Config as ProxyConfig, run};
use pdbench::runtime::{Clock, StopHandle, stop_channel};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// A proxy of ours in front of the nodes.
async fn proxy(nodes: &Nodes) -> (String, StopHandle) {
    let of = |names: &[String]| names.iter().map(|name| name.parse().unwrap()).collect();
    let config =
        ProxyConfig { prefill: of(&nodes.prefill), decode: of(&nodes.decode), ..ProxyConfig::default() };
    let listener = listen();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, signal) = stop_channel();
    tokio::spawn(run(listener, config, Clock::start(), signal));
    sleep(Duration::from_millis(20)).await;
    (url, stop)
}

#[tokio::test(start_paused = true)]
async fn instances_behind_our_proxy_need_not_be_named() {
    let nodes = Nodes::start(config("1p2d", &[]));
    let (url, _stop) = proxy(&nodes).await;
    let checked = check(&format!("--base-url {url}")).await;
    assert_eq!(checked.ran.exit, Exit::Valid, "{}{}", checked.ran.stdout, checked.ran.stderr);
    assert!(checked.ran.stderr.contains("1 prefill and 2 decode instances, pairs in dialect plain"));
    let file = checked.ran.run_file();
    assert_eq!(file.manifest.nodes.len(), 3);
    assert!(file.manifest.target.simulated);
}

#[tokio::test(start_paused = true)]
async fn instances_alone_are_checked_where_their_dialect_is_named() {
    let nodes = Nodes::start(config("2p1d", &[]));
    let checked = check(&format!(
        "{} --dialect mooncake-p2p --baseline-url http://{}",
        nodes.flags(),
        nodes.prefill[0]
    ))
    .await;
    // The bootstrap server of a simulated node is the node.
    let facts: Vec<String> = nodes
        .prefill
        .iter()
        .map(|name| format!("{name},bootstrap={}", name.rsplit_once(':').unwrap().1))
        .collect();
    assert_eq!(checked.verdict(Step::Answers), Verdict::Wrong, "{}", checked.ran.stdout);
    let flags = format!("--prefill {} --decode {}", facts.join(" "), nodes.decode[0]);
    let checked = check(&format!("{flags} --dialect mooncake-p2p")).await;
    assert_eq!(checked.ran.exit, Exit::Valid, "{}{}", checked.ran.stdout, checked.ran.stderr);
    assert_eq!(checked.verdict(Step::Proxy), Verdict::NotTold);
}

#[tokio::test(start_paused = true)]
async fn a_dead_address_is_a_finding_and_nothing_at_all_is_an_error() {
    let nodes = Nodes::start(config("1p1d", &[]));
    let gone = listen().local_addr().unwrap();
    let checked = check(&format!("{} {gone} --dialect nixl-pull", nodes.flags())).await;
    assert_eq!(checked.ran.exit, Exit::Invalid);
    assert!(
        checked.ran.stdout.starts_with(&format!("INVALID: decode {gone} does not answer: ")),
        "{}",
        checked.ran.stdout
    );
    let place = tempfile::tempdir().unwrap();
    let gone = gone.to_string();
    let words = ["check", "--prefill", &gone, "--decode", &gone, "--dialect", "nixl-pull"];
    let ran = crate::common::run_in(place.path(), &words, pdbench::runtime::Workers::Local).await;
    assert_eq!(ran.exit, Exit::Preflight, "{}", ran.stderr);
    assert!(ran.stderr.contains("nobody names a model") && ran.stderr.contains("help: "), "{}", ran.stderr);
}

/// A proxy that hands every request to one address as it came.
async fn relay(to: String) -> String {
    let listener = listen();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut upstream = TcpStream::connect(&to).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut upstream).await.ok() });
        }
    });
    url
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_leaves_prefill_out_is_found() {
    let nodes = Nodes::start(config("1p1d", &[]));
    let url = relay(nodes.decode[0].clone()).await;
    let checked = check(&format!("--base-url {url} {} --dialect nixl-pull", nodes.flags())).await;
    assert_eq!(checked.ran.exit, Exit::Invalid);
    assert_eq!(checked.named(), ["proxy_passes_over"], "{}", checked.ran.stdout);
    assert!(
        checked.ran.stdout.contains("the proxy uses no prefill instance for 4 of 4 requests"),
        "{}",
        checked.ran.stdout
    );
    let url = relay(nodes.prefill[0].clone()).await;
    let checked = check(&format!("--base-url {url} {} --dialect nixl-pull", nodes.flags())).await;
    assert!(checked.ran.stdout.contains("the proxy uses no decode instance"), "{}", checked.ran.stdout);
}

/// A proxy that answers everything with status 200 and this body.
async fn says(body: &'static str) -> String {
    let listener = listen();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut bytes = [0; 64 << 10];
                while client.read(&mut bytes).await.is_ok_and(|count| 0 < count) {
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    client.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    url
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_answers_200_with_an_error_or_nothing_is_found() {
    let nodes = Nodes::start(config("1p1d", &[]));
    let empty = "data: {\"id\":\"a\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":0}}\n\ndata: [DONE]\n\n";
    for (body, outcome) in [
        ("null", "error_in_200"),
        ("", "error_in_200"),
        ("{\"error\":{\"message\":\"no such model\",\"code\":404}}", "error_in_200"),
        (empty, "empty_output"),
    ] {
        let url = says(body).await;
        let checked = check(&format!("--base-url {url} {} --dialect nixl-pull", nodes.flags())).await;
        let fault = checked.faults().into_iter().find(|fault| fault["fault"] == "proxy_fails");
        let fault = fault.unwrap_or_else(|| panic!("{body}: {}", checked.ran.stdout));
        assert_eq!(fault["outcome"], outcome, "{body}: {}", checked.ran.stdout);
        assert_eq!(checked.verdict(Step::KvMoves), Verdict::Ok, "{}", checked.ran.stdout);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_s_master_that_does_not_answer_is_the_reason() {
    let nodes = Nodes::start(config("1p1d", &[("kill-store", "0")]));
    let gone = listen().local_addr().unwrap();
    let checked = check(&format!("{} --dialect plain --store http://{gone}", nodes.flags())).await;
    assert!(
        checked.ran.stdout.contains("the store's master does not answer: no metrics from"),
        "{}",
        checked.ran.stdout
    );
}

#[tokio::test(start_paused = true)]
async fn a_baseline_says_what_is_right() {
    let nodes = Nodes::start(config("1p1d", &[]));
    let other = Nodes::start(config("1p1d", &[("fault", "other-weights")]));
    let same = Nodes::start(config("1p1d", &[]));
    for (baseline, exit) in [(&same, Exit::Valid), (&other, Exit::Invalid)] {
        let words =
            format!("{} --dialect nixl-pull --baseline-url http://{}", nodes.flags(), baseline.decode[0]);
        let checked = check(&words).await;
        assert_eq!(checked.ran.exit, exit, "{}", checked.ran.stdout);
        assert_eq!(checked.named().contains(&"computes_other".to_owned()), exit == Exit::Invalid);
    }
}
