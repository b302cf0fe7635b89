use crate::cli::{at_least_one, seconds, seconds_or_zero};
use crate::load::{ReadLimits, Timeouts};
use clap::Args;
use std::time::Duration;

/// How long and how much is borne.
#[derive(Debug, Args)]
#[command(next_help_heading = "Patience")]
pub(in crate::cli) struct PatienceArgs {
    /// Wait so long for the target to come up, seconds; 0 tries once
    #[arg(long, visible_alias = "ready-check-timeout-sec", default_value = "0", value_name = "SECONDS", value_parser = seconds_or_zero)]
    pub(in crate::cli) wait_ready: Duration,
    /// Longest wait for a connection, seconds
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    timeout_connect: Duration,
    /// Longest wait for the first token, seconds
    #[arg(long, default_value = "600", value_name = "SECONDS", value_parser = seconds)]
    timeout_first_token: Duration,
    /// Longest silence within an answer, seconds
    #[arg(long, default_value = "120", value_name = "SECONDS", value_parser = seconds)]
    timeout_idle: Duration,
    /// Longest time of a whole request, seconds [default: no limit; of `accuracy` 300]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout_request: Option<Duration>,
    /// Time for the requests in flight when sending ends early, by --max-duration or too many failures, seconds
    #[arg(long, default_value = "30", value_name = "SECONDS", value_parser = seconds_or_zero)]
    drain_timeout: Duration,
    /// Largest head of an answer (status line and headers), bytes
    #[arg(long, default_value_t = ReadLimits::default().response.head, value_name = "BYTES", value_parser = at_least_one)]
    max_head_bytes: usize,
    /// Largest event of a stream, bytes
    #[arg(long, default_value_t = ReadLimits::default().event, value_name = "BYTES", value_parser = at_least_one)]
    max_event_bytes: usize,
    /// Largest body of an answer, bytes
    #[arg(long, default_value_t = ReadLimits::default().response.body, value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(1..))]
    max_body_bytes: u64,
}

impl PatienceArgs {
    pub(in crate::cli) fn timeouts(&self) -> Timeouts {
        Timeouts {
            connect: self.timeout_connect,
            first_token: self.timeout_first_token,
            idle: self.timeout_idle,
            request: self.timeout_request,
            drain: self.drain_timeout,
        }
    }

    pub(in crate::cli) fn read_limits(&self) -> ReadLimits {
        let mut limits = ReadLimits { event: self.max_event_bytes, ..ReadLimits::default() };
        (limits.response.head, limits.response.body) = (self.max_head_bytes, self.max_body_bytes);
        limits
    }
}
