//! An accuracy run that was written down: to go on with, to compare with, to be made again.

use crate::accuracy::{Question, Task, fold};
use crate::command::{Error, Exit, input};
use crate::measure::{AccuracyFacts, AccuracyResult, Kind, Manifest, Offset, RequestRecord};
use crate::report;
use std::path::{Path, PathBuf};

/// The run's file of questions, one a line.
pub(in crate::command) const QUESTIONS: &str = "questions.jsonl";

/// A run directory, read.
pub(super) struct Saved {
    pub(super) directory: PathBuf,
    pub(super) manifest: Manifest,
    questions: Vec<Question>,
    records: Vec<RequestRecord>,
}

impl Saved {
    pub(super) fn read(directory: &Path) -> Result<Self, Error> {
        let broken = |name: &str| {
            Error::new(Exit::Usage, format!("cannot use `{}`", directory.join(name).display())).help(
                "name the directory of an accuracy run, such as reports/<date>-<time>-accuracy-<4 digits>",
            )
        };
        let file = input::read(&directory.join("run.json"), "a run")?;
        let manifest =
            report::read_run_file(&file).map_err(|error| broken("run.json").caused_by(error))?.manifest;
        if manifest.accuracy.is_none() {
            return Err(broken("run.json"));
        }
        let journal = input::read(&directory.join("records.jsonl"), "records")?;
        let back =
            report::read_journal(&journal).map_err(|error| broken("records.jsonl").caused_by(error))?;
        Ok(Self {
            directory: directory.to_owned(),
            manifest,
            questions: questions(directory)?,
            records: back.records,
        })
    }

    pub(super) fn facts(&self) -> &AccuracyFacts {
        self.manifest.accuracy.as_ref().expect("looked at when it was read")
    }

    /// Makes sure that the run asked just this; gives its name.
    pub(super) fn check(&self, facts: &AccuracyFacts) -> Result<String, Error> {
        if self.facts().key == facts.key {
            return Ok(self.manifest.run_id.clone());
        }
        let (then, now) = (self.facts(), facts);
        let mut differs: Vec<&str> = [
            ("the task, its shots or its generation", then.task != now.task),
            ("who is asked: URL, model or way", then.arms != now.arms),
            ("the form of the prompts", then.form != now.form),
            ("the batch size", then.batch_size != now.batch_size),
        ]
        .into_iter()
        .filter_map(|(what, differs)| differs.then_some(what))
        .collect();
        let other = now.shaping.iter().filter(|(what, value)| then.shaping.get(*what) != Some(*value));
        differs.extend(other.map(|(what, _)| what.as_str()));
        let what = if differs.is_empty() { "the questions".to_owned() } else { differs.join(", and ") };
        Err(Error::new(Exit::Usage, format!("`{}` asked otherwise; what differs: {what}", self.directory.display()))
            .help("give the flags that it was started with (run.json has them), or start a new run without --resume"))
    }

    /// Makes sure that the run asked these questions, of whomever.
    pub(super) fn check_questions(&self, questions: &[Question]) -> Result<(), Error> {
        let prompts = |questions: &[Question]| questions.iter().map(|q| q.prompt.clone()).collect::<Vec<_>>();
        if prompts(&self.questions) == prompts(questions) {
            return Ok(());
        }
        Err(Error::new(Exit::Usage, format!("`{}` asked other questions", self.directory.display()))
            .help("give the same task, documents, --num-fewshot, --fewshot-seed and --limit"))
    }

    /// When its last record ended: where the time of a run that goes on begins.
    pub(super) fn end(&self) -> std::time::Duration {
        self.records.iter().map(|record| record.finished).max().unwrap_or_default().into()
    }

    /// What it holds.
    pub(super) fn records(&self) -> Vec<RequestRecord> {
        self.records.clone()
    }

    /// The number that comes after its records'.
    pub(super) fn next_number(&self) -> usize {
        self.records.iter().map(|record| record.i as usize + 1).max().unwrap_or(0)
    }

    pub(super) fn answers(&self) -> usize {
        self.of_first_arm().count()
    }

    fn of_first_arm(&self) -> impl Iterator<Item = &RequestRecord> {
        self.records.iter().filter(|record| record.asking.as_ref().is_some_and(|asking| asking.arm == 0))
    }

    /// The answers of its first arm, as those of another arm in another run. They are no part of its load.
    pub(super) fn as_baseline(&self, arm: usize, first: u32) -> Vec<RequestRecord> {
        let record = |(nth, record): (u32, &RequestRecord)| {
            let mut record = RequestRecord { i: first + nth, kind: Kind::Warmup, ..record.clone() };
            record.asking.iter_mut().for_each(|asking| asking.arm = arm);
            let latency = record.finished.since(record.sent.unwrap_or(record.scheduled));
            (record.scheduled, record.ready, record.sent) =
                (Offset::default(), None, Some(Offset::default()));
            (record.connected, record.headers) = (None, None);
            record.finished = Offset::from(latency);
            record.events = Default::default();
            record
        };
        (0..).zip(self.of_first_arm()).map(record).collect()
    }
}

/// The lines of the file of questions.
pub(super) fn questions_bytes(questions: &[Question]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for question in questions {
        serde_json::to_writer(&mut bytes, question).expect("a question is JSON");
        bytes.push(b'\n');
    }
    bytes
}

fn questions(directory: &Path) -> Result<Vec<Question>, Error> {
    let path = directory.join(QUESTIONS);
    let bytes = input::read(&path, "questions")?;
    let lines = bytes.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let questions = lines.map(|(number, line)| {
        serde_json::from_slice(line).map_err(|error| {
            Error::new(Exit::Usage, format!("`{}`, line {}: no question", path.display(), number + 1))
                .caused_by(error)
                .help("the file was written when the run began: it is not to be changed")
        })
    });
    questions.collect()
}

/// What a run that was written down came to.
pub(in crate::command) fn judged(
    directory: &Path,
    manifest: &Manifest,
    records: &[RequestRecord],
) -> Result<Option<AccuracyResult>, Error> {
    let Some(facts) = &manifest.accuracy else { return Ok(None) };
    let task = Task::from_declaration(facts.task.clone()).map_err(|error| {
        Error::new(
            Exit::Usage,
            format!("cannot use the task in `{}`: {error}", directory.join("run.json").display()),
        )
        .help("the file is written by pdbench alone; a newer one may know more")
    })?;
    Ok(Some(fold(facts, &task, &questions(directory)?, records)))
}
