//! `pdbench compare` over runs that were really made, in virtual time.

use crate::common::{Printed, Ran, run_in, world};
use pdbench::Exit;
use pdbench::runtime::Workers;
use std::path::Path;
use tempfile::{TempDir, tempdir};

async fn serve(place: &Path, words: &str) -> Ran {
    let arguments: Vec<_> = ["serve"].into_iter().chain(words.split_whitespace()).collect();
    let ran = run_in(place, &arguments, Workers::Local).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    ran
}

/// The directory of a run as a word of a command line.
fn directory(ran: &Ran) -> String {
    ran.directory().display().to_string()
}

/// What `compare` prints and says, with the places of runs taken out.
async fn compare(words: &[&str], places: &[&TempDir]) -> (Exit, String, String) {
    let (stdout, stderr) = <(Printed, Printed)>::default();
    let arguments: Vec<&str> = ["compare"].iter().chain(words).copied().collect();
    let mut world = world(&arguments, Workers::Local, &stdout, &stderr);
    let exit = pdbench::run(&mut world).await;
    let bare = |mut text: String| {
        for (nth, place) in places.iter().enumerate() {
            text = text.replace(&place.path().display().to_string(), &format!("PLACE{nth}"));
        }
        text
    };
    (exit, bare(stdout.text()), bare(stderr.text()))
}

/// Compares with the file of that name under `tests/golden`; `UPDATE_GOLDEN=1` rewrites it.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{} differs; UPDATE_GOLDEN=1 rewrites it", path.display());
}

const LOAD: &str = "--num-prompts 320 --rate 6 --sim-no-prefix-cache --goodput ttft:100 tpot:20";

#[tokio::test(start_paused = true)]
async fn a_disaggregated_cluster_against_an_aggregated_one_is_the_golden_table() {
    let (pd, mixed) = (tempdir().unwrap(), tempdir().unwrap());
    let pd_ran = serve(pd.path(), &format!("--sim 1p1d {LOAD}")).await;
    let mixed_ran = serve(mixed.path(), &format!("--sim 2m {LOAD}")).await;
    let (csv, page) = (pd.path().join("compared.csv"), pd.path().join("compared.html"));
    let words =
        [directory(&mixed_ran), directory(&pd_ran), csv.display().to_string(), page.display().to_string()];
    let [mixed_run, pd_run, csv_name, page_name] = words.each_ref().map(String::as_str);
    let words = [mixed_run, pd_run, "--csv", csv_name, "--html", page_name];
    let (exit, stdout, stderr) = compare(&words, &[&pd, &mixed]).await;
    assert_eq!((exit, stderr.as_str()), (Exit::Valid, ""));
    golden("compare-pd.txt", &stdout);
    let table = std::fs::read_to_string(csv).unwrap();
    let row =
        table.lines().find(|line| line.starts_with("B,") && line.contains(",tpot,p50,strict,ms,")).unwrap();
    assert!(row.contains("within_run"), "{row}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains("B against A") && page.contains("<svg") && page.contains("topology"),
        "no comparison"
    );
}

