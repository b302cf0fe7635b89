use serde::{Deserialize, Serialize};

/// Whether a run counts. Valid exactly when there is no reason against it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validity {
    /// True when the numbers may be quoted.
    pub valid: bool,
    /// Why not.
    pub reasons: Vec<Reason>,
}

/// A reason why a run does not count; its texts stand in this file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// Not one request succeeded.
    NoOkRequest,
    /// More failures than the error budget allows.
    FailureShare {
        /// Requests that failed.
        failed: usize,
        /// Requests that ended ok or failed.
        of: usize,
        /// Greatest share allowed.
        limit: f64,
    },
    /// The client did not keep up: the numbers are its own.
    ClientSaturated {
        /// What that rests on.
        evidence: Vec<String>,
    },
    /// Token counts contradict one another in too many answers.
    TokenMismatch {
        /// Requests with a contradiction.
        requests: usize,
        /// Requests that ended by themselves.
        of: usize,
    },
    /// A percentile that was asked for lies among requests that were cut by a time-out.
    CensoredPercentile {
        /// The lowest such percentile.
        p: f64,
        /// Requests that ran into a time-out.
        timeouts: usize,
        /// Requests that were ok or ran into a time-out.
        of: usize,
        /// How long the first of them to be cut was waited for, seconds: the percentile is not below.
        at_least_s: f64,
    },
    /// The mean number of requests in flight contradicts the records.
    LittlesLaw {
        /// In flight on average, as counted beside the records.
        counted: f64,
        /// In flight on average, by the records.
        recorded: f64,
    },
    /// This machine ran out of ports, descriptors or socket memory.
    ClientPorts {
        /// Requests that failed of it.
        requests: usize,
    },
    /// pdbench itself failed.
    Internal {
        /// Requests that failed of it.
        requests: usize,
    },
}

impl Reason {
    /// What is wrong, with figures, one line.
    pub fn what(&self) -> String {
        String::new()
    }

    /// What to do about it, one line.
    pub fn what_to_do(&self) -> &'static str {
        ""
    }
}
