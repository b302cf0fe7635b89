//! The proxy's HTTP face: which path does what.

use super::admin::{Change, change};
use super::front::{Ending, Visit};
use super::journey::Journey;
use super::problem::{Problem, Reply, empty, json_reply, text_reply};
use super::timing::Timing;
use super::{Proxy, ask, fan, forward, metrics, status};
use crate::cluster::Role;
use crate::wire::Endpoint;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request, StatusCode};
use std::convert::Infallible;
use std::sync::Arc;

/// Answers one request. Boxed, so that nothing of it stays with the connection while an answer is relayed.
pub(super) fn answer(
    proxy: Arc<Proxy>,
    request: Request<Incoming>,
) -> std::pin::Pin<Box<dyn Future<Output = Result<Reply, Infallible>> + Send>> {
    Box::pin(async move { Ok(route(proxy, request).await.unwrap_or_else(Problem::reply)) })
}

const PATHS: &[&str] = &[
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/models",
    "/v1/metaserver",
    "/version",
    "/health",
    "/healthcheck",
    "/ping",
    "/status",
    "/metrics",
    "/benchmark/last",
    "/tokenize",
    "/reset_prefix_cache",
    "/instances/add",
    "/instances/remove",
];

async fn route(proxy: Arc<Proxy>, request: Request<Incoming>) -> Result<Reply, Problem> {
    let (head, body) = request.into_parts();
    match (head.method.clone(), head.uri.path()) {
        (Method::POST, "/v1/completions") => {
            Ok(generate(proxy, Endpoint::Completions, &head.headers, body).await)
        }
        (Method::POST, "/v1/chat/completions") => {
            Ok(generate(proxy, Endpoint::Chat, &head.headers, body).await)
        }
        (Method::GET, "/health") | (Method::GET | Method::POST, "/ping") => Ok(empty(StatusCode::OK)),
        (Method::GET, "/healthcheck") => Ok(json_reply(StatusCode::OK, &status::healthcheck(&proxy))),
        (Method::GET, "/status") => Ok(json_reply(StatusCode::OK, &status::status(&proxy))),
        (Method::GET, "/version") => Ok(status::version(&proxy).await),
        (Method::GET, "/v1/models") => status::models(&proxy).await,
        (Method::GET, "/benchmark/last") => Ok(json_reply(StatusCode::OK, &proxy.bench.report())),
        (Method::GET, "/metrics") => {
            let text = metrics::expose(&proxy);
            Ok(text_reply(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text))
        }
        (Method::POST, "/v1/metaserver") => fan::metaserver(&proxy, body).await,
        (Method::POST, "/tokenize") => fan::tokenize(&proxy, &head.headers, body).await,
        (Method::POST, "/reset_prefix_cache") => fan::reset_prefix_cache(&proxy, &head.headers, body).await,
        (Method::POST, "/instances/add") => change(&proxy, Change::Add, &head.headers, body).await,
        (Method::POST, "/instances/remove") => change(&proxy, Change::Remove, &head.headers, body).await,
        (_, path) if PATHS.contains(&path) => {
            Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"))
        }
        (_, path) => {
            Err(Problem::new(StatusCode::NOT_FOUND, format!("{path} is nothing that this proxy serves")))
        }
    }
}

/// Reads a body whole.
pub(super) async fn read_body(proxy: &Proxy, body: Incoming) -> Result<Bytes, Problem> {
    let longest = proxy.config.body_limit;
    let collected = Limited::new(body, longest).collect().await;
    collected.map(|body| body.to_bytes()).map_err(|error| {
        if error.is::<LengthLimitError>() {
            let message = format!("the body is over {longest} bytes");
            return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message);
        }
        Problem::bad_request(format!("the body cannot be read: {error}"))
    })
}

/// `/v1/completions` and `/v1/chat/completions`.
async fn generate(proxy: Arc<Proxy>, endpoint: Endpoint, headers: &HeaderMap, body: Incoming) -> Reply {
    let mut visit = Some(proxy.front.enter());
    let timing = Timing::start();
    match begin(&proxy, endpoint, headers, body, timing, &mut visit).await {
        Ok(journey) => journey.go().await,
        Err(problem) => {
            visit.iter_mut().for_each(|visit| visit.end(Ending::Refused));
            problem.reply()
        }
    }
}

/// Reads a request and finds its instances; takes the visit once it has them.
async fn begin(
    proxy: &Arc<Proxy>,
    endpoint: Endpoint,
    headers: &HeaderMap,
    body: Incoming,
    timing: Timing,
    visit: &mut Option<Visit>,
) -> Result<Journey, Problem> {
    let bytes = read_body(proxy, body).await?;
    let asked = ask::read(endpoint, &bytes).map_err(Problem::bad_request)?;
    let job = ask::job(&asked, bytes.len());
    drop(bytes);
    let place = |role| {
        let assigned = proxy.roster.assign(role, job);
        assigned.ok_or_else(|| Problem::unavailable(proxy.roster.why_none(role)))
    };
    let (prefill, decode) = (place(Role::Prefill)?, place(Role::Decode)?);
    let fire = proxy.bench.asked(proxy, headers)?;
    let passed = forward::passed_lines(headers, proxy.config.instance_key.as_ref());
    let nonce = proxy.nonce();
    let request_id = forward::request_id(headers).unwrap_or_else(|| format!("pdbench-{nonce:032x}"));
    let proxy = Arc::clone(proxy);
    let visit = visit.take().expect("nobody has taken it");
    Ok(Journey {
        proxy,
        asked,
        passed,
        request_id,
        nonce,
        prefill,
        decode,
        job,
        timing,
        visit,
        fire,
        tap: None,
    })
}
