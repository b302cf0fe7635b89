//! How a file comes, and what becomes of one that does not.

use crate::front::{Authority, Validity, relay};
use crate::server::{Does, FILE, NAME, Server, Setup, sha256};
use pdbench::Exit;
use pdbench::command::{Errand, InterruptedBy};
use pdbench::runtime::Stop;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(start_paused = true)]
async fn a_file_with_the_right_sum_is_kept_in_private_and_asked_for_once() {
    let (setup, server) = (Setup::new(), Server::start(&[Does::Serves]));
    let said = setup.fetch(&server).await;
    assert_eq!(said.exit, Exit::Valid, "{said:?}");
    assert_eq!(said.stdout, format!("fetched: {} (100000 bytes)\n", setup.kept().display()));
    assert!(said.stderr.starts_with("fetching https://127.0.0.1:"), "{said:?}");
    assert!(said.stderr.ends_with(&format!("/mirror/{NAME}\n")), "{said:?}");
    assert_eq!(fs::read(setup.kept()).unwrap(), FILE);
    assert_eq!((mode(&setup.kept()), mode(setup.kept().parent().unwrap())), (0o600, 0o700));
    assert!(!setup.part().exists());
    let again = setup.fetch(&server).await;
    assert_eq!((again.exit, again.stderr.as_str()), (Exit::Valid, ""));
    assert_eq!(again.stdout, format!("already there: {}\n", setup.kept().display()));
    let heads = server.heads();
    assert_eq!(heads.len(), 1);
    assert!(heads[0].starts_with(&format!("get /mirror/{NAME} http/1.1\r\n")), "{heads:?}");
    assert!(heads[0].contains("accept-encoding: identity\r\n"), "{heads:?}");
}

#[tokio::test(start_paused = true)]
async fn a_file_with_a_wrong_sum_is_not_kept_and_both_sums_are_named() {
    let (setup, server) = (Setup::new(), Server::start(&[Does::ServesOther]));
    let said = setup.fetch(&server).await;
    assert_eq!((said.exit, said.stdout.as_str()), (Exit::Preflight, ""));
    for says in [&sha256(FILE), &sha256(b"an error page"), "https://127.0.0.1:", "nothing was kept", "help:"]
    {
        assert!(said.stderr.contains(says), "{says}: {said:?}");
    }
    assert!(!setup.kept().exists() && !setup.part().exists());
}

#[tokio::test(start_paused = true)]
async fn a_download_that_broke_off_goes_on_where_it_ended() {
    let turns = &[Does::CutsAfter(30_000), Does::CutsAfter(20_000), Does::Serves];
    let (setup, server) = (Setup::new(), Server::start(turns));
    for so_far in [30_000, 50_000] {
        let said = setup.fetch(&server).await;
        assert_eq!(said.exit, Exit::Preflight, "{said:?}");
        assert!(said.stderr.contains(&format!("broke off after {so_far} of 100000 bytes")), "{said:?}");
        assert!(said.stderr.contains("goes on from there"), "{said:?}");
        assert_eq!((fs::metadata(setup.part()).unwrap().len(), mode(&setup.part())), (so_far, 0o600));
        assert!(!setup.kept().exists());
    }
    let said = setup.fetch(&server).await;
    assert_eq!(said.exit, Exit::Valid, "{said:?}");
    assert!(said.stderr.contains(", from byte 50000 on\n"), "{said:?}");
    assert_eq!(fs::read(setup.kept()).unwrap(), FILE);
    let range = |from: u32| Some(format!("bytes={from}-"));
    assert_eq!(server.ranges(), [None, range(30_000), range(50_000)]);
    assert!(!setup.part().exists());
}

