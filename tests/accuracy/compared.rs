//! One deployment held against another, question by question.

use crate::common::Ran;
use crate::examiner::{Act, Asked, Examiner, is_right};
use crate::setup::{accuracy, faults, refused, result, unbroken};
use pdbench::Exit;
use pdbench::measure::PairedVerdict;
use std::time::Duration;
use tempfile::tempdir;

/// Wrong where the book's answer is right, for each fifth document.
fn damaged(asked: &Asked) -> Act {
    if asked.documents[0].is_multiple_of(5) {
        Act::Say(" Something else.\n#### 7654321")
    } else {
        Act::Answer
    }
}

/// Documents that only an undamaged server answers right.
fn lost() -> usize {
    (0..126).filter(|&document| is_right(document) && document % 5 == 0).count()
}

fn assert_lost(ran: &Ran) {
    assert_eq!((ran.exit, faults(ran)), (Exit::Invalid, vec!["worse".to_owned(); 2]), "{}", ran.stdout);
    let result = result(ran);
    let pair = &result.comparisons[0];
    let right = (0..126).filter(|&document| is_right(document)).count();
    for score in &pair.scores {
        assert_eq!(score.verdict, PairedVerdict::Worse);
        assert_eq!((score.questions, score.both), (126, right - lost()));
        assert_eq!((score.only_baseline, score.only_candidate), (lost(), 0));
        assert_eq!(score.difference, Some(-(lost() as f64) / 126.0));
    }
    let different = (0..126).filter(|document| document % 5 == 0).count();
    assert_eq!((pair.texts.questions, pair.texts.equal), (126, 126 - different));
}

#[tokio::test(start_paused = true)]
async fn every_question_goes_to_both_deployments() {
    let place = tempdir().unwrap();
    let (candidate, baseline) = (Examiner::with(damaged), Examiner::start());
    let words =
        format!("gsm8k --base-url {} --baseline-url {} --num-concurrent 4", candidate.url, baseline.url);
    let ran = accuracy(place.path(), &words).await;
    assert_lost(&ran);
    assert_eq!((candidate.times(), baseline.times()), (vec![1; 126], vec![1; 126]));
    assert!(ran.stdout.contains("WORSE, by more than chance"), "{}", ran.stdout);
    let arms = ran.run_file().manifest.accuracy.unwrap().arms;
    assert_eq!(arms.iter().map(|arm| arm.name.as_str()).collect::<Vec<_>>(), ["candidate", "baseline"]);
    assert_eq!((&arms[0].base_url, &arms[1].base_url), (&candidate.url, &baseline.url));
}

