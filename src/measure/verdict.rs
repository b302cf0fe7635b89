use serde::{Deserialize, Serialize};

/// Whether the client kept up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ClientState {
    /// The client's share of the numbers is negligible.
    Ok,
    /// The client's share can be seen in the numbers.
    Degraded,
    /// The numbers are the client's, not the server's.
    Saturated,
}

/// Whether the client or the server was measured, with the evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientVerdict {
    /// The verdict.
    pub state: ClientState,
    /// What it rests on, in words with figures.
    pub evidence: Vec<String>,
}
