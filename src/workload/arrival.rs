use std::str::FromStr;
use std::time::Duration;

use super::NumpyRandom;

/// Offered load in requests per second; `inf` sends everything at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// No waiting between requests; typed `inf`.
    Unlimited,
    /// Requests per second, finite and above 0.
    PerSecond(f64),
}

/// How regular the gaps are: the shape of their gamma distribution, whose coefficient of variation is
/// 1/√shape. Below 1 bursty, 1 a Poisson process, above 1 ever more regular.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Burstiness {
    /// The shape, finite and above 0.
    Shape(f64),
    /// All gaps alike; typed `inf`.
    Constant,
}

/// When requests are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ArrivalProcess {
    /// Every request at the start.
    AllAtOnce,
    /// Gaps of mean 1/rate seconds from a gamma distribution of shape `burstiness`.
    Gamma {
        /// Requests per second, above 0.
        rate: f64,
        /// Shape, above 0; see [`Burstiness`].
        burstiness: f64,
    },
    /// Gaps of 1/rate seconds.
    Constant {
        /// Requests per second, above 0.
        rate: f64,
    },
    /// A rate that changes from the first request to the last.
    Ramp(Ramp),
}

/// A rate that changes with the number of requests sent (not with time), as `--ramp-up-strategy` means it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    shape: RampShape,
    start: f64,
    end: f64,
    burstiness: Burstiness,
}

/// How a ramp goes from its first rate s to its last e, with p from 0 to 1 over the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RampShape {
    /// s + (e − s)·p
    Linear,
    /// s·(e/s)^p
    Exponential,
}

/// Whether the drawn times are stretched to the rate that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalise {
    /// All times are scaled so that the last of N requests is due at N/rate, as vLLM does; not with a ramp.
    ToRate,
    /// The times as drawn: the law itself, whose rate differs a little from run to run.
    Never,
}

/// When each request is due, from the start of the run: ascending, computed before the run, never changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    offsets: Vec<Duration>,
}

/// No request is due later than this, so that a tiny rate cannot leave the range of clocks: 100 years.
const LATEST: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Schedule {
    /// Arrival times of `count` requests, as vLLM computes them from numpy's legacy generator: the first is
    /// due after the first gap, not at 0.
    pub fn new(process: ArrivalProcess, count: usize, seed: u32, normalise: Normalise) -> Self {
        let mut seconds = process.cumulative_seconds(count, seed);
        let rate = process.rate().filter(|_| normalise == Normalise::ToRate);
        if let (Some(rate), Some(&last)) = (rate, seconds.last())
            && last != 0.0
        {
            let factor = count as f64 / rate / last;
            seconds.iter_mut().for_each(|at| *at *= factor);
        }
        Self { offsets: seconds.into_iter().map(duration).collect() }
    }

    /// A schedule of given times, in any order: a trace's, say.
    pub fn from_offsets(mut offsets: Vec<Duration>) -> Self {
        offsets.sort_unstable();
        Self { offsets }
    }

    /// When each request is due, ascending.
    pub fn offsets(&self) -> &[Duration] {
        &self.offsets
    }

    /// How many requests are due.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether no request is due.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// When the last request is due; zero if there is none.
    pub fn end(&self) -> Duration {
        self.offsets.last().copied().unwrap_or_default()
    }
}

impl ArrivalProcess {
    /// The process of a rate that stays.
    pub fn steady(rate: Rate, burstiness: Burstiness) -> Self {
        match (rate, burstiness) {
            (Rate::Unlimited, _) => ArrivalProcess::AllAtOnce,
            (Rate::PerSecond(rate), Burstiness::Constant) => ArrivalProcess::Constant { rate },
            (Rate::PerSecond(rate), Burstiness::Shape(burstiness)) => {
                ArrivalProcess::Gamma { rate, burstiness }
            }
        }
    }

    /// The one rate of the process, requests per second; `None` where there is none or many.
    pub fn rate(&self) -> Option<f64> {
        match *self {
            ArrivalProcess::Gamma { rate, .. } | ArrivalProcess::Constant { rate } => Some(rate),
            ArrivalProcess::AllAtOnce | ArrivalProcess::Ramp(_) => None,
        }
    }

