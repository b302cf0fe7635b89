//! The run's directory from before it exists to its last file.

use super::{Error, Exit};
use crate::load::Sink;
use crate::measure::{Manifest, Observation, RequestRecord, Run, RunFile, Summary, Timeline};
use crate::report::{self, Journal, JournalSink, Reported};
use crate::runtime::lock;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// Takes finished records: in memory while only the probe has been sent, then into the journal.
#[derive(Clone, Default)]
pub(super) struct Recorder(Arc<Mutex<Destination>>);

enum Destination {
    Memory(Vec<RequestRecord>),
    Journal(JournalSink),
}

impl Default for Destination {
    fn default() -> Self {
        Destination::Memory(Vec::new())
    }
}

/// The directory of a run that goes on.
pub(super) struct RunDirectory {
    path: PathBuf,
    journal: Journal,
    observations: Option<Journal<Observation>>,
}

/// What the journals of a run hold at its end.
pub(super) struct Kept {
    pub(super) path: PathBuf,
    pub(super) records: Vec<RequestRecord>,
    pub(super) observations: Vec<Observation>,
    /// Files that have not every line, and why.
    pub(super) errors: Vec<(&'static str, io::Error)>,
}

const RECORDS: &str = "records.jsonl";
pub(super) const OBSERVATIONS: &str = "observations.jsonl";

impl Recorder {
    /// The end that the load hands records to.
    pub(super) fn sink(&self) -> Sink {
        let recorder = self.clone();
        Arc::new(move |records| match &mut *recorder.destination() {
            Destination::Memory(kept) => kept.extend(records),
            Destination::Journal(journal) => journal.append(records),
        })
    }

    fn destination(&self) -> MutexGuard<'_, Destination> {
        lock(&self.0)
    }

    /// Sends what has been kept, and all that follows, to a journal.
    fn go_to(&self, journal: JournalSink) {
        let mut destination = self.destination();
        if let Destination::Memory(kept) = &mut *destination {
            journal.append(std::mem::take(kept));
        }
        *destination = Destination::Journal(journal);
    }
}

impl RunDirectory {
    /// Makes `parent/<run id>` with a manifest and an empty journal.
    pub(super) fn create(parent: &Path, manifest: &Manifest, recorder: &Recorder) -> Result<Self, Error> {
        let not_written = |error: report::WriteError| {
            Error::new(Exit::NotWritten, "cannot keep the results")
                .caused_by(error)
                .help("free space there, or name another place with --output-dir")
        };
        let path = report::create_run_directory(parent, &manifest.run_id).map_err(not_written)?;
        let file = RunFile { manifest: manifest.clone(), summary: None, accuracy: None };
        report::write_atomic(&path.join("run.json"), &run_file_bytes(&file)?).map_err(not_written)?;
        let journal = Journal::start(&path.join(RECORDS)).map_err(|error| {
            Error::new(Exit::NotWritten, format!("cannot start the journal in `{}`", path.display()))
                .caused_by(error)
        })?;
        recorder.go_to(journal.sink());
        Ok(Self { path, journal, observations: None })
    }

    /// Goes on in the directory of a run that had not come to its end.
    pub(super) fn reopen(directory: &Path, manifest: &Manifest, recorder: &Recorder) -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::new(Exit::NotWritten, format!("cannot go on in `{}`: {error}", directory.display()))
                .help("make it writable, or start a new run without --resume")
        };
        let file = RunFile { manifest: manifest.clone(), summary: None, accuracy: None };
        report::write_atomic(&directory.join("run.json"), &run_file_bytes(&file)?)
            .map_err(|error| failed(&error))?;
        let journal = Journal::reopen(&directory.join(RECORDS)).map_err(|error| failed(&error))?;
        recorder.go_to(journal.sink());
        Ok(Self { path: directory.to_owned(), journal, observations: None })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where what the nodes tell is kept from now on.
    pub(super) fn observations(&mut self) -> Result<JournalSink<Observation>, Error> {
        let journal = Journal::start(&self.path.join(OBSERVATIONS)).map_err(|error| {
            let what = format!("cannot keep what the nodes tell in `{}`", self.path.display());
            Error::new(Exit::NotWritten, what).caused_by(error)
        })?;
        Ok(self.observations.insert(journal).sink())
    }

    /// Ends the journals: all that they were given, and what kept any of it from the files.
    pub(super) fn finish(self) -> Kept {
        let (records, error) = self.journal.finish();
        let (observations, other) = self.observations.map_or((Vec::new(), None), Journal::finish);
        let errors = error.map(|error| (RECORDS, error)).into_iter();
        let errors = errors.chain(other.map(|error| (OBSERVATIONS, error))).collect();
        Kept { path: self.path, records, observations, errors }
    }
}

fn run_file_bytes(file: &RunFile) -> Result<Vec<u8>, Error> {
    report::run_file_bytes(file)
        .map_err(|error| Error::new(Exit::NotWritten, "cannot put the run into JSON").caused_by(error))
}

/// Folds a run and writes everything that is derived from it; the files that could not be written, with why.
pub(super) fn write_results(directory: &Path, run: &Run) -> (Summary, Timeline, Vec<Error>) {
    let (summary, timeline) = (Summary::of(run), Timeline::of(run));
    let mut files = report::files(&Reported { run, summary: &summary, timeline: &timeline });
    let mut failures = Vec::new();
    let file = RunFile {
        manifest: run.manifest.clone(),
        summary: Some(summary.clone()),
        accuracy: run.accuracy.clone(),
    };
    match run_file_bytes(&file) {
        Ok(bytes) => files.push(("run.json", bytes)),
        Err(error) => failures.push(error),
    }
    for (name, bytes) in files {
        if let Err(error) = report::write_atomic(&directory.join(name), &bytes) {
            // The one of the run's start is there.
            let state = if name == "run.json" { "is as it was when the run began" } else { "is missing" };
            failures.push(Error::new(Exit::NotWritten, format!("`{name}` {state}")).caused_by(error));
        }
    }
    (summary, timeline, failures)
}
