use super::KeepText;
use super::reading::{Progress, ReadLimits, Reading};
use crate::measure::{
    EndedIn, Flag, Flags, Kind, Offset, Outcome, OutputTokensSource, RequestRecord, TransportEnd,
};
use crate::wire::Secret;
use crate::wire::openai::Usage;
use proptest::prelude::*;

fn record(requested: u32) -> RequestRecord {
    RequestRecord {
        ready: Some(Offset::default()),
        sent: Some(Offset::default()),
        requested_tokens: Some(requested),
        ignore_eos: true,
        prompt_tokens: 9,
        ..RequestRecord::due(0, Kind::Main, "r".into(), Offset::default())
    }
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n";

/// Reads packets that arrive 10 µs apart; the connection closes after the last.
fn read(requested: u32, packets: &[&str]) -> RequestRecord {
    let mut reading = Reading::new(
        record(requested),
        ReadLimits::default(),
        KeepText::All,
        [Secret::new("hunter2")].into(),
    );
    let mut end = None;
    for (k, packet) in packets.iter().enumerate() {
        match reading.take(packet.as_bytes(), Offset::from_tenths(100 * (k as u64 + 1))) {
            Ok(Progress::More) => {}
            Ok(Progress::Whole) => end = Some(TransportEnd::Complete),
            Err(fault) => end = Some(fault),
        }
    }
    let end = end.unwrap_or_else(|| reading.closed());
    reading.finish(end, Offset::from_tenths(10_000))
}

fn token(text: &str) -> String {
    format!(
        "data: {{\"id\":\"a\",\"choices\":[{{\"index\":0,\"text\":\"{text}\",\"finish_reason\":null}}]}}\n\n"
    )
}

fn finish(id: &str) -> String {
    format!(
        "data: {{\"id\":\"{id}\",\"choices\":[{{\"index\":0,\"text\":\"\",\"finish_reason\":\"length\"}}]}}\n\n"
    )
}

fn usage(id: &str, prompt: u32, completion: u32) -> String {
    format!(
        "data: {{\"id\":\"{id}\",\"choices\":[],\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion}}}}}\n\n"
    )
}

const DONE: &str = "data: [DONE]\n\n";

#[test]
fn a_whole_stream_is_ok_and_each_packet_has_its_stamp() {
    let got = read(2, &[HEAD, &token("a"), ": ping\n\n", &token("b"), &finish("a"), &usage("a", 7, 2), DONE]);
    assert_eq!((got.outcome, got.ended_in), (Outcome::Ok, EndedIn::End));
    assert_eq!(got.events.iter().map(Offset::tenths).collect::<Vec<_>>(), [200, 400]);
    assert_eq!((got.prompt_tokens, got.output_tokens), (7, 2));
    assert_eq!((got.text.as_deref(), got.finish_reason.as_deref()), (Some("ab"), Some("length")));
    assert_eq!(got.flags, Flags::new());
}

#[test]
fn an_empty_last_event_is_a_token_only_if_usage_says_so() {
    let with = read(3, &[HEAD, &token("a"), &token("b"), &finish("a"), &usage("a", 7, 3), DONE]);
    assert_eq!((with.outcome, with.events.len()), (Outcome::Ok, 3));
    let without = read(2, &[HEAD, &token("a"), &token("b"), &finish("a"), DONE]);
    assert_eq!((without.outcome, without.events.len(), without.output_tokens), (Outcome::Ok, 2, 2));
    assert_eq!(without.output_tokens_source, OutputTokensSource::Events);
}

#[test]
fn a_stream_that_ends_after_5_of_20_tokens_is_truncated() {
    let tokens: Vec<String> = (0..5).map(|_| token("x")).collect();
    let mut packets = vec![HEAD];
    packets.extend(tokens.iter().map(String::as_str));
    let got = read(20, &packets);
    assert_eq!((got.outcome, got.events.len(), got.output_tokens), (Outcome::Truncated, 5, 5));
}

#[test]
fn an_error_inside_the_stream_keeps_its_message_and_the_tokens_so_far() {
    let error = "data: {\"error\":{\"message\":\"KV lost\",\"code\":500}}\n\n";
    let got = read(4, &[HEAD, &token("a"), error, DONE]);
    assert_eq!((got.outcome, got.events.len()), (Outcome::StreamError, 1));
    assert_eq!(got.error.as_deref(), Some("KV lost (code 500)"));
    let named = read(4, &[HEAD, "event: error\ndata: {\"detail\":\"gone\"}\n\n", DONE]);
    assert_eq!(
        (named.outcome, named.error.as_deref()),
        (Outcome::StreamError, Some("{\"detail\":\"gone\"}"))
    );
}

#[test]
fn a_malformed_event_does_not_stop_the_reading() {
    let got = read(2, &[HEAD, &token("a"), "data: {oops\n\n", &token("b"), &usage("a", 1, 2), DONE]);
    assert_eq!((got.outcome, got.events.len(), got.output_tokens), (Outcome::BadJson, 2, 2));
    assert!(got.error.as_ref().is_some_and(|error| error.contains("`{oops`")), "{:?}", got.error);
}

#[test]
fn two_hundred_with_something_else_is_an_error_in_200() {
    let json = "{\"error\":{\"message\":\"no decode node\"}}";
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", json.len());
    for (packets, message) in [
        (vec![head.as_str(), json], "no decode node"),
        (vec![HEAD, "null"], "expected an event stream, got `null`"),
        (vec![HEAD], "an empty body"),
        (vec![HEAD, "<html>"], "expected an event stream, got `<html>`"),
    ] {
        let got = read(2, &packets);
        assert_eq!((got.outcome, got.error.as_deref()), (Outcome::ErrorIn200, Some(message)));
    }
}

#[test]
fn a_failed_kv_load_that_answers_200_without_a_token_is_empty_output() {
    let got = read(4, &[HEAD, &usage("a", 9, 0), DONE]);
    assert_eq!(got.outcome, Outcome::EmptyOutput);
}

#[test]
fn what_comes_after_done_is_read_and_counted() {
    let got = read(2, &[HEAD, &token("a"), &finish("a"), DONE, &token("b"), DONE]);
    assert_eq!((got.outcome, got.events.len()), (Outcome::Ok, 2));
    assert_eq!(got.flags.get(&Flag::AfterDone), Some(&2));
}

#[test]
fn a_finish_reason_without_done_is_ok_and_counted() {
    let got = read(1, &[HEAD, &token("a"), &finish("a")]);
    assert_eq!((got.outcome, got.flags.get(&Flag::MissingDone)), (Outcome::Ok, Some(&1)));
}

#[test]
fn an_unterminated_last_event_counts() {
    let last = token("b");
    let got = read(2, &[HEAD, &finish("a"), last.trim_end()]);
    assert_eq!((got.outcome, got.events.len()), (Outcome::Ok, 1));
    assert_eq!(got.flags.get(&Flag::Unterminated), Some(&1));
}

#[test]
fn joined_legs_keep_both_usages() {
    let prefill = [token("a"), finish("a"), usage("a", 9, 1)].concat();
    let decode: Vec<String> = ["b", "c"].iter().map(|text| token(text).replace("\"a\"", "\"d\"")).collect();
    let got = read(3, &[HEAD, &prefill, &decode[0], &decode[1], &usage("d", 10, 2), DONE]);
    assert_eq!((got.outcome, got.output_tokens, got.events.len()), (Outcome::Ok, 3, 3));
    assert_eq!(
        got.prefill_usage,
        Some(Usage { prompt_tokens: 9, completion_tokens: 1, cached_tokens: None })
    );
}

#[test]
fn running_usage_tells_the_tokens_of_each_event() {
    let event = |n: u32| {
        format!(
            "data: {{\"id\":\"a\",\"choices\":[{{\"text\":\"xx\"}}],\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":{n}}}}}\n\n"
        )
    };
    let got = read(5, &[HEAD, &event(2), &event(4), &event(5), &finish("a"), DONE]);
    assert_eq!((got.outcome, got.events_tokens.as_slice()), (Outcome::Ok, &[2, 2, 1][..]));
    assert_eq!(got.flags, Flags::new());
}

