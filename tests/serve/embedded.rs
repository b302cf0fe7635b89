//! `pdbench serve` without a target, and `pdbench sim`: nodes with sockets of their own behind the real proxy.

use crate::common::{Printed, Ran, run_in, world};
use pdbench::Exit;
use pdbench::cluster::Role;
use pdbench::command::InterruptedBy;
use pdbench::runtime::{Stop, Workers};
use pdbench::sim::{Cost, Truth};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tempfile::tempdir;

/// Runs `serve` with these words behind it.
async fn serve(place: &Path, words: &str) -> Ran {
    let arguments: Vec<_> = ["serve"].into_iter().chain(words.split_whitespace()).collect();
    let ran = run_in(place, &arguments, Workers::Local).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    ran
}

#[tokio::test(start_paused = true)]
async fn a_lone_request_through_the_embedded_proxy_takes_what_the_cost_model_says() {
    for topology in ["1p1d", "2p3d"] {
        let place = tempdir().unwrap();
        // Without caches the probe before it leaves nothing; each request is over before the next is due.
        let words = format!("--sim {topology} --num-prompts 5 --rate 0.1 --sim-no-prefix-cache");
        let ran = serve(place.path(), &words).await;
        let cost = Cost::default();
        for record in ran.main_records() {
            let ttft = record.events.first().unwrap() - record.sent.unwrap();
            let exact = cost.lone_ttft(u64::from(record.prompt_tokens), 0);
            // The paused clock goes in steps of 1 ms and rounds up: once at the prefill node, once at the decode node.
            let late = ttft.checked_sub(exact).unwrap_or_else(|| panic!("{ttft:?} is below {exact:?}"));
            assert!(late < Duration::from_millis(2), "{ttft:?} {exact:?}");
            let tpot = (record.events.last().unwrap() - record.events.first().unwrap()).as_secs_f64()
                / f64::from(record.output_tokens - 1);
            let middle = u64::from(record.prompt_tokens + record.output_tokens / 2);
            assert!((tpot - cost.decode_step(1, middle).as_secs_f64()).abs() < 2e-5, "{tpot}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_request_is_as_fast_as_the_cost_model_says_where_nothing_is_rounded() {
    let place = tempdir().unwrap();
    // A prefill takes whole milliseconds.
    let words = "--num-prompts 3 --rate 0.1 --sim-no-prefix-cache --sim-prefill-tokens-per-s 1000 --sim-link-gb-per-s 1";
    let ran = serve(place.path(), words).await;
    let cost = Cost { prefill_tokens_per_s: 1000.0, link_gb_per_s: 1.0, ..Cost::default() };
    for record in ran.main_records() {
        let ttft = record.events.first().unwrap() - record.sent.unwrap();
        let exact = cost.lone_ttft(u64::from(record.prompt_tokens), 0);
        assert_eq!(ttft.as_micros(), exact.as_nanos().div_ceil(1_000_000) * 1000, "{exact:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn kv_from_prefill_nodes_counts_as_handed_over_and_not_as_cached() {
    let place = tempdir().unwrap();
    let ran = serve(place.path(), "--sim 2p3d --num-prompts 100 --rate 20").await;
    let summary = ran.run_file().summary.unwrap();
    assert_eq!(summary.tokens.cached, None);
    // All but the last token of each prompt.
    assert_eq!(summary.tokens.handed_over, Some(summary.tokens.input - 100));
    let warnings = format!("{:?}", summary.warnings);
    assert!(!warnings.to_lowercase().contains("cache"), "{warnings}");
    let page = std::fs::read_to_string(ran.directory().join("report.html")).unwrap();
    assert!(page.contains("handed over by prefill nodes") && !page.contains("of the input from a cache"));
}

/// Runs `sim` with `--sim …`'s words, and `load` against what it says it serves: what is in the truth log.
async fn truths_of(words: &str, load: &str) -> Vec<Truth> {
    let place = tempdir().unwrap();
    let log = place.path().join("truth.jsonl");
    let (stdout, stderr) = (Printed::default(), Printed::default());
    let mut arguments: Vec<_> = ["sim", "--port", "0"].into_iter().chain(words.split_whitespace()).collect();
    arguments.extend(["--truth-log", log.to_str().unwrap()]);
    let mut world = world(&arguments, Workers::Local, &stdout, &stderr);
    let interrupt = world.interrupt.clone();
    let loading = async {
        while stdout.text().is_empty() {
            tokio::task::yield_now().await;
        }
        let said = stdout.text();
        let (_, rest) = said.split_once("http://").unwrap();
        let url = rest.split_whitespace().next().unwrap();
        let ran = serve(&place.path().join("runs"), &format!("--base-url http://{url} {load}")).await;
        assert_eq!(ran.run_file().summary.unwrap().counts.failed, 0);
        interrupt.handle(InterruptedBy::Interrupt).ask(Stop::Drain);
    };
    let (exit, ()) = tokio::join!(pdbench::run(&mut world), loading);
    assert_eq!(exit, Exit::Valid, "{}", stderr.text());
    drop(world);
    let text = std::fs::read_to_string(&log).unwrap();
    text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn requests_spread_over_the_nodes_and_leave_a_line_at_each() {
    for routing in ["least-in-flight", "round-robin"] {
        let words = format!("--topology 2p3d --routing {routing}");
        let load = "--dataset-name sonnet --num-prompts 12 --rate inf --probe none";
        let truths = truths_of(&words, load).await;
        let mut at: BTreeMap<(Role, u32), usize> = BTreeMap::new();
        let mut legs: BTreeMap<&str, Vec<Role>> = BTreeMap::new();
        for truth in &truths {
            *at.entry((truth.role, truth.node)).or_default() += 1;
            legs.entry(&truth.id).or_default().push(truth.role);
        }
        let expected = [
            (Role::Prefill, 0, 6),
            (Role::Prefill, 1, 6),
            (Role::Decode, 0, 4),
            (Role::Decode, 1, 4),
            (Role::Decode, 2, 4),
        ];
        assert_eq!(at, expected.map(|(role, node, count)| ((role, node), count)).into(), "{routing}");
        assert_eq!(legs.len(), 12);
        assert!(legs.values().all(|roles| *roles == [Role::Prefill, Role::Decode]));
    }
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_at_a_node_that_is_not_there_is_refused() {
    for (arguments, says) in [
        (&["sim", "--port", "0", "--kill-node", "decode:1@5"][..], "kill-node `decode:1@5` names a node"),
        (&["serve", "--sim", "2m", "--sim-fault", "lose-kv@prefill"], "a 2m cluster does not have"),
    ] {
        let (stdout, stderr) = (Printed::default(), Printed::default());
        let mut world = world(arguments, Workers::Local, &stdout, &stderr);
        world.interrupt.handle(InterruptedBy::Interrupt).ask(Stop::Drain);
        assert_eq!(pdbench::run(&mut world).await, Exit::Usage, "{}", stderr.text());
        assert!(stderr.text().contains(says), "{}", stderr.text());
        assert!(stdout.text().is_empty(), "{}", stdout.text());
    }
}
