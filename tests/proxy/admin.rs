//! Instances that come and go, keys, and what the proxy says of itself.

use crate::fake::{Act, Fake, chunk, json, prefilled, stream, stream_head, token};
use crate::setup::{COMPLETION, Proxy, config};
use pdbench::proxy::{Admin, Config};
use pdbench::wire::Secret;
use pdbench::wire::dialect::Dialect;
use std::time::Duration;
use tokio::time::sleep;

const CANARY: &str = "canary-4f1d";

fn with_key(p: &Fake, d: &Fake, allowed: &[&str]) -> Config {
    let mut config = config(Dialect::Plain, &[p], &[d]);
    let allowed = allowed.iter().map(|entry| entry.parse().unwrap()).collect();
    config.admin = Admin { key: Some(Secret::new(CANARY)), allowed };
    config
}

fn fakes() -> (Fake, Fake) {
    (Fake::start(vec![prefilled(0)]), Fake::start(vec![stream(&["a"], 0)]))
}

async fn ask(proxy: &Proxy, what: &str, key: &str, body: &str) -> crate::client::Answer {
    let lines = if key.is_empty() { String::new() } else { format!("X-API-Key: {key}\r\n") };
    proxy.request("POST", &format!("/instances/{what}"), &lines, body).await.answer().await
}

