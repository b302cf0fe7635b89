//! Replicas that are all our own.

use crate::cluster::Cluster;
use crate::common::{Ran, files_of, run_in};
use pdbench::Exit;
use pdbench::measure::{Kind, Plateau, RequestRecord};
use pdbench::runtime::Workers;
use pdbench::sim::Config;
use std::time::Duration;
use tempfile::tempdir;

/// A cluster whose step costs what the batch does: 10 ms and 0.05 ms for each stream.
fn config() -> Config {
    Config::default()
}

async fn repeated(config: Config, arguments: &[&str]) -> Ran {
    let cluster = Cluster::start(config, Workers::Local);
    let node = cluster.address.to_string();
    let place = tempdir().unwrap();
    let base = [
        "serve",
        "--prefill",
        &node,
        "--decode",
        &node,
        "--dataset-name",
        "sonnet",
        "--model",
        "simulated",
        "--ignore-eos",
        "--no-progress",
    ];
    let ran = run_in(place.path(), &[&base, arguments].concat(), Workers::Local).await;
    cluster.truths().await;
    Ran { output_dir: place.keep(), ..ran }
}

fn plateaus(ran: &Ran) -> Vec<Plateau> {
    let summary = ran.run_file().summary.unwrap();
    summary.batches.into_iter().map(|batch| batch.plateau).collect()
}

fn of_kind(ran: &Ran, kind: Kind) -> Vec<RequestRecord> {
    ran.records().into_iter().filter(|record| record.kind == kind).collect()
}

#[tokio::test(start_paused = true)]
async fn try_it() {
    let ran = repeated(config(), &["--repeat-d-times", "7,31", "--output-len", "100"]).await;
    println!("{}\n{}\n{:?}", ran.stdout, ran.stderr, ran.exit);
    let _ = (
        plateaus(&ran),
        of_kind(&ran, Kind::Replica),
        files_of(&ran.directory()),
        Duration::ZERO,
        Exit::Valid,
    );
}
