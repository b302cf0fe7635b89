//! What the proxy says of itself and its instances as JSON.

use super::Proxy;
use super::health::get;
use super::instance::{Instance, State};
use super::problem::{Problem, Reply, json_reply};
use crate::cluster::Role;
use hyper::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::timeout;

/// `/status`: the keys of the proxies in use, and the state of each instance.
pub(super) fn status(proxy: &Proxy) -> Value {
    let (prefill, decode) = (proxy.roster.instances(Role::Prefill), proxy.roster.instances(Role::Decode));
    let names =
        |side: &[Arc<Instance>]| side.iter().map(|instance| instance.name.clone()).collect::<Vec<_>>();
    let states: Vec<Value> = prefill.iter().chain(&decode).map(|instance| of(instance)).collect();
    json!({
        "prefill_node_count": prefill.len(),
        "decode_node_count": decode.len(),
        "prefill_nodes": names(&prefill),
        "decode_nodes": names(&decode),
        "ready": is_ready(proxy),
        "dialect": proxy.config.dialect.name(),
        "policy": proxy.config.policy.name(),
        "in_flight": proxy.front.in_flight(),
        "instances": states,
    })
}

fn of(instance: &Instance) -> Value {
    let (state, why) = instance.state();
    let mut value = json!({
        "instance": instance.name, "role": instance.role, "state": state.word(),
        "in_flight": instance.in_flight(),
    });
    if state != State::Up {
        value["why"] = json!(why);
    }
    value
}

fn is_ready(proxy: &Proxy) -> bool {
    let any_up = |role| proxy.roster.instances(role).iter().any(|instance| instance.is_up());
    any_up(Role::Prefill) && any_up(Role::Decode)
}

/// `/healthcheck`, with the keys of vllm-ascend's proxy.
pub(super) fn healthcheck(proxy: &Proxy) -> Value {
    json!({
        "status": "ok",
        "ready": is_ready(proxy),
        "prefill_instances": proxy.roster.instances(Role::Prefill).len(),
        "decode_instances": proxy.roster.instances(Role::Decode).len(),
    })
}

/// What the first instance that is up says at `path`, decode instances first.
async fn said(proxy: &Proxy, path: &str) -> Option<Value> {
    for role in [Role::Decode, Role::Prefill] {
        for instance in proxy.roster.instances(role).iter().filter(|instance| instance.is_up()) {
            let said = timeout(proxy.config.health.timeout, get(proxy, instance, path)).await.ok().flatten();
            if let Some(Ok(value)) = said.map(|bytes| serde_json::from_slice::<Value>(&bytes)) {
                return Some(value);
            }
        }
    }
    None
}

/// `/version`: an instance's, where one answers, and this proxy's beside it.
pub(super) async fn version(proxy: &Proxy) -> Reply {
    const OWN: &str = concat!("pdbench ", env!("CARGO_PKG_VERSION"));
    let said = said(proxy, "/version").await;
    let version = said.as_ref().and_then(|said| said["version"].as_str()).unwrap_or(OWN);
    json_reply(StatusCode::OK, &json!({ "version": version, "proxy": OWN }))
}

/// `/v1/models`: what an instance says, decode instances first, else the model that this proxy was given.
pub(super) async fn models(proxy: &Proxy) -> Result<Reply, Problem> {
    if let Some(models) = said(proxy, "/v1/models").await {
        return Ok(json_reply(StatusCode::OK, &models));
    }
    let Some(model) = &proxy.config.model else {
        return Err(Problem::unavailable(proxy.roster.why_none(Role::Decode)));
    };
    let model = json!({ "id": model, "object": "model", "created": 0, "owned_by": "pdbench", "root": model,
        "parent": null, "permission": [] });
    Ok(json_reply(StatusCode::OK, &json!({ "object": "list", "data": [model] })))
}
