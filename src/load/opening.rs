//! Opening the connection of one request: socket, the way through an HTTP proxy, TLS.

use super::connection::{Connection, connect_and_write, connect_failure};
use super::stream::Stream;
use super::tls::Hello;
use super::tunnel;
use crate::measure::{EndedIn, Offset, TransportEnd};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::timeout_at;

impl Stream {
    /// Opens a connection and writes as much of the request as it takes at once; under TLS, nothing of it.
    pub(super) async fn connect(&mut self) -> Result<(Connection, usize), TransportEnd> {
        let shard = Arc::clone(&self.shard);
        let give_up = shard.stamp_clock.now() + shard.config.timeouts.connect;
        let place = &shard.config.places[self.place()];
        let Some(tls) = &place.tls else {
            let (pass, made) = (Arc::clone(&self.pass), self.led.made());
            let bytes = self.led.bytes(&pass.requests[self.turn.index], made.as_deref());
            let (socket, written) = self.open_socket(bytes, give_up).await?;
            return Ok((Connection::Plain(socket), written));
        };
        let hello = Hello::new(tls).map_err(|error| {
            self.reading().explain(|| format!("TLS cannot begin: {error}"));
            TransportEnd::Tls
        })?;
        let asked = place.tunnel.as_deref();
        let (socket, mut written) = self.open_socket(asked.unwrap_or(&hello.bytes), give_up).await?;
        let (deadline, deadline_end) = self.deadline();
        let until = shard.config.clock.at(give_up.min(deadline).into());
        if let Some(asked) = asked {
            let why = match timeout_at(until, tunnel::dig(&socket, asked, written, &shard)).await {
                Ok(Ok(())) => None,
                Ok(Err(why)) => Some((why, TransportEnd::Refused)),
                Err(_) if deadline < give_up => return Err(deadline_end),
                Err(_) => {
                    Some(("the HTTP proxy does not answer CONNECT".into(), TransportEnd::ConnectTimeout))
                }
            };
            if let Some((why, end)) = why {
                self.reading().explain(|| why);
                return Err(end);
            }
            written = 0;
        }
        self.reading().reached(EndedIn::Tls);
        match timeout_at(until, hello.shake_hands(socket, written, &shard)).await {
            Ok(Ok(connection)) => Ok((Connection::Tls(Box::new(connection)), 0)),
            Ok(Err(why)) => {
                self.reading().explain(|| why);
                Err(TransportEnd::Tls)
            }
            Err(_) if deadline < give_up => Err(deadline_end),
            Err(_) => {
                let waited = shard.config.timeouts.connect;
                self.reading().explain(|| format!("connected, but no TLS handshake within {waited:?}"));
                Err(TransportEnd::Tls)
            }
        }
    }

    /// Opens a socket and writes as much of the first bytes as it takes at once.
    async fn open_socket(
        &mut self,
        first: &[u8],
        patience: Offset,
    ) -> Result<(TcpStream, usize), TransportEnd> {
        let shard = Arc::clone(&self.shard);
        let address = shard.config.places[self.place()].address;
        let opening = connect_and_write(&shard, address, first);
        let (deadline, deadline_end) = self.deadline();
        self.reading().reached(EndedIn::Connect);
        match timeout_at(shard.config.clock.at(patience.min(deadline).into()), opening).await {
            Ok(Ok(opened)) => {
                self.record().connected = Some(shard.stamp_clock.now());
                Ok(opened)
            }
            Ok(Err(error)) => {
                self.reading().explain(|| format!("cannot connect: {error}"));
                Err(connect_failure(&error))
            }
            Err(_) if deadline < patience => Err(deadline_end),
            Err(_) => {
                let waited = shard.config.timeouts.connect;
                self.reading().explain(|| format!("no connection within {waited:?}"));
                Err(TransportEnd::ConnectTimeout)
            }
        }
    }
}
