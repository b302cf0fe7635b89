use super::pieces::Pattern;
use super::tokenizer_config::TokenizerConfig;
use super::{ChatTemplate, DatasetError};
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, ModelWrapper, PostProcessor};

/// A model's tokenizer as transformers loads it from a directory: token for token what `vllm bench serve`
/// counts with. Tokenizers that exist as Python code only are not for us.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    name: String,
    special_ids: Vec<u32>,
    clean_up: bool,
    template: Option<ChatTemplate>,
    eos: Option<String>,
}

/// The bytes of the files that a tokenizer is made from.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenizerFiles<'a> {
    /// `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// `tokenizer_config.json`, where there is one.
    pub config: Option<&'a [u8]>,
    /// `special_tokens_map.json`, where there is one.
    pub special_tokens_map: Option<&'a [u8]>,
    /// `chat_template.jinja`, where there is one.
    pub chat_template: Option<&'a [u8]>,
}

/// What a byte-pair model consists of.
pub(super) struct Model {
    /// Ids of the tokens, without those added.
    pub(super) vocabulary: HashMap<String, u32>,
    /// Pairs of tokens, the first to be merged first.
    pub(super) merges: Vec<(String, String)>,
    /// A piece that is a token is left whole, whatever its merges would make of it.
    pub(super) ignores_merges: bool,
}

#[derive(Deserialize)]
struct Merges {
    merges: Vec<(String, String)>,
}

/// Whether a text gets the tokens around it that the model wants, such as a beginning of sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// As the model wants it: how prompts are counted.
    Added,
    /// The text alone.
    Bare,
}

