use super::*;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

/// Draws from (0, 1).
struct Draws(Pcg64);

impl Draws {
    fn seeded(seed: u64) -> Self {
        Self(Pcg64::seed_from_u64(seed))
    }

    fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// Times in the system of an M/M/1 queue with service rate 1, in the order of arrival, by Lindley's recursion from a
/// settled start. Their law is exponential with rate 1 − load.
fn queue(load: f64, count: usize, draws: &mut Draws) -> Vec<f64> {
    let mut time = draws.exponential() / (1.0 - load);
    let mut next = || {
        time = (time - draws.exponential() / load).max(0.0) + draws.exponential();
        time
    };
    (0..count).map(|_| next()).collect()
}

fn one_each(values: &[f64]) -> Vec<Vec<f64>> {
    values.iter().map(|&value| vec![value]).collect()
}

/// Share of `runs` whose interval held the truth.
fn coverage(runs: u64, interval: impl Fn(&mut Draws) -> Option<Interval>, truth: f64) -> f64 {
    let held = (0..runs).filter(|&seed| {
        interval(&mut Draws::seeded(seed)).is_some_and(|(low, high)| (low..=high).contains(&truth))
    });
    held.count() as f64 / runs as f64
}

fn quantile_of(values: &[f64], q: f64) -> Option<Interval> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    quantile_interval(&one_each(values), &sorted, q)
}

#[test]
fn batch_means_of_a_known_series_are_those_of_the_textbook() {
    // 100 requests, batches of five, each five times its number: mean 9.5, s² of 0..20 = 35, t(19) = 2.0930.
    let values: Vec<f64> = (0..100).map(|nth| f64::from(nth / 5)).collect();
    let (low, high) = mean_interval(&one_each(&values)).unwrap();
    let half = 2.0930 * (35.0_f64 / 20.0).sqrt();
    assert!((low - (9.5 - half)).abs() < 1e-3 && (high - (9.5 + half)).abs() < 1e-3, "{low} {high}");
    assert_eq!(mean_interval(&one_each(&values[..99])), None);
    assert_eq!(mean_interval(&one_each(&[3.0; 100])), Some((3.0, 3.0)));
}

#[test]
fn requests_without_a_value_are_left_out_and_those_with_many_count_so_often() {
    let mut requests = vec![Vec::new(); 50];
    requests.extend((0..100).map(|nth| if nth % 2 == 0 { vec![1.0; 3] } else { vec![5.0] }));
    let (low, high) = mean_interval(&requests).unwrap();
    assert!(((low + high) / 2.0 - 2.0).abs() < 1e-9, "three ones for each five");
}

#[test]
fn a_rate_is_the_mean_of_twenty_stretches_of_time() {
    // Ten a second for ten seconds and thirty a second for ten more.
    let came: Vec<(f64, f64)> = (0..400)
        .map(f64::from)
        .map(|nth| (if nth < 100.0 { nth / 10.0 } else { 10.0 + (nth - 100.0) / 30.0 }, 1.0))
        .collect();
    let (low, high) = rate_interval(&came, (0.0, 20.0)).unwrap();
    let half = 2.0930 * (2000.0_f64 / 19.0 / 20.0).sqrt();
    assert!((low - (20.0 - half)).abs() < 0.02 && (high - (20.0 + half)).abs() < 0.02, "{low} {high}");
    assert_eq!(rate_interval(&came, (3.0, 3.0)), None);
}

#[test]
fn a_quantile_whose_interval_would_reach_beyond_the_values_has_none() {
    let mut draws = Draws::seeded(1);
    let values: Vec<f64> = (0..400).map(|_| draws.exponential()).collect();
    assert!(quantile_of(&values, 0.5).is_some());
    assert_eq!(quantile_of(&values[..200], 0.99), None, "too few for any interval of a p99");
    let mut burst = vec![1.0; 380];
    burst.extend([9.0; 20]);
    assert_eq!(quantile_of(&burst, 0.95), None, "all that is slow is in one batch");
}

#[test]
fn intervals_hold_the_truth_of_independent_values_as_often_as_they_say() {
    let exponential = |draws: &mut Draws| (0..2000).map(|_| draws.exponential()).collect::<Vec<_>>();
    let mean = coverage(400, |draws| mean_interval(&one_each(&exponential(draws))), 1.0);
    let median = coverage(400, |draws| quantile_of(&exponential(draws), 0.5), 2.0_f64.ln());
    let p99 = coverage(400, |draws| quantile_of(&exponential(draws), 0.99), 100.0_f64.ln());
    for (name, held) in [("mean", mean), ("median", median), ("p99", p99)] {
        assert!((0.93..=1.0).contains(&held), "{name} {held}");
    }
}

#[test]
fn neighbours_that_are_alike_cost_little_coverage() {
    // AR(1): x = φ·x' + ε, settled start, mean 0; correlation time 1/(1 − φ) requests.
    let series = |phi: f64, draws: &mut Draws| {
        let mut x = draws.normal() / (1.0 - phi * phi).sqrt();
        let mut next = || {
            x = phi * x + draws.normal();
            x
        };
        one_each(&(0..2000).map(|_| next()).collect::<Vec<_>>())
    };
    for (phi, least) in [(0.5, 0.92), (0.9, 0.92)] {
        let held = coverage(400, |draws| mean_interval(&series(phi, draws)), 0.0);
        assert!((least..=0.99).contains(&held), "φ = {phi}: {held}");
    }
}

#[test]
fn the_fuller_a_queue_the_less_a_run_knows_of_itself() {
    // What METRICS.md states of 400 runs of 2000 requests each, by load, in percent: intervals of mean and median that held
    // the truth; p99 that had an interval at all, and those that had one that held it.
    let truth = |load: f64, q: f64| -(1.0 - q).ln() / (1.0 - load);
    let percent = |share: f64| (100.0 * share).round();
    let held = |load: f64| {
        let queue = |draws: &mut Draws| queue(load, 2000, draws);
        let mean = coverage(400, |draws| mean_interval(&one_each(&queue(draws))), 1.0 / (1.0 - load));
        let median = coverage(400, |draws| quantile_of(&queue(draws), 0.5), truth(load, 0.5));
        let p99 = coverage(400, |draws| quantile_of(&queue(draws), 0.99), truth(load, 0.99));
        let told = |draws: &mut Draws| quantile_of(&queue(draws), 0.99).map(|_| (0.0, 0.0));
        [percent(mean), percent(median), percent(coverage(400, told, 0.0)), percent(p99)]
    };
    assert_eq!(held(0.5), [92.0, 94.0, 43.0, 35.0]);
    assert_eq!(held(0.8), [83.0, 93.0, 4.0, 0.0]);
    assert_eq!(held(0.9), [65.0, 82.0, 1.0, 0.0]);
    assert_eq!(held(0.95), [40.0, 60.0, 0.0, 0.0]);
}
