//! A server that fails: a question is asked again where that may help, and no fault is ever a wrong answer.

use crate::common::Ran;
use crate::examiner::{Act, Asked, Examiner, is_right};
use crate::setup::{accuracy, faults, lines, result};
use pdbench::Exit;
use pdbench::measure::Outcome;
use std::time::Duration;
use tempfile::{TempDir, tempdir};

/// Asks this server everything.
async fn ask(examiner: &Examiner, words: &str) -> (Ran, TempDir) {
    let place = tempdir().unwrap();
    let ran =
        accuracy(place.path(), &format!("gsm8k --base-url {} --num-fewshot 1 {words}", examiner.url)).await;
    (ran, place)
}

/// Right answers of the documents that fulfil a condition.
fn right_of(wanted: impl Fn(usize) -> bool) -> usize {
    (0..126).filter(|&document| is_right(document) && wanted(document)).count()
}

/// What a server says to the first try of each tenth document, by its last digit.
fn first_try(asked: &Asked) -> Act {
    if 0 < asked.times {
        return Act::Answer;
    }
    match asked.documents[0] % 10 {
        1 => Act::Status("503 Service Unavailable", "", "busy"),
        2 => Act::Hang,
        3 => Act::Status("200 OK", "content-type: application/json\r\n", "null"),
        4 => Act::Status("200 OK", "content-type: application/json\r\n", ""),
        5 => Act::Reset,
        6 => Act::Status("429 Too Many Requests", "", "{}"),
        7 => Act::Status("408 Request Timeout", "", ""),
        _ => Act::Answer,
    }
}

