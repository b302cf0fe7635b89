//! vLLM's P2pNcclConnector, which reads from the request id who sends to whom.

use super::{Asked, Dialect, DialectError, Leg, Pair, body};
use crate::cluster::Node;

pub(super) fn prefill_leg(asked: &Asked, pair: &Pair<'_>) -> Result<Leg, DialectError> {
    let leg = body::leg(asked, pair, &body::one_token(&asked.body));
    Ok(Leg { request_id: request_id(pair)?, ..leg })
}

pub(super) fn decode_leg(asked: &Asked, pair: &Pair<'_>) -> Result<Leg, DialectError> {
    let leg = body::leg(asked, pair, &asked.body);
    Ok(Leg { request_id: request_id(pair)?, ..leg })
}

/// The client's own id has no place in it: the connector finds the addresses by the text around them.
fn request_id(pair: &Pair<'_>) -> Result<String, DialectError> {
    let hex = body::uuid(pair.nonce).replace('-', "");
    Ok(format!("___prefill_addr_{}___decode_addr_{}_{hex}", address(pair.prefill)?, address(pair.decode)?))
}

fn address(node: &Node) -> Result<&str, DialectError> {
    node.kv.address.as_deref().ok_or_else(|| body::missing(Dialect::P2pAddr, "kv", node))
}
