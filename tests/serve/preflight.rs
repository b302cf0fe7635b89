//! What is made sure of before the load: names, keys, models, lengths, ports, and a target that comes up late.

use crate::common::script::{Act, ScriptServer, Setup, whole};
use crate::common::{Ran, run_in, run_world};
use crate::refusals::refused;
use pdbench::Exit;
use pdbench::command::InterruptedBy;
use pdbench::measure::Outcome;
use pdbench::runtime::{Stop, Workers};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use tempfile::tempdir;

const SONNET: [&str; 6] = ["--dataset-name", "sonnet", "--model", "m", "--sonnet-output-len", "4"];

/// An address of this machine where nothing listens: bound and closed again.
fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn answer(status: &str, body: &str) -> Vec<Act> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
    vec![Act::Write((head + body).into_bytes())]
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_refused_is_told_by_where_it_came_from_and_never_shown() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "canary-in-file\n").unwrap();
    let path = file.path().display().to_string();
    let from_file = format!("the API key (from --api-key-file {path})");
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let echo = "{\"error\":{\"message\":\"bad key canary-in-env canary-in-file canary-in-header\"}}";
        let server = ScriptServer::start(vec![answer(status, echo)]).await;
        let base = [&["serve", "--base-url", &server.url], &SONNET[..]].concat();
        for (arguments, environment, says) in [
            (&[][..], Some("canary-in-env"), "the API key (from OPENAI_API_KEY)"),
            (&["--api-key-file", &path], Some("canary-in-env"), from_file.as_str()),
            (&["--header", "X-Api-Key=canary-in-header"], None, "the header `X-Api-Key` (from --header"),
            (
                &["--header", "Authorization=Bearer canary-in-header"],
                Some("canary-in-env"),
                "the header `Authorization`",
            ),
            (&[], None, "a request without an API key"),
        ] {
            let place = tempdir().unwrap();
            let arguments = [&base[..], arguments].concat();
            let ran = run_world(&place.path().join("out"), &arguments, Workers::Local, |world| {
                world.environment =
                    Box::new(move |name| environment.filter(|_| name == "OPENAI_API_KEY").map(str::to_owned));
            })
            .await;
            assert_eq!(ran.exit, Exit::Preflight, "{}", ran.stderr);
            assert!(ran.stderr.contains(says) && ran.stderr.contains(&status[..3]), "{says}: {}", ran.stderr);
            assert!(!ran.stderr.contains("canary") && !ran.stdout.contains("canary"), "{}", ran.stderr);
            let sent = server.heads().into_iter().rfind(|head| head.starts_with("POST")).unwrap();
            assert!(sent.to_lowercase().matches("authorization").count() <= 1, "{sent}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_not_known_is_told_with_those_that_are() {
    let listed: Vec<String> = (0..12).map(|nth| format!("{{\"id\":\"model-{nth}.\"}}")).collect();
    let models = Some(format!("{{\"data\":[{}]}}", listed.join(",")));
    let not_found = answer("404 Not Found", "{\"error\":{\"message\":\"no such model\"}}");
    let server = ScriptServer::playing(vec![not_found], Setup { models, ..Setup::default() }).await;
    let arguments = [&["--base-url", &server.url], &SONNET[..]].concat();
    let url = format!("{}/v1/completions", server.url);
    let says = [&url, "no such model", "--model and --endpoint", "it serves: model-0., ", "model-9."];
    refused(&arguments, Exit::Preflight, &says).await;
    let place = tempdir().unwrap();
    let ran = run_in(&place.path().join("out"), &[&["serve"], &arguments[..]].concat(), Workers::Local).await;
    assert!(!ran.stderr.contains("model-10."), "{}", ran.stderr);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_comes_up_late_is_waited_for() {
    let address = closed();
    let url = format!("http://{address}");
    let coming = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(3200)).await;
        ScriptServer::playing(vec![whole(4)], Setup { address: Some(address), ..Setup::default() }).await
    });
    let place = tempdir().unwrap();
    let began = tokio::time::Instant::now();
    let arguments =
        [&["serve", "--base-url", &url, "--wait-ready", "30", "--num-prompts", "5"], &SONNET[..]].concat();
    let ran = run_in(place.path(), &arguments, Workers::Local).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("waiting up to 30s for").count(), 1, "{}", ran.stderr);
    assert!((3200..5000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    // A probe and five requests: whoever waits sends no completion.
    let posts = coming.await.unwrap().heads().iter().filter(|head| head.starts_with("POST")).count();
    assert_eq!(posts, 6);
}

#[tokio::test(start_paused = true)]
async fn patience_with_a_target_that_never_comes_up_has_an_end() {
    let url = format!("http://{}", closed());
    let began = tokio::time::Instant::now();
    let arguments = [&["--base-url", &url, "--wait-ready", "4"], &SONNET[..]].concat();
    refused(&arguments, Exit::Preflight, &["cannot reach", "--wait-ready"]).await;
    assert!((4..6).contains(&began.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_goes_away_in_mid_run_is_refused_connections_within_the_budget() {
    for (count, exit, records) in [("20", Exit::Invalid, 20..=20), ("300", Exit::Aborted, 50..=60)] {
        let last = [whole(4), vec![Act::Leave]].concat();
        let server = ScriptServer::start(vec![whole(4), whole(4), last]).await;
        let place = tempdir().unwrap();
        let shape = ["--num-prompts", count, "--max-concurrency", "1", "--probe", "none"];
        let arguments = [&["serve", "--base-url", &server.url], &SONNET[..], &shape].concat();
        let ran = run_in(place.path(), &arguments, Workers::Local).await;
        assert_eq!(ran.exit, exit, "{}", ran.stderr);
        let all = ran.main_records();
        assert!(records.contains(&all.len()), "{}", all.len());
        assert!(all[..3].iter().all(|record| record.is_ok()));
        for record in &all[3..] {
            assert_eq!(record.outcome, Outcome::ConnectRefused, "{:?}", record.error);
            assert!(record.error.as_ref().unwrap().contains("cannot connect"), "{:?}", record.error);
        }
        assert!(ran.run_file().summary.is_some() && ran.directory().join("report.html").is_file());
    }
}

/// A run whose host name stands for `found`.
async fn named(server: &ScriptServer, found: Result<Vec<SocketAddr>, &'static str>) -> Ran {
    let place = tempdir().unwrap();
    let port = server.url.rsplit(':').next().unwrap();
    let url = format!("http://decode.test:{port}");
    let arguments = [&["serve", "--base-url", &url, "--num-prompts", "5"], &SONNET[..]].concat();
    let out = place.keep().join("out");
    run_world(&out, &arguments, Workers::Local, |world| {
        world.resolver = Box::new(move |host, _| {
            assert_eq!(host, "decode.test");
            let found = found.clone().map_err(std::io::Error::other);
            Box::pin(async { found })
        });
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn all_addresses_of_a_name_are_kept_and_the_first_that_answers_is_used() {
    let server = ScriptServer::start(vec![whole(4)]).await;
    let open: SocketAddr = server.url.trim_start_matches("http://").parse().unwrap();
    let (first, last) = (closed(), closed());
    let ran = named(&server, Ok(vec![first, open, last])).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    let addresses = ran.run_file().manifest.target.addresses;
    assert_eq!(addresses, [open, first, last].map(|address| address.to_string()));
    std::fs::remove_dir_all(&ran.output_dir).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_knows_is_told_in_the_resolvers_words() {
    let server = ScriptServer::start(vec![whole(4)]).await;
    for (found, says) in
        [(Err("the resolver's own words"), "the resolver's own words"), (Ok(vec![]), "no address")]
    {
        let ran = named(&server, found).await;
        assert_eq!(ran.exit, Exit::Preflight, "{}", ran.stderr);
        assert!(ran.stderr.contains("cannot resolve the host of http://decode.test:"), "{}", ran.stderr);
        assert!(ran.stderr.contains(says) && ran.stderr.contains("--base-url"), "{}", ran.stderr);
    }
    assert_eq!(server.heads().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_longer_than_the_model_is_refused_by_its_line() {
    let models = Some("{\"data\":[{\"id\":\"m\",\"max_model_len\":300}]}".to_owned());
    let server = ScriptServer::playing(vec![whole(4)], Setup { models, ..Setup::default() }).await;
    let place = tempdir().unwrap();
    let file = place.path().join("mine.jsonl");
    let long = "word ".repeat(240);
    std::fs::write(
        &file,
        format!("{{\"prompt\":\"a\"}}\n\n{{\"prompt\":\"{long}\"}}\n{{\"prompt\":\"{long}\"}}\n"),
    )
    .unwrap();
    let path = file.display().to_string();
    let base = ["--base-url", &server.url, "--model", "m", "--num-prompts", "3"];
    let custom =
        [&base[..], &["--dataset-name", "custom", "--dataset-path", &path, "--output-len", "4"]].concat();
    let says =
        [&path, "line 3,", "300 prompt tokens", "4 output tokens", "max_model_len is 300", "so are 1 other"];
    refused(&custom, Exit::Usage, &says).await;
    let sonnet = [&base[..], &["--dataset-name", "sonnet", "--sonnet-output-len", "40"]].concat();
    refused(&sonnet, Exit::Usage, &["request 1 of 3", "--tokenizer DIR", "--skip-length-check"]).await;
    assert!(server.heads().iter().all(|head| head.starts_with("GET")), "something was sent");
    let arguments = [&["serve"][..], &custom, &["--skip-length-check"]].concat();
    let ran = run_in(&place.path().join("out"), &arguments, Workers::Local).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    // What the body says last counts, and a salt does, too.
    let fits = [&custom[..], &["--extra-body", "{\"max_tokens\":0}"]].concat();
    let ran = run_in(&place.path().join("fits"), &[&["serve"], &fits[..]].concat(), Workers::Local).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    refused(&[&fits[..], &["--salt", "pepper"]].concat(), Exit::Usage, &["302 prompt tokens"]).await;
}

#[tokio::test(start_paused = true)]
async fn the_embedded_clusters_limit_is_known_without_asking() {
    let arguments = ["--sim", "--sim-max-model-len", "600", "--num-prompts", "3"];
    refused(&arguments, Exit::Usage, &["request 1 of 3", "its max_model_len is 600"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_dataset_of_another_sum_is_refused_with_both_sums() {
    let place = tempdir().unwrap();
    let file = place.path().join("mine.jsonl");
    std::fs::write(&file, "{\"prompt\":\"a\"}\n").unwrap();
    let path = file.display().to_string();
    // As `sha256sum` has it.
    let right = "d58848abfa8d5c3e7eb0e57acde0449d54e48f69e6204a6db3208a1b78a1eaa9";
    let wrong = "0".repeat(64);
    let custom =
        ["--dataset-name", "custom", "--dataset-path", &path, "--num-prompts", "2", "--output-len", "4"];
    let with = |sum| [&["--sim"][..], &custom, &["--dataset-sha256", sum]].concat();
    refused(&with(&wrong), Exit::Usage, &[&path, right, &wrong, "--dataset-sha256"]).await;
    let upper = right.to_uppercase();
    let ran =
        run_in(&place.path().join("out"), &[&["serve"], &with(&upper)[..]].concat(), Workers::Local).await;
    assert_eq!(ran.exit, Exit::Valid, "{}", ran.stderr);
    assert_eq!(ran.run_file().manifest.dataset.sha256, right);
    refused(&["--dataset-sha256", "abc"], Exit::Usage, &["64 hexadecimal digits"]).await;
    let random = ["--port", "1", "--dataset-name", "random", "--dataset-sha256", right];
    refused(&random, Exit::Usage, &["no file to check"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_may_take_most_local_ports_is_warned_of() {
    let server = ScriptServer::start(vec![whole(4)]).await;
    let place = tempdir().unwrap();
    let file = place.path().join("one.jsonl");
    std::fs::write(&file, "{\"prompt\":\"a\"}\n").unwrap();
    let path = file.display().to_string();
    let base =
        ["serve", "--base-url", &server.url, "--model", "m", "--output-len", "4", "--max-duration", "0.1"];
    let custom = ["--dataset-name", "custom", "--dataset-path", &path, "--rate", "100"];
    // More than four fifths of all ports that there can be, and few.
    for (count, warned) in [("60000", 1), ("100", 0)] {
        let arguments = [&base[..], &custom, &["--num-prompts", count]].concat();
        let ran = run_in(&place.path().join(count), &arguments, Workers::Local).await;
        assert_eq!(ran.stderr.matches("net.ipv4.ip_local_port_range").count(), 2 * warned, "{}", ran.stderr);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_does_not_wait_for_a_dataset_that_is_still_made() {
    let place = tempdir().unwrap();
    let pipe = place.path().join("prompts");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (ended, end) = std::sync::mpsc::channel();
    let other_end = pipe.clone();
    // Nobody writes the prompts before the run has ended; should it wait for them, it is let go at last.
    let writer = std::thread::spawn(move || {
        let in_time = end.recv_timeout(Duration::from_secs(60)).is_ok();
        drop(std::fs::OpenOptions::new().read(true).write(true).open(other_end));
        in_time
    });
    let tokenizer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny-tokenizer");
    let shown = pipe.display().to_string();
    let arguments =
        ["serve", "--sim", "--dataset-name", "custom", "--dataset-path", &shown, "--tokenizer", tokenizer];
    let ran = run_world(&place.path().join("out"), &arguments, Workers::Local, |world| {
        world.interrupt.handle(InterruptedBy::Interrupt).ask(Stop::Drain);
    })
    .await;
    ended.send(()).unwrap();
    assert!(writer.join().unwrap(), "the run waited for its prompts");
    assert_eq!(ran.exit, Exit::Interrupted, "{}", ran.stderr);
    assert!(ran.stderr.contains("stopped before the load began"), "{}", ran.stderr);
}
