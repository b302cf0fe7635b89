//! A request's way through prefill, link and decode follows the cost model: each time is its closed form, rounded up
//! to the timer's tick of 1 ms.

use crate::client::{Response, Sim, config};
use crate::handoff::{apart, nixl_ask};
use crate::nodes::{D, Nodes, P, Place, prefill_leg, tick, with};
use pdbench::measure::Offset;
use pdbench::sim::{Config, Truth};
use serde_json::{Value, json};
use std::time::Duration;

/// A prompt of `tokens` tokens, unlike those of other `salt`s from its first block on.
pub fn prompt(tokens: usize, salt: usize) -> String {
    format!("{salt:04}").chars().cycle().take(4 * tokens).collect()
}

pub fn ask(prompt: &str, tokens: u32) -> Value {
    json!({"model": "simulated", "prompt": prompt, "max_tokens": tokens, "stream": true, "ignore_eos": true,
        "stream_options": {"include_usage": true}})
}

/// Sends all of `bodies` at once to one node, each on its own connection; responses and the node's truths in the
/// same order.
pub async fn burst(nodes: &Nodes, node: Place, bodies: Vec<Value>) -> (Vec<Response>, Vec<Truth>) {
    let mut connections = Vec::new();
    for (index, body) in bodies.iter().enumerate() {
        connections.push(nodes.send(node, &format!("x-request-id: r{index:04}\r\n"), body).await);
    }
    let reads: Vec<_> =
        connections.into_iter().map(|mut c| tokio::spawn(async move { c.read().await })).collect();
    let mut responses = Vec::new();
    for read in reads {
        responses.push(read.await.unwrap());
    }
    let mut truths = nodes.truths();
    truths.retain(|truth| (truth.role, truth.node as usize) == node);
    truths.sort_by(|a, b| a.id.cmp(&b.id));
    (responses, truths)
}

/// The decode leg of a request whose prefill leg was answered with `first`.
fn decode_leg(body: Value, first: &Response) -> Value {
    with(body, json!({"kv_transfer_params": first.json()["kv_transfer_params"]}))
}

/// A cluster where a prefill takes whole milliseconds, so that its answer is not rounded.
fn whole(parameters: &[(&str, &str)]) -> Config {
    apart(&[&[("prefill-tokens-per-s", "1000")], parameters].concat())
}

