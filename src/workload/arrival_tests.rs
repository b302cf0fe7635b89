use super::*;
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    seed: u32,
    count: usize,
    rate: Option<f64>,
    ramp: Option<(String, f64, f64)>,
    burstiness: String,
    normalise: bool,
    first: Vec<f64>,
    last: Vec<f64>,
    sum: f64,
}

impl Case {
    fn schedule(&self) -> Schedule {
        let burstiness: Burstiness = self.burstiness.parse().unwrap();
        let process = match (&self.ramp, self.rate) {
            (Some((shape, start, end)), _) => {
                ArrivalProcess::Ramp(Ramp::new(shape.parse().unwrap(), *start, *end, burstiness).unwrap())
            }
            (None, Some(rate)) => ArrivalProcess::steady(Rate::PerSecond(rate), burstiness),
            (None, None) => ArrivalProcess::AllAtOnce,
        };
        let normalise = if self.normalise { Normalise::ToRate } else { Normalise::Never };
        Schedule::new(process, self.count, self.seed, normalise)
    }
}

fn poisson(rate: f64) -> ArrivalProcess {
    ArrivalProcess::Gamma { rate, burstiness: 1.0 }
}

fn schedule(process: ArrivalProcess, count: usize, normalise: Normalise) -> Schedule {
    Schedule::new(process, count, 0, normalise)
}

fn assert_within_a_nanosecond(offset: Duration, seconds: f64) {
    let wanted = Duration::from_secs_f64(seconds);
    assert!(offset.abs_diff(wanted) <= Duration::from_nanos(1), "{offset:?} is not {wanted:?}");
}

/// The gaps of an unnormalised schedule of five at 10/s with seed 0 are `wanted`, in seconds.
fn assert_gaps(burstiness: f64, wanted: [f64; 5]) {
    let process = ArrivalProcess::Gamma { rate: 10.0, burstiness };
    let mut before = Duration::ZERO;
    for (offset, wanted) in schedule(process, 5, Normalise::Never).offsets().iter().zip(wanted) {
        assert_within_a_nanosecond(offset.checked_sub(before).unwrap(), wanted);
        before = *offset;
    }
}

#[test]
fn gaps_of_seed_0_are_those_of_the_compatibility_notes() {
    assert_gaps(1.0, [0.079587451, 0.125593076, 0.092322315, 0.078720115, 0.055104849]);
    assert_gaps(0.5, [0.060800378, 0.075654344, 0.035896678, 0.038296513, 0.175921708]);
    assert_gaps(1000.0, [0.105648533, 0.101237209, 0.105988441, 0.096908484, 0.099640669]);
}

#[test]
fn the_first_request_waits_its_gap_and_the_last_ends_the_planned_time() {
    let times = schedule(poisson(10.0), 5, Normalise::ToRate);
    for (offset, wanted) in times.offsets().iter().zip([0.092259, 0.237848, 0.344869, 0.436122, 0.5]) {
        assert!((offset.as_secs_f64() - wanted).abs() < 1e-6, "{offset:?} is not {wanted}");
    }
    assert_eq!(times.end(), Duration::from_millis(500));
}

#[test]
fn times_equal_numpy_to_the_nanosecond() {
    let golden = include_str!("../../tests/golden/arrival-vectors.json");
    let cases: Vec<Case> = serde_json::from_str(golden).unwrap();
    assert!(40 <= cases.len());
    for case in cases {
        let times = case.schedule();
        assert_eq!(times.len(), case.count);
        let (first, last) = (case.first.iter(), case.last.iter());
        times.offsets().iter().zip(first).for_each(|(offset, at)| assert_within_a_nanosecond(*offset, *at));
        times.offsets().iter().rev().zip(last.rev()).for_each(|(offset, at)| {
            assert_within_a_nanosecond(*offset, *at);
        });
        let sum: f64 = times.offsets().iter().map(Duration::as_secs_f64).sum();
        assert!((sum - case.sum).abs() <= 1e-9 * (1.0 + case.count as f64), "{sum} is not {}", case.sum);
    }
}

#[test]
fn an_unlimited_rate_is_all_at_once() {
    let process = ArrivalProcess::steady("inf".parse().unwrap(), Burstiness::Shape(1000.0));
    let times = schedule(process, 3, Normalise::ToRate);
    assert_eq!(times.offsets(), [Duration::ZERO; 3]);
}

#[test]
fn infinite_burstiness_is_a_constant_gap() {
    let process = ArrivalProcess::steady(Rate::PerSecond(4.0), "inf".parse().unwrap());
    let millis: Vec<u128> =
        schedule(process, 3, Normalise::ToRate).offsets().iter().map(Duration::as_millis).collect();
    assert_eq!(millis, [250, 500, 750]);
}

#[test]
fn no_requests_need_no_time() {
    let times = schedule(poisson(10.0), 0, Normalise::ToRate);
    assert!(times.is_empty());
    assert_eq!(times.end(), Duration::ZERO);
}

