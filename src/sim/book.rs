//! What the simulated model knows beside its words: questions with worked answers. To a question that it knows it
//! gives the book's answer, right or wrong, in the shapes that models give; which one follows from the whole prompt
//! and the seed. Pure.

use super::prompt::{mix, uniform, word};
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt;

/// Questions, each with a worked answer, and how often the model gets one right.
#[derive(Clone, Debug, PartialEq)]
pub struct Book {
    entries: Vec<Entry>,
    /// By trimmed question. Never iterated: its order is not deterministic.
    found: HashMap<String, u32>,
    right: f64,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    question: String,
    /// The worked answer without the number.
    rationale: String,
    /// What stands behind `####`; empty where nothing does.
    number: String,
}

/// A line that holds no question with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for BookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for BookError {}

/// What the model says to a prompt that means something to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Saying {
    pub text: String,
    /// Bytes of it that lead up to what is asked for: where KV is damaged the answer departs within them.
    pub open: usize,
}

/// Which number an answer gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// The book's, as often as the model is right; else another.
    Drawn,
    /// Another than the book's.
    Wrong,
}

const RIGHT: u64 = u64::from_be_bytes(*b"right   "); // draws for different ends differ
const SHAPE: u64 = u64::from_be_bytes(*b"shape   ");
const SLIP: u64 = u64::from_be_bytes(*b"slip    ");

impl Book {
    /// A book of questions and worked answers that end in `#### N`. An answer to one of them has the number N with
    /// probability `right`, from 0 to 1. Of equal questions the first counts.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>, right: f64) -> Self {
        let (mut entries, mut found) = (Vec::new(), HashMap::new());
        for (question, answer) in pairs {
            let (rationale, number) = answer.rsplit_once("####").unwrap_or((&answer, ""));
            found.entry(question.trim().to_owned()).or_insert(entries.len() as u32);
            entries.push(Entry {
                question: question.trim().to_owned(),
                rationale: rationale.trim().to_owned(),
                number: number.trim().to_owned(),
            });
        }
        Self { entries, found, right }
    }

    /// A book from lines of JSON, `{"question": "…", "answer": "… #### 7"}`; other keys are not looked at, and empty
    /// lines neither.
    ///
    /// # Errors
    /// The first line that is something else, or that no line holds a question.
    pub fn parse(lines: &[u8], right: f64) -> Result<Self, BookError> {
        let mut pairs = Vec::new();
        for (index, line) in lines.split(|byte| *byte == b'\n').enumerate() {
            if !line.trim_ascii().is_empty() {
                pairs.push(pair(line).map_err(|why| BookError { line: index + 1, why })?);
            }
        }
        match pairs.is_empty() {
            true => Err(BookError { line: 1, why: "no question in the whole file".to_owned() }),
            false => Ok(Self::new(pairs, right)),
        }
    }

    /// How many different questions it has.
    pub fn questions(&self) -> usize {
        self.found.len()
    }

    /// How often the model is right, from 0 to 1.
    pub fn right(&self) -> f64 {
        self.right
    }

    /// The question that `text` is, apart from space around it.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        self.found.get(text.trim()).copied()
    }

    /// What the model says to question `index` in a prompt with hash `prompt`.
    pub(super) fn saying(&self, index: u32, prompt: u64, seed: u64, number: Number) -> Saying {
        let entry = &self.entries[index as usize];
        let draw = |what: u64| mix(prompt ^ mix(seed ^ what));
        let right = number == Number::Drawn && uniform(draw(RIGHT)) < self.right;
        let said = match (right, number) {
            (true, _) => entry.number.clone(),
            (false, Number::Drawn) => another(&entry.number, draw(SLIP)),
            (false, Number::Wrong) => another(&entry.number, draw(!SLIP)),
        };
        let mut text = entry.rationale.clone();
        let open = text.len();
        let sixteenth = draw(SHAPE) % 16;
        text += &match sixteenth {
            _ if said.is_empty() => String::new(),
            0 => format!("\n#### ${said}"),
            1 | 2 => format!(" The answer is {said}."),
            _ => format!("\n#### {said}"),
        };
        if sixteenth == 3 {
            let next = &self.entries[(index as usize + 1) % self.entries.len()];
            let Entry { question, rationale, number } = next;
            text += &format!("\n\nQuestion: {question}\nAnswer: {rationale}\n#### {number}");
        }
        Saying { text, open }
    }
}

