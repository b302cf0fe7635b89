//! Text to tokens at a fraction of what the crate `tokenizers` takes for it, and token for token the same, for
//! tokenizers of which each step is known: a known pattern, byte-level byte pairs, no normalisation or NFC.
//! What is not plain in a text (a token that was added, a text that NFC changes) is left to the crate.

use super::Tokenizer;
use super::byte_pairs::{BytePairs, Scratch};
use super::pieces::{Class, Pieces};
use unicode_normalization_alignments::{IsNormalized, is_nfc_quick};

/// Encodes what is plain.
pub(super) struct Direct {
    pieces: Pieces,
    pairs: BytePairs,
    normalises: bool,
    ignores_merges: bool,
    added: Added,
}

/// Texts of the tokens that were added to the vocabulary, which are found before anything else is done.
struct Added {
    /// By first byte.
    texts: Vec<Vec<String>>,
    /// Bytes that are in one of them, but not at its beginning.
    inside: [bool; 256],
}

/// Bytes up to which a text is looked at here: in half a million spaces, the crate's regular expressions give up.
const LONGEST: usize = 100_000;

impl Direct {
    /// `None` where the tokenizer does anything that is not known here.
    pub(super) fn new(tokenizer: &Tokenizer) -> Option<Self> {
        let (pattern, model) = tokenizer.known_steps()?;
        let added = Added::of(tokenizer);
        let normalises = tokenizer.normalises();
        // What NFC makes of other texts is not looked into.
        if normalises && !added.texts.iter().flatten().all(|text| text.is_ascii()) {
            return None;
        }
        let (pieces, pairs) = (Pieces::new(pattern), BytePairs::new(&model)?);
        Some(Self { pieces, pairs, normalises, ignores_merges: model.ignores_merges, added })
    }

    /// Appends the tokens of a text, without the ends that the model wants. False, and nothing done, where the text is
    /// not plain.
    pub(super) fn encode_into(&self, text: &str, all: &mut Vec<u32>) -> bool {
        if LONGEST < text.len() || self.added.is_in(text) || self.is_changed(text) {
            return false;
        }
        let (mut from, mut scratch) = (0, Scratch::default());
        while from < text.len() {
            let end = self.pieces.end(text, from);
            self.pairs.encode_into(&text.as_bytes()[from..end], all, &mut scratch);
            from = end;
        }
        true
    }

    /// The class of a character to the pattern.
    pub(super) fn class(&self, c: char) -> Class {
        self.pieces.class(c)
    }

    /// Whether a piece that is a token is left whole, whatever its merges would make of it.
    pub(super) fn ignores_merges(&self) -> bool {
        self.ignores_merges
    }

    /// Whether an added token could hold a character anywhere but at its beginning.
    pub(super) fn is_inside_added(&self, c: u8) -> bool {
        self.added.inside[usize::from(c)]
    }

    /// Whether NFC could change a text. It changes no character below U+0300, which in UTF-8 begins with 0xCC.
    pub(super) fn is_changed(&self, text: &str) -> bool {
        self.normalises
            && text.bytes().any(|byte| 0xcc <= byte)
            && is_nfc_quick(text.chars()) != IsNormalized::Yes
    }
}

impl Added {
    fn of(tokenizer: &Tokenizer) -> Self {
        let mut added = Self { texts: vec![Vec::new(); 256], inside: [false; 256] };
        for text in tokenizer.added_texts() {
            if let Some((first, others)) = text.as_bytes().split_first() {
                others.iter().for_each(|byte| added.inside[usize::from(*byte)] = true);
                added.texts[usize::from(*first)].push(text.clone());
            }
        }
        added
    }

    fn is_in(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        bytes.iter().enumerate().any(|(at, byte)| {
            self.texts[usize::from(*byte)].iter().any(|text| bytes[at..].starts_with(text.as_bytes()))
        })
    }
}

#[cfg(test)]
#[path = "direct_tests.rs"]
mod tests;
