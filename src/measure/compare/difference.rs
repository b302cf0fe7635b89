use super::{Cell, Interval};
use crate::measure::Better;

/// One side's number against the baseline's.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Its number minus the baseline's.
    pub absolute: f64,
    /// The same as a share of the baseline's; `None` for a baseline of 0.
    pub relative: Option<f64>,
    /// 95 % interval of `absolute`.
    pub interval: Option<Interval>,
    /// The same as shares of the baseline's number, which is taken as it stands.
    pub relative_interval: Option<Interval>,
    /// What the interval, or the finding, rests on.
    pub basis: Basis,
    /// What can be said of it; `None` where nothing tells.
    pub finding: Option<Finding>,
}

/// What a difference is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// At least five runs on either side, by Student's law.
    BetweenRuns,
    /// Three or four runs on either side at least: whether their ranges meet.
    Ranges,
    /// Batches within single runs: a lower limit of the uncertainty.
    WithinRuns,
    /// Nothing.
    Nothing,
}

/// What a difference comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The number is higher than the baseline's.
    Higher,
    /// It is lower.
    Lower,
    /// It may be either.
    NoneFound,
}

/// Runs on each side from which ranges that do not meet say something: of twice three equal runs a tenth does so.
const RUNS_FOR_RANGES: usize = 3;

impl Difference {
    /// `other` against `baseline`; `None` where either has no number.
    pub(super) fn of(baseline: &Cell, other: &Cell) -> Option<Self> {
        let (from, to) = (baseline.value?, other.value?);
        let absolute = to - from;
        let (basis, interval, finding) = judged(baseline, other, (from, to));
        let share = |difference: f64| difference / from.abs();
        Some(Self {
            absolute,
            relative: (from != 0.0).then(|| share(absolute)),
            interval,
            relative_interval: interval.filter(|_| from != 0.0).map(|(low, high)| (share(low), share(high))),
            basis,
            finding,
        })
    }

    /// Whether it is a change for the better; `None` where no difference was found.
    pub fn is_better(&self, better: Better) -> Option<bool> {
        match (self.finding?, better) {
            (Finding::NoneFound, _) => None,
            (Finding::Higher, Better::Higher) | (Finding::Lower, Better::Lower) => Some(true),
            (Finding::Higher, Better::Lower) | (Finding::Lower, Better::Higher) => Some(false),
        }
    }
}

impl Basis {
    /// The word that files use.
    pub fn word(self) -> &'static str {
        match self {
            Basis::BetweenRuns => "between_runs",
            Basis::Ranges => "ranges",
            Basis::WithinRuns => "within_run",
            Basis::Nothing => "",
        }
    }
}

impl Finding {
    /// The words that reports use.
    pub fn words(self) -> &'static str {
        match self {
            Finding::Higher => "higher",
            Finding::Lower => "lower",
            Finding::NoneFound => "no difference found",
        }
    }
}

fn judged(
    baseline: &Cell,
    other: &Cell,
    (from, to): (f64, f64),
) -> (Basis, Option<Interval>, Option<Finding>) {
    match (&baseline.spread, &other.spread) {
        (Some(one), Some(two)) => match two.difference_interval(one) {
            Some(interval) => (Basis::BetweenRuns, Some(interval), Some(against_zero(interval))),
            None if one.count().min(two.count()) < RUNS_FOR_RANGES => (Basis::Nothing, None, None),
            None => (Basis::Ranges, None, Some(apart(one.range, two.range))),
        },
        _ => match baseline.interval.zip(other.interval) {
            Some(intervals) => {
                let interval = recovered((from, to), intervals);
                (Basis::WithinRuns, Some(interval), Some(against_zero(interval)))
            }
            None => (Basis::Nothing, None, None),
        },
    }
}

/// The interval of a difference of two independent numbers from their own intervals, which need not be symmetric
/// (Zou and Donner 2008). Of two shares with Wilson's intervals it is Newcombe's.
fn recovered((from, to): (f64, f64), (of_from, of_to): (Interval, Interval)) -> Interval {
    let apart = to - from;
    let below = (to - of_to.0).hypot(of_from.1 - from);
    let above = (of_to.1 - to).hypot(from - of_from.0);
    (apart - below, apart + above)
}

fn against_zero((low, high): Interval) -> Finding {
    match (0.0 < low, high < 0.0) {
        (true, _) => Finding::Higher,
        (_, true) => Finding::Lower,
        _ => Finding::NoneFound,
    }
}

fn apart(baseline: Interval, other: Interval) -> Finding {
    against_zero((other.0 - baseline.1, other.1 - baseline.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(value: f64, interval: Option<Interval>) -> Cell {
        Cell { value: Some(value), interval, spread: None }
    }

    fn runs(values: &[f64]) -> Cell {
        Cell::of_runs(values.iter().copied().map(Some).collect())
    }

    #[test]
    fn the_interval_of_a_difference_of_shares_is_newcombes() {
        // Newcombe 1998, method 10, 56/70 against 48/80: 0.2 with 0.0524 to 0.3339, from Wilson's
        // (0.6918, 0.8770) and (0.4904, 0.7003).
        let (one, two) = (single(0.6, Some((0.4904, 0.7003))), single(0.8, Some((0.6918, 0.8770))));
        let difference = Difference::of(&one, &two).unwrap();
        let (low, high) = difference.interval.unwrap();
        assert!((low - 0.0524).abs() < 4e-4 && (high - 0.3339).abs() < 4e-4, "{low} {high}");
        assert_eq!((difference.basis, difference.finding), (Basis::WithinRuns, Some(Finding::Higher)));
        assert_eq!(difference.is_better(Better::Lower), Some(false));
        let (low, _) = difference.relative_interval.unwrap();
        assert!((low - 0.0524 / 0.6).abs() < 1e-3);
    }

    #[test]
    fn three_runs_are_judged_by_their_ranges_and_two_by_nothing() {
        let baseline = runs(&[10.0, 11.0, 12.0]);
        for (other, finding) in [
            (vec![13.0, 14.0, 15.0], Some(Finding::Higher)),
            (vec![7.0, 9.9, 8.0], Some(Finding::Lower)),
            (vec![12.0, 14.0, 15.0], Some(Finding::NoneFound)),
            (vec![20.0, 21.0], None),
        ] {
            let difference = Difference::of(&baseline, &runs(&other)).unwrap();
            assert_eq!((difference.finding, difference.interval), (finding, None), "{other:?}");
        }
    }

    #[test]
    fn five_runs_are_judged_by_welchs_interval() {
        let difference = Difference::of(&runs(&[1.0, 2.0, 3.0, 4.0, 5.0]), &runs(&[9.0, 9.5, 9.1, 9.2, 9.3]));
        let difference = difference.unwrap();
        assert_eq!((difference.basis, difference.finding), (Basis::BetweenRuns, Some(Finding::Higher)));
    }

    #[test]
    fn without_an_interval_there_is_a_difference_and_no_finding() {
        let (one, two) = (single(0.0, None), single(2.0, Some((1.0, 3.0))));
        let difference = Difference::of(&one, &two).unwrap();
        assert_eq!((difference.absolute, difference.relative, difference.finding), (2.0, None, None));
        assert_eq!(Difference::of(&Cell::default(), &two), None);
    }
}
