//! A cluster of which each node has a socket of its own: nodes can be stopped, killed and started again while the
//! others go on.

use super::fabric::{Delivery, Fabric};
use super::node::Node;
use super::serving;
use super::truth::TruthLog;
use super::{Config, Totals, TruthSink};
use crate::cluster::Role;
use crate::runtime::{Clock, Stop, StopHandle, StopSignal, serve, stop_channel};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// A node to be: what it does, and the socket at which it does it.
#[derive(Debug)]
pub struct SimNode {
    /// Its role.
    pub role: Role,
    /// Its socket.
    pub listener: TcpListener,
}

/// What the nodes of a simulated cluster share.
#[derive(Clone, Debug)]
pub struct SimCluster {
    config: Arc<Config>,
    fabric: Arc<Fabric>,
    log: Arc<TruthLog>,
    clock: Clock,
}

impl SimCluster {
    /// A cluster without nodes; `config`'s topology is not looked at. Times are `clock`'s.
    pub fn new(config: Config, clock: Clock, truth: Option<TruthSink>) -> Self {
        let log = TruthLog::start(&config, clock, truth);
        Self { fabric: Fabric::new(&config, clock), config: Arc::new(config), log, clock }
    }

    /// Serves one node, the `index`th of its role, until `stop`: `Drain` lets its requests end, `Now` cuts its
    /// connections and loses its KV. Another node may then take its place, at the same address or elsewhere.
    pub async fn serve(&self, node: SimNode, index: usize, stop: StopSignal) {
        let SimNode { role, listener } = node;
        // A bound socket has an address; without one only its KV could not be fetched.
        let address = listener.local_addr().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
        let node = Node::start(&self.config, &self.fabric, &self.log, self.clock, (role, index, address));
        let converse = |stream| converse(stream, Arc::clone(&node), stop.clone());
        serve(listener, stop.clone(), converse).await;
        self.fabric.forget(&node.member.engine_id);
    }

    /// Hears from now on of KV that reached a decode node without having been asked for, as LMCache's proxy does.
    pub fn deliveries(&self) -> mpsc::UnboundedReceiver<Delivery> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.fabric.tell_deliveries(sender);
        receiver
    }

    /// What all nodes did so far.
    pub fn totals(&self) -> Totals {
        self.log.totals()
    }
}

/// Serves a cluster of `nodes`, whose order within a role is their index, until `stop`: `Drain` takes no new
/// connection and lets requests in flight end, `Now` cuts them. Every task is spawned on the current runtime and
/// every wait is tokio's, so that on a paused runtime the same requests give the same truth. Times are `clock`'s.
pub async fn run(
    nodes: Vec<SimNode>,
    config: Config,
    clock: Clock,
    truth: Option<TruthSink>,
    stop: StopSignal,
) -> Totals {
    let death = config.death;
    let cluster = SimCluster::new(config, clock, truth);
    let mut indices: BTreeMap<Role, usize> = BTreeMap::new();
    let mut serving = JoinSet::new();
    for node in nodes {
        let next = indices.entry(node.role).or_default();
        let index = *next;
        *next += 1;
        let dies = death.filter(|death| (death.role, death.index) == (node.role, index));
        let signal = match dies {
            None => stop.clone(),
            Some(death) => {
                let (handle, signal) = stop_channel();
                tokio::spawn(end_at(clock.at(Duration::from_secs_f64(death.at_s)), stop.clone(), handle));
                signal
            }
        };
        let cluster = cluster.clone();
        serving.spawn(async move { cluster.serve(node, index, signal).await });
    }
    while serving.join_next().await.is_some() {}
    cluster.totals()
}

/// Passes `stop` on, and ends all at once at `death`.
async fn end_at(death: Instant, mut stop: StopSignal, handle: StopHandle) {
    let mut dying = pin!(sleep_until(death));
    for urgency in [Stop::Drain, Stop::Now] {
        tokio::select! {
            biased;
            () = stop.reached(urgency) => handle.ask(urgency),
            () = &mut dying => return handle.ask(Stop::Now),
        }
    }
}

/// One connection, to its end or until `stop` drains it.
async fn converse(stream: TcpStream, node: Arc<Node>, mut stop: StopSignal) {
    let reset = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&reset);
    let service =
        service_fn(move |request| Box::pin(serving::answer(Arc::clone(&node), Arc::clone(&told), request)));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let drained = tokio::select! {
        biased;
        // A broken connection is the client's affair: its requests are told as cancelled.
        _ = poll_fn(|context| connection.poll_without_shutdown(context)) => false,
        () = stop.reached(Stop::Drain) => true,
    };
    if drained {
        Pin::new(&mut connection).graceful_shutdown();
        let _ = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    }
    if reset.load(Ordering::Relaxed) {
        let stream = connection.into_parts().io.into_inner();
        // Closed at once and without regard to what is still unsent; else it would be an end like others.
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
}
