//! Text of tokens and tokens of that text again, as fast as it can be done exactly. A sequence of tokens is
//! cut where its text is certain to be cut by the tokenizer, whatever stands around, so that only the part
//! that changed is encoded again. Where that certainty is lacking, the whole text is encoded.

use super::direct::Direct;
use super::pieces::Class;
use super::{DatasetError, Ends, Tokenizer};

/// Decodes and encodes with one tokenizer.
pub(super) struct Reencoder<'a> {
    tokenizer: &'a Tokenizer,
    known: Option<Known>,
}

/// What is known about a tokenizer whose steps are known, and about each of its tokens.
struct Known {
    direct: Direct,
    texts: Texts,
    /// What a token ends with, by id: `Letter`, `Number` or `Other` if this is certain whatever stands before it.
    ends: Vec<Option<Class>>,
    /// What a token begins with, by id, if it is an ASCII character that cannot be inside of an added token.
    begins: Vec<Option<Class>>,
    /// Nothing but letters, the first of which cannot be inside of an added token, and which NFC leaves alone; by id.
    letters: Vec<bool>,
    /// Bytes of the longest token with a letter at its end, where a piece that is a token is left whole; else 0.
    longest_whole: usize,
}

impl<'a> Reencoder<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, known: Direct::new(tokenizer).map(|direct| Known::new(tokenizer, direct)) }
    }

    /// The same without short cuts: what the tests compare with.
    #[cfg(test)]
    pub(super) fn thorough(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, known: None }
    }

    #[cfg(test)]
    pub(super) fn is_fast(&self) -> bool {
        self.known.is_some()
    }

    /// The text of tokens.
    pub(super) fn decode(&self, ids: &[u32]) -> Result<String, DatasetError> {
        let Some(facts) = &self.known else { return self.tokenizer.decode(ids) };
        let bytes = facts.texts.of(ids);
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// The tokens of the text of tokens, of which the first `known` were the tokens of a text already.
    pub(super) fn reencode(&self, ids: &[u32], known: usize) -> Result<Vec<u32>, DatasetError> {
        let known = known.min(ids.len());
        let cut = (1..known).rev().find(|at| self.is_cut(ids[at - 1], ids[*at])).unwrap_or(0);
        // Near the end what follows may well change the tokens, so that a joint further back is the second try.
        for back in [4, 16] {
            let joints = cut + 1..(known + 1).saturating_sub(back);
            let Some(joint) =
                joints.rev().find(|at| self.known.as_ref().is_some_and(|known| known.is_joint(ids, *at)))
            else {
                break;
            };
            let all = self.encode_from(ids, joint)?;
            if all.get(joint) == Some(&ids[joint]) {
                return Ok(all);
            }
        }
        self.encode_from(ids, cut)
    }

    /// Tokens up to a place, and behind it those of the text of the others.
    fn encode_from(&self, ids: &[u32], at: usize) -> Result<Vec<u32>, DatasetError> {
        let mut all = Vec::with_capacity(ids.len() + 8);
        all.extend_from_slice(&ids[..at]);
        self.encode_into(&ids[at..], &mut all)?;
        Ok(all)
    }

    /// The tokens of the text of tokens, appended.
    pub(super) fn encode_into(&self, ids: &[u32], all: &mut Vec<u32>) -> Result<(), DatasetError> {
        if !ids.is_empty() {
            let text = self.decode(ids)?;
            if !self.known.as_ref().is_some_and(|known| known.direct.encode_into(&text, all)) {
                all.extend(self.tokenizer.encode(&text, Ends::Bare)?);
            }
        }
        Ok(())
    }

    /// Whether the text of two tokens in a row is certain to be cut between them, whatever stands around.
    ///
    /// In each known pattern a run of letters or of numbers ends a piece, a run of others ends one before a space or a
    /// number, and nothing looks back, nor ahead beyond a run of spaces. Byte-pair merges stay within a piece. What
    /// begins behind the cut is ASCII, so that neither UTF-8 nor NFC reaches over it, and no added token does.
    pub(super) fn is_cut(&self, before: u32, after: u32) -> bool {
        self.known.as_ref().is_some_and(|known| {
            let is = |facts: &[Option<Class>], id: u32| facts.get(id as usize).copied().flatten();
            match (is(&known.ends, before), is(&known.begins, after)) {
                (Some(Class::Letter), Some(after)) => after != Class::Letter,
                (Some(Class::Number), Some(after)) => after != Class::Number,
                (Some(Class::Other), Some(after)) => matches!(after, Class::Space | Class::Number),
                _ => false,
            }
        })
    }
}

