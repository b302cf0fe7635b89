//! What a number of right answers says: intervals, paired tests, a trend. Counts in, probabilities out.
//! Deliberately absent: which answers are right, and what a run makes of it.

use crate::measure::{PairedScore, PairedVerdict};

/// Two-sided 95 % point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;
/// Its one-sided 80 % point.
const Z80: f64 = 0.841_621_233_572_914_3;
/// One-sided probability below which a candidate counts as worse.
const LEVEL: f64 = 0.05;
/// Values below which no trend is told.
const LEAST_FOR_TREND: usize = 10;

/// Wilson's 95 % interval of a share (Wilson 1927); `None` of nothing.
pub fn wilson(right: usize, of: usize) -> Option<(f64, f64)> {
    if of == 0 {
        return None;
    }
    let (n, share, z2) = (of as f64, right as f64 / of as f64, Z * Z);
    let centre = share + z2 / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    let (low, high) = ((centre - half) / (1.0 + z2 / n), (centre + half) / (1.0 + z2 / n));
    // Where rounding would leave a speck, the ends are exact.
    Some((if right == 0 { 0.0 } else { low.max(0.0) }, if right == of { 1.0 } else { high.min(1.0) }))
}

/// Exact McNemar test: of `b` + `c` discordant pairs, how likely is a split at least as uneven as this one between two
/// that are equally right? Two-sided; 1 without any.
pub fn mcnemar_two_sided(b: usize, c: usize) -> f64 {
    (2.0 * upper_tail(b.max(c), b + c)).min(1.0)
}

/// The same, one-sided: how likely are at least `b` pairs of `b` + `c` that only the baseline has right?
pub fn mcnemar_worse(b: usize, c: usize) -> f64 {
    upper_tail(b, b + c)
}

/// P(X ≥ k) of a binomial count with `n` tries and probability ½, from the ratios of neighbouring terms: no factorial
/// overflows, and what underflows is below 1e-300 of the whole.
fn upper_tail(k: usize, n: usize) -> f64 {
    let mode = n / 2;
    let down = |&(j, term): &(usize, f64)| (0 < j).then(|| (j - 1, term * j as f64 / (n - j + 1) as f64));
    let up = |&(j, term): &(usize, f64)| (j < n).then(|| (j + 1, term * (n - j) as f64 / (j + 1) as f64));
    let mut terms: Vec<f64> = std::iter::successors(Some((mode, 1.0)), down).map(|(_, term)| term).collect();
    terms.reverse();
    terms.extend(std::iter::successors(Some((mode, 1.0)), up).skip(1).map(|(_, term)| term));
    // From the smallest on, so that a small tail keeps its digits.
    let sum = |terms: &[f64]| terms.iter().rev().sum::<f64>();
    let all = sum(&terms[mode..]) + terms[..mode].iter().sum::<f64>();
    if mode <= k { sum(&terms[k..]) / all } else { 1.0 - terms[..k].iter().sum::<f64>() / all }
}

/// Tango's 95 % score interval of candidate less baseline, (c − b) / n, in pairs: `b` that only the baseline has right,
/// `c` that only the candidate has, of `n` in all (Tango 1998). `None` of nothing.
pub fn tango_interval(b: usize, c: usize, n: usize) -> Option<(f64, f64)> {
    (0 < n && b + c <= n).then(|| tango(b as f64, c as f64, n as f64))
}

/// Both ends by bisection: the score falls as the difference that is supposed grows.
fn tango(b: f64, c: f64, n: f64) -> (f64, f64) {
    let found = (c - b) / n;
    let crossing = |mut low: f64, mut high: f64, level: f64| {
        // Far beyond the digits of a share.
        for _ in 0..80 {
            let middle = 0.5 * (low + high);
            if level < tango_score(middle, b, c, n) { low = middle } else { high = middle }
        }
        0.5 * (low + high)
    };
    (crossing(-1.0, found, Z), crossing(found, 1.0, -Z))
}

/// How many standard errors the difference lies above `supposed`, the share of discordant pairs being the likeliest
/// one under it.
fn tango_score(supposed: f64, b: f64, c: f64, n: f64) -> f64 {
    // The likeliest share of pairs that only the baseline has right: a root of 2n·q² + second·q + third.
    let second = (2.0 * n - c + b) * supposed - b - c;
    let third = -b * supposed * (1.0 - supposed);
    let root = (second * second - 8.0 * n * third).max(0.0).sqrt();
    // The form of the root that subtracts nothing.
    let likeliest = if second <= 0.0 { (root - second) / (4.0 * n) } else { -2.0 * third / (root + second) };
    let variance = n * (2.0 * likeliest + supposed * (1.0 - supposed));
    let above = c - b - n * supposed;
    if variance <= 0.0 { above.signum() * f64::INFINITY } else { above / variance.sqrt() }
}

