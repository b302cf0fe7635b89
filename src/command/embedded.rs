//! The simulated cluster inside this process: a socket for each node, and before them the proxy that real nodes get.

use super::observe::EmbeddedNode;
use super::{Error, Exit, Instance, SimPlan};
use crate::cluster::{KvFacts, Node, Role};
use crate::measure::ServerRole;
use crate::proxy;
use crate::runtime::{Clock, Stop, StopHandle, StopSignal, Worker, Workers, stop_channel};
use crate::sim::{self, Routing, SimNode, TruthSink};
use crate::wire::{Secret, Target};
use jiff::Timestamp;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use tokio::net::{TcpListener, TcpSocket};

/// The sockets of a cluster that has not started.
pub(super) struct Bound {
    nodes: Vec<(Role, SocketAddr, std::net::TcpListener)>,
    proxy: Option<(SocketAddr, std::net::TcpListener)>,
}

/// A running cluster; it ends with [`Embedded::stop`].
pub(super) struct Embedded {
    cluster: Running<sim::Totals>,
    proxy: Option<Running<proxy::Totals>>,
    watchable: Vec<EmbeddedNode>,
}

/// A server on a worker of its own.
struct Running<T> {
    stop: StopHandle,
    worker: Worker<T>,
}

impl<T> Running<T> {
    /// Lets what is in flight end; `hurry` may change its mind.
    async fn end(self, hurry: &mut StopSignal) -> Option<T> {
        self.stop.ask(hurry.asked().max(Stop::Drain));
        let mut ended = pin!(self.worker.join());
        tokio::select! {
            biased;
            totals = ended.as_mut() => return totals,
            () = hurry.reached(Stop::Now) => self.stop.ask(Stop::Now),
        }
        ended.await
    }
}

impl Bound {
    /// Binds a port for each node and, before nodes of two roles, the proxy's.
    ///
    /// # Errors
    /// A port is taken, or a parameter names a node that there is none of.
    pub(super) fn bind(plan: &SimPlan) -> Result<Self, Error> {
        plan.config.check().map_err(|why| {
            let help = "nodes of a role are counted from 0: the second decode node is decode:1";
            Error::new(Exit::Usage, why).help(help)
        })?;
        let bind = |port| {
            listen_std(SocketAddr::new(plan.address.ip(), port)).map_err(|error| taken(plan, port, error))
        };
        let mut nodes = Vec::new();
        for (role, port) in plan.ports() {
            let (address, listener) = bind(port)?;
            nodes.push((role, address, listener));
        }
        let proxied = plan.proxy && plan.config.topology.mixed == 0;
        let proxy = proxied.then(|| bind(plan.address.port())).transpose()?;
        Ok(Self { nodes, proxy })
    }

    /// Where requests go: the proxy, or the nodes that need none.
    pub(super) fn fronts(&self) -> Vec<SocketAddr> {
        match &self.proxy {
            Some((address, _)) => vec![*address],
            None => self.of(Role::Mixed).collect(),
        }
    }

    /// Where the nodes of a role are.
    pub(super) fn of(&self, wanted: Role) -> impl Iterator<Item = SocketAddr> {
        self.nodes.iter().filter(move |(role, ..)| *role == wanted).map(|(_, address, _)| *address)
    }

    /// What can be watched: names without ports, which are others in each run.
    fn watchable(&self) -> Vec<EmbeddedNode> {
        let mut all = Vec::new();
        for (role, served) in [
            (Role::Prefill, ServerRole::Prefill),
            (Role::Decode, ServerRole::Decode),
            (Role::Mixed, ServerRole::Mixed),
        ] {
            all.extend(self.of(role).enumerate().map(|(index, address)| EmbeddedNode {
                name: format!("{role}-{index}"),
                role: served,
                address,
            }));
        }
        let proxy = self.proxy.iter().map(|(address, _)| EmbeddedNode {
            name: "proxy".to_owned(),
            role: ServerRole::Proxy,
            address: *address,
        });
        all.extend(proxy);
        all
    }

    /// Every node, a line each.
    pub(super) fn listed(&self) -> String {
        let lines =
            self.nodes.iter().map(|(role, address, _)| format!("{:<8} http://{address}\n", role.to_string()));
        lines.collect()
    }

