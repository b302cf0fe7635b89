use super::*;
use proptest::prelude::*;

fn token(text: &str) -> Piece<'_> {
    Piece::Token(Cow::Borrowed(text))
}

fn completion(text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!(r#"{{"id":"cmpl-1","choices":[{{"index":0,"text":{text},"finish_reason":null}}]}}"#)
}

#[test]
fn events_are_read_for_what_they_carry() {
    let table = [
        (r#"{"choices":[{"text":"a"}]}"#, token("a")),
        (r#"{"choices":[{"text":""}]}"#, token("")),
        (r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#, Piece::Role),
        (r#"{"choices":[{"delta":{"role":"assistant"}}]}"#, Piece::Role),
        (r#"{"choices":[{"delta":{"role":"assistant","content":"a"}}]}"#, token("a")),
        (r#"{"choices":[{"delta":{"content":""}}]}"#, token("")),
        (r#"{"choices":[{"delta":{"reasoning_content":"b","content":null}}]}"#, token("b")),
        (r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#, token("")),
        (r#"{"choices":[{"delta":{}}]}"#, Piece::None),
        (r#"{"choices":[]}"#, Piece::None),
        (r#"{"object":"x"}"#, Piece::None),
    ];
    for (data, piece) in table {
        assert_eq!(ChunkReader::default().read(data.as_bytes()).unwrap().piece, piece, "{data}");
    }
}

#[test]
fn usage_may_stand_anywhere() {
    let data = br#"{"choices":[],"usage":{"prompt_tokens":11,"total_tokens":19,"completion_tokens":8,
        "prompt_tokens_details":{"cached_tokens":4}}}"#;
    let usage = ChunkReader::default().read(data).unwrap().usage;
    assert_eq!(usage, Some(Usage { prompt_tokens: 11, completion_tokens: 8, cached_tokens: Some(4) }));
}

#[test]
fn errors_are_found_in_every_dress() {
    let table = [
        (r#"{"error":{"message":"no","type":"X","code":500}}"#, "no", Some("500")),
        (r#"{"error":{"message":"no","type":"X"}}"#, "no", Some("X")),
        (r#"{"error":"no"}"#, "no", None),
        (r#"{"error":{"detail":1}}"#, r#"{"detail":1}"#, None),
        (r#"{"object":"error","message":"no","code":40303}"#, "no", Some("40303")),
    ];
    for (data, message, code) in table {
        let error = ChunkReader::default().read(data.as_bytes()).unwrap().error.unwrap();
        assert_eq!((error.message.as_str(), error.code.as_deref()), (message, code), "{data}");
    }
    assert_eq!(ChunkReader::default().read(br#"{"error":null,"choices":[]}"#).unwrap().error, None);
}

#[test]
fn an_id_of_any_type_loses_no_answer() {
    let chunk = ChunkReader::default().read(br#"{"id":7,"object":null,"choices":[{"text":"a"}]}"#).unwrap();
    assert_eq!((chunk.id, chunk.piece), (Some("7"), token("a")));
}

#[test]
fn data_that_is_no_object_is_bad() {
    for data in [&b"nul"[..], b"[1]", b"{", b"3", b"null"] {
        assert!(matches!(ChunkReader::default().read(data), Err(BadChunk::Json(_))), "{data:?}");
    }
    assert_eq!(ChunkReader::default().read(b"{\"a\":\"\xff\"}"), Err(BadChunk::Utf8(6)));
}

#[test]
fn a_body_without_events_is_told_apart() {
    let told = |body: &str| match read_answer(body.as_bytes()) {
        Answer::Error(error) => error.message,
        Answer::Completion { choices, .. } => panic!("{choices:?}"),
    };
    assert_eq!(told(""), "an empty body");
    assert_eq!(told("null"), "expected an event stream, got `null`");
    assert_eq!(told(r#"{"error":{"message":"no"}}"#), "no");
    assert_eq!(told("<html>\u{1b}[31m"), "expected an event stream, got `<html>\\u{1b}[31m`");
    let whole = r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],
        "usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    let Answer::Completion { choices, usage } = read_answer(whole.as_bytes()) else { panic!() };
    assert_eq!((choices[0].text.as_str(), usage.map(|usage| usage.completion_tokens)), ("hi", Some(2)));
}

#[test]
fn several_texts_come_in_the_order_of_their_prompts() {
    let body = r#"{"choices":[{"index":1,"text":"b","finish_reason":"length"},{"index":0,"text":"a","logprobs":
        {"tokens":["a"],"top_logprobs":[{"a":-0.5,"b":-1.0}]}}]}"#;
    let Answer::Completion { choices, .. } = read_answer(body.as_bytes()) else { panic!() };
    let texts: Vec<_> =
        choices.iter().map(|choice| (&*choice.text, choice.finish_reason.as_deref())).collect();
    assert_eq!(texts, [("a", None), ("b", Some("length"))]);
    let told: Vec<_> = choices[0].tokens.iter().map(|one| (one.token.as_str(), one.margin)).collect();
    assert_eq!(told, [("a", Some(0.5))]);
}

proptest! {
    /// The short cut must never say anything else than the parser.
    #[test]
    fn a_stream_reads_as_if_each_event_were_parsed(
        texts in proptest::collection::vec("[a-c\"\\\\\n é{}:,]{0,4}", 1..20),
    ) {
        let mut reader = ChunkReader::default();
        for text in &texts {
            let data = completion(text);
            let quick = reader.read(data.as_bytes()).unwrap().piece;
            prop_assert_eq!(&quick, &parse(&data).unwrap().piece);
            prop_assert_eq!(quick, token(text));
        }
    }
}

#[test]
fn a_finish_reason_behind_the_usual_prefix_is_seen() {
    let mut reader = ChunkReader::default();
    reader.read(completion("a").as_bytes()).unwrap();
    assert!(!reader.before.is_empty());
    let last = completion("b").replace("null", "\"length\"");
    assert_eq!(reader.read(last.as_bytes()).unwrap().finish_reason.as_deref(), Some("length"));
}
