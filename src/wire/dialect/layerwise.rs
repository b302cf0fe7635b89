//! vllm-ascend, layer by layer: the decode instance allocates, then asks the proxy to have the prompt computed, by
//! POST of its `kv_transfer_params` to the metaserver that the request named.

use super::{Asked, Dialect, DialectError, Leg, Pair, body};
use crate::wire::Object;
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
struct Decode<'a> {
    do_remote_decode: bool,
    do_remote_prefill: bool,
    metaserver: &'a str,
}

pub(super) fn decode_leg(asked: &Asked, pair: &Pair<'_>) -> Leg {
    let mut body = asked.body.clone();
    let params = Decode { do_remote_decode: false, do_remote_prefill: true, metaserver: pair.metaserver };
    body.set("kv_transfer_params", params);
    body::leg(asked, pair, &body)
}

/// One token, and no end before it; with the decode instance's parameters as it sent them.
pub(super) fn prefill_leg(
    asked: &Asked,
    pair: &Pair<'_>,
    called_with: Option<&RawValue>,
) -> Result<Leg, DialectError> {
    let (dialect, field) = (Dialect::AscendLayerwise, "kv_transfer_params");
    let params = called_with.ok_or(DialectError::MissingField { leg: "decode", field, dialect })?;
    let mut body = body::one_token_at_once(&asked.body);
    body.set("min_tokens", 1);
    body.set_raw(field, params.to_owned());
    Ok(body::leg(asked, pair, &body))
}

/// What a decode instance sends to the metaserver.
#[derive(Clone, Debug)]
pub struct Call {
    /// The id under which it knows the request: the client's, dressed by vLLM.
    pub request_id: String,
    /// The whole body, for the prefill leg.
    pub params: Box<RawValue>,
}

/// A body that asks for no prefill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("want a JSON object with `request_id`, as the layerwise connector sends it")]
pub struct BadCall;

impl Call {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is no JSON object that names a request.
    pub fn parse(body: &[u8]) -> Result<Self, BadCall> {
        let params: Box<RawValue> = serde_json::from_slice(body).map_err(|_| BadCall)?;
        let object = Object::parse(params.get().as_bytes()).map_err(|_| BadCall)?;
        let request_id = object.get("request_id").ok_or(BadCall)?;
        Ok(Self { request_id, params })
    }

    /// The ids that the client's request may have had, the likeliest first. vLLM makes `cmpl-ID-0` of a completion's
    /// id and `chatcmpl-ID` of a chat's, and behind that eight random characters, which the connector takes off.
    pub fn candidates(&self) -> Vec<&str> {
        let id = self.request_id.as_str();
        let random = |known: &(&str, &str)| known.1.len() == 8;
        let mut found = Vec::new();
        for form in [id].into_iter().chain(id.rsplit_once('-').filter(random).map(|(known, _)| known)) {
            if let Some(rest) = form.strip_prefix("chatcmpl-") {
                found.push(rest);
            } else if let Some(rest) = form.strip_prefix("cmpl-") {
                match rest.rsplit_once('-') {
                    Some((bare, number)) if number.parse::<u32>().is_ok() => found.push(bare),
                    _ => found.push(rest),
                }
            }
        }
        found.push(id);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_traced_back_to_the_clients_request() {
        for (id, first) in [
            ("cmpl-abc-0", "abc"),
            ("chatcmpl-abc", "abc"),
            ("cmpl-9f7d-44-0", "9f7d-44"),
            ("chatcmpl-9f7d-44", "9f7d-44"),
            ("abc", "abc"),
        ] {
            let call = Call::parse(format!(r#"{{"request_id":"{id}"}}"#).as_bytes()).unwrap();
            assert_eq!(call.candidates()[0], first, "{id}");
        }
    }

    #[test]
    fn random_characters_that_were_left_on_are_seen_through() {
        for id in ["cmpl-abc-0-1234abcd", "chatcmpl-abc-1234abcd"] {
            let call = Call::parse(format!(r#"{{"request_id":"{id}"}}"#).as_bytes()).unwrap();
            assert!(call.candidates().contains(&"abc"), "{id}: {:?}", call.candidates());
        }
    }

    #[test]
    fn a_call_without_a_request_is_refused() {
        for body in ["", "[]", "{}", r#"{"request_id":7}"#] {
            assert!(Call::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
