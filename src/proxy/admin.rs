//! Instances that come and go: `POST /instances/add` and `/instances/remove`, for who has the key.

use super::http::read_body;
use super::problem::{Problem, Reply, json_reply};
use super::{Admin, Proxy};
use crate::cluster::{KvFacts, Node, Role};
use hyper::body::Incoming;
use hyper::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Add,
    Remove,
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "type")]
    role: Role,
    instance: String,
}

/// Adds or removes an instance.
///
/// # Errors
/// 404 where no key is set, 403 for a wrong key or an instance outside of the list, 400 for what cannot be read, 409
/// and 404 for what is there already or not at all.
pub(super) async fn change(
    proxy: &Arc<Proxy>,
    change: Change,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Reply, Problem> {
    authorise(&proxy.config.admin, headers)?;
    let bytes = read_body(proxy, body).await?;
    let wanted: Body = serde_json::from_slice(&bytes).map_err(|error| {
        let want = r#"want {"type": "prefill" or "decode", "instance": "host:port"}"#;
        Problem::bad_request(format!("{want}: {error}"))
    })?;
    if wanted.instance.contains(char::is_control) {
        return Err(Problem::bad_request("an instance's name has no control characters"));
    }
    let node: Node = wanted.instance.parse().map_err(Problem::bad_request)?;
    let (role, name) = (wanted.role, node.authority());
    let message = match change {
        Change::Add => {
            let node = admit(proxy, role, node)?;
            if !proxy.add(role, node) {
                return Err(Problem::new(
                    StatusCode::CONFLICT,
                    format!("{name} is a {role} instance already"),
                ));
            }
            format!("Added {name} to {role} instances; it takes requests once its /health is good.")
        }
        Change::Remove => {
            let gone = proxy.roster.remove(role, &name);
            let unknown = || Problem::new(StatusCode::NOT_FOUND, format!("{name} is no {role} instance"));
            let in_flight = gone.ok_or_else(unknown)?.in_flight();
            format!("Removed {name} from {role} instances; {in_flight} requests in flight end there.")
        }
    };
    Ok(json_reply(StatusCode::OK, &json!({ "message": message })))
}

/// Only who shows the key; nothing tells how much of it was right.
pub(super) fn authorise(admin: &Admin, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(key) = &admin.key else {
        let message = "instances are fixed: the proxy was started without an admin key";
        return Err(Problem::new(StatusCode::NOT_FOUND, message));
    };
    let shown = headers.get("x-api-key").map_or(&b""[..], |shown| shown.as_bytes());
    // Equal digests take the same time whatever was shown, its length included.
    let (wanted, shown) = (Sha256::digest(key.expose()), Sha256::digest(shown));
    let differences = wanted.iter().zip(shown.iter()).fold(0, |found, (one, other)| found | (one ^ other));
    if std::hint::black_box(differences) == 0 {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "`x-api-key` is missing or wrong"))
}

/// The places that the facts about a node name; `None` for one that is no place.
fn kv_places(node: &Node) -> Vec<Option<Node>> {
    let at = |host: &str, port: u16| Node { host: host.to_owned(), port, kv: KvFacts::default() };
    let facts = &node.kv;
    let ports = facts.bootstrap_port.iter().chain(&facts.init_ports).chain(&facts.alloc_ports);
    let own = ports.map(|port| Some(at(&node.host, *port)));
    let host = facts.side_channel_host.as_deref().unwrap_or(&node.host);
    let side = facts.side_channel_port.map(|port| Some(at(host, port)));
    own.chain(side).chain(facts.address.iter().map(|address| address.parse().ok())).collect()
}

/// Only what the configuration names: a proxy that anybody could point anywhere would fetch anything.
fn admit(proxy: &Proxy, role: Role, node: Node) -> Result<Node, Problem> {
    let config = &proxy.config;
    let given = match role {
        Role::Prefill => &config.prefill,
        Role::Decode => &config.decode,
        Role::Mixed => return Err(Problem::bad_request("`type` is prefill or decode")),
    };
    let known = given.iter().find(|given| given.authority() == node.authority());
    if let Some(known) = known.filter(|known| node.kv == KvFacts::default() || node.kv == known.kv) {
        return Ok(known.clone());
    }
    // A fact may name another place than the instance's own, which the allow-list has to allow as well.
    let places = kv_places(&node);
    let admits = |node: &Node| config.admin.allowed.iter().any(|allowed| allowed.admits(node));
    if admits(&node) && places.iter().all(|place| place.as_ref().is_some_and(admits)) {
        config.dialect.fits(role, &node).map_err(|error| Problem::bad_request(error.to_string()))?;
        return Ok(node);
    }
    let allowed: Vec<String> = config.admin.allowed.iter().map(ToString::to_string).collect();
    let allowed = if allowed.is_empty() { "nothing new".to_owned() } else { allowed.join(", ") };
    let message = format!("{node} may not be added: the proxy was started to allow {allowed}");
    Err(Problem::new(StatusCode::FORBIDDEN, message))
}
