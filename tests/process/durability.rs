//! What is left when the process is killed or the disk refuses.

use crate::common::script::{Act, ScriptServer, chunk, end, stream_head, token, usage_and_done, whole};
use crate::program::{Program, run_directory, serve};
use pdbench::report::read_journal;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// An answer that takes 50 ms.
fn slow() -> Vec<Act> {
    let last = token("a") + &usage_and_done(4);
    let start = chunk(&token("a").repeat(3));
    vec![stream_head(), start, Act::Wait(Duration::from_millis(50)), chunk(&last), end()]
}

/// A journal line may wait a second in a shard and is then written at once, so a request that was over two
/// seconds before the kill is in the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn kill_9_loses_no_record_that_was_complete_two_seconds_before() {
    for killed_at in [110, 190, 260] {
        let server = ScriptServer::start(vec![slow()]).await;
        let arguments = [&serve(&server.url, "1000")[..], &["--max-concurrency", "4"]].concat();
        let (mut child, place) = Program::new(&arguments).start();
        server.turns(killed_at).await;
        let now = Instant::now();
        child.kill().unwrap();
        child.wait().unwrap();
        let directory = run_directory(place.path()).unwrap();
        let before = read_journal(&std::fs::read(directory.join("records.jsonl")).unwrap()).unwrap();
        let ids: BTreeSet<&str> = before.records.iter().map(|record| record.id.as_str()).collect();
        assert_eq!(ids.len(), before.records.len(), "a record stands there twice");
        assert!(before.torn <= 1);
        let old = server.ended().iter().filter(|at| Duration::from_secs(2) < now - **at).count();
        assert!(old <= ids.len(), "{old} were over two seconds before, {} are kept", ids.len());
        let remade = std::process::Command::new(env!("CARGO_BIN_EXE_pdbench"))
            .args(["report".as_ref(), directory.as_os_str()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&remade.stdout).into_owned();
        assert!(directory.join("report.html").is_file(), "{said}{}", String::from_utf8_lossy(&remade.stderr));
        assert!(said.contains("INTERRUPTED"), "{said}");
        let after = read_journal(&std::fs::read(directory.join("records.jsonl")).unwrap()).unwrap();
        assert_eq!(after.records, before.records);
    }
}

/// Files of at most 16 KiB, as on a disk that fills up in mid-run.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_disk_that_fills_up_costs_files_and_not_the_result() {
    let server = ScriptServer::start(vec![whole(4)]).await;
    let arguments = [&serve(&server.url, "200")[..], &["--max-concurrency", "4"]].concat();
    let left = Program::by_shell("trap '' XFSZ; ulimit -f 32", &arguments).run().await;
    assert_eq!(left.status, Some(5), "{}{}", left.stdout, left.stderr);
    assert!(left.stdout.contains("200 ok, 0 failed"), "{}", left.stdout);
    assert!(left.stderr.contains("records.jsonl"), "{}", left.stderr);
    let journal = read_journal(&std::fs::read(left.directory().join("records.jsonl")).unwrap()).unwrap();
    assert!(!journal.records.is_empty() && journal.records.len() < 200 && journal.torn <= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_place_that_cannot_be_written_is_told_before_the_load() {
    let server = ScriptServer::start(vec![whole(4)]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let arguments = [&serve(&server.url, "3")[..], &["--output-dir", file.path().to_str().unwrap()]].concat();
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_pdbench")).args(&arguments).output().unwrap();
    assert_eq!(ended.status.code(), Some(5), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(server.ended().len(), 0);
}
