//! Standard output and standard error that break or refuse.

use crate::common::script::{ScriptServer, whole};
use crate::program::{Left, Program, serve};
use std::fs::OpenOptions;
use std::process::Stdio;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reader_that_goes_away_costs_nothing() {
    let server = ScriptServer::start(vec![whole(4)]).await;
    let (mut child, place) = Program::new(&serve(&server.url, "20")).start();
    drop(child.stdout.take());
    let left = Left::of(child, place).await;
    assert_eq!(left.status, Some(0), "{}", left.stderr);
    assert!(!left.stderr.contains("panicked"), "{}", left.stderr);
    assert_eq!(left.records().len(), 20);
    assert!(left.run_file().summary.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_output_without_room_is_a_result_not_written() {
    let server = ScriptServer::start(vec![whole(4)]).await;
    let mut program = Program::new(&serve(&server.url, "20"));
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let child = program.command.stdout(Stdio::from(full)).stderr(Stdio::piped()).spawn().unwrap();
    let left = Left::of(child, program.place).await;
    assert_eq!(left.status, Some(5), "{}", left.stderr);
    assert_eq!(left.records().len(), 20);
    assert!(left.directory().join("report.html").is_file());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn lines_fit_80_columns_and_carry_no_colour_into_a_pipe() {
    let server = ScriptServer::start(vec![whole(4)]).await;
    let left = Program::new(&serve(&server.url, "20")).run().await;
    assert!(!left.stdout.contains('\u{1b}') && !left.stderr.contains('\u{1b}'));
    let long: Vec<&str> = left.stdout.lines().filter(|line| 80 < line.chars().count()).collect();
    assert_eq!(long, Vec::<&str>::new());
}
