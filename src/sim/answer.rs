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
mod tests {
    use super::super::book::Book;
    use super::super::known::{Asked, Known};
    use super::*;
    use std::sync::Arc;

    fn limits(max_tokens: u32) -> Limits {
        Limits { max_tokens, ..Limits::default() }
    }

    fn said(hash: u64, seed: u64, limits: &Limits) -> Answer {
        let prompt = Prompt { hash, ..Prompt::from_text("", 16) };
        Answer::new(&prompt, &Config { seed, ..Config::default() }, limits)
    }

    fn pieces(answer: &Answer) -> String {
        (0..answer.tokens).map(|index| answer.piece(index)).collect()
    }

    #[test]
    fn an_answer_is_four_bytes_a_token_and_the_same_each_time() {
        let answer = said(7, 1, &limits(50));
        assert_eq!((answer.text().len(), answer.tokens, &answer.finish), (200, 50, &Finish::Length));
        assert_eq!(answer.text(), said(7, 1, &limits(50)).text());
        assert_ne!(answer.text(), said(8, 1, &limits(50)).text());
        assert_ne!(answer.text(), said(7, 2, &limits(50)).text());
        assert_eq!(answer.piece(3), &answer.text()[12..16]);
    }

    #[test]
    fn the_words_of_a_seed_never_change() {
        assert_eq!(said(0, 0, &limits(4)).text(), "bdu cng ajb hhk ");
    }

    #[test]
    fn a_prompt_with_the_beginning_of_its_answer_is_answered_with_the_rest() {
        let ends = Limits { eos_probability: 0.01, min_tokens: 2, ..limits(300) };
        for seed in 0..20 {
            let config = Config { seed, ..Config::default() };
            let prompt = Prompt::from_text("an even beginning, long enough", 16);
            let whole = Answer::new(&prompt, &config, &ends);
            let first = Answer::first_id(&prompt, &config);
            let ids = token_ids("an even beginning, long enough").chain([first]);
            let longer = Prompt::from_ids(ids, 16);
            let shorter = Limits { max_tokens: 299, min_tokens: 1, ..ends.clone() };
            let rest = Answer::new(&longer, &config, &shorter);
            assert_eq!(rest.text(), &whole.text()[4..]);
            assert_eq!(rest.finish, whole.finish);
        }
    }

    #[test]
    fn lengths_are_geometric_with_mean_one_over_p() {
        let lengths = (0..20_000_u64).map(|prompt| {
            let limits = Limits { eos_probability: 0.02, ..limits(100_000) };
            f64::from(said(mix(prompt), 0, &limits).tokens)
        });
        let mean = lengths.sum::<f64>() / 20_000.0;
        assert!((mean - 50.0).abs() < 3.0 * 50.0 / 20_000_f64.sqrt(), "{mean}");
    }

    #[test]
    fn an_answer_that_ends_by_itself_keeps_to_its_bounds() {
        for p in [0.5, 1.0] {
            let answer = said(1, 0, &Limits { eos_probability: p, min_tokens: 30, ..limits(100) });
            assert!((30..100).contains(&answer.tokens) && answer.finish == Finish::End);
        }
        let cut = said(1, 0, &Limits { eos_probability: 1e-9, ..limits(10) });
        assert_eq!((cut.tokens, cut.finish), (10, Finish::Length));
    }

    #[test]
    fn a_stop_string_cuts_text_and_is_never_shown_in_part() {
        let whole = said(3, 0, &limits(40));
        let stop = &whole.text()[18..25]; // over three tokens: 4, 5 and 6
        let asked = Limits { stop: vec!["???".to_owned(), stop.to_owned()], ..limits(40) };
        let answer = said(3, 0, &asked);
        assert_eq!((answer.tokens, &answer.finish), (7, &Finish::Stop(stop.to_owned())));
        assert_eq!(answer.text(), &whole.text()[..18]);
        assert_eq!(pieces(&answer), answer.text());
        let kept = said(3, 0, &Limits { include_stop: true, ..asked.clone() });
        assert_eq!((kept.text(), pieces(&kept).len()), (&whole.text()[..25], 25));
        let later = said(3, 0, &Limits { min_tokens: 7, ..asked });
        assert_eq!(later.tokens, 40);
    }

    const ANSWER: &str = "Each day Zoë sells 3 × 4 = 12 “big” eggs — that is 12 € a day, so much for that.";

    fn known(right: f64) -> (Prompt, Config) {
        let book = Book::new([("How many?".to_owned(), format!("{ANSWER}\n#### 12"))], right);
        let text = "Question: How many?\nAnswer:";
        let known = Known::of(text, Asked::BehindMarker, Some(&book));
        assert!(known.is_some());
        let config = Config { book: Some(Arc::new(book)), ..Config::default() };
        (Prompt { known, ..Prompt::from_text(text, 16) }, config)
    }

