//! A proxy between fakes.

use crate::client::{Answer, Client};
use crate::fake::{Fake, listen};
use crate::idle::assert_idle;
use pdbench::cluster::Node;
use pdbench::proxy::{Config, Totals, run};
use pdbench::runtime::{Clock, Stop, StopHandle, stop_channel};
use pdbench::wire::dialect::Dialect;
use pdbench::wire::prometheus::Scrape;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

pub struct Proxy {
    pub address: SocketAddr,
    stop: StopHandle,
    totals: JoinHandle<Totals>,
}

pub fn node(fake: &Fake) -> Node {
    fake.name().parse().unwrap()
}

pub fn config(dialect: Dialect, prefill: &[&Fake], decode: &[&Fake]) -> Config {
    let nodes = |fakes: &[&Fake]| fakes.iter().map(|fake| node(fake)).collect();
    Config { dialect, prefill: nodes(prefill), decode: nodes(decode), ..Config::default() }
}

impl Proxy {
    /// Starts and waits until the first checks were made.
    pub async fn start(config: Config) -> Self {
        let proxy = Self::start_now(config);
        sleep(Duration::from_millis(10)).await;
        proxy
    }

    pub fn start_now(config: Config) -> Self {
        let listener = listen("127.0.0.1:0".parse().unwrap());
        let address = listener.local_addr().unwrap();
        let (stop, signal) = stop_channel();
        let totals = tokio::spawn(run(listener, config, Clock::start(), signal));
        Self { address, stop, totals }
    }

    pub async fn between(dialect: Dialect, prefill: &Fake, decode: &Fake) -> Self {
        Self::start(config(dialect, &[prefill], &[decode])).await
    }

    pub async fn request(&self, method: &str, path: &str, lines: &str, body: &str) -> Client {
        let mut client = Client::open(self.address).await;
        client.send(method, path, lines, body).await;
        client
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", "").await.answer().await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.request("POST", path, "content-type: application/json\r\n", body).await.answer().await
    }

    /// A streamed completion of up to 8 tokens.
    pub async fn complete(&self) -> Answer {
        self.post("/v1/completions", COMPLETION).await
    }

    pub async fn metrics(&self) -> Scrape {
        Scrape::parse(&self.get("/metrics").await.text).unwrap()
    }

    pub async fn status(&self) -> Value {
        self.get("/status").await.json()
    }

    /// Asserts that nothing is in flight any more.
    pub async fn assert_idle(&self) {
        sleep(Duration::from_millis(5)).await;
        assert_idle(&self.metrics().await);
    }

    /// How many requests ended so.
    pub async fn ended(&self, outcome: &str) -> f64 {
        self.metrics().await.sum("pdbench_proxy_requests_total", &[("outcome", outcome)]).unwrap()
    }

    pub async fn stop(self, how: Stop) -> Totals {
        self.stop.ask(how);
        self.totals.await.unwrap()
    }
}

pub const COMPLETION: &str = r#"{"model":"m","prompt":"a  prompt","max_tokens":8,"stream":true}"#;