    fn cumulative_seconds(&self, count: usize, seed: u32) -> Vec<f64> {
        let mut random = NumpyRandom::new(seed);
        let mut at = 0.0;
        let due = (0..count).map(|i| {
            at += self.gap_seconds(i, count, &mut random);
            at
        });
        due.collect()
    }

    fn gap_seconds(&self, i: usize, count: usize, random: &mut NumpyRandom) -> f64 {
        match *self {
            ArrivalProcess::AllAtOnce => 0.0,
            ArrivalProcess::Constant { rate } => 1.0 / rate,
            ArrivalProcess::Gamma { rate, burstiness } => gamma_gap(rate, burstiness, random),
            ArrivalProcess::Ramp(ramp) => match ramp.burstiness {
                Burstiness::Constant => 1.0 / ramp.rate_at(i, count),
                Burstiness::Shape(shape) => gamma_gap(ramp.rate_at(i, count), shape, random),
            },
        }
    }
}

impl Ramp {
    /// A ramp between two rates in requests per second; it may go down.
    ///
    /// # Errors
    /// If a rate is not above 0, where a gap would have no length.
    pub fn new(shape: RampShape, start: f64, end: f64, burstiness: Burstiness) -> Result<Self, String> {
        for rate in [start, end] {
            if !(rate.is_finite() && 0.0 < rate) {
                return Err(format!("`{rate}` is no end of a ramp: want requests per second above 0"));
            }
        }
        Ok(Self { shape, start, end, burstiness })
    }

    /// How the rate goes from its first to its last value.
    pub fn shape(&self) -> RampShape {
        self.shape
    }

    /// Requests per second before the first request.
    pub fn start(&self) -> f64 {
        self.start
    }

    /// Requests per second before the last.
    pub fn end(&self) -> f64 {
        self.end
    }

    /// Requests per second before request `i` of `count`.
    pub fn rate_at(&self, i: usize, count: usize) -> f64 {
        let progress = i as f64 / count.saturating_sub(1).max(1) as f64;
        match self.shape {
            RampShape::Linear => self.start + (self.end - self.start) * progress,
            RampShape::Exponential => self.start * (self.end / self.start).powf(progress),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_infinity(text) {
            return Ok(Rate::Unlimited);
        }
        match text.parse::<f64>() {
            Ok(rate) if rate.is_finite() && 0.0 < rate => Ok(Rate::PerSecond(rate)),
            _ => Err(format!("`{text}` is not a rate: want requests per second above 0, or `inf`")),
        }
    }
}

impl FromStr for Burstiness {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_infinity(text) {
            return Ok(Burstiness::Constant);
        }
        match text.parse::<f64>() {
            Ok(shape) if shape.is_finite() && 0.0 < shape => Ok(Burstiness::Shape(shape)),
            _ => Err(format!(
                "`{text}` is not a burstiness: want above 0 (1 is Poisson), or `inf` for constant gaps"
            )),
        }
    }
}

impl RampShape {
    /// The word for it in flags and files.
    pub fn word(self) -> &'static str {
        match self {
            RampShape::Linear => "linear",
            RampShape::Exponential => "exponential",
        }
    }
}

impl FromStr for RampShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "linear" => Ok(RampShape::Linear),
            "exponential" => Ok(RampShape::Exponential),
            _ => Err(format!("`{text}` is not a ramp: want `linear` or `exponential`")),
        }
    }
}

/// Mean 1/rate: Gamma(shape b, scale 1/(rate·b)), multiplied in numpy's order.
fn gamma_gap(rate: f64, burstiness: f64, random: &mut NumpyRandom) -> f64 {
    random.gamma(burstiness, 1.0 / (rate * burstiness))
}

/// Rounded to nanoseconds; NaN (from parameters at the edge of f64) and the far future become [`LATEST`].
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).map_or(LATEST, |at| at.min(LATEST))
}

/// The spellings of infinity that Python's `float` takes.
fn is_infinity(text: &str) -> bool {
    ["inf", "+inf", "infinity", "+infinity"].contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
#[path = "arrival_tests.rs"]
mod tests;
