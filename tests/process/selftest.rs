//! `pdbench selftest`: a server in a child process, and errors within bounds that any machine keeps.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn selftest(arguments: &[&str]) -> (Option<i32>, String) {
    let ended = Command::new(env!("CARGO_BIN_EXE_pdbench")).arg("selftest").args(arguments).output().unwrap();
    (ended.status.code(), String::from_utf8(ended.stdout).unwrap() + &String::from_utf8_lossy(&ended.stderr))
}

#[test]
fn a_light_load_is_measured_within_wide_bounds() {
    let bounds = ["--ttft-bound-ms", "1000", "--itl-bound-ms", "1000", "--send-bound-ms", "1000"];
    let (status, said) = selftest(&[&["--streams", "5,10", "--seconds", "0.2"][..], &bounds].concat());
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("measures 10 streams") && said.contains("the end of the ladder"), "{said}");
}

#[test]
fn a_bound_that_nothing_keeps_is_out_of_reach_from_the_first_rung_on() {
    let (status, said) = selftest(&["--streams", "5,10", "--seconds", "0.2", "--ttft-bound-ms", "0.001"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("Not even 5 streams") && said.contains("TTFT"), "{said}");
}

#[test]
fn the_signal_that_ends_it_is_its_exit_status() {
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pdbench"));
        command.args(["selftest", "--streams", "2,3", "--seconds", "0.2", "--ttft-bound-ms", "1000"]);
        command.args(["--itl-bound-ms", "1000", "--send-bound-ms", "1000"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The first rung is done: the second is under way.
        assert!(lines.by_ref().any(|line| line.unwrap().trim_start().starts_with("2 ")));
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        assert_eq!(child.wait().unwrap().code(), Some(status), "{rest:?}");
        assert!(!rest.iter().any(|line| line.contains("This machine")), "{rest:?}");
    }
}
