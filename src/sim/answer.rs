//! What the simulated model answers: words of four ASCII bytes, one per token. Each follows from the seed and
//! everything before it, prompt and answer alike, so that an answer can be foretold, and a prompt with the
//! beginning of its answer behind it is answered with the rest. What the prompt means to the model goes before the
//! words: see [`super::known`]. Pure.

use super::Config;
use super::book::{Number, token_end};
use super::prompt::{Prompt, mix, token_ids, uniform, word};

/// What a request allows its answer to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    /// Most output tokens, at least 1.
    pub max_tokens: u32,
    /// True when the answer ends by itself at `max_tokens`: nothing in the request limited it.
    pub ends_by_itself: bool,
    /// Most output tokens that the model has room for.
    pub room: u32,
    /// No stop string and no end before this many tokens.
    pub min_tokens: u32,
    /// Whether an answer that is over goes on.
    pub ignore_eos: bool,
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
    /// Four bytes per token, or up to three less for the sake of a character.
    text: String,
    /// Bytes of it up to where a stop string cuts.
    shown: usize,
    /// Bytes held back while streaming, so that a stop string is never shown in part.
    held_back: usize,
}

/// Where an answer leaves the right one, and what it then says follows from.
#[derive(Clone, Copy, Debug)]
struct Departure {
    from: u32,
    draw: u64,
}

const ASTRAY: u64 = u64::from_be_bytes(*b"astray  "); // another draw than the words'

impl Answer {
    /// The answer to `prompt`.
    pub fn new(prompt: &Prompt, config: &Config, limits: &Limits) -> Self {
        Self::make(prompt, config, limits, None)
    }

    /// The answer to `prompt` from KV that is damaged, by `draw`: other words from a token on, which is the first
    /// in half of all cases, and another number at the end; and the number of that token, from 0.
    pub fn damaged(prompt: &Prompt, config: &Config, limits: &Limits, draw: u64) -> (Self, u32) {
        let right = Self::new(prompt, config, limits);
        let open = prompt
            .saying(config, Number::Wrong)
            .map_or(u32::MAX, |saying| count(&saying.text[..saying.open]));
        let open = u64::from(open.min(right.tokens));
        let from = if draw & 1 == 0 || open < 2 { 0 } else { 1 + ((draw >> 1) % (open - 1)) as u32 };
        let wrong = Self::make(prompt, config, limits, Some(Departure { from, draw }));
        // A character that is left out can take the token before with it.
        let differs = (0..right.tokens).find(|index| right.token(*index) != wrong.token(*index));
        (wrong, differs.unwrap_or(from))
    }

    fn make(prompt: &Prompt, config: &Config, limits: &Limits, departure: Option<Departure>) -> Self {
        let seed = mix(config.seed);
        let number = if departure.is_some() { Number::Wrong } else { Number::Drawn };
        let saying = prompt.saying(config, number).map(|saying| match departure {
            Some(Departure { from, draw }) => saying.depart(from, draw),
            None => saying,
        });
        let (said, mut text) = (saying.is_some(), saying.map_or_else(String::new, |saying| saying.text));
        let mut most = limits.max_tokens;
        if said && limits.ends_by_itself {
            most = count(&text).max(most).min(limits.room);
        }
        let whole = count(&text) <= most;
        text.truncate(token_end(&text, most));
        let mut tokens = count(&text);
        let mut state = (0..tokens).fold(prompt.hash, |state, index| follow(state, token(&text, index)));
        let over = |tokens| said && !limits.ignore_eos && limits.min_tokens <= tokens;
        let mut ends = whole && over(tokens);
        text.reserve(4 * (most - tokens).min(4096) as usize);
        while tokens < most && !ends {
            if let Some(Departure { draw, .. }) =
                departure.filter(|departure| !said && departure.from == tokens)
            {
                state = astray(state, seed, draw);
            }
            let from = text.len();
            text.extend(word(mix(state ^ seed)));
            state = follow(state, &text[from..]);
            tokens += 1;
            ends = over(tokens)
                || limits.min_tokens <= tokens
                    && uniform(mix(state ^ mix(!config.seed))) < limits.eos_probability;
        }
        let finish = match ends || limits.ends_by_itself && whole {
            true => Finish::End,
            false => Finish::Length,
        };
        let mut answer = Self { tokens: tokens.max(1), finish, shown: text.len(), text, held_back: 0 };
        if !limits.stop.is_empty() {
            answer.stop(limits);
        }
        answer
    }

    /// The id of its first token.
    pub fn first_id(prompt: &Prompt, config: &Config) -> u32 {
        let one = Limits { max_tokens: 1, ..Limits::default() };
        token_ids(Self::new(prompt, config, &one).token(0)).next().unwrap_or_default()
    }

    /// The text of the whole answer.
    pub fn text(&self) -> &str {
        &self.text[..self.shown]
    }

    /// Token `index`, shown or not.
    pub fn token(&self, index: u32) -> &str {
        token(&self.text, index)
    }

    /// What the event of token `index` adds to the text; may be empty while text is held back.
    pub fn piece(&self, index: u32) -> &str {
        let shown = |tokens: u32| match tokens {
            all if self.tokens <= all => self.shown,
            some => {
                let there = token_end(&self.text, some).saturating_sub(self.held_back).min(self.shown);
                self.text.floor_char_boundary(there)
            }
        };
        &self.text[shown(index)..shown(index + 1)]
    }

    /// Cuts the answer at the first stop string, as vLLM does: looked for after each token past
    /// `min_tokens`, in the order of the request.
    fn stop(&mut self, limits: &Limits) {
        let longest = limits.stop.iter().map(String::len).max().unwrap_or_default();
        self.held_back = if limits.include_stop { 0 } else { longest.saturating_sub(1) };
        for tokens in limits.min_tokens + 1..=self.tokens {
            let (begin, end) = (token_end(&self.text, tokens - 1), token_end(&self.text, tokens));
            let met = limits.stop.iter().find_map(|stop| {
                let from = self.text.floor_char_boundary((begin + 1).saturating_sub(stop.len()));
                Some((from + self.text[from..end].find(stop.as_str())?, stop))
            });
            if let Some((at, stop)) = met {
                self.tokens = tokens;
                self.finish = Finish::Stop(stop.clone());
                self.text.truncate(end);
                self.shown = if limits.include_stop { at + stop.len() } else { at };
                return;
            }
        }
    }
}

/// Tokens of a text.
fn count(text: &str) -> u32 {
    text.len().div_ceil(4) as u32
}

fn token(text: &str, index: u32) -> &str {
    &text[token_end(text, index)..token_end(text, index + 1)]
}

/// What comes after `text`, which came after `state`, follows from this.
pub(super) fn follow(state: u64, text: &str) -> u64 {
    token_ids(text).fold(state, |state, id| mix(state ^ u64::from(id)))
}

/// Another state than `state`, with another next word.
fn astray(state: u64, seed: u64, draw: u64) -> u64 {
    let right = word(mix(state ^ seed));
    let mut others = (0..).map(|turn| mix(state ^ mix(draw ^ ASTRAY ^ turn)));
    others.find(|other| word(mix(other ^ seed)) != right).unwrap_or(!state)
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
