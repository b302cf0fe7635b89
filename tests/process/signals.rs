//! Signals: what they stop, what is kept, and the exit status.

use crate::common::script::{Act, ScriptServer, chunk, end, stream_head, token, usage_and_done, whole};
use crate::program::{Left, Program, run_directory, serve};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::Duration;

fn send(signal: Signal, child: &Child) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

/// Waits until the program says so on standard error, whose rest nobody reads.
async fn said(text: &'static str, mut child: Child) -> Child {
    let reading = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(text)), "it never said `{text}`");
        std::thread::spawn(move || lines.count());
        child
    });
    reading.await.unwrap()
}

/// Ten answers, then answers that never come: whoever stops the run meets requests in flight.
async fn ten_then_silence() -> ScriptServer {
    let mut scripts = vec![whole(4); 10];
    scripts.push(vec![stream_head(), chunk(&token("a")), Act::Hang]);
    ScriptServer::start(scripts).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_second_signal_cuts_what_is_in_flight_and_all_is_saved() {
    for (first, second, status) in [
        (Signal::SIGINT, Signal::SIGINT, 130),
        (Signal::SIGTERM, Signal::SIGINT, 143),
        (Signal::SIGTERM, Signal::SIGTERM, 143),
    ] {
        let server = ten_then_silence().await;
        let arguments = [&serve(&server.url, "40")[..], &["--max-concurrency", "4"]].concat();
        let (mut child, place) = Program::new(&arguments).start();
        server.turns(14).await;
        send(first, &child);
        child = said("stopping: ", child).await;
        send(second, &child);
        let left = Left::of(child, place).await;
        assert_eq!(left.status, Some(status), "{}{}", left.stdout, left.stderr);
        assert!(left.stdout.contains("INTERRUPTED at 35 %"), "{}", left.stdout);
        let records = left.records();
        assert_eq!(records.len(), 14);
        assert_eq!(records.iter().filter(|record| record.is_ok()).count(), 10);
        assert_eq!(records.iter().filter(|record| record.outcome.word() == "cancelled_at_end").count(), 4);
        assert!(left.run_file().summary.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn after_one_interrupt_answers_in_flight_come_to_their_end() {
    let slow = vec![
        stream_head(),
        chunk(&token("a").repeat(3)),
        Act::Wait(Duration::from_millis(300)),
        chunk(&(token("a") + &usage_and_done(4))),
        end(),
    ];
    let server = ScriptServer::start(vec![slow]).await;
    let arguments = [&serve(&server.url, "40")[..], &["--max-concurrency", "4"]].concat();
    let (child, place) = Program::new(&arguments).start();
    server.turns(4).await;
    send(Signal::SIGINT, &child);
    let left = Left::of(child, place).await;
    assert_eq!(left.status, Some(130), "{}{}", left.stdout, left.stderr);
    let records = left.records();
    assert!((4..=8).contains(&records.len()), "{}", records.len());
    assert!(records.iter().all(|record| record.is_ok()), "{}", left.stdout);
}

/// A socket whose other end reads nothing and which has no room left: whoever prints waits.
fn full() -> (UnixStream, OwnedFd) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    while ours.write(&[b'.'; 4096]).is_ok() {}
    ours.set_nonblocking(false).unwrap();
    (theirs, ours.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_third_signal_ends_a_program_that_cannot_finish_and_the_journal_stays() {
    let server = ten_then_silence().await;
    let arguments = [&serve(&server.url, "40")[..], &["--max-concurrency", "4"]].concat();
    let (_unread, stdout) = full();
    let mut program = Program::new(&arguments);
    let mut child = program.command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    server.turns(14).await;
    send(Signal::SIGINT, &child);
    child = said("stopping: ", child).await;
    send(Signal::SIGTERM, &child);
    // All files are there; what is left is to print, and nobody reads.
    let report =
        || run_directory(program.place.path()).is_some_and(|place| place.join("report.html").is_file());
    while !report() {
        tokio::task::yield_now().await;
    }
    assert!(child.try_wait().unwrap().is_none(), "it did not wait for its reader");
    send(Signal::SIGINT, &child);
    let left = Left::of(child, program.place).await;
    assert_eq!(left.status, Some(130));
    assert_eq!(left.records().len(), 14);
}
