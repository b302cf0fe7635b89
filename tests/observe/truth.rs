//! The anatomy of the TTFT against what the nodes really did.

use crate::common::{Printed, Ran, run_in, world};
use pdbench::Exit;
use pdbench::cluster::Role;
use pdbench::command::InterruptedBy;
use pdbench::measure::{Anatomy, Offset, PartName, TokenWay};
use pdbench::runtime::{Stop, Workers};
use pdbench::sim::{Cost, Truth};
use std::collections::BTreeSet;
use tempfile::tempdir;

/// Runs `sim` with these words, and a load of so many requests a second through its proxy, which names the nodes.
async fn measured(words: &str, requests: u32, rate: f64) -> (Ran, Vec<Truth>) {
    let place = tempdir().unwrap();
    let log = place.path().join("truth.jsonl");
    let (stdout, stderr) = (Printed::default(), Printed::default());
    let mut arguments: Vec<_> =
        ["sim", "--port", "0", "--no-prefix-cache"].into_iter().chain(words.split_whitespace()).collect();
    arguments.extend(["--truth-log", log.to_str().unwrap()]);
    let mut world = world(&arguments, Workers::Local, &stdout, &stderr);
    let interrupt = world.interrupt.clone();
    let runs = tempdir().unwrap().keep();
    let loading = async {
        while stdout.text().is_empty() {
            tokio::task::yield_now().await;
        }
        let said = stdout.text();
        let (_, rest) = said.split_once("http://").unwrap();
        let url = format!("http://{}", rest.split_whitespace().next().unwrap());
        let words = format!(
            "serve --pd-proxy {url} --dataset-name sonnet --model simulated --num-prompts {requests} --request-rate {rate} \
             --output-len 40 --probe none --no-progress --ignore-eos"
        );
        let ran = run_in(&runs, &words.split_whitespace().collect::<Vec<_>>(), Workers::Local).await;
        interrupt.handle(InterruptedBy::Interrupt).ask(Stop::Drain);
        ran
    };
    let (exit, ran) = tokio::join!(pdbench::run(&mut world), loading);
    assert_eq!(exit, Exit::Valid, "{}", stderr.text());
    drop(world);
    let main: BTreeSet<String> = ran.main_records().into_iter().map(|record| record.id).collect();
    let text = std::fs::read_to_string(&log).unwrap();
    let truths = text.lines().skip(1).map(|line| serde_json::from_str::<Truth>(line).unwrap());
    let truths: Vec<_> = truths.filter(|truth| main.contains(&truth.id)).collect();
    assert_eq!(truths.len(), 2 * requests as usize);
    (ran, truths)
}

fn anatomy(ran: &Ran) -> Anatomy {
    let server = ran.run_file().summary.unwrap_or_else(|| panic!("{}", ran.stderr)).server;
    let anatomy = server.unwrap_or_else(|| panic!("nobody was watched: {}", ran.stderr)).anatomy.unwrap();
    std::fs::remove_dir_all(&ran.output_dir).unwrap();
    let sum: f64 = anatomy.parts.iter().map(|part| part.ms).sum();
    assert!((sum - anatomy.from_schedule_ms).abs() < 1e-6, "{sum} {}", anatomy.from_schedule_ms);
    anatomy
}

/// Mean time between two instants of the legs at a role, ms.
fn mean(truths: &[Truth], role: Role, span: impl Fn(&Truth) -> Option<(Offset, Offset)>) -> f64 {
    let legs: Vec<f64> = truths
        .iter()
        .filter(|truth| truth.role == role)
        .map(|truth| span(truth).map(|(from, to)| to.ms_since(from)).unwrap())
        .collect();
    legs.iter().sum::<f64>() / legs.len() as f64
}

/// Within a tenth of the truth, and the step of the paused clock.
#[track_caller]
fn near(what: &str, told: Option<f64>, truth: f64) {
    let told = told.unwrap_or_else(|| panic!("{what} is not told"));
    assert!((told - truth).abs() <= 0.1 * truth + 0.5, "{what}: {told} told, {truth} in truth");
}

#[tokio::test(start_paused = true)]
async fn at_any_load_each_part_is_what_the_nodes_really_took() {
    // Prompts of about 550 tokens; a slow link, so that KV's way weighs something.
    let capacity = 1.0 / Cost::default().prefill(550).as_secs_f64();
    for load in [0.3, 0.8, 1.1] {
        let (ran, truths) = measured("--topology 1p1d --link-gb-per-s 5", 300, load * capacity).await;
        let anatomy = anatomy(&ran);
        assert_eq!((anatomy.way, anatomy.kv_wait_in_queue), (TokenWay::DecodeAfterPrefill, false));
        let told = |part| anatomy.ms(part);
        let queue = mean(&truths, Role::Prefill, |t| Some((t.received_us, t.prefill_start_us?)));
        near("prefill queue", told(PartName::PrefillQueue), queue);
        let compute = mean(&truths, Role::Prefill, |t| Some((t.prefill_start_us?, t.prefill_end_us?)));
        near("prefill compute", told(PartName::PrefillCompute), compute);
        let transfer = mean(&truths, Role::Decode, |t| Some((t.received_us, t.kv_arrived_us?)));
        near("KV transfer", told(PartName::KvTransfer), transfer);
        let step = mean(&truths, Role::Decode, |t| Some((t.kv_arrived_us?, t.writes_us.first()?)));
        let both = told(PartName::DecodeQueue).zip(told(PartName::DecodeFirstStep));
        near("decode", both.map(|(queue, step)| queue + step), step);
        // What is left over is the paused clock's rounding, at most a step for each of four waits.
        let rest = told(PartName::Rest).unwrap();
        assert!(rest.abs() < 4.0, "{load}: {rest} of {}", anatomy.from_schedule_ms);
        if load == 1.1 {
            assert!(ran.said().contains("the bottleneck is the prefill pool"), "{}", ran.stdout);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn legs_side_by_side_and_kv_by_a_store_are_understood_too() {
    let (ran, _) = measured("--topology 2p2d --dialect mooncake-p2p", 100, 20.0).await;
    let beside = anatomy(&ran);
    assert_eq!((beside.way, beside.kv_wait_in_queue), (TokenWay::DecodeBesidePrefill, true));
    assert!(beside.ms(PartName::Rest).unwrap().abs() < 4.0, "{beside:?}");
    let (ran, truths) = measured("--topology 1p1d --dialect plain --link-gb-per-s 5", 100, 15.0).await;
    let stored = anatomy(&ran);
    assert_eq!((stored.way, stored.kv_wait_in_queue), (TokenWay::DecodeAfterPrefill, false));
    assert!(stored.ms(PartName::Rest).unwrap().abs() < 4.0, "{stored:?}");
    // Into the store and out of it.
    let out = mean(&truths, Role::Decode, |t| Some((t.received_us, t.kv_arrived_us?)));
    let told = stored.ms(PartName::KvTransfer).unwrap();
    assert!((1.5 * out..2.5 * out).contains(&told), "{told} {out}");
}
