use super::prompt::mix;
use super::{Book, Cost, Death, FaultKind, Faults, PARAMETERS};
use crate::cluster::{Role, Topology};
use serde_json::{Map, Value};
use std::sync::Arc;

/// A simulated cluster: its shape, its speed and what its answers look like.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Its nodes. Default 1p1d.
    pub topology: Topology,
    /// The model's served name. Default `simulated`.
    pub model: String,
    /// Decides the answers' words and lengths, together with each prompt. Default 0.
    pub seed: u64,
    /// Wall time at the clock's origin in microseconds since 1970, for `created` and the truth log.
    pub wall_anchor_unix_us: u64,
    /// What work costs.
    pub cost: Cost,
    /// How whoever stands before the nodes chooses among them; no node looks at it. Default
    /// [`Routing::LeastInFlight`].
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
    /// Questions that the model can answer. Default none.
    pub book: Option<Arc<Book>>,
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
    /// When the store dies, in seconds after the clock's origin. Default never.
    pub store_dies_s: Option<f64>,
    /// How long a request waits for a dead store, at each node, in seconds. Default 4.3: with a `mooncake_master` that
    /// was killed, requests over two nodes took 8.7 s in place of 0.04 s.
    pub store_timeout_s: f64,
}

impl Default for KvConfig {
    fn default() -> Self {
        Self {
            store: true,
            store_capacity_tokens: 4_000_000,
            store_lease_s: 10.0,
            hold_s: 480.0,
            wait_s: 30.0,
            store_dies_s: None,
            store_timeout_s: 4.3,
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
            book: None,
        }
    }
}

impl Config {
    /// Whether what is meant for some nodes alone finds them in the topology.
    ///
    /// # Errors
    /// A sentence that names the parameter, the node and the topology.
    pub fn check(&self) -> Result<(), String> {
        let count = |role| self.topology.roles().filter(|other| *other == role).count();
        let there = |role: Option<Role>, index: Option<usize>| {
            role.is_none_or(|role| index.unwrap_or(0) < count(role))
        };
        let refused = |name, what: String| {
            Err(format!("{name} `{what}` names a node that a {} cluster does not have", self.topology))
        };
        if let Some(death) = self.death.filter(|death| !there(Some(death.role), Some(death.index))) {
            return refused("kill-node", death.to_string());
        }
        let comes = |from: Option<usize>| from.is_none_or(|from| there(Some(Role::Prefill), Some(from)));
        match self.faults.0.iter().find(|fault| !there(fault.role, fault.index) || !comes(fault.from)) {
            Some(fault) => refused("fault", fault.to_string()),
            None => Ok(()),
        }
    }

    /// What one of the nodes is, which some faults make unlike the others.
    pub(super) fn of_node(&self, role: Role, index: usize) -> Self {
        let mut config = self.clone();
        for fault in self.faults.of(&Faults::default(), role, index).0 {
            match fault.kind {
                FaultKind::OtherWeights => config.seed = mix(config.seed),
                FaultKind::OtherName => config.model += "-other",
                FaultKind::MaxLen(tokens) => config.cost.max_model_len = tokens.into(),
                FaultKind::BlockSize(tokens) => config.cost.block_tokens = tokens.into(),
                _ => {}
            }
        }
        config
    }

    /// Everything that decides what the cluster does, by name: `topology`, `model`, `seed`, then each of
    /// [`PARAMETERS`]; with a book how many questions it has, and how often the model is right. For manifests and the
    /// truth log.
    pub fn to_map(&self) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("topology".to_owned(), self.topology.to_string().into());
        map.insert("model".to_owned(), self.model.clone().into());
        map.insert("seed".to_owned(), self.seed.into());
        map.extend(PARAMETERS.iter().map(|parameter| (parameter.name.to_owned(), parameter.value(self))));
        if let Some(book) = &self.book {
            map.insert("questions".to_owned(), book.questions().into());
            map.insert("right".to_owned(), book.right().into());
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_for_a_node_that_is_not_there_is_refused() {
        let check = |topology: &str, name: &str, text: &str| {
            let mut config = Config { topology: topology.parse().unwrap(), ..Config::default() };
            PARAMETERS.iter().find(|p| p.name == name).unwrap().set(&mut config, text).unwrap();
            config.check()
        };
        for (topology, name, text) in [
            ("2p1d", "kill-node", "prefill:1@3"),
            ("1m", "kill-node", "mixed:0@0"),
            ("2p1d", "fault", "lose-kv,status=503@decode:0,slow-link=2@prefill"),
            ("2p1d", "fault", "lose-kv@prefill:1-decode:0"),
        ] {
            assert_eq!(check(topology, name, text), Ok(()), "{topology} {text}");
        }
        for (topology, name, text, says) in [
            ("2p1d", "kill-node", "decode:1@3", "kill-node `decode:1@3` names a node that a 2p1d cluster"),
            ("1m", "kill-node", "decode:0@3", "a 1m cluster does not have"),
            ("2p1d", "fault", "lose-kv,status=503@prefill:2", "fault `status=503@prefill:2` names"),
            ("2p1d", "fault", "status=503@mixed", "fault `status=503@mixed` names"),
        ] {
            let error = check(topology, name, text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
