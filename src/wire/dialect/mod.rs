//! How the legs of a request are spoken in a PD deployment: what the proxy asks of the prefill instance, what of the
//! decode instance, in which order, and what it has to know for that. Each dialect is that of a connector and the
//! proxies in use with it. Pure.
//! Deliberately absent: sockets, the choice of instances, waiting.

//!
//! What every dialect does to the prefill body: one token to make, `max_completion_tokens` with it, and `min_tokens`
//! above 1 lowered to 1, since vLLM refuses a request whose least is more than its most. Whatever else a client sent
//! survives on both legs. `n` is passed on.
//!
//! A prefill has to end by length for most connectors: the NIXL ones hand the KV over after an end-of-sequence token
//! too, Mooncake's drops the transfer then. Only the Ascend proxies guard against that, by `min_tokens` 1, and so do
//! their two dialects here. The others leave the client's sampling alone: who loads such a deployment sends
//! `ignore_eos` or `min_tokens`.

mod body;
mod events;
mod join;
mod layerwise;
mod lmcache;
mod mooncake;
mod nixl;
mod p2p_addr;
mod plain;
mod sglang;
mod shown;
#[cfg(test)]
mod tests;

pub use join::Joiner;
pub use layerwise::{BadCall, Call};
pub use mooncake::{BadBootstrap, engines};
pub use shown::{shown_alone, whole_answer};

use super::{Endpoint, Object};
use crate::cluster::{Node, Role};
use serde_json::value::RawValue;
use std::fmt;

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

/// What has to be known before the first leg can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// The engines of the prefill instance, by rank: GET it from its bootstrap server once, when the instance is
    /// healthy, and read it with [`engines`]. The instance's `kv.engine_id` is that of the pair's rank then.
    Bootstrap {
        /// Host and port of the bootstrap server, as a URL's authority.
        authority: String,
        /// Path of the question.
        path: &'static str,
    },
    /// The ids of the prompt's tokens: POST this to an instance, the answer's `tokens` are [`Asked::token_ids`].
    Tokenize {
        /// Path of the question.
        path: &'static str,
        /// Its JSON.
        body: Vec<u8>,
    },
}

/// What a prefill instance tells, by ZMQ, when the KV has arrived at the decode instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The id that it names.
    pub request_id: String,
    /// How often it comes: once from each tensor parallel rank.
    pub times: usize,
}

