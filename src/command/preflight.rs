//! What is made sure of before the load: an address, a model, and one whole answer.

use super::{Error, Exit, InterruptedBy, Surroundings};
use crate::load::{Load, Pass, Prepared};
use crate::measure::{Kind, Outcome, RequestRecord};
use crate::wire::Target;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// The addresses that a target's host stands for.
pub(super) async fn resolve(target: &Target) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(address) = target.host().parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, target.port())]);
    }
    let failed = |why: String| {
        Error::new(Exit::Preflight, format!("cannot resolve the host of {}: {why}", target.base_url()))
            .help("check the name in --base-url or --host")
    };
    let found = tokio::net::lookup_host((target.host(), target.port())).await;
    let addresses: Vec<SocketAddr> = found.map_err(|error| failed(error.to_string()))?.collect();
    if addresses.is_empty() { Err(failed("it has no address".into())) } else { Ok(addresses) }
}

/// Waits until something listens, for as long as asked; one try by default.
pub(super) async fn wait_ready(
    target: &Target,
    address: SocketAddr,
    patience: Duration,
    world: &mut Surroundings,
) -> Result<(), Error> {
    let give_up = Instant::now() + patience;
    let mut told = false;
    loop {
        let error = match timeout(Duration::from_secs(5), TcpStream::connect(address)).await {
            Ok(Ok(_)) if patience.is_zero() => return Ok(()),
            Ok(Ok(_)) => match health(target).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer within 5 s".to_owned(),
        };
        if give_up <= Instant::now() {
            let help = "check that the server runs and that --base-url (or --host and --port) is right; \
                        --wait-ready SECONDS waits for it to come up";
            return Err(Error::new(Exit::Preflight, format!("cannot reach {}: {error}", target.base_url()))
                .help(help));
        }
        if !std::mem::replace(&mut told, true) {
            world.note(&format!("waiting up to {patience:?} for {}: {error}\n", target.base_url()));
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// A client for everything that is not load: no redirects, no proxies from the environment.
fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(10))
        .build()
}

fn get(client: &reqwest::Client, target: &Target, path: &str) -> reqwest::RequestBuilder {
    let mut request = client.get(target.url(path));
    for (name, value) in target.headers() {
        request = request.header(name, value.expose());
    }
    match target.api_key() {
        Some(key) => request.bearer_auth(key.expose()),
        None => request,
    }
}

/// Ready unless `/health` says otherwise; many proxies have no such page.
async fn health(target: &Target) -> Result<(), String> {
    let client = client().map_err(|error| error.to_string())?;
    match get(&client, target, "/health").send().await {
        Ok(answer) if answer.status().is_server_error() => Err(format!("/health says {}", answer.status())),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Ids of the models that the target lists.
async fn models(target: &Target) -> Result<Vec<String>, String> {
    Ok(listed(target).await?.into_iter().map(|(id, _)| id).collect())
}

/// The models that the target lists: id, and what is behind it where the target says so.
async fn listed(target: &Target) -> Result<Vec<(String, Option<String>)>, String> {
    let client = client().map_err(|error| error.to_string())?;
    let answer = get(&client, target, "/v1/models").send().await.map_err(|error| error.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("/v1/models answers {}", answer.status()));
    }
    let list: serde_json::Value = answer.json().await.map_err(|error| error.to_string())?;
    let ids = list["data"].as_array().into_iter().flatten();
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    Ok(ids.filter_map(|model| Some((text(&model["id"])?, text(&model["root"])))).collect())
}

/// Whether the target says that it is pdbench's own simulator.
pub(super) async fn is_simulator(target: &Target) -> bool {
    let Ok(client) = client() else { return false };
    let Ok(answer) = get(&client, target, "/version").send().await else { return false };
    let version: Option<serde_json::Value> = answer.json().await.ok();
    version.is_some_and(|version| version["version"].as_str().is_some_and(|v| v.starts_with("pdbench-sim")))
}

/// The target's first model, where none was named, and what is behind it.
pub(super) async fn first_model(target: &Target) -> Result<(String, Option<String>), Error> {
    let why = match listed(target).await {
        Ok(models) => match models.into_iter().next() {
            Some(first) => return Ok(first),
            None => "/v1/models lists none".to_owned(),
        },
        Err(why) => why,
    };
    Err(Error::new(Exit::Preflight, format!("cannot find out the model of {}: {why}", target.base_url()))
        .help("name it with --model"))
}

/// The error of a run that a signal stopped before its load began.
pub(super) fn stopped_early(world: &Surroundings) -> Option<Error> {
    let exit = match world.interrupt.by()? {
        InterruptedBy::Interrupt => Exit::Interrupted,
        InterruptedBy::Terminate => Exit::Terminated,
    };
    Some(Error::new(exit, "stopped before the load began; nothing was written"))
}

/// Sends the one probe and judges its answer.
pub(super) async fn probe(
    load: &mut Load,
    request: Prepared,
    target: &Target,
    path: &str,
    world: &Surroundings,
) -> Result<(), Error> {
    let pass = Pass {
        kind: Kind::Probe,
        requests: vec![request],
        schedule: vec![Duration::ZERO],
        max_concurrency: None,
        max_duration: None,
        max_error_rate: None,
    };
    let failed = |error| Error::new(Exit::Preflight, "cannot send the probe").caused_by(error);
    let report = load.pass(pass, world.interrupt.signal()).await.map_err(failed)?;
    match (report.failed_probe, stopped_early(world)) {
        (_, Some(stopped)) => Err(stopped),
        (Some(record), None) => Err(refusal(target, path, &record).await),
        (None, None) => Ok(()),
    }
}

/// Why the probe failed, in words that say what to do.
async fn refusal(target: &Target, path: &str, record: &RequestRecord) -> Error {
    let url = target.url(path);
    let detail = record.error.clone().unwrap_or_else(|| record.outcome.word().to_owned());
    let detail: String = detail.chars().take(300).flat_map(char::escape_debug).collect();
    let status = record.http_status.map_or(String::new(), |status| format!(" (HTTP {status})"));
    let error = |what: String| Error::new(Exit::Preflight, what);
    match (record.outcome, record.http_status) {
        (_, Some(401 | 403)) => {
            let key = match target.api_key() {
                Some(_) => "the API key (from OPENAI_API_KEY)",
                None => "a request without an API key",
            };
            error(format!("the server at {url} refused {key}{status}"))
                .help("set OPENAI_API_KEY to a key that it takes")
        }
        (_, Some(404)) => {
            let known = match models(target).await {
                Ok(ids) => {
                    let ids: Vec<String> =
                        ids.iter().take(10).map(|id| id.escape_debug().to_string()).collect();
                    format!("it serves: {}", ids.join(", "))
                }
                Err(why) => format!("its models are unknown: {why}"),
            };
            error(format!("{url} does not know the model or the path: {detail}{status}"))
                .help(format!("check --model and --endpoint; {known}"))
        }
        (Outcome::Redirect, _) => {
            error(format!("{url} redirects: {detail}")).help("give the final address; redirects are not followed")
        }
        (outcome, _) => error(format!("the probe of {url} ended as {}: {detail}{status}", outcome.word()))
            .help("send one streamed completion by hand and look at it; --probe none goes on without this check"),
    }
}

/// Raises the limit of open files as far as this process may: a server does not know what will come.
pub(super) fn raise_descriptor_limit_fully() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // What cannot be raised stays: connections beyond it wait in the listener's queue.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// How many connections a run opens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connections {
    /// As many as this, surely.
    Exactly(usize),
    /// At the very most as many as this.
    AtMost(usize),
}

/// Raises the limit of open files to what the run needs, `each` for a connection, or says how. What a run may
/// need but hardly will is not insisted on.
pub(super) fn raise_descriptor_limit(connections: Connections, each: u64) -> Result<(), Error> {
    let (Connections::Exactly(count) | Connections::AtMost(count)) = connections;
    let need = count as u64 * each + 64;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    let raised = soft.max(need.min(hard));
    let raised = soft == raised || setrlimit(Resource::RLIMIT_NOFILE, raised, hard).is_ok();
    if raised && need <= hard || matches!(connections, Connections::AtMost(_)) {
        return Ok(());
    }
    let what = format!("{count} connections need {need} open files, and this process may have {hard}");
    let help =
        format!("run `ulimit -n {need}` first (as root where it is refused), or lower --max-concurrency");
    Err(Error::new(Exit::Preflight, what).help(help))
}
