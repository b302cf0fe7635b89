//! vLLM's MooncakeConnector: both legs at once, joined by a transfer id. It drops a transfer whose prefill ended in
//! any way but by length, and the decode instance then waits in vain.

use super::{Asked, Dialect, DialectError, Leg, Pair, body};
use crate::cluster::Node;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Port of the bootstrap server unless VLLM_MOONCAKE_BOOTSTRAP_PORT says otherwise.
const BOOTSTRAP_PORT: u16 = 8998;

#[derive(Serialize)]
struct Prefill {
    do_remote_decode: bool,
    do_remote_prefill: bool,
    transfer_id: String,
}

#[derive(Serialize)]
struct Decode<'a> {
    do_remote_decode: bool,
    do_remote_prefill: bool,
    remote_bootstrap_addr: String,
    remote_engine_id: &'a str,
    transfer_id: String,
}

/// Authority of an instance's bootstrap server.
pub(super) fn bootstrap(node: &Node) -> String {
    format!("{}:{}", body::url_host(&node.host), node.kv.bootstrap_port.unwrap_or(BOOTSTRAP_PORT))
}

pub(super) fn prefill_leg(asked: &Asked, pair: &Pair<'_>) -> Leg {
    let mut body = body::one_token_at_once(&asked.body);
    let transfer_id = body::transfer_id(pair);
    body.set("kv_transfer_params", Prefill { do_remote_decode: true, do_remote_prefill: false, transfer_id });
    let mut leg = body::leg(asked, pair, &body);
    leg.headers.push(("x-data-parallel-rank", pair.rank.to_string()));
    leg
}

pub(super) fn decode_leg(asked: &Asked, pair: &Pair<'_>) -> Result<Leg, DialectError> {
    let engine = pair.prefill.kv.engine_id.as_deref();
    let mut body = asked.body.clone();
    let params = Decode {
        do_remote_decode: false,
        do_remote_prefill: true,
        remote_bootstrap_addr: format!("http://{}", bootstrap(pair.prefill)),
        remote_engine_id: engine
            .ok_or_else(|| body::missing(Dialect::MooncakeP2p, "engine", pair.prefill))?,
        transfer_id: body::transfer_id(pair),
    };
    body.set("kv_transfer_params", params);
    Ok(body::leg(asked, pair, &body))
}

/// An answer of a bootstrap server that names no engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bootstrap server answered {0} where engines by data parallel rank were expected")]
pub struct BadBootstrap(String);

/// The engines of an instance, by data parallel rank: what its bootstrap server answers to `GET /query`.
///
/// # Errors
/// When it is no such answer, or names no engine: none has registered yet.
pub fn engines(answer: &[u8]) -> Result<BTreeMap<u32, String>, BadBootstrap> {
    #[derive(Deserialize)]
    struct Entry {
        engine_id: String,
    }
    let bad = || {
        let start: String = String::from_utf8_lossy(answer).chars().take(80).collect();
        BadBootstrap(if start.is_empty() {
            "nothing".to_owned()
        } else {
            format!("`{}`", start.escape_debug())
        })
    };
    let entries: BTreeMap<u32, Entry> = serde_json::from_slice(answer).map_err(|_| bad())?;
    if entries.is_empty() {
        return Err(bad());
    }
    Ok(entries.into_iter().map(|(rank, entry)| (rank, entry.engine_id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_read_by_rank_and_their_workers_passed_over() {
        let answer = br#"{"1":{"engine_id":"b","worker_addr":{}},"0":{"engine_id":"a",
            "worker_addr":{"0":{"0":"tcp://10.0.0.1:4"}}}}"#;
        let read: Vec<_> = engines(answer).unwrap().into_iter().collect();
        assert_eq!(read, [(0, "a".to_owned()), (1, "b".to_owned())]);
    }

    #[test]
    fn an_answer_without_engines_says_what_it_was() {
        for (answer, says) in [("{}", "`{}`"), ("", "nothing"), ("<html>", "`<html>`"), (r#"{"a":1}"#, "{")] {
            let error = engines(answer.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
