//! What an LMCache prefill instance pushes: MessagePack of `{"type": "ProxyNotif", "req_id": "…"}`.

/// A frame that is no message of LMCache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a MessagePack map with texts `type` and `req_id`")]
pub struct BadNotice;

/// Lists and maps within one another, at most.
const DEPTH: u32 = 16;

/// The request whose KV has arrived; `None` for a message that says something else.
///
/// # Errors
/// When it is no message at all.
pub fn notified(frame: &[u8]) -> Result<Option<String>, BadNotice> {
    let mut reader = Reader(frame);
    let Value::Map(pairs) = reader.value()? else { return Err(BadNotice) };
    let (mut kind, mut request) = (None, None);
    for _ in 0..pairs {
        let key = reader.value()?;
        match key {
            Value::Text(b"type") => kind = Some(reader.text()?),
            Value::Text(b"req_id") => request = Some(reader.text()?),
            Value::Text(_) => reader.skip(DEPTH)?,
            _ => return Err(BadNotice),
        }
    }
    match (kind.ok_or(BadNotice)?, request, reader.0) {
        (_, _, [_, ..]) => Err(BadNotice),
        ("ProxyNotif", Some(request), []) => Ok(Some(request.to_owned())),
        ("ProxyNotif", None, []) => Err(BadNotice),
        (_, _, []) => Ok(None),
    }
}

struct Reader<'a>(&'a [u8]);

enum Value<'a> {
    Text(&'a [u8]),
    /// So many values follow.
    List(u32),
    /// So many pairs follow.
    Map(u32),
    Other,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], BadNotice> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(BadNotice)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of `width` bytes, the highest first.
    fn length(&mut self, width: usize) -> Result<u32, BadNotice> {
        Ok(self.bytes(width)?.iter().fold(0, |length, byte| length << 8 | u32::from(*byte)))
    }

    fn sized(&mut self, width: usize, beside: usize) -> Result<&'a [u8], BadNotice> {
        let length = self.length(width)? as usize;
        self.bytes(length.checked_add(beside).ok_or(BadNotice)?)
    }

    /// A value; of a list or a map its head alone.
    fn value(&mut self) -> Result<Value<'a>, BadNotice> {
        let head = self.bytes(1)?[0];
        Ok(match head {
            0x80..=0x8f => Value::Map(u32::from(head & 0x0f)),
            0x90..=0x9f => Value::List(u32::from(head & 0x0f)),
            0xa0..=0xbf => Value::Text(self.bytes(usize::from(head & 0x1f))?),
            0xd9..=0xdb => Value::Text(self.sized(1 << (head - 0xd9), 0)?),
            0xdc | 0xdd => Value::List(self.length(2 << (head - 0xdc))?),
            0xde | 0xdf => Value::Map(self.length(2 << (head - 0xde))?),
            _ => {
                match head {
                    0xc1 => return Err(BadNotice),
                    0xc4..=0xc6 => self.sized(1 << (head - 0xc4), 0)?,
                    // Extensions have a type beside their data.
                    0xc7..=0xc9 => self.sized(1 << (head - 0xc7), 1)?,
                    0xca => self.bytes(4)?,
                    0xcb => self.bytes(8)?,
                    0xcc..=0xcf => self.bytes(1 << (head - 0xcc))?,
                    0xd0..=0xd3 => self.bytes(1 << (head - 0xd0))?,
                    0xd4..=0xd8 => self.bytes((1 << (head - 0xd4)) + 1)?,
                    // nil, booleans and small numbers are their own head.
                    _ => &[],
                };
                Value::Other
            }
        })
    }

    fn text(&mut self) -> Result<&'a str, BadNotice> {
        match self.value()? {
            Value::Text(text) => std::str::from_utf8(text).map_err(|_| BadNotice),
            _ => Err(BadNotice),
        }
    }

    fn skip(&mut self, depth: u32) -> Result<(), BadNotice> {
        let inside = match self.value()? {
            Value::List(count) => u64::from(count),
            Value::Map(pairs) => 2 * u64::from(pairs),
            _ => return Ok(()),
        };
        let depth = depth.checked_sub(1).ok_or(BadNotice)?;
        // Each has a byte at least, so that a great number soon runs out of them.
        (0..inside).try_for_each(|_| self.skip(depth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_notice_names_its_request() {
        let short = b"\x82\xa4type\xaaProxyNotif\xa6req_id\xa242";
        assert_eq!(notified(short), Ok(Some("42".to_owned())));
        let long =
            [&b"\xde\x00\x02\xd9\x06req_id\xda\x00\x28"[..], &[b'x'; 40], b"\xa4type\xaaProxyNotif"].concat();
        assert_eq!(notified(&long), Ok(Some("x".repeat(40))));
    }

    #[test]
    fn what_else_it_says_is_passed_over() {
        for other in [
            &b"\xc0"[..],
            b"\x07",
            b"\xe0",
            b"\xc3",
            b"\xcd\x01\x02",
            b"\xd3\0\0\0\0\0\0\0\x01",
            b"\xcb\0\0\0\0\0\0\0\0",
            b"\xc4\x02ab",
            b"\xc7\x02\x05ab",
            b"\xd5\x05ab",
            b"\x92\x01\xa1x",
            b"\x81\xa1k\x91\x90",
            b"\xdc\x00\x01\xc2",
        ] {
            let frame = [&b"\x83\xa4type\xaaProxyNotif\xa5other"[..], other, b"\xa6req_id\xa17"].concat();
            assert_eq!(notified(&frame), Ok(Some("7".to_owned())), "{other:x?}");
        }
        assert_eq!(notified(b"\x81\xa4type\xacAllocRequest"), Ok(None));
    }

    #[test]
    fn what_is_no_notice_is_refused() {
        let deep = [&b"\x82\xa4type\xaaProxyNotif\xa1x"[..], &[0x91; 1000]].concat();
        for frame in [
            &b""[..],
            b"\x80",
            b"\x93\x01\x02\x03",
            b"\x82\xa4type\xaaProxyNotif",
            b"\x81\xa4type\xaaProxyNotif",
            b"\x82\xa4type\xaaProxyNotif\xa6req_id\x07",
            b"\x82\xa4type\xaaProxyNotif\xa6req_id\xa17tail",
            b"\x81\x07\x07",
            b"\x82\xa4type\xaaProxyNotif\xa1x\xdd\xff\xff\xff\xff",
            &deep,
        ] {
            assert_eq!(notified(frame), Err(BadNotice), "{frame:x?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = notified(&frame);
        }
    }
}
