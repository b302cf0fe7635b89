//! How requests end, and what is told of them: truth log, metrics, totals.

use crate::client::{Connection, Sim, config};
use crate::nodes::{D, Nodes, P};
use crate::timing::{ask, prompt};
use pdbench::cluster::Role;
use pdbench::measure::Offset;
use pdbench::runtime::Stop;
use pdbench::sim::{Ended, TRUTH_SCHEMA, Truth, TruthHeader};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_leaves_the_queue_it_waits_in() {
    for node in [P, D] {
        let nodes = Nodes::start(config(&[("max-num-seqs", "1"), ("prefill-tokens-per-s", "100")]));
        let mut sent: Vec<Connection> = Vec::new();
        for salt in 0..4 {
            sent.push(nodes.send(node, "", &ask(&prompt(500, salt), 1000)).await);
        }
        sleep(Duration::from_millis(30)).await; // the first is computed, three wait
        for waiting in [3.0, 2.0] {
            let capacity = [("reason", "capacity")];
            assert_eq!(nodes.metric(node, "num_requests_waiting_by_reason", &capacity).await, waiting);
            assert_eq!(nodes.metric(node, "num_requests_running", &[]).await, 1.0);
            sent.pop();
            sleep(Duration::from_millis(10)).await;
        }
        sent.clear();
        sleep(Duration::from_millis(10)).await;
        nodes.assert_idle().await;
        let aborts = [("finished_reason", "abort")];
        assert_eq!(nodes.metric(node, "request_success_total", &aborts).await, 4.0);
        assert!(nodes.truths().iter().all(|truth| truth.ended == Ended::Cancelled));
        assert_eq!(nodes.cluster.totals().cancelled, 4);
    }
}

#[tokio::test(start_paused = true)]
async fn the_truth_log_says_what_the_client_saw() {
    let mut config = config(&[("stagger", "true")]);
    config.topology = "1m".parse().unwrap();
    config.wall_anchor_unix_us = 1_700_000_000_000_000;
    let sim = Sim::start(config.clone());
    sleep(Duration::from_millis(7)).await;
    let asks: Vec<_> = (0..20).map(|salt| ask(&prompt(50 + salt, salt), 10 + salt as u32)).collect();
    let mut reads = Vec::new();
    for (index, body) in asks.iter().enumerate() {
        let id = format!("x-request-id: r{index:04}\r\n");
        let mut connection = sim.request("POST", "/v1/completions", &id, &body.to_string()).await;
        reads.push(tokio::spawn(async move { connection.read().await }));
    }
    let mut responses = Vec::new();
    for read in reads {
        responses.push(read.await.unwrap());
    }
    let mut truths = sim.truths();
    truths.sort_by(|a, b| a.id.cmp(&b.id));
    for (index, (response, truth)) in responses.iter().zip(&truths).enumerate() {
        assert_eq!(truth.writes_us.iter().collect::<Vec<_>>(), response.token_times());
        assert_eq!(truth.received_us, Offset::from_tenths(70_000));
        assert_eq!(truth.ended, Ended::Complete);
        assert_eq!(response.events()[0].1["id"], format!("cmpl-{}", truth.id));
        assert_eq!((truth.prompt_tokens, truth.output_tokens), (50 + index as u32, 10 + index as u32));
        let usage = &response.events().pop().unwrap().1["usage"];
        assert_eq!(usage["completion_tokens"], truth.output_tokens);
        assert!(truth.received_us <= truth.prefill_start_us.unwrap());
        assert!(truth.prefill_start_us < truth.prefill_end_us && truth.kv_arrived_us.is_none());
        assert!(truth.prefill_end_us.unwrap() <= truth.writes_us.first().unwrap());
        assert_eq!((truth.role, truth.node), (Role::Mixed, 0));
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
        let truth: Truth = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!(truth.ended, ended);
        if how == Stop::Drain {
            assert_eq!(reading.await.unwrap(), 99 + 2); // tokens, usage, [DONE]
        }
    }
}
