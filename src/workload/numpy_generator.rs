//! What `numpy.random.default_rng(seed)` draws, number for number: the generator PCG64 (O'Neill, 2014: PCG
//! XSL RR 128/64), seeded through numpy's `SeedSequence`. Only whole numbers are here, all that a workload of
//! `vllm bench serve` takes from it. Deliberately absent: numpy's legacy `np.random`, which is another
//! generator.

/// `numpy.random.default_rng(seed)`.
#[derive(Clone, Debug)]
pub struct NumpyGenerator {
    state: u128,
    increment: u128,
    /// Numbers of 32 bits come in pairs; the second waits here.
    kept: Option<u32>,
}

/// Of PCG for 128 bits of state.
const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;

/// Words of the pool that a seed is spread over.
const POOL: usize = 4;

impl NumpyGenerator {
    /// As `default_rng(seed)`.
    pub fn new(seed: u32) -> Self {
        let words = seed_sequence(seed);
        let wide = |high: usize| {
            let long = |low: usize| u128::from(words[low]) | u128::from(words[low + 1]) << 32;
            long(high) << 64 | long(high + 2)
        };
        let mut generator = Self { state: 0, increment: wide(4) << 1 | 1, kept: None };
        generator.step();
        generator.state = generator.state.wrapping_add(wide(0));
        generator.step();
        generator
    }

    /// `integers(low, high, size=count)`, of 64 bits with a sign, as is the default: uniform in [low, high).
    ///
    /// # Panics
    /// If there is no number in the range.
    pub fn integers(&mut self, low: i64, high: i64, count: usize) -> Vec<i64> {
        assert!(low < high, "no number is in [{low}, {high})");
        let most = high.wrapping_sub(low).wrapping_sub(1) as u64;
        (0..count).map(|_| low.wrapping_add(self.at_most(most) as i64)).collect()
    }

    /// Uniform in [0, most], by multiplication and rejection (Lemire, 2019): in 32 bits where they are enough.
    fn at_most(&mut self, most: u64) -> u64 {
        if most == 0 {
            // The one number there is takes no draw.
            return 0;
        }
        match u32::try_from(most) {
            Ok(u32::MAX) => u64::from(self.next_u32()),
            Ok(most) => u64::from(self.at_most_u32(most)),
            Err(_) if most == u64::MAX => self.next_u64(),
            Err(_) => self.at_most_u64(most),
        }
    }

    fn at_most_u32(&mut self, most: u32) -> u32 {
        let below = most + 1;
        let mut product = u64::from(self.next_u32()) * u64::from(below);
        if (product as u32) < below {
            let threshold = (u32::MAX - most) % below;
            while (product as u32) < threshold {
                product = u64::from(self.next_u32()) * u64::from(below);
            }
        }
        (product >> 32) as u32
    }

    fn at_most_u64(&mut self, most: u64) -> u64 {
        let below = most + 1;
        let mut product = u128::from(self.next_u64()) * u128::from(below);
        if (product as u64) < below {
            let threshold = (u64::MAX - most) % below;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(below);
            }
        }
        (product >> 64) as u64
    }

    fn next_u32(&mut self) -> u32 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        let drawn = self.next_u64();
        self.kept = Some((drawn >> 32) as u32);
        drawn as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    fn step(&mut self) {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
    }
}

/// The hash that numpy's seeding is made of: each use changes its constant.
struct Hash {
    constant: u32,
    multiplier: u32,
}

impl Hash {
    fn of(&mut self, word: u32) -> u32 {
        let mixed = word ^ self.constant;
        self.constant = self.constant.wrapping_mul(self.multiplier);
        let mixed = mixed.wrapping_mul(self.constant);
        mixed ^ mixed >> 16
    }
}

/// `SeedSequence(seed).generate_state(8)`: four numbers of 64 bits, low halves first.
fn seed_sequence(seed: u32) -> [u32; 2 * POOL] {
    let mut hash = Hash { constant: 0x43b0_d7e5, multiplier: 0x931e_8875 };
    let mut pool = [seed, 0, 0, 0].map(|word| hash.of(word));
    for from in 0..POOL {
        for to in (0..POOL).filter(|to| *to != from) {
            let mixed = pool[to].wrapping_mul(0xca01_f9dd);
            let mixed = mixed.wrapping_sub(hash.of(pool[from]).wrapping_mul(0x4973_f715));
            pool[to] = mixed ^ mixed >> 16;
        }
    }
    let mut hash = Hash { constant: 0x8b51_f9dd, multiplier: 0x58f3_8ded };
    std::array::from_fn(|i| hash.of(pool[i % POOL]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::testing::vectors;

    #[test]
    fn whole_numbers_equal_numpy_in_every_range() {
        let cases = vectors().integers;
        assert_eq!(cases.len(), 4);
        for case in cases {
            let mut generator = NumpyGenerator::new(case.seed);
            for (low, high, wanted) in case.draws {
                let drawn = generator.integers(low, high, wanted.len());
                assert_eq!(drawn, wanted, "[{low}, {high}) of seed {}", case.seed);
            }
        }
    }
}
