use super::*;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_pcg::Pcg64;

fn close(found: f64, expected: f64, relative: f64) -> bool {
    (found - expected).abs() <= relative * expected.abs()
}

fn ends(interval: Option<(f64, f64)>, expected: (f64, f64)) {
    let (low, high) = interval.unwrap();
    assert!(
        (low - expected.0).abs() < 1e-9 && (high - expected.1).abs() < 1e-9,
        "{low} {high}, not {expected:?}"
    );
}

#[test]
fn wilsons_interval_is_that_of_scipy() {
    let table = [
        (0, 10, (0.0, 0.277_532_799_862_889_26)),
        (10, 10, (0.722_467_200_137_110_9, 1.0)),
        (848, 1319, (0.616_672_863_442_113_5, 0.668_319_716_346_014_4)),
        (590, 1319, (0.420_667_043_662_289_1, 0.474_256_116_574_979_5)),
        (1, 1, (0.206_549_314_377_237_45, 1.0)),
    ];
    for (right, of, expected) in table {
        ends(wilson(right, of), expected);
    }
    assert_eq!(wilson(0, 0), None);
}

#[test]
fn mcnemars_test_is_the_exact_binomial() {
    // From scipy.stats.binom.
    let table = [
        (10, 2, 0.038_574_218_75, 0.019_287_109_375),
        (2, 10, 0.038_574_218_75, 0.996_826_171_875),
        (5, 5, 1.0, 0.623_046_875),
        (0, 0, 1.0, 1.0),
        (1, 0, 1.0, 0.5),
        (45, 19, 0.001_562_789_344_828_027_9, 0.000_781_394_672_414_013_9),
        (600, 500, 0.002_819_544_991_436_428_4, 0.001_409_772_495_718_214_2),
        (2600, 2400, 0.004_883_649_737_517_494, 0.002_441_824_868_758_747),
        (6000, 6000, 1.0, 0.503_641_752_231_345),
        (1500, 900, 1.005_722_875_619_035_7e-34, 5.028_614_378_095_178e-35),
    ];
    for (b, c, two_sided, worse) in table {
        assert!(close(mcnemar_two_sided(b, c), two_sided, 1e-11), "{b} {c}: {}", mcnemar_two_sided(b, c));
        assert!(close(mcnemar_worse(b, c), worse, 1e-11), "{b} {c}: {}", mcnemar_worse(b, c));
    }
}

#[test]
fn tangos_interval_is_the_published_one() {
    // Bentur 2009 and Cavo 2012 as in Fagerland, Lydersen and Laake 2014 (to three digits), the lenses of Tango 1998; the
    // other digits, and the other rows, from the roots of the quartic of Yang, Sun and Hardin 2013.
    let table = [
        ((7, 1, 21), (-0.517_232_276_421_376_6, -0.026_003_032_480_868_6)),
        ((16, 6, 161), (-0.124_023_432_464_068_36, -0.005_433_395_731_677_083)),
        ((1, 0, 44), (-0.118_077_096_982_132_8, 0.059_393_231_116_627_94)),
        ((20, 40, 160), (0.030_864_533_133_086_73, 0.218_064_244_166_825_02)),
        ((0, 0, 100), (-0.036_993_498_206_985_68, 0.036_993_498_206_985_68)),
        ((5, 0, 100), (-0.111_750_469_231_919_25, -0.011_156_826_882_665_054)),
        ((45, 19, 1319), (-0.032_314_050_467_706_8, -0.008_070_671_643_887_481)),
        ((500, 300, 10_000), (-0.025_576_908_851_662_83, -0.014_496_090_814_675_94)),
    ];
    for ((b, c, n), expected) in table {
        ends(tango_interval(b, c, n), expected);
    }
    assert_eq!(tango_interval(0, 0, 0), None);
    let (low, high) = tango_interval(10, 0, 10).unwrap();
    assert!((-1.0..-0.9999).contains(&low) && high < -0.4, "{low} {high}");
}

