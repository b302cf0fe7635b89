//! ZMTP 3.0 with the NULL mechanism, as far as a PULL server and a PUSH client need it, and what LMCache's prefill
//! instances push by it. Bytes in, messages out, sizes bounded; a peer of version 3.1 (libzmq) speaks 3.0 with us.
//! Deliberately absent: other socket types and mechanisms, ZMTP 2, sockets. A library for all of ZeroMQ would bring
//! its own sockets, tasks and some fifteen crates for these two pages.

mod notice;

pub use notice::{BadNotice, notified};

/// What a socket does with messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketType {
    /// Takes them.
    Pull,
    /// Gives them.
    Push,
}

impl SocketType {
    fn name(self) -> &'static [u8] {
        match self {
            SocketType::Pull => b"PULL",
            SocketType::Push => b"PUSH",
        }
    }

    fn other(self) -> Self {
        match self {
            SocketType::Pull => SocketType::Push,
            SocketType::Push => SocketType::Pull,
        }
    }
}

/// A peer that one cannot talk to any longer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZmtpError {
    /// Its first bytes are not a greeting.
    #[error("the peer does not speak ZMTP 3")]
    Greeting,
    /// It wants PLAIN or CURVE.
    #[error("the peer wants mechanism {0}, and there is NULL only")]
    Mechanism(String),
    /// It is not the other end of a pipeline.
    #[error("the peer's socket is {found}, where {wanted} was expected")]
    Socket {
        /// What it says it is.
        found: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// It refused us.
    #[error("the peer says: {0}")]
    Refused(String),
    /// A frame or a command that is none.
    #[error("the peer sent a malformed {0}")]
    Malformed(&'static str),
    /// A message over the limit.
    #[error("a message of more than {0} bytes")]
    TooLarge(usize),
}

const GREETING: usize = 64;
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;
/// Frames of a message, at most: each has a cost of its own.
const MAX_FRAMES: usize = 64;
/// Largest command that means anything to us.
const MAX_COMMAND: usize = 4096;

/// What is sent first, by both sides at once.
pub fn greeting() -> [u8; GREETING] {
    let mut bytes = [0; GREETING];
    (bytes[0], bytes[9], bytes[10]) = (0xff, 0x7f, 3);
    bytes[12..16].copy_from_slice(b"NULL");
    bytes
}

/// A message of these frames, as bytes.
pub fn message(frames: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, frame) in frames.iter().enumerate() {
        put_frame(if at + 1 < frames.len() { MORE } else { 0 }, frame, &mut out);
    }
    out
}

