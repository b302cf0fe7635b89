use super::*;
use crate::workload::Ends;
use crate::workload::testing::{counter, known_tokenizers, made, tokenizer, vectors};
use proptest::prelude::*;

fn requests(random: &Random, counter: &TokenCounter) -> Vec<Request> {
    random.requests(counter, &|_, _| ()).unwrap()
}

#[test]
fn prompts_equal_those_of_vllm_in_text_and_length() {
    let cases = vectors().random;
    assert_eq!(cases.len(), 21);
    let counter = counter();
    for case in cases {
        let random = Random {
            input_len: case.input_len,
            output_len: case.output_len,
            range_ratio: case.range.to_string().parse().unwrap(),
            prefix_len: case.prefix_len,
            num_prompts: case.made.len(),
            seed: case.seed,
            form: RandomForm::Text,
        };
        assert_eq!(made(&requests(&random, &counter)), case.made, "{random:?}");
    }
}

#[test]
fn short_cuts_change_no_prompt() {
    for tokenizer in known_tokenizers() {
        let random = Random { num_prompts: 60, prefix_len: 5, ..Random::default() };
        let made = |reencoder| random.by_tokenizer(&reencoder, &tokenizer, &|_, _| ()).unwrap();
        assert_eq!(made(Reencoder::new(&tokenizer)), made(Reencoder::thorough(&tokenizer)));
    }
}

#[test]
fn without_a_tokenizer_each_token_is_four_bytes() {
    let random = Random { num_prompts: 5, prefix_len: 3, ..Random::default() };
    let requests = requests(&random, &TokenCounter::Estimate);
    for request in &requests {
        let text = request.prompt.text();
        assert_eq!((request.prompt_tokens, text.len()), (1027, 4 * 1027));
        assert_eq!(text[..12], requests[0].prompt.text()[..12]);
        assert_eq!(text.split(' ').count(), 1027);
    }
    assert_ne!(requests[0].prompt, requests[1].prompt);
}

#[test]
fn token_ids_are_exactly_as_many_as_were_asked_for() {
    let random = Random { num_prompts: 9, prefix_len: 4, form: RandomForm::TokenIds, ..Random::default() };
    for request in requests(&random, &counter()) {
        let Prompt::TokenIds(ids) = &request.prompt else { panic!("no ids") };
        assert_eq!((ids.len(), request.prompt_tokens), (1028, 1028));
    }
    let error = random.requests(&TokenCounter::Estimate, &|_, _| ()).unwrap_err();
    assert_eq!(error.to_string(), "token ids need a tokenizer");
}

#[test]
fn progress_ends_at_the_number_of_prompts() {
    let seen = std::sync::Mutex::new(Vec::new());
    let random = Random { num_prompts: 700, input_len: 9, ..Random::default() };
    random.requests(&counter(), &|done, of| seen.lock().unwrap().push((done, of))).unwrap();
    assert_eq!(*seen.lock().unwrap(), [(512, 700), (700, 700)]);
}

#[test]
fn prompts_that_could_have_no_token_are_refused() {
    let error = Random { input_len: 1, ..Random::default() }.requests(&counter(), &|_, _| ()).unwrap_err();
    assert!(error.to_string().starts_with("prompts could have no token: 1 less 1"), "{error}");
}

#[test]
fn a_range_ratio_is_a_number_or_two() {
    assert_eq!("0.25".parse(), Ok(RangeRatio { input: 0.25, output: 0.25 }));
    assert_eq!(r#"{"input": 0, "output": 0.5}"#.parse(), Ok(RangeRatio { input: 0.0, output: 0.5 }));
    for text in ["1", "-0.1", "nan", "wide", "{}", r#"{"input": 0.1}"#, r#"{"input": 2, "output": 0}"#] {
        assert!(text.parse::<RangeRatio>().unwrap_err().contains("not a range ratio"), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// vLLM gives up after ten tries, which a few short prompts take; their length is still told as it is.
    #[test]
    fn prompts_have_the_length_that_the_tokenizer_counts(
        input_len in 2_u32..300, prefix_len in 0_u32..40, seed: u32, ratio in 0.0..0.5
    ) {
        let range_ratio = RangeRatio { input: ratio, output: 0.0 };
        let random = Random { input_len, prefix_len, seed, range_ratio, num_prompts: 8, ..Random::default() };
        prop_assume!(0.0 < (f64::from(input_len - 1) * (1.0 - ratio)).floor() + f64::from(prefix_len));
        let tokenizer = tokenizer();
        for request in requests(&random, &counter()) {
            let ids = tokenizer.encode(&request.prompt.text(), Ends::Bare).unwrap();
            prop_assert_eq!(ids.len(), request.prompt_tokens as usize);
        }
    }
}

#[test]
fn most_prompts_of_the_default_length_have_it_exactly() {
    let made = requests(&Random { num_prompts: 300, ..Random::default() }, &counter());
    // 1024 with the one special token that the server adds.
    let exact = made.iter().filter(|request| request.prompt_tokens == 1023).count();
    assert!(225 <= exact, "{exact} of 300");
    assert!(made.iter().all(|request| request.prompt_tokens.abs_diff(1023) <= 8));
}
