use super::shard::ShardContext;
use super::stamp::{Arrived, ReadBuffer, StampClock};
use super::tls::TlsConnection;
use crate::measure::{Offset, Stamps, TransportEnd};
use nix::errno::Errno;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// An open connection to the target.
pub(super) enum Connection {
    /// Bytes as they are.
    Plain(TcpStream),
    /// Bytes under TLS, after its handshake.
    Tls(Box<TlsConnection>),
}

/// What one read from the socket gave.
pub(super) struct Received<'a> {
    /// Bytes of the response …
    pub(super) bytes: &'a [u8],
    /// … when the last of them arrived …
    pub(super) at: Offset,
    /// … and who says so.
    pub(super) stamps: Stamps,
    /// What became of the connection after them.
    pub(super) end: Option<Close>,
}

/// How a connection came to its end.
pub(super) enum Close {
    /// The server has said everything.
    Whole,
    /// The server is gone without the word by which TLS tells an end from a cut.
    Unannounced,
    /// What came is no TLS, or TLS of a server that is not accepted: the fault in words.
    Fault(String),
}

impl Connection {
    /// The socket underneath, to wait for.
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Connection::Plain(socket) => socket,
            Connection::Tls(tls) => tls.socket(),
        }
    }

    /// True while the server has nothing to say: a byte or an end on an idle connection means that it is done with
    /// it. (What TLS says after its handshake was read with the response before.) A byte that is there is lost.
    pub(super) fn is_quiet(&self) -> bool {
        let read = self.socket().try_read(&mut [0]);
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// False once the server has ended the connection.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Connection::Plain(_) => true,
            Connection::Tls(tls) => tls.is_open(),
        }
    }

    /// Takes bytes to be sent, as many as there is room for.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Connection::Plain(socket) => socket.try_write(bytes),
            Connection::Tls(tls) => tls.try_write(bytes),
        }
    }

    /// True while bytes that were taken wait for room in the socket.
    pub(super) fn owes_bytes(&self) -> bool {
        match self {
            Connection::Plain(_) => false,
            Connection::Tls(tls) => tls.owes_bytes(),
        }
    }

    /// Reads once, without waiting. Under TLS the stamp is that of the bytes that carried the plain ones.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing to read; the socket's own errors.
    pub(super) fn try_read<'a>(
        &mut self,
        stamp_clock: &StampClock,
        buffer: &'a mut ReadBuffer,
    ) -> io::Result<Received<'a>> {
        match self {
            Connection::Plain(socket) => {
                let Arrived { count, at, stamps } = stamp_clock.try_read(socket, buffer)?;
                let end = (count == 0).then_some(Close::Whole);
                Ok(Received { bytes: buffer.bytes(count), at, stamps, end })
            }
            Connection::Tls(tls) => tls.try_read(stamp_clock, buffer),
        }
    }
}

/// Opens a connection; where it is open at once, as on this machine, the first bytes go out in the same breath
/// instead of after the next round of the reactor. Gives the number of those written so far.
pub(super) async fn connect_and_write(
    shard: &ShardContext,
    address: SocketAddr,
    bytes: &[u8],
) -> io::Result<(TcpStream, usize)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_tcp_nodelay(true)?;
    shard.stamp_clock.prepare(&socket);
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let written = match socket.send(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        sent => Some(sent?),
    };
    let connection = TcpStream::from_std(socket.into())?;
    if written.is_none() {
        connection.writable().await?;
        if let Some(error) = connection.take_error()? {
            return Err(error);
        }
    }
    Ok((connection, written.unwrap_or(0)))
}

/// Writes all of it, as the socket takes it.
pub(super) async fn write_all(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        socket.writable().await?;
        match socket.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What the operating system's refusal to connect means.
pub(super) fn connect_failure(error: &io::Error) -> TransportEnd {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRNOTAVAIL | Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
            TransportEnd::ClientPorts
        }
        Some(Errno::ETIMEDOUT) => TransportEnd::ConnectTimeout,
        // From the first write: the connection had been open.
        Some(Errno::ECONNRESET | Errno::EPIPE) => TransportEnd::Reset,
        _ => TransportEnd::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_ran_out_of_is_no_fault_of_the_server() {
        let of = |errno: Errno| connect_failure(&io::Error::from_raw_os_error(errno as i32));
        for errno in [Errno::EADDRNOTAVAIL, Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM] {
            assert_eq!(of(errno), TransportEnd::ClientPorts, "{errno}");
        }
        for errno in [Errno::ECONNREFUSED, Errno::EHOSTUNREACH, Errno::ENETUNREACH] {
            assert_eq!(of(errno), TransportEnd::Refused, "{errno}");
        }
        assert_eq!(
            (of(Errno::ETIMEDOUT), of(Errno::ECONNRESET)),
            (TransportEnd::ConnectTimeout, TransportEnd::Reset)
        );
    }
}
