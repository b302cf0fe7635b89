use super::*;
use crate::workload::testing::tokenizer;
use proptest::prelude::*;

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

proptest! {
    #[test]
    fn what_follows_known_tokens_is_encoded_as_the_whole_would_be(
        ids in prop::collection::vec(0_u32..1202, 0..120), more in prop::collection::vec(0_u32..1202, 0..30),
        kept in 0_usize..120
    ) {
        let tokenizer = tokenizer();
        let (fast, thorough) = (Reencoder::new(&tokenizer), Reencoder::thorough(&tokenizer));
        let mut known = thorough.reencode(&ids, 0).unwrap();
        known.truncate(kept);
        let all = [known.as_slice(), &more].concat();
        prop_assert_eq!(fast.reencode(&all, known.len()).unwrap(), thorough.reencode(&all, 0).unwrap());
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
