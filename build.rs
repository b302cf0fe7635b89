//! Gives the program its version line: name, version and, in a git checkout, the commit.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Grows with each commit and each checkout; a file that is not there would run this at every build.
    if Path::new(".git/logs/HEAD").exists() {
        println!("cargo::rerun-if-changed=.git/logs/HEAD");
    }
    let commit = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok());
    let version = env!("CARGO_PKG_VERSION");
    match commit {
        Some(commit) => println!("cargo::rustc-env=PDBENCH_VERSION=pdbench {version} ({})", commit.trim()),
        None => println!("cargo::rustc-env=PDBENCH_VERSION=pdbench {version}"),
    }
}
