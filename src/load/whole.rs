//! What a successful body without events says: a whole completion, or an error in disguise.

use super::KeepText;
use super::reading::Reading;
use crate::measure::{Flag, Reply, TokenLogprob};
use crate::wire::openai::{Answer, Choice, LikelyToken, read_answer};

impl Reading {
    /// A successful body without events: a whole completion, or an error in disguise.
    pub(super) fn whole_answer(&mut self) {
        // Redacted whole: what is kept of it is cut.
        let body = self.redacted(String::from_utf8_lossy(&self.opening).into_owned());
        match read_answer(body.as_bytes()) {
            Answer::Error(error) => self.explain(|| error.message),
            Answer::Completion { mut choices, usage } => {
                self.facts.answered = true;
                // What answers a question is whole when its body is.
                let told = choices.iter().all(|choice| choice.finish_reason.is_some());
                self.facts.finished = told || self.record.asking.is_some();
                if let Some(usage) = usage {
                    self.tally.usage(usage, "", true);
                }
                let several = 1 < choices.len() || choices.iter().any(|choice| !choice.tokens.is_empty());
                match &mut self.record.asking {
                    Some(asking) if several => asking.replies = choices.drain(..).map(reply).collect(),
                    Some(_) => {}
                    // A stream was asked for.
                    None => self.record.flag(Flag::BufferedByProxy),
                }
                let first = choices.into_iter().next().unwrap_or_default();
                self.record.finish_reason = first.finish_reason;
                if self.keep_text != KeepText::Nothing {
                    self.record.text = Some(first.text);
                }
            }
        }
    }
}

/// A choice as a record keeps it.
fn reply(choice: Choice) -> Reply {
    let token = |LikelyToken { token, logprob, margin, next }| TokenLogprob { token, margin, logprob, next };
    Reply {
        text: choice.text,
        finish_reason: choice.finish_reason,
        tokens: choice.tokens.into_iter().map(token).collect(),
    }
}
