//! Times follow the cost model: each is its closed form, rounded up to the timer's tick of 1 ms.

use crate::client::{Response, Sim, config};
use pdbench::cluster::Topology;
use pdbench::measure::Offset;
use pdbench::sim::Truth;
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

fn tick(exact: Duration) -> Offset {
    Offset::from_tenths((exact.as_nanos().div_ceil(1_000_000) * 10_000) as u64)
}

/// Sends all of `bodies` at once, each on its own connection; responses and truths in the same order.
pub async fn burst(sim: &Sim, bodies: Vec<Value>) -> (Vec<Response>, Vec<Truth>) {
    let mut connections = Vec::new();
    for (index, body) in bodies.iter().enumerate() {
        let id = format!("x-request-id: r{index:04}\r\n");
        connections.push(sim.request("POST", "/v1/completions", &id, &body.to_string()).await);
    }
    let reads =
        connections.into_iter().map(|mut connection| tokio::spawn(async move { connection.read().await }));
    let mut responses = Vec::new();
    for read in reads.collect::<Vec<_>>() {
        responses.push(read.await.unwrap());
    }
    let mut truths = sim.truths();
    truths.sort_by(|a, b| a.id.cmp(&b.id));
    (responses, truths)
}

#[tokio::test(start_paused = true)]
async fn a_lone_request_takes_what_the_cost_model_says() {
    for (prompt_tokens, output_tokens) in [(1, 1), (1000, 50), (20_000, 3)] {
        let config = config(&[]);
        let cost = config.cost.clone();
        let sim = Sim::start(config);
        let response = sim.post("/v1/completions", ask(&prompt(prompt_tokens, 0), output_tokens)).await;
        let mut exact = cost.lone_ttft(prompt_tokens as u64, 0);
        let mut expected = vec![tick(exact)];
        for made in 1..u64::from(output_tokens) {
            exact += cost.decode_step(1, prompt_tokens as u64 + made);
            expected.push(tick(exact));
        }
        assert_eq!(response.token_times(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_equal_prompt_is_taken_from_the_prefix_cache() {
    for (parameters, cached) in [(&[][..], 992), (&[("no-prefix-cache", "true")][..], 0)] {
        let config = config(parameters);
        let cost = config.cost.clone();
        let sim = Sim::start(config);
        sim.post("/v1/completions", ask(&prompt(1000, 0), 5)).await;
        let sent = sim.clock.now();
        let response = sim.post("/v1/completions", ask(&prompt(1000, 0), 5)).await;
        assert_eq!(response.token_times()[0], tick(sent + cost.lone_ttft(1000, cached)));
        let usage = &response.events().pop().unwrap().1["usage"];
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0), cached);
        assert_eq!(sim.truths()[1].cached_tokens, cached as u32);
        let hits = sim.metrics().await.sum("vllm:prefix_cache_hits_total", &[]);
        assert_eq!(hits, Some(cached as f64));
        sim.post("/reset_prefix_cache", json!({})).await;
        sim.post("/v1/completions", ask(&prompt(1000, 0), 5)).await;
        assert_eq!(sim.truths()[2].cached_tokens, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_takes_longer_with_more_sequences_and_context() {
    let config = config(&[("decode-sequence-us", "1000"), ("decode-context-us", "2000")]);
    let cost = config.cost.clone();
    let sim = Sim::start(config);
    let (responses, _) = burst(&sim, (0..8).map(|salt| ask(&prompt(500, salt), 100)).collect()).await;
    for response in &responses {
        // Steps 60 to 70: all eight are in the batch.
        let times = response.token_times();
        let taken = times[70].since(times[60]).as_secs_f64();
        let all_eight = cost.decode_step(8, 8 * (500 + 65)).as_secs_f64();
        assert!((taken / 10.0 / all_eight - 1.0).abs() < 0.02, "{taken} {all_eight}");
    }
}

#[tokio::test(start_paused = true)]
async fn prefill_serves_in_order_of_arrival_and_one_batch_at_a_time() {
    let config = config(&[("prefill-batch-tokens", "1000")]);
    let cost = config.cost.clone();
    let sim = Sim::start(config);
    let sizes = [1000, 400, 600, 1, 2500];
    let asks = sizes.iter().enumerate().map(|(salt, tokens)| ask(&prompt(*tokens, salt), 2)).collect();
    let (_, truths) = burst(&sim, asks).await;
    let spans: Vec<_> =
        truths.iter().map(|t| (t.prefill_start_us.unwrap(), t.prefill_end_us.unwrap())).collect();
    let ends = [1000, 1000, 1, 2500].map(|tokens| cost.prefill(tokens));
    let mut at = Offset::default();
    for (batch, members) in [&[0][..], &[1, 2], &[3], &[4]].iter().enumerate() {
        for member in *members {
            assert_eq!(spans[*member], (at, at + ends[batch]), "{member}");
        }
        at = at + ends[batch];
    }
}

#[tokio::test(start_paused = true)]
async fn the_link_carries_one_transfer_at_a_time() {
    let config = config(&[("link-gb-per-s", "0.1")]);
    let cost = config.cost.clone();
    let sim = Sim::start(config);
    // The first keeps the prefill node busy; the others share its second batch.
    let asks = [1000, 300, 700].iter().enumerate().map(|(salt, n)| ask(&prompt(*n, salt), 2)).collect();
    let (_, truths) = burst(&sim, asks).await;
    assert_eq!(truths[1].prefill_end_us, truths[2].prefill_end_us);
    let mut free = truths[0].prefill_end_us.unwrap();
    for truth in &truths {
        free = free.max(truth.prefill_end_us.unwrap()) + cost.link_occupied(u64::from(truth.prompt_tokens));
        let late = truth.kv_arrived_us.unwrap().seconds_since(free + cost.link_latency());
        assert!(late.abs() < 1e-6, "{late}");
    }
}

#[tokio::test(start_paused = true)]
async fn sequences_beyond_max_num_seqs_wait_for_a_place() {
    let sim = Sim::start(config(&[("max-num-seqs", "2")]));
    let asks = (0..6).map(|salt| ask(&prompt(100, salt), 40)).collect();
    let (responses, _) = burst(&sim, asks).await;
    let spans: Vec<_> = responses.iter().map(|r| r.token_times()).map(|t| (t[0], t[39])).collect();
    for pair in 1..3 {
        assert!(spans[2 * pair - 2].1 < spans[2 * pair].0 && spans[2 * pair - 1].1 < spans[2 * pair + 1].0);
    }
    let queued = &sim.metrics().await.histograms("vllm:request_queue_time_seconds")[1].1;
    assert!(queued.count() == 6 && 0.5 < queued.sum());
}

#[tokio::test(start_paused = true)]
async fn answers_wait_until_their_kv_fits() {
    let sim = Sim::start(config(&[("kv-capacity-tokens", "320")]));
    let asks = (0..3).map(|salt| ask(&prompt(100, salt), 44)).collect(); // 144 tokens each: two fit
    let (responses, _) = burst(&sim, asks).await;
    let times: Vec<_> = responses.iter().map(Response::token_times).collect();
    assert!(times[1][0] < times[0][43] && times[0][43] < times[2][0]);
}

#[tokio::test(start_paused = true)]
async fn staggered_streams_write_evenly_over_time() {
    for (stagger, most_in_one_ms) in [("false", 200), ("true", 10)] {
        let sim = Sim::start(config(&[
            ("stagger", stagger),
            ("decode-step-ms", "50"),
            ("decode-sequence-us", "0"),
            ("decode-context-us", "0"),
            ("prefill-tokens-per-s", "1e9"),
        ]));
        let asks = (0..200).map(|salt| ask(&prompt(16, salt), 40)).collect();
        let (responses, _) = burst(&sim, asks).await;
        let mut in_ms = vec![0; 5000];
        for response in &responses {
            let times = response.token_times();
            for pair in times[1..].windows(2) {
                let gap_ms = pair[1].since(pair[0]).as_millis();
                assert!((49..=51).contains(&gap_ms), "{gap_ms}");
            }
            times.iter().for_each(|at| in_ms[at.as_us() as usize / 1000] += 1);
        }
        let most = in_ms.iter().max().unwrap();
        assert!(most_in_one_ms * 9 / 20 <= *most && *most <= most_in_one_ms, "{most}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_spread_over_the_nodes() {
    for routing in ["least-in-flight", "round-robin"] {
        let mut config = config(&[("routing", routing)]);
        config.topology = Topology::disaggregated(2, 3);
        let sim = Sim::start(config);
        let asks = (0..12).map(|salt| ask(&prompt(64, salt), 20)).collect();
        let (_, truths) = burst(&sim, asks).await;
        for node in 0..3 {
            assert_eq!(truths.iter().filter(|truth| truth.decode_node == Some(node)).count(), 4);
        }
        for node in 0..2 {
            assert_eq!(truths.iter().filter(|truth| truth.prefill_node == Some(node)).count(), 6);
        }
        let scrape = sim.metrics().await;
        let made = |engine: &str| scrape.sum("vllm:generation_tokens_total", &[("engine", engine)]);
        assert_eq!(
            ["0", "1", "2", "3", "4"].map(|engine| made(engine).unwrap()),
            [6.0, 6.0, 80.0, 80.0, 80.0]
        );
    }
}