/// Probability of a fall at least as great as that of `values`, in the order in which they came, if their order did not
/// matter: the normal tail of their correlation with the rank, by its variance over all orders. One-sided. `None` with
/// fewer than 10 values, or where nothing varies.
pub fn p_falling(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let middle = (n - 1.0) / 2.0;
    let spread: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    if values.len() < LEAST_FOR_TREND || spread <= 1e-12 {
        return None;
    }
    let along: f64 = values.iter().enumerate().map(|(i, value)| (i as f64 - middle) * (value - mean)).sum();
    let ranks = n * (n * n - 1.0) / 12.0;
    Some(normal_below(along / (ranks * spread / (n - 1.0)).sqrt()))
}

/// Probability that a normal value lies below `z`.
fn normal_below(z: f64) -> f64 {
    0.5 * erfc(-z / std::f64::consts::SQRT_2)
}

/// The complementary error function, to about 14 digits of its value: erf's series near 0, Laplace's continued fraction
/// beyond (Abramowitz and Stegun 7.1.5 and 7.1.14).
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    let root_of_pi = std::f64::consts::PI.sqrt();
    if x < 1.5 {
        let mut term = x;
        let mut sum = x;
        for k in 1..60 {
            let k = f64::from(k);
            term *= -x * x / k;
            sum += term / (2.0 * k + 1.0);
        }
        return 1.0 - 2.0 / root_of_pi * sum;
    }
    let fraction = (1..=120).rev().fold(x, |below, k| x + 0.5 * f64::from(k) / below);
    (-x * x).exp() / (root_of_pi * fraction)
}

/// What `both`, `b`, `c` and `neither` pairs show: `b` only the baseline has right, `c` only the candidate.
///
/// Within the margin when the interval of the difference stays above −`margin`; else worse when McNemar's one-sided test
/// says so at 5 %; else unclear.
pub fn paired(both: usize, b: usize, c: usize, neither: usize, margin: f64) -> PairedScore {
    let questions = both + b + c + neither;
    let some = 0 < questions;
    let interval = tango_interval(b, c, questions);
    let p_worse = some.then(|| mcnemar_worse(b, c));
    let verdict = match (interval, p_worse) {
        (Some((low, _)), _) if -margin < low => PairedVerdict::WithinMargin,
        (_, Some(p)) if p < LEVEL => PairedVerdict::Worse,
        _ => PairedVerdict::Unclear,
    };
    PairedScore {
        questions,
        both,
        only_baseline: b,
        only_candidate: c,
        difference: some.then(|| (c as f64 - b as f64) / questions as f64),
        interval,
        p_two_sided: some.then(|| mcnemar_two_sided(b, c)),
        p_worse,
        margin,
        verdict,
        questions_needed: questions_needed(b, c, questions, margin),
    }
}

/// Roughly how many questions would show, in four of five runs, that any loss is within `margin`, if nothing is lost and
/// as great a share of the pairs is discordant as was seen; rounded up to two figures, which is all it is worth. `None` of
/// nothing, and for a margin that nothing can show.
pub fn questions_needed(b: usize, c: usize, n: usize, margin: f64) -> Option<usize> {
    if n == 0 || !(0.0 < margin && margin < 1.0) {
        return None;
    }
    let discordant = (b + c) as f64 / n as f64;
    let shown = |n: usize| {
        let pairs = discordant * n as f64;
        // Of such runs one in five has a difference below this.
        let lean = (Z80 * pairs.sqrt()).min(pairs);
        -margin < tango((pairs + lean) / 2.0, (pairs - lean) / 2.0, n as f64).0
    };
    let mut high = 1_usize;
    while !shown(high) {
        high = high.checked_mul(2)?;
    }
    let mut low = high / 2;
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if shown(middle) { high = middle } else { low = middle }
    }
    let step = 10_usize.pow(high.ilog10().saturating_sub(1));
    Some(high.div_ceil(step) * step)
}

#[cfg(test)]
#[path = "statistics_tests.rs"]
mod tests;
