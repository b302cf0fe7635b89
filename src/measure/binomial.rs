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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_the_exact_binomial() {
        // From scipy.stats.binom, checked rank by rank against both tails.
        let table = [
            (5, 0.5, None),
            (6, 0.5, Some((1, 6))),
            (35, 0.9, None),
            (36, 0.9, Some((29, 36))),
            (71, 0.95, None),
            (72, 0.95, Some((64, 72))),
            (367, 0.99, None),
            (368, 0.99, Some((360, 368))),
            (3687, 0.999, None),
            (3688, 0.999, Some((3680, 3688))),
            (50, 0.1, Some((1, 10))),
            (100, 0.5, Some((40, 61))),
            (400, 0.01, Some((1, 9))),
            (1000, 0.5, Some((469, 532))),
            (1000, 0.99, Some((983, 997))),
            (123_456, 0.9, Some((110_903, 111_318))),
            (10_000_000, 0.5, Some((4_996_901, 5_003_100))),
            (10_000_000, 0.99, Some((9_899_383, 9_900_617))),
            (10_000_000, 0.999, Some((9_989_804, 9_990_196))),
        ];
        for (n, q, ranks) in table {
            assert_eq!(order_ranks(n, q), ranks, "{n} values, quantile {q}");
        }
    }

    #[test]
    fn a_p99_needs_299_values_and_a_median_6() {
        let table = [(0.5, 6), (0.9, 29), (0.95, 59), (0.99, 299), (0.999, 2995), (0.01, 299)];
        for (q, needed) in table {
            assert_eq!(values_needed(q), needed, "quantile {q}");
        }
    }

    #[test]
    fn quantiles_at_the_ends_have_no_interval() {
        for q in [0.0, 1.0, f64::NAN] {
            assert_eq!(order_ranks(1000, q), None);
        }
        assert_eq!(order_ranks(0, 0.5), None);
    }
}
