//! Reads the files that a run is made from and hands over their bytes.

use super::{Error, Exit, TokenizerPlan, TrustPlan};
use crate::report::plain;
use crate::wire::{Target, TlsError, Trust, certificates};
use crate::workload::TokenizerFiles;
use std::fs;
use std::io;
use std::path::Path;

/// The bytes of a tokenizer's files.
pub(super) struct TokenizerBytes {
    tokenizer: Vec<u8>,
    /// The other files, in the order of [`BESIDES`], where they are.
    besides: [Option<Vec<u8>>; 3],
}

const TOKENIZER: &str = "tokenizer.json";
const BESIDES: [&str; 3] = ["tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];

impl TokenizerBytes {
    pub(super) fn borrowed(&self) -> TokenizerFiles<'_> {
        let [config, special_tokens_map, chat_template] = self.besides.each_ref().map(Option::as_deref);
        TokenizerFiles { tokenizer: &self.tokenizer, config, special_tokens_map, chat_template }
    }
}

/// The tokenizer that there is for a plan, and what to say where there is none.
pub(super) fn found_tokenizer(plan: &TokenizerPlan) -> Result<(TokenizerPlan, Option<String>), Error> {
    match plan {
        TokenizerPlan::Directory(directory) if !directory.join(TOKENIZER).is_file() => {
            let shown = directory.display();
            let what = match directory.is_dir() {
                true => format!("--tokenizer `{shown}` has no {TOKENIZER}"),
                false => format!("--tokenizer `{shown}` is not a local directory"),
            };
            Err(Error::new(Exit::Usage, what).help(format!(
                "name a directory with the model's {TOKENIZER}; nothing is downloaded. --skip-tokenizer-init \
                 estimates lengths as 4 bytes a token"
            )))
        }
        TokenizerPlan::IfLocal(directory) if !directory.join(TOKENIZER).is_file() => {
            let note = format!(
                "no tokenizer: `{}` is no local directory with a {TOKENIZER}; prompt lengths are estimated as 4 bytes \
                 a token (--tokenizer DIR counts them)\n",
                plain(&directory.display().to_string())
            );
            Ok((TokenizerPlan::Estimate, Some(note)))
        }
        found => Ok((found.clone(), None)),
    }
}

/// The files of a tokenizer's directory.
pub(super) fn tokenizer(directory: &Path) -> Result<TokenizerBytes, Error> {
    let optional = |name: &str| {
        let path = directory.join(name);
        path.is_file().then(|| read(&path, "the tokenizer")).transpose()
    };
    let [config, map, template] = BESIDES;
    Ok(TokenizerBytes {
        tokenizer: read(&directory.join(TOKENIZER), "the tokenizer")?,
        besides: [optional(config)?, optional(map)?, optional(template)?],
    })
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

/// The key in a file: its first line, and there is no other.
pub(crate) fn key_file(path: &Path) -> Result<String, Error> {
    let text = String::from_utf8_lossy(&read(path, "the key")?).trim().to_owned();
    let wrong = |why: &str| {
        Error::new(Exit::Usage, format!("`{}` {why}", path.display())).help("put the key there, in one line")
    };
    match text.lines().count() {
        0 => Err(wrong("holds no key")),
        1 => Ok(text),
        _ => Err(wrong("holds more than one line")),
    }
}

/// A file to write lines to, made anew; `-` is standard output.
pub(super) fn create(path: &Path, what: &str) -> Result<Box<dyn io::Write + Send>, Error> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::BufWriter::new(io::stdout())));
    }
    let file = fs::File::create(path).map_err(|error| {
        Error::new(Exit::Usage, format!("cannot write {what} to `{}`", path.display()))
            .caused_by(error)
            .help("name a file in a directory that is there and writable")
    })?;
    Ok(Box::new(io::BufWriter::new(file)))
}

/// What says that a directory holds the runs of a ladder.
pub(super) const LADDER: &str = "ladder.json";

/// A ladder's own file; `None` where the directory is none of a ladder.
pub(super) fn ladder_file(directory: &Path) -> Result<Option<Vec<u8>>, Error> {
    let path = directory.join(LADDER);
    path.is_file().then(|| read(&path, "a ladder")).transpose()
}

/// Whether there is something of this name.
pub(super) fn is_there(path: &Path) -> bool {
    path.exists()
}

/// The bytes of a run's files: `run.json`, and the journal where that is left.
pub(super) type RunBytes = (Vec<u8>, Option<Vec<u8>>);

/// The files of a run; `None` for what is no directory.
pub(super) fn run_of(path: &Path) -> Result<Option<RunBytes>, Error> {
    if !path.is_dir() {
        return Ok(None);
    }
    let journal = path.join("records.jsonl");
    let journal = journal.is_file().then(|| read(&journal, "records")).transpose()?;
    Ok(Some((read(&path.join("run.json"), "a run")?, journal)))
}

/// Runs beside a new one beyond which none is looked at: reading them would hold up the start.
const MOST_RUNS: usize = 1000;
/// Longest `run.json` that is looked at; in-flight samples can make one long.
const LONGEST_RUN_FILE: u64 = 4 << 20;

/// The content of each `run.json` one level below `output_dir`, and below the ladders there; of none where there are too
/// many.
pub(super) fn run_files(output_dir: &Path) -> impl Iterator<Item = Vec<u8>> {
    let below = |directory: &Path| {
        let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
        entries.take(MOST_RUNS + 1).map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let runs = below(output_dir);
    let ladders = runs.iter().filter(|path| path.join(LADDER).is_file()).flat_map(|ladder| below(ladder));
    let runs: Vec<_> = runs.iter().cloned().chain(ladders).take(MOST_RUNS + 1).collect();
    let mut paths: Vec<_> = runs.into_iter().map(|path| path.join("run.json")).collect();
    if MOST_RUNS < paths.len() {
        paths.clear();
    }
    let short = |path: &std::path::PathBuf| {
        fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= LONGEST_RUN_FILE)
    };
    paths.into_iter().filter(short).filter_map(|path| fs::read(path).ok())
}

/// The first and the last local port that connections to one place may have; `None` where the system does not tell.
pub(super) fn local_ports() -> Option<(u16, u16)> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let (first, last) = text.trim().split_once(|c: char| c.is_ascii_whitespace())?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

/// Scheduling periods in which this process's control group has been throttled so far; `None` where none tells.
pub(super) fn throttled_periods() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let stat = fs::read_to_string(format!("/sys/fs/cgroup{group}/cpu.stat")).ok()?;
    stat.lines().find_map(|line| line.strip_prefix("nr_throttled "))?.trim().parse().ok()
}
