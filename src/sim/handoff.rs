//! The dialects, as a node reads them: what a request's body and id say about whose KV goes where. Told by what
//! the request carries, never by a setting: all of them may arrive at the same node. Pure.
//! Deliberately absent: what is opaque in them (block ids, tensor parallel sizes) is not checked.

use crate::cluster::Role;
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// `kv_transfer_params` of a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KvParams {
    do_remote_decode: Option<bool>,
    do_remote_prefill: Option<bool>,
    transfer_id: Option<String>,
    remote_engine_id: Option<String>,
    remote_request_id: Option<String>,
    remote_bootstrap_addr: Option<String>,
    remote_port: Option<u16>,
    metaserver: Option<String>,
    request_id: Option<String>,
    ret_first_tok: Option<bool>,
    disagg_spec: Option<DisaggSpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct DisaggSpec {
    req_id: Option<String>,
    receiver_init_port: Vec<u16>,
}

/// What a request is for its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leg {
    /// The whole of it. A prefill node puts its KV into the store, others look there for its beginning.
    Alone,
    /// Its KV is for another node.
    Give(Give),
    /// Its KV comes from another node.
    Fetch(Fetch),
}

/// How KV is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Give {
    /// It stays until somebody comes with what the answer says (NixlConnector).
    Answer,
    /// It stays until somebody comes with this key (MooncakeConnector, NixlConnector in push mode, SGLang).
    Meet(String),
    /// It leaves at once, to be fetched by this key (P2pNcclConnector, vllm-ascend layer by layer).
    Push(String),
    /// It leaves at once for the node at this port, which finds it by the prompt; the answer has the first
    /// token's id (LMCache). The name is the proxy's.
    Deliver { port: u16, request_id: String },
    /// It goes into the store, and the answer has the first token's id (LMCache before a store).
    FirstToken,
}

/// How KV is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fetch {
    /// Where it is offered.
    pub key: String,
    /// The engine that must have offered it, where the request names one.
    pub engine_id: Option<String>,
    /// The port at which that engine must listen, where the request names one.
    pub port: Option<u16>,
    /// Whether it may still be on its way.
    pub wait: bool,
    /// Whether NixlConnector does it, which counts what it does.
    pub nixl: bool,
    /// The proxy's address for asking for the prefill (vllm-ascend layer by layer).
    pub metaserver: Option<String>,
}

impl Fetch {
    fn of(key: String) -> Self {
        Self { key, engine_id: None, port: None, wait: true, nixl: false, metaserver: None }
    }
}

/// What of a request decides about its KV.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signs<'a> {
    /// Its `kv_transfer_params`.
    pub kv: Option<&'a KvParams>,
    /// Its `bootstrap_room`.
    pub room: Option<u64>,
    /// Its id, as it came.
    pub id: &'a str,
    /// Its id as vLLM extends it, such as `cmpl-1-0`.
    pub full_id: &'a str,
    /// The node's role and address.
    pub role: Role,
    pub address: SocketAddr,
}

