//! Nodes that say what real ones do, and not more: `/metrics` in the lines of vLLM 0.30 as LMCache and older engines
//! have them.

use crate::setup::{check, listen};
use pdbench::Exit;
use pdbench::measure::check::{Step, Verdict};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// What a node does with a prompt whose KV it may find elsewhere.
#[derive(Clone, Copy)]
struct Node {
    /// Prompt tokens that come from elsewhere, of so many.
    moves: fn(u64) -> u64,
    /// Time that it takes beyond computing.
    waits: Duration,
    /// Tells where prompt tokens come from.
    tells: bool,
}

#[derive(Default)]
struct Counts {
    requests: u64,
    local: u64,
    external: u64,
    generated: u64,
}

async fn start(node: Node) -> String {
    let listener = listen();
    let name = listener.local_addr().unwrap().to_string();
    let counts = Arc::new(Mutex::new(Counts::default()));
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(client, node, Arc::clone(&counts)));
        }
    });
    name
}

async fn serve(mut client: TcpStream, node: Node, counts: Arc<Mutex<Counts>>) {
    while let Some((line, body)) = request(&mut client).await {
        let (status, text) = match line.split(' ').nth(1).unwrap() {
            "/health" => ("200 OK", String::new()),
            "/v1/models" => ("200 OK", models()),
            "/metrics" => ("200 OK", metrics(node, &counts.lock().unwrap())),
            "/v1/completions" => {
                sleep(node.waits).await;
                ("200 OK", completion(node, &body, &mut counts.lock().unwrap()))
            }
            _ => ("404 Not Found", json!({"detail": "Not Found"}).to_string()),
        };
        let answer =
            format!("HTTP/1.1 {status}\r\nserver: uvicorn\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        if client.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn request(client: &mut TcpStream) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    loop {
        if client.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length.map_or(0, |length| length.parse().unwrap()) <= body.len() {
            let body = serde_json::from_str(body).unwrap_or(Value::Null);
            return Some((head.lines().next().unwrap().to_owned(), body));
        }
    }
}

fn models() -> String {
    json!({"object": "list", "data": [{"id": "tiny", "object": "model", "owned_by": "vllm", "root": "/models/tiny",
        "parent": null, "max_model_len": 4096}]})
    .to_string()
}

fn completion(node: Node, body: &Value, counts: &mut Counts) -> String {
    let prompt = body["prompt"].as_str().unwrap();
    let (tokens, made) = (prompt.len() as u64 / 4, body["max_tokens"].as_u64().unwrap());
    let external = (node.moves)(tokens);
    counts.requests += 1;
    counts.external += external;
    counts.local += tokens - external;
    counts.generated += made;
    let text = format!("{}{}", &prompt[..4], "x".repeat(made as usize));
    json!({"id": "cmpl-1", "object": "text_completion", "model": "tiny", "kv_transfer_params": null,
        "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": "length", "stop_reason": null}],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens + made, "completion_tokens": made}})
    .to_string()
}

fn metrics(node: Node, counts: &Counts) -> String {
    let mut text = String::from(
        "# TYPE vllm:cache_config_info gauge\n\
         vllm:cache_config_info{_block_size_resolved=\"True\",block_size=\"16\",cache_dtype=\"auto\",engine=\"0\"} 1.0\n\
         # TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{engine=\"0\",model_name=\"tiny\"} 0.0\n",
    );
    let mut line = |name: &str, label: &str, value: u64| {
        writeln!(text, "vllm:{name}{{engine=\"0\"{label},model_name=\"tiny\"}} {value}.0").unwrap();
    };
    line("generation_tokens_total", "", counts.generated);
    for reason in ["stop", "length", "abort", "error"] {
        let ended = if reason == "length" { counts.requests } else { 0 };
        line("request_success_total", &format!(",finished_reason=\"{reason}\""), ended);
    }
    if node.tells {
        for (source, tokens) in [
            ("local_compute", counts.local),
            ("local_cache_hit", 0),
            ("external_kv_transfer", counts.external),
        ] {
            line("prompt_tokens_by_source_total", &format!(",source=\"{source}\""), tokens);
        }
    }
    text
}

const PREFILL: Node = Node { moves: |_| 0, waits: Duration::from_millis(40), tells: true };

#[tokio::test(start_paused = true)]
async fn whole_chunks_of_a_connector_are_no_loss() {
    let prefill = start(PREFILL).await;
    let decode = start(Node { moves: |tokens| tokens / 256 * 256, ..PREFILL }).await;
    let checked = check(&format!("--prefill {prefill} --decode {decode} --dialect plain --requests 6")).await;
    // Asked alone, this node finds KV that nobody made: the control is what tells it from a real one.
    assert_eq!(checked.named(), ["made_up"], "{}", checked.ran.stdout);
    assert_eq!(checked.verdict(Step::KvMoves), Verdict::Ok);
    assert!(
        checked.ran.stdout.replace("\n                             ", " ").contains("in chunks of up to 256")
    );
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_moves_nothing_and_takes_its_time_is_found_behind_equal_texts() {
    let prefill = start(PREFILL).await;
    let decode = start(Node { waits: Duration::from_secs(6), ..PREFILL }).await;
    let other = start(PREFILL).await;
    let flags =
        format!("--prefill {prefill} --decode {decode} --dialect plain --baseline-url http://{other}");
    let checked = check(&flags).await;
    assert_eq!(checked.ran.exit, Exit::Invalid);
    assert_eq!(checked.named(), ["nothing_moved"], "{}", checked.ran.stdout);
    let fault = &checked.faults()[0];
    assert_eq!(fault["cause"]["cause"], "unknown");
    assert!((6.0..6.2).contains(&fault["seconds"][0].as_f64().unwrap()), "{fault}");
    assert_eq!(checked.verdict(Step::Texts), Verdict::Ok);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_do_not_tell_leave_it_unshown() {
    let silent = Node { tells: false, ..PREFILL };
    let (prefill, decode) = (start(silent).await, start(silent).await);
    let checked = check(&format!("--prefill {prefill} --decode {decode} --dialect plain")).await;
    assert_eq!(checked.named(), ["not_shown"], "{}", checked.ran.stdout);
    assert!(
        checked
            .ran
            .stdout
            .starts_with("INVALID: it is not shown that any KV moves: no decode instance tells")
    );
    assert_eq!(checked.verdict(Step::Texts), Verdict::Ok);
}
