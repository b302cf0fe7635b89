//! Faults of a server, seen from outside: the exit status, the first line, and the record that is kept.

use crate::common::script::{Act, ScriptServer, chunk, end, stream_head, token, usage_and_done, whole};
use crate::program::{Program, serve};
use pdbench::measure::Flag;

fn raw(text: &str) -> Act {
    Act::Write(text.as_bytes().to_vec())
}

fn plain(status: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    vec![raw(&format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}"))]
}

fn stream(chunks: &[&str]) -> Vec<Act> {
    let mut acts = vec![stream_head()];
    acts.extend(chunks.iter().map(|data| chunk(data)));
    acts.push(end());
    acts
}

/// One fault: its name, what the server does, further arguments, and the outcome of the request.
type Row = (&'static str, Vec<Act>, &'static [&'static str], &'static str);

fn rows() -> Vec<Row> {
    let a = token("a");
    let error = "data: {\"error\":{\"message\":\"KV load failed\",\"code\":500}}\n\n";
    let cut = |end: Act| vec![stream_head(), chunk(&token("a")), end];
    let gzip = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nxx";
    let big = format!("data: {}", "x".repeat(3000));
    vec![
        ("429", plain("429 Too Many Requests", "slow down"), &[], "http_429"),
        ("503", plain("503 Service Unavailable", "busy"), &[], "http_5xx"),
        ("400 in mid-run", plain("400 Bad Request", "context too long"), &[], "http_4xx"),
        ("error in 200", plain("200 OK", r#"{"error":{"message":"no decode node"}}"#), &[], "error_in_200"),
        ("null in 200", plain("200 OK", "null"), &[], "error_in_200"),
        ("error in the stream", stream(&[&a, error, "data: [DONE]\n\n"]), &[], "stream_error"),
        ("FIN in mid-stream", cut(Act::Close), &[], "truncated"),
        ("reset in mid-stream", cut(Act::Reset), &[], "reset"),
        ("clean end, no finish reason", stream(&[&a, &a]), &[], "truncated"),
        ("not JSON", stream(&[&a, "data: {oops\n\n", &usage_and_done(4)]), &[], "bad_json"),
        ("too large", vec![stream_head(), chunk(&big)], &["--max-event-bytes", "2000"], "too_large"),
        ("encoded", vec![raw(gzip)], &[], "bad_encoding"),
        (
            "redirect",
            vec![raw("HTTP/1.1 307 No\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n")],
            &[],
            "redirect",
        ),
        ("too short", stream(&[&a, &usage_and_done(1)]), &[], "short_output"),
        ("no token", stream(&[&usage_and_done(0)]), &[], "empty_output"),
        ("silence", vec![Act::Hang], &["--timeout-first-token", "0.2"], "timeout_first_token"),
        ("silence midway", [cut(Act::Hang)].concat(), &["--timeout-idle", "0.2"], "timeout_idle"),
    ]
}

/// The third of twenty requests meets the fault: exactly the error budget. With `--strict` any failure counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_fault_has_its_outcome_and_its_exit_status() {
    for (name, fault, arguments, outcome) in rows() {
        let server = ScriptServer::start(vec![whole(4), whole(4), fault, whole(4)]).await;
        let arguments = [&serve(&server.url, "20")[..], arguments, &["--max-concurrency", "1"]].concat();
        let left = Program::new(&arguments).run().await;
        let records = left.records();
        assert_eq!((records.len(), records[2].outcome.word()), (20, outcome), "{name}: {}", left.stderr);
        assert!(records.iter().enumerate().all(|(i, record)| record.is_ok() == (i != 2)), "{name}");
        let censored = outcome.starts_with("timeout");
        assert_eq!(left.status, Some(i32::from(censored)), "{name}: {}", left.stdout);
        let word = if censored { "INVALID" } else { "VALID" };
        assert!(left.stdout.starts_with(word), "{name}: {}", left.stdout);
        assert!(left.stdout.lines().next().unwrap().contains("1 failed"), "{name}: {}", left.stdout);
        for file in ["summary.csv", "requests.csv", "timeline.csv", "report.html"] {
            assert!(left.directory().join(file).is_file(), "{name}: no {file}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_run_of_failures_alone_is_invalid_and_a_long_one_is_given_up() {
    for (count, status) in [("1", 1), ("10", 1), ("300", 4)] {
        let server = ScriptServer::start(vec![plain("500 No", "no")]).await;
        let arguments = [&serve(&server.url, count)[..], &["--max-concurrency", "1"]].concat();
        let left = Program::new(&arguments).run().await;
        assert_eq!(left.status, Some(status), "{count}: {}{}", left.stdout, left.stderr);
        assert!(left.stdout.starts_with("INVALID"), "{}", left.stdout);
        assert!(!left.records().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_target_that_cannot_be_used_is_told_before_the_load() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let left = Program::new(&serve(&closed, "5")).run().await;
    assert_eq!(left.status, Some(3), "{}", left.stderr);
    assert!(left.stderr.contains("help:") && left.stdout.is_empty(), "{}", left.stderr);
    for (status, says) in
        [("401 Unauthorized", "API key"), ("404 Not Found", "404"), ("307 Elsewhere", "redirect")]
    {
        let server = ScriptServer::start(vec![plain(status, "no")]).await;
        let mut arguments = serve(&server.url, "5");
        arguments.extend(["--probe", "own"]);
        arguments.retain(|word| *word != "none");
        let at = arguments.iter().position(|word| *word == "--probe").unwrap();
        arguments.remove(at);
        let left = Program::new(&arguments).run().await;
        assert_eq!(left.status, Some(3), "{status}: {}", left.stderr);
        assert!(left.stderr.contains(says), "{status}: {}", left.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn wrong_usage_is_told_and_nothing_is_left() {
    for wrong in [
        &["--request-rate", "0"][..],
        &["--request-rate", "-2"],
        &["--repeat-d-times", "0"],
        &["--repeat-d-times", "3,0"],
        &["--max-head-bytes", "0"],
        &["--request-rate", "NaN"],
        &["--burstiness", "-1"],
        &["--max-concurrency", "0"],
        &["--num-prompts", "0"],
        &["--header", "a=b\r\nc"],
        &["--dataset-name", "custom", "--dataset-path", "/nowhere.jsonl"],
    ] {
        let left = Program::new(&[&["serve"][..], wrong].concat()).run().await;
        assert_eq!(left.status, Some(2), "{wrong:?}: {}", left.stderr);
        let named = ["want", "above 0", "in 1..", "help:"].iter().any(|word| left.stderr.contains(word));
        assert!(named, "{wrong:?} names no range: {}", left.stderr);
        assert!(std::fs::read_dir(left.place.path()).unwrap().next().is_none(), "{wrong:?}");
    }
}

/// Oddities that are no failures: the run is valid, and says what it saw.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn oddities_of_a_whole_answer_are_warnings() {
    let (a, done) = (token("a"), usage_and_done(4));
    let last = token("a").replace("null", "\"length\"");
    let rows: [(&str, Vec<&str>, &str); 4] = [
        ("no [DONE]", vec![&a, &a, &a, &last], "ended without `[DONE]`"),
        (
            "data after [DONE]",
            vec![&a, &a, &a, &a, &done, "data: {\"id\":\"a\",\"choices\":[]}\n\n"],
            "went on after `[DONE]`",
        ),
        ("two [DONE]", vec![&a, &a, &a, &a, &done, "data: [DONE]\n\n"], "went on after `[DONE]`"),
        ("no usage", vec![&a, &a, &a, &last, "data: [DONE]\n\n"], "came without usage"),
    ];
    for (name, chunks, says) in rows {
        let server = ScriptServer::start(vec![whole(4), stream(&chunks), whole(4)]).await;
        let left =
            Program::new(&[&serve(&server.url, "20")[..], &["--max-concurrency", "1"]].concat()).run().await;
        assert_eq!(left.status, Some(0), "{name}: {}", left.stdout);
        let words = left.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(says), "{name}: {}", left.stdout);
        let records = left.records();
        assert!(
            records.len() == 20 && records.iter().all(|record| record.is_ok() && record.output_tokens == 4),
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_key_that_is_refused_is_named_by_its_place_and_shown_nowhere() {
    let server = ScriptServer::start(vec![plain("403 Forbidden", "not canary-4711")]).await;
    let mut arguments = serve(&server.url, "5");
    arguments.truncate(arguments.iter().position(|word| *word == "--probe").unwrap());
    let mut program = Program::new(&arguments);
    program.command.env("OPENAI_API_KEY", "canary-4711");
    let left = program.run().await;
    assert_eq!(left.status, Some(3), "{}", left.stderr);
    assert!(left.stderr.contains("the API key (from OPENAI_API_KEY)"), "{}", left.stderr);
    assert!(!left.stderr.contains("canary") && left.stdout.is_empty());
    assert!(std::fs::read_dir(left.place.path()).unwrap().next().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn too_few_open_files_are_told_with_the_number_that_is_needed() {
    let server = ScriptServer::start(vec![whole(4)]).await;
    for (count, need) in [("500", 564), ("140", 204)] {
        let arguments = [&serve(&server.url, "1000")[..], &["--max-concurrency", count]].concat();
        let left = Program::by_shell("ulimit -n 200", &arguments).run().await;
        assert_eq!(left.status, Some(3), "{}", left.stderr);
        assert!(left.stderr.contains(&format!("`ulimit -n {need}`")), "{}", left.stderr);
        assert!(left.stderr.contains("may have 200"), "{}", left.stderr);
    }
    assert!(server.heads().iter().all(|head| head.starts_with("GET")), "something was sent");
    let arguments = [&serve(&server.url, "200")[..], &["--max-concurrency", "130"]].concat();
    let left = Program::by_shell("ulimit -n 200", &arguments).run().await;
    // Whether this machine keeps up is another matter.
    assert!(left.stdout.contains("200 ok, 0 failed of 200 sent"), "{}{}", left.stdout, left.stderr);
}

/// An open loop, of which nobody can say before how many connections it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn open_files_that_run_out_in_mid_run_are_a_fault_of_the_client() {
    let slow = [vec![Act::Wait(std::time::Duration::from_millis(800))], whole(4)].concat();
    let server = ScriptServer::start(vec![slow]).await;
    let arguments = [&serve(&server.url, "150")[..], &["--rate", "1000", "--max-error-rate", "1"]].concat();
    let left = Program::by_shell("ulimit -n 64", &arguments).run().await;
    assert_eq!(left.status, Some(1), "{}{}", left.stdout, left.stderr);
    let records = left.records();
    let ports = records.iter().filter(|record| record.outcome.word() == "client_ports").count();
    let ok = records.iter().filter(|record| record.is_ok()).count();
    assert!(0 < ports && 0 < ok && ports + ok == 150, "{ports} {ok}");
    assert!(
        left.stdout.starts_with("INVALID") && left.stdout.contains("ran out of ports"),
        "{}",
        left.stdout
    );
    assert!(left.run_file().summary.is_some() && left.directory().join("report.html").is_file());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_kept_alive_connection_that_was_closed_is_opened_again_once() {
    let closes = vec![Act::Close];
    let server = ScriptServer::start(vec![whole(4), closes.clone(), whole(4)]).await;
    let left =
        Program::new(&[&serve(&server.url, "20")[..], &["--max-concurrency", "1"]].concat()).run().await;
    assert_eq!(left.status, Some(0), "{}{}", left.stdout, left.stderr);
    let flagged = left.records().iter().filter(|record| record.flags.contains_key(&Flag::StaleRetry)).count();
    assert_eq!(flagged, 1);
    // A server that does it twice in a row has failed.
    let server = ScriptServer::start(vec![whole(4), closes.clone(), closes, whole(4)]).await;
    let left =
        Program::new(&[&serve(&server.url, "20")[..], &["--max-concurrency", "1"]].concat()).run().await;
    let records = left.records();
    assert_eq!((left.status, records[1].outcome.word()), (Some(0), "stale_conn"), "{}", left.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_proxy_in_the_environment_is_not_used_unless_asked_for() {
    let server = ScriptServer::start(vec![whole(4)]).await;
    let run = async |arguments: &[&str]| {
        let mut program = Program::new(&[&serve(&server.url, "5")[..], arguments].concat());
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
            program.command.env(name, "http://127.0.0.1:1");
        }
        program.command.env_remove("no_proxy").env_remove("NO_PROXY");
        program.run().await
    };
    let left = run(&[]).await;
    assert_eq!(left.status, Some(0), "{}", left.stderr);
    let left = run(&["--http-proxy", "env"]).await;
    assert_eq!(left.status, Some(3), "{}", left.stderr);
    assert!(left.stderr.contains("through the HTTP proxy http://127.0.0.1:1"), "{}", left.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn questions_to_a_server_outside_cost_one_open_file_each() {
    let body = r##"{"choices":[{"index":0,"text":" #### 1","finish_reason":"stop"}]}"##;
    let server = ScriptServer::start(vec![plain("200 OK", body)]).await;
    let words = ["accuracy", "gsm8k", "--num-fewshot", "0", "--limit", "40", "--model", "m", "--base-url"];
    // Enough for 32 connections, and for half of what as many through an embedded cluster would be.
    let left = Program::by_shell("ulimit -n 160", &[&words[..], &[&server.url]].concat()).run().await;
    assert_eq!(left.status, Some(0), "{}{}", left.stderr, left.stdout);
}
