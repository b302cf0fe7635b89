//! The random numbers that Python tools draw, bit for bit: the Mersenne Twister MT19937 (Matsumoto and
//! Nishimura, 1998) as CPython's `random` seeds and reads it, and as numpy's legacy `np.random` does.
//! Only what replays a workload of `vllm bench serve` is here; tests/golden holds vectors from both.
//! Deliberately absent: numpy's newer `Generator`, and any use of these draws for the simulator.

const WORDS: usize = 624;
const SHIFT: usize = 397;
const UPPER_BIT: u32 = 0x8000_0000;
const LOWER_BITS: u32 = 0x7fff_ffff;

/// CPython's `random` after `random.seed(seed)`.
#[derive(Clone, Debug)]
pub struct PythonRandom {
    twister: Twister,
}

/// numpy's legacy `np.random` after `np.random.seed(seed)`.
#[derive(Clone, Debug)]
pub struct NumpyRandom {
    twister: Twister,
    /// The polar method makes normal numbers in pairs; the second waits here.
    kept_gauss: Option<f64>,
}

impl PythonRandom {
    /// As `random.seed(seed)`. CPython takes the absolute value of a negative seed.
    pub fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let key = if high == 0 { vec![low] } else { vec![low, high] };
        Self { twister: Twister::from_key(&key) }
    }

    /// `random.random()`: uniform in [0, 1) with 53 bits.
    pub fn random(&mut self) -> f64 {
        self.twister.next_f64()
    }

    /// `random.getrandbits(bits)`, uniform in [0, 2^bits), for up to 64 bits.
    pub fn getrandbits(&mut self, bits: u32) -> u64 {
        debug_assert!(bits <= u64::BITS, "more bits than a u64 holds");
        match bits {
            0 => 0,
            1..=32 => u64::from(self.twister.next_u32() >> (32 - bits)),
            _ => {
                let low = u64::from(self.twister.next_u32());
                let high = u64::from(self.twister.next_u32() >> (64 - bits.min(64)));
                high << 32 | low
            }
        }
    }

    /// `random.randrange(below)`, and the index that `random.choice` takes: bits until they are below.
    ///
    /// # Panics
    /// If `below` is 0: there is nothing to choose from.
    pub fn randrange(&mut self, below: u64) -> u64 {
        assert!(0 < below, "no number is below 0");
        let bits = u64::BITS - below.leading_zeros();
        loop {
            let drawn = self.getrandbits(bits);
            if drawn < below {
                return drawn;
            }
        }
    }

    /// `random.choice(items)`.
    ///
    /// # Panics
    /// If `items` is empty.
    pub fn choice<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.randrange(items.len() as u64) as usize]
    }

    /// `random.choices(items, k=count)`: with replacement, each at floor(random() · length). Draws
    /// otherwise than `count` times [`PythonRandom::choice`].
    ///
    /// # Panics
    /// If `items` is empty and `count` is not 0.
    pub fn choices<'a, T>(&mut self, items: &'a [T], count: usize) -> Vec<&'a T> {
        let length = items.len() as f64;
        (0..count).map(|_| &items[(self.random() * length).floor() as usize]).collect()
    }

    /// `random.sample(range(population), count)`: without replacement, in the order of the draws. CPython keeps a list
    /// of what is left while that is small beside a set of what was taken.
    ///
    /// # Panics
    /// If `count` is above `population`.
    pub fn sample(&mut self, population: usize, count: usize) -> Vec<usize> {
        assert!(count <= population, "no more can be drawn than there are");
        let mut set_size = 21;
        if 5 < count {
            // 4 to the power of ⌈log₄(3 · count)⌉.
            let mut power = 1;
            while power < 3 * count {
                power *= 4;
            }
            set_size += power;
        }
        if population <= set_size {
            let mut left: Vec<usize> = (0..population).collect();
            return (0..count)
                .map(|taken| {
                    let last = population - taken;
                    let at = self.randrange(last as u64) as usize;
                    let drawn = left[at];
                    left[at] = left[last - 1];
                    drawn
                })
                .collect();
        }
        let mut drawn: Vec<usize> = Vec::with_capacity(count);
        while drawn.len() < count {
            let at = self.randrange(population as u64) as usize;
            if !drawn.contains(&at) {
                drawn.push(at);
            }
        }
        drawn
    }

    /// `random.shuffle(items)`: from the end, each with one at or before it.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.randrange(last as u64 + 1) as usize);
        }
    }
}

impl NumpyRandom {
    /// As `np.random.seed(seed)`, which takes 0 to 2^32 - 1.
    pub fn new(seed: u32) -> Self {
        Self { twister: Twister::new(seed), kept_gauss: None }
    }

    /// `np.random.random_sample()`: uniform in [0, 1) with 53 bits.
    pub fn random_sample(&mut self) -> f64 {
        self.twister.next_f64()
    }

