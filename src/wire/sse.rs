//! Event streams by the WHATWG rules, cut anywhere, without copying an event that lies in one packet.

use memchr::memchr2;

/// Cuts a byte stream into events. Lines end in LF, CRLF or a lone CR; a byte order mark at the start is
/// passed over; `data` lines of an event are joined by LF; comments and unknown fields are ignored.
#[derive(Debug)]
pub struct Splitter {
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    /// The data of an event whose blank line has not come yet.
    data: Vec<u8>,
    /// How many `data` lines that event has.
    data_lines: u32,
    /// The value of that event's `event` field.
    event: Vec<u8>,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The first line is still to come.
    at_start: bool,
    /// Most bytes of an event, its unfinished line included.
    max_event: usize,
    /// Bytes that came in earlier calls.
    fed: u64,
    /// Where the data of the event begins that is under way.
    data_at: u64,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event` field, empty where there was none.
    pub event: &'a [u8],
    /// The data lines, joined by LF.
    pub data: &'a [u8],
    /// Where its data begins: bytes from the start of the stream.
    pub at: u64,
}

/// An event over the size limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of more than {limit} bytes")]
pub struct TooLarge {
    /// The limit that was passed.
    pub limit: usize,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Splitter {
    /// A splitter at the start of a stream that bears events of up to `max_event` bytes.
    pub fn new(max_event: usize) -> Self {
        Self {
            partial: Vec::new(),
            data: Vec::new(),
            data_lines: 0,
            event: Vec::new(),
            after_cr: false,
            at_start: true,
            max_event,
            fed: 0,
            data_at: 0,
        }
    }

    /// Takes the next bytes and hands every event that they complete to `sink`.
    ///
    /// # Errors
    /// When an event grows beyond the limit; the stream cannot be read on then.
    pub fn feed<'a>(&mut self, mut bytes: &'a [u8], mut sink: impl FnMut(Event<'_>)) -> Result<(), TooLarge> {
        self.fed += bytes.len() as u64;
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        // The one data line of an event that began in `bytes`: it is copied only if the event goes on.
        let mut held: Option<&'a [u8]> = None;
        while let Some(end) = memchr2(b'\n', b'\r', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            let line_end = self.fed - (rest.len() + 1) as u64;
            bytes = if bytes[end] == b'\r' {
                self.after_cr = rest.is_empty();
                rest.strip_prefix(b"\n").unwrap_or(rest)
            } else {
                rest
            };
            if self.partial.is_empty() {
                self.line(line, line_end, &mut held, &mut sink);
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.keep(&mut held);
                let mut own = None;
                self.line(&whole, line_end, &mut own, &mut sink);
                self.keep(&mut own);
                whole.clear();
                self.partial = whole;
            }
            self.check_size()?;
        }
        self.keep(&mut held);
        self.partial.extend_from_slice(bytes);
        self.check_size()
    }

    /// Passes over one whole event that lies at the front of what comes next, `len` bytes with its blank line, which the
    /// caller knows to be no more than a `data` line. False, and nothing is passed over, where another event is under
    /// way or this one may be too large.
    pub fn pass_over(&mut self, len: usize) -> bool {
        let between = self.partial.is_empty() && self.data_lines == 0 && self.event.is_empty();
        let plain = between && !self.after_cr && !self.at_start && len <= self.max_event;
        if plain {
            self.fed += len as u64;
        }
        plain
    }

    /// Ends the stream. An event that lacks its blank line is handed over all the same; true then.
    pub fn finish(&mut self, mut sink: impl FnMut(Event<'_>)) -> bool {
        let last = std::mem::take(&mut self.partial);
        let mut held = None;
        if !last.is_empty() {
            self.line(&last, self.fed, &mut held, &mut sink);
        }
        let unterminated = held.is_some() || 0 < self.data_lines;
        self.dispatch(held, &mut sink);
        unterminated
    }

    fn check_size(&self) -> Result<(), TooLarge> {
        if self.max_event < self.partial.len() + self.data.len() {
            return Err(TooLarge { limit: self.max_event });
        }
        Ok(())
    }

    /// Takes one whole line without its end, which stands at `end`.
    fn line<'a>(
        &mut self,
        mut line: &'a [u8],
        end: u64,
        held: &mut Option<&'a [u8]>,
        sink: &mut impl FnMut(Event<'_>),
    ) {
        if self.at_start {
            self.at_start = false;
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            self.dispatch(held.take(), sink);
        } else if let Some(value) = field(line, b"data") {
            self.keep(held);
            if self.data_lines == 0 {
                self.data_at = end - value.len() as u64;
                *held = Some(value);
            } else {
                self.append(value);
            }
        } else if let Some(value) = field(line, b"event") {
            self.event.clear();
            self.event.extend_from_slice(value);
        }
    }

    /// Copies a held data line, because its event does not end in the packet it began in.
    fn keep(&mut self, held: &mut Option<&[u8]>) {
        if let Some(value) = held.take() {
            self.append(value);
        }
    }

    fn append(&mut self, value: &[u8]) {
        if 0 < self.data_lines {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        self.data_lines += 1;
    }

    /// Hands the event over that a blank line has ended, if it has data.
    fn dispatch(&mut self, held: Option<&[u8]>, sink: &mut impl FnMut(Event<'_>)) {
        if let Some(data) = held {
            sink(Event { event: &self.event, data, at: self.data_at });
        } else if 0 < self.data_lines {
            sink(Event { event: &self.event, data: &self.data, at: self.data_at });
            self.data.clear();
            self.data_lines = 0;
        }
        self.event.clear();
    }
}

/// The value of a line's field if the field is `name`: after the colon and at most one space.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;
    use proptest::prelude::*;

    /// Every event as (event, data), and whether the last one was unterminated.
    fn split(pieces: &[&[u8]]) -> (Vec<(String, String)>, bool) {
        let mut splitter = Splitter::new(1 << 20);
        let mut events = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for piece in pieces {
            splitter.feed(piece, |e| events.push((text(e.event), text(e.data)))).unwrap();
        }
        let unterminated = splitter.finish(|e| events.push((text(e.event), text(e.data))));
        (events, unterminated)
    }

    fn data(pieces: &[&[u8]]) -> Vec<String> {
        split(pieces).0.into_iter().map(|(_, data)| data).collect()
    }

    #[test]
    fn every_line_end_ends_a_line() {
        for stream in ["data: a\n\ndata: b\n\n", "data: a\r\n\r\ndata: b\r\n\r\n", "data: a\r\rdata: b\r\r"] {
            assert_eq!(data(&[stream.as_bytes()]), ["a", "b"], "{stream:?}");
        }
    }

    #[test]
    fn fields_are_read_by_the_rules() {
        let table = [
            ("data:a\n\n", vec!["a"]),
            ("data:  a \n\n", vec![" a "]),
            ("data\n\n", vec![""]),
            ("data: a\ndata: b\n\n", vec!["a\nb"]),
            (": ping\n\ndata: a\n\n", vec!["a"]),
            ("id: 1\nretry: 2\ndatax: b\ndata: a\n\n", vec!["a"]),
            ("\u{feff}data: a\n\n", vec!["a"]),
            ("event: error\n\ndata: a\n\n", vec!["a"]),
            ("", vec![]),
        ];
        for (stream, expected) in table {
            assert_eq!(data(&[stream.as_bytes()]), expected, "{stream:?}");
        }
    }

    #[test]
    fn an_event_tells_where_in_the_stream_its_data_begins() {
        for end in ["\n", "\r\n", "\r"] {
            let lines =
                ["\u{feff}: ping", "", "data:1", "", "event: x", "data: 23", "data: 4", "", "data: 5"];
            let text = lines.join(end);
            let expected: Vec<u64> =
                ["1", "23", "5"].map(|data| text.find(data).unwrap() as u64).into_iter().collect();
            for piece in 1..=text.len() {
                let (mut splitter, mut places) = (Splitter::new(100), Vec::new());
                for bytes in text.as_bytes().chunks(piece) {
                    splitter.feed(bytes, |event| places.push(event.at)).unwrap();
                }
                splitter.finish(|event| places.push(event.at));
                assert_eq!(places, expected, "{end:?} {piece}");
            }
        }
    }

    #[test]
    fn an_event_name_belongs_to_its_event_only() {
        let (events, _) = split(&[b"event: error\ndata: a\n\ndata: b\n\n"]);
        assert_eq!(events, [("error".into(), "a".into()), (String::new(), "b".into())]);
    }

    #[test]
    fn an_unterminated_last_event_is_handed_over_and_told() {
        for stream in ["data: a", "data: a\n", "data: x\ndata: a\r"] {
            let (events, unterminated) = split(&[stream.as_bytes()]);
            assert!(unterminated && events.len() == 1 && events[0].1.ends_with('a'), "{stream:?}");
        }
        assert!(!split(&[b"data: a\n\n: bye"]).1);
    }

    #[test]
    fn a_line_without_end_is_refused_beyond_the_limit() {
        let mut splitter = Splitter::new(100);
        let fed = (0..20).try_for_each(|_| splitter.feed(b"data: aaaa", |_| ()));
        assert_eq!(fed, Err(TooLarge { limit: 100 }));
        let mut splitter = Splitter::new(100);
        let fed = (0..20).try_for_each(|_| splitter.feed(b"data: aaaaaaa\n", |_| ()));
        assert_eq!(fed, Err(TooLarge { limit: 100 }));
    }

    /// Streams of plausible and implausible lines; no byte order mark inside, terminated.
    fn stream() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            4 => "data: ?[a-zé€😀: ]{0,8}",
            1 => ":[a-z ]{0,4}",
            1 => "event: ?[a-z]{0,5}",
            1 => "[a-z]{1,5}(: ?[a-z]{0,3})?",
            3 => Just(String::new()),
        ];
        let end = prop_oneof![Just("\n"), Just("\r\n"), Just("\r")];
        proptest::collection::vec((line, end), 0..30).prop_map(|lines| {
            let mut text: String = lines.into_iter().flat_map(|(line, end)| [line, end.to_owned()]).collect();
            text.push_str("\n\n");
            text
        })
    }

    fn cut<'a>(text: &'a str, cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        places.extend([0, text.len()]);
        places.sort_unstable();
        places.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect()
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_events_of_the_reference_parser(
            text in stream(),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            use eventsource_stream::Eventsource;
            let whole = futures_util::stream::iter([Ok::<_, ()>(text.clone().into_bytes())]);
            let reference: Vec<(String, String)> = futures_executor(
                whole.eventsource().map(|event| event.unwrap()).collect::<Vec<_>>(),
            )
            .into_iter()
            .map(|event| (if event.event == "message" { String::new() } else { event.event }, event.data))
            .collect();
            let (ours, unterminated) = split(&cut(&text, &cuts));
            prop_assert_eq!(ours, reference);
            prop_assert!(!unterminated);
        }
    }

    fn futures_executor<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }
}
