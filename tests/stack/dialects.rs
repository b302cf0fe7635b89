//! Every dialect from the client to the nodes and back: the answer is that of one node which does all by itself, and
//! the decode nodes have their KV from the prefill nodes.

use crate::said::{Ask, Said};
use crate::setup::{Nodes, Stack, ask_all, simulated};
use pdbench::cluster::Role;
use pdbench::wire::dialect::Dialect;

/// What a single node of both roles answers, asked directly.
pub async fn alone(asks: &[Ask]) -> Vec<Said> {
    let nodes = Nodes::start(simulated("1m", &[]));
    ask_all(nodes.address((Role::Mixed, 0)), asks).await
}

/// Requests of every kind at once through 2 prefill and 2 decode nodes.
async fn holds(dialect: Dialect) {
    let asks = Ask::all_kinds(3, 300);
    let expected = alone(&asks).await;
    let stack = Stack::start(dialect, "2p2d").await;
    let got = stack.ask_all(&asks).await;
    for ((ask, expected), got) in asks.iter().zip(&expected).zip(&got) {
        assert_eq!(got, expected, "{dialect} {ask:?}");
        assert_eq!((got.status, got.whole, got.usage[0][1]), (200, true, ask.output_tokens as u64));
    }
    stack.assert_idle().await;
    let nodes = &stack.nodes;
    let (mut prefills, mut decodes) = (0.0, 0.0);
    for p in nodes.all(Role::Prefill) {
        let requests = nodes.metric(p, "request_success_total", &[("finished_reason", "length")]).await;
        assert!(0.0 < requests, "{dialect}: {p:?} got nothing to do");
        assert_eq!(nodes.metric(p, "generation_tokens_total", &[]).await, requests, "{dialect} {p:?}");
        prefills += requests;
    }
    for d in nodes.all(Role::Decode) {
        let requests = nodes.metric(d, "request_success_total", &[("finished_reason", "length")]).await;
        let [computed, found, transferred] = nodes.sources(d).await;
        assert!(
            requests <= computed && computed <= 16.0 * requests,
            "{dialect} {d:?}: {computed} of {requests}"
        );
        assert!(found == 0.0 && 250.0 * requests < transferred, "{dialect} {d:?}: {found}, {transferred}");
        decodes += requests;
    }
    assert_eq!((prefills, decodes), (asks.len() as f64, asks.len() as f64), "{dialect}");
    assert_eq!(stack.ended("ok").await, asks.len() as f64, "{dialect}");
}

#[tokio::test(start_paused = true)]
async fn plain_finds_kv_in_the_store() {
    holds(Dialect::Plain).await;
}

#[tokio::test(start_paused = true)]
async fn nixl_pull_fetches_kv() {
    holds(Dialect::NixlPull).await;
}

#[tokio::test(start_paused = true)]
async fn ascend_fetches_kv() {
    holds(Dialect::Ascend).await;
}

#[tokio::test(start_paused = true)]
async fn nixl_push_is_sent_kv() {
    holds(Dialect::NixlPush).await;
}

#[tokio::test(start_paused = true)]
async fn mooncake_p2p_joins_legs_by_their_transfer() {
    holds(Dialect::MooncakeP2p).await;
}

#[tokio::test(start_paused = true)]
async fn p2p_addr_sends_kv_where_the_id_says() {
    holds(Dialect::P2pAddr).await;
}

#[tokio::test(start_paused = true)]
async fn lmcache_goes_on_behind_the_first_token_once_it_is_told_of_its_kv() {
    holds(Dialect::Lmcache).await;
}

#[tokio::test(start_paused = true)]
async fn ascend_layerwise_calls_for_its_prefill() {
    holds(Dialect::AscendLayerwise).await;
}

#[tokio::test(start_paused = true)]
async fn sglang_meets_in_a_room() {
    holds(Dialect::Sglang).await;
}
