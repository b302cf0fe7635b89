//! Requests that find their KV in the store, or nowhere.

use crate::client::config;
use crate::nodes::{D, M, Nodes, P, prefill_leg, tick};
use crate::timing::{ask, prompt};
use pdbench::cluster::Role;
use pdbench::measure::Offset;
use serde_json::Value;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn kv_of_a_prefill_node_reaches_a_decode_node_by_the_store() {
    let config = config(&[]);
    let cost = config.cost.clone();
    let nodes = Nodes::start(config);
    let body = ask(&prompt(1000, 0), 50);
    let first = nodes.post_as(P, "a", prefill_leg(&body, Value::Null)).await;
    // 62 whole blocks of 16 tokens go into the store before the answer.
    let exact = cost.prefill(1000) + cost.link_occupied(992) + cost.link_latency();
    assert_eq!(first.chunks[0].0, tick(exact));
    let sent = nodes.clock.now();
    let answer = nodes.post_as(D, "a", body).await;
    let mut exact = sent + cost.link_occupied(992) + cost.link_latency() + cost.decode_step(1, 1000);
    let mut expected = vec![tick(exact)];
    for made in 1..50 {
        exact += cost.decode_step(1, 1000 + made);
        expected.push(tick(exact));
    }
    assert_eq!(answer.token_times(), expected);
    assert_eq!(nodes.sources(P).await, [1000.0, 0.0, 0.0]);
    assert_eq!(nodes.sources(D).await, [8.0, 0.0, 992.0]);
    assert!(answer.streamed_text().starts_with(first.json()["choices"][0]["text"].as_str().unwrap()));
    let truths = nodes.truths();
    assert_eq!((truths[0].role, truths[0].node, truths[0].computed_tokens), (Role::Prefill, 0, 1000));
    assert_eq!(
        (truths[1].role, truths[1].external_tokens, truths[1].computed_tokens),
        (Role::Decode, 992, 8)
    );
    assert!(truths.iter().all(|truth| truth.id == "a"));
    let op = |name| [("operation", name), ("status", "ok")];
    assert_eq!(nodes.metric(P, "mooncake_store_operation_keys_total", &op("save_put")).await, 62.0);
    let bytes = nodes.metric(D, "mooncake_store_operation_bytes_total", &op("load_get")).await;
    assert_eq!(bytes, 992.0 * 131_072.0);
    assert_eq!(nodes.metric(D, "external_prefix_cache_hits_total", &[]).await, 992.0);
    nodes.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_lone_request_by_the_store_takes_what_the_cost_model_says() {
    // 992 us and 1008 us of link: the prefill node answers at a whole millisecond, so that nothing is rounded.
    let config = config(&[("kv-bytes-per-token", "25000"), ("link-latency-ms", "1.008")]);
    let exact = config.cost.lone_ttft_by_store(1000);
    let nodes = Nodes::start(config);
    let body = ask(&prompt(1000, 0), 2);
    nodes.post(P, prefill_leg(&body, Value::Null)).await;
    assert_eq!(nodes.post(D, body).await.token_times()[0], tick(exact));
}

#[tokio::test(start_paused = true)]
async fn a_decode_node_without_kv_computes_the_prompt_itself() {
    for parameters in [&[][..], &[("no-kv-store", "true")]] {
        let config = config(parameters);
        let cost = config.cost.clone();
        let nodes = Nodes::start(config);
        if !parameters.is_empty() {
            nodes.post(P, prefill_leg(&ask(&prompt(1000, 0), 5), Value::Null)).await;
        }
        let sent = nodes.clock.now();
        let answer = nodes.post(D, ask(&prompt(1000, 0), 5)).await;
        assert_eq!(answer.token_times()[0], tick(sent + cost.prefill(1000)));
        assert_eq!(answer.token_times()[1], tick(sent + cost.prefill(1000) + cost.decode_step(1, 1001)));
        assert_eq!(nodes.sources(D).await, [1000.0, 0.0, 0.0]);
        nodes.assert_idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_decode_node_has_a_prefix_cache_of_its_own() {
    let nodes = Nodes::start(config(&[]));
    let body = ask(&prompt(1000, 0), 5);
    nodes.post(P, prefill_leg(&body, Value::Null)).await;
    nodes.post(D, body.clone()).await;
    let again = nodes.post(D, body).await;
    assert_eq!(nodes.sources(D).await, [8.0 + 8.0, 992.0, 992.0]);
    assert_eq!(again.events().pop().unwrap().1["usage"]["prompt_tokens_details"]["cached_tokens"], 992);
}

#[tokio::test(start_paused = true)]
async fn a_full_store_forgets_what_was_used_longest_ago() {
    let nodes = Nodes::start(config(&[
        ("store-capacity-tokens", "2000"),
        ("no-prefix-cache", "true"),
        ("store-lease-s", "5"),
    ]));
    let body = |salt| ask(&prompt(800, salt), 2);
    for salt in 0..3 {
        nodes.post(P, prefill_leg(&body(salt), Value::Null)).await;
    }
    // 50 blocks each, room for 125: of the first prompt the beginning is left.
    let external = async |salt| {
        let before = nodes.sources(D).await[2];
        nodes.post(D, body(salt)).await;
        nodes.sources(D).await[2] - before
    };
    assert_eq!((external(2).await, external(1).await, external(0).await), (784.0, 784.0, 400.0));
    // All but the last blocks of two prompts are leased now: what else comes finds room for two.
    nodes.post(P, prefill_leg(&body(3), Value::Null)).await;
    assert_eq!(external(3).await, 32.0);
    let failed =
        nodes.metric(P, "mooncake_store_operation_failed_keys_total", &[("operation", "save_put")]).await;
    assert_eq!(failed, 48.0);
    tokio::time::sleep(Duration::from_secs(6)).await;
    nodes.post(P, prefill_leg(&body(3), Value::Null)).await;
    assert_eq!(external(3).await, 784.0);
}

#[tokio::test(start_paused = true)]
async fn a_mixed_node_does_all_by_itself() {
    let mut settings = config(&[]);
    settings.topology = "2m".parse().unwrap();
    let cost = settings.cost.clone();
    let nodes = Nodes::start(settings);
    let answer = nodes.post(M, ask(&prompt(20_000, 0), 3)).await;
    let mut exact = cost.prefill(8192) * 2 + cost.prefill(20_000 - 2 * 8192);
    let mut expected: Vec<Offset> = vec![tick(exact)];
    for made in 1..3 {
        exact += cost.decode_step(1, 20_000 + made);
        expected.push(tick(exact));
    }
    assert_eq!(answer.token_times(), expected);
    assert_eq!(nodes.sources((Role::Mixed, 1)).await, [0.0; 3]);
    let disaggregated = Nodes::start(config(&[]));
    let same = disaggregated.post(D, ask(&prompt(20_000, 0), 3)).await;
    assert_eq!(same.streamed_text(), answer.streamed_text());
}
