//! The pieces that a tokenizer's pattern cuts a text into, by a scan that knows the pattern, not by a regular
//! expression. Only a few patterns are known; of them, every piece is the one that the expression matches.

/// A pattern that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// That of GPT-2, which the pre-tokenizer `ByteLevel` has built in.
    Gpt2,
    /// That of OpenAI's cl100k and those derived from it.
    Words {
        /// Most digits of a piece.
        digits: usize,
    },
}

/// Known patterns as tokenizers have them: those of Llama 3, of Qwen 2 and 3, of cl100k, of GPT-2. The first and the
/// third cut alike: before a newline, `\s*` takes the other newlines.
const PATTERNS: [(&str, Pattern); 4] = [
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Pattern::Words { digits: 3 },
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Pattern::Words { digits: 1 },
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        Pattern::Words { digits: 3 },
    ),
    (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", Pattern::Gpt2),
];

impl Pattern {
    /// The pattern of a regular expression, if it is known.
    pub(super) fn of(expression: &str) -> Option<Self> {
        PATTERNS.iter().find(|(known, _)| *known == expression).map(|(_, pattern)| *pattern)
    }
}

/// What the patterns tell characters apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// `\p{L}`.
    Letter,
    /// `\p{N}`.
    Number,
    /// `[\r\n]`.
    Newline,
    /// `\s` without newlines.
    Space,
    /// Whatever else.
    Other,
    /// Behind the text.
    End,
}

impl Class {
    fn is_space(self) -> bool {
        matches!(self, Self::Space | Self::Newline)
    }
}

/// Cuts texts by one pattern.
pub(super) struct Pieces {
    pattern: Pattern,
    /// By character.
    classes: Vec<Class>,
}

impl Pieces {
    pub(super) fn new(pattern: Pattern) -> Self {
        let mut classes = vec![Class::Other; char::MAX as usize + 1];
        for (expression, class) in [
            (r"\p{L}", Class::Letter),
            (r"\p{N}", Class::Number),
            (r"\s", Class::Space),
            (r"[\r\n]", Class::Newline),
        ] {
            for (first, last) in ranges(expression) {
                classes[first as usize..=last as usize].fill(class);
            }
        }
        Self { pattern, classes }
    }

    /// The class of a character.
    pub(super) fn class(&self, c: char) -> Class {
        self.classes[c as usize]
    }

    /// Where the piece ends that begins at `from`, which is not the end of the text.
    pub(super) fn end(&self, text: &str, from: usize) -> usize {
        let (first, second) = self.at(text, from);
        let (next, third) = self.at(text, second);
        let byte = text.as_bytes()[from];
        if byte == b'\''
            && let Some(length) = self.contraction(&text[second..])
        {
            return second + length;
        }
        match self.pattern {
            Pattern::Gpt2 => match first {
                Class::Letter | Class::Number | Class::Other => self.run(text, second, first),
                _ if byte == b' ' && !next.is_space() && next != Class::End => self.run(text, third, next),
                _ => self.spaces(text, from),
            },
            Pattern::Words { digits } => match first {
                Class::Letter => self.run(text, second, Class::Letter),
                Class::Number => self.number(text, second, digits - 1),
                Class::Other | Class::Space if next == Class::Letter => self.run(text, third, Class::Letter),
                Class::Other => self.run(text, self.run(text, second, Class::Other), Class::Newline),
                _ if byte == b' ' && next == Class::Other => {
                    self.run(text, self.run(text, third, Class::Other), Class::Newline)
                }
                _ => self.spaces(text, from),
            },
        }
    }

    /// The class of the character at a place, and the place behind it.
    fn at(&self, text: &str, place: usize) -> (Class, usize) {
        match text.as_bytes().get(place) {
            None => (Class::End, place),
            Some(byte) if byte.is_ascii() => (self.classes[usize::from(*byte)], place + 1),
            Some(_) => {
                let c = text[place..].chars().next().unwrap_or_default();
                (self.class(c), place + c.len_utf8())
            }
        }
    }

    /// The end of a run of a class.
    fn run(&self, text: &str, from: usize, class: Class) -> usize {
        let mut end = from;
        loop {
            match self.at(text, end) {
                (found, behind) if found == class => end = behind,
                _ => return end,
            }
        }
    }

    fn number(&self, text: &str, from: usize, more: usize) -> usize {
        let mut end = from;
        for _ in 0..more {
            match self.at(text, end) {
                (Class::Number, behind) => end = behind,
                _ => break,
            }
        }
        end
    }

    /// Space up to the last newline in it; else, without the last character where something follows.
    fn spaces(&self, text: &str, from: usize) -> usize {
        let (mut end, mut last, mut behind_newline) = (from, from, None);
        loop {
            let (class, behind) = self.at(text, end);
            if !class.is_space() {
                let newline = behind_newline.filter(|_| self.pattern != Pattern::Gpt2);
                let is_cut_short = class != Class::End && from < last;
                return newline.unwrap_or(if is_cut_short { last } else { end });
            }
            (last, end) = (end, behind);
            if class == Class::Newline {
                behind_newline = Some(end);
            }
        }
    }

    /// How long the end of a contraction is at the beginning of a text.
    fn contraction(&self, text: &str) -> Option<usize> {
        let fold = |c: char| match (self.pattern, c) {
            (Pattern::Gpt2, c) => c,
            // The long s is an s to an expression that is blind to case.
            (_, 'ſ') => 's',
            (_, c) => c.to_ascii_lowercase(),
        };
        let mut chars = text.chars();
        let first = chars.next()?;
        match (fold(first), chars.next().map(fold)) {
            ('s' | 't' | 'm' | 'd', _) => Some(first.len_utf8()),
            ('r' | 'v', Some('e')) | ('l', Some('l')) => Some(2),
            _ => None,
        }
    }
}

/// The characters of a class of characters.
fn ranges(expression: &str) -> Vec<(char, char)> {
    use regex_syntax::hir::{Class, HirKind};
    let hir = regex_syntax::parse(expression).expect("a class of characters is an expression");
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            class.ranges().iter().map(|range| (range.start(), range.end())).collect()
        }
        kind => unreachable!("{expression} is a class of characters and not {kind:?}"),
    }
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod tests;
