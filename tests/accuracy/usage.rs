//! What is refused before anything is asked.

use crate::setup::refused;
use std::fs;
use tempfile::tempdir;

#[tokio::test(start_paused = true)]
async fn a_task_that_is_unknown_is_refused_with_those_that_are_known() {
    let place = tempdir().unwrap();
    let says = refused(place.path(), "gsm8k_cott --sim").await;
    assert!(says.contains("`gsm8k_cott` is not a task"), "{says}");
    for known in
        ["gsm8k", "gsm8k_cot", "gsm8k_cot_zeroshot", "gsm8k_cot_llama", "gsm8k_platinum", "--task-yaml"]
    {
        assert!(says.contains(known), "{known}: {says}");
    }
    let says = refused(place.path(), "--sim").await;
    assert!(says.contains("no task was named") && says.contains("pdbench accuracy gsm8k"), "{says}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "a refused run leaves nothing");
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_examples_are_its_authors_names_how_to_get_them() {
    let place = tempdir().unwrap();
    for task in ["gsm8k_cot", "gsm8k_cot_llama"] {
        let says = refused(place.path(), &format!("{task} --sim")).await;
        assert!(says.contains(&format!("the worked examples of {task} are its authors'")), "{says}");
        assert!(
            says.contains(&format!("pdbench dataset fetch {task}")) && says.contains("--task-yaml"),
            "{says}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_with_code_is_refused_by_the_place_of_the_code() {
    let place = tempdir().unwrap();
    let head = "task: mine\ndataset_path: json\ntest_split: test\ndoc_to_text: '{{question}}'\n";
    for (rest, says) in [
        ("doc_to_target: !function utils.target\n", "`doc_to_target` is a Python function (!function)"),
        (
            "doc_to_target: '{{answer}}'\nfilter_list:\n  - name: x\n    filter:\n      - function: !function utils.f\n",
            "`filter_list[0].filter[0].function` is a Python function",
        ),
        ("doc_to_target: '{{answer}}'\nprocess_docs: utils\n", "`process_docs` is not supported"),
        ("doc_to_target: '{{answer}}'\noutput_type: multiple_choice\n", "only generate_until is supported"),
        ("doc_to_target: '{{answer}}'\nmetric_list:\n  - metric: bleu\n", "there is exact_match"),
        ("doc_to_target: [\n", "not YAML"),
    ] {
        let file = place.path().join("mine.yaml");
        fs::write(&file, format!("{head}{rest}")).unwrap();
        let said = refused(place.path(), &format!("--task-yaml {} --sim", file.display())).await;
        assert!(said.contains(says) && said.contains("mine.yaml"), "{said}");
    }
    let says = refused(place.path(), "--task-yaml no-such.yaml --sim").await;
    assert!(says.contains("no-such.yaml"), "{says}");
}

#[tokio::test(start_paused = true)]
async fn ways_of_asking_that_exclude_one_another_are_refused() {
    let place = tempdir().unwrap();
    for (words, says) in [
        ("--batch-size 2 --api chat", "a chat asks one question a request"),
        ("--batch-size 2 --stream", "streamed answers come one by one"),
        ("--paths both --logprobs", "streamed answers come one by one"),
        ("--stream --paths both", "cannot be used with"),
        ("--prompt-format token-ids --api chat", "token ids cannot be sent in a chat"),
        ("--prompt-format token-ids", "needs the model's tokenizer"),
        ("--apply-chat-template", "needs the model's tokenizer"),
        ("--limit 3 --samples 1,2", "cannot be used with"),
        ("--samples-mode lm_eval", "--samples"),
        ("--baseline-passes 2", "--baseline-passes without a baseline"),
        ("--baseline-url http://a --baseline-sim 1m", "cannot be used with"),
        ("--baseline-run no-such-directory", "no-such-directory"),
        ("--resume no-such-directory", "no-such-directory"),
        ("--limit 0", "`0` is no limit"),
        ("--limit 1.5", "`1.5` is no limit"),
        ("--margin 2", "`2` is not a share"),
        ("--seed 1,2", "--seed wants one whole number, or four"),
        ("--model_args model", "`model` has no `=`"),
        ("--model_args modell=m", "`modell` is not known"),
        ("--samples 3,126,500", "there is no document 126"),
        ("--model_args timeout=soon", "`timeout=soon` cannot be read"),
        ("--model_args verify_certificate=False --ca-file x", "leave one of them out"),
        ("--num-fewshot 41", "worked examples"),
        ("--base-url http://127.0.0.1:9 --sim-right 1", "--sim-… flags shape the embedded cluster"),
    ] {
        let said = refused(place.path(), &format!("gsm8k {words}")).await;
        assert!(said.contains(says), "{words}: {said}");
    }
}

#[tokio::test(start_paused = true)]
async fn documents_without_examples_to_draw_from_are_refused() {
    let place = tempdir().unwrap();
    let data = place.path().join("data");
    fs::create_dir(&data).unwrap();
    let directory = format!("gsm8k --sim --dataset-path {}", data.display());
    let said = refused(place.path(), &directory).await;
    assert!(said.contains("test.jsonl"), "{said}");
    fs::write(data.join("test.jsonl"), "{\"question\":\"1+1?\",\"answer\":\"#### 2\"}\n").unwrap();
    let said = refused(place.path(), &directory).await;
    assert!(said.contains("there is no `train.jsonl` beside") && said.contains("--num-fewshot 0"), "{said}");
    let file = format!("gsm8k --sim --dataset-path {}", data.join("test.jsonl").display());
    let said = refused(place.path(), &file).await;
    assert!(said.contains("there is no `train.jsonl` beside"), "{said}");
    fs::write(data.join("train.jsonl"), "{\"question\":\"1+1?\"}\n").unwrap();
    let said = refused(place.path(), &format!("{directory} --num-fewshot 1")).await;
    assert!(said.contains("answer"), "{said}");
    fs::write(data.join("train.jsonl"), "{\"question\":\n").unwrap();
    let said = refused(place.path(), &directory).await;
    assert!(said.contains("train.jsonl") && said.contains("line 1"), "{said}");
}
