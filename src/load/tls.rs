use super::connection::{Close, Received, write_all};
use super::shard::ShardContext;
use super::stamp::{Arrived, ReadBuffer, StampClock};
use crate::wire::{Tls, tls_fault};
use rustls::{ClientConnection, Error};
use std::io::{self, BufRead, IoSlice, Write};
use std::sync::Arc;
use tokio::net::TcpStream;

/// TLS over a socket whose reads stay stamped reads: rustls is handed the bytes and never sees the socket.
pub(super) struct TlsConnection {
    socket: TcpStream,
    session: ClientConnection,
    open: bool,
}

/// TLS before its connection: the first words of the handshake are to go out with the connect.
pub(super) struct Hello {
    session: ClientConnection,
    /// To be sent first.
    pub(super) bytes: Vec<u8>,
}

/// The socket as rustls writes to it.
struct Wire<'a>(&'a TcpStream);

impl Hello {
    pub(super) fn new(tls: &Tls) -> Result<Self, Error> {
        let mut session = ClientConnection::new(Arc::clone(tls.config()), tls.server_name().clone())?;
        let mut bytes = Vec::new();
        session.write_tls(&mut bytes).map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { session, bytes })
    }

    /// Carries the handshake through on a connection that has sent `written` of the bytes; else says why not.
    pub(super) async fn shake_hands(
        self,
        socket: TcpStream,
        written: usize,
        shard: &ShardContext,
    ) -> Result<TlsConnection, String> {
        let broke = |error: io::Error| format!("the connection broke in the TLS handshake: {error}");
        write_all(&socket, &self.bytes[written..]).await.map_err(broke)?;
        let mut connection = TlsConnection { socket, session: self.session, open: true };
        while connection.session.is_handshaking() {
            connection.socket.readable().await.map_err(broke)?;
            match connection.try_read(&shard.stamp_clock, &mut shard.buffer()) {
                Ok(Received { end: Some(Close::Fault(why)), .. }) => return Err(why),
                Ok(Received { end: Some(_), .. }) => {
                    return Err("the server closed the connection in the TLS handshake".to_owned());
                }
                Ok(Received { bytes: [], .. }) => {}
                Ok(_) => return Err("the server answered before it was asked".to_owned()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(broke(error)),
            }
        }
        // The last words of the handshake, where the socket had no room for them, go out before the request.
        Ok(connection)
    }
}

impl TlsConnection {
    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn owes_bytes(&self) -> bool {
        self.session.wants_write()
    }

    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.session.writer().write(bytes)?;
        match self.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && 0 < taken => Ok(taken),
            flushed => flushed.map(|()| taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut Wire(&self.socket))?;
        }
        Ok(())
    }

    pub(super) fn try_read<'a>(
        &mut self,
        stamp_clock: &StampClock,
        buffer: &'a mut ReadBuffer,
    ) -> io::Result<Received<'a>> {
        let Arrived { count, at, stamps } = stamp_clock.try_read(&self.socket, buffer)?;
        let (ciphertext, plaintext) = buffer.ciphertext_and_plaintext(count);
        plaintext.clear();
        let end = match count {
            0 => Some(Close::Unannounced),
            _ => self.decrypt(ciphertext, plaintext),
        };
        self.open = end.is_none();
        // An alert, or an answer to a change of keys; what finds no room goes out with the next write.
        let _ = self.flush();
        Ok(Received { bytes: plaintext, at, stamps, end })
    }

    fn decrypt(&mut self, mut ciphertext: &[u8], plaintext: &mut Vec<u8>) -> Option<Close> {
        while !ciphertext.is_empty() {
            if let Err(error) = self.session.read_tls(&mut ciphertext) {
                return Some(Close::Fault(error.to_string()));
            }
            let processed = self.session.process_new_packets();
            let mut reader = self.session.reader();
            while let Ok(piece @ [_, ..]) = reader.fill_buf() {
                plaintext.extend_from_slice(piece);
                let len = piece.len();
                reader.consume(len);
            }
            match processed {
                Err(error) => return Some(Close::Fault(tls_fault(&error))),
                Ok(state) if state.peer_has_closed() => return Some(Close::Whole),
                Ok(_) => {}
            }
        }
        None
    }
}

impl Drop for TlsConnection {
    /// Says goodbye, as far as the socket has room: a server may complain of those who leave without.
    fn drop(&mut self) {
        self.session.send_close_notify();
        let _ = self.flush();
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
