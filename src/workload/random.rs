use super::reencode::{Reencoder, Ring};
use super::{DatasetError, NumpyGenerator, Prompt, Request, TokenCounter, Tokenizer};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Prompts of tokens that mean nothing, of lengths drawn around a mean. With a tokenizer, token for token what
/// `vllm bench serve --dataset-name random` sends.
#[derive(Clone, Debug, PartialEq)]
pub struct Random {
    /// Mean prompt length in tokens, special tokens included, prefix not.
    pub input_len: u32,
    /// Mean output length in tokens.
    pub output_len: u32,
    /// How far lengths lie from their means.
    pub range_ratio: RangeRatio,
    /// Length in tokens of a beginning that all prompts share.
    pub prefix_len: u32,
    /// How many prompts to make.
    pub num_prompts: usize,
    /// Seed of the draws, as `numpy.random.default_rng` takes it.
    pub seed: u32,
    /// In which form prompts are sent.
    pub form: RandomForm,
}

/// Lengths are drawn evenly from mean · (1 − r) to mean · (1 + r), rounded outwards.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RangeRatio {
    /// r of the prompts, in [0, 1).
    pub input: f64,
    /// r of the outputs, in [0, 1).
    pub output: f64,
}

/// In which form random prompts are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RandomForm {
    /// Text that has the wanted number of tokens.
    #[default]
    Text,
    /// The ids themselves, which no server can count otherwise. Not a form that vLLM's own client has.
    TokenIds,
}

/// How often vLLM mends a prompt that has another number of tokens than was asked for.
const RETRIES: u32 = 10;

/// Requests that are made side by side before the draws that some of them need are taken in order.
const BLOCK: usize = 512;

impl Default for Random {
    /// vLLM's defaults.
    fn default() -> Self {
        Self {
            input_len: 1024,
            output_len: 128,
            range_ratio: RangeRatio::default(),
            prefix_len: 0,
            num_prompts: 1000,
            seed: 0,
            form: RandomForm::Text,
        }
    }
}

/// Lengths and beginnings, by request.
struct Drawn {
    input_lens: Vec<i64>,
    output_lens: Vec<i64>,
    offsets: Vec<i64>,
}

