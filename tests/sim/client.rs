//! A simulated node on a port of its own, and a raw HTTP client that stamps every chunk it reads.

use pdbench::cluster::Role;
use pdbench::measure::Offset;
use pdbench::runtime::{Clock, Stop, StopHandle, stop_channel};
use pdbench::sim::{Config, PARAMETERS, SimNode, Totals, Truth, TruthSink, run};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// The default cluster with these parameters set.
pub fn config(parameters: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    for (name, text) in parameters {
        let parameter = PARAMETERS.iter().find(|parameter| parameter.name == *name).unwrap();
        parameter.set(&mut config, text).unwrap();
    }
    config
}

/// A node that prefills and decodes, being served.
pub struct Sim {
    pub address: SocketAddr,
    pub clock: Clock,
    lines: Arc<Mutex<Vec<String>>>,
    stop: StopHandle,
    totals: JoinHandle<Totals>,
}

impl Sim {
    pub fn start(mut config: Config) -> Self {
        config.topology = "1m".parse().unwrap();
        let listener = crate::nodes::listen(0);
        let address = listener.local_addr().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let sink: TruthSink = Box::new(move |line| kept.lock().unwrap().push(line));
        let (stop, signal) = stop_channel();
        let clock = Clock::start();
        let nodes = vec![SimNode { role: Role::Mixed, listener }];
        let totals = tokio::spawn(run(nodes, config, clock, Some(sink), signal));
        Self { address, clock, lines, stop, totals }
    }

    /// Stops as asked; gives totals and the truth log.
    pub async fn stop(self, how: Stop) -> (Totals, Vec<String>) {
        self.stop.ask(how);
        let totals = self.totals.await.unwrap();
        (totals, self.lines.lock().unwrap().clone())
    }

    /// What the truth log says of each request, in the order of their ends.
    pub fn truths(&self) -> Vec<Truth> {
        let lines = self.lines.lock().unwrap();
        lines[1..].iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub async fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> Connection {
        let mut connection = Connection::open(self.address, self.clock).await;
        connection.send(method, path, headers, body).await;
        connection
    }

    /// Posts `body` and reads the whole response.
    pub async fn post(&self, path: &str, body: Value) -> Response {
        self.request("POST", path, "", &body.to_string()).await.read().await
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request("GET", path, "", "").await.read().await
    }
}

/// One connection with a request under way.
pub struct Connection {
    stream: TcpStream,
    clock: Clock,
    buffer: Vec<u8>,
}

/// A response: its head, and its body by chunk, each with the instant of its last byte.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub chunks: Vec<(Offset, Vec<u8>)>,
}

impl Connection {
    pub async fn open(address: SocketAddr, clock: Clock) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), clock, buffer: Vec::new() }
    }

    pub async fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: sim\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    /// The bare stream.
    pub fn into_stream(self) -> TcpStream {
        assert!(self.buffer.is_empty());
        self.stream
    }

    /// Reads the head; status and head.
    pub async fn head(&mut self) -> (u16, String) {
        let end = self.until(b"\r\n\r\n").await;
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        (head[9..12].parse().unwrap(), head)
    }

    /// Reads one chunk; `None` for the last, empty one.
    pub async fn chunk(&mut self) -> Option<(Offset, Vec<u8>)> {
        let end = self.until(b"\r\n").await;
        let line = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        self.fill(length + 2).await;
        let chunk: Vec<u8> = self.buffer.drain(..length + 2).take(length).collect();
        (0 < length).then(|| (self.clock.now().into(), chunk))
    }

    pub async fn read(&mut self) -> Response {
        let (status, head) = self.head().await;
        let mut chunks = Vec::new();
        if head.contains("transfer-encoding: chunked") {
            while let Some(chunk) = self.chunk().await {
                chunks.push(chunk);
            }
        } else {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let length = length.parse().unwrap();
            self.fill(length).await;
            chunks.push((self.clock.now().into(), self.buffer.drain(..length).collect()));
        }
        Response { status, head, chunks }
    }

    async fn until(&mut self, pattern: &[u8]) -> usize {
        loop {
            if let Some(at) = self.buffer.windows(pattern.len()).position(|window| window == pattern) {
                return at + pattern.len();
            }
            self.more().await;
        }
    }

    async fn fill(&mut self, length: usize) {
        while self.buffer.len() < length {
            self.more().await;
        }
    }

    async fn more(&mut self) {
        assert_ne!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0, "cut connection");
    }
}

impl Response {
    pub fn text(&self) -> String {
        let bytes = self.chunks.iter().flat_map(|(_, chunk)| chunk.iter().copied()).collect();
        String::from_utf8(bytes).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    /// The JSON events of a stream with their instants; checks the form of each and the end.
    pub fn events(&self) -> Vec<(Offset, Value)> {
        let mut texts: Vec<(Offset, &str)> = Vec::new();
        for (at, chunk) in &self.chunks {
            let text = std::str::from_utf8(chunk).unwrap();
            let event = text.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
            texts.push((*at, event));
        }
        assert_eq!(texts.pop().unwrap().1, "[DONE]");
        texts.into_iter().map(|(at, text)| (at, serde_json::from_str(text).unwrap())).collect()
    }

    /// Instants of the events that carry a token: those with a choice, less a chat's first.
    pub fn token_times(&self) -> Vec<Offset> {
        let is_token = |event: &Value| {
            event["choices"].get(0).is_some_and(|choice| choice["delta"].get("role").is_none())
        };
        self.events().into_iter().filter(|(_, event)| is_token(event)).map(|(at, _)| at).collect()
    }

    /// The text of all events together.
    pub fn streamed_text(&self) -> String {
        let piece = |event: &Value| {
            let choice = event["choices"].get(0)?;
            let text = choice.get("text").or_else(|| choice["delta"].get("content"))?;
            Some(text.as_str().unwrap().to_owned())
        };
        self.events().iter().filter_map(|(_, event)| piece(event)).collect()
    }
}