impl Signs<'_> {
    /// What the request is for the node.
    pub fn leg(&self) -> Leg {
        if let Some(room) = self.room {
            let key = format!("room/{room}");
            return match self.role {
                Role::Prefill => Leg::Give(Give::Meet(key)),
                Role::Decode => Leg::Fetch(Fetch::of(key)),
                Role::Mixed => Leg::Alone,
            };
        }
        match self.kv {
            Some(kv) => self.by_params(kv),
            None => self.by_addresses().unwrap_or(Leg::Alone),
        }
    }

    fn by_params(&self, kv: &KvParams) -> Leg {
        let engine_id = kv.remote_engine_id.clone();
        if let Some(spec) = &kv.disagg_spec {
            let port = spec.receiver_init_port.first().copied().unwrap_or_default();
            return Leg::Give(Give::Deliver { port, request_id: spec.req_id.clone().unwrap_or_default() });
        }
        if kv.ret_first_tok == Some(true) {
            return Leg::Give(Give::FirstToken);
        }
        let transfer = kv.transfer_id.as_ref().map(|id| format!("transfer/{id}"));
        if kv.do_remote_decode == Some(true) {
            return Leg::Give(match (transfer, &kv.request_id) {
                (Some(key), _) => Give::Meet(key),
                (None, Some(id)) => Give::Push(format!("layers/{id}")),
                (None, None) => Give::Answer,
            });
        }
        if kv.do_remote_prefill != Some(true) {
            return Leg::Alone;
        }
        Leg::Fetch(match (transfer, &kv.metaserver, &kv.remote_bootstrap_addr) {
            (Some(key), _, Some(bootstrap)) => {
                Fetch { engine_id, port: Some(port_of(bootstrap)), ..Fetch::of(key) }
            }
            (Some(key), _, None) => Fetch { engine_id, port: kv.remote_port, nixl: true, ..Fetch::of(key) },
            (None, Some(url), _) => {
                Fetch { metaserver: Some(url.clone()), ..Fetch::of(format!("layers/{}", self.full_id)) }
            }
            (None, None, _) => {
                let (engine, request) = (engine_id.as_deref(), kv.remote_request_id.as_deref());
                let key = pull_key(engine.unwrap_or_default(), request.unwrap_or_default());
                Fetch { engine_id, port: kv.remote_port, wait: false, nixl: true, ..Fetch::of(key) }
            }
        })
    }

    /// `___prefill_addr_{host:port}___decode_addr_{host:port}_{hex}`; both must be addresses of nodes, and the
    /// node's own one of them.
    fn by_addresses(&self) -> Option<Leg> {
        let rest = &self.id[self.id.find("___prefill_addr_")? + "___prefill_addr_".len()..];
        let (prefill, rest) = rest.split_once("___decode_addr_")?;
        let (decode, _) = rest.rsplit_once('_')?;
        let own = self.address.to_string();
        let key = format!("addresses/{}", self.id);
        if prefill == own {
            return Some(Leg::Give(Give::Push(key)));
        }
        let wait = decode == own;
        Some(Leg::Fetch(Fetch { port: Some(port_of(prefill)), wait, ..Fetch::of(key) }))
    }
}

/// Where the KV of `request` waits that the engine `engine_id` told its caller of.
pub(super) fn pull_key(engine_id: &str, request: &str) -> String {
    format!("pull/{engine_id}/{request}")
}

/// What a prefill node answers so that another can pull `blocks` blocks of `request`.
pub(super) fn pull_params(engine_id: &str, address: SocketAddr, request: &str, blocks: u64) -> Value {
    json!({
        "do_remote_prefill": true,
        "do_remote_decode": false,
        "remote_block_ids": (0..blocks).collect::<Vec<_>>(),
        "remote_engine_id": engine_id,
        "remote_request_id": request,
        "remote_host": address.ip().to_string(),
        "remote_port": address.port(),
        "tp_size": 1,
    })
}

/// What a decode node of vllm-ascend asks the metaserver for; its prefill leg carries the same.
pub(super) fn layerwise_params(engine_id: &str, address: SocketAddr, full_id: &str, blocks: u64) -> Value {
    json!({
        "token_ids": [],
        "request_id": full_id,
        "do_remote_prefill": false,
        "do_remote_decode": true,
        "remote_block_ids": (0..blocks).collect::<Vec<_>>(),
        "remote_engine_id": engine_id,
        "remote_host": address.ip().to_string(),
        "remote_port": address.port(),
        "remote_tp_size": 1,
        "remote_pcp_size": 1,
        "remote_dcp_size": 1,
        "remote_cached_tokens": 0,
    })
}

