//! The call of a decode node that asks the proxy for its prefill, as vllm-ascend does layer by layer.
//! Deliberately absent: TLS, and what the proxy answers beyond its status.

use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use url::Url;

/// A call under way. Dropping it ends it, unless it was detached.
#[derive(Debug)]
pub(super) struct Call {
    task: Option<AbortHandle>,
    failed: oneshot::Receiver<()>,
}

impl Call {
    /// Posts the JSON `body` to `url`.
    pub fn post(url: &str, body: String) -> Self {
        let (tell, failed) = oneshot::channel();
        let url = Url::parse(url);
        let task = tokio::spawn(async move {
            let posted = match url {
                Ok(url) => post(&url, &body).await,
                Err(error) => Err(io::Error::other(error)),
            };
            if posted.is_err() {
                // Nobody may wait any more.
                let _ = tell.send(());
            }
        });
        Self { task: Some(task.abort_handle()), failed }
    }

    /// Lets it go on by itself.
    pub fn detach(&mut self) {
        self.task = None;
    }

    /// Waits until it fails; for ever when it does not.
    pub async fn failed(&mut self) {
        if (&mut self.failed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn post(url: &Url, body: &str) -> io::Result<()> {
    let host = url.host_str().ok_or_else(|| io::Error::other("no host"))?.trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(80);
    let mut stream = TcpStream::connect((host, port)).await?;
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        url.path(),
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    // `HTTP/1.1 200 …`; the rest is of no interest, but closing early would cut the proxy short.
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer).await?;
    match answer.get(9) {
        Some(b'2') => Ok(()),
        _ => Err(io::Error::other("the metaserver refused")),
    }
}