impl Random {
    /// The prompts. `progress` is told how many of how many are made.
    ///
    /// # Errors
    /// If lengths or ratios leave no prompt to make, or the tokenizer fails.
    pub fn requests(
        &self,
        counter: &TokenCounter,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Vec<Request>, DatasetError> {
        match counter.tokenizer() {
            Some(tokenizer) => self.by_tokenizer(&Reencoder::new(tokenizer), tokenizer, progress),
            None if self.form == RandomForm::TokenIds => Err(DatasetError::whole(
                "token ids need a tokenizer",
                "name its directory with --tokenizer, or leave out --random-token-ids",
            )),
            None => self.estimated(progress),
        }
    }

    /// The draws that come before any prompt. `vocabulary` is what beginnings are drawn below.
    fn draw(
        &self,
        generator: &mut NumpyGenerator,
        special: u32,
        vocabulary: u32,
    ) -> Result<Drawn, DatasetError> {
        let RangeRatio { input, output } = self.range_ratio;
        let mean = f64::from(self.input_len.saturating_sub(special));
        let range = |mean: f64, ratio: f64| {
            ((mean * (1.0 - ratio)).floor() as i64, (mean * (1.0 + ratio)).ceil() as i64)
        };
        let (low, high) = range(mean, input);
        if i64::from(self.prefix_len) + low < 1 {
            let what = format!(
                "prompts could have no token: {} less {special} special tokens, a range ratio of {input} and a \
                 prefix of {}",
                self.input_len, self.prefix_len
            );
            return Err(DatasetError::whole(what, "ask for longer prompts, or for a smaller range ratio"));
        }
        let (low_out, high_out) = range(f64::from(self.output_len), output);
        let count = self.num_prompts;
        Ok(Drawn {
            input_lens: generator.integers(low, high + 1, count),
            output_lens: generator.integers(low_out.max(1), high_out.max(1) + 1, count),
            offsets: generator.integers(0, i64::from(vocabulary.max(1)), count),
        })
    }

    fn by_tokenizer(
        &self,
        reencoder: &Reencoder<'_>,
        tokenizer: &Tokenizer,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Vec<Request>, DatasetError> {
        let special = tokenizer.special_ids();
        let allowed: Vec<u32> = (0..tokenizer.vocab_size()).filter(|id| !special.contains(id)).collect();
        if allowed.is_empty() {
            let help = "give a tokenizer with a vocabulary";
            return Err(DatasetError::whole("the tokenizer has special tokens only", help));
        }
        // Ids are sent as they are: no server adds special tokens to them.
        let added = match self.form {
            RandomForm::Text => tokenizer.num_special_tokens_to_add(),
            RandomForm::TokenIds => 0,
        };
        let mut generator = NumpyGenerator::new(self.seed);
        let drawn = self.draw(&mut generator, added, tokenizer.vocab_size())?;
        let mending = Mending { reencoder, vocabulary: tokenizer.vocab_size() };
        let prefix = self.prefix(&allowed, &mending, &mut generator)?;
        let ring = match self.form {
            RandomForm::Text => Ring::new(reencoder, &allowed)?,
            RandomForm::TokenIds => Ring::uncut(reencoder, &allowed),
        };
        let maker = Maker { ring, mending, prefix, drawn, allowed: allowed.len(), form: self.form };
        maker.make(self.num_prompts, &mut generator, progress)
    }

    fn prefix(
        &self,
        allowed: &[u32],
        mending: &Mending<'_>,
        generator: &mut NumpyGenerator,
    ) -> Result<Vec<u32>, DatasetError> {
        if self.prefix_len == 0 {
            return Ok(Vec::new());
        }
        let drawn = generator.integers(0, allowed.len() as i64, self.prefix_len as usize);
        let ids: Vec<u32> = drawn.into_iter().map(|at| allowed[at as usize]).collect();
        let first = mending.reencoder.reencode(&ids, 0)?;
        let mut mended = mending.mend(ids, first, self.prefix_len as usize)?;
        while let Mended::Short(short) = mended {
            mended = mending.filled_up(short, generator)?;
        }
        let Mended::Done { ids, .. } = mended else { return Ok(Vec::new()) };
        Ok(ids)
    }

    /// Words of four bytes, the space before them included, so that the estimate is exact. The letters come
    /// from PCG64 of the `rand_pcg` crate; lengths from numpy's generator, as with a tokenizer.
    fn estimated(&self, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Vec<Request>, DatasetError> {
        let mut lengths = NumpyGenerator::new(self.seed);
        let drawn = self.draw(&mut lengths, 0, 1)?;
        let mut letters = Pcg64::seed_from_u64(self.seed.into());
        let mut words = |count: usize, text: &mut Vec<u8>| {
            for _ in 0..count {
                let draw = letters.next_u32();
                let first = if text.is_empty() { b'a' + (draw >> 24) as u8 % 26 } else { b' ' };
                let letter = |shift: u32| b'a' + ((draw >> shift & 0xff) % 26) as u8;
                text.extend_from_slice(&[first, letter(0), letter(8), letter(16)]);
            }
        };
        let mut prefix = Vec::new();
        words(self.prefix_len as usize, &mut prefix);
        let mut requests = Vec::with_capacity(self.num_prompts);
        for (input, output) in drawn.input_lens.iter().zip(&drawn.output_lens) {
            let mut text = prefix.clone();
            words(*input as usize, &mut text);
            let text = String::from_utf8(text).expect("letters and spaces are UTF-8");
            let prompt_tokens = TokenCounter::estimate(&text);
            let prompt = Prompt::Text(text);
            requests.push(Request { prompt, prompt_tokens, output_tokens: *output as u32 });
        }
        progress(self.num_prompts, self.num_prompts);
        Ok(requests)
    }
}

/// A sequence whose text has too few tokens.
struct Short {
    ids: Vec<u32>,
    wanted: usize,
    retries: u32,
}

enum Mended {
    /// The text, and its tokens.
    Done { text: String, ids: Vec<u32> },
    /// More tokens have to be drawn, in the order of the requests.
    Short(Short),
}

/// Brings texts to a number of tokens, as vLLM does: cut where too long, filled up where too short.
struct Mending<'a> {
    reencoder: &'a Reencoder<'a>,
    vocabulary: u32,
}

impl Mending<'_> {
    /// `before` are any tokens, `ids` those of their text.
    fn mend(&self, before: Vec<u32>, ids: Vec<u32>, wanted: usize) -> Result<Mended, DatasetError> {
        self.go_on(before, ids, wanted, RETRIES)
    }

    fn go_on(
        &self,
        mut before: Vec<u32>,
        mut ids: Vec<u32>,
        wanted: usize,
        mut retries: u32,
    ) -> Result<Mended, DatasetError> {
        while 0 < retries && wanted < ids.len() {
            retries -= 1;
            ids.truncate(wanted);
            before = ids;
            ids = self.reencoder.reencode(&before, wanted)?;
        }
        if 0 < retries && ids.len() < wanted {
            return Ok(Mended::Short(Short { ids, wanted, retries }));
        }
        Ok(Mended::Done { text: self.reencoder.decode(&before)?, ids })
    }

    fn filled_up(&self, short: Short, generator: &mut NumpyGenerator) -> Result<Mended, DatasetError> {
        let Short { mut ids, wanted, retries } = short;
        let known = ids.len();
        let more = generator.integers(0, i64::from(self.vocabulary), wanted - known);
        ids.extend(more.into_iter().map(|id| id as u32));
        let encoded = self.reencoder.reencode(&ids, known)?;
        self.go_on(ids, encoded, wanted, retries - 1)
    }
}

/// Makes the prompts, most of the work of which does not depend on their order.
struct Maker<'a> {
    ring: Ring<'a>,
    mending: Mending<'a>,
    prefix: Vec<u32>,
    drawn: Drawn,
    allowed: usize,
    form: RandomForm,
}

