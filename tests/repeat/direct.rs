//! Replicas that are all our own.

use crate::common::{files_of, run_in};
use crate::nodes::{Nodes, batches, over, plateaus};
use pdbench::Exit;
use pdbench::measure::{Kind, RequestRecord};
use pdbench::runtime::Workers;
use pdbench::sim::Config;

fn config(topology: &str) -> Config {
    Config { topology: topology.parse().unwrap(), ..Config::default() }
}

fn of_kind(records: &[RequestRecord], kind: Kind) -> Vec<&RequestRecord> {
    records.iter().filter(|record| record.kind == kind).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_1024_is_awaited_whole_and_its_plateau_is_the_cost_models() {
    let config = config("1p2d");
    let cost = config.cost.clone();
    let nodes = Nodes::start(config);
    let ran = nodes.repeat(&["--repeat-d-times", "1023", "--output-len", "120"]).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stdout, ran.stderr);
    let totals = nodes.stop().await;
    let records = ran.records();
    let (prefill, replicas) = (of_kind(&records, Kind::Prefill), of_kind(&records, Kind::Replica));
    assert_eq!((prefill.len(), replicas.len()), (1, 1024));
    assert!(replicas.iter().all(|replica| replica.is_ok() && replica.output_tokens == 120));
    // The probe of the KV beside the prefill and the replicas.
    assert_eq!(totals.complete, 1 + 1 + 1024);
    let plateau = &plateaus(&ran)[0];
    assert_eq!((plateau.streams, plateau.balance_replicas), (1024, Some(1.0)));
    let prompt = u64::from(replicas[0].prompt_tokens);
    let truth = 2.0 * cost.plateau_tokens_per_s(512, prompt, 3..120);
    let found = plateau.decode_tok_per_s.unwrap();
    assert!((found - truth).abs() < 0.02 * truth, "measured {found}, true {truth}");
    assert!(found > plateau.tok_per_s_with_ramp_and_drain.unwrap());
    // Connections were there before: none of the replicas opened its own.
    assert!(replicas.iter().all(|replica| replica.connected.is_none()));
    over(&ran);
}

