//! What `serve` reports against what the simulator knows.

use crate::cluster::Cluster;
use crate::common::{Ran, run_in};
use pdbench::Exit;
use pdbench::measure::{Offset, RequestRecord, Stamps};
use pdbench::runtime::Workers;
use pdbench::sim::{Config, Emission, Truth};
use std::collections::BTreeMap;
use std::time::Duration;
use tempfile::tempdir;

/// Runs `serve` against a cluster of its own on this runtime: the run, and the truth by request id.
async fn measured(config: Config, arguments: &[&str], workers: Workers) -> (Ran, BTreeMap<String, Truth>) {
    let cluster = Cluster::start(config, workers);
    let url = format!("http://{}", cluster.address);
    let place = tempdir().unwrap();
    let base = ["serve", "--base-url", &url, "--dataset-name", "sonnet", "--model", "simulated"];
    let ran = run_in(place.path(), &[&base, arguments].concat(), workers).await;
    let truths = cluster.truths().await;
    // The directory outlives the run only here; what the tests need is read now.
    let place = place.keep();
    (Ran { output_dir: place, ..ran }, truths)
}

/// For each main record the truth with its id; ends of the pairs are checked by the caller.
pub fn pairs<'a>(
    records: &'a [RequestRecord],
    truths: &'a BTreeMap<String, Truth>,
) -> impl Iterator<Item = (&'a RequestRecord, &'a Truth)> {
    records.iter().map(|record| (record, &truths[&record.id]))
}

pub fn gaps(times: impl Iterator<Item = Offset>) -> Vec<Duration> {
    let times: Vec<Offset> = times.collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn in_virtual_time_the_client_measures_exactly_what_the_server_did() {
    let arguments = ["--num-prompts", "300", "--rate", "40", "--burstiness", "0.37", "--seed", "4711"];
    let (ran, truths) = measured(Config::default(), &arguments, Workers::Local).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    let records = ran.main_records();
    assert_eq!(records.len(), 300);
    for (record, truth) in pairs(&records, &truths) {
        let sent = record.sent.unwrap();
        assert_eq!(
            record.events.first().unwrap() - sent,
            truth.writes_us.first().unwrap() - truth.received_us
        );
        assert_eq!(gaps(record.events.iter()), gaps(truth.writes_us.iter()), "{}", record.id);
        assert_eq!((record.prompt_tokens, record.output_tokens), (truth.prompt_tokens, truth.output_tokens));
        assert_eq!(record.cached_tokens.unwrap_or(0), truth.cached_tokens);
        // tokio's paused clock goes in steps of 1 ms and rounds up.
        assert!(sent - record.ready.unwrap() <= Duration::from_millis(1));
    }
    std::fs::remove_dir_all(ran.output_dir).unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_schedule_is_numpys_whatever_the_server() {
    let arguments = ["--num-prompts", "5", "--rate", "10", "--seed", "0"];
    let (ran, _) = measured(Config::default(), &arguments, Workers::Local).await;
    let start = ran.run_file().manifest.main_start;
    let due: Vec<f64> =
        ran.main_records().iter().map(|record| record.scheduled.seconds_since(start)).collect();
    // Seed 0, rate 10, burstiness 1, scaled to end at 5/10 s.
    for (got, want) in due.iter().zip([0.092259, 0.237848, 0.344869, 0.436122, 0.5]) {
        assert!((got - want).abs() < 1e-6, "{due:?}");
    }
    std::fs::remove_dir_all(ran.output_dir).unwrap();
}

#[tokio::test]
async fn in_real_time_kernel_stamps_stay_near_the_truth() {
    let mut config = Config { emission: Emission::Staggered, ..Config::default() };
    config.cost.decode_step_ms = 20.0;
    let arguments = ["--num-prompts", "40", "--rate", "40", "--output-len", "20"];
    let (ran, truths) = measured(config, &arguments, Workers::Threads).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stdout, ran.stderr);
    let records = ran.main_records();
    assert!(records.iter().all(|record| record.stamps == Stamps::Kernel && record.events.len() == 20));
    let mut errors: Vec<f64> = pairs(&records, &truths)
        .map(|(record, truth)| {
            let measured = (record.events.first().unwrap() - record.sent.unwrap()).as_secs_f64();
            let true_ttft = (truth.writes_us.first().unwrap() - truth.received_us).as_secs_f64();
            (measured - true_ttft).abs()
        })
        .collect();
    errors.sort_by(f64::total_cmp);
    // Generous, for machines that do other things: a client that stamps late is off by far more.
    assert!(errors[errors.len() / 2] < 0.005, "median TTFT error {} s", errors[errors.len() / 2]);
    std::fs::remove_dir_all(ran.output_dir).unwrap();
}
