//! A cluster with a socket for each node, and requests to one node.

use crate::client::{Connection, Response};
use pdbench::cluster::Role;
use pdbench::measure::Offset;
use pdbench::runtime::{Clock, Stop, StopHandle, stop_channel};
use pdbench::sim::{Config, SimCluster, SimNode, Truth, TruthSink};
use pdbench::wire::prometheus::Scrape;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// A socket on a free port, or on this one.
pub fn listen(port: u16) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    socket.listen(4096).unwrap()
}

/// The nodes of `config`'s topology, all being served.
pub struct Nodes {
    pub cluster: SimCluster,
    pub clock: Clock,
    lines: Arc<Mutex<Vec<String>>>,
    nodes: BTreeMap<Place, Running>,
}

struct Running {
    address: SocketAddr,
    stop: StopHandle,
    task: JoinHandle<()>,
}

/// A node's role, and its index within it.
pub type Place = (Role, usize);

pub const P: Place = (Role::Prefill, 0);
pub const D: Place = (Role::Decode, 0);
pub const M: Place = (Role::Mixed, 0);

impl Nodes {
    pub fn start(config: Config) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let sink: TruthSink = Box::new(move |line| kept.lock().unwrap().push(line));
        let clock = Clock::start();
        let roles: Vec<Role> = config.topology.roles().collect();
        let cluster = SimCluster::new(config, clock, Some(sink));
        let mut nodes = Self { cluster, clock, lines, nodes: BTreeMap::new() };
        for (at, role) in roles.iter().enumerate() {
            let index = roles[..at].iter().filter(|other| *other == role).count();
            nodes.begin(*role, index, 0);
        }
        nodes
    }

    fn begin(&mut self, role: Role, index: usize, port: u16) {
        let listener = listen(port);
        let address = listener.local_addr().unwrap();
        let (stop, signal) = stop_channel();
        let cluster = self.cluster.clone();
        let task =
            tokio::spawn(async move { cluster.serve(SimNode { role, listener }, index, signal).await });
        self.nodes.insert((role, index), Running { address, stop, task });
    }

    /// Ends one node at once.
    pub async fn kill(&mut self, (role, index): Place) {
        let node = self.nodes.get_mut(&(role, index)).unwrap();
        node.stop.ask(Stop::Now);
        (&mut node.task).await.unwrap();
    }

    /// Starts a node that was killed, at the same address.
    pub fn restart(&mut self, (role, index): Place) {
        let port = self.nodes[&(role, index)].address.port();
        self.begin(role, index, port);
    }

    /// Lets every request end; the truth log's lines.
    pub async fn drain(self) -> Vec<String> {
        for (_, node) in self.nodes {
            node.stop.ask(Stop::Drain);
            node.task.await.unwrap();
        }
        self.lines.lock().unwrap().clone()
    }

    pub fn address(&self, node: Place) -> SocketAddr {
        self.nodes[&node].address
    }

    pub async fn send(&self, node: Place, headers: &str, body: &Value) -> Connection {
        let mut connection = Connection::open(self.address(node), self.clock).await;
        connection.send("POST", "/v1/completions", headers, &body.to_string()).await;
        connection
    }

    /// Posts to another path than `/v1/completions`.
    pub async fn send_to(&self, node: Place, path: &str, body: &Value) -> Response {
        let mut connection = Connection::open(self.address(node), self.clock).await;
        connection.send("POST", path, "", &body.to_string()).await;
        connection.read().await
    }

    pub async fn post(&self, node: Place, body: Value) -> Response {
        self.send(node, "", &body).await.read().await
    }

    /// Posts under a request id.
    pub async fn post_as(&self, node: Place, id: &str, body: Value) -> Response {
        self.send(node, &format!("x-request-id: {id}\r\n"), &body).await.read().await
    }

    pub async fn get(&self, node: Place, path: &str) -> Response {
        let mut connection = Connection::open(self.address(node), self.clock).await;
        connection.send("GET", path, "", "").await;
        connection.read().await
    }

    pub async fn metrics(&self, node: Place) -> Scrape {
        Scrape::parse(&self.get(node, "/metrics").await.text()).unwrap()
    }

    /// One series of one node.
    pub async fn metric(&self, node: Place, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics(node).await.sum(&format!("vllm:{name}"), labels).unwrap_or(f64::NAN)
    }

    /// Prompt tokens that a node computed, found, and got from elsewhere.
    pub async fn sources(&self, node: Place) -> [f64; 3] {
        let scrape = self.metrics(node).await;
        ["local_compute", "local_cache_hit", "external_kv_transfer"]
            .map(|source| scrape.sum("vllm:prompt_tokens_by_source_total", &[("source", source)]).unwrap())
    }

    /// No request and no KV is left in any node.
    pub async fn assert_idle(&self) {
        for node in self.nodes.keys() {
            let scrape = self.metrics(*node).await;
            for gauge in ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"] {
                assert_eq!(scrape.sum(&format!("vllm:{gauge}"), &[]), Some(0.0), "{node:?} {gauge}");
            }
        }
    }

    /// What the truth log says so far, in the order of the requests' ends.
    pub fn truths(&self) -> Vec<Truth> {
        let lines = self.lines.lock().unwrap();
        lines[1..].iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The next tick of the runtime's timer after `exact`.
pub fn tick(exact: Duration) -> Offset {
    Offset::from_tenths((exact.as_nanos().div_ceil(1_000_000) * 10_000) as u64)
}

/// `body` with `more`'s fields in place of its own.
pub fn with(mut body: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

/// A prefill leg: one token, not streamed, with these `kv_transfer_params`.
pub fn prefill_leg(body: &Value, kv: Value) -> Value {
    let mut leg = with(body.clone(), json!({"max_tokens": 1, "stream": false, "kv_transfer_params": kv}));
    leg.as_object_mut().unwrap().remove("stream_options");
    leg
}

/// The JSON body of the one request on `stream`.
pub async fn read_request(stream: &mut TcpStream) -> Value {
    let mut bytes = Vec::new();
    loop {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
        let text = String::from_utf8(bytes.clone()).unwrap();
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && let Ok(value) = serde_json::from_str(body)
        {
            return value;
        }
    }
}

/// Answers with `status` and no body.
pub async fn reply(stream: &mut TcpStream, status: &str) {
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
}
