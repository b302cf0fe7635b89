//! What vLLM's own dataset classes made, and the tokenizer they made it with: scripts/dataset-vectors.py.

use super::{Request, TokenCounter, Tokenizer, TokenizerFiles};
use jiff::civil::DateTime;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Digest of the prompt, its length, the output length.
pub(super) type Made = (String, u32, u32);

#[derive(Deserialize)]
pub(super) struct Vectors {
    pub(super) facts: Facts,
    pub(super) sonnet: Vec<SonnetCase>,
    pub(super) random: Vec<RandomCase>,
    pub(super) conversations: Value,
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
    pub(super) range: Value,
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

/// That tokenizer with its `tokenizer.json` changed, and nothing said about it elsewhere.
pub(super) fn changed(change: impl Fn(&mut Value)) -> Tokenizer {
    let json = include_bytes!("../../tests/data/tiny-tokenizer/tokenizer.json");
    let mut json: Value = serde_json::from_slice(json).unwrap();
    change(&mut json);
    let json = serde_json::to_vec(&json).unwrap();
    let files = TokenizerFiles { tokenizer: &json, ..TokenizerFiles::default() };
    Tokenizer::load("changed", &files, DateTime::constant(2026, 1, 2, 3, 4, 5, 0)).unwrap()
}

/// Tokenizers whose steps are known, made of the one of the tests.
pub(super) fn known_tokenizers() -> Vec<Tokenizer> {
    let with = |change: &dyn Fn(&mut Value)| changed(change);
    let pattern = |text: &'static str| {
        move |json: &mut Value| json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = text.into()
    };
    let qwen = pattern(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    );
    vec![
        tokenizer(),
        with(&|json| json["model"]["ignore_merges"] = true.into()),
        with(&|json| {
            qwen(json);
            json["normalizer"] = json!({"type": "NFC"});
            json["model"]["continuing_subword_prefix"] = "".into();
            json["model"]["end_of_word_suffix"] = "".into();
        }),
        with(&|json| {
            json["pre_tokenizer"] = json["pre_tokenizer"]["pretokenizers"][1].take();
            json["pre_tokenizer"]["use_regex"] = true.into();
        }),
        with(&|json| {
            json["added_tokens"][2]["content"] = "an".into();
            json["added_tokens"][2]["normalized"] = true.into();
            json["model"]["ignore_merges"] = true.into();
            // Tokens that no merge leads to any more.
            let merges = json["model"]["merges"].as_array_mut().unwrap();
            *merges = std::mem::take(merges).into_iter().step_by(3).collect();
            let known: Vec<String> =
                merges.iter().map(|pair| format!("{}{}", text(&pair[0]), text(&pair[1]))).collect();
            let is_made = |token: &Value| {
                token.as_str().is_some_and(|token| {
                    token.chars().count() == 1 || known.iter().any(|known| known == token)
                })
            };
            merges.retain(|pair| is_made(&pair[0]) && is_made(&pair[1]));
        }),
        with(&|json| add_han(json)),
        with(&|json| {
            add_han(json);
            json["normalizer"] = json!({"type": "NFC"});
            json["model"]["ignore_merges"] = true.into();
        }),
    ]
}

/// Adds tokens of a script that has no spaces: characters, and words of two to four of them.
fn add_han(json: &mut Value) {
    // Ids from that of an added token on are wanted.
    json["added_tokens"].as_array_mut().unwrap().truncate(1);
    let Value::Object(model) = &mut json["model"] else { panic!("no model") };
    let mut add = |left: &str, right: &str| {
        let token = format!("{left}{right}");
        let vocabulary = model["vocab"].as_object_mut().unwrap();
        if !vocabulary.contains_key(&token) {
            vocabulary.insert(token.clone(), vocabulary.len().into());
            model["merges"].as_array_mut().unwrap().push(json!([left, right]));
        }
        token
    };
    // U+4E21 to U+4E5E are the bytes E4 B8 A1 to E4 B9 9E; those from A1 on, AD left out, stand for themselves.
    let bytes = (0xa1..=0xac_u8).chain(0xae..=0xbf).map(char::from);
    let first = add("ä", "¸");
    let mut words: Vec<String> = bytes.map(|last| add(&first, &last.to_string())).collect();
    for i in 0..300 {
        let (left, right) = (words[i * 7 % words.len()].clone(), words[(i * i + 3) % words.len()].clone());
        if left.len() + right.len() <= 24 {
            words.push(add(&left, &right));
        }
    }
}

fn text(token: &Value) -> &str {
    token.as_str().unwrap()
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
