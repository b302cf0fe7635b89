use crate::cli::{at_least_one, seconds, usage};
use crate::command::Error;
use crate::workload::{ArrivalProcess, Burstiness, Normalise, Ramp, RampShape, Rate};
use clap::Args;
use std::time::Duration;

/// When requests are sent.
#[derive(Debug, Args)]
#[command(next_help_heading = "Arrivals")]
pub(super) struct ArrivalArgs {
    /// Offered load, requests per second; `inf` sends everything at once [default: inf; 8 to the embedded cluster]
    #[arg(long, visible_alias = "request-rate", value_name = "RATE", allow_negative_numbers = true)]
    rate: Option<Rate>,
    /// Shape of the gamma distribution of the gaps: 1 is Poisson, below burstier, above more regular, `inf` constant
    #[arg(long, default_value = "1.0", value_name = "SHAPE", allow_negative_numbers = true)]
    burstiness: Burstiness,
    /// Most requests in flight at a time [default: no limit]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) max_concurrency: Option<usize>,
    /// Seed of prompts and arrivals; the same as in `vllm bench serve` gives the same
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u32,
    /// Keep the gaps as drawn, instead of scaling them so that the last request is due at N / rate
    #[arg(long)]
    no_normalize: bool,
    /// Send nothing more after so many seconds [default: no limit]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) max_duration: Option<Duration>,
    /// Raise the rate during the run; instead of --rate
    #[arg(
        long,
        value_name = "SHAPE",
        conflicts_with = "rate",
        requires_all = ["ramp_up_start_rps", "ramp_up_end_rps"],
        value_parser = ["linear", "exponential"]
    )]
    ramp_up_strategy: Option<String>,
    /// Rate at the first request, requests per second
    #[arg(long, value_name = "RATE", requires = "ramp_up_strategy")]
    ramp_up_start_rps: Option<f64>,
    /// Rate at the last request, requests per second
    #[arg(long, value_name = "RATE", requires = "ramp_up_strategy")]
    ramp_up_end_rps: Option<f64>,
    /// Longest spin before a send, microseconds; 0 leaves the instant to the operating system
    #[arg(long, default_value_t = 50, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pacing_spin: u32,
}

impl ArrivalArgs {
    /// The law of the arrivals, and the burstiness as typed.
    pub(super) fn process(&self, embedded: bool) -> Result<(ArrivalProcess, Burstiness), Error> {
        let default = if embedded { Rate::PerSecond(8.0) } else { Rate::Unlimited };
        let process =
            match (&self.ramp_up_strategy, self.ramp_up_start_rps, self.ramp_up_end_rps) {
                (Some(shape), Some(start), Some(end)) => {
                    let shape: RampShape = shape.parse().map_err(|error: String| usage(error))?;
                    let ramp = Ramp::new(shape, start, end, self.burstiness);
                    ArrivalProcess::Ramp(ramp.map_err(|error| {
                        usage(error).help("check --ramp-up-start-rps and --ramp-up-end-rps")
                    })?)
                }
                _ => ArrivalProcess::steady(self.rate.unwrap_or(default), self.burstiness),
            };
        Ok((process, self.burstiness))
    }

    pub(super) fn normalise(&self) -> Normalise {
        if self.no_normalize { Normalise::Never } else { Normalise::ToRate }
    }

    pub(super) fn spin(&self) -> Duration {
        Duration::from_micros(u64::from(self.pacing_spin))
    }
}
