//! TLS: the same numbers, and every fault of it by its name.

use crate::cluster::Cluster;
use crate::common::{Ran, run_in};
use crate::front::{
    Authority, Goodbye, Identity, Validity, answer, pem_file, relay, relay_by_tls12, self_signed,
};
use crate::refusals::refused;
use crate::truth::{gaps, pairs};
use pdbench::Exit;
use pdbench::measure::{EndedIn, Flag, Outcome, RequestRecord, Stamps};
use pdbench::runtime::Workers;
use pdbench::sim::{Config, Emission};
use std::path::Path;
use std::time::Duration;
use tempfile::tempdir;

const SONNET: [&str; 4] = ["--dataset-name", "sonnet", "--model", "simulated"];

/// `serve` on a port of this machine over https, results under `place`.
async fn serve(place: &Path, port: u16, arguments: &[&str], workers: Workers) -> Ran {
    let url = format!("https://127.0.0.1:{port}");
    let base = [&["serve", "--base-url", &url], &SONNET[..]].concat();
    run_in(&place.join("out"), &[&base, arguments].concat(), workers).await
}

/// What `--ca-file` takes, as text.
fn named(file: &Path) -> [String; 2] {
    ["--ca-file".to_owned(), file.display().to_string()]
}

#[tokio::test(start_paused = true)]
async fn in_virtual_time_tls_changes_no_number() {
    let place = tempdir().unwrap();
    let authority = Authority::new("ours");
    let [flag, file] = named(&authority.file(place.path()));
    let cluster = Cluster::start(Config::default(), Workers::Local);
    let port = relay(authority.issue("127.0.0.1", Validity::Now), cluster.address).await;
    let arguments = ["--num-prompts", "60", "--rate", "40", "--seed", "4711", &flag, &file];
    let ran = serve(place.path(), port, &arguments, Workers::Local).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stdout, ran.stderr);
    let (records, truths) = (ran.main_records(), cluster.truths().await);
    assert_eq!(records.len(), 60);
    for (record, truth) in pairs(&records, &truths) {
        let ttft = record.events.first().unwrap() - record.sent.unwrap();
        assert_eq!(ttft, truth.writes_us.first().unwrap() - truth.received_us);
        assert_eq!(gaps(record.events.iter()), gaps(truth.writes_us.iter()), "{}", record.id);
        assert!(record.sent.unwrap() - record.ready.unwrap() <= Duration::from_millis(1));
        assert_eq!(record.flags.get(&Flag::Coalesced), None);
    }
    let fresh = records.iter().filter(|record| record.connected.is_some()).count();
    assert!(fresh < 60, "no connection was used twice");
    let target = ran.run_file().manifest.target;
    assert_eq!((target.tls_verified, target.simulated), (Some(true), true));
}

#[tokio::test]
async fn kernel_stamps_are_those_of_the_bytes_under_tls() {
    let place = tempdir().unwrap();
    let authority = Authority::new("ours");
    let [flag, file] = named(&authority.file(place.path()));
    let mut config = Config { emission: Emission::Staggered, ..Config::default() };
    config.cost.decode_step_ms = 20.0;
    let cluster = Cluster::start(config, Workers::Threads);
    let port = relay(authority.issue("127.0.0.1", Validity::Now), cluster.address).await;
    let arguments = ["--num-prompts", "40", "--rate", "40", "--output-len", "20", &flag, &file];
    let ran = serve(place.path(), port, &arguments, Workers::Threads).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stdout, ran.stderr);
    let (records, truths) = (ran.main_records(), cluster.truths().await);
    assert!(records.iter().all(|record| record.stamps == Stamps::Kernel && record.events.len() == 20));
    let error = |(record, truth): (&RequestRecord, &pdbench::sim::Truth)| {
        let measured = (record.events.first().unwrap() - record.sent.unwrap()).as_secs_f64();
        (measured - (truth.writes_us.first().unwrap() - truth.received_us).as_secs_f64()).abs()
    };
    let mut errors: Vec<f64> = pairs(&records, &truths).map(error).collect();
    errors.sort_by(f64::total_cmp);
    // The front, and handshakes, are in it.
    assert!(errors[errors.len() / 2] < 0.010, "median TTFT error {} s", errors[errors.len() / 2]);
}

