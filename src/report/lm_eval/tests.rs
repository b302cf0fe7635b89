use super::super::testing::{golden, with, with_accuracy};
use super::*;

fn changed(change: impl FnOnce(&mut Run)) -> Map<String, Value> {
    let mut results = Map::new();
    with_accuracy(change, |reported| results = lm_eval_results(reported));
    results
}

#[test]
fn both_files_are_as_before() {
    with_accuracy(
        |_| (),
        |reported| {
            golden("lm_eval_results.json", &lm_eval_results_bytes(reported));
            golden("lm_eval_samples.jsonl", lm_eval_samples(reported.run).as_bytes());
        },
    );
}

#[test]
fn the_keys_are_lm_evals_in_its_order_and_one_of_ours() {
    // As lm_eval 0.4.13 wrote them.
    let keys = "results group_subtasks configs versions n-shot higher_is_better n-samples config git_hash date \
                pretty_env_info transformers_version lm_eval_version upper_git_hash task_hashes model_source model_name \
                model_name_sanitized system_instruction system_instruction_sha fewshot_as_multiturn chat_template \
                chat_template_sha total_evaluation_time_seconds pdbench";
    let results = changed(|_| ());
    assert_eq!(
        results.keys().map(String::as_str).collect::<Vec<_>>(),
        keys.split_whitespace().collect::<Vec<_>>()
    );
    let config = "model model_args batch_size batch_sizes device use_cache limit bootstrap_iters gen_kwargs random_seed \
                  numpy_seed torch_seed fewshot_seed";
    let found: Vec<_> = results["config"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, config.split_whitespace().collect::<Vec<_>>());
    let task: Vec<_> = results["configs"]["gsm8k"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(task[2..4], ["fewshot_config", "num_fewshot"]);
    assert_eq!(results["configs"]["gsm8k"]["metadata"]["base_url"], "http://pd:8000/v1/completions");
    assert_eq!(results["config"]["limit"], json!(8.0));
}

#[test]
fn a_question_without_an_answer_has_no_sample_and_is_not_counted() {
    with_accuracy(
        |_| (),
        |reported| {
            let results = lm_eval_results(reported);
            assert_eq!(results["n-samples"]["gsm8k"], json!({"original": 10, "effective": 7}));
            assert_eq!(results["results"]["gsm8k"]["sample_len"], 7);
            let samples = lm_eval_samples(reported.run);
            let lines: Vec<Value> = samples.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(lines.len(), 14);
            assert!(lines[..7].iter().all(|line| line["filter"] == "strict-match" && line["doc_id"] != 0));
            assert_eq!(lines[7]["filter"], "flexible-extract");
            assert_eq!((&lines[0]["exact_match"], &lines[6]["exact_match"]), (&json!(0.0), &json!(1.0)));
        },
    );
}

#[test]
fn a_conversation_is_one_element_of_its_tuple_and_named_so() {
    let conversation = |form: &'static str| {
        changed(move |run| {
            run.manifest.accuracy.as_mut().unwrap().form = form.to_owned();
        })
    };
    for (form, source, multiturn) in [
        ("text", "local-completions", Value::Null),
        ("token-ids", "local-completions", Value::Null),
        ("multi-turn", "local-chat-completions", json!(true)),
        ("single-turn", "local-chat-completions", json!(false)),
    ] {
        let results = conversation(form);
        assert_eq!(
            (&results["model_source"], &results["fewshot_as_multiturn"]),
            (&json!(source), &multiturn)
        );
        assert_eq!(results["chat_template"], if multiturn.is_null() { Value::Null } else { json!("") });
    }
    with_accuracy(
        |run| run.accuracy.as_mut().unwrap().documents.iter_mut().for_each(|document| document.chat = true),
        |reported| {
            let samples = lm_eval_samples(reported.run);
            let line: Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
            assert!(line["arguments"]["gen_args_0"]["arg_0"].is_array());
        },
    );
}

#[test]
fn names_are_those_of_lm_eval_and_lead_nowhere_else() {
    with_accuracy(
        |run| {
            run.manifest.started = "2026-01-02T04:04:05.000000+01:00".to_owned();
            run.manifest.main_end = Some(Offset::from_tenths(123_456_780));
        },
        |reported| {
            let run = reported.run;
            assert_eq!(lm_eval_results_name(&run.manifest), "results_2026-01-02T04-04-17.345678.json");
            assert_eq!(lm_eval_samples_name(run), "samples_gsm8k_2026-01-02T04-04-17.345678.jsonl");
            assert_eq!(lm_eval_directory(&run.manifest), "org__model");
            assert_eq!(lm_eval_results(reported)["total_evaluation_time_seconds"], "12.345678");
        },
    );
    for (name, directory) in [
        ("a/b:c", "a__b__c"),
        ("<\"x\">//[y]", "__x__y__"),
        ("..", "__"),
        ("", "_"),
        ("../../etc", "..__..__etc"),
        ("a\u{1b}[31m\nb", "a__31mb"),
    ] {
        assert_eq!(file_name(&sanitized(name)), directory, "{name}");
    }
}

#[test]
fn a_run_that_asked_nothing_has_neither_file() {
    with(
        |_, _| (),
        |reported| {
            assert!(lm_eval_results(reported).is_empty() && lm_eval_samples(reported.run).is_empty());
            let names: Vec<_> = super::super::files(reported).into_iter().map(|(name, _)| name).collect();
            assert!(!names.iter().any(|name| name.contains("lm_eval") || name.contains("documents")));
        },
    );
}

#[test]
fn the_line_over_the_table_shows_arguments_as_python_does() {
    with_accuracy(
        |_| (),
        |reported| {
            let facts = reported.run.manifest.accuracy.as_ref().unwrap();
            assert_eq!(
                lm_eval_headline(facts),
                "local-completions ({'model': 'org/model', 'base_url': 'http://pd:8000/v1/completions', \
                 'tokenizer_backend': None}), gen_kwargs: ({}), limit: 8.0, num_fewshot: 3, batch_size: 1"
            );
        },
    );
}
