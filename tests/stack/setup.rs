//! A simulated cluster with a proxy in front.

use crate::client::{Answer, Client};
use crate::idle::assert_idle;
use crate::notify;
use crate::said::{Ask, Said};
use pdbench::cluster::{Node, Role};
use pdbench::proxy::{Config as ProxyConfig, run};
use pdbench::runtime::{Clock, Stop, StopHandle, stop_channel};
use pdbench::sim::{Config, PARAMETERS, SimCluster, SimNode};
use pdbench::wire::dialect::Dialect;
use pdbench::wire::prometheus::Scrape;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// A node: its role, and its index among those of its role.
pub type Which = (Role, usize);
pub const P: Which = (Role::Prefill, 0);
pub const D: Which = (Role::Decode, 0);

/// A socket on a free port, or on this one.
pub fn listen(port: u16) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    socket.listen(4096).unwrap()
}

/// A cluster of this shape with these parameters set.
pub fn simulated(topology: &str, parameters: &[(&str, &str)]) -> Config {
    let mut config = Config { topology: topology.parse().unwrap(), ..Config::default() };
    for (name, text) in parameters {
        let parameter = PARAMETERS.iter().find(|parameter| parameter.name == *name).unwrap();
        parameter.set(&mut config, text).unwrap();
    }
    config
}

/// Nodes that are being served.
pub struct Nodes {
    pub cluster: SimCluster,
    running: BTreeMap<Which, Running>,
}

struct Running {
    address: SocketAddr,
    stop: StopHandle,
    task: JoinHandle<()>,
}

impl Nodes {
    pub fn start(config: Config) -> Self {
        let roles: Vec<Role> = config.topology.roles().collect();
        let mut nodes =
            Self { cluster: SimCluster::new(config, Clock::start(), None), running: BTreeMap::new() };
        for (at, role) in roles.iter().enumerate() {
            let index = roles[..at].iter().filter(|other| *other == role).count();
            nodes.begin((*role, index), 0);
        }
        nodes
    }

    fn begin(&mut self, which: Which, port: u16) {
        let listener = listen(port);
        let address = listener.local_addr().unwrap();
        let (stop, signal) = stop_channel();
        let (cluster, (role, index)) = (self.cluster.clone(), which);
        let node = SimNode { role, listener };
        let task = tokio::spawn(async move { cluster.serve(node, index, signal).await });
        self.running.insert(which, Running { address, stop, task });
    }

    /// Ends a node at once: its connections are cut, its KV is lost.
    pub async fn kill(&mut self, which: Which) {
        let node = self.running.get_mut(&which).unwrap();
        node.stop.ask(Stop::Now);
        (&mut node.task).await.unwrap();
    }

    /// Lets a node end its requests and take no more.
    pub async fn drain(&mut self, which: Which) {
        let node = self.running.get_mut(&which).unwrap();
        node.stop.ask(Stop::Drain);
        (&mut node.task).await.unwrap();
    }

    /// Starts a node that was killed, at the same address.
    pub fn restart(&mut self, which: Which) {
        let port = self.running[&which].address.port();
        self.begin(which, port);
    }

    pub fn address(&self, which: Which) -> SocketAddr {
        self.running[&which].address
    }

    pub fn all(&self, role: Role) -> Vec<Which> {
        self.running.keys().filter(|which| which.0 == role).copied().collect()
    }

    /// A node as a proxy is told of it: what any dialect has to know, except where it asks.
    pub fn described(&self, which: Which, dialect: Dialect) -> Node {
        let (address, (role, index)) = (self.address(which), which);
        let port = address.port();
        let facts = match (dialect, role) {
            (Dialect::P2pAddr, _) => format!("kv={address}"),
            (Dialect::NixlPush, Role::Prefill) => {
                format!("engine={role}-{index},side-channel={address},tp=1,pp=1")
            }
            (Dialect::MooncakeP2p | Dialect::Sglang, Role::Prefill) => format!("bootstrap={port}"),
            (Dialect::Lmcache, Role::Decode) => format!("init={port},alloc={port}"),
            _ => return address.to_string().parse().unwrap(),
        };
        format!("{address},{facts}").parse().unwrap()
    }

    /// One series of one node; 0 where the node does not have it.
    pub async fn metric(&self, which: Which, name: &str, labels: &[(&str, &str)]) -> f64 {
        let scrape = scrape(self.address(which)).await;
        scrape.sum(&format!("vllm:{name}"), labels).unwrap_or(0.0)
    }

