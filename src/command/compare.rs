//! `pdbench compare`: runs side by side.

use super::{Error, Exit, Surroundings, input, ladder};
use crate::measure::compare::{ComparedRun, Side, Table};
use crate::measure::{Run, Summary};
use crate::report::{self, Existing, Style};
use std::path::{Path, PathBuf};

/// What `compare` was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparePlan {
    /// Sides as typed, each a run directory, a result file, or several behind commas.
    pub sides: Vec<String>,
    /// Which of them the others are held against; the first unless named. One that is not among them is put first.
    pub baseline: Option<String>,
    /// Where to write the numbers.
    pub csv: Option<PathBuf>,
    /// Where to write the page.
    pub html: Option<PathBuf>,
}

/// Reads all runs, compares them, prints and writes the result.
pub(super) fn compare(plan: &ComparePlan, world: &mut Surroundings) -> Result<Exit, Error> {
    let mut names = plan.sides.clone();
    let baseline = match &plan.baseline {
        None => 0,
        Some(name) => names.iter().position(|side| side == name).unwrap_or_else(|| {
            names.insert(0, name.clone());
            0
        }),
    };
    if names.len() < 2 {
        return Err(Error::new(Exit::Usage, "one run alone has nothing to be compared with").help(
            "name two or more run directories or result files; runs of the same settings go behind commas",
        ));
    }
    for path in [&plan.csv, &plan.html].into_iter().flatten() {
        report::probe_result(path).map_err(|error| {
            Error::new(Exit::NotWritten, "the comparison would have no place").caused_by(error)
        })?;
    }
    let sides = names.iter().map(|name| side(name, world)).collect::<Result<Vec<_>, _>>()?;
    let table = Table::of(sides, baseline);
    let style = if world.colour { Style::Colour } else { Style::Plain };
    world.print(&report::compare_console(&table, style))?;
    let written = [
        (&plan.csv, report::compare_csv(&table)),
        (&plan.html, report::compare_html(&table, &world.version).into_bytes()),
    ];
    for (path, bytes) in written {
        let Some(path) = path else { continue };
        report::write_result(path, &bytes, Existing::Replace)
            .map_err(|error| Error::new(Exit::NotWritten, "the comparison is missing").caused_by(error))?;
        world.print(&format!("written: {}\n", path.display()))?;
    }
    Ok(Exit::Valid)
}

/// One side: a run, those of a ladder at one rate, or several behind commas.
fn side(typed: &str, world: &mut Surroundings) -> Result<Side, Error> {
    let paths: Vec<&Path> = match input::is_there(Path::new(typed)) {
        true => vec![Path::new(typed)],
        false => typed.split(',').filter(|part| !part.is_empty()).map(Path::new).collect(),
    };
    let mut runs = Vec::new();
    for path in paths {
        match ladder::runs_of(path)? {
            Some(of_ladder) => {
                for path in &of_ladder {
                    runs.push(compared(path, world)?);
                }
                one_rate(path, &runs)?;
            }
            None => runs.push(compared(path, world)?),
        }
    }
    if runs.is_empty() {
        return Err(Error::new(Exit::Usage, format!("`{}` names no run", report::plain(typed)))
            .help("name a run directory, a result file of `vllm bench serve`, or several behind commas"));
    }
    Ok(Side { name: typed.to_owned(), runs })
}

/// Refuses a ladder of several rates: their mean means nothing.
fn one_rate(path: &Path, runs: &[ComparedRun]) -> Result<(), Error> {
    let rate = |run: &ComparedRun| {
        run.facts.iter().find(|fact| fact.name == "request rate").and_then(|fact| fact.known.clone())
    };
    let first = runs.first().and_then(rate);
    if runs.iter().all(|run| rate(run) == first) {
        return Ok(());
    }
    Err(Error::new(Exit::Usage, format!("`{}` holds runs at several rates", path.display()))
        .help("name the run of one rate in it"))
}

/// One run, from its directory or from a result file.
fn compared(path: &Path, world: &mut Surroundings) -> Result<ComparedRun, Error> {
    let name = path.display().to_string();
    let broken = |what: &str| {
        Error::new(Exit::Usage, format!("cannot compare {what} `{name}`"))
            .help("name a run directory or a result file of `vllm bench serve --save-result`")
    };
    let Some((file, journal)) = input::run_of(path)? else {
        let bytes = input::read(path, "a result")?;
        return ComparedRun::of_result_file(&name, &bytes)
            .map_err(|error| broken("the result file").caused_by(error));
    };
    let file = report::read_run_file(&file).map_err(|error| broken("the run").caused_by(error))?;
    let records = match journal {
        None => {
            world.note(&format!("`{name}` has no records.jsonl: its numbers are those of its summary\n"));
            Vec::new()
        }
        Some(bytes) => {
            report::read_journal(&bytes).map_err(|error| broken("the records of").caused_by(error))?.records
        }
    };
    let run = Run { manifest: file.manifest, records, observations: Vec::new(), accuracy: file.accuracy };
    let summary = match file.summary {
        Some(summary) => summary,
        None if run.records.is_empty() => return Err(broken("the run, which never had a result,")),
        None => Summary::of(&run),
    };
    Ok(ComparedRun::of_run(&name, &run, &summary))
}