#[test]
fn more_text_events_than_tokens_is_a_mismatch() {
    let got = read(1, &[HEAD, &token("a"), &token("b"), &usage("a", 1, 1), DONE]);
    assert_eq!(got.flags.get(&Flag::Mismatch), Some(&1));
}

#[test]
fn a_whole_answer_in_one_read_is_flagged() {
    let all = [token("a"), token("b"), usage("a", 1, 2), DONE.into()].concat();
    let got = read(2, &[HEAD, &all]);
    assert_eq!((got.outcome, got.flags.get(&Flag::BufferedByProxy)), (Outcome::Ok, Some(&1)));
    let body = r#"{"choices":[{"text":"ab","finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    let got = read(2, &[HEAD, body]);
    assert_eq!((got.outcome, got.events.len(), got.output_tokens), (Outcome::Ok, 0, 2));
    assert_eq!(got.flags.get(&Flag::BufferedByProxy), Some(&1));
}

#[test]
fn fewer_tokens_than_ignore_eos_demands_is_short_output() {
    let got = read(4, &[HEAD, &token("a"), &finish("a"), &usage("a", 1, 1), DONE]);
    assert_eq!(got.outcome, Outcome::ShortOutput);
}

#[test]
fn a_refusal_keeps_status_and_body() {
    let got = read(4, &["HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\n", "wait"]);
    assert_eq!((got.outcome, got.http_status), (Outcome::Http5xx, Some(503)));
    assert_eq!(got.error.as_deref(), Some("wait"));
    let got = read(4, &["HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n"]);
    assert_eq!(got.outcome, Outcome::Redirect);
    assert!(got.error.is_some_and(|error| error.contains("/x")));
}

