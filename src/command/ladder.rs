//! `pdbench serve` at several rates, or several times at one: runs one after another against the same target, each in a
//! directory of its own below that of the ladder, and one table over all of them.

use super::begun::{Afterwards, Begun, check_places};
use super::dataset::Making;
use super::serve::{Reached, reach_or_stop, run};
use super::{DatasetPlan, Error, Exit, InterruptedBy, Salt, ServePlan, Surroundings, input};
use crate::measure::RunFile;
use crate::measure::ladder::Ladder;
use crate::report::{self, Style};
use crate::runtime::Stop;
use crate::workload::ArrivalProcess;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What `serve` was asked to do several times.
#[derive(Debug)]
pub struct LadderPlan {
    /// What all runs have in common.
    pub serve: ServePlan,
    /// When requests are sent, rung by rung.
    pub arrivals: Vec<ArrivalProcess>,
    /// Runs of each rung.
    pub runs: usize,
    /// Rest between two runs, the target drained.
    pub pause: Duration,
    /// What the runs send.
    pub prompts: LadderPrompts,
}

/// What the runs of a ladder send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LadderPrompts {
    /// Each its own, so that none finds its prompts in a cache: by a seed of its own and, where they come from a file and
    /// are the same with any seed, a salt of its own.
    Fresh,
    /// All the same.
    Same,
}

/// The content of `ladder.json`: what has been run below its directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct LadderFile {
    schema: u32,
    ladder_id: String,
    version: String,
    /// Runs that were planned.
    planned: usize,
    /// Names of the directories of those that were begun, in their order.
    runs: Vec<String>,
    /// Why it ended before them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
}

/// The version of `ladder.json` that this program writes.
const SCHEMA: u32 = 1;

/// Runs all rungs and prints their table.
pub(super) async fn ladder(mut plan: LadderPlan, world: &mut Surroundings) -> Result<Exit, Error> {
    let verb = if 1 < plan.arrivals.len() { "ladder" } else { "runs" };
    let begun = Begun::now(verb, world);
    check_places(&plan.serve)?;
    let mut reached = reach_or_stop(&plan.serve, &begun.started, begun.clock, world).await?;
    let beside = plan.serve.output_dir.clone();
    // It comes into being with the first run in it.
    let directory = beside.join(&begun.run_id);
    plan.serve.output_dir.clone_from(&directory);
    let mut file = LadderFile {
        schema: SCHEMA,
        ladder_id: begun.run_id,
        version: world.version.clone(),
        planned: plan.arrivals.len() * plan.runs,
        runs: Vec::new(),
        stopped: None,
    };
    say_prompts(&plan, world);
    let (mut worst, first) = (Exit::Valid, (plan.serve.seed, plan.serve.salt.take()));
    let rungs: Vec<_> = plan.arrivals.iter().flat_map(|&arrivals| vec![arrivals; plan.runs]).collect();
    for (nth, arrivals) in rungs.into_iter().enumerate() {
        if 0 < nth {
            rest(plan.pause, world).await;
        }
        if 0 < nth && world.interrupt.by().is_some() {
            worst = worse(worst, world.interrupt.exit().unwrap_or(Exit::Interrupted));
            break;
        }
        prepare(&mut plan, nth, arrivals, &first);
        let begun = Begun::now("serve", world).nth(nth + 1).beside(&beside);
        file.runs.push(begun.run_id.clone());
        world.note(&format!("\nrun {} of {}\n", nth + 1, file.planned));
        match one(&plan.serve, begun, &mut reached, world).await {
            Ok(exit) => {
                worst = worse(worst, exit);
                worst = worse(worst, keep(&directory, &file, world));
            }
            Err(error) if nth == 0 => {
                reached.end_embedded().await;
                return Err(error);
            }
            Err(error) => {
                // The target is gone, or the disk is full: the next run would fare no better.
                world.note(&error.message());
                file.stopped = Some(error.to_string());
                worst = worse(worst, world.interrupt.exit().unwrap_or(error.exit));
                break;
            }
        }
    }
    if let Some(by) = world.interrupt.by() {
        file.stopped.get_or_insert(signal_word(by).to_owned());
    }
    if let Some(fault) = reached.end_embedded().await {
        world.note(&format!("error: {fault}\n"));
        worst = worse(worst, Exit::Invalid);
    }
    Ok(worse(worst, conclude(&directory, &file, world)?))
}