#[tokio::test(start_paused = true)]
async fn faults_of_the_first_try_leave_the_scores_of_an_undisturbed_run() {
    let undisturbed = Examiner::start();
    let (calm, _place) = ask(&undisturbed, "").await;
    assert_eq!(calm.exit, Exit::Valid, "{}", calm.stderr);
    assert_eq!(undisturbed.times(), vec![1; 126]);
    let examiner = Examiner::with(first_try);
    let (ran, _place) = ask(&examiner, "--timeout-request 20").await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stderr, ran.stdout);
    let (calm_arm, arm) = (&result(&calm).arms[0], &result(&ran).arms[0]);
    assert_eq!(calm_arm.scores, arm.scores);
    assert_eq!(arm.scores[0].right, right_of(|_| true));
    assert_eq!(result(&calm).task_hash, result(&ran).task_hash);
    let disturbed = |document: usize| (1..=7).contains(&(document % 10));
    let again = (0..126).filter(|&document| disturbed(document)).count();
    assert_eq!((arm.answered, arm.errors, arm.retried), (126, 0, again));
    // Each try has a record of its own.
    let times: Vec<usize> = (0..126).map(|document| 1 + usize::from(disturbed(document))).collect();
    assert_eq!(examiner.times(), times);
    let mut records = ran.records();
    records.sort_by_key(|record| record.i);
    assert_eq!(records.len(), 126 + again);
    for (document, times) in times.into_iter().enumerate() {
        let of_it =
            records.iter().filter(|record| record.asking.as_ref().unwrap().questions == [document as u32]);
        let tries: Vec<(u32, Outcome)> = of_it.map(|record| (record.attempt, record.outcome)).collect();
        let first = match document % 10 {
            1 => Outcome::Http5xx,
            2 => Outcome::TimeoutRequest,
            3 | 4 => Outcome::ErrorIn200,
            5 => Outcome::Reset,
            6 => Outcome::Http429,
            7 => Outcome::Http4xx,
            _ => Outcome::Ok,
        };
        let wanted = if times == 1 { vec![(1, first)] } else { vec![(1, first), (2, Outcome::Ok)] };
        assert_eq!(tries, wanted, "document {document}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_refused_is_asked_once_and_is_an_error_and_no_wrong_answer() {
    let refuses = |asked: &Asked| match asked.documents[0] {
        8 | 11 => Act::Status("400 Bad Request", "", r#"{"error":{"message":"too long"}}"#),
        _ => Act::Answer,
    };
    let examiner = Examiner::with(refuses);
    let (ran, _place) = ask(&examiner, "").await;
    assert_eq!(examiner.times(), vec![1; 126]);
    assert_eq!((ran.exit, faults(&ran)), (Exit::Invalid, vec!["unanswered".to_owned()]), "{}", ran.stdout);
    let arm = &result(&ran).arms[0];
    assert_eq!((arm.answered, arm.errors, arm.retried), (124, 2, 0));
    // Document 8 would have been right, 11 wrong.
    let right = right_of(|document| document != 8);
    assert_eq!(arm.scores[0].right, right);
    assert_eq!(arm.scores[0].mean, Some(right as f64 / 124.0));
    assert_eq!(arm.scores[0].errors_as_wrong, Some(right as f64 / 126.0));
    // lm_eval's lines are those of the answered ones.
    let samples = lines(&ran.directory().join("lm_eval_samples.jsonl"));
    assert_eq!(samples.len(), 2 * 124);
    assert!(samples.iter().all(|line| line["doc_id"] != 8 && line["doc_id"] != 11));
    let documents = std::fs::read_to_string(ran.directory().join("documents.csv")).unwrap();
    assert_eq!(documents.matches("http_4xx").count(), 2, "each is there with its error");
    let (allowed, _place) = ask(&Examiner::with(refuses), "--max-error-rate 0.05").await;
    assert_eq!(allowed.exit, Exit::Valid, "{}", allowed.stdout);
    assert!(allowed.stdout.contains("2 of 126 questions"), "{}", allowed.stdout);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_address_costs_one_request() {
    for status in ["404 Not Found", "401 Unauthorized"] {
        let examiner = Examiner::with(move |_| Act::Status(status, "", r#"{"error":"not here"}"#));
        let (ran, _place) = ask(&examiner, "").await;
        assert_eq!(ran.exit, Exit::Preflight, "{}", ran.stderr);
        assert_eq!(examiner.asked().len(), 1);
        assert!(ran.stderr.contains(&status[..3]), "{}", ran.stderr);
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_question_that_is_refused_for_itself_is_an_error_of_that_question_alone() {
    let examiner = Examiner::with(|asked: &Asked| match asked.documents[0] {
        0 => Act::Status("400 Bad Request", "", r#"{"error":{"message":"too long"}}"#),
        _ => Act::Answer,
    });
    let (ran, _place) = ask(&examiner, "--max-error-rate 0.05").await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stderr, ran.stdout);
    let arm = &result(&ran).arms[0];
    assert_eq!((arm.answered, arm.errors, arm.retried), (125, 1, 0));
    assert_eq!(examiner.times(), vec![1; 126]);
}

#[tokio::test(start_paused = true)]
async fn a_baseline_that_cannot_be_asked_is_named_after_one_request() {
    let (candidate, baseline) =
        (Examiner::start(), Examiner::with(|_| Act::Status("401 Unauthorized", "", "")));
    let (ran, _place) = ask(&candidate, &format!("--baseline-url {}", baseline.url)).await;
    assert_eq!(ran.exit, Exit::Preflight, "{}", ran.stderr);
    assert_eq!((candidate.asked().len(), baseline.asked().len()), (1, 1));
    assert!(ran.stderr.contains(&format!("{}/v1/completions refused", baseline.url)), "{}", ran.stderr);
}

#[tokio::test(start_paused = true)]
async fn as_many_tries_as_can_be_typed_are_no_fault() {
    let (ran, _place) = ask(&Examiner::with(first_try), "--limit 10 --max-retries 4294967295").await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stderr, ran.stdout);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_there_is_named() {
    let place = tempdir().unwrap();
    let ran = accuracy(place.path(), "gsm8k --base-url http://127.0.0.1:9 --model m").await;
    assert_eq!(ran.exit, Exit::Preflight, "{}", ran.stderr);
    assert!(ran.stderr.contains("cannot reach http://127.0.0.1:9"), "{}", ran.stderr);
}

/// Seconds between the tries of a document.
fn gaps(examiner: &Examiner, document: usize) -> Vec<f64> {
    let asked = examiner.asked();
    let at: Vec<_> =
        asked.iter().filter(|asked| asked.documents == [document]).map(|asked| asked.at).collect();
    at.windows(2).map(|two| (two[1] - two[0]).as_secs_f64()).collect()
}

#[tokio::test(start_paused = true)]
async fn tries_are_further_and_further_apart_and_come_to_an_end() {
    let busy = |asked: &Asked| match asked.documents[0] {
        20 => Act::Status("503 Service Unavailable", "", "busy"),
        _ => Act::After(Duration::from_millis(10)),
    };
    let examiner = Examiner::with(busy);
    let (ran, _place) = ask(&examiner, "").await;
    assert_eq!(faults(&ran), ["unanswered"]);
    let gaps = gaps(&examiner, 20);
    assert_eq!(gaps.len(), 3, "three tries after the first");
    for (gap, least) in gaps.iter().zip([1.0, 2.0, 4.0]) {
        assert!((least..least + 0.5).contains(gap), "{gaps:?}");
    }
    let arm = &result(&ran).arms[0];
    assert_eq!((arm.answered, arm.errors, arm.retried), (125, 1, 1));
    // The client was watched all the time, not in the last try alone.
    let watched = ran.run_file().manifest.in_flight.unwrap();
    let (first, last) = (watched.first().unwrap().0.as_us(), watched.last().unwrap().0.as_us());
    assert!(first < 200_000.0 && 6_000_000.0 < last, "{first} {last}");
    let examiner = Examiner::with(busy);
    ask(&examiner, "--max-retries 0").await;
    assert_eq!(examiner.times(), vec![1; 126]);
    let examiner = Examiner::with(busy);
    let words = "--model_args model=examined,max_retries=1";
    ask(&examiner, words).await;
    assert_eq!(examiner.times()[20], 2);
}

#[tokio::test(start_paused = true)]
async fn the_servers_wish_to_be_left_alone_is_heeded_but_not_for_ever() {
    for (wish, least, most) in [("retry-after: 25\r\n", 25.0, 26.0), ("retry-after: 86400\r\n", 60.0, 61.0)] {
        let examiner = Examiner::with(move |asked| match (asked.documents[0], asked.times) {
            (30, 0) => Act::Status("503 Service Unavailable", wish, ""),
            _ => Act::Answer,
        });
        let (ran, _place) = ask(&examiner, "").await;
        assert_eq!(ran.exit, Exit::Valid, "{}", ran.stdout);
        let gaps = gaps(&examiner, 30);
        assert!(gaps.len() == 1 && (least..most).contains(&gaps[0]), "{gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_nothing_leaves_an_invalid_run_and_no_score() {
    let examiner = Examiner::with(|_| Act::Status("500 Internal Server Error", "", "{}"));
    let (ran, _place) = ask(&examiner, "--max-retries 1 --limit 10").await;
    assert_eq!(ran.exit, Exit::Invalid, "{}", ran.stderr);
    assert_eq!(examiner.asked().len(), 20);
    let arm = &result(&ran).arms[0];
    assert_eq!((arm.answered, arm.errors), (0, 10));
    assert_eq!((arm.scores[0].mean, arm.scores[0].stderr, arm.scores[0].interval), (None, None, None));
    assert!(faults(&ran).contains(&"unanswered".to_owned()), "{:?}", faults(&ran));
    let page = std::fs::read_to_string(ran.directory().join("report.html")).unwrap();
    assert!(!page.contains("NaN"));
}
