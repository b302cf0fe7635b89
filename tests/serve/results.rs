//! What a run leaves behind, in virtual time.

use crate::common::{Ran, files_of, run_in};
use pdbench::Exit;
use pdbench::measure::{Kind, Outcome, State};
use pdbench::runtime::{Stop, Workers};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::tempdir;

async fn serve(directory: &Path, arguments: &[&str]) -> Ran {
    run_in(directory, &[&["serve"], arguments].concat(), Workers::Local).await
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_leave_the_same_bytes_on_every_run() {
    let arguments = ["--num-prompts", "1000", "--rate", "50", "--max-concurrency", "64", "--seed", "7"];
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let one = serve(first.path(), &arguments).await;
    let other = serve(second.path(), &arguments).await;
    assert_eq!((one.exit, other.exit), (Exit::Valid, Exit::Valid), "{}", one.stderr);
    assert_eq!(one.main_records().len(), 1000);
    // The one difference is where the results went, which the command line tells.
    let without_place = |ran: &Ran, bytes: Vec<u8>| {
        let place = ran.output_dir.display().to_string();
        String::from_utf8(bytes).unwrap().replace(&place, "PLACE")
    };
    let (one_files, other_files) = (files_of(&one.directory()), files_of(&other.directory()));
    let names: Vec<&str> = one_files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "anatomy.csv",
            "nodes.csv",
            "observations.jsonl",
            "records.jsonl",
            "report.html",
            "requests.csv",
            "run.json",
            "summary.csv",
            "timeline.csv"
        ]
    );
    for ((name, one_bytes), (_, other_bytes)) in one_files.into_iter().zip(other_files) {
        let same = without_place(&one, one_bytes) == without_place(&other, other_bytes);
        assert!(same, "{name} differs");
    }
    assert_eq!(
        one.stdout.replace(&one.output_dir.display().to_string(), ""),
        other.stdout.replace(&other.output_dir.display().to_string(), "")
    );
}