impl Maker<'_> {
    fn make(
        &self,
        count: usize,
        generator: &mut NumpyGenerator,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Vec<Request>, DatasetError> {
        let mut requests = Vec::with_capacity(count);
        while requests.len() < count {
            let block = requests.len()..count.min(requests.len() + BLOCK);
            for begun in self.begin_all(block)? {
                let mut mended = begun;
                while let Ok(Mended::Short(short)) = mended {
                    mended = self.mending.filled_up(short, generator);
                }
                if let Mended::Done { text, ids } = mended? {
                    requests.push(self.request(requests.len(), text, ids));
                }
            }
            progress(requests.len(), count);
        }
        Ok(requests)
    }

    fn request(&self, i: usize, text: String, ids: Vec<u32>) -> Request {
        let prompt_tokens = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let prompt = match self.form {
            RandomForm::Text => Prompt::Text(text),
            RandomForm::TokenIds => Prompt::TokenIds(ids),
        };
        Request { prompt, prompt_tokens, output_tokens: self.drawn.output_lens[i] as u32 }
    }

    /// A block of requests, each as far as it goes without a draw; side by side on all processors.
    fn begin_all(
        &self,
        block: std::ops::Range<usize>,
    ) -> Result<Vec<Result<Mended, DatasetError>>, DatasetError> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(block.len()));
        let next = AtomicUsize::new(block.start);
        let work = || {
            let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < block.end);
            std::iter::from_fn(take).map(|i| (i, self.begin(i))).collect::<Vec<_>>()
        };
        let mut begun = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut begun = work();
            for other in others {
                let part = other.join().map_err(|_| {
                    DatasetError::whole("a thread that makes prompts failed", "report this as a bug")
                })?;
                begun.extend(part);
            }
            Ok(begun)
        })?;
        begun.sort_unstable_by_key(|(i, _)| *i);
        Ok(begun.into_iter().map(|(_, mended)| mended).collect())
    }

    fn begin(&self, i: usize) -> Result<Mended, DatasetError> {
        let length = self.drawn.input_lens[i] as usize;
        let from = (self.drawn.offsets[i] as usize + i) % self.allowed;
        let before = [self.prefix.as_slice(), &self.ring.arc(from, length)].concat();
        if self.form == RandomForm::TokenIds {
            return Ok(Mended::Done { text: String::new(), ids: before });
        }
        let ids = self.ring.encode(&self.prefix, from, length)?;
        self.mending.mend(before, ids, self.prefix.len() + length)
    }
}

impl FromStr for RangeRatio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || {
            format!(
                "`{text}` is not a range ratio: want a number in [0, 1), or {{\"input\": 0.3, \"output\": 0.5}}"
            )
        };
        let ratio = match text.parse::<f64>() {
            Ok(ratio) => Self { input: ratio, output: ratio },
            Err(_) => {
                let both: serde_json::Value = serde_json::from_str(text).map_err(|_| fault())?;
                let one = |key: &str| both.get(key).and_then(serde_json::Value::as_f64).ok_or_else(fault);
                Self { input: one("input")?, output: one("output")? }
            }
        };
        let is_ratio = |r: f64| (0.0..1.0).contains(&r);
        if is_ratio(ratio.input) && is_ratio(ratio.output) { Ok(ratio) } else { Err(fault()) }
    }
}

#[cfg(test)]
#[path = "random_tests.rs"]
mod tests;
