//! A simulated node beside the client, one that prefills and decodes, with its log of what it really did.

use pdbench::cluster::Role;
use pdbench::runtime::{Clock, Stop, StopHandle, Worker, Workers, stop_channel};
use pdbench::sim::{Config, SimNode, Totals, Truth, TruthSink};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpSocket;

pub struct Cluster {
    pub address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
    stop: StopHandle,
    worker: Worker<Totals>,
}

impl Cluster {
    pub fn start(config: Config, workers: Workers) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), config, workers).unwrap()
    }

    /// A cluster that listens there, if this machine has such an address.
    pub fn start_at(address: SocketAddr, config: Config, workers: Workers) -> std::io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.bind(address)?;
        let listener = socket.listen(4096)?;
        let address = listener.local_addr()?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let sink: TruthSink = Box::new(move |line| kept.lock().unwrap().push(line.to_string()));
        let (stop, signal) = stop_channel();
        let nodes = vec![SimNode { role: Role::Mixed, listener }];
        let serving = pdbench::sim::run(nodes, config, Clock::start(), Some(sink), signal);
        Ok(Self { address, lines, stop, worker: workers.start("sim", serving)? })
    }

    /// Ends the cluster: what happened to each request, by its id.
    pub async fn truths(self) -> BTreeMap<String, Truth> {
        self.stop.ask(Stop::Now);
        self.worker.join().await.unwrap();
        let lines = self.lines.lock().unwrap();
        let truths = lines.iter().skip(1).map(|line| serde_json::from_str::<Truth>(line).unwrap());
        truths.map(|truth| (truth.id.clone(), truth)).collect()
    }
}
