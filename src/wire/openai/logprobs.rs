use serde::Deserialize;
use std::collections::HashMap;

/// Log probabilities of a whole answer, in the form of completions or of chats.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Logprobs {
    tokens: Option<Vec<String>>,
    token_logprobs: Option<Vec<Option<f64>>>,
    top_logprobs: Option<Vec<Option<HashMap<String, f64>>>>,
    content: Option<Vec<ChatToken>>,
}

#[derive(Deserialize)]
struct ChatToken {
    token: String,
    logprob: Option<f64>,
    #[serde(default)]
    top_logprobs: Vec<Top>,
}

#[derive(Deserialize)]
struct Top {
    token: String,
    logprob: f64,
}

/// One token of an answer, with how likely it was.
#[derive(Clone, Debug, PartialEq)]
pub struct LikelyToken {
    /// Its text.
    pub token: String,
    /// Its log probability, nats.
    pub logprob: Option<f64>,
    /// How much likelier the best token there was than the next best, nats; `None` where fewer than two are told.
    pub margin: Option<f64>,
    /// The likeliest other token there.
    pub next: Option<String>,
}

impl Logprobs {
    /// Each token of the answer.
    pub(super) fn tokens(self) -> Vec<LikelyToken> {
        if let Some(content) = self.content {
            let token = |token: ChatToken| {
                let told = token.top_logprobs.into_iter().map(|top| (top.token, top.logprob)).collect();
                likely(token.token, token.logprob, told)
            };
            return content.into_iter().map(token).collect();
        }
        let mut top = self.top_logprobs.unwrap_or_default().into_iter();
        let mut own = self.token_logprobs.unwrap_or_default().into_iter();
        let token = |token| {
            let told = top.next().flatten().unwrap_or_default();
            likely(token, own.next().flatten(), told.into_iter().collect())
        };
        self.tokens.unwrap_or_default().into_iter().map(token).collect()
    }
}

fn likely(token: String, logprob: Option<f64>, mut told: Vec<(String, f64)>) -> LikelyToken {
    told.sort_by(|(one, a), (other, b)| b.total_cmp(a).then_with(|| one.cmp(other)));
    let margin = told.first().zip(told.get(1)).map(|((_, best), (_, next))| best - next);
    let next = told.into_iter().map(|(other, _)| other).find(|other| *other != token);
    LikelyToken { token, logprob, margin, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(json: &str) -> Vec<LikelyToken> {
        serde_json::from_str::<Logprobs>(json).unwrap().tokens()
    }

    fn likely(token: &str, logprob: f64, margin: Option<f64>, next: Option<&str>) -> LikelyToken {
        let next = next.map(str::to_owned);
        LikelyToken { token: token.to_owned(), logprob: Some(logprob), margin, next }
    }

    #[test]
    fn both_forms_give_tokens_and_margins() {
        let completion = r#"{"tokens": ["a", "b"], "token_logprobs": [-0.5, -1], "text_offset": [0, 1],
            "top_logprobs": [{"a": -0.5, "c": -2.0}, null]}"#;
        let told = [likely("a", -0.5, Some(1.5), Some("c")), likely("b", -1.0, None, None)];
        assert_eq!(tokens(completion), told);
        let chat = r#"{"content": [{"token": "a", "logprob": -1.0, "bytes": null,
            "top_logprobs": [{"token": "a", "logprob": -1.0}, {"token": "b", "logprob": -1.25}]}]}"#;
        assert_eq!(tokens(chat), [likely("a", -1.0, Some(0.25), Some("b"))]);
    }
}
