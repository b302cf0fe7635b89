//! vLLM's NixlConnector, pulling and pushing, and vllm-ascend's connectors that speak as it does.

use super::{Asked, Dialect, DialectError, Leg, Pair, body};
use crate::wire::Object;
use serde::Serialize;
use serde_json::value::RawValue;

/// Where NIXL exchanges its handshake unless VLLM_NIXL_SIDE_CHANNEL_PORT says otherwise.
const SIDE_CHANNEL_PORT: u16 = 5600;

/// A prefill that somebody else is to decode. The empty fields are what the first connector asked for.
#[derive(Serialize)]
struct ForRemoteDecode {
    do_remote_decode: bool,
    do_remote_prefill: bool,
    remote_engine_id: Option<&'static str>,
    remote_block_ids: Option<&'static str>,
    remote_host: Option<&'static str>,
    remote_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transfer_id: Option<String>,
}

/// What a decode instance has to know to register with the instance that will push.
#[derive(Serialize)]
struct PushedBy<'a> {
    do_remote_decode: bool,
    do_remote_prefill: bool,
    remote_engine_id: &'a str,
    remote_host: &'a str,
    remote_port: u16,
    tp_size: u32,
    pp_size: u32,
    remote_request_id: &'a str,
    transfer_id: String,
}

pub(super) fn pull_prefill_leg(asked: &Asked, pair: &Pair<'_>) -> Leg {
    body::leg(asked, pair, &prefill_body(asked, None))
}

/// vllm-ascend's proxies keep an end-of-sequence token from ending the prefill.
pub(super) fn ascend_prefill_leg(asked: &Asked, pair: &Pair<'_>) -> Leg {
    let mut body = prefill_body(asked, None);
    body.set("min_tokens", 1);
    body::leg(asked, pair, &body)
}

pub(super) fn push_prefill_leg(asked: &Asked, pair: &Pair<'_>) -> Leg {
    body::leg(asked, pair, &prefill_body(asked, Some(body::transfer_id(pair))))
}

fn prefill_body(asked: &Asked, transfer_id: Option<String>) -> Object {
    let mut body = body::one_token_at_once(&asked.body);
    let wanted = ForRemoteDecode {
        do_remote_decode: true,
        do_remote_prefill: false,
        remote_engine_id: None,
        remote_block_ids: None,
        remote_host: None,
        remote_port: None,
        transfer_id,
    };
    body.set("kv_transfer_params", wanted);
    body
}

/// The body as it came, with what the prefill instance said of its KV: byte for byte, since its fields change with
/// each release. Without it the decode instance would compute the prompt again and nobody would notice, so its
/// absence is an error here.
pub(super) fn pull_decode_leg(
    dialect: Dialect,
    asked: &Asked,
    pair: &Pair<'_>,
    answer: Option<&Object>,
) -> Result<Leg, DialectError> {
    const FIELD: &str = "kv_transfer_params";
    let handed: Option<&RawValue> = answer.and_then(|answer| answer.raw(FIELD)).filter(|value| {
        let text = value.get();
        text != "null" && !(text.starts_with('{') && text[1..].trim_start().starts_with('}'))
    });
    let handed = handed.ok_or(DialectError::MissingField { leg: "prefill", field: FIELD, dialect })?;
    let mut body = asked.body.clone();
    body.set_raw(FIELD, handed.to_owned());
    Ok(body::leg(asked, pair, &body))
}

pub(super) fn push_decode_leg(asked: &Asked, pair: &Pair<'_>) -> Result<Leg, DialectError> {
    let kv = &pair.prefill.kv;
    let engine = kv.engine_id.as_deref();
    let engine = engine.ok_or_else(|| body::missing(Dialect::NixlPush, "engine", pair.prefill))?;
    let mut body = asked.body.clone();
    let pushed = PushedBy {
        do_remote_decode: false,
        do_remote_prefill: true,
        remote_engine_id: engine,
        remote_host: kv.side_channel_host.as_deref().unwrap_or(&pair.prefill.host),
        remote_port: kv.side_channel_port.unwrap_or(SIDE_CHANNEL_PORT),
        tp_size: kv.tensor_parallel.unwrap_or(1),
        pp_size: kv.pipeline_parallel.unwrap_or(1),
        remote_request_id: pair.request_id,
        transfer_id: body::transfer_id(pair),
    };
    body.set("kv_transfer_params", pushed);
    Ok(body::leg(asked, pair, &body))
}
