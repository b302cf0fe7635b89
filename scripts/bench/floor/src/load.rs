//! The floor: what no client can do without. It sends a request on a connection of its own, reads, stamps each read
//! and counts the events in it. It parses nothing else and checks nothing.

use crate::Flags;
use crate::system::{self, Poll, Tell};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// What was asked for.
pub struct Plan {
    port: u16,
    streams: usize,
    tokens: u64,
    /// Nanoseconds between two sends.
    between: i64,
    prompt_bytes: usize,
    kernel_stamps: bool,
    log: Option<PathBuf>,
}

impl Plan {
    pub fn take(flags: &mut Flags) -> Result<Self, String> {
        let rate = flags.number("rate")?;
        Ok(Self {
            port: flags.number("port")?.ok_or("--port is missing")? as u16,
            streams: flags.number("streams")?.unwrap_or(100) as usize,
            tokens: flags.number("tokens")?.unwrap_or(100),
            between: rate.map_or(0, |rate| 1_000_000_000 / rate.max(1) as i64),
            prompt_bytes: flags.number("prompt-bytes")?.unwrap_or(256) as usize,
            kernel_stamps: match flags.text("stamps").as_deref() {
                None | Some("user") => false,
                Some("kernel") => true,
                Some(other) => return Err(format!("--stamps: `{other}` is neither user nor kernel")),
            },
            log: flags.text("log").map(PathBuf::from),
        })
    }
}

/// A request; times in wall-clock nanoseconds.
struct Stream {
    socket: Option<OwnedFd>,
    sent: i64,
    state: State,
    events: Vec<i64>,
}

/// Where in a response a stream is.
#[derive(Clone, Copy)]
enum State {
    /// In the head, so many bytes into the blank line that ends it.
    Head(u8),
    /// In the size of a chunk.
    Size(usize),
    /// So many bytes before the end of a chunk with its line end; a chunk is an event.
    Data(usize),
}

/// Sends all, reads all, and prints how much that was.
pub fn run(plan: Plan) -> Result<(), String> {
    system::raise_file_limit();
    let told = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let mut poll = Poll::new().map_err(told("cannot poll"))?;
    let mut streams: Vec<Stream> = Vec::with_capacity(plan.streams);
    let (mut open, mut bytes) = (0_usize, 0_u64);
    let mut buffer = vec![0; 64 << 10];
    let mut ready = Vec::new();
    let start = system::wall_ns();
    while streams.len() < plan.streams || 0 < open {
        let mut wait = None;
        while streams.len() < plan.streams {
            let left = start + streams.len() as i64 * plan.between - system::wall_ns();
            if 0 < left {
                wait = Some(left);
                break;
            }
            let number = streams.len();
            let stream = send(&plan, number).map_err(told("cannot send a request"))?;
            if let Some(socket) = &stream.socket {
                poll.add(socket, number as u64, Tell::WhileReadable).map_err(told("cannot poll"))?;
            }
            streams.push(stream);
            open += 1;
            // Those that wait are answered meanwhile.
            if plan.between == 0 && number % 64 == 63 {
                wait = Some(0);
                break;
            }
        }
        ready.clear();
        ready.extend(poll.wait(wait));
        for &number in &ready {
            let stream = &mut streams[number as usize];
            open -= usize::from(stream.read(&plan, &mut buffer, &mut bytes));
        }
    }
    // The counts and `[DONE]` are events too.
    let events: usize = streams.iter().map(|stream| stream.events.len().saturating_sub(2)).sum();
    let (all, failed) = (
        streams.len(),
        streams.iter().filter(|stream| stream.events.len() as u64 != plan.tokens + 2).count(),
    );
    println!(r#"{{"streams":{all},"failed":{failed},"events":{events},"bytes":{bytes}}}"#);
    write_log(&plan, &streams).map_err(told("cannot write the log"))
}

fn send(plan: &Plan, number: usize) -> io::Result<Stream> {
    let socket = system::connect(plan.port, plan.kernel_stamps)?;
    let body = format!(
        r#"{{"model":"bench","prompt":"{}","max_tokens":{},"stream":true}}"#,
        "x".repeat(plan.prompt_bytes),
        plan.tokens
    );
    let request = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nx-request-id: floor-{number}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let sent = system::wall_ns();
    if let Err(error) = system::send(&socket, request.as_bytes()) {
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(error);
        }
        system::wait_writable(&socket);
        system::send(&socket, request.as_bytes())?;
    }
    Ok(Stream {
        socket: Some(socket),
        sent,
        state: State::Head(0),
        events: Vec::with_capacity(plan.tokens as usize + 2),
    })
}

impl Stream {
    /// Reads what is there; true when that was the last.
    fn read(&mut self, plan: &Plan, buffer: &mut [u8], bytes: &mut u64) -> bool {
        let Some(socket) = &self.socket else { return false };
        let got = if plan.kernel_stamps {
            system::receive_stamped(socket, buffer)
                .map(|(count, at)| (count, at.unwrap_or_else(system::wall_ns)))
        } else {
            system::receive(socket, buffer).map(|count| (count, system::wall_ns()))
        };
        let (count, at) = match got {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => (0, 0),
        };
        let piece = &buffer[..count];
        *bytes += count as u64;
        let last = self.count(piece, at) || count == 0;
        if last {
            self.socket = None;
        }
        last
    }

    /// Notes the instant for each chunk that ends in a piece; true when it was the last chunk.
    fn count(&mut self, mut piece: &[u8], at: i64) -> bool {
        loop {
            match self.state {
                State::Head(so_far) => {
                    let Some((&byte, rest)) = piece.split_first() else { return false };
                    piece = rest;
                    self.state = match (so_far, byte) {
                        (3, b'\n') => State::Size(0),
                        (1, b'\n') => State::Head(2),
                        (_, b'\r') => State::Head(so_far + 1),
                        _ => State::Head(0),
                    };
                }
                State::Size(size) => {
                    let Some((&byte, rest)) = piece.split_first() else { return false };
                    piece = rest;
                    self.state = match byte {
                        b'\r' => State::Size(size),
                        b'\n' if size == 0 => return true,
                        b'\n' => State::Data(size + 2),
                        digit => State::Size(size << 4 | (digit & 15) as usize + 9 * (digit >> 6) as usize),
                    };
                }
                State::Data(left) => {
                    if piece.len() < left {
                        self.state = State::Data(left - piece.len());
                        return false;
                    }
                    self.events.push(at);
                    piece = &piece[left..];
                    self.state = State::Size(0);
                }
            }
        }
    }
}

/// A line for each request: when it was sent, and when each event came.
fn write_log(plan: &Plan, streams: &[Stream]) -> io::Result<()> {
    let Some(path) = &plan.log else { return Ok(()) };
    let mut file = BufWriter::new(File::create(path)?);
    for (number, stream) in streams.iter().enumerate() {
        let events = &stream.events[..stream.events.len().saturating_sub(2)];
        writeln!(file, r#"{{"id":"floor-{number}","sent_ns":{},"events_ns":{events:?}}}"#, stream.sent)?;
    }
    file.flush()
}
