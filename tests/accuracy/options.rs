//! What the flags change: the requests, and the files of lm_eval.

use crate::common::Ran;
use crate::examiner::{Asked, Examiner, is_right};
use crate::setup::{accuracy, json, lines, refused, result};
use pdbench::Exit;
use serde_json::{Value, json};
use std::path::Path;
use tempfile::{TempDir, tempdir};

/// Asks a server that answers everything.
async fn ask(words: &str) -> (Ran, Examiner, TempDir) {
    let (place, examiner) = (tempdir().unwrap(), Examiner::start());
    let ran = accuracy(place.path(), &format!("gsm8k --base-url {} {words}", examiner.url)).await;
    assert_eq!(ran.exit, Exit::Valid, "{words}: {}{}", ran.stderr, ran.stdout);
    (ran, examiner, place)
}

fn bodies(examiner: &Examiner) -> Vec<Value> {
    examiner.asked().into_iter().map(|asked| asked.body).collect()
}

fn prompts(examiner: &Examiner) -> Vec<String> {
    let mut asked = examiner.asked();
    asked.sort_by_key(|asked| asked.documents[0]);
    asked.iter().map(|asked| asked.body["prompt"].as_str().unwrap().to_owned()).collect()
}

fn documents(examiner: &Examiner) -> Vec<usize> {
    let mut documents: Vec<usize> = examiner.asked().into_iter().flat_map(|asked| asked.documents).collect();
    documents.sort_unstable();
    documents
}