#[tokio::test(start_paused = true)]
async fn report_makes_every_derived_file_again() {
    let place = tempdir().unwrap();
    let ran = serve(place.path(), &["--num-prompts", "20", "--goodput", "ttft:100"]).await;
    let before = files_of(&ran.directory());
    for name in ["anatomy.csv", "nodes.csv", "report.html", "requests.csv", "summary.csv", "timeline.csv"] {
        std::fs::remove_file(ran.directory().join(name)).unwrap();
    }
    let (stdout, stderr) = Default::default();
    let directory = ran.directory().display().to_string();
    let mut world = crate::common::world(&["report", &directory], Workers::Local, &stdout, &stderr);
    assert_eq!(pdbench::run(&mut world).await, Exit::Valid);
    assert!(before == files_of(&ran.directory()), "report made other files than serve");
    assert_eq!(stdout.text(), ran.stdout);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_died_is_recovered_from_its_journal() {
    let place = tempdir().unwrap();
    let ran = serve(place.path(), &["--num-prompts", "20"]).await;
    let mut file = ran.run_file();
    (file.manifest.state, file.summary, file.manifest.main_end) = (State::Running, None, None);
    let bytes = pdbench::report::run_file_bytes(&file).unwrap();
    std::fs::write(ran.directory().join("run.json"), bytes).unwrap();
    let journal = std::fs::read(ran.directory().join("records.jsonl")).unwrap();
    std::fs::write(ran.directory().join("records.jsonl"), &journal[..journal.len() - 10]).unwrap();
    let (stdout, stderr) = Default::default();
    let directory = ran.directory().display().to_string();
    let mut world =
        crate::common::world(&["report", "--recover", &directory], Workers::Local, &stdout, &stderr);
    pdbench::run(&mut world).await;
    assert!(stderr.text().contains("torn"), "{}", stderr.text());
    let recovered = ran.run_file();
    assert_eq!(recovered.manifest.state, State::Interrupted);
    assert_eq!(recovered.summary.unwrap().counts.ok, 19);
}

#[tokio::test(start_paused = true)]
async fn probe_and_warmups_are_recorded_apart_from_the_load() {
    let place = tempdir().unwrap();
    let ran =
        serve(place.path(), &["--num-prompts", "5", "--num-warmups", "3", "--max-concurrency", "2"]).await;
    let kinds: Vec<Kind> = ran.records().iter().map(|record| record.kind).collect();
    let expected = [vec![Kind::Probe], vec![Kind::Warmup; 3], vec![Kind::Main; 5]].concat();
    assert_eq!(kinds, expected);
    assert!(ran.records().iter().enumerate().all(|(at, record)| record.i as usize == at));
    assert_eq!(ran.run_file().summary.unwrap().counts.ok, 5);
    let main_start = ran.run_file().manifest.main_start;
    assert!(ran.main_records().iter().all(|record| main_start <= record.scheduled));
    let none = tempdir().unwrap();
    let unprobed = serve(none.path(), &["--num-prompts", "5", "--probe", "none"]).await;
    assert_eq!(unprobed.records().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_chat_run_has_a_role_chunk_before_its_first_token() {
    let place = tempdir().unwrap();
    let ran =
        serve(place.path(), &["--backend", "openai-chat", "--num-prompts", "4", "--save-text", "all"]).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    for record in ran.main_records() {
        assert!(record.role.unwrap() <= record.events.first().unwrap());
        assert_eq!(record.text.unwrap().len(), 4 * record.output_tokens as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn custom_prompts_keep_their_own_lengths() {
    let place = tempdir().unwrap();
    let file = place.path().join("mine.jsonl");
    let lines = "{\"prompt\": \"one\", \"output_tokens\": 3}\n\
                 {\"messages\": [{\"role\": \"user\", \"content\": \"two\"}], \"output_tokens\": 5}\n";
    std::fs::write(&file, lines).unwrap();
    let path = file.display().to_string();
    let out = place.path().join("out");
    let arguments =
        ["--dataset-name", "custom", "--dataset-path", &path, "--num-prompts", "2", "--disable-shuffle"];
    let ran = serve(&out, &arguments).await;
    let lengths: Vec<u32> = ran.main_records().iter().map(|record| record.output_tokens).collect();
    assert_eq!(lengths, [3, 5], "{}", ran.stderr);
}

#[tokio::test(start_paused = true)]
async fn max_duration_ends_the_run_and_tells_what_was_not_sent() {
    let place = tempdir().unwrap();
    let ran = serve(place.path(), &["--num-prompts", "100", "--rate", "10", "--max-duration", "3"]).await;
    let summary = ran.run_file().summary.unwrap();
    assert_eq!(summary.counts.sent + summary.counts.not_sent, 100);
    assert!((20..45).contains(&summary.counts.sent), "{:?}", summary.counts);
    assert_eq!((summary.counts.failed, ran.run_file().manifest.state), (0, State::Complete));
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_saves_what_there_is() {
    let place = tempdir().unwrap();
    let (stdout, stderr) = Default::default();
    let out = place.path().display().to_string();
    let arguments = ["serve", "--num-prompts", "100", "--rate", "10", "--output-dir", &out];
    let mut world = crate::common::world(&arguments, Workers::Local, &stdout, &stderr);
    let interrupt = world.interrupt.clone();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        let handle = interrupt.handle(pdbench::command::InterruptedBy::Interrupt);
        handle.ask(Stop::Drain);
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        handle.ask(Stop::Now);
    });
    let exit = pdbench::run(&mut world).await;
    assert_eq!(exit, Exit::Interrupted);
    let ran = Ran { exit, stdout: stdout.text(), stderr: stderr.text(), output_dir: place.path().to_owned() };
    let counts = ran.run_file().summary.unwrap().counts;
    assert!(0 < counts.ok && 0 < counts.cancelled && 0 < counts.not_sent, "{counts:?}");
    assert_eq!(counts.ok + counts.cancelled, ran.main_records().len());
    let cancelled = |record: &&pdbench::measure::RequestRecord| record.outcome == Outcome::CancelledAtEnd;
    assert!(ran.main_records().iter().filter(cancelled).any(|record| !record.events.is_empty()));
    assert!(ran.stdout.contains("INTERRUPTED at"), "{}", ran.stdout);
}

#[tokio::test(start_paused = true)]
async fn directory_and_files_are_private() {
    let place = tempdir().unwrap();
    let ran = serve(place.path(), &["--num-prompts", "2"]).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&ran.directory()), 0o700);
    for (name, _) in files_of(&ran.directory()) {
        assert_eq!(mode(&ran.directory().join(&name)), 0o600, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn everything_says_that_it_was_simulated() {
    let place = tempdir().unwrap();
    let ran = serve(place.path(), &["--num-prompts", "3"]).await;
    assert!(ran.stderr.contains("SIMULATED") && ran.stdout.contains("simulated"), "{}", ran.stderr);
    assert!(ran.stdout.lines().next().unwrap().starts_with("VALID"), "{}", ran.stdout);
    assert!(ran.run_file().manifest.target.simulated);
    for (name, bytes) in files_of(&ran.directory()) {
        let text = String::from_utf8(bytes).unwrap().to_lowercase();
        let speaks = ["report.html", "run.json", "summary.csv"].contains(&name.as_str());
        assert!(!speaks || text.contains("simulat"), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn prompts_are_counted_with_the_tokenizer_that_is_named() {
    let place = tempdir().unwrap();
    let tokenizer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny-tokenizer");
    let arguments = ["serve", "--sim", "--tokenizer", tokenizer, "--num-prompts", "3"];
    let random = ["--dataset-name", "random", "--random-input-len", "64", "--random-token-ids"];
    let ran = run_in(place.path(), &[&arguments[..], &random[..]].concat(), Workers::Local).await;
    let manifest = ran.run_file().manifest;
    assert_eq!(manifest.dataset.token_counter, tokenizer, "{}", ran.stderr);
    assert!(manifest.dataset.tokenizer_load_ms.is_some_and(|ms| 0.0 < ms));
    assert_eq!((manifest.settings.input_len, manifest.dataset.path.as_str()), (Some(64), "generated"));
}

#[tokio::test(start_paused = true)]
async fn random_prompts_without_a_tokenizer_say_that_they_are_not_vllms() {
    let place = tempdir().unwrap();
    let arguments = ["serve", "--dataset-name", "random", "--random-input-len", "64", "--num-prompts", "3"];
    let ran = run_in(place.path(), &arguments, Workers::Local).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    assert!(ran.stderr.contains("not those of vLLM"), "{}", ran.stderr);
    assert!(ran.run_file().manifest.dataset.remark.is_some());
    assert!(ran.main_records().iter().all(|record| record.prompt_tokens == 64));
}
