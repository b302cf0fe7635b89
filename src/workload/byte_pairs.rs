//! Byte-pair encoding of the pieces of a text over a byte-level vocabulary: the merges of the tokenizer's own
//! model, without the strings, offsets and locks that a whole tokenizer needs. Deliberately absent: unknown
//! tokens, prefixes, suffixes and dropout; a vocabulary that needs them is refused.

use super::tokenizer::{Model, byte_of};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// The merges of a model.
pub(super) struct BytePairs {
    /// Tokens of single bytes.
    of_byte: Vec<u32>,
    merges: HashMap<u64, Merge, Fast>,
    /// Pieces that are one token.
    whole: HashMap<Box<[u8]>, u32, Fast>,
}

/// What two tokens in a row become, and how early: the least rank is merged first.
#[derive(Clone, Copy)]
struct Merge {
    rank: u32,
    id: u32,
}

/// No merge.
const NEVER: Merge = Merge { rank: u32::MAX, id: 0 };

/// A token of a piece, and its merge with the next one.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    next: Merge,
}

/// Memory that is used again for each piece.
#[derive(Default)]
pub(super) struct Scratch(Vec<Symbol>);

/// Bytes up to which the least rank is found by looking at all, which is faster than a heap while they are few.
const FEW: usize = 64;

impl BytePairs {
    /// `None` where a byte has no token, or a token no id of its own.
    pub(super) fn new(model: &Model) -> Option<Self> {
        let known = |text: &str| model.vocabulary.get(text).copied();
        let mut of_byte = vec![None; 256];
        let mut bytes_of = Vec::with_capacity(model.vocabulary.len());
        for (text, id) in &model.vocabulary {
            // A text with other characters is no piece of bytes.
            let Some(bytes) = text.chars().map(byte_of).collect::<Option<Box<[u8]>>>() else { continue };
            if let [byte] = *bytes {
                of_byte[usize::from(byte)] = Some(*id);
            }
            bytes_of.push((bytes, *id));
        }
        let of_byte = of_byte.into_iter().collect::<Option<Vec<u32>>>()?;
        let ids: HashSet<u32> = model.vocabulary.values().copied().collect();
        if ids.len() != model.vocabulary.len() {
            return None;
        }
        let merges = model.merges.iter().zip(0..).map(|((left, right), rank)| {
            let merge = Merge { rank, id: known(&format!("{left}{right}"))? };
            Some((pair(known(left)?, known(right)?), merge))
        });
        let merges = merges.collect::<Option<_>>()?;
        let mut made = Self { of_byte, merges, whole: HashMap::default() };
        if !model.ignores_merges {
            let (mut merged, mut scratch) = (Vec::new(), Scratch::default());
            bytes_of.retain(|(bytes, id)| {
                merged.clear();
                made.merge_into(bytes, &mut merged, &mut scratch);
                merged == [*id]
            });
        }
        made.whole = bytes_of.into_iter().collect();
        Some(made)
    }

    /// The tokens of a piece, appended.
    pub(super) fn encode_into(&self, piece: &[u8], all: &mut Vec<u32>, scratch: &mut Scratch) {
        match self.whole.get(piece) {
            Some(id) => all.push(*id),
            None => self.merge_into(piece, all, scratch),
        }
    }

    fn merge_into(&self, piece: &[u8], all: &mut Vec<u32>, Scratch(symbols): &mut Scratch) {
        let ids = piece.iter().map(|byte| self.of_byte[usize::from(*byte)]);
        symbols.clear();
        symbols.extend(ids.map(|id| Symbol { id, next: NEVER }));
        for i in 1..symbols.len() {
            symbols[i - 1].next = self.merge(symbols[i - 1].id, symbols[i].id);
        }
        if symbols.len() <= FEW {
            self.merge_few(symbols);
            all.extend(symbols.iter().map(|symbol| symbol.id));
        } else {
            self.merge_many(symbols, all);
        }
    }

    /// The leftmost of the least rank, until there is none.
    fn merge_few(&self, symbols: &mut Vec<Symbol>) {
        loop {
            let least = symbols.iter().enumerate().min_by_key(|(_, symbol)| symbol.next.rank);
            let Some((i, Symbol { next, .. })) = least.filter(|(_, symbol)| symbol.next.rank < NEVER.rank)
            else {
                return;
            };
            symbols[i].id = next.id;
            symbols.remove(i + 1);
            symbols[i].next = symbols.get(i + 1).map_or(NEVER, |after| self.merge(symbols[i].id, after.id));
            if 0 < i {
                symbols[i - 1].next = self.merge(symbols[i - 1].id, symbols[i].id);
            }
        }
    }

    /// The same for pieces so long that looking at all takes too long.
    fn merge_many(&self, symbols: &[Symbol], all: &mut Vec<u32>) {
        let end = symbols.len();
        let rank = |symbol: &Symbol| Some(symbol.next.rank).filter(|rank| *rank < NEVER.rank);
        let mut heap: BinaryHeap<_> =
            symbols.iter().zip(0..).filter_map(|(symbol, i)| Some(Reverse((rank(symbol)?, i)))).collect();
        let mut symbols: Vec<Option<Symbol>> = symbols.iter().copied().map(Some).collect();
        // The symbols before and behind each; `before` is one more than the place, so that 0 is none.
        let mut before: Vec<usize> = (0..end).collect();
        let mut behind: Vec<usize> = (1..=end).collect();
        while let Some(Reverse((least, i))) = heap.pop() {
            // What was merged since is in the heap with its new rank.
            let Some(symbol) = symbols[i].filter(|symbol| symbol.next.rank == least) else { continue };
            let merged = behind[i];
            let after = behind[merged];
            symbols[merged] = None;
            behind[i] = after;
            if after < end {
                before[after] = i + 1;
            }
            let left = before[i].checked_sub(1);
            let id = symbol.next.id;
            let after = symbols.get(after).copied().flatten();
            symbols[i] = Some(Symbol { id, next: after.map_or(NEVER, |after| self.merge(id, after.id)) });
            if let Some(Some(symbol)) = left.map(|left| &mut symbols[left]) {
                symbol.next = self.merge(symbol.id, id);
            }
            let changed = left.into_iter().chain([i]);
            heap.extend(changed.filter_map(|at| Some(Reverse((rank(symbols[at].as_ref()?)?, at)))));
        }
        all.extend(symbols.into_iter().flatten().map(|symbol| symbol.id));
    }

    fn merge(&self, left: u32, right: u32) -> Merge {
        self.merges.get(&pair(left, right)).copied().unwrap_or(NEVER)
    }
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

type Fast = BuildHasherDefault<FastHasher>;

/// A hash for keys that nobody chose to collide: each eight bytes multiplied into 128 bits and folded. The factor is
/// 2⁶⁴ over the golden ratio.
#[derive(Default)]
struct FastHasher(u64);

impl Hasher for FastHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0.rotate_left(23) ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}
