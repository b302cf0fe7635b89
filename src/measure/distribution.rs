use serde::{Deserialize, Serialize};

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
    /// Values that a one-sided 95 % bound on this percentile needs; with fewer, `value` is little more than the maximum.
    pub needs: usize,
}
