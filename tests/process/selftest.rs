//! `pdbench selftest`: a server in a child process, and errors within bounds that any machine keeps.

use std::process::Command;

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
