//! Held against the client's own reader of streams.

use super::super::{Asked, shown_alone, whole_answer};
use super::*;
use crate::wire::openai::{ChunkReader, Piece};
use crate::wire::sse::Splitter;
use proptest::prelude::*;

const LIMIT: usize = 1 << 16;

/// One leg's stream of one choice: a role where it is a chat, each token in an event, the end on the last or behind it,
/// usage alone, [DONE].
fn stream(endpoint: Endpoint, tokens: &[&str], prompt_tokens: u32, line_end: &str) -> String {
    let chat = endpoint == Endpoint::Chat;
    let object = if chat { "chat.completion.chunk" } else { "text_completion" };
    let mut events = Vec::new();
    let mut choice = |bearing: String, end: &str| {
        events.push(format!(
            r#"{{"id":"cmpl-1","object":"{object}","created":1,"model":"m","choices":[{{"index":0,{bearing},"logprobs":null,"finish_reason":{end},"stop_reason":null}}]}}"#
        ));
    };
    if chat {
        choice(r#""delta":{"role":"assistant","content":""}"#.to_owned(), "null");
    }
    for (at, token) in tokens.iter().enumerate() {
        let text = serde_json::to_string(token).unwrap();
        let end = if at + 1 == tokens.len() { r#""length""# } else { "null" };
        choice(
            if chat { format!(r#""delta":{{"content":{text}}}"#) } else { format!(r#""text":{text}"#) },
            end,
        );
    }
    events.push(format!(
        r#"{{"id":"cmpl-1","object":"{object}","created":1,"model":"m","choices":[],"usage":{{"prompt_tokens":{prompt_tokens},"completion_tokens":{},"total_tokens":9}}}}"#,
        tokens.len()
    ));
    events.push("[DONE]".to_owned());
    events.into_iter().map(|event| format!("data: {event}{line_end}{line_end}")).collect()
}

/// What a client reads from a stream.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    tokens: Vec<String>,
    roles: usize,
    ends: Vec<String>,
    /// Prompt and completion tokens of each usage.
    usages: Vec<(u32, u32)>,
    dones: usize,
}

fn seen(bytes: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let mut reader = ChunkReader::default();
    let mut splitter = Splitter::new(LIMIT);
    let mut sink = |event: crate::wire::sse::Event<'_>| {
        if event.data == b"[DONE]" {
            seen.dones += 1;
            return;
        }
        let chunk = reader.read(event.data).unwrap();
        match chunk.piece {
            Piece::Token(text) => seen.tokens.push(text.into_owned()),
            Piece::Role => seen.roles += 1,
            Piece::None => {}
        }
        seen.ends.extend(chunk.finish_reason.map(|reason| reason.into_owned()));
        seen.usages.extend(chunk.usage.map(|usage| (usage.prompt_tokens, usage.completion_tokens)));
    };
    splitter.feed(bytes, &mut sink).unwrap();
    assert!(!splitter.finish(sink), "an event without its blank line: {}", String::from_utf8_lossy(bytes));
    seen
}

fn pieces<'a>(text: &'a str, cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    places.extend([0, text.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect()
}

fn join(dialect: Dialect, endpoint: Endpoint, prefill: &[&[u8]], decode: &[&[u8]]) -> Vec<u8> {
    let mut joiner = Joiner::new(dialect, endpoint, LIMIT);
    let mut out = Vec::new();
    prefill.iter().for_each(|piece| joiner.prefill(piece, &mut out).unwrap());
    joiner.prefill_ended(&mut out);
    decode.iter().for_each(|piece| joiner.decode(piece, &mut out).unwrap());
    joiner.decode_ended(&mut out);
    out
}

fn joined(endpoint: Endpoint, prefill: &str, decode: &str) -> Vec<u8> {
    join(Dialect::Plain, endpoint, &[prefill.as_bytes()], &[decode.as_bytes()])
}

proptest! {
    #[test]
    fn each_token_is_relayed_once_at_every_cut(
        chat: bool,
        made in proptest::collection::vec("[a-z€ \"\\\\]{0,3}", 1..6),
        line_end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
        prefill_cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        decode_cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        torn: bool,
    ) {
        let endpoint = if chat { Endpoint::Chat } else { Endpoint::Completions };
        let tokens: Vec<&str> = made.iter().map(String::as_str).collect();
        let mut prefill = stream(endpoint, &["FIRST"], 5, line_end);
        let decode = stream(endpoint, &tokens, 5, line_end);
        if torn {
            // Its [DONE] lacks the blank line.
            prefill.truncate(prefill.len() - line_end.len());
        }
        let out = join(Dialect::Plain, endpoint, &pieces(&prefill, &prefill_cuts), &pieces(&decode, &decode_cuts));
        let seen = seen(&out);
        let mut expected = vec!["FIRST"];
        expected.extend(&tokens[1..]);
        if tokens.len() == 1 && !chat {
            // The end of what was left out, in an event with empty text.
            expected.push("");
        }
        prop_assert_eq!(&seen.tokens, &expected);
        prop_assert_eq!((seen.roles, seen.dones), (usize::from(chat), 1));
        prop_assert_eq!(seen.ends, ["length"]);
        prop_assert_eq!(seen.usages, [(5, tokens.len() as u32)]);
    }

    #[test]
    fn a_continued_chat_is_one_chat_at_every_cut(
        chat: bool,
        made in proptest::collection::vec("[a-z€]{0,3}", 1..6),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let endpoint = if chat { Endpoint::Chat } else { Endpoint::Completions };
        let tokens: Vec<&str> = made.iter().map(String::as_str).collect();
        let decode = stream(Endpoint::Completions, &tokens, 6, "\n");
        let mut joiner = Joiner::new(Dialect::Lmcache, endpoint, LIMIT);
        let mut out = Vec::new();
        joiner.prefill_answer(&answer(), &mut out);
        pieces(&decode, &cuts).iter().for_each(|piece| joiner.decode(piece, &mut out).unwrap());
        joiner.decode_ended(&mut out);
        let seen = seen(&out);
        let expected: Vec<&str> = ["FIRST"].iter().chain(&tokens).copied().collect();
        prop_assert_eq!(&seen.tokens, &expected);
        prop_assert_eq!((seen.roles, seen.dones), (usize::from(chat), 1));
        prop_assert_eq!(seen.ends, ["length"]);
        // The first token was counted to the prompt.
        prop_assert_eq!(seen.usages, [(5, expected.len() as u32)]);
        let text = String::from_utf8(out).unwrap();
        prop_assert_eq!(text.contains("text_completion"), !chat);
    }
}

fn answer() -> Object {
    Object::parse(
        br#"{"id":"cmpl-1","object":"text_completion","created":7,"model":"m","choices":[{"index":0,"text":"FIRST",
        "logprobs":null,"finish_reason":"length","stop_reason":null}],"usage":{"prompt_tokens":5,
        "completion_tokens":1,"total_tokens":6},"kv_transfer_params":{"first_tok":9}}"#,
    )
    .unwrap()
}