#[tokio::test(start_paused = true)]
async fn two_runs_of_the_same_seed_have_no_difference_and_other_settings_are_named_first() {
    let (one, other, third) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    let words = "--num-prompts 120 --rate 8";
    let (first, second) = (serve(one.path(), words).await, serve(other.path(), words).await);
    let (exit, stdout, _) = compare(&[&directory(&first), &directory(&second)], &[&one, &other]).await;
    assert_eq!(exit, Exit::Valid);
    assert!(stdout.contains("none of those that are recorded"), "{stdout}");
    assert!(
        stdout.contains("none found") && !stdout.contains("better") && !stdout.contains("worse"),
        "{stdout}"
    );
    let longer = serve(third.path(), "--num-prompts 120 --rate 4 --output-len 300").await;
    let (_, stdout, _) = compare(&[&directory(&first), &directory(&longer)], &[&one, &third]).await;
    let void = stdout.find("output length asked for: 150 (A), 300 (B)").unwrap_or_else(|| panic!("{stdout}"));
    let limits = stdout.find("request rate: 8 (A), 4 (B)").unwrap_or_else(|| panic!("{stdout}"));
    assert!(
        stdout.find("void:").unwrap() < void && void < limits && limits < stdout.find("B against A").unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn a_result_file_is_compared_with_the_run_that_wrote_it() {
    let place = tempdir().unwrap();
    for (detail, judged) in [("--save-result --save-detailed", true), ("--save-result", false)] {
        let out = place.path().join(if judged { "detailed" } else { "summary" });
        let results = out.join("results");
        let ran = serve(
            &out.join("runs"),
            &format!("--num-prompts 120 --rate 8 {detail} --result-dir {}", results.display()),
        )
        .await;
        let file = std::fs::read_dir(&results).unwrap().next().unwrap().unwrap().path().display().to_string();
        let (exit, stdout, stderr) = compare(&[&directory(&ran), &file], &[&place]).await;
        assert_eq!(exit, Exit::Valid, "{stderr}");
        assert!(stdout.contains("By the definitions of `vllm bench serve`"), "{stdout}");
        let ttft = stdout.lines().find(|line| line.contains("TTFT p50")).unwrap();
        assert_eq!((ttft.contains(" 0.00 "), ttft.contains("none found")), (true, judged), "{ttft}");
        assert_eq!(stdout.contains("a summary alone"), !judged, "{stdout}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_directories_of_five_runs_each_are_two_sides() {
    let (slow, fast) = (tempdir().unwrap(), tempdir().unwrap());
    let words = "--num-prompts 20 --rate 8 --runs 5";
    let slow_ran = serve(slow.path(), &format!("{words} --sim-decode-step-ms 20")).await;
    let fast_ran = serve(fast.path(), words).await;
    let (exit, stdout, stderr) =
        compare(&[&directory(&slow_ran), &directory(&fast_ran)], &[&slow, &fast]).await;
    assert_eq!(exit, Exit::Valid, "{stderr}");
    let tpot = stdout.lines().find(|line| line.contains("TPOT p50")).unwrap();
    assert!(tpot.contains("lower, better") && stdout.contains("Student's t"), "{stdout}");
    // The same runs, one by one behind commas.
    let below = |ran: &Ran| {
        let entries = std::fs::read_dir(ran.directory()).unwrap().map(|entry| entry.unwrap().path());
        let mut runs: Vec<String> =
            entries.filter(|path| path.is_dir()).map(|path| path.display().to_string()).collect();
        runs.sort();
        runs.join(",")
    };
    let (_, typed, _) = compare(&[&below(&slow_ran), &below(&fast_ran)], &[&slow, &fast]).await;
    let numbers = |text: &str| text.split_once("B against A").unwrap().1.to_owned();
    assert_eq!(numbers(&typed), numbers(&stdout));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_compared_is_refused_with_what_to_do() {
    let place = tempdir().unwrap();
    let ran = serve(&place.path().join("one"), "--num-prompts 5").await;
    let ladder = serve(&place.path().join("two"), "--num-prompts 5 --rate 4,8").await;
    let (run, ladder) = (directory(&ran), directory(&ladder));
    let text = place.path().join("text.json");
    std::fs::write(&text, "{\"a\": 1}").unwrap();
    let text = text.display().to_string();
    let (run, ladder, text) = (run.as_str(), ladder.as_str(), text.as_str());
    for (words, says) in [
        (vec![run], "one run alone has nothing to be compared with"),
        (vec![run, "nowhere"], "cannot read a result from `nowhere`"),
        (vec![run, text], "it has no number `completed`"),
        (vec![run, ladder], "holds runs at several rates"),
        (vec![run, ","], "`,` names no run"),
    ] {
        let (exit, _, stderr) = compare(&words, &[]).await;
        assert_eq!(exit, Exit::Usage, "{stderr}");
        assert!(stderr.contains(says) && stderr.contains("help:"), "{says}: {stderr}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_baseline_that_is_named_is_what_the_others_are_held_against() {
    let place = tempdir().unwrap();
    let one = directory(&serve(&place.path().join("one"), "--num-prompts 20").await);
    let two = directory(&serve(&place.path().join("two"), "--num-prompts 20 --seed 3").await);
    let (_, named, _) = compare(&[&one, &two, "--baseline", &two], &[&place]).await;
    assert!(named.contains("A against B") && !named.contains("B against A"), "{named}");
    let (_, added, _) = compare(&[&one, "--baseline", &two], &[&place]).await;
    assert!(added.contains("B against A") && added.lines().next().unwrap().contains("two"), "{added}");
}
