//! Nodes that tell all sorts of things, beside a load that goes elsewhere.

use crate::cluster::Cluster;
use crate::common::{Ran, run_in};
use crate::page::telling;
use pdbench::Exit;
use pdbench::measure::{NodeSide, ServerNote, ServerRole, ServerSide, Warning};
use pdbench::runtime::Workers;
use pdbench::sim::Config;
use tempfile::tempdir;

/// A load of 10 s to a node that nobody watches, and these words.
async fn beside(words: &str) -> (Ran, ServerSide) {
    let cluster = Cluster::start(Config::default(), Workers::Local);
    let url = format!("http://{}", cluster.address);
    let base = ["serve", "--base-url", &url, "--dataset-name", "sonnet", "--model", "simulated"];
    let load = ["--num-prompts", "40", "--rate", "4", "--burstiness", "inf", "--no-progress"];
    let words: Vec<&str> = words.split_whitespace().collect();
    let place = tempdir().unwrap().keep();
    let ran = run_in(&place, &[&base[..], &load, &words].concat(), Workers::Local).await;
    // The probe and the load.
    assert_eq!(cluster.truths().await.len(), 41);
    let server = ran.run_file().summary.unwrap_or_else(|| panic!("{}", ran.stderr)).server.unwrap();
    (ran, server)
}

fn notes(ran: &Ran) -> Vec<ServerNote> {
    let warnings = ran.run_file().summary.unwrap().warnings;
    let notes = warnings.into_iter().filter_map(|warning| match warning {
        Warning::Server(note) => Some(note),
        _ => None,
    });
    notes.collect()
}

fn over(ran: &Ran) {
    std::fs::remove_dir_all(&ran.output_dir).unwrap();
}

/// An engine of a decode node that has made `tokens` tokens in all and answered a tenth as many requests.
fn engine(number: u32, tokens: f64) -> String {
    let labels = format!("engine=\"{number}\",model_name=\"m\"");
    let finished = tokens / 10.0;
    format!(
        "vllm:generation_tokens_total{{{labels}}} {tokens}\n\
         vllm:request_success_total{{{labels},finished_reason=\"length\"}} {finished}\n\
         vllm:num_requests_running{{{labels}}} 2\nvllm:num_requests_waiting{{{labels}}} 1\n\
         vllm:kv_cache_usage_perc{{{labels}}} 0.{number}5\n"
    )
}

#[tokio::test(start_paused = true)]
async fn of_two_engines_behind_one_address_one_that_begins_anew_makes_the_counts_a_lower_bound() {
    // The second engine dies at 4 s and has made 10 tokens since at 5 s, 20 at 6 s and so on.
    let address = telling(|at| {
        let second = if at < 4.5 { 1000.0 + 10.0 * at.floor() } else { 10.0 * (at.floor() - 4.0) };
        Some(engine(0, 100.0 * at.floor()) + &engine(1, second))
    });
    let (ran, server) = beside(&format!("--decode {address}")).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    let [node] = &server.nodes[..] else { panic!("{:?}", server.nodes) };
    assert_eq!((node.role, node.engines, node.restarts, node.missed), (ServerRole::Decode, 2, 1, 0));
    // Ten seconds and a little: 100 and 10 tokens in each but the one in which it died.
    let tokens = node.generation_tokens.unwrap();
    assert!((1000.0..1300.0).contains(&tokens) && tokens % 10.0 == 0.0, "{tokens}");
    assert_eq!(
        (node.running_mean, node.waiting_peak, node.kv_usage_peak),
        (Some(4.0), Some(2.0), Some(0.15))
    );
    assert_eq!(notes(&ran), [ServerNote::Restarted { node: address.to_string(), times: 1 }]);
    assert!(ran.said().contains("its counts are a lower bound"), "{}", ran.stdout);
    over(&ran);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_scraped_is_told_of_and_fails_no_run() {
    let ill = telling(|at| (!(3.5..6.5).contains(&at)).then(|| engine(0, 10.0 * at.floor())));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (ran, server) = beside(&format!("--decode {ill} --prefill {closed}")).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    let side = |address: std::net::SocketAddr| -> &NodeSide {
        server.nodes.iter().find(|node| node.node == address.to_string()).unwrap()
    };
    assert_eq!((side(closed).scrapes, side(closed).requests, side(closed).engines), (0, None, 0));
    assert_eq!((side(ill).missed, side(ill).why.as_deref(), side(ill).restarts), (3, Some("HTTP 503"), 0));
    assert!(10.0 <= side(ill).requests.unwrap());
    let missed: Vec<usize> = notes(&ran)
        .iter()
        .filter_map(
            |note| if let ServerNote::NotScraped { missed, .. } = note { Some(*missed) } else { None },
        )
        .collect();
    assert!(missed.len() == 2 && missed.contains(&3), "{missed:?}");
    let nodes = std::fs::read_to_string(ran.directory().join("nodes.csv")).unwrap();
    assert!(nodes.contains("refused"), "{nodes}");
    over(&ran);
}

#[tokio::test(start_paused = true)]
async fn an_engine_of_old_names_and_a_stores_master_are_understood() {
    let v0 = telling(|at| {
        let count = at.floor();
        let times =
            [("request_queue_time", 0.001), ("request_prefill_time", 0.01), ("time_to_first_token", 0.012)];
        let times = times.map(|(name, each)| {
            format!("vllm:{name}_seconds_sum{{}} {}\nvllm:{name}_seconds_count{{}} {count}\n", each * count)
        });
        Some(format!("vllm:gpu_cache_usage_perc 0.5\nvllm:num_requests_running 3\n{}", times.concat()))
    });
    let master = telling(|at| {
        Some(format!("master_key_count 51\nmaster_get_replica_list_failures_total {}\n", at.floor()))
    });
    let (ran, server) =
        beside(&format!("--prefill {v0} --store http://{master}/metrics --scrape-hz 0")).await;
    let [prefill, store] = &server.nodes[..] else { panic!("{:?}", server.nodes) };
    assert_eq!((store.role, store.scrapes, prefill.scrapes), (ServerRole::Store, 2, 2));
    // Between two looks there is no course.
    assert_eq!((prefill.kv_usage_peak, prefill.running_mean), (None, None));
    let near = |value: Option<f64>, expected: f64| (value.unwrap() - expected).abs() < 1e-6;
    assert!(near(prefill.queue_ms, 1.0) && near(prefill.prefill_ms, 10.0), "{prefill:?}");
    let anatomy = server.anatomy.unwrap();
    let sum: f64 = anatomy.parts.iter().map(|part| part.ms).sum();
    assert!((sum - anatomy.from_schedule_ms).abs() < 1e-6);
    over(&ran);
}

#[tokio::test(start_paused = true)]
async fn looks_are_as_frequent_as_asked_for() {
    let address = telling(|_| Some(engine(0, 10.0)));
    for (hz, fewest, most) in [("1", 11, 14), ("5", 50, 62)] {
        let (ran, server) = beside(&format!("--decode {address} --scrape-hz {hz}")).await;
        let scrapes = server.nodes[0].scrapes;
        assert!((fewest..=most).contains(&scrapes), "{hz}: {scrapes}");
        // What does not change is told once: the line of each look, and five values.
        let text = std::fs::read_to_string(ran.directory().join("observations.jsonl")).unwrap();
        assert_eq!(text.lines().count(), scrapes + 5);
        over(&ran);
    }
}
