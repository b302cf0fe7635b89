use super::*;
use crate::workload::testing::{known_tokenizers, tokenizer};
use proptest::prelude::*;
use std::sync::LazyLock;

#[test]
fn the_tiny_tokenizer_takes_the_short_cut() {
    assert!(Reencoder::new(&tokenizer()).is_fast());
}

#[test]
fn every_token_decodes_as_the_tokenizer_decodes_it() {
    let tokenizer = tokenizer();
    let (fast, thorough) = (Reencoder::new(&tokenizer), Reencoder::thorough(&tokenizer));
    for id in 0..tokenizer.len() + 2 {
        let pair = [id, (id * 7) % tokenizer.len()];
        assert_eq!(fast.decode(&pair).unwrap(), thorough.decode(&pair).unwrap(), "{pair:?}");
    }
}

static KNOWN: LazyLock<Vec<Tokenizer>> = LazyLock::new(known_tokenizers);
static FAST: LazyLock<Vec<Reencoder<'_>>> = LazyLock::new(|| KNOWN.iter().map(Reencoder::new).collect());

/// Of a small vocabulary, or of the Han words of a larger one.
fn any_id() -> impl Strategy<Value = u32> {
    prop_oneof![1 => 0_u32..1202, 4 => 1231_u32..1400]
}

#[test]
fn letters_without_spaces_are_not_all_encoded_again() {
    for fast in &FAST[5..] {
        let ids: Vec<u32> = (0..300).map(|i| 1240 + i * 37 % 150).collect();
        let known = fast.reencode(&ids, 0).unwrap();
        let facts = fast.known.as_ref().unwrap();
        assert!(!(1..known.len()).any(|at| fast.is_cut(known[at - 1], known[at])));
        assert!((known.len() - 8..known.len()).any(|at| facts.is_joint(&known, at)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_follows_known_tokens_is_encoded_as_the_whole_would_be(
        ids in prop::collection::vec(any_id(), 0..120), more in prop::collection::vec(any_id(), 0..30),
        kept in 0_usize..120
    ) {
        for (tokenizer, fast) in KNOWN.iter().zip(FAST.iter()) {
            let thorough = Reencoder::thorough(tokenizer);
            let among = |ids: &[u32]| -> Vec<u32> { ids.iter().map(|id| id % tokenizer.len()).collect() };
            let mut known = thorough.reencode(&among(&ids), 0).unwrap();
            known.truncate(kept);
            let all = [known.clone(), among(&more)].concat();
            prop_assert_eq!(fast.reencode(&all, known.len()).unwrap(), thorough.reencode(&all, 0).unwrap());
        }
    }

    #[test]
    fn an_arc_is_encoded_as_its_text_would_be(
        from in 0_usize..1000, length in 0_usize..2500, prefix in prop::collection::vec(0_u32..1202, 0..9)
    ) {
        let tokenizer = tokenizer();
        let (fast, thorough) = (Reencoder::new(&tokenizer), Reencoder::thorough(&tokenizer));
        let ids: Vec<u32> = (1..1001).collect();
        let ring = Ring::new(&fast, &ids).unwrap();
        let prefix = thorough.reencode(&prefix, 0).unwrap();
        let whole = [prefix.as_slice(), &ring.arc(from, length)].concat();
        prop_assert_eq!(ring.encode(&prefix, from, length).unwrap(), thorough.reencode(&whole, 0).unwrap());
    }
}
