use super::DatasetError;
use serde_json::{Map, Value};

/// The special tokens that transformers has a name for.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What a model's directory says about its tokenizer besides `tokenizer.json`, merged as transformers 5 does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TokenizerConfig {
    /// Special tokens by name, `bos_token` and the like; a chat template sees them under it.
    pub(super) named: Vec<(String, String)>,
    /// Special tokens without a name.
    pub(super) extra: Vec<String>,
    /// Further tokens that the configuration adds, with whether they are special, by id.
    pub(super) added: Vec<(String, bool)>,
    /// `add_bos_token` and `add_eos_token`; `None` where neither is said.
    pub(super) add_ends: Option<(bool, bool)>,
    /// Special tokens in a text are split like any other words.
    pub(super) split_special_tokens: bool,
    /// Spaces before punctuation are taken out of decoded text.
    pub(super) clean_up: bool,
    /// The one chat template, or that of the name `default`.
    pub(super) chat_template: Option<String>,
}

impl TokenizerConfig {
    /// The content of `tokenizer_config.json`, `special_tokens_map.json` and `chat_template.jinja`, as far as
    /// they are there.
    pub(super) fn parse(
        config: Option<&[u8]>,
        special_tokens_map: Option<&[u8]>,
        chat_template: Option<&[u8]>,
    ) -> Result<Self, DatasetError> {
        let mut fields = object("tokenizer_config.json", config)?;
        // The older file counts only where the newer one does not list its added tokens itself.
        if !fields.contains_key("added_tokens_decoder") {
            fields.extend(object("special_tokens_map.json", special_tokens_map)?);
        }
        let flag = |key: &str| fields.get(key).and_then(Value::as_bool);
        let ends = ["add_bos_token", "add_eos_token"];
        let add_ends = ends.iter().any(|end| fields.contains_key(*end));
        let file = chat_template.map(|bytes| utf8("chat_template.jinja", bytes)).transpose()?;
        Ok(Self {
            named: named_tokens(&fields),
            extra: extra_tokens(&fields),
            added: added_tokens(&fields),
            add_ends: add_ends.then(|| (flag(ends[0]).unwrap_or(false), flag(ends[1]).unwrap_or(false))),
            split_special_tokens: flag("split_special_tokens").unwrap_or(false),
            clean_up: flag("clean_up_tokenization_spaces").unwrap_or(false),
            chat_template: file.or_else(|| default_template(&fields)),
        })
    }

    /// The named token, such as `bos_token`.
    pub(super) fn token(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(key, _)| key == name).map(|(_, token)| token.as_str())
    }

    /// All special tokens, each once: what transformers calls `all_special_tokens`.
    pub(super) fn special_tokens(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        for token in self.named.iter().map(|(_, token)| token).chain(&self.extra) {
            if !all.contains(&token.as_str()) {
                all.push(token);
            }
        }
        all
    }
}

/// A token as a string or as an object that describes it.
fn content(value: &Value) -> Option<&str> {
    match value {
        Value::String(token) => Some(token),
        Value::Object(fields) => fields.get("content").and_then(Value::as_str),
        _ => None,
    }
}

/// The names of transformers, and those that a model adds: any other field called `…_token`.
fn named_tokens(fields: &Map<String, Value>) -> Vec<(String, String)> {
    let own = fields.keys().filter(|key| key.ends_with("_token") && !NAMED.contains(&key.as_str()));
    let names = NAMED.iter().copied().chain(own.map(String::as_str));
    let mut named: Vec<(String, String)> =
        names.filter_map(|name| Some((name.to_owned(), content(fields.get(name)?)?.to_owned()))).collect();
    if let Some(Value::Object(more)) = fields.get("extra_special_tokens") {
        named
            .extend(more.iter().filter_map(|(name, token)| Some((name.clone(), content(token)?.to_owned()))));
    }
    named
}

fn extra_tokens(fields: &Map<String, Value>) -> Vec<String> {
    let filled = |key: &str| fields.get(key).and_then(Value::as_array).filter(|tokens| !tokens.is_empty());
    let tokens = filled("extra_special_tokens").or_else(|| filled("additional_special_tokens"));
    tokens.into_iter().flatten().filter_map(content).map(str::to_owned).collect()
}

