//! Makes the requests of a run: the tokenizer, the dataset, and what is to be said of them.

use super::{DatasetPlan, Error, Exit, ServePlan, Surroundings, TargetPlan, TokenizerPlan};
use super::{input, preflight, progress};
use crate::measure::{DatasetFacts, PromptTokensSource};
use crate::wire;
use crate::workload::{DatasetError, Request, SONNETS, Templating, TokenCounter, Tokenizer, decode};
use jiff::civil::DateTime;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use tokio::time::Instant;

/// The requests of a run, and where they come from.
#[derive(Debug)]
pub(super) struct Dataset {
    pub(super) requests: Vec<Request>,
    pub(super) counter: TokenCounter,
    pub(super) facts: DatasetFacts,
}

/// A dataset that is being made while the target is looked at.
pub(super) enum Making {
    Done(Box<Dataset>),
    Running(mpsc::Receiver<Result<Dataset, Error>>),
}

/// How often the wait for a dataset looks whether it still is to go on.
const LOOK: Duration = Duration::from_millis(20);

/// What a dataset is made from.
struct Job {
    plan: DatasetPlan,
    /// What the SHA-256 of its bytes has to be.
    sha256: Option<String>,
    tokenizer: TokenizerPlan,
    now: DateTime,
    bar: bool,
}

impl Making {
    /// Without a tokenizer the dataset is there at once, and its faults come before those of the target.
    pub(super) fn start(plan: &ServePlan, now: DateTime, world: &mut Surroundings) -> Result<Self, Error> {
        let embedded = matches!(plan.target, TargetPlan::Embedded(_));
        let (tokenizer, note) = input::found_tokenizer(&plan.tokenizer)?;
        if let Some(note) = note.filter(|_| !embedded) {
            world.note(&note);
        }
        let bar = plan.progress && world.progress_bar;
        let (dataset, sha256) = (plan.dataset.clone(), plan.dataset_sha256.clone());
        let job = Job { plan: dataset, sha256, tokenizer, now, bar };
        if job.tokenizer == TokenizerPlan::Estimate {
            return Ok(Making::Done(Box::new(job.make()?)));
        }
        let (made, running) = mpsc::channel();
        // Where the run was stopped meanwhile nobody wants it any more.
        let making =
            thread::Builder::new().name("dataset".to_owned()).spawn(move || drop(made.send(job.make())));
        making.map(|_| Making::Running(running)).map_err(|error| {
            Error::new(Exit::Preflight, "cannot start a thread for the dataset").caused_by(error)
        })
    }

    /// The dataset; waits for it without giving way to anything else but a signal that stops the run.
    pub(super) fn finish(self, world: &Surroundings) -> Result<Dataset, Error> {
        let running = match self {
            Making::Done(dataset) => return Ok(*dataset),
            Making::Running(running) => running,
        };
        loop {
            match running.recv_timeout(LOOK) {
                Ok(made) => return made,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(Exit::Preflight, "the thread of the dataset failed"));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    preflight::stopped_early(world).map_or(Ok(()), Err)?;
                }
            }
        }
    }
}

impl Dataset {
    /// Where the lengths of its prompts come from.
    pub(super) fn prompt_tokens_source(&self) -> PromptTokensSource {
        match self.counter {
            TokenCounter::Estimate => PromptTokensSource::Estimate,
            TokenCounter::Tokenizer(_) => PromptTokensSource::Tokenizer,
        }
    }
}

impl Job {
    fn make(&self) -> Result<Dataset, Error> {
        let started = Instant::now();
        let counter = self.counter()?;
        let load_ms = counter.tokenizer().map(|_| started.elapsed().as_secs_f64() * 1e3);
        let (name, path) = match &self.plan {
            DatasetPlan::Sonnet { path, .. } => ("sonnet", path.as_deref()),
            DatasetPlan::Random(_) => ("random", None),
            DatasetPlan::ShareGpt { path, .. } => ("sharegpt", Some(path.as_path())),
            DatasetPlan::Custom { path, .. } => ("custom", Some(path.as_path())),
            DatasetPlan::Questions => ("questions", None),
        };
        let generated = matches!(self.plan, DatasetPlan::Random(_));
        let bytes = match path {
            Some(path) => input::read(path, "prompts")?,
            None if generated => Vec::new(),
            None => SONNETS.as_bytes().to_vec(),
        };
        let sha256 = if generated { String::new() } else { wire::sha256(&bytes) };
        self.check_sum(&sha256, path)?;
        let requests = self.requests(&bytes, &counter).map_err(|error| fault(error, generated, path))?;
        let place = if generated { "generated" } else { "embedded" };
        let facts = DatasetFacts {
            name: name.to_owned(),
            path: path.map_or(place.to_owned(), |path| path.display().to_string()),
            sha256,
            token_counter: counter.name().to_owned(),
            tokenizer_load_ms: load_ms,
            remark: self.remark(&counter, &requests).map(str::to_owned),
        };
        Ok(Dataset { requests, counter, facts })
    }