impl Tokenizer {
    /// The tokenizer made of `files`, called `name` in results. `now` is the local time that a chat template
    /// may ask for.
    ///
    /// # Errors
    /// Says which file is not as it should be.
    pub fn load(name: &str, files: &TokenizerFiles<'_>, now: DateTime) -> Result<Self, DatasetError> {
        let config = TokenizerConfig::parse(files.config, files.special_tokens_map, files.chat_template)?;
        let mut inner = tokenizers::Tokenizer::from_bytes(files.tokenizer).map_err(|error| {
            let help = "give the model's `tokenizer.json`; with --skip-tokenizer-init lengths are estimated";
            DatasetError::whole(format!("tokenizer.json cannot be used: {error}"), help)
        })?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| unusable(&*error))?;
        inner.set_encode_special_tokens(config.split_special_tokens);
        add_missing(&mut inner, &config);
        if config.add_ends.is_some() || inner.get_post_processor().is_none() {
            put_ends(&mut inner, &config)?;
        }
        let special_ids =
            config.special_tokens().iter().filter_map(|token| inner.token_to_id(token)).collect();
        // transformers leaves the text of byte-pair models alone, whatever the configuration says.
        let clean_up = config.clean_up && !matches!(inner.get_model(), ModelWrapper::BPE(_));
        let template = config.chat_template.as_deref();
        let template = template.map(|text| ChatTemplate::parse(text, &config.named, now)).transpose()?;
        let eos = config.token("eos_token").map(str::to_owned);
        Ok(Self { inner, name: name.to_owned(), special_ids, clean_up, template, eos })
    }

    /// What it is called in results.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The ids of a text.
    ///
    /// # Errors
    /// If the tokenizer cannot take the text: a token is unknown and there is none for the unknown, say.
    pub fn encode(&self, text: &str, ends: Ends) -> Result<Vec<u32>, DatasetError> {
        let encoding =
            self.inner.encode_fast(text, ends == Ends::Added).map_err(|error| unusable(&*error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Tokens of a text with the ends that the model wants: `len(tokenizer(text).input_ids)`.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn count(&self, text: &str) -> Result<u32, DatasetError> {
        let encoding = self.inner.encode_fast(text, true).map_err(|error| unusable(&*error))?;
        Ok(u32::try_from(encoding.len()).unwrap_or(u32::MAX))
    }

    /// The text of ids, special tokens included. Bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// If the tokenizer cannot.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DatasetError> {
        let text = self.inner.decode(ids, false).map_err(|error| unusable(&*error))?;
        Ok(if self.clean_up { cleaned_up(text) } else { text })
    }

    /// Ids of the vocabulary without those added to it: transformers' `vocab_size`.
    pub fn vocab_size(&self) -> u32 {
        u32::try_from(self.inner.get_vocab_size(false)).unwrap_or(u32::MAX)
    }

    /// How many tokens [`Ends::Added`] adds to a text.
    pub fn num_special_tokens_to_add(&self) -> u32 {
        let added = self.inner.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        u32::try_from(added).unwrap_or(u32::MAX)
    }

    /// Ids of the special tokens: transformers' `all_special_ids`.
    pub fn special_ids(&self) -> &[u32] {
        &self.special_ids
    }

    /// One more than the highest id, added tokens included.
    pub(super) fn len(&self) -> u32 {
        self.inner.get_vocab(true).values().max().map_or(0, |id| id + 1)
    }

    /// Whether a token was added to the vocabulary, and is found in a text by a rule of its own.
    pub(super) fn is_added(&self, id: u32) -> bool {
        self.inner.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id)
    }

    /// The bytes that a token of a byte-level vocabulary stands for; none for an id that is not there.
    pub(super) fn bytes_of(&self, id: u32) -> Vec<u8> {
        let Some(token) = self.inner.id_to_token(id) else { return Vec::new() };
        let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
        bytes.unwrap_or_else(|| token.into_bytes())
    }

    /// The pattern and the model of a byte-level BPE that cuts text by a known pattern and decodes to what it was made
    /// of, and of which nothing else has a say: neither chance, nor unknown tokens, nor spaces around added tokens.
    pub(super) fn known_steps(&self) -> Option<(Pattern, Model)> {
        let ModelWrapper::BPE(bpe) = self.inner.get_model() else { return None };
        let is_empty = |affix: &Option<String>| affix.as_deref().unwrap_or_default().is_empty();
        let is_plain = bpe.dropout.is_none()
            && is_empty(bpe.get_continuing_subword_prefix())
            && is_empty(&bpe.end_of_word_suffix);
        let normalizer = described(self.inner.get_normalizer());
        let added = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        let is_known = is_plain
            && (normalizer.is_null() || self.normalises())
            && described(self.inner.get_decoder())["type"] == "ByteLevel"
            && added.values().all(|token| !token.lstrip && !token.rstrip && !token.single_word);
        let pattern = self.pattern().filter(|_| is_known)?;
        let vocabulary = self.inner.get_vocab(false);
        // The crate shows merges only when it writes the model out, and then prints a line about ids left out.
        let has_holes = vocabulary.values().any(|id| vocabulary.len() <= *id as usize);
        if has_holes {
            return None;
        }
        let merges = serde_json::to_vec(self.inner.get_model()).ok()?;
        let Merges { merges } = serde_json::from_slice(&merges).ok()?;
        let ignores_merges = bpe.ignore_merges;
        Some((pattern, Model { vocabulary, merges, ignores_merges }))
    }

    /// Whether text is brought to NFC, and nothing more, before it is cut.
    pub(super) fn normalises(&self) -> bool {
        described(self.inner.get_normalizer())["type"] == "NFC"
    }

    /// The texts of the tokens that were added to the vocabulary.
    pub(super) fn added_texts(&self) -> impl Iterator<Item = &String> {
        self.inner.get_added_vocabulary().get_vocab().keys()
    }

    /// The pattern that text is cut by, where it is a known one and bytes are all that comes behind it.
    fn pattern(&self) -> Option<Pattern> {
        let pre = described(self.inner.get_pre_tokenizer());
        let bytes = |pre: &Value, regex: bool| {
            pre["type"] == "ByteLevel" && pre["add_prefix_space"] == false && pre["use_regex"] == regex
        };
        if bytes(&pre, true) {
            return Some(Pattern::Gpt2);
        }
        match pre["pretokenizers"].as_array().map_or(&[][..], Vec::as_slice) {
            [split, last] if pre["type"] == "Sequence" && split["type"] == "Split" && bytes(last, false) => {
                let is_plain = split["behavior"] == "Isolated" && split["invert"] == false;
                Pattern::of(split["pattern"]["Regex"].as_str()?).filter(|_| is_plain)
            }
            _ => None,
        }
    }

    /// The token that ends a sequence, where the model names one.
    pub fn eos_token(&self) -> Option<&str> {
        self.eos.as_deref()
    }

    /// How a conversation becomes a prompt, where the model says so.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The byte that a character of a byte-level vocabulary stands for: itself where it is printable, else the
/// next free character from 256 on.
pub(super) fn byte_of(c: char) -> Option<u8> {
    let printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    match u8::try_from(u32::from(c)) {
        Ok(byte) => printable(byte).then_some(byte),
        Err(_) => (0..=u8::MAX).filter(|byte| !printable(*byte)).nth(u32::from(c) as usize - 256),
    }
}

/// A part of a tokenizer, as `tokenizer.json` has it.
fn described(part: impl Serialize) -> Value {
    serde_json::to_value(part).unwrap_or_default()
}

fn unusable(error: &dyn fmt::Display) -> DatasetError {
    let help = "check that the tokenizer is the model's own; --skip-tokenizer-init estimates lengths instead";
    DatasetError::whole(format!("the tokenizer fails: {error}"), help)
}

/// Tokens that only the configuration has, after those of `tokenizer.json`.
fn add_missing(inner: &mut tokenizers::Tokenizer, config: &TokenizerConfig) {
    for (token, special) in &config.added {
        if inner.token_to_id(token).is_none() {
            inner.add_tokens(&[AddedToken::from(token.as_str(), *special)]);
        }
    }
    let special: Vec<AddedToken> =
        config.special_tokens().into_iter().map(|token| AddedToken::from(token, true)).collect();
    inner.add_special_tokens(&special);
}

/// The ends of a text by `add_bos_token` and `add_eos_token`, which stand above `tokenizer.json`.
fn put_ends(inner: &mut tokenizers::Tokenizer, config: &TokenizerConfig) -> Result<(), DatasetError> {
    let (bos, eos) = config.add_ends.unwrap_or_default();
    let wanted = |wanted: bool, name: &str| config.token(name).filter(|_| wanted);
    let (bos, eos) = (wanted(bos, "bos_token"), wanted(eos, "eos_token"));
    let around = |first: &str, piece: String| {
        let bos = bos.map_or(String::new(), |token| format!("{token}:{first} "));
        let eos = eos.map_or(String::new(), |token| format!(" {token}:{first}"));
        format!("{bos}{piece}{eos}")
    };
    let single = around("0", "$A:0".to_owned());
    let pair = format!("{single} {}", around("1", "$B:1".to_owned()));
    let special: Vec<(String, u32)> = [bos, eos]
        .into_iter()
        .flatten()
        .filter_map(|token| Some((token.to_owned(), inner.token_to_id(token)?)))
        .collect();
    let mut builder = TemplateProcessing::builder();
    builder.try_single(single).map_err(|error| unusable(&error))?;
    builder.try_pair(pair).map_err(|error| unusable(&error))?;
    let processor = builder.special_tokens(special).build().map_err(|error| unusable(&error))?;
    inner.with_post_processor(Some(processor));
    Ok(())
}

/// Spaces before English punctuation and contractions taken out, in transformers' order.
fn cleaned_up(text: String) -> String {
    let spaced = [" .", " ?", " !", " ,"].into_iter();
    let text = spaced.fold(text, |text, mark| text.replace(mark, &mark[1..]));
    let text = text.replace(" ' ", "'");
    [" n't", " 'm", " 's", " 've", " 're"].into_iter().fold(text, |text, end| text.replace(end, &end[1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::testing::{tokenizer, vectors};

    #[test]
    fn ids_and_texts_equal_those_of_transformers() {
        let (tokenizer, facts) = (tokenizer(), vectors().facts);
        assert_eq!(tokenizer.vocab_size(), facts.vocab_size);
        assert_eq!(tokenizer.special_ids(), facts.special_ids);
        assert_eq!(tokenizer.num_special_tokens_to_add(), facts.num_special_tokens_to_add);
        for (text, whole, bare) in facts.encoded {
            assert_eq!(tokenizer.encode(&text, Ends::Added).unwrap(), whole, "{text:?}");
            assert_eq!(tokenizer.encode(&text, Ends::Bare).unwrap(), bare, "{text:?}");
            assert_eq!(tokenizer.count(&text).unwrap() as usize, whole.len());
        }
        for (ids, text) in facts.decoded {
            assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{ids:?}");
        }
    }

    #[test]
    fn the_configuration_decides_about_the_ends() {
        let json = include_bytes!("../../tests/data/tiny-tokenizer/tokenizer.json");
        let with = |config: &[u8]| {
            let files = TokenizerFiles { tokenizer: json, config: Some(config), ..TokenizerFiles::default() };
            Tokenizer::load("t", &files, DateTime::MIN).unwrap()
        };
        let bare = with(br#"{"bos_token": "<|begin|>", "add_bos_token": false}"#);
        assert_eq!((bare.num_special_tokens_to_add(), bare.count("").unwrap()), (0, 0));
        let both = br#"{"bos_token": "<|begin|>", "eos_token": "<new>", "add_bos_token": true, "add_eos_token": true}"#;
        let both = with(both);
        assert_eq!(both.encode("", Ends::Added).unwrap(), [0, 1202]);
        assert_eq!(both.special_ids(), [0, 1202]);
    }

    #[test]
    fn a_file_that_is_no_tokenizer_is_refused() {
        let files = TokenizerFiles { tokenizer: b"{}", ..TokenizerFiles::default() };
        let error = Tokenizer::load("t", &files, DateTime::MIN).unwrap_err();
        assert!(error.to_string().starts_with("tokenizer.json cannot be used"), "{error}");
    }

    #[test]
    fn spaces_before_punctuation_can_be_cleaned_up() {
        assert_eq!(cleaned_up("It is n't , so . it 's".to_owned()), "It isn't, so. it's");
    }
}