    /// Prompt tokens that a node computed, found, and got from elsewhere.
    pub async fn sources(&self, which: Which) -> [f64; 3] {
        let scrape = scrape(self.address(which)).await;
        ["local_compute", "local_cache_hit", "external_kv_transfer"]
            .map(|source| scrape.sum("vllm:prompt_tokens_by_source_total", &[("source", source)]).unwrap())
    }

    /// No request and no KV is left in any node that is up.
    pub async fn assert_idle(&self) {
        for (which, node) in self.running.iter().filter(|(_, node)| !node.task.is_finished()) {
            let scrape = scrape(node.address).await;
            for gauge in ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"] {
                assert_eq!(scrape.sum(&format!("vllm:{gauge}"), &[]), Some(0.0), "{which:?} {gauge}");
            }
        }
    }
}

/// Nodes behind a proxy.
pub struct Stack {
    pub nodes: Nodes,
    pub proxy: SocketAddr,
}

impl Stack {
    pub async fn start(dialect: Dialect, topology: &str) -> Self {
        Self::between(dialect, simulated(topology, &[]), |_, _| {}).await
    }

    /// With `change` made to what the proxy is told. Waits until the proxy knows its instances.
    pub async fn between(
        dialect: Dialect,
        simulated: Config,
        change: impl FnOnce(&mut ProxyConfig, &Nodes),
    ) -> Self {
        let nodes = Nodes::start(simulated);
        let described =
            |role| nodes.all(role).into_iter().map(|which| nodes.described(which, dialect)).collect();
        let mut config = ProxyConfig {
            dialect,
            prefill: described(Role::Prefill),
            decode: described(Role::Decode),
            ..ProxyConfig::default()
        };
        if dialect == Dialect::Lmcache {
            let notify = listen(0);
            notify::forward(&nodes.cluster, notify.local_addr().unwrap());
            config.kv_notify = Some(Arc::new(notify));
        }
        change(&mut config, &nodes);
        let listener = listen(0);
        let proxy = listener.local_addr().unwrap();
        let (stop, signal) = stop_channel();
        tokio::spawn(async move {
            let _stop = stop; // nobody asks
            run(listener, config, Clock::start(), signal).await
        });
        sleep(Duration::from_millis(20)).await;
        Self { nodes, proxy }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.proxy)
    }

    pub async fn ask(&self, ask: &Ask) -> Said {
        self.ask_with(ask, "").await
    }

    /// With more lines in the head.
    pub async fn ask_with(&self, ask: &Ask, lines: &str) -> Said {
        Said::of(&send(self.proxy, ask, lines).await.answer().await)
    }

    /// All at once.
    pub async fn ask_all(&self, asks: &[Ask]) -> Vec<Said> {
        ask_all(self.proxy, asks).await
    }

    pub async fn metrics(&self) -> Scrape {
        scrape(self.proxy).await
    }

    /// How many requests ended so, in the proxy's words.
    pub async fn ended(&self, outcome: &str) -> f64 {
        self.metrics().await.sum("pdbench_proxy_requests_total", &[("outcome", outcome)]).unwrap()
    }

    /// Neither the proxy nor a node has anything left.
    pub async fn assert_idle(&self) {
        sleep(Duration::from_millis(5)).await;
        assert_idle(&self.metrics().await);
        self.nodes.assert_idle().await;
    }
}

/// Sends a request to any server.
pub async fn send(to: SocketAddr, ask: &Ask, lines: &str) -> Client {
    let mut client = Client::open(to).await;
    let lines = format!("content-type: application/json\r\n{lines}");
    client.send("POST", ask.path(), &lines, &ask.body().to_string()).await;
    client
}

/// Sends all at once and reads every answer.
pub async fn ask_all(to: SocketAddr, asks: &[Ask]) -> Vec<Said> {
    let tasks: Vec<_> = asks
        .iter()
        .map(|ask| {
            let ask = *ask;
            tokio::spawn(async move { send(to, &ask, "").await.answer().await })
        })
        .collect();
    let mut said = Vec::new();
    for task in tasks {
        said.push(Said::of(&task.await.unwrap()));
    }
    said
}

pub async fn get(to: SocketAddr, path: &str) -> Answer {
    let mut client = Client::open(to).await;
    client.send("GET", path, "", "").await;
    client.answer().await
}

async fn scrape(of: SocketAddr) -> Scrape {
    Scrape::parse(&get(of, "/metrics").await.text).unwrap()
}
