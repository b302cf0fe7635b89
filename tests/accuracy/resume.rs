//! Going on with a run that was stopped: nothing is asked twice, and nothing is mixed with another deployment's.

use crate::common::{Ran, files_of};
use crate::examiner::{Act, Examiner};
use crate::setup::{accuracy, faults, interruptible, lines, program, refused, result};
use pdbench::Exit;
use pdbench::command::{Interrupt, InterruptedBy};
use pdbench::measure::State;
use pdbench::runtime::Stop;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tempfile::tempdir;

const ASKED: &str = "--num-fewshot 2 --num-concurrent 4";

/// Questions after which somebody stops the run.
const ENOUGH: usize = 60;

/// A server at which a run is stopped half way.
fn stopping(interrupt: &Interrupt, stop: Stop) -> Examiner {
    let interrupt = interrupt.clone();
    Examiner::with(move |asked| {
        if asked.before + 1 == ENOUGH {
            interrupt.handle(InterruptedBy::Interrupt).ask(stop);
        }
        Act::After(Duration::from_millis(50))
    })
}

fn samples(ran: &Ran) -> Vec<u8> {
    fs::read(ran.directory().join("lm_eval_samples.jsonl")).unwrap()
}

/// What nobody disturbed comes to.
async fn undisturbed(examiner: &Examiner) -> Ran {
    let place = tempdir().unwrap();
    let ran = accuracy(place.path(), &format!("gsm8k --base-url {} {ASKED}", examiner.url)).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    // The directory outlives the test's look at it.
    let _ = place.keep();
    ran
}

#[tokio::test(start_paused = true)]
async fn a_run_that_a_signal_stopped_goes_on_where_it_was() {
    for (stop, twice) in [(Stop::Drain, 0), (Stop::Now, 4)] {
        let (place, interrupt) = (tempdir().unwrap(), Interrupt::default());
        let examiner = stopping(&interrupt, stop);
        let words = format!("gsm8k --base-url {} {ASKED}", examiner.url);
        let half = interruptible(place.path(), &words, &interrupt).await;
        assert_eq!(half.exit, Exit::Interrupted, "{}", half.stderr);
        assert_eq!(half.run_file().manifest.state, State::Interrupted);
        let answered = result(&half).arms[0].answered;
        let asked = examiner.asked().len();
        assert!((ENOUGH - 4..ENOUGH + 4).contains(&answered) && asked < ENOUGH + 4, "{answered} of {asked}");

        let resume = half.directory();
        let (before, shown) = (files_of(&resume), format!("{}", resume.display()));
        let (exit, ..) = program(&["report", &shown]).await;
        assert_eq!(exit, Exit::Invalid, "half of the questions have no answer");
        assert!(before == files_of(&resume), "report made other files of half a run");
        let whole = accuracy(place.path(), &format!("{words} --resume {}", resume.display())).await;
        assert_eq!(whole.exit, Exit::Valid, "{}{}", whole.stderr, whole.stdout);
        assert_eq!(whole.directory(), resume, "the same directory goes on");
        let times = examiner.times();
        assert!(times.iter().all(|&times| 0 < times));
        let asked_twice = times.iter().filter(|&&times| times == 2).count();
        assert!(asked_twice <= twice && times.iter().all(|&times| times <= 2), "{asked_twice} twice");
        assert_eq!(asked_twice, asked - answered);

        let calm = undisturbed(&examiner).await;
        assert_eq!(result(&whole).arms[0].scores, result(&calm).arms[0].scores);
        assert_eq!(result(&whole).task_hash, result(&calm).task_hash);
        assert!(samples(&whole) == samples(&calm));
        let file = whole.run_file();
        assert_eq!((file.manifest.state, file.manifest.interrupted_by), (State::Complete, None));
        assert_eq!(file.manifest.run_id, half.run_file().manifest.run_id);
        // Numbers and times go on: no record lies before one of the first part.
        let records = whole.records();
        let mut numbers: Vec<u32> = records.iter().map(|record| record.i).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), records.len());
        let first_part = half.records().len();
        let last = records[..first_part].iter().map(|record| record.finished).max().unwrap();
        let duration = |ran: &Ran| ran.run_file().summary.unwrap().strict.duration_s;
        let (parts, one_go) = (duration(&whole).unwrap(), duration(&calm).unwrap());
        assert!((parts - one_go).abs() < 0.2, "{parts} s in two parts, {one_go} s in one go");
        assert!(records[first_part..].iter().all(|record| last <= record.scheduled), "time goes on");
        fs::remove_dir_all(calm.output_dir).unwrap();
    }
}