impl Saying {
    /// A text that leads up to nothing behind it.
    pub fn of(text: String) -> Self {
        Self { open: text.len(), text }
    }

    /// Without its first token.
    pub fn rest(self) -> Self {
        let first = token_end(&self.text, 1);
        Self { text: self.text[first..].to_owned(), open: self.open.saturating_sub(first) }
    }

    /// Made-up words from token `from` on, up to what was led up to; they follow from `state`.
    pub fn depart(self, from: u32, mut state: u64) -> Self {
        let Self { text, open } = self;
        let cut = token_end(&text, from).min(open);
        let mut departed = text[..cut].to_owned();
        while departed.len() < open.max(cut + 1) {
            state = mix(state);
            let next: String = word(state).into_iter().collect();
            // The first word that is made up is another than the one in its place.
            if cut < departed.len() || !text[cut..].starts_with(&next) {
                departed += &next;
            }
        }
        let open_now = departed.len();
        Self { text: departed + &text[open..], open: open_now }
    }
}

/// Where the first `tokens` tokens of `text` end: at four bytes each, or before a character that goes on.
pub(super) fn token_end(text: &str, tokens: u32) -> usize {
    text.floor_char_boundary((tokens as usize).saturating_mul(4))
}

fn pair(line: &[u8]) -> Result<(String, String), String> {
    #[derive(Deserialize)]
    struct Line {
        question: String,
        answer: String,
    }
    let Line { question, answer } = serde_json::from_slice(line).map_err(|error| placeless(&error))?;
    if question.trim().is_empty() {
        return Err("its question is empty".to_owned());
    }
    match answer.rsplit_once("####") {
        Some((_, number)) if !number.trim().is_empty() => Ok((question, answer)),
        _ => Err("its answer does not end in #### and a number".to_owned()),
    }
}

/// What serde_json says, its place as a column alone: the line is always its first.
fn placeless(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column", " at column")
}

