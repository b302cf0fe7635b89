//! Whole runs against the embedded cluster.

use crate::common::{Ran, files_of};
use crate::setup::{accuracy, faults, json, lines, own_documents, program, result};
use pdbench::Exit;
use pdbench::measure::{Kind, Outcome, State};
use pdbench::report::lm_eval_table;
use tempfile::tempdir;

const CLUSTER: &str = "gsm8k --sim 1p1d --sim-right 0.75 --num-fewshot 3";

#[tokio::test(start_paused = true)]
async fn a_run_against_the_embedded_cluster_scores_every_question_of_its_own() {
    let place = tempdir().unwrap();
    let ran = accuracy(place.path(), CLUSTER).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    let documents = own_documents().len();
    let file = ran.run_file();
    assert_eq!((file.manifest.state, file.manifest.verb.as_str()), (State::Complete, "accuracy"));
    let result = result(&ran);
    let arm = &result.arms[0];
    assert_eq!((arm.answered, arm.errors, arm.retried), (documents, 0, 0));
    assert_eq!(result.filters, ["strict-match", "flexible-extract"]);
    // What the simulator says in other words than `#### N` only one of the two reads.
    let (strict, flexible) = (&arm.scores[0], &arm.scores[1]);
    assert!(strict.right < flexible.right, "{strict:?} {flexible:?}");
    let share = flexible.right as f64 / documents as f64;
    assert_eq!(flexible.mean, Some(share));
    assert!((0.65..0.85).contains(&share), "{share}");
    assert!(flexible.interval.unwrap().0 < 0.75 && 0.75 < flexible.interval.unwrap().1, "{flexible:?}");
    let records = ran.records();
    assert_eq!(records.len(), documents);
    assert!(records.iter().all(|record| record.kind == Kind::Question && record.outcome == Outcome::Ok));
    assert!(records.iter().all(|record| record.attempt == 1));
}

#[tokio::test(start_paused = true)]
async fn the_console_shows_lm_evals_table_and_says_that_it_is_simulated_and_whose_the_questions_are() {
    let place = tempdir().unwrap();
    let ran = accuracy(place.path(), CLUSTER).await;
    let first = ran.stdout.lines().next().unwrap();
    assert!(
        first.starts_with("VALID: gsm8k ") && first.contains("(simulated, the project's own documents)"),
        "{first}"
    );
    let table = lm_eval_table(&result(&ran));
    assert!(table.contains("|gsm8k|      3|flexible-extract|     3|exact_match|↑  |"), "{table}");
    assert!(ran.stdout.contains(&table), "{}", ran.stdout);
    assert!(
        ran.stderr.contains("to candidate embedded 1p1d (SIMULATED: no real model, no real hardware)"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("the project's own word problems"), "{}", ran.stderr);
    let page = std::fs::read_to_string(ran.directory().join("report.html")).unwrap();
    assert!(page.to_lowercase().contains("simulated") && page.contains("the project's own"));
    let scores = json(&ran.directory().join("pdbench_scores.json"));
    assert_eq!((&scores["simulated"], &scores["asked"]["own_documents"]), (&true.into(), &true.into()));
    let lm_eval = json(&ran.directory().join("lm_eval_results.json"));
    assert_eq!(
        (&lm_eval["pdbench"]["simulated"], &lm_eval["pdbench"]["own_documents"]),
        (&true.into(), &true.into())
    );
}

#[tokio::test(start_paused = true)]
async fn the_samples_are_those_of_every_question_read_each_way_and_their_hashes_make_the_tasks() {
    use sha2::{Digest, Sha256};
    let place = tempdir().unwrap();
    let ran = accuracy(place.path(), CLUSTER).await;
    let samples = lines(&ran.directory().join("lm_eval_samples.jsonl"));
    let own = own_documents();
    assert_eq!(samples.len(), 2 * own.len());
    let mut all = Sha256::new();
    for (nth, line) in samples.iter().enumerate() {
        let wanted = if nth < own.len() { "strict-match" } else { "flexible-extract" };
        let number = nth % own.len();
        assert_eq!((&line["filter"], &line["doc_id"]), (&wanted.into(), &number.into()));
        assert_eq!(line["doc"], serde_json::Value::Object(own[number].clone()));
        assert_eq!(line["target"], own[number]["answer"]);
        let prompt = line["arguments"]["gen_args_0"]["arg_0"].as_str().unwrap();
        assert_eq!(prompt.matches("Question: ").count(), 4);
        let end = format!("Question: {}\nAnswer:", own[number]["question"].as_str().unwrap());
        assert!(prompt.ends_with(&end), "{prompt}");
        for key in ["doc_hash", "prompt_hash", "target_hash"] {
            all.update(line[key].as_str().unwrap());
        }
    }
    let hash: String = all.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(result(&ran).task_hash, hash);
}

fn without_place(ran: &Ran) -> Vec<(String, String)> {
    let place = ran.output_dir.display().to_string();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&place, "PLACE");
    files_of(&ran.directory()).into_iter().map(|(name, bytes)| (name, text(bytes))).collect()
}

