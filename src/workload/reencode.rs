//! Text of tokens and tokens of that text again, as fast as it can be done exactly. A sequence of tokens is
//! cut where its text is certain to be cut by the tokenizer, whatever stands around, so that only the part
//! that changed is encoded again. Where that certainty is lacking, the whole text is encoded.

use super::{DatasetError, Ends, Tokenizer};

/// Decodes and encodes with one tokenizer.
pub(super) struct Reencoder<'a> {
    tokenizer: &'a Tokenizer,
    cuts: Option<Cuts>,
}

/// Facts about each token of a tokenizer that cuts text between a letter, and a space with a letter behind it.
///
/// For the patterns of [`PATTERNS`] this cut is certain: whatever matches a letter cannot go on to match the
/// space, nothing looks back, and nothing looks ahead beyond a run of spaces. Byte-pair merges stay within
/// the pieces of the pattern, and both sides of the cut are ASCII, so that UTF-8 and NFC do not reach over it.
struct Cuts {
    /// Text of each token, by id.
    bytes: Vec<Vec<u8>>,
    /// The text ends with an ASCII letter, by id.
    ends_in_letter: Vec<bool>,
    /// The text begins with a space and an ASCII letter, by id.
    begins_a_word: Vec<bool>,
}

/// Patterns of which the above was checked: those of Llama 3, Qwen 2 and 3, and OpenAI's cl100k. The pattern of
/// GPT-2 is part of the pre-tokenizer `ByteLevel`.
const PATTERNS: [&str; 4] = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
];

impl<'a> Reencoder<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        let cuts = tokenizer.cuts_at_words(&PATTERNS).then(|| Cuts::of(tokenizer));
        Self { tokenizer, cuts }
    }

    /// The same without short cuts: what the tests compare with.
    #[cfg(test)]
    pub(super) fn thorough(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, cuts: None }
    }

    #[cfg(test)]
    pub(super) fn is_fast(&self) -> bool {
        self.cuts.is_some()
    }

    /// The text of tokens.
    pub(super) fn decode(&self, ids: &[u32]) -> Result<String, DatasetError> {
        let Some(cuts) = &self.cuts else { return self.tokenizer.decode(ids) };
        let mut bytes = Vec::with_capacity(ids.len() * 6);
        for id in ids {
            bytes.extend_from_slice(cuts.bytes.get(*id as usize).map_or(&[], Vec::as_slice));
        }
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// The tokens of the text of tokens, of which the first `known` were the tokens of a text already.
    pub(super) fn reencode(&self, ids: &[u32], known: usize) -> Result<Vec<u32>, DatasetError> {
        let known = known.min(ids.len());
        let cut = (1..known).rev().find(|at| self.is_cut(ids[at - 1], ids[*at])).unwrap_or(0);
        let mut all = Vec::with_capacity(ids.len() + 8);
        all.extend_from_slice(&ids[..cut]);
        self.encode_into(&ids[cut..], &mut all)?;
        Ok(all)
    }

    /// The tokens of the text of tokens, appended.
    pub(super) fn encode_into(&self, ids: &[u32], all: &mut Vec<u32>) -> Result<(), DatasetError> {
        if !ids.is_empty() {
            all.extend(self.tokenizer.encode(&self.decode(ids)?, Ends::Bare)?);
        }
        Ok(())
    }

    /// Whether the text of two tokens in a row is certain to be cut between them.
    pub(super) fn is_cut(&self, before: u32, after: u32) -> bool {
        self.cuts.as_ref().is_some_and(|cuts| {
            let is = |facts: &[bool], id: u32| facts.get(id as usize).copied().unwrap_or(false);
            is(&cuts.ends_in_letter, before) && is(&cuts.begins_a_word, after)
        })
    }
}

