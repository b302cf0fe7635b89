//! What is made sure of before the load: an address, a model, and one whole answer.

use super::client::{Client, NoAnswer};
use super::{Error, Exit, InterruptedBy, Surroundings};
use crate::load::{Load, Pass, Prepared};
use crate::measure::{Kind, Outcome, RequestRecord};
use crate::report::plain;
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

/// Waits until something listens at one of the addresses, for as long as asked; one try by default. Gives a client
/// of the first address that answers, which is the one to be used from then on.
pub(super) async fn wait_ready(
    target: &Target,
    addresses: &[SocketAddr],
    patience: Duration,
    world: &mut Surroundings,
) -> Result<(SocketAddr, Client), Error> {
    let give_up = Instant::now() + patience;
    let mut told = false;
    loop {
        let why = match first_open(addresses).await {
            Ok(address) => {
                let client = Client::new(target, address).map_err(|error| no_client(target, error))?;
                if patience.is_zero() {
                    return Ok((address, client));
                }
                match client.health().await {
                    Ok(()) => return Ok((address, client)),
                    Err(error) if error.by_tls => return Err(no_tls(&target.base_url(), &error.to_string())),
                    Err(error) => error.to_string(),
                }
            }
            Err(why) => why,
        };
        if give_up <= Instant::now() {
            let help = "check that the server runs and that --base-url (or --host and --port) is right; \
                        --wait-ready SECONDS waits for it to come up";
            return Err(
                Error::new(Exit::Preflight, format!("cannot reach {}: {why}", target.base_url())).help(help)
            );
        }
        if !std::mem::replace(&mut told, true) {
            world.note(&format!("waiting up to {patience:?} for {}: {why}\n", target.base_url()));
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// The first of the addresses that takes a connection.
async fn first_open(addresses: &[SocketAddr]) -> Result<SocketAddr, String> {
    let mut refusals = Vec::new();
    for &address in addresses {
        let why = match timeout(Duration::from_secs(5), TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(address),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer within 5 s".to_owned(),
        };
        refusals.push(if addresses.len() == 1 { why } else { format!("{address}: {why}") });
    }
    Err(refusals.join("; "))
}

/// The target cannot even be asked.
pub(super) fn no_client(target: &Target, error: NoAnswer) -> Error {
    Error::new(Exit::Preflight, format!("cannot ask {} anything", target.base_url())).caused_by(error)
}

/// TLS did not come about.
fn no_tls(url: &str, why: &str) -> Error {
    Error::new(Exit::Preflight, format!("no TLS connection to {url}: {why}")).help(
        "--ca-file FILE names certificates to accept, --insecure goes on without checking them, and \
         `openssl s_client -connect HOST:PORT` shows what the server has",
    )
}

/// The target's first model, where none was named, and what is behind it.
pub(super) async fn first_model(client: &Client) -> Result<(String, Option<String>), Error> {
    let url = client.target().base_url();
    let why = match client.listed().await {
        Ok(models) => match models.into_iter().next() {
            Some(first) => return Ok(first),
            None => "/v1/models lists none".to_owned(),
        },
        Err(error) if error.by_tls => return Err(no_tls(&url, &error.to_string())),
        Err(error) => error.to_string(),
    };
    Err(Error::new(Exit::Preflight, format!("cannot find out the model of {url}: {why}"))
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
    client: &Client,
    path: &str,
    world: &Surroundings,
) -> Result<(), Error> {
    let pass = Pass::at_once(Kind::Probe, vec![request]);
    let failed = |error| Error::new(Exit::Preflight, "cannot send the probe").caused_by(error);
    let report = load.pass(pass, world.interrupt.signal()).await.map_err(failed)?;
    match (report.failed_probe, stopped_early(world)) {
        (_, Some(stopped)) => Err(stopped),
        (Some(record), None) => Err(refusal(client, path, &record).await),
        (None, None) => Ok(()),
    }
}

/// Why the probe failed, in words that say what to do.
pub(super) async fn refusal(client: &Client, path: &str, record: &RequestRecord) -> Error {
    let url = client.target().url(path);
    let detail = record.error.clone().unwrap_or_else(|| record.outcome.word().to_owned());
    let detail = plain(&detail.chars().take(300).collect::<String>());
    let status = record.http_status.map_or(String::new(), |status| format!(" (HTTP {status})"));
    let error = |what: String| Error::new(Exit::Preflight, what);
    match (record.outcome, record.http_status) {
        (_, Some(401 | 403)) => {
            let key = match client.target().api_key() {
                Some(_) => "the API key (from OPENAI_API_KEY)",
                None => "a request without an API key",
            };
            error(format!("the server at {url} refused {key}{status}"))
                .help("set OPENAI_API_KEY to a key that it takes")
        }
        (_, Some(404)) => {
            let known = match client.models().await {
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
        (Outcome::Tls, _) => no_tls(&url, &detail),
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

/// Open files that are no connections: threads' reactors, standard streams, the journal.
const OTHER_FILES: u64 = 128;

/// Raises the limit of open files and makes sure that it is enough, with `each` for a connection. What a run may
/// need but hardly will is not insisted on.
pub(super) fn raise_descriptor_limit(connections: Connections, each: u64) -> Result<(), Error> {
    raise_descriptor_limit_fully();
    let (Connections::Exactly(count) | Connections::AtMost(count)) = connections;
    let need = count as u64 * each + OTHER_FILES;
    let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    if need <= soft || matches!(connections, Connections::AtMost(_)) {
        return Ok(());
    }
    let what = format!("{count} connections need {need} open files, and this process may have {soft}");
    let help =
        format!("run `ulimit -n {need}` first (as root where it is refused), or lower --max-concurrency");
    Err(Error::new(Exit::Preflight, what).help(help))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[tokio::test]
    async fn the_first_address_that_answers_is_taken() {
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        // Bound and closed again: nothing listens there.
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let address = open.local_addr().unwrap();
        assert_eq!(first_open(&[closed, address]).await, Ok(address));
        let why = first_open(&[closed, closed]).await.unwrap_err();
        assert_eq!(why.matches(&closed.to_string()).count(), 2, "{why}");
    }
}
