use crate::fake::{Act, DONE, Fake, chunk, end, json, prefilled, stream, stream_head, token};
use crate::setup::{COMPLETION, Proxy, config};
use pdbench::wire::dialect::Dialect;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn the_prefill_leg_ends_before_the_decode_leg_begins() {
    let p = Fake::start(vec![prefilled(30)]);
    let d = Fake::start(vec![stream(&["a", "b"], 5)]);
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    let begun = Instant::now();
    let answer = proxy.complete().await;
    assert_eq!((answer.status, answer.whole, answer.tokens()), (200, true, "ab".to_owned()));
    assert!(answer.text.ends_with(DONE));
    let (prefill, decode) = (p.got().remove(0), d.got().remove(0));
    assert_eq!((prefill.at - begun, decode.at - begun), (Duration::ZERO, Duration::from_millis(30)));
    assert_eq!(prefill.body["max_tokens"], 1);
    assert_eq!(decode.body.to_string(), COMPLETION);
    assert_eq!(prefill.header("x-request-id"), decode.header("x-request-id"));
    assert_eq!(answer.header("x-pdbench-prefill"), Some(p.name().as_str()));
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let timing = answer.header("server-timing").unwrap();
    assert_eq!(timing, "queue;dur=0.000, prefill;dur=30.000, decode-head;dur=0.000");
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_reaches_the_client_before_the_next_is_written() {
    let permits = Arc::new(Semaphore::new(0));
    let step = || Act::Permit(Arc::clone(&permits));
    let script = vec![
        stream_head(),
        step(),
        chunk(&token("a")),
        step(),
        chunk(&token("b")),
        step(),
        chunk(DONE),
        end(),
    ];
    let (p, d) = (Fake::start(vec![prefilled(0)]), Fake::start(vec![script]));
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    let mut client = proxy.request("POST", "/v1/completions", "", COMPLETION).await;
    assert_eq!(client.head().await.0, 200);
    for event in [token("a"), token("b"), DONE.to_owned()] {
        permits.add_permits(1);
        assert_eq!(client.chunk().await, Some(event));
    }
    assert_eq!(client.chunk().await, Some(String::new()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_stream_keeps_its_length() {
    let p = Fake::start(vec![prefilled(0)]);
    let d = Fake::start(vec![json(200, r#"{"choices":[{"text":"all"}]}"#, 3)]);
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":4}"#;
    let answer = proxy.post("/v1/chat/completions", body).await;
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("28")));
    assert_eq!(answer.text, r#"{"choices":[{"text":"all"}]}"#);
    assert_eq!(d.got()[0].path, "/v1/chat/completions");
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn connections_are_used_again() {
    let (p, d) = (Fake::start(vec![prefilled(1)]), Fake::start(vec![stream(&["a"], 1)]));
    let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
    for _ in 0..5 {
        assert_eq!(proxy.complete().await.tokens(), "a");
    }
    for fake in [&p, &d] {
        let connections: Vec<_> = fake.got().iter().map(|got| got.connection).collect();
        assert!(connections.windows(2).all(|pair| pair[0] == pair[1]), "{connections:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn both_sides_are_chosen_in_turn() {
    let p = [0; 2].map(|_| Fake::start(vec![prefilled(0)]));
    let d = [0; 3].map(|_| Fake::start(vec![stream(&["a"], 0)]));
    let config = config(Dialect::Plain, &p.each_ref(), &d.each_ref());
    let proxy = Proxy::start(config).await;
    for _ in 0..6 {
        assert_eq!(proxy.complete().await.status, 200);
    }
    assert_eq!(p.each_ref().map(|fake| fake.got().len()), [3, 3]);
    assert_eq!(d.each_ref().map(|fake| fake.got().len()), [2, 2, 2]);
}
