//! Connections of clients.

use super::Proxy;
use super::http;
use crate::runtime::{self, Stop, StopSignal};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::pin::pin;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};

/// Largest head of a request, and most bytes that hyper holds back of an answer whose client does not read.
const BUFFER: usize = 64 << 10;

/// Serves on `listener` until `stop`.
pub(super) async fn serve(listener: TcpListener, proxy: Arc<Proxy>, stop: StopSignal) {
    let converse = |stream| converse(stream, Arc::clone(&proxy), stop.clone());
    runtime::serve(listener, stop.clone(), converse).await;
}

/// One connection, to its end or until `stop` drains it.
async fn converse(stream: TcpStream, proxy: Arc<Proxy>, mut stop: StopSignal) {
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