    fn requests(&self, bytes: &[u8], counter: &TokenCounter) -> Result<Vec<Request>, DatasetError> {
        match &self.plan {
            DatasetPlan::Sonnet { sonnet, .. } => sonnet.requests(decode(bytes)?, counter),
            DatasetPlan::ShareGpt { sharegpt, .. } => sharegpt.requests(decode(bytes)?, counter),
            DatasetPlan::Custom { custom, .. } => custom.requests(decode(bytes)?, counter),
            DatasetPlan::Questions => Ok(Vec::new()),
            DatasetPlan::Random(random) => {
                let bar = self.bar.then(|| progress::bar(random.num_prompts));
                let made = random.requests(counter, &|done, _| {
                    if let Some(bar) = &bar {
                        bar.set_position(done as u64);
                    }
                });
                if let Some(bar) = bar {
                    bar.finish_and_clear();
                }
                made
            }
        }
    }

    /// Refuses a file that is not the one that was meant.
    fn check_sum(&self, found: &str, path: Option<&Path>) -> Result<(), Error> {
        match &self.sha256 {
            Some(wanted) if wanted != found => {
                let shown =
                    path.map_or("the built-in text".to_owned(), |path| format!("`{}`", path.display()));
                let what = format!(
                    "{shown} is another file than was asked for: its SHA-256 is {found}, not {wanted}"
                );
                Err(Error::new(Exit::Usage, what).help("fetch the right file, or check --dataset-sha256"))
            }
            _ => Ok(()),
        }
    }

    fn counter(&self) -> Result<TokenCounter, Error> {
        counter(&self.tokenizer, self.now)
    }

    /// What is particular about the prompts.
    fn remark(&self, counter: &TokenCounter, requests: &[Request]) -> Option<&'static str> {
        let templating = match &self.plan {
            DatasetPlan::Sonnet { sonnet, .. } => sonnet.templating,
            DatasetPlan::Custom { custom, .. } => custom.templating,
            DatasetPlan::Random(random) => {
                let estimated = counter.tokenizer().is_none();
                let longest = requests.iter().map(|request| request.prompt_tokens).max();
                let fixed = random.range_ratio.input == 0.0;
                let uneven = fixed && requests.iter().any(|request| Some(request.prompt_tokens) != longest);
                return match (estimated, uneven) {
                    (true, _) => {
                        Some("words of four bytes a token, not those of vLLM: there is no tokenizer")
                    }
                    (_, true) => Some("some prompts miss their length by a few tokens, as vLLM's do"),
                    _ => None,
                };
            }
            DatasetPlan::ShareGpt { .. } | DatasetPlan::Questions => return None,
        };
        let without = counter.tokenizer().is_some() && counter.chat_template().is_none();
        (without && templating == Templating::Sent).then_some("raw text: the tokenizer has no chat template")
    }
}

/// What lengths are counted with.
pub(super) fn counter(plan: &TokenizerPlan, now: DateTime) -> Result<TokenCounter, Error> {
    let directory = match plan {
        TokenizerPlan::Estimate => return Ok(TokenCounter::Estimate),
        TokenizerPlan::Directory(directory) | TokenizerPlan::IfLocal(directory) => directory,
    };
    let files = input::tokenizer(directory)?;
    let name = directory.display().to_string();
    let tokenizer = Tokenizer::load(&name, &files.borrowed(), now).map_err(|error| {
        let help = error.help().to_owned();
        Error::new(Exit::Usage, format!("cannot use the tokenizer in `{name}`")).caused_by(error).help(help)
    })?;
    Ok(TokenCounter::Tokenizer(Arc::new(tokenizer)))
}

fn fault(error: DatasetError, generated: bool, path: Option<&Path>) -> Error {
    let shown = match path {
        Some(path) => format!(" from `{}`", path.display()),
        None if generated => String::new(),
        None => " from the built-in text".to_owned(),
    };
    let help = error.help().to_owned();
    Error::new(Exit::Usage, format!("cannot make prompts{shown}")).caused_by(error).help(help)
}
