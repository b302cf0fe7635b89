//! `pdbench proxy` as a command: what it says when it starts and ends, and what keeps it from starting.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Printed, world};
use pdbench::Exit;
use pdbench::command::InterruptedBy;
use pdbench::runtime::{Stop, Workers};

struct Said {
    exit: Exit,
    stdout: String,
    stderr: String,
}

/// Starts it and stops it at once.
async fn proxy(arguments: &[&str], admin_key: Option<&str>) -> Said {
    let (stdout, stderr) = (Printed::default(), Printed::default());
    let arguments: Vec<_> = ["proxy"].iter().chain(arguments).copied().collect();
    let mut world = world(&arguments, Workers::Local, &stdout, &stderr);
    let admin_key = admin_key.map(str::to_owned);
    world.environment = Box::new(move |name| admin_key.clone().filter(|_| name == "ADMIN_API_KEY"));
    world.interrupt.handle(InterruptedBy::Interrupt).ask(Stop::Drain);
    let exit = pdbench::run(&mut world).await;
    Said { exit, stdout: stdout.text(), stderr: stderr.text() }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_says_where_it_listens_and_what_it_does() {
    let line = "--prefill 127.0.0.1:9 --decode 127.0.0.1:10 127.0.0.1:11 --port 0 --seed 1";
    let said = proxy(&line.split(' ').collect::<Vec<_>>(), None).await;
    assert_eq!(said.exit, Exit::Valid, "{}", said.stderr);
    assert!(said.stdout.starts_with("proxy on http://127.0.0.1:"), "{}", said.stdout);
    for says in [
        "dialect plain, policy round-robin, first token from decode",
        "prefill  127.0.0.1:9\n",
        "decode   127.0.0.1:10 127.0.0.1:11\n",
    ] {
        assert!(said.stdout.contains(says), "{says}: {}", said.stdout);
    }
    assert!(!said.stdout.contains("admin key"), "{}", said.stdout);
    assert!(said.stderr.contains("answered 0 requests"), "{}", said.stderr);
}

#[tokio::test(start_paused = true)]
async fn lmcaches_command_line_takes_notifications() {
    let line = "--host localhost --port 0 --prefiller-host 127.0.0.1 --decoder-host 127.0.0.1 --proxy_port 0";
    let said = proxy(&line.split(' ').collect::<Vec<_>>(), None).await;
    assert_eq!(said.exit, Exit::Valid, "{}", said.stderr);
    assert!(said.stdout.contains("dialect lmcache"), "{}", said.stdout);
    assert!(said.stdout.contains("first token from prefill, notifications on tcp://127.0.0.1:"));
    assert!(said.stderr.contains("dialect chosen by LMCache's flags"), "{}", said.stderr);
}

#[tokio::test(start_paused = true)]
async fn the_admin_key_comes_from_the_environment_or_a_file_and_is_never_shown() {
    let base = ["--prefill", "127.0.0.1:9", "--decode", "127.0.0.1:10", "--port", "0"];
    let said = proxy(&base, Some("canary-key")).await;
    assert!(said.stdout.contains("with the admin key"), "{}", said.stdout);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    std::fs::write(&file, "canary-key\n").unwrap();
    let with_file = [&base[..], &["--admin-key-file", file.to_str().unwrap()]].concat();
    let from_file = proxy(&with_file, None).await;
    assert!(from_file.stdout.contains("with the admin key"), "{}", from_file.stdout);
    std::fs::write(&file, "\n").unwrap();
    let empty = proxy(&with_file, None).await;
    assert_eq!(empty.exit, Exit::Usage);
    assert!(empty.stderr.contains("holds no key"), "{}", empty.stderr);
    let odd = proxy(&base, Some("canary-key\u{7}x")).await;
    assert!(odd.stderr.contains("ADMIN_API_KEY holds a character"), "{}", odd.stderr);
    for said in [said, from_file, odd] {
        assert!(!format!("{}{}", said.stdout, said.stderr).contains("canary"), "{}", said.stderr);
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = proxy(&["-p", "127.0.0.1:9", "-d", "127.0.0.1:10", "--port", &port], None).await;
    assert_eq!(said.exit, Exit::Usage);
    assert!(said.stderr.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{}", said.stderr);
}
