use super::*;
use proptest::prelude::*;

/// Frames.
type Message = Vec<Vec<u8>>;

/// Feeds a stream in pieces of `size`; the reply and the messages.
fn feed(
    connection: &mut Connection,
    bytes: &[u8],
    size: usize,
) -> Result<(Vec<u8>, Vec<Message>), ZmtpError> {
    let (mut reply, mut messages) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(size) {
        connection.feed(piece, &mut reply, |message| messages.push(message))?;
    }
    Ok((reply, messages))
}

/// What libzmq 4.3 sends when a PUSH socket connects: version 3.1, and an empty identity beside its type.
fn push_peer() -> Vec<u8> {
    let mut bytes = greeting().to_vec();
    bytes[8] = 1;
    bytes[11] = 1;
    put_command(b"READY", b"\x0bSocket-Type\0\0\0\x04PUSH\x08Identity\0\0\0\0", &mut bytes);
    bytes
}

#[test]
fn a_greeting_is_64_bytes_of_version_3_without_a_mechanism() {
    let bytes = greeting();
    assert_eq!(&bytes[..16], b"\xff\0\0\0\0\0\0\0\0\x7f\x03\x00NULL");
    assert!(bytes[16..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_pull_socket_takes_messages_at_every_cut() {
    let long = vec![b'x'; 300];
    let mut stream = push_peer();
    stream.extend(message(&[b"a"]));
    stream.extend(message(&[b"", b"b", &long]));
    for size in [1, 2, 7, 63, 64, 65, 1000] {
        let mut pull = Connection::new(SocketType::Pull, 1000);
        let (reply, messages) = feed(&mut pull, &stream, size).unwrap();
        assert_eq!(messages, [vec![b"a".to_vec()], vec![vec![], b"b".to_vec(), long.clone()]], "{size}");
        assert_eq!(reply, b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PULL");
        assert!(pull.is_ready() && pull.held.is_empty());
    }
}

#[test]
fn push_and_pull_of_ours_understand_one_another() {
    let (mut pull, mut push) = (Connection::new(SocketType::Pull, 99), Connection::new(SocketType::Push, 99));
    let (to_push, _) = feed(&mut pull, &greeting(), 64).unwrap();
    let (to_pull, _) = feed(&mut push, &[&greeting()[..], &to_push].concat(), 5).unwrap();
    assert!(push.is_ready());
    let (_, messages) = feed(&mut pull, &[to_pull, message(&[b"hello"])].concat(), 5).unwrap();
    assert_eq!(messages, [[b"hello".to_vec()]]);
}

#[test]
fn a_heartbeat_is_answered_and_unknown_commands_passed_over() {
    let mut stream = push_peer();
    put_command(b"PING", b"\0\x64ctx", &mut stream);
    put_command(b"SUBSCRIBE", b"x", &mut stream);
    stream.extend(message(&[b"a"]));
    let mut pull = Connection::new(SocketType::Pull, 99);
    let (reply, messages) = feed(&mut pull, &stream, 9).unwrap();
    assert!(reply.ends_with(b"\x04\x08\x04PONGctx"), "{reply:?}");
    assert_eq!(messages.len(), 1);
}

#[test]
fn a_peer_that_cannot_be_talked_to_is_refused_with_why() {
    let ready = |kind: &[u8]| {
        let mut bytes = greeting().to_vec();
        let properties = [&b"\x0bSocket-Type\0\0\0"[..], &[kind.len() as u8], kind].concat();
        put_command(b"READY", &properties, &mut bytes);
        bytes
    };
    let with = |more: &[u8]| [&push_peer()[..], more].concat();
    let mut curve = greeting();
    curve[12..17].copy_from_slice(b"CURVE");
    let mut old = greeting();
    old[10] = 1;
    let mut refused = greeting().to_vec();
    put_command(b"ERROR", b"\x02no", &mut refused);
    for (bytes, says) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "does not speak ZMTP 3"),
        (old.to_vec(), "does not speak ZMTP 3"),
        (curve.to_vec(), "mechanism CURVE"),
        (ready(b"DEALER"), "socket is DEALER, where PUSH was expected"),
        (refused, "the peer says: no"),
        ([&greeting()[..], &message(&[b"a"])].concat(), "malformed handshake"),
        ([&greeting()[..], b"\x04\x05\x05READ"].concat(), "malformed command"),
        (with(b"\x80\x00"), "malformed frame"),
        (with(b"\x05\x00"), "malformed frame"),
        (with(&message(&[&[0; 101]])), "more than 100 bytes"),
        (with(&message(&[&[0; 60], &[0; 60]])), "more than 100 bytes"),
        (with(b"\x02\xff\xff\xff\xff\xff\xff\xff\xff"), "more than 100 bytes"),
        (with(b"\x04\x00"), "malformed command"),
        (with(&message(&vec![&b""[..]; 65])), "too many frames"),
    ] {
        for size in [1, 1000] {
            let mut pull = Connection::new(SocketType::Pull, 100);
            let error = feed(&mut pull, &bytes, size).unwrap_err().to_string();
            assert!(error.contains(says), "{error}: want {says}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_hoard(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        greeted: bool,
    ) {
        let stream = if greeted { [push_peer(), bytes].concat() } else { bytes };
        let mut pull = Connection::new(SocketType::Pull, 100);
        let mut reply = Vec::new();
        for piece in stream.chunks(3) {
            if pull.feed(piece, &mut reply, |_| ()).is_err() {
                break;
            }
            prop_assert!(pull.held.len() <= MAX_COMMAND + 12);
        }
    }
}
