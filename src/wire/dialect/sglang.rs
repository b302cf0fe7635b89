//! SGLang: both instances get the same request, and meet in a room of the prefill instance's bootstrap server.

use super::{Asked, Leg, Pair, body};

/// Port of the bootstrap server unless --disaggregation-bootstrap-port says otherwise.
const BOOTSTRAP_PORT: u16 = 8998;

/// Of a list of prompts, or with `n`, the server itself gives each its room, counting from this one.
pub(super) fn leg(asked: &Asked, pair: &Pair<'_>) -> Leg {
    let mut body = asked.body.clone();
    body.set("bootstrap_host", body::url_host(&pair.prefill.host));
    body.set("bootstrap_port", pair.prefill.kv.bootstrap_port.unwrap_or(BOOTSTRAP_PORT));
    body.set("bootstrap_room", room(pair.nonce));
    body::leg(asked, pair, &body)
}

/// A room is a whole number below 2^63.
fn room(nonce: u128) -> u64 {
    (nonce as u64) >> 1
}
