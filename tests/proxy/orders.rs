//! The orders in which dialects send their legs.

use crate::fake::{Act, Fake, chunk, end, json, prefilled, stream, stream_head, token, wait};
use crate::setup::{COMPLETION, Proxy, config};
use pdbench::cluster::Node;
use pdbench::wire::dialect::Dialect;
use pdbench::wire::zmtp::{Connection, SocketType, greeting, message};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn transfer_parameters_go_from_leg_to_leg_as_they_are() {
    let (p, d) = (Fake::start(vec![prefilled(0)]), Fake::start(vec![stream(&["a"], 0)]));
    let proxy = Proxy::between(Dialect::NixlPull, &p, &d).await;
    assert_eq!(proxy.complete().await.tokens(), "a");
    let (prefill, decode) = (p.got().remove(0), d.got().remove(0));
    assert_eq!((&prefill.body["stream"], &prefill.body["max_tokens"]), (&false.into(), &1.into()));
    let params = decode.body["kv_transfer_params"].to_string();
    assert_eq!(params, r#"{"remote_engine_id":"e-1","remote_block_ids":[[1,2]],"n":1.5}"#);
    assert_eq!(decode.body["max_tokens"], 8);
}

#[tokio::test(start_paused = true)]
async fn a_prefill_answer_without_its_parameters_is_a_fault_of_that_leg() {
    let (p, d) = (Fake::start(vec![json(200, r#"{"choices":[]}"#, 0)]), Fake::start(vec![]));
    let proxy = Proxy::between(Dialect::NixlPull, &p, &d).await;
    let answer = proxy.complete().await;
    assert_eq!((answer.status, answer.header("x-pdbench-leg")), (502, Some("prefill")));
    assert!(answer.text.contains("kv_transfer_params"), "{}", answer.text);
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn concurrent_legs_leave_at_once() {
    let p = Fake::start(vec![prefilled(40)]);
    let d = Fake::start(vec![vec![stream_head(), wait(50), chunk(&token("a")), chunk(&token("b")), end()]]);
    let proxy = Proxy::between(Dialect::Sglang, &p, &d).await;
    let begun = Instant::now();
    let mut client = proxy.request("POST", "/v1/completions", "", COMPLETION).await;
    let (status, head) = client.head().await;
    // The head waits for the first good sign of the prefill leg.
    assert_eq!((status, begun.elapsed()), (200, Duration::from_millis(40)));
    assert!(head.contains("prefill;dur=40.000"), "{head}");
    let working: Vec<_> = proxy.status().await["instances"].as_array().unwrap().clone();
    assert_eq!((&working[0]["in_flight"], &working[1]["in_flight"]), (&0.into(), &1.into()));
    assert!(client.chunk().await.unwrap().starts_with(&token("a")));
    let (prefill, decode) = (p.got().remove(0), d.got().remove(0));
    assert_eq!((prefill.at, decode.at), (begun, begun));
    assert_eq!(prefill.body["bootstrap_room"], decode.body["bootstrap_room"]);
    while !client.chunk().await.unwrap().is_empty() {}
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_concurrent_prefill_that_fails_is_the_answer() {
    let p = Fake::start(vec![json(400, r#"{"error":{"message":"too long"}}"#, 10)]);
    let d = Fake::start(vec![vec![stream_head(), Act::Hang]]);
    let proxy = Proxy::between(Dialect::Sglang, &p, &d).await;
    let answer = proxy.complete().await;
    assert_eq!((answer.status, answer.header("x-pdbench-leg")), (400, Some("prefill")));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(d.cut(), 1);
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_concurrent_prefill_that_fails_late_breaks_the_answer_off() {
    let p = Fake::start(vec![json(500, "{}", 10)]);
    let d = Fake::start(vec![vec![stream_head(), chunk(&token("a")), Act::Hang]]);
    let proxy = Proxy::between(Dialect::Sglang, &p, &d).await;
    let answer = proxy.complete().await;
    assert_eq!((answer.status, answer.whole, answer.tokens()), (200, false, "a".to_owned()));
    assert_eq!(proxy.ended("broken").await, 1.0);
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_ends_both_concurrent_legs() {
    let p = Fake::start(vec![vec![Act::Hang]]);
    let d = Fake::start(vec![vec![stream_head(), chunk(&token("a")), Act::Hang]]);
    let proxy = Proxy::between(Dialect::Sglang, &p, &d).await;
    let mut client = proxy.request("POST", "/v1/completions", "", COMPLETION).await;
    assert_eq!(client.head().await.0, 200);
    drop(client);
    sleep(Duration::from_millis(1)).await;
    assert_eq!((p.cut(), d.cut()), (1, 1));
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_decode_instance_asks_for_its_prefill() {
    let p = Fake::start(vec![prefilled(20)]);
    let d = Fake::start(vec![]);
    let proxy = Proxy::between(Dialect::AscendLayerwise, &p, &d).await;
    let call = r#"{"request_id":"cmpl-r-7-0","remote_block_ids":[4,5],"do_remote_decode":true}"#;
    let mut script = vec![wait(5), Act::Post("/v1/metaserver".into(), proxy.address, call.into())];
    script.extend([wait(30), stream_head(), chunk(&token("a")), end()]);
    d.state.lock().unwrap().scripts.push(script);
    let begun = Instant::now();
    let lines = "x-request-id: r-7\r\n";
    let answer = proxy.request("POST", "/v1/completions", lines, COMPLETION).await.answer().await;
    assert_eq!((answer.status, answer.tokens()), (200, "a".to_owned()));
    let (prefill, decode) = (p.got().remove(0), d.got().remove(0));
    assert_eq!((decode.at - begun, prefill.at - begun), (Duration::ZERO, Duration::from_millis(5)));
    let url = format!("http://{}/v1/metaserver", proxy.address);
    assert_eq!(decode.body["kv_transfer_params"]["metaserver"], url);
    assert_eq!(prefill.body["kv_transfer_params"]["remote_block_ids"].to_string(), "[4,5]");
    let late = proxy.post("/v1/metaserver", call).await;
    assert_eq!(late.status, 404);
    assert_eq!(proxy.post("/v1/metaserver", "[]").await.status, 400);
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_decode_instance_that_needs_no_prefill_need_not_ask() {
    let (p, d) = (Fake::start(vec![prefilled(0)]), Fake::start(vec![stream(&["a"], 5)]));
    let proxy = Proxy::between(Dialect::AscendLayerwise, &p, &d).await;
    assert_eq!(proxy.complete().await.tokens(), "a");
    assert!(p.got().is_empty());
    sleep(Duration::from_secs(120)).await;
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_prefill_instance_comes_up_with_its_engine() {
    let (p, d) = (Fake::start(vec![prefilled(0)]), Fake::start(vec![stream(&["a"], 0)]));
    let bootstrap = Fake::start(vec![]);
    let mut config = config(Dialect::MooncakeP2p, &[&p], &[&d]);
    config.prefill[0].kv.bootstrap_port = Some(bootstrap.address.port());
    let proxy = Proxy::start(config).await;
    let why = proxy.status().await["instances"][0]["why"].to_string();
    assert!(why.contains("bootstrap server"), "{why}");
    bootstrap.page("/query", r#"{"0":{"engine_id":"e-9","worker_addr":{}}}"#);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(proxy.complete().await.tokens(), "a");
    let decode = d.got().remove(0);
    assert_eq!(decode.body["kv_transfer_params"]["remote_engine_id"], "e-9");
    assert_eq!(p.got()[0].header("x-data-parallel-rank"), Some("0"));
}

fn lmcache_answer(reason: &str) -> String {
    format!(
        r#"{{"id":"p","choices":[{{"index":0,"text":"P","finish_reason":"{reason}"}}],"usage":{{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}},"kv_transfer_params":{{"first_tok":99}}}}"#
    )
}

fn receiver(fake: &Fake) -> Node {
    format!("{},init=7300,alloc=7400", fake.name()).parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_decode_leg_waits_for_word_of_the_kv() {
    let p = Fake::start(vec![
        json(200, r#"{"tokens":[5,6,7],"count":3}"#, 0),
        json(200, &lmcache_answer("length"), 10),
    ]);
    let d = Fake::start(vec![stream(&["b", "c"], 0)]);
    let notify = crate::fake::listen("127.0.0.1:0".parse().unwrap());
    let address = notify.local_addr().unwrap();
    let mut config = config(Dialect::Lmcache, &[&p], &[&d]);
    config.decode = vec![receiver(&d)];
    config.kv_notify = Some(Arc::new(notify));
    let proxy = Proxy::start(config).await;
    let begun = Instant::now();
    let mut client = proxy.request("POST", "/v1/completions", "", COMPLETION).await;
    assert_eq!(client.head().await.0, 200);
    assert!(client.chunk().await.unwrap().contains("\"P\""));
    assert_eq!(begun.elapsed(), Duration::from_millis(10));
    sleep(Duration::from_millis(25)).await;
    assert!(d.got().is_empty());
    let id = p.got()[1].body["kv_transfer_params"]["disagg_spec"]["req_id"].as_str().unwrap().to_owned();
    notify_proxy(address, &id).await;
    let mut text = String::new();
    while let Some(chunk) = client.chunk().await.filter(|chunk| !chunk.is_empty()) {
        text.push_str(&chunk);
    }
    assert!(text.contains("\"b\"") && text.ends_with("data: [DONE]\n\n"), "{text}");
    let decode = d.got().remove(0);
    assert_eq!(decode.at - begun, Duration::from_millis(35));
    assert_eq!(
        (decode.body["prompt"].to_string(), &decode.body["max_tokens"]),
        ("[5,6,7,99]".into(), &7.into())
    );
    proxy.assert_idle().await;
}

/// What an LMCache prefill instance does when the KV has left.
async fn notify_proxy(address: std::net::SocketAddr, id: &str) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(&greeting()).await.unwrap();
    let (mut connection, mut reply, mut bytes) =
        (Connection::new(SocketType::Push, 4096), Vec::new(), [0; 512]);
    while !connection.is_ready() {
        let count = socket.read(&mut bytes).await.unwrap();
        connection.feed(&bytes[..count], &mut reply, |_| {}).unwrap();
        socket.write_all(&reply).await.unwrap();
        reply.clear();
    }
    let mut packed = vec![0x82, 0xa4];
    packed.extend(b"type\xaaProxyNotif\xa6req_id\xd9");
    packed.push(id.len() as u8);
    packed.extend(id.as_bytes());
    socket.write_all(&message(&[&packed])).await.unwrap();
    sleep(Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn no_word_of_the_kv_in_time_is_told_in_the_stream() {
    let p = Fake::start(vec![json(200, r#"{"tokens":[5]}"#, 0), json(200, &lmcache_answer("length"), 0)]);
    let d = Fake::start(vec![stream(&["b"], 0)]);
    let mut config = config(Dialect::Lmcache, &[&p], &[&d]);
    config.decode = vec![receiver(&d)];
    config.kv_notify = Some(Arc::new(crate::fake::listen("127.0.0.1:0".parse().unwrap())));
    config.timeouts.kv_ready = Duration::from_secs(3);
    let proxy = Proxy::start(config).await;
    let answer = proxy.complete().await;
    assert!(!answer.whole && answer.text.contains("no word of its KV within 3s"), "{}", answer.text);
    assert!(d.got().is_empty());
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_ends_with_the_prefill_has_no_decode_leg() {
    for (stream, status) in [(true, 200), (false, 200)] {
        let p = Fake::start(vec![json(200, r#"{"tokens":[5]}"#, 0), json(200, &lmcache_answer("stop"), 0)]);
        let d = Fake::start(vec![]);
        let mut config = config(Dialect::Lmcache, &[&p], &[&d]);
        config.decode = vec![receiver(&d)];
        let proxy = Proxy::start(config).await;
        let body = format!(r#"{{"prompt":"x","max_tokens":5,"stream":{stream}}}"#);
        let answer = proxy.post("/v1/completions", &body).await;
        assert_eq!((answer.status, answer.whole), (status, true));
        assert!(answer.text.contains("\"P\"") && d.got().is_empty(), "{}", answer.text);
        assert_eq!(answer.text.contains("[DONE]"), stream);
        proxy.assert_idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_one_piece_is_joined_too() {
    let p = Fake::start(vec![json(200, r#"{"tokens":[5]}"#, 0), json(200, &lmcache_answer("length"), 0)]);
    let rest = r#"{"id":"d","choices":[{"index":0,"text":"bc","finish_reason":"length"}],"usage":{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4}}"#;
    let d = Fake::start(vec![json(200, rest, 0)]);
    let mut config = config(Dialect::Lmcache, &[&p], &[&d]);
    config.decode = vec![receiver(&d)];
    let proxy = Proxy::start(config).await;
    let answer = proxy.post("/v1/completions", r#"{"prompt":"x","max_tokens":3}"#).await;
    assert_eq!((answer.json()["choices"][0]["text"].as_str(), answer.status), (Some("Pbc"), 200));
    proxy.assert_idle().await;
}
