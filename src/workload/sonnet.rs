use super::{DatasetError, Prompt, PythonRandom, Request, Templating, TokenCounter};

/// The project's own verse, one line each: the text of an embedded run. See datasets/README.md.
pub const SONNETS: &str = include_str!("../../datasets/sonnets.txt");

/// The instruction that opens each prompt, as vLLM words it: seed-exact prompts need the same bytes.
const OPENING: &str = "Pick as many lines as you can from these poem lines:\n";

/// Draws in a row that may be too long before the search ends. vLLM searches for ever; where half of the
/// draws fit, as rounding leaves it at worst, a thousand failures have a chance of 2^-1000.
const PATIENCE: usize = 1000;

/// Prompts of poem lines: an opening, a prefix that all share, and lines drawn at random with replacement,
/// cut to `input_len` tokens. Line for line what `vllm bench serve --dataset-name sonnet` sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sonnet {
    /// Longest prompt in tokens; most prompts are a few tokens below.
    pub input_len: u32,
    /// Output tokens asked of each request, at least 1.
    pub output_len: u32,
    /// Length in tokens of the part that all prompts share, opening included.
    pub prefix_len: u32,
    /// How many prompts to make.
    pub num_prompts: usize,
    /// Seed of the draws, as `random.seed` takes it.
    pub seed: u32,
    /// What a chat template is for; with one, lengths are those of the text that it makes.
    pub templating: Templating,
}

impl Default for Sonnet {
    /// vLLM's defaults.
    fn default() -> Self {
        let templating = Templating::default();
        Self { input_len: 550, output_len: 150, prefix_len: 200, num_prompts: 1000, seed: 0, templating }
    }
}

/// What prompts are put together from.
struct Parts<'a> {
    lines: Vec<&'a str>,
    /// How many of the first lines all prompts share.
    prefix: usize,
    /// How many lines each prompt draws.
    drawn: usize,
}

impl Sonnet {
    /// The prompts made of the lines of `text`.
    ///
    /// # Errors
    /// If there are no lines, the lengths leave no room for any, or no draw is short enough.
    pub fn requests(&self, text: &str, counter: &TokenCounter) -> Result<Vec<Request>, DatasetError> {
        let text = universal_newlines(text);
        let parts = self.parts(text.split_inclusive('\n').collect(), counter)?;
        let mut random = PythonRandom::new(self.seed.into());
        (0..self.num_prompts).map(|_| self.next_request(&parts, counter, &mut random)).collect()
    }

    /// Draws until a prompt is short enough.
    fn next_request(
        &self,
        parts: &Parts,
        counter: &TokenCounter,
        random: &mut PythonRandom,
    ) -> Result<Request, DatasetError> {
        let mut shortest = u32::MAX;
        for _ in 0..PATIENCE {
            let prompt = Prompt::Text(parts.prompt(random));
            let (prompt, prompt_tokens) = counter.measured(prompt, self.templating)?;
            if prompt_tokens <= self.input_len {
                return Ok(Request { prompt, prompt_tokens, output_tokens: self.output_len });
            }
            shortest = shortest.min(prompt_tokens);
        }
        Err(self.nothing_fits(shortest))
    }

    fn parts<'a>(&self, lines: Vec<&'a str>, counter: &TokenCounter) -> Result<Parts<'a>, DatasetError> {
        let mut tokens = 0;
        for line in &lines {
            tokens += u64::from(counter.count(line)?);
        }
        if tokens == 0 {
            return Err(DatasetError::whole("no lines", "give a text with one verse on each line"));
        }
        let (_, opening) = counter.measured(Prompt::Text(OPENING.to_owned()), self.templating)?;
        self.check_lengths(opening)?;
        let mean = tokens as f64 / lines.len() as f64;
        // As Python's round: a half goes to the even neighbour. A negative count becomes 0.
        let lines_in = |len: u32| ((f64::from(len) - f64::from(opening)) / mean).round_ties_even() as usize;
        let (all, prefix) = (lines_in(self.input_len).max(1), lines_in(self.prefix_len));
        if lines.len() < prefix {
            let (len, given) = (self.prefix_len, lines.len());
            let what = format!("a prefix of {len} tokens takes {prefix} lines, and the text has {given}");
            return Err(DatasetError::whole(what, "ask for a shorter prefix, or give a longer text"));
        }
        Ok(Parts { lines, prefix, drawn: all.saturating_sub(prefix) })
    }

    fn check_lengths(&self, opening: u32) -> Result<(), DatasetError> {
        let Self { input_len, output_len, prefix_len, .. } = *self;
        if input_len <= opening {
            let what =
                format!("an input of {input_len} tokens has no room: the opening alone takes {opening}");
            return Err(DatasetError::whole(what, format!("ask for an input of more than {opening} tokens")));
        }
        if input_len < prefix_len {
            let what = format!("a prefix of {prefix_len} tokens is longer than the input of {input_len}");
            return Err(DatasetError::whole(what, "ask for a prefix no longer than the input"));
        }
        if output_len == 0 {
            return Err(DatasetError::whole("an output of 0 tokens", "ask for at least 1 output token"));
        }
        Ok(())
    }

    fn nothing_fits(&self, shortest: u32) -> DatasetError {
        let len = self.input_len;
        let what = format!(
            "{PATIENCE} draws of lines in a row made prompts of more than {len} tokens; \
             the shortest had {shortest}"
        );
        let help = format!("ask for an input of at least {shortest} tokens, or for a shorter prefix");
        DatasetError::whole(what, help)
    }
}