    /// `np.random.standard_normal()`: Marsaglia's polar method, the pair's second number kept.
    pub fn standard_normal(&mut self) -> f64 {
        if let Some(kept) = self.kept_gauss.take() {
            return kept;
        }
        loop {
            let x1 = 2.0 * self.random_sample() - 1.0;
            let x2 = 2.0 * self.random_sample() - 1.0;
            let r2 = x1 * x1 + x2 * x2;
            if r2 < 1.0 && r2 != 0.0 {
                let factor = (-2.0 * r2.ln() / r2).sqrt();
                self.kept_gauss = Some(factor * x1);
                return factor * x2;
            }
        }
    }

    /// `np.random.standard_exponential()`: -log(1 - U), as U may be 0 but never 1.
    pub fn standard_exponential(&mut self) -> f64 {
        -(1.0 - self.random_sample()).ln()
    }

    /// `np.random.standard_gamma(shape)`; shape is not negative, scale is 1.
    pub fn standard_gamma(&mut self, shape: f64) -> f64 {
        if shape == 1.0 {
            self.standard_exponential()
        } else if shape == 0.0 {
            0.0
        } else if shape < 1.0 {
            self.gamma_below_one(shape)
        } else {
            self.gamma_above_one(shape)
        }
    }

    /// `np.random.gamma(shape, scale)`: mean shape · scale.
    pub fn gamma(&mut self, shape: f64, scale: f64) -> f64 {
        scale * self.standard_gamma(shape)
    }

    /// Rejection from a power below and an exponential above (Ahrens and Dieter, 1974, as numpy has it).
    fn gamma_below_one(&mut self, shape: f64) -> f64 {
        loop {
            let u = self.random_sample();
            let v = self.standard_exponential();
            if u <= 1.0 - shape {
                let x = u.powf(1.0 / shape);
                if x <= v {
                    return x;
                }
            } else {
                let y = -((1.0 - u) / shape).ln();
                let x = (1.0 - shape + shape * y).powf(1.0 / shape);
                if x <= v + y {
                    return x;
                }
            }
        }
    }

    /// A cubed normal number with rejection (Marsaglia and Tsang, 2000), its constants as numpy has them.
    fn gamma_above_one(&mut self, shape: f64) -> f64 {
        let b = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * b).sqrt();
        loop {
            let (x, v) = loop {
                let x = self.standard_normal();
                let v = 1.0 + c * x;
                // A NaN ends the loop, as it does in numpy.
                if 0.0 < v || v.is_nan() {
                    break (x, v * v * v);
                }
            };
            let u = self.random_sample();
            if u < 1.0 - 0.0331 * (x * x) * (x * x) {
                return b * v;
            }
            if u.ln() < 0.5 * x * x + b * (1.0 - v + v.ln()) {
                return b * v;
            }
        }
    }
}

/// The generator itself: 624 words of state, made new all at once, read one by one.
#[derive(Clone, Debug)]
struct Twister {
    words: Box<[u32; WORDS]>,
    next: usize,
}

impl Twister {
    /// Seeding by one word, the authors' `init_genrand`.
    fn new(seed: u32) -> Self {
        let mut words = Box::new([0; WORDS]);
        words[0] = seed;
        for i in 1..WORDS {
            words[i] = mixed(words[i - 1]).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { words, next: WORDS }
    }

    /// Seeding by a list of words that is not empty, the authors' `init_by_array`.
    fn from_key(key: &[u32]) -> Self {
        let mut twister = Self::new(19_650_218);
        let words = &mut twister.words;
        let mut i = 1;
        for j in 0..WORDS.max(key.len()) {
            let j = j % key.len();
            let mixed = mixed(words[i - 1]).wrapping_mul(1_664_525);
            words[i] = (words[i] ^ mixed).wrapping_add(key[j]).wrapping_add(j as u32);
            i = following(words, i);
        }
        for _ in 1..WORDS {
            let mixed = mixed(words[i - 1]).wrapping_mul(1_566_083_941);
            words[i] = (words[i] ^ mixed).wrapping_sub(i as u32);
            i = following(words, i);
        }
        words[0] = UPPER_BIT;
        twister
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == WORDS {
            self.twist();
        }
        let mut word = self.words[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// 53 bits from two words, over 2^53.
    fn next_f64(&mut self) -> f64 {
        let high = f64::from(self.next_u32() >> 5);
        let low = f64::from(self.next_u32() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    fn twist(&mut self) {
        for i in 0..WORDS {
            let joined = (self.words[i] & UPPER_BIT) | (self.words[(i + 1) % WORDS] & LOWER_BITS);
            let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.words[i] = self.words[(i + SHIFT) % WORDS] ^ (joined >> 1) ^ odd;
        }
        self.next = 0;
    }
}

fn mixed(word: u32) -> u32 {
    word ^ (word >> 30)
}

/// The index after `i` in `init_by_array`: word 0 is skipped, and holds the last word when passed.
fn following(words: &mut [u32; WORDS], i: usize) -> usize {
    if i + 1 < WORDS {
        return i + 1;
    }
    words[0] = words[WORDS - 1];
    1
}

#[cfg(test)]
#[path = "python_random_tests.rs"]
mod tests;
