//! HTTP proxies on the way to the target: used when asked for, by name or from the environment, and never otherwise.

use crate::cluster::Cluster;
use crate::common::{Ran, files_of, run_world};
use crate::front::{Authority, Validity, relay};
use pdbench::Exit;
use pdbench::measure::{EndedIn, Outcome};
use pdbench::runtime::Workers;
use pdbench::sim::Config;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A proxy to whom every name means the same place, and the first head of each connection.
struct HttpProxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// What a proxy wants before it lets anything through.
#[derive(Clone, Copy)]
enum Wants {
    Nothing,
    /// This header line.
    Credentials(&'static str),
    /// It answers this status to everything.
    Nobody(&'static str),
}

impl HttpProxy {
    async fn start(place: SocketAddr, wants: Wants) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let task = tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                tokio::spawn(relay_one(connection, place, wants, Arc::clone(&seen)));
            }
        });
        Self { address, heads, task }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay_one(mut client: TcpStream, place: SocketAddr, wants: Wants, seen: Arc<Mutex<Vec<String>>>) {
    client.set_nodelay(true).unwrap();
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if client.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    seen.lock().unwrap().push(head.clone());
    let refusal = match wants {
        Wants::Credentials(line) if !head.contains(line) => Some("407 Proxy Authentication Required"),
        Wants::Nobody(status) => Some(status),
        _ => None,
    };
    if let Some(status) = refusal {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        client.write_all(answer.as_bytes()).await.unwrap();
        // Closed with bytes unread it would be reset.
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut Vec::new()).await;
        return;
    }
    let Ok(mut server) = TcpStream::connect(place).await else { return };
    server.set_nodelay(true).unwrap();
    if head.starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    } else {
        server.write_all(&bytes).await.unwrap();
    }
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

