//! Faults of nodes, asked for by a header that goes through the proxy: what the client's records make of them.

use crate::dialects::alone;
use crate::runs::{ends, load};
use crate::said::Ask;
use crate::setup::{D, Stack, simulated};
use pdbench::measure::{EndedIn, Outcome};
use pdbench::wire::dialect::Dialect;
use std::time::Duration;
use tokio::time::sleep;

/// One row: what every request of a run becomes.
#[derive(Debug, PartialEq)]
struct Becomes {
    outcome: Outcome,
    ended_in: EndedIn,
    status: Option<u16>,
    /// Token events that came before.
    events: usize,
    /// Prompt tokens that the decode node did not have to compute.
    moved: bool,
}

fn becomes(outcome: Outcome, ended_in: EndedIn, status: u16, events: usize) -> Becomes {
    Becomes { outcome, ended_in, status: Some(status), events, moved: true }
}

/// Runs four requests with `fault`; an error has to say `says`.
async fn meets(dialect: Dialect, fault: &str, says: &str, expected: Becomes) {
    let wait = if fault.starts_with("stall") { "20" } else { "2" };
    let config = simulated("1p1d", &[("kv-hold-s", "20"), ("kv-wait-s", wait)]);
    let mut stack =
        Stack::between(dialect, config, |proxy, _| proxy.timeouts.kv_ready = Duration::from_secs(4)).await;
    let header = format!("x-sim-fault={fault}");
    let mut arguments = vec!["--header", &header, "--probe", "none", "--num-prompts", "4"];
    arguments.extend(["--timeout-idle", "6", "--timeout-first-token", "7"]);
    let (ran, _place) = load(&mut stack, &arguments, None).await;
    let records = ran.main_records();
    let moved = 0.0 < stack.nodes.sources(D).await[2];
    for record in &records {
        let (outcome, ended_in, status) = (record.outcome, record.ended_in, record.http_status);
        let got = Becomes { outcome, ended_in, status, events: record.events.len(), moved: expected.moved };
        assert_eq!(got, expected, "{dialect} {fault}: {record:?}");
        let error = record.error.as_deref().unwrap_or_default();
        assert!(error.contains(says), "{dialect} {fault}: {error}");
    }
    assert_eq!((records.len(), ends(&ran).len()), (4, 1));
    if expected.outcome == Outcome::Ok || 0 < expected.events {
        assert_eq!(moved, expected.moved, "{dialect} {fault}");
    }
    // Nothing of it stays; KV that nobody came for expires.
    sleep(Duration::from_secs(21)).await;
    stack.assert_idle().await;
}

const ASKED_FOR: &str = "A fault of the simulated cluster, as asked for.";

#[tokio::test(start_paused = true)]
async fn a_status_of_a_prefill_node_is_the_clients_status() {
    for dialect in Dialect::ALL {
        for (status, outcome) in [(503, Outcome::Http5xx), (429, Outcome::Http429), (400, Outcome::Http4xx)] {
            let fault = format!("status={status}@prefill");
            meets(dialect, &fault, ASKED_FOR, becomes(outcome, EndedIn::End, status, 0)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_of_a_decode_node_is_the_clients_status_unless_a_token_was_shown() {
    for dialect in Dialect::ALL {
        let (says, expected) = match dialect {
            Dialect::Lmcache => ("status 503", becomes(Outcome::StreamError, EndedIn::Stream, 200, 1)),
            _ => (ASKED_FOR, becomes(Outcome::Http5xx, EndedIn::End, 503, 0)),
        };
        let expected = Becomes { moved: false, ..expected };
        meets(dialect, "status=503@decode", says, expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_prefill_that_fails_is_no_answer() {
    for dialect in Dialect::ALL {
        let (says, status) = match dialect {
            // Their prefill legs are streams, whose status was sent before.
            Dialect::Plain | Dialect::P2pAddr | Dialect::Sglang => ("it answered 200 with an error", 502),
            _ => (ASKED_FOR, 500),
        };
        meets(dialect, "fail-prefill@prefill", says, becomes(Outcome::Http5xx, EndedIn::End, status, 0))
            .await;
        let reset = becomes(Outcome::Http5xx, EndedIn::End, 502, 0);
        meets(dialect, "reset-after=0@prefill", "the connection broke", reset).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_decode_stream_that_breaks_is_broken_for_the_client() {
    for dialect in Dialect::ALL {
        // LMCache's first token is not the decode node's.
        let events = if dialect == Dialect::Lmcache { 6 } else { 5 };
        let error = becomes(Outcome::StreamError, EndedIn::End, 200, events);
        meets(dialect, "error-after=5@decode", ASKED_FOR, error).await;
        let cut = becomes(Outcome::Truncated, EndedIn::Stream, 200, events);
        meets(dialect, "reset-after=5@decode", "closed before the response was whole", cut).await;
        let silent = becomes(Outcome::TimeoutIdle, EndedIn::Stream, 200, events);
        meets(dialect, "stall-after=5@decode", "", silent).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_prefill_that_stalls_runs_into_the_clients_patience() {
    for dialect in Dialect::ALL {
        let silent =
            Becomes { status: None, ..becomes(Outcome::TimeoutFirstToken, EndedIn::Headers, 200, 0) };
        meets(dialect, "stall-after=0@prefill", "", silent).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_decode_node_that_waited_in_vain_for_a_stalled_prefill_goes_on_alone() {
    for dialect in [Dialect::Sglang, Dialect::NixlPush, Dialect::MooncakeP2p, Dialect::AscendLayerwise] {
        let config = simulated("1p1d", &[("kv-wait-s", "2")]);
        let stack = Stack::between(dialect, config, |proxy, _| {
            (proxy.timeouts.head, proxy.timeouts.idle) = (Duration::from_secs(5), Duration::from_secs(5));
        })
        .await;
        let ask = Ask::streamed(0, 300, 20);
        let said = stack.ask_with(&ask, "x-sim-fault: stall-after=0@prefill\r\n").await;
        assert_eq!(vec![said], alone(&[ask]).await, "{dialect}");
        assert_eq!(stack.nodes.sources(D).await, [300.0, 0.0, 0.0], "{dialect}");
        // The prefill leg is left to itself, and ends by the proxy's patience.
        let legs = || async { stack.metrics().await.sum("pdbench_proxy_legs_in_flight", &[]) };
        assert_eq!(legs().await, Some(1.0), "{dialect}");
        sleep(Duration::from_secs(5)).await;
        stack.assert_idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn lost_kv_is_computed_again_unless_word_of_it_was_promised() {
    for dialect in Dialect::ALL {
        for fault in ["lose-kv@prefill", "lose-kv@decode"] {
            let whole = Becomes { moved: false, ..becomes(Outcome::Ok, EndedIn::End, 200, 100) };
            match (dialect, fault) {
                (Dialect::Lmcache, "lose-kv@prefill") => {
                    let untold = becomes(Outcome::StreamError, EndedIn::Stream, 200, 1);
                    let untold = Becomes { moved: false, ..untold };
                    meets(dialect, fault, "no word of its KV within 4s", untold).await;
                }
                // What was delivered to the node is there whatever the decode request says.
                (Dialect::Lmcache, _) => meets(dialect, fault, "", Becomes { moved: true, ..whole }).await,
                _ => meets(dialect, fault, "", whole).await,
            }
        }
    }
}