/// Why a leg cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialectError {
    /// The deployment was not described in full.
    #[error("dialect {dialect} needs `{fact}` of instance {node}: name it as `{node},{fact}=…`")]
    MissingFact {
        /// Which dialect.
        dialect: Dialect,
        /// The key of the fact, see [`Node`].
        fact: &'static str,
        /// The instance.
        node: String,
    },
    /// The dialect has no way to say what the client asks for.
    #[error("dialect {dialect} cannot carry {what}")]
    Unsupported {
        /// Which dialect.
        dialect: Dialect,
        /// What it cannot carry, and what the client may do.
        what: &'static str,
    },
    /// The other leg did not say what this one needs.
    #[error("the {leg} instance answered without `{field}`, which dialect {dialect} hands on")]
    MissingField {
        /// `prefill` or `decode`.
        leg: &'static str,
        /// Which field.
        field: &'static str,
        /// Which dialect.
        dialect: Dialect,
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

    /// Whether any decode instance can take the request once its prefill leg is done: where that leg named none, or
    /// where nobody waits for word that the KV has come to the one that it named (`notified`), since the others find
    /// it in a store then.
    pub fn any_can_decode(self, notified: bool) -> bool {
        match self {
            Dialect::Plain | Dialect::NixlPull | Dialect::Ascend => true,
            Dialect::Lmcache => !notified,
            _ => false,
        }
    }

    /// What has to be asked before the legs of this request can be made.
    pub fn asks_before(self, asked: &Asked, prefill: &Node) -> Before {
        match self {
            Dialect::MooncakeP2p if prefill.kv.engine_id.is_none() => {
                Before::Bootstrap { authority: mooncake::bootstrap(prefill), path: "/query" }
            }
            Dialect::Lmcache if lmcache::prompt_ids(asked).is_none() => {
                Before::Tokenize { path: "/tokenize", body: lmcache::tokenize_body(asked) }
            }
            _ => Before::Nothing,
        }
    }

    /// The prefill leg. `called_with` is what the decode instance sent to the metaserver, in
    /// [`Order::DecodeFirst`].
    ///
    /// # Errors
    /// When a fact of the deployment or of the other leg is missing, or the dialect cannot carry the request.
    pub fn prefill_leg(
        self,
        asked: &Asked,
        pair: &Pair<'_>,
        called_with: Option<&RawValue>,
    ) -> Result<Leg, DialectError> {
        self.check(asked)?;
        match self {
            Dialect::Plain => Ok(plain::prefill_leg(asked, pair)),
            Dialect::NixlPull => Ok(nixl::pull_prefill_leg(asked, pair)),
            Dialect::Ascend => Ok(nixl::ascend_prefill_leg(asked, pair)),
            Dialect::NixlPush => Ok(nixl::push_prefill_leg(asked, pair)),
            Dialect::MooncakeP2p => Ok(mooncake::prefill_leg(asked, pair)),
            Dialect::P2pAddr => p2p_addr::prefill_leg(asked, pair),
            Dialect::Lmcache => lmcache::prefill_leg(asked, pair),
            Dialect::AscendLayerwise => layerwise::prefill_leg(asked, pair, called_with),
            Dialect::Sglang => Ok(sglang::leg(asked, pair)),
        }
    }

    /// The decode leg. `answer` is the whole answer of the prefill instance, in [`Order::PrefillFirst`].
    ///
    /// # Errors
    /// When a fact of the deployment or of the other leg is missing, or the dialect cannot carry the request.
    pub fn decode_leg(
        self,
        asked: &Asked,
        pair: &Pair<'_>,
        answer: Option<&Object>,
    ) -> Result<Leg, DialectError> {
        self.check(asked)?;
        match self {
            Dialect::Plain => Ok(plain::decode_leg(asked, pair)),
            Dialect::NixlPull | Dialect::Ascend => nixl::pull_decode_leg(self, asked, pair, answer),
            Dialect::NixlPush => nixl::push_decode_leg(asked, pair),
            Dialect::MooncakeP2p => mooncake::decode_leg(asked, pair),
            Dialect::P2pAddr => p2p_addr::decode_leg(asked, pair),
            Dialect::Lmcache => lmcache::decode_leg(asked, answer, pair),
            Dialect::AscendLayerwise => Ok(layerwise::decode_leg(asked, pair)),
            Dialect::Sglang => Ok(sglang::leg(asked, pair)),
        }
    }

    /// Whether an instance was described in full.
    ///
    /// # Errors
    /// When a fact is missing that cannot be asked for.
    pub fn fits(self, role: Role, node: &Node) -> Result<(), DialectError> {
        let kv = &node.kv;
        let needed: &[(&'static str, bool)] = match (self, role) {
            (Dialect::NixlPush, Role::Prefill) => &[("engine", kv.engine_id.is_some())],
            (Dialect::P2pAddr, _) => &[("kv", kv.address.is_some())],
            (Dialect::Lmcache, Role::Decode) => {
                &[("init", !kv.init_ports.is_empty()), ("alloc", !kv.alloc_ports.is_empty())]
            }
            _ => &[],
        };
        match needed.iter().find(|(_, there)| !there) {
            Some((fact, _)) => Err(body::missing(self, fact, node)),
            None => Ok(()),
        }
    }

    /// Whether the prefill instance's answer is the whole answer, so that no decode leg is due: only where the decode
    /// leg goes on behind the first token.
    pub fn ends_with_prefill(self, asked: &Asked, answer: &Object) -> bool {
        self == Dialect::Lmcache && lmcache::is_whole(asked, answer)
    }

    /// What tells that the KV is at the decode instance, where the prefill's answer does not.
    pub fn notice(self, pair: &Pair<'_>) -> Option<Notice> {
        (self == Dialect::Lmcache).then(|| lmcache::notice(pair))
    }

    /// Whether the client's first token can come from the prefill leg: the leg ends before the other begins.
    pub fn shows_first_token(self) -> bool {
        self.order() == Order::PrefillFirst
    }

    /// Whether it always does: the decode leg does not make the first token again.
    pub fn continues_prefill(self) -> bool {
        self == Dialect::Lmcache
    }

    /// Lists of prompts where the KV belongs to one request. vLLM answers a list with the parameters of its first
    /// prompt, so that the others would be decoded upon foreign KV.
    fn check(self, asked: &Asked) -> Result<(), DialectError> {
        let one_by_one =
            !matches!(self, Dialect::Plain | Dialect::P2pAddr | Dialect::Sglang) && 1 < asked.prompts();
        match one_by_one {
            true => Err(DialectError::Unsupported {
                dialect: self,
                what: "a list of prompts, whose KV it could not tell apart: send each in a request of its own",
            }),
            false => Ok(()),
        }
    }
}

impl Asked {
    /// Whether the client wants a stream.
    pub fn streams(&self) -> bool {
        self.body.get::<bool>("stream").unwrap_or(false)
    }

    /// How many prompts the body has: more than one only in a list of them.
    pub fn prompts(&self) -> usize {
        let inside = self.body.raw("prompt").and_then(|prompt| prompt.get().strip_prefix('['));
        // Token ids, however many, are one prompt, and are not read for that.
        let several = inside.is_some_and(|inside| inside.trim_start().starts_with(['"', '[', ']']));
        let list: Option<Vec<&RawValue>> = several.then(|| self.body.get("prompt")).flatten();
        list.map_or(1, |list| list.len())
    }
}

impl DialectError {
    /// The HTTP status that says whose fault it is: the client's request, the deployment's description, the instance.
    pub fn status(&self) -> u16 {
        match self {
            DialectError::Unsupported { .. } => 400,
            DialectError::MissingFact { .. } => 500,
            DialectError::MissingField { .. } => 502,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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
