//! Holds `wire::zmtp` against another implementation; `scripts/zmtp-check.py` drives it.
//!
//! `zmtp pull` listens, prints its port and then the request of every notice, a line each.
//! `zmtp push PORT` connects, gives one message of two frames, the second long, and ends.

#![allow(clippy::print_stdout, reason = "a program for a script to read")]

use pdbench::wire::zmtp::{Connection, SocketType, greeting, message, notified};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

/// Reads until `done`, or the end; every message goes to `sink`.
fn talk(
    stream: &mut TcpStream,
    connection: &mut Connection,
    mut sink: impl FnMut(Vec<Vec<u8>>),
    done: fn(&Connection) -> bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut buffer = [0; 4096];
    while !done(connection) {
        let count = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            // A peer that closes with an answer to its heartbeat unread resets the connection.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error.into()),
        };
        let mut reply = Vec::new();
        connection.feed(&buffer[..count], &mut reply, &mut sink)?;
        stream.write_all(&reply)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["pull"] => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            println!("{}", listener.local_addr()?.port());
            let (mut stream, _) = listener.accept()?;
            stream.write_all(&greeting())?;
            let mut connection = Connection::new(SocketType::Pull, 1 << 16);
            let sink = |frames: Vec<Vec<u8>>| {
                for frame in frames {
                    println!("{:?}", notified(&frame));
                }
            };
            talk(&mut stream, &mut connection, sink, |_| false)
        }
        ["push", port] => {
            let mut stream = TcpStream::connect(("127.0.0.1", port.parse()?))?;
            stream.write_all(&greeting())?;
            let mut connection = Connection::new(SocketType::Push, 1 << 16);
            talk(&mut stream, &mut connection, |_| (), Connection::is_ready)?;
            stream.write_all(&message(&[b"first", &[b'x'; 300]]))?;
            Ok(())
        }
        _ => Err("want `pull`, or `push PORT`".into()),
    }
}