#[tokio::test(start_paused = true)]
async fn two_runs_leave_the_same_bytes() {
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let words = format!("{CLUSTER} --baseline-sim 1m --num-concurrent 8 --sim-fault corrupt-kv=0.1@decode");
    let one = accuracy(first.path(), &words).await;
    let other = accuracy(second.path(), &words).await;
    let (one, other) = (without_place(&one), without_place(&other));
    let names: Vec<&str> = one.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "documents.csv",
            "lm_eval_results.json",
            "lm_eval_samples.jsonl",
            "pdbench_scores.json",
            "questions.jsonl",
            "records.jsonl",
            "report.html",
            "requests.csv",
            "run.json",
            "summary.csv",
            "timeline.csv"
        ]
    );
    for (one, other) in one.iter().zip(&other) {
        assert!(one == other, "{} differs", one.0);
    }
}

#[tokio::test(start_paused = true)]
async fn report_makes_every_file_of_an_accuracy_run_again_byte_for_byte() {
    for words in [
        CLUSTER.to_owned(),
        format!("{CLUSTER} --limit 40 --baseline-sim 1m --baseline-passes 2 --fail-under 0.99 --label again"),
    ] {
        let place = tempdir().unwrap();
        let ran = accuracy(place.path(), &words).await;
        let before = files_of(&ran.directory());
        for (name, _) in &before {
            if !["run.json", "records.jsonl", "questions.jsonl"].contains(&name.as_str()) {
                std::fs::remove_file(ran.directory().join(name)).unwrap();
            }
        }
        let (exit, stdout, stderr) = program(&["report", &ran.directory().display().to_string()]).await;
        assert_eq!(exit, ran.exit, "{stderr}");
        for ((name, old), (_, new)) in before.iter().zip(files_of(&ran.directory())) {
            assert!(*old == new, "{words}: {name} differs");
        }
        assert_eq!(stdout, ran.stdout);
    }
}

#[tokio::test(start_paused = true)]
async fn a_score_below_the_one_asked_for_fails_the_run() {
    for (right, least, fails) in [("1", "0.9", false), ("0.5", "0.9", true)] {
        let place = tempdir().unwrap();
        let words = format!("gsm8k --sim 1p1d --sim-right {right} --fail-under {least}");
        let ran = accuracy(place.path(), &words).await;
        let wanted: &[&str] = if fails { &["below_score"] } else { &[] };
        assert_eq!(faults(&ran), wanted, "{}", ran.stdout);
        assert_eq!(ran.exit, if fails { Exit::Invalid } else { Exit::Valid });
        assert!(!fails || ran.stdout.starts_with("INVALID: the score is 0."), "{}", ran.stdout);
    }
}
