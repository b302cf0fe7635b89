//! Who is asked and by which way: HTTP proxies, what lm_eval's own arguments say, request ids, how many at a time.

use crate::common::{Ran, run_world};
use crate::examiner::{Act, Asked, Examiner};
use crate::setup::{accuracy, in_tree, refused, result};
use pdbench::Exit;
use pdbench::measure::Outcome;
use pdbench::runtime::Workers;
use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;
use tempfile::tempdir;

#[tokio::test(start_paused = true)]
async fn an_http_proxy_is_on_the_way_to_both_deployments() {
    let (place, proxy) = (tempdir().unwrap(), Examiner::start());
    let words = "gsm8k --num-fewshot 0 --limit 5 --base-url http://candidate.test:1 --baseline-url http://baseline.test:2";
    let ran = accuracy(place.path(), &format!("{words} --http-proxy {}", proxy.url)).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stderr, ran.stdout);
    for host in ["http://candidate.test:1", "http://baseline.test:2"] {
        let asked = proxy.asked().into_iter().filter(|asked| asked.path == format!("{host}/v1/completions"));
        assert_eq!(asked.count(), 5, "{host}");
    }
    assert_eq!(ran.run_file().manifest.target.http_proxy.as_ref(), Some(&proxy.url));
}

#[tokio::test(start_paused = true)]
async fn the_environments_proxy_is_looked_for_by_each_deployments_own_url() {
    let (place, proxy, candidate) = (tempdir().unwrap(), Examiner::start(), Examiner::start());
    let words = format!(
        "accuracy gsm8k --num-fewshot 0 --limit 5 --http-proxy env --base-url {} --baseline-url http://baseline.test:2",
        candidate.url
    );
    let words: Vec<&str> = words.split_whitespace().collect();
    let url = proxy.url.clone();
    let ran = run_world(place.path(), &words, Workers::Local, |world| {
        world.environment = Box::new(move |name| match name {
            "http_proxy" => Some(url.clone()),
            "no_proxy" => Some("127.0.0.0/8".to_owned()),
            _ => None,
        });
    })
    .await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stderr, ran.stdout);
    assert_eq!((candidate.asked().len(), proxy.asked().len()), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_is_refused_where_nothing_can_stand_between() {
    let place = tempdir().unwrap();
    for (words, says) in [
        ("--sim --http-proxy http://x:1", "--http-proxy with the embedded cluster"),
        ("--base-url http://a --http-proxy socks5://x:1", "SOCKS"),
        ("--base-url http://a --http-proxy http://me:word@x:1", "--http-proxy env"),
    ] {
        let said = refused(place.path(), &format!("gsm8k {words}")).await;
        assert!(said.contains(says) && !said.contains("word@"), "{words}: {said}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_lm_evals_arguments_say_is_done() {
    let place = tempdir().unwrap();
    let examiner = Examiner::with(|asked| match (asked.documents[0], asked.times) {
        (3, 0) => Act::Hang,
        _ => Act::Answer,
    });
    let words = format!(
        "gsm8k --num-fewshot 0 --limit 5 --model_args model=m,base_url={},timeout=2.5,max_gen_toks=77",
        examiner.url
    );
    let ran = accuracy(place.path(), &words).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stderr, ran.stdout);
    assert!(
        examiner.asked().iter().all(|asked| asked.body["max_tokens"] == 77 && asked.body["model"] == "m")
    );
    assert_eq!(ran.run_file().manifest.settings.output_len, Some(77));
    let cut: Vec<_> = ran.records().into_iter().filter(|record| !record.is_ok()).collect();
    assert_eq!((cut.len(), cut[0].outcome), (1, Outcome::TimeoutRequest));
    let took = cut[0].finished.seconds_since(cut[0].sent.unwrap());
    assert!((2.5..2.6).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn token_ids_are_cut_to_the_length_that_was_typed() {
    let place = tempdir().unwrap();
    let tokenizer = in_tree("tests/data/tiny-tokenizer").display().to_string();
    let words = format!(
        "gsm8k --sim 1m --limit 3 --num-fewshot 0 --model_args \
         tokenizer={tokenizer},tokenizer_backend=huggingface,max_length=280"
    );
    let ran = accuracy(place.path(), &words).await;
    assert!(ran.stderr.contains("3 prompts are longer than 280 tokens allow"), "{}", ran.stderr);
    assert!(ran.records().iter().all(|record| record.prompt_tokens == 280 - 1 - 256));
}

#[tokio::test(start_paused = true)]
async fn the_api_that_is_named_last_is_the_one_that_is_asked() {
    let (place, examiner) = (tempdir().unwrap(), Examiner::start());
    let words = format!(
        "gsm8k --num-fewshot 0 --limit 3 --backend openai-chat --api completions --base-url {}",
        examiner.url
    );
    let ran = accuracy(place.path(), &words).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stderr, ran.stdout);
    assert!(
        examiner
            .asked()
            .iter()
            .all(|asked| asked.path == "/v1/completions" && asked.body["prompt"].is_string())
    );
}

fn ids(ran: &Ran) -> Vec<String> {
    ran.records().into_iter().map(|record| record.id).collect()
}

/// Asserts that no two requests have the same id, and that all begin so.
fn assert_own_ids(ids: &[String], prefix: &str) {
    let different: BTreeSet<&String> = ids.iter().collect();
    assert_eq!(different.len(), ids.len(), "{ids:?}");
    assert!(ids.iter().all(|id| id.starts_with(prefix)), "{ids:?}");
}

#[tokio::test(start_paused = true)]
async fn no_two_requests_share_an_id_with_repeats_batches_or_a_resume() {
    let place = tempdir().unwrap();
    let task = std::fs::read_to_string(in_tree("datasets/tasks/gsm8k.yaml")).unwrap();
    let twice = task.replace("repeats: 1", "repeats: 2");
    assert_ne!(task, twice);
    let file = place.path().join("twice.yaml");
    std::fs::write(&file, twice).unwrap();
    let healed = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let heals = std::sync::Arc::clone(&healed);
    let examiner = Examiner::with(move |asked| match asked.documents[0] {
        7 if !heals.load(std::sync::atomic::Ordering::Relaxed) => Act::Status("503 No", "", ""),
        _ => Act::Answer,
    });
    let words = format!(
        "--task-yaml {} --base-url {} --num-fewshot 0 --limit 10 --max-retries 1 --request-id-prefix mine-",
        file.display(),
        examiner.url
    );
    let runs = place.path().join("single");
    let ran = accuracy(&runs, &words).await;
    let arm = &result(&ran).arms[0];
    assert_eq!((arm.answered, arm.errors, arm.retried), (9, 1, 1), "only what failed was tried again");
    healed.store(true, std::sync::atomic::Ordering::Relaxed);
    let whole = accuracy(&runs, &format!("{words} --resume {}", ran.directory().display())).await;
    assert_eq!(whole.exit, Exit::Valid, "{}{}", whole.stderr, whole.stdout);
    assert_eq!(ids(&whole).len(), 20 + 4);
    assert_own_ids(&ids(&whole), "mine-q");
    let batched = accuracy(&place.path().join("batched"), &format!("{words} --batch-size 4")).await;
    assert_eq!(ids(&batched).len(), 5);
    assert_own_ids(&ids(&batched), "mine-q");
}

#[tokio::test(start_paused = true)]
async fn each_deployment_has_its_share_in_flight_however_slow_the_other_is() {
    let place = tempdir().unwrap();
    let candidate = Examiner::with(|_| Act::After(Duration::from_millis(100)));
    let baseline = Examiner::with(|_| Act::After(Duration::from_secs(3)));
    let words = format!(
        "gsm8k --num-fewshot 0 --limit 21 --num-concurrent 2 --base-url {} --baseline-url {}",
        candidate.url, baseline.url
    );
    let ran = accuracy(place.path(), &words).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stderr, ran.stdout);
    // The first one alone, then two at a time.
    for (examiner, took) in [(&candidate, 0.1), (&baseline, 3.0)] {
        let asked: Vec<Asked> = examiner.asked();
        for (nth, one) in asked[1..].iter().enumerate() {
            let (at, due) = ((one.at - asked[1].at).as_secs_f64(), (nth / 2) as f64 * took);
            assert!(
                (due - 0.01..due + 0.09).contains(&at),
                "request {nth} of {took} s each came after {at} s"
            );
        }
    }
}

/// Takes everything but a line of progress.
struct Brittle;

impl Write for Brittle {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        assert!(!String::from_utf8_lossy(bytes).contains(" done, "), "this display cannot show progress");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_progress_display_that_panics_makes_the_run_invalid() {
    let place = tempdir().unwrap();
    let examiner = Examiner::with(|_| Act::After(Duration::from_secs(1)));
    let words = format!("accuracy gsm8k --limit 30 --num-concurrent 1 --base-url {}", examiner.url);
    let words: Vec<&str> = words.split_whitespace().collect();
    let change = |world: &mut pdbench::Surroundings| world.stderr = Box::new(Brittle);
    let ran = run_world(place.path(), &words, Workers::Local, change).await;
    assert_eq!(ran.exit, Exit::Invalid, "{}", ran.stdout);
    assert_eq!(result(&ran).arms[0].answered, 30);
    assert_eq!(ran.run_file().manifest.broken, ["the progress display panicked"]);
}

#[tokio::test(start_paused = true)]
async fn both_simulated_deployments_know_the_answers_of_the_file() {
    let place = tempdir().unwrap();
    let file = place.path().join("answers.jsonl");
    // Wrong by the task, so that who knows others can be told.
    let lines = crate::setup::own_documents().into_iter().map(|mut document| {
        document["answer"] = "So it is.\n#### 7654321".into();
        serde_json::Value::Object(document).to_string()
    });
    std::fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let words = format!(
        "gsm8k --limit 20 --sim 1p1d --baseline-sim 1m --sim-right 1 --sim-answers {}",
        file.display()
    );
    let ran = accuracy(&place.path().join("runs"), &words).await;
    let result = result(&ran);
    assert_eq!((result.arms[0].answered, result.arms[1].answered), (20, 20), "{}", ran.stderr);
    assert_eq!((result.arms[0].scores[0].right, result.arms[1].scores[0].right), (0, 0));
    assert_eq!(result.comparisons[0].texts.equal, 20);
}
