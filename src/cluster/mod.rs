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
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Prefill => "prefill",
            Role::Decode => "decode",
        })
    }
}

/// How many nodes play each role, written as `2p4d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Topology {
    /// Prefill nodes, at least 1.
    pub prefill: usize,
    /// Decode nodes, at least 1.
    pub decode: usize,
}

impl Default for Topology {
    fn default() -> Self {
        Self { prefill: 1, decode: 1 }
    }
}

impl FromStr for Topology {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let counts = lower.strip_suffix('d').and_then(|rest| rest.split_once('p'));
        let parsed = counts.and_then(|(p, d)| Some((p.parse().ok()?, d.parse().ok()?)));
        match parsed {
            Some((prefill, decode)) if (1..=1024).contains(&prefill) && (1..=1024).contains(&decode) => {
                Ok(Self { prefill, decode })
            }
            _ => Err(format!(
                "`{text}` is not a topology: want prefill and decode node counts from 1 to 1024, such as `1p1d` or `2p4d`"
            )),
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}p{}d", self.prefill, self.decode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topology_reads_back_as_it_prints() {
        for text in ["1p1d", "2p4d", "32p32d"] {
            assert_eq!(text.parse::<Topology>().map(|t| t.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_topology_without_both_roles_is_refused() {
        for text in ["", "1p", "0p1d", "1d1p", "1p-1d", "2000p1d", "1p1d1s"] {
            assert!(text.parse::<Topology>().is_err(), "{text}");
        }
    }
}
