//! Whether two answers to one prompt are the same, and if not, whether rounding can be why.

use crate::measure::{RequestRecord, TokenLogprob};

/// What an answer says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<'a> {
    pub(super) text: &'a str,
    /// Empty where it did not tell.
    pub(super) tokens: &'a [TokenLogprob],
}

/// How alike two answers are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Likeness {
    /// The same text; how far its tokens' log probabilities are apart at most, nats, where both tell.
    Equal { apart: Option<f64> },
    /// They part where the right answer was hardly likelier than the next, which is what the other says: rounding.
    Close,
    /// They part, from this token of the right answer on, counted from 0.
    Differs { at: usize },
}

/// Margin of the best token over the next below which rounding may choose, nats. Assumed; no source.
const ROUNDING: f64 = 0.2;

impl<'a> Said<'a> {
    /// What an ok answer says, where its text was kept.
    pub(super) fn of(record: &'a RequestRecord) -> Option<Self> {
        let reply = record.asking.as_ref().and_then(|asking| asking.replies.first());
        let text = reply.map(|reply| reply.text.as_str()).or(record.text.as_deref());
        let text = text.filter(|_| record.is_ok())?;
        Some(Self { text, tokens: reply.map_or(&[], |reply| &reply.tokens) })
    }

    /// How like it another answer is.
    pub(super) fn likeness(&self, other: &Said<'_>) -> Likeness {
        if self.text == other.text {
            let pairs = self.tokens.iter().zip(other.tokens);
            let apart = pairs.filter_map(|(one, other)| Some((one.logprob? - other.logprob?).abs()));
            return Likeness::Equal { apart: apart.reduce(f64::max) };
        }
        let mut rest = other.text;
        for (at, token) in self.tokens.iter().enumerate() {
            if let Some(behind) = rest.strip_prefix(token.token.as_str()) {
                rest = behind;
                continue;
            }
            let next = token.next.as_deref().filter(|next| !next.is_empty());
            let close = token.margin.is_some_and(|margin| margin < ROUNDING);
            return match next.is_some_and(|next| close && rest.starts_with(next)) {
                true => Likeness::Close,
                false => Likeness::Differs { at },
            };
        }
        Likeness::Differs { at: self.tokens.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(told: &[(&str, f64, f64, &str)]) -> Vec<TokenLogprob> {
        let token = |&(token, logprob, margin, next): &(&str, f64, f64, &str)| TokenLogprob {
            token: token.to_owned(),
            margin: Some(margin),
            logprob: Some(logprob),
            next: Some(next.to_owned()),
        };
        told.iter().map(token).collect()
    }

    #[test]
    fn answers_part_by_rounding_or_in_earnest() {
        let right = tokens(&[("ab", -0.1, 3.0, "x"), ("cd", -0.7, 0.05, "yy"), ("e", -0.1, 2.0, "z")]);
        let said = Said { text: "abcde", tokens: &right };
        let like = |text| said.likeness(&Said { text, tokens: &[] });
        assert_eq!(like("abcde"), Likeness::Equal { apart: None });
        assert_eq!(like("abyyq"), Likeness::Close);
        // Not the runner-up, or no close call.
        assert_eq!(like("abzz"), Likeness::Differs { at: 1 });
        assert_eq!(like("x"), Likeness::Differs { at: 0 });
        assert_eq!(like("abcdz"), Likeness::Differs { at: 2 });
        assert_eq!(like("abcdef"), Likeness::Differs { at: 3 });
        assert_eq!(Said { text: "a", tokens: &[] }.likeness(&said), Likeness::Differs { at: 0 });
    }

    #[test]
    fn equal_texts_tell_how_far_their_likelihoods_are_apart() {
        let one = tokens(&[("a", -0.5, 1.0, "x"), ("b", -0.25, 1.0, "x")]);
        let other = tokens(&[("a", -0.5, 1.0, "x"), ("b", -1.0, 1.0, "x")]);
        let said = |tokens| Said { text: "ab", tokens };
        assert_eq!(said(&one).likeness(&said(&other)), Likeness::Equal { apart: Some(0.75) });
    }
}
