//! `pdbench dataset`: gets published files into the user's cache, and says which are there and where.

mod bar;
mod download;
mod part;

use super::{Error, Exit, Published, Surroundings, TrustPlan, input};
use crate::report::WriteError;
use crate::runtime::Stop;
use crate::wire::{HttpProxy, Target};
use bar::Bar;
use download::{Fault, Source};
use part::{Part, bytes_of_part, sha256_of};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Longest file that is fetched, in bytes: ten times the longest there is.
const LONGEST: u64 = 64 << 20;

/// The data set whose questions the published tasks ask.
const QUESTIONS: &str = "gsm8k";

/// What `dataset` was asked to do.
#[derive(Debug)]
pub struct CachePlan {
    /// What there is to fetch.
    pub published: &'static [Published],
    /// Where it is kept.
    pub directory: PathBuf,
    /// What to do.
    pub errand: Errand,
}

/// What to do with the user's cache.
#[derive(Debug)]
pub enum Errand {
    /// Say what there is.
    List,
    /// Get something.
    Fetch(Box<FetchPlan>),
    /// Say where this is.
    Path(String),
}

/// What `dataset fetch` was asked to get.
#[derive(Debug)]
pub struct FetchPlan {
    /// Names of what to get.
    pub names: Vec<String>,
    /// A place that has the files by their names in the cache, instead of where their authors publish them.
    pub mirror: Option<Target>,
    /// Whom an https server has to convince.
    pub trust: TrustPlan,
    /// What stands between.
    pub way: Way,
    /// Show progress.
    pub progress: bool,
}

/// The way to a server.
#[derive(Debug)]
pub enum Way {
    /// Straight.
    Direct,
    /// Through this HTTP proxy.
    Through(HttpProxy),
    /// Through the one that the environment names for the server, if it does.
    Environment,
}

/// A file that is wanted, and where it is kept.
struct Wanted {
    published: Published,
    place: PathBuf,
}

/// What is known of a place in the cache.
enum State {
    There,
    Missing,
    /// Another file is there, of this sum.
    Other(String),
}

/// Does what was asked for.
pub(super) async fn dataset(plan: CachePlan, world: &mut Surroundings) -> Result<Exit, Error> {
    match &plan.errand {
        Errand::List => plan.list(world),
        Errand::Path(name) => plan.path(name, world),
        Errand::Fetch(fetch) => plan.fetch(fetch, world).await,
    }
}

impl CachePlan {
    fn files(&self) -> impl Iterator<Item = Wanted> {
        let place = |published: &Published| self.directory.join(published.file);
        self.published.iter().map(move |published| Wanted { published: *published, place: place(published) })
    }

    fn files_of(&self, name: &str) -> Result<Vec<Wanted>, Error> {
        let files: Vec<_> = self.files().filter(|file| file.published.name == name).collect();
        if files.is_empty() {
            let what = format!("nothing by the name of `{}` is published", name.escape_debug());
            return Err(Error::new(Exit::Usage, what).help("`pdbench dataset fetch` lists what is"));
        }
        Ok(files)
    }

    fn list(&self, world: &mut Surroundings) -> Result<Exit, Error> {
        let mut text = format!("cache {}\n", self.directory.display());
        for Wanted { published, place } in self.files() {
            let state = match (state(&place, &published)?, bytes_of_part(&place)) {
                (State::There, _) => "there".to_owned(),
                (State::Missing, None) => "not there".to_owned(),
                (State::Missing, Some(bytes)) => {
                    format!("not there, but the first {bytes} bytes of a download")
                }
                (State::Other(sum), _) => format!("another file is there, of SHA-256 {sum}"),
            };
            let Published { name, file, url, sha256 } = published;
            let _ = write!(text, "\n{name}: {file}\n  {state}\n  from     {url}\n  SHA-256  {sha256}\n");
        }
        world.print(&text).map(|()| Exit::Valid)
    }

    /// Prints the one file of a name, or the directory of several.
    fn path(&self, name: &str, world: &mut Surroundings) -> Result<Exit, Error> {
        let files = self.files_of(name)?;
        for Wanted { published, place } in &files {
            let why = match state(place, published)? {
                State::There => continue,
                State::Missing => format!("there is no `{}`", place.display()),
                State::Other(sum) => {
                    format!("`{}` is another file: its SHA-256 is {sum}", place.display())
                }
            };
            return Err(Error::new(Exit::Usage, why).help(format!("`pdbench dataset fetch {name}` gets it")));
        }
        let place = match files.as_slice() {
            [only] => Some(only.place.as_path()),
            [first, ..] => first.place.parent(),
            [] => None,
        };
        let place = place.expect("a name has files, and a file a directory");
        world.print(&format!("{}\n", place.display())).map(|()| Exit::Valid)
    }

