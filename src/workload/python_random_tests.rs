use super::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    python: Vec<Python>,
    numpy: Vec<Numpy>,
}

#[derive(Deserialize)]
struct Python {
    seed: u64,
    random: Vec<String>,
    getrandbits: Vec<(u32, u64)>,
    randrange: Vec<(u64, u64)>,
    choices_of_518: Vec<usize>,
    choice_of_7: Vec<usize>,
    shuffled_20: Vec<usize>,
}

#[derive(Deserialize)]
struct Numpy {
    seed: u32,
    random_sample: Vec<String>,
    standard_normal: Vec<String>,
    standard_exponential: Vec<String>,
    standard_gamma: Vec<Gamma>,
}

#[derive(Deserialize)]
struct Gamma {
    shape: f64,
    draws: Vec<String>,
    sum_of_1000: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../tests/golden/random-vectors.json")).unwrap()
}

/// Vectors hold the bits of a double in hexadecimal, which no parser can round.
fn double(bits: &str) -> f64 {
    f64::from_bits(u64::from_str_radix(bits, 16).unwrap())
}

/// Draws through a logarithm may differ in the last bit where the C library is another.
fn assert_within_one_ulp(drawn: f64, bits: &str) {
    let wanted = double(bits);
    assert!(drawn.to_bits().abs_diff(wanted.to_bits()) <= 1, "{drawn} is not {wanted}");
}

#[test]
fn python_draws_equal_cpython() {
    for v in vectors().python {
        let mut random = PythonRandom::new(v.seed);
        v.random.iter().for_each(|bits| assert_eq!(random.random(), double(bits), "seed {}", v.seed));
        for (bits, wanted) in v.getrandbits {
            assert_eq!(random.getrandbits(bits), wanted, "{bits} bits of seed {}", v.seed);
        }
        for (below, wanted) in v.randrange {
            assert_eq!(random.randrange(below), wanted, "below {below} of seed {}", v.seed);
        }
        let (many, few): (Vec<usize>, Vec<usize>) = ((0..518).collect(), (0..7).collect());
        assert_eq!(random.choices(&many, 5).into_iter().copied().collect::<Vec<_>>(), v.choices_of_518);
        let chosen: Vec<usize> = v.choice_of_7.iter().map(|_| *random.choice(&few)).collect();
        assert_eq!(chosen, v.choice_of_7);
        let mut items: Vec<usize> = (0..20).collect();
        random.shuffle(&mut items);
        assert_eq!(items, v.shuffled_20);
    }
}

#[test]
fn numpy_draws_equal_numpy() {
    for v in vectors().numpy {
        let mut random = NumpyRandom::new(v.seed);
        v.random_sample.iter().for_each(|bits| assert_eq!(random.random_sample(), double(bits)));
        v.standard_normal.iter().for_each(|bits| assert_within_one_ulp(random.standard_normal(), bits));
        for bits in &v.standard_exponential {
            assert_within_one_ulp(random.standard_exponential(), bits);
        }
    }
}

#[test]
fn gamma_draws_equal_numpy_in_every_branch() {
    for v in vectors().numpy {
        for gamma in v.standard_gamma {
            let mut random = NumpyRandom::new(v.seed);
            let draws: Vec<f64> = (0..1000).map(|_| random.standard_gamma(gamma.shape)).collect();
            for (drawn, bits) in draws.iter().zip(&gamma.draws) {
                assert_within_one_ulp(*drawn, bits);
            }
            let (sum, wanted) = (draws.iter().sum::<f64>(), double(&gamma.sum_of_1000));
            assert!((sum - wanted).abs() <= 1e-12 * wanted, "shape {}: {sum}, {wanted}", gamma.shape);
        }
    }
}

#[test]
fn sonnet_lines_of_seed_0_are_those_of_the_compatibility_notes() {
    let lines: Vec<usize> = (0..518).collect();
    let drawn = PythonRandom::new(0).choices(&lines, 5);
    assert_eq!(drawn, [&437, &392, &217, &134, &264]);
}

#[test]
fn no_items_shuffle_to_no_items() {
    PythonRandom::new(0).shuffle::<u8>(&mut []);
}

#[test]
fn a_sample_is_pythons_in_both_of_its_ways() {
    // random.Random(1234).sample(range(7473), 3), twice, and random.Random(7).sample(range(n), k)
    let mut random = PythonRandom::new(1234);
    assert_eq!(random.sample(7473, 3), [6374, 3610, 957]);
    assert_eq!(random.sample(7473, 3), [61, 742, 7462]);
    assert_eq!(PythonRandom::new(7).sample(20, 5), [10, 4, 12, 1, 2]);
    assert_eq!(PythonRandom::new(7).sample(85, 6), [41, 19, 50, 6, 9, 68]);
    assert_eq!(PythonRandom::new(7).sample(86, 6), [41, 19, 50, 83, 6, 9]);
}
