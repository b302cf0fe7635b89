//! A run of `pdbench serve` through the proxy while nodes die: what each request becomes, and what the run says.

use crate::common::{Ran, run_in};
use crate::setup::{Stack, Which};
use pdbench::Exit;
use pdbench::cluster::Role;
use pdbench::measure::{EndedIn, Outcome};
use pdbench::runtime::Workers;
use pdbench::wire::dialect::Dialect;
use std::collections::BTreeMap;
use std::time::Duration;
use tempfile::{TempDir, tempdir};
use tokio::time::sleep;

/// Twenty requests a second, each of some 0.75 s.
const LOAD: &str = "--dataset-name sonnet --sonnet-output-len 100 --rate 20 --ignore-eos";

/// Runs `LOAD` with `more`, while `which` dies after 3 s and comes back after 5.
pub async fn load(stack: &mut Stack, more: &[&str], which: Option<Which>) -> (Ran, TempDir) {
    let place = tempdir().unwrap();
    let url = stack.url();
    let mut arguments = vec!["serve", "--base-url", &url, "--model", "simulated", "--no-progress"];
    arguments.extend(LOAD.split(' '));
    arguments.extend(more);
    let dying = async {
        if let Some(which) = which {
            sleep(Duration::from_secs(3)).await;
            stack.nodes.kill(which).await;
            sleep(Duration::from_secs(2)).await;
            stack.nodes.restart(which);
        }
    };
    let (ran, ()) = tokio::join!(run_in(place.path(), &arguments, Workers::Local), dying);
    (ran, place)
}

/// How many ended how and where.
pub fn ends(ran: &Ran) -> BTreeMap<(Outcome, EndedIn), usize> {
    let mut ends = BTreeMap::new();
    for record in ran.main_records() {
        *ends.entry((record.outcome, record.ended_in)).or_default() += 1;
    }
    ends
}

/// What the run has to say; the report's lines are as wide as a terminal.
fn says(ran: &Ran, what: &str) {
    let said = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(what), "{what}: {}{}", ran.stdout, ran.stderr);
}

#[tokio::test(start_paused = true)]
async fn the_streams_of_a_decode_node_that_dies_are_truncated_and_the_rest_is_well() {
    let mut stack = Stack::start(Dialect::NixlPull, "2p2d").await;
    let more = ["--num-prompts", "160", "--max-error-rate", "0.2"];
    let (ran, _place) = load(&mut stack, &more, Some((Role::Decode, 1))).await;
    let ends = ends(&ran);
    let truncated = |at| ends.get(&(Outcome::Truncated, at)).copied().unwrap_or(0);
    let failed = truncated(EndedIn::Stream) + truncated(EndedIn::FirstToken);
    // Every other request of the last 0.7 s was there; those to come went to the other node.
    assert!((5..12).contains(&failed) && truncated(EndedIn::FirstToken) < 2, "{ends:?}");
    assert_eq!((ran.exit, ends[&(Outcome::Ok, EndedIn::End)]), (Exit::Valid, 160 - failed), "{ends:?}");
    for record in ran.main_records() {
        match record.outcome {
            Outcome::Ok => assert_eq!((record.events.len(), record.output_tokens), (100, 100)),
            _ => assert!(record.events.len() < 100 && record.finish_reason.is_none(), "{record:?}"),
        }
    }
    says(&ran, &format!("VALID: {} ok, {failed} failed of 160 sent", 160 - failed));
    says(&ran, &format!("Failures {failed} truncated"));
    says(&ran, &format!("{} after the first token (decode)", truncated(EndedIn::Stream)));
    says(&ran, &format!("warning: {failed} of 160 requests failed, most of them with `truncated`"));
    // It is taken back, and does its part again.
    assert!(1000.0 < stack.nodes.metric((Role::Decode, 1), "generation_tokens_total", &[]).await);
    stack.assert_idle().await;
    assert_eq!(stack.ended("broken").await, failed as f64);
}

#[tokio::test(start_paused = true)]
async fn a_run_gives_up_when_a_node_takes_too_much_with_it() {
    let mut stack = Stack::start(Dialect::NixlPull, "2p2d").await;
    let (ran, _place) = load(&mut stack, &["--num-prompts", "120"], Some((Role::Decode, 1))).await;
    assert_eq!(ran.exit, Exit::Aborted, "{}", ran.stderr);
    says(&ran, "given up, 7 of the last 50 requests failed");
    says(&ran, "7 after the first token (decode)");
    stack.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn the_requests_of_a_prefill_node_that_dies_are_answered_502() {
    for dialect in [Dialect::NixlPull, Dialect::Sglang] {
        let mut stack = Stack::start(dialect, "2p2d").await;
        // More than two prefill nodes can do, so that both have a queue.
        let more = ["--num-prompts", "120", "--sonnet-input-len", "4000", "--max-error-rate", "0.5"];
        let (ran, _place) = load(&mut stack, &more, Some((Role::Prefill, 1))).await;
        let failed: Vec<_> =
            ran.main_records().into_iter().filter(|record| record.outcome != Outcome::Ok).collect();
        // Those that it had; those to come went to the other node.
        assert!((3..40).contains(&failed.len()), "{dialect}: {:?}", ends(&ran));
        for record in &failed {
            assert_eq!((record.outcome, record.ended_in), (Outcome::Http5xx, EndedIn::End), "{dialect}");
            assert_eq!((record.http_status, record.events.len()), (Some(502), 0), "{dialect}");
            let error = record.error.as_ref().unwrap();
            assert!(error.contains("prefill instance 127.0.0.1:"), "{dialect}: {error}");
        }
        assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
        says(&ran, &format!("VALID: {} ok, {} failed of 120 sent", 120 - failed.len(), failed.len()));
        says(&ran, &format!("{} before the first token (prefill or KV transfer)", failed.len()));
        // Nobody computed a prompt twice.
        let decode =
            [stack.nodes.sources((Role::Decode, 0)).await, stack.nodes.sources((Role::Decode, 1)).await];
        assert!(decode.iter().all(|[computed, _, moved]| computed * 100.0 < *moved), "{dialect}: {decode:?}");
        stack.assert_idle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_node_left_requests_are_answered_503_until_it_is_back() {
    let mut stack = Stack::start(Dialect::Plain, "1p1d").await;
    let more = ["--num-prompts", "140", "--max-error-rate", "0.9"];
    let (ran, _place) = load(&mut stack, &more, Some((Role::Decode, 0))).await;
    let ends = ends(&ran);
    // Two seconds and less than another until it is asked again, at 20 requests a second.
    assert!((39..62).contains(&ends[&(Outcome::Http5xx, EndedIn::End)]), "{ends:?}");
    assert!((13..16).contains(&ends[&(Outcome::Truncated, EndedIn::Stream)]), "{ends:?}");
    assert_eq!((ends.len(), ends.values().sum::<usize>(), ran.exit), (3, 140, Exit::Valid), "{ends:?}");
    let last = ran.main_records().into_iter().max_by_key(|record| record.i).unwrap();
    assert_eq!(last.outcome, Outcome::Ok);
    stack.assert_idle().await;
}
