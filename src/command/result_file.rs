//! The result file of `vllm bench serve`, where the user wants it; the run's directory has a copy.

use super::{Error, Exit, ResultPlan};
use crate::report::{self, Reported};
use std::path::{Path, PathBuf};

/// Where the file goes. Of the name that vLLM would give only the end of the run knows the time in it.
fn path(plan: &ResultPlan, given_name: &str) -> PathBuf {
    let name = plan.name.as_deref().unwrap_or(Path::new(given_name));
    plan.directory.as_ref().map_or_else(|| name.to_owned(), |directory| directory.join(name))
}

/// Makes sure before the run that the file can be written after it.
pub(super) fn check(plan: &ResultPlan) -> Result<(), Error> {
    report::probe_result(&path(plan, ".pdbench-result.json")).map_err(|error| {
        Error::new(Exit::NotWritten, "the result file would have no place").caused_by(error).help(
            "name a writable directory with --result-dir, and with --result-filename a file that may be written",
        )
    })
}

/// Writes the file; gives where it is.
pub(super) fn write(plan: &ResultPlan, reported: &Reported<'_>) -> Result<PathBuf, Error> {
    let path = path(plan, &report::vllm_result_name(&reported.run.manifest));
    let written = report::write_result(&path, &report::vllm_result_bytes(reported), plan.existing);
    written.map(|()| path).map_err(|error| {
        Error::new(Exit::NotWritten, "the result file is missing")
            .caused_by(error)
            .help("the run's directory has a copy, vllm-result.json")
    })
}

/// Writes the files of lm_eval where it would put them: below a directory, or beside a name that ends in `.json`; gives
/// where they are.
pub(super) fn write_lm_eval(
    place: &Path,
    samples: bool,
    reported: &Reported<'_>,
) -> Result<Vec<PathBuf>, Error> {
    let manifest = &reported.run.manifest;
    let name = report::lm_eval_results_name(manifest);
    let (directory, name) = match (place.extension(), place.file_stem()) {
        (Some(extension), Some(stem)) if extension == "json" => {
            let name = name.replacen("results", &stem.to_string_lossy(), 1);
            (place.parent().unwrap_or(Path::new(".")).to_owned(), name)
        }
        _ => (place.join(report::lm_eval_directory(manifest)), name),
    };
    let mut files = vec![(directory.join(name), report::lm_eval_results_bytes(reported))];
    if samples {
        let bytes = report::lm_eval_samples(reported.run).into_bytes();
        files.push((directory.join(report::lm_eval_samples_name(reported.run)), bytes));
    }
    let write = |(path, bytes): (PathBuf, Vec<u8>)| {
        report::write_result(&path, &bytes, report::Existing::Replace).map(|()| path).map_err(|error| {
            Error::new(Exit::NotWritten, "a file of --output-path is missing")
                .caused_by(error)
                .help("the run's directory has a copy of it")
        })
    };
    files.into_iter().map(write).collect()
}
