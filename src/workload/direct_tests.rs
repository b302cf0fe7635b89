use super::*;
use crate::workload::testing::{changed, known_tokenizers, tokenizer};
use crate::workload::{Ends, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn what_is_not_known_of_a_tokenizer_is_left_to_it() {
    let not_known: [&dyn Fn(&mut Value); 9] = [
        &|json| json["model"]["dropout"] = 0.5.into(),
        &|json| json["model"]["end_of_word_suffix"] = "</w>".into(),
        &|json| json["normalizer"] = json!({"type": "Lowercase"}),
        &|json| json["decoder"] = Value::Null,
        &|json| json["added_tokens"][0]["lstrip"] = true.into(),
        &|json| json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\s+".into(),
        &|json| json["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Removed".into(),
        &|json| json["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true.into(),
        &|json| {
            // No token for an exclamation mark, and so a hole among the ids.
            json["model"]["vocab"].as_object_mut().unwrap().shift_remove("!").unwrap();
        },
    ];
    for (i, change) in not_known.into_iter().enumerate() {
        assert!(Direct::new(&changed(change)).is_none(), "{i}");
    }
}

#[test]
fn a_text_with_an_added_token_is_left_to_the_tokenizer() {
    let tokenizer = tokenizer();
    let direct = Direct::new(&tokenizer).unwrap();
    let mut ids = vec![7];
    assert!(!direct.encode_into("the <|end|> is", &mut ids));
    assert!(!direct.encode_into(&" ".repeat(LONGEST + 1), &mut ids));
    assert_eq!(ids, [7]);
    assert!(direct.encode_into("the <|end |> is", &mut ids));
}

/// Texts of words, of pieces of words, and of what tokenizers treat in ways of their own.
fn texts() -> impl Strategy<Value = String> {
    let words = " the|then| and|'s|'LL|  |\n|\r\n| \n|\t|!|?!| (|, and so|12|345|6|ing|ation|<|end|>|<|end|>|日本|é|e\u{301}|ñ|한글|\u{1112}\u{1161}|ш|\u{340}|\u{212a}|\u{37e}|😀|\u{fffd}|\u{a0}|x|Q|zz";
    let word = prop_oneof![
        8 => prop::sample::select(words.split('|').collect::<Vec<_>>()).prop_map(str::to_owned),
        2 => "[a-zA-Z]{1,12}",
        1 => any::<char>().prop_map(String::from),
        1 => Just("<|end|>".to_owned()),
    ];
    let long = prop_oneof!["[a-z]{60,300}", "[ab]{64,200}", " {30,90}", "[é日a]{50,90}"];
    prop_oneof![8 => prop::collection::vec(word, 0..30).prop_map(|words| words.concat()), 1 => long]
}

fn assert_encoded_alike(direct: &Direct, tokenizer: &Tokenizer, text: &str) -> bool {
    let mut ids = Vec::new();
    let is_plain = direct.encode_into(text, &mut ids);
    if is_plain {
        assert_eq!(ids, tokenizer.encode(text, Ends::Bare).unwrap(), "{text:?}");
    }
    is_plain
}

#[test]
fn texts_are_encoded_as_the_tokenizer_encodes_them() {
    for (i, tokenizer) in known_tokenizers().iter().enumerate() {
        let direct = Direct::new(tokenizer).unwrap();
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(500));
        let plain = std::cell::Cell::new(0);
        runner
            .run(&texts(), |text| {
                plain.set(plain.get() + usize::from(assert_encoded_alike(&direct, tokenizer, &text)));
                Ok(())
            })
            .unwrap_or_else(|fault| panic!("tokenizer {i}: {fault}"));
        assert!(100 < plain.get(), "tokenizer {i}: only {} texts were plain", plain.get());
    }
}

#[test]
fn texts_of_random_tokens_are_encoded_as_the_tokenizer_encodes_them() {
    for tokenizer in known_tokenizers() {
        let direct = Direct::new(&tokenizer).unwrap();
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(100));
        runner
            .run(&prop::collection::vec(0..tokenizer.len(), 0..60), |ids| {
                assert_encoded_alike(&direct, &tokenizer, &tokenizer.decode(&ids).unwrap());
                Ok(())
            })
            .unwrap();
    }
}
