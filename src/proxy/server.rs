//! Connections of clients: accept, serve, and end as asked.

use super::Proxy;
use super::http;
use crate::runtime::{Stop, StopSignal};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Wait after a failed accept, which mostly means that this process has no file descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);
/// Largest head of a request, and most bytes that hyper holds back of an answer whose client does not read.
const BUFFER: usize = 64 << 10;

/// Serves on `listener` until `stop`.
pub(super) async fn serve(listener: TcpListener, proxy: Arc<Proxy>, mut stop: StopSignal) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.reached(Stop::Drain) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, Arc::clone(&proxy), stop.clone()));
                }
                Err(_) => sleep(ACCEPT_AGAIN).await,
            },
        }
    }
    drop(listener);
    loop {
        tokio::select! {
            biased;
            () = stop.reached(Stop::Now) => break,
            ended = connections.join_next() => if ended.is_none() { return },
        }
    }
    connections.shutdown().await;
}

/// One connection, to its end or until `stop` drains it.
async fn converse(stream: TcpStream, proxy: Arc<Proxy>, mut stop: StopSignal) {
    // Without it the kernel may hold an event back; where it cannot be set the events are only later.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| http::answer(Arc::clone(&proxy), request));
    let builder = http1::Builder::new().max_buf_size(BUFFER).serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(builder);
    // When it breaks off, everything of its request is dropped with it: both legs end at once.
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = stop.reached(Stop::Drain) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
