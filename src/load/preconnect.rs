//! Connections that are open before they are needed.

use super::connection::{Connection, connect_and_write, write_all};
use super::driver::Driver;
use super::shard::{Job, ShardContext};
use super::tls::Hello;
use super::{Idle, LoadError, SHARD};
use crate::wire::http1::{Part, ResponseReader};
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Connections that are opened at a time: a server's queue of those it has not yet taken is rarely longer.
const AT_A_TIME: usize = 128;

/// Opens so many connections to each place beside those that are open, on all shards by turns. Gives why some could
/// not be opened.
pub(super) async fn open_ahead(driver: &mut Driver, wanted: &[usize]) -> Result<Vec<String>, LoadError> {
    let mut missing: Vec<usize> = Vec::new();
    for (place, (idle, &count)) in driver.idle.iter_mut().zip(wanted).enumerate() {
        idle.retain(|idle| idle.connection.is_quiet());
        missing.extend(std::iter::repeat_n(place, count.saturating_sub(idle.len())));
    }
    let mut failures = Vec::new();
    let mut shards = (0..driver.shards.len()).cycle();
    for some in missing.chunks(AT_A_TIME) {
        let mut opening = Vec::with_capacity(some.len());
        for (&place, shard) in some.iter().zip(&mut shards) {
            let (reply, opened) = oneshot::channel();
            driver.shards[shard].send(Job::Connect(place, reply)).map_err(|_| SHARD)?;
            opening.push(opened);
        }
        for opened in opening {
            match opened.await.map_err(|_| SHARD)? {
                Ok(idle) => driver.idle[idle.place].push(idle),
                Err(why) => failures.push(why),
            }
        }
    }
    Ok(failures)
}

/// Opens one connection and greets on it, in the time that a connection may take.
pub(super) async fn open(shard: Arc<ShardContext>, place: usize) -> Result<Idle, String> {
    let patience = shard.config.timeouts.connect;
    let address = shard.config.places[place].address;
    let opened = timeout(patience, opened(&shard, place)).await;
    let failed = |why: String| format!("{address}: {why}");
    let connection =
        opened.unwrap_or_else(|_| Err(format!("no connection within {patience:?}"))).map_err(failed)?;
    Ok(Idle { shard: shard.number, place, connection })
}

async fn opened(shard: &ShardContext, place: usize) -> Result<Connection, String> {
    let words = |error: io::Error| error.to_string();
    let place = &shard.config.places[place];
    if let Some(tls) = &place.tls {
        let hello = Hello::new(tls).map_err(|error| error.to_string())?;
        let (socket, written) = connect_and_write(shard, place.address, &hello.bytes).await.map_err(words)?;
        let connection = hello.shake_hands(socket, written, shard).await?;
        return Ok(Connection::Tls(Box::new(connection)));
    }
    let greeting = place.greeting.as_deref().unwrap_or_default();
    let (socket, written) = connect_and_write(shard, place.address, greeting).await.map_err(words)?;
    write_all(&socket, &greeting[written..]).await.map_err(words)?;
    let mut connection = Connection::Plain(socket);
    if greeting.is_empty() || read_answer(shard, &mut connection).await? {
        return Ok(connection);
    }
    // It answers and closes: then it is left unused until its request comes.
    let (socket, _) = connect_and_write(shard, place.address, &[]).await.map_err(words)?;
    Ok(Connection::Plain(socket))
}

/// Reads the answer to a greeting, whatever it says; false when the connection ends with it.
async fn read_answer(shard: &ShardContext, connection: &mut Connection) -> Result<bool, String> {
    let mut response = ResponseReader::new(shard.config.read_limits.response);
    let mut keep_alive = false;
    loop {
        connection.socket().readable().await.map_err(|error| error.to_string())?;
        let mut buffer = shard.buffer();
        let received = match connection.try_read(&shard.stamp_clock, &mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.to_string()),
        };
        let mut bytes = received.bytes;
        while let Some(part) = response.next(&mut bytes).map_err(|error| error.to_string())? {
            match part {
                Part::Head(head) => keep_alive = head.keep_alive,
                Part::Body(_) => {}
                Part::End => return Ok(keep_alive && bytes.is_empty()),
            }
        }
        if received.end.is_some() {
            return Ok(false);
        }
    }
}
