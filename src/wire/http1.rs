//! The reading half of an HTTP/1.1 client: bytes in, head and body pieces out. Only what a server may send
//! in answer to one POST; requests are written whole by [`super::openai`].

use memchr::memchr;

/// Reads one response.
#[derive(Debug)]
pub struct ResponseReader {
    state: State,
    /// The head as far as it came, then chunk-size and trailer lines.
    line: Vec<u8>,
    limits: Limits,
    body_bytes: u64,
}

/// Sizes beyond which a response is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of the head.
    pub head: usize,
    /// Most bytes of the body.
    pub body: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: 64 << 10, body: 64 << 20 }
    }
}

/// A piece of a response.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Status line and headers; comes first, once.
    Head(Head),
    /// The next bytes of the body.
    Body(&'a [u8]),
    /// The response is whole; what is left in the input is not part of it.
    End,
}

/// What of the head matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// The connection may carry a further request.
    pub keep_alive: bool,
    /// `content-encoding` unless it is `identity`.
    pub content_encoding: Option<String>,
    /// `location`.
    pub location: Option<String>,
    /// `server-timing`, as it came; several such headers as one list.
    pub server_timing: Option<String>,
    /// `retry-after` in seconds; a date is not taken.
    pub retry_after_s: Option<u32>,
}

/// A response that is not HTTP/1.1 or passes a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Http1Error {
    /// Head over its limit.
    #[error("a response head of more than {0} bytes")]
    HeadTooLarge(usize),
    /// Body over its limit.
    #[error("a response body of more than {0} bytes")]
    BodyTooLarge(u64),
    /// Not HTTP/1.x.
    #[error("not an HTTP/1.1 response: {0}")]
    Malformed(String),
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Head,
    /// This many body bytes are still to come.
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    /// The line end after a chunk's data.
    ChunkEnd,
    Trailer,
    ToClose,
    Ended,
}

impl ResponseReader {
    /// A reader before the first byte of a response.
    pub fn new(limits: Limits) -> Self {
        Self { state: State::Head, line: Vec::new(), limits, body_bytes: 0 }
    }

    /// Takes the next piece off the front of `input`; `None` when all of it is used up.
    ///
    /// # Errors
    /// When the bytes are no HTTP/1.1 response or pass a limit; the connection is of no use then.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Part<'a>>, Http1Error> {
        loop {
            match self.state {
                State::Ended => return Ok(None),
                State::Length(0) => {
                    self.state = State::Ended;
                    return Ok(Some(Part::End));
                }
                _ if input.is_empty() => return Ok(None),
                State::Head => {
                    if let Some(head) = self.head(input)? {
                        return Ok(Some(Part::Head(head)));
                    }
                }
                State::Length(left) => {
                    let piece = take(input, left);
                    self.state = State::Length(left - piece.len() as u64);
                    return self.body(piece);
                }
                State::ToClose => {
                    let piece = take(input, u64::MAX);
                    return self.body(piece);
                }
                State::ChunkSize => {
                    if self.line.is_empty()
                        && let Some(piece) = whole_chunk(input)
                    {
                        return self.body(piece);
                    }
                    if self.line(input)? {
                        let size = chunk_size(&self.line)?;
                        self.line.clear();
                        self.state = if size == 0 { State::Trailer } else { State::ChunkData(size) };
                    }
                }
                State::ChunkData(left) => {
                    let piece = take(input, left);
                    let left = left - piece.len() as u64;
                    self.state = if left == 0 { State::ChunkEnd } else { State::ChunkData(left) };
                    return self.body(piece);
                }
                State::ChunkEnd => {
                    if self.line(input)? {
                        if !trimmed(&self.line).is_empty() {
                            return Err(malformed("a chunk runs past its size"));
                        }
                        self.line.clear();
                        self.state = State::ChunkSize;
                    }
                }
                State::Trailer => {
                    if self.line(input)? {
                        let blank = trimmed(&self.line).is_empty();
                        self.line.clear();
                        if blank {
                            self.state = State::Ended;
                            return Ok(Some(Part::End));
                        }
                    }
                }
            }
        }
    }

    /// Tells the reader that the connection closed: true when the response is whole all the same.
    pub fn closed(&mut self) -> bool {
        let whole = matches!(self.state, State::Ended | State::ToClose | State::Length(0));
        self.state = State::Ended;
        whole
    }

    /// True once every byte of the response was read.
    pub fn ended(&self) -> bool {
        self.state == State::Ended
    }

    fn body<'a>(&mut self, piece: &'a [u8]) -> Result<Option<Part<'a>>, Http1Error> {
        self.body_bytes += piece.len() as u64;
        if self.limits.body < self.body_bytes {
            return Err(Http1Error::BodyTooLarge(self.limits.body));
        }
        Ok(Some(Part::Body(piece)))
    }

    /// Collects a line of the framing; true when `self.line` holds it whole, with its end.
    fn line(&mut self, input: &mut &[u8]) -> Result<bool, Http1Error> {
        let end = memchr(b'\n', input);
        let piece = take(input, end.map_or(input.len(), |end| end + 1) as u64);
        self.line.extend_from_slice(piece);
        if self.limits.head < self.line.len() {
            return Err(Http1Error::HeadTooLarge(self.limits.head));
        }
        Ok(end.is_some())
    }

    /// Collects the head line by line; `Some` when it is whole. Interim (1xx) heads are passed over.
    fn head(&mut self, input: &mut &[u8]) -> Result<Option<Head>, Http1Error> {
        if !self.line(input)? {
            return Ok(None);
        }
        let blank = self.line.ends_with(b"\n\r\n") || self.line.ends_with(b"\n\n");
        if !blank {
            return Ok(None);
        }
        let (head, body) = parse_head(&self.line)?;
        self.line.clear();
        if (100..200).contains(&head.status) {
            return Ok(None);
        }
        self.state = body;
        Ok(Some(head))
    }
}