    async fn fetch(&self, plan: &FetchPlan, world: &mut Surroundings) -> Result<Exit, Error> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for name in &plan.names {
            let files = self.files_of(name)?;
            let new = |file: &Wanted| wanted.iter().all(|known| known.place != file.place);
            let files: Vec<_> = files.into_iter().filter(new).collect();
            wanted.extend(files);
        }
        for file in &wanted {
            let shown = file.place.display();
            match state(&file.place, &file.published)? {
                State::There => world.print(&format!("already there: {shown}\n"))?,
                State::Missing => file.fetch(plan, world).await?,
                State::Other(sum) => {
                    world.note(&format!(
                        "`{shown}` is another file: its SHA-256 is {sum}. It gives way to the published one\n"
                    ));
                    file.fetch(plan, world).await?;
                }
            }
        }
        self.mind_the_questions(&wanted, world)?;
        Ok(Exit::Valid)
    }

    /// A task is of use with its questions alone, and those that are published are all of [`QUESTIONS`].
    fn mind_the_questions(&self, wanted: &[Wanted], world: &mut Surroundings) -> Result<(), Error> {
        let Some(task) = wanted.iter().find(|file| file.published.is_task()) else { return Ok(()) };
        for file in self.files().filter(|file| file.published.name == QUESTIONS) {
            if !matches!(state(&file.place, &file.published)?, State::There) {
                let name = task.published.name;
                world.note(&format!(
                    "{name} asks the questions of {QUESTIONS}: `pdbench dataset fetch {QUESTIONS}` gets them\n"
                ));
                break;
            }
        }
        Ok(())
    }
}

impl Published {
    fn is_task(&self) -> bool {
        self.file.ends_with(".yaml")
    }
}

impl Wanted {
    /// Gets the file and puts it in its place.
    async fn fetch(&self, plan: &FetchPlan, world: &mut Surroundings) -> Result<(), Error> {
        let mut part = Part::open(&self.place, LONGEST).map_err(not_written)?;
        if part.sha256() != self.published.sha256
            && let Err(error) = self.complete(&mut part, plan, world).await
        {
            if part.bytes() == 0 {
                // There is nothing to go on from, and this error is not the one that matters.
                let _ = part.discard();
            }
            return Err(error);
        }
        let bytes = part.bytes();
        part.keep().map_err(not_written)?;
        world.print(&format!("fetched: {} ({bytes} bytes)\n", self.place.display()))
    }

    /// Gets what the part lacks, until it is the file.
    async fn complete(
        &self,
        part: &mut Part,
        plan: &FetchPlan,
        world: &mut Surroundings,
    ) -> Result<(), Error> {
        let Published { sha256, file, .. } = &self.published;
        let target = self.target(plan)?;
        let url = target.base_url();
        let proxy = self.proxy(&target, &plan.way, world)?;
        let source = Source::new(&target, proxy.as_ref())
            .map_err(|error| self.failed(&url, &error.to_string(), plan, world))?;
        let before = part.bytes();
        let from = if before == 0 { String::new() } else { format!(", from byte {before} on") };
        let by = proxy.map_or(String::new(), |proxy| format!(" through {}", proxy.url()));
        world.note(&format!("fetching {url}{by}{from}\n"));
        let mut stop = world.interrupt.signal();
        let mut bar = Bar::new(plan.progress, file, world);
        let progress = &mut |bytes, total| bar.show(bytes, total);
        let done = tokio::select! {
            biased;
            () = stop.reached(Stop::Drain) => None,
            done = source.complete(part, LONGEST, progress) => Some(done),
        };
        bar.end();
        match done {
            None => return Err(stopped(part, world)),
            Some(Ok(())) => {}
            Some(Err(Fault::NoAnswer(why))) => return Err(self.failed(&url, &why, plan, world)),
            Some(Err(Fault::Write(error))) => return Err(not_written(error)),
            Some(Err(Fault::Broken(why))) => {
                let error = Error::new(Exit::Preflight, format!("cannot fetch {url}: {why}"));
                return Err(error.help("the same call goes on from there"));
            }
            Some(Err(Fault::TooLong)) => {
                part.discard().map_err(not_written)?;
                let mebibytes = LONGEST >> 20;
                let what =
                    format!("{url} is longer than {mebibytes} MiB, and so not {file}; nothing was kept");
                return Err(Error::new(Exit::Preflight, what).help(self.elsewhere()));
            }
        }
        let sum = part.sha256();
        if sum == *sha256 {
            return Ok(());
        }
        part.discard().map_err(not_written)?;
        let what =
            format!("{url} is not {file}: its SHA-256 is {sum}, and {sha256} is wanted; nothing was kept");
        let help = match before {
            0 => {
                "something between may have answered in its place, or its authors have changed it".to_owned()
            }
            _ => "it was put together from two downloads: the same call fetches all of it anew".to_owned(),
        };
        Err(Error::new(Exit::Preflight, what).help(format!("{help}. {}", self.elsewhere())))
    }