/// One run of the ladder; its own result goes to its files alone.
async fn one(
    plan: &ServePlan,
    begun: Begun,
    reached: &mut Reached,
    world: &mut Surroundings,
) -> Result<Exit, Error> {
    let dataset = Making::start(plan, begun.started.datetime(), world)?.finish(world)?;
    let stdout = std::mem::replace(&mut world.stdout, Box::new(io::sink()));
    let exit = run(plan, begun, dataset, reached, Afterwards::Keep, world).await;
    world.stdout = stdout;
    exit
}

/// Gives a run its rate, its seed and its salt.
fn prepare(plan: &mut LadderPlan, nth: usize, arrivals: ArrivalProcess, first: &(u32, Option<Salt>)) {
    let (seed, salt) = first;
    plan.serve.arrivals = arrivals;
    plan.serve.salt.clone_from(salt);
    if plan.prompts == LadderPrompts::Same {
        return;
    }
    plan.serve.seed = seed.wrapping_add(nth as u32);
    let fresh = plan.serve.seed;
    match &mut plan.serve.dataset {
        DatasetPlan::Sonnet { sonnet, .. } => sonnet.seed = fresh,
        DatasetPlan::Random(random) => random.seed = fresh,
        DatasetPlan::ShareGpt { sharegpt, .. } => sharegpt.seed = fresh,
        DatasetPlan::Custom { custom, .. } => custom.seed = fresh,
        DatasetPlan::Questions => {}
    }
    if from_file(&plan.serve.dataset) {
        plan.serve.salt.get_or_insert(Salt::OfTheRun);
    }
}

/// Whether the same prompts come with any seed.
fn from_file(dataset: &DatasetPlan) -> bool {
    matches!(dataset, DatasetPlan::ShareGpt { .. } | DatasetPlan::Custom { .. })
}

fn say_prompts(plan: &LadderPlan, world: &mut Surroundings) {
    let first = plan.serve.seed;
    let mut words = match plan.prompts {
        LadderPrompts::Same => format!(
            "every run sends the same prompts (seed {first}): from the second on they may be in the target's cache\n"
        ),
        LadderPrompts::Fresh => format!(
            "each run has prompts and arrivals of its own: seeds {first}, {}, … (--same-prompts for the same ones)\n",
            first.wrapping_add(1)
        ),
    };
    if plan.prompts == LadderPrompts::Fresh && from_file(&plan.serve.dataset) && plan.serve.salt.is_none() {
        words += "the prompts of a file are the same with any seed: each run puts a text of its own in front of them\n";
    }
    world.note(&words);
}

/// Waits between two runs, unless a signal comes.
async fn rest(pause: Duration, world: &Surroundings) {
    let mut stop = world.interrupt.signal();
    tokio::select! {
        biased;
        () = stop.reached(Stop::Drain) => {}
        () = tokio::time::sleep(pause) => {}
    }
}

fn signal_word(by: InterruptedBy) -> &'static str {
    match by {
        InterruptedBy::Interrupt => "SIGINT",
        InterruptedBy::Terminate => "SIGTERM",
    }
}

/// The exit status that counts of two.
fn worse(one: Exit, other: Exit) -> Exit {
    let weight = |exit| match exit {
        Exit::Valid => 0,
        Exit::Invalid => 1,
        Exit::Interrupted | Exit::Terminated => 2,
        Exit::Usage | Exit::Preflight => 3,
        Exit::Aborted => 4,
        Exit::NotWritten => 5,
    };
    if weight(one) < weight(other) { other } else { one }
}

