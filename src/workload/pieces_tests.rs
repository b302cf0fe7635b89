use super::*;
use proptest::prelude::*;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior};

/// The pieces, as the pre-tokenizers of the crate cut them.
fn cut_by(pre_tokenizer: &impl PreTokenizer, text: &str) -> Vec<usize> {
    let mut cut = PreTokenizedString::from(text);
    pre_tokenizer.pre_tokenize(&mut cut).unwrap();
    let pieces = cut.get_splits(OffsetReferential::Original, OffsetType::Byte);
    pieces.into_iter().map(|(_, (_, end), _)| end).collect()
}

fn cut(pieces: &Pieces, text: &str) -> Vec<usize> {
    let next = |end: &usize| (*end < text.len()).then(|| pieces.end(text, *end));
    std::iter::successors(Some(0), next).skip(1).collect()
}

fn assert_cut_alike(text: &str) {
    thread_local! {
        static KNOWN: Vec<(Split, Pieces)> = PATTERNS
            .iter()
            .map(|(expression, pattern)| {
                let expression = SplitPattern::Regex((*expression).to_owned());
                let split = Split::new(expression, SplitDelimiterBehavior::Isolated, false).unwrap();
                (split, Pieces::new(*pattern))
            })
            .collect();
    }
    KNOWN.with(|known| {
        for (split, pieces) in known {
            assert_eq!(cut(pieces, text), cut_by(split, text), "{:?} of {text:?}", pieces.pattern);
        }
        let gpt2 = &known[3].1;
        assert_eq!(
            cut(gpt2, text),
            cut_by(&ByteLevel::new(false, true, true), text),
            "ByteLevel of {text:?}"
        );
    });
}

#[test]
fn every_character_is_of_the_class_that_the_expressions_see() {
    // A character between others tells its class; all of them would take long, so those where classes change.
    let pieces = Pieces::new(Pattern::Gpt2);
    let chars = ('\0'..=char::MAX).collect::<Vec<_>>();
    let changes = chars.windows(2).filter(|pair| pieces.class(pair[0]) != pieces.class(pair[1]));
    for c in changes.flatten() {
        assert_cut_alike(&format!("a{c}a1{c}1!{c}! {c} {c}"));
    }
}

#[test]
fn spaces_newlines_and_contractions_are_cut_as_by_the_expressions() {
    for text in [
        "I'll've it's 'tis 'S 'ſ 'LL 'lL 'rE' 'v 've' ''d'm",
        "a  b   c \n d\n\n e\r\n\r\n  f \t\u{a0}\u{3000}g  ",
        " \n",
        "\n ",
        "  \n  \n  ",
        " ",
        "",
        "'",
        "' ",
        "'l",
        "1234567 89\u{b2}\u{bd} 0",
        "?!\r\n\n x",
        "? \n",
        "\u{85}\u{85}x",
    ] {
        assert_cut_alike(text);
    }
}

/// Characters that the patterns treat in ways of their own, and any others.
fn character() -> impl Strategy<Value = char> {
    prop_oneof![
        4 => prop::sample::select(" '\r\n\t\u{a0}\u{85}\u{3000}\u{2028}".chars().collect::<Vec<_>>()),
        4 => prop::sample::select("sStTrReEvVmMlLdDſKkaZ".chars().collect::<Vec<_>>()),
        2 => prop::sample::select("019\u{b2}\u{664}\u{2167}éßяש中あ한ªʰǅ".chars().collect::<Vec<_>>()),
        2 => prop::sample::select("!.,_-’\u{301}\u{fe0f}\u{200b}\u{200d}😀\u{fffd}\u{0}\u{7f}€".chars().collect::<Vec<_>>()),
        1 => any::<char>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_text_is_cut_as_the_expression_cuts_it(text in prop::collection::vec(character(), 0..40)) {
        assert_cut_alike(&text.into_iter().collect::<String>());
    }
}
