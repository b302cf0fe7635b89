//! What vLLM's own dataset classes made, and the tokenizer they made it with: scripts/dataset-vectors.py.

use super::{Request, TokenCounter, Tokenizer, TokenizerFiles};
use jiff::civil::DateTime;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Digest of the prompt, its length, the output length.
pub(super) type Made = (String, u32, u32);

#[derive(Deserialize)]
pub(super) struct Vectors {
    pub(super) facts: Facts,
    pub(super) sonnet: Vec<SonnetCase>,
    pub(super) random: Vec<RandomCase>,
    pub(super) conversations: serde_json::Value,
    pub(super) sharegpt: Vec<ShareGptCase>,
    pub(super) custom: Vec<CustomCase>,
    pub(super) integers: Vec<Integers>,
}

#[derive(Deserialize)]
pub(super) struct Facts {
    pub(super) vocab_size: u32,
    pub(super) special_ids: Vec<u32>,
    pub(super) num_special_tokens_to_add: u32,
    /// Text, ids with ends, ids without.
    pub(super) encoded: Vec<(String, Vec<u32>, Vec<u32>)>,
    pub(super) decoded: Vec<(Vec<u32>, String)>,
}

#[derive(Deserialize)]
pub(super) struct SonnetCase {
    pub(super) seed: u32,
    pub(super) input_len: u32,
    pub(super) prefix_len: u32,
    pub(super) output_len: u32,
    pub(super) templated: bool,
    pub(super) made: Vec<Made>,
}

#[derive(Deserialize)]
pub(super) struct RandomCase {
    pub(super) seed: u32,
    pub(super) input_len: u32,
    pub(super) output_len: u32,
    pub(super) range: serde_json::Value,
    pub(super) prefix_len: u32,
    pub(super) made: Vec<Made>,
}

#[derive(Deserialize)]
pub(super) struct ShareGptCase {
    pub(super) seed: u32,
    pub(super) num_prompts: usize,
    pub(super) output_len: Option<u32>,
    pub(super) oversample: bool,
    pub(super) made: Vec<Made>,
}

#[derive(Deserialize)]
pub(super) struct CustomCase {
    pub(super) text: String,
    pub(super) seed: u32,
    pub(super) num_prompts: usize,
    pub(super) skip_chat_template: bool,
    pub(super) made: Vec<Made>,
}

#[derive(Deserialize)]
pub(super) struct Integers {
    pub(super) seed: u32,
    /// Low, high, what was drawn.
    pub(super) draws: Vec<(i64, i64, Vec<i64>)>,
}

pub(super) fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../tests/golden/dataset-vectors.json")).unwrap()
}

pub(super) fn tokenizer() -> Tokenizer {
    let files = TokenizerFiles {
        tokenizer: include_bytes!("../../tests/data/tiny-tokenizer/tokenizer.json"),
        config: Some(include_bytes!("../../tests/data/tiny-tokenizer/tokenizer_config.json")),
        special_tokens_map: None,
        chat_template: Some(include_bytes!("../../tests/data/tiny-tokenizer/chat_template.jinja")),
    };
    Tokenizer::load("tiny", &files, DateTime::constant(2026, 1, 2, 3, 4, 5, 0)).unwrap()
}

pub(super) fn counter() -> TokenCounter {
    TokenCounter::Tokenizer(Arc::new(tokenizer()))
}

pub(super) fn made(requests: &[Request]) -> Vec<Made> {
    let digest = |text: &str| -> String {
        Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    };
    let one =
        |request: &Request| (digest(&request.prompt.text()), request.prompt_tokens, request.output_tokens);
    requests.iter().map(one).collect()
}
