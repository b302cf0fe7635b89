//! A node that tells what a test makes up.

use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::Instant;

/// Answers every request with the page of that second; `None` is answered with 503.
pub fn telling(page: impl Fn(f64) -> Option<String> + Send + Sync + 'static) -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(4096).unwrap();
    let address = listener.local_addr().unwrap();
    let (page, start) = (Arc::new(page), Instant::now());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let page = Arc::clone(&page);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while connection.read(&mut request).await.is_ok_and(|count| 0 < count) {
                    let (status, text) = match page(start.elapsed().as_secs_f64()) {
                        Some(text) => (200, text),
                        None => (503, String::new()),
                    };
                    let length = text.len();
                    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{text}");
                    if connection.write_all(answer.as_bytes()).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}
