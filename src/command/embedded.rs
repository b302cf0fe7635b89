//! The simulated cluster inside this process.

use super::{Error, Exit, Surroundings};
use crate::runtime::{Clock, Stop, StopHandle, Worker, stop_channel};
use crate::sim;
use std::io;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpSocket};

/// A running cluster; it ends with [`Embedded::stop`].
pub(super) struct Embedded {
    pub(super) address: SocketAddr,
    stop: StopHandle,
    worker: Worker<sim::Totals>,
}

impl Embedded {
    /// Starts the cluster on a free port of the loopback interface.
    pub(super) fn start(config: sim::Config, clock: Clock, world: &Surroundings) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            Error::new(Exit::Preflight, "cannot start the embedded cluster").caused_by(error)
        };
        let (address, listener) = listen_anywhere().map_err(failed)?;
        let (stop, signal) = stop_channel();
        let serving = async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => sim::run(listener, config, clock, None, signal).await,
                Err(_) => sim::Totals::default(),
            }
        };
        let worker = world.workers.start("sim", serving).map_err(failed)?;
        Ok(Self { address, stop, worker })
    }

    /// Stops the cluster and waits for its end.
    pub(super) async fn stop(self) -> sim::Totals {
        self.stop.ask(Stop::Now);
        self.worker.join().await.unwrap_or_default()
    }
}

/// A listener on a free loopback port, with room for a whole burst of connections.
fn listen_anywhere() -> io::Result<(SocketAddr, std::net::TcpListener)> {
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok((listener.local_addr()?, listener.into_std()?))
}

/// A listener that keeps up to 4096 connections waiting: the usual 128 would drop some of a burst.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}
