//! One run of the program.

use pdbench::measure::{RequestRecord, RunFile};
use pdbench::report::{read_journal, read_run_file};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// The program, not yet started, with results in a directory of its own.
pub struct Program {
    pub place: TempDir,
    pub command: Command,
}

/// What a run left behind.
pub struct Left {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub place: TempDir,
}

impl Program {
    /// `pdbench` with these arguments and nothing of this process's environment that it would heed.
    pub fn new(arguments: &[&str]) -> Self {
        Self::through(Command::new(env!("CARGO_BIN_EXE_pdbench")), arguments)
    }

    /// `pdbench` started by a shell that first does `preparation`.
    pub fn by_shell(preparation: &str, arguments: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{preparation}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_pdbench")]);
        Self::through(shell, arguments)
    }

    fn through(mut command: Command, arguments: &[&str]) -> Self {
        let place = TempDir::new().unwrap();
        command.args(arguments).arg("--output-dir").arg(place.path());
        command.env_remove("OPENAI_API_KEY").stdin(Stdio::null());
        Self { place, command }
    }

    /// Starts it with its streams caught.
    pub fn start(mut self) -> (Child, TempDir) {
        let child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        (child, self.place)
    }

    /// Runs it to its end.
    pub async fn run(self) -> Left {
        let (child, place) = self.start();
        Left::of(child, place).await
    }
}

impl Left {
    /// What a started program leaves.
    pub async fn of(child: Child, place: TempDir) -> Self {
        let waiting = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
        let Output { status, stdout, stderr } = waiting.await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: status.code(), stdout: text(stdout), stderr: text(stderr), place }
    }

    /// The one run directory.
    pub fn directory(&self) -> PathBuf {
        run_directory(self.place.path()).unwrap_or_else(|| panic!("no run directory; {}", self.stderr))
    }

    pub fn run_file(&self) -> RunFile {
        read_run_file(&std::fs::read(self.directory().join("run.json")).unwrap()).unwrap()
    }

    pub fn records(&self) -> Vec<RequestRecord> {
        let back = read_journal(&std::fs::read(self.directory().join("records.jsonl")).unwrap()).unwrap();
        back.records.into_iter().filter(RequestRecord::is_main).collect()
    }
}

/// The one directory under `place`, if there is one.
pub fn run_directory(place: &Path) -> Option<PathBuf> {
    let mut entries = std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    let directory = entries.next()?;
    assert!(entries.next().is_none(), "more than one run directory");
    Some(directory)
}

/// A line of arguments for `serve` against `url`: sonnet prompts, 4 tokens each, no probe.
pub fn serve<'a>(url: &'a str, count: &'a str) -> Vec<&'a str> {
    let base = ["serve", "--base-url", url, "--dataset-name", "sonnet", "--model", "m", "--probe", "none"];
    [&base[..], &["--sonnet-output-len", "4", "--num-prompts", count, "--ignore-eos"]].concat()
}
