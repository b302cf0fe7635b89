//! What the anatomy and the nodes' own numbers mean, in words.

use super::{Anatomy, NodeSide, PartName, ServerRole};
use serde::{Deserialize, Serialize};

/// What holds the first tokens up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The greatest part.
    pub greatest: PartName,
    /// Its share of the TTFT from the schedule, in [0, 1].
    pub share: f64,
    /// What there is too little of; absent where nothing is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bottleneck: Option<Bottleneck>,
    /// What that rests on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

/// What there is too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bottleneck {
    /// Prefill nodes, or nodes that do both.
    Prefill,
    /// Decode nodes, or their memory.
    Decode,
    /// The link, or the store.
    Link,
}

/// Share of the TTFT from which a queue or a transfer tells of a shortage.
const SHARE: f64 = 0.2;
/// Mean number of requests that wait at each node of a pool that is short.
const WAITING: f64 = 1.0;
/// Share of the KV cache from which it is full.
const FULL: f64 = 0.95;
/// Preemptions for each request from which there is too little KV memory.
const PREEMPTED: f64 = 0.01;

impl Diagnosis {
    /// `None` where nothing was measured.
    pub(super) fn of(anatomy: &Anatomy, nodes: &[NodeSide]) -> Option<Self> {
        let greatest = anatomy.parts.iter().max_by(|one, other| one.ms.total_cmp(&other.ms))?;
        let found = [
            (Bottleneck::Prefill, prefill(anatomy, nodes)),
            (Bottleneck::Decode, decode(anatomy, nodes)),
            (Bottleneck::Link, link(anatomy)),
        ];
        let short = found.into_iter().filter(|(_, evidence)| !evidence.is_empty());
        // Of several the one that costs the user most; of equals the first.
        let worst = short.rev().max_by(|one, other| cost(anatomy, one.0).total_cmp(&cost(anatomy, other.0)));
        let (bottleneck, evidence) = worst.map_or((None, Vec::new()), |(which, why)| (Some(which), why));
        Some(Self { greatest: greatest.name, share: anatomy.share(greatest.name), bottleneck, evidence })
    }

    /// One sentence.
    pub fn text(&self) -> String {
        let greatest = format!("most of it is {} ({:.0} %)", self.greatest.words(), 100.0 * self.share);
        match self.bottleneck {
            None => format!("{greatest}; no pool is short"),
            Some(which) => {
                format!("{greatest}; the bottleneck is {}: {}", which.words(), self.evidence.join(", "))
            }
        }
    }

    /// What to try, one line.
    pub fn try_this(&self) -> &'static str {
        match (self.bottleneck, self.greatest) {
            (Some(Bottleneck::Prefill), _) => {
                "add prefill nodes, or turn a decode node into one; a shared prefix or shorter prompts help too"
            }
            (Some(Bottleneck::Decode), _) => {
                "add decode nodes or KV memory there; where KV usage is low, raise the engine's max_num_seqs"
            }
            (Some(Bottleneck::Link), _) => {
                "look at what the KV goes over: RDMA instead of TCP, more bandwidth, a smaller KV data type"
            }
            (None, PartName::PrefillCompute) => {
                "only faster prefill makes it shorter: more tensor parallelism, chunks, a prefix cache"
            }
            (None, PartName::Client) => "offer the load without --max-concurrency, or from a faster client",
            (None, PartName::Rest) => {
                "name every node with --prefill and --decode; `pdbench proxy` tells its own part"
            }
            (None, _) => "raise the rate to see which pool gives way first",
        }
    }
}

impl Bottleneck {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Bottleneck::Prefill => "the prefill pool",
            Bottleneck::Decode => "the decode pool",
            Bottleneck::Link => "the way of the KV",
        }
    }
}

fn cost(anatomy: &Anatomy, which: Bottleneck) -> f64 {
    anatomy.share(match which {
        Bottleneck::Prefill => PartName::PrefillQueue,
        Bottleneck::Decode => PartName::DecodeQueue,
        Bottleneck::Link => PartName::KvTransfer,
    })
}

fn of_share(anatomy: &Anatomy, part: PartName) -> Option<String> {
    let share = anatomy.share(part);
    (SHARE <= share).then(|| format!("{} is {:.0} % of TTFT", part.words(), 100.0 * share))
}

fn waiting(nodes: &[&NodeSide]) -> Option<String> {
    let means: Vec<f64> = nodes.iter().filter_map(|node| node.waiting_mean).collect();
    let mean = means.iter().sum::<f64>() / means.len() as f64;
    (WAITING <= mean).then(|| format!("{mean:.1} requests wait at each node"))
}

fn prefill(anatomy: &Anatomy, nodes: &[NodeSide]) -> Vec<String> {
    let pool = |node: &&NodeSide| matches!(node.role, ServerRole::Prefill | ServerRole::Mixed);
    let pool: Vec<&NodeSide> = nodes.iter().filter(pool).collect();
    of_share(anatomy, PartName::PrefillQueue).into_iter().chain(waiting(&pool)).collect()
}

fn decode(anatomy: &Anatomy, nodes: &[NodeSide]) -> Vec<String> {
    let pool = |node: &&NodeSide| matches!(node.role, ServerRole::Decode | ServerRole::Mixed);
    let pool: Vec<&NodeSide> = nodes.iter().filter(pool).collect();
    let sum = |value: fn(&NodeSide) -> Option<f64>| pool.iter().filter_map(|node| value(node)).sum::<f64>();
    let (preempted, requests) = (sum(|node| node.preemptions), sum(|node| node.requests));
    let usage = pool.iter().filter_map(|node| node.kv_usage_peak).reduce(f64::max);
    // A queue that has the wait for KV in it says nothing about places.
    let queue = of_share(anatomy, PartName::DecodeQueue).filter(|_| !anatomy.kv_wait_in_queue);
    let full = usage.filter(|usage| FULL <= *usage);
    let full = full.map(|usage| format!("KV cache up to {:.0} % full", 100.0 * usage));
    let often = PREEMPTED * requests <= preempted && 0.0 < preempted;
    let preempted = often.then(|| format!("{preempted:.0} preemptions of {requests:.0} requests"));
    queue.into_iter().chain(full).chain(preempted).collect()
}

fn link(anatomy: &Anatomy) -> Vec<String> {
    of_share(anatomy, PartName::KvTransfer).into_iter().collect()
}
