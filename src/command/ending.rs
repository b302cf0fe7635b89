//! The end of a run: its last facts, its files, its result, its exit status.

use super::manifest::{recover_span, who_stamped};
use super::recorder::{RunDirectory, write_results};
use super::{Error, Exit, InterruptedBy, ServePlan, Surroundings, input, result_file};
use crate::load::{Ending, LoadError, PassReport};
use crate::measure::{Manifest, Run, State, TickerFacts};
use crate::report::{self, Reported, Style};

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
    plan: &ServePlan,
    manifest: &mut Manifest,
    directory: RunDirectory,
    ran: Result<PassReport, Error>,
    throttled_before: Option<u64>,
    world: &mut Surroundings,
) -> Result<Exit, Error> {
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
    let run = Run { manifest: manifest.clone(), records };
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
        // The replicas of a foreign proxy have none.
        if manifest.repeat.is_none() {
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
            let exit = match world.interrupt.by() {
                Some(InterruptedBy::Interrupt) => Exit::Interrupted,
                Some(InterruptedBy::Terminate) => Exit::Terminated,
                None => error.exit,
            };
            return Some((exit, error.to_string()));
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