/// `serve` against `url`, which no resolver of this machine needs to know, in an environment of these variables.
async fn serve(place: &Path, url: &str, environment: &[(&str, String)], arguments: &[&str]) -> Ran {
    let base = ["serve", "--base-url", url, "--dataset-name", "sonnet", "--model", "simulated"];
    let shape = ["--num-prompts", "10", "--rate", "20", "--output-len", "5"];
    let environment: Vec<(String, String)> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let arguments = [&base[..], &shape, arguments].concat();
    run_world(&place.join("out"), &arguments, Workers::Local, |world| {
        world.environment = Box::new(move |asked| {
            let found = environment.iter().find(|(name, _)| name == asked);
            found.map(|(_, value)| value.clone())
        });
        world.resolver = Box::new(|host, _| {
            let why = std::io::Error::other(format!("nobody knows {host}"));
            Box::pin(async { Err(why) })
        });
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn an_http_target_is_asked_for_by_its_whole_url() {
    let cluster = Cluster::start(Config::default(), Workers::Local);
    let proxy = HttpProxy::start(cluster.address, Wants::Nothing).await;
    let place = tempdir().unwrap();
    let url = "http://cluster.test:8123/";
    let ran = serve(place.path(), url, &[], &["--http-proxy", &proxy.url()]).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.main_records().len(), 10);
    let target = ran.run_file().manifest.target;
    assert_eq!(target.base_url, "http://cluster.test:8123");
    assert_eq!((target.http_proxy, target.addresses), (Some(proxy.url()), vec![proxy.address.to_string()]));
    assert!(ran.stderr.contains(&format!("through {}", proxy.url())), "{}", ran.stderr);
    let heads = proxy.heads();
    assert!(
        heads
            .iter()
            .any(|head| head.starts_with("POST http://cluster.test:8123/v1/completions HTTP/1.1\r\n"))
    );
    for head in heads {
        assert!(head.contains(" http://cluster.test:8123/"), "{head}");
        assert!(head.to_lowercase().contains("\r\nhost: cluster.test:8123\r\n"), "{head}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_https_target_is_reached_through_a_tunnel() {
    let place = tempdir().unwrap();
    let authority = Authority::new("ours");
    let file = authority.file(place.path()).display().to_string();
    let cluster = Cluster::start(Config::default(), Workers::Local);
    let port = relay(authority.issue("cluster.test", Validity::Now), cluster.address).await;
    let proxy = HttpProxy::start(SocketAddr::from(([127, 0, 0, 1], port)), Wants::Nothing).await;
    let arguments = ["--http-proxy", &proxy.url(), "--ca-file", &file];
    let ran = serve(place.path(), "https://cluster.test", &[], &arguments).await;
    assert_eq!(ran.exit, Exit::Valid, "{}{}", ran.stdout, ran.stderr);
    let target = ran.run_file().manifest.target;
    assert_eq!((target.tls_verified, target.http_proxy), (Some(true), Some(proxy.url())));
    assert!(ran.main_records().iter().all(|record| record.is_ok()));
    let heads = proxy.heads();
    assert!(heads.iter().all(|head| head.starts_with("CONNECT cluster.test:443 HTTP/1.1\r\n")), "{heads:?}");
}

#[tokio::test(start_paused = true)]
async fn the_environments_proxy_is_used_when_asked_for_and_no_other_time() {
    let cluster = Cluster::start(Config::default(), Workers::Local);
    let url = format!("http://{}", cluster.address);
    // Bound and closed again: nothing listens there.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let set = [("http_proxy", nobody.to_string()), ("HTTP_PROXY", nobody.to_string())];
    let exempt = [&set[..], &[("no_proxy", "127.0.0.0/8".to_owned())]].concat();
    for (environment, arguments) in
        [(&set[..], &[][..]), (&set[..], &["--http-proxy", "none"]), (&exempt[..], &["--http-proxy", "env"])]
    {
        let place = tempdir().unwrap();
        let ran = serve(place.path(), &url, environment, arguments).await;
        assert_eq!(ran.exit, Exit::Valid, "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.run_file().manifest.target.http_proxy, None);
    }
    let place = tempdir().unwrap();
    let ran = serve(place.path(), &url, &set, &["--http-proxy", "env"]).await;
    assert_eq!(ran.exit, Exit::Preflight, "{}", ran.stderr);
    let said = format!("cannot reach {url} through the HTTP proxy http://{nobody}");
    assert!(ran.stderr.contains(&said) && ran.stderr.contains("--http-proxy none"), "{}", ran.stderr);
}

#[tokio::test(start_paused = true)]
async fn credentials_of_a_proxy_are_sent_to_it_alone_and_stand_in_no_output() {
    let place = tempdir().unwrap();
    let authority = Authority::new("ours");
    let file = authority.file(place.path()).display().to_string();
    let cluster = Cluster::start(Config::default(), Workers::Local);
    let port = relay(authority.issue("cluster.test", Validity::Now), cluster.address).await;
    // As `printf 'me:canary-word' | base64` has it.
    let wants = Wants::Credentials("proxy-authorization: Basic bWU6Y2FuYXJ5LXdvcmQ=\r\n");
    let plain = HttpProxy::start(cluster.address, wants).await;
    let tunnel = HttpProxy::start(SocketAddr::from(([127, 0, 0, 1], port)), wants).await;
    let url = |proxy: &HttpProxy| format!("http://me:canary-word@{}", proxy.address);
    let environment = [("http_proxy", url(&plain)), ("https_proxy", url(&tunnel))];
    for (target, further) in
        [("http://cluster.test", &[][..]), ("https://cluster.test", &["--ca-file", &file])]
    {
        let place = tempdir().unwrap();
        let arguments = [&["--http-proxy", "env"][..], further].concat();
        let ran = serve(place.path(), target, &environment, &arguments).await;
        assert_eq!(ran.exit, Exit::Valid, "{target}: {}", ran.stderr);
        let said = [
            ("stdout".to_owned(), ran.stdout.clone().into_bytes()),
            ("stderr".to_owned(), ran.stderr.clone().into_bytes()),
        ];
        for (name, bytes) in files_of(&ran.directory()).into_iter().chain(said) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert!(!text.contains("canary") && !text.contains("bWU6Y2FuYXJ5"), "{target}: {name}");
        }
    }
    for (proxy, target) in [(&plain, "http://cluster.test"), (&tunnel, "https://cluster.test")] {
        let place = tempdir().unwrap();
        let arguments = ["--http-proxy", &proxy.url(), "--insecure"];
        let ran = serve(place.path(), target, &[], &arguments).await;
        assert_eq!(ran.exit, Exit::Preflight, "{}", ran.stderr);
        assert!(ran.stderr.contains("407") && ran.stderr.contains("help:"), "{}", ran.stderr);
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_lets_nobody_through_is_told_in_the_record() {
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let proxy = HttpProxy::start(nowhere, Wants::Nobody("403 Forbidden")).await;
    let place = tempdir().unwrap();
    let arguments = ["--http-proxy", &proxy.url(), "--insecure", "--probe", "none"];
    let ran = serve(place.path(), "https://cluster.test", &[], &arguments).await;
    assert_eq!(ran.exit, Exit::Invalid, "{}", ran.stderr);
    for record in ran.main_records() {
        assert_eq!((record.outcome, record.ended_in), (Outcome::ConnectRefused, EndedIn::Connect));
        assert_eq!(record.error.as_deref(), Some("the HTTP proxy answers CONNECT with status 403"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_cannot_be_used_is_refused_before_anything_is_sent() {
    for (arguments, says) in [
        (&["--port", "1", "--http-proxy", "socks5://x:1080"][..], "SOCKS"),
        (&["--port", "1", "--http-proxy", "https://x:3128"], "not spoken to by TLS"),
        (&["--port", "1", "--http-proxy", "http://me:canary@x:3128"], "--http-proxy env"),
        (&["--http-proxy", "http://x:3128"], "embedded cluster"),
        (
            &["--port", "1", "--http-proxy", "http://x", "--prefill", "a:1", "--decode", "b:1", "--direct"],
            "instances",
        ),
        (&["--pd-proxy", "http://x:1", "--http-proxy", "http://x", "--repeat-d-times", "3"], "instances"),
    ] {
        let place = tempdir().unwrap();
        let arguments = [&["serve"][..], arguments].concat();
        let ran = run_world(&place.path().join("out"), &arguments, Workers::Local, |_| {}).await;
        assert_eq!(ran.exit, Exit::Usage, "{arguments:?}: {}", ran.stderr);
        assert!(
            ran.stderr.contains(says) && !ran.stderr.contains("canary@"),
            "{arguments:?}: {}",
            ran.stderr
        );
    }
    let place = tempdir().unwrap();
    let ran =
        serve(place.path(), "http://cluster.test", &[], &["--http-proxy", "http://proxy.test:3128"]).await;
    assert_eq!(ran.exit, Exit::Preflight);
    let said = "cannot resolve the HTTP proxy http://proxy.test:3128: nobody knows proxy.test";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
}