/// A directory as kill -9 leaves it: `run.json` as it was while it ran, and a journal cut in the middle of a line.
async fn killed(place: &Path, examiner_url: &str, half_way: &Arc<OnceLock<Vec<u8>>>) -> PathBuf {
    let ran = accuracy(place, &format!("gsm8k --base-url {examiner_url} {ASKED}")).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    let directory = ran.directory();
    for (name, _) in files_of(&directory) {
        if !["questions.jsonl", "records.jsonl"].contains(&name.as_str()) {
            fs::remove_file(directory.join(name)).unwrap();
        }
    }
    fs::write(directory.join("run.json"), half_way.get().unwrap()).unwrap();
    let journal = fs::read(directory.join("records.jsonl")).unwrap();
    let ends: Vec<usize> =
        journal.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
    fs::write(directory.join("records.jsonl"), &journal[..ends[ENOUGH] + 40]).unwrap();
    directory
}

/// A server that keeps `run.json` as it is half way.
fn keeping(place: &Path, kept: &Arc<OnceLock<Vec<u8>>>) -> Examiner {
    let (place, kept) = (place.to_owned(), Arc::clone(kept));
    Examiner::with(move |asked| {
        if asked.before == ENOUGH {
            let directory = fs::read_dir(&place).unwrap().next().unwrap().unwrap().path();
            kept.set(fs::read(directory.join("run.json")).unwrap()).unwrap();
        }
        Act::Answer
    })
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_killed_in_the_middle_of_a_line_goes_on_where_it_was() {
    let (place, kept) = (tempdir().unwrap(), Arc::default());
    let examiner = keeping(place.path(), &kept);
    let directory = killed(place.path(), &examiner.url, &kept).await;
    assert!(String::from_utf8_lossy(kept.get().unwrap()).contains(r#""state": "running""#));
    let before = examiner.asked().len();
    assert_eq!(before, 126);
    let (exit, stdout, stderr) = program(&["report", &directory.display().to_string()]).await;
    assert_eq!(exit, Exit::Invalid, "{stderr}");
    assert!(stderr.contains("the last line of the journal is torn"), "{stderr}");
    assert!(stdout.contains(&format!("{} of 126 answered", ENOUGH + 1)), "{stdout}");
    let words = format!("gsm8k --base-url {} {ASKED} --resume {}", examiner.url, directory.display());
    let whole = accuracy(place.path(), &words).await;
    assert_eq!(whole.exit, Exit::Valid, "{}{}", whole.stderr, whole.stdout);
    // So many whole lines were there.
    let again: Vec<_> = examiner.asked().split_off(before);
    assert_eq!(again.len(), 126 - (ENOUGH + 1));
    let kept: Vec<u64> = lines(&directory.join("records.jsonl"))[..=ENOUGH]
        .iter()
        .map(|record| record["asking"]["questions"][0].as_u64().unwrap())
        .collect();
    assert!(again.iter().all(|asked| !kept.contains(&(asked.documents[0] as u64))), "asked twice");
    let calm = undisturbed(&examiner).await;
    assert_eq!(result(&whole).arms[0].scores, result(&calm).arms[0].scores);
    assert!(samples(&whole) == samples(&calm));
    assert_eq!(whole.records().len(), 126);
    fs::remove_dir_all(calm.output_dir).unwrap();
}

#[tokio::test(start_paused = true)]
async fn questions_that_found_no_answer_are_asked_again_on_resume() {
    let place = tempdir().unwrap();
    let healed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let heals = Arc::clone(&healed);
    let examiner = Examiner::with(move |asked| match asked.documents[0] {
        40..50 if !heals.load(std::sync::atomic::Ordering::Relaxed) => {
            Act::Status("503 Service Unavailable", "", "")
        }
        _ => Act::Answer,
    });
    let words = format!("gsm8k --base-url {} {ASKED} --max-retries 1", examiner.url);
    let ran = accuracy(place.path(), &words).await;
    assert_eq!((ran.exit, faults(&ran)), (Exit::Invalid, vec!["unanswered".to_owned()]));
    healed.store(true, std::sync::atomic::Ordering::Relaxed);
    let resumed = accuracy(place.path(), &format!("{words} --resume {}", ran.directory().display())).await;
    assert_eq!(resumed.exit, Exit::Valid, "{}{}", resumed.stderr, resumed.stdout);
    let arm = &result(&resumed).arms[0];
    assert_eq!((arm.answered, arm.errors, arm.retried), (126, 0, 10));
    let times = examiner.times();
    assert!((0..126).all(|document| times[document] == if (40..50).contains(&document) { 3 } else { 1 }));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_was_refused_before_does_not_keep_the_others_from_being_asked() {
    let place = tempdir().unwrap();
    let healed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let heals = Arc::clone(&healed);
    let examiner = Examiner::with(move |asked| match asked.documents[0] {
        5 => Act::Status("404 Not Found", "", "{}"),
        40..50 if !heals.load(std::sync::atomic::Ordering::Relaxed) => {
            Act::Status("503 Service Unavailable", "", "")
        }
        _ => Act::Answer,
    });
    let words = format!("gsm8k --base-url {} {ASKED} --max-retries 0 --max-error-rate 0.01", examiner.url);
    let ran = accuracy(place.path(), &words).await;
    assert_eq!((ran.exit, result(&ran).arms[0].errors), (Exit::Invalid, 11));
    healed.store(true, std::sync::atomic::Ordering::Relaxed);
    let resumed = accuracy(place.path(), &format!("{words} --resume {}", ran.directory().display())).await;
    assert_eq!(resumed.exit, Exit::Valid, "{}{}", resumed.stderr, resumed.stdout);
    assert_eq!((result(&resumed).arms[0].answered, examiner.times()[5]), (125, 2));
}

#[tokio::test(start_paused = true)]
async fn a_run_is_not_gone_on_with_by_other_flags() {
    let (place, interrupt) = (tempdir().unwrap(), Interrupt::default());
    let examiner = stopping(&interrupt, Stop::Drain);
    let words = format!("gsm8k --base-url {} {ASKED}", examiner.url);
    let half = interruptible(place.path(), &words, &interrupt).await;
    let directory = half.directory();
    let before = files_of(&directory);
    let other = Examiner::start();
    let (this, elsewhere) = (format!("--base-url {}", examiner.url), format!("--base-url {}", other.url));
    let asked = examiner.asked().len();
    for (words, differs) in [
        (format!("gsm8k {elsewhere} {ASKED}"), "who is asked: URL, model or way"),
        (format!("gsm8k {this} {ASKED} --model another"), "who is asked: URL, model or way"),
        (format!("gsm8k {this} {ASKED} --stream"), "who is asked: URL, model or way"),
        (format!("gsm8k {this} {ASKED} --baseline-url {}", other.url), "who is asked: URL, model or way"),
        (format!("gsm8k {this} --num-fewshot 3 --num-concurrent 4"), "the task, its shots or its generation"),
        (format!("gsm8k {this} {ASKED} --max-tokens 99"), "the task, its shots or its generation"),
        (format!("gsm8k_platinum {this} {ASKED}"), "documents of"),
        (format!("gsm8k_cot_zeroshot {this}"), "the task, its shots or its generation"),
        (format!("gsm8k {this} {ASKED} --fewshot-seed 7"), "the questions"),
        (format!("gsm8k {this} {ASKED} --limit 50"), "the questions"),
        (format!("gsm8k {this} {ASKED} --api chat"), "the form of the prompts"),
        (format!("gsm8k {this} {ASKED} --batch-size 2"), "the batch size"),
        (format!("gsm8k {this} {ASKED} --logprobs"), "what differs: log probabilities"),
        (format!("gsm8k {this} {ASKED} --endpoint /v2/completions"), "what differs: path"),
        (format!("gsm8k {this} {ASKED} --model_args max_gen_toks=99"), "what differs: longest answer"),
    ] {
        let said = refused(place.path(), &format!("{words} --resume {}", directory.display())).await;
        assert!(said.contains(differs), "{words}: {said}");
        assert!(before == files_of(&directory), "{words}: the run was changed");
    }
    assert_eq!((examiner.asked().len(), other.asked().len()), (asked, 0), "nobody was asked");
}

#[tokio::test(start_paused = true)]
async fn a_simulated_run_is_not_gone_on_with_by_another_cluster() {
    let place = tempdir().unwrap();
    let words = "gsm8k --limit 3 --sim 1p1d --baseline-sim 1m";
    let ran = accuracy(place.path(), words).await;
    let resume = format!("--resume {}", ran.directory().display());
    for other in ["--sim-right 0.5", "--sim-fault corrupt-kv=0.1@decode"] {
        let said = refused(place.path(), &format!("{words} {other} {resume}")).await;
        assert!(said.contains("what differs: simulated clusters"), "{other}: {said}");
    }
    let said = refused(place.path(), &format!("{words} {resume}")).await;
    assert!(said.contains("has its answer already"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_complete_is_left_as_it_is() {
    let place = tempdir().unwrap();
    let examiner = Examiner::start();
    let words = format!("gsm8k --base-url {} {ASKED}", examiner.url);
    let ran = accuracy(place.path(), &words).await;
    let before = files_of(&ran.directory());
    let said = refused(place.path(), &format!("{words} --resume {}", ran.directory().display())).await;
    assert!(said.contains("every question of this run has its answer already"), "{said}");
    assert!(said.contains("pdbench report"), "{said}");
    assert!(before == files_of(&ran.directory()), "the run was changed");
    assert_eq!(examiner.times(), vec![1; 126]);
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_is_no_accuracy_run_is_not_gone_on_with() {
    let place = tempdir().unwrap();
    let words: Vec<&str> = "serve --num-prompts 2 --rate inf".split(' ').collect();
    let served = crate::common::run_in(place.path(), &words, pdbench::runtime::Workers::Local).await;
    let directory = served.directory();
    for flag in ["--resume", "--baseline-run"] {
        let said = refused(place.path(), &format!("gsm8k --sim {flag} {}", directory.display())).await;
        assert!(said.contains("name the directory of an accuracy run"), "{said}");
    }
}
