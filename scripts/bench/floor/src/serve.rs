//! A server that streams tokens as vLLM does and keeps the instant of every write: what clients measure is held
//! against its log.

use crate::Flags;
use crate::system::{self, Poll, Tell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// What was asked for; times in nanoseconds.
pub struct Plan {
    port: u16,
    gap: i64,
    first: i64,
    coalesce: u32,
    /// All streams write at the same instants, as those of one engine's steps do.
    together: bool,
    log: Option<PathBuf>,
}

impl Plan {
    pub fn take(flags: &mut Flags) -> Result<Self, String> {
        let gap = flags.number("gap-us")?.unwrap_or(0) as i64 * 1000;
        Ok(Self {
            port: flags.number("port")?.unwrap_or(0) as u16,
            gap,
            first: flags.number("first-us")?.map_or(gap, |us| us as i64 * 1000),
            coalesce: flags.number("coalesce")?.unwrap_or(1).max(1) as u32,
            together: flags.number("together")?.unwrap_or(0) != 0,
            log: flags.text("log").map(PathBuf::from),
        })
    }
}

/// Bytes of a token event: `data: `, JSON as vLLM writes it, and the blank line.
const EVENT: usize = 257;
/// Texts of tokens; all of a length.
const WORDS: [&[u8; 6]; 8] =
    [b" token", b" three", b" seven", b" eight", b" forty", b" fifty", b" sixty", b" other"];
const HEAD: &str = "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\nserver: uvicorn\r\n\
    content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
const MODELS: &str = r#"{"object":"list","data":[{"id":"bench","object":"model","created":1,"owned_by":"vllm","max_model_len":131072}]}"#;
/// Longest request.
const MOST_REQUEST: usize = 16 << 20;

/// A request with the truth about its answer, wall-clock nanoseconds.
struct Answer {
    id: String,
    chat: bool,
    tokens: u32,
    sent: u32,
    due: i64,
    received: i64,
    writes: Vec<i64>,
}

struct Connection {
    socket: OwnedFd,
    input: Vec<u8>,
    /// What the socket had no room for.
    owed: Vec<u8>,
    answer: Option<Answer>,
}

static ENDED: AtomicBool = AtomicBool::new(false);

extern "C" fn end(_: i32) {
    ENDED.store(true, Ordering::Relaxed);
}

struct Server {
    plan: Plan,
    /// Of completions, and of chats.
    shapes: [Shape; 2],
    poll: Poll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// When which connection writes next.
    due: BinaryHeap<Reverse<(i64, usize)>>,
    done: Vec<Answer>,
    out: Vec<u8>,
}

/// Serves until a signal ends it, then writes the log.
pub fn run(plan: Plan) -> Result<(), String> {
    system::raise_file_limit();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        unsafe { libc::signal(signal, end as extern "C" fn(i32) as libc::sighandler_t) };
    }
    let told = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let (listener, port) = system::listen(plan.port).map_err(told("cannot listen"))?;
    let poll = Poll::new().map_err(told("cannot poll"))?;
    poll.add(&listener, 0, Tell::OfNews).map_err(told("cannot poll"))?;
    println!("{port}");
    io::stdout().flush().map_err(told("cannot print"))?;
    let mut server = Server {
        plan,
        shapes: [
            Shape::new("cmpl", "text_completion", r#""text":""#, "\""),
            Shape::new("chatcmpl", "chat.completion.chunk", r#""delta":{"content":""#, "\"}"),
        ],
        poll,
        connections: Vec::new(),
        free: Vec::new(),
        due: BinaryHeap::new(),
        done: Vec::new(),
        out: Vec::new(),
    };
    let mut ready = Vec::new();
    while !ENDED.load(Ordering::Relaxed) {
        let wait = server.due.peek().map(|Reverse((due, _))| due - system::wall_ns());
        ready.clear();
        ready.extend(server.poll.wait(wait));
        for &number in &ready {
            match number {
                0 => server.accept(&listener),
                number => server.ready(number as usize - 1),
            }
        }
        server.write_due();
    }
    server.write_log().map_err(told("cannot write the log"))
}

impl Server {
    fn accept(&mut self, listener: &OwnedFd) {
        while let Ok(socket) = system::accept(listener) {
            let at = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            if self.poll.add(&socket, at as u64 + 1, Tell::OfNews).is_ok() {
                let (input, owed) = (Vec::new(), Vec::new());
                self.connections[at] = Some(Connection { socket, input, owed, answer: None });
            }
        }
    }

    /// Reads a request as far as it has come, and writes what is owed.
    fn ready(&mut self, at: usize) {
        let Some(connection) = &mut self.connections[at] else { return };
        let mut buffer = [0; 64 << 10];
        let mut open = true;
        let mut received = 0;
        loop {
            match system::receive_stamped(&connection.socket, &mut buffer) {
                Ok((0, _)) => open = false,
                Ok((count, stamp)) => {
                    connection.input.extend_from_slice(&buffer[..count]);
                    received = stamp.unwrap_or_else(system::wall_ns);
                    continue;
                }
                Err(error) => open &= error.kind() == io::ErrorKind::WouldBlock,
            }
            break;
        }
        open &= connection.pay() && connection.input.len() < MOST_REQUEST;
        if open && let Some(request) = connection.request() {
            let mut first = received + self.plan.first;
            if self.plan.together && 0 < self.plan.gap {
                first += self.plan.gap - first % self.plan.gap;
            }
            connection.input.clear();
            match request {
                Ok(answer) => {
                    connection.answer = Some(Answer { received, due: first, ..answer });
                    self.due.push(Reverse((first, at)));
                }
                Err(page) => open = system::send(&connection.socket, page.as_bytes()).is_ok(),
            }
        }
        if !open {
            self.close(at);
        }
    }

    fn close(&mut self, at: usize) {
        if let Some(connection) = self.connections[at].take() {
            self.done.extend(connection.answer);
            self.free.push(at);
        }
    }

    /// Makes the writes whose time has come.
    fn write_due(&mut self) {
        let mut now = system::wall_ns();
        while let Some(&Reverse((due, at))) = self.due.peek() {
            // With no gap a stream is due again at once: others and their requests have their turn between.
            if now < due {
                return;
            }
            self.due.pop();
            let Some(connection) = &mut self.connections[at] else { continue };
            let Some(answer) = &mut connection.answer else { continue };
            if answer.due != due {
                continue; // of an earlier connection in this place
            }
            if !connection.owed.is_empty() {
                answer.due = now + 1_000_000;
                self.due.push(Reverse((answer.due, at)));
                continue;
            }
            self.out.clear();
            answer.step(self.plan.coalesce, &self.shapes, &mut self.out);
            now = system::wall_ns();
            answer.writes.push(now);
            let last = answer.sent == answer.tokens;
            if !last {
                answer.due = if self.plan.gap == 0 { now } else { due + self.plan.gap };
                self.due.push(Reverse((answer.due, at)));
            }
            let (done, open) = match connection.send(&self.out) {
                open if last => (connection.answer.take(), open),
                open => (None, open),
            };
            self.done.extend(done);
            if !open {
                self.close(at);
            }
        }
    }

    /// A line for each request: its id, when it came, when each write was made, and how many events each carries.
    fn write_log(&self) -> io::Result<()> {
        let Some(path) = &self.plan.log else { return Ok(()) };
        let mut file = BufWriter::new(File::create(path)?);
        for answer in &self.done {
            let (id, received, coalesce) = (&answer.id, answer.received, self.plan.coalesce);
            writeln!(
                file,
                r#"{{"id":"{id}","received_ns":{received},"coalesce":{coalesce},"writes_ns":{:?}}}"#,
                answer.writes
            )?;
        }
        file.flush()
    }
}

impl Connection {
    /// Writes what is owed; false when the connection is gone.
    fn pay(&mut self) -> bool {
        let owed = std::mem::take(&mut self.owed);
        owed.is_empty() || self.send(&owed)
    }

    /// Writes, and owes what there is no room for; false when the connection is gone.
    fn send(&mut self, bytes: &[u8]) -> bool {
        match system::send(&self.socket, bytes) {
            Ok(count) => self.owed.extend_from_slice(&bytes[count..]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.owed.extend_from_slice(bytes),
            Err(_) => return false,
        }
        true
    }

    /// The request, once it is whole: an answer to be streamed, or a page.
    fn request(&self) -> Option<Result<Answer, String>> {
        let end = self.input.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&self.input[..end]).ok()?;
        let header = |name: &str| {
            let line = head
                .lines()
                .skip(1)
                .find(|line| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name)))?;
            Some(line.split_once(':')?.1.trim())
        };
        let length = header("content-length").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
        let body = self.input.get(end + 4..end + 4 + length)?;
        let path = head.split(' ').nth(1).unwrap_or("");
        if !head.starts_with("POST ") {
            let (status, page) =
                if path == "/v1/models" { ("200 OK", MODELS) } else { ("404 Not Found", "{}") };
            return Some(Err(format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{page}",
                page.len()
            )));
        }
        let tokens = number_after(body, b"tokens\":").unwrap_or(16).max(1);
        Some(Ok(Answer {
            id: header("x-request-id").unwrap_or("").to_owned(),
            chat: path.ends_with("/chat/completions"),
            tokens,
            sent: 0,
            due: 0,
            received: 0,
            writes: Vec::with_capacity(tokens as usize),
        }))
    }
}

