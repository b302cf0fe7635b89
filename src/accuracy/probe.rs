//! Prompts that show whose KV a decode node answers from: each has a code at its beginning, asked for at its end. Lengths
//! lie just below, on and just above the bounds of KV blocks; half of the prompts begin with the same blocks.

use super::documents::Documents;
use crate::workload::{DatasetError, PythonRandom, TokenCounter};
use serde_json::json;

/// The task's name.
pub const KV_PROBE: &str = "kv-probe";

/// Which prompts are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvProbe {
    /// How many.
    pub count: usize,
    /// Tokens of a KV block.
    pub block_tokens: u32,
    /// Shortest and longest prompt, tokens.
    pub tokens: (u32, u32),
    /// Seed of codes and words.
    pub seed: u64,
}

impl Default for KvProbe {
    fn default() -> Self {
        // Above the chunk of 256 tokens in which KV stores keep prompts: shorter ones are never fetched.
        Self { count: 48, block_tokens: 16, tokens: (272, 1040), seed: 0 }
    }
}

const WORDS: [&str; 24] = [
    "amber", "barley", "copper", "delta", "ember", "fallow", "granite", "harbour", "indigo", "juniper",
    "kettle", "lantern", "meadow", "nettle", "orchard", "pewter", "quarry", "russet", "saddle", "timber",
    "umber", "velvet", "willow", "yarrow",
];

const QUESTION: &str = "\nThe archive above has one code, which stands behind the word Archive. Its code is:";

impl KvProbe {
    /// The prompts, with `prompt`, `code` and `tokens`: six around each bound, from the shortest on.
    ///
    /// # Errors
    /// When the tokenizer refuses a text.
    pub fn documents(&self, counter: &TokenCounter) -> Result<Documents, DatasetError> {
        let mut random = PythonRandom::new(self.seed);
        let block = self.block_tokens.max(2);
        let (low, high) =
            (self.tokens.0.div_ceil(block), (self.tokens.1 / block).max(self.tokens.0.div_ceil(block)));
        let common = self.filled(counter, &mut random, "", "", 2 * block)?.0;
        let mut documents = Documents::new();
        for nth in 0..self.count {
            let nth = nth as u32;
            // Bounds of blocks spread evenly, each met from below, exactly and from above, with and without a common
            // beginning.
            let steps = (self.count as u32).div_ceil(6).max(1);
            let step = nth / 6 % steps;
            let bound = block * (low + (high - low) * step / steps.saturating_sub(1).max(1));
            let wanted = bound + nth % 3 - 1;
            let code = code(&mut random);
            let begin = if nth / 3 % 2 == 1 { common.as_str() } else { "" };
            let head = format!("{begin}Archive {code}.");
            let (prompt, tokens) = self.filled(counter, &mut random, &head, QUESTION, wanted)?;
            let document = json!({"prompt": prompt, "code": code, "tokens": tokens, "wanted_tokens": wanted});
            documents.extend(document.as_object().cloned());
        }
        Ok(documents)
    }

    /// Words between `head` and `tail`, so that all of it has `wanted` tokens, or as near as words come; and how many.
    fn filled(
        &self,
        counter: &TokenCounter,
        random: &mut PythonRandom,
        head: &str,
        tail: &str,
        wanted: u32,
    ) -> Result<(String, u32), DatasetError> {
        let words: Vec<&str> = (0..wanted).map(|_| *random.choice(&WORDS)).collect();
        let text = |count: usize, end: &str| {
            let mut text = head.to_owned();
            for word in &words[..count] {
                text.push(' ');
                text.push_str(word);
            }
            text.push_str(end);
            text.push_str(tail);
            text
        };
        let (mut low, mut high) = (0, words.len());
        while low < high {
            let middle = (low + high).div_ceil(2);
            if counter.count(&text(middle, ""))? <= wanted {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        let mut best = (text(low, ""), counter.count(&text(low, ""))?);
        for end in
            [" a", " a a", ".", " I", " to do", " to be", "...", " x y z", " a b c d e", " of it all so"]
        {
            if best.1 == wanted {
                break;
            }
            let candidate = text(low, end);
            let tokens = counter.count(&candidate)?;
            if tokens.abs_diff(wanted) < best.1.abs_diff(wanted) {
                best = (candidate, tokens);
            }
        }
        Ok(best)
    }
}

/// Three letters, four digits, three letters.
fn code(random: &mut PythonRandom) -> String {
    let mut letters = || (0..3).map(|_| char::from(b'A' + random.randrange(26) as u8)).collect::<String>();
    let (before, after) = (letters(), letters());
    format!("{before}-{:04}-{after}", random.randrange(10_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn prompts_lie_around_the_bounds_of_blocks_and_codes_are_their_own() {
        let probe = KvProbe::default();
        let documents = probe.documents(&TokenCounter::Estimate).unwrap();
        assert_eq!(documents, probe.documents(&TokenCounter::Estimate).unwrap());
        let codes: BTreeSet<&str> =
            documents.iter().map(|document| document["code"].as_str().unwrap()).collect();
        assert_eq!((documents.len(), codes.len()), (48, 48));
        let mut offsets = BTreeSet::new();
        for document in &documents {
            let (prompt, tokens) =
                (document["prompt"].as_str().unwrap(), document["tokens"].as_u64().unwrap());
            assert_eq!(document["tokens"], document["wanted_tokens"], "{prompt}");
            assert!((271..=1041).contains(&tokens), "{tokens}");
            assert!(prompt.ends_with("Its code is:") && prompt.matches("Archive ").count() == 1);
            offsets.insert(tokens % 16);
        }
        assert_eq!(offsets, BTreeSet::from([0, 1, 15]));
        let begin = |document: &serde_json::Map<String, serde_json::Value>| {
            document["prompt"].as_str().unwrap()[..60].to_owned()
        };
        let shared = documents.iter().filter(|document| begin(document) == begin(&documents[3])).count();
        assert_eq!(shared, 24);
    }
}
