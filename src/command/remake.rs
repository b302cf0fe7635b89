//! `pdbench report`: makes the derived files of a run again, from its manifest and its journal.

use super::accuracy::judged;
use super::manifest::{recover_span, who_stamped};
use super::recorder::write_results;
use super::{Error, Exit, Surroundings, input};
use crate::measure::{Run, State};
use crate::report::{self, Reported, Style};
use std::path::{Path, PathBuf};

/// What `report` was asked to do.
#[derive(Debug)]
pub struct ReportPlan {
    /// The run's directory.
    pub directory: PathBuf,
}

/// Reads a run back and writes everything that is derived from it.
pub(super) fn remake(plan: &ReportPlan, world: &mut Surroundings) -> Result<Exit, Error> {
    let directory = &plan.directory;
    let broken = |name: &str| {
        Error::new(Exit::Usage, format!("cannot use `{}`", directory.join(name).display()))
            .help("name the directory of a run, such as reports/<date>-<time>-serve-<4 digits>")
    };
    let file = input::read(&directory.join("run.json"), "a run")?;
    let file = report::read_run_file(&file).map_err(|error| broken("run.json").caused_by(error))?;
    let journal = input::read(&directory.join("records.jsonl"), "records")?;
    let back = report::read_journal(&journal).map_err(|error| broken("records.jsonl").caused_by(error))?;
    if 0 < back.torn {
        world.note("the last line of the journal is torn and was left out\n");
    }
    let known = file.summary.map_or(0, |summary| summary.counts.sent);
    let kept = back.records.iter().filter(|record| record.is_main()).count();
    if kept < known {
        let what = format!(
            "the journal in `{}` has {kept} of {known} requests: a part of it could not be written",
            directory.display()
        );
        return Err(Error::new(Exit::NotWritten, what)
            .help("the files beside it were made from all of them and are better: they stay as they are"));
    }
    let mut manifest = file.manifest;
    if manifest.state == State::Running {
        manifest.state = State::Interrupted;
        manifest.interrupted_by = Some("it ended without a word; recovered from the journal".to_owned());
        recover_span(&mut manifest, &back.records);
        who_stamped(&mut manifest, &back.records);
        world.note("the run had not come to its end: its files are made from what the journal holds\n");
    }
    let accuracy = judged(directory, &manifest, &back.records)?;
    let run = Run { manifest, records: back.records, accuracy };
    print_results(directory, &run, world)
}

fn print_results(directory: &Path, run: &Run, world: &mut Surroundings) -> Result<Exit, Error> {
    let (summary, timeline, mut failures) = write_results(directory, run);
    let style = if world.colour { Style::Colour } else { Style::Plain };
    let reported = Reported { run, summary: &summary, timeline: &timeline };
    let place = directory.join("report.html");
    let text = format!("{}\nreport: {}\n", report::console(&reported, style), place.display());
    failures.extend(world.print(&text).err());
    for failure in &failures {
        world.note(&failure.message());
    }
    match (failures.is_empty(), summary.validity.valid) {
        (false, _) => Ok(Exit::NotWritten),
        (true, true) => Ok(Exit::Valid),
        (true, false) => Ok(Exit::Invalid),
    }
}