impl Cuts {
    fn of(tokenizer: &Tokenizer) -> Self {
        let bytes: Vec<Vec<u8>> = (0..tokenizer.len()).map(|id| tokenizer.bytes_of(id)).collect();
        // A token that was added is found in a text by a rule of its own.
        let plain = |id: usize| !tokenizer.is_added(id as u32);
        let letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphabetic);
        let facts = bytes.iter().enumerate();
        let ends_in_letter = facts.clone().map(|(id, text)| plain(id) && letter(text.last())).collect();
        let begins_a_word =
            facts.map(|(id, text)| plain(id) && text.first() == Some(&b' ') && letter(text.get(1))).collect();
        Self { bytes, ends_in_letter, begins_a_word }
    }
}

/// A ring of tokens of which the text of any arc is encoded at little cost: the parts between cuts are encoded
/// once.
pub(super) struct Ring<'a> {
    reencoder: &'a Reencoder<'a>,
    ids: &'a [u32],
    /// Places before which the ring is cut, ascending.
    cuts: Vec<usize>,
    /// The tokens of the parts from each cut to the next, the last of which goes around; all in a row.
    encoded: Vec<u32>,
    /// Where each part begins in `encoded`, and the end.
    starts: Vec<usize>,
}

impl<'a> Ring<'a> {
    pub(super) fn new(reencoder: &'a Reencoder<'a>, ids: &'a [u32]) -> Result<Self, DatasetError> {
        let before = |at: usize| ids[(at + ids.len() - 1) % ids.len()];
        let cuts: Vec<usize> = (0..ids.len()).filter(|at| reencoder.is_cut(before(*at), ids[*at])).collect();
        let mut ring = Self { reencoder, ids, cuts, encoded: Vec::new(), starts: vec![0] };
        for part in 0..ring.cuts.len() {
            let (from, to) = (ring.cuts[part], ring.cut(part + 1));
            let mut encoded = std::mem::take(&mut ring.encoded);
            reencoder.encode_into(&ring.arc(from, to - from), &mut encoded)?;
            ring.starts.push(encoded.len());
            ring.encoded = encoded;
        }
        Ok(ring)
    }

    /// A ring of which no text is wanted.
    pub(super) fn uncut(reencoder: &'a Reencoder<'a>, ids: &'a [u32]) -> Self {
        Self { reencoder, ids, cuts: Vec::new(), encoded: Vec::new(), starts: vec![0] }
    }

    /// The tokens of an arc that begins at `from`, which is less than the ring is long.
    pub(super) fn arc(&self, from: usize, length: usize) -> Vec<u32> {
        let mut arc = Vec::with_capacity(length);
        let mut at = from;
        while arc.len() < length {
            let until = self.ids.len().min(at + length - arc.len());
            arc.extend_from_slice(&self.ids[at..until]);
            at = until % self.ids.len();
        }
        arc
    }

    /// The tokens of the text of `prefix`, itself the tokens of a text, and the arc behind it.
    pub(super) fn encode(
        &self,
        prefix: &[u32],
        from: usize,
        length: usize,
    ) -> Result<Vec<u32>, DatasetError> {
        let end = from + length;
        let first = self.cuts.partition_point(|cut| *cut <= from);
        let begin = if self.cuts.is_empty() { end } else { self.cut(first) };
        if end <= begin {
            let whole = [prefix, &self.arc(from, length)].concat();
            return self.reencoder.reencode(&whole, prefix.len());
        }
        let head = [prefix, &self.arc(from, begin - from)].concat();
        let mut all = self.reencoder.reencode(&head, prefix.len())?;
        let (mut part, mut at) = (first, begin);
        while self.cut(part + 1) <= end {
            let i = part % self.cuts.len();
            all.extend_from_slice(&self.encoded[self.starts[i]..self.starts[i + 1]]);
            part += 1;
            at = self.cut(part);
        }
        self.reencoder.encode_into(&self.arc(at % self.ids.len(), end - at), &mut all)?;
        Ok(all)
    }

    /// The place of a cut, counted on around the ring.
    fn cut(&self, number: usize) -> usize {
        let count = self.cuts.len();
        self.cuts[number % count] + number / count * self.ids.len()
    }
}

#[cfg(test)]
#[path = "reencode_tests.rs"]
mod tests;
