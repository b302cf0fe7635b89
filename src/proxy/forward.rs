//! Heads on their way through: what of a client's head goes to an instance, and of an instance's to a client.

use crate::wire::Secret;
use crate::wire::dialect::Leg;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, CONNECTION, HeaderName};

/// Headers that concern one connection (RFC 9110 §7.6.1), and the framing, which each side makes for itself.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
];

/// Headers of a client that end here: the proxy writes its own, or they are for the proxy.
const OURS: &[&str] = &[
    "host",
    "content-type",
    "content-encoding",
    "accept-encoding",
    "expect",
    "x-request-id",
    "x-api-key",
    "x-pdbench-repeat-d-times",
];

fn is_hop_by_hop(headers: &HeaderMap, name: &HeaderName) -> bool {
    let named = |value: &hyper::header::HeaderValue| {
        let tokens = value.to_str().unwrap_or_default().split(',');
        tokens.into_iter().any(|token| token.trim().eq_ignore_ascii_case(name.as_str()))
    };
    HOP_BY_HOP.contains(&name.as_str()) || headers.get_all(CONNECTION).iter().any(named)
}

/// The lines of a client's head that go to the instances. With a key of their own the client's is not passed on.
pub(super) fn passed_lines(headers: &HeaderMap, key: Option<&Secret>) -> Vec<u8> {
    let mut lines = Vec::with_capacity(256);
    for (name, value) in headers {
        let ours = OURS.contains(&name.as_str()) || *name == AUTHORIZATION && key.is_some();
        if !ours && !is_hop_by_hop(headers, name) {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                lines.extend_from_slice(part);
            }
        }
    }
    lines.extend_from_slice(authorization(key).as_bytes());
    lines
}

/// The line that carries the instances' key, or nothing.
pub(super) fn authorization(key: Option<&Secret>) -> String {
    key.map_or_else(String::new, |key| format!("authorization: Bearer {}\r\n", key.expose()))
}

/// What of an instance's head goes to the client.
pub(super) fn passed_headers(headers: HeaderMap) -> HeaderMap {
    let dropped: Vec<HeaderName> =
        headers.keys().filter(|name| is_hop_by_hop(&headers, name)).cloned().collect();
    let mut passed = headers;
    for name in dropped {
        passed.remove(name);
    }
    passed
}

/// The head of a GET request; `lines` are whole header lines.
pub(super) fn get_head(path: &str, host: &str, lines: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{lines}accept-encoding: identity\r\n\r\n").into_bytes()
}

/// The head of a leg: its own headers before those of the client, which do not come twice.
pub(super) fn leg_head(leg: &Leg, host: &str, passed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(passed.len() + 512);
    for part in ["POST ", leg.path, " HTTP/1.1\r\nhost: ", host] {
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes.extend_from_slice(b"\r\ncontent-type: application/json\r\nx-request-id: ");
    bytes.extend_from_slice(leg.request_id.as_bytes());
    bytes.extend_from_slice(b"\r\n");
    for (name, value) in &leg.headers {
        for part in [*name, ": ", value, "\r\n"] {
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    for line in passed.split_inclusive(|&byte| byte == b'\n') {
        let own = |name: &str| {
            line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
        };
        if !leg.headers.iter().any(|(name, _)| own(name)) {
            bytes.extend_from_slice(line);
        }
    }
    let end = format!("accept-encoding: identity\r\ncontent-length: {}\r\n\r\n", leg.body.len());
    bytes.extend_from_slice(end.as_bytes());
    bytes
}

/// A client's `x-request-id`, where it can stand in a head.
pub(super) fn request_id(headers: &HeaderMap) -> Option<String> {
    let given = headers.get("x-request-id")?.to_str().ok()?;
    (!given.is_empty() && given.len() <= 256).then(|| given.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let pair =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        lines.iter().map(pair).collect()
    }

    #[test]
    fn what_concerns_one_connection_stays_there() {
        let headers = headers(&[
            ("connection", "keep-alive, X-Secret-Hop"),
            ("x-secret-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("traceparent", "00-1"),
        ]);
        assert_eq!(passed_lines(&headers, None), b"traceparent: 00-1\r\n");
        assert_eq!(
            passed_headers(headers).keys().map(HeaderName::as_str).collect::<Vec<_>>(),
            ["traceparent"]
        );
    }

    #[test]
    fn a_client_s_key_goes_on_only_where_the_instances_have_none() {
        let headers = headers(&[("authorization", "Bearer client"), ("x-api-key", "admin")]);
        assert_eq!(passed_lines(&headers, None), b"authorization: Bearer client\r\n");
        let key = Secret::new("instance");
        assert_eq!(passed_lines(&headers, Some(&key)), b"authorization: Bearer instance\r\n");
    }

    #[test]
    fn a_leg_s_own_header_replaces_the_client_s() {
        let leg = Leg {
            path: "/v1/completions",
            request_id: "r".to_owned(),
            headers: vec![("x-data-parallel-rank", "2".to_owned())],
            body: b"{}".to_vec(),
        };
        let bytes = leg_head(&leg, "p:1", b"X-Data-Parallel-Rank: 9\r\nx-data: 1\r\n");
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(
            text,
            "POST /v1/completions HTTP/1.1\r\nhost: p:1\r\ncontent-type: application/json\r\nx-request-id: r\r\n\
             x-data-parallel-rank: 2\r\nx-data: 1\r\naccept-encoding: identity\r\ncontent-length: 2\r\n\r\n"
        );
    }

    #[test]
    fn a_request_id_that_cannot_stand_in_a_head_is_none() {
        assert_eq!(request_id(&headers(&[("x-request-id", "a-1")])), Some("a-1".to_owned()));
        for bad in ["", &"x".repeat(257)] {
            assert_eq!(request_id(&headers(&[("x-request-id", bad)])), None);
        }
    }
}
