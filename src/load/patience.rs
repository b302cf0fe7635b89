use std::time::Duration;

/// How long a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To open a connection.
    pub connect: Duration,
    /// From the send to the first token.
    pub first_token: Duration,
    /// Between two events after it.
    pub idle: Duration,
    /// From the send to the end; `None` for no limit.
    pub request: Option<Duration>,
    /// For requests in flight when a pass ends early.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_token: Duration::from_secs(600),
            idle: Duration::from_secs(120),
            request: None,
            drain: Duration::from_secs(30),
        }
    }
}
