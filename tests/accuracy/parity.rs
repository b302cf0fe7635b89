//! The same prompts as lm_eval 0.4.13, to the byte: what it hashed is kept in `tests/golden`, and whole runs over the
//! real documents come to the same. `scripts/accuracy-parity.sh` runs the two side by side.

use crate::setup::{accuracy, gsm8k, in_tree, json, lines, result};
use pdbench::Exit;
use serde_json::json;
use tempfile::tempdir;

/// sha256 over what lm_eval 0.4.13 asked of each variant of gsm8k: flags, and `task_hashes` of its results.
const TASK_HASHES: &[(&str, &str)] = &[
    ("--num-fewshot 3", "3d03c05f5358b3d498e6dafc7845060bc3865730b6a01eb055bb23bbbb9e8e9e"),
    ("--num-fewshot 5 --limit 400", "78e857cb4a37c6868af12271474b25c28e5c5dd83da5b0735aeaf2fe1659d089"),
    (
        "--num-fewshot 3 --limit 400 --fewshot-seed 7",
        "04931d69662ae68f72d41207e279393daa6d70f10913fee079b6a31085edd8e3",
    ),
    (
        "--num-fewshot 3 --limit 300 --api chat",
        "e48a8eca20aceeed5e05efe4b276a108f56ccffaedf3e0ae7732eeb95a726aa7",
    ),
    (
        "--num-fewshot 3 --limit 100 --api chat --fewshot_as_multiturn false",
        "2862cfa7fa7577020dcffb9b15dc7b7a575e56f023ec31b3aebe79794c6bacb2",
    ),
    (
        "--num-fewshot 3 --limit 300 --batch-size 4",
        "2df133641cec68005e9fd66934d2ffc257eaa715a175b3a993dcabf1b9f4aec5",
    ),
];

#[tokio::test(start_paused = true)]
async fn each_of_the_1319_prompts_is_that_of_lm_eval() {
    let Some(data) = gsm8k("each_of_the_1319_prompts_is_that_of_lm_eval") else { return };
    let golden = std::fs::read_to_string(in_tree("tests/golden/gsm8k-prompts.txt")).unwrap();
    let golden: Vec<&str> = golden.lines().collect();
    assert_eq!(golden.len(), 1319);
    let place = tempdir().unwrap();
    let ran = accuracy(place.path(), &format!("gsm8k --sim 1m --dataset-path {data} --num-fewshot 3")).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    let samples = lines(&ran.directory().join("lm_eval_samples.jsonl"));
    assert_eq!(samples.len(), 2 * 1319);
    for (number, (line, hash)) in samples.iter().zip(&golden).enumerate() {
        assert_eq!((&line["doc_id"], &line["filter"]), (&json!(number), &json!("strict-match")));
        assert_eq!(line["prompt_hash"], *hash, "document {number}");
    }
    assert_eq!(result(&ran).task_hash, TASK_HASHES[0].1);
    // The real documents are nobody's own.
    assert!(!ran.run_file().manifest.accuracy.unwrap().own_documents);
    assert!(!ran.stdout.contains("the project's own"), "{}", ran.stdout);
}

#[tokio::test(start_paused = true)]
async fn documents_prompts_and_targets_of_each_variant_hash_to_what_lm_eval_says() {
    let name = "documents_prompts_and_targets_of_each_variant_hash_to_what_lm_eval_says";
    let Some(data) = gsm8k(name) else { return };
    for (words, hash) in &TASK_HASHES[1..] {
        let place = tempdir().unwrap();
        let ran = accuracy(place.path(), &format!("gsm8k --sim 1m --dataset-path {data} {words}")).await;
        assert_eq!(ran.exit, Exit::Valid, "{words}: {}", ran.stderr);
        assert_eq!(result(&ran).task_hash, *hash, "{words}");
        let results = json(&ran.directory().join("lm_eval_results.json"));
        assert_eq!(results["task_hashes"]["gsm8k"], *hash, "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_of_a_file_that_includes_another_hashes_to_what_lm_eval_says() {
    let name = "a_task_of_a_file_that_includes_another_hashes_to_what_lm_eval_says";
    let Some(data) = gsm8k(name) else { return };
    let place = tempdir().unwrap();
    let file = place.path().join("mine.yaml");
    let text = format!(
        "include: {}\ntask: mine\ndataset_path: json\ndataset_name: null\ndataset_kwargs:\n  data_files:\n    train: \
         {data}/train.jsonl\n    test: {data}/test.jsonl\n",
        in_tree("datasets/tasks/gsm8k_cot_zeroshot.yaml").display()
    );
    std::fs::write(&file, text).unwrap();
    let runs = place.path().join("runs");
    std::fs::create_dir(&runs).unwrap();
    let ran = accuracy(&runs, &format!("--task-yaml {} --sim 1m --limit 200", file.display())).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    assert_eq!(result(&ran).task, "mine");
    assert_eq!(result(&ran).task_hash, "e00c0ff7fd2afdea3af9fd963301f4eb1b0b439dfa62b8c2c010c22f307e9a29");
}
