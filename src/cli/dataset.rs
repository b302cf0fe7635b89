//! `pdbench dataset`, and where the user's cache is.

use super::{Outside, usage, way};
use crate::command::{CachePlan, Errand, Error, FetchPlan, PUBLISHED, TrustPlan};
use crate::wire::Target;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Gets published data sets and tasks into the user's cache, or says where they are.
#[derive(Debug, Args)]
#[command(
    long_about = "Gets the data sets and tasks that their authors publish, and that are no part of this program, into \
    the user's cache, where `pdbench accuracy` finds them; or says where they are."
)]
pub(super) struct DatasetArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Fetch(FetchArgs),
    Path(PathArgs),
}

/// Gets data sets and tasks over HTTPS; without a name, lists what there is and what is there already.
#[derive(Debug, Args)]
#[command(
    long_about = "Gets data sets and tasks from where their authors publish them, over HTTPS, and keeps them once their \
    SHA-256 is the right one. A download that broke off is gone on with; nothing is tried again by itself, and no \
    redirect is followed. Without a name it lists each file, its place, its URL and its SHA-256, and says which are \
    there already.\n\n\
    Without a network: get the URL that is listed elsewhere, see that sha256sum says what is listed, and put the file \
    by its name into the cache directory; or keep it anywhere, and name its directory with `pdbench accuracy \
    --dataset-path DIR`, a task's file with --task-yaml. Behind a firewall: --http-proxy, or --url-base with a mirror.\n\n\
    Exit status: 0 all there, 2 wrong usage, 3 not fetched, or not what was published, 5 not written, 130/143 stopped \
    by SIGINT/SIGTERM. After 3 from a broken connection, 130 and 143 the same call goes on where it ended."
)]
struct FetchArgs {
    /// What to get
    #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(names()))]
    names: Vec<String>,
    #[command(flatten)]
    cache: CacheArgs,
    /// A mirror: the file listed as a/b is fetched from URL/a/b; http will do, as the SHA-256 is checked
    #[arg(long, value_name = "URL")]
    url_base: Option<String>,
    /// PEM file with certificates to accept beside the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// HTTP proxy: none, env (http_proxy, https_proxy, all_proxy and no_proxy of the environment) or http://HOST:PORT
    #[arg(long, default_value = "none", value_name = "none|env|URL")]
    http_proxy: String,
    /// Show no progress
    #[arg(long, visible_alias = "no-progress")]
    disable_tqdm: bool,
}

/// Prints where a data set or task is: its file, or the directory of its files.
#[derive(Debug, Args)]
#[command(
    long_about = "Prints where a data set or task is: its file, or the directory of its files, as --task-yaml and \
    --dataset-path take them. Exit status: 0, or 2 where it is not there or not what was published."
)]
struct PathArgs {
    /// What to look for
    #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(names()))]
    name: String,
    #[command(flatten)]
    cache: CacheArgs,
}

#[derive(Debug, Args)]
struct CacheArgs {
    /// Where files are kept; `pdbench accuracy` looks into the default alone [default: $XDG_CACHE_HOME/pdbench, else
    /// ~/.cache/pdbench]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
}

impl DatasetArgs {
    pub(super) fn plan(self, outside: &Outside<'_>) -> Result<CachePlan, Error> {
        let (cache, errand) = match self.what {
            What::Path(PathArgs { name, cache }) => (cache, Errand::Path(name)),
            What::Fetch(arguments) if arguments.names.is_empty() => (arguments.cache, Errand::List),
            What::Fetch(arguments) => {
                let plan = FetchPlan {
                    mirror: arguments.mirror()?,
                    way: way(&arguments.http_proxy)?,
                    names: arguments.names,
                    trust: TrustPlan::Authorities(arguments.ca_file),
                    progress: !arguments.disable_tqdm,
                };
                (arguments.cache, Errand::Fetch(Box::new(plan)))
            }
        };
        let directory = cache.cache_dir.or_else(|| self::cache(outside)).ok_or_else(|| {
            usage("there is no cache: neither HOME nor XDG_CACHE_HOME says where")
                .help("name one: --cache-dir DIR")
        })?;
        Ok(CachePlan { published: PUBLISHED, directory, errand })
    }
}

impl FetchArgs {
    fn mirror(&self) -> Result<Option<Target>, Error> {
        let Some(typed) = self.url_base.as_deref() else { return Ok(None) };
        let secret = |url: url::Url| !url.username().is_empty() || url.password().or(url.query()).is_some();
        if typed.parse().is_ok_and(secret) {
            return Err(usage("--url-base has credentials or a query, where secrets do not belong").help(
                "name a mirror that wants none, or put the files into the cache by hand: --help says how",
            ));
        }
        let parsed = Target::parse(typed).map(Some);
        parsed.map_err(|error| {
            usage("--url-base cannot be used")
                .caused_by(error)
                .help("want http://HOST/PATH or https://HOST/PATH")
        })
    }
}

/// Everything that can be fetched, by name.
fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = PUBLISHED.iter().map(|published| published.name).collect();
    names.dedup();
    names
}

/// Where downloads are kept.
pub(super) fn cache(outside: &Outside<'_>) -> Option<PathBuf> {
    let named = |name: &str| (outside.variable)(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    // A relative one is to be ignored, says the standard.
    let base = named("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    Some(base.or_else(|| named("HOME").map(|home| home.join(".cache")))?.join("pdbench"))
}
