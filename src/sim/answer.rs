//! What the simulated model answers: words of four ASCII bytes, one per token. Each follows from the seed and
//! everything before it, prompt and answer alike, so that an answer can be foretold, and a prompt with the
//! beginning of its answer behind it is answered with the rest. Pure. Deliberately absent: meaning.

use super::prompt::{mix, token_ids};

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
    /// The answer to the prompt with hash `prompt`, see [`super::prompt::Prompt::hash`].
    pub fn new(prompt: u64, seed: u64, limits: &Limits) -> Self {
        let (mut state, mut tokens, mut ends) = (prompt, 0, false);
        let mut text = String::with_capacity(4 * limits.max_tokens.min(4096) as usize);
        while tokens < limits.max_tokens && !ends {
            let from = text.len();
            text.extend(word(mix(state ^ mix(seed))));
            state = token_ids(&text[from..]).fold(state, |state, id| mix(state ^ u64::from(id)));
            tokens += 1;
            ends = limits.min_tokens <= tokens && uniform(mix(state ^ mix(!seed))) < limits.eos_probability;
        }
        let ends = ends || limits.ends_by_itself;
        let finish = if ends { Finish::End } else { Finish::Length };
        let mut answer = Self { tokens, finish, text, held_back: 0 };
        if !limits.stop.is_empty() {
            answer.stop(limits);
        }
        answer
    }

    /// The id of its first token.
    pub fn first_id(prompt: u64, seed: u64) -> u32 {
        let first: String = word(mix(prompt ^ mix(seed))).into_iter().collect();
        token_ids(&first).next().unwrap_or_default()
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

/// Uniform in [0, 1): the upper 53 bits.
fn uniform(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1_u64 << 53) as f64
}

/// Three letters and a space.
fn word(draw: u64) -> [char; 4] {
    let letter = |n: u64| char::from(b'a' + (n % 26) as u8);
    [letter(draw), letter(draw / 26), letter(draw / 676), ' ']
}

#[cfg(test)]
mod tests {
    use super::super::prompt::Prompt;
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
        assert_eq!(Answer::new(0, 0, &limits(4)).text(), "bdu cng ajb hhk ");
    }

    #[test]
    fn a_prompt_with_the_beginning_of_its_answer_is_answered_with_the_rest() {
        let ends = Limits { eos_probability: 0.01, min_tokens: 2, ..limits(300) };
        for seed in 0..20 {
            let prompt = Prompt::from_text("an even beginning, long enough", 16);
            let whole = Answer::new(prompt.hash, seed, &ends);
            let first = Answer::first_id(prompt.hash, seed);
            let ids = token_ids("an even beginning, long enough").chain([first]);
            let longer = Prompt::from_ids(ids, 16);
            let shorter = Limits { max_tokens: 299, min_tokens: 1, ..ends.clone() };
            let rest = Answer::new(longer.hash, seed, &shorter);
            assert_eq!(rest.text(), &whole.text()[4..]);
            assert_eq!(rest.finish, whole.finish);
        }
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
