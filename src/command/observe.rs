//! Who is watched in a run, and from when to when.

use super::client::Client;
use super::recorder::RunDirectory;
use super::{Error, Exit, Surroundings, preflight};
use crate::measure::{NodeFacts, ServerRole};
use crate::observe::{Scraper, WatchedNode, Watcher};
use crate::runtime::Clock;
use crate::wire::Target;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::sleep;

/// Who is watched, and how often.
#[derive(Clone, Debug, Default)]
pub struct WatchPlan {
    /// Nodes that were named, with what they do. An embedded cluster knows its own.
    pub nodes: Vec<(ServerRole, Target)>,
    /// Looks a second; 0 for one before and one after the load, `None` for what the verb takes.
    pub scrape_hz: Option<f64>,
}

/// A node of the embedded cluster.
#[derive(Clone, Debug)]
pub(super) struct EmbeddedNode {
    pub(super) name: String,
    pub(super) role: ServerRole,
    pub(super) address: SocketAddr,
}

/// Looks a second in a load.
pub(super) const USUAL_HZ: f64 = 1.0;
/// Looks a second in a run of batches.
pub(super) const REPEAT_HZ: f64 = 5.0;
/// Longest wait for one node's answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Rest between the end of the load and the last look: servers count a request a little after its last byte.
const SETTLE: Duration = Duration::from_millis(200);

impl WatchPlan {
    /// The nodes, for the record.
    pub(super) fn facts(&self) -> Vec<NodeFacts> {
        let fact = |(role, target): &(ServerRole, Target)| NodeFacts {
            role: role.to_string(),
            address: target.authority(),
        };
        self.nodes.iter().map(fact).collect()
    }

    /// Starts to watch, and looks once. `None` where nobody is to be watched.
    pub(super) async fn start(
        &self,
        embedded: &[EmbeddedNode],
        usual_hz: f64,
        clock: Clock,
        directory: &mut RunDirectory,
        world: &mut Surroundings,
    ) -> Result<Option<Watcher>, Error> {
        let hz = self.scrape_hz.unwrap_or(usual_hz);
        let every = (0.0 < hz).then(|| Duration::from_secs_f64(1.0 / hz));
        let patience = every.map_or(PATIENCE, |every| every.max(Duration::from_secs(1)).min(PATIENCE));
        let mut nodes: Vec<WatchedNode> = embedded.iter().map(|node| node.watched(patience)).collect();
        for (role, target) in self.found(world).await {
            if target.tls().is_some() {
                let place = target.base_url();
                world.note(&format!(
                    "warning: not watched: {place}: metrics are asked for by plain http only\n"
                ));
                continue;
            }
            match preflight::resolve(&target, world).await {
                Ok(addresses) => nodes.push(watched(role, &target, addresses[0], patience)),
                Err(error) => world.note(&format!("warning: not watched: {}", error.message())),
            }
        }
        if nodes.is_empty() {
            return Ok(None);
        }
        let journal = directory.observations()?;
        let sink = Box::new(move |lines| journal.append(lines));
        let watcher = Watcher::start(nodes, every, clock, sink, world.workers)
            .map_err(|error| Error::new(Exit::Preflight, "cannot watch the nodes").caused_by(error))?;
        watcher.look().await;
        Ok(Some(watcher))
    }

    /// The nodes that were named. A proxy of ours names those behind it where nobody else did, and is watched; other
    /// proxies count nothing that is known here.
    async fn found(&self, world: &mut Surroundings) -> Vec<(ServerRole, Target)> {
        let mut nodes = Vec::new();
        let serves = |role: ServerRole| matches!(role, ServerRole::Prefill | ServerRole::Decode);
        let named = self.nodes.iter().any(|(role, _)| serves(*role));
        for (role, target) in &self.nodes {
            if *role != ServerRole::Proxy {
                nodes.push((*role, target.clone()));
                continue;
            }
            let Some(status) = status(target, world).await else { continue };
            nodes.push((*role, target.clone()));
            for (key, role) in [("prefill_nodes", ServerRole::Prefill), ("decode_nodes", ServerRole::Decode)]
            {
                let behind = status[key].as_array().filter(|_| !named).into_iter().flatten();
                let behind =
                    behind.filter_map(|node| Target::parse(&format!("http://{}", node.as_str()?)).ok());
                nodes.extend(behind.map(|target| (role, target)));
            }
        }
        nodes
    }
}

/// What a proxy of ours says of itself; `None` of another.
async fn status(proxy: &Target, world: &Surroundings) -> Option<Value> {
    let address = *preflight::resolve(proxy, world).await.ok()?.first()?;
    let text = Client::new(proxy, address).ok()?.text("/status").await.ok()?;
    let status: Value = serde_json::from_str(&text).ok()?;
    status.get("dialect").is_some().then_some(status)
}

/// Looks for the last time, when the servers have counted all, and ends the watch.
pub(super) async fn end(watcher: Option<Watcher>) -> Option<String> {
    let watcher = watcher?;
    sleep(SETTLE).await;
    watcher.look().await;
    (!watcher.end().await).then(|| "the watch of the nodes panicked".to_owned())
}

impl EmbeddedNode {
    fn watched(&self, patience: Duration) -> WatchedNode {
        let scraper = Scraper::new(self.address, &self.address.to_string(), "/metrics", patience);
        WatchedNode { name: self.name.clone(), role: self.role, scraper }
    }
}

fn watched(role: ServerRole, target: &Target, address: SocketAddr, patience: Duration) -> WatchedNode {
    let base = target.base_path();
    let path = if base.ends_with("/metrics") { base.to_owned() } else { format!("{base}/metrics") };
    let name = target.authority();
    WatchedNode { scraper: Scraper::new(address, &name, &path, patience), name, role }
}
