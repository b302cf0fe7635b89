//! Requests to instances: over a kept-alive connection where one is idle, and read by the task that hands the answer
//! on, so that a piece of it costs one wake, one read and one write.

use super::answer::{Answer, read_head};
use super::config::Timeouts;
use super::instance::Instance;
use super::leg::{FaultKind, LegFault, LegWatch};
use crate::cluster::Node;
use crate::runtime::lock;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

/// Most idle connections kept to one instance.
const MOST_IDLE: usize = 4096;
/// Longest that one is kept without use.
const LONGEST_IDLE: Duration = Duration::from_secs(60);
/// A kept-alive connection that closes within this after a send had been closed before it.
const STALE_WITHIN: Duration = Duration::from_secs(1);

/// A request as it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    /// With the blank line at its end.
    pub head: &'a [u8],
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// A request without a body.
    pub fn bare(head: &'a [u8]) -> Self {
        Self { head, body: &[] }
    }
}

/// Idle connections to one instance, the freshest last.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Idle>);

#[derive(Debug, Default)]
struct Idle {
    /// With the instant since which each is idle.
    connections: Vec<(Instant, TcpStream)>,
    closed: bool,
}

impl Pool {
    /// The freshest one on which the instance has said nothing: a byte or an end there means that it is done with it.
    /// And whether it was done with one.
    fn take(&self) -> (Option<TcpStream>, bool) {
        let mut idle = lock(&self.0);
        let mut closed = false;
        while let Some((_, connection)) = idle.connections.pop() {
            if is_quiet(&connection) {
                return (Some(connection), closed);
            }
            closed = true;
        }
        (None, closed)
    }

    /// Drops those that the instance is done with, and those that nobody needed for a minute.
    pub fn sweep(&self) {
        lock(&self.0)
            .connections
            .retain(|(since, connection)| since.elapsed() < LONGEST_IDLE && is_quiet(connection));
    }

    /// Takes a connection into keeping.
    pub fn put(&self, connection: TcpStream) {
        let mut idle = lock(&self.0);
        if idle.connections.len() < MOST_IDLE && !idle.closed {
            idle.connections.push((Instant::now(), connection));
        }
    }

    pub fn len(&self) -> usize {
        lock(&self.0).connections.len()
    }

    pub fn clear(&self) {
        lock(&self.0).connections.clear();
    }

    /// Keeps nothing from now on.
    pub fn close(&self) {
        let mut idle = lock(&self.0);
        idle.closed = true;
        idle.connections.clear();
    }
}

