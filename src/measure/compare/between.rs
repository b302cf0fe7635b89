//! What several runs of the same settings tell: each run is one value, and these are independent.

use super::Interval;
use super::student::t_95;
use crate::measure::distribution::median;

/// Runs from which an interval of their mean is told; below, only the range.
const ENOUGH: usize = 5;
/// Robust standard deviations beyond which a run is flagged.
const FAR: f64 = 10.0;
/// The median absolute deviation of a normal law, as a share of its standard deviation: 1/1.4826.
const MAD_TO_DEVIATION: f64 = 1.4826;

/// One number over several runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// The value of each run, in their order; `None` where a run has none.
    pub values: Vec<Option<f64>>,
    /// Mean over the runs that have one.
    pub mean: f64,
    /// Least and greatest value.
    pub range: Interval,
    /// 95 % interval of the mean by Student's law; `None` below five runs.
    pub interval: Option<Interval>,
    /// Runs that lie far from the others, by their place: flagged, never removed.
    pub outliers: Vec<usize>,
}

impl Spread {
    /// Folds the values of at least two runs; `None` with fewer than two values.
    pub fn of(values: Vec<Option<f64>>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().flatten().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (least, greatest) = (*sorted.first()?, *sorted.last()?);
        if sorted.len() < 2 {
            return None;
        }
        let mean = sorted.iter().sum::<f64>() / sorted.len() as f64;
        let half = standard_error(&sorted, mean) * t_95(sorted.len() as f64 - 1.0)?;
        let interval = (ENOUGH <= sorted.len()).then_some((mean - half, mean + half));
        let outliers = outliers(&values, &sorted);
        Some(Self { values, mean, range: (least, greatest), interval, outliers })
    }

    /// How many runs have a value.
    pub fn count(&self) -> usize {
        self.values.iter().flatten().count()
    }

    /// 95 % interval of `self.mean − other.mean`, from runs whose spread need not be the same on both sides (Welch
    /// 1947); `None` where either side has fewer than five.
    pub fn difference_interval(&self, other: &Self) -> Option<Interval> {
        self.interval.and(other.interval)?;
        let error = |spread: &Self| {
            let values: Vec<f64> = spread.values.iter().copied().flatten().collect();
            let squared = standard_error(&values, spread.mean).powi(2);
            (squared, squared * squared / (values.len() as f64 - 1.0))
        };
        let ((one, one_share), (two, two_share)) = (error(self), error(other));
        let apart = self.mean - other.mean;
        if one + two == 0.0 {
            return Some((apart, apart));
        }
        let half = t_95((one + two).powi(2) / (one_share + two_share))? * (one + two).sqrt();
        Some((apart - half, apart + half))
    }
}

/// Standard error of the mean of independent values.
fn standard_error(values: &[f64], mean: f64) -> f64 {
    let count = values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (count - 1.0) / count).sqrt()
}

/// Places of values with |x − median| > 10 · 1.4826 · MAD, of at least three.
fn outliers(values: &[Option<f64>], sorted: &[f64]) -> Vec<usize> {
    let Some(middle) = median(sorted).filter(|_| 3 <= sorted.len()) else { return Vec::new() };
    let mut apart: Vec<f64> = sorted.iter().map(|value| (value - middle).abs()).collect();
    apart.sort_unstable_by(f64::total_cmp);
    let deviation = MAD_TO_DEVIATION * median(&apart).unwrap_or(0.0);
    // Runs that agree to the last digits differ by rounding.
    let limit = (FAR * deviation).max(1e-9 * middle.abs());
    let far = |value: &Option<f64>| value.is_some_and(|value| limit < (value - middle).abs());
    values.iter().enumerate().filter(|(_, value)| far(value)).map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[f64]) -> Spread {
        Spread::of(values.iter().copied().map(Some).collect()).unwrap()
    }

    #[test]
    fn five_runs_have_a_t_interval_and_three_a_range() {
        let five = spread(&[9.0, 10.0, 11.0, 10.0, 10.0]);
        // s² = 2/4, t(4) = 2.7764: half = 2.7764·√(0.5/5).
        let (low, high) = five.interval.unwrap();
        assert!((low - (10.0 - 0.87797)).abs() < 1e-4 && (high - 10.87797).abs() < 1e-4, "{low} {high}");
        let three = spread(&[9.0, 12.0, 10.5]);
        assert_eq!((three.interval, three.range, three.mean), (None, (9.0, 12.0), 10.5));
        assert_eq!(Spread::of(vec![Some(1.0), None]), None);
    }

    #[test]
    fn a_run_far_from_the_others_is_flagged_and_stays_in_the_mean() {
        let values = [10.0, 10.1, 50.0, 9.9, 10.0];
        let five = spread(&values);
        assert_eq!(five.outliers, [2]);
        assert_eq!(five.mean, values.iter().sum::<f64>() / 5.0);
        assert!(spread(&[10.0, 20.0, 30.0]).outliers.is_empty());
        assert!(spread(&[10.0, 10.0, 10.0 + 1e-12]).outliers.is_empty());
    }

    #[test]
    fn welchs_interval_is_that_of_the_textbook() {
        // n = 5 each, s² = 2.5 and 10: half = t(5.882)·√(0.5 + 2), t(5.882) = 2.4588.
        let one = spread(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        let other = spread(&[2.0, 4.0, 6.0, 8.0, 10.0]);
        let (low, high) = one.difference_interval(&other).unwrap();
        assert!((low + 3.0 + 3.8878).abs() < 2e-3 && (high + 3.0 - 3.8878).abs() < 2e-3, "{low} {high}");
        let few = spread(&[1.0, 2.0, 3.0]);
        assert_eq!(one.difference_interval(&few), None);
        let same = spread(&[3.0; 5]);
        assert_eq!(same.difference_interval(&same), Some((0.0, 0.0)));
    }
}