#[tokio::test(start_paused = true)]
async fn a_lone_request_takes_what_the_cost_model_says() {
    for (prompt_tokens, output_tokens) in [(1, 1), (1000, 50), (20_000, 3)] {
        let config = whole(&[]);
        let cost = config.cost.clone();
        let nodes = Nodes::start(config);
        let body = ask(&prompt(prompt_tokens, 0), output_tokens);
        let first = nodes.post_as(P, "r", prefill_leg(&body, nixl_ask())).await;
        let response = nodes.post_as(D, "r", decode_leg(body, &first)).await;
        let mut exact = cost.lone_ttft(prompt_tokens as u64, 0);
        let mut expected = vec![tick(exact)];
        for made in 1..u64::from(output_tokens) {
            exact += cost.decode_step(1, prompt_tokens as u64 + made);
            expected.push(tick(exact));
        }
        assert_eq!(response.token_times(), expected);
        // Each node's log has its part, in this order.
        let [prefill, decode] = &nodes.truths()[..] else { panic!("two legs") };
        assert_eq!(prefill.prefill_start_us, Some(Offset::default()));
        let arrived = decode.kv_arrived_us.unwrap();
        assert!(prefill.prefill_end_us.unwrap() < arrived && arrived < decode.writes_us.first().unwrap());
        assert_eq!((prefill.kv_arrived_us, decode.prefill_end_us), (None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn an_equal_prompt_is_taken_from_the_prefix_cache() {
    for (parameters, cached) in [(&[][..], 992), (&[("no-prefix-cache", "true")][..], 0)] {
        let config = whole(parameters);
        let cost = config.cost.clone();
        let nodes = Nodes::start(config);
        let body = ask(&prompt(1000, 0), 5);
        let send = async || {
            let first = nodes.post(P, prefill_leg(&body, nixl_ask())).await;
            nodes.post(D, decode_leg(body.clone(), &first)).await
        };
        send().await;
        let sent = nodes.clock.now();
        let response = send().await;
        // The decode node has its own cache: what it found there did not travel.
        let saved = cost.link_occupied(cached);
        assert_eq!(response.token_times()[0], tick(sent + cost.lone_ttft(1000, cached) - saved));
        let truths = nodes.truths();
        assert_eq!((truths[2].cached_tokens, truths[3].cached_tokens), (cached as u32, cached as u32));
        assert_eq!((truths[2].external_tokens, truths[3].external_tokens), (0, 999 - cached as u32));
        for node in [P, D] {
            let hits = nodes.metric(node, "prefix_cache_hits_total", &[]).await;
            assert_eq!(hits, cached as f64, "{node:?}");
            nodes.send_to(node, "/reset_prefix_cache", &json!({})).await;
        }
        send().await;
        assert_eq!((nodes.truths()[4].cached_tokens, nodes.truths()[5].cached_tokens), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn one_server_tells_what_it_had_cached() {
    for (parameters, cached) in [(&[][..], 992), (&[("no-prefix-cache", "true")][..], 0)] {
        let config = config(parameters);
        let cost = config.cost.clone();
        let sim = Sim::start(config);
        sim.post("/v1/completions", ask(&prompt(1000, 0), 5)).await;
        let sent = sim.clock.now();
        let response = sim.post("/v1/completions", ask(&prompt(1000, 0), 5)).await;
        assert_eq!(response.token_times()[0], tick(sent + cost.prefill(1000 - cached)));
        let usage = &response.events().pop().unwrap().1["usage"];
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0), cached);
        assert_eq!(sim.truths()[1].cached_tokens, cached as u32);
    }
}

#[tokio::test(start_paused = true)]
async fn prefill_serves_in_order_of_arrival_and_fills_each_step() {
    let config = config(&[("prefill-batch-tokens", "1000")]);
    let cost = config.cost.clone();
    let nodes = Nodes::start(config);
    let sizes = [1000, 400, 600, 1, 2500];
    let legs = sizes.iter().enumerate();
    let legs = legs.map(|(salt, tokens)| prefill_leg(&ask(&prompt(*tokens, salt), 2), nixl_ask())).collect();
    let (_, truths) = burst(&nodes, P, legs).await;
    let spans: Vec<_> =
        truths.iter().map(|t| (t.prefill_start_us.unwrap(), t.prefill_end_us.unwrap())).collect();
    // 1000; 400 and 600; 1 and 999 of 2500; 1000 of them; the other 501.
    let mut ends = vec![Offset::default()];
    for tokens in [1000, 1000, 1000, 1000, 501] {
        ends.push(ends[ends.len() - 1] + cost.prefill(tokens));
    }
    let span = |first: usize, last: usize| (ends[first], ends[last]);
    assert_eq!(spans, [span(0, 1), span(1, 2), span(1, 2), span(2, 3), span(2, 5)]);
}

#[tokio::test(start_paused = true)]
async fn the_link_carries_one_transfer_at_a_time() {
    let config = whole(&[("link-gb-per-s", "0.1")]);
    let cost = config.cost.clone();
    let nodes = Nodes::start(config);
    let bodies = [1000, 300, 700].iter().enumerate().map(|(salt, n)| ask(&prompt(*n, salt), 2));
    let bodies: Vec<_> = bodies.collect();
    let legs = bodies.iter().map(|body| prefill_leg(body, nixl_ask())).collect();
    let (firsts, _) = burst(&nodes, P, legs).await;
    let posted: Offset = nodes.clock.now().into();
    let mut free = posted;
    let legs = bodies.into_iter().zip(&firsts).map(|(body, first)| decode_leg(body, first)).collect();
    let (_, truths) = burst(&nodes, D, legs).await;
    for truth in &truths {
        free = free + cost.link_occupied(u64::from(truth.prompt_tokens));
        let late = truth.kv_arrived_us.unwrap().seconds_since(free + cost.link_latency());
        assert!(late.abs() < 1e-6, "{late}");
    }
    let moved = &nodes.metrics(D).await.histograms("vllm:nixl_xfer_time_seconds")[0].1;
    // The wait for those before on the link is part of a transfer.
    let total: f64 = truths.iter().map(|truth| truth.kv_arrived_us.unwrap().seconds_since(posted)).sum();
    assert!(moved.count() == 3 && (moved.sum() - total).abs() < 1e-6, "{} {total}", moved.sum());
}

#[tokio::test(start_paused = true)]
async fn a_step_takes_longer_with_more_sequences_and_context() {
    let config = whole(&[
        ("decode-sequence-us", "1000"),
        ("decode-context-us", "2000"),
        ("prefill-tokens-per-s", "1e6"),
    ]);
    let cost = config.cost.clone();
    let nodes = Nodes::start(config);
    let bodies: Vec<_> = (0..8).map(|salt| ask(&prompt(500, salt), 100)).collect();
    let legs = bodies.iter().map(|body| prefill_leg(body, nixl_ask())).collect();
    let (firsts, _) = burst(&nodes, P, legs).await;
    let legs = bodies.into_iter().zip(&firsts).map(|(body, first)| decode_leg(body, first)).collect();
    let (responses, _) = burst(&nodes, D, legs).await;
    for response in &responses {
        // Steps 60 to 70: all eight are in the batch.
        let times = response.token_times();
        let taken = times[70].since(times[60]).as_secs_f64();
        let all_eight = cost.decode_step(8, 8 * (500 + 65)).as_secs_f64();
        assert!((taken / 10.0 / all_eight - 1.0).abs() < 0.02, "{taken} {all_eight}");
    }
    let step: Duration = cost.decode_step(1, 500);
    assert!(step * 2 < cost.decode_step(8, 8 * 500));
}
