//! The end of a run: its last facts, its files, its result, its exit status.

use super::manifest::{recover_span, who_stamped};
use super::recorder::{RunDirectory, write_results};
use super::{Error, Exit, InterruptedBy, ServePlan, Surroundings, input, result_file};
use crate::load::{Ending, LoadError, PassReport};
use crate::measure::{AccuracyResult, Manifest, RequestRecord, Run, State, TickerFacts};
use crate::report::{self, Reported, Style};
use std::path::Path;

/// Tells what the answers of a run are worth.
pub(super) type Judge<'a> = &'a dyn Fn(&Manifest, &[RequestRecord]) -> AccuracyResult;

/// A run that has ended, but for its end.
pub(super) struct Closing<'a> {
    pub(super) plan: &'a ServePlan,
    pub(super) manifest: &'a mut Manifest,
    pub(super) directory: RunDirectory,
    pub(super) throttled_before: Option<u64>,
    /// Who tells what the answers are worth, where that was asked.
    pub(super) judge: Option<Judge<'a>>,
    /// Where the files of lm_eval are put, and whether the one of all answers is.
    pub(super) lm_eval: Option<(&'a Path, bool)>,
}

impl<'a> Closing<'a> {
    /// The end of a load, whose answers nobody judges.
    pub(super) fn of_load(
        plan: &'a ServePlan,
        manifest: &'a mut Manifest,
        directory: RunDirectory,
        throttled_before: Option<u64>,
    ) -> Self {
        Self { plan, manifest, directory, throttled_before, judge: None, lm_eval: None }
    }
}

/// A load that did not come to its end. Where the fault is ours its results are kept, and say so.
pub(super) fn ended_early(error: LoadError) -> Error {
    let exit = match error {
        LoadError::Panicked(_) => Exit::Invalid,
        LoadError::NoThread(_) => Exit::Aborted,
    };
    Error::new(exit, "the load ended early").caused_by(error)
}

/// Closes the journal, writes every file, prints the result, and settles the exit status.
pub(super) fn finish(
    closing: Closing<'_>,
    ran: Result<PassReport, Error>,
    world: &mut Surroundings,
) -> Result<Exit, Error> {
    let Closing { plan, manifest, directory, throttled_before, judge, lm_eval } = closing;
    let (path, records, journal_error) = directory.records();
    let stopped = stopped(&ran, world);
    match &ran {
        Ok(ran) => {
            (manifest.main_start, manifest.main_end) = (ran.start, Some(ran.end));
            watched(manifest, ran, throttled_before);
        }
        Err(error) => {
            world.note(&error.message());
            recover_span(manifest, &records);
            if error.exit == Exit::Invalid {
                manifest.broken.extend(error.cause_text());
            }
        }
    }
    who_stamped(manifest, &records);
    manifest.state = if stopped.is_some() { State::Interrupted } else { State::Complete };
    manifest.interrupted_by = stopped.as_ref().map(|(_, why)| why.clone());
    let accuracy = judge.map(|judge| judge(manifest, &records));
    let run = Run { manifest: manifest.clone(), records, accuracy };
    let (summary, timeline, mut failures) = write_results(&path, &run);
    let style = if world.colour { Style::Colour } else { Style::Plain };
    let reported = Reported { run: &run, summary: &summary, timeline: &timeline };
    let mut text = report::console(&reported, style);
    text += &format!("\nreport: {}\n", path.join("report.html").display());
    match plan.result.as_ref().map(|result| result_file::write(result, &reported)) {
        Some(Ok(path)) => text += &format!("result: {}\n", path.display()),
        Some(Err(error)) => failures.push(error),
        None => {}
    }
    if let Some((place, samples)) = lm_eval {
        match result_file::write_lm_eval(place, samples, &reported) {
            Ok(paths) => paths.iter().for_each(|path| text += &format!("lm_eval's: {}\n", path.display())),
            Err(error) => failures.push(error),
        }
    }
    failures.extend(world.print(&text).err());
    if let Some(error) = journal_error {
        let what = "the journal `records.jsonl` has not every record";
        failures.push(Error::new(Exit::NotWritten, what).caused_by(error));
    }
    for failure in &failures {
        world.note(&failure.message());
    }
    Ok(match stopped {
        _ if !failures.is_empty() => Exit::NotWritten,
        Some((exit, _)) => exit,
        None if !summary.validity.valid => Exit::Invalid,
        None if plan.strict && 0 < summary.counts.failed => Exit::Invalid,
        None => Exit::Valid,
    })
}

/// Notes what was seen of the client itself.
fn watched(manifest: &mut Manifest, ran: &PassReport, throttled_before: Option<u64>) {
    let Some(watch) = &ran.watch else {
        // The replicas of a foreign proxy have none, and a check is not about speed.
        if manifest.repeat.is_none() && manifest.check.is_none() {
            manifest.broken.push("the watch of the client panicked".to_owned());
        }
        return;
    };
    manifest.in_flight = Some(watch.in_flight.clone());
    manifest.ticker = watch.tick_p99_late_ms.map(|p99_late_ms| TickerFacts {
        p99_late_ms,
        worker_cpu_share: watch.busiest_shard.unwrap_or(0.0),
        throttled_periods: input::throttled_periods()
            .zip(throttled_before)
            .map(|(now, then)| now.saturating_sub(then)),
    });
}

/// What stopped a run before its planned end, and the exit status for that.
fn stopped(ran: &Result<PassReport, Error>, world: &Surroundings) -> Option<(Exit, String)> {
    let ending = match ran {
        Ok(ran) => ran.ending,
        Err(error) => {
            return Some((world.interrupt.exit().unwrap_or(error.exit), error.to_string()));
        }
    };
    match (ending, world.interrupt.by()) {
        (Ending::OverBudget { failed, of }, _) => {
            Some((Exit::Aborted, format!("given up, {failed} of the last {of} requests failed")))
        }
        (_, Some(InterruptedBy::Interrupt)) => Some((Exit::Interrupted, "SIGINT".to_owned())),
        (_, Some(InterruptedBy::Terminate)) => Some((Exit::Terminated, "SIGTERM".to_owned())),
        (Ending::Complete | Ending::DurationOver | Ending::Stopped, None) => None,
    }
}
