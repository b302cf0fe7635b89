//! Several prompts in one request, and how likely each token was.

use crate::api::assert_keys;
use crate::client::{Sim, config};
use crate::nodes::{D, Nodes, P, prefill_leg, with};
use crate::timing::prompt;
use serde_json::{Value, json};

#[tokio::test(start_paused = true)]
async fn a_list_of_prompts_has_a_choice_for_each_in_order() {
    let sim = Sim::start(config(&[]));
    let texts = [prompt(40, 1), prompt(3, 2), prompt(90, 3)];
    let list = sim.post("/v1/completions", json!({"prompt": texts, "max_tokens": 7})).await.json();
    let choices = list["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 3);
    for (index, text) in texts.iter().enumerate() {
        let alone = sim.post("/v1/completions", json!({"prompt": text, "max_tokens": 7})).await.json();
        assert_eq!(
            (&choices[index]["index"], &choices[index]["text"]),
            (&json!(index), &alone["choices"][0]["text"])
        );
    }
    let usage = &list["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]),
        (&json!(133), &json!(21), &json!(154))
    );
    let ids = sim.post("/v1/completions", json!({"prompt": [[1, 2], [3]], "max_tokens": 2})).await.json();
    assert_eq!((ids["choices"].as_array().unwrap().len(), &ids["usage"]["prompt_tokens"]), (2, &json!(3)));
    let truths: Vec<_> = sim.truths().into_iter().filter(|truth| truth.output_tokens == 7).collect();
    let base = truths[0].id.strip_suffix("-0").unwrap().to_owned();
    assert_eq!((truths[1].id.clone(), truths[2].id.clone()), (format!("{base}-1"), format!("{base}-2")));
    let longest = truths[..3].iter().map(|truth| truth.writes_us.first().unwrap()).collect::<Vec<_>>();
    assert!(longest.iter().all(|at| *at == longest[0]), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_list_goes_from_node_to_node_by_the_store() {
    let nodes = Nodes::start(config(&[]));
    let body = json!({"prompt": [prompt(100, 1), prompt(200, 2)], "max_tokens": 4});
    nodes.post(P, prefill_leg(&body, Value::Null)).await;
    let answer = nodes.post(D, body).await.json();
    assert_eq!(answer["choices"].as_array().unwrap().len(), 2);
    assert_eq!(nodes.sources(D).await, [12.0, 0.0, 288.0]);
    nodes.assert_idle().await;
}

const TOKEN: &str = r#"{"id":"cmpl-a3","object":"text_completion","created":1,"model":"tiny","choices":[{"index":0,"text":"lines","logprobs":{"text_offset":[0],"token_logprobs":[-2.5],"tokens":["lines"],"top_logprobs":[{"TOKEN":-2.5}]},"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]}"#;

#[tokio::test(start_paused = true)]
async fn logprobs_of_completions_are_those_of_vllm_streamed_or_not() {
    let sim = Sim::start(config(&[]));
    let body = json!({"prompt": prompt(20, 0), "max_tokens": 12, "logprobs": 2});
    let whole = sim.post("/v1/completions", body.clone()).await.json();
    let told = &whole["choices"][0]["logprobs"];
    assert_eq!(
        whole["choices"][0]["text"],
        told["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect::<String>()
    );
    let streamed = sim.post("/v1/completions", with(body.clone(), json!({"stream": true}))).await;
    let events = streamed.events();
    for (index, (_, event)) in events.iter().enumerate() {
        let one = &event["choices"][0]["logprobs"];
        for key in ["text_offset", "token_logprobs", "tokens", "top_logprobs"] {
            assert_eq!((one[key].as_array().unwrap().len(), &one[key][0]), (1, &told[key][index]), "{key}");
        }
        let (top, token) = (one["top_logprobs"][0].as_object().unwrap(), one["tokens"][0].as_str().unwrap());
        assert_eq!(
            (top.len(), &top[token], &one["text_offset"][0]),
            (2, &one["token_logprobs"][0], &json!(4 * index))
        );
    }
    let one = sim.post("/v1/completions", with(body.clone(), json!({"stream": true, "logprobs": 1}))).await;
    for (_, event) in one.events() {
        let token = event["choices"][0]["logprobs"]["tokens"][0].as_str().unwrap().to_owned();
        assert_keys(&event, &TOKEN.replace("TOKEN", &token));
    }
    let list = with(body, json!({"prompt": [prompt(20, 0), prompt(20, 1)]}));
    let list = sim.post("/v1/completions", list).await.json();
    assert_eq!((&list["choices"][0]["logprobs"], list["choices"][1]["logprobs"].is_object()), (told, true));
}

#[tokio::test(start_paused = true)]
async fn logprobs_of_chats_are_told_token_by_token() {
    let sim = Sim::start(config(&[]));
    let body = json!({"messages": [{"role": "user", "content": "Say it"}], "max_tokens": 6, "logprobs": true,
        "top_logprobs": 3});
    let whole = sim.post("/v1/chat/completions", body.clone()).await.json();
    let told = whole["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!((told.len(), told[0]["top_logprobs"].as_array().unwrap().len()), (6, 3));
    assert_eq!(told[2]["top_logprobs"][0]["token"], told[2]["token"]);
    let streamed = sim.post("/v1/chat/completions", with(body.clone(), json!({"stream": true}))).await;
    let pieces: Vec<Value> = streamed.events()[1..]
        .iter()
        .map(|(_, event)| event["choices"][0]["logprobs"]["content"][0].clone())
        .collect();
    assert_eq!(pieces, told);
    let refused = sim.post("/v1/chat/completions", with(body, json!({"logprobs": false}))).await;
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("top_logprobs")));
}

#[tokio::test(start_paused = true)]
async fn tokens_behind_a_stop_string_keep_their_logprobs() {
    let sim = Sim::start(config(&[]));
    let body = json!({"prompt": "x", "max_tokens": 20, "logprobs": 0});
    let text = sim.post("/v1/completions", body.clone()).await.json()["choices"][0]["text"].clone();
    let stop = &text.as_str().unwrap()[21..27];
    let stopped = sim.post("/v1/completions", with(body, json!({"stop": stop}))).await.json();
    let choice = &stopped["choices"][0];
    assert_eq!(
        (choice["text"].as_str().unwrap().len(), choice["logprobs"]["tokens"].as_array().unwrap().len()),
        (21, 7)
    );
}
