use super::{ChatTemplate, DatasetError, Prompt, Tokenizer};
use std::sync::Arc;

/// How many tokens a text has, as prompts are cut to length by it.
#[derive(Clone, Debug)]
pub enum TokenCounter {
    /// Four bytes of UTF-8 a token, rounded up. No tokenizer is needed, and the simulator counts alike;
    /// for English it is near the truth (OpenAI's rule of thumb: about four characters a token).
    Estimate,
    /// The model's own tokenizer, special tokens included.
    Tokenizer(Arc<Tokenizer>),
}

/// What the tokenizer's chat template is for. Without a template, texts are sent and counted as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Templating {
    /// The text that it makes is sent: a completion.
    #[default]
    Sent,
    /// The server applies it, so it counts: a chat.
    Counted,
    /// Nothing: texts are sent and counted as they are.
    Off,
}

impl TokenCounter {
    /// Tokens of `text`; by the estimate 0 only for no text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`]; the estimate has none.
    pub fn count(&self, text: &str) -> Result<u32, DatasetError> {
        match self {
            TokenCounter::Estimate => Ok(Self::estimate(text)),
            TokenCounter::Tokenizer(tokenizer) => tokenizer.count(text),
        }
    }

    /// What [`TokenCounter::Estimate`] counts.
    pub fn estimate(text: &str) -> u32 {
        u32::try_from(text.len().div_ceil(4)).unwrap_or(u32::MAX)
    }

    /// The counter's name in results: `estimate`, or the tokenizer's.
    pub fn name(&self) -> &str {
        match self {
            TokenCounter::Estimate => "estimate",
            TokenCounter::Tokenizer(tokenizer) => tokenizer.name(),
        }
    }

    /// What is sent of a prompt, and its length.
    ///
    /// # Errors
    /// If the tokenizer or its template cannot take the text.
    pub(super) fn measured(
        &self,
        prompt: Prompt,
        templating: Templating,
    ) -> Result<(Prompt, u32), DatasetError> {
        let Some(template) = self.chat_template().filter(|_| templating != Templating::Off) else {
            let tokens = self.count(&prompt.text())?;
            return Ok((prompt, tokens));
        };
        let text = match &prompt {
            Prompt::Messages(turns) => template.render(turns)?,
            one => template.render_user(&one.text())?,
        };
        let tokens = self.count(&text)?;
        Ok((if templating == Templating::Sent { Prompt::Text(text) } else { prompt }, tokens))
    }

    /// The tokenizer, where lengths are not estimated.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        match self {
            TokenCounter::Estimate => None,
            TokenCounter::Tokenizer(tokenizer) => Some(tokenizer),
        }
    }

    /// The tokenizer's chat template, where there is one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.tokenizer()?.chat_template()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimate_is_a_quarter_of_the_bytes_rounded_up() {
        let tokens = |text| TokenCounter::Estimate.count(text).unwrap();
        let counted = ["", "a", "four", "fives", "ééé", "🚲🚲"].map(tokens);
        assert_eq!(counted, [0, 1, 1, 2, 2, 2]);
    }
}