impl Known {
    /// Whether tokens of a text, two of them around this place, stay as they are before it whatever comes later, if the
    /// text behind it begins with the same token when it is encoded alone.
    ///
    /// Both are letters, so that the piece goes on over the place, or was certain to end there. Byte pairs merge within
    /// a piece in the order of ranks; a merge over a boundary that is left would be one of the two tokens around it,
    /// encoded alone, and so tokens are those of a piece if each two neighbours are those of their own text. Before
    /// the place they are, for they were it with the text that was there; behind it they are, for they were made of
    /// their text; over it they are, for they are the same two as before. A piece that is left whole because it is a
    /// token is not made by merges; letters before the place that are longer than any such token rule this out.
    fn is_joint(&self, ids: &[u32], at: usize) -> bool {
        let is_letters = |id: &u32| self.letters.get(*id as usize).copied().unwrap_or(false);
        let before = ids[..at].iter().rev().take_while(|id| is_letters(id));
        let mut lengths = before.scan(0, |length, id| {
            *length += self.texts.length(*id);
            Some(*length)
        });
        is_letters(&ids[at]) && lengths.any(|length| self.longest_whole < length)
    }

    fn new(tokenizer: &Tokenizer, direct: Direct) -> Self {
        let bytes: Vec<Vec<u8>> = (0..tokenizer.len()).map(|id| tokenizer.bytes_of(id)).collect();
        // A token that was added is found in a text by a rule of its own.
        let plain = |(id, text)| (!tokenizer.is_added(id)).then_some(text);
        let texts = (0..).zip(bytes.iter().map(Vec::as_slice));
        let ends = texts.clone().map(|text| {
            let class = direct.class(last_char(plain(text)?)?);
            matches!(class, Class::Letter | Class::Number | Class::Other).then_some(class)
        });
        let letters = texts.clone().map(|text| {
            let is_letters = |text: &[u8]| {
                let free = text.first().is_some_and(|first| !direct.is_inside_added(*first));
                let is_letters = |text: &str| text.chars().all(|c| direct.class(c) == Class::Letter);
                free && std::str::from_utf8(text)
                    .is_ok_and(|text| is_letters(text) && !direct.is_changed(text))
            };
            plain(text).is_some_and(is_letters)
        });
        let begins = texts.clone().map(|text| {
            let first = plain(text)?.first().filter(|byte| byte.is_ascii())?;
            (!direct.is_inside_added(*first)).then(|| direct.class(char::from(*first)))
        });
        let ends_whole = |text: &[u8]| last_char(text).is_some_and(|c| direct.class(c) == Class::Letter);
        let lengths = bytes.iter().filter(|text| ends_whole(text)).map(Vec::len);
        let longest_whole = lengths.max().filter(|_| direct.ignores_merges()).unwrap_or(0);
        let (ends, begins, letters) = (ends.collect(), begins.collect(), letters.collect());
        Self { direct, texts: Texts::new(&bytes), ends, begins, letters, longest_whole }
    }
}

/// Texts of tokens, by id.
struct Texts {
    /// All in a row, and then [`SHORT`] bytes more.
    bytes: Vec<u8>,
    /// Where each begins, and the end.
    starts: Vec<usize>,
}

/// So many bytes are copied at once wherever a text is not longer, which is faster than to copy just as many as it has.
const SHORT: usize = 16;

impl Texts {
    fn new(texts: &[Vec<u8>]) -> Self {
        let (mut bytes, mut starts) = (Vec::new(), vec![0]);
        for text in texts {
            bytes.extend_from_slice(text);
            starts.push(bytes.len());
        }
        bytes.extend_from_slice(&[0; SHORT]);
        Self { bytes, starts }
    }

    /// How many bytes the text of a token has that is known to exist.
    fn length(&self, id: u32) -> usize {
        self.starts[id as usize + 1] - self.starts[id as usize]
    }

    /// The texts of tokens, joined.
    fn of(&self, ids: &[u32]) -> Vec<u8> {
        let place = |id: &u32| Some((*self.starts.get(*id as usize)?, *self.starts.get(*id as usize + 1)?));
        let places = || ids.iter().filter_map(place);
        let length: usize = places().map(|(start, end)| end - start).sum();
        let mut all = Vec::with_capacity(length + SHORT);
        for (start, end) in places() {
            if end - start <= SHORT {
                let behind = all.len() + (end - start);
                all.extend_from_slice(&self.bytes[start..start + SHORT]);
                all.truncate(behind);
            } else {
                all.extend_from_slice(&self.bytes[start..end]);
            }
        }
        all
    }
}

/// The last character of bytes that may be no UTF-8 elsewhere.
fn last_char(bytes: &[u8]) -> Option<char> {
    let start = bytes.iter().rposition(|byte| byte & 0xc0 != 0x80)?;
    std::str::from_utf8(&bytes[start..]).ok()?.chars().next()
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
