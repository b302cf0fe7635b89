//! Requests and responses in vLLM's shapes.

use crate::client::{Sim, config};
use crate::timing::prompt;
use serde_json::{Value, json};

/// Keys of an object and of the objects in it, in order.
fn keys(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, inner)| {
                std::iter::once(key.clone()).chain(keys(inner).into_iter().map(move |k| format!("{key}.{k}")))
            })
            .collect(),
        Value::Array(list) => list.first().map(keys).unwrap_or_default(),
        _ => Vec::new(),
    }
}

pub fn assert_keys(value: &Value, captured: &str) {
    assert_eq!(keys(value), keys(&serde_json::from_str(captured).unwrap()));
}

const TOKEN: &str = r#"{"id":"cmpl-b2","object":"text_completion","created":1,"model":"tiny","choices":[{"index":0,"text":"lines","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]}"#;
const TOKEN_WITH_USAGE: &str = r#"{"id":"cmpl-ac","object":"text_completion","created":1,"model":"tiny","choices":[{"index":0,"text":"lines","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}],"usage":{"prompt_tokens":11,"total_tokens":12,"completion_tokens":1}}"#;
const USAGE: &str = r#"{"id":"cmpl-b2","object":"text_completion","created":1,"model":"tiny","choices":[],"usage":{"prompt_tokens":11,"total_tokens":19,"completion_tokens":8},"system_fingerprint":"vllm"}"#;
const CACHED_USAGE: &str = r#"{"id":"cmpl-2e","object":"text_completion","created":1,"model":"tiny","choices":[],"usage":{"prompt_tokens":443,"total_tokens":445,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":384}},"system_fingerprint":"vllm"}"#;
const WHOLE: &str = r#"{"id":"cmpl-8c","object":"text_completion","created":1,"model":"tiny","choices":[{"index":0,"text":"lines","logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,"routed_experts":null}],"service_tier":null,"system_fingerprint":"vllm","usage":{"prompt_tokens":11,"total_tokens":19,"completion_tokens":8,"prompt_tokens_details":null,"completion_tokens_details":null},"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}"#;
const CHAT_ROLE: &str = r#"{"id":"chatcmpl-ab","object":"chat.completion.chunk","created":1,"model":"tiny","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null}"#;
const CHAT_TOKEN: &str = r#"{"id":"chatcmpl-ab","object":"chat.completion.chunk","created":1,"model":"tiny","choices":[{"index":0,"delta":{"content":" cro"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#;
const CHAT_LAST: &str = r#"{"id":"chatcmpl-ab","object":"chat.completion.chunk","created":1,"model":"tiny","choices":[{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null}]}"#;

#[tokio::test(start_paused = true)]
async fn completions_have_the_shapes_of_vllm() {
    let sim = Sim::start(config(&[]));
    let mut body = json!({"prompt": prompt(40, 0), "max_tokens": 8, "stream": true});
    let plain = sim.post("/v1/completions", body.clone()).await;
    assert!(
        plain.head.contains("server: pdbench-sim") && plain.head.contains("text/event-stream; charset=utf-8")
    );
    assert_eq!(plain.events().len(), 8);
    plain.events().iter().for_each(|(_, event)| assert_keys(event, TOKEN));
    body["stream_options"] = json!({"include_usage": true});
    let counted = sim.post("/v1/completions", body.clone()).await;
    assert_keys(&counted.events()[8].1, CACHED_USAGE);
    assert_eq!(counted.events()[8].1["usage"]["total_tokens"], 48);
    sim.post("/reset_prefix_cache", json!({})).await;
    let counted = sim.post("/v1/completions", body.clone()).await;
    assert_keys(&counted.events()[8].1, USAGE);
    sim.post("/reset_prefix_cache", json!({})).await;
    body["stream_options"]["continuous_usage_stats"] = json!(true);
    let always = sim.post("/v1/completions", body.clone()).await;
    assert_keys(&always.events()[0].1, TOKEN_WITH_USAGE);
    let counts: Vec<_> =
        always.events().iter().map(|(_, e)| e["usage"]["completion_tokens"].clone()).collect();
    assert_eq!(counts, [1, 2, 3, 4, 5, 6, 7, 8, 8]);
    sim.post("/reset_prefix_cache", json!({})).await;
    let whole = sim.post("/v1/completions", json!({"prompt": prompt(40, 0), "max_tokens": 8})).await;
    assert_keys(&whole.json(), WHOLE);
    let text = whole.json()["choices"][0]["text"].clone();
    assert_eq!((text.as_str().unwrap().len(), text), (32, plain.streamed_text().into()));
    assert_eq!(whole.json()["choices"][0]["finish_reason"], "length");
}

