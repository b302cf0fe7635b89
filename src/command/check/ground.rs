//! Who is there: the proxy, the instances, what each tells of itself before the first request.

use super::CheckPlan;
use super::counting::{scraper, store_keys};
use crate::cluster::{Node, Role};
use crate::command::client::Client;
use crate::command::embedded::{self, Bound, Embedded};
use crate::command::{Error, Exit, Instance, SimPlan, Surroundings, TargetPlan, input, preflight};
use crate::load::Place;
use crate::measure::NodeFacts;
use crate::measure::check::NodeTold;
use crate::observe::Scraper;
use crate::report::plain;
use crate::runtime::{Clock, Stop};
use crate::wire::Target;
use crate::wire::dialect::{Asked, Before, Dialect, Order, engines};
use crate::wire::{Endpoint, Object};
use jiff::Zoned;
use std::net::SocketAddr;

/// One place that takes requests.
pub(super) struct Spot {
    pub(super) node: Node,
    pub(super) target: Target,
    pub(super) address: SocketAddr,
    pub(super) told: NodeTold,
    /// Of its metrics, where it has any.
    pub(super) scraper: Option<Scraper>,
}

/// Everything that a check works with.
pub(super) struct Ground {
    pub(super) proxy: Option<Spot>,
    /// Prefill instances, then decode instances.
    pub(super) nodes: Vec<Spot>,
    pub(super) baseline: Option<Spot>,
    /// How the legs are spoken that go straight to instances; `None` where none do.
    pub(super) dialect: Option<Dialect>,
    /// Keys in the store, or why nobody knows.
    pub(super) store: Result<Option<f64>, String>,
    pub(super) model: String,
    pub(super) simulated: bool,
    embedded: Option<Embedded>,
}

impl Spot {
    /// As the manifest has it.
    pub(super) fn facts(&self) -> NodeFacts {
        NodeFacts { role: self.told.role.to_string(), address: self.told.address.clone() }
    }

    fn place(&self) -> Place {
        Place {
            address: self.address,
            tls: self.target.tls().cloned(),
            tunnel: self.target.tunnel().map(Into::into),
            name: Some(self.told.place()),
            greeting: None,
        }
    }
}

impl Ground {
    /// Where requests go: the proxy, the instances, the baseline.
    pub(super) fn places(&self) -> Vec<Place> {
        self.proxy.iter().chain(&self.nodes).chain(&self.baseline).map(Spot::place).collect()
    }

    /// What stands for the deployment.
    pub(super) fn front(&self) -> &Spot {
        self.proxy
            .as_ref()
            .or(self.nodes.last())
            .or(self.baseline.as_ref())
            .expect("the target is one of them")
    }

    /// The longest prompt and answer that all take, as far as they tell.
    pub(super) fn max_model_len(&self) -> Option<u64> {
        self.nodes.iter().filter_map(|spot| spot.told.max_model_len).min()
    }

    /// Ends the embedded cluster, if there is one; says what of it had broken.
    pub(super) async fn end(self) -> Option<String> {
        self.embedded?.end_now().await.map(str::to_owned)
    }
}

/// Looks around, unless a signal comes first.
pub(super) async fn reach_or_stop(
    plan: &CheckPlan,
    started: &Zoned,
    clock: Clock,
    world: &mut Surroundings,
) -> Result<Ground, Error> {
    let mut stop = world.interrupt.signal();
    let reached = tokio::select! {
        biased;
        reached = reach(plan, started, clock, world) => Some(reached),
        () = stop.reached(Stop::Drain) => None,
    };
    let stopped = || Error::new(Exit::Interrupted, "stopped before the first request");
    reached.unwrap_or_else(|| Err(preflight::stopped_early(world).unwrap_or_else(stopped)))
}

async fn reach(
    plan: &CheckPlan,
    started: &Zoned,
    clock: Clock,
    world: &mut Surroundings,
) -> Result<Ground, Error> {
    let mut ground = match &plan.serve.target {
        TargetPlan::Embedded(sim) => embedded_ground(plan, sim, started, clock, world).await?,
        TargetPlan::Remote(target) => remote_ground(plan, target, world).await?,
    };
    if let Some(target) = &plan.baseline {
        let node = node_of(target)?;
        let name = node.to_string();
        let told = NodeTold::named(Role::Mixed, name);
        ground.baseline = Some(look_at(&Instance { node, target: target.clone() }, told, world).await?.0);
    }
    if let Some(store) = &plan.store {
        ground.store = store_keys(store, world).await;
    }
    if let Some(dialect) = ground.dialect {
        for spot in &mut ground.nodes {
            dialect.fits(spot.told.role, &spot.node).map_err(|error| {
                Error::new(Exit::Usage, "the deployment is not described in full").caused_by(error)
            })?;
            ask_before(dialect, spot, world).await;
        }
    }
    let listed = || ground.nodes.iter().chain(&ground.proxy).flat_map(|spot| spot.told.models.first());
    let named = plan.serve.served_model_name.clone().or(plan.serve.model.clone());
    ground.model = named.or_else(|| listed().next().cloned()).ok_or_else(|| {
        let why = ground
            .nodes
            .iter()
            .find_map(|spot| Some(format!("{}: {}", spot.told.name(), spot.told.silent.as_ref()?)));
        Error::new(
            Exit::Preflight,
            format!("nobody names a model{}", why.map_or(String::new(), |why| format!("; {why}"))),
        )
        .help("start the deployment, or name its model with --model")
    })?;
    Ok(ground)
}

