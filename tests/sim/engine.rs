//! Batches, places and room on one node.

use crate::client::{Response, config};
use crate::nodes::{D, M, Nodes, tick};
use crate::timing::{ask, burst, prompt};
use pdbench::cluster::Role;
use pdbench::measure::Offset;
use pdbench::sim::{Config, Cost, Truth};
use std::time::Duration;
use tokio::time::sleep;

fn mixed(parameters: &[(&str, &str)]) -> Config {
    let mut config = config(parameters);
    config.topology = "1m".parse().unwrap();
    config
}

fn span(truth: &Truth) -> (Offset, Offset) {
    (truth.prefill_start_us.unwrap(), truth.prefill_end_us.unwrap())
}

#[tokio::test(start_paused = true)]
async fn prompts_share_the_budget_of_a_step_in_chunks() {
    let config = mixed(&[("prefill-batch-tokens", "1000")]);
    let cost = config.cost.clone();
    let nodes = Nodes::start(config);
    // Alone 1000; then 400 and 600 of 900; then the other 300 beside one sequence that decodes.
    let bodies = vec![ask(&prompt(1000, 0), 1), ask(&prompt(400, 1), 2), ask(&prompt(900, 2), 1)];
    let (_, truths) = burst(&nodes, M, bodies).await;
    let first = cost.prefill(1000);
    let second = first + cost.prefill(1000);
    let third = second + cost.prefill(300) + cost.decode_step(1, 401);
    assert_eq!(span(&truths[0]), (Offset::default(), first.into()));
    assert_eq!(span(&truths[1]), (first.into(), second.into()));
    assert_eq!(span(&truths[2]), (first.into(), third.into()));
    assert_eq!(truths[1].writes_us.iter().collect::<Vec<_>>(), [tick(second), tick(third)]);
}

