//! A node's HTTP face: which path does what.

use super::answer::Limits;
use super::api::{Ask, Refusal, parse, tokenize};
use super::events::{Shape, fingerprint};
use super::faults::{FaultKind, Faults};
use super::handoff::{Give, Leg, Signs};
use super::likelihood::Likelihood;
use super::node::{Accepted, Node};
use super::prompt::Prompt;
use super::stream::{NodeBody, Stream, Trouble};
use super::truth::{Ended, Entry};
use super::unstreamed::{Told, answer_whole};
use crate::cluster::Role;
use crate::wire::Endpoint;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::time::Instant;

/// Longest request body taken, in bytes: 64 MiB.
const LONGEST_BODY: usize = 64 << 20;

pub(super) type Reply = Response<NodeBody>;

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
    "/query",
];

/// Answers one request; `reset` is set when its connection is to be reset.
pub(super) async fn answer(
    node: Arc<Node>,
    reset: Arc<AtomicBool>,
    request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let (head, body) = request.into_parts();
    let reply = match (head.method.clone(), head.uri.path()) {
        (Method::POST, "/v1/completions") => {
            generate(&node, &reset, Endpoint::Completions, &head.headers, body).await
        }
        (Method::POST, "/v1/chat/completions") => {
            generate(&node, &reset, Endpoint::Chat, &head.headers, body).await
        }
        (Method::POST, "/tokenize") => tokenized(&node, body).await,
        (Method::POST, "/reset_prefix_cache") => {
            node.reset_cache();
            empty(StatusCode::OK)
        }
        (Method::GET, "/v1/models") => json_reply(StatusCode::OK, models(&node)),
        (Method::GET, "/version") => {
            json_reply(StatusCode::OK, json!({ "version": fingerprint() }).to_string())
        }
        (Method::GET, "/query") => json_reply(StatusCode::OK, engines(&node)),
        (Method::GET, "/health") | (Method::GET | Method::POST, "/ping") => empty(StatusCode::OK),
        (Method::GET, "/metrics") => {
            reply(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", whole_body(node.expose()))
        }
        (_, path) if PATHS.contains(&path) => {
            json_reply(StatusCode::METHOD_NOT_ALLOWED, json!({ "detail": "Method Not Allowed" }).to_string())
        }
        _ => json_reply(StatusCode::NOT_FOUND, json!({ "detail": "Not Found" }).to_string()),
    };
    Ok(reply)
}

/// `/v1/completions` and `/v1/chat/completions`.
async fn generate(
    node: &Arc<Node>,
    reset: &Arc<AtomicBool>,
    endpoint: Endpoint,
    headers: &HeaderMap,
    body: Incoming,
) -> Reply {
    let read = read_body(body).await;
    let received = Instant::now();
    let asked = read.and_then(|bytes| parse(endpoint, &bytes, &node.config));
    let (ask, faults) = match asked.and_then(|ask| Ok((ask, faults(node, headers)?))) {
        Ok(both) => both,
        Err(refusal) => {
            node.log.rejected();
            return refused(refusal);
        }
    };
    let given = headers.get("x-request-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
    let id = given.map_or_else(|| node.new_id(), str::to_owned);
    let status = faults.find(|kind| if let FaultKind::Status(status) = kind { Some(status) } else { None });
    if let Some(status) = status {
        return fail_at_once(node, &id, received, &ask, status);
    }
    let trouble = Trouble::of(&faults);
    let mut accepted = accept(node, endpoint, &ask, &id, received, &faults);
    let created = node.unix_s();
    if ask.stream
        && let Some(only) = accepted.pop()
    {
        let (model, seed) = (node.config.model.as_str(), node.config.seed);
        let shape = Shape::new(endpoint, ask.usage, &id, created, model);
        let likelihood = ask.logprobs.map(|top| Likelihood::new(endpoint, only.prompt.hash, seed, top));
        let journey = Box::pin(Arc::clone(node).serve(only));
        let stream = Stream::new(node, (shape, likelihood), journey, trouble, reset);
        return reply(StatusCode::OK, "text/event-stream; charset=utf-8", NodeBody::Stream(Box::new(stream)));
    }
    let told = Told { endpoint, id, created, logprobs: ask.logprobs };
    answer_whole(node, told, accepted, trouble, reset).await
}

/// What goes wrong with this request.
fn faults(node: &Node, headers: &HeaderMap) -> Result<Faults, Refusal> {
    let asked = headers.get("x-sim-fault").map(|value| value.to_str().unwrap_or_default().parse::<Faults>());
    let asked = asked.transpose().map_err(|why| Refusal::no_fault(&why))?.unwrap_or_default();
    Ok(asked.of(&node.config.faults, node.member.role, node.member.index))
}

fn fail_at_once(node: &Node, id: &str, received: Instant, ask: &Ask, status: u16) -> Reply {
    if status < 500 {
        node.log.rejected();
    } else {
        let prompt_tokens = ask.prompts.iter().map(|(prompt, _)| prompt.tokens).sum();
        let mut entry = Entry::open(&node.log, id.to_owned(), received, prompt_tokens, &node.member);
        entry.close(Ended::Error);
        node.metrics.lock().failed += 1;
    }
    refused(Refusal::fault(status))
}

/// The prompts of a request, each on its own. In a list only the first one has a way for its KV, as there is only
/// one name for it; the others go by the store.
fn accept(
    node: &Node,
    endpoint: Endpoint,
    ask: &Ask,
    id: &str,
    received: Instant,
    faults: &Faults,
) -> Vec<Accepted> {
    let (role, address) = (node.member.role, node.member.address);
    let one = |(index, (prompt, limits)): (usize, &(_, _))| {
        // As vLLM names requests inside.
        let full_id = match endpoint {
            Endpoint::Completions => format!("cmpl-{id}-{index}"),
            Endpoint::Chat => format!("chatcmpl-{id}"),
        };
        let signs = Signs { kv: ask.kv.as_ref(), room: ask.room, id, full_id: &full_id, role, address };
        let leg = if index == 0 { signs.leg() } else { Leg::Alone };
        let mut limits = Limits::clone(limits);
        if ask.room.is_some() && role == Role::Prefill && matches!(leg, Leg::Give(Give::Meet(_))) {
            // SGLang sends both legs the same body; its prefill server stops after one token by itself.
            limits.max_tokens = 1;
            limits.min_tokens = limits.min_tokens.min(1);
            limits.ends_by_itself = false;
        }
        let prompt = node.fabric.memory.recall(Prompt::clone(prompt), &node.config);
        let id = if ask.prompts.len() == 1 { id.to_owned() } else { format!("{id}-{index}") };
        Accepted { id, full_id, received, prompt, limits, leg, faults: faults.clone() }
    };
    ask.prompts.iter().enumerate().map(one).collect()
}

async fn tokenized(node: &Node, body: Incoming) -> Reply {
    match read_body(body).await.and_then(|bytes| tokenize(&bytes, &node.config)) {
        Err(refusal) => refused(refusal),
        Ok((ids, prompt)) => {
            if let Some(known) = prompt.known {
                node.fabric.memory.remember(prompt.hash, known);
            }
            let longest = node.config.cost.context_limit();
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

fn models(node: &Node) -> String {
    let model = &node.config.model;
    json!({ "object": "list", "data": [{
        "id": model, "object": "model", "created": node.unix_s(), "owned_by": "pdbench-sim",
        "root": model, "parent": null, "max_model_len": node.config.cost.context_limit(),
        "permission": [],
    }] })
    .to_string()
}

/// What Mooncake's bootstrap server says: the engine of each data parallel rank.
fn engines(node: &Node) -> String {
    let (engine_id, address) = (&node.member.engine_id, node.member.address.to_string());
    json!({ "0": { "engine_id": engine_id, "worker_addr": address } }).to_string()
}

pub(super) fn refused(refusal: Refusal) -> Reply {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    json_reply(status, refusal.body)
}

pub(super) fn failed() -> Reply {
    let error = json!({ "message": "the simulated node is gone", "type": "InternalServerError",
        "param": null, "code": 500 });
    json_reply(StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": error }).to_string())
}

fn json_reply(status: StatusCode, text: String) -> Reply {
    reply(status, "application/json", whole_body(text))
}

fn whole_body(text: String) -> NodeBody {
    NodeBody::Whole(Some(text.into()), Vec::new())
}

fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(NodeBody::Whole(None, Vec::new()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(SERVER, HeaderValue::from_static("pdbench-sim"));
    reply
}

pub(super) fn reply(status: StatusCode, content_type: &'static str, body: NodeBody) -> Reply {
    let mut reply = empty(status);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    *reply.body_mut() = body;
    reply
}
