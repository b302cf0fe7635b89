use crate::cli::usage;
use crate::command::Error;
use crate::wire::openai::{ChatContent, TokensField};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

/// What is asked of the model besides the prompt.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(super) struct SamplingArgs {
    /// Tell the server to go on past the end-of-sequence token; always with dataset random, as vLLM does
    #[arg(long)]
    pub(super) ignore_eos: bool,
    /// Log probabilities per token; of completions only, as in `vllm bench serve`
    #[arg(long, value_name = "N")]
    pub(super) logprobs: Option<u32>,
    /// Sampling temperature; this and the following are left to the server unless they are given
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Nucleus sampling
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// Top-k sampling
    #[arg(long, value_name = "K", allow_hyphen_values = true)]
    top_k: Option<i64>,
    /// Least probability relative to the likeliest token
    #[arg(long, value_name = "P")]
    min_p: Option<f64>,
    /// Penalty on tokens by their frequency
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    frequency_penalty: Option<f64>,
    /// Penalty on tokens that occurred
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    presence_penalty: Option<f64>,
    /// Penalty on repetition
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f64>,
    /// JSON object merged into each request body, last
    #[arg(long, value_name = "JSON")]
    extra_body: Option<String>,
    /// Chat field of the output length; PD proxies lower only max_tokens for the prefill leg
    #[arg(long, default_value = "max_tokens", value_name = "FIELD")]
    chat_max_tokens_field: ChatTokensField,
    /// Form of a chat's message: plain text, or the list with one part that `vllm bench serve` sends
    #[arg(long, default_value = "string", value_name = "FORM")]
    chat_content: ChatForm,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ChatForm {
    String,
    Parts,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum ChatTokensField {
    MaxTokens,
    MaxCompletionTokens,
}

impl SamplingArgs {
    pub(super) fn chat_tokens_field(&self) -> TokensField {
        match self.chat_max_tokens_field {
            ChatTokensField::MaxTokens => TokensField::MaxTokens,
            ChatTokensField::MaxCompletionTokens => TokensField::MaxCompletionTokens,
        }
    }

    pub(super) fn chat_content(&self) -> ChatContent {
        match self.chat_content {
            ChatForm::String => ChatContent::Text,
            ChatForm::Parts => ChatContent::Parts,
        }
    }

    /// Sampling parameters that were typed, in vLLM's order, then the extra body's keys.
    pub(super) fn extra_body(&self) -> Result<Map<String, Value>, Error> {
        let typed = [
            ("top_p", self.top_p.map(|x| json!(x))),
            ("top_k", self.top_k.map(|k| json!(k))),
            ("min_p", self.min_p.map(|x| json!(x))),
            ("temperature", self.temperature.map(|x| json!(x))),
            ("frequency_penalty", self.frequency_penalty.map(|x| json!(x))),
            ("presence_penalty", self.presence_penalty.map(|x| json!(x))),
            ("repetition_penalty", self.repetition_penalty.map(|x| json!(x))),
        ];
        let mut body = Map::new();
        for (key, value) in typed {
            match value {
                Some(Value::Null) => {
                    return Err(usage(format!("--{} is not a finite number", key.replace('_', "-"))));
                }
                Some(value) => drop(body.insert(key.to_owned(), value)),
                None => {}
            }
        }
        if let Some(text) = &self.extra_body {
            let extra: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
                usage("--extra-body is not a JSON object")
                    .caused_by(error)
                    .help("want something like --extra-body '{\"top_k\": 20}'")
            })?;
            body.extend(extra);
        }
        Ok(body)
    }
}
