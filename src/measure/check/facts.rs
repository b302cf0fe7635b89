use super::Ask;
use crate::cluster::Role;
use crate::measure::server::{CounterName, NodeDelta};
use serde::{Deserialize, Serialize};

/// What a check was told, and what the instances told meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckFacts {
    /// How the legs are spoken that go straight to instances; absent where all goes through the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
    /// The proxy, `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// The baseline, `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// Prefill instances, then decode instances; requests name them by their place here, from 0.
    pub nodes: Vec<NodeTold>,
    /// The KV store's master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreTold>,
    /// Output tokens of a whole request.
    pub output_tokens: u32,
    /// Requests planned, over all rounds.
    pub planned: usize,
    /// The rounds that were sent, in their order. Requests are numbered through all of them, from 0.
    pub rounds: Vec<RoundTold>,
}

/// What an instance told before the first request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeTold {
    /// Prefill or decode.
    pub role: Role,
    /// `host:port`; a number among those of its role for one of ours, whose port is another in each run.
    pub address: String,
    /// Why it takes no request, where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<String>,
    /// The models it lists; none where it has no such page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Longest prompt and answer together, tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<u64>,
    /// Tokens in a KV block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u64>,
}

impl NodeTold {
    /// An instance of which nothing else is known yet.
    pub fn named(role: Role, address: String) -> Self {
        Self { role, address, silent: None, models: Vec::new(), max_model_len: None, block_size: None }
    }

    /// The address; with its role for one of ours, which has none.
    pub fn place(&self) -> String {
        if self.address.contains(':') { self.address.clone() } else { self.name() }
    }

    /// Role and address.
    pub fn name(&self) -> String {
        format!("{} {}", self.role, self.address)
    }
}

/// What the store's master told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreTold {
    /// `host:port`.
    pub address: String,
    /// Why it did not answer at the end, where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<String>,
    /// Keys before the first request, and after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_before: Option<f64>,
    /// Keys after the last request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_after: Option<f64>,
}

/// One round: what was sent at once, and what each instance counted meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundTold {
    /// The requests.
    pub asks: Vec<Ask>,
    /// What instances that count anything counted, by their number.
    pub growth: Vec<(usize, Growth)>,
}

/// What an instance counted in a round; `None` where it does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// Requests that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<f64>,
    /// Prompt tokens that it computed itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_compute: Option<f64>,
    /// Prompt tokens that its own cache had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_cache_hit: Option<f64>,
    /// Prompt tokens whose KV came from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<f64>,
    /// Tokens that it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<f64>,
    /// Bytes that its connector put into a store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_bytes: Option<f64>,
    /// Transfers of its connector, or keys of a store, that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_transfers: Option<f64>,
}

impl Growth {
    /// What of a delta a check needs; nothing of an instance that began anew, which lost what it had counted.
    pub fn of(delta: &NodeDelta) -> Option<Self> {
        (!delta.is_lower_bound()).then(|| Self {
            finished: delta.finished(),
            local_compute: delta.grown(CounterName::LocalCompute),
            local_cache_hit: delta.grown(CounterName::LocalCacheHit),
            external: delta.grown(CounterName::ExternalKv).or(delta.grown(CounterName::ExternalHits)),
            generated: delta.grown(CounterName::GenerationTokens),
            saved_bytes: delta.grown(CounterName::StoreBytesSaved),
            failed_transfers: delta.failed_transfers(),
        })
    }

    /// Whether it did anything.
    pub fn is_some(&self) -> bool {
        let counts = [self.finished, self.local_compute, self.local_cache_hit, self.external, self.generated];
        counts.into_iter().flatten().any(|count| 0.0 < count)
    }
}

impl CheckFacts {
    /// Numbers of the instances of a role.
    pub fn of(&self, role: Role) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(move |&at| self.nodes[at].role == role)
    }

    /// What an instance is called.
    pub fn name(&self, node: usize) -> String {
        self.nodes.get(node).map_or_else(|| format!("instance {node}"), NodeTold::name)
    }

    /// Requests before a round.
    pub fn first_of(&self, round: usize) -> usize {
        self.rounds.iter().take(round).map(|round| round.asks.len()).sum()
    }
}
