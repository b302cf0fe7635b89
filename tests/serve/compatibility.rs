//! What the real `vllm bench serve` wrote and sent, by `scripts/vllm-reference.py`, asked of pdbench.

use crate::common::run_in;
use pdbench::runtime::Workers;
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn golden(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn words(case: &Value) -> Vec<String> {
    case["flags"].as_str().unwrap().split_whitespace().map(str::to_owned).collect()
}

/// The type of a value, as the script names it.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if number.is_f64() => "float".to_owned(),
        Value::Number(_) => "int".to_owned(),
        Value::String(_) => "str".to_owned(),
        Value::Object(_) => "object".to_owned(),
        Value::Array(items) => {
            let mut kinds: Vec<String> = items.iter().map(kind).collect();
            kinds.sort();
            kinds.dedup();
            format!("list of {}", kinds.join(" or "))
        }
    }
}

/// Keys and types, in order; the tokenizer, which these runs do not have, as vLLM had it.
fn shape(result: &Map<String, Value>) -> Vec<(String, String)> {
    let kind = |(key, value): (&String, &Value)| match key.as_str() {
        "tokenizer_id" => (key.clone(), "str".to_owned()),
        _ => (key.clone(), kind(value)),
    };
    result.iter().map(kind).collect()
}

/// The block's lines, a number behind the forty columns of a label made `#`.
fn console_block(stdout: &str) -> Vec<String> {
    let start = stdout.find("============ Serving Benchmark Result").unwrap();
    let mut lines = Vec::new();
    for line in stdout[start..].lines() {
        match line.split_at_checked(41).filter(|(_, number)| number.trim().parse::<f64>().is_ok()) {
            Some((label, _)) => lines.push(format!("{label}#")),
            None => lines.push(line.to_owned()),
        }
        if line == "=".repeat(50) {
            break;
        }
    }
    lines
}

#[tokio::test(start_paused = true)]
async fn the_result_file_has_vllms_keys_types_and_name_and_the_console_its_lines() {
    for case in golden("vllm-results.json") {
        let place = tempdir().unwrap();
        let results = place.path().join("made/for/it");
        let directory = results.display().to_string();
        let typed = words(&case);
        let mut arguments = vec!["serve", "--sim", "--model", "simulated", "--num-prompts", "20"];
        arguments.extend(["--sonnet-output-len", "8", "--result-dir", &directory]);
        // Without a rate vLLM sends everything at once, the embedded cluster gets 8 requests/s.
        if !typed.iter().any(|word| ["--request-rate", "--ramp-up-strategy"].contains(&word.as_str())) {
            arguments.extend(["--request-rate", "inf"]);
        }
        arguments.extend(typed.iter().map(String::as_str));
        let ran = run_in(&place.path().join("out"), &arguments, Workers::Local).await;
        let name = &case["name"];
        let files = crate::common::files_of(&results);
        let [(file, bytes)] = files.as_slice() else { panic!("{name}: {}", ran.stderr) };
        let mut result: Map<String, Value> = serde_json::from_slice(bytes).unwrap();
        let date = result["date"].as_str().unwrap().to_owned();
        assert_eq!(file.replace(&date, "DATE"), case["file_name"].as_str().unwrap(), "{name}");
        assert!(
            result["pdbench"]["validity"]["valid"].is_boolean()
                && result.keys().next_back().unwrap() == "pdbench"
        );
        result.shift_remove("pdbench");
        let keys: Vec<(String, String)> = serde_json::from_value(case["keys"].clone()).unwrap();
        assert_eq!(shape(&result), keys, "{name}");
        let lines: Vec<String> = serde_json::from_value(case["console"].clone()).unwrap();
        assert_eq!(console_block(&ran.stdout), lines, "{name}");
        let copy = std::fs::read(ran.directory().join("vllm-result.json")).unwrap();
        assert!(copy == *bytes, "{name}: the copy differs");
    }
}

