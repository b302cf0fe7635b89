//! The repeat mode: many decodes of one prefill at once, every one of them read and told.

use crate::fake::{Act, DONE, Fake, chunk, end, json, prefilled, stream, stream_head, token, wait};
use crate::setup::{COMPLETION, Proxy, config};
use pdbench::measure::{Kind, Outcome, RequestRecord};
use pdbench::proxy::{Benchmark, Trigger};
use pdbench::wire::Secret;
use pdbench::wire::dialect::Dialect;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A stream of `tokens` tokens, 10 ms apart, with usage.
fn decode(tokens: u32) -> Vec<Act> {
    let mut acts = vec![stream_head()];
    for _ in 0..tokens {
        acts.extend([wait(10), chunk(&token("x"))]);
    }
    let usage = format!(
        "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":7,\"completion_tokens\":{tokens}}}}}\n\n"
    );
    acts.extend([chunk(&usage), chunk(DONE), end()]);
    acts
}

async fn start(p: &Fake, d: &[&Fake], trigger: Option<Trigger>) -> Proxy {
    let mut config = config(Dialect::Plain, &[p], d);
    config.benchmark = Some(Benchmark { trigger });
    Proxy::start(config).await
}

async fn last(proxy: &Proxy) -> (Value, Vec<RequestRecord>) {
    let said = proxy.get("/benchmark/last").await.json();
    let records = serde_json::from_value(said["records"].clone()).unwrap();
    (said, records)
}