#[tokio::test(start_paused = true)]
async fn tls_1_2_and_a_prompt_larger_than_all_buffers_do_as_well() {
    let place = tempdir().unwrap();
    let authority = Authority::new("ours");
    let [flag, file] = named(&authority.file(place.path()));
    let cluster = Cluster::start(Config::default(), Workers::Local);
    let port = relay_by_tls12(authority.issue("127.0.0.1", Validity::Now), cluster.address).await;
    let prompts = place.path().join("prompts.jsonl");
    let long = "word ".repeat(60_000);
    std::fs::write(&prompts, format!("{{\"prompt\": \"{long}\", \"output_tokens\": 3}}\n").repeat(3))
        .unwrap();
    let (url, prompts) = (format!("https://127.0.0.1:{port}/v1"), prompts.display().to_string());
    let arguments = [
        "serve",
        "--base-url",
        &url,
        &flag,
        &file,
        "--dataset-name",
        "custom",
        "--dataset-path",
        &prompts,
        "--num-prompts",
        "3",
        "--disable-shuffle",
        "--max-concurrency",
        "1",
    ];
    let ran = run_in(&place.path().join("out"), &arguments, Workers::Local).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stdout, ran.stderr);
    let manifest = ran.run_file().manifest;
    // The model was asked for over TLS too.
    assert_eq!((manifest.target.model.as_str(), ran.main_records().len()), ("simulated", 3));
    assert_eq!(manifest.target.base_url, format!("https://127.0.0.1:{port}"));
    for (_, truth) in cluster.truths().await {
        assert!(truth.output_tokens == 3 || truth.output_tokens == 10 || truth.id.ends_with("probe"));
    }
}