fn malformed(what: impl Into<String>) -> Http1Error {
    Http1Error::Malformed(what.into())
}

/// Takes up to `most` bytes off the front of `input`.
fn take<'a>(input: &mut &'a [u8], most: u64) -> &'a [u8] {
    let (piece, rest) = input.split_at(usize::try_from(most).unwrap_or(usize::MAX).min(input.len()));
    *input = rest;
    piece
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.trim_ascii()
}

/// Takes a chunk off the front of `input` where it is there whole and framed plainly, as nearly all are: its data.
fn whole_chunk<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut size = 0;
    for (at, &byte) in input.iter().enumerate().take(MOST_DIGITS + 1) {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if 0 < size => {
                let (data, rest) = input[at..].strip_prefix(b"\r\n")?.split_at_checked(size)?;
                *input = rest.strip_prefix(b"\r\n")?;
                return Some(data);
            }
            _ => return None,
        };
        size = size << 4 | usize::from(digit);
    }
    None
}

/// Most digits of the size of a plain chunk: what is read at a time is smaller.
const MOST_DIGITS: usize = 6;

/// The size in front of a chunk: hexadecimal, extensions after `;` ignored.
fn chunk_size(line: &[u8]) -> Result<u64, Http1Error> {
    let digits = trimmed(line.split(|&byte| byte == b';').next().unwrap_or(line));
    let text = std::str::from_utf8(digits).unwrap_or("");
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(text, 16).ok()).flatten().ok_or_else(|| {
        malformed(format!("`{}` is not a chunk size", String::from_utf8_lossy(line).escape_debug()))
    })
}

/// Parses a whole head and tells how its body is delimited (RFC 9112 §6.3).
fn parse_head(bytes: &[u8]) -> Result<(Head, State), Http1Error> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(malformed("the head ends early")),
        Err(error) => return Err(malformed(error.to_string())),
    }
    let version = response.version.unwrap_or(1);
    let mut head = Head { status: response.code.unwrap_or(0), keep_alive: version == 1, ..Head::default() };
    let (mut length, mut chunked) = (None, false);
    for header in response.headers.iter() {
        let value = String::from_utf8_lossy(trimmed(header.value)).into_owned();
        let lower = value.to_ascii_lowercase();
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let parsed = value
                    .parse::<u64>()
                    .map_err(|_| malformed(format!("`{}` is not a content-length", value.escape_debug())))?;
                if length.is_some_and(|known| known != parsed) {
                    return Err(malformed("two different content-length headers"));
                }
                length = Some(parsed);
            }
            "transfer-encoding" => chunked = lower.split(',').any(|coding| coding.trim() == "chunked"),
            "connection" => {
                let has = |word| lower.split(',').any(|token| token.trim() == word);
                head.keep_alive = (head.keep_alive || has("keep-alive")) && !has("close");
            }
            "content-encoding" if lower != "identity" && !lower.is_empty() => {
                head.content_encoding = Some(value);
            }
            "location" => head.location = Some(value),
            "retry-after" => head.retry_after_s = value.parse().ok(),
            "server-timing" => {
                head.server_timing = Some(match head.server_timing.take() {
                    Some(before) => before + "," + &value,
                    None => value,
                });
            }
            _ => {}
        }
    }
    let state = match (head.status, chunked, length) {
        (100..200 | 204 | 304, _, _) => State::Length(0),
        (_, true, _) => State::ChunkSize,
        (_, false, Some(length)) => State::Length(length),
        (_, false, None) => State::ToClose,
    };
    head.keep_alive &= state != State::ToClose;
    Ok((head, state))
}

#[cfg(test)]
#[path = "http1_tests.rs"]
mod tests;
