//! What is typed: names, places and the way to a server.

use crate::common::{Printed, world};
use crate::server::{Does, Said, Server};
use pdbench::Exit;
use pdbench::runtime::Workers;
use std::path::Path;
use tempfile::tempdir;

/// `pdbench dataset` with these words, and this environment.
async fn dataset(arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let (stdout, stderr) = (Printed::default(), Printed::default());
    let mut world = world(&[&["dataset"], arguments].concat(), Workers::Local, &stdout, &stderr);
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let environment: Vec<_> = environment.iter().map(owned).collect();
    world.environment = Box::new(move |name| {
        environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    });
    let exit = pdbench::run(&mut world).await;
    Said { exit, stdout: stdout.text(), stderr: stderr.text() }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_is_refused_with_the_nearest_and_all_there_are() {
    for verb in ["fetch", "path"] {
        for (typed, nearest) in [("gsm8", "gsm8k"), ("gsm8k_cot_lama", "gsm8k_cot_llama")] {
            let said = dataset(&[verb, typed], &[("HOME", "/nowhere")]).await;
            assert_eq!((said.exit, said.stdout.as_str()), (Exit::Usage, ""), "{said:?}");
            assert!(said.stderr.contains("[possible values: gsm8k, gsm8k_cot, gsm8k_cot_llama]"), "{said:?}");
            assert!(said.stderr.contains(&format!("'{nearest}'")), "{said:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_cache_is_where_the_flag_or_the_environment_says() {
    for (flag, environment, place) in [
        (None, &[("HOME", "/home/me")][..], "/home/me/.cache/pdbench"),
        (None, &[("HOME", "/home/me"), ("XDG_CACHE_HOME", "/fast")], "/fast/pdbench"),
        (None, &[("HOME", "/home/me"), ("XDG_CACHE_HOME", "not/absolute")], "/home/me/.cache/pdbench"),
        (Some("--cache-dir=/here"), &[("HOME", "/home/me")], "/here"),
        (Some("--cache_dir=/here"), &[], "/here"),
    ] {
        let words: Vec<_> = ["fetch"].into_iter().chain(flag).collect();
        let said = dataset(&words, environment).await;
        assert_eq!(said.exit, Exit::Valid, "{said:?}");
        assert!(said.stdout.starts_with(&format!("cache {place}\n")), "{said:?}");
        for file in ["gsm8k/train.jsonl", "gsm8k/test.jsonl", "tasks/gsm8k_cot.yaml"] {
            assert!(said.stdout.contains(file), "{file}: {said:?}");
        }
    }
    let said = dataset(&["fetch"], &[]).await;
    assert_eq!(said.exit, Exit::Usage);
    assert!(said.stderr.contains("--cache-dir"), "{said:?}");
}

/// Fetches gsm8k's two files, of which no server here has the right ones.
async fn gsm8k(cache: &Path, more: &[&str], environment: &[(&str, &str)]) -> Said {
    let cache = cache.display().to_string();
    let base = ["fetch", "gsm8k", "--cache-dir", &cache];
    dataset(&[&base, more].concat(), environment).await
}

#[tokio::test(start_paused = true)]
async fn a_mirror_is_asked_for_the_files_by_their_names_in_the_cache() {
    let (cache, server) = (tempdir().unwrap(), Server::start(&[Does::ServesOther]));
    let mirror = format!("http://{}/data/", server.address);
    let said = gsm8k(cache.path(), &["--url-base", &mirror], &[]).await;
    assert_eq!(said.exit, Exit::Preflight, "{said:?}");
    let train = "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465";
    assert!(said.stderr.contains(train), "{said:?}");
    assert!(server.heads()[0].starts_with("get /data/gsm8k/train.jsonl http/1.1\r\n"));
    // The second is not asked for after the first has failed.
    assert_eq!(server.heads().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_http_proxy_is_used_when_it_is_asked_for_and_not_because_it_is_there() {
    let (cache, server) = (tempdir().unwrap(), Server::start(&[Does::ServesOther]));
    let proxy = format!("http://{}", server.address);
    let with_secret = format!("http://me:canary@{}", server.address);
    let mirror = ["--url-base", "http://127.0.0.1:1/data"];
    let environment = [("http_proxy", with_secret.as_str())];
    let said = gsm8k(cache.path(), &mirror, &environment).await;
    assert!(said.stderr.contains("--http-proxy env goes through it"), "{said:?}");
    assert!(server.heads().is_empty(), "{said:?}");
    for (word, environment) in [("env", &environment[..]), (&proxy, &[])] {
        let said = gsm8k(cache.path(), &[&mirror[..], &["--http-proxy", word]].concat(), environment).await;
        assert!(said.stderr.contains(&format!(" through {proxy}\n")), "{said:?}");
        assert!(said.stderr.contains("is not gsm8k/train.jsonl"), "{said:?}");
        let head = server.heads().pop().unwrap();
        assert!(head.starts_with("get http://127.0.0.1:1/data/gsm8k/train.jsonl http/1.1\r\n"), "{head}");
        assert_eq!(head.contains("proxy-authorization: basic "), word == "env", "{head}");
        assert!(!said.stderr.contains("canary"), "{said:?}");
    }
    let said = gsm8k(cache.path(), &[&mirror[..], &["--http-proxy", &with_secret]].concat(), &[]).await;
    assert_eq!((said.exit, said.stderr.contains("canary")), (Exit::Usage, false), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_a_mirror_is_refused_without_its_password() {
    let cache = tempdir().unwrap();
    for url in ["ftp://x/y", "https://me:canary@x/y", "https://x/?key=canary"] {
        let said = gsm8k(cache.path(), &["--url-base", url], &[]).await;
        assert_eq!(said.exit, Exit::Usage, "{said:?}");
        assert!(said.stderr.contains("--url-base") && !said.stderr.contains("canary"), "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_help_says_how_a_machine_without_a_network_gets_a_file() {
    let said = dataset(&["fetch", "--help"], &[]).await;
    assert_eq!(said.exit, Exit::Valid);
    let words = said.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for says in
        ["Without a network", "sha256sum", "--dataset-path DIR", "--task-yaml", "--url-base", "Exit status"]
    {
        assert!(words.contains(says), "{says}: {words}");
    }
}
