use serde::{Deserialize, Serialize};

/// Whether a run counts. Valid exactly when there is no reason against it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validity {
    /// True when the numbers may be quoted.
    pub valid: bool,
    /// Why not.
    pub reasons: Vec<Reason>,
}

/// A reason why a run does not count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// Not one request succeeded.
    NoOkRequest,
}