#[tokio::test(start_paused = true)]
async fn a_long_prompt_slows_the_steps_of_those_that_decode() {
    let config = mixed(&[]);
    let cost = config.cost.clone();
    let nodes = Nodes::start(config);
    let mut decoding = nodes.send(M, "x-request-id: long\r\n", &ask(&prompt(100, 0), 100)).await;
    sleep(Duration::from_millis(50)).await;
    nodes.post(M, ask(&prompt(5000, 1), 1)).await;
    decoding.read().await;
    let truths = nodes.truths();
    let times: Vec<_> = truths.iter().find(|truth| truth.id == "long").unwrap().writes_us.iter().collect();
    let longest = times.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap();
    let expected = cost.prefill(5000) + cost.decode_step(1, 105);
    assert!(longest.abs_diff(expected) < Duration::from_millis(2), "{longest:?} {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn steps_of_a_full_batch_take_what_the_cost_model_says() {
    let config = mixed(&[
        ("decode-sequence-us", "500"),
        ("prefill-tokens-per-s", "1e9"),
        ("prefill-overhead-ms", "0"),
    ]);
    let cost = config.cost.clone();
    let nodes = Nodes::start(config);
    let (responses, _) = burst(&nodes, M, (0..8).map(|salt| ask(&prompt(500, salt), 200)).collect()).await;
    // All eight run from their second token until the first of them ends.
    let times: Vec<_> = responses.iter().map(Response::token_times).collect();
    let from = times.iter().map(|times| times[2]).max().unwrap();
    let to = times.iter().map(|times| times[198]).min().unwrap();
    let tokens = times.iter().flatten().filter(|at| from < **at && **at <= to).count();
    let measured = tokens as f64 / to.since(from).as_secs_f64();
    let said = cost.plateau_tokens_per_s(8, 500, 3..199);
    assert!((measured / said - 1.0).abs() < 0.005, "{measured} {said}");
}

#[tokio::test(start_paused = true)]
async fn a_node_without_room_preempts_the_sequence_admitted_last() {
    let parameters = [("kv-capacity-tokens", "320"), ("no-prefix-cache", "true")];
    let config = mixed(&parameters);
    let cost = config.cost.clone();
    let nodes = Nodes::start(config);
    let bodies = (0..2).map(|salt| ask(&prompt(100, salt), 100)).collect();
    let (responses, truths) = burst(&nodes, M, bodies).await;
    assert_eq!((truths[0].preempted, truths[1].preempted), (0, 1));
    // The first sequence is never delayed by the other's end, and the other waits for the first one's.
    let times: Vec<_> = responses.iter().map(Response::token_times).collect();
    assert_eq!((times[0].len(), times[1].len()), (100, 100));
    let gaps: Vec<Duration> = times[1].windows(2).map(|pair| pair[1].since(pair[0])).collect();
    let longest = gaps.iter().max().unwrap();
    let at = gaps.iter().position(|gap| gap == longest).unwrap();
    // 20 blocks: with 10 each both stop at 160 tokens. What was made before is computed again as a prompt.
    assert_eq!(at + 1, 60);
    let again = times[1][at + 1].since(times[0][99]);
    assert!(again.abs_diff(cost.prefill(160)) <= Duration::from_millis(1), "{again:?}");
    assert_eq!(nodes.metric(M, "num_preemptions_total", &[]).await, 1.0);
    assert_eq!(nodes.sources(M).await, [200.0, 0.0, 0.0]);
    let alone = Nodes::start(mixed(&[])).post(M, ask(&prompt(100, 1), 100)).await;
    assert_eq!(responses[1].streamed_text(), alone.streamed_text());
    nodes.assert_idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_preempted_sequence_finds_what_the_cache_still_has() {
    let recomputed = async |parameters: &[(&str, &str)]| {
        let nodes = Nodes::start(mixed(&[&[("kv-capacity-tokens", "320")], parameters].concat()));
        let (responses, _) =
            burst(&nodes, M, (0..2).map(|salt| ask(&prompt(100, salt), 100)).collect()).await;
        responses[1].token_times()[60].since(responses[0].token_times()[99])
    };
    let cost = Cost::default();
    // Of the 10 blocks that were given up the other sequence took 2 before it ended; 8 of a prompt of 6 are left.
    let (without, with) = (recomputed(&[("no-prefix-cache", "true")]).await, recomputed(&[]).await);
    let saved = cost.prefill(160) - cost.prefill(160 - 96);
    assert!(
        with < without && (without - with).abs_diff(saved) <= Duration::from_millis(1),
        "{with:?} {without:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn sequences_beyond_max_num_seqs_wait_for_a_place() {
    let nodes = Nodes::start(mixed(&[("max-num-seqs", "2")]));
    let asks = (0..6).map(|salt| ask(&prompt(100, salt), 40)).collect();
    let (responses, _) = burst(&nodes, M, asks).await;
    let spans: Vec<_> = responses.iter().map(|r| r.token_times()).map(|t| (t[0], t[39])).collect();
    for pair in 1..3 {
        assert!(spans[2 * pair - 2].1 < spans[2 * pair].0 && spans[2 * pair - 1].1 < spans[2 * pair + 1].0);
    }
    let queued = &nodes.metrics(M).await.histograms("vllm:request_queue_time_seconds")[0].1;
    assert!(queued.count() == 6 && 0.5 < queued.sum());
}

#[tokio::test(start_paused = true)]
async fn a_prompt_waits_until_its_kv_fits() {
    // 20 blocks; a prompt and its answer take 7 of them: two fit.
    let nodes = Nodes::start(mixed(&[("kv-capacity-tokens", "320")]));
    let (responses, truths) =
        burst(&nodes, M, (0..3).map(|salt| ask(&prompt(100, salt), 12)).collect()).await;
    let times: Vec<_> = responses.iter().map(Response::token_times).collect();
    assert!(times[1][0] < times[0][11] && times[0][11] < times[2][0]);
    assert!(truths.iter().all(|truth| truth.preempted == 0));
}

#[tokio::test(start_paused = true)]
async fn staggered_streams_write_evenly_over_time() {
    for (stagger, most_in_one_ms) in [("false", 200), ("true", 10)] {
        let nodes = Nodes::start(mixed(&[
            ("stagger", stagger),
            ("decode-step-ms", "50"),
            ("decode-sequence-us", "0"),
            ("decode-context-us", "0"),
            ("prefill-tokens-per-s", "1e9"),
            ("prefill-overhead-ms", "0"),
        ]));
        let (responses, _) =
            burst(&nodes, M, (0..200).map(|salt| ask(&prompt(16, salt), 40)).collect()).await;
        for response in &responses {
            for pair in response.token_times()[2..].windows(2) {
                let gap_ms = pair[1].since(pair[0]).as_millis();
                assert!((49..=51).contains(&gap_ms), "{gap_ms}");
            }
        }
        let mut in_ms = vec![0; 5000];
        for at in responses.iter().flat_map(|response| response.token_times().split_off(2)) {
            in_ms[at.as_us() as usize / 1000] += 1;
        }
        let most = in_ms.iter().max().unwrap();
        assert!(most_in_one_ms * 9 / 20 <= *most && *most <= most_in_one_ms, "{most}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_costs_time_stands_still_and_all_is_answered() {
    let nodes = Nodes::start(config(&[
        ("decode-step-ms", "0"),
        ("decode-sequence-us", "0"),
        ("decode-context-us", "0"),
        ("prefill-overhead-ms", "0"),
        ("prefill-tokens-per-s", "1e12"),
        ("link-latency-ms", "0"),
        ("kv-bytes-per-token", "0"),
    ]));
    let (responses, _) = burst(&nodes, D, (0..20).map(|salt| ask(&prompt(40, salt), 500)).collect()).await;
    for response in &responses {
        assert_eq!(response.token_times().len(), 500);
        assert!(response.token_times()[499].as_us() <= 1000.0);
    }
    nodes.assert_idle().await;
}

/// 600 requests to five nodes, some of which go away; the truth log.
fn many_requests() -> Vec<String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut config = config(&[
            ("eos-probability", "0.01"),
            ("max-num-seqs", "64"),
            ("kv-capacity-tokens", "20000"),
            ("store-capacity-tokens", "10000"),
        ]);
        config.topology = "2p3d".parse().unwrap();
        let nodes = Nodes::start(config);
        let mut clients = Vec::new();
        for index in 0..600_usize {
            sleep(Duration::from_millis(index as u64 % 11)).await;
            let body = ask(&prompt(1 + index * 7 % 900, index % 50), 200);
            let node = if index % 3 == 0 { (Role::Prefill, index % 2) } else { (Role::Decode, index % 3) };
            let mut connection = nodes.send(node, &format!("x-request-id: r{index}\r\n"), &body).await;
            clients.push(tokio::spawn(async move {
                if index % 17 == 0 {
                    sleep(Duration::from_millis(100)).await;
                    return 0;
                }
                connection.read().await.token_times().len() as u64
            }));
        }
        let mut seen = 0;
        for client in clients {
            seen += client.await.unwrap();
        }
        sleep(Duration::from_secs(1)).await;
        let totals = nodes.cluster.totals();
        assert_eq!(totals.complete + totals.cancelled, 600);
        assert!(0 < totals.cancelled && totals.cancelled <= 36); // short answers were over before
        assert!(seen < totals.output_tokens && totals.output_tokens < seen + 36 * 200);
        nodes.assert_idle().await;
        let preempted = nodes.metric((Role::Decode, 1), "num_preemptions_total", &[]).await;
        assert!(0.0 < preempted);
        nodes.drain().await
    })
}

#[test]
fn many_requests_meet_the_same_fate_each_time_and_leave_nothing() {
    let (first, second) = (many_requests(), many_requests());
    assert_eq!(first.len(), 601);
    assert!(first == second);
}
