//! Runs of the program, and what they leave, read back.

use crate::common::{Printed, Ran, run_in, world};
use pdbench::Exit;
use pdbench::accuracy::{Documents, read_documents};
use pdbench::command::Interrupt;
use pdbench::measure::AccuracyResult;
use pdbench::runtime::Workers;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Runs `accuracy` with these words behind it, its results under `place`.
pub async fn accuracy(place: &Path, words: &str) -> Ran {
    let arguments: Vec<_> = ["accuracy"].into_iter().chain(words.split_whitespace()).collect();
    run_in(place, &arguments, Workers::Local).await
}

/// The same, while `interrupt` may stop it.
pub async fn interruptible(place: &Path, words: &str, interrupt: &Interrupt) -> Ran {
    let place_text = place.display().to_string();
    let arguments: Vec<_> = ["accuracy"]
        .into_iter()
        .chain(words.split_whitespace())
        .chain(["--output-dir", &place_text])
        .collect();
    let (stdout, stderr) = (Printed::default(), Printed::default());
    let mut world = world(&arguments, Workers::Local, &stdout, &stderr);
    world.interrupt = interrupt.clone();
    let exit = pdbench::run(&mut world).await;
    Ran { exit, stdout: stdout.text(), stderr: stderr.text(), output_dir: place.to_owned() }
}

/// Runs the program with nothing but these arguments: exit status, output, error output.
pub async fn program(arguments: &[&str]) -> (Exit, String, String) {
    let (stdout, stderr) = (Printed::default(), Printed::default());
    let mut world = world(arguments, Workers::Local, &stdout, &stderr);
    let exit = pdbench::run(&mut world).await;
    (exit, stdout.text(), stderr.text())
}

/// The same, which has to be wrong usage; what it says.
pub async fn refused(place: &Path, words: &str) -> String {
    let ran = accuracy(place, words).await;
    assert_eq!(ran.exit, Exit::Usage, "{words}: {}{}", ran.stderr, ran.stdout);
    assert!(ran.stdout.is_empty(), "{words}: {}", ran.stdout);
    ran.stderr
}

/// What a run came to.
pub fn result(ran: &Ran) -> AccuracyResult {
    ran.run_file().accuracy.unwrap_or_else(|| panic!("no result; {}", ran.stderr))
}

/// The names of the faults that make a run invalid.
pub fn faults(ran: &Ran) -> Vec<String> {
    let validity = ran.run_file().summary.unwrap().validity;
    let name = |reason: &Value| match reason["fault"]["fault"].as_str() {
        Some(fault) => fault.to_owned(),
        None => reason["reason"].as_str().unwrap().to_owned(),
    };
    validity.reasons.iter().map(|reason| name(&serde_json::to_value(reason).unwrap())).collect()
}

/// What a file of lines of JSON holds.
pub fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a file of JSON holds.
pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A file of this tree.
pub fn in_tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The project's own documents that are asked.
pub fn own_documents() -> Documents {
    let text = std::fs::read_to_string(in_tree("datasets/word-problems/test.jsonl")).unwrap();
    read_documents(&text).unwrap()
}

/// Where gsm8k is. Says so on the terminal where it is not: what rests on it is then not shown.
pub fn gsm8k(test: &str) -> Option<String> {
    let place = match std::env::var_os("PDBENCH_GSM8K") {
        Some(named) => PathBuf::from(named),
        None => in_tree("../shared/data/gsm8k"),
    };
    if place.join("test.jsonl").is_file() && place.join("train.jsonl").is_file() {
        return Some(place.display().to_string());
    }
    // Past the harness, which keeps what a passing test prints to itself.
    let words = format!(
        "\nSKIPPED: {test}: there is no gsm8k in {}; name its directory with PDBENCH_GSM8K\n",
        place.display()
    );
    std::io::Write::write_all(&mut std::io::stderr(), words.as_bytes()).unwrap();
    None
}

/// A text as if no line of it had been broken.
pub fn unbroken(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
