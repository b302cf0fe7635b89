//! Cuts a stream into events without taking them apart, so that one can be relayed as it came.

use crate::wire::sse::TooLarge;
use memchr::memchr2;
use std::borrow::Cow;

/// Takes bytes until an event is whole: its bytes up to and with the blank line, line ends of any kind.
#[derive(Debug)]
pub(super) struct Events {
    held: Vec<u8>,
    /// What is held is a whole event, and makes room for the next.
    whole: bool,
    /// The current line has no bytes yet.
    at_line_start: bool,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    max_event: usize,
}

impl Events {
    pub(super) fn new(max_event: usize) -> Self {
        Self { held: Vec::new(), whole: false, at_line_start: true, after_cr: false, max_event }
    }

    /// Takes from `bytes` up to the end of the next event; true when it is whole.
    pub(super) fn take(&mut self, bytes: &mut &[u8]) -> Result<bool, TooLarge> {
        if self.whole {
            self.held.clear();
            self.whole = false;
        }
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                // The event that it may end is gone, and CR alone has ended it.
                *bytes = &bytes[1..];
                continue;
            }
            let Some(at) = memchr2(b'\n', b'\r', bytes) else {
                self.held.extend_from_slice(bytes);
                *bytes = &[];
                self.at_line_start = false;
                break;
            };
            let length = if bytes[at..].starts_with(b"\r\n") { at + 2 } else { at + 1 };
            self.after_cr = bytes[length - 1] == b'\r';
            self.held.extend_from_slice(&bytes[..length]);
            *bytes = &bytes[length..];
            let blank = self.at_line_start && at == 0;
            self.at_line_start = true;
            if blank {
                self.whole = true;
                return self.check().map(|()| true);
            }
        }
        self.check().map(|()| false)
    }

    fn check(&self) -> Result<(), TooLarge> {
        match self.max_event < self.held.len() {
            true => Err(TooLarge { limit: self.max_event }),
            false => Ok(()),
        }
    }

    /// What is held: the event, once it is whole.
    pub(super) fn held(&self) -> &[u8] {
        &self.held
    }

    /// Ends a stream; an event without its blank line gets one, and is held then.
    pub(super) fn end(&mut self) -> bool {
        let open = !self.whole && !self.held.is_empty();
        if open {
            self.held.extend_from_slice(if self.at_line_start { b"\n" } else { b"\n\n" });
        } else {
            self.held.clear();
        }
        (self.whole, self.at_line_start, self.after_cr) = (true, true, false);
        open
    }
}

/// The data of an event, `None` where it has none: a comment, or a lone blank line.
pub(super) fn data(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    let event = event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event);
    let lines = event.split(|byte| matches!(byte, b'\n' | b'\r'));
    let values = lines.filter_map(|line| match line.strip_prefix(b"data")? {
        [] => Some(&[][..]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    });
    values.fold(None, |data: Option<Cow<'_, [u8]>>, value| match data {
        None => Some(Cow::Borrowed(value)),
        Some(data) => {
            let mut joined = data.into_owned();
            joined.push(b'\n');
            joined.extend_from_slice(value);
            Some(Cow::Owned(joined))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a stream that comes in pieces of `size`.
    fn events(stream: &str, size: usize) -> Vec<String> {
        let mut splitter = Events::new(100);
        let mut found = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(&data(bytes).unwrap_or_default()).into_owned();
        for mut piece in stream.as_bytes().chunks(size) {
            while splitter.take(&mut piece).unwrap() {
                found.push(text(splitter.held()));
            }
        }
        if splitter.end() {
            found.push(text(splitter.held()));
        }
        found.retain(|event| !event.is_empty());
        found
    }

    #[test]
    fn events_are_found_at_every_cut_with_every_line_end() {
        for stream in [
            "data: a\n\ndata: b\ndata:c\n\n: ping\n\n",
            "data: a\r\n\r\ndata: b\r\ndata:c\r\n\r\n",
            "data: a\r\rdata: b\rdata:c\r\r",
            "\u{feff}data: a\n\nevent: x\ndata: b\ndata:c",
        ] {
            for size in 1..=stream.len() {
                assert_eq!(events(stream, size), ["a", "b\nc"], "{stream:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn an_event_without_end_is_refused_beyond_the_limit() {
        let mut splitter = Events::new(100);
        let fed = (0..20).try_for_each(|_| splitter.take(&mut &b"data: aaaa"[..]).map(|_| ()));
        assert_eq!(fed, Err(TooLarge { limit: 100 }));
    }
}
