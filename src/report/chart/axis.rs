//! Where the ticks of an axis stand and how they are labelled.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// An axis from `low` to `high` in drawn coordinates: the value itself, or its decimal logarithm.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    logarithmic: bool,
    /// Drawn coordinates of the ticks.
    pub(super) ticks: Vec<f64>,
    decimals: usize,
    suffix: &'static str,
}

impl Axis {
    /// From 0 to a round number at or above `high`, with about `count` ticks.
    pub(super) fn from_zero(high: f64, count: usize) -> Self {
        let high = if 0.0 < high { high } else { 1.0 };
        let step = round_step(high / count as f64);
        let steps = (high / step - 1e-9).ceil().max(1.0);
        Self::linear(0.0, steps * step, step)
    }

    /// Around the values from `low` to `high`, without rounding outwards: from 0 when that wastes little room.
    pub(super) fn around(low: f64, high: f64, count: usize) -> Self {
        let low = if low < 0.4 * high { 0.0 } else { low };
        let spread = high - low;
        // One value, or equal ones: a little room on both sides.
        let margin = if spread <= 1e-9 * high.abs() { (0.05 * high.abs()).max(0.5) } else { 0.02 * spread };
        let low = if low == 0.0 { 0.0 } else { (low - margin).max(0.0) };
        let high = high + margin;
        Self::linear(low, high, round_step((high - low) / count as f64))
    }

    /// From `low` to `high`, below 0 too, with a little room on both sides.
    pub(super) fn spanning(low: f64, high: f64, count: usize) -> Self {
        let spread = high - low;
        let margin = if spread <= 1e-9 * high.abs().max(low.abs()) { 0.5 } else { 0.04 * spread };
        let (low, high) = (low - margin, high + margin);
        Self::linear(low, high, round_step((high - low) / count as f64))
    }

    fn linear(low: f64, high: f64, step: f64) -> Self {
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        let ticks = (first..=last).map(|n| n as f64 * step).collect();
        let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        Self { low, high, logarithmic: false, ticks, decimals, suffix: "" }
    }

    /// Logarithmic, around values from `low` to `high`, both above 0.
    pub(super) fn logarithmic(low: f64, high: f64) -> Self {
        let (low, high) = (low.log10() - 0.03, high.log10() + 0.03);
        let decades = low.floor() as i32..=high.ceil() as i32;
        let with = |mantissas: &[f64]| -> Vec<f64> {
            let all = decades.clone().flat_map(|k| mantissas.iter().map(move |m| m.log10() + f64::from(k)));
            all.filter(|tick| (low..=high).contains(tick)).collect()
        };
        let dense = with(&[1.0, 2.0, 5.0]);
        let ticks = if dense.len() <= 9 { dense } else { with(&[1.0]) };
        let decimals = (-low.floor()).clamp(0.0, 9.0) as usize;
        Self { low, high, logarithmic: true, ticks, decimals, suffix: "" }
    }

    /// Shares from 0 to 100 %.
    pub(super) fn percent() -> Self {
        Self { suffix: "%", ..Self::linear(0.0, 100.0, 25.0) }
    }

    /// The same axis with a unit behind each label.
    pub(super) fn in_unit(self, suffix: &'static str) -> Self {
        Self { suffix, ..self }
    }

    /// The drawn coordinate of a value.
    pub(super) fn place(&self, value: f64) -> f64 {
        if self.logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value }
    }

    /// The label at a drawn coordinate.
    pub(super) fn label(&self, place: f64) -> String {
        let value = if self.logarithmic { 10_f64.powf(place) } else { place };
        let decimals = if self.logarithmic {
            (-(value.log10() + 1e-9).floor()).clamp(0.0, self.decimals as f64) as usize
        } else {
            self.decimals
        };
        let number = match value.abs() {
            large if 1e6 <= large => trimmed(value / 1e6, "M"),
            large if 1e4 <= large => trimmed(value / 1e3, "k"),
            _ => format!("{value:.decimals$}"),
        };
        if self.suffix.is_empty() { number } else { format!("{number} {}", self.suffix) }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, (left, right): (i32, i32)) -> i32 {
        let share = (place - self.low) / (self.high - self.low);
        left + (share * f64::from(right - left)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, place: &f64) -> String {
        self.label(*place)
    }
}

fn trimmed(value: f64, suffix: &str) -> String {
    let text = format!("{value:.2}");
    format!("{}{suffix}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The least of 1, 2 and 5 times a power of ten that is not below `wanted`.
fn round_step(wanted: f64) -> f64 {
    let power = 10_f64.powi(wanted.log10().floor() as i32);
    let steps = [1.0, 2.0, 5.0, 10.0].map(|mantissa| mantissa * power);
    steps.into_iter().find(|step| wanted <= step * (1.0 + 1e-9)).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        let table = [
            (Axis::from_zero(7.3, 4), "0 2 4 6 8"),
            (Axis::from_zero(0.0, 4), "0.0 0.5 1.0"),
            (Axis::from_zero(40_000.0, 4), "0 10k 20k 30k 40k"),
            (Axis::around(100.0, 104.0, 4), "100 102 104"),
            (Axis::around(3.0, 100.0, 4), "0 50 100"),
            (Axis::spanning(-3.2, 1.1, 4), "-2 0"),
            (Axis::spanning(-0.4, 0.1, 6), "-0.4 -0.3 -0.2 -0.1 0.0 0.1"),
            (Axis::logarithmic(0.5, 40.0), "0.5 1 2 5 10 20"),
            (Axis::logarithmic(0.002, 4000.0), "0.01 0.1 1 10 100 1000"),
        ];
        for (axis, labels) in table {
            let found: Vec<_> = axis.ticks.iter().map(|&tick| axis.label(tick)).collect();
            assert_eq!(found.join(" "), labels);
        }
    }

    #[test]
    fn an_axis_around_one_value_has_width() {
        for value in [0.0, 1e-6, 59.5, 1e9] {
            let axis = Axis::around(value, value, 5);
            assert!(axis.low < axis.high && axis.low <= value && value <= axis.high, "{axis:?}");
            assert!(!axis.ticks.is_empty());
        }
    }
}