    fn target(&self, plan: &FetchPlan) -> Result<Target, Error> {
        let url = match &plan.mirror {
            None => self.published.url.to_owned(),
            Some(mirror) => format!("{}/{}", mirror.base_url(), self.published.file),
        };
        let target = Target::parse(&url)
            .map_err(|error| Error::new(Exit::Usage, format!("cannot fetch from {url}")).caused_by(error))?;
        input::trusting(&target, &plan.trust).map_err(|error| match error.exit {
            Exit::Preflight => {
                error.help("install the system's CA certificates, or name some with --ca-file")
            }
            _ => error,
        })
    }

    fn proxy(&self, target: &Target, way: &Way, world: &Surroundings) -> Result<Option<HttpProxy>, Error> {
        match way {
            Way::Direct => Ok(None),
            Way::Through(proxy) => Ok(Some(proxy.clone())),
            Way::Environment => of_environment(target, world).map_err(|error| {
                Error::new(Exit::Usage, "the HTTP proxy cannot be used")
                    .caused_by(error)
                    .help("`env` looks at http_proxy, https_proxy, all_proxy and no_proxy")
            }),
        }
    }

    /// The server, or the way to it, is no use.
    fn failed(&self, url: &str, why: &str, plan: &FetchPlan, world: &Surroundings) -> Error {
        let named = Target::parse(url).ok().and_then(|target| of_environment(&target, world).ok().flatten());
        let proxy = match (&plan.way, named) {
            (Way::Direct, Some(_)) => {
                "the environment names an HTTP proxy, and --http-proxy env goes through it. "
            }
            _ => "",
        };
        Error::new(Exit::Preflight, format!("cannot fetch {url}: {why}"))
            .help(format!("{proxy}{}", self.elsewhere()))
    }

    /// How the file gets to where nothing can be fetched.
    fn elsewhere(&self) -> String {
        let Published { url, sha256, .. } = &self.published;
        let flag = match self.published.is_task() {
            true => "or name the file with --task-yaml",
            false => "or name its directory with --dataset-path",
        };
        let place = self.place.display();
        format!(
            "Where the network is out of reach, get {url} elsewhere, see that sha256sum says {sha256}, and put it at \
             `{place}`, {flag}"
        )
    }
}

fn of_environment(
    target: &Target,
    world: &Surroundings,
) -> Result<Option<HttpProxy>, crate::wire::HttpProxyError> {
    let (tls, variable) = (target.tls().is_some(), &world.environment);
    HttpProxy::from_environment(tls, target.host(), target.port(), variable)
}

fn state(place: &Path, published: &Published) -> Result<State, Error> {
    let sum = sha256_of(place).map_err(|error| {
        Error::new(Exit::Usage, format!("cannot read `{}`", place.display()))
            .caused_by(error)
            .help("move it out of the way, or use another directory: --cache-dir DIR")
    })?;
    Ok(match sum {
        None => State::Missing,
        Some(sum) if sum == published.sha256 => State::There,
        Some(sum) => State::Other(sum),
    })
}

fn stopped(part: &Part, world: &Surroundings) -> Error {
    let exit = world.interrupt.exit().unwrap_or(Exit::Interrupted);
    let what = format!("stopped; {} bytes are kept in `{}`", part.bytes(), part.path().display());
    Error::new(exit, what).help("the same call goes on from there")
}

fn not_written(error: WriteError) -> Error {
    Error::new(Exit::NotWritten, "cannot keep what is fetched")
        .caused_by(error)
        .help("make room or rights there, or use another directory: --cache-dir DIR")
}
