//! How the legs of a request are spoken in a PD deployment: what the proxy asks of the prefill instance, what of the
//! decode instance, in which order, and what it has to know for that. Each dialect is that of a connector and the
//! proxies in use with it. Pure.
//! Deliberately absent: sockets, the choice of instances, waiting.

mod plain;

use super::{Endpoint, Object};
use crate::cluster::Node;
use serde_json::value::RawValue;

/// What the legs carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The body as it came, one token on the prefill leg; the KV is found in a store by the prompt's hash.
    #[default]
    Plain,
    /// `kv_transfer_params` from the prefill answer to the decode leg: vLLM's NixlConnector and its kin.
    NixlPull,
    /// The same with `min_tokens` 1 on the prefill leg: vllm-ascend.
    Ascend,
    /// The prefill instance pushes to a decode instance that was told of it: NixlConnector in push mode.
    NixlPush,
    /// Both legs at once, joined by a transfer id; engines found by the bootstrap server: vLLM's MooncakeConnector.
    MooncakeP2p,
    /// The addresses of both sides in the request id: vLLM's P2pNcclConnector.
    P2pAddr,
    /// Token ids and a first token from the prefill instance: LMCache.
    Lmcache,
    /// The decode instance first, which asks for its prefill: vllm-ascend, layer by layer.
    AscendLayerwise,
    /// Both legs at once with the same body and a bootstrap room: SGLang.
    Sglang,
}

/// In which order the legs are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The prefill leg to its end, then the decode leg.
    PrefillFirst,
    /// Both at once.
    Together,
    /// The decode leg; it calls for the prefill leg.
    DecodeFirst,
}

/// A client's request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// By which API it came.
    pub endpoint: Endpoint,
    /// Its body.
    pub body: Object,
    /// Its prompt's token ids, where a dialect needs them and somebody has asked for them.
    pub token_ids: Option<Vec<u32>>,
}

/// What both legs of one request share.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The prefill instance.
    pub prefill: &'a Node,
    /// The decode instance.
    pub decode: &'a Node,
    /// `x-request-id` of the client, or what was made up for it.
    pub request_id: &'a str,
    /// Drawn for this request.
    pub nonce: u128,
    /// Where a decode instance asks for its prefill, such as `http://10.0.0.9:8000/v1/metaserver`.
    pub metaserver: &'a str,
    /// Data parallel rank of the prefill engine.
    pub rank: u32,
}

/// One leg, ready to be sent with POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Its path.
    pub path: &'static str,
    /// `x-request-id`.
    pub request_id: String,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// Its JSON.
    pub body: Vec<u8>,
}

/// Why a leg cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialectError {
    /// The deployment was not described in full.
    #[error("dialect {dialect} needs `{fact}` of instance {node}: name it as `{node},{fact}=…`")]
    MissingFact {
        /// Which dialect.
        dialect: &'static str,
        /// The key of the fact, see [`Node`].
        fact: &'static str,
        /// The instance.
        node: String,
    },
    /// The other leg did not say what this one needs.
    #[error("the {leg} instance answered without `{field}`, which dialect {dialect} hands on")]
    MissingField {
        /// `prefill` or `decode`.
        leg: &'static str,
        /// Which field.
        field: &'static str,
        /// Which dialect.
        dialect: &'static str,
    },
}

impl Dialect {
    /// All of them.
    pub const ALL: [Dialect; 9] = [
        Dialect::Plain,
        Dialect::NixlPull,
        Dialect::Ascend,
        Dialect::NixlPush,
        Dialect::MooncakeP2p,
        Dialect::P2pAddr,
        Dialect::Lmcache,
        Dialect::AscendLayerwise,
        Dialect::Sglang,
    ];

    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Plain => "plain",
            Dialect::NixlPull => "nixl-pull",
            Dialect::Ascend => "ascend",
            Dialect::NixlPush => "nixl-push",
            Dialect::MooncakeP2p => "mooncake-p2p",
            Dialect::P2pAddr => "p2p-addr",
            Dialect::Lmcache => "lmcache",
            Dialect::AscendLayerwise => "ascend-layerwise",
            Dialect::Sglang => "sglang",
        }
    }

    /// In which order its legs are sent.
    pub fn order(self) -> Order {
        match self {
            Dialect::NixlPush | Dialect::MooncakeP2p | Dialect::Sglang => Order::Together,
            Dialect::AscendLayerwise => Order::DecodeFirst,
            _ => Order::PrefillFirst,
        }
    }

    /// Whether one prefill can serve any number of decode requests: only where the KV is found by what the prompt is,
    /// not by which request it was computed for.
    pub fn kv_outlives_its_request(self) -> bool {
        self == Dialect::Plain
    }

    /// The prefill leg. `called_with` is what the decode instance sent to the metaserver, in
    /// [`Order::DecodeFirst`].
    ///
    /// # Errors
    /// When a fact of the deployment or of the other leg is missing.
    pub fn prefill_leg(
        self,
        asked: &Asked,
        pair: &Pair<'_>,
        called_with: Option<&RawValue>,
    ) -> Result<Leg, DialectError> {
        let _ = called_with;
        Ok(plain::prefill_leg(asked, pair))
    }

    /// The decode leg. `answer` is the whole answer of the prefill instance, in [`Order::PrefillFirst`].
    ///
    /// # Errors
    /// When a fact of the deployment or of the other leg is missing.
    pub fn decode_leg(
        self,
        asked: &Asked,
        pair: &Pair<'_>,
        answer: Option<&Object>,
    ) -> Result<Leg, DialectError> {
        let _ = answer;
        Ok(plain::decode_leg(asked, pair))
    }
}

impl std::str::FromStr for Dialect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|dialect| dialect.name()).collect();
            format!("`{text}` is not a dialect: want one of {}", names.join(", "))
        })
    }
}
