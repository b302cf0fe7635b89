//! A simulated model that knows answers, from a file to the record.

use crate::common::{Printed, run_in, world};
use pdbench::Exit;
use pdbench::command::InterruptedBy;
use pdbench::runtime::{Stop, Workers};
use std::fmt::Write as _;
use std::fs;
use tempfile::tempdir;

#[tokio::test(start_paused = true)]
async fn the_embedded_clusters_model_answers_from_the_file_through_the_proxy() {
    for dialect in ["nixl-pull", "lmcache", "plain"] {
        let place = tempdir().unwrap();
        let (mut answers, mut prompts) = (String::new(), String::new());
        for n in 0..12 {
            let question =
                format!("How many legs do {n} cats have, if each of them has as many as cats have?");
            let answer = format!("{n} cats × 4 legs = {0} legs.\\n#### {0}", 4 * n);
            writeln!(answers, r#"{{"question":"{question}","answer":"{answer}"}}"#).unwrap();
            writeln!(prompts, r#"{{"prompt":"Question: {question}\nAnswer:","output_tokens":200}}"#).unwrap();
        }
        let [answers_file, prompts_file] =
            ["answers.jsonl", "prompts.jsonl"].map(|name| place.path().join(name));
        fs::write(&answers_file, answers).unwrap();
        fs::write(&prompts_file, prompts).unwrap();
        let words = format!(
            "serve --sim 1p1d --sim-dialect {dialect} --sim-answers {} --sim-right 1 --dataset-name custom --dataset-path {} \
             --num-prompts 12 --save-text all --logprobs 2 --custom-output-len -1",
            answers_file.display(),
            prompts_file.display()
        );
        let results = place.path().join("results");
        fs::create_dir(&results).unwrap();
        let ran = run_in(&results, &words.split_whitespace().collect::<Vec<_>>(), Workers::Local).await;
        assert_eq!(ran.exit, Exit::Valid, "{dialect}: {}", ran.stderr);
        let records = ran.main_records();
        assert_eq!(records.len(), 12);
        for record in &records {
            let text = record.text.as_ref().unwrap();
            let (cats, rest) =
                text.split_once(" cats × 4 legs = ").unwrap_or_else(|| panic!("{dialect}: {text}"));
            let legs = 4 * cats.parse::<u32>().unwrap();
            assert!(
                rest.starts_with(&format!("{legs} legs.")) && rest[8..].contains(&legs.to_string()),
                "{text}"
            );
        }
        let facts = &ran.run_file().manifest.simulator.unwrap();
        assert_eq!((&facts["questions"], &facts["right"]), (&12.into(), &1.0.into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_no_answer_is_named_before_anything_starts() {
    let place = tempdir().unwrap();
    let file = place.path().join("answers.jsonl");
    fs::write(&file, "{\"question\":\"a\",\"answer\":\"b #### 1\"}\n\n{\"question\":\"c\"}\n").unwrap();
    let file = file.to_str().unwrap();
    for arguments in
        [vec!["sim", "--port", "0", "--answers", file], vec!["serve", "--sim", "--sim-answers", file]]
    {
        let (stdout, stderr) = (Printed::default(), Printed::default());
        let mut world = world(&arguments, Workers::Local, &stdout, &stderr);
        world.interrupt.handle(InterruptedBy::Interrupt).ask(Stop::Drain);
        assert_eq!(pdbench::run(&mut world).await, Exit::Usage);
        let says = format!("cannot take answers from {file}:3: missing field `answer`");
        assert!(stderr.text().contains(&says) && stdout.text().is_empty(), "{}", stderr.text());
    }
}

#[tokio::test(start_paused = true)]
async fn answers_for_a_target_that_is_not_simulated_are_refused() {
    let place = tempdir().unwrap();
    let words = ["serve", "--base-url", "http://127.0.0.1:9", "--sim-answers", "a.jsonl"];
    let ran = run_in(place.path(), &words, Workers::Local).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.stderr.contains("--sim-… flags shape the embedded cluster"), "{}", ran.stderr);
}