fn body(role: &str, instance: &str) -> String {
    format!(r#"{{"type":"{role}","instance":"{instance}"}}"#)
}

#[tokio::test(start_paused = true)]
async fn without_a_key_instances_are_fixed() {
    let (p, d) = fakes();
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    for what in ["add", "remove"] {
        let answer = ask(&proxy, what, "", &body("decode", &d.name())).await;
        assert_eq!(answer.status, 404);
    }
    assert_eq!(proxy.status().await["decode_node_count"], 1);
}

#[tokio::test(start_paused = true)]
async fn only_the_key_opens_and_only_the_list_lets_in() {
    let (p, d) = fakes();
    let extra = Fake::start(vec![stream(&["z"], 0)]);
    let allowed = format!("127.0.0.1:{}", extra.address.port());
    let proxy = Proxy::start(with_key(&p, &d, &[&allowed])).await;
    let add = body("decode", &extra.name());
    for key in ["", "canary", "canary-4f1d ", "canary-4f1d1", "Canary-4f1d"] {
        let key = key.trim_end();
        if key != CANARY {
            assert_eq!(ask(&proxy, "add", key, &add).await.status, 403, "{key}");
        }
    }
    for (instance, status) in [
        ("169.254.169.254:80", 403),
        ("127.0.0.1:22", 403),
        ("localhost:1", 403),
        ("nonsense", 400),
        ("a:80\\r\\nx: y", 400),
    ] {
        let answer = ask(&proxy, "add", CANARY, &body("decode", instance)).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    assert_eq!(ask(&proxy, "add", CANARY, r#"{"type":"proxy","instance":"a:1"}"#).await.status, 400);
    let added = ask(&proxy, "add", CANARY, &add).await;
    assert_eq!(added.status, 200, "{}", added.text);
    assert_eq!(ask(&proxy, "add", CANARY, &add).await.status, 409);
    sleep(Duration::from_millis(10)).await;
    let texts = [proxy.complete().await.tokens(), proxy.complete().await.tokens()];
    assert!(texts.contains(&"z".to_owned()), "{texts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_removed_instance_ends_what_it_has() {
    let (p, _) = fakes();
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let slow = vec![
        stream_head(),
        chunk(&token("a")),
        Act::Permit(std::sync::Arc::clone(&permits)),
        chunk(&token("b")),
        crate::fake::end(),
    ];
    let d = Fake::start(vec![slow]);
    let proxy = Proxy::start(with_key(&p, &d, &[])).await;
    let mut client = proxy.request("POST", "/v1/completions", "", COMPLETION).await;
    assert_eq!(client.head().await.0, 200);
    let gone = ask(&proxy, "remove", CANARY, &body("decode", &d.name())).await;
    assert!(gone.status == 200 && gone.text.contains("1 requests in flight"), "{}", gone.text);
    assert_eq!(ask(&proxy, "remove", CANARY, &body("decode", &d.name())).await.status, 404);
    assert_eq!(proxy.complete().await.status, 503);
    permits.add_permits(1);
    let mut text = String::new();
    while let Some(chunk) = client.chunk().await.filter(|chunk| !chunk.is_empty()) {
        text.push_str(&chunk);
    }
    assert!(text.contains("\"b\""), "{text}");
    // What the configuration named may come back.
    assert_eq!(ask(&proxy, "add", CANARY, &body("decode", &d.name())).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn keys_appear_nowhere() {
    let echo = r#"{"error":{"message":"`Bearer canary-instance` is not known here"}}"#;
    let (p, d) = (Fake::start(vec![prefilled(0)]), Fake::start(vec![json(401, echo, 0)]));
    let mut config = with_key(&p, &d, &[]);
    config.instance_key = Some(Secret::new("canary-instance"));
    assert!(!format!("{config:?}").contains("canary"));
    let proxy = Proxy::start(config).await;
    let lines = format!("x-api-key: {CANARY}\r\nauthorization: Bearer canary-client\r\n");
    let mut seen = proxy.request("POST", "/v1/completions", &lines, COMPLETION).await.answer().await.text;
    for (method, path) in [
        ("GET", "/status"),
        ("GET", "/metrics"),
        ("GET", "/healthcheck"),
        ("POST", "/instances/add"),
        ("POST", "/instances/remove"),
        ("POST", "/nowhere"),
        ("POST", "/v1/completions"),
    ] {
        let answer = proxy.request(method, path, &lines, "not json").await.answer().await;
        seen.push_str(&answer.head);
        seen.push_str(&answer.text);
    }
    assert!(seen.contains("`Bearer [redacted]` is not known here") && !seen.contains("canary"), "{seen}");
    for got in p.got().iter().chain(&d.got()) {
        assert_eq!(got.header("authorization"), Some("Bearer canary-instance"));
        assert_eq!(got.header("x-api-key"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn headers_pass_but_for_those_of_one_connection() {
    let (p, d) = fakes();
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    let lines = "Content-Type: application/json; charset=utf-8\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\
                 Authorization: Bearer mine\r\nTraceparent: 00-ab\r\nX-Request-Id: r-1\r\nAccept-Encoding: gzip\r\n\
                 TE: trailers\r\n";
    let answer = proxy.request("POST", "/v1/completions", lines, COMPLETION).await.answer().await;
    assert_eq!((answer.status, answer.header("x-request-id")), (200, Some("r-1")));
    for got in [p.got().remove(0), d.got().remove(0)] {
        let seen =
            ["authorization", "traceparent", "x-request-id", "accept-encoding", "x-hop", "te", "connection"]
                .map(|name| got.header(name).map(str::to_owned));
        let want = [Some("Bearer mine"), Some("00-ab"), Some("r-1"), Some("identity"), None, None, None];
        assert_eq!(seen, want.map(|value| value.map(str::to_owned)));
        assert_eq!(got.header("content-type"), Some("application/json"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_status_has_the_keys_of_the_proxies_in_use() {
    let (p, d) = fakes();
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    let status = proxy.status().await;
    assert_eq!(status["prefill_nodes"][0], p.name());
    assert_eq!(status["decode_nodes"][0], d.name());
    assert_eq!((&status["prefill_node_count"], &status["ready"]), (&1.into(), &true.into()));
    assert_eq!(proxy.get("/ping").await.status, 200);
    assert_eq!(proxy.get("/healthcheck").await.json()["prefill_instances"], 1);
    assert!(proxy.get("/version").await.text.contains("pdbench"));
}

#[tokio::test(start_paused = true)]
async fn models_are_an_instance_s_or_the_configured_one() {
    let (p, d) = fakes();
    let mut config = config(Dialect::Plain, &[&p], &[&d]);
    config.model = Some("mine".to_owned());
    let proxy = Proxy::start(config).await;
    let own = proxy.get("/v1/models").await.json();
    assert_eq!((&own["object"], &own["data"][0]["id"]), (&"list".into(), &"mine".into()));
    d.page("/v1/models", r#"{"object":"list","data":[{"id":"theirs","max_model_len":77}]}"#);
    assert_eq!(proxy.get("/v1/models").await.json()["data"][0]["id"], "theirs");
}

#[tokio::test(start_paused = true)]
async fn tokenize_goes_to_one_and_reset_to_all() {
    let p = Fake::start(vec![json(200, r#"{"tokens":[1]}"#, 0)]);
    let d = Fake::start(vec![json(200, "", 0)]);
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    assert_eq!(proxy.post("/tokenize", r#"{"prompt":"x"}"#).await.text, r#"{"tokens":[1]}"#);
    assert_eq!((p.got().len(), d.got().len()), (1, 0));
    let reset = proxy.post("/reset_prefix_cache", "").await;
    assert_eq!((reset.status, &reset.json()["instances"][&d.name()]), (200, &200.into()));
    assert_eq!(d.got()[0].path, "/reset_prefix_cache");
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn instances_that_do_not_empty_their_cache_cost_one_wait_together() {
    let frozen: Vec<Fake> = (0..3).map(|_| Fake::start(vec![vec![Act::Hang]])).collect();
    let (p, _) = fakes();
    let proxy = Proxy::start(config(Dialect::Plain, &[&p], &frozen.iter().collect::<Vec<_>>())).await;
    let began = tokio::time::Instant::now();
    let reset = proxy.post("/reset_prefix_cache", "").await;
    assert_eq!(reset.status, 502, "{}", reset.text);
    assert_eq!(reset.text.matches("no answer within 30s").count(), 3, "{}", reset.text);
    assert!(began.elapsed() < Duration::from_secs(31), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_side_channel_on_another_host_is_looked_up_there_and_nowhere_else() {
    let (p, d) = fakes();
    let proxy = Proxy::start(with_key(&p, &d, &["127.0.0.1:8200", "127.0.0.2:5600"])).await;
    for (side, status) in [("127.0.0.2:5600", 200), ("127.0.0.2:5601", 403), ("127.0.0.1:5600", 403)] {
        let node = format!("127.0.0.1:8200,side-channel={side}");
        let answer = ask(&proxy, "add", CANARY, &body("decode", &node)).await;
        assert_eq!(answer.status, status, "{side}: {}", answer.text);
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_tell_each_leg_by_its_end() {
    let (p, d) = fakes();
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    for _ in 0..3 {
        proxy.complete().await;
    }
    let metrics = proxy.metrics().await;
    for (role, name) in [("prefill", p.name()), ("decode", d.name())] {
        let labels = [("role", role), ("instance", name.as_str())];
        let ok = metrics.sum("pdbench_proxy_legs_total", &[labels[0], labels[1], ("class", "2xx")]);
        assert_eq!((ok, metrics.sum("pdbench_proxy_instance_up", &labels)), (Some(3.0), Some(1.0)));
        assert_eq!(metrics.sum("pdbench_proxy_leg_seconds_count", &labels), Some(3.0));
    }
    let decode = [("role", "decode")];
    assert_eq!(metrics.sum("pdbench_proxy_leg_events_total", &decode), Some(6.0));
    assert_eq!(metrics.sum("pdbench_proxy_requests_total", &[("outcome", "ok")]), Some(3.0));
    assert!(metrics.sum("process_cpu_seconds_total", &[]).is_some());
}
