use serde::{Deserialize, Serialize};

/// Something a reader of the numbers should know; its texts stand in this file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "warning", rename_all = "snake_case")]
pub enum Warning {
    /// Prompt lengths are estimates.
    EstimatedTokens,
}
