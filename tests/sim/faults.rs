//! What can be made to go wrong, and what a dying node leaves behind.

use crate::client::{Connection, config};
use crate::nodes::{D, Nodes, P, listen, prefill_leg, tick, with};
use crate::timing::{ask, prompt};
use pdbench::cluster::Role;
use pdbench::runtime::{Clock, Stop, stop_channel};
use pdbench::sim::{Ended, SimNode, run};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

async fn with_fault(nodes: &Nodes, node: (Role, usize), fault: &str, body: &Value) -> Connection {
    nodes.send(node, &format!("x-sim-fault: {fault}\r\n"), body).await
}

/// All that comes until the connection ends, and how it ends.
async fn to_the_end(connection: Connection) -> (String, Result<(), ErrorKind>) {
    let mut stream = connection.into_stream();
    let mut text = Vec::new();
    let end = loop {
        match stream.read_buf(&mut text).await {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error.kind()),
        }
    };
    (String::from_utf8(text).unwrap(), end)
}

#[tokio::test(start_paused = true)]
async fn a_status_that_was_asked_for_is_answered_in_vllms_shape() {
    let nodes = Nodes::start(config(&[("fault", "status=429@prefill")]));
    let body = ask(&prompt(10, 0), 4);
    let refused = nodes.post(P, body.clone()).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (429, &json!(429)));
    assert_eq!(refused.json()["error"]["type"], "Too Many Requests");
    assert_eq!(with_fault(&nodes, D, "status=503", &body).await.read().await.status, 503);
    assert_eq!(with_fault(&nodes, D, "status=503@decode:1", &body).await.read().await.status, 200);
    let unknown = with_fault(&nodes, D, "explode", &body).await.read().await;
    assert_eq!((unknown.status, &unknown.json()["error"]["param"]), (400, &json!("x-sim-fault")));
    let totals = nodes.cluster.totals();
    assert_eq!((totals.rejected, totals.error, totals.complete), (2, 1, 1));
    assert_eq!(nodes.truths()[0].ended, Ended::Error);
}