/// The number that follows the last `key` in a body.
fn number_after(body: &[u8], key: &[u8]) -> Option<u32> {
    let at = body.windows(key.len()).rposition(|part| part == key)?;
    let digits = body[at + key.len()..].trim_ascii_start();
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

impl Answer {
    /// The bytes of the next write: up to `most` events, each a chunk of its own.
    fn step(&mut self, most: u32, shapes: &[Shape; 2], out: &mut Vec<u8>) {
        if self.sent == 0 {
            out.extend_from_slice(HEAD.as_bytes());
        }
        let shape = &shapes[usize::from(self.chat)];
        for _ in 0..most.min(self.tokens - self.sent) {
            self.sent += 1;
            let (before, after) = if self.sent == self.tokens { &shape.last } else { &shape.token };
            for part in [before, WORDS[self.sent as usize % WORDS.len()].as_slice(), after] {
                out.extend_from_slice(part);
            }
        }
        if self.sent == self.tokens {
            let (prompt, tokens) = (64, self.tokens);
            let usage = format!(
                r#"data: {{"id":"cmpl-1","object":"text_completion","created":1767225600,"model":"bench","choices":[],"usage":{{"prompt_tokens":{prompt},"total_tokens":{},"completion_tokens":{tokens}}}}}"#,
                prompt + tokens
            );
            for line in [usage.as_str(), "data: [DONE]"] {
                out.extend_from_slice(&chunk(&format!("{line}\n\n")));
            }
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }
}

/// A token event of [`EVENT`] bytes in its chunk, around the token's text.
struct Shape {
    token: (Vec<u8>, Vec<u8>),
    /// The last one, with its finish reason.
    last: (Vec<u8>, Vec<u8>),
}

impl Shape {
    fn new(id: &str, kind: &str, open: &str, close: &str) -> Self {
        let event = |reason: &str, model: &str| {
            format!(
                r#"data: {{"id":"{id}-8f14e45fceea167a5a36dedd4bea2543","object":"{kind}","created":1767225600,"model":"{model}","choices":[{{"index":0,{open}@@@@@@{close},"logprobs":null,"finish_reason":{reason},"stop_reason":null}}]}}"#
            ) + "\n\n"
        };
        // The name of the model is as long as it takes.
        let model = "a-model-with-a-long-name-".repeat(9);
        let model = &model[..EVENT - event("null", "").len()];
        let halves = |reason| {
            let bytes = chunk(&event(reason, model));
            let at = bytes.windows(6).position(|six| six == b"@@@@@@").expect("it has a place for the text");
            (bytes[..at].to_vec(), bytes[at + 6..].to_vec())
        };
        Self { token: halves("null"), last: halves("\"length\"") }
    }
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}
