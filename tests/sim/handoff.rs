//! KV that goes from a prefill node to the decode node that was told of it, in each dialect.

use crate::client::config;
use crate::nodes::{D, Nodes, P, prefill_leg, tick, with};
use crate::timing::{ask, prompt};
use pdbench::sim::Config;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

fn apart(parameters: &[(&str, &str)]) -> Config {
    let mut config = config(parameters);
    config.kv.store = false;
    config
}

fn nixl_ask() -> Value {
    json!({"do_remote_decode": true, "do_remote_prefill": false, "remote_engine_id": null, "remote_block_ids": null,
        "remote_host": null, "remote_port": null})
}

#[tokio::test(start_paused = true)]
async fn nixl_pulls_what_the_answer_of_the_prefill_node_names() {
    let config = apart(&[]);
    let cost = config.cost.clone();
    let nodes = Nodes::start(config);
    let body = ask(&prompt(1000, 0), 20);
    let first = nodes.post_as(P, "r", prefill_leg(&body, nixl_ask())).await;
    assert_eq!(first.chunks[0].0, tick(cost.prefill(1000)));
    let kv = first.json()["kv_transfer_params"].clone();
    assert_eq!(kv["do_remote_prefill"], true);
    assert_eq!(kv["remote_block_ids"].as_array().unwrap().len(), 63);
    // Its blocks stay on the prefill node until they are pulled.
    let held = nodes.metric(P, "kv_cache_usage_perc", &[]).await;
    assert!((held - 63.0 * 16.0 / 400_000.0).abs() < 1e-9);
    let sent = nodes.clock.now();
    let answer = nodes.post_as(D, "r", with(body, json!({"kv_transfer_params": kv}))).await;
    let arrives = sent + cost.link_occupied(1000) + cost.link_latency();
    assert_eq!(answer.token_times()[0], tick(arrives + cost.decode_step(1, 1000)));
    assert_eq!(nodes.sources(D).await, [1.0, 0.0, 999.0]);
    assert!(answer.streamed_text().starts_with(first.json()["choices"][0]["text"].as_str().unwrap()));
    assert_eq!(nodes.metric(D, "nixl_xfer_time_seconds_count", &[]).await, 1.0);
    assert_eq!(nodes.metric(D, "nixl_num_failed_transfers_total", &[]).await, 0.0);
    nodes.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn kv_that_nobody_pulls_expires_and_is_computed_again() {
    let nodes = Nodes::start(apart(&[]));
    let body = ask(&prompt(100, 0), 4);
    let first = nodes.post(P, prefill_leg(&body, nixl_ask())).await;
    let kv = first.json()["kv_transfer_params"].clone();
    sleep(Duration::from_secs(479)).await;
    assert!(0.0 < nodes.metric(P, "kv_cache_usage_perc", &[]).await);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(nodes.metric(P, "nixl_num_kv_expired_reqs_total", &[]).await, 1.0);
    nodes.assert_idle().await;
    let answer = nodes.post(D, with(body, json!({"kv_transfer_params": kv}))).await;
    assert_eq!(answer.token_times().len(), 4);
    assert_eq!(nodes.sources(D).await, [100.0, 0.0, 0.0]);
    assert_eq!(nodes.metric(D, "nixl_num_failed_transfers_total", &[]).await, 1.0);
}