#[test]
fn erfc_has_twelve_digits_where_the_two_forms_meet_and_far_out() {
    let table = [
        (0.0, 1.0),
        (0.5, 0.479_500_122_186_953_5),
        (1.4, 0.047_714_880_237_351_21),
        (1.5, 0.033_894_853_524_689_27),
        (1.6, 0.023_651_616_655_355_978),
        (3.0, 2.209_049_699_858_544_5e-5),
        (10.0, 2.088_487_583_762_544_6e-45),
        (26.0, 5.663_192_408_856_145e-296),
        (-1.0, 1.842_700_792_949_714_8),
    ];
    for (x, expected) in table {
        assert!(close(erfc(x), expected, 1e-12), "{x}: {}", erfc(x));
    }
}

#[test]
fn a_fall_has_a_small_probability_and_a_rise_a_great_one() {
    let falls: Vec<f64> = (0..20).map(|i| f64::from(u8::from(i < 10))).collect();
    let rises: Vec<f64> = falls.iter().rev().copied().collect();
    assert!(close(p_falling(&falls).unwrap(), 7.852_614_211_537_559e-5, 1e-10));
    assert!(close(p_falling(&rises).unwrap(), 1.0 - 7.852_614_211_537_559e-5, 1e-10));
    let level: Vec<f64> = (0..20).map(|i| f64::from(u8::from(i % 2 == i / 10))).collect();
    assert!((p_falling(&level).unwrap() - 0.5).abs() < 0.1);
    assert_eq!((p_falling(&falls[..9]), p_falling(&[1.0; 50]), p_falling(&[])), (None, None, None));
    // As shares of one that has no exact form, too.
    assert_eq!(p_falling(&[0.1; 50]), None);
}

#[test]
fn a_run_without_a_trend_shows_one_as_often_as_it_should() {
    let mut draws = Pcg64::seed_from_u64(5);
    let found = (0..4000)
        .filter(|_| {
            let values: Vec<f64> = (0..60).map(|_| f64::from(u8::from(draws.random_bool(0.6)))).collect();
            p_falling(&values).is_some_and(|p| p < 0.05)
        })
        .count();
    assert!((150..=250).contains(&found), "{found} of 4000 at 5 %");
}

/// Discordant counts of `n` pairs.
fn pairs(draws: &mut Pcg64, n: usize, only_baseline: f64, only_candidate: f64) -> (usize, usize) {
    (0..n).fold((0, 0), |(b, c), _| match draws.random::<f64>() {
        draw if draw < only_baseline => (b + 1, c),
        draw if draw < only_baseline + only_candidate => (b, c + 1),
        _ => (b, c),
    })
}

#[test]
fn tangos_interval_covers_the_truth_in_95_of_100_cases() {
    let mut draws = Pcg64::seed_from_u64(1998);
    for (n, b, c) in [(100, 0.08, 0.05), (300, 0.03, 0.03), (300, 0.02, 0.0)] {
        let covered = (0..2000)
            .filter(|_| {
                let (only_baseline, only_candidate) = pairs(&mut draws, n, b, c);
                let (low, high) = tango_interval(only_baseline, only_candidate, n).unwrap();
                (low..=high).contains(&(c - b))
            })
            .count();
        assert!((1860..=1950).contains(&covered), "{covered} of 2000 for {n} pairs, {b} and {c}");
    }
}

#[test]
fn a_loss_of_two_points_is_caught_19_times_in_20_where_a_tolerance_of_five_catches_none() {
    let mut draws = Pcg64::seed_from_u64(1319);
    let (mut caught, mut beyond_tolerance) = (0, 0);
    for _ in 0..1000 {
        let (b, c) = pairs(&mut draws, 1319, 0.034, 0.014);
        caught += usize::from(paired(800, b, c, 519 - b - c, 0.01).verdict == PairedVerdict::Worse);
        beyond_tolerance += usize::from(c as f64 / 1319.0 - b as f64 / 1319.0 < -0.05);
    }
    assert!((930..=980).contains(&caught), "{caught} of 1000");
    assert_eq!(beyond_tolerance, 0);
}

#[test]
fn equal_servers_are_called_worse_in_less_than_5_of_100_cases() {
    let mut draws = Pcg64::seed_from_u64(7);
    let wrongly = (0..2000)
        .filter(|_| {
            let (b, c) = pairs(&mut draws, 1319, 0.02, 0.02);
            paired(0, b, c, 1319 - b - c, 0.01).verdict == PairedVerdict::Worse
        })
        .count();
    assert!(wrongly < 100, "{wrongly} of 2000");
}

