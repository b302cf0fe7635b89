//! What of a prompt means something to the simulated model: a question that its book has, or the wish to hear a code
//! again that the prompt holds. Pure.

use super::Config;
use super::answer::Answer;
use super::book::{Book, Number, Saying};
use super::prompt::{Prompt, mix};
use crate::runtime::lock;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

/// What a prompt asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// This question of the book.
    Question(u32),
    /// `Archive CODE.` … `Its code is:`
    Code(Arc<str>),
}

/// How much of a chat or a completion is the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// What stands behind the last marker.
    BehindMarker,
    /// That, or all of it: it is what the user said last.
    Whole,
}

const MARKERS: [&str; 3] = ["Question:", "Q:", "Problem:"];

impl Known {
    /// What `text` asks, if it means something.
    pub fn of(text: &str, asked: Asked, book: Option<&Book>) -> Option<Self> {
        let text = text.trim_end();
        if let Some(code) = code(text) {
            return Some(Self::Code(code.into()));
        }
        let book = book?;
        let mut starts: Vec<usize> =
            MARKERS.iter().filter_map(|marker| Some(text.rfind(marker)? + marker.len())).collect();
        starts.extend((asked == Asked::Whole).then_some(0));
        starts.sort_unstable_by(|a, b| b.cmp(a));
        // The line that ends the prompt asks for the answer, unless all of it is the question.
        let questions = starts.iter().flat_map(|start| {
            let rest = &text[*start..];
            [rest.rsplit_once('\n').map(|(question, _)| question), Some(rest)]
        });
        questions.flatten().find_map(|question| book.find(question)).map(Self::Question)
    }
}

impl Prompt {
    /// What is said to it; `None` where it means nothing.
    pub fn saying(&self, config: &Config, number: Number) -> Option<Saying> {
        let asked = if self.begun { self.before_last } else { self.hash };
        let saying = match self.known.as_ref()? {
            Known::Code(code) => Saying::of(format!(" {code}.")),
            Known::Question(index) => config.book.as_ref()?.saying(*index, asked, config.seed, number),
        };
        Some(if self.begun { saying.rest() } else { saying })
    }
}

/// The code of the first `Archive CODE.` in a text that ends by asking for it.
fn code(text: &str) -> Option<&str> {
    let before = text.strip_suffix("Its code is:")?;
    before.split("Archive ").skip(1).find_map(|rest| {
        let (code, _) = rest.split_once('.')?;
        let plain = code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (plain && !code.is_empty()).then_some(code)
    })
}

/// Prompts that a cluster made into token ids, and what they ask: ids alone do not tell. The oldest are forgotten.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// By the prompt's hash. Never iterated.
    known: HashMap<u64, Known>,
    order: VecDeque<u64>,
}

/// Prompts that are remembered.
const MOST: usize = 1 << 16;

impl Memory {
    /// Keeps what the prompt with `hash` asks.
    pub fn remember(&self, hash: u64, known: Known) {
        let mut kept = lock(&self.0);
        if kept.known.insert(hash, known).is_none() {
            kept.order.push_back(hash);
            let oldest = if MOST < kept.order.len() { kept.order.pop_front() } else { None };
            oldest.and_then(|oldest| kept.known.remove(&oldest));
        }
    }

    /// `prompt` with what it asks, if it, or all of it but the answer's first token, is remembered.
    pub fn recall(&self, prompt: Prompt, config: &Config) -> Prompt {
        if prompt.known.is_some() {
            return prompt;
        }
        if let Some(known) = self.find(prompt.hash) {
            return Prompt { known: Some(known), ..prompt };
        }
        let Some(known) = self.find(prompt.before_last) else { return prompt };
        let asked = Prompt { known: Some(known), hash: prompt.before_last, ..prompt.clone() };
        let first = Answer::first_id(&asked, config);
        match mix(prompt.before_last ^ u64::from(first)) == prompt.hash {
            true => Prompt { hash: prompt.hash, begun: true, ..asked },
            false => prompt,
        }
    }

    fn find(&self, hash: u64) -> Option<Known> {
        lock(&self.0).known.get(&hash).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> Book {
        let question = |text: &str| (text.to_owned(), "Because.\n#### 4".to_owned());
        Book::new(["How many?", "Two lines:\nhow many?", "A Q: in it?", "Last?"].map(question), 1.0)
    }

    fn question(text: &str, asked: Asked) -> Option<u32> {
        match Known::of(text, asked, Some(&book())) {
            Some(Known::Question(index)) => Some(index),
            None => None,
            Some(Known::Code(code)) => panic!("{code}"),
        }
    }

    #[test]
    fn a_question_is_what_stands_behind_the_last_marker() {
        for (text, index) in [
            ("Question: Last?\nAnswer: x\n#### 1\n\nQuestion: How many?\nAnswer:", Some(0)),
            ("Q: Two lines:\nhow many?\nA: Let's think step by step.", Some(1)),
            ("Question: A Q: in it?\nAnswer:", Some(2)),
            ("Given this.\nProblem: Last?\nEnd with \"The answer is\".\n", Some(3)),
            ("Question: How many?", Some(0)),
            ("Question: How few?\nAnswer:", None),
            ("How many?", None),
            ("", None),
        ] {
            assert_eq!(question(text, Asked::BehindMarker), index, "{text}");
        }
        assert_eq!(Known::of("Question: How many?\nAnswer:", Asked::BehindMarker, None), None);
    }

    #[test]
    fn all_that_a_user_says_may_be_the_question() {
        for (text, index) in [
            (" How many?\n", Some(0)),
            ("Two lines:\nhow many?\nThink.", Some(1)),
            ("Question: Last?", Some(3)),
            ("Hm?", None),
        ] {
            assert_eq!(question(text, Asked::Whole), index, "{text}");
        }
    }

    #[test]
    fn the_first_code_is_recited() {
        let first = "Archives. Archive of them. Archive A-1x. Archive B-2. Its code is:";
        for (text, code) in [
            (first, Some("A-1x")),
            ("Archive 7.\nIts code is: \n", Some("7")),
            ("Archive A-1. Its code is:", Some("A-1")),
            ("Archive A-1. Its code is: A", None),
            ("Archive A 1. Its code is:", None),
            ("Archive . Its code is:", None),
            ("Its code is:", None),
        ] {
            let known = code.map(|code| Known::Code(code.into()));
            assert_eq!(Known::of(text, Asked::BehindMarker, None), known, "{text}");
        }
    }

    #[test]
    fn what_was_remembered_first_is_forgotten_first() {
        let memory = Memory::default();
        for hash in 0..=MOST as u64 {
            memory.remember(hash, Known::Question(hash as u32));
        }
        assert_eq!((memory.find(0), memory.find(1)), (None, Some(Known::Question(1))));
    }
}
