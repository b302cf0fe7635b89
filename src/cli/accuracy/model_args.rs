use super::flags::{items, pairs};
use crate::cli::{seconds, usage};
use crate::command::Error;
use serde_json::{Map, Value};
use std::str::FromStr;
use std::time::Duration;

/// `--model_args` as lm_eval takes it. Each key that is taken does something; no other is taken.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ModelArgs {
    pub(super) model: Option<String>,
    pub(super) base_url: Option<String>,
    pub(super) tokenizer: Option<String>,
    pub(super) num_concurrent: Option<usize>,
    pub(super) max_retries: Option<u32>,
    /// Prompts are sent as token ids.
    pub(super) token_ids: bool,
    /// Longest wait for an answer.
    pub(super) timeout: Option<Duration>,
    /// Tokens of prompt and answer together, which token ids are cut to.
    pub(super) max_length: Option<usize>,
    /// Longest answer in tokens where neither task nor --gen-kwargs has one.
    pub(super) max_gen_toks: Option<u32>,
    /// Any certificate is accepted.
    pub(super) insecure: bool,
    /// What was typed, for the file of lm_eval.
    pub(super) typed: Map<String, Value>,
}

const FLAG: &str = "--model-args";
const WORDS: [&str; 12] = [
    "model",
    "pretrained",
    "base_url",
    "num_concurrent",
    "max_retries",
    "tokenizer",
    "tokenizer_backend",
    "tokenized_requests",
    "timeout",
    "max_length",
    "max_gen_toks",
    "verify_certificate",
];

impl ModelArgs {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut arguments = Self { typed: pairs(FLAG, text)?, ..Self::default() };
        let (mut backend, mut tokenized) = (None, None);
        for (key, value) in items(FLAG, text)? {
            match key {
                "model" | "pretrained" => arguments.model = Some(value.to_owned()),
                "base_url" => arguments.base_url = Some(value.to_owned()),
                "tokenizer" => arguments.tokenizer = optional(value).map(str::to_owned),
                "num_concurrent" => arguments.num_concurrent = Some(whole(key, value, 1)?),
                "max_retries" => arguments.max_retries = Some(whole(key, value, 0)?),
                "max_length" => arguments.max_length = Some(whole(key, value, 2)?),
                "max_gen_toks" => arguments.max_gen_toks = Some(whole(key, value, 1)?),
                "timeout" => {
                    let time = seconds(value).map_err(|_| unreadable(key, value, "seconds above 0"))?;
                    arguments.timeout = Some(time);
                }
                "verify_certificate" => arguments.insecure = !truth(key, value)?,
                "tokenized_requests" => tokenized = Some(truth(key, value)?),
                "tokenizer_backend" => {
                    backend = optional(value);
                    if backend.is_some_and(|backend| backend != "huggingface") {
                        return Err(unreadable(key, value, "huggingface or None"));
                    }
                }
                _ => {
                    return Err(usage(format!("{FLAG}: `{}` is not known", key.escape_debug()))
                        .help(format!("want some of {}", WORDS.join(", "))));
                }
            }
        }
        // To lm_eval a tokenizer alone makes token ids; here the line has to say so.
        let by_backend = backend.is_some() && arguments.tokenizer.is_some();
        arguments.token_ids = tokenized.unwrap_or(by_backend);
        Ok(arguments)
    }
}

/// A text, unless it is Python's word for none.
fn optional(value: &str) -> Option<&str> {
    Some(value).filter(|value| !value.eq_ignore_ascii_case("none"))
}

fn whole<T: FromStr + PartialOrd + From<u8>>(key: &str, value: &str, least: u8) -> Result<T, Error> {
    let number = value.parse().ok().filter(|number| T::from(least) <= *number);
    number.ok_or_else(|| unreadable(key, value, &format!("a whole number, {least} at least")))
}

fn truth(key: &str, value: &str) -> Result<bool, Error> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(unreadable(key, value, "True or False")),
    }
}

fn unreadable(key: &str, value: &str, want: &str) -> Error {
    usage(format!("{FLAG}: `{key}={}` cannot be read", value.escape_debug())).help(format!("want {want}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_read_by_its_own_kind() {
        let text = "model=7,base_url=http://x/?a=b,num_concurrent=8,max_retries=0,timeout=2.5,max_length=4096,\
                    max_gen_toks=512,verify_certificate=False,tokenizer=dir,tokenizer_backend=huggingface";
        let mut read = ModelArgs::parse(text).unwrap();
        assert_eq!(std::mem::take(&mut read.typed).len(), 10);
        let wanted = ModelArgs {
            model: Some("7".to_owned()),
            base_url: Some("http://x/?a=b".to_owned()),
            tokenizer: Some("dir".to_owned()),
            num_concurrent: Some(8),
            max_retries: Some(0),
            token_ids: true,
            timeout: Some(Duration::from_millis(2500)),
            max_length: Some(4096),
            max_gen_toks: Some(512),
            insecure: true,
            typed: Map::new(),
        };
        assert_eq!(read, wanted);
    }

    #[test]
    fn token_ids_are_sent_where_a_line_of_lm_eval_says_so() {
        for (text, ids) in [
            ("tokenizer=dir", false),
            ("tokenizer=dir,tokenizer_backend=None", false),
            ("tokenizer=dir,tokenizer_backend=huggingface", true),
            ("tokenizer=dir,tokenizer_backend=huggingface,tokenized_requests=False", false),
            ("tokenizer_backend=huggingface", false),
            ("tokenized_requests=True", true),
        ] {
            assert_eq!(ModelArgs::parse(text).unwrap().token_ids, ids, "{text}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_read_is_named_with_its_key() {
        for text in [
            "num_concurrent=0",
            "num_concurrent=many",
            "max_retries=-1",
            "max_retries=4294967296",
            "timeout=soon",
            "timeout=0",
            "max_length=1",
            "max_gen_toks=0.5",
            "verify_certificate=perhaps",
            "tokenized_requests=1",
            "tokenizer_backend=tiktoken",
        ] {
            let error = ModelArgs::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
        assert!(ModelArgs::parse("seed=7").unwrap_err().to_string().contains("`seed` is not known"));
    }
}