#[tokio::test(start_paused = true)]
async fn each_fault_of_tls_is_named_before_the_load() {
    let place = tempdir().unwrap();
    let (authority, stranger) = (Authority::new("ours"), Authority::new("stranger"));
    let namesake = Authority::new("ours");
    let file = authority.file(place.path()).display().to_string();
    let (nowhere, elsewhere) = ("127.0.0.1:1".parse().unwrap(), tempdir().unwrap());
    let expired = authority.issue("127.0.0.1", Validity::Past);
    let other_name = authority.issue("elsewhere.example", Validity::Now);
    let cluster = Cluster::start(Config::default(), Workers::Local);
    for (port, says) in [
        (relay(stranger.issue("127.0.0.1", Validity::Now), nowhere).await, "not known here"),
        (relay(namesake.issue("127.0.0.1", Validity::Now), nowhere).await, "not signed by"),
        (relay(expired, nowhere).await, "expired"),
        (relay(other_name, nowhere).await, "elsewhere.example"),
        (
            relay(self_signed("127.0.0.1", elsewhere.path()).0, nowhere).await,
            "an authority's certificate as its own",
        ),
        (cluster.address.port(), "does not speak TLS"),
    ] {
        let url = format!("https://127.0.0.1:{port}");
        let says = ["no TLS connection to https://127.0.0.1:", says, "help:", "--ca-file"];
        let base = ["--base-url", &url, "--dataset-name", "sonnet", "--ca-file", &file];
        // By the probe, by the list of models, by the page that says that all is well.
        refused(&[&base[..], &["--model", "m"]].concat(), Exit::Preflight, &says).await;
        refused(&base, Exit::Preflight, &says).await;
        refused(&[&base[..], &["--wait-ready", "600"]].concat(), Exit::Preflight, &says).await;
    }
    let stranger = relay(stranger.issue("127.0.0.1", Validity::Now), nowhere).await;
    let url = format!("https://127.0.0.1:{stranger}");
    refused(
        &["--base-url", &url, "--dataset-name", "sonnet", "--model", "m"],
        Exit::Preflight,
        &["--ca-file"],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_handshake_in_the_load_is_an_outcome() {
    let place = tempdir().unwrap();
    let file = Authority::new("ours").file(place.path()).display().to_string();
    let identity = Authority::new("stranger").issue("127.0.0.1", Validity::Now);
    let port = relay(identity, "127.0.0.1:1".parse().unwrap()).await;
    let arguments = ["--num-prompts", "3", "--probe", "none", "--ca-file", &file];
    let ran = serve(place.path(), port, &arguments, Workers::Local).await;
    assert_eq!(ran.exit, Exit::Invalid, "{}", ran.stderr);
    for record in ran.main_records() {
        assert_eq!((record.outcome, record.ended_in), (Outcome::Tls, EndedIn::Tls));
        assert!(record.connected.is_some() && record.sent <= record.connected, "{record:?}");
        assert!(record.error.unwrap().contains("--ca-file"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_shakes_hands_fails_in_tls_and_not_for_ever() {
    let place = tempdir().unwrap();
    // It takes connections, by its queue alone, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let arguments = ["--num-prompts", "2", "--probe", "none", "--insecure"];
    let ran = serve(place.path(), port, &arguments, Workers::Local).await;
    for record in ran.main_records() {
        assert_eq!((record.outcome, record.ended_in), (Outcome::Tls, EndedIn::Tls));
        assert_eq!(record.finished - record.sent.unwrap(), Duration::from_secs(10));
    }
}

#[tokio::test(start_paused = true)]
async fn insecure_accepts_anybody_and_the_result_says_so() {
    let place = tempdir().unwrap();
    let cluster = Cluster::start(Config::default(), Workers::Local);
    let port =
        relay(Authority::new("ours").issue("elsewhere.example", Validity::Past), cluster.address).await;
    let ran = serve(place.path(), port, &["--num-prompts", "5", "--insecure"], Workers::Local).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("warning: --insecure"), "{}", ran.stderr);
    assert_eq!(ran.run_file().manifest.target.tls_verified, Some(false));
    let page = std::fs::read_to_string(ran.directory().join("report.html")).unwrap();
    assert!(page.contains("not checked"));
}

#[tokio::test(start_paused = true)]
async fn a_self_signed_certificate_is_accepted_where_it_is_named() {
    let place = tempdir().unwrap();
    let cluster = Cluster::start(Config::default(), Workers::Local);
    let (identity, file) = self_signed("127.0.0.1", place.path());
    let [flag, file] = named(&file);
    let port = relay(identity, cluster.address).await;
    let ran = serve(place.path(), port, &["--num-prompts", "3", &flag, &file], Workers::Local).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stdout, ran.stderr);
    let (other_name, file) = self_signed("elsewhere.example", place.path());
    let port = relay(other_name, cluster.address).await;
    let url = format!("https://127.0.0.1:{port}");
    let file = file.display().to_string();
    let arguments = ["--base-url", &url, "--dataset-name", "sonnet", "--ca-file", &file];
    refused(&arguments, Exit::Preflight, &["another name"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_ca_file_without_certificates_is_refused_by_name() {
    let place = tempdir().unwrap();
    let key_only = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let file = pem_file(place.path(), key_only).display().to_string();
    for (file, says) in
        [(file.as_str(), "holds no certificate"), ("no/such/file", "cannot read certificates")]
    {
        let arguments = ["--base-url", "https://127.0.0.1:1", "--dataset-name", "sonnet", "--ca-file", file];
        refused(&arguments, Exit::Usage, &[file, says, "help:"]).await;
    }
}

/// Three requests, one after the other, to a server with one answer to all; the records.
async fn answered(body: &str, goodbye: Goodbye) -> Vec<RequestRecord> {
    let place = tempdir().unwrap();
    let authority = Authority::new("ours");
    let file = authority.file(place.path()).display().to_string();
    let identity: Identity = authority.issue("127.0.0.1", Validity::Now);
    let port = answer(identity, format!("HTTP/1.1 200 OK\r\n{body}"), goodbye).await;
    let arguments = ["--num-prompts", "3", "--probe", "none", "--max-concurrency", "1", "--output-len", "1"];
    let arguments = [&arguments[..], &["--ca-file", &file]].concat();
    serve(place.path(), port, &arguments, Workers::Local).await.main_records()
}

const TOKEN: &str = "data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":null}]}\n\n";
const LAST: &str = "data: {\"choices\":[{\"text\":\"b\",\"finish_reason\":\"stop\"}]}\n\n";

#[tokio::test(start_paused = true)]
async fn an_end_without_close_notify_is_a_cut() {
    for (body, goodbye, outcome) in [
        // The end of the connection is the end of the answer: only the word for it tells an end from a cut.
        (format!("\r\n{TOKEN}{LAST}"), Goodbye::Said, Outcome::Ok),
        (format!("\r\n{TOKEN}{LAST}"), Goodbye::Unsaid, Outcome::Truncated),
        (format!("\r\n{TOKEN}"), Goodbye::Unsaid, Outcome::Truncated),
        // In the middle of a chunked stream it is a cut either way.
        (
            format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{TOKEN}\r\n", TOKEN.len()),
            Goodbye::Said,
            Outcome::Truncated,
        ),
        (
            format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{TOKEN}\r\n", TOKEN.len()),
            Goodbye::Unsaid,
            Outcome::Truncated,
        ),
    ] {
        for record in answered(&body, goodbye).await {
            assert_eq!(record.outcome, outcome, "{body}: {:?}", record.error);
            assert!(!record.events.is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_server_closes_between_requests_is_no_fault() {
    let length = TOKEN.len() + LAST.len();
    let body = format!("content-length: {length}\r\n\r\n{TOKEN}{LAST}");
    for goodbye in [Goodbye::Said, Goodbye::Unsaid] {
        let records = answered(&body, goodbye).await;
        assert_eq!(records.len(), 3);
        for record in records {
            assert_eq!(record.outcome, Outcome::Ok, "{:?}", record.error);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_ipv6_address_works_from_end_to_end() {
    // A machine without IPv6 has nothing to test.
    let Ok(cluster) = Cluster::start_at("[::1]:0".parse().unwrap(), Config::default(), Workers::Local) else {
        return;
    };
    let port = cluster.address.port().to_string();
    for target in
        [vec!["--host", "::1", "--port", &port], vec!["--base-url", &format!("http://[::1]:{port}/")]]
    {
        let place = tempdir().unwrap();
        let arguments =
            [&["serve"], &target[..], &["--dataset-name", "sonnet", "--num-prompts", "3"]].concat();
        let ran = run_in(place.path(), &arguments, Workers::Local).await;
        assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stdout, ran.stderr);
        let target = ran.run_file().manifest.target;
        assert_eq!(target.addresses, [format!("[::1]:{port}")]);
        assert_eq!(target.tls_verified, None);
    }
}