fn put_frame(flags: u8, body: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(body.len()) {
        Ok(length) => out.extend([flags, length]),
        Err(_) => {
            out.push(flags | LONG);
            out.extend((body.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(body);
}

fn put_command(name: &[u8], data: &[u8], out: &mut Vec<u8>) {
    let mut body = vec![name.len() as u8];
    body.extend_from_slice(name);
    body.extend_from_slice(data);
    put_frame(COMMAND, &body, out);
}

/// One connection, seen from our end. [`greeting`] is sent when it opens.
#[derive(Debug)]
pub struct Connection {
    socket: SocketType,
    stage: Stage,
    /// Bytes of what is not whole yet.
    held: Vec<u8>,
    /// Frames of a message whose last is still to come.
    frames: Vec<Vec<u8>>,
    /// Most bytes of a message.
    limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Greeting,
    Handshake,
    Ready,
}

impl Connection {
    /// A connection that has just been opened.
    pub fn new(socket: SocketType, limit: usize) -> Self {
        Self { socket, stage: Stage::Greeting, held: Vec::new(), frames: Vec::new(), limit }
    }

    /// Whether both sides have agreed; messages may be sent from then on.
    pub fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Takes bytes of the peer, puts what it is owed into `reply`, and hands over every message.
    ///
    /// # Errors
    /// When the connection is of no more use.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        mut sink: impl FnMut(Vec<Vec<u8>>),
    ) -> Result<(), ZmtpError> {
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(taken) = self.take(&held[at..], reply, &mut sink)? {
            at += taken;
        }
        held.drain(..at);
        self.held = held;
        Ok(())
    }

    /// Takes one greeting or frame, if it is whole: how many bytes it had.
    fn take(
        &mut self,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        sink: &mut impl FnMut(Vec<Vec<u8>>),
    ) -> Result<Option<usize>, ZmtpError> {
        if self.stage == Stage::Greeting {
            return self.take_greeting(bytes, reply);
        }
        let Some((flags, body)) = header(bytes)? else { return Ok(None) };
        let held: usize = self.frames.iter().map(Vec::len).sum();
        let limit = if flags & COMMAND == 0 { self.limit - held.min(self.limit) } else { MAX_COMMAND };
        if limit < body.len() {
            return Err(ZmtpError::TooLarge(if flags & COMMAND == 0 { self.limit } else { MAX_COMMAND }));
        }
        let Some(content) = bytes.get(body.clone()) else { return Ok(None) };
        if flags & COMMAND != 0 {
            self.command(content, reply)?;
        } else if self.stage != Stage::Ready {
            return Err(ZmtpError::Malformed("handshake"));
        } else {
            if self.frames.len() == MAX_FRAMES {
                return Err(ZmtpError::Malformed("message: it has too many frames"));
            }
            self.frames.push(content.to_vec());
            if flags & MORE == 0 {
                sink(std::mem::take(&mut self.frames));
            }
        }
        Ok(Some(body.end))
    }

    fn take_greeting(&mut self, bytes: &[u8], reply: &mut Vec<u8>) -> Result<Option<usize>, ZmtpError> {
        // A peer that speaks something else is told at its first byte, not after 64.
        let differs = |at: usize, ok: fn(u8) -> bool| bytes.get(at).is_some_and(|byte| !ok(*byte));
        if differs(0, |b| b == 0xff) || differs(9, |b| b & 1 == 1) || differs(10, |b| 3 <= b) {
            return Err(ZmtpError::Greeting);
        }
        let Some(greeting) = bytes.get(..GREETING) else { return Ok(None) };
        let mechanism = greeting[12..32].split(|byte| *byte == 0).next().unwrap_or_default();
        if mechanism != b"NULL" {
            return Err(ZmtpError::Mechanism(printable(mechanism)));
        }
        let mut properties = b"\x0bSocket-Type".to_vec();
        properties.extend((self.socket.name().len() as u32).to_be_bytes());
        properties.extend_from_slice(self.socket.name());
        put_command(b"READY", &properties, reply);
        self.stage = Stage::Handshake;
        Ok(Some(GREETING))
    }

    fn command(&mut self, body: &[u8], reply: &mut Vec<u8>) -> Result<(), ZmtpError> {
        let (name, data) = short(body).ok_or(ZmtpError::Malformed("command"))?;
        match name {
            b"READY" if self.stage == Stage::Handshake => {
                let found = property(data, b"Socket-Type")?.unwrap_or_default();
                let wanted = self.socket.other().name();
                if found != wanted {
                    let wanted = std::str::from_utf8(wanted).expect("socket types are ASCII");
                    return Err(ZmtpError::Socket { found: printable(found), wanted });
                }
                self.stage = Stage::Ready;
            }
            b"ERROR" => {
                return Err(ZmtpError::Refused(
                    short(data).map_or_else(String::new, |(why, _)| printable(why)),
                ));
            }
            // A heartbeat of 3.1: two bytes of a time to live, and a context that is sent back.
            b"PING" if 2 <= data.len() => put_command(b"PONG", &data[2..], reply),
            // Commands of later versions mean nothing to a pipeline.
            _ if self.stage == Stage::Ready => {}
            _ => return Err(ZmtpError::Malformed("handshake")),
        }
        Ok(())
    }
}

/// Flags of a frame and where its body lies; `None` while its head is not whole.
fn header(bytes: &[u8]) -> Result<Option<(u8, std::ops::Range<usize>)>, ZmtpError> {
    let Some(flags) = bytes.first().copied() else { return Ok(None) };
    let reserved = flags & !(MORE | LONG | COMMAND) != 0;
    if reserved || flags & COMMAND != 0 && flags & MORE != 0 {
        return Err(ZmtpError::Malformed("frame"));
    }
    let (start, length) = if flags & LONG == 0 {
        (2, bytes.get(1).map(|length| u64::from(*length)))
    } else {
        (9, bytes.get(1..9).and_then(|length| length.try_into().ok()).map(u64::from_be_bytes))
    };
    let Some(length) = length else { return Ok(None) };
    let end = usize::try_from(length).ok().and_then(|length| length.checked_add(start));
    // Beyond any limit, so that it is refused for its size.
    Ok(Some((flags, start..end.unwrap_or(usize::MAX))))
}

/// A text behind one byte of its length, and the rest.
fn short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// A property of a handshake; names come in any case.
fn property<'a>(mut bytes: &'a [u8], wanted: &[u8]) -> Result<Option<&'a [u8]>, ZmtpError> {
    while !bytes.is_empty() {
        let read = short(bytes).and_then(|(name, rest)| {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            Some((name, value, rest))
        });
        let (name, value, rest) = read.ok_or(ZmtpError::Malformed("handshake"))?;
        if name.eq_ignore_ascii_case(wanted) {
            return Ok(Some(value));
        }
        bytes = rest;
    }
    Ok(None)
}

fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).escape_debug().to_string()
}

#[cfg(test)]
mod tests;
