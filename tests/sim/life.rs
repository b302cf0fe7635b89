//! How requests end, and what is told of them: truth log, metrics, totals.

use crate::client::{Connection, Sim, config};
use crate::timing::{ask, burst, prompt};
use pdbench::measure::Offset;
use pdbench::runtime::Stop;
use pdbench::sim::{Ended, TRUTH_SCHEMA, TruthHeader};
use pdbench::wire::prometheus::Scrape;
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

fn assert_idle(scrape: &Scrape) {
    for gauge in ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"] {
        assert_eq!(scrape.sum(&format!("vllm:{gauge}"), &[]), Some(0.0), "{gauge}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_frees_its_place_everywhere() {
    // Prefill until 1005 ms, link until 1137 ms, decode after that.
    let parameters = [("prefill-tokens-per-s", "1000"), ("link-gb-per-s", "1")];
    for (stream, away_at_ms, stage) in [
        (true, 500, "running on engine 0"),
        (false, 500, "running on engine 0"),
        (true, 1100, "deferred"),
        (true, 1500, "running on engine 1"),
        (false, 1500, "running on engine 1"),
    ] {
        let sim = Sim::start(config(&parameters));
        let mut body = json!({"prompt": prompt(1000, 0), "max_tokens": 2000, "stream": stream});
        let connection = sim.request("POST", "/v1/completions", "", &body.to_string()).await;
        sleep(Duration::from_millis(away_at_ms)).await;
        let before = sim.metrics().await;
        let gauge = match stage {
            "deferred" => before.sum("vllm:num_requests_waiting_by_reason", &[("reason", "deferred")]),
            _ => before.sum("vllm:num_requests_running", &[("engine", &stage[stage.len() - 1..])]),
        };
        assert_eq!(gauge, Some(1.0), "{stage}");
        drop(connection);
        sleep(Duration::from_millis(2)).await;
        assert_idle(&sim.metrics().await);
        let truth = &sim.truths()[0];
        assert_eq!(truth.ended, Ended::Cancelled);
        assert_eq!(truth.prefill_end_us.is_some(), 1005 < away_at_ms);
        assert_eq!(truth.writes_us.is_empty(), !stream || away_at_ms < 1137);
        // The node goes on serving others.
        body["max_tokens"] = json!(3);
        assert_eq!(sim.post("/v1/completions", body).await.status, 200);
        let (totals, _) = sim.stop(Stop::Drain).await;
        assert_eq!((totals.cancelled, totals.complete), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_leaves_the_queues_it_waits_in() {
    let sim = Sim::start(config(&[("max-num-seqs", "1"), ("prefill-batch-tokens", "500")]));
    let mut waiting: Vec<Connection> = Vec::new();
    for salt in 0..4 {
        let body = ask(&prompt(500, salt), 1000).to_string();
        waiting.push(sim.request("POST", "/v1/completions", "", &body).await);
    }
    sleep(Duration::from_millis(30)).await; // the first is at decode, the second in prefill, two wait for it
    waiting.remove(3);
    sleep(Duration::from_millis(200)).await; // two wait at decode
    let scrape = sim.metrics().await;
    assert_eq!(scrape.sum("vllm:num_requests_waiting", &[("engine", "1")]), Some(2.0));
    waiting.clear();
    sleep(Duration::from_millis(10)).await;
    let scrape = sim.metrics().await;
    assert_idle(&scrape);
    assert_eq!(scrape.sum("vllm:request_success_total", &[("finished_reason", "abort")]), Some(4.0));
}

#[tokio::test(start_paused = true)]
async fn the_truth_log_says_what_the_client_saw() {
    let mut config = config(&[("stagger", "true")]);
    config.wall_anchor_unix_us = 1_700_000_000_000_000;
    let sim = Sim::start(config.clone());
    sleep(Duration::from_millis(7)).await;
    let asks: Vec<_> = (0..20).map(|salt| ask(&prompt(50 + salt, salt), 10 + salt as u32)).collect();
    let (responses, truths) = burst(&sim, asks).await;
    for (index, (response, truth)) in responses.iter().zip(&truths).enumerate() {
        assert_eq!(truth.writes_us.iter().collect::<Vec<_>>(), response.token_times());
        assert_eq!(truth.received_us, Offset::from_tenths(70_000));
        assert_eq!(truth.ended, Ended::Complete);
        assert_eq!(response.events()[0].1["id"], format!("cmpl-{}", truth.id));
        assert_eq!((truth.prompt_tokens, truth.output_tokens), (50 + index as u32, 10 + index as u32));
        let usage = &response.events().pop().unwrap().1["usage"];
        assert_eq!(usage["completion_tokens"], truth.output_tokens);
        assert!(truth.received_us <= truth.prefill_start_us.unwrap());
        assert!(truth.prefill_start_us < truth.prefill_end_us && truth.prefill_end_us < truth.kv_arrived_us);
        assert!(truth.kv_arrived_us.unwrap() < truth.writes_us.first().unwrap());
    }
    let (totals, lines) = sim.stop(Stop::Drain).await;
    assert_eq!((totals.complete, lines.len()), (20, 21));
    assert_eq!(totals.output_tokens, truths.iter().map(|truth| u64::from(truth.output_tokens)).sum::<u64>());
    assert!(totals.worst_lateness < Duration::from_millis(1));
    let header: TruthHeader = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((header.schema, header.wall_anchor_unix_us), (TRUTH_SCHEMA, 1_700_000_000_000_000));
    assert_eq!(header.parameters, config.to_map());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_streamed_is_one_write() {
    let sim = Sim::start(config(&[]));
    let response = sim.post("/v1/completions", json!({"prompt": prompt(10, 0), "max_tokens": 30})).await;
    let truth = &sim.truths()[0];
    assert_eq!((truth.writes_us.len(), truth.output_tokens), (1, 30));
    assert_eq!(truth.writes_us.first(), Some(response.chunks[0].0));
}

/// 1,000 requests over ten seconds, some of which go away; the truth log.
fn thousand_requests() -> Vec<String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut config = config(&[("eos-probability", "0.01"), ("max-num-seqs", "64")]);
        config.topology = "2p3d".parse().unwrap();
        let sim = Sim::start(config);
        let mut clients = Vec::new();
        for index in 0..1000_usize {
            sleep(Duration::from_millis(index as u64 % 21)).await;
            let body =
                json!({"prompt": prompt(1 + index * 7 % 900, index % 50), "max_tokens": 100, "stream": true});
            let mut connection = sim.request("POST", "/v1/completions", "", &body.to_string()).await;
            clients.push(tokio::spawn(async move {
                if index % 17 == 0 {
                    sleep(Duration::from_millis(100)).await;
                    return 0;
                }
                connection.read().await.token_times().len() as u64
            }));
        }
        let mut seen = 0;
        for client in clients {
            seen += client.await.unwrap();
        }
        let (totals, lines) = sim.stop(Stop::Drain).await;
        assert_eq!(totals.complete + totals.cancelled, 1000);
        assert!(0 < totals.cancelled && totals.cancelled < 59); // short answers were over before
        assert!(seen < totals.output_tokens && totals.output_tokens < seen + 59 * 100);
        lines
    })
}

#[test]
fn a_thousand_requests_meet_the_same_fate_each_time() {
    let (first, second) = (thousand_requests(), thousand_requests());
    assert_eq!(first.len(), 1001);
    assert!(first == second);
}

#[tokio::test(start_paused = true)]
async fn metrics_have_the_names_of_vllm_and_add_up() {
    let sim = Sim::start(config(&[]));
    let asks = (0..9).map(|salt| ask(&prompt(40, salt % 3), 15)).collect();
    burst(&sim, asks).await;
    let response = sim.get("/metrics").await;
    assert!(response.head.contains("content-type: text/plain; version=0.0.4"));
    let scrape = sim.metrics().await;
    for name in [
        "num_requests_running",
        "num_requests_waiting",
        "kv_cache_usage_perc",
        "num_preemptions_total",
        "prompt_tokens_total",
        "generation_tokens_total",
        "prefix_cache_queries_total",
        "external_prefix_cache_hits_total",
        "nixl_num_failed_transfers_total",
    ] {
        let engines: Vec<_> = scrape.samples.iter().filter(|s| s.name == format!("vllm:{name}")).collect();
        assert_eq!(engines.len(), 2, "{name}");
        assert_eq!(engines[1].label("engine"), Some("1"));
        assert_eq!(engines[1].label("model_name"), Some("simulated"));
    }
    for (name, prefill, decode) in [
        ("time_to_first_token_seconds", 9, 9),
        ("inter_token_latency_seconds", 0, 9 * 14),
        ("request_time_per_output_token_seconds", 0, 9),
        ("e2e_request_latency_seconds", 9, 9),
        ("request_queue_time_seconds", 9, 9),
        ("request_prefill_time_seconds", 9, 9),
        ("request_decode_time_seconds", 9, 9),
        ("nixl_xfer_time_seconds", 0, 9),
        ("nixl_bytes_transferred", 0, 9),
    ] {
        let series = scrape.histograms(&format!("vllm:{name}"));
        assert_eq!(series.iter().map(|(_, h)| h.count()).collect::<Vec<_>>(), [prefill, decode], "{name}");
        for (_, histogram) in &series {
            let totals: Vec<_> = histogram.cumulative().collect();
            assert!(totals.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
            assert_eq!(totals.last().map(|last| last.1), Some(histogram.count()));
        }
    }
    let source = |source| scrape.sum("vllm:prompt_tokens_by_source_total", &[("source", source)]).unwrap();
    assert_eq!(source("local_compute") + source("local_cache_hit"), 9.0 * 40.0);
    assert_eq!(source("external_kv_transfer"), 9.0 * 40.0);
    assert_eq!(scrape.sum("vllm:generation_tokens_total", &[("engine", "1")]), Some(135.0));
    let ended = scrape.sum("vllm:request_success_total", &[("finished_reason", "length"), ("engine", "1")]);
    assert_eq!(ended, Some(9.0));
    assert_idle(&scrape);
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_answers_end_and_a_stop_cuts_them() {
    for (how, ended) in [(Stop::Drain, Ended::Complete), (Stop::Now, Ended::Cancelled)] {
        let sim = Sim::start(config(&[]));
        let body = ask(&prompt(100, 0), 100).to_string();
        let mut connection = sim.request("POST", "/v1/completions", "", &body).await;
        connection.head().await;
        connection.chunk().await;
        let reading = tokio::spawn(async move {
            let mut last = 0;
            while how == Stop::Drain && connection.chunk().await.is_some() {
                last += 1;
            }
            last
        });
        let (totals, lines) = sim.stop(how).await;
        assert_eq!(totals.complete + totals.cancelled, 1);
        let truth: pdbench::sim::Truth = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!(truth.ended, ended);
        if how == Stop::Drain {
            assert_eq!(reading.await.unwrap(), 99 + 2); // tokens, usage, [DONE]
        }
    }
}
