//! Clients that go away, wherever their request is, and what a node counts.

use crate::client::config;
use crate::nodes::{D, Nodes, P, prefill_leg, with};
use crate::timing::{ask, prompt};
use pdbench::cluster::Role;
use pdbench::sim::Ended;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_frees_its_place_everywhere() {
    // Prefill until 1005 ms; 992 tokens are 130 ms on the link.
    let parameters = [("prefill-tokens-per-s", "1000"), ("link-gb-per-s", "1")];
    for (node, stream, away_at_ms, gauge, reason) in [
        (P, false, 500, "num_requests_running", None),
        (P, true, 500, "num_requests_running", None),
        (P, false, 1100, "kv_cache_usage_perc", None), // on its way into the store
        (P, true, 1100, "kv_cache_usage_perc", None),
        (D, true, 100, "num_requests_waiting_by_reason", Some("deferred")),
        (D, false, 100, "num_requests_waiting_by_reason", Some("deferred")),
        (D, true, 600, "num_requests_running", None),
        (D, false, 600, "num_requests_running", None),
    ] {
        let nodes = Nodes::start(config(&parameters));
        let body = with(ask(&prompt(1000, 0), 2000), json!({"stream": stream, "stream_options": null}));
        if node == D {
            nodes.post(P, prefill_leg(&body, Value::Null)).await;
        }
        let done = nodes.truths().len();
        let body = if node == P { with(body, json!({"max_tokens": 1})) } else { body };
        let connection = nodes.send(node, "", &body).await;
        sleep(Duration::from_millis(away_at_ms)).await;
        let labels: Vec<_> = reason.map(|reason| ("reason", reason)).into_iter().collect();
        assert!(0.0 < nodes.metric(node, gauge, &labels).await, "{node:?} {stream} {away_at_ms}");
        drop(connection);
        sleep(Duration::from_millis(2)).await;
        nodes.assert_idle().await;
        let truth = &nodes.truths()[done];
        assert_eq!((truth.ended, truth.role), (Ended::Cancelled, node.0));
        // What was over before it left is in its log, and nothing else.
        let over = if node == P { 1005 < away_at_ms } else { 140 < away_at_ms };
        assert_eq!(truth.prefill_end_us.is_some(), node == P && over);
        assert_eq!(truth.kv_arrived_us.is_some(), node == D && over);
        assert_eq!(truth.writes_us.is_empty(), !stream || !over);
        // The node goes on serving others.
        assert_eq!(nodes.post(node, with(body, json!({"max_tokens": 3}))).await.status, 200);
        let totals = nodes.cluster.totals();
        assert_eq!((totals.cancelled, totals.complete), (1, done as u64 + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_prefill_node_full_of_held_kv_waits_until_some_is_pulled() {
    let nodes = Nodes::start(config(&[("kv-capacity-tokens", "1600"), ("no-prefix-cache", "true")]));
    let kv = json!({"do_remote_decode": true, "do_remote_prefill": false});
    let body = |salt| ask(&prompt(900, salt), 4);
    let first = nodes.post(P, prefill_leg(&body(0), kv.clone())).await.json();
    let mut second = nodes.send(P, "", &prefill_leg(&body(1), kv)).await;
    sleep(Duration::from_secs(100)).await;
    let waiting = [("reason", "capacity")];
    assert_eq!(nodes.metric(P, "num_requests_waiting_by_reason", &waiting).await, 1.0);
    let pulls = json!({"kv_transfer_params": first["kv_transfer_params"]});
    nodes.post(D, with(body(0), pulls)).await;
    assert_eq!(second.read().await.status, 200);
    assert!(nodes.clock.now() < Duration::from_secs(101));
}

#[tokio::test(start_paused = true)]
async fn each_node_tells_its_own_metrics_by_vllms_names() {
    let nodes = Nodes::start(config(&[]));
    let body = ask(&prompt(40, 0), 15);
    for salt in 0..3 {
        let body = with(body.clone(), json!({"prompt": prompt(40, salt)}));
        nodes.post(P, prefill_leg(&body, Value::Null)).await;
        nodes.post(D, body).await;
    }
    for (node, count, gaps) in [(P, 3, 0), (D, 3, 3 * 14)] {
        let scrape = nodes.metrics(node).await;
        for (name, expected) in [
            ("time_to_first_token_seconds", count),
            ("inter_token_latency_seconds", gaps),
            ("request_time_per_output_token_seconds", if node == P { 0 } else { count }),
            ("e2e_request_latency_seconds", count),
            ("request_queue_time_seconds", count),
            ("request_prefill_time_seconds", count),
            ("request_decode_time_seconds", count),
            ("mooncake_store_operation_time_seconds", count),
        ] {
            let series = scrape.histograms(&format!("vllm:{name}"));
            assert_eq!(series.last().map(|(_, h)| h.count()), Some(expected), "{node:?} {name}");
            for (_, histogram) in &series {
                let totals: Vec<_> = histogram.cumulative().collect();
                assert!(totals.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
                assert_eq!(totals.last().map(|last| last.1), Some(histogram.count()));
            }
        }
        assert!(scrape.samples.iter().all(|sample| sample.label("engine") == Some("0")));
        // Nothing went from node to node: what its connector would count is not there.
        assert!(!scrape.samples.iter().any(|sample| sample.name.contains("nixl")));
        assert_eq!(scrape.sum("vllm:request_success_total", &[("finished_reason", "length")]), Some(3.0));
        assert_eq!(scrape.sum("vllm:prompt_tokens_total", &[]), Some(3.0 * 40.0));
        for name in [
            "num_requests_running",
            "num_requests_waiting",
            "kv_cache_usage_perc",
            "num_preemptions_total",
            "prefix_cache_queries_total",
            "external_prefix_cache_hits_total",
        ] {
            let found = scrape.samples.iter().find(|sample| sample.name == format!("vllm:{name}"));
            assert_eq!(found.and_then(|sample| sample.label("model_name")), Some("simulated"), "{name}");
        }
        assert_eq!(nodes.sources(node).await.iter().sum::<f64>(), 3.0 * 40.0);
    }
    let head = nodes.get(D, "/metrics").await.head;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    nodes.assert_idle().await;
    assert_eq!(nodes.metric(P, "generation_tokens_total", &[]).await, 3.0);
    assert_eq!(nodes.metric(D, "generation_tokens_total", &[]).await, 45.0);
}

#[tokio::test(start_paused = true)]
async fn every_node_answers_what_proxies_ask_of_it() {
    let mut settings = config(&[]);
    settings.topology = "1p2d".parse().unwrap();
    let nodes = Nodes::start(settings);
    for node in [P, D, (Role::Decode, 1)] {
        for (path, status) in [("/health", 200), ("/ping", 200), ("/nope", 404), ("/v1/completions", 405)] {
            assert_eq!(nodes.get(node, path).await.status, status, "{path}");
        }
        assert_eq!(nodes.get(node, "/v1/models").await.json()["data"][0]["id"], "simulated");
        assert!(nodes.get(node, "/version").await.json()["version"].is_string());
        let worker = nodes.get(node, "/query").await.json()["0"]["worker_addr"].clone();
        assert_eq!(worker, nodes.address(node).to_string());
    }
    // A chat finds its KV as a completion does.
    let chat = json!({"messages": [{"role": "user", "content": prompt(100, 0)}], "max_tokens": 1});
    for (node, tokens) in [(P, 1), (D, 7)] {
        let mut connection = crate::client::Connection::open(nodes.address(node), nodes.clock).await;
        let body = with(chat.clone(), json!({"max_tokens": tokens})).to_string();
        connection.send("POST", "/v1/chat/completions", "", &body).await;
        let usage = connection.read().await.json()["usage"].clone();
        assert_eq!(usage["completion_tokens"], tokens);
    }
    assert_eq!(nodes.sources(D).await, [4.0, 0.0, 96.0]);
    let mut connection = crate::client::Connection::open(nodes.address(D), nodes.clock).await;
    connection.send("POST", "/reset_prefix_cache", "", "").await;
    assert_eq!(connection.read().await.status, 200);
}