#[test]
fn an_encoded_body_is_never_decoded() {
    let got = read(4, &["HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n", "data: [DONE]\n\n"]);
    assert_eq!((got.outcome, got.events.len()), (Outcome::BadEncoding, 0));
}

#[test]
fn a_secret_that_a_server_echoes_is_taken_out_before_the_text_is_cut() {
    let body = format!("{}hunter2{}", "x".repeat(2045), "y".repeat(100));
    let head = format!("HTTP/1.1 500 No\r\ncontent-length: {}\r\n\r\n", body.len());
    let error = read(4, &[&head, &body]).error.unwrap();
    assert!(!error.contains("hun") && error.len() <= 2048, "{error}");
    let event = "data: {\"error\":{\"message\":\"bad key hunter2\"}}\n\n";
    assert_eq!(read(4, &[HEAD, event]).error.as_deref(), Some("bad key [redacted]"));
}

#[test]
fn running_usage_on_the_last_empty_event_is_counted() {
    let event = |text: &str, n: u32, reason: &str| {
        format!(
            "data: {{\"id\":\"a\",\"choices\":[{{\"text\":\"{text}\",\"finish_reason\":{reason}}}],\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":{n}}}}}\n\n"
        )
    };
    let got =
        read(3, &[HEAD, &event("a", 1, "null"), &event("b", 2, "null"), &event("", 3, "\"stop\""), DONE]);
    assert_eq!((got.outcome, got.events_tokens.as_slice()), (Outcome::Ok, &[1, 1, 1][..]));
    assert_eq!(got.flags.get(&Flag::Coalesced), None);
}

#[test]
fn a_role_in_every_delta_makes_no_difference() {
    let delta = |text: &str| {
        format!("data: {{\"choices\":[{{\"delta\":{{\"role\":\"assistant\",\"content\":\"{text}\"}}}}]}}\n\n")
    };
    let got = read(3, &[HEAD, &delta(""), &delta("a"), &delta(""), &delta("b"), DONE]);
    assert_eq!((got.events.len(), got.flags.get(&Flag::EmptyText)), (3, Some(&1)));
}

