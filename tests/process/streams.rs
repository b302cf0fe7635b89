//! Standard output and standard error that break or refuse.

use crate::common::script::{ScriptServer, whole};
use crate::program::{Left, Program, serve};
use std::fs::OpenOptions;
use std::io::Read;
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

/// What the program writes to a terminal as its standard output.
async fn shown(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut program = Program::new(arguments);
    program.command.envs(environment.iter().copied());
    let nix::pty::OpenptyResult { master, slave } = nix::pty::openpty(None, None).unwrap();
    let child = program.command.stdout(Stdio::from(slave)).stderr(Stdio::piped()).spawn().unwrap();
    // The command holds an end of the terminal of its own.
    drop(program.command);
    let reading = tokio::task::spawn_blocking(move || {
        let (mut master, mut bytes, mut buffer) = (std::fs::File::from(master), Vec::new(), [0; 4096]);
        // The last reader of a terminal gets an error where a pipe has its end.
        while let Ok(count @ 1..) = master.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8(bytes).unwrap()
    });
    let left = Left::of(child, program.place).await;
    (left.status, reading.await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_terminal_gets_colours_unless_the_environment_says_no() {
    let server = ScriptServer::start(vec![whole(4)]).await;
    let arguments = serve(&server.url, "20");
    let (status, coloured) = shown(&arguments, &[("NO_COLOR", "")]).await;
    assert!(status == Some(0) && coloured.contains("\u{1b}["), "{coloured}");
    let (status, plain) = shown(&arguments, &[("NO_COLOR", "1")]).await;
    assert!(status == Some(0) && plain.contains("VALID") && !plain.contains('\u{1b}'), "{plain}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_a_terminal_there_is_no_bar_and_no_carriage_return() {
    let server = ScriptServer::start(vec![whole(4)]).await;
    let left = Program::new(&serve(&server.url, "20")).run().await;
    assert_eq!(left.status, Some(0));
    assert!(!left.stderr.contains('\r') && !left.stdout.contains('\r'), "{}", left.stderr);
    assert!(left.stderr.contains("results go to "), "{}", left.stderr);
}
