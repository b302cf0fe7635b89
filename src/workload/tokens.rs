/// How many tokens a text has, as prompts are cut to length by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenCounter {
    /// Four bytes of UTF-8 a token, rounded up. No tokenizer is needed, and the simulator counts alike;
    /// for English it is near the truth (OpenAI's rule of thumb: about four characters a token).
    Estimate,
}

impl TokenCounter {
    /// Tokens of `text`; 0 only for no text.
    pub fn count(&self, text: &str) -> u32 {
        match self {
            TokenCounter::Estimate => u32::try_from(text.len().div_ceil(4)).unwrap_or(u32::MAX),
        }
    }

    /// The counter's name in results: `estimate`.
    pub fn name(&self) -> &str {
        match self {
            TokenCounter::Estimate => "estimate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimate_is_a_quarter_of_the_bytes_rounded_up() {
        let tokens = |text| TokenCounter::Estimate.count(text);
        let counted = ["", "a", "four", "fives", "ééé", "🚲🚲"].map(tokens);
        assert_eq!(counted, [0, 1, 1, 2, 2, 2]);
    }
}
