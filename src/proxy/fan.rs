//! Requests that are handed to one instance or to all of them, and to no leg.

use super::Proxy;
use super::forward::{leg_head, passed_lines};
use super::http::read_body;
use super::instance::Instance;
use super::leg::LegFault;
use super::problem::{Problem, Reply, json_reply, mark, text_reply};
use super::upstream::{Request, ask};
use crate::cluster::Role;
use crate::wire::dialect::{Call, Leg};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longest answer that is handed on.
const LONGEST: usize = 64 << 20;

fn leg(path: &'static str, headers: &HeaderMap, body: Bytes) -> Leg {
    let request_id = super::forward::request_id(headers).unwrap_or_else(|| "pdbench".to_owned());
    Leg { path, request_id, headers: Vec::new(), body: body.to_vec() }
}

/// Posts to an instance: status and body.
async fn post(
    proxy: &Proxy,
    instance: &Arc<Instance>,
    leg: &Leg,
    passed: &[u8],
) -> Result<(u16, Vec<u8>), LegFault> {
    let head = leg_head(leg, &instance.name, passed);
    let request = Request { head: &head, body: &leg.body };
    let answer = ask(instance, &request, &proxy.config.timeouts).await?;
    let status = answer.status;
    Ok((status, answer.collect(LONGEST).await?))
}

/// `/tokenize`: a prefill instance that is up answers it.
pub(super) async fn tokenize(proxy: &Proxy, headers: &HeaderMap, body: Incoming) -> Result<Reply, Problem> {
    let body = read_body(proxy, body).await?;
    let instances = proxy.roster.instances(Role::Prefill);
    let up = instances.iter().filter(|instance| instance.is_up()).min_by_key(|instance| instance.in_flight());
    let instance = up.ok_or_else(|| Problem::unavailable(proxy.roster.why_none(Role::Prefill)))?;
    let passed = passed_lines(headers, proxy.config.instance_key.as_ref());
    let answered = post(proxy, instance, &leg("/tokenize", headers, body), &passed).await;
    let (status, body) = answered.map_err(|fault| {
        let message = without_key(proxy, &fault.message);
        Problem::of_leg(Role::Prefill, &instance.name, StatusCode::BAD_GATEWAY, &message)
    })?;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let body = without_key(proxy, &String::from_utf8_lossy(&body));
    let mut reply = text_reply(status, "application/json", body);
    mark(&mut reply, Role::Prefill, &instance.name);
    Ok(reply)
}

/// Longest wait for an instance that empties its cache: a frozen one does not keep the others from being told.
const LONGEST_RESET: Duration = Duration::from_secs(30);

/// A text without the instances' key: an instance may quote it, and the client must not see it.
pub(super) fn without_key(proxy: &Proxy, text: &str) -> String {
    let text = text.to_owned();
    match &proxy.config.instance_key {
        Some(key) => key.redact(text),
        None => text,
    }
}

/// `/reset_prefix_cache`: every instance is told, all at once; 200 when all of them did it.
pub(super) async fn reset_prefix_cache(
    proxy: &Arc<Proxy>,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Reply, Problem> {
    let leg = Arc::new(leg("/reset_prefix_cache", headers, read_body(proxy, body).await?));
    let passed: Arc<[u8]> = passed_lines(headers, proxy.config.instance_key.as_ref()).into();
    let mut asking = JoinSet::new();
    for role in [Role::Prefill, Role::Decode] {
        for instance in proxy.roster.instances(role) {
            let (proxy, leg, passed) = (Arc::clone(proxy), Arc::clone(&leg), Arc::clone(&passed));
            asking
                .spawn(async move { (instance.name.clone(), reset(&proxy, &instance, &leg, &passed).await) });
        }
    }
    let told: BTreeMap<String, (bool, Value)> = asking.join_all().await.into_iter().collect();
    let good = told.values().all(|(done, _)| *done);
    let told: Map<String, Value> = told.into_iter().map(|(name, (_, said))| (name, said)).collect();
    let status = if good { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
    Ok(json_reply(status, &json!({ "instances": told })))
}

/// Whether an instance emptied its cache, and its status or what kept it.
async fn reset(proxy: &Proxy, instance: &Arc<Instance>, leg: &Leg, passed: &[u8]) -> (bool, Value) {
    match timeout(LONGEST_RESET, post(proxy, instance, leg, passed)).await {
        Ok(Ok((status, _))) => ((200..300).contains(&status), json!(status)),
        Ok(Err(fault)) => (false, json!(without_key(proxy, &fault.message))),
        Err(_) => (false, json!(format!("no answer within {LONGEST_RESET:?}"))),
    }
}

/// `/v1/metaserver`: a decode instance asks for the prefill of a request that waits for it.
pub(super) async fn metaserver(proxy: &Proxy, body: Incoming) -> Result<Reply, Problem> {
    let bytes = read_body(proxy, body).await?;
    let call = Call::parse(&bytes).map_err(|error| Problem::bad_request(error.to_string()))?;
    if proxy.calls.deliver(&call.candidates(), call.params.clone()) {
        return Ok(json_reply(StatusCode::OK, &json!({ "request_id": call.request_id })));
    }
    Err(Problem::new(StatusCode::NOT_FOUND, "no request of that id waits for its prefill"))
}