#[test]
fn what_a_connection_does_after_a_whole_answer_is_no_fault() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n";
    let got = read(1, &[head, &token("a"), DONE]);
    assert_eq!((got.outcome, got.ended_in, got.error), (Outcome::Ok, EndedIn::End, None));
}

#[test]
fn a_role_chunk_is_stamped_but_is_no_token() {
    let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let got = read(1, &[HEAD, role, text, DONE]);
    assert_eq!(
        (got.role, got.events.first()),
        (Some(Offset::from_tenths(200)), Some(Offset::from_tenths(300)))
    );
}

#[test]
fn a_proxys_account_of_its_time_is_kept() {
    let head = "HTTP/1.1 200 OK\r\nserver-timing: queue;dur=0.5\r\nServer-Timing: prefill;dur=31.25, <b>;dur=1\r\n\r\n";
    let got = read(1, &[head, &token("a"), &finish("a"), DONE]);
    let expected = [("prefill".to_owned(), 31.25), ("queue".to_owned(), 0.5)];
    assert_eq!(got.server_timing, Some(expected.into_iter().collect()));
    assert_eq!(read(1, &[HEAD, &token("a"), &finish("a"), DONE]).server_timing, None);
}

/// Reads the bytes of a whole response in pieces of so many bytes, all at one instant.
fn read_in_pieces(response: &[u8], piece: usize) -> RequestRecord {
    let secrets = [Secret::new("hunter2")].into();
    let mut reading = Reading::new(record(9), ReadLimits::default(), KeepText::All, secrets);
    let at = Offset::from_tenths(100);
    let mut end = None;
    for bytes in response.chunks(piece) {
        match reading.take(bytes, at) {
            Ok(Progress::More) => {}
            Ok(Progress::Whole) => end = Some(TransportEnd::Complete),
            Err(fault) => end = end.or(Some(fault)),
        }
    }
    let end = end.unwrap_or_else(|| reading.closed());
    let mut record = reading.finish(end, at);
    // How many events a read brought is all that may differ.
    record.flags.retain(|flag, _| !matches!(flag, Flag::Coalesced | Flag::BufferedByProxy));
    record
}

proptest! {
    /// An event that lies whole in a packet takes a short way, one that does not a long one: they say the same.
    #[test]
    fn a_stream_reads_the_same_byte_by_byte(
        events in proptest::collection::vec(
            prop_oneof![
                6 => "[a-c é{}:,]{0,5}".prop_map(|text| token(&text)),
                1 => Just(token("\\n\\\"\\u00e9")),
                1 => Just(token("\u{1}")),
                1 => Just(token("a").replace("\n\n", "\r\n\r\n")),
                1 => Just(token("a").replace("data: ", "data:")),
                1 => Just(token("a").replace("data: ", "event: error\ndata: ")),
                1 => Just(token("a").replace("\"choices\"", "\ndata: \"choices\"")),
                1 => Just(token("a").replace("null", "\"stop\"")),
                1 => Just(token("a").replace("}\n\n", "}\n")),
                1 => Just(": ping\n\n".to_owned()),
                1 => Just(usage("a", 3, 4)),
                1 => Just(DONE.to_owned()),
            ],
            0..20,
        ),
        chunk in prop_oneof![1_usize..300, Just(token("a").len())],
        broken in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut body = events.concat().into_bytes();
        if let Some(at) = broken.filter(|_| !body.is_empty()) {
            let at = at.index(body.len());
            body[at] = 0xff;
        }
        let mut response = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        // Now and then a chunk is as long as an event.
        for piece in body.chunks(chunk) {
            response.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            response.extend_from_slice(piece);
            response.extend_from_slice(b"\r\n");
        }
        response.extend_from_slice(b"0\r\n\r\n");
        prop_assert_eq!(read_in_pieces(&response, response.len()), read_in_pieces(&response, 1));
    }
}
