use super::binomial;
use serde::{Deserialize, Serialize};

/// How percentiles are made, for every output that shows one.
pub const PERCENTILE_METHOD: &str = "linear interpolation between order statistics (numpy's default)";

/// What the intervals beside percentiles are worth, for every output that shows one.
pub const INTERVAL_METHOD: &str =
    "95 % order-statistic interval for independent values: a lower limit of the uncertainty";

/// Moments and percentiles of a set of values. All `None` when it is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Number of values.
    pub count: usize,
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Population standard deviation.
    pub std: Option<f64>,
    /// Least value.
    pub min: Option<f64>,
    /// Median, linear interpolation.
    pub median: Option<f64>,
    /// Greatest value.
    pub max: Option<f64>,
    /// The percentiles asked for, ascending.
    pub percentiles: Vec<Percentile>,
}

/// One percentile of a distribution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentile {
    /// Which one, in (0, 100).
    pub p: f64,
    /// Linear interpolation between order statistics, as numpy's default.
    pub value: Option<f64>,
    /// Distribution-free 95 % interval from order statistics, for independent values; absent when there are too few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
    /// Values with which the extremes enclose it with 95 % probability; with fewer, `value` is little more than the maximum.
    pub needs: usize,
}

impl Distribution {
    /// Moments and percentiles of finite values, in any order; sorts them in place.
    pub fn of(mut values: Vec<f64>, percentiles: &[f64]) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let mut wanted = percentiles.to_vec();
        wanted.sort_unstable_by(f64::total_cmp);
        wanted.dedup();
        let mean = mean(&values);
        Self {
            count: values.len(),
            mean,
            std: mean.map(|mean| standard_deviation(&values, mean)),
            min: values.first().copied(),
            median: median(&values),
            max: values.last().copied(),
            percentiles: wanted.into_iter().map(|p| Percentile::of(&values, p)).collect(),
        }
    }

    /// The percentile `p`, if it was asked for.
    pub fn percentile(&self, p: f64) -> Option<&Percentile> {
        self.percentiles.iter().find(|percentile| percentile.p == p)
    }

    /// The value of the percentile `p`, if it was asked for and there is one.
    pub fn value(&self, p: f64) -> Option<f64> {
        self.percentile(p)?.value
    }
}

impl Percentile {
    fn of(sorted: &[f64], p: f64) -> Self {
        let interval = binomial::order_ranks(sorted.len(), p / 100.0)
            .map(|(lower, upper)| (sorted[lower - 1], sorted[upper - 1]));
        Self { p, value: interpolate(sorted, p / 100.0), interval, needs: values_needed(p) }
    }

    /// True when `count` values are enough to tell this percentile from the extreme.
    pub fn enough(&self, count: usize) -> bool {
        self.needs <= count
    }
}

/// How many values the percentile `p` needs so that the extremes enclose it with 95 % probability.
pub(super) fn values_needed(p: f64) -> usize {
    binomial::values_needed(p / 100.0)
}

/// The quantile `q` of sorted values: numpy's `method="linear"`, to the last bit.
pub(super) fn interpolate(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = last as f64 * q;
    if last as f64 <= at {
        return sorted.last().copied();
    }
    let (below, share) = (at.floor(), at - at.floor());
    let (low, high) = (sorted[below as usize], sorted[below as usize + 1]);
    // From the nearer end, so that the result is monotone in `q` and meets both ends (numpy's `_lerp`).
    if share < 0.5 { Some(low + (high - low) * share) } else { Some(high - (high - low) * (1.0 - share)) }
}

/// The middle of sorted values, or the mean of the two in the middle: numpy's `median`.
pub(super) fn median(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[half]),
        _ => Some((sorted[half - 1] + sorted[half]) / 2.0),
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| sum(values, &|value| value) / values.len() as f64)
}

/// Population standard deviation in a second pass over the values.
fn standard_deviation(values: &[f64], mean: f64) -> f64 {
    let squares = sum(values, &|value| (value - mean) * (value - mean));
    (squares / values.len() as f64).sqrt()
}