#[tokio::test(start_paused = true)]
async fn a_prefill_fails_after_its_time() {
    let config = config(&[]);
    let cost = config.cost.clone();
    let nodes = Nodes::start(config);
    let body = prefill_leg(&ask(&prompt(1000, 0), 4), Value::Null);
    let failed = with_fault(&nodes, P, "fail-prefill", &body).await.read().await;
    assert_eq!((failed.status, failed.chunks[0].0), (500, tick(cost.prefill(1000))));
    assert_eq!(failed.json()["error"]["type"], "Internal Server Error");
    let streamed = with_fault(&nodes, P, "fail-prefill", &ask(&prompt(100, 1), 4)).await.read().await;
    assert_eq!((streamed.status, streamed.text().contains("\"error\"")), (200, true));
    // Nothing of it is in the store.
    nodes.post(D, ask(&prompt(1000, 0), 2)).await;
    assert_eq!(nodes.sources(D).await, [1000.0, 0.0, 0.0]);
    nodes.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn lost_kv_is_computed_again_and_a_slow_link_takes_longer() {
    let kv = json!({"do_remote_decode": true, "do_remote_prefill": false});
    for (fault, at) in [("lose-kv", P), ("lose-kv", D), ("slow-link=10", D)] {
        for params in [Value::Null, kv.clone()] {
            let config = config(&[]);
            let cost = config.cost.clone();
            let nodes = Nodes::start(config);
            let body = ask(&prompt(1000, 0), 4);
            let at_prefill = if at == P { fault } else { "none" };
            let first =
                with_fault(&nodes, P, at_prefill, &prefill_leg(&body, params.clone())).await.read().await;
            let handed = first.json()["kv_transfer_params"].clone();
            let sent = nodes.clock.now();
            let body = with(body, json!({"kv_transfer_params": handed}));
            let at_decode = if at == D { fault } else { "none" };
            let answer = with_fault(&nodes, D, at_decode, &body).await.read().await;
            let moved = if params.is_null() { 992 } else { 1000 };
            let exact = match fault {
                "lose-kv" => cost.prefill(1000),
                _ => cost.link_occupied(moved) * 10 + cost.link_latency() + cost.decode_step(1, 1000),
            };
            assert_eq!(answer.token_times()[0], tick(sent + exact), "{fault} {at:?} {params}");
            nodes.assert_idle().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_reset_or_told_an_error_after_some_events() {
    let nodes = Nodes::start(config(&[]));
    let body = ask(&prompt(10, 0), 40);
    let (text, end) = to_the_end(with_fault(&nodes, D, "reset-after=5", &body).await).await;
    assert_eq!((text.matches("data: ").count(), end), (5, Err(ErrorKind::ConnectionReset)));
    let told = with_fault(&nodes, D, "error-after=3", &body).await.read().await;
    assert_eq!(told.status, 200);
    let text = told.text();
    assert_eq!(text.matches("data: ").count(), 3 + 2); // the error and [DONE]
    assert!(text.contains("data: {\"error\":{\"message\""));
    let (_, end) =
        to_the_end(with_fault(&nodes, D, "reset-after=1", &prefill_leg(&body, Value::Null)).await).await;
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    nodes.assert_idle().await;
    assert!(nodes.truths().iter().all(|truth| truth.ended == Ended::Error));
    assert_eq!(nodes.cluster.totals().error, 3);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_stream_says_nothing_more_until_its_client_leaves() {
    let nodes = Nodes::start(config(&[]));
    let mut connection = with_fault(&nodes, D, "stall-after=3", &ask(&prompt(10, 0), 40)).await;
    connection.head().await;
    for _ in 0..3 {
        connection.chunk().await.unwrap();
    }
    assert!(timeout(Duration::from_secs(3600), connection.chunk()).await.is_err());
    drop(connection);
    sleep(Duration::from_millis(2)).await;
    nodes.assert_idle().await;
    assert_eq!(nodes.truths()[0].ended, Ended::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_killed_node_cuts_its_streams_and_comes_back_empty() {
    let mut settings = config(&[]);
    settings.topology = "1p2d".parse().unwrap();
    let mut nodes = Nodes::start(settings);
    let body = ask(&prompt(100, 0), 1000);
    let other = (Role::Decode, 1);
    let dying = nodes.send(D, "", &body).await;
    let mut living = nodes.send(other, "", &body).await;
    sleep(Duration::from_millis(500)).await;
    nodes.kill(D).await;
    let (text, _) = to_the_end(dying).await;
    assert!(10 < text.matches("data: ").count() && !text.contains("[DONE]") && !text.ends_with("0\r\n\r\n"));
    assert!(TcpStream::connect(nodes.address(D)).await.is_err());
    assert_eq!(living.read().await.token_times().len(), 1000);
    assert_eq!(nodes.truths()[0].ended, Ended::Cancelled);
    nodes.restart(D);
    assert_eq!(nodes.get(D, "/query").await.json()["0"]["engine_id"], "decode-0-r1");
    assert_eq!(nodes.post(D, ask(&prompt(100, 0), 3)).await.token_times().len(), 3);
    assert_eq!(nodes.sources(D).await, [100.0, 0.0, 0.0]);
    nodes.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn kv_of_a_killed_prefill_node_is_gone() {
    let mut nodes = Nodes::start(config(&[]));
    let body = ask(&prompt(100, 0), 3);
    let kv = json!({"do_remote_decode": true, "do_remote_prefill": false});
    let first = nodes.post(P, prefill_leg(&body, kv)).await.json();
    nodes.kill(P).await;
    nodes.restart(P);
    let fetches = json!({"kv_transfer_params": first["kv_transfer_params"]});
    assert_eq!(nodes.post(D, with(body, fetches)).await.token_times().len(), 3);
    assert_eq!(nodes.sources(D).await, [100.0, 0.0, 0.0]);
    assert_eq!(nodes.metric(D, "nixl_num_failed_transfers_total", &[]).await, 1.0);
    nodes.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_dies_when_the_parameter_says_so() {
    let mut config = config(&[("kill-node", "decode:1@0.5")]);
    config.topology = "1p2d".parse().unwrap();
    let nodes: Vec<SimNode> =
        config.topology.roles().map(|role| SimNode { role, listener: listen(0) }).collect();
    let addresses: Vec<_> = nodes.iter().map(|node| node.listener.local_addr().unwrap()).collect();
    let (stop, signal) = stop_channel();
    let clock = Clock::start();
    let running = tokio::spawn(run(nodes, config, clock, None, signal));
    let mut connections = Vec::new();
    for address in &addresses[1..] {
        let mut connection = Connection::open(*address, clock).await;
        connection.send("POST", "/v1/completions", "", &ask(&prompt(100, 0), 1000).to_string()).await;
        connections.push(connection);
    }
    sleep(Duration::from_millis(499)).await;
    assert!(TcpStream::connect(addresses[2]).await.is_ok());
    sleep(Duration::from_millis(2)).await;
    assert!(TcpStream::connect(addresses[2]).await.is_err());
    let (text, _) = to_the_end(connections.pop().unwrap()).await;
    assert!(!text.contains("[DONE]"));
    assert_eq!(connections.pop().unwrap().read().await.token_times().len(), 1000);
    stop.ask(Stop::Drain);
    let totals = running.await.unwrap();
    assert_eq!((totals.complete, totals.cancelled), (1, 1));
}
