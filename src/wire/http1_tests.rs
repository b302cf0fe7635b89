use super::*;
use proptest::prelude::*;

/// Reads a response cut into pieces: head, body, whether it ended, bytes left over.
fn read(pieces: &[&[u8]]) -> Result<(Option<Head>, Vec<u8>, bool, usize), Http1Error> {
    let mut reader = ResponseReader::new(Limits { head: 1000, body: 1000 });
    let (mut head, mut body, mut ended, mut left) = (None, Vec::new(), false, 0);
    for piece in pieces {
        let mut input = *piece;
        while let Some(part) = reader.next(&mut input)? {
            match part {
                Part::Head(parsed) => head = Some(parsed),
                Part::Body(bytes) => body.extend_from_slice(bytes),
                Part::End => ended = true,
            }
        }
        left += input.len();
    }
    Ok((head, body, ended, left))
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n\
    5\r\nhello\r\n7;ext=1\r\n, world\r\n0\r\nx-trailer: 1\r\n\r\n";

#[test]
fn each_framing_gives_its_body() {
    let table = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "hello", true, true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "", true, true),
        ("HTTP/1.1 200 OK\r\n\r\nhello", "hello", false, false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx", "x", true, false),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx", "x", true, false),
        ("HTTP/1.1 204 No Content\r\n\r\n", "", true, true),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", "x", true, true),
        ("HTTP/1.1 200 OK\ncontent-length: 1\n\nx", "x", true, true),
        (CHUNKED, "hello, world", true, true),
    ];
    for (response, body, ended, keep_alive) in table {
        let (head, got, end, left) = read(&[response.as_bytes()]).unwrap();
        assert_eq!((got.as_slice(), end, left), (body.as_bytes(), ended, 0), "{response}");
        assert_eq!(head.unwrap().keep_alive, keep_alive, "{response}");
    }
}

#[test]
fn a_cut_body_is_not_whole() {
    for (response, whole) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell", false),
        ("HTTP/1.1 200 OK\r\n\r\nhell", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", false),
        ("HTTP/1.1 200 OK\r\ntransfer-enc", false),
    ] {
        let mut reader = ResponseReader::new(Limits::default());
        let mut input = response.as_bytes();
        while reader.next(&mut input).unwrap().is_some() {}
        assert_eq!(reader.closed(), whole, "{response}");
    }
}

#[test]
fn what_is_no_response_is_refused() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(2000));
    for response in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n".to_owned().leak(),
        &long,
    ] {
        let big_body = "z".repeat(4000);
        assert!(read(&[response.as_bytes(), big_body.as_bytes()]).is_err(), "{response}");
    }
}

proptest! {
    #[test]
    fn a_response_reads_the_same_however_it_is_cut(
        cuts in proptest::collection::vec(0..CHUNKED.len(), 0..20),
    ) {
        let mut places = cuts;
        places.extend([0, CHUNKED.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> =
            places.windows(2).map(|pair| &CHUNKED.as_bytes()[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read(&pieces), read(&[CHUNKED.as_bytes()]));
    }
}
