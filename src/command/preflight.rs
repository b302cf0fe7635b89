//! What is made sure of before the load: an address, a model, and one whole answer.

use super::client::{Client, NoAnswer};
use super::secrets::is_secret_key;
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

/// The addresses that a target's host stands for, or that of the HTTP proxy on the way to it.
pub(super) async fn resolve(target: &Target, world: &Surroundings) -> Result<Vec<SocketAddr>, Error> {
    let (host, port) = target.first_hop();
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let failed = |why: String| match target.http_proxy() {
        None => {
            Error::new(Exit::Preflight, format!("cannot resolve the host of {}: {why}", target.base_url()))
                .help("check the name in --base-url or --host")
        }
        Some(proxy) => {
            Error::new(Exit::Preflight, format!("cannot resolve the HTTP proxy {}: {why}", proxy.url()))
                .help("check the name given to --http-proxy, or with `--http-proxy env` the environment's")
        }
    };
    let addresses = (world.resolver)(host, port).await.map_err(|error| failed(error.to_string()))?;
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
            return Err(unreachable(target, &why));
        }
        if !std::mem::replace(&mut told, true) {
            world.note(&format!("waiting up to {patience:?} for {}: {why}\n", target.base_url()));
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Nothing answers where the target, or the HTTP proxy before it, should.
fn unreachable(target: &Target, why: &str) -> Error {
    let (url, help) = match target.http_proxy() {
        None => (
            target.base_url(),
            "check that the server runs and that --base-url (or --host and --port) is right; \
             --wait-ready SECONDS waits for it to come up",
        ),
        Some(proxy) => (
            format!("{} through the HTTP proxy {}", target.base_url(), proxy.url()),
            "check that the HTTP proxy runs; `--http-proxy none` goes without",
        ),
    };
    Error::new(Exit::Preflight, format!("cannot reach {url}: {why}")).help(help)
}

/// The first of the addresses that takes a connection.
pub(super) async fn first_open(addresses: &[SocketAddr]) -> Result<SocketAddr, String> {
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
            let (key, help) = credentials(client.target());
            error(format!("the server at {url} refused {key}{status}")).help(help)
        }
        (_, Some(407)) => error(format!("the HTTP proxy on the way to {url} wants to know who asks{status}"))
            .help("put `user:password@` before the proxy's host in http_proxy and use --http-proxy env"),
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

/// What a server that refuses has refused, by where it came from and never by its value, and what to do about it.
fn credentials(target: &Target) -> (String, &'static str) {
    if let Some(from) = target.api_key_from() {
        return (format!("the API key (from {from})"), "put a key there that it takes");
    }
    let header = target.headers().iter().map(|(name, _)| name).find(|name| is_secret_key(name));
    match header {
        Some(name) => (
            format!("the header `{name}` (from --header or --header-from-env)"),
            "give a value there that it takes",
        ),
        None => (
            "a request without an API key".to_owned(),
            "set OPENAI_API_KEY to a key that it takes, or name a file that holds one with --api-key-file",
        ),
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

impl Connections {
    /// At the very most.
    fn most(self) -> usize {
        let (Connections::Exactly(count) | Connections::AtMost(count)) = self;
        count
    }

    /// Whether so many are sure.
    fn are_sure(self) -> bool {
        matches!(self, Connections::Exactly(_))
    }
}

/// Share of the local ports that connections to one place may take without a word.
const PORTS_SHARE: f64 = 0.8;

/// What to say where a run may need more local ports towards one place than there are, with some to spare.
pub(super) fn ports_note(connections: Connections, ports: Option<(u16, u16)>) -> Option<String> {
    let (first, last) = ports?;
    let (count, room) = (connections.most(), usize::from(last.saturating_sub(first)) + 1);
    let needs = if connections.are_sure() { "needs" } else { "may need, if the server falls behind," };
    (PORTS_SHARE * (room as f64) < count as f64).then(|| {
        format!(
            "warning: the load {needs} {count} connections at a time, and this machine has {room} ports for connections \
             to one place (net.ipv4.ip_local_port_range {first} {last}): lower --max-concurrency, or widen the range \
             with `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`\n"
        )
    })
}

/// Open files that are no connections: threads' reactors, standard streams, the journal.
const OTHER_FILES: u64 = 64;

/// Raises the limit of open files and makes sure that it is enough, with `each` for a connection. What a run may
/// need but hardly will is not insisted on.
pub(super) fn raise_descriptor_limit(connections: Connections, each: u64) -> Result<(), Error> {
    raise_descriptor_limit_fully();
    let count = connections.most();
    let need = count as u64 * each + OTHER_FILES;
    let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    if need <= soft || !connections.are_sure() {
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

    #[test]
    fn ports_are_told_of_when_a_load_may_take_four_fifths_of_them() {
        let range = Some((32_768, 42_767));
        assert_eq!(ports_note(Connections::Exactly(8_000), range), None);
        assert_eq!(ports_note(Connections::Exactly(100_000), None), None);
        let sure = ports_note(Connections::Exactly(8_001), range).unwrap();
        assert!(
            sure.contains("needs 8001") && sure.contains("10000 ports") && sure.contains("32768 42767"),
            "{sure}"
        );
        assert!(ports_note(Connections::AtMost(8_001), range).unwrap().contains("may need"));
    }

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
