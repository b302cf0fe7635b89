use crate::cli::seconds;
use crate::command::SelftestPlan;
use clap::Args;
use std::time::Duration;

/// Measures this machine: up to which load are its own measurements right?
#[derive(Debug, Args)]
#[command(
    long_about = "Loads a simulated server in a process of its own, more with each rung of a ladder, and holds what was \
    measured against what the server did. Says up to which load the errors stay within bounds. The server shares the \
    machine, so a client with a machine to itself can do more."
)]
pub(super) struct SelftestArgs {
    /// Streams at a time, one rung each
    #[arg(long, value_delimiter = ',', default_value = "100,250,500,1000,2000,4000", value_name = "LIST", value_parser = clap::value_parser!(u32).range(1..=50_000))]
    streams: Vec<u32>,
    /// Time between two tokens of a stream, milliseconds
    #[arg(long, default_value = "20", value_name = "MS", value_parser = milliseconds)]
    gap_ms: f64,
    /// Length of a rung, seconds; requests start over its first second
    #[arg(long, default_value = "4", value_name = "SECONDS", value_parser = seconds)]
    seconds: Duration,
    /// Bound of the TTFT error at p99, milliseconds; the way to the server and back is in it
    #[arg(long, default_value = "2", value_name = "MS", value_parser = milliseconds)]
    ttft_bound_ms: f64,
    /// Bound of the ITL error at p99, milliseconds [default: 0.1 with kernel stamps, 1 without]
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    itl_bound_ms: Option<f64>,
    /// Bound of how late sends are at p99, milliseconds
    #[arg(long, default_value = "1", value_name = "MS", value_parser = milliseconds)]
    send_bound_ms: f64,
}

impl SelftestArgs {
    pub(super) fn plan(self) -> SelftestPlan {
        SelftestPlan {
            streams: self.streams,
            gap_ms: self.gap_ms,
            length: self.seconds,
            ttft_bound_ms: self.ttft_bound_ms,
            itl_bound_ms: self.itl_bound_ms,
            send_bound_ms: self.send_bound_ms,
        }
    }
}

fn milliseconds(text: &str) -> Result<f64, String> {
    let parsed = text.parse::<f64>().ok().filter(|ms| (0.001..=1e5).contains(ms));
    parsed.ok_or_else(|| format!("`{text}` is not a time: want milliseconds from 0.001 to 100000"))
}