/// Sum by halves, whose rounding error grows with the logarithm of the count.
fn sum(values: &[f64], term: &impl Fn(f64) -> f64) -> f64 {
    if values.len() <= 128 {
        return values.iter().map(|&value| term(value)).sum();
    }
    let (left, right) = values.split_at(values.len() / 2);
    sum(left, term) + sum(right, term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One case of `scripts/percentile-vectors.py`; numbers as text with all their digits.
    #[derive(Deserialize)]
    struct Case {
        name: String,
        values: Vec<String>,
        mean: String,
        std: String,
        median: String,
        percentiles: Vec<(String, String)>,
    }

    fn number(text: &str) -> f64 {
        text.parse().unwrap()
    }

    #[test]
    fn percentiles_and_median_are_numpys_to_the_last_bit() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../tests/golden/percentiles.json")).unwrap();
        for case in cases {
            let wanted: Vec<f64> = case.percentiles.iter().map(|(p, _)| number(p)).collect();
            let made = Distribution::of(case.values.iter().map(|value| number(value)).collect(), &wanted);
            assert_eq!(made.median, Some(number(&case.median)), "{}", case.name);
            for (p, value) in &case.percentiles {
                let percentile = made.percentile(number(p)).unwrap();
                assert_eq!(percentile.value, Some(number(value)), "p{p} of {}", case.name);
            }
            for (ours, numpys) in
                [(made.mean.unwrap(), number(&case.mean)), (made.std.unwrap(), number(&case.std))]
            {
                assert!(
                    (ours - numpys).abs() <= 1e-12 * numpys.abs().max(1.0),
                    "{ours} {numpys} {}",
                    case.name
                );
            }
        }
    }

    #[test]
    fn nothing_has_no_statistics() {
        let made = Distribution::of(Vec::new(), &[50.0, 99.0]);
        let percentile = |p, needs| Percentile { p, value: None, interval: None, needs };
        let percentiles = vec![percentile(50.0, 6), percentile(99.0, 299)];
        assert_eq!(made, Distribution { percentiles, ..Distribution::default() });
    }

    #[test]
    fn percentiles_come_sorted_and_once() {
        let made = Distribution::of(vec![1.0], &[99.0, 50.0, 99.0]);
        assert_eq!(made.percentiles.iter().map(|percentile| percentile.p).collect::<Vec<_>>(), [50.0, 99.0]);
    }

    #[test]
    fn the_interval_of_the_median_of_1_to_100_is_40_to_61() {
        let made = Distribution::of((1..=100).map(f64::from).collect(), &[50.0, 99.0]);
        assert_eq!(made.percentiles[0].interval, Some((40.0, 61.0)));
        assert_eq!(made.percentiles[1].interval, None);
        assert!(made.percentiles[0].enough(100) && !made.percentiles[1].enough(298));
        assert!(made.percentiles[1].enough(299));
    }

    #[test]
    fn the_deviation_of_far_values_is_not_lost() {
        let made = Distribution::of(vec![1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0], &[]);
        assert_eq!((made.mean, made.std), (Some(1e9 + 2.0), Some((2.0_f64 / 3.0).sqrt())));
    }

    proptest! {
        #[test]
        fn percentiles_are_monotone_and_within_the_extremes(
            values in proptest::collection::vec(0.0_f64..1e7, 1..200),
            wanted in proptest::collection::vec(0.01_f64..99.99, 1..10),
        ) {
            let made = Distribution::of(values, &wanted);
            let (min, max) = (made.min.unwrap(), made.max.unwrap());
            let found: Vec<f64> = made.percentiles.iter().map(|percentile| percentile.value.unwrap()).collect();
            prop_assert!(found.is_sorted(), "{found:?}");
            prop_assert!(min <= found[0] && found[found.len() - 1] <= max);
            for percentile in &made.percentiles {
                if let Some((lower, upper)) = percentile.interval {
                    prop_assert!(lower <= percentile.value.unwrap() && percentile.value.unwrap() <= upper);
                }
            }
        }
    }
}
