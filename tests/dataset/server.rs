//! A server of files that does, request by request, what it is told to; and the way a published file is fetched from it.

use crate::common::{Printed, world};
use crate::front::{Authority, Validity, relay};
use pdbench::Exit;
use pdbench::command::{CachePlan, Errand, FetchPlan, Interrupt, Plan, Published, TrustPlan, Way, run};
use pdbench::runtime::Workers;
use pdbench::wire::Target;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

/// The file that is published.
pub const FILE: &[u8] = &[b'x'; 100_000];
/// Its name in the cache.
pub const NAME: &str = "set/part.jsonl";

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub enum Does {
    /// The file, or the range that was asked for.
    Serves,
    /// The same, cut after so many bytes.
    CutsAfter(usize),
    /// The same, and no word more after so many bytes.
    HangsAfter(usize),
    /// The same, with a rest of fifteen seconds after so many bytes.
    RestsAfter(usize),
    /// The file, whatever was asked for.
    IgnoresRange,
    /// The rest from another byte than was asked for.
    MistakesRange,
    /// 416, where a range was asked for.
    RefusesRange,
    /// Another file.
    ServesOther,
    /// This head, and no body.
    Says(&'static str),
}

/// A server in the clear.
pub struct Server {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    wrote: watch::Receiver<usize>,
}

impl Server {
    /// Does one thing after another, the last again and again.
    pub fn start(turns: &'static [Does]) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(4096).unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (writes, wrote) = watch::channel(0);
        let asked = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, turns, Arc::clone(&asked), writes.clone()));
            }
        });
        Self { address, heads, wrote }
    }

    /// The heads of the requests, in small letters.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// The ranges that were asked for.
    pub fn ranges(&self) -> Vec<Option<String>> {
        let range =
            |head: &String| head.lines().find_map(|line| line.strip_prefix("range: ").map(str::to_owned));
        self.heads().iter().map(range).collect()
    }

    /// Waits until an answer has been written as far as it goes.
    pub async fn wrote(&self) {
        self.wrote.clone().wait_for(|&count| 0 < count).await.unwrap();
    }
}

async fn serve(
    mut connection: TcpStream,
    turns: &[Does],
    heads: Arc<Mutex<Vec<String>>>,
    wrote: watch::Sender<usize>,
) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if connection.read_buf(&mut bytes).await.is_ok_and(|count| 0 < count) {
            continue;
        }
        return;
    }
    let head = String::from_utf8(bytes).unwrap().to_lowercase();
    let turn = {
        let mut heads = heads.lock().unwrap();
        heads.push(head.clone());
        turns[(heads.len() - 1).min(turns.len() - 1)]
    };
    let from = head.lines().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-'));
    let from: Option<usize> = from.map(|from| from.parse().unwrap());
    let (head, body) = answer(turn, from);
    let _ = connection.write_all(head.as_bytes()).await;
    if let Does::RestsAfter(first) = turn {
        let _ = connection.write_all(&body[..first]).await;
        tokio::time::sleep(Duration::from_secs(15)).await;
        let _ = connection.write_all(&body[first..]).await;
    } else {
        let _ = connection.write_all(body).await;
    }
    wrote.send_modify(|count| *count += 1);
    if let Does::HangsAfter(_) = turn {
        let _ = connection.read_to_end(&mut Vec::new()).await;
    }
}

fn answer(turn: Does, from: Option<usize>) -> (String, &'static [u8]) {
    let len = FILE.len();
    let whole = |body: &'static [u8]| {
        (format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len()), body)
    };
    let rest = |at: usize| {
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nconnection: close\r\ncontent-range: bytes {at}-{}/{len}\r\ncontent-length: {}\r\n\r\n",
            len - 1,
            len - at
        );
        (head, &FILE[at..])
    };
    let asked = || from.map_or_else(|| whole(FILE), rest);
    match (turn, from) {
        (Does::Serves | Does::RestsAfter(_), _) => asked(),
        (Does::CutsAfter(most) | Does::HangsAfter(most), _) => {
            let (head, body) = asked();
            (head, &body[..most])
        }
        (Does::MistakesRange, Some(from)) => rest(from / 2),
        (Does::RefusesRange, Some(_)) => (
            "HTTP/1.1 416 Range Not Satisfiable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".into(),
            b"",
        ),
        (Does::IgnoresRange | Does::MistakesRange | Does::RefusesRange, _) => whole(FILE),
        (Does::ServesOther, _) => whole(b"an error page"),
        (Does::Says(head), _) => (format!("{head}\r\nconnection: close\r\n\r\n"), b""),
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A cache of its own, and what a run of `dataset` needs besides.
pub struct Setup {
    pub place: TempDir,
    authority: Authority,
    pub interrupt: Interrupt,
}

/// What a run said.
#[derive(Debug)]
pub struct Said {
    pub exit: Exit,
    pub stdout: String,
    pub stderr: String,
}

impl Setup {
    pub fn new() -> Self {
        let (place, authority) = (TempDir::new().unwrap(), Authority::new("ours"));
        Self { place, authority, interrupt: Interrupt::default() }
    }

    /// Where the file is kept.
    pub fn kept(&self) -> PathBuf {
        self.place.path().join("cache").join(NAME)
    }

    /// What has come of it.
    pub fn part(&self) -> PathBuf {
        self.place.path().join("cache").join(format!("{NAME}.part"))
    }

    /// Leaves such a file in the cache.
    pub fn leave(&self, path: &Path, bytes: &[u8]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Fetches the file from a server behind TLS.
    pub async fn fetch(&self, server: &Server) -> Said {
        let port = relay(self.authority.issue("127.0.0.1", Validity::Now), server.address).await;
        self.fetch_from(&format!("https://127.0.0.1:{port}/mirror")).await
    }

    /// Fetches it from a mirror.
    pub async fn fetch_from(&self, mirror: &str) -> Said {
        self.fetch_named("set", mirror).await
    }

    /// Fetches what has another name, and the same content.
    pub async fn fetch_named(&self, name: &str, mirror: &str) -> Said {
        let plan = FetchPlan {
            names: vec![name.to_owned()],
            mirror: Some(Target::parse(mirror).unwrap()),
            trust: TrustPlan::Authorities(Some(self.authority.file(self.place.path()))),
            way: Way::Direct,
            progress: true,
        };
        self.dataset(Errand::Fetch(Box::new(plan))).await
    }

    pub async fn dataset(&self, errand: Errand) -> Said {
        let sha256 = &*Box::leak(sha256(FILE).into_boxed_str());
        let url = "https://set.invalid/part.jsonl";
        let rows = [("set", NAME), ("task", "task.yaml"), ("gsm8k", "gsm8k/test.jsonl")];
        let rows = rows.map(|(name, file)| Published { name, file, url, sha256 });
        let published = Box::leak(Box::new(rows));
        let plan = CachePlan { published, directory: self.place.path().join("cache"), errand };
        let (stdout, stderr) = (Printed::default(), Printed::default());
        let mut world = world(&[], Workers::Local, &stdout, &stderr);
        world.interrupt = self.interrupt.clone();
        let (exit, error) = match run(Plan::Dataset(plan), &mut world).await {
            Ok(exit) => (exit, String::new()),
            Err(error) => (error.exit, error.message()),
        };
        Said { exit, stdout: stdout.text(), stderr: stderr.text() + &error }
    }
}
