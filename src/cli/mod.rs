//! What can be typed. Flags are parsed here and turned once into a [`Plan`]; no other room knows their names.
//! They may be typed with dashes or underscores, as users of vLLM's tools do.
//! Deliberately absent: doing anything.

mod accuracy;
mod check;
mod dataset;
mod proxy;
mod report;
mod selftest;
mod serve;
mod sim;

use crate::command::{Error, Exit, Plan};
use clap::{Parser, Subcommand};
use std::path::Path;

/// Benchmarks prefill/decode disaggregated LLM serving: how fast is it, and can the numbers be trusted.
#[derive(Debug, Parser)]
#[command(name = "pdbench", version, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Serve(Box<serve::ServeArgs>),
    Accuracy(Box<accuracy::AccuracyArgs>),
    Check(Box<check::CheckArgs>),
    Sim(Box<sim::SimArgs>),
    Selftest(selftest::SelftestArgs),
    Proxy(Box<proxy::ProxyArgs>),
    Dataset(dataset::DatasetArgs),
    Report(report::ReportArgs),
}

/// What a command line comes to.
#[derive(Debug)]
pub enum Parsed {
    /// Something to do.
    Plan(Box<Plan>),
    /// A text that was asked for, such as the help.
    Text(String),
    /// It cannot be understood: the message, with its line end.
    Refused(String),
}

/// Where secrets come from: never from the command line itself.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    /// What an environment variable holds.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// What a file holds, its last line end taken off.
    pub key_file: &'a dyn Fn(&Path) -> Result<String, Error>,
}

/// Parses a command line, program name first.
///
/// # Errors
/// When the flags are well-formed but what they say is not, or does not fit together.
pub fn parse(arguments: &[String], outside: &Outside<'_>) -> Result<Parsed, Error> {
    let cli = match Cli::try_parse_from(arguments.iter().map(|argument| dashed(argument))) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return Ok(Parsed::Refused(error.render().to_string())),
        Err(help) => return Ok(Parsed::Text(help.render().to_string())),
    };
    Ok(Parsed::Plan(Box::new(match cli.verb {
        Verb::Serve(arguments) => arguments.any_plan(outside)?,
        Verb::Accuracy(arguments) => Plan::Accuracy(Box::new(arguments.plan(outside)?)),
        Verb::Check(arguments) => Plan::Check(Box::new(arguments.plan(outside)?)),
        Verb::Sim(arguments) => Plan::Sim(arguments.plan()?),
        Verb::Selftest(arguments) => Plan::Selftest(arguments.plan()),
        Verb::Proxy(arguments) => Plan::Proxy(arguments.plan()?),
        Verb::Dataset(arguments) => Plan::Dataset(arguments.plan(outside)?),
        Verb::Report(arguments) => Plan::Report(arguments.plan()),
    })))
}

/// A flag with dashes where underscores were typed; everything else as it is.
fn dashed(argument: &str) -> String {
    match argument.strip_prefix("--") {
        None => argument.to_owned(),
        Some(flag) => match flag.split_once('=') {
            Some((name, value)) => format!("--{}={value}", name.replace('_', "-")),
            None => format!("--{}", flag.replace('_', "-")),
        },
    }
}

/// An error in what the flags say.
fn usage(what: impl Into<String>) -> Error {
    Error::new(Exit::Usage, what)
}

/// A whole number above 0.
fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|&number| 0 < number);
    number.ok_or_else(|| format!("`{text}` is not a whole number above 0"))
}

/// Seconds, above 0.
fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let parsed = text.parse::<f64>().ok().filter(|&seconds| 0.0 < seconds && seconds <= 1e7);
    let duration = parsed.and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| format!("`{text}` is not a time: want seconds above 0, up to 10,000,000"))
}

/// Seconds, 0 included.
fn seconds_or_zero(text: &str) -> Result<std::time::Duration, String> {
    if text.parse::<f64>() == Ok(0.0) { Ok(std::time::Duration::ZERO) } else { seconds(text) }
}
