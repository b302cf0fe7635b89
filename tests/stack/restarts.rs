//! Nodes that die and come back while requests are under way.

use crate::dialects::alone;
use crate::said::{Ask, Said};
use crate::setup::{D, Nodes, P, Stack, listen, send, simulated};
use pdbench::cluster::Role;
use pdbench::proxy::Config;
use pdbench::wire::Endpoint;
use pdbench::wire::dialect::Dialect;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// What became of one request: the answer's status, and which leg the proxy blames.
struct Ended {
    said: Said,
    leg: Option<String>,
}

fn under_way(proxy: SocketAddr, ask: &Ask) -> JoinHandle<Ended> {
    let ask = *ask;
    tokio::spawn(async move {
        let answer = send(proxy, &ask, "").await.answer().await;
        Ended { said: Said::of(&answer), leg: answer.header("x-pdbench-leg").map(str::to_owned) }
    })
}

/// Ended without a time-out's help.
async fn ended(request: JoinHandle<Ended>) -> Ended {
    timeout(Duration::from_secs(1), request).await.expect("an end at once").unwrap()
}

fn one(endpoint: Endpoint, stream: bool, number: usize) -> Ask {
    Ask { endpoint, stream, number, prompt_tokens: 300, output_tokens: 500 }
}

#[tokio::test(start_paused = true)]
async fn a_decode_node_that_dies_cuts_its_answers_and_is_taken_back() {
    for dialect in Dialect::ALL {
        let mut stack = Stack::start(dialect, "1p1d").await;
        let asks = [
            one(Endpoint::Completions, true, 0),
            one(Endpoint::Chat, true, 1),
            one(Endpoint::Completions, false, 2),
            one(Endpoint::Chat, false, 3),
        ];
        let whole = alone(&asks).await;
        let requests = asks.map(|ask| under_way(stack.proxy, &ask));
        sleep(Duration::from_secs(1)).await;
        stack.nodes.kill(D).await;
        for ((ask, whole), request) in asks.iter().zip(&whole).zip(requests) {
            let Ended { said, leg } = ended(request).await;
            if ask.stream {
                assert_eq!((said.status, said.whole, said.done), (200, false, 0), "{dialect} {ask:?}");
                let (got, all) = (said.text(), whole.text());
                assert!(
                    400 < got.len() && got.len() < all.len() && all.starts_with(&got),
                    "{dialect}: {got}"
                );
                assert_eq!((said.usage.len(), said.finish), (0, None), "{dialect} {ask:?}");
            } else {
                assert_eq!((said.status, leg.as_deref()), (502, Some("decode")), "{dialect} {ask:?}");
            }
        }
        stack.assert_idle().await;
        let refused = stack.ask(&asks[0]).await;
        assert_eq!((refused.status, refused.errors), (503, 1), "{dialect}");
        stack.nodes.restart(D);
        sleep(Duration::from_millis(1100)).await;
        assert_eq!(stack.ask_all(&asks).await, whole, "{dialect}");
        stack.assert_idle().await;
        // Nothing of before is left to it.
        assert!(stack.nodes.sources(D).await[1] == 0.0, "{dialect}");
        let counted = [stack.ended("broken").await, stack.ended("leg_failed").await, stack.ended("ok").await];
        assert_eq!(counted, [2.0, 2.0, 4.0], "{dialect}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_decode_node_that_is_gone_leaves_its_request_to_another_that_finds_the_kv() {
    for dialect in [Dialect::Plain, Dialect::NixlPull, Dialect::Ascend, Dialect::Lmcache] {
        for ask in Ask::all_kinds(1, 300) {
            let unnotified = |config: &mut Config, _: &Nodes| config.kv_notify = None;
            let mut stack = Stack::between(dialect, simulated("1p2d", &[]), unnotified).await;
            stack.nodes.kill(D).await;
            assert_eq!(vec![stack.ask(&ask).await], alone(&[ask]).await, "{dialect} {ask:?}");
            let moved = stack.metrics().await.sum("pdbench_proxy_legs_moved_total", &[]);
            assert_eq!(moved, Some(1.0), "{dialect} {ask:?}");
            let [computed, _, transferred] = stack.nodes.sources((Role::Decode, 1)).await;
            // The simulated LMCache has no store: what was sent to the node that is gone is computed again.
            let found = dialect != Dialect::Lmcache;
            assert_eq!((computed < 20.0, 250.0 < transferred), (found, found), "{dialect} {ask:?}");
            stack.assert_idle().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_prefill_node_that_dies_fails_its_requests_before_their_answers() {
    for dialect in Dialect::ALL {
        let mut stack = Stack::start(dialect, "1p1d").await;
        // Prefills of 0.8 s each.
        let asks = Ask::all_kinds(1, 20_000);
        let requests: Vec<_> = asks.iter().map(|ask| under_way(stack.proxy, ask)).collect();
        sleep(Duration::from_millis(300)).await;
        stack.nodes.kill(P).await;
        for (ask, request) in asks.iter().zip(requests) {
            let Ended { said, leg } = ended(request).await;
            assert_eq!((said.status, leg.as_deref()), (502, Some("prefill")), "{dialect} {ask:?}");
        }
        stack.assert_idle().await;
        assert_eq!(stack.ask(&asks[0]).await.status, 503, "{dialect}");
        stack.nodes.restart(P);
        sleep(Duration::from_millis(1100)).await;
        let asks = Ask::all_kinds(1, 300);
        assert_eq!(stack.ask_all(&asks).await, alone(&asks).await, "{dialect}");
        stack.assert_idle().await;
        let transferred = stack.nodes.sources(D).await[2];
        // Whom to register with was said once, and the node came back under another engine id.
        let found_again = dialect != Dialect::NixlPush;
        assert_eq!(1100.0 < transferred, found_again, "{dialect}: {transferred}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_requests_of_the_node_that_died_fail() {
    let mut stack = Stack::start(Dialect::NixlPull, "2p2d").await;
    let asks: Vec<Ask> = (0..8).map(|number| Ask::streamed(number, 300, 400)).collect();
    let requests: Vec<_> = asks.iter().map(|ask| under_way(stack.proxy, ask)).collect();
    sleep(Duration::from_secs(1)).await;
    stack.nodes.kill((Role::Decode, 1)).await;
    let mut whole = 0;
    for (request, expected) in requests.into_iter().zip(alone(&asks).await) {
        let said = timeout(Duration::from_secs(10), request).await.unwrap().unwrap().said;
        whole += usize::from(said == expected);
        assert!(said == expected || !said.whole && expected.text().starts_with(&said.text()));
    }
    assert_eq!(whole, 4);
    // One decode node serves all, until the other is back.
    assert!(stack.ask_all(&asks).await.iter().all(|said| said.whole));
    let before = stack.nodes.metric(D, "generation_tokens_total", &[]).await;
    assert_eq!(before, (4 + 8) as f64 * 400.0);
    stack.nodes.restart((Role::Decode, 1));
    sleep(Duration::from_millis(1100)).await;
    assert!(stack.ask_all(&asks).await.iter().all(|said| said.whole));
    assert_eq!(stack.nodes.metric(D, "generation_tokens_total", &[]).await, before + 4.0 * 400.0);
    stack.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_drains_ends_its_answers_and_costs_one_request_at_most() {
    for role in [Role::Prefill, Role::Decode] {
        let mut stack = Stack::start(Dialect::NixlPull, "2p2d").await;
        let asks: Vec<Ask> = (0..8).map(|number| Ask::streamed(number, 300, 400)).collect();
        let whole = alone(&asks).await;
        let requests: Vec<_> = asks.iter().map(|ask| under_way(stack.proxy, ask)).collect();
        sleep(Duration::from_secs(1)).await;
        stack.nodes.drain((role, 1)).await;
        for (request, expected) in requests.into_iter().zip(&whole) {
            assert_eq!(request.await.unwrap().said, *expected, "{role}");
        }
        // It is known to be gone once it refuses a connection.
        let mut failed = 0;
        for (ask, expected) in asks.iter().zip(&whole) {
            let said = stack.ask(ask).await;
            failed += usize::from(said.status == 502);
            assert!(said.status == 502 || said == *expected, "{role}: {said:?}");
        }
        assert!(failed <= 1, "{role}: {failed}");
        stack.assert_idle().await;
    }
}

/// A way to a node on which requests wait until it is opened.
struct Gate {
    address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Gate {
    fn before(node: SocketAddr) -> Self {
        let listener = listen(0);
        let address = listener.local_addr().unwrap();
        let (open, opened) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let mut opened = opened.clone();
                tokio::spawn(async move {
                    let mut begin = Vec::new();
                    if from.read_buf(&mut begin).await.unwrap_or(0) == 0 {
                        return;
                    }
                    if begin.starts_with(b"POST") {
                        opened.wait_for(|open| *open).await.unwrap();
                    }
                    let mut to = TcpStream::connect(node).await.unwrap();
                    to.set_nodelay(true).unwrap();
                    from.set_nodelay(true).unwrap();
                    to.write_all(&begin).await.unwrap();
                    let _ = copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        Self { address, open }
    }
}

/// One prefill and one decode node, the way to the decode node shut.
async fn gated(dialect: Dialect) -> (Stack, watch::Sender<bool>) {
    let mut opener = None;
    let stack = Stack::between(dialect, simulated("1p1d", &[]), |proxy, nodes| {
        let gate = Gate::before(nodes.address(D));
        (proxy.decode[0].port, opener) = (gate.address.port(), Some(gate.open));
        // So that no connection is kept from the question for it.
        proxy.max_model_len = Some(100_000);
    })
    .await;
    (stack, opener.unwrap())
}

/// What the decode node computes and gets of a prompt whose prefill node, or itself, died between the legs.
async fn between_the_legs(dialect: Dialect, dies: (Role, usize)) -> [f64; 3] {
    let (mut stack, gate) = gated(dialect).await;
    let ask = Ask::streamed(0, 300, 20);
    let request = under_way(stack.proxy, &ask);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(stack.nodes.metric(P, "generation_tokens_total", &[]).await, 1.0, "{dialect}");
    stack.nodes.kill(dies).await;
    stack.nodes.restart(dies);
    gate.send(true).unwrap();
    // A node to which KV was promised waits for it, for 30 s.
    let ended = timeout(Duration::from_secs(31), request).await.unwrap().unwrap();
    assert_eq!(vec![ended.said], alone(&[ask]).await, "{dialect}");
    stack.assert_idle().await;
    stack.nodes.sources(D).await
}

#[tokio::test(start_paused = true)]
async fn kv_that_died_with_its_prefill_node_is_computed_again() {
    assert_eq!(between_the_legs(Dialect::NixlPull, P).await, [300.0, 0.0, 0.0]);
    assert_eq!(between_the_legs(Dialect::P2pAddr, P).await, [300.0, 0.0, 0.0]);
    // What is in the store is not touched by it.
    assert_eq!(between_the_legs(Dialect::Plain, P).await, [12.0, 0.0, 288.0]);
}

#[tokio::test(start_paused = true)]
async fn kv_that_waits_elsewhere_survives_its_decode_node() {
    assert_eq!(between_the_legs(Dialect::NixlPull, D).await, [1.0, 0.0, 299.0]);
    assert_eq!(between_the_legs(Dialect::Plain, D).await, [12.0, 0.0, 288.0]);
    // LMCache's was there already, and is gone with it; 301 tokens, the first of the answer being one of the prompt.
    assert_eq!(between_the_legs(Dialect::Lmcache, D).await, [301.0, 0.0, 0.0]);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_changed_unseen_is_asked_for_again() {
    let mut stack = Stack::start(Dialect::MooncakeP2p, "1p1d").await;
    let asks: Vec<Ask> = (0..4).map(|number| Ask::streamed(number, 300, 20)).collect();
    let whole = alone(&asks).await;
    assert_eq!(stack.ask(&asks[0]).await, whole[0]);
    // It is back before anybody looks.
    stack.nodes.kill(P).await;
    stack.nodes.restart(P);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(stack.ask(&asks[1]).await, whole[1]);
    assert_eq!(stack.nodes.sources(D).await, [2.0, 0.0, 598.0]);
    // A connection that was cut meanwhile is reason enough to look: only this request's prompt is computed twice.
    stack.nodes.kill(P).await;
    stack.nodes.restart(P);
    assert_eq!(stack.ask(&asks[2]).await, whole[2]);
    assert_eq!(stack.ask(&asks[3]).await, whole[3]);
    assert_eq!(stack.nodes.sources(D).await, [303.0, 0.0, 897.0]);
    stack.assert_idle().await;
}
