//! What stands before every load of a target: when it began, what it is called, where its results will go.

use super::manifest::run_id;
use super::{Error, Exit, ServePlan, Surroundings, result_file};
use crate::report;
use crate::runtime::Clock;
use jiff::Zoned;
use std::path::{Path, PathBuf};

/// When a run began, by both clocks, and its name.
pub(super) struct Begun {
    pub(super) started: Zoned,
    pub(super) clock: Clock,
    pub(super) run_id: String,
    /// Where runs lie that may have sent the same before; `None` for where its own directory is.
    pub(super) beside: Option<PathBuf>,
}

impl Begun {
    /// Now.
    pub(super) fn now(verb: &str, world: &Surroundings) -> Self {
        let started = (world.wall_clock)();
        let run_id = run_id(verb, &started, &world.run_id_suffix);
        Self { started, clock: Clock::start(), run_id, beside: None }
    }

    /// The same, one of several that may begin in one second.
    pub(super) fn nth(self, nth: usize) -> Self {
        Self { run_id: format!("{}-{nth:02}", self.run_id), ..self }
    }

    /// The same, whose earlier runs lie below this directory.
    pub(super) fn beside(self, directory: &Path) -> Self {
        Self { beside: Some(directory.to_owned()), ..self }
    }
}

/// What becomes of an embedded cluster behind a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Afterwards {
    /// It ends.
    End,
    /// A further run needs it.
    Keep,
}

/// Makes sure that the results will have a place.
pub(super) fn check_places(plan: &ServePlan) -> Result<(), Error> {
    report::probe_writable(&plan.output_dir).map_err(|error| {
        Error::new(Exit::NotWritten, "the results would have no place")
            .caused_by(error)
            .help("name a writable directory with --output-dir")
    })?;
    plan.result.as_ref().map_or(Ok(()), result_file::check)
}