#[tokio::test(start_paused = true)]
async fn a_server_without_ranges_is_asked_for_all_of_it() {
    for (turns, requests) in [
        (&[Does::IgnoresRange], 1), // its answer is taken
        (&[Does::MistakesRange], 2),
        (&[Does::RefusesRange], 2),
    ] {
        let (setup, server) = (Setup::new(), Server::start(turns));
        setup.leave(&setup.part(), b"something else");
        let said = setup.fetch(&server).await;
        assert_eq!(said.exit, Exit::Valid, "{turns:?}: {said:?}");
        assert_eq!(fs::read(setup.kept()).unwrap(), FILE, "{turns:?}");
        let ranges = server.ranges();
        assert_eq!((ranges.len(), ranges[0].as_deref()), (requests, Some("bytes=14-")), "{turns:?}");
        assert!(ranges[1..].iter().all(Option::is_none), "{turns:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_halves_that_do_not_fit_are_not_kept_and_the_next_call_begins_anew() {
    let (setup, server) = (Setup::new(), Server::start(&[Does::Serves]));
    setup.leave(&setup.part(), &[b'y'; 40_000]);
    let said = setup.fetch(&server).await;
    assert_eq!(said.exit, Exit::Preflight);
    assert!(said.stderr.contains("put together from two downloads"), "{said:?}");
    assert!(!setup.kept().exists() && !setup.part().exists());
    assert_eq!(setup.fetch(&server).await.exit, Exit::Valid);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_lacks_nothing_needs_no_server() {
    let setup = Setup::new();
    setup.leave(&setup.part(), FILE);
    let said = setup.fetch_from("https://127.0.0.1:1").await;
    assert_eq!((said.exit, said.stderr.as_str()), (Exit::Valid, ""));
    assert_eq!((fs::read(setup.kept()).unwrap(), mode(&setup.kept())), (FILE.to_vec(), 0o600));
}

#[tokio::test(start_paused = true)]
async fn another_file_in_its_place_is_told_and_gives_way() {
    let (setup, server) = (Setup::new(), Server::start(&[Does::ServesOther, Does::Serves]));
    setup.leave(&setup.kept(), b"mine");
    // Nothing better has come yet.
    assert_eq!(setup.fetch(&server).await.exit, Exit::Preflight);
    assert_eq!(fs::read(setup.kept()).unwrap(), b"mine");
    let said = setup.fetch(&server).await;
    assert_eq!(said.exit, Exit::Valid, "{said:?}");
    assert!(said.stderr.contains(&format!("is another file: its SHA-256 is {}", sha256(b"mine"))));
    assert_eq!(fs::read(setup.kept()).unwrap(), FILE);
}

#[tokio::test(start_paused = true)]
async fn without_a_network_it_says_what_was_tried_and_how_the_file_gets_here() {
    let setup = Setup::new();
    let said = setup.fetch_from("https://127.0.0.1:1/mirror").await;
    assert_eq!((said.exit, said.stdout.as_str()), (Exit::Preflight, ""));
    let kept = setup.kept().display().to_string();
    for says in [
        "cannot fetch https://127.0.0.1:1/mirror/set/part.jsonl: ",
        "Connection refused",
        "get https://set.invalid/part.jsonl elsewhere",
        &sha256(FILE),
        &kept,
        "--dataset-path",
    ] {
        assert!(said.stderr.contains(says), "{says}: {said:?}");
    }
    assert!(!setup.part().exists(), "there is nothing to go on from");
}

#[tokio::test(start_paused = true)]
async fn a_slow_download_says_how_far_it_is() {
    let (setup, server) = (Setup::new(), Server::start(&[Does::RestsAfter(30_000)]));
    let said = setup.fetch(&server).await;
    assert_eq!(said.exit, Exit::Valid, "{said:?}");
    let lines: Vec<_> = said.stderr.lines().skip(1).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with(&format!("{NAME}: ")) && lines[0].ends_with(" of 100000 bytes"),
        "{lines:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_the_file_is_named_and_no_redirect_is_followed() {
    for (turns, says) in [
        (&[Does::Says("HTTP/1.1 404 Not Found\r\ncontent-length: 0")], "the server answers 404 Not Found"),
        (
            &[Does::Says(
                "HTTP/1.1 302 Found\r\nlocation: https://other.invalid/?key=canary\r\ncontent-length: 0",
            )],
            "the server answers 302 Found and points to other.invalid, where pdbench does not follow",
        ),
        (&[Does::Says("HTTP/1.1 200 OK\r\ncontent-length: 67108865")], "is longer than 64 MiB"),
        (&[Does::Says("HTTP/1.1 206 Partial Content\r\ncontent-length: 0")], "answers 206"),
    ] {
        let (setup, server) = (Setup::new(), Server::start(turns));
        let said = setup.fetch(&server).await;
        assert_eq!(said.exit, Exit::Preflight, "{said:?}");
        assert!(said.stderr.contains(says) && said.stderr.contains("help: "), "{says}: {said:?}");
        assert!(!said.stderr.contains("canary"), "{said:?}");
        assert_eq!((server.heads().len(), setup.kept().exists()), (1, false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_of_an_unknown_authority_gets_no_request() {
    let (setup, server) = (Setup::new(), Server::start(&[Does::Serves]));
    let stranger = Authority::new("stranger").issue("127.0.0.1", Validity::Now);
    let port = relay(stranger, server.address).await;
    let said = setup.fetch_from(&format!("https://127.0.0.1:{port}")).await;
    assert_eq!(said.exit, Exit::Preflight, "{said:?}");
    assert!(said.stderr.contains("--ca-file") && said.stderr.contains("authority"), "{said:?}");
    assert_eq!((server.heads().len(), setup.kept().exists()), (0, false));
}

#[tokio::test(start_paused = true)]
async fn a_signal_stops_it_and_what_has_come_stays() {
    let (setup, server) = (Setup::new(), Server::start(&[Does::HangsAfter(30_000), Does::Serves]));
    let handle = setup.interrupt.clone();
    let asking = async {
        server.wrote().await;
        // Until it is here, and not only on its way.
        while fs::metadata(setup.part()).map_or(0, |part| part.len()) < 30_000 {
            tokio::task::yield_now().await;
        }
        handle.handle(InterruptedBy::Terminate).ask(Stop::Drain);
    };
    let (said, ()) = tokio::join!(setup.fetch(&server), asking);
    assert_eq!(said.exit, Exit::Terminated, "{said:?}");
    assert!(said.stderr.contains("stopped; 30000 bytes are kept"), "{said:?}");
    assert_eq!(fs::metadata(setup.part()).unwrap().len(), 30_000);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_falls_silent_is_given_up_on_and_what_has_come_stays() {
    let (setup, server) = (Setup::new(), Server::start(&[Does::HangsAfter(30_000), Does::Serves]));
    let said = setup.fetch(&server).await;
    assert_eq!(said.exit, Exit::Preflight, "{said:?}");
    assert!(said.stderr.contains("broke off after 30000 of 100000 bytes"), "{said:?}");
    assert_eq!(setup.fetch(&server).await.exit, Exit::Valid);
    assert_eq!(server.ranges()[1].as_deref(), Some("bytes=30000-"));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_cannot_be_read_or_written_is_told() {
    for (in_the_way, exit) in [("cache", Exit::Usage), ("cache/set/part.jsonl.part/x", Exit::NotWritten)] {
        let (setup, server) = (Setup::new(), Server::start(&[Does::Serves]));
        setup.leave(&setup.place.path().join(in_the_way), b"not what should be here");
        let said = setup.fetch(&server).await;
        assert_eq!(said.exit, exit, "{said:?}");
        assert!(said.stderr.contains("--cache-dir"), "{said:?}");
        assert!(server.heads().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_is_printed_of_what_is_there_alone() {
    let setup = Setup::new();
    let path = || setup.dataset(Errand::Path("set".to_owned()));
    let said = path().await;
    assert_eq!((said.exit, said.stdout.as_str()), (Exit::Usage, ""));
    assert!(said.stderr.contains("`pdbench dataset fetch set` gets it"), "{said:?}");
    setup.leave(&setup.kept(), b"mine");
    let said = path().await;
    assert_eq!((said.exit, said.stdout.as_str()), (Exit::Usage, ""));
    assert!(said.stderr.contains("is another file"), "{said:?}");
    setup.leave(&setup.kept(), FILE);
    let said = path().await;
    assert_eq!((said.exit, said.stdout), (Exit::Valid, format!("{}\n", setup.kept().display())));
}

#[tokio::test(start_paused = true)]
async fn the_list_tells_what_is_there_half_there_and_not_what_it_should_be() {
    let setup = Setup::new();
    let list = || setup.dataset(Errand::List);
    let said = list().await;
    assert_eq!(said.exit, Exit::Valid);
    for says in ["set: set/part.jsonl\n  not there\n", "https://set.invalid/part.jsonl", &sha256(FILE)] {
        assert!(said.stdout.contains(says), "{says}: {said:?}");
    }
    setup.leave(&setup.part(), &FILE[..70]);
    assert!(list().await.stdout.contains("  not there, but the first 70 bytes of a download\n"));
    setup.leave(&setup.kept(), b"mine");
    assert!(
        list().await.stdout.contains(&format!("  another file is there, of SHA-256 {}\n", sha256(b"mine")))
    );
    setup.leave(&setup.kept(), FILE);
    assert!(list().await.stdout.contains("  there\n"));
}

#[tokio::test(start_paused = true)]
async fn a_task_without_its_questions_says_where_they_are() {
    let (setup, server) = (Setup::new(), Server::start(&[Does::Serves]));
    let mirror = format!("http://{}", server.address);
    for (name, says) in [("task", true), ("gsm8k", false), ("task", false)] {
        let said = setup.fetch_named(name, &mirror).await;
        assert_eq!(said.exit, Exit::Valid, "{said:?}");
        assert_eq!(said.stderr.contains("task asks the questions of gsm8k: "), says, "{name}: {said:?}");
    }
    assert_eq!(server.heads().len(), 2);
}
