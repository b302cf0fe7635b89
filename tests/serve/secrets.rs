//! Secrets come from the environment or a file, and stand nowhere afterwards.

use crate::common::script::{Act, ScriptServer};
use crate::common::{Printed, files_of, world};
use pdbench::Exit;
use pdbench::runtime::Workers;
use tempfile::tempdir;

const CANARY: &str = "canary-4f1d8e2b7a";

/// A server that says the whole request back, in an error.
fn echo() -> Vec<Act> {
    let body = format!("{{\"error\":{{\"message\":\"no {CANARY} and no header-{CANARY}\"}}}}");
    let head = format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n", body.len());
    vec![Act::Write((head + &body).into_bytes())]
}

async fn run(arguments: &[&str]) -> (Exit, String, Vec<(String, Vec<u8>)>) {
    let server = ScriptServer::start(vec![echo()]).await;
    let place = tempdir().unwrap();
    let (stdout, stderr) = (Printed::default(), Printed::default());
    let output = place.path().display().to_string();
    let base =
        ["serve", "--base-url", &server.url, "--dataset-name", "sonnet", "--model", "m", "--probe", "none"];
    let rest = ["--num-prompts", "3", "--save-text", "all", "--save-result", "--output-dir", &output];
    let results = ["--result-dir", &output];
    let mut world =
        world(&[&base[..], &rest, &results, arguments].concat(), Workers::Local, &stdout, &stderr);
    world.environment = Box::new(|name| (name == "MY_TOKEN").then(|| format!("header-{CANARY}")));
    let exit = pdbench::run(&mut world).await;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap()) {
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(files_of(&entry.path())),
            false => files.push((
                entry.file_name().to_string_lossy().into_owned(),
                std::fs::read(entry.path()).unwrap(),
            )),
        }
    }
    (exit, stdout.text() + &stderr.text(), files)
}

#[tokio::test(start_paused = true)]
async fn a_key_from_a_file_and_a_header_from_the_environment_are_in_no_output() {
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), format!("{CANARY}\n")).unwrap();
    let file = key.path().display().to_string();
    let (exit, said, files) = run(&["--api-key-file", &file, "--header-from-env", "x-token=MY_TOKEN"]).await;
    assert_eq!(exit, Exit::Invalid, "{said}");
    assert!(!said.contains(CANARY), "{said}");
    assert!(5 < files.len(), "{}", files.len());
    for (name, bytes) in files {
        assert!(!String::from_utf8_lossy(&bytes).contains(CANARY), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_told_by_its_name() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let file = empty.path().display().to_string();
    for (arguments, says) in [
        (&["--header-from-env", "x-token=NO_SUCH"][..], "no environment variable `NO_SUCH`"),
        (&["--header-from-env", "x-token"], "without `=`"),
        (&["--api-key-file", &file], "holds no key"),
        (&["--api-key-file", "/no/such/file"], "cannot read the key"),
    ] {
        let (exit, said, _) = run(arguments).await;
        assert_eq!(exit, Exit::Usage, "{said}");
        assert!(said.contains(says), "{said}");
    }
}
