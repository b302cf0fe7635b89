//! `pdbench serve` with several rates, or several runs at one, in virtual time.

use crate::common::{Printed, Ran, files_of, run_in, world};
use pdbench::Exit;
use pdbench::command::InterruptedBy;
use pdbench::measure::{RunFile, State};
use pdbench::report::read_run_file;
use pdbench::runtime::{Stop, Workers};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::tempdir;

async fn serve(place: &Path, words: &str) -> Ran {
    let arguments: Vec<_> = ["serve"].into_iter().chain(words.split_whitespace()).collect();
    run_in(place, &arguments, Workers::Local).await
}

/// The runs in a ladder's directory, in their order.
fn runs(ladder: &Path) -> Vec<RunFile> {
    let below = std::fs::read_dir(ladder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        below.map(|path| path.join("run.json")).filter(|path| path.is_file()).collect();
    files.sort();
    files.iter().map(|file| read_run_file(&std::fs::read(file).unwrap()).unwrap()).collect()
}

fn text(ladder: &Path, name: &str) -> String {
    std::fs::read_to_string(ladder.join(name)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_ladder_climbs_until_its_cluster_is_too_slow_and_says_where() {
    let place = tempdir().unwrap();
    // One request at a time takes about 80 ms at the decode node: some 12 a second is what it can do, 30 are too many.
    let words = "--sim 1p1d --sim-max-num-seqs 1 --num-prompts 200 --rate 2,30,inf --output-len 10 --goodput ttft:200";
    let ran = serve(place.path(), words).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    let ladder = ran.directory();
    let runs = runs(&ladder);
    let rates: Vec<_> = runs.iter().map(|run| run.manifest.settings.request_rate).collect();
    assert_eq!(rates, [Some(2.0), Some(30.0), None]);
    let seeds: Vec<_> = runs.iter().map(|run| run.manifest.settings.seed).collect();
    assert_eq!(seeds, [0, 1, 2], "each run has a seed of its own");
    let standing: Vec<_> = runs.iter().map(RunFile::standing_word).collect();
    assert_eq!(standing, ["VALID", "UNSTABLE", "VALID"], "{}", ran.stdout);
    assert!(ran.stdout.contains("UNSTABLE from 30 req/s on"), "{}", ran.stdout);
    assert!(ran.stdout.contains("keep the objectives up to 2 req/s"), "{}", ran.stdout);
    assert!(
        ran.stdout.lines().all(|line| line.starts_with("report:") || line.chars().count() <= 80),
        "{}",
        ran.stdout
    );
    let table = text(&ladder, "ladder.csv");
    assert_eq!(table.lines().count(), 4);
    assert!(table.contains("\n30,run,") && table.contains(",UNSTABLE,"), "{table}");
    let page = text(&ladder, "report.html");
    assert!(page.contains("SIMULATED") && page.contains("Over the rate") && page.contains("-01/report.html"));
}

#[tokio::test(start_paused = true)]
async fn a_ladder_leaves_the_same_bytes_on_every_run_and_report_makes_them_again() {
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let words = "--num-prompts 30 --rate 4,8";
    let (one, other) = (serve(first.path(), words).await, serve(second.path(), words).await);
    let own =
        |ran: &Ran| ["ladder.csv", "ladder.json", "report.html"].map(|name| text(&ran.directory(), name));
    assert_eq!(own(&one), own(&other));
    let before = own(&one);
    for name in ["ladder.csv", "report.html"] {
        std::fs::remove_file(one.directory().join(name)).unwrap();
    }
    let (stdout, stderr) = <(Printed, Printed)>::default();
    let directory = one.directory().display().to_string();
    let mut world = world(&["report", &directory], Workers::Local, &stdout, &stderr);
    assert_eq!(pdbench::run(&mut world).await, Exit::Valid, "{}", stderr.text());
    assert_eq!(own(&one), before);
    assert_eq!(stdout.text(), one.stdout);
}

#[tokio::test(start_paused = true)]
async fn five_runs_at_one_rate_have_a_mean_with_an_interval_and_three_a_range() {
    for (count, says) in [(5, "± 95 %"), (3, "least ")] {
        let place = tempdir().unwrap();
        let ran = serve(place.path(), &format!("--num-prompts 20 --rate 8 --runs {count}")).await;
        assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
        let runs = runs(&ran.directory());
        let seeds: Vec<_> = runs.iter().map(|run| run.manifest.settings.seed).collect();
        assert_eq!(seeds, (0..count).collect::<Vec<u64>>());
        assert!(ran.stdout.contains("mean ") && ran.stdout.contains(says), "{}", ran.stdout);
        assert!(
            ran.output_dir.join(ran.directory().file_name().unwrap()).to_string_lossy().contains("-runs-")
        );
        let mean = |run: &RunFile| run.summary.as_ref().unwrap().strict.distribution("ttft").unwrap().mean;
        assert!(runs.windows(2).all(|pair| mean(&pair[0]) != mean(&pair[1])), "other prompts, other times");
    }
}

#[tokio::test(start_paused = true)]
async fn prompts_of_a_file_get_a_salt_of_each_run_unless_they_are_to_be_the_same() {
    let place = tempdir().unwrap();
    let file = place.path().join("mine.jsonl");
    std::fs::write(
        &file,
        "{\"prompt\": \"one\", \"output_tokens\": 3}\n{\"prompt\": \"two\", \"output_tokens\": 3}\n",
    )
    .unwrap();
    let words = format!(
        "--sim 1p1d --dataset-name custom --dataset-path {} --num-prompts 2 --rate 4 --runs 2",
        file.display()
    );
    let fresh = serve(&place.path().join("fresh"), &words).await;
    assert!(fresh.stderr.contains("a text of its own in front"), "{}", fresh.stderr);
    let salts: Vec<_> =
        runs(&fresh.directory()).iter().map(|run| run.manifest.settings.salt.clone().unwrap()).collect();
    assert_ne!(salts[0], salts[1]);
    let same = serve(&place.path().join("same"), &format!("{words} --same-prompts")).await;
    let settings: Vec<_> = runs(&same.directory()).into_iter().map(|run| run.manifest.settings).collect();
    assert_eq!((&settings[0].salt, settings[0].seed, settings[1].seed), (&None, 0, 0));
    assert!(same.stderr.contains("every run sends the same prompts"), "{}", same.stderr);
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_keeps_what_has_been_run_and_says_how_far_it_came() {
    let place = tempdir().unwrap();
    let (stdout, stderr) = <(Printed, Printed)>::default();
    let out = place.path().display().to_string();
    let arguments = ["serve", "--num-prompts", "20", "--rate", "10,5,1", "--output-dir", &out];
    let mut world = world(&arguments, Workers::Local, &stdout, &stderr);
    let interrupt = world.interrupt.clone();
    tokio::spawn(async move {
        // The first run takes about 3 s; 2 s later the second begins.
        tokio::time::sleep(Duration::from_secs(6)).await;
        interrupt.handle(InterruptedBy::Interrupt).ask(Stop::Drain);
    });
    assert_eq!(pdbench::run(&mut world).await, Exit::Interrupted, "{}", stderr.text());
    let ladder = std::fs::read_dir(place.path()).unwrap().next().unwrap().unwrap().path();
    let states: Vec<_> = runs(&ladder).iter().map(|run| run.manifest.state).collect();
    assert_eq!(states, [State::Complete, State::Interrupted]);
    assert!(stdout.text().contains("STOPPED after 2 of 3 runs: SIGINT."), "{}", stdout.text());
    assert!(text(&ladder, "ladder.csv").contains(",STOPPED,"));
}

#[tokio::test(start_paused = true)]
async fn an_invalid_rung_does_not_end_the_ladder_and_its_status_counts() {
    let place = tempdir().unwrap();
    // Every second answer ends in an error: more than the error budget.
    let words = "--sim 1p2d --sim-routing round-robin --sim-fault error-after=5@decode:1 --probe none --num-prompts 20 --rate 10,5";
    let ran = serve(place.path(), words).await;
    let runs = runs(&ran.directory());
    assert_eq!(runs.len(), 2, "{}", ran.stderr);
    assert_eq!(ran.exit, Exit::Invalid, "{}", ran.stderr);
    assert_eq!(ran.stdout.matches("INVALID").count(), 2, "{}", ran.stdout);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_go_with_several_runs_is_refused() {
    let place = tempdir().unwrap();
    for (words, says) in [
        ("--same-prompts", "--same-prompts with one run"),
        ("--rate 1,2 --save-result --result-filename x.json", "each would replace the file"),
        ("--runs 2 --repeat-d-times 3 --sim 1p1d", "several rates or --runs with batches of replicas"),
        ("--rate 1,x", "`x` is not a rate"),
        ("--runs 0", "`0` is not a whole number above 0"),
    ] {
        let ran = serve(place.path(), words).await;
        assert_eq!(ran.exit, Exit::Usage, "{words}: {}", ran.stderr);
        assert!(ran.stderr.contains(says), "{words}: {}", ran.stderr);
    }
    assert!(files_of(place.path()).is_empty());
}