/// The embedded cluster, its nodes named by role and number: their ports are others in each run.
async fn embedded_ground(
    plan: &CheckPlan,
    sim: &SimPlan,
    started: &Zoned,
    clock: Clock,
    world: &mut Surroundings,
) -> Result<Ground, Error> {
    if 0 < sim.config.topology.mixed {
        return Err(Error::new(Exit::Usage, "nodes that do both hand no KV over: there is nothing to check")
            .help("give --sim a topology such as 1p1d or 2p4d"));
    }
    let bound = Bound::bind(sim)?;
    let front = bound.fronts();
    let nodes: Vec<(Role, SocketAddr)> = [Role::Prefill, Role::Decode]
        .into_iter()
        .flat_map(|role| bound.of(role).map(move |address| (role, address)))
        .collect();
    let running = bound.start(sim, started.timestamp(), clock, None, world.workers)?;
    let mut spots = Vec::with_capacity(nodes.len());
    for (at, (role, address)) in nodes.iter().enumerate() {
        let index = nodes[..at].iter().filter(|(other, _)| other == role).count();
        let told = NodeTold::named(*role, index.to_string());
        spots.push(look_at(&embedded::instance(*address, &plan.serve.headers)?, told, world).await?.0);
    }
    let proxy = match front.first() {
        Some(&address) => {
            let told = NodeTold::named(Role::Mixed, "embedded".to_owned());
            Some(look_at(&embedded::instance(address, &plan.serve.headers)?, told, world).await?.0)
        }
        None => None,
    };
    Ok(Ground {
        proxy,
        nodes: spots,
        baseline: None,
        dialect: Some(plan.dialect.unwrap_or(sim.dialect)).filter(|dialect| is_spoken(*dialect)),
        store: Ok(None),
        model: String::new(),
        simulated: true,
        embedded: Some(running),
    })
}

async fn remote_ground(plan: &CheckPlan, target: &Target, world: &mut Surroundings) -> Result<Ground, Error> {
    let (mut proxy, mut status) = (None, None);
    let mut simulated = false;
    if plan.proxy {
        let target = input::trusting(target, &plan.serve.trust)?;
        let addresses = preflight::resolve(&target, world).await?;
        let (_, client) = preflight::wait_ready(&target, &addresses, plan.serve.wait_ready, world).await?;
        status = client.text("/status").await.ok().and_then(|text| Status::read(&text));
        simulated = client.is_simulator().await;
        let node = node_of(&target)?;
        let told = NodeTold::named(Role::Mixed, node.to_string());
        proxy = Some(look_at(&Instance { node, target }, told, world).await?.0);
    }
    let status = status.unwrap_or_default();
    let named = !plan.prefill.is_empty() || !plan.decode.is_empty();
    let learned = |names: &[String]| names.iter().filter_map(|name| plain_instance(name)).collect::<Vec<_>>();
    let sides = match named {
        true => [plan.prefill.clone(), plan.decode.clone()],
        false => [learned(&status.prefill), learned(&status.decode)],
    };
    let mut nodes = Vec::new();
    for (role, instances) in [Role::Prefill, Role::Decode].into_iter().zip(&sides) {
        for instance in instances {
            let told = NodeTold::named(role, instance.node.to_string());
            let (spot, is_simulator) = look_at(instance, told, world).await?;
            simulated |= is_simulator;
            nodes.push(spot);
        }
    }
    if nodes.is_empty() {
        world.note(
            "no instance is known: without --prefill and --decode only the proxy's answers are looked at\n",
        );
    }
    let told = status.dialect.as_deref().and_then(|name| name.parse().ok());
    let dialect = plan.dialect.or(told).filter(|dialect| is_spoken(*dialect));
    if dialect.is_none() && !nodes.is_empty() {
        if proxy.is_none() {
            return Err(Error::new(Exit::Usage, "nobody says how these instances hand KV over")
                .help("name the connector's dialect with --dialect, or the proxy with --base-url"));
        }
        world.note(
            "pairs are exercised as the proxy chooses them: --dialect NAME speaks to each pair itself\n",
        );
    }
    Ok(Ground {
        proxy,
        nodes,
        baseline: None,
        dialect,
        store: Ok(None),
        model: String::new(),
        simulated,
        embedded: None,
    })
}