#[tokio::test(start_paused = true)]
async fn chats_have_the_shapes_of_vllm() {
    let sim = Sim::start(config(&[]));
    let turns = json!([{"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "San Francisco is a"}]}]);
    let mut body = json!({"model": "simulated", "messages": turns, "max_tokens": 99, "max_completion_tokens": 6,
        "stream": true, "stream_options": {"include_usage": true}});
    let streamed = sim.post("/v1/chat/completions", body.clone()).await;
    let events = streamed.events();
    assert_eq!((events.len(), streamed.token_times().len()), (1 + 6 + 1, 6));
    assert_keys(&events[0].1, CHAT_ROLE);
    assert_keys(&events[1].1, CHAT_TOKEN);
    assert_keys(&events[6].1, CHAT_LAST);
    assert_eq!(events[7].1["usage"]["prompt_tokens"], 7); // 9 + 1 + 18 bytes
    body["stream"] = json!(false);
    body.as_object_mut().unwrap().remove("stream_options");
    let whole = sim.post("/v1/chat/completions", body.clone()).await.json();
    assert_eq!(whole["choices"][0]["message"]["content"], streamed.streamed_text());
    assert_eq!(whole["usage"]["completion_tokens"], 6);
    for key in ["max_tokens", "max_completion_tokens"] {
        body.as_object_mut().unwrap().remove(key);
    }
    let unlimited = sim.post("/v1/chat/completions", body).await.json();
    assert_eq!(unlimited["choices"][0]["finish_reason"], "stop");
    assert_eq!(unlimited["usage"]["completion_tokens"], 256);
}

#[tokio::test(start_paused = true)]
async fn a_stop_string_ends_an_answer_streamed_or_not() {
    let sim = Sim::start(config(&[]));
    let mut body = json!({"prompt": "x", "max_tokens": 20});
    let text = sim.post("/v1/completions", body.clone()).await.json()["choices"][0]["text"].clone();
    let stop = &text.as_str().unwrap()[21..27];
    body["stop"] = json!([stop]);
    let whole = sim.post("/v1/completions", body.clone()).await.json();
    assert_eq!(whole["choices"][0]["text"], text.as_str().unwrap()[..21]);
    assert_eq!(whole["choices"][0]["stop_reason"], stop);
    assert_eq!(whole["usage"]["completion_tokens"], 7);
    body["stream"] = json!(true);
    let streamed = sim.post("/v1/completions", body).await;
    assert_eq!((streamed.events().len(), streamed.streamed_text().len()), (7, 21));
    assert_eq!(streamed.events()[6].1["choices"][0]["finish_reason"], "stop");
}

#[tokio::test(start_paused = true)]
async fn answers_that_end_by_themselves_are_told_so() {
    let sim = Sim::start(config(&[("eos-probability", "0.1")]));
    let mut body = json!({"prompt": "y", "max_tokens": 1000});
    let ended = sim.post("/v1/completions", body.clone()).await.json();
    assert_eq!(ended["choices"][0]["finish_reason"], "stop");
    body["ignore_eos"] = json!(true);
    let full = sim.post("/v1/completions", body.clone()).await.json();
    assert_eq!(full["usage"]["completion_tokens"], 1000);
    body["ignore_eos"] = json!(false);
    body["min_tokens"] = json!(900);
    let late = sim.post("/v1/completions", body).await.json();
    assert!(900 <= late["usage"]["completion_tokens"].as_u64().unwrap());
}

/// Body, then status, type, param and a part of the message of the refusal.
const REFUSED: &[(&str, u16, &str, &str, &str)] = &[
    (r#"{"model":"nope","prompt":"hi"}"#, 404, "NotFoundError", "model", "The model `nope` does not exist."),
    (r#"{"model":"simulated","prompt":"#, 400, "Bad Request", "body.30", "1 validation error:"),
    (
        r#"{"max_tokens":4}"#,
        400,
        "BadRequestError",
        "prompt",
        "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)",
    ),
    (
        r#"{"prompt":"hi","max_tokens":999999}"#,
        400,
        "BadRequestError",
        "max_tokens",
        "max_tokens=999999 cannot be greater than max_model_len=max_total_tokens=4096. Please request fewer output tokens. (parameter=max_tokens, value=999999)",
    ),
    (
        r#"{"prompt":"hi","max_tokens":0}"#,
        400,
        "BadRequestError",
        "max_tokens",
        "max_tokens must be at least 1, got 0.",
    ),
    (
        r#"{"prompt":"hi","temperature":-1}"#,
        400,
        "BadRequestError",
        "temperature",
        "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)",
    ),
    (r#"{"prompt":"hi","n":2}"#, 400, "BadRequestError", "n", "n must be 1, got 2"),
    (r#"{"prompt":"hi","logprobs":21}"#, 400, "BadRequestError", "logprobs", "whole number from 0 to 20"),
    (r#"{"prompt":"hi","echo":true}"#, 400, "BadRequestError", "echo", "does not give echo"),
    (
        r#"{"prompt":["a","b"],"stream":true}"#,
        400,
        "BadRequestError",
        "prompt",
        "streams one prompt per request, got 2",
    ),
    (r#"{"prompt":["a",""]}"#, 400, "BadRequestError", "prompt", "must be provided and non-empty"),
    (r#"{"prompt":"hi","stop":""}"#, 400, "BadRequestError", "stop", "stop cannot contain an empty string."),
    (
        r#"{"prompt":"hi","stream_options":{"include_usage":true}}"#,
        400,
        "BadRequestError",
        "stream_options",
        "Stream options can only be defined when `stream=True`.",
    ),
];

#[tokio::test(start_paused = true)]
async fn requests_are_refused_as_vllm_refuses_them() {
    let sim = Sim::start(config(&[("max-model-len", "4096")]));
    for (body, status, kind, param, message) in REFUSED {
        let (body, status, kind, param, message) = (*body, *status, *kind, *param, *message);
        let response = sim.request("POST", "/v1/completions", "", body).await.read().await;
        let error = &response.json()["error"];
        assert_eq!(
            (response.status, &error["type"], &error["param"]),
            (status, &json!(kind), &json!(param)),
            "{body}"
        );
        assert!(error["message"].as_str().unwrap().contains(message), "{error}");
        assert_eq!(error["code"], status);
    }
    let long = sim.post("/v1/completions", json!({"prompt": vec![5; 5000], "max_tokens": 4})).await;
    assert_eq!((long.status, long.json()["error"]["message"].as_str().unwrap().to_owned()), (400,
        "This model's maximum context length is 4096 tokens. However, you requested 4 output tokens and your prompt contains 5000 input tokens, for a total of 5004 tokens. Please reduce the length of the input prompt or the number of requested output tokens. (parameter=input_tokens, value=5000)".to_owned()));
    let (totals, lines) = sim.stop(pdbench::runtime::Stop::Drain).await;
    assert_eq!((totals.rejected, lines.len()), (REFUSED.len() as u64 + 1, 1));
}

#[tokio::test(start_paused = true)]
async fn token_ids_are_the_same_prompt_as_their_text() {
    let sim = Sim::start(config(&[]));
    let text =
        "A prompt that is long enough for more than one block of sixteen tokens, as four bytes are one.";
    let ids = sim.post("/tokenize", json!({"model": "simulated", "prompt": text})).await.json();
    assert_eq!(ids["count"], text.len().div_ceil(4));
    let by_text = sim.post("/v1/completions", json!({"prompt": text})).await.json();
    let by_ids = sim.post("/v1/completions", json!({"prompt": ids["tokens"]})).await.json();
    assert_eq!(by_text["choices"], by_ids["choices"]);
    assert_eq!(by_ids["usage"]["prompt_tokens_details"]["cached_tokens"], 16);
    let chat = sim.post("/tokenize", json!({"messages": [{"role": "user", "content": text}]})).await.json();
    assert_eq!(chat["tokens"], ids["tokens"]);
}

#[tokio::test(start_paused = true)]
async fn the_other_endpoints_answer() {
    let mut settings = config(&[]);
    settings.model = "a \"quoted\" name".to_owned();
    settings.wall_anchor_unix_us = 1_700_000_000_999_999;
    let sim = Sim::start(settings);
    for (path, length) in [("/health", 0), ("/ping", 0)] {
        let response = sim.get(path).await;
        assert_eq!((response.status, response.text().len()), (200, length));
    }
    let model = &sim.get("/v1/models").await.json()["data"][0];
    assert_eq!((&model["id"], &model["max_model_len"]), (&json!("a \"quoted\" name"), &json!(131_072)));
    assert!(sim.get("/version").await.json()["version"].as_str().unwrap().starts_with("pdbench-sim-"));
    assert_eq!((sim.get("/nope").await.status, sim.get("/v1/completions").await.status), (404, 405));
    let named =
        sim.request("POST", "/v1/completions", "X-Request-Id: a\"b\r\n", r#"{"prompt":"z","stream":true}"#);
    let first = &named.await.read().await.events()[0].1;
    assert_eq!((&first["id"], &first["created"]), (&json!("cmpl-a\"b"), &json!(1_700_000_000)));
    assert_eq!(first["model"], "a \"quoted\" name");
}

#[tokio::test(start_paused = true)]
async fn one_connection_carries_many_requests() {
    let sim = Sim::start(config(&[]));
    let body = json!({"prompt": "again", "max_tokens": 4, "stream": true}).to_string();
    let mut connection = sim.request("POST", "/v1/completions", "", &body).await;
    for _ in 0..3 {
        assert_eq!(connection.read().await.token_times().len(), 4);
        connection.send("POST", "/v1/completions", "", &body).await;
    }
    assert_eq!(connection.read().await.token_times().len(), 4);
}