    #[test]
    fn a_known_question_is_answered_in_whole_characters() {
        let (prompt, mut config) = known(1.0);
        for seed in 0..40 {
            config.seed = seed;
            let answer = Answer::new(&prompt, &config, &limits(400));
            assert!(answer.text().starts_with(ANSWER) && answer.text()[ANSWER.len()..].contains("12"));
            assert_eq!(
                (answer.tokens as usize, &answer.finish),
                (answer.text().len().div_ceil(4), &Finish::End)
            );
            assert_eq!(pieces(&answer), answer.text());
            for asked in [1, 3, 17] {
                let cut = Answer::new(&prompt, &config, &limits(asked));
                assert_eq!(
                    (cut.tokens, &cut.finish, pieces(&cut)),
                    (asked, &Finish::Length, cut.text().to_owned())
                );
                assert!(answer.text().starts_with(cut.text()) && asked as usize * 4 <= cut.text().len() + 3);
            }
            for stop in ["so m", "€", "12 “b"] {
                let asked = Limits { stop: vec![stop.to_owned()], ..limits(400) };
                let stopped = Answer::new(&prompt, &config, &asked);
                assert_eq!(stopped.text(), &answer.text()[..answer.text().find(stop).unwrap()]);
                assert_eq!(
                    (pieces(&stopped), &stopped.finish),
                    (stopped.text().to_owned(), &Finish::Stop(stop.to_owned()))
                );
            }
        }
    }

    #[test]
    fn a_known_answer_goes_on_in_words_where_it_may_not_end() {
        let (prompt, config) = known(1.0);
        let whole = Answer::new(&prompt, &config, &limits(400));
        let on = Answer::new(&prompt, &config, &Limits { ignore_eos: true, ..limits(99) });
        assert_eq!((on.tokens, &on.finish, on.text().starts_with(whole.text())), (99, &Finish::Length, true));
        assert_eq!(pieces(&on), on.text());
        let least = Answer::new(&prompt, &config, &Limits { min_tokens: 60, ..limits(99) });
        assert_eq!((least.tokens, &least.finish), (60, &Finish::End));
        // A chat without a limit may be longer than other answers are.
        let chat = Limits { ends_by_itself: true, room: 500, ..limits(5) };
        assert_eq!(Answer::new(&prompt, &config, &chat).text(), whole.text());
        let tight = Answer::new(&prompt, &config, &Limits { room: 7, ..chat });
        assert_eq!((tight.tokens, tight.finish), (7, Finish::Length));
    }

    #[test]
    fn a_known_answer_is_taken_up_behind_its_first_token() {
        let (prompt, config) = known(0.5);
        let whole = Answer::new(&prompt, &config, &limits(400));
        let ids = token_ids("Question: How many?\nAnswer:").chain([Answer::first_id(&prompt, &config)]);
        let longer = Prompt { known: prompt.known.clone(), begun: true, ..Prompt::from_ids(ids, 16) };
        let rest = Answer::new(&longer, &config, &limits(399));
        assert_eq!(
            (format!("{}{}", whole.token(0), rest.text()), rest.finish),
            (whole.text().to_owned(), Finish::End)
        );
    }

    #[test]
    fn a_damaged_answer_departs_at_the_token_that_was_drawn() {
        let (known, config) = known(1.0);
        let (words, recital) = (Prompt::from_text("anything else", 16), Known::Code("A-17-BRAVO".into()));
        let recital = Prompt { known: Some(recital), ..words.clone() };
        for prompt in [known, words, recital] {
            let right = Answer::new(&prompt, &config, &limits(40));
            let mut at_once = 0;
            for draw in (0..400).map(mix) {
                let (wrong, from) = Answer::damaged(&prompt, &config, &limits(40), draw);
                let same = (0..from).all(|index| right.token(index) == wrong.token(index));
                assert!(same && right.token(from) != wrong.token(from), "{from} {}", wrong.text());
                assert_eq!(wrong.finish, right.finish);
                let number =
                    wrong.text().rsplit(['#', ' ']).find(|end| end.contains(|c: char| c.is_ascii_digit()));
                assert!(
                    number.is_none_or(|number| number.trim_matches(['$', '.']) != "12"),
                    "{}",
                    wrong.text()
                );
                at_once += u32::from(from == 0);
            }
            assert!((170..230).contains(&at_once) || right.tokens < 4, "{at_once}");
        }
    }
}
