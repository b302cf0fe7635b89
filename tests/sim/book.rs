//! What a simulated model that knows answers says, and what it says from KV that arrived wrong.

use crate::client::{Response, Sim, config};
use crate::handoff::{apart, nixl_ask};
use crate::nodes::{D, Nodes, P, Place, prefill_leg, with};
use pdbench::sim::{Book, Config, KvWrong, Truth};
use serde_json::{Value, json};
use std::sync::Arc;

fn question(n: usize) -> String {
    format!(
        "Zoë has {n} “small” boxes with 3 € in each. How many € is that in all, if nobody takes one away?"
    )
}

fn right_answer(n: usize) -> String {
    format!(
        "In each of the {n} boxes are 3 €, so that {n} × 3 = <<{n}*3={0}>>{0} € are there.\n#### {0}",
        3 * n
    )
}

/// `config` with a book of 40 questions.
fn learned(right: f64, config: Config) -> Config {
    let book = Book::new((0..40).map(|n| (question(n), right_answer(n))), right);
    Config { book: Some(Arc::new(book)), ..config }
}

/// Question `n` behind an example of its own.
fn few_shot(n: usize, example: usize) -> String {
    format!(
        "Question: What is {example} and 1?\nAnswer: {0}.\n#### {0}\n\nQuestion: {1}\nAnswer:",
        example + 1,
        question(n)
    )
}

fn ask(prompt: &str) -> Value {
    json!({"prompt": prompt, "max_tokens": 300})
}

fn text(response: &Response) -> String {
    response.json()["choices"][0]["text"].as_str().unwrap().to_owned()
}

/// Whether `text` gives the number of question `n`, whatever its shape.
fn is_right(text: &str, n: usize) -> bool {
    let own = text.split("\n\nQuestion:").next().unwrap();
    let number = own.rsplit([' ', '$']).next().unwrap().trim_end_matches('.');
    number.parse::<i64>().unwrap() == 3 * n as i64
}

/// Sends a prompt's legs one after the other, its KV by the store: what the decode node says.
async fn by_store(nodes: &Nodes, id: &str, body: &Value, fault: &str) -> String {
    nodes.post_as(P, id, prefill_leg(body, Value::Null)).await;
    let headers = format!("x-request-id: {id}\r\nx-sim-fault: {fault}\r\n");
    text(&nodes.send(D, &headers, body).await.read().await)
}

/// What the truth log says of the requests at one node.
fn truths_of(nodes: &Nodes, (role, index): Place) -> Vec<Truth> {
    let mut truths = nodes.truths();
    truths.retain(|truth| (truth.role, truth.node as usize) == (role, index));
    truths
}

