use serde::{Deserialize, Serialize};

/// Service-level objectives: limits in milliseconds by metric key. Empty means none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slo(pub std::collections::BTreeMap<String, f64>);
