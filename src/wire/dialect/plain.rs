use super::{Asked, Leg, Pair};
use crate::wire::Endpoint;

/// The body with one token to make; `stream` stays as the client sent it, so that the token can be shown.
pub(super) fn prefill_leg(asked: &Asked, pair: &Pair<'_>) -> Leg {
    let mut body = asked.body.clone();
    body.set("max_tokens", 1);
    if asked.endpoint == Endpoint::Chat {
        body.set("max_completion_tokens", 1);
    }
    leg(asked, pair, body.to_bytes())
}

/// The body as it came.
pub(super) fn decode_leg(asked: &Asked, pair: &Pair<'_>) -> Leg {
    leg(asked, pair, asked.body.to_bytes())
}

fn leg(asked: &Asked, pair: &Pair<'_>, body: Vec<u8>) -> Leg {
    Leg { path: asked.endpoint.path(), request_id: pair.request_id.to_owned(), headers: Vec::new(), body }
}
