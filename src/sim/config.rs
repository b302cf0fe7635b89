use super::{Cost, Death, Faults, PARAMETERS};
use crate::cluster::Topology;
use serde_json::{Map, Value};

/// A simulated cluster: its shape, its speed and what its answers look like.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Prefill and decode nodes. Default 1p1d.
    pub topology: Topology,
    /// The model's served name. Default `simulated`.
    pub model: String,
    /// Decides the answers' words and lengths, together with each prompt. Default 0.
    pub seed: u64,
    /// Wall time at the clock's origin in microseconds since 1970, for `created` and the truth log.
    pub wall_anchor_unix_us: u64,
    /// What work costs.
    pub cost: Cost,
    /// Who serves a request. Default [`Routing::LeastInFlight`].
    pub routing: Routing,
    /// When the sequences of a decode step emit. Default [`Emission::Together`].
    pub emission: Emission,
    /// Whether prefill nodes reuse the KV blocks of equal prompt beginnings. Default true.
    pub prefix_cache: bool,
    /// Chance that an answer ends by itself after any one token, unless the request says `ignore_eos`.
    /// Default 0: answers end at their limit.
    pub eos_probability: f64,
    /// Output tokens of a chat answer without a limit, where vLLM would go on to the end of the
    /// context; it then ends by itself. Assumed; no source. Default 256.
    pub answer_tokens: u64,
    /// How KV goes from node to node.
    pub kv: KvConfig,
    /// What goes wrong with every request. Default nothing.
    pub faults: Faults,
    /// A node that dies. Default none.
    pub death: Option<Death>,
}

/// How KV goes from node to node.
#[derive(Clone, Debug, PartialEq)]
pub struct KvConfig {
    /// Whether there is a KV store: prefill nodes put the KV of requests that name no other way into it.
    /// Default true.
    pub store: bool,
    /// Tokens that the store holds. Default 4,000,000: 524 GB of KV. Assumed; no source.
    pub store_capacity_tokens: u64,
    /// How long the store keeps what was looked up, in seconds, whatever else comes. Default 10, which the
    /// deployment guides name as the lease of mooncake_master.
    pub store_lease_s: f64,
    /// How long a prefill node holds KV that nobody fetches, in seconds. Default 480, as vLLM's
    /// `VLLM_NIXL_ABORT_REQUEST_TIMEOUT`.
    pub hold_s: f64,
    /// How long a decode node waits for KV that was promised, in seconds; then it computes the prompt itself.
    /// Assumed; no source. Default 30.
    pub wait_s: f64,
}

impl Default for KvConfig {
    fn default() -> Self {
        Self {
            store: true,
            store_capacity_tokens: 4_000_000,
            store_lease_s: 10.0,
            hold_s: 480.0,
            wait_s: 30.0,
        }
    }
}

/// How a node is chosen for a request; ties go to the node with the lowest index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Routing {
    /// The node with the fewest requests in flight.
    #[default]
    LeastInFlight,
    /// Each node in turn.
    RoundRobin,
}

/// When the sequences of one decode step hand out their tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Emission {
    /// All at the end of the step, as a real batch does.
    #[default]
    Together,
    /// Each at a phase of its own within the step, so that writes spread evenly over time.
    Staggered,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            topology: Topology::default(),
            model: "simulated".to_owned(),
            seed: 0,
            wall_anchor_unix_us: 0,
            cost: Cost::default(),
            routing: Routing::default(),
            emission: Emission::default(),
            prefix_cache: true,
            eos_probability: 0.0,
            answer_tokens: 256,
            kv: KvConfig::default(),
            faults: Faults::default(),
            death: None,
        }
    }
}

impl Config {
    /// Everything that decides what the cluster does, by name: `topology`, `model`, `seed`, then each of
    /// [`PARAMETERS`]. For manifests and the truth log.
    pub fn to_map(&self) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("topology".to_owned(), self.topology.to_string().into());
        map.insert("model".to_owned(), self.model.clone().into());
        map.insert("seed".to_owned(), self.seed.into());
        map.extend(PARAMETERS.iter().map(|parameter| (parameter.name.to_owned(), parameter.value(self))));
        map
    }
}
