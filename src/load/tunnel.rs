//! The way through an HTTP proxy: asked for in the clear, and from its answer on as good as a connection to the target.

use super::connection::write_all;
use super::shard::ShardContext;
use super::stamp::Arrived;
use crate::wire::http1::{Part, ResponseReader};
use std::io;
use tokio::net::TcpStream;

/// Has the proxy open a way on a connection to it that has sent `written` of what it is asked with; else says why not.
pub(super) async fn dig(
    socket: &TcpStream,
    asked: &[u8],
    written: usize,
    shard: &ShardContext,
) -> Result<(), String> {
    let broke = |error: io::Error| format!("the connection to the HTTP proxy broke: {error}");
    write_all(socket, &asked[written..]).await.map_err(broke)?;
    let mut response = ResponseReader::new(shard.config.read_limits.response);
    loop {
        socket.readable().await.map_err(broke)?;
        let mut buffer = shard.buffer();
        let Arrived { count, .. } = match shard.stamp_clock.try_read(socket, &mut buffer) {
            Ok(arrived) => arrived,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(broke(error)),
        };
        if count == 0 {
            return Err("the HTTP proxy closed the connection instead of answering CONNECT".to_owned());
        }
        let mut bytes = buffer.bytes(count);
        let part = response.next(&mut bytes);
        match part.map_err(|error| format!("the HTTP proxy answers CONNECT with nonsense: {error}"))? {
            Some(Part::Head(head)) if (200..300).contains(&head.status) && bytes.is_empty() => return Ok(()),
            Some(Part::Head(head)) if (200..300).contains(&head.status) => {
                return Err("more came through the HTTP proxy than was asked for".to_owned());
            }
            Some(Part::Head(head)) => {
                return Err(format!("the HTTP proxy answers CONNECT with status {}", head.status));
            }
            _ => {}
        }
    }
}
