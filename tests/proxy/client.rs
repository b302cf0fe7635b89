//! A client of one connection, which sees every chunk and how the answer ended.

use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub text: String,
    /// False when the connection ended before the body did.
    pub whole: bool,
    pub at: Instant,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The texts of the token events, joined.
    pub fn tokens(&self) -> String {
        let data = self.text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        let chunks = data.filter_map(|data| serde_json::from_str::<Value>(data).ok());
        chunks.filter_map(|chunk| Some(chunk["choices"].get(0)?["text"].as_str()?.to_owned())).collect()
    }
}

pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

impl Client {
    pub async fn open(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() }
    }

    pub async fn send(&mut self, method: &str, path: &str, lines: &str, body: &str) {
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{lines}content-length: {length}\r\n\r\n{body}");
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    /// Reads the head: status and text.
    pub async fn head(&mut self) -> (u16, String) {
        let end = self.until(b"\r\n\r\n").await.expect("a head");
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        (head[9..12].parse().unwrap(), head)
    }

    /// Reads one chunk; `Some` empty for the last one, `None` when the connection was cut.
    pub async fn chunk(&mut self) -> Option<String> {
        let end = self.until(b"\r\n").await?;
        let line = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        self.fill(length + 2).await?;
        let chunk: Vec<u8> = self.buffer.drain(..length + 2).take(length).collect();
        Some(String::from_utf8(chunk).unwrap())
    }

    /// Reads the whole answer.
    pub async fn answer(&mut self) -> Answer {
        let (status, head) = self.head().await;
        let (mut text, mut whole) = (String::new(), true);
        if header(&head, "transfer-encoding") == Some("chunked") {
            loop {
                match self.chunk().await {
                    None => whole = false,
                    Some(chunk) if !chunk.is_empty() => {
                        text.push_str(&chunk);
                        continue;
                    }
                    Some(_) => {}
                }
                break;
            }
        } else {
            let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
            whole = self.fill(length).await.is_some();
            let length = length.min(self.buffer.len());
            text = String::from_utf8(self.buffer.drain(..length).collect()).unwrap();
        }
        Answer { status, head, text, whole, at: Instant::now() }
    }

    async fn until(&mut self, pattern: &[u8]) -> Option<usize> {
        loop {
            if let Some(at) = self.buffer.windows(pattern.len()).position(|window| window == pattern) {
                return Some(at + pattern.len());
            }
            self.more().await?;
        }
    }

    async fn fill(&mut self, length: usize) -> Option<()> {
        while self.buffer.len() < length {
            self.more().await?;
        }
        Some(())
    }

    async fn more(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.buffer).await.unwrap_or(0);
        (0 < read).then_some(())
    }
}