/// The port of `host:port` or `http://host:port`; 0 where there is none.
fn port_of(place: &str) -> u16 {
    let place = place.trim_end_matches('/');
    place.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(role: Role, id: &str, kv: Value, room: Option<u64>) -> Leg {
        let kv: Option<KvParams> = serde_json::from_value(kv).unwrap();
        let address = "10.0.0.1:8100".parse().unwrap();
        Signs { kv: kv.as_ref(), room, id, full_id: "cmpl-1-0", role, address }.leg()
    }

    fn fetch(leg: Leg) -> Fetch {
        match leg {
            Leg::Fetch(fetch) => fetch,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_without_signs_stands_alone() {
        assert_eq!(leg(Role::Decode, "x", Value::Null, None), Leg::Alone);
        assert_eq!(
            leg(Role::Mixed, "x", json!({"do_remote_prefill": false, "other": [1]}), None),
            Leg::Alone
        );
        assert_eq!(leg(Role::Mixed, "x", Value::Null, Some(7)), Leg::Alone);
    }

    #[test]
    fn nixl_pulls_what_the_answer_named() {
        let asks = json!({"do_remote_decode": true, "do_remote_prefill": false, "remote_engine_id": null,
            "remote_block_ids": null, "remote_host": null, "remote_port": null});
        assert_eq!(leg(Role::Prefill, "x", asks, None), Leg::Give(Give::Answer));
        let told = pull_params("prefill-0", "10.0.0.1:8100".parse().unwrap(), "cmpl-x-0-1", 3);
        let fetch = fetch(leg(Role::Decode, "x", told, None));
        assert_eq!((fetch.key.as_str(), fetch.wait, fetch.nixl), ("pull/prefill-0/cmpl-x-0-1", false, true));
        assert_eq!((fetch.engine_id.as_deref(), fetch.port), (Some("prefill-0"), Some(8100)));
    }

    #[test]
    fn a_transfer_id_joins_legs_that_come_at_once() {
        let gives = json!({"do_remote_decode": true, "do_remote_prefill": false, "transfer_id": "xfer-1"});
        assert_eq!(leg(Role::Prefill, "x", gives, None), Leg::Give(Give::Meet("transfer/xfer-1".to_owned())));
        let mooncake = json!({"do_remote_prefill": true, "transfer_id": "xfer-1", "remote_engine_id": "e",
            "remote_bootstrap_addr": "http://10.0.0.1:8998"});
        let got = fetch(leg(Role::Decode, "x", mooncake, None));
        assert_eq!((got.key.as_str(), got.port, got.nixl), ("transfer/xfer-1", Some(8998), false));
        let push = json!({"do_remote_prefill": true, "transfer_id": "xfer-1", "remote_engine_id": "e",
            "remote_host": "h", "remote_port": 5600, "remote_request_id": "r", "tp_size": 1, "pp_size": 1});
        let got = fetch(leg(Role::Decode, "x", push, None));
        assert!(got.nixl && got.wait && got.port == Some(5600));
        assert_eq!(leg(Role::Prefill, "x", Value::Null, Some(9)), Leg::Give(Give::Meet("room/9".to_owned())));
        assert_eq!(fetch(leg(Role::Decode, "x", Value::Null, Some(9))).key, "room/9");
    }

    #[test]
    fn addresses_in_the_id_say_who_gives_and_who_fetches() {
        let id = |p: &str, d: &str| format!("___prefill_addr_{p}___decode_addr_{d}_0123abcd");
        let mine = id("10.0.0.1:8100", "10.0.0.2:8200");
        let key = format!("addresses/{mine}");
        assert_eq!(leg(Role::Prefill, &mine, Value::Null, None), Leg::Give(Give::Push(key.clone())));
        let got = fetch(leg(Role::Decode, &id("10.0.0.2:8200", "10.0.0.1:8100"), Value::Null, None));
        assert_eq!((got.wait, got.port), (true, Some(8200)));
        assert!(!fetch(leg(Role::Decode, &id("10.0.0.2:1", "10.0.0.3:2"), Value::Null, None)).wait);
        assert_eq!(leg(Role::Decode, "___prefill_addr_only", Value::Null, None), Leg::Alone);
    }

    #[test]
    fn lmcache_and_the_metaserver_are_known_by_their_fields() {
        let spec = json!({"ret_first_tok": true, "disagg_spec": {"req_id": "r1", "receiver_host": "h",
            "receiver_init_port": [8200, 8201], "receiver_alloc_port": [8300]}});
        let deliver = Give::Deliver { port: 8200, request_id: "r1".to_owned() };
        assert_eq!(leg(Role::Prefill, "x", spec, None), Leg::Give(deliver));
        assert_eq!(
            leg(Role::Prefill, "x", json!({"ret_first_tok": true}), None),
            Leg::Give(Give::FirstToken)
        );
        let asks = json!({"do_remote_decode": false, "do_remote_prefill": true, "metaserver": "http://p/v1/metaserver"});
        let got = fetch(leg(Role::Decode, "1", asks, None));
        assert_eq!((got.key.as_str(), got.metaserver.is_some()), ("layers/cmpl-1-0", true));
        let called = layerwise_params("decode-0", "10.0.0.2:8200".parse().unwrap(), "cmpl-1-0", 2);
        assert_eq!(
            leg(Role::Prefill, "2", called, None),
            Leg::Give(Give::Push("layers/cmpl-1-0".to_owned()))
        );
    }
}