fn asked(endpoint: Endpoint, body: &str) -> Asked {
    Asked { endpoint, body: Object::parse(body.as_bytes()).unwrap(), token_ids: None }
}

#[test]
fn an_answer_in_one_piece_shows_its_token_as_an_event_of_its_own() {
    let mut joiner = Joiner::new(Dialect::NixlPull, Endpoint::Completions, LIMIT);
    let mut out = Vec::new();
    joiner.prefill_answer(&answer(), &mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":7,\"model\":\"m\",\"choices\":[{\"index\"\
         :0,\"text\":\"FIRST\",\"logprobs\":null,\"finish_reason\":null,\"stop_reason\":null}]}\n\n"
    );
    let decode = stream(Endpoint::Completions, &["first", "b"], 5, "\n");
    joiner.decode(decode.as_bytes(), &mut out).unwrap();
    assert_eq!(seen(&out).tokens, ["FIRST", "b"]);
}

#[test]
fn a_chat_in_one_piece_shows_its_role_and_all_that_its_message_bears() {
    let chat = br#"{"id":"c","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant",
        "content":null,"reasoning":"Hm","tool_calls":[]},"finish_reason":"length"}]}"#;
    let mut joiner = Joiner::new(Dialect::NixlPull, Endpoint::Chat, LIMIT);
    let mut out = Vec::new();
    joiner.prefill_answer(&Object::parse(chat).unwrap(), &mut out);
    let text = String::from_utf8_lossy(&out);
    assert!(text.contains(r#""delta":{"reasoning":"Hm"}"#), "{text}");
    assert_eq!((seen(&out).roles, seen(&out).tokens.len(), seen(&out).ends.len()), (1, 1, 0));
}

#[test]
fn every_choice_loses_its_own_first_token() {
    let event = |at: u32, text: &str| {
        format!("data: {{\"choices\":[{{\"index\":{at},\"text\":\"{text}\",\"finish_reason\":null}}]}}\n\n")
    };
    let prefill = event(0, "P0") + &event(1, "P1");
    let decode = event(1, "d1") + &event(1, "e1") + &event(0, "d0") + &event(0, "e0");
    let out = joined(Endpoint::Completions, &prefill, &decode);
    assert_eq!(seen(&out).tokens, ["P0", "P1", "e1", "e0"]);
}

#[test]
fn a_prefill_without_a_token_leaves_the_decode_stream_whole() {
    for prefill in ["", "data: [DONE]\n\n", ": ping\n\n"] {
        let decode = stream(Endpoint::Chat, &["a", "b"], 5, "\n");
        let seen = seen(&joined(Endpoint::Chat, prefill, &decode));
        assert_eq!((seen.tokens, seen.roles), (vec!["a".to_owned(), "b".to_owned()], 1), "{prefill}");
    }
}

#[test]
fn a_decode_leg_that_ends_at_once_tells_its_end() {
    let end = r#"data: {"choices":[{"index":0,"text":"","finish_reason":"stop"}]}"#.to_owned() + "\n\n";
    let prefill = stream(Endpoint::Completions, &["FIRST"], 5, "\n");
    let seen = seen(&joined(Endpoint::Completions, &prefill, &end));
    assert_eq!((seen.tokens.join(""), seen.ends), ("FIRST".to_owned(), vec!["stop".to_owned()]));
}

#[test]
fn an_error_in_a_stream_reaches_the_client() {
    let error = "data: {\"error\":{\"message\":\"no blocks\"}}\n\n";
    let mut joiner = Joiner::new(Dialect::Plain, Endpoint::Completions, LIMIT);
    let mut out = Vec::new();
    joiner.prefill(error.as_bytes(), &mut out).unwrap();
    assert!(joiner.prefill_failed());
    let mut joiner = Joiner::new(Dialect::Plain, Endpoint::Completions, LIMIT);
    joiner.prefill(stream(Endpoint::Completions, &["FIRST"], 5, "\n").as_bytes(), &mut Vec::new()).unwrap();
    joiner.prefill_ended(&mut out);
    joiner.decode(error.as_bytes(), &mut out).unwrap();
    assert!(!joiner.prefill_failed());
    assert_eq!(String::from_utf8_lossy(&out), error.repeat(2));
}

#[test]
fn the_rest_of_the_decode_stream_passes_byte_for_byte() {
    let rest = "data: {\"choices\": [ {\"index\":0, \"text\":\"b\"} ]}\n\n: ping\n\ndata: odd\r\rid: 7\n\n";
    let decode = "data: {\"choices\":[{\"index\":0,\"text\":\"a\"}]}\n\n".to_owned() + rest;
    let prefill = stream(Endpoint::Completions, &["FIRST"], 5, "\n");
    let out = joined(Endpoint::Completions, &prefill, &decode);
    assert!(out.ends_with(rest.as_bytes()) && seen(&out[..out.len() - rest.len()]).tokens == ["FIRST"]);
}

#[test]
fn an_event_without_end_is_refused() {
    let mut joiner = Joiner::new(Dialect::Plain, Endpoint::Completions, 100);
    let fed = (0..20).try_for_each(|_| joiner.prefill(b"data: aaaa", &mut Vec::new()));
    assert_eq!(fed, Err(TooLarge { limit: 100 }));
}

#[test]
fn a_stream_of_one_token_is_whole_with_usage_where_it_was_asked_for() {
    let with = asked(Endpoint::Chat, r#"{"stream":true,"stream_options":{"include_usage":true}}"#);
    let read = seen(&shown_alone(&with, &answer()));
    assert_eq!((read.tokens, read.roles, read.dones), (vec!["FIRST".to_owned()], 1, 1));
    assert_eq!((read.ends, read.usages), (vec!["length".to_owned()], vec![(5, 1)]));
    let without = asked(Endpoint::Completions, r#"{"stream":true}"#);
    assert_eq!(seen(&shown_alone(&without, &answer())).usages, []);
}

#[test]
fn an_answer_in_one_piece_has_the_text_of_both_legs() {
    let decode = Object::parse(
        br#"{"id":"cmpl-1","object":"text_completion","choices":[{"index":0,"text":" rest","finish_reason":"stop"}],
        "usage":{"prompt_tokens":6,"completion_tokens":2,"total_tokens":8}}"#,
    )
    .unwrap();
    let whole = whole_answer(&asked(Endpoint::Completions, "{}"), &answer(), Some(&decode));
    let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(
        (&whole["choices"][0]["text"], &whole["choices"][0]["finish_reason"]),
        (&"FIRST rest".into(), &"stop".into())
    );
    assert_eq!(
        (&whole["usage"]["prompt_tokens"], &whole["usage"]["completion_tokens"]),
        (&5.into(), &3.into())
    );
    let chat = whole_answer(&asked(Endpoint::Chat, "{}"), &answer(), None);
    let chat: serde_json::Value = serde_json::from_slice(&chat).unwrap();
    assert_eq!(chat["choices"][0]["message"]["content"], "FIRST");
    assert_eq!((&chat["object"], chat.get("kv_transfer_params")), (&"chat.completion".into(), None));
}