#[tokio::test(start_paused = true)]
async fn a_header_sets_off_replicas_behind_the_prefill_leg() {
    let p = Fake::start(vec![prefilled(50)]);
    let d = [0; 2].map(|_| Fake::start(vec![decode(8)]));
    let proxy = start(&p, &d.each_ref(), None).await;
    assert_eq!(last(&proxy).await.0["state"], "none");
    let begun = Instant::now();
    let lines = "x-pdbench-repeat-d-times: 9\r\nx-request-id: r\r\n";
    let answer = proxy.request("POST", "/v1/completions", lines, COMPLETION).await.answer().await;
    assert_eq!((answer.status, answer.tokens()), (200, "x".repeat(8)));
    sleep(Duration::from_millis(20)).await;
    let (said, records) = last(&proxy).await;
    assert_eq!((said["state"].as_str(), records.len()), (Some("done"), 10));
    let ms = Duration::from_millis;
    for fake in &d {
        let got = fake.got();
        assert_eq!(got.len(), 5);
        for got in got {
            assert_eq!((got.at - begun, got.body.to_string().as_str()), (ms(50), COMPLETION));
            assert_eq!(got.path, "/v1/completions");
        }
    }
    let ids: std::collections::BTreeSet<_> = records.iter().map(|record| record.id.clone()).collect();
    assert!(ids.len() == 10 && ids.contains("r") && ids.contains("r-r9"), "{ids:?}");
    for (i, record) in records.iter().enumerate() {
        assert_eq!((record.i as usize, record.kind, record.outcome), (i, Kind::Replica, Outcome::Ok));
        assert_eq!((record.output_tokens, record.events.len()), (8, 8));
        assert!(d.iter().any(|fake| Some(fake.name()) == record.node));
        assert_eq!(record.requested_tokens, Some(8));
    }
    let plateau = &said["plateau"];
    assert_eq!(
        (&plateau["ok"], &plateau["expected"], plateau["faults"].to_string()),
        (&10.into(), &10.into(), "[]".into())
    );
    let rate = plateau["decode_tok_per_s"].as_f64().unwrap();
    assert!((rate - 1000.0).abs() < 20.0, "{rate}");
    let metrics = proxy.metrics().await;
    let told = metrics.sum("pdbench_benchmark_plateau_decode_tokens_per_second", &[]).unwrap();
    assert_eq!((told, metrics.sum("pdbench_benchmark_valid", &[])), (rate, Some(1.0)));
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn the_fork_s_rule_fires_once_behind_the_request_s_own_prefill() {
    let p = Fake::start(vec![prefilled(5)]);
    let d = Fake::start(vec![decode(4)]);
    let trigger = Trigger { repeat_p_request: 1, repeat_d_times: 6 };
    let proxy = start(&p, &[&d], Some(trigger)).await;
    let chat = r#"{"model":"m","messages":[],"max_tokens":4,"stream":true}"#;
    for expected in [1, 1 + 7, 1 + 7 + 1, 1 + 7 + 2] {
        assert_eq!(proxy.post("/v1/chat/completions", chat).await.status, 200);
        sleep(Duration::from_millis(50)).await;
        assert_eq!(d.got().len(), expected);
    }
    assert_eq!(p.got().len(), 4);
    assert!(d.got().iter().all(|got| got.path == "/v1/chat/completions"));
    assert_eq!(last(&proxy).await.1.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn replicas_that_fail_are_told_and_leave_nothing_behind() {
    let p = Fake::start(vec![prefilled(0)]);
    let d = Fake::start(vec![
        decode(8),
        json(400, r#"{"error":{"message":"Bearer canary-key is odd"}}"#, 1),
        vec![stream_head(), chunk(&token("x")), Act::Close],
        decode(8),
    ]);
    let mut config = config(Dialect::Plain, &[&p], &[&d]);
    config.benchmark = Some(Benchmark::default());
    config.instance_key = Some(Secret::new("canary-key"));
    let proxy = Proxy::start(config).await;
    let lines = "x-pdbench-repeat-d-times: 3\r\n";
    proxy.request("POST", "/v1/completions", lines, COMPLETION).await.answer().await;
    sleep(Duration::from_millis(200)).await;
    let (said, records) = last(&proxy).await;
    assert_eq!(said["state"], "done");
    let mut outcomes: Vec<_> = records.iter().map(|record| record.outcome.word()).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["http_4xx", "ok", "ok", "truncated"]);
    assert!(!said.to_string().contains("canary") && said.to_string().contains("[redacted]"));
    assert!(!said["plateau"]["faults"].as_array().unwrap().is_empty());
    assert_eq!(proxy.metrics().await.sum("pdbench_benchmark_valid", &[]), Some(0.0));
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn replicas_go_on_without_their_client_and_have_its_record() {
    let p = Fake::start(vec![prefilled(0)]);
    let d = Fake::start(vec![decode(8)]);
    let proxy = start(&p, &[&d], None).await;
    let lines = "x-pdbench-repeat-d-times: 3\r\n";
    let mut client = proxy.request("POST", "/v1/completions", lines, COMPLETION).await;
    client.head().await;
    assert_eq!(last(&proxy).await.0["state"], "running");
    let again = proxy.request("POST", "/v1/completions", lines, COMPLETION).await.answer().await;
    assert_eq!(again.status, 409);
    drop(client);
    sleep(Duration::from_millis(200)).await;
    let (said, records) = last(&proxy).await;
    let outcomes: Vec<_> = records.iter().map(|record| record.outcome.word()).collect();
    assert_eq!(
        (said["state"].as_str(), outcomes),
        (Some("done"), vec!["cancelled_at_end", "ok", "ok", "ok"])
    );
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_prefill_leg_that_fails_sets_nothing_off() {
    let p = Fake::start(vec![json(500, "{}", 5), prefilled(0)]);
    let d = Fake::start(vec![decode(2)]);
    let proxy = start(&p, &[&d], None).await;
    let lines = "x-pdbench-repeat-d-times: 3\r\n";
    for status in [500, 200] {
        let answer = proxy.request("POST", "/v1/completions", lines, COMPLETION).await.answer().await;
        assert_eq!((answer.status, d.got().is_empty()), (status, status == 500));
        proxy.assert_idle().await;
    }
    sleep(Duration::from_millis(50)).await;
    assert_eq!(last(&proxy).await.0["state"], "done");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_repeat_says_why() {
    let (p, d) = (Fake::start(vec![prefilled(0)]), Fake::start(vec![stream(&["a"], 0)]));
    let plain = Proxy::between(Dialect::Plain, &p, &d).await;
    let repeating = start(&p, &[&d], None).await;
    let mut pull = config(Dialect::NixlPull, &[&p], &[&d]);
    pull.benchmark = Some(Benchmark::default());
    let pull = Proxy::start(pull).await;
    for (proxy, times, status, says) in [
        (&plain, "3", 400, "--benchmark-mode"),
        (&repeating, "0", 400, "from 1 to"),
        (&repeating, "many", 400, "from 1 to"),
        (&repeating, "999999999", 400, "from 1 to"),
        (&pull, "3", 409, "nixl-pull"),
    ] {
        let lines = format!("x-pdbench-repeat-d-times: {times}\r\n");
        let answer = proxy.request("POST", "/v1/completions", &lines, COMPLETION).await.answer().await;
        assert!(answer.status == status && answer.text.contains(says), "{times}: {}", answer.text);
        proxy.assert_idle().await;
    }
    assert!(p.got().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_replicas_start_together() {
    let p = Fake::start(vec![prefilled(5)]);
    let d = [0; 4].map(|_| Fake::start(vec![decode(5)]));
    let proxy = start(&p, &d.each_ref(), None).await;
    let lines = "x-pdbench-repeat-d-times: 1023\r\n";
    let answer = proxy.request("POST", "/v1/completions", lines, COMPLETION).await.answer().await;
    assert_eq!(answer.status, 200);
    sleep(Duration::from_secs(1)).await;
    let (said, records) = last(&proxy).await;
    assert_eq!((said["state"].as_str(), records.len()), (Some("done"), 1024));
    let starts: std::collections::BTreeSet<_> = records.iter().map(|record| record.sent).collect();
    assert_eq!(starts.len(), 1, "{starts:?}");
    assert!(d.iter().all(|fake| fake.got().len() == 256));
    proxy.assert_idle().await;
}
