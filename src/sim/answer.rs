//! What the simulated model answers: words of four ASCII bytes, one per token, decided by the prompt and
//! the seed alone, so that an answer can be foretold. Pure. Deliberately absent: meaning.

use super::prompt::mix;
use rand::Rng as _;
use rand_pcg::Pcg32;

/// What a request allows its answer to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    /// Most output tokens, at least 1.
    pub max_tokens: u32,
    /// True when the answer ends by itself at `max_tokens`: nothing in the request limited it.
    pub ends_by_itself: bool,
    /// No stop string and no end before this many tokens.
    pub min_tokens: u32,
    /// Chance of an end after each token; 0 with `ignore_eos`.
    pub eos_probability: f64,
    /// Strings that end the answer.
    pub stop: Vec<String>,
    /// Whether a stop string that was met stays in the text.
    pub include_stop: bool,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// It reached its limit.
    Length,
    /// It ended by itself.
    End,
    /// It met this stop string.
    Stop(String),
}

impl Finish {
    /// `finish_reason` in responses and metrics.
    pub fn reason(&self) -> &'static str {
        if *self == Finish::Length { "length" } else { "stop" }
    }
}

/// A whole answer, known before its first token is due.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Its length in tokens, a stop string's included.
    pub tokens: u32,
    /// Why it ends there.
    pub finish: Finish,
    /// Four bytes per token, cut where a stop string cuts.
    text: String,
    /// Bytes held back while streaming, so that a stop string is never shown in part.
    held_back: usize,
}

impl Answer {
    /// The answer to the prompt with hash `prompt`.
    pub fn new(prompt: u64, seed: u64, limits: &Limits) -> Self {
        let mut draws = Pcg32::new(mix(prompt ^ mix(seed)), 0);
        let natural = natural_length(&mut draws, limits);
        let tokens = natural.min(limits.max_tokens);
        let ends = natural <= limits.max_tokens && 0.0 < limits.eos_probability || limits.ends_by_itself;
        let mut answer = Self {
            tokens,
            finish: if ends { Finish::End } else { Finish::Length },
            text: (0..tokens).flat_map(|_| word(draws.next_u32())).collect(),
            held_back: 0,
        };
        if !limits.stop.is_empty() {
            answer.stop(limits);
        }
        answer
    }

    /// The text of the whole answer.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the event of token `index` adds to the text; may be empty while text is held back.
    pub fn piece(&self, index: u32) -> &str {
        let shown = |tokens: u32| match tokens {
            all if self.tokens <= all => self.text.len(),
            some => (some as usize * 4).saturating_sub(self.held_back).min(self.text.len()),
        };
        &self.text[shown(index)..shown(index + 1)]
    }

    /// Cuts the answer at the first stop string, as vLLM does: looked for after each token past
    /// `min_tokens`, in the order of the request.
    fn stop(&mut self, limits: &Limits) {
        let longest = limits.stop.iter().map(String::len).max().unwrap_or_default();
        self.held_back = if limits.include_stop { 0 } else { longest.saturating_sub(1) };
        for tokens in limits.min_tokens + 1..=self.tokens {
            let end = tokens as usize * 4;
            let met = limits.stop.iter().find_map(|stop| {
                let from = (end - 3).saturating_sub(stop.len());
                Some((from + self.text[from..end].find(stop.as_str())?, stop))
            });
            if let Some((at, stop)) = met {
                self.tokens = tokens;
                self.finish = Finish::Stop(stop.clone());
                self.text.truncate(if limits.include_stop { at + stop.len() } else { at });
                return;
            }
        }
    }
}

/// Tokens until the answer ends by itself: max(min_tokens, 1) + the failures before a success of
/// probability p, by inversion: floor(ln u / ln(1 - p)) with u uniform in (0, 1].
fn natural_length(draws: &mut Pcg32, limits: &Limits) -> u32 {
    let uniform = (f64::from(draws.next_u32()) + 1.0) / 4_294_967_296.0;
    if limits.eos_probability <= 0.0 {
        return u32::MAX;
    }
    let failures = (uniform.ln() / (1.0 - limits.eos_probability).ln()).floor();
    limits.min_tokens.max(1).saturating_add(failures as u32)
}

/// Three letters and a space.
fn word(draw: u32) -> [char; 4] {
    let letter = |n: u32| char::from(b'a' + (n % 26) as u8);
    [letter(draw), letter(draw / 26), letter(draw / 676), ' ']
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(max_tokens: u32) -> Limits {
        Limits { max_tokens, ..Limits::default() }
    }

    fn pieces(answer: &Answer) -> String {
        (0..answer.tokens).map(|index| answer.piece(index)).collect()
    }

    #[test]
    fn an_answer_is_four_bytes_a_token_and_the_same_each_time() {
        let answer = Answer::new(7, 1, &limits(50));
        assert_eq!((answer.text().len(), answer.tokens, &answer.finish), (200, 50, &Finish::Length));
        assert_eq!(answer.text(), Answer::new(7, 1, &limits(50)).text());
        assert_ne!(answer.text(), Answer::new(8, 1, &limits(50)).text());
        assert_ne!(answer.text(), Answer::new(7, 2, &limits(50)).text());
        assert_eq!(answer.piece(3), &answer.text()[12..16]);
    }

    #[test]
    fn the_words_of_a_seed_never_change() {
        assert_eq!(Answer::new(0, 0, &limits(4)).text(), "dnh dxk fmr bxc ");
    }

    #[test]
    fn lengths_are_geometric_with_mean_one_over_p() {
        let lengths = (0..20_000_u64).map(|prompt| {
            let limits = Limits { eos_probability: 0.02, ..limits(100_000) };
            f64::from(Answer::new(mix(prompt), 0, &limits).tokens)
        });
        let mean = lengths.sum::<f64>() / 20_000.0;
        assert!((mean - 50.0).abs() < 3.0 * 50.0 / 20_000_f64.sqrt(), "{mean}");
    }

    #[test]
    fn an_answer_that_ends_by_itself_keeps_to_its_bounds() {
        for p in [0.5, 1.0] {
            let answer = Answer::new(1, 0, &Limits { eos_probability: p, min_tokens: 30, ..limits(100) });
            assert!((30..100).contains(&answer.tokens) && answer.finish == Finish::End);
        }
        let cut = Answer::new(1, 0, &Limits { eos_probability: 1e-9, ..limits(10) });
        assert_eq!((cut.tokens, cut.finish), (10, Finish::Length));
    }

    #[test]
    fn a_stop_string_cuts_text_and_is_never_shown_in_part() {
        let whole = Answer::new(3, 0, &limits(40));
        let stop = &whole.text()[18..25]; // over three tokens: 4, 5 and 6
        let asked = Limits { stop: vec!["???".to_owned(), stop.to_owned()], ..limits(40) };
        let answer = Answer::new(3, 0, &asked);
        assert_eq!((answer.tokens, &answer.finish), (7, &Finish::Stop(stop.to_owned())));
        assert_eq!(answer.text(), &whole.text()[..18]);
        assert_eq!(pieces(&answer), answer.text());
        let kept = Answer::new(3, 0, &Limits { include_stop: true, ..asked.clone() });
        assert_eq!((kept.text(), pieces(&kept).len()), (&whole.text()[..25], 25));
        let later = Answer::new(3, 0, &Limits { min_tokens: 7, ..asked });
        assert_eq!(later.tokens, 40);
    }
}