/// Makes the derived files of a ladder again and prints its table; `None` where the directory is none of a ladder.
pub(super) fn remake(directory: &Path, world: &mut Surroundings) -> Result<Option<Exit>, Error> {
    let Some(file) = read(directory)? else { return Ok(None) };
    let runs = file.runs.iter().filter_map(|run| run_file(&directory.join(run)).ok());
    let valid = runs.filter_map(|run| run.summary).all(|summary| summary.validity.valid);
    let exit = if valid { Exit::Valid } else { Exit::Invalid };
    Ok(Some(worse(exit, conclude(directory, &file, world)?)))
}

/// The runs of a ladder, where `directory` is that of one.
pub(super) fn runs_of(directory: &Path) -> Result<Option<Vec<PathBuf>>, Error> {
    let file = read(directory)?;
    Ok(file.map(|file| file.runs.iter().map(|run| directory.join(run)).collect()))
}

fn read(directory: &Path) -> Result<Option<LadderFile>, Error> {
    let Some(bytes) = input::ladder_file(directory)? else { return Ok(None) };
    let broken = |error: serde_json::Error| {
        Error::new(Exit::Usage, format!("cannot use `{}`", directory.join(input::LADDER).display()))
            .caused_by(error)
            .help("name the directory of a run or a ladder")
    };
    let file: LadderFile = serde_json::from_slice(&bytes).map_err(broken)?;
    if file.schema != SCHEMA {
        let what = format!("`{}` has a ladder of schema {}", directory.display(), file.schema);
        return Err(Error::new(Exit::Usage, what).help(format!("this pdbench reads schema {SCHEMA}")));
    }
    // Names lead nowhere but below.
    let harmless = |run: &String| Path::new(run).components().count() == 1 && !run.starts_with('.');
    Ok(Some(LadderFile { runs: file.runs.into_iter().filter(harmless).collect(), ..file }))
}

fn run_file(directory: &Path) -> Result<RunFile, Error> {
    let bytes = input::read(&directory.join("run.json"), "a run")?;
    report::read_run_file(&bytes).map_err(|error| {
        Error::new(Exit::Usage, format!("cannot use `{}`", directory.join("run.json").display()))
            .caused_by(error)
    })
}

/// Writes down what has been run so far.
fn keep(directory: &Path, file: &LadderFile, world: &mut Surroundings) -> Exit {
    let bytes = serde_json::to_vec_pretty(file).expect("names and numbers are JSON");
    write(directory, input::LADDER, &bytes, world)
}

fn write(directory: &Path, name: &str, bytes: &[u8], world: &mut Surroundings) -> Exit {
    match report::write_atomic(&directory.join(name), bytes) {
        Ok(()) => Exit::Valid,
        Err(error) => {
            let missing = Error::new(Exit::NotWritten, format!("`{name}` is missing")).caused_by(error);
            world.note(&missing.message());
            Exit::NotWritten
        }
    }
}

/// Folds the runs, writes what is derived from them, prints the table.
fn conclude(directory: &Path, file: &LadderFile, world: &mut Surroundings) -> Result<Exit, Error> {
    // A run that ended before its load has no directory.
    let runs = file.runs.iter().filter_map(|run| run_file(&directory.join(run)).ok()).collect();
    let ladder = Ladder::of(&file.ladder_id, &file.version, file.planned, file.stopped.clone(), runs);
    let derived = [
        ("ladder.csv", report::ladder_csv(&ladder)),
        ("report.html", report::ladder_html(&ladder).into_bytes()),
    ];
    let mut exit = keep(directory, file, world);
    for (name, bytes) in derived {
        exit = worse(exit, write(directory, name, &bytes, world));
    }
    let style = if world.colour { Style::Colour } else { Style::Plain };
    let place = directory.join("report.html");
    let text = format!("{}\nreport: {}\n", report::ladder_console(&ladder, style), place.display());
    world.print(&text)?;
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_exits_the_worse_counts() {
        let rising =
            [Exit::Valid, Exit::Invalid, Exit::Interrupted, Exit::Preflight, Exit::Aborted, Exit::NotWritten];
        for (nth, one) in rising.into_iter().enumerate() {
            for other in &rising[nth..] {
                assert_eq!((worse(one, *other), worse(*other, one)), (*other, *other));
            }
        }
    }
}
