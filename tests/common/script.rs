//! A server that answers each request by a script: bytes, pauses, and an end. Raw TCP, so that it can do what no
//! HTTP server would.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One thing that the server does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Writes these bytes, as one packet where the system lets it.
    Write(Vec<u8>),
    /// Waits, in tokio's time.
    Wait(Duration),
    /// Closes the connection.
    Close,
    /// Resets it.
    Reset,
    /// Keeps it open and says nothing more.
    Hang,
    /// Closes the connection, and the server takes no other from here on.
    Leave,
    /// Sets virtual time forward, as when nobody got the processor meanwhile.
    Jump(Duration),
}

/// What a server does besides playing its scripts.
#[derive(Default)]
pub struct Setup {
    /// It begins again with the first script after the last.
    pub again: bool,
    /// What it answers to `GET /v1/models`; else it does not know the page.
    pub models: Option<String>,
    /// Where it listens; any free port where this is not said.
    pub address: Option<SocketAddr>,
}

/// A server that plays its scripts in turn, one a request, the last one for all that follow.
pub struct ScriptServer {
    /// Its base URL.
    pub url: String,
    played: Arc<Played>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Played {
    /// The head of each request.
    heads: Mutex<Vec<String>>,
    left: tokio::sync::Notify,
    turns: AtomicUsize,
    ended: Mutex<Vec<Instant>>,
    changed: tokio::sync::Notify,
}

impl ScriptServer {
    pub async fn start(scripts: Vec<Vec<Act>>) -> Self {
        Self::playing(scripts, Setup::default()).await
    }

    /// A server that begins again with the first script after the last.
    pub async fn round_and_round(scripts: Vec<Vec<Act>>) -> Self {
        Self::playing(scripts, Setup { again: true, ..Setup::default() }).await
    }

    pub async fn playing(scripts: Vec<Vec<Act>>, setup: Setup) -> Self {
        let address = setup.address.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let played = Arc::new(Played::default());
        let playing = Arc::clone(&played);
        let scripts = Arc::new((scripts, setup));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (connection, _) = tokio::select! {
                    taken = listener.accept() => taken.unwrap(),
                    () = playing.left.notified() => break,
                };
                connections.spawn(serve(connection, Arc::clone(&scripts), Arc::clone(&playing)));
            }
            drop(listener);
            while connections.join_next().await.is_some() {}
        });
        Self { url, played, task }
    }

    /// Waits until so many requests have come.
    pub async fn turns(&self, count: usize) {
        loop {
            let changed = self.played.changed.notified();
            if count <= self.played.turns.load(Ordering::Relaxed) {
                return;
            }
            changed.await;
        }
    }

    /// The heads of the requests, in the order in which they came.
    pub fn heads(&self) -> Vec<String> {
        self.played.heads.lock().unwrap().clone()
    }

    /// When each script that was played to its end had been.
    pub fn ended(&self) -> Vec<Instant> {
        self.played.ended.lock().unwrap().clone()
    }
}

impl Drop for ScriptServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut connection: TcpStream, scripts: Arc<(Vec<Vec<Act>>, Setup)>, played: Arc<Played>) {
    let (scripts, Setup { again, models, .. }) = &*scripts;
    connection.set_nodelay(true).unwrap();
    while let Some(head) = read_request(&mut connection).await {
        played.heads.lock().unwrap().push(head.clone());
        if head.starts_with("GET") {
            let (status, body) = match models.as_ref().filter(|_| head.starts_with("GET /v1/models ")) {
                Some(models) => ("200 OK", models.as_str()),
                None => ("404 Not Found", ""),
            };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            connection.write_all(answer.as_bytes()).await.unwrap();
            continue;
        }
        let turn = played.turns.fetch_add(1, Ordering::Relaxed);
        played.changed.notify_waiters();
        let turn = if *again { turn % scripts.len() } else { turn.min(scripts.len() - 1) };
        for act in &scripts[turn] {
            match act {
                Act::Write(bytes) => {
                    if connection.write_all(bytes).await.is_err() {
                        return;
                    }
                }
                Act::Wait(time) => tokio::time::sleep(*time).await,
                Act::Jump(time) => tokio::time::advance(*time).await,
                Act::Leave => {
                    played.left.notify_one();
                    return;
                }
                Act::Close => return,
                Act::Reset => {
                    socket2::SockRef::from(&connection).set_linger(Some(Duration::ZERO)).unwrap();
                    return;
                }
                Act::Hang => {
                    let mut rest = Vec::new();
                    let _ = connection.read_to_end(&mut rest).await;
                    return;
                }
            }
        }
        played.ended.lock().unwrap().push(Instant::now());
    }
}

/// Reads a whole request and gives its head; `None` when the client is gone.
async fn read_request(connection: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let whole = head_end + length.map_or(0, |length| length.trim().parse().unwrap());
    while bytes.len() < whole {
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// The head of a chunked event stream.
pub fn stream_head() -> Act {
    Act::Write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec())
}

/// One chunk of a chunked body.
pub fn chunk(data: &str) -> Act {
    Act::Write(format!("{:x}\r\n{data}\r\n", data.len()).into_bytes())
}

/// The end of a chunked body.
pub fn end() -> Act {
    Act::Write(b"0\r\n\r\n".to_vec())
}

/// A token event.
pub fn token(text: &str) -> String {
    format!(
        "data: {{\"id\":\"a\",\"choices\":[{{\"index\":0,\"text\":\"{text}\",\"finish_reason\":null}}]}}\n\n"
    )
}

/// The usage event of a whole answer of `tokens`, and `[DONE]`.
pub fn usage_and_done(tokens: u32) -> String {
    format!(
        "data: {{\"id\":\"a\",\"choices\":[],\"usage\":{{\"prompt_tokens\":7,\"completion_tokens\":{tokens}}}}}\n\n\
         data: [DONE]\n\n"
    )
}

/// A whole answer of so many tokens, at once.
pub fn whole(tokens: u32) -> Vec<Act> {
    let mut acts = vec![stream_head()];
    acts.extend((0..tokens).map(|_| chunk(&token("x"))));
    acts.extend([chunk(&usage_and_done(tokens)), end()]);
    acts
}