#[test]
fn as_many_questions_as_are_needed_show_no_loss_in_four_of_five_runs() {
    let mut draws = Pcg64::seed_from_u64(80);
    let needed = questions_needed(26, 27, 1319, 0.02).unwrap();
    assert!((700..=900).contains(&needed), "{needed}");
    let shown = (0..1000)
        .filter(|_| {
            let (b, c) = pairs(&mut draws, needed, 0.02, 0.02);
            paired(0, b, c, needed - b - c, 0.02).verdict == PairedVerdict::WithinMargin
        })
        .count();
    assert!((750..=850).contains(&shown), "{shown} of 1000");
    // Without any discordant pair: z²(1 − m) / m = 381.
    assert_eq!(questions_needed(0, 0, 10, 0.01), Some(390));
    assert_eq!([questions_needed(1, 1, 0, 0.01), questions_needed(1, 1, 10, 0.0)], [None, None]);
}

#[test]
fn verdicts_follow_from_interval_and_test() {
    let table = [
        ((1200, 3, 4, 112), PairedVerdict::WithinMargin),
        ((800, 45, 19, 455), PairedVerdict::Worse),
        ((80, 3, 2, 15), PairedVerdict::Unclear),
        ((0, 0, 0, 0), PairedVerdict::Unclear),
    ];
    for ((both, b, c, neither), verdict) in table {
        assert_eq!(paired(both, b, c, neither, 0.01).verdict, verdict);
    }
    // A loss that is there, and smaller than what still counts as none.
    let small = paired(90_000, 300, 200, 9_500, 0.01);
    assert!(small.p_worse.unwrap() < 0.001 && small.verdict == PairedVerdict::WithinMargin);
    let nothing = paired(0, 0, 0, 0, 0.01);
    assert_eq!((nothing.difference, nothing.interval, nothing.p_worse), (None, None, None));
}

proptest! {
    #[test]
    fn swapping_the_two_mirrors_everything(b in 0_usize..400, c in 0_usize..400, rest in 1_usize..2000) {
        let n = b + c + rest;
        let (low, high) = tango_interval(b, c, n).unwrap();
        let (mirrored_low, mirrored_high) = tango_interval(c, b, n).unwrap();
        prop_assert!((low + mirrored_high).abs() < 1e-9 && (high + mirrored_low).abs() < 1e-9);
        let found = (c as f64 - b as f64) / n as f64;
        prop_assert!(-1.0 <= low && low <= found && found <= high && high <= 1.0);
        prop_assert_eq!(mcnemar_two_sided(b, c), mcnemar_two_sided(c, b));
        // At least b against, or more than b: all there is.
        let total = mcnemar_worse(b, c) + mcnemar_worse(c + 1, b.saturating_sub(1));
        prop_assert!(b == 0 || (total - 1.0).abs() < 1e-9, "{}", total);
    }

    #[test]
    fn more_pairs_against_the_candidate_make_it_look_no_better(b in 0_usize..300, c in 0_usize..300) {
        prop_assert!(mcnemar_worse(b + 1, c) <= mcnemar_worse(b, c));
        prop_assert!(mcnemar_worse(b, c) <= mcnemar_worse(b, c + 1));
        let (low, _) = tango_interval(b, c, 1000).unwrap();
        prop_assert!(tango_interval(b + 1, c, 1000).unwrap().0 <= low);
        prop_assert!(low <= tango_interval(b, c + 1, 1000).unwrap().0);
    }

    #[test]
    fn wilsons_interval_holds_the_share_and_narrows(right in 0_usize..500, wrong in 0_usize..500) {
        prop_assume!(0 < right + wrong);
        let (low, high) = wilson(right, right + wrong).unwrap();
        let share = right as f64 / (right + wrong) as f64;
        prop_assert!(0.0 <= low && low <= share && share <= high && high <= 1.0);
        let (low_of_more, high_of_more) = wilson(4 * right, 4 * (right + wrong)).unwrap();
        prop_assert!(high_of_more - low_of_more < high - low);
    }
}