fn added_tokens(fields: &Map<String, Value>) -> Vec<(String, bool)> {
    let listed = fields.get("added_tokens_decoder").and_then(Value::as_object);
    let mut added: Vec<(u32, String, bool)> = listed
        .into_iter()
        .flatten()
        .filter_map(|(id, token)| {
            let special = token.get("special").and_then(Value::as_bool).unwrap_or(false);
            Some((id.parse().ok()?, content(token)?.to_owned(), special))
        })
        .collect();
    added.sort_unstable();
    added.into_iter().map(|(_, token, special)| (token, special)).collect()
}

fn default_template(fields: &Map<String, Value>) -> Option<String> {
    match fields.get("chat_template")? {
        Value::String(template) => Some(template.clone()),
        Value::Array(named) => named
            .iter()
            .find(|one| one.get("name").and_then(Value::as_str) == Some("default"))
            .and_then(|one| one.get("template")?.as_str())
            .map(str::to_owned),
        _ => None,
    }
}

fn object(file: &str, bytes: Option<&[u8]>) -> Result<Map<String, Value>, DatasetError> {
    let Some(bytes) = bytes else { return Ok(Map::new()) };
    serde_json::from_slice(bytes).map_err(|error| {
        DatasetError::whole(format!("{file} is not a JSON object: {error}"), "copy the file again")
    })
}

fn utf8(file: &str, bytes: &[u8]) -> Result<String, DatasetError> {
    let text = str::from_utf8(bytes).map_err(|error| {
        DatasetError::whole(format!("{file} is not UTF-8: {error}"), "copy the file again")
    })?;
    // As Python reads a text file.
    Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(config: &str, map: Option<&str>, template: Option<&str>) -> TokenizerConfig {
        TokenizerConfig::parse(Some(config.as_bytes()), map.map(str::as_bytes), template.map(str::as_bytes))
            .unwrap()
    }

    #[test]
    fn a_token_is_a_string_or_an_object() {
        let config = parse(
            r#"{"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "unk_token": null,
                "image_token": "<image>", "extra_special_tokens": ["<a>", {"content": "<b>"}, "<s>"]}"#,
            None,
            None,
        );
        assert_eq!((config.token("bos_token"), config.token("eos_token")), (Some("<s>"), Some("</s>")));
        assert_eq!(config.token("unk_token"), None);
        assert_eq!(config.special_tokens(), ["<s>", "</s>", "<image>", "<a>", "<b>"]);
        assert_eq!(config.add_ends, None);
    }

    #[test]
    fn the_older_map_counts_where_the_newer_file_lists_no_tokens() {
        let map = r#"{"eos_token": "<old>"}"#;
        assert_eq!(parse(r#"{"eos_token": "<new>"}"#, Some(map), None).token("eos_token"), Some("<old>"));
        let listed =
            r#"{"eos_token": "<new>", "added_tokens_decoder": {"7": {"content": "<x>", "special": true}}}"#;
        let config = parse(listed, Some(map), None);
        assert_eq!(config.token("eos_token"), Some("<new>"));
        assert_eq!(config.added, [("<x>".to_owned(), true)]);
    }

    #[test]
    fn the_templates_file_comes_before_the_configuration() {
        let one = r#"{"chat_template": "one"}"#;
        assert_eq!(parse(one, None, None).chat_template.as_deref(), Some("one"));
        assert_eq!(parse(one, None, Some("two\r\n")).chat_template.as_deref(), Some("two\n"));
        let named = r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
        assert_eq!(parse(named, None, None).chat_template.as_deref(), Some("d"));
        assert_eq!(parse(r#"{"add_bos_token": true}"#, None, None).add_ends, Some((true, false)));
    }

    #[test]
    fn a_broken_file_is_named() {
        let error = TokenizerConfig::parse(Some(b"[1]"), None, None).unwrap_err();
        assert!(error.to_string().starts_with("tokenizer_config.json is not a JSON object"), "{error}");
    }
}
