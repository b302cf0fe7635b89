//! What one run tells about the uncertainty of its own numbers: batch means over the order of the sends. Requests that
//! share a queue are not independent, so their numbers are taken in 20 batches of neighbours, which nearly are, if the
//! run is long against the time in which its queue forgets. What differs from run to run, such as the state of the
//! server, no run knows: every interval here is a lower limit of the uncertainty.

use super::Interval;
use super::student::t_95;
use crate::measure::binomial::order_ranks;
use crate::measure::distribution::interpolate;

/// Batches. Between 10 and 30 is advised (Schmeiser 1982): fewer are too wide, more are too alike.
const BATCHES: usize = 20;
/// Fewest requests: with less than five in a batch neighbours in different batches know of one another.
const FEWEST: usize = 100;

/// 95 % interval of the mean of all values of requests in the order of their sends, each with none, one or many: a
/// ratio of batch sums. `None` for fewer than 100 requests with a value.
pub(super) fn mean_interval(requests: &[Vec<f64>]) -> Option<Interval> {
    let count: usize = requests.iter().map(Vec::len).sum();
    let mean = requests.iter().flatten().sum::<f64>() / count as f64;
    let batches = batch_sums(requests, |&value| value - mean)?;
    let squares: f64 = requests.iter().flatten().map(|value| (value - mean).powi(2)).sum();
    // Batches that happen to be alike know no less than independent values would.
    let alone = squares.sqrt() / count as f64;
    let half = half_width(&batches, count, alone)?;
    Some((mean - half, mean + half))
}

/// 95 % interval of the quantile `q` of all values: the share of values below the quantile is a mean over batches, and
/// its interval, in shares, is read off the values (Woodruff 1952). Never narrower than the order statistics of
/// independent values. `None` where it would reach beyond the values.
pub(super) fn quantile_interval(requests: &[Vec<f64>], sorted: &[f64], q: f64) -> Option<Interval> {
    let quantile = interpolate(sorted, q)?;
    let (lower, upper) = order_ranks(sorted.len(), q)?;
    let batches = batch_sums(requests, |&value| if value <= quantile { 1.0 - q } else { -q })?;
    let alone = (q * (1.0 - q) / sorted.len() as f64).sqrt();
    let half = half_width(&batches, sorted.len(), alone)?;
    let within = 0.0 <= q - half && q + half <= 1.0;
    let (low, high) = (
        interpolate(sorted, q - half).filter(|_| within)?,
        interpolate(sorted, q + half).filter(|_| within)?,
    );
    Some((low.min(sorted[lower - 1]), high.max(sorted[upper - 1])))
}

/// 95 % interval of a rate per second: weights that came at instants from `from` to `to` (seconds, in any order), in 20
/// equal stretches of time. `None` for fewer than 100 of them.
pub(super) fn rate_interval(came: &[(f64, f64)], (from, to): Interval) -> Option<Interval> {
    let length = to - from;
    if came.len() < FEWEST || length.is_nan() || length <= 0.0 {
        return None;
    }
    let mut sums = [0.0; BATCHES];
    for (at, weight) in came {
        let nth = (BATCHES as f64 * (at - from) / length).clamp(0.0, BATCHES as f64 - 1.0);
        sums[nth as usize] += weight;
    }
    let total: f64 = sums.iter().sum();
    let mean = total / BATCHES as f64;
    let apart: Vec<f64> = sums.iter().map(|sum| sum - mean).collect();
    let half = half_width(&apart, 1, 0.0)? / length;
    Some((total / length - half, total / length + half))
}

/// Sums of a term of each value, by batch of neighbouring requests that have one.
fn batch_sums(requests: &[Vec<f64>], term: impl Fn(&f64) -> f64) -> Option<Vec<f64>> {
    let having: Vec<&Vec<f64>> = requests.iter().filter(|values| !values.is_empty()).collect();
    if having.len() < FEWEST {
        return None;
    }
    let batch = |nth: usize| &having[nth * having.len() / BATCHES..(nth + 1) * having.len() / BATCHES];
    let sum = |batch: &[&Vec<f64>]| batch.iter().flat_map(|values| values.iter()).map(&term).sum();
    Some((0..BATCHES).map(|nth| sum(batch(nth))).collect())
}

/// Half of an interval whose batches are `apart` from what they should be, over `count` values in all.
fn half_width(apart: &[f64], count: usize, at_least: f64) -> Option<f64> {
    let batches = apart.len() as f64;
    let squares: f64 = apart.iter().map(|value| value * value).sum();
    let deviation = (squares * batches / (batches - 1.0)).sqrt() / count as f64;
    Some(t_95(batches - 1.0)? * deviation.max(at_least))
}

#[cfg(test)]
#[path = "within_tests.rs"]
mod tests;
