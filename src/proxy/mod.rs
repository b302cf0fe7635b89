//! The PD proxy: takes OpenAI requests, sends each one's prefill and decode leg to instances as their dialect has it,
//! and relays the answer as it comes. What fails upstream fails here, with the same status; what breaks off there
//! breaks off here. It can start before its instances, and tells what it did at `/metrics`.
//! Deliberately absent: threads and runtimes (the caller decides where it runs), retries of what an instance may
//! have seen, queues of its own, files.

mod admin;
mod allow;
mod answer;
mod ask;
mod batch;
mod before;
mod body;
mod calls;
mod config;
mod fan;
mod forward;
mod front;
mod health;
mod http;
mod instance;
mod joined;
mod journey;
mod leg;
mod metrics;
mod notices;
mod prefill;
mod problem;
mod replica;
mod roster;
mod route;
mod server;
mod status;
mod timing;
mod upstream;

pub use allow::Allowed;
pub use config::{Admin, Benchmark, Config, FirstToken, Health, Timeouts, Trigger};
pub use route::Policy;

use crate::cluster::{Node, Role};
use crate::runtime::{Clock, StopSignal, lock};
use batch::Bench;
use calls::Calls;
use front::Front;
use notices::Notices;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use roster::Roster;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What a proxy did until it was stopped: its clients' requests by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Whole, successful answers.
    pub ok: u64,
    /// Bad requests, and those that found no instance up.
    pub refused: u64,
    /// An instance's error status, passed on.
    pub upstream_status: u64,
    /// A leg failed before the answer began.
    pub leg_failed: u64,
    /// The answer broke off.
    pub broken: u64,
    /// The client went away.
    pub aborted_by_client: u64,
}

/// Everything that the parts of a running proxy share.
#[derive(Debug)]
struct Proxy {
    config: Config,
    roster: Roster,
    front: Arc<Front>,
    calls: Calls,
    notices: Notices,
    bench: Arc<Bench>,
    clock: Clock,
    metaserver_url: String,
    draws: Mutex<Pcg64Mcg>,
    /// Tasks beside the connections; they end with the proxy.
    watches: Mutex<JoinSet<()>>,
}

impl Proxy {
    /// Takes an instance in and watches it; false when it is there already.
    fn add(self: &Arc<Self>, role: Role, node: Node) -> bool {
        let Some(instance) = self.roster.add(role, node, self.config.max_model_len) else { return false };
        lock(&self.watches).spawn(health::watch(Arc::clone(self), instance));
        true
    }

    fn nonce(&self) -> u128 {
        lock(&self.draws).random()
    }

    fn instance_authorization(&self) -> String {
        forward::authorization(self.config.instance_key.as_ref())
    }
}

/// Longest that the first requests wait for the first look at the instances of the start, so that who starts both at once
/// is not told that there are none.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Serves on `listener` until `stop`: `Drain` takes no new connection and lets requests in flight end, `Now` cuts
/// them. Every task is spawned on the current runtime and every wait is tokio's.
pub async fn run(listener: TcpListener, config: Config, clock: Clock, stop: StopSignal) -> Totals {
    let metaserver_url = config.metaserver_url.clone().unwrap_or_else(|| {
        let address = listener.local_addr().map_or_else(|_| "127.0.0.1:8000".to_owned(), |a| a.to_string());
        format!("http://{address}/v1/metaserver")
    });
    let proxy = Arc::new(Proxy {
        roster: Roster::new(config.policy, config.seed),
        front: Arc::default(),
        calls: Calls::default(),
        notices: Notices::default(),
        bench: Arc::new(Bench::new(config.benchmark)),
        clock,
        metaserver_url,
        draws: Mutex::new(Pcg64Mcg::seed_from_u64(config.seed)),
        watches: Mutex::default(),
        config,
    });
    for (role, nodes) in [(Role::Prefill, &proxy.config.prefill), (Role::Decode, &proxy.config.decode)] {
        for node in nodes {
            proxy.add(role, node.clone());
        }
    }
    if let Some(listener) = &proxy.config.kv_notify {
        lock(&proxy.watches).spawn(notices::listen(Arc::clone(&proxy), Arc::clone(listener)));
    }
    let looked = async {
        for role in [Role::Prefill, Role::Decode] {
            for instance in proxy.roster.instances(role) {
                instance.looked.notified().await;
            }
        }
    };
    // Connections wait in the listener's queue meanwhile.
    let _ = timeout(FIRST_LOOK, looked).await;
    server::serve(listener, Arc::clone(&proxy), stop).await;
    lock(&proxy.watches).abort_all();
    proxy.front.totals()
}
