//! What the bodies of several dialects have in common.

use super::{Asked, Dialect, DialectError, Leg, Pair};
use crate::cluster::Node;
use crate::wire::Object;

/// The body with one token to make. A server whose field `max_completion_tokens` goes before `max_tokens` is told by
/// both, where the client named it.
pub(super) fn one_token(body: &Object) -> Object {
    let mut body = body.clone();
    body.set("max_tokens", 1);
    if body.has("max_completion_tokens") {
        body.set("max_completion_tokens", 1);
    }
    // The second is of no server that we know, but a proxy of vLLM takes it out.
    for least in ["min_tokens", "min_completion_tokens"] {
        if body.get::<u64>(least).is_some_and(|tokens| 1 < tokens) {
            body.set(least, 1);
        }
    }
    body
}

/// The same, answered with JSON in one piece.
pub(super) fn one_token_at_once(body: &Object) -> Object {
    let mut body = one_token(body);
    body.set("stream", false);
    body.remove("stream_options");
    body
}

pub(super) fn leg(asked: &Asked, pair: &Pair<'_>, body: &Object) -> Leg {
    Leg {
        path: asked.endpoint.path(),
        request_id: pair.request_id.to_owned(),
        headers: Vec::new(),
        body: body.to_bytes(),
    }
}

pub(super) fn missing(dialect: Dialect, fact: &'static str, node: &Node) -> DialectError {
    DialectError::MissingFact { dialect, fact, node: node.to_string() }
}

/// The nonce as a random UUID: version 4, variant 1.
pub(super) fn uuid(nonce: u128) -> String {
    let bits = (nonce & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// What both legs of a transfer name it by.
pub(super) fn transfer_id(pair: &Pair<'_>) -> String {
    format!("xfer-{}", uuid(pair.nonce))
}

/// A host in a URL: IPv6 in brackets.
pub(super) fn url_host(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}