/// Whether the other side has said nothing, not even that it closed.
fn is_quiet(connection: &TcpStream) -> bool {
    matches!(connection.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Sends `request`, head and body, and waits for the head of the answer. Only where a kept-alive connection turns out
/// to have been closed before the instance saw the request is it sent a second time.
pub(super) async fn call(
    instance: &Arc<Instance>,
    request: &Request<'_>,
    timeouts: &Timeouts,
) -> Result<Answer, LegFault> {
    watched_call(LegWatch::start(instance), request, timeouts).await
}

/// The same for a question that is no leg.
pub(super) async fn ask(
    instance: &Arc<Instance>,
    request: &Request<'_>,
    timeouts: &Timeouts,
) -> Result<Answer, LegFault> {
    watched_call(LegWatch::errand(instance), request, timeouts).await
}

async fn watched_call(
    watch: LegWatch,
    request: &Request<'_>,
    timeouts: &Timeouts,
) -> Result<Answer, LegFault> {
    let instance = Arc::clone(&watch.instance);
    let (kept, closed) = instance.pool.take();
    if closed {
        // It may have been started anew.
        instance.suspicion.notify_one();
    }
    if let Some(kept) = kept {
        let sent = Instant::now();
        match exchange(kept, request, timeouts).await {
            Err(Failure { fault, untouched })
                if untouched && fault.kind == FaultKind::Cut && sent.elapsed() < STALE_WITHIN =>
            {
                instance.stats.stale_retries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                instance.suspicion.notify_one();
            }
            answered => {
                return Answer::of(answered.map_err(|failure| failure.fault), watch, timeouts.idle);
            }
        }
    }
    let answered = match connect(&instance, timeouts.connect).await {
        Ok(fresh) => exchange(fresh, request, timeouts).await.map_err(|failure| failure.fault),
        Err(fault) => Err(fault),
    };
    Answer::of(answered, watch, timeouts.idle)
}

/// Opens a connection ahead where none is idle, so that a leg to come finds one.
pub(super) async fn warm(instance: &Arc<Instance>, timeouts: &Timeouts) {
    if instance.pool.len() == 0
        && let Ok(connection) = connect(instance, timeouts.connect).await
    {
        instance.pool.put(connection);
    }
}

/// Opens a connection; an instance to which there is none is down.
pub(super) async fn connect(instance: &Instance, longest: Duration) -> Result<TcpStream, LegFault> {
    let started = Instant::now();
    let node = instance.node();
    let opened = match timeout(longest, open(&node)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(LegFault::new(FaultKind::Connect, format!("cannot connect: {error}"))),
        Err(_) => Err(LegFault::new(FaultKind::Connect, format!("no connection within {longest:?}"))),
    };
    match opened {
        Ok(connection) => {
            instance.stats.connected(started.elapsed());
            Ok(connection)
        }
        Err(fault) => {
            instance.mark_down(&fault.message);
            Err(fault)
        }
    }
}

/// Names are resolved at each connection, so that an instance may move.
async fn open(node: &Node) -> io::Result<TcpStream> {
    let connection = match node.host.parse::<IpAddr>() {
        Ok(address) => TcpStream::connect(SocketAddr::new(address, node.port)).await?,
        Err(_) => {
            let mut last = None;
            let mut opened = None;
            for address in lookup_host((node.host.as_str(), node.port)).await? {
                match TcpStream::connect(address).await {
                    Ok(connection) => {
                        opened = Some(connection);
                        break;
                    }
                    Err(error) => last = Some(error),
                }
            }
            let nowhere = || io::Error::other("the name has no address");
            opened.ok_or_else(|| last.unwrap_or_else(nowhere))?
        }
    };
    connection.set_nodelay(true)?;
    Ok(connection)
}

/// The head of an answer, and the connection it came on.
pub(super) struct Read {
    pub connection: TcpStream,
    pub head: super::answer::Head,
    /// The request was not taken whole: the connection carries no other.
    pub unsent: bool,
}

pub(super) struct Failure {
    pub fault: LegFault,
    /// Nothing of an answer came.
    untouched: bool,
}

/// Sends on this connection, and reads the head of the answer.
pub(super) async fn exchange(
    connection: TcpStream,
    request: &Request<'_>,
    timeouts: &Timeouts,
) -> Result<Read, Failure> {
    let mut bytes = Vec::new();
    let answered = timeout(timeouts.head, async {
        let unsent = tokio::select! {
            biased;
            written = write_all(&connection, request.head, request.body) => { written?; false }
            // An answer before the request is whole is a refusal: the rest is kept back.
            read = read_some(&connection, &mut bytes) => { read?; true }
        };
        let head = read_head(&connection, &mut bytes).await?;
        Ok((head, unsent))
    });
    let fault = match answered.await {
        Ok(Ok((head, unsent))) => return Ok(Read { connection, head, unsent }),
        Ok(Err(fault)) => fault,
        Err(_) => LegFault::new(FaultKind::Timeout, format!("no answer within {:?}", timeouts.head)),
    };
    Err(Failure { fault, untouched: bytes.is_empty() })
}

/// The status of an answer to a request outside of any leg.
pub(super) async fn status(
    connection: TcpStream,
    request: &Request<'_>,
    timeouts: &Timeouts,
) -> Result<u16, LegFault> {
    let answered = exchange(connection, request, timeouts).await;
    answered.map(|read| read.head.status()).map_err(|failure| failure.fault)
}

pub(super) fn cut(error: &io::Error) -> LegFault {
    LegFault::new(FaultKind::Cut, format!("the connection broke: {error}"))
}

/// Head and body in one call where they fit.
async fn write_all(connection: &TcpStream, mut head: &[u8], mut body: &[u8]) -> Result<(), LegFault> {
    while !head.is_empty() || !body.is_empty() {
        match connection.try_write_vectored(&[IoSlice::new(head), IoSlice::new(body)]) {
            Ok(count) => {
                let of_head = count.min(head.len());
                head = &head[of_head..];
                body = &body[count - of_head..];
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                connection.writable().await.map_err(|error| cut(&error))?;
            }
            Err(error) => return Err(cut(&error)),
        }
    }
    Ok(())
}

/// Appends what has come, at least a byte.
pub(super) async fn read_some(connection: &TcpStream, into: &mut Vec<u8>) -> Result<(), LegFault> {
    loop {
        into.reserve(4096);
        match connection.try_read_buf(into) {
            Ok(0) => return Err(LegFault::new(FaultKind::Cut, "it closed the connection without an answer")),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                connection.readable().await.map_err(|error| cut(&error))?;
            }
            Err(error) => return Err(cut(&error)),
        }
    }
}