    /// Serves every node, and before them the proxy. The clock's origin is `started`.
    pub(super) fn start(
        self,
        plan: &SimPlan,
        started: Timestamp,
        clock: Clock,
        truth: Option<TruthSink>,
        workers: Workers,
    ) -> Result<Embedded, Error> {
        let failed =
            |error| Error::new(Exit::Preflight, "cannot start the simulated cluster").caused_by(error);
        let (settings, watchable) = (self.proxy_config(plan), self.watchable());
        let (stop, signal) = stop_channel();
        let config = anchored(&plan.config, started);
        let serving = async move {
            let nodes = self.nodes.into_iter().filter_map(|(role, _, listener)| {
                Some(SimNode { role, listener: TcpListener::from_std(listener).ok()? })
            });
            sim::run(nodes.collect(), config, clock, truth, signal).await
        };
        let cluster = Running { stop, worker: workers.start("sim", serving).map_err(failed)? };
        let Some((_, listener)) = self.proxy else {
            return Ok(Embedded { cluster, proxy: None, watchable });
        };
        let (stop, signal) = stop_channel();
        let serving = async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => proxy::run(listener, settings, clock, signal).await,
                Err(_) => proxy::Totals::default(),
            }
        };
        let proxy = Some(Running { stop, worker: workers.start("proxy", serving).map_err(failed)? });
        Ok(Embedded { cluster, proxy, watchable })
    }

    fn proxy_config(&self, plan: &SimPlan) -> proxy::Config {
        let nodes = |role| self.of(role).map(node).collect();
        proxy::Config {
            dialect: plan.dialect,
            policy: match plan.config.routing {
                Routing::LeastInFlight => proxy::Policy::LeastInFlight,
                Routing::RoundRobin => proxy::Policy::RoundRobin,
            },
            first_token: plan.first_token,
            seed: plan.config.seed,
            prefill: nodes(Role::Prefill),
            decode: nodes(Role::Decode),
            model: Some(plan.config.model.clone()),
            benchmark: Some(proxy::Benchmark::default()),
            ..proxy::Config::default()
        }
    }
}

impl Embedded {
    /// What can be watched of it.
    pub(super) fn watchable(&self) -> &[EmbeddedNode] {
        &self.watchable
    }

    /// Ends the proxy, then the nodes: at once, or as gently as `hurry` says.
    pub(super) async fn stop(self, mut hurry: StopSignal) -> sim::Totals {
        if let Some(proxy) = self.proxy {
            proxy.end(&mut hurry).await;
        }
        self.cluster.end(&mut hurry).await.unwrap_or_default()
    }

    /// Ends it at once, and gives a fault of its own.
    pub(super) async fn end_now(self) -> Option<&'static str> {
        let (handle, mut signal) = stop_channel();
        handle.ask(Stop::Now);
        let proxy = match self.proxy {
            Some(proxy) => proxy.end(&mut signal).await.map(drop),
            None => Some(()),
        };
        let cluster = self.cluster.end(&mut signal).await.map(drop);
        match (proxy, cluster) {
            (Some(()), Some(())) => None,
            (None, _) => Some("the proxy of the embedded cluster panicked"),
            (_, None) => Some("the embedded cluster panicked"),
        }
    }
}

/// What the nodes are told, with the wall's time at the clock's origin.
fn anchored(config: &sim::Config, started: Timestamp) -> sim::Config {
    let wall_anchor_unix_us = u64::try_from(started.as_microsecond()).unwrap_or(0);
    sim::Config { wall_anchor_unix_us, ..config.clone() }
}

/// A node or the proxy as the load goes to it, with these headers on each request.
pub(super) fn instance(address: SocketAddr, headers: &[(String, Secret)]) -> Result<Instance, Error> {
    let target = Target::parse(&format!("http://{address}"));
    let target = headers.iter().fold(target, |target, (name, value)| {
        target.and_then(|target| target.with_header(name, value.expose()))
    });
    let target = target
        .map_err(|error| Error::new(Exit::Preflight, "cannot use the embedded cluster").caused_by(error))?;
    Ok(Instance { node: node(address), target })
}

/// A simulated node, whose HTTP port stands for those of its KV side, too.
fn node(address: SocketAddr) -> Node {
    let kv = KvFacts {
        address: Some(address.to_string()),
        bootstrap_port: Some(address.port()),
        init_ports: vec![address.port()],
        alloc_ports: vec![address.port()],
        ..KvFacts::default()
    };
    Node { host: address.ip().to_string(), port: address.port(), kv }
}

fn taken(plan: &SimPlan, port: u16, error: io::Error) -> Error {
    Error::new(Exit::Usage, format!("cannot listen on {}", SocketAddr::new(plan.address.ip(), port)))
        .caused_by(error)
        .help("name an address of this machine with --host and free ports with --port, --prefill-port and --decode-port")
}

fn listen_std(address: SocketAddr) -> io::Result<(SocketAddr, std::net::TcpListener)> {
    let listener = listen(address)?;
    Ok((listener.local_addr()?, listener.into_std()?))
}

/// A listener that keeps up to 4096 connections waiting: the usual 128 would drop some of a burst.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_know_when_their_clock_began() {
        let started = Timestamp::new(1_767_323_045, 6_000).unwrap();
        assert_eq!(anchored(&sim::Config::default(), started).wall_anchor_unix_us, 1_767_323_045_000_006);
    }
}