#[tokio::test(start_paused = true)]
async fn a_baseline_with_a_model_name_of_its_own_is_asked_for_that() {
    let place = tempdir().unwrap();
    let (candidate, baseline) = (Examiner::start(), Examiner::start());
    let words = format!(
        "gsm8k --base-url {} --model ours --baseline-url {} --baseline-model theirs --limit 8",
        candidate.url, baseline.url
    );
    let ran = accuracy(place.path(), &words).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    assert!(candidate.asked().iter().all(|asked| asked.body["model"] == "ours"));
    assert!(baseline.asked().iter().all(|asked| asked.body["model"] == "theirs"));
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_one_deployment_takes_the_question_out_of_the_pairs_only() {
    let place = tempdir().unwrap();
    let candidate = Examiner::with(|asked| match asked.documents[0] {
        4 => Act::Status("400 Bad Request", "", "{}"),
        _ => Act::Answer,
    });
    let baseline = Examiner::start();
    let words =
        format!("gsm8k --base-url {} --baseline-url {} --max-error-rate 0.1", candidate.url, baseline.url);
    let ran = accuracy(place.path(), &words).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stdout);
    let result = result(&ran);
    assert_eq!((result.arms[0].answered, result.arms[1].answered), (125, 126));
    let score = &result.comparisons[0].scores[0];
    assert_eq!((score.questions, score.only_baseline, score.only_candidate), (125, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_answers_of_an_earlier_run_are_a_baseline() {
    let earlier_place = tempdir().unwrap();
    let baseline = Examiner::start();
    let earlier = accuracy(earlier_place.path(), &format!("gsm8k --base-url {}", baseline.url)).await;
    let place = tempdir().unwrap();
    let candidate = Examiner::with(damaged);
    let words =
        format!("gsm8k --base-url {} --baseline-run {}", candidate.url, earlier.directory().display());
    let ran = accuracy(place.path(), &words).await;
    assert_lost(&ran);
    assert_eq!(result(&ran).arms[1].scores, result(&earlier).arms[0].scores);
    assert_eq!((candidate.asked().len(), baseline.asked().len()), (126, 126), "nobody is asked twice");
    let arms = ran.run_file().manifest.accuracy.unwrap().arms;
    assert_eq!((arms[1].name.as_str(), &arms[1].base_url), ("baseline", &baseline.url));
    for other in ["--limit 50", "--num-fewshot 2", "--fewshot-seed 9"] {
        let said = refused(place.path(), &format!("{words} {other}")).await;
        assert!(said.contains("asked other questions"), "{other}: {said}");
    }
    assert_eq!(candidate.asked().len(), 126);
}

#[tokio::test(start_paused = true)]
async fn a_baseline_asked_twice_shows_how_much_it_differs_from_itself() {
    let place = tempdir().unwrap();
    // Rounding: the second time each tenth text ends otherwise, and as right as before.
    let baseline = Examiner::with(|asked| match (asked.documents[0] % 10, asked.times) {
        (0, 1) => Act::Say(" The answer changes.\n#### 1"),
        _ => Act::Answer,
    });
    let candidate = Examiner::start();
    let words =
        format!("gsm8k --base-url {} --baseline-url {} --baseline-passes 2", candidate.url, baseline.url);
    let ran = accuracy(place.path(), &words).await;
    assert_eq!(baseline.times(), vec![2; 126]);
    let result = result(&ran);
    assert_eq!(result.arms.len(), 3);
    let floor = result.floor().unwrap();
    assert_eq!((floor.texts.questions, floor.texts.equal), (126, 113));
    assert_eq!(result.judging().count(), 1);
    assert!(unbroken(&ran.stdout).contains("the baseline with itself 113 of 126 equal"), "{}", ran.stdout);
    // What the baseline loses to itself is no fault of the candidate.
    let score = &result.comparisons[0].scores[0];
    assert_eq!(score.questions, 126);
    assert!(faults(&ran).iter().all(|fault| fault != "worse"), "{:?}", faults(&ran));
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stdout);
}

#[tokio::test(start_paused = true)]
async fn both_ways_of_asking_are_compared() {
    let place = tempdir().unwrap();
    // Streams lose what whole answers have: another route through a proxy.
    let examiner =
        Examiner::with(|asked| if asked.body["stream"] == true { damaged(asked) } else { Act::Answer });
    let words = format!("gsm8k --base-url {} --paths both", examiner.url);
    let ran = accuracy(place.path(), &words).await;
    assert_eq!(examiner.times(), vec![2; 126]);
    let streamed = examiner.asked().iter().filter(|asked| asked.body["stream"] == true).count();
    assert_eq!(streamed, 126);
    assert_lost(&ran);
    let arms = ran.run_file().manifest.accuracy.unwrap().arms;
    assert_eq!(
        arms.iter().map(|arm| (arm.name.as_str(), arm.streamed)).collect::<Vec<_>>(),
        [("candidate", false), ("streamed", true)]
    );
    let pair = &result(&ran).comparisons[0];
    assert_eq!((pair.baseline, pair.candidate), (0, 1));
    let place = tempdir().unwrap();
    let ran = accuracy(place.path(), "gsm8k --sim 1p1d --sim-right 0.8 --paths both --margin 0.05").await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stdout);
    let pair = &result(&ran).comparisons[0];
    assert_eq!((pair.texts.equal, pair.texts.questions), (126, 126));
}

#[tokio::test(start_paused = true)]
async fn log_probabilities_tell_damage_from_rounding() {
    let place = tempdir().unwrap();
    let (candidate, baseline) = (Examiner::with(damaged), Examiner::start());
    let words = format!("gsm8k --base-url {} --baseline-url {} --logprobs", candidate.url, baseline.url);
    let ran = accuracy(place.path(), &words).await;
    assert!(candidate.asked().iter().all(|asked| asked.body["logprobs"] == 2));
    // This server is sure of every token, by 2.4 nat.
    let different = (0..126).filter(|document| document % 5 == 0).count();
    assert_eq!(result(&ran).comparisons[0].texts.sure, Some(different));
    assert!(unbroken(&ran.stdout).contains("differ where both were sure of their token"), "{}", ran.stdout);
    let place = tempdir().unwrap();
    let words = "gsm8k --sim 1p1d --baseline-sim 1m --sim-fault corrupt-kv=0.1@decode --logprobs";
    let ran = accuracy(place.path(), words).await;
    let texts = &result(&ran).comparisons[0].texts;
    assert!(texts.equal < texts.questions && texts.sure.is_some(), "{texts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_baseline_holds_nobody_back_for_ever() {
    let place = tempdir().unwrap();
    let candidate = Examiner::start();
    let baseline = Examiner::with(|_| Act::After(Duration::from_secs(3)));
    let words = format!(
        "gsm8k --base-url {} --baseline-url {} --limit 20 --num-concurrent 2",
        candidate.url, baseline.url
    );
    let ran = accuracy(place.path(), &words).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stdout);
    assert_eq!(result(&ran).arms.iter().map(|arm| arm.answered).collect::<Vec<_>>(), [20, 20]);
}

#[tokio::test(start_paused = true)]
async fn each_embedded_cluster_goes_by_its_own_topology() {
    let place = tempdir().unwrap();
    let ran = accuracy(place.path(), "gsm8k --sim 1p1d --baseline-sim 2m --limit 5").await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    let said = unbroken(&ran.stderr);
    assert!(
        said.contains("to candidate embedded 1p1d and baseline embedded 2m (SIMULATED: no real model"),
        "{said}"
    );
    let mut nodes: Vec<_> = ran.records().into_iter().map(|record| record.node.unwrap()).collect();
    nodes.sort();
    nodes.dedup();
    assert_eq!(nodes, ["baseline", "candidate"], "by no port, which is another in each run");
}
