//! Parsers of what others say: whatever comes, no panic, no endless loop, and no more memory than the input explains.
//! `scripts/fuzz.sh` runs these for minutes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use pdbench::cluster::{Node, Topology};
use pdbench::report::{read_journal, read_run_file};
use pdbench::wire::http1::{Limits, Part, ResponseReader};
use pdbench::wire::openai::{ChunkReader, read_answer};
use pdbench::wire::prometheus::Scrape;
use pdbench::wire::sse::Splitter;
use pdbench::wire::{HttpProxy, Object};
use proptest::prelude::*;

/// Bytes made of pieces that a parser looks for, and of any others between them.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&'static [u8]> = vec![
        b"data: ",
        b"data:",
        b"event: error",
        b"\n\n",
        b"\r\n\r\n",
        b"\r",
        b": ping\n",
        b"[DONE]",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b"\\u00",
        b"\\ud800",
        b":",
        b",",
        b"null",
        b"\"choices\":[{\"text\":\"",
        b"\"usage\":{\"completion_tokens\":",
        b"HTTP/1.1 200 OK\r\n",
        b"content-length: ",
        b"transfer-encoding: chunked\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"0\r\n\r\n",
        b"# TYPE a counter\n",
        b"a{le=\"+Inf\"} ",
        b"NaN",
        b"1e999",
        b"-0",
        b"18446744073709551616",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"{\"i\":1,\"kind\":\"main\"",
        b"\"events_us\":[1e308,1e308]",
        b"2p",
        b"4d",
        b"[::1]:",
        b",tp=",
        b"host:80",
    ];
    let piece = prop_oneof![
        4 => proptest::sample::select(known).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn text_formats_take_or_refuse_anything(bytes in hostile()) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = Scrape::parse(&text);
        let _ = HttpProxy::parse(&text);
        let _ = text.parse::<Node>();
        let _ = text.parse::<Topology>();
        let _ = read_run_file(&bytes);
        let _ = read_answer(&bytes);
        if let Ok(object) = Object::parse(&bytes) {
            prop_assert!(Object::parse(&object.to_bytes()).is_ok());
        }
    }

    #[test]
    fn a_journal_gives_whole_lines_and_counts_at_most_one_torn(bytes in hostile()) {
        if let Ok(back) = read_journal(&bytes) {
            prop_assert!(back.records.len() <= bytes.len() && back.torn <= 1);
        }
    }

    #[test]
    fn a_stream_has_no_more_in_it_than_came(bytes in hostile(), cut in 1..9_usize) {
        let (mut splitter, mut chunks, mut seen) = (Splitter::new(1 << 10), ChunkReader::default(), 0);
        for piece in bytes.chunks(cut) {
            let fed = splitter.feed(piece, |event| {
                seen += event.data.len();
                let _ = chunks.read(event.data);
            });
            if fed.is_err() {
                return Ok(());
            }
        }
        splitter.finish(|event| seen += event.data.len());
        prop_assert!(seen <= bytes.len());
    }

    #[test]
    fn a_response_ends_or_asks_for_more(bytes in hostile(), cut in 1..9_usize) {
        let mut reader = ResponseReader::new(Limits::default());
        let mut body = 0;
        for piece in bytes.chunks(cut) {
            let mut left = piece;
            loop {
                match reader.next(&mut left) {
                    Ok(Some(Part::Body(piece))) => body += piece.len(),
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return Ok(()),
                }
            }
        }
        prop_assert!(body <= bytes.len());
    }
}