impl Parts<'_> {
    fn prompt(&self, random: &mut PythonRandom) -> String {
        let drawn = random.choices(&self.lines, self.drawn).into_iter();
        let lines = self.lines[..self.prefix].iter().chain(drawn);
        std::iter::once(&OPENING).chain(lines).copied().collect()
    }
}

/// Line ends as Python reads them from a text file: `\r\n` and `\r` become `\n`.
fn universal_newlines(text: &str) -> std::borrow::Cow<'_, str> {
    match text.contains('\r') {
        true => text.replace("\r\n", "\n").replace('\r', "\n").into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::testing::{counter, made, vectors};
    use serde::Deserialize;
    use sha2::{Digest, Sha256};
    use std::collections::HashSet;

    /// Ten lines of 20 bytes, 5 tokens each; the opening has 53 bytes, 14 tokens.
    const EVEN: &str = "the first of ten is\nthe other of ten is\nthe third of ten is\nthe forth of ten is\n\
        the fifth of ten is\nthe sixth of ten is\nthe seven of ten is\nthe eight of ten is\n\
        the ninth of ten is\nthe tenth of ten is\n";

    fn sonnet(input_len: u32, prefix_len: u32) -> Sonnet {
        Sonnet { input_len, prefix_len, num_prompts: 3, ..Sonnet::default() }
    }

    fn requests(sonnet: &Sonnet, text: &str) -> Result<Vec<Request>, DatasetError> {
        sonnet.requests(text, &TokenCounter::Estimate)
    }

    fn line_counts(sonnet: &Sonnet) -> Vec<usize> {
        let requests = requests(sonnet, EVEN).unwrap();
        requests.iter().map(|request| request.prompt.text().lines().count() - 1).collect()
    }

    fn error_of(sonnet: &Sonnet, text: &str) -> (String, String) {
        let error = requests(sonnet, text).unwrap_err();
        (error.to_string(), error.help().to_owned())
    }

    #[derive(Deserialize)]
    struct Case {
        input_len: u32,
        prefix_len: u32,
        num_prompts: usize,
        seed: u32,
        sha256: String,
        prompt_tokens: u64,
    }

    #[test]
    fn prompts_equal_those_that_python_draws() {
        let golden = include_str!("../../tests/golden/sonnet-vectors.json");
        for case in serde_json::from_str::<Vec<Case>>(golden).unwrap() {
            let Case { input_len, prefix_len, num_prompts, seed, .. } = case;
            let sonnet = Sonnet { input_len, prefix_len, num_prompts, seed, ..Sonnet::default() };
            let requests = requests(&sonnet, SONNETS).unwrap();
            let mut hash = Sha256::new();
            requests.iter().for_each(|request| hash.update(request.prompt.text().as_bytes()));
            let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hash, case.sha256, "input {input_len}, prefix {prefix_len}, seed {seed}");
            let tokens: u64 = requests.iter().map(|request| u64::from(request.prompt_tokens)).sum();
            assert_eq!(tokens, case.prompt_tokens);
        }
    }

    #[test]
    fn prompts_of_a_tokenizer_equal_those_of_vllm() {
        let cases = vectors().sonnet;
        assert_eq!(cases.len(), 12);
        for case in cases {
            let templating = if case.templated { Templating::Sent } else { Templating::Counted };
            let sonnet = Sonnet {
                input_len: case.input_len,
                prefix_len: case.prefix_len,
                output_len: case.output_len,
                num_prompts: case.made.len(),
                seed: case.seed,
                templating,
            };
            assert_eq!(made(&sonnet.requests(SONNETS, &counter()).unwrap()), case.made, "{sonnet:?}");
        }
    }

    #[test]
    fn default_prompts_are_as_long_as_asked_and_share_their_prefix() {
        let requests = requests(&Sonnet { num_prompts: 50, ..Sonnet::default() }, SONNETS).unwrap();
        assert_eq!(requests.len(), 50);
        for request in &requests {
            assert!((500..=550).contains(&request.prompt_tokens), "{}", request.prompt_tokens);
            assert_eq!(request.output_tokens, 150);
            assert_eq!(request.prompt.text()[..600], requests[0].prompt.text()[..600]);
        }
        let texts: HashSet<_> = requests.iter().map(|request| request.prompt.text()).collect();
        assert_eq!(texts.len(), 50);
    }

    #[test]
    fn a_seed_is_a_set_of_prompts() {
        let seeded = |seed| requests(&Sonnet { seed, ..sonnet(60, 20) }, EVEN).unwrap();
        assert_eq!(seeded(1), seeded(1));
        assert_ne!(seeded(1), seeded(2));
    }

    #[test]
    fn half_a_line_rounds_to_the_even_number_of_lines() {
        // Lines of 40 bytes, 10 tokens: 2.5 lines of room are 2, but 3.5 are 4, which never fit.
        let long = EVEN.replace("is\n", "is another five too...\n");
        assert_eq!(requests(&sonnet(14 + 25, 0), &long).unwrap()[0].prompt_tokens, 14 + 20);
        let error = requests(&sonnet(14 + 35, 0), &long).unwrap_err();
        assert!(error.to_string().ends_with("the shortest had 54"), "{error}");
    }

    #[test]
    fn room_for_2_4_lines_is_2_lines() {
        assert_eq!(line_counts(&sonnet(14 + 12, 0)), [2, 2, 2]);
    }

    #[test]
    fn a_tiny_input_still_has_one_line() {
        assert_eq!(line_counts(&sonnet(19, 0)), [1, 1, 1]);
    }

    #[test]
    fn an_input_that_is_all_prefix_makes_equal_prompts() {
        let requests = requests(&sonnet(34, 34), EVEN).unwrap();
        assert_eq!(requests[0], requests[2]);
    }

    #[test]
    fn draws_that_never_fit_end_with_the_length_that_would() {
        let (what, help) = error_of(&sonnet(18, 0), EVEN);
        assert_eq!(
            what,
            "1000 draws of lines in a row made prompts of more than 18 tokens; the shortest had 19"
        );
        assert_eq!(help, "ask for an input of at least 19 tokens, or for a shorter prefix");
    }

    #[test]
    fn lengths_without_room_are_refused() {
        let (what, help) = error_of(&sonnet(14, 0), EVEN);
        assert_eq!(what, "an input of 14 tokens has no room: the opening alone takes 14");
        assert_eq!(help, "ask for an input of more than 14 tokens");
        let (what, _) = error_of(&sonnet(100, 101), EVEN);
        assert_eq!(what, "a prefix of 101 tokens is longer than the input of 100");
        let (what, _) = error_of(&sonnet(100, 69), EVEN);
        assert_eq!(what, "a prefix of 69 tokens takes 11 lines, and the text has 10");
        let (what, _) = error_of(&Sonnet { output_len: 0, ..sonnet(60, 20) }, EVEN);
        assert_eq!(what, "an output of 0 tokens");
    }

    #[test]
    fn an_empty_text_is_refused() {
        assert_eq!(error_of(&Sonnet::default(), "").0, "no lines");
    }

    #[test]
    fn carriage_returns_are_line_ends_as_python_reads_them() {
        let windows = EVEN.replace('\n', "\r\n");
        let old = EVEN.replace('\n', "\r");
        let unix = requests(&sonnet(60, 20), EVEN);
        assert_eq!(requests(&sonnet(60, 20), &windows), unix);
        assert_eq!(requests(&sonnet(60, 20), &old), unix);
    }

    #[test]
    fn the_embedded_verse_is_long_plain_and_never_repeats() {
        assert!(SONNETS.is_ascii());
        assert!(SONNETS.ends_with('\n'));
        let lines: Vec<&str> = SONNETS.lines().collect();
        assert!(500 <= lines.len(), "{} lines", lines.len());
        assert_eq!(lines.len() % 14, 0, "sonnets have 14 lines");
        for line in &lines {
            assert!((25..=60).contains(&line.len()), "{} bytes: {line}", line.len());
            assert_eq!(line.trim(), *line);
        }
        let unique: HashSet<String> = lines.iter().map(|line| line.to_lowercase()).collect();
        assert_eq!(unique.len(), lines.len());
        let mean = SONNETS.len() as f64 / lines.len() as f64;
        assert!((40.0..=47.0).contains(&mean), "{mean} bytes a line");
    }
}