#[tokio::test(start_paused = true)]
async fn the_same_prompt_gets_the_same_answer_streamed_or_not_by_text_or_chat() {
    let sim = Sim::start(learned(1.0, config(&[])));
    for n in 0..40 {
        let whole = sim.post("/v1/completions", ask(&few_shot(n, n))).await;
        let said = text(&whole);
        assert!(is_right(&said, n), "{said}");
        assert_eq!(whole.json()["choices"][0]["finish_reason"], "stop");
        let tokens = said.len().div_ceil(4);
        assert_eq!(whole.json()["usage"]["completion_tokens"], tokens);
        let streamed = with(ask(&few_shot(n, n)), json!({"stream": true}));
        let streamed = sim.post("/v1/completions", streamed).await;
        assert_eq!((streamed.streamed_text(), streamed.token_times().len()), (said, tokens));
        let turns = json!([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": question(n)}]);
        let chat = json!({"messages": turns, "stream": true});
        let chat = sim.post("/v1/chat/completions", chat).await.streamed_text();
        assert!(is_right(&chat, n), "{chat}");
    }
    let unknown = sim.post("/v1/completions", ask("Question: What else?\nAnswer:")).await;
    assert_eq!(
        (text(&unknown).len(), &unknown.json()["choices"][0]["finish_reason"]),
        (1200, &json!("length"))
    );
}

#[tokio::test(start_paused = true)]
async fn the_model_is_right_as_often_as_asked_for() {
    let sim = Sim::start(learned(0.7, config(&[])));
    let mut right = 0;
    for prompt in 0..600 {
        let said = text(&sim.post("/v1/completions", ask(&few_shot(prompt % 40, prompt))).await);
        right += u32::from(is_right(&said, prompt % 40));
    }
    let share = f64::from(right) / 600.0;
    assert!((share - 0.7).abs() < 3.0 * (0.7 * 0.3 / 600_f64).sqrt(), "{share}");
}

#[tokio::test(start_paused = true)]
async fn a_known_answer_keeps_to_stop_strings_and_limits() {
    let sim = Sim::start(learned(1.0, config(&[])));
    let mut run_on = 0;
    for n in 0..40 {
        let whole = text(&sim.post("/v1/completions", ask(&few_shot(n, 1))).await);
        let stops = with(ask(&few_shot(n, 1)), json!({"stop": ["Question:", "</s>"]}));
        let stopped = sim.post("/v1/completions", stops.clone()).await;
        let streamed = sim.post("/v1/completions", with(stops, json!({"stream": true}))).await;
        assert_eq!(
            (text(&stopped), streamed.streamed_text()),
            (whole.split("Question:").next().unwrap().to_owned(), text(&stopped))
        );
        if whole.contains("Question:") {
            run_on += 1;
            assert_eq!(stopped.json()["choices"][0]["stop_reason"], "Question:");
        }
        let cut = sim.post("/v1/completions", with(ask(&few_shot(n, 1)), json!({"max_tokens": 9}))).await;
        assert_eq!(
            (&cut.json()["choices"][0]["finish_reason"], &cut.json()["usage"]["completion_tokens"]),
            (&json!("length"), &json!(9))
        );
        assert!(whole.starts_with(&text(&cut)) && (33..=36).contains(&text(&cut).len()));
        let on = with(ask(&few_shot(n, 1)), json!({"ignore_eos": true, "max_tokens": 250}));
        let on = sim.post("/v1/completions", on).await;
        assert!(text(&on).starts_with(&whole) && on.json()["usage"]["completion_tokens"] == 250);
    }
    assert!((1..10).contains(&run_on), "{run_on}");
}

fn probe(code: &str, filler: usize) -> String {
    let fill = "Nothing of note was put there on that day either. ".repeat(filler);
    format!("Archive {code}. {fill}It was closed then. Archive X-0. Its code is:")
}

#[tokio::test(start_paused = true)]
async fn a_code_is_recited_without_a_book() {
    let sim = Sim::start(config(&[]));
    let recited = sim.post("/v1/completions", ask(&probe("QX7-118", 3))).await;
    assert_eq!(
        (text(&recited).as_str(), &recited.json()["choices"][0]["finish_reason"]),
        (" QX7-118.", &json!("stop"))
    );
    let chat = json!({"messages": [{"role": "user", "content": probe("b-2", 0)}]});
    let chat = sim.post("/v1/chat/completions", chat).await.json();
    assert_eq!(chat["choices"][0]["message"]["content"], " b-2.");
}

/// What a prompt is answered by nodes on which nothing is wrong.
async fn undamaged(prompts: &[String], config: &Config) -> Vec<String> {
    let nodes = Nodes::start(config.clone());
    let mut said = Vec::new();
    for prompt in prompts {
        said.push(text(&nodes.post(D, ask(prompt)).await));
    }
    said
}

#[tokio::test(start_paused = true)]
async fn damaged_kv_makes_answers_depart_in_the_share_asked_for() {
    let config = learned(0.8, config(&[]));
    let prompts: Vec<String> = (0..300).map(|n| few_shot(n % 40, n)).collect();
    let right = undamaged(&prompts, &config).await;
    let nodes = Nodes::start(config);
    for (n, (prompt, right)) in prompts.iter().zip(&right).enumerate() {
        let said = by_store(&nodes, &format!("r{n}"), &ask(prompt), "corrupt-kv=0.3@decode").await;
        let truth = truths_of(&nodes, D).pop().unwrap();
        assert!(0 < truth.external_tokens);
        match truth.kv_wrong {
            None => assert_eq!(said, *right),
            Some(KvWrong::Corrupted { from_token }) => {
                let same = said.bytes().zip(right.bytes()).take_while(|(a, b)| a == b).count();
                assert!((4 * from_token as usize).abs_diff(same) < 8, "{from_token} {same}\n{said}\n{right}");
                assert!(!is_right(&said, n % 40), "{said}");
            }
            Some(other) => panic!("{other:?}"),
        }
    }
    let truths = truths_of(&nodes, D);
    let hit: Vec<_> = truths.iter().filter_map(|truth| truth.kv_wrong.clone()).collect();
    let (count, n) = (hit.len() as f64, truths.len() as f64);
    assert!((count / n - 0.3).abs() < 3.0 * (0.3 * 0.7 / n).sqrt(), "{count} of {n}");
    let at_once = hit.iter().filter(|wrong| **wrong == KvWrong::Corrupted { from_token: 0 }).count() as f64;
    assert!((at_once / count - 0.5).abs() < 3.0 * (0.25 / count).sqrt(), "{at_once} of {count}");
    let counted = nodes.metrics(D).await.sum("pdbench_sim:kv_wrong_requests_total", &[("how", "corrupted")]);
    assert_eq!(counted, Some(count));
}

#[tokio::test(start_paused = true)]
async fn only_kv_that_was_taken_over_can_be_wrong() {
    let faults = [("fault", "corrupt-kv=1,swap-kv=1")];
    for settings in [config(&faults), apart(&faults)] {
        let right =
            undamaged(&(0..5).map(|n| few_shot(n, n)).collect::<Vec<_>>(), &learned(1.0, config(&[]))).await;
        let nodes = Nodes::start(learned(1.0, settings));
        for (n, right) in right.iter().enumerate() {
            let body = ask(&few_shot(n, n));
            // A decode node that was told of no KV, or whose KV is lost, computes the prompt itself.
            assert_eq!(text(&nodes.post(D, body.clone()).await), *right);
            let first = nodes.post(P, prefill_leg(&body, nixl_ask())).await.json();
            let leg = with(body, json!({"kv_transfer_params": first["kv_transfer_params"]}));
            let lost = nodes.send(D, "x-sim-fault: lose-kv\r\n", &leg).await.read().await;
            assert_eq!(text(&lost), *right);
        }
        assert!(nodes.truths().iter().all(|truth| truth.kv_wrong.is_none()));
    }
    let mut both = learned(1.0, config(&faults));
    both.topology = "1m".parse().unwrap();
    let sim = Sim::start(both);
    for n in [3, 3, 4] {
        assert!(is_right(&text(&sim.post("/v1/completions", ask(&few_shot(n, n))).await), n));
    }
}

#[tokio::test(start_paused = true)]
async fn every_way_of_kv_can_bring_it_wrong() {
    let nodes = Nodes::start(learned(1.0, apart(&[("fault", "corrupt-kv=1@decode")])));
    let body = ask(&few_shot(7, 7));
    let first = nodes.post(P, prefill_leg(&body, nixl_ask())).await.json();
    let pulls = json!({"kv_transfer_params": first["kv_transfer_params"]});
    assert!(!is_right(&text(&nodes.post(D, with(body.clone(), pulls)).await), 7));
    let gives = json!({"do_remote_decode": true, "transfer_id": "t"});
    nodes.post(P, prefill_leg(&body, gives)).await;
    let takes = json!({"do_remote_prefill": true, "transfer_id": "t"});
    assert!(!is_right(&text(&nodes.post(D, with(body, json!({"kv_transfer_params": takes}))).await), 7));
    let wrong = truths_of(&nodes, D).iter().filter(|truth| truth.kv_wrong.is_some()).count();
    assert_eq!(wrong, 2);
}

#[tokio::test(start_paused = true)]
async fn damage_can_grow_with_what_the_node_took() {
    let nodes = Nodes::start(config(&[("fault", "corrupt-kv-rising=200@decode")]));
    for n in 0..260 {
        by_store(&nodes, &format!("r{n}"), &ask(&few_shot(n, n)), "none").await;
    }
    let wrong: Vec<bool> = truths_of(&nodes, D).iter().map(|truth| truth.kv_wrong.is_some()).collect();
    let count = |range: std::ops::Range<usize>| wrong[range].iter().filter(|wrong| **wrong).count();
    // Means 12.4, 37.5, 62.5 and 87.6 of a hundred; three standard deviations of 50 draws each.
    for (quarter, mean) in [6.1_f64, 18.6, 31.1, 43.6].into_iter().enumerate() {
        let p = mean / 50.0;
        let seen = count(50 * quarter..50 * (quarter + 1)) as f64;
        assert!((seen - mean).abs() < 3.0 * (50.0 * p * (1.0 - p)).sqrt(), "{quarter}: {seen}");
    }
    assert_eq!((wrong[0], count(200..260)), (false, 60));
}

#[tokio::test(start_paused = true)]
async fn swapped_kv_gives_the_code_of_the_request_before() {
    let nodes = Nodes::start(config(&[("fault", "swap-kv=1@decode")]));
    let codes = ["ALPHA-1", "BRAVO-22", "CHARLIE-333"];
    let mut said = Vec::new();
    for code in codes {
        said.push(by_store(&nodes, code, &ask(&probe(code, 4)), "swap-kv=1").await);
    }
    assert_eq!(said, [" ALPHA-1.", " ALPHA-1.", " BRAVO-22."]);
    let truths = truths_of(&nodes, D);
    let with = |id: &str| Some(KvWrong::Swapped { with: id.to_owned() });
    assert_eq!(truths[0].kv_wrong, None);
    assert_eq!((&truths[1].kv_wrong, &truths[2].kv_wrong), (&with("ALPHA-1"), &with("BRAVO-22")));
    let swapped = nodes.metrics(D).await.sum("pdbench_sim:kv_wrong_requests_total", &[("how", "swapped")]);
    assert_eq!(swapped, Some(2.0));
    // The same prompt once more has the KV of its like.
    assert_eq!(by_store(&nodes, "again", &ask(&probe("CHARLIE-333", 4)), "swap-kv=1").await, " CHARLIE-333.");
}

#[tokio::test(start_paused = true)]
async fn a_prompt_in_token_ids_is_known_once_the_cluster_made_them() {
    let nodes = Nodes::start(learned(0.5, apart(&[])));
    for n in 0..10 {
        let prompt = few_shot(n, n);
        let whole = text(&nodes.post(D, ask(&prompt)).await);
        let ids = nodes.send_to(P, "/tokenize", &json!({"prompt": prompt})).await.json()["tokens"].clone();
        let body = with(ask(""), json!({"prompt": ids}));
        assert_eq!(text(&nodes.post(D, body.clone()).await), whole);
        // As LMCache does: the decode node goes on behind the prefill node's token.
        let spec = json!({"ret_first_tok": true, "disagg_spec": {"req_id": "q", "receiver_host": "127.0.0.1",
            "receiver_init_port": [nodes.address(D).port()], "receiver_alloc_port": [1]}});
        let first = nodes.post(P, prefill_leg(&body, spec)).await;
        let mut ids = ids.as_array().unwrap().clone();
        ids.push(first.json()["kv_transfer_params"]["first_tok"].clone());
        let rest = nodes.post(D, with(body, json!({"prompt": ids, "max_tokens": 299}))).await;
        assert_eq!(format!("{}{}", text(&first), text(&rest)), whole);
    }
    let unheard: Value = json!({"prompt": [1, 2, 3], "max_tokens": 5});
    assert_eq!(text(&nodes.post(D, unheard).await).len(), 20);
}
