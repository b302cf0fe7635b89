use crate::wire::http1::{Limits, Part, ResponseReader};
use crate::wire::prometheus::Scrape;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Asks one address for its metrics again and again, on one connection while that is kept open.
#[derive(Debug)]
pub struct Scraper {
    address: SocketAddr,
    request: Vec<u8>,
    patience: Duration,
    connection: Option<TcpStream>,
}

/// Why there are no metrics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no metrics from {address}: {why}")]
pub struct NotScraped {
    address: SocketAddr,
    why: String,
}

/// Sizes that no exposition has.
const LIMITS: Limits = Limits { head: 64 << 10, body: 32 << 20 };

impl Scraper {
    /// A scraper of `path` at an address, which is called `host` there.
    pub fn new(address: SocketAddr, host: &str, path: &str, patience: Duration) -> Self {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: text/plain\r\naccept-encoding: identity\r\n\
             user-agent: pdbench/{}\r\n\r\n",
            env!("CARGO_PKG_VERSION")
        );
        Self { address, request: request.into_bytes(), patience, connection: None }
    }

    /// What the metrics are now. A kept-alive connection that was closed meanwhile is opened anew, once.
    ///
    /// # Errors
    /// When there is no answer in time, or none that can be read.
    pub async fn scrape(&mut self) -> Result<Scrape, NotScraped> {
        self.scrape_only(|_| true).await
    }

    /// The same of the lines whose name is wanted.
    ///
    /// # Errors
    /// When there is no answer in time, or none that can be read.
    pub async fn scrape_only(&mut self, wanted: impl Fn(&str) -> bool) -> Result<Scrape, NotScraped> {
        let address = self.address;
        let failed = |why: String| NotScraped { address, why };
        let text = match timeout(self.patience, self.text()).await {
            Ok(text) => text.map_err(failed)?,
            Err(_) => return Err(failed(format!("no answer within {:?}", self.patience))),
        };
        Scrape::parse_only(&text, wanted).map_err(|error| failed(error.to_string()))
    }

    async fn text(&mut self) -> Result<String, String> {
        if let Some(connection) = self.connection.take()
            && let Ok((status, body)) = self.ask(connection).await
        {
            return told(status, &body);
        }
        let connection = TcpStream::connect(self.address).await.map_err(|error| error.to_string())?;
        let (status, body) = self.ask(connection).await?;
        told(status, &body)
    }

    async fn ask(&mut self, mut connection: TcpStream) -> Result<(u16, Vec<u8>), String> {
        connection.write_all(&self.request).await.map_err(|error| error.to_string())?;
        let mut response = ResponseReader::new(LIMITS);
        let (mut status, mut keep_alive, mut body) = (0, false, Vec::new());
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = connection.read(&mut buffer).await.map_err(|error| error.to_string())?;
            let mut bytes = &buffer[..count];
            while let Some(part) = response.next(&mut bytes).map_err(|error| error.to_string())? {
                match part {
                    Part::Head(head) => (status, keep_alive) = (head.status, head.keep_alive),
                    Part::Body(piece) => body.extend_from_slice(piece),
                    Part::End => {
                        self.connection = Some(connection).filter(|_| keep_alive);
                        return Ok((status, body));
                    }
                }
            }
            if count == 0 {
                return if response.closed() { Ok((status, body)) } else { Err("it hung up".to_owned()) };
            }
        }
    }
}

fn told(status: u16, body: &[u8]) -> Result<String, String> {
    match status {
        200..300 => Ok(String::from_utf8_lossy(body).into_owned()),
        _ => Err(format!("HTTP {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Answers each request with the next of these, closing where there is no length.
    async fn server(answers: Vec<&'static str>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut answers = answers.into_iter();
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                while connection.read(&mut request).await.is_ok_and(|count| 0 < count) {
                    let Some(answer) = answers.next() else { return };
                    connection.write_all(answer.as_bytes()).await.unwrap();
                    if !answer.contains("content-length") {
                        break;
                    }
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn metrics_are_read_whether_the_connection_stays_open_or_not() {
        let kept = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\na 1\n";
        let closed = "HTTP/1.1 200 OK\r\n\r\na 2\n";
        let refused = "HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n";
        let address = server(vec![kept, kept, closed, kept, refused]).await;
        let mut scraper = Scraper::new(address, "h", "/metrics", Duration::from_secs(5));
        for expected in [1.0, 1.0, 2.0, 1.0] {
            assert_eq!(scraper.scrape().await.unwrap().sum("a", &[]), Some(expected));
        }
        let error = scraper.scrape().await.unwrap_err().to_string();
        assert_eq!(error, format!("no metrics from {address}: HTTP 503"));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut scraper = Scraper::new(address, "h", "/metrics", Duration::from_secs(5));
        assert!(scraper.scrape().await.unwrap_err().to_string().ends_with("no answer within 5s"));
    }
}
