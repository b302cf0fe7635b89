//! Checks of the embedded cluster and of nodes with sockets of their own, read back.

use crate::common::{Ran, run_in};
use pdbench::cluster::Role;
use pdbench::measure::check::{CheckResult, Step, Verdict};
use pdbench::runtime::{Clock, StopHandle, Workers, stop_channel};
use pdbench::sim::{Config, PARAMETERS, SimNode, run};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket};

/// A check that has ended; its directory goes with it.
pub struct Checked {
    pub ran: Ran,
    pub result: CheckResult,
    _place: TempDir,
}

/// Runs `check` with these words.
pub async fn check(words: &str) -> Checked {
    let place = tempfile::tempdir().unwrap();
    let arguments: Vec<_> = ["check"].into_iter().chain(words.split_whitespace()).collect();
    let ran = run_in(place.path(), &arguments, Workers::Local).await;
    let summary = match std::fs::read_dir(place.path()).unwrap().next() {
        Some(_) => ran.run_file().summary,
        None => panic!("no run: {}", ran.stderr),
    };
    let result = summary.unwrap().check.unwrap();
    Checked { ran, result, _place: place }
}

impl Checked {
    /// What was found, as JSON.
    pub fn faults(&self) -> Vec<Value> {
        self.result.faults.iter().map(|fault| serde_json::to_value(fault).unwrap()).collect()
    }

    /// The names of what was found.
    pub fn named(&self) -> Vec<String> {
        self.faults().iter().map(|fault| fault["fault"].as_str().unwrap().to_owned()).collect()
    }

    pub fn verdict(&self, step: Step) -> Verdict {
        self.result.steps.iter().find(|found| found.step == step).unwrap().verdict
    }

    /// The pairs that do not work.
    pub fn bad_pairs(&self) -> Vec<(usize, usize)> {
        let bad = self.result.pairs.iter().filter(|pair| pair.verdict == Verdict::Wrong);
        bad.map(|pair| (pair.prefill, pair.decode)).collect()
    }
}

pub fn listen() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(4096).unwrap()
}

/// A cluster's parameters, by name.
pub fn config(topology: &str, parameters: &[(&str, &str)]) -> Config {
    let mut config = Config { topology: topology.parse().unwrap(), ..Config::default() };
    for (name, text) in parameters {
        let parameter = PARAMETERS.iter().find(|parameter| parameter.name == *name).unwrap();
        parameter.set(&mut config, text).unwrap();
    }
    config
}

/// Simulated nodes, each at an address of its own.
pub struct Nodes {
    pub prefill: Vec<String>,
    pub decode: Vec<String>,
    _stop: StopHandle,
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
        tokio::spawn(run(nodes, config, Clock::start(), None, signal));
        Self { prefill, decode, _stop: stop }
    }

    /// The flags that name them.
    pub fn flags(&self) -> String {
        format!("--prefill {} --decode {}", self.prefill.join(" "), self.decode.join(" "))
    }
}
