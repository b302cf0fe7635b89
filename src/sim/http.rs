//! The cluster's HTTP face: which path does what.

use super::answer::Answer;
use super::api::{Ask, Refusal, parse, tokenize};
use super::body::{EventBody, ReplyBody};
use super::cluster::{Cluster, Job};
use super::events::{Endpoint, Shape, fingerprint, whole};
use super::truth::Ended;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::time::Instant;

/// Longest request body taken, in bytes: 64 MiB.
const LONGEST_BODY: usize = 64 << 20;

type Reply = Response<ReplyBody>;

/// Answers one request.
pub(super) async fn answer(cluster: Arc<Cluster>, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let (head, body) = request.into_parts();
    let reply = match (head.method.clone(), head.uri.path()) {
        (Method::POST, "/v1/completions") => {
            generate(&cluster, Endpoint::Completions, &head.headers, body).await
        }
        (Method::POST, "/v1/chat/completions") => {
            generate(&cluster, Endpoint::Chat, &head.headers, body).await
        }
        (Method::POST, "/tokenize") => tokenized(&cluster, body).await,
        (Method::POST, "/reset_prefix_cache") => {
            cluster.reset_caches();
            empty(StatusCode::OK)
        }
        (Method::GET, "/v1/models") => json_reply(StatusCode::OK, models(&cluster)),
        (Method::GET, "/version") => {
            json_reply(StatusCode::OK, json!({ "version": fingerprint() }).to_string())
        }
        (Method::GET, "/health") | (Method::GET | Method::POST, "/ping") => empty(StatusCode::OK),
        (Method::GET, "/metrics") => {
            let text = cluster.expose();
            reply(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", whole_body(text))
        }
        (_, path) if PATHS.contains(&path) => {
            json_reply(StatusCode::METHOD_NOT_ALLOWED, json!({ "detail": "Method Not Allowed" }).to_string())
        }
        _ => json_reply(StatusCode::NOT_FOUND, json!({ "detail": "Not Found" }).to_string()),
    };
    Ok(reply)
}

const PATHS: &[&str] = &[
    "/v1/completions",
    "/v1/chat/completions",
    "/tokenize",
    "/reset_prefix_cache",
    "/v1/models",
    "/version",
    "/health",
    "/ping",
    "/metrics",
];

/// `/v1/completions` and `/v1/chat/completions`.
async fn generate(cluster: &Arc<Cluster>, endpoint: Endpoint, headers: &HeaderMap, body: Incoming) -> Reply {
    let read = read_body(body).await;
    let received = Instant::now();
    let ask = match read.and_then(|bytes| parse(endpoint, &bytes, &cluster.config)) {
        Ok(ask) => ask,
        Err(refusal) => {
            cluster.log.rejected();
            return refused(refusal);
        }
    };
    let given = headers.get("x-request-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
    let id = given.map_or_else(|| cluster.new_id(), str::to_owned);
    let job = job(&ask, id.clone(), received, cluster);
    let (created, model) = (cluster.unix_s(), cluster.config.model.as_str());
    let journey = Arc::clone(cluster).serve(job);
    if ask.stream {
        let shape = Shape::new(endpoint, ask.usage, &id, created, model);
        let events = ReplyBody::Events(Box::new(EventBody::new(shape, Box::pin(journey))));
        return reply(StatusCode::OK, "text/event-stream; charset=utf-8", events);
    }
    let Some(mut decoding) = journey.await else { return failed() };
    for _ in 0..decoding.answer.tokens {
        if std::future::poll_fn(|context| decoding.tokens.poll_next(context)).await.is_none() {
            decoding.entry.close(Ended::Error);
            return failed();
        }
    }
    let tokens = decoding.answer.tokens;
    let mut usage = decoding.usage();
    usage.completion_tokens = tokens;
    let bytes = whole(endpoint, &id, created, model, &decoding.answer, usage, None);
    let body = ReplyBody::Whole(Some(bytes), Some((Box::new(decoding.entry), tokens)));
    reply(StatusCode::OK, "application/json", body)
}

fn job(ask: &Ask, id: String, received: Instant, cluster: &Cluster) -> Job {
    Job {
        id,
        received,
        prompt: ask.prompt.clone(),
        answer: Answer::new(ask.prompt.hash, cluster.config.seed, &ask.limits),
        max_tokens: ask.limits.max_tokens,
    }
}

async fn tokenized(cluster: &Cluster, body: Incoming) -> Reply {
    match read_body(body).await.and_then(|bytes| tokenize(&bytes, &cluster.config)) {
        Err(refusal) => refused(refusal),
        Ok(ids) => {
            let longest = cluster.config.cost.context_limit();
            let body =
                json!({ "count": ids.len(), "max_model_len": longest, "tokens": ids, "token_strs": null });
            json_reply(StatusCode::OK, body.to_string())
        }
    }
}

async fn read_body(body: Incoming) -> Result<Bytes, Refusal> {
    let collected = Limited::new(body, LONGEST_BODY).collect().await;
    collected.map(|body| body.to_bytes()).map_err(|_| Refusal::too_large(LONGEST_BODY))
}

fn models(cluster: &Cluster) -> String {
    let model = &cluster.config.model;
    json!({ "object": "list", "data": [{
        "id": model, "object": "model", "created": cluster.unix_s(), "owned_by": "pdbench-sim",
        "root": model, "parent": null, "max_model_len": cluster.config.cost.context_limit(),
        "permission": [],
    }] })
    .to_string()
}

fn refused(refusal: Refusal) -> Reply {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    json_reply(status, refusal.body)
}

fn failed() -> Reply {
    let error = json!({ "message": "a node of the simulated cluster is gone", "type": "InternalServerError",
        "param": null, "code": 500 });
    json_reply(StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": error }).to_string())
}

fn json_reply(status: StatusCode, text: String) -> Reply {
    reply(status, "application/json", whole_body(text))
}

fn whole_body(text: String) -> ReplyBody {
    ReplyBody::Whole(Some(text.into()), None)
}

fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(ReplyBody::Whole(None, None));
    *reply.status_mut() = status;
    reply.headers_mut().insert(SERVER, HeaderValue::from_static("pdbench-sim"));
    reply
}

fn reply(status: StatusCode, content_type: &'static str, body: ReplyBody) -> Reply {
    let mut reply = empty(status);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    *reply.body_mut() = body;
    reply
}
