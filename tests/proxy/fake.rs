//! An instance that answers by a script and remembers what it was asked.

use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// One thing that an instance does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Writes these bytes, as one packet where the system lets it.
    Write(Vec<u8>),
    /// Waits, in tokio's time.
    Wait(Duration),
    /// Waits for the test to give a permit.
    Permit(Arc<Semaphore>),
    /// Closes the connection.
    Close,
    /// Says nothing more until the other side closes; remembered as cut.
    Hang,
    /// Posts this to the proxy and waits for the answer's status line.
    Post(String, SocketAddr, String),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Got {
    pub path: String,
    /// Its head, in lower case but for the values.
    pub head: String,
    pub body: Value,
    pub at: Instant,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// What it plays and what it saw.
#[derive(Default)]
pub struct State {
    /// Scripts by turn of the POST requests, the last one for all that follow.
    pub scripts: Vec<Vec<Act>>,
    pub got: Vec<Got>,
    /// Requests whose connection the other side closed before the script ended.
    pub cut: usize,
    pub connections: usize,
    /// Status of `/health`.
    pub health: u16,
    /// Answers of GET requests by path.
    pub pages: Vec<(String, String)>,
}

pub struct Fake {
    pub address: SocketAddr,
    pub state: Arc<Mutex<State>>,
    task: Option<JoinHandle<()>>,
}

pub fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(4096).unwrap()
}

impl Fake {
    pub fn start(scripts: Vec<Vec<Act>>) -> Self {
        let listener = listen("127.0.0.1:0".parse().unwrap());
        let state = State { scripts, health: 200, ..State::default() };
        let mut fake =
            Self { address: listener.local_addr().unwrap(), state: Arc::new(Mutex::new(state)), task: None };
        fake.serve(listener);
        fake
    }

    fn serve(&mut self, listener: TcpListener) {
        let state = Arc::clone(&self.state);
        self.task = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let number = {
                    let mut state = state.lock().unwrap();
                    state.connections += 1;
                    state.connections - 1
                };
                connections.spawn(serve(connection, number, Arc::clone(&state)));
            }
        }));
    }

    /// Kills the instance: every connection breaks, and none is taken.
    pub async fn kill(&mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        let _ = task.await;
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        self.serve(listen(self.address));
    }

    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// The POST requests so far.
    pub fn got(&self) -> Vec<Got> {
        self.state.lock().unwrap().got.clone()
    }

    pub fn cut(&self) -> usize {
        self.state.lock().unwrap().cut
    }

    pub fn page(&self, path: &str, text: &str) {
        self.state.lock().unwrap().pages.push((path.to_owned(), text.to_owned()));
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn serve(mut connection: TcpStream, number: usize, state: Arc<Mutex<State>>) {
    connection.set_nodelay(true).unwrap();
    while let Some((head, body)) = read_request(&mut connection).await {
        let path = head.split(' ').nth(1).unwrap().to_owned();
        if head.starts_with("GET") {
            let (status, text) = {
                let state = state.lock().unwrap();
                let page = state.pages.iter().find(|(page, _)| *page == path).map(|(_, text)| text.clone());
                match (path.as_str(), page) {
                    ("/health", _) => (state.health, String::new()),
                    (_, Some(text)) => (200, text),
                    (_, None) => (404, String::new()),
                }
            };
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            if connection.write_all(head.as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        let script = {
            let mut state = state.lock().unwrap();
            let turn = state.got.len();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            state.got.push(Got { path, head, body, at: Instant::now(), connection: number });
            state.scripts.get(turn).or_else(|| state.scripts.last()).cloned().unwrap_or_default()
        };
        for act in script {
            if !play(&mut connection, act).await {
                state.lock().unwrap().cut += 1;
                return;
            }
        }
    }
}

/// Does one thing; false when the other side is gone, or the connection is to end.
async fn play(connection: &mut TcpStream, act: Act) -> bool {
    match act {
        Act::Write(bytes) => connection.write_all(&bytes).await.is_ok(),
        Act::Wait(time) => tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = gone(connection) => false,
        },
        Act::Permit(permits) => tokio::select! {
            permit = permits.acquire() => { permit.unwrap().forget(); true }
            () = gone(connection) => false,
        },
        Act::Close => false,
        Act::Hang => {
            gone(connection).await;
            false
        }
        Act::Post(path, address, body) => {
            let mut other = TcpStream::connect(address).await.unwrap();
            let length = body.len();
            let request =
                format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
            other.write_all(request.as_bytes()).await.unwrap();
            let mut answer = [0; 12];
            other.read_exact(&mut answer).await.is_ok()
        }
    }
}

/// Waits until the other side closes.
async fn gone(connection: &TcpStream) {
    loop {
        connection.readable().await.unwrap();
        match connection.try_read(&mut [0; 64]) {
            Ok(0) => return,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}

async fn read_request(connection: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes.drain(..end).collect()).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.trim().parse().unwrap());
    while bytes.len() < length {
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, bytes))
}

pub fn write(text: &str) -> Act {
    Act::Write(text.as_bytes().to_vec())
}

pub fn wait(ms: u64) -> Act {
    Act::Wait(Duration::from_millis(ms))
}

/// The head of a chunked event stream.
pub fn stream_head() -> Act {
    write(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n",
    )
}

pub fn chunk(data: &str) -> Act {
    write(&format!("{:x}\r\n{data}\r\n", data.len()))
}

pub fn end() -> Act {
    write("0\r\n\r\n")
}

/// A token event.
pub fn token(text: &str) -> String {
    format!(
        "data: {{\"id\":\"a\",\"choices\":[{{\"index\":0,\"text\":\"{text}\",\"finish_reason\":null}}]}}\n\n"
    )
}

pub const DONE: &str = "data: [DONE]\n\n";

/// A stream of these tokens, `gap` ms apart, and `[DONE]`.
pub fn stream(tokens: &[&str], gap: u64) -> Vec<Act> {
    let mut acts = vec![stream_head()];
    for text in tokens {
        acts.extend([wait(gap), chunk(&token(text))]);
    }
    acts.extend([chunk(DONE), end()]);
    acts
}

/// A JSON answer with this status, after `ms`.
pub fn json(status: u16, body: &str, ms: u64) -> Vec<Act> {
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    vec![wait(ms), write(&head)]
}

/// A prefill answer after `ms`, with transfer parameters.
pub fn prefilled(ms: u64) -> Vec<Act> {
    let body = r#"{"id":"p","choices":[{"index":0,"text":"P","finish_reason":"length"}],"kv_transfer_params":{"remote_engine_id":"e-1","remote_block_ids":[[1, 2]],"n":1.50}}"#;
    json(200, body, ms)
}
