//! What a PD cluster consists of, as names only: roles, how many nodes play each, where nodes are. Pure.
//! Deliberately absent: starting, watching or reaching real machines.

mod node;

pub use node::{KvFacts, Node};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a node does in a PD deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Computes the prompt's KV blocks.
    Prefill,
    /// Generates tokens from KV blocks.
    Decode,
    /// Does both by itself: what disaggregation is compared with.
    Mixed,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Prefill => "prefill",
            Role::Decode => "decode",
            Role::Mixed => "mixed",
        })
    }
}

/// How many nodes play each role, written as `2p4d`, or `2m` without disaggregation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Topology {
    /// Prefill nodes; 0 only where there are mixed ones.
    pub prefill: usize,
    /// Decode nodes; 0 only where there are mixed ones.
    pub decode: usize,
    /// Nodes that do both; 0 where there are others.
    pub mixed: usize,
}

impl Default for Topology {
    fn default() -> Self {
        Self::disaggregated(1, 1)
    }
}

impl Topology {
    /// `prefill` and `decode` nodes.
    pub fn disaggregated(prefill: usize, decode: usize) -> Self {
        Self { prefill, decode, mixed: 0 }
    }

    /// The role of each node: prefill nodes, decode nodes, mixed nodes.
    pub fn roles(&self) -> impl Iterator<Item = Role> {
        let of = |role, count| std::iter::repeat_n(role, count);
        of(Role::Prefill, self.prefill)
            .chain(of(Role::Decode, self.decode))
            .chain(of(Role::Mixed, self.mixed))
    }
}

impl FromStr for Topology {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let count = |text: &str| text.parse().ok().filter(|count| (1..=1024).contains(count));
        let pair = lower.strip_suffix('d').and_then(|rest| rest.split_once('p'));
        let pair = pair.and_then(|(p, d)| Some(Self::disaggregated(count(p)?, count(d)?)));
        let mixed = lower.strip_suffix('m').and_then(count);
        pair.or(mixed.map(|mixed| Self { prefill: 0, decode: 0, mixed })).ok_or_else(|| {
            format!(
                "`{text}` is not a topology: want prefill and decode node counts from 1 to 1024, such as `1p1d` or \
                 `2p4d`, or a count of mixed nodes, such as `1m`"
            )
        })
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mixed {
            0 => write!(f, "{}p{}d", self.prefill, self.decode),
            mixed => write!(f, "{mixed}m"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topology_reads_back_as_it_prints() {
        for text in ["1p1d", "2p4d", "32p32d", "1m", "1024m"] {
            assert_eq!(text.parse::<Topology>().map(|t| t.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn roles_are_listed_in_the_order_of_the_nodes() {
        let roles: Vec<_> = "1p2d".parse::<Topology>().unwrap().roles().collect();
        assert_eq!(roles, [Role::Prefill, Role::Decode, Role::Decode]);
        assert_eq!("2m".parse::<Topology>().unwrap().roles().collect::<Vec<_>>(), [Role::Mixed; 2]);
    }

    #[test]
    fn a_topology_without_both_roles_is_refused() {
        for text in ["", "1p", "0p1d", "1d1p", "1p-1d", "2000p1d", "1p1d1s", "0m", "m", "1p1m", "1p1d1m"] {
            assert!(text.parse::<Topology>().is_err(), "{text}");
        }
    }
}