/// A number near `number` that it is not.
fn another(number: &str, draw: u64) -> String {
    let plain: String = number.chars().filter(|c| !matches!(c, ',' | '$')).collect();
    let step = (draw % 9 + 1) as i64;
    let down = draw >> 32 & 1 == 0;
    if let Ok(whole) = plain.parse::<i64>() {
        // A count of things stays one.
        let less = whole.checked_sub(step).filter(|less| down && (whole < 0 || 0 <= *less));
        let other = less.or(whole.checked_add(step)).unwrap_or(whole - step);
        return other.to_string();
    }
    match plain.parse::<f64>() {
        Ok(part) if part.is_finite() => (part + step as f64).to_string(),
        _ => step.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(right: f64) -> Book {
        let pairs =
            (0..50).map(|n| (format!("How many are {n} and 1? "), format!("{n} + 1 = {0}\n#### {0}", n + 1)));
        Book::new(pairs, right)
    }

    /// The number that `text` gives.
    fn given(text: &str) -> i64 {
        let text = text.split("\n\nQuestion:").next().unwrap();
        let tail = text.rsplit([' ', '$']).next().unwrap();
        tail.trim_end_matches('.').parse().unwrap()
    }

    #[test]
    fn questions_are_found_by_their_trimmed_text() {
        let book = book(1.0);
        assert_eq!((book.questions(), book.right()), (50, 1.0));
        assert_eq!(
            (book.find("\nHow many are 3 and 1?  "), book.find("How many are 50 and 1?")),
            (Some(3), None)
        );
    }

    #[test]
    fn answers_are_right_as_often_as_asked_for_and_the_same_each_time() {
        let book = book(0.8);
        let n = 4000_u64;
        let right = (0..n).filter(|prompt| {
            let saying = book.saying(7, mix(*prompt), 1, Number::Drawn);
            assert_eq!(saying, book.saying(7, mix(*prompt), 1, Number::Drawn));
            given(&saying.text) == 8
        });
        let share = right.count() as f64 / n as f64;
        assert!((share - 0.8).abs() < 3.0 * (0.8 * 0.2 / n as f64).sqrt(), "{share}");
        assert!((0..n).all(|prompt| given(&book.saying(7, mix(prompt), 1, Number::Wrong).text) != 8));
    }

    #[test]
    fn answers_have_a_few_shapes() {
        let count = |sign: &str| {
            let said = (0..1600).map(|prompt| book(1.0).saying(4, mix(prompt), 0, Number::Drawn).text);
            said.filter(|text| text.contains(sign)).count()
        };
        for (sign, sixteenths) in
            [("#### $5", 1), (" The answer is 5.", 2), ("\n\nQuestion: How many are 5", 1)]
        {
            assert!((60 * sixteenths..140 * sixteenths).contains(&count(sign)), "{sign}");
        }
        assert!(1200 < count("4 + 1 = 5\n#### 5"));
    }

    #[test]
    fn another_number_is_another_number() {
        for number in ["0", "3", "1,234", "$18", "2.5", "-4", "yes", "9223372036854775807"] {
            for draw in (0..200).map(mix) {
                let other = another(number, draw);
                assert!(other != number && !other.contains(','), "{number} {other}");
                assert!(
                    number.starts_with('-') || !other.starts_with('-') || number == "2.5",
                    "{number} {other}"
                );
            }
        }
        assert_eq!((another("1,234", 0), another("0", 0)), ("1233".to_owned(), "1".to_owned()));
    }

    #[test]
    fn a_departure_keeps_what_is_before_it_and_what_is_behind_it() {
        let text = "ten words and then some\n#### 7";
        let saying = Saying { text: text.to_owned(), open: 23 };
        for from in 0..6 {
            let departed = saying.clone().depart(from, 9);
            let cut = from as usize * 4;
            assert_eq!(departed.text[..cut], text[..cut]);
            assert_ne!(departed.text[cut..cut + 3], text[cut..cut + 3]);
            assert!(departed.text.ends_with("\n#### 7") && (23..27).contains(&departed.open));
        }
        assert_ne!(Saying::of(String::new()).depart(0, 1).text, "");
    }

    #[test]
    fn a_departure_is_another_word_even_where_the_next_one_is_the_same() {
        let same: String = word(mix(9)).into_iter().collect();
        let departed = Saying::of(same.clone()).depart(0, 9);
        assert_ne!(departed.text[..4], same);
    }

    #[test]
    fn tokens_end_before_a_character_that_goes_on() {
        let text = "aé€😀b";
        let ends: Vec<_> = (0..5).map(|tokens| token_end(text, tokens)).collect();
        assert_eq!(ends, [0, 3, 6, 11, 11]);
    }

    #[test]
    fn a_line_that_is_no_question_is_named() {
        let good = r#"{"question":"a","answer":"b #### 1","id":3}"#;
        assert_eq!(Book::parse(format!("{good}\n\r\n{good}").as_bytes(), 0.5).unwrap().questions(), 1);
        for (bad, says) in [
            ("{", "EOF while parsing an object at column 1"),
            (r#"{"question":"a"}"#, "missing field `answer`"),
            (r#"{"question":" ","answer":"b #### 1"}"#, "question is empty"),
            (r#"{"question":"a","answer":"b"}"#, "does not end in ####"),
            (r#"{"question":"a","answer":"b ####"}"#, "does not end in ####"),
        ] {
            let error = Book::parse(format!("{good}\n{bad}").as_bytes(), 0.5).unwrap_err();
            assert_eq!(error.line, 2);
            assert!(error.why.contains(says), "{error}");
        }
        assert_eq!(Book::parse(b"\n", 0.5).unwrap_err().to_string(), "line 1: no question in the whole file");
    }
}
