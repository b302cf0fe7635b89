//! What the nodes of a deployment count of themselves, as values: names that servers of several versions use for the
//! same thing, what one scrape says, how much that grew, and what all of it tells of a run: where the time to the first
//! token went, node by node, and whether KV moved.
//! Deliberately absent: sockets (`observe` scrapes), and how any of it is shown.

mod anatomy;
mod counts;
mod course;
mod delta;
mod diagnosis;
mod kv;
mod names;
mod note;
mod observation;
mod side;

pub use anatomy::{Anatomy, Part, PartName, PartSource, TokenWay};
pub use counts::{HistogramCounts, NodeCounts};
pub use course::{RoleCourse, RolePoint, role_courses};
pub use delta::NodeDelta;
pub use diagnosis::{Bottleneck, Diagnosis};
pub use kv::{KvMoved, KvStop};
pub use names::{CounterName, GaugeName, HistogramName, is_told};
pub use note::ServerNote;
pub use observation::{Observation, Series, UP, is_kept, shared};
pub use side::{NodeSide, RoleSide, ServerSide};

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a node that is watched does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerRole {
    /// Computes prompts.
    Prefill,
    /// Generates tokens.
    Decode,
    /// Does both.
    Mixed,
    /// Keeps KV, or knows who does.
    Store,
    /// Stands before the others.
    Proxy,
}

impl ServerRole {
    /// Whether such a node takes requests for the model.
    pub fn serves(self) -> bool {
        matches!(self, ServerRole::Prefill | ServerRole::Decode | ServerRole::Mixed)
    }
}

impl fmt::Display for ServerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServerRole::Prefill => "prefill",
            ServerRole::Decode => "decode",
            ServerRole::Mixed => "mixed",
            ServerRole::Store => "store",
            ServerRole::Proxy => "proxy",
        })
    }
}

/// How one statistic of several nodes lies about their mean.
fn max_over_mean(values: &[f64]) -> Option<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (1 < values.len() && 0.0 < mean).then(|| values.iter().fold(0.0_f64, |a, b| a.max(*b)) / mean)
}
