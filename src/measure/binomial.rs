//! The ranks between which a quantile lies with 95 % probability, whatever the distribution.
//! Of n independent values the number below the quantile q is binomial with parameters n and q.

/// Probability left out on each side of a two-sided 95 % interval.
const TAIL: f64 = 0.025;
/// Terms below this share of the greatest one cannot change a sum of the others.
const NEGLIGIBLE: f64 = 1e-22;

/// Ranks (from 1) of the two order statistics that enclose the quantile `q` with at least 97.5 %
/// probability on either side; `None` where `n` values are too few for that.
pub(super) fn order_ranks(n: usize, q: f64) -> Option<(usize, usize)> {
    if n == 0 || !(0.0 < q && q < 1.0) {
        return None;
    }
    let (first, terms) = significant_terms(n, q);
    let tail = TAIL * terms.iter().sum::<f64>();
    // The lower rank l is the greatest with P(fewer than l below the quantile) ≤ 2.5 %.
    let below = count_within(terms.iter(), tail);
    // The upper rank u is the least with P(u or more below the quantile) ≤ 2.5 %.
    let above = count_within(terms.iter().rev(), tail);
    let lower = first + below;
    let upper = first + terms.len() - above;
    (1 <= lower && upper <= n).then_some((lower, upper))
}

/// How many terms, from the start, sum up to no more than `limit`.
fn count_within<'a>(terms: impl Iterator<Item = &'a f64>, limit: f64) -> usize {
    let mut sum = 0.0;
    terms
        .take_while(|&term| {
            sum += term;
            sum <= limit
        })
        .count()
}

/// Binomial probabilities relative to the greatest, for every count that matters, and the first such
/// count. By the ratio of neighbours from the mode outwards, so without factorials: about
/// 20 standard deviations of terms, 30,000 for ten million values.
fn significant_terms(n: usize, q: f64) -> (usize, Vec<f64>) {
    let odds = q / (1.0 - q);
    let mode = (((n + 1) as f64 * q).floor() as usize).min(n);
    let significant = |&(_, term): &(usize, f64)| NEGLIGIBLE < term;
    let step_down = |&(k, term): &(usize, f64)| {
        k.checked_sub(1).map(|less| (less, term * k as f64 / ((n - less) as f64 * odds)))
    };
    let step_up =
        |&(k, term): &(usize, f64)| (k < n).then(|| (k + 1, term * (n - k) as f64 * odds / (k + 1) as f64));
    let mut terms: Vec<(usize, f64)> =
        std::iter::successors(Some((mode, 1.0)), step_down).take_while(significant).collect();
    terms.reverse();
    terms.extend(std::iter::successors(Some((mode, 1.0)), step_up).skip(1).take_while(significant));
    (terms[0].0, terms.into_iter().map(|(_, term)| term).collect())
}

/// The least number of values whose extremes enclose the quantile `q` with 95 % probability:
/// q^n + (1 − q)^n ≤ 5 %. 299 for p99, where this is the one-sided bound 0.99^n ≤ 5 %; 6 for the median.
pub(super) fn values_needed(q: f64) -> usize {
    if !(0.0 < q && q < 1.0) {
        return 1;
    }
    let missed = |n: f64| q.powf(n) + (1.0 - q).powf(n);
    // With the rarer side alone it would be ln 5 % / ln q; the other side adds one at most.
    let guess = (0.05_f64.ln() / q.max(1.0 - q).ln()).floor().max(1.0);
    let mut n = (guess - 1.0).max(1.0);
    while 0.05 < missed(n) {
        n += 1.0;
    }
    n as usize
}
