use serde::Deserialize;
use std::collections::HashMap;

/// Log probabilities of a whole answer, in the form of completions or of chats.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Logprobs {
    tokens: Option<Vec<String>>,
    top_logprobs: Option<Vec<Option<HashMap<String, f64>>>>,
    content: Option<Vec<ChatToken>>,
}

#[derive(Deserialize)]
struct ChatToken {
    token: String,
    #[serde(default)]
    top_logprobs: Vec<Top>,
}

#[derive(Deserialize)]
struct Top {
    logprob: f64,
}

impl Logprobs {
    /// Each token with its margin over the next best, nats; `None` where fewer than two are told.
    pub(super) fn tokens(self) -> Vec<(String, Option<f64>)> {
        if let Some(content) = self.content {
            let token = |token: ChatToken| {
                let margin = margin(token.top_logprobs.iter().map(|top| top.logprob));
                (token.token, margin)
            };
            return content.into_iter().map(token).collect();
        }
        let mut top = self.top_logprobs.unwrap_or_default().into_iter();
        let token = |token| {
            let told = top.next().flatten().unwrap_or_default();
            (token, margin(told.values().copied()))
        };
        self.tokens.unwrap_or_default().into_iter().map(token).collect()
    }
}

/// The greatest of these less the next.
fn margin(logprobs: impl Iterator<Item = f64>) -> Option<f64> {
    let mut all: Vec<f64> = logprobs.collect();
    all.sort_by(|a, b| b.total_cmp(a));
    Some(all.first()? - all.get(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(json: &str) -> Vec<(String, Option<f64>)> {
        serde_json::from_str::<Logprobs>(json).unwrap().tokens()
    }

    #[test]
    fn both_forms_give_tokens_and_margins() {
        let completion = r#"{"tokens": ["a", "b"], "token_logprobs": [-0.5, -1], "text_offset": [0, 1],
            "top_logprobs": [{"a": -0.5, "c": -2.0}, null]}"#;
        assert_eq!(tokens(completion), [("a".into(), Some(1.5)), ("b".into(), None)]);
        let chat = r#"{"content": [{"token": "a", "logprob": -1.0, "bytes": null,
            "top_logprobs": [{"token": "a", "logprob": -1.0}, {"token": "b", "logprob": -1.25}]}]}"#;
        assert_eq!(tokens(chat), [("a".into(), Some(0.25))]);
    }
}