#[tokio::test(start_paused = true)]
async fn a_list_makes_the_batch_curve_with_prompts_of_their_own() {
    let nodes = Nodes::start(config("2p2d"));
    let arguments = ["--repeat-d-times", "3,15", "--repeat-prompts", "unique", "--output-len", "60"];
    let ran = nodes.repeat(&[&arguments[..], &["--repeat-settle", "1"]].concat()).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stdout, ran.stderr);
    let batches = batches(&ran);
    let sizes: Vec<_> = batches.iter().map(|b| (b.plateau.ok, b.prefill.as_ref().unwrap().ok)).collect();
    assert_eq!(sizes, [(4, 4), (16, 16)]);
    let steps: Vec<f64> = batches.iter().map(|b| b.plateau.tpot_ms.median.unwrap()).collect();
    let rates: Vec<f64> = batches.iter().map(|b| b.plateau.decode_tok_per_s.unwrap()).collect();
    assert!(steps[0] < steps[1] && rates[0] < rates[1], "{steps:?} {rates:?}");
    let facts = ran.run_file().manifest.repeat.unwrap();
    assert!(
        facts.stages.iter().all(|stage| stage.kv_ready.as_deref() == Some("seen_by_decode")),
        "{facts:?}"
    );
    assert!(!ran.stdout.contains("identical experts"));
    let csv = std::fs::read_to_string(ran.directory().join("repeat.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 2 + 2 * 2);
    let page = std::fs::read_to_string(ran.directory().join("report.html")).unwrap();
    assert!(page.contains("Batches of replicas") && page.contains("Step time"));

    // Everything derived can be made again.
    let before = files_of(&ran.directory());
    let directory = ran.directory().display().to_string();
    let (stdout, stderr) = Default::default();
    let mut world = crate::common::world(&["report", &directory], Workers::Local, &stdout, &stderr);
    assert_eq!(pdbench::run(&mut world).await, Exit::Valid);
    let changed: Vec<_> =
        before.iter().zip(files_of(&ran.directory())).filter(|(a, b)| **a != *b).map(|(a, _)| &a.0).collect();
    assert!(changed.is_empty(), "{changed:?}");
    over(&ran);
}

#[tokio::test(start_paused = true)]
async fn a_decode_node_that_dies_in_the_plateau_makes_the_run_invalid_and_is_named() {
    let config = Config { death: Some("decode:1@2.0".parse().unwrap()), ..config("1p2d") };
    let nodes = Nodes::start(config);
    let ran = nodes.repeat(&["--repeat-d-times", "63", "--output-len", "500"]).await;
    assert_eq!(ran.exit, Exit::Invalid, "{}{}", ran.stdout, ran.stderr);
    let dead = format!("32 of 64 replicas failed, mostly as truncated: 32 on {}", nodes.decode[1]);
    assert!(ran.stdout.lines().next().unwrap().contains(&dead), "{}", ran.stdout);
    let plateau = &plateaus(&ran)[0];
    assert_eq!((plateau.ok, plateau.streams), (32, 64));
    assert!(plateau.decode_tok_per_s.is_some());
    over(&ran);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_the_nodes_do_not_hold_has_no_plateau() {
    let mut config = config("1p1d");
    config.cost.max_num_seqs = 8;
    let ran = Nodes::start(config).repeat(&["--repeat-d-times", "15", "--output-len", "50"]).await;
    assert_eq!(ran.exit, Exit::Invalid);
    let first = ran.stdout.lines().next().unwrap().to_owned();
    assert!(
        first.contains("batch of 16: no plateau: the first stream") && first.contains("8 had not yet two"),
        "{first}"
    );
    over(&ran);
}

#[tokio::test(start_paused = true)]
async fn kv_that_is_bound_to_one_request_is_made_for_each_replica() {
    let nodes = Nodes::start(config("1p2d"));
    let arguments = ["--repeat-d-times", "7", "--dialect", "nixl-pull", "--output-len", "60"];
    let ran = nodes.repeat(&arguments).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stdout, ran.stderr);
    let records = ran.records();
    assert_eq!((of_kind(&records, Kind::Prefill).len(), of_kind(&records, Kind::Replica).len()), (8, 8));
    let side = ran.run_file().manifest.repeat.unwrap().stages[0].batch.decode_side.unwrap();
    assert!(side.local_compute < 0.05 * side.external_kv_transfer, "{side:?}");
    over(&ran);

    let refused = nodes.repeat(&[&arguments[..], &["--repeat-prompts", "same"]].concat()).await;
    assert_eq!(refused.exit, Exit::Usage);
    assert!(
        refused.stderr.contains("dialect nixl-pull binds the KV of a prefill to one decode"),
        "{}",
        refused.stderr
    );
}

#[tokio::test(start_paused = true)]
async fn without_instances_the_embedded_cluster_plays_both() {
    let place = tempfile::tempdir().unwrap();
    let arguments = ["serve", "--repeat-d-times", "7", "--output-len", "60", "--repeat-ramp", "0.1"];
    let ran = run_in(place.path(), &arguments, Workers::Local).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(plateaus(&ran)[0].ok, 8);
    assert!(ran.stdout.contains("identical prompts route to"));
}

#[tokio::test(start_paused = true)]
async fn headers_go_to_the_embedded_cluster_s_nodes_too() {
    let place = tempfile::tempdir().unwrap();
    let arguments =
        ["serve", "--repeat-d-times", "3", "--output-len", "20", "--header", "x-sim-fault=status=503@decode"];
    let ran = run_in(place.path(), &arguments, Workers::Local).await;
    assert_eq!(ran.exit, Exit::Invalid, "{}{}", ran.stdout, ran.stderr);
    let records = ran.records();
    let replicas = of_kind(&records, Kind::Replica);
    assert_eq!(replicas.iter().filter(|replica| replica.http_status == Some(503)).count(), 4);
}
