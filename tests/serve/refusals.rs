//! Bad input: one clear error, the right exit status, nothing left behind.

use crate::common::run_in;
use pdbench::Exit;
use pdbench::runtime::Workers;
use std::net::TcpListener;
use tempfile::tempdir;

/// Runs `serve` and checks status, message, and that nothing was written.
pub async fn refused(arguments: &[&str], exit: Exit, says: &[&str]) {
    let place = tempdir().unwrap();
    let out = place.path().join("out");
    let ran = run_in(&out, &[&["serve"], arguments].concat(), Workers::Local).await;
    assert_eq!(ran.exit, exit, "{arguments:?}: {}", ran.stderr);
    for words in says {
        assert!(ran.stderr.contains(words), "{arguments:?}: {}", ran.stderr);
    }
    assert_eq!(ran.stderr.matches("error:").count(), 1, "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
    assert!(!out.exists(), "{arguments:?} left something behind");
}

#[tokio::test]
async fn values_out_of_range_are_usage_errors() {
    for (flag, value) in [
        ("--rate", "0"),
        ("--rate", "NaN"),
        ("--rate", "-3"),
        ("--burstiness", "0"),
        ("--max-concurrency", "0"),
        ("--dataset-name", "nonsense"),
    ] {
        refused(&[flag, value], Exit::Usage, &[value.trim_start_matches('-')]).await;
    }
}

#[tokio::test]
async fn a_dataset_that_cannot_be_read_names_file_line_and_fault() {
    refused(&["--dataset-path", "no/such/file"], Exit::Usage, &["`no/such/file`", "help:"]).await;
    let place = tempdir().unwrap();
    let file = place.path().join("mine.jsonl");
    std::fs::write(&file, "{\"prompt\": \"a\"}\n{\"text\": \"b\"}\n").unwrap();
    let path = file.display().to_string();
    let custom = ["--dataset-name", "custom", "--dataset-path", path.as_str()];
    refused(&custom, Exit::Usage, &[&path, "line 2", "help:"]).await;
    std::fs::write(&file, b"\xff\xfe").unwrap();
    refused(&custom, Exit::Usage, &["UTF-8"]).await;
    std::fs::write(&file, "").unwrap();
    refused(&custom, Exit::Usage, &[&path]).await;
    refused(&["--sonnet-input-len", "3"], Exit::Usage, &["help:"]).await;
}

#[tokio::test]
async fn a_tokenizer_that_is_none_is_refused_with_what_to_do() {
    let refuse = async |directory: &str, says: &[&str]| {
        let arguments = ["--sim", "--tokenizer", directory, "--num-prompts", "2"];
        refused(&arguments, Exit::Usage, says).await;
    };
    refuse("no/such", &["`no/such` is not a local directory", "--skip-tokenizer-init"]).await;
    let place = tempdir().unwrap();
    let path = place.path().display().to_string();
    refuse(&path, &["has no tokenizer.json"]).await;
    std::fs::write(place.path().join("tokenizer.json"), "{}").unwrap();
    refuse(&path, &["cannot use the tokenizer in", "help:"]).await;
}

#[tokio::test]
async fn a_target_that_does_not_listen_is_refused_before_the_load() {
    // Bound and closed again: a port on which nothing listens.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let arguments = ["--port", port.as_str(), "--dataset-name", "sonnet", "--model", "m"];
    refused(&arguments, Exit::Preflight, &["cannot reach http://127.0.0.1:", "--wait-ready"]).await;
}

#[tokio::test]
async fn a_target_that_speaks_something_else_is_refused_before_the_load() {
    for (answer, says) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n<html>hi</html>",
            "expected an event stream, got `<html>",
        ),
        ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "OPENAI_API_KEY"),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}", "--model and --endpoint"),
        (
            "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n",
            "http://elsewhere/",
        ),
        ("SSH-2.0-nonsense\r\n\r\n", "not an HTTP/1.1 response"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    use tokio::io::{AsyncReadExt, AsyncWriteExt};
                    let mut request = vec![0; 64 << 10];
                    if connection.read(&mut request).await.is_ok_and(|count| 0 < count) {
                        connection.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        let arguments = ["--base-url", url.as_str(), "--dataset-name", "sonnet", "--model", "m"];
        refused(&arguments, Exit::Preflight, &[says]).await;
        server.abort();
    }
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_refused_before_the_load() {
    let place = tempdir().unwrap();
    let file = place.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let ran = run_in(&file.join("out"), &["serve", "--num-prompts", "1"], Workers::Local).await;
    assert_eq!(ran.exit, Exit::NotWritten, "{}", ran.stderr);
    assert!(ran.stderr.contains("--output-dir"), "{}", ran.stderr);
}