/// Whether a client can play the proxy of a dialect: what waits for calls or notifications of its own cannot.
pub(super) fn is_spoken(dialect: Dialect) -> bool {
    dialect.order() != Order::DecodeFirst && dialect != Dialect::Lmcache
}

/// What a proxy says of the instances behind it.
#[derive(Default)]
struct Status {
    prefill: Vec<String>,
    decode: Vec<String>,
    dialect: Option<String>,
}

impl Status {
    fn read(text: &str) -> Option<Self> {
        let status: serde_json::Value = serde_json::from_str(text).ok()?;
        let names = |key: &str| {
            let listed = status[key].as_array().into_iter().flatten();
            listed.filter_map(|name| name.as_str().map(str::to_owned)).collect()
        };
        let dialect = status["dialect"].as_str().map(str::to_owned);
        Some(Self { prefill: names("prefill_nodes"), decode: names("decode_nodes"), dialect })
    }
}

/// An instance that somebody else named: it gets no key and no header.
fn plain_instance(name: &str) -> Option<Instance> {
    let node: Node = name.parse().ok()?;
    let target = Target::parse(&format!("http://{}", node.authority())).ok()?;
    Some(Instance { node, target })
}

fn node_of(target: &Target) -> Result<Node, Error> {
    let node = format!("{}:{}", target.host(), target.port()).parse();
    node.or_else(|_| target.authority().parse()).map_err(|error: String| Error::new(Exit::Usage, error))
}

/// What an instance tells of itself, and whether it is a simulated one. One that does not answer is a finding, not an
/// error.
async fn look_at(
    instance: &Instance,
    mut told: NodeTold,
    world: &Surroundings,
) -> Result<(Spot, bool), Error> {
    let Instance { node, target } = instance;
    let addresses = match preflight::resolve(target, world).await {
        Ok(addresses) => addresses,
        Err(error) => {
            told.silent = Some(error.to_string());
            Vec::new()
        }
    };
    let unknown = SocketAddr::from(([127, 0, 0, 1], node.port));
    let mut spot = Spot {
        node: node.clone(),
        target: target.clone(),
        address: addresses.first().copied().unwrap_or(unknown),
        told,
        scraper: None,
    };
    if spot.told.silent.is_some() {
        return Ok((spot, false));
    }
    match preflight::first_open(&addresses).await {
        Ok(address) => spot.address = address,
        Err(why) => {
            spot.told.silent = Some(why);
            return Ok((spot, false));
        }
    }
    let client = Client::new(target, spot.address).map_err(|error| preflight::no_client(target, error))?;
    if let Err(why) = client.health().await {
        spot.told.silent = Some(plain(&why.to_string()));
        return Ok((spot, false));
    }
    // Many proxies have no such page.
    for (model, length) in client.models_and_lengths().await.unwrap_or_default() {
        spot.told.max_model_len = spot.told.max_model_len.or(length);
        spot.told.models.push(plain(&model));
    }
    let mut scraper = scraper(&spot);
    if let Ok(scrape) = scraper.scrape().await {
        let info = scrape.samples.iter().find(|sample| sample.name.ends_with("cache_config_info"));
        spot.told.block_size = info.and_then(|sample| sample.label("block_size")?.parse().ok());
        spot.scraper = Some(scraper);
    }
    Ok((spot, client.is_simulator().await))
}

/// What a dialect has to ask of an instance before the first leg: the engine's id, where a bootstrap server names it.
async fn ask_before(dialect: Dialect, spot: &mut Spot, world: &Surroundings) {
    if spot.told.role != Role::Prefill || spot.told.silent.is_some() {
        return;
    }
    let body = Object::parse(b"{}").expect("an empty object is one");
    let asked = Asked { endpoint: Endpoint::Completions, body, token_ids: None };
    let Before::Bootstrap { authority, path } = dialect.asks_before(&asked, &spot.node) else { return };
    let answer = async {
        let target = Target::parse(&format!("http://{authority}")).map_err(|error| error.to_string())?;
        let addresses = preflight::resolve(&target, world).await.map_err(|error| error.to_string())?;
        let address = preflight::first_open(&addresses).await?;
        let client = Client::new(&target, address).map_err(|error| error.to_string())?;
        let text = client.text(path).await.map_err(|error| error.to_string())?;
        engines(text.as_bytes()).map_err(|error| error.to_string())
    };
    match answer.await {
        Ok(engines) => spot.node.kv.engine_id = engines.into_values().next(),
        Err(why) => {
            spot.told.silent = Some(plain(&format!("its bootstrap server {authority} is of no use: {why}")));
        }
    }
}
