//! Prompts as the cluster sees them: token counts, token ids and the hashes of their KV blocks. A token is
//! four bytes of UTF-8, so that an estimate of ceil(bytes / 4) is exact. Pure.

use super::known::Known;
use std::sync::Arc;

/// Ids are below this: the vocabulary of Llama 3.
const VOCABULARY: u64 = 128_256;

/// A prompt, reduced to what costs depend on.
#[derive(Clone, Debug)]
pub(super) struct Prompt {
    /// Length in tokens.
    pub tokens: u32,
    /// Hash of the whole prompt.
    pub hash: u64,
    /// Hash of all but the last token: what the KV of a prefill node is found by when the prompt is that of a
    /// decode node, with the first token behind it.
    pub before_last: u64,
    /// Hash of everything up to the end of each full block.
    pub blocks: Arc<[u64]>,
    /// What it asks, where that means something to the model.
    pub known: Option<Known>,
    /// Whether its last token is the first one of the answer.
    pub begun: bool,
}

impl Prompt {
    /// From token ids, in blocks of `block_tokens`.
    pub fn from_ids(ids: impl Iterator<Item = u32>, block_tokens: u64) -> Self {
        let (mut hash, mut tokens, mut blocks) = (mix(0), 0_u32, Vec::new());
        let mut before_last = hash;
        for id in ids {
            before_last = hash;
            hash = mix(hash ^ u64::from(id));
            tokens += 1;
            if u64::from(tokens) % block_tokens == 0 {
                blocks.push(hash);
            }
        }
        Self { tokens, hash, before_last, blocks: blocks.into(), known: None, begun: false }
    }

    /// From text.
    pub fn from_text(text: &str, block_tokens: u64) -> Self {
        Self::from_ids(token_ids(text), block_tokens)
    }
}

/// The ids of `text`, one for each started four bytes.
pub(super) fn token_ids(text: &str) -> impl Iterator<Item = u32> + '_ {
    text.as_bytes().chunks(4).map(|chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        (mix(u64::from(u32::from_le_bytes(word))) % VOCABULARY) as u32
    })
}

/// The SplitMix64 step (Steele, Lea and Flood 2014): spreads every bit of `x` over the result.
pub(super) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Uniform in [0, 1): the upper 53 bits.
pub(super) fn uniform(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1_u64 << 53) as f64
}

/// Three letters and a space.
pub(super) fn word(draw: u64) -> [char; 4] {
    let letter = |n: u64| char::from(b'a' + (n % 26) as u8);
    [letter(draw), letter(draw / 26), letter(draw / 676), ' ']
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_a_token_for_each_started_four_bytes() {
        for (text, tokens) in [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("äöü", 2)] {
            assert_eq!(Prompt::from_text(text, 16).tokens, tokens, "{text}");
        }
    }

    #[test]
    fn a_text_and_its_ids_are_the_same_prompt() {
        let text = "San Francisco is a city with hills and fog and a bridge that everybody knows";
        let ids: Vec<u32> = token_ids(text).collect();
        let (by_text, by_ids) = (Prompt::from_text(text, 16), Prompt::from_ids(ids.into_iter(), 16));
        assert_eq!((by_text.hash, by_text.blocks.len()), (by_ids.hash, 1));
    }

    #[test]
    fn block_hashes_depend_on_everything_before() {
        let one = Prompt::from_ids([1, 2, 3, 4].into_iter(), 2);
        let other = Prompt::from_ids([9, 2, 3, 4].into_iter(), 2);
        assert!(one.blocks[0] != other.blocks[0] && one.blocks[1] != other.blocks[1]);
    }

    #[test]
    fn mixing_is_splitmix64() {
        // First output of the reference implementation with seed 0.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }
}