#[test]
fn a_ramp_is_never_normalised() {
    let ramp = ArrivalProcess::Ramp(Ramp::new(RampShape::Linear, 1.0, 4.0, Burstiness::Constant).unwrap());
    let times = schedule(ramp, 4, Normalise::ToRate);
    assert_eq!(times, schedule(ramp, 4, Normalise::Never));
    assert_within_a_nanosecond(times.end(), 1.0 + 1.0 / 2.0 + 1.0 / 3.0 + 1.0 / 4.0);
}

#[test]
fn an_exponential_ramp_multiplies_the_rate_by_equal_steps() {
    let ramp = Ramp::new(RampShape::Exponential, 1.0, 16.0, Burstiness::Constant).unwrap();
    assert_eq!([0, 1, 2, 3, 4].map(|i| ramp.rate_at(i, 5)), [1.0, 2.0, 4.0, 8.0, 16.0]);
}

#[test]
fn a_ramp_of_one_request_stays_at_its_first_rate() {
    let ramp = Ramp::new(RampShape::Linear, 2.0, 8.0, Burstiness::Constant).unwrap();
    assert_eq!(ramp.rate_at(0, 1), 2.0);
}

#[test]
fn a_ramp_from_rate_0_is_refused() {
    let error = Ramp::new(RampShape::Linear, 0.0, 8.0, Burstiness::Constant).unwrap_err();
    assert_eq!(error, "`0` is no end of a ramp: want requests per second above 0");
}

#[test]
fn a_rate_is_a_number_above_0_or_inf() {
    assert_eq!("8".parse(), Ok(Rate::PerSecond(8.0)));
    assert_eq!("0.25".parse(), Ok(Rate::PerSecond(0.25)));
    for text in ["inf", "Infinity", "INF"] {
        assert_eq!(text.parse(), Ok(Rate::Unlimited));
    }
    for text in ["0", "-1", "-inf", "nan", "fast", "", "1e999"] {
        let error = text.parse::<Rate>().unwrap_err();
        assert_eq!(error, format!("`{text}` is not a rate: want requests per second above 0, or `inf`"));
    }
}

#[test]
fn a_burstiness_is_a_number_above_0_or_inf() {
    assert_eq!("0.5".parse(), Ok(Burstiness::Shape(0.5)));
    assert_eq!("inf".parse(), Ok(Burstiness::Constant));
    for text in ["0", "-1", "nan", "often"] {
        assert!(
            text.parse::<Burstiness>().unwrap_err().starts_with(&format!("`{text}` is not a burstiness"))
        );
    }
}

#[test]
fn a_ramp_shape_is_one_of_two_words() {
    assert_eq!("exponential".parse(), Ok(RampShape::Exponential));
    let error = "cubic".parse::<RampShape>().unwrap_err();
    assert_eq!(error, "`cubic` is not a ramp: want `linear` or `exponential`");
}

#[test]
fn a_tiny_rate_stays_within_the_range_of_clocks() {
    let times = schedule(poisson(f64::MIN_POSITIVE), 2, Normalise::Never);
    assert_eq!(times.end(), LATEST);
}

#[test]
fn given_times_are_put_in_order() {
    let times = Schedule::from_offsets(vec![Duration::from_secs(2), Duration::from_secs(1)]);
    assert_eq!(times.offsets(), [Duration::from_secs(1), Duration::from_secs(2)]);
}

proptest! {
    #[test]
    fn times_ascend(
        rate in 0.01..10_000.0, shape in 0.05..2000.0, seed: u32, count in 0_usize..300, scale: bool
    ) {
        let normalise = if scale { Normalise::ToRate } else { Normalise::Never };
        let process = ArrivalProcess::Gamma { rate, burstiness: shape };
        let times = Schedule::new(process, count, seed, normalise);
        prop_assert_eq!(times.len(), count);
        prop_assert!(times.offsets().is_sorted());
    }

    #[test]
    fn normalised_times_end_at_count_over_rate(
        rate in 0.01..10_000.0, shape in 0.05..2000.0, seed: u32, count in 1_usize..300
    ) {
        let process = ArrivalProcess::Gamma { rate, burstiness: shape };
        let times = Schedule::new(process, count, seed, Normalise::ToRate);
        let wanted = Duration::from_secs_f64(count as f64 / rate);
        prop_assert!(times.end().abs_diff(wanted) <= Duration::from_nanos(1));
    }

    /// The mean of n gaps has the standard error 1/(rate·√(shape·n)); six of them never part.
    #[test]
    fn mean_gap_is_one_over_rate(rate in 0.1..1000.0, shape in 0.3..100.0, seed: u32) {
        let process = ArrivalProcess::Gamma { rate, burstiness: shape };
        let times = Schedule::new(process, 2000, seed, Normalise::Never);
        let mean = times.end().as_secs_f64() / 2000.0;
        prop_assert!((mean * rate - 1.0).abs() < 6.0 / (shape * 2000.0).sqrt());
    }

    #[test]
    fn same_seed_same_times(seed: u32, shape in 0.1..100.0) {
        let process = ArrivalProcess::Gamma { rate: 7.0, burstiness: shape };
        let times = |seed| Schedule::new(process, 50, seed, Normalise::ToRate);
        prop_assert_eq!(times(seed), times(seed));
        prop_assert_ne!(times(seed), times(seed ^ 1));
    }
}
