use crate::cli::{at_least_one, seconds, seconds_or_zero, usage};
use crate::command::{Error, LadderPrompts};
use crate::workload::{ArrivalProcess, Burstiness, Normalise, Ramp, RampShape, Rate};
use clap::Args;
use std::time::Duration;

/// When requests are sent.
#[derive(Debug, Args)]
#[command(next_help_heading = "Arrivals")]
pub(super) struct ArrivalArgs {
    /// Offered load, requests per second; `inf` sends everything at once. Several behind commas are run one after another
    /// [default: inf; 8 to the embedded cluster]
    #[arg(
        long,
        visible_alias = "request-rate",
        value_name = "RATE",
        allow_negative_numbers = true,
        value_delimiter = ','
    )]
    rate: Vec<Rate>,
    /// Runs at each rate, with a fresh seed and fresh prompts each; from five on with an interval between them
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = at_least_one)]
    runs: usize,
    /// Rest between two runs, seconds
    #[arg(long, default_value = "2", value_name = "SECONDS", value_parser = seconds_or_zero)]
    pause: Duration,
    /// Send the same prompts in each of several runs, which then may be in the target's cache
    #[arg(long)]
    same_prompts: bool,
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

/// What several runs have besides their load.
pub(super) struct Several {
    pub(super) arrivals: Vec<ArrivalProcess>,
    pub(super) runs: usize,
    pub(super) pause: Duration,
    pub(super) prompts: LadderPrompts,
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
                _ => ArrivalProcess::steady(self.rate.first().copied().unwrap_or(default), self.burstiness),
            };
        Ok((process, self.burstiness))
    }

    /// Several runs, where that is what was typed; `first` is the law of the first.
    pub(super) fn several(&self, first: ArrivalProcess) -> Result<Option<Several>, Error> {
        let further = self.rate.iter().skip(1).map(|&rate| ArrivalProcess::steady(rate, self.burstiness));
        let arrivals: Vec<ArrivalProcess> = std::iter::once(first).chain(further).collect();
        let prompts = if self.same_prompts { LadderPrompts::Same } else { LadderPrompts::Fresh };
        if 1 < arrivals.len() * self.runs {
            return Ok(Some(Several { arrivals, runs: self.runs, pause: self.pause, prompts }));
        }
        match self.same_prompts {
            true => Err(usage("--same-prompts with one run: there is no other to send them again")
                .help("leave it out, or add --runs N or several rates: --rate 1,2,4")),
            false => Ok(None),
        }
    }

    pub(super) fn normalise(&self) -> Normalise {
        if self.no_normalize { Normalise::Never } else { Normalise::ToRate }
    }

    pub(super) fn spin(&self) -> Duration {
        Duration::from_micros(u64::from(self.pacing_spin))
    }
}
