//! What several test programs need: a world without surprises, and run directories read back.

#![allow(dead_code, reason = "no test program uses all of it")]

pub mod script;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pdbench::Exit;
use pdbench::command::{Interrupt, Surroundings};
use pdbench::measure::{Host, RequestRecord, RunFile};
use pdbench::report::{read_journal, read_run_file};
use pdbench::runtime::Workers;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Takes what is printed.
#[derive(Clone, Debug, Default)]
pub struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Printed {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// What a run of the program left behind.
pub struct Ran {
    pub exit: Exit,
    pub stdout: String,
    pub stderr: String,
    pub output_dir: PathBuf,
}

/// A world in which nothing differs from run to run.
pub fn world(arguments: &[&str], workers: Workers, stdout: &Printed, stderr: &Printed) -> Surroundings {
    Surroundings {
        arguments: ["pdbench"].iter().chain(arguments).map(|&word| word.to_owned()).collect(),
        environment: Box::new(|_| None),
        resolver: Box::new(|host, port| {
            let place = (host.to_owned(), port);
            Box::pin(async move { Ok(tokio::net::lookup_host(place).await?.collect()) })
        }),
        executable: PathBuf::from("pdbench"),
        wall_clock: Box::new(|| Timestamp::new(1_767_323_045, 6_000).unwrap().to_zoned(TimeZone::UTC)),
        host: Host { kernel: "test".to_owned(), cores: 2, memory_bytes: None },
        version: "pdbench test".to_owned(),
        run_id_suffix: "0000".to_owned(),
        workers,
        interrupt: Interrupt::default(),
        stdout: Box::new(stdout.clone()),
        stderr: Box::new(stderr.clone()),
        colour: false,
        progress_bar: false,
    }
}

/// Runs a command line on the runtime that is there, its results under `output_dir`.
pub async fn run_in(output_dir: &Path, arguments: &[&str], workers: Workers) -> Ran {
    run_world(output_dir, arguments, workers, |_| {}).await
}

/// Runs a command line in a world that was made for it, its results under `output_dir`.
pub async fn run_world(
    output_dir: &Path,
    arguments: &[&str],
    workers: Workers,
    change: impl FnOnce(&mut Surroundings),
) -> Ran {
    let (stdout, stderr) = (Printed::default(), Printed::default());
    let mut world = world(arguments, workers, &stdout, &stderr);
    world.arguments.extend(["--output-dir".to_owned(), output_dir.display().to_string()]);
    change(&mut world);
    let exit = pdbench::run(&mut world).await;
    Ran { exit, stdout: stdout.text(), stderr: stderr.text(), output_dir: output_dir.to_owned() }
}

impl Ran {
    /// The one run directory.
    pub fn directory(&self) -> PathBuf {
        let mut entries = std::fs::read_dir(&self.output_dir).unwrap().map(|entry| entry.unwrap().path());
        let directory = entries.next().unwrap_or_else(|| panic!("no run directory; {}", self.stderr));
        assert!(entries.next().is_none(), "more than one run directory");
        directory
    }

    pub fn run_file(&self) -> RunFile {
        read_run_file(&std::fs::read(self.directory().join("run.json")).unwrap()).unwrap()
    }

    /// What it printed, in one line.
    pub fn said(&self) -> String {
        self.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    pub fn records(&self) -> Vec<RequestRecord> {
        let back = read_journal(&std::fs::read(self.directory().join("records.jsonl")).unwrap()).unwrap();
        assert_eq!(back.torn, 0);
        back.records
    }

    pub fn main_records(&self) -> Vec<RequestRecord> {
        self.records().into_iter().filter(RequestRecord::is_main).collect()
    }
}

/// Every file of a directory, by name.
pub fn files_of(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}
