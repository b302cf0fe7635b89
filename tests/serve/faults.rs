//! Every fault that a server can show on a plain connection: what the request becomes, where it ended, what is
//! kept, and how the run ends. One request meets the fault, nineteen do not, unless the row says otherwise.

use crate::common::run_in;
use crate::common::script::{Act, ScriptServer, chunk, end, stream_head, token, usage_and_done, whole};
use pdbench::Exit;
use pdbench::measure::{EndedIn, Flag, Outcome, OutputTokensSource, Reason, RequestRecord, Summary, Warning};
use pdbench::runtime::Workers;
use std::time::Duration;
use tempfile::tempdir;

/// What a row expects of the one request that meets the fault.
struct Expect {
    outcome: Outcome,
    ended_in: EndedIn,
    events: usize,
    /// Part of the error text; empty for none at all.
    says: &'static str,
}

fn expect(outcome: Outcome, ended_in: EndedIn, events: usize, says: &'static str) -> Expect {
    Expect { outcome, ended_in, events, says }
}

fn raw(text: &str) -> Act {
    Act::Write(text.as_bytes().to_vec())
}

fn plain(status: &str, headers: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    vec![raw(&format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}"))]
}

/// A stream with these chunks, properly ended.
fn stream(chunks: &[&str]) -> Vec<Act> {
    let mut acts = vec![stream_head()];
    acts.extend(chunks.iter().map(|data| chunk(data)));
    acts.push(end());
    acts
}

/// The run of 20 requests, one after the other, of which the third meets `fault`.
async fn run(fault: Vec<Act>, arguments: &[&str]) -> (Exit, Vec<RequestRecord>, Summary, String) {
    let mut scripts = vec![whole(4); 2];
    scripts.extend([fault, whole(4)]);
    let server = ScriptServer::start(scripts).await;
    let place = tempdir().unwrap();
    let base =
        ["serve", "--base-url", &server.url, "--dataset-name", "sonnet", "--model", "m", "--probe", "none"];
    let shape = ["--sonnet-output-len", "4", "--num-prompts", "20", "--max-concurrency", "1", "--ignore-eos"];
    let ran = run_in(place.path(), &[&base[..], &shape, arguments].concat(), Workers::Local).await;
    let summary = ran.run_file().summary.unwrap();
    (ran.exit, ran.main_records(), summary, ran.stdout)
}

async fn meets(name: &str, fault: Vec<Act>, arguments: &[&str], expected: Expect) {
    let (exit, records, summary, stdout) = run(fault, arguments).await;
    let record = &records[2];
    assert_eq!(
        (record.outcome, record.ended_in, record.events.len()),
        (expected.outcome, expected.ended_in, expected.events),
        "{name}: {:?}",
        record.error
    );
    let error = record.error.as_deref().unwrap_or("");
    assert!(error.contains(expected.says) && error.is_empty() == expected.says.is_empty(), "{name}: {error}");
    let failed = usize::from(expected.outcome.is_failure());
    assert_eq!((summary.counts.ok, summary.counts.failed), (20 - failed, failed), "{name}");
    // One failure of twenty is exactly the budget: the run counts, and says so in its first line.
    let first_line = stdout.lines().next().unwrap();
    let cut_by_us = matches!(
        expected.outcome,
        Outcome::TimeoutFirstToken | Outcome::TimeoutIdle | Outcome::TimeoutRequest
    );
    // Of a time-out it is only known that it took at least so long, and so of the p99.
    let valid = if cut_by_us { Exit::Invalid } else { Exit::Valid };
    assert_eq!(exit, valid, "{name}: {first_line}");
    assert!(first_line.contains(&format!("{failed} failed")), "{name}: {first_line}");
}

#[tokio::test(start_paused = true)]
async fn refusals_keep_status_and_body() {
    use EndedIn::End;
    for (status, headers, body, outcome) in [
        ("429 Too Many Requests", "", "slow down", Outcome::Http429),
        ("429 Too Many Requests", "retry-after: 60\r\n", "slow down", Outcome::Http429),
        ("500 Internal Server Error", "", "oops", Outcome::Http5xx),
        ("502 Bad Gateway", "", "no upstream", Outcome::Http5xx),
        ("503 Service Unavailable", "", "busy", Outcome::Http5xx),
        ("504 Gateway Timeout", "", "late", Outcome::Http5xx),
        ("400 Bad Request", "", "context too long", Outcome::Http4xx),
        ("307 Temporary Redirect", "location: /elsewhere\r\n", "", Outcome::Redirect),
    ] {
        let says = if outcome == Outcome::Redirect { "/elsewhere" } else { body };
        let says: &'static str = says.to_owned().leak();
        meets(status, plain(status, headers, body), &[], expect(outcome, End, 0, says)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn errors_behind_a_status_200_are_no_successes() {
    let error = r#"{"error":{"message":"no decode node","code":503}}"#;
    let outcome = Outcome::ErrorIn200;
    for (body, says) in [
        (error, "no decode node"),
        ("null", "`null`"),
        ("", "an empty body"),
        ("<html>hello</html>", "`<html>hello</html>`"),
    ] {
        meets(body, plain("200 OK", "", body), &[], expect(outcome, EndedIn::End, 0, says)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn errors_inside_a_stream_keep_the_tokens_before_them() {
    let error = "data: {\"error\":{\"message\":\"KV load failed\",\"code\":500}}\n\n";
    let named = "event: error\ndata: {\"detail\":\"gone\"}\n\n";
    let done = "data: [DONE]\n\n";
    let a = token("a");
    let outcome = Outcome::StreamError;
    for (chunks, events, says) in [
        (vec![error], 0, "KV load failed (code 500)"),
        (vec![error, done], 0, "KV load failed"),
        (vec![&a, &a, error, done], 2, "KV load failed"),
        (vec![&a, error], 1, "KV load failed"),
        (vec![&a, named, done], 1, "gone"),
    ] {
        meets(says, stream(&chunks), &[], expect(outcome, EndedIn::End, events, says)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_cut_are_no_successes_and_raise_no_throughput() {
    let a = token("a");
    let cut = |end: Act| vec![stream_head(), chunk(&a), chunk(&a), Act::Wait(Duration::from_millis(5)), end];
    let truncated = expect(Outcome::Truncated, EndedIn::Stream, 2, "closed before");
    meets("early FIN", cut(Act::Close), &[], truncated).await;
    meets("reset", cut(Act::Reset), &[], expect(Outcome::Reset, EndedIn::Stream, 2, "broke")).await;
    let clean = expect(Outcome::Truncated, EndedIn::End, 2, "");
    meets("clean end, no finish reason", stream(&[&a, &a]), &[], clean).await;
    let before = vec![stream_head(), Act::Wait(Duration::from_millis(5)), Act::Close];
    let none = expect(Outcome::Truncated, EndedIn::FirstToken, 0, "closed before");
    meets("FIN before the first token", before, &[], none).await;
    let (_, records, summary, _) = run(stream(&[&a, &a]), &[]).await;
    let whole: u64 =
        records.iter().filter(|record| record.is_ok()).map(|record| u64::from(record.output_tokens)).sum();
    assert_eq!((summary.tokens.output, whole), (19 * 4, 19 * 4));
}

#[tokio::test(start_paused = true)]
async fn malformed_events_are_told_and_the_rest_is_drained() {
    let (a, rest) = (token("a"), usage_and_done(4));
    let bad = "data: {\"choices\":[{\"text\":\u{0}oops}]}\n\n";
    let table = [
        (vec![a.as_str(), bad, &a, &a, &a, &rest], Outcome::BadJson, 4, "oops"),
        (vec![a.as_str(), "data: 17\n\n", &rest], Outcome::BadJson, 1, "`17`"),
    ];
    for (chunks, outcome, events, says) in table {
        let place = format!("event at byte {} of the body", a.len() + "data: ".len());
        let (_, records, _, _) = run(stream(&chunks), &[]).await;
        assert!(records[2].error.as_ref().unwrap().contains(&place), "{:?}", records[2].error);
        meets(says, stream(&chunks), &[], expect(outcome, EndedIn::End, events, says)).await;
    }
    let mut invalid = vec![stream_head(), Act::Write(b"d\r\ndata: {\"\xff\"}\n\r\n".to_vec())];
    invalid.extend([chunk("\n"), chunk(&usage_and_done(4)), end()]);
    let says = "event at byte 6 of the body: invalid UTF-8 at byte 2";
    meets("UTF-8", invalid, &[], expect(Outcome::BadUtf8, EndedIn::End, 0, says)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_or_encoded_is_refused() {
    let long = "x".repeat(3000);
    let limits = ["--max-event-bytes", "2000"];
    let big_event = vec![stream_head(), chunk(&format!("data: {long}"))];
    meets("event", big_event, &limits, expect(Outcome::TooLarge, EndedIn::FirstToken, 0, "2000 bytes")).await;
    let head = vec![raw(&format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(70_000)))];
    meets("head", head, &[], expect(Outcome::TooLarge, EndedIn::Headers, 0, "head of more than 65536")).await;
    let limits = ["--max-head-bytes", "500"];
    let head = vec![raw(&format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(600)))];
    let short = expect(Outcome::TooLarge, EndedIn::Headers, 0, "head of more than 500");
    meets("head over another limit", head, &limits, short).await;
    let limits = ["--max-body-bytes", "1000"];
    let comments = format!(": {}\n", "z".repeat(100));
    let mut body = vec![stream_head()];
    body.extend((0..12).map(|_| chunk(&comments)));
    // The nineteen others stay below: their answers are short.
    meets("body", body, &limits, expect(Outcome::TooLarge, EndedIn::FirstToken, 0, "body of more than 1000"))
        .await;
    let gzip = plain("200 OK", "content-encoding: gzip\r\n", "data: [DONE]\n\n");
    meets("gzip", gzip, &[], expect(Outcome::BadEncoding, EndedIn::End, 0, "`gzip`")).await;
}

#[tokio::test(start_paused = true)]
async fn every_request_asks_for_no_encoding() {
    let server = ScriptServer::start(vec![whole(4)]).await;
    let place = tempdir().unwrap();
    let base = ["serve", "--base-url", &server.url, "--dataset-name", "sonnet", "--model", "m"];
    let ran = run_in(place.path(), &[&base[..], &["--num-prompts", "3"]].concat(), Workers::Local).await;
    assert_eq!(ran.main_records().len(), 3);
    let heads: Vec<String> = server.heads().into_iter().filter(|head| head.starts_with("POST")).collect();
    assert_eq!(heads.len(), 4);
    assert!(heads.iter().all(|head| head.contains("\r\naccept-encoding: identity\r\n")), "{heads:?}");
}

/// The event of an answer's last token, without any usage after it.
fn finish() -> String {
    token("x").replace("null", "\"length\"") + "data: [DONE]\n\n"
}

#[tokio::test(start_paused = true)]
async fn answers_without_usage_are_counted_by_their_events() {
    let (a, last) = (token("x"), finish());
    let (exit, records, summary, _) = run(stream(&[&a, &a, &a, &last]), &[]).await;
    assert_eq!((exit, records[2].outcome, records[2].output_tokens), (Exit::Valid, Outcome::Ok, 4));
    assert_eq!(records[2].output_tokens_source, OutputTokensSource::Events);
    assert!(summary.warnings.contains(&Warning::NoUsage { requests: 1, of: 20 }), "{:?}", summary.warnings);
}

#[tokio::test(start_paused = true)]
async fn token_counts_that_contradict_one_another_make_the_run_invalid() {
    let (a, two) = (token("x"), usage_and_done(2));
    // Four events with text, and a usage of two; five tokens where four were asked for.
    for (chunks, flags) in [
        (vec![&a[..], &a, &a, &a, &two], &[][..]),
        (vec![&a[..], &a, &a, &a, &a, &usage_and_done(5)], &["--ignore-eos"]),
    ] {
        let mut scripts = vec![whole(4); 2];
        scripts.extend([stream(&chunks), whole(4)]);
        let server = ScriptServer::start(scripts).await;
        let place = tempdir().unwrap();
        let base = ["serve", "--base-url", &server.url, "--dataset-name", "sonnet", "--model", "m"];
        let shape =
            ["--probe", "none", "--sonnet-output-len", "4", "--num-prompts", "20", "--max-concurrency", "1"];
        let ran = run_in(place.path(), &[&base[..], &shape, flags].concat(), Workers::Local).await;
        let records = ran.main_records();
        assert!(records[2].is_ok() && records[2].flags.contains_key(&Flag::Mismatch), "{:?}", records[2]);
        assert_eq!(ran.exit, Exit::Invalid, "{}", ran.stdout);
        let reasons = ran.run_file().summary.unwrap().validity.reasons;
        assert_eq!(reasons, [Reason::TokenMismatch { requests: 1, of: 20 }]);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_without_tokens_or_with_too_few_are_no_successes() {
    let (a, none, two) = (token("a"), usage_and_done(0), usage_and_done(2));
    let empty = expect(Outcome::EmptyOutput, EndedIn::End, 0, "no token");
    meets("a KV load that failed silently", stream(&[&none]), &[], empty).await;
    let short = expect(Outcome::ShortOutput, EndedIn::End, 2, "");
    meets("stopped early", stream(&[&a, &a, &two]), &[], short).await;
}

#[tokio::test(start_paused = true)]
async fn silence_is_cut_at_each_time_out() {
    let limits = ["--timeout-first-token", "2", "--timeout-idle", "3"];
    let hang = vec![Act::Hang];
    let outcome = Outcome::TimeoutFirstToken;
    meets("before the head", hang, &limits, expect(outcome, EndedIn::Headers, 0, "")).await;
    let headed = vec![stream_head(), Act::Hang];
    meets("before a token", headed, &limits, expect(outcome, EndedIn::FirstToken, 0, "")).await;
    let midway = vec![stream_head(), chunk(&token("a")), Act::Hang];
    meets("midway", midway, &limits, expect(Outcome::TimeoutIdle, EndedIn::Stream, 1, "")).await;
}

/// Every way to write the same stream gives the same record.
#[tokio::test(start_paused = true)]
async fn a_stream_reads_the_same_in_every_dress() {
    let parts: Vec<String> = ["Zürich", "a ", " b", "🚀"].iter().map(|text| token(text)).collect();
    let text = parts.concat() + &usage_and_done(4);
    let crlf = text.replace('\n', "\r\n");
    let dresses = [
        ("plain", text.clone()),
        ("CRLF", crlf.clone()),
        ("CR", text.replace('\n', "\r")),
        ("BOM", format!("\u{feff}{text}")),
        ("no space", text.replace("data: ", "data:")),
        ("comments", text.replace("data: ", ": ping\n\ndata: ")),
        ("other fields", text.replace("data: ", "id: 1\nretry: 5\nevent: message\ndata: ")),
        ("several lines", text.replace("\"choices\"", "\ndata: \"choices\"")),
        ("unterminated", text.trim_end().to_owned()),
    ];
    for (name, dress) in dresses {
        for piece in [1, 2, 3, 7, 4096] {
            let mut acts = vec![stream_head()];
            for bytes in dress.as_bytes().chunks(piece) {
                let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
                framed.extend_from_slice(bytes);
                framed.extend_from_slice(b"\r\n");
                acts.extend([Act::Write(framed), Act::Wait(Duration::from_millis(1))]);
            }
            acts.push(end());
            let (exit, records, _, _) = run(acts, &["--save-text", "all"]).await;
            let record = &records[2];
            assert_eq!(
                (exit, record.outcome),
                (Exit::Valid, Outcome::Ok),
                "{name} {piece}: {:?}",
                record.error
            );
            assert_eq!(record.text.as_deref(), Some("Züricha  b🚀"), "{name} {piece}");
            assert_eq!((record.events.len(), record.output_tokens), (4, 4), "{name} {piece}");
            let unterminated = record.flags.contains_key(&Flag::Unterminated);
            assert_eq!(unterminated, name == "unterminated", "{name} {piece}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn oddities_of_an_end_are_counted_and_warned_of() {
    let a = token("a");
    let finish = token("a").replace("null", "\"length\"");
    let (exit, records, summary, _) = run(stream(&[&a, &a, &a, &finish]), &[]).await;
    assert_eq!((exit, records[2].outcome), (Exit::Valid, Outcome::Ok));
    assert_eq!(records[2].flags.get(&Flag::MissingDone), Some(&1));
    assert!(
        summary.warnings.iter().any(|warning| warning.text().contains("[DONE]")),
        "{:?}",
        summary.warnings
    );
    let done = usage_and_done(4);
    let (exit, records, _, _) = run(stream(&[&a, &a, &a, &done, &a, "data: [DONE]\n\n"]), &[]).await;
    assert_eq!((exit, records[2].outcome, records[2].events.len()), (Exit::Valid, Outcome::Ok, 4));
    assert_eq!(records[2].flags.get(&Flag::AfterDone), Some(&2));
}

#[tokio::test(start_paused = true)]
async fn a_run_in_which_every_request_failed_is_invalid_at_any_size() {
    for count in ["1", "3", "60"] {
        let server = ScriptServer::start(vec![plain("500 No", "", "no")]).await;
        let place = tempdir().unwrap();
        let base = ["serve", "--base-url", &server.url, "--dataset-name", "sonnet", "--model", "m"];
        let arguments = [&base[..], &["--probe", "none", "--num-prompts", count]].concat();
        let ran = run_in(place.path(), &arguments, Workers::Local).await;
        assert_eq!(ran.exit, Exit::Invalid);
        assert!(ran.stdout.starts_with("INVALID"), "{}", ran.stdout);
    }
}

#[tokio::test(start_paused = true)]
async fn the_text_of_errors_alone_can_be_kept() {
    let a = token("a");
    for (keep, failed, ok) in
        [("none", None, None), ("errors", Some("aa"), None), ("all", Some("aa"), Some("xxxx"))]
    {
        let (_, records, _, _) = run(stream(&[&a, &a]), &["--save-text", keep]).await;
        assert_eq!((records[2].text.as_deref(), records[1].text.as_deref()), (failed, ok), "{keep}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_of_another_length_are_told_and_count_when_that_was_asked_for() {
    for (arguments, exit) in [(&[][..], Exit::Valid), (&["--strict-osl"], Exit::Invalid)] {
        let server = ScriptServer::start(vec![whole(4)]).await;
        let place = tempdir().unwrap();
        let base = ["serve", "--base-url", &server.url, "--dataset-name", "sonnet", "--model", "m"];
        let shape = ["--probe", "none", "--num-prompts", "4", "--sonnet-output-len", "8"];
        let ran = run_in(place.path(), &[&base[..], &shape, arguments].concat(), Workers::Local).await;
        assert_eq!(ran.exit, exit, "{}", ran.stdout);
        let said = "answers have 4.0 tokens on average where 8.0 were asked for";
        assert_eq!(ran.stdout.matches("4.0 tokens").count(), 1, "{}", ran.stdout);
        let words = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(said) && words.contains("4 of 50-74 %"), "{}", ran.stdout);
    }
}
