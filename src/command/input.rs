//! Reads the files that a run is made from and hands over their bytes.

use super::{DatasetPlan, Error, Exit, TrustPlan};
use crate::measure::DatasetFacts;
use crate::wire::{Target, TlsError, Trust, certificates};
use crate::workload::{DatasetError, Request, SONNETS, TokenCounter, decode};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

/// The requests of a dataset, and where they come from.
pub(super) fn dataset(plan: &DatasetPlan) -> Result<(Vec<Request>, DatasetFacts), Error> {
    let counter = TokenCounter::Estimate;
    let (name, path) = match plan {
        DatasetPlan::Sonnet { path, .. } => ("sonnet", path.as_deref()),
        DatasetPlan::Custom { path, .. } => ("custom", Some(path.as_path())),
    };
    let bytes = match path {
        Some(path) => read(path, "prompts")?,
        None => SONNETS.as_bytes().to_vec(),
    };
    let shown = path.map_or("the built-in text".to_owned(), |path| format!("`{}`", path.display()));
    let fault = |error: DatasetError| {
        let help = error.help().to_owned();
        Error::new(Exit::Usage, format!("cannot make prompts from {shown}")).caused_by(error).help(help)
    };
    let text = decode(&bytes).map_err(fault)?;
    let requests = match plan {
        DatasetPlan::Sonnet { sonnet, .. } => sonnet.requests(text, &counter),
        DatasetPlan::Custom { custom, .. } => custom.requests(text, &counter),
    };
    let facts = DatasetFacts {
        name: name.to_owned(),
        path: path.map_or("embedded".to_owned(), |path| path.display().to_string()),
        sha256: sha256(&bytes),
        token_counter: counter.name().to_owned(),
    };
    Ok((requests.map_err(fault)?, facts))
}

/// The target, believing the certificates that the plan says it may believe.
pub(super) fn trusting(target: &Target, plan: &TrustPlan) -> Result<Target, Error> {
    if target.tls().is_none() {
        return Ok(target.clone());
    }
    let file = match plan {
        TrustPlan::Anyone => None,
        TrustPlan::Authorities(file) => file.as_deref(),
    };
    let wrong = |error: TlsError| {
        match file {
        Some(file) => {
            Error::new(Exit::Usage, format!("cannot take certificates from `{}`", file.display()))
                .caused_by(error)
                .help("--ca-file wants certificates in PEM: text between -----BEGIN CERTIFICATE----- and -----END …")
        }
        None => Error::new(Exit::Preflight, format!("cannot check who answers at {}", target.base_url()))
            .caused_by(error)
            .help("install the system's CA certificates, or name some with --ca-file; --insecure goes without"),
    }
    };
    let trust = match plan {
        TrustPlan::Anyone => Trust::Anyone,
        TrustPlan::Authorities(_) => {
            let pem = file.map(|file| read(file, "certificates")).transpose()?;
            let named = pem.map_or(Ok(Vec::new()), |pem| certificates(&pem)).map_err(wrong)?;
            Trust::Authorities { system: rustls_native_certs::load_native_certs().certs, named }
        }
    };
    target.clone().trusting(&trust).map_err(wrong)
}

/// A file's bytes.
pub(super) fn read(path: &Path, what: &str) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "check the path; it is taken from the current directory",
            io::ErrorKind::PermissionDenied => "make the file readable for this user",
            _ => "name a readable file",
        };
        Error::new(Exit::Usage, format!("cannot read {what} from `{}`", path.display()))
            .caused_by(error)
            .help(help)
    })
}

/// A file to write lines to, made anew.
pub(super) fn create(path: &Path, what: &str) -> Result<io::BufWriter<fs::File>, Error> {
    let file = fs::File::create(path).map_err(|error| {
        Error::new(Exit::Usage, format!("cannot write {what} to `{}`", path.display()))
            .caused_by(error)
            .help("name a file in a directory that is there and writable")
    })?;
    Ok(io::BufWriter::new(file))
}

/// Runs beside a new one beyond which none is looked at: reading them would hold up the start.
const MOST_RUNS: usize = 1000;
/// Longest `run.json` that is looked at; in-flight samples can make one long.
const LONGEST_RUN_FILE: u64 = 4 << 20;

/// The content of each `run.json` one level below `output_dir`; of none where there are too many.
pub(super) fn run_files(output_dir: &Path) -> impl Iterator<Item = Vec<u8>> {
    let entries = fs::read_dir(output_dir).into_iter().flatten().filter_map(Result::ok);
    let mut paths: Vec<_> = entries.take(MOST_RUNS + 1).map(|entry| entry.path().join("run.json")).collect();
    if MOST_RUNS < paths.len() {
        paths.clear();
    }
    let short = |path: &std::path::PathBuf| {
        fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= LONGEST_RUN_FILE)
    };
    paths.into_iter().filter(short).filter_map(|path| fs::read(path).ok())
}

/// Scheduling periods in which this process's control group has been throttled so far; `None` where none tells.
pub(super) fn throttled_periods() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let stat = fs::read_to_string(format!("/sys/fs/cgroup{group}/cpu.stat")).ok()?;
    stat.lines().find_map(|line| line.strip_prefix("nr_throttled "))?.trim().parse().ok()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
