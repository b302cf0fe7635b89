//! KV that goes from a prefill node to the decode node that was told of it, in each dialect.

use crate::client::config;
use crate::nodes::{D, Nodes, P, prefill_leg, tick, with};
use crate::timing::{ask, prompt};
use pdbench::sim::Config;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

pub fn apart(parameters: &[(&str, &str)]) -> Config {
    let mut config = config(parameters);
    config.kv.store = false;
    config
}

pub fn nixl_ask() -> Value {
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
    for name in ["nixl_xfer_time_seconds", "nixl_bytes_transferred"] {
        assert_eq!(nodes.metric(D, &format!("{name}_count"), &[]).await, 1.0);
        assert_eq!(nodes.metric(P, &format!("{name}_count"), &[]).await, 0.0);
    }
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

#[tokio::test(start_paused = true)]
async fn only_kv_that_was_to_be_pulled_counts_as_expired() {
    let nodes = Nodes::start(apart(&[]));
    let gives = json!({"do_remote_decode": true, "transfer_id": "xfer-1"});
    for (salt, kv) in [nixl_ask(), gives].into_iter().enumerate() {
        nodes.post(P, prefill_leg(&ask(&prompt(100, salt), 4), kv)).await;
    }
    sleep(Duration::from_secs(481)).await;
    assert_eq!(nodes.metric(P, "nixl_num_kv_expired_reqs_total", &[]).await, 1.0);
    nodes.assert_idle().await;
}

/// Both legs of one request at once, the decode leg `ahead` of the prefill leg: the decode answer's text and the
/// prefill answer's.
async fn together(nodes: &Nodes, legs: [Value; 2], ahead: Duration) -> [String; 2] {
    let [mut decode, mut prefill] = if ahead.is_zero() {
        let prefill = nodes.send(P, "x-request-id: r\r\n", &legs[0]).await;
        sleep(Duration::from_millis(500)).await; // the prefill is over
        [nodes.send(D, "x-request-id: r\r\n", &legs[1]).await, prefill]
    } else {
        let decode = nodes.send(D, "x-request-id: r\r\n", &legs[1]).await;
        sleep(ahead).await;
        assert_eq!(nodes.metric(D, "num_requests_waiting_by_reason", &[("reason", "deferred")]).await, 1.0);
        [decode, nodes.send(P, "x-request-id: r\r\n", &legs[0]).await]
    };
    let first = prefill.read().await.json()["choices"][0]["text"].as_str().unwrap().to_owned();
    [decode.read().await.streamed_text(), first]
}

fn assert_same_answer([answer, first]: &[String; 2], tokens: usize) {
    assert_eq!((answer.len(), first.len()), (4 * tokens, 4));
    assert!(answer.starts_with(first.as_str()), "{answer} {first}");
}

#[tokio::test(start_paused = true)]
async fn mooncakes_legs_meet_whichever_comes_first() {
    for ahead in [Duration::ZERO, Duration::from_millis(300)] {
        let nodes = Nodes::start(apart(&[]));
        let engine = nodes.get(P, "/query").await.json()["0"]["engine_id"].clone();
        let body = ask(&prompt(1000, 0), 9);
        let gives = json!({"do_remote_decode": true, "do_remote_prefill": false, "transfer_id": "xfer-1"});
        let fetches = json!({"do_remote_decode": false, "do_remote_prefill": true, "transfer_id": "xfer-1",
            "remote_engine_id": engine, "remote_bootstrap_addr": format!("http://{}", nodes.address(P))});
        let legs = [prefill_leg(&body, gives), with(body, json!({"kv_transfer_params": fetches}))];
        assert_same_answer(&together(&nodes, legs, ahead).await, 9);
        assert_eq!(nodes.sources(D).await, [1.0, 0.0, 999.0]);
        nodes.assert_idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_transfer_from_another_engine_than_named_is_not_taken() {
    let nodes = Nodes::start(apart(&[]));
    let body = ask(&prompt(100, 0), 3);
    for (id, engine, port) in [("a", "other", nodes.address(P).port()), ("b", "prefill-0", 1)] {
        let gives = json!({"do_remote_decode": true, "transfer_id": id});
        nodes.post(P, prefill_leg(&body, gives)).await;
        let fetches = json!({"do_remote_prefill": true, "transfer_id": id, "remote_engine_id": engine,
            "remote_bootstrap_addr": format!("http://127.0.0.1:{port}")});
        nodes.post(D, with(body.clone(), json!({"kv_transfer_params": fetches}))).await;
    }
    assert_eq!(nodes.sources(D).await[2], 0.0);
    nodes.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn nixl_pushes_to_a_decode_node_that_waits() {
    for ahead in [Duration::ZERO, Duration::from_millis(300)] {
        let nodes = Nodes::start(apart(&[]));
        let body = ask(&prompt(1000, 0), 9);
        let gives = with(nixl_ask(), json!({"transfer_id": "t1"}));
        let fetches = json!({"do_remote_decode": false, "do_remote_prefill": true, "transfer_id": "t1",
            "remote_engine_id": "prefill-0", "remote_host": "127.0.0.1", "remote_port": nodes.address(P).port(),
            "remote_request_id": "r", "tp_size": 1, "pp_size": 1});
        let legs = [prefill_leg(&body, gives), with(body, json!({"kv_transfer_params": fetches}))];
        assert_same_answer(&together(&nodes, legs, ahead).await, 9);
        assert_eq!(nodes.sources(D).await, [1.0, 0.0, 999.0]);
        assert_eq!(nodes.metric(D, "nixl_bytes_transferred_count", &[]).await, 1.0);
        nodes.assert_idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn sglangs_legs_have_the_same_body_and_meet_in_a_room() {
    let nodes = Nodes::start(apart(&[]));
    let room = json!({"bootstrap_host": "127.0.0.1", "bootstrap_port": 8998, "bootstrap_room": 9_000_000_000_000_000_000_u64});
    let mut body = with(ask(&prompt(1000, 0), 9), room);
    let mut decode = nodes.send(D, "", &body).await;
    let first = nodes.send(P, "", &body).await.read().await;
    assert_eq!(first.token_times().len(), 1);
    let answer = decode.read().await;
    assert_same_answer(&[answer.streamed_text(), first.streamed_text()], 9);
    assert_eq!(nodes.sources(D).await, [1.0, 0.0, 999.0]);
    // Without its other leg a decode node computes the prompt itself, once it has waited.
    body["bootstrap_room"] = json!(5);
    nodes.post(D, with(body, json!({"prompt": prompt(100, 1)}))).await;
    assert_eq!(nodes.sources(D).await[0], 101.0);
    assert!(Duration::from_secs(30) < nodes.clock.now());
    nodes.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn addresses_in_the_request_id_say_where_kv_goes() {
    let config = apart(&[]);
    let cost = config.cost.clone();
    let nodes = Nodes::start(config);
    let body = ask(&prompt(1000, 0), 9);
    let id = format!("___prefill_addr_{}___decode_addr_{}_00ff", nodes.address(P), nodes.address(D));
    let mut leg = prefill_leg(&body, Value::Null);
    leg.as_object_mut().unwrap().remove("kv_transfer_params");
    let first = nodes.post_as(P, &id, leg.clone()).await;
    let answer = nodes.post_as(D, &id, body.clone()).await;
    // The KV left when it was computed, before the decode node was asked.
    let arrives = cost.prefill(1000) + cost.link_occupied(1000) + cost.link_latency();
    assert_eq!(answer.token_times()[0], tick(arrives + cost.decode_step(1, 1000)));
    let first = first.json()["choices"][0]["text"].as_str().unwrap().to_owned();
    assert_same_answer(&[answer.streamed_text(), first], 9);
    assert_eq!(nodes.sources(D).await, [1.0, 0.0, 999.0]);
    // Addresses that are not those of the nodes lead nowhere.
    let other = "___prefill_addr_10.0.0.1:1___decode_addr_10.0.0.2:2_00ff";
    nodes.post_as(P, other, leg).await;
    nodes.post_as(D, other, with(body, json!({"prompt": prompt(100, 1)}))).await;
    assert_eq!(nodes.sources(D).await, [101.0, 0.0, 999.0]);
    nodes.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn lmcache_goes_on_from_the_first_token_with_the_same_words() {
    let nodes = Nodes::start(apart(&[]));
    let mut deliveries = nodes.cluster.deliveries();
    let text = prompt(1000, 0);
    let whole = Nodes::start(apart(&[])).post(D, ask(&text, 30)).await.streamed_text();
    let mut connection = crate::client::Connection::open(nodes.address(P), nodes.clock).await;
    connection.send("POST", "/tokenize", "", &json!({"prompt": text}).to_string()).await;
    let mut ids = connection.read().await.json()["tokens"].as_array().unwrap().clone();
    let spec = json!({"ret_first_tok": true, "disagg_spec": {"req_id": "q7", "receiver_host": "127.0.0.1",
        "receiver_init_port": [nodes.address(D).port()], "receiver_alloc_port": [7400]}});
    let body = with(ask("", 30), json!({"prompt": ids}));
    let first = nodes.post(P, prefill_leg(&body, spec)).await.json();
    let delivery = deliveries.recv().await.unwrap();
    assert_eq!((delivery.request_id.as_str(), delivery.node), ("q7", 0));
    ids.push(first["kv_transfer_params"]["first_tok"].clone());
    let rest = nodes.post(D, with(body, json!({"prompt": ids, "max_tokens": 29}))).await;
    assert_eq!(format!("{}{}", first["choices"][0]["text"].as_str().unwrap(), rest.streamed_text()), whole);
    assert_eq!(nodes.sources(D).await, [1.0, 0.0, 1000.0]);
    nodes.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_layerwise_decode_node_calls_for_its_prefill() {
    let config = apart(&[]);
    let cost = config.cost.clone();
    let nodes = Nodes::start(config);
    let metaserver = crate::nodes::listen(0);
    let url = format!("http://{}/v1/metaserver", metaserver.local_addr().unwrap());
    let body = ask(&prompt(1000, 0), 9);
    let asks = json!({"do_remote_decode": false, "do_remote_prefill": true, "metaserver": url});
    let leg = with(body.clone(), json!({"kv_transfer_params": asks}));
    let mut decode = nodes.send(D, "x-request-id: r5\r\n", &leg).await;
    let (mut caller, _) = metaserver.accept().await.unwrap();
    let called = crate::nodes::read_request(&mut caller).await;
    assert_eq!((&called["request_id"], &called["do_remote_decode"]), (&json!("cmpl-r5-0"), &json!(true)));
    assert_eq!(called["remote_engine_id"], "decode-0");
    let first = nodes.post(P, prefill_leg(&body, called)).await.json();
    crate::nodes::reply(&mut caller, "200 OK").await;
    let answer = decode.read().await;
    let arrives = cost.prefill(1000) + cost.link_occupied(1000) + cost.link_latency();
    assert_eq!(answer.token_times()[0], tick(arrives + cost.decode_step(1, 1000)));
    assert_same_answer(
        &[answer.streamed_text(), first["choices"][0]["text"].as_str().unwrap().to_owned()],
        9,
    );
    assert_eq!(nodes.sources(D).await, [1.0, 0.0, 999.0]);
    // A metaserver that refuses leaves the decode node to itself, at once.
    let sent = nodes.clock.now();
    let mut decode = nodes.send(D, "", &with(leg, json!({"prompt": prompt(100, 3)}))).await;
    let (mut caller, _) = metaserver.accept().await.unwrap();
    crate::nodes::read_request(&mut caller).await;
    crate::nodes::reply(&mut caller, "500 Internal Server Error").await;
    assert_eq!(decode.read().await.token_times()[0], tick(sent + cost.prefill(100)));
    nodes.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_decode_node_that_goes_away_leaves_the_prefill_nodes_blocks_free() {
    let nodes = Nodes::start(apart(&[("link-gb-per-s", "0.1")]));
    let body = ask(&prompt(1000, 0), 9);
    let first = nodes.post(P, prefill_leg(&body, nixl_ask())).await;
    let kv = first.json()["kv_transfer_params"].clone();
    let connection = nodes.send(D, "", &with(body, json!({"kv_transfer_params": kv}))).await;
    sleep(Duration::from_millis(500)).await; // the transfer takes 1.3 s
    assert!(0.0 < nodes.metric(P, "kv_cache_usage_perc", &[]).await);
    drop(connection);
    sleep(Duration::from_millis(2)).await;
    nodes.assert_idle().await;
}
