//! What LMCache's prefill instances do when KV has left: they push its request id to the proxy, by ZMQ.

use pdbench::sim::SimCluster;
use pdbench::wire::zmtp::{Connection, SocketType, greeting, message};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Passes on every delivery in `cluster` to the proxy that listens on `to`.
pub fn forward(cluster: &SimCluster, to: SocketAddr) {
    let mut deliveries = cluster.deliveries();
    tokio::spawn(async move {
        let mut socket = TcpStream::connect(to).await.unwrap();
        // As ZMQ does; else the kernel holds small messages back in its own time.
        socket.set_nodelay(true).unwrap();
        socket.write_all(&greeting()).await.unwrap();
        let mut connection = Connection::new(SocketType::Push, 4096);
        let (mut reply, mut bytes) = (Vec::new(), [0; 512]);
        while !connection.is_ready() {
            let count = socket.read(&mut bytes).await.unwrap();
            connection.feed(&bytes[..count], &mut reply, |_| {}).unwrap();
            socket.write_all(&reply).await.unwrap();
            reply.clear();
        }
        while let Some(delivery) = deliveries.recv().await {
            if socket.write_all(&message(&[&packed(&delivery.request_id)])).await.is_err() {
                return; // the proxy has ended
            }
        }
    });
}

/// MessagePack of `{"type": "ProxyNotif", "req_id": id}`.
fn packed(id: &str) -> Vec<u8> {
    let mut packed = b"\x82\xa4type\xaaProxyNotif\xa6req_id\xd9".to_vec();
    packed.push(u8::try_from(id.len()).unwrap());
    packed.extend(id.as_bytes());
    packed
}
