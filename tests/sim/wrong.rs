//! Faults of one link, one node or the store that a client's answers and the nodes' counters have to show.

use crate::client::config;
use crate::nodes::{D, Nodes, P, Place, prefill_leg};
use crate::timing::{ask, prompt};
use pdbench::cluster::Role;
use serde_json::{Value, json};
use std::time::Duration;

/// Both legs of one request, pulled as NixlConnector does.
async fn pulled(nodes: &Nodes, from: Place, to: Place, number: usize, more: Value) -> String {
    let mut body = ask(&prompt(400, number), 8);
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    let remote = json!({"do_remote_decode": true, "do_remote_prefill": false});
    let handed = nodes.post(from, prefill_leg(&body, remote)).await.json()["kv_transfer_params"].clone();
    let mut decode = body;
    decode["kv_transfer_params"] = handed;
    nodes.post(to, decode).await.streamed_text()
}

/// Both legs of one request, its KV found in the store.
async fn stored(nodes: &Nodes, number: usize) -> String {
    let body = ask(&prompt(400, number), 8);
    nodes.post(P, prefill_leg(&body, Value::Null)).await;
    nodes.post(D, body).await.streamed_text()
}

fn with(topology: &str, fault: &str) -> Nodes {
    let mut config = config(&[("fault", fault)]);
    config.topology = topology.parse().unwrap();
    Nodes::start(config)
}

const D1: Place = (Role::Decode, 1);
const P1: Place = (Role::Prefill, 1);

#[tokio::test(start_paused = true)]
async fn a_fault_of_one_link_meets_no_other() {
    let nodes = with("2p2d", "lose-kv@prefill:1-decode:0,corrupt-kv=1@prefill:0-decode:1");
    let right = with("2p2d", "none");
    for (number, (from, to)) in [(P, D), (P, D1), (P1, D), (P1, D1)].into_iter().enumerate() {
        let (got, expected) = (
            pulled(&nodes, from, to, number, Value::Null).await,
            pulled(&right, from, to, number, Value::Null).await,
        );
        assert_eq!(got == expected, (from, to) != (P, D1), "{from:?} to {to:?}");
    }
    // Lost from the second prefill node alone, and computed again.
    assert_eq!(nodes.sources(D).await, [401.0, 0.0, 399.0]);
    assert_eq!(nodes.sources(D1).await, [2.0, 0.0, 798.0]);
}

#[tokio::test(start_paused = true)]
async fn made_up_kv_counts_as_moved_and_answers_wrong_even_if_nobody_sent_any() {
    let nodes = with("1p1d", "made-up-kv@decode");
    let body = ask(&prompt(400, 0), 8);
    let made_up = nodes.post(D, body.clone()).await.streamed_text();
    assert_ne!(made_up, nodes.post(P, body).await.streamed_text());
    assert_eq!(nodes.sources(D).await, [1.0, 0.0, 399.0]);
}

#[tokio::test(start_paused = true)]
async fn another_hash_seed_or_block_size_finds_nothing_that_was_stored() {
    let nodes = with("1p1d", "hash-seed=7@decode");
    let right = with("1p1d", "none");
    assert_eq!(stored(&nodes, 0).await, stored(&right, 0).await);
    assert_eq!(nodes.sources(D).await, [400.0, 0.0, 0.0]);
    assert_eq!(right.sources(D).await, [16.0, 0.0, 384.0]);
    let labels = [("operation", "save_put"), ("status", "ok")];
    for nodes in [&nodes, &right] {
        assert_eq!(nodes.metric(P, "mooncake_store_operation_keys_total", &labels).await, 25.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_that_ends_early_leaves_the_rest_to_be_computed() {
    let nodes = with("1p1d", "partial-put=100");
    stored(&nodes, 0).await;
    assert_eq!(nodes.sources(D).await, [304.0, 0.0, 96.0]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_store_costs_its_timeout_at_both_nodes_and_moves_nothing() {
    let config = config(&[("kill-store", "2"), ("store-timeout-s", "3")]);
    let nodes = Nodes::start(config);
    stored(&nodes, 0).await;
    assert_eq!(nodes.sources(D).await, [16.0, 0.0, 384.0]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sent = nodes.clock.now();
    stored(&nodes, 1).await;
    let took = nodes.clock.now() - sent;
    assert!((6.0..6.3).contains(&took.as_secs_f64()), "{took:?}");
    assert_eq!(nodes.sources(D).await, [416.0, 0.0, 384.0]);
    let failed = nodes.metric(P, "mooncake_store_operation_failed_keys_total", &[]).await;
    assert_eq!(failed, 25.0);
}

#[tokio::test(start_paused = true)]
async fn kv_of_a_prefill_that_met_its_stop_is_dropped_where_that_was_asked() {
    let right = with("1p1d", "none");
    let text = pulled(&right, P, D, 0, Value::Null).await;
    let stop = json!({ "stop": [&text[..4]] });
    for (fault, moved) in [("none", 399.0), ("stop-drops-kv", 0.0)] {
        let nodes = with("1p1d", fault);
        assert_eq!(pulled(&nodes, P, D, 0, stop.clone()).await, "");
        assert_eq!(nodes.sources(D).await, [400.0 - moved, 0.0, moved], "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_can_be_unlike_the_others() {
    let nodes =
        with("1p2d", "other-weights@decode:0,other-name@decode:1,max-len=300@decode:1,block-size=32@prefill");
    let body = ask(&prompt(100, 0), 8);
    let right = nodes.post(P, body.clone()).await.streamed_text();
    assert_ne!(nodes.post(D, body.clone()).await.streamed_text(), right);
    assert_eq!(nodes.post(D1, body).await.status, 404);
    let models = nodes.get(D1, "/v1/models").await.json()["data"][0].clone();
    assert_eq!((&models["id"], &models["max_model_len"]), (&json!("simulated-other"), &json!(300)));
    for (place, size) in [(P, "32"), (D, "16")] {
        assert_eq!(nodes.metric(place, "cache_config_info", &[("block_size", size)]).await, 1.0);
    }
}
