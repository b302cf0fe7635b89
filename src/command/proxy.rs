//! `pdbench proxy`: one address in front of prefill and decode instances.

use super::embedded::listen;
use super::preflight::raise_descriptor_limit_fully;
use super::{Error, Exit, ProxyPlan, Surroundings, input};
use crate::cluster::Node;
use crate::proxy::{self, Config, FirstToken};
use crate::report::plain;
use crate::runtime::Clock;
use crate::wire::Secret;
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;

/// Serves until it is asked to stop.
pub(super) async fn serve_proxy(plan: ProxyPlan, world: &mut Surroundings) -> Result<Exit, Error> {
    let clock = Clock::start();
    let mut config = plan.config;
    config.seed = plan.seed.unwrap_or_else(|| RandomState::new().hash_one(&world.run_id_suffix));
    config.instance_key = key((world.environment)("OPENAI_API_KEY").as_deref(), "OPENAI_API_KEY")?;
    config.admin.key = match &plan.admin_key_file {
        None => key((world.environment)("ADMIN_API_KEY").as_deref(), "ADMIN_API_KEY")?,
        Some(path) => key(Some(&input::key_file(path)?), &format!("`{}`", path.display()))?,
    };
    raise_descriptor_limit_fully();
    let notify = match &plan.kv_notify {
        None => None,
        Some((host, port)) => Some(bound(host, *port, ["--notify-host", "--notify-port"]).await?),
    };
    let listener = bound(&plan.host, plan.port, ["--host", "--port"]).await?;
    let address =
        listener.local_addr().map_err(|error| unbound(&plan.host, plan.port, ["--host", "--port"], error))?;
    let notified_at = notify.as_ref().and_then(|listener| listener.local_addr().ok());
    config.kv_notify = notify.map(Arc::new);
    for note in &plan.notes {
        world.note(&format!("note: {}\n", plain(note)));
    }
    world.print(&opening(&config, address, notified_at))?;
    let totals = proxy::run(listener, config, clock, world.interrupt.signal()).await;
    world.note(&format!(
        "answered {} requests; {} refused, {} with an instance's error, {} failed before and {} within the answer, \
         {} given up by the client\n",
        totals.ok,
        totals.refused,
        totals.upstream_status,
        totals.leg_failed,
        totals.broken,
        totals.aborted_by_client,
    ));
    Ok(Exit::Valid)
}

/// What it does, in a few lines.
fn opening(config: &Config, address: SocketAddr, notified_at: Option<SocketAddr>) -> String {
    let first_token = match config.first_token {
        FirstToken::Decode => "decode",
        FirstToken::Prefill => "prefill",
    };
    let mut text = format!(
        "proxy on http://{address} (Ctrl-C ends it)\ndialect {}, policy {}, first token from {first_token}",
        config.dialect,
        config.policy.name(),
    );
    if let Some(address) = notified_at {
        let _ = write!(text, ", notifications on tcp://{address}");
    }
    text.push('\n');
    for (role, nodes) in [("prefill", &config.prefill), ("decode", &config.decode)] {
        let nodes: Vec<String> = nodes.iter().map(Node::to_string).collect();
        let _ =
            writeln!(text, "{role:<8} {}", if nodes.is_empty() { "–".to_owned() } else { nodes.join(" ") });
    }
    if config.admin.key.is_some() {
        text.push_str("instances can be added and removed with the admin key\n");
    }
    if let Some(benchmark) = &config.benchmark {
        match &benchmark.trigger {
            None => text.push_str("benchmark mode: repeats decodes where a request's header asks for it\n"),
            Some(trigger) => {
                let _ = writeln!(
                    text,
                    "benchmark mode: {} requests pass, the next fires {} more decodes",
                    trigger.repeat_p_request, trigger.repeat_d_times
                );
            }
        }
    }
    text
}

/// A key of the environment or of a file; `None` where it is empty.
fn key(text: Option<&str>, name: &str) -> Result<Option<Secret>, Error> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
        return Err(Error::new(Exit::Usage, format!("{name} holds a character that no header can bear"))
            .help("want one line of plain ASCII"));
    }
    Ok(Some(Secret::new(text)))
}

/// A listener on an address, or on what a name of this machine resolves to.
async fn bound(host: &str, port: u16, flags: [&str; 2]) -> Result<TcpListener, Error> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = match bare.parse::<IpAddr>() {
        Ok(address) => Ok(SocketAddr::new(address, port)),
        Err(_) if bare == "localhost" => Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        Err(_) => tokio::net::lookup_host((bare, port)).await.and_then(|mut found| {
            found.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
        }),
    };
    address.and_then(listen).map_err(|error| unbound(host, port, flags, error))
}

fn unbound(host: &str, port: u16, [host_flag, port_flag]: [&str; 2], error: io::Error) -> Error {
    Error::new(Exit::Usage, format!("cannot listen on {}:{port}", plain(host)))
        .caused_by(error)
        .help(format!("name an address of this machine with {host_flag} and a free port with {port_flag}"))
}
