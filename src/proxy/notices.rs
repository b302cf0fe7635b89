//! Notifications that prefill instances push when the KV of a request is at its decode instance (LMCache, by ZMQ).

use super::Proxy;
use crate::runtime::lock;
use crate::wire::dialect::Notice;
use crate::wire::zmtp::{Connection, SocketType, greeting, notified};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Largest message of a peer: a notification has some hundred bytes.
const LONGEST: usize = 64 << 10;
/// Wait after a failed accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// Requests that wait to be told, by the id that the notification names.
#[derive(Debug, Default)]
pub(super) struct Notices(Arc<Mutex<HashMap<String, Wanted>>>);

#[derive(Debug)]
struct Wanted {
    left: usize,
    told: Arc<Notify>,
}

/// One that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    notices: Arc<Mutex<HashMap<String, Wanted>>>,
    request_id: String,
    told: Arc<Notify>,
}

impl Notices {
    /// Expects a notification; what comes before it is waited for is kept.
    pub fn expect(&self, notice: Notice) -> Waiting {
        let told = Arc::new(Notify::new());
        if notice.times == 0 {
            told.notify_one();
        }
        let wanted = Wanted { left: notice.times, told: Arc::clone(&told) };
        lock(&self.0).insert(notice.request_id.clone(), wanted);
        Waiting { notices: Arc::clone(&self.0), request_id: notice.request_id, told }
    }

    /// One of the notifications of a request has come.
    pub fn tell(&self, request_id: &str) {
        if let Some(wanted) = lock(&self.0).get_mut(request_id) {
            wanted.left = wanted.left.saturating_sub(1);
            if wanted.left == 0 {
                wanted.told.notify_one();
            }
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

impl Waiting {
    /// Waits for the last of the notifications; false when they do not come in time.
    pub async fn told(self, longest: Duration) -> bool {
        timeout(longest, self.told.notified()).await.is_ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.notices).remove(&self.request_id);
    }
}

/// Takes the prefill instances' connections, for as long as it is polled.
pub(super) async fn listen(proxy: Arc<Proxy>, listener: Arc<TcpListener>) {
    let mut peers = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = peers.join_next(), if !peers.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((peer, _)) => { peers.spawn(hear(Arc::clone(&proxy), peer)); }
                Err(_) => sleep(ACCEPT_AGAIN).await,
            },
        }
    }
}

/// Hears one peer out. One that is no ZMQ is cut off; nothing else comes of it.
async fn hear(proxy: Arc<Proxy>, mut peer: TcpStream) -> io::Result<()> {
    let mut connection = Connection::new(SocketType::Pull, LONGEST);
    peer.write_all(&greeting()).await?;
    let (mut bytes, mut reply) = (vec![0; 4096], Vec::new());
    loop {
        let count = peer.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        let fed = connection.feed(&bytes[..count], &mut reply, |frames| {
            for frame in frames {
                if let Ok(Some(request_id)) = notified(&frame) {
                    proxy.notices.tell(&request_id);
                }
            }
        });
        fed.map_err(io::Error::other)?;
        if !reply.is_empty() {
            peer.write_all(&reply).await?;
            reply.clear();
        }
    }
}
