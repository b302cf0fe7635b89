//! A simulated cluster with a socket for each node, and a run against it.

use crate::common::{Ran, run_in};
use pdbench::cluster::Role;
use pdbench::measure::{BatchResult, Plateau};
use pdbench::runtime::{Clock, Stop, StopHandle, Workers, stop_channel};
use pdbench::sim::{Config, SimNode, Totals, run};
use tempfile::tempdir;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

pub fn listen() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(4096).unwrap()
}

pub struct Nodes {
    pub prefill: Vec<String>,
    pub decode: Vec<String>,
    stop: StopHandle,
    task: JoinHandle<Totals>,
}

impl Nodes {
    pub fn start(config: Config) -> Self {
        let (mut prefill, mut decode, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
        for role in config.topology.roles() {
            let listener = listen();
            let name = listener.local_addr().unwrap().to_string();
            if role == Role::Prefill { &mut prefill } else { &mut decode }.push(name);
            nodes.push(SimNode { role, listener });
        }
        let (stop, signal) = stop_channel();
        let task = tokio::spawn(run(nodes, config, Clock::start(), None, signal));
        Self { prefill, decode, stop, task }
    }

    pub async fn stop(self) -> Totals {
        self.stop.ask(Stop::Now);
        self.task.await.unwrap()
    }

    /// A run straight to the nodes.
    pub async fn repeat(&self, arguments: &[&str]) -> Ran {
        let mut all = vec!["--prefill"];
        all.extend(self.prefill.iter().map(String::as_str));
        all.push("--decode");
        all.extend(self.decode.iter().map(String::as_str));
        serve(&[&all, arguments].concat()).await
    }
}

/// A run of batches, its directory kept until the test is over.
pub async fn serve(arguments: &[&str]) -> Ran {
    let place = tempdir().unwrap().keep();
    let base = ["serve", "--dataset-name", "sonnet", "--model", "simulated", "--ignore-eos", "--no-progress"];
    run_in(&place, &[&base, arguments].concat(), Workers::Local).await
}

pub fn batches(ran: &Ran) -> Vec<BatchResult> {
    ran.run_file().summary.unwrap_or_else(|| panic!("no summary: {}", ran.stderr)).batches
}

pub fn plateaus(ran: &Ran) -> Vec<Plateau> {
    batches(ran).into_iter().map(|batch| batch.plateau).collect()
}

/// Takes the run's files away and gives its exit.
pub fn over(ran: &Ran) {
    std::fs::remove_dir_all(&ran.output_dir).unwrap();
}