#[tokio::test(start_paused = true)]
async fn results_are_appended_and_the_copy_is_made_again() {
    let place = tempdir().unwrap();
    let file = place.path().join("all.json").display().to_string();
    for seed in ["1", "2"] {
        let out = place.path().join(seed);
        let arguments =
            ["serve", "--num-prompts", "3", "--seed", seed, "--append-result", "--result-filename", &file];
        let ran = run_in(&out, &arguments, Workers::Local).await;
        assert!(ran.stdout.contains(&format!("result: {file}\n")), "{}", ran.stdout);
        let before = std::fs::read(ran.directory().join("vllm-result.json")).unwrap();
        std::fs::remove_file(ran.directory().join("vllm-result.json")).unwrap();
        let (stdout, stderr) = Default::default();
        let directory = ran.directory().display().to_string();
        let mut world = crate::common::world(&["report", &directory], Workers::Local, &stdout, &stderr);
        pdbench::run(&mut world).await;
        assert!(before == std::fs::read(ran.directory().join("vllm-result.json")).unwrap());
    }
    let text = std::fs::read_to_string(&file).unwrap();
    let seeds = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let seeds: Vec<Value> =
        seeds.map(|line| line["pdbench"]["manifest"]["settings"]["seed"].clone()).collect();
    assert_eq!(seeds, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_cannot_be_written_is_refused_before_the_load() {
    let place = tempdir().unwrap();
    let out = place.path().join("out");
    let directory = place.path().display().to_string();
    let arguments = ["serve", "--num-prompts", "3", "--save-result", "--result-filename", &directory];
    let ran = run_in(&out, &arguments, Workers::Local).await;
    assert_eq!(ran.exit, pdbench::Exit::NotWritten);
    assert!(ran.stderr.contains("--result-filename") && !out.exists(), "{}", ran.stderr);
}

/// Answers one request with one token; gives its body.
async fn take_down(mut connection: TcpStream) -> Option<Value> {
    let mut request = Vec::new();
    let body = loop {
        if connection.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
        if request.starts_with(b"GET") {
            let refusal = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            connection.write_all(refusal).await.ok()?;
            return None;
        }
        let Some(head) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        if let Ok(body) = serde_json::from_slice::<Value>(&request[head + 4..]) {
            break body;
        }
    };
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
    let token = r#"{"choices":[{"index":0,"text":"a","delta":{"content":"a"},"finish_reason":"length"}]}"#;
    let events = format!("data: {token}\n\ndata: {usage}\n\ndata: [DONE]\n\n");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n";
    let answer = format!("{head}content-length: {}\r\n\r\n{events}", events.len());
    connection.write_all(answer.as_bytes()).await.ok()?;
    Some(body)
}

#[tokio::test]
async fn bodies_are_those_of_vllm() {
    let place = tempdir().unwrap();
    let prompts = place.path().join("prompts.jsonl").display().to_string();
    std::fs::write(&prompts, "{\"prompt\": \"Say \\\"é\\\" twice.\", \"output_tokens\": 5}\n").unwrap();
    for (number, case) in golden("vllm-bodies.json").iter().enumerate() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                if let Some(body) = take_down(connection).await {
                    return body;
                }
            }
        });
        let typed = words(case);
        let mut arguments = vec!["serve", "--base-url", &url, "--model", "simulated", "--num-prompts", "1"];
        arguments.extend(["--dataset-name", "custom", "--dataset-path", &prompts, "--probe", "none"]);
        arguments.extend(["--chat-content", "parts", "--chat-max-tokens-field", "max_completion_tokens"]);
        arguments.extend(typed.iter().map(String::as_str));
        let ran = run_in(&place.path().join(number.to_string()), &arguments, Workers::Local).await;
        assert!(server.is_finished(), "{}", ran.stderr);
        let body = server.await.unwrap();
        assert_eq!(body.to_string(), case["body"].to_string(), "{}", case["name"]);
    }
}

/// A server that keeps the bodies it was sent.
async fn listening(taken: Arc<Mutex<Vec<Value>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            if let Some(body) = take_down(connection).await {
                taken.lock().unwrap().push(body);
            }
        }
    });
    url
}

#[tokio::test]
async fn prompts_that_a_target_saw_before_are_told_and_a_salt_makes_them_new() {
    let place = tempdir().unwrap();
    let out = place.path().join("out").display().to_string();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let url = listening(Arc::clone(&taken)).await;
    let told = "one run here (20260102-030405-serve-0001) sent the same prompts to this target before";
    for (suffix, more, warned) in [
        ("0001", &[][..], false),
        ("0002", &[], true),
        ("0003", &["--seed", "1"], false),
        ("0004", &["--salt"], false),
    ] {
        let fixed =
            ["serve", "--base-url", &url, "--model", "m", "--dataset-name", "sonnet", "--num-prompts", "2"];
        let arguments =
            [&fixed[..], &["--max-concurrency", "1", "--probe", "none", "--output-dir", &out], more].concat();
        let (stdout, stderr) = Default::default();
        let mut world = crate::common::world(&arguments, Workers::Local, &stdout, &stderr);
        world.run_id_suffix = suffix.to_owned();
        pdbench::run(&mut world).await;
        let printed = stdout.text().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(printed.contains(told), warned, "{printed}{}", stderr.text());
    }
    let salted = taken.lock().unwrap().split_off(6);
    assert_eq!(salted.len(), 2);
    for body in salted {
        let prompt = body["prompt"].as_str().unwrap();
        assert!(prompt.starts_with("[20260102-030405-serve-0004] Pick as many lines"), "{prompt}");
    }
}
