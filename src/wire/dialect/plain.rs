//! Nothing but the prompt: a store or a hash tells which KV is meant.

use super::{Asked, Leg, Pair, body};
use crate::wire::Endpoint;

/// The body with one token to make; `stream` stays as the client sent it, so that the token can be shown.
pub(super) fn prefill_leg(asked: &Asked, pair: &Pair<'_>) -> Leg {
    let mut one = body::one_token(&asked.body);
    if asked.endpoint == Endpoint::Chat {
        one.set("max_completion_tokens", 1);
    }
    body::leg(asked, pair, &one)
}

/// The body as it came.
pub(super) fn decode_leg(asked: &Asked, pair: &Pair<'_>) -> Leg {
    body::leg(asked, pair, &asked.body)
}