#[tokio::test(start_paused = true)]
async fn a_request_is_lm_evals_to_the_last_key() {
    let (.., examiner, _place) = ask("--limit 5 --num-fewshot 0").await;
    for Asked { body, path, .. } in examiner.asked() {
        let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["prompt", "model", "max_tokens", "temperature", "stop", "seed"]);
        let wanted = json!({
            "prompt": body["prompt"], "model": "examined", "max_tokens": 256, "temperature": 0.0,
            "stop": ["Question:", "</s>", "<|im_end|>"], "seed": 1234,
        });
        assert_eq!((body, path.as_str()), (wanted, "/v1/completions"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_conversation_has_the_worked_examples_as_turns_of_its_own_or_in_one() {
    for (words, turns) in [("", 5), ("--fewshot_as_multiturn false", 1), ("--system_instruction Think.", 6)] {
        let (ran, examiner, _place) = ask(&format!("--api chat --limit 5 --num-fewshot 2 {words}")).await;
        assert_eq!(result(&ran).arms[0].scores[0].right, 4);
        for asked in examiner.asked() {
            assert_eq!(asked.path, "/v1/chat/completions");
            assert_eq!(asked.body["messages"].as_array().unwrap().len(), turns, "{}", asked.body);
            let all = asked.body["messages"].to_string();
            assert_eq!(all.matches("Question: ").count(), 3);
            assert_eq!(asked.body["max_tokens"], 256);
        }
        let system = &examiner.asked()[0].body["messages"][0];
        assert_eq!(*system == json!({"role": "system", "content": "Think."}), turns == 6);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_generated_follows_the_command_line() {
    let words = "--limit 3 --gen_kwargs temperature=0.7,max_gen_toks=512,top_p=0.9";
    let (ran, examiner, _place) = ask(words).await;
    for body in bodies(&examiner) {
        assert_eq!(
            (&body["temperature"], &body["max_tokens"], &body["top_p"]),
            (&json!(0.7), &json!(512), &json!(0.9))
        );
        assert_eq!(body["stop"], json!(["Question:", "</s>", "<|im_end|>"]));
        assert!(body.get("max_gen_toks").is_none() && body.get("do_sample").is_none(), "{body}");
    }
    let results = json(&ran.directory().join("lm_eval_results.json"));
    let typed = json!({"temperature": 0.7, "max_gen_toks": 512, "top_p": 0.9});
    assert_eq!(results["config"]["gen_kwargs"], typed);
    assert!(
        ran.stdout
            .contains("gen_kwargs: ({'temperature': 0.7, 'max_gen_toks': 512, 'top_p': 0.9}), limit: 3.0"),
        "{}",
        ran.stdout
    );
    let (.., examiner, _place) = ask("--limit 3 --gen-kwargs max_gen_toks=512 --max-tokens 64").await;
    assert!(bodies(&examiner).iter().all(|body| body["max_tokens"] == 64));
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_a_number_or_a_share_of_the_documents_and_a_prefix_of_the_whole() {
    let (.., whole, _place) = ask("--num-fewshot 4").await;
    let whole = prompts(&whole);
    for (limit, count) in [("10", 10), ("0.1", 13), ("0.5", 63), ("500", 126)] {
        let (ran, examiner, _place) = ask(&format!("--num-fewshot 4 --limit {limit}")).await;
        assert_eq!(prompts(&examiner), whole[..count], "--limit {limit}");
        let results = json(&ran.directory().join("lm_eval_results.json"));
        assert_eq!(results["n-samples"]["gsm8k"], json!({"original": 126, "effective": count}));
        assert_eq!(results["config"]["limit"], json!(limit.parse::<f64>().unwrap()));
    }
}

#[tokio::test(start_paused = true)]
async fn chosen_documents_have_the_examples_of_a_whole_run_or_lm_evals() {
    let (.., whole, _place) = ask("--num-fewshot 4").await;
    let whole = prompts(&whole);
    let (ran, examiner, _place) = ask("--num-fewshot 4 --samples 3,90,41").await;
    assert_eq!(documents(&examiner), [3, 41, 90]);
    assert_eq!(prompts(&examiner), [3, 41, 90].map(|document: usize| whole[document].clone()));
    let samples = lines(&ran.directory().join("lm_eval_samples.jsonl"));
    let ids: Vec<&Value> = samples.iter().map(|line| &line["doc_id"]).collect();
    assert_eq!(ids, [3, 41, 90, 3, 41, 90]);
    let (.., examiner, _place) = ask("--num-fewshot 4 --samples 3,90,41 --samples-mode lm_eval").await;
    let alone = prompts(&examiner);
    // Its generator draws for them alone: the first gets what document 0 has in a whole run.
    let shots = |prompt: &str| prompt.rsplit_once("\n\n").unwrap().0.to_owned();
    assert_eq!(
        alone.iter().map(|prompt| shots(prompt)).collect::<Vec<_>>(),
        [0, 1, 2].map(|n: usize| shots(&whole[n]))
    );
}

#[tokio::test(start_paused = true)]
async fn another_seed_draws_other_examples_and_the_fourth_of_four_counts() {
    let mut seen = Vec::new();
    for words in ["", "--fewshot-seed 7", "--seed 7", "--seed 0,1,2,7", "--seed 7,7,7,1234"] {
        let (.., examiner, _place) = ask(&format!("--num-fewshot 3 --limit 4 {words}")).await;
        assert!(
            bodies(&examiner).iter().all(|body| body["seed"] == 1234),
            "lm_eval sends it whatever the seed"
        );
        seen.push(prompts(&examiner));
    }
    assert!(seen[0] != seen[1] && seen[1] == seen[2] && seen[2] == seen[3] && seen[4] == seen[0]);
}

#[tokio::test(start_paused = true)]
async fn streamed_answers_score_as_whole_ones() {
    let (whole, _examiner, _place) = ask("").await;
    let (streamed, examiner, _place) = ask("--stream").await;
    assert_eq!(result(&whole).arms[0].scores, result(&streamed).arms[0].scores);
    assert!(
        bodies(&examiner)
            .iter()
            .all(|body| body["stream"] == true && body["stream_options"]["include_usage"] == true)
    );
    assert!(streamed.records().iter().all(|record| !record.events.is_empty()));
    let (chat, examiner, _place) = ask("--stream --api chat").await;
    assert_eq!(result(&chat).arms[0].scores, result(&streamed).arms[0].scores);
    assert!(examiner.asked().iter().all(|asked| asked.path == "/v1/chat/completions"));
}

#[tokio::test(start_paused = true)]
async fn several_questions_in_one_request_are_answered_by_their_index() {
    let (single, _examiner, _place) = ask("").await;
    let (batched, examiner, _place) = ask("--batch_size 4").await;
    assert_eq!(result(&single).arms[0].scores, result(&batched).arms[0].scores);
    assert_eq!(result(&batched).arms[0].scores[0].right, (0..126).filter(|&n| is_right(n)).count());
    assert_eq!(result(&single).task_hash, result(&batched).task_hash);
    let mut sizes: Vec<usize> = examiner.asked().iter().map(|asked| asked.documents.len()).collect();
    sizes.sort_unstable();
    assert_eq!((sizes.len(), sizes[0], sizes[31]), (32, 2, 4));
    assert_eq!(examiner.times(), vec![1; 126]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_the_simulator_scores_as_single_questions_do() {
    let scores = async |words: &str| {
        let place = tempdir().unwrap();
        let ran = accuracy(place.path(), &format!("gsm8k --sim 1m --sim-right 0.8 --limit 50 {words}")).await;
        assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stderr, ran.stdout);
        (result(&ran).arms[0].scores.clone(), ran.records().len())
    };
    let ((single, questions), (batched, requests)) = (scores("").await, scores("--batch-size 4").await);
    assert_eq!((questions, requests), (50, 13));
    assert_eq!(single, batched);
}

#[tokio::test(start_paused = true)]
async fn token_ids_are_those_of_the_tokenizer_and_score_as_the_text() {
    let tokenizer = crate::setup::in_tree("tests/data/tiny-tokenizer").display().to_string();
    let words = "gsm8k --sim 1m --sim-right 0.8 --limit 20 --num-fewshot 0";
    let (text_place, ids_place) = (tempdir().unwrap(), tempdir().unwrap());
    let text = accuracy(text_place.path(), words).await;
    let said = refused(text_place.path(), &format!("{words} --prompt-format token-ids")).await;
    assert!(said.contains("--tokenizer"), "{said}");
    let flags = format!("{words} --prompt-format token-ids --tokenizer {tokenizer}");
    let ids = accuracy(ids_place.path(), &flags).await;
    assert_eq!((text.exit, ids.exit), (Exit::Valid, Exit::Valid), "{}{}", ids.stderr, ids.stdout);
    assert_eq!(ids.run_file().manifest.accuracy.unwrap().form, "token-ids");
    // They are of the same task: what is hashed is the text.
    assert_eq!(result(&text).task_hash, result(&ids).task_hash);
    assert_eq!(result(&ids).arms[0].answered, 20);
}

#[tokio::test(start_paused = true)]
async fn as_lm_eval_the_longest_prompt_is_asked_first() {
    let (.., examiner, _place) = ask("--compat lm_eval --num-concurrent 1 --num-fewshot 3").await;
    let lengths: Vec<usize> =
        bodies(&examiner).iter().map(|body| body["prompt"].as_str().unwrap().chars().count()).collect();
    assert!(lengths.is_sorted_by(|a, b| b <= a), "{lengths:?}");
    let (.., examiner, _place) = ask("--num-concurrent 1 --num-fewshot 3").await;
    let asked: Vec<usize> = examiner.asked().iter().map(|asked| asked.documents[0]).collect();
    assert!(asked.is_sorted(), "else in the order of the documents");
}

#[tokio::test(start_paused = true)]
async fn the_guides_command_line_of_lm_eval_works_with_another_name_before_it() {
    let (place, examiner) = (tempdir().unwrap(), Examiner::start());
    let output = place.path().join("lm_eval_output");
    let words = format!(
        "--model local-completions --tasks gsm8k --model_args \
         model=org/model:8B,base_url={}/v1/completions,num_concurrent=1 --batch_size 1 --log_samples --output_path {} \
         --num_fewshot 3",
        examiner.url,
        output.display()
    );
    let runs = place.path().join("runs");
    std::fs::create_dir(&runs).unwrap();
    let ran = accuracy(&runs, &words).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stderr, ran.stdout);
    assert!(bodies(&examiner).iter().all(|body| body["model"] == "org/model:8B"));
    assert!(examiner.asked().iter().all(|asked| asked.path == "/v1/completions"));
    let facts = ran.run_file().manifest.accuracy.unwrap();
    assert_eq!((facts.num_concurrent, facts.num_fewshot, facts.batch_size), (1, 3, 1));
    // What lm_eval prints over its table.
    let headline = format!(
        "local-completions ({{'model': 'org/model:8B', 'base_url': '{}/v1/completions', 'num_concurrent': 1}}), \
         gen_kwargs: ({{}}), limit: None, num_fewshot: 3, batch_size: 1\n|Tasks|Version|",
        examiner.url
    );
    assert!(ran.stdout.contains(&headline), "{}", ran.stdout);
    assert_lm_evals_files(&ran, &output.join("org__model__8B"), "2026-01-02T03-04-");
}

/// Names and content of what lies in `directory`.
fn assert_lm_evals_files(ran: &Ran, directory: &Path, date: &str) {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let [results, samples] = <[String; 2]>::try_from(names).unwrap();
    let stamp = results.strip_prefix("results_").unwrap().strip_suffix(".json").unwrap();
    assert!(stamp.starts_with(date), "{stamp}");
    assert_eq!(samples, format!("samples_gsm8k_{stamp}.jsonl"));
    for (name, copy) in [(&results, "lm_eval_results.json"), (&samples, "lm_eval_samples.jsonl")] {
        let bytes = std::fs::read(directory.join(name)).unwrap();
        assert!(bytes == std::fs::read(ran.directory().join(copy)).unwrap(), "{name} is not {copy}");
        assert!(
            ran.stdout.contains(&format!("lm_eval's: {}", directory.join(name).display())),
            "{}",
            ran.stdout
        );
    }
    let results = json(&directory.join(&results));
    let (own, arm) = (result(ran), &result(ran).arms[0]);
    let of_task = &results["results"]["gsm8k"];
    for (filter, score) in own.filters.iter().zip(&arm.scores) {
        assert_eq!(of_task[format!("exact_match,{filter}")], json!(score.mean));
        assert_eq!(of_task[format!("exact_match_stderr,{filter}")], json!(score.stderr));
    }
    assert_eq!(results["task_hashes"]["gsm8k"], json!(own.task_hash));
    assert_eq!((&results["n-shot"]["gsm8k"], &results["versions"]["gsm8k"]), (&json!(3), &json!(3.0)));
    assert_eq!(results["model_name"], "org/model:8B");
}

#[tokio::test(start_paused = true)]
async fn without_log_samples_only_the_results_are_put_there() {
    let place = tempdir().unwrap();
    let output = place.path().join("out");
    let (ran, ..) = ask(&format!("--limit 3 --output-path {}", output.display())).await;
    let names: Vec<_> = std::fs::read_dir(output.join("examined")).unwrap().collect();
    assert_eq!(names.len(), 1);
    assert!(names[0].as_ref().unwrap().file_name().to_string_lossy().starts_with("results_"));
    assert!(!ran.stdout.contains("samples_gsm8k"));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_cannot_be_written_is_found_before_anything_is_asked() {
    let (place, examiner) = (tempdir().unwrap(), Examiner::start());
    let file = place.path().join("file");
    std::fs::write(&file, "").unwrap();
    let words = format!("gsm8k --base-url {} --output-path {}", examiner.url, file.join("below").display());
    let ran = accuracy(place.path(), &words).await;
    assert_eq!(ran.exit, Exit::NotWritten, "{}", ran.stderr);
    assert!(examiner.asked().is_empty());
}
