//! The first token from the prefill instance: every token once, however the streams are cut.

use crate::fake::{Act, DONE, Fake, json, stream, stream_head, token, wait};
use crate::setup::{Proxy, config};
use pdbench::proxy::FirstToken;
use pdbench::wire::dialect::Dialect;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use std::time::Duration;
use tokio::time::Instant;

fn finished(text: &str, reason: &str) -> String {
    token(text).replace("\"finish_reason\":null", &format!("\"finish_reason\":\"{reason}\""))
}

/// A chunked stream of these bytes, cut anywhere, chunks and packets apart.
fn cut_anywhere(text: &str, draws: &mut Pcg64Mcg) -> Vec<Act> {
    let mut framed = Vec::new();
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(draws.random_range(1..=rest.len().min(40)));
        framed.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        framed.extend(piece);
        framed.extend(b"\r\n");
        rest = after;
    }
    framed.extend(b"0\r\n\r\n");
    let mut acts = vec![stream_head()];
    let mut rest = framed.as_slice();
    while !rest.is_empty() {
        let (packet, after) = rest.split_at(draws.random_range(1..=rest.len().min(60)));
        acts.push(Act::Write(packet.to_vec()));
        acts.push(wait(1));
        rest = after;
    }
    acts
}

#[tokio::test(start_paused = true)]
async fn tokens_come_exactly_once_however_the_streams_are_cut() {
    let prefill = format!("{}{DONE}", finished("A", "length"));
    let decode = format!("{}{}{}{}{DONE}", token("A"), token("b"), token("c"), finished("d", "stop"));
    let mut draws = Pcg64Mcg::seed_from_u64(7);
    for round in 0..40 {
        let p = Fake::start(vec![cut_anywhere(&prefill, &mut draws)]);
        let d = Fake::start(vec![cut_anywhere(&decode, &mut draws)]);
        let mut config = config(Dialect::Plain, &[&p], &[&d]);
        config.first_token = FirstToken::Prefill;
        let proxy = Proxy::start(config).await;
        let answer = proxy.complete().await;
        assert_eq!((answer.tokens(), answer.whole), ("Abcd".to_owned(), true), "round {round}");
        assert_eq!(answer.text.matches("[DONE]").count(), 1);
        assert_eq!(answer.text.matches("\"finish_reason\":\"").count(), 1);
        proxy.assert_idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn relayed_tokens_come_exactly_once_however_the_stream_is_cut() {
    let text: String = (0..30).map(|i| token(&format!("t{i} "))).chain([DONE.to_owned()]).collect();
    let mut draws = Pcg64Mcg::seed_from_u64(8);
    for _ in 0..20 {
        let p = Fake::start(vec![crate::fake::prefilled(0)]);
        let d = Fake::start(vec![cut_anywhere(&text, &mut draws)]);
        let proxy = Proxy::between(Dialect::Plain, &p, &d).await;
        let answer = proxy.complete().await;
        assert_eq!((answer.text, answer.whole), (text.clone(), true));
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_token_does_not_wait_for_the_decode_leg() {
    for streams in [true, false] {
        let answer = r#"{"id":"p","choices":[{"index":0,"text":"A","finish_reason":"length"}],"kv_transfer_params":{"x":1}}"#;
        let prefill = if streams { stream(&["A"], 10) } else { json(200, answer, 10) };
        let (p, d) = (Fake::start(vec![prefill]), Fake::start(vec![stream(&["A", "b"], 50)]));
        let dialect = if streams { Dialect::Plain } else { Dialect::NixlPull };
        let mut config = config(dialect, &[&p], &[&d]);
        config.first_token = FirstToken::Prefill;
        let proxy = Proxy::start(config).await;
        let begun = Instant::now();
        let mut client = proxy.request("POST", "/v1/completions", "", crate::setup::COMPLETION).await;
        assert_eq!(client.head().await.0, 200);
        assert!(client.chunk().await.unwrap().contains("\"A\""));
        assert_eq!(begun.elapsed(), Duration::from_millis(10));
        let next = client.chunk().await.unwrap();
        assert!(next.contains("\"b\""), "{streams} {next}");
        assert_eq!(begun.elapsed(), Duration::from_millis(110));
    }
}

#[tokio::test(start_paused = true)]
async fn a_decode_leg_that_fails_behind_the_first_token_is_told_and_cut() {
    let (p, d) = (Fake::start(vec![stream(&["A"], 0)]), Fake::start(vec![json(500, "{}", 0)]));
    let mut config = config(Dialect::Plain, &[&p], &[&d]);
    config.first_token = FirstToken::Prefill;
    let proxy = Proxy::start(config).await;
    let answer = proxy.complete().await;
    assert!(!answer.whole && answer.text.contains("it answered with status 500"), "{}", answer.text);
    assert_eq!(proxy.ended("leg_failed").await, 1.0);
    proxy.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_stream_is_the_decode_instance_s() {
    let p = Fake::start(vec![crate::fake::prefilled(0)]);
    let d = Fake::start(vec![json(200, r#"{"choices":[{"text":"Abc"}]}"#, 0)]);
    let mut config = config(Dialect::Plain, &[&p], &[&d]);
    config.first_token = FirstToken::Prefill;
    let proxy = Proxy::start(config).await;
    let answer = proxy.post("/v1/completions", r#"{"prompt":"x"}"#).await;
    assert_eq!(answer.text, r#"{"choices":[{"text":"Abc"}]}"#);
}
