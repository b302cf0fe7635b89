//! `pdbench serve`: loads a target, measures, reports.

use super::begun::{Afterwards, Begun, check_places};
use super::client::Client;
use super::dataset::{Dataset, Making};
use super::direct::{self, Direct};
use super::embedded::{self, Bound, Embedded};
use super::ending::{Closing, ended_early, finish};
use super::manifest::{Known, manifest};
use super::passes::{passes, run_passes, warm_up};
use super::preflight::{self, Connections};
use super::recorder::{Recorder, RunDirectory};
use super::requests::{salt_text, salt_tokens, salted};
use super::{DirectPlan, Error, Exit, Instance, ServePlan, SimPlan, Surroundings, TargetPlan};
use super::{earlier, input, lengths, observe, secrets};
use crate::cluster::Role;
use crate::load::{Live, Load, LoadConfig, Pacing, Place};
use crate::measure::{Comparison, Manifest, Stamps};
use crate::report;
use crate::runtime::{Clock, Stop, Workers};
use crate::wire::Target;
use crate::workload::ArrivalProcess;
use jiff::Zoned;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// Where requests go, once that is known.
pub(super) struct Reached {
    pub(super) target: Target,
    /// Asks it what is not load.
    client: Client,
    /// Those of its name; the first is the one that is used.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) model: String,
    /// The model behind that name, where it has another.
    model_id: Option<String>,
    /// Tokens that the model takes, prompt and answer together, where the target tells.
    max_model_len: Option<u64>,
    embedded: Option<Embedded>,
    simulated: bool,
    /// How requests go past the proxy, where some do.
    pub(super) direct: Option<Direct>,
}

/// Runs a whole benchmark and prints its result.
pub(super) async fn serve(plan: ServePlan, world: &mut Surroundings) -> Result<Exit, Error> {
    let begun = Begun::now("serve", world);
    let making = Making::start(&plan, begun.started.datetime(), world)?;
    check_places(&plan)?;
    let reached = reach_or_stop(&plan, &begun.started, begun.clock, world).await;
    // A fault of the dataset is said first: it is there with any target.
    let dataset = making.finish(world)?;
    run(&plan, begun, dataset, &mut reached?, Afterwards::End, world).await
}

/// Loads a target that has been reached, from the probe to the files.
pub(super) async fn run(
    plan: &ServePlan,
    begun: Begun,
    mut dataset: Dataset,
    reached: &mut Reached,
    afterwards: Afterwards,
    world: &mut Surroundings,
) -> Result<Exit, Error> {
    let Begun { started, clock, run_id, beside } = begun;
    let salt = plan.salt.as_ref().map(|salt| salt_text(salt, &run_id));
    lengths::check(plan, &dataset, salt_tokens(salt.as_deref(), &dataset.counter), reached.max_model_len)?;
    dataset.requests = salted(dataset.requests, salt.as_deref(), &dataset.counter);
    raise_descriptor_limit(plan, dataset.requests.len(), world)?;
    let facts = dataset.facts.clone();
    let mut passes = passes(plan, reached, &run_id, dataset)?;

    let live = Arc::new(Live::default());
    let recorder = Recorder::default();
    let mut load = start_load(plan, reached, clock, &live, &recorder, world)?;
    if let Some(request) = passes.probe.take() {
        preflight::probe(&mut load.load, request, &reached.client, &plan.path, world).await?;
    }
    let known = Known {
        plan,
        verb: "serve",
        run_id,
        started: &started,
        target: &reached.target,
        addresses: &reached.addresses,
        simulated: reached.simulated,
        model: reached.model.clone(),
        model_id: reached.model_id.clone(),
        salt,
        dataset: facts,
        num_prompts: passes.main.len(),
        stamps: load.stamps,
    };
    let mut load = load.load;
    let mut manifest = manifest(known, world);
    let by_turns = reached.direct.as_ref().filter(|direct| direct.by_turns);
    manifest.comparison =
        by_turns.map(|_| Comparison { proxy: Direct::proxy_name(reached.addresses[0]), proxy_cpu_s: None });
    manifest.sent_before = earlier::same_prompts(beside.as_deref().unwrap_or(&plan.output_dir), &manifest);
    let mut directory = RunDirectory::create(&plan.output_dir, &manifest, &recorder)?;
    announce(plan, &manifest, directory.path(), world);
    let throttled_before = input::throttled_periods();
    let warmed = warm_up(plan, &mut passes, &mut load, world).await;
    let nodes = reached.embedded.as_ref().map_or(&[][..], Embedded::watchable);
    let watcher = plan.watch.start(nodes, observe::USUAL_HZ, clock, &mut directory, world).await?;
    let cpu_before = cpu_of_proxy(reached, &manifest).await;
    let ran = match warmed {
        Ok(()) => run_passes(plan, passes, &mut load, &live, world).await,
        Err(error) => Err(error),
    };
    let ran = ran.map(|(report, fault)| {
        manifest.broken.extend(fault);
        report
    });
    let cpu_after = cpu_of_proxy(reached, &manifest).await;
    if let Some(comparison) = &mut manifest.comparison {
        comparison.proxy_cpu_s = cpu_after.zip(cpu_before).map(|(after, before)| after - before);
    }
    manifest.broken.extend(observe::end(watcher).await);
    let ended = load.finish().await;
    if afterwards == Afterwards::End {
        manifest.broken.extend(reached.end_embedded().await);
    }
    let ran = ran.and_then(|report| ended.map(|()| report).map_err(ended_early));
    finish(Closing::of_load(plan, &mut manifest, directory, throttled_before), ran, world)
}

/// A load that has started, and who stamps in it.
struct Started {
    load: Load,
    stamps: Stamps,
}

fn start_load(
    plan: &ServePlan,
    reached: &Reached,
    clock: Clock,
    live: &Arc<Live>,
    recorder: &Recorder,
    world: &Surroundings,
) -> Result<Started, Error> {
    let places = match &reached.direct {
        Some(direct) => direct.places(front(reached)),
        None => vec![front(reached)],
    };
    // An embedded cluster needs a processor of its own.
    let cores = world.host.cores.saturating_sub(usize::from(reached.embedded.is_some()));
    let config = load_config(plan, &reached.target, places, cores, clock, world);
    let stamps = config.stamps;
    let load = Load::start(config, Arc::clone(live), &recorder.sink())
        .map_err(|error| Error::new(Exit::Preflight, "cannot start the load").caused_by(error))?;
    Ok(Started { load, stamps })
}

/// Where requests go that have one place to go to.
pub(super) fn front(reached: &Reached) -> Place {
    let (tls, tunnel) = (reached.target.tls().cloned(), reached.target.tunnel().map(Into::into));
    Place { address: reached.addresses[0], tls, tunnel, name: None, greeting: None }
}

/// What the proxy of a comparison has used so far.
async fn cpu_of_proxy(reached: &Reached, manifest: &Manifest) -> Option<f64> {
    manifest.comparison.as_ref()?;
    direct::cpu_seconds(&reached.client).await
}

/// Descriptors that one connection costs: one for the client, and for a cluster in the same process one at its node,
/// or two ends each of the client's, the prefill and the decode connection at the proxy.
pub(super) fn descriptors(target: &TargetPlan) -> u64 {
    match target {
        TargetPlan::Embedded(sim) if sim.config.topology.mixed == 0 => 6,
        TargetPlan::Embedded(_) => 2,
        TargetPlan::Remote(_) => 1,
    }
}

fn raise_descriptor_limit(plan: &ServePlan, requests: usize, world: &mut Surroundings) -> Result<(), Error> {
    let most = requests.max(plan.num_warmups);
    let connections = match (plan.max_concurrency, plan.arrivals) {
        (Some(limit), _) => Connections::Exactly(limit.min(most)),
        (None, ArrivalProcess::AllAtOnce) => Connections::Exactly(most),
        // An open loop keeps as many as the server is slow.
        (None, _) => Connections::AtMost(most),
    };
    if let Some(note) = preflight::ports_note(connections, input::local_ports()) {
        world.note(&note);
    }
    // A connection to either instance for each request, and one to the proxy where they take turns.
    let past = plan.direct.as_ref().map_or(0, |direct| 1 + u64::from(direct.by_turns));
    let each = descriptors(&plan.target) + past;
    preflight::raise_descriptor_limit(connections, connections.most() as u64 * each)
}

impl Reached {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// It is a simulator of ours.
    pub(super) fn is_simulated(&self) -> bool {
        self.simulated
    }

    /// Ends the embedded cluster, if there is one; says what of it had broken.
    pub(super) async fn end_embedded(&mut self) -> Option<String> {
        self.embedded.take()?.end_now().await.map(str::to_owned)
    }
}

/// The target, unless a signal comes first.
pub(super) async fn reach_or_stop(
    plan: &ServePlan,
    started: &Zoned,
    clock: Clock,
    world: &mut Surroundings,
) -> Result<Reached, Error> {
    let mut stop = world.interrupt.signal();
    let reached = tokio::select! {
        biased;
        reached = reach(plan, started, clock, world) => Some(reached),
        () = stop.reached(Stop::Drain) => None,
    };
    let stopped = || Error::new(Exit::Interrupted, "stopped before the load began");
    reached.unwrap_or_else(|| Err(preflight::stopped_early(world).unwrap_or_else(stopped)))
}

/// Starts the embedded cluster, or finds the remote target, and learns the model's name.
async fn reach(
    plan: &ServePlan,
    started: &Zoned,
    clock: Clock,
    world: &mut Surroundings,
) -> Result<Reached, Error> {
    match &plan.target {
        TargetPlan::Embedded(sim) => {
            let model = sim.config.model.clone();
            let bound = Bound::bind(sim)?;
            let fronts = bound.fronts();
            let direct = plan.direct.as_ref().map(|direct| behind(direct, plan, sim, &bound)).transpose()?;
            let embedded = bound.start(sim, started.timestamp(), clock, None, world.workers)?;
            let Instance { target, .. } = embedded::instance(fronts[0], &plan.headers)?;
            let client =
                Client::new(&target, fronts[0]).map_err(|error| preflight::no_client(&target, error))?;
            Ok(Reached {
                target,
                client,
                addresses: fronts,
                model_id: plan.model.clone().filter(|id| *id != model),
                model,
                max_model_len: Some(sim.config.cost.context_limit()),
                embedded: Some(embedded),
                simulated: true,
                direct,
            })
        }
        TargetPlan::Remote(target) => {
            let target = input::trusting(target, &plan.trust)?;
            let mut addresses = preflight::resolve(&target, world).await?;
            let (address, client) =
                preflight::wait_ready(&target, &addresses, plan.wait_ready, world).await?;
            addresses.sort_by_key(|&other| other != address);
            caution(&target, address, world);
            let (model, model_id, max_model_len) =
                match plan.served_model_name.as_ref().or(plan.model.as_ref()) {
                    Some(model) => (model.clone(), plan.model.clone(), client.max_model_len(model).await),
                    None => {
                        let first = preflight::first_model(&client).await?;
                        (first.id, first.root, first.max_model_len)
                    }
                };
            let model_id = model_id.filter(|id| *id != model);
            let simulated = client.is_simulator().await;
            let direct = match &plan.direct {
                Some(direct) => Some(located(direct, world).await?),
                None => None,
            };
            Ok(Reached {
                target,
                client,
                addresses,
                model,
                model_id,
                max_model_len,
                embedded: None,
                simulated,
                direct,
            })
        }
    }
}

/// The embedded cluster's nodes, to be asked without its proxy.
fn behind(plan: &DirectPlan, serve: &ServePlan, sim: &SimPlan, bound: &Bound) -> Result<Direct, Error> {
    let instances = |role| {
        let one = |address| Ok((embedded::instance(address, &serve.headers)?, address));
        bound.of(role).map(one).collect::<Result<Vec<_>, Error>>()
    };
    let (prefill, decode) = (instances(Role::Prefill)?, instances(Role::Decode)?);
    if prefill.is_empty() || decode.is_empty() {
        return Err(Error::new(Exit::Usage, "nodes that do both have no proxy to go past")
            .help("leave --direct out, or give --sim a topology such as 1p1d"));
    }
    Ok(Direct { dialect: plan.dialect.unwrap_or(sim.dialect), prefill, decode, by_turns: plan.by_turns })
}

/// The instances of a deployment, found.
async fn located(plan: &DirectPlan, world: &Surroundings) -> Result<Direct, Error> {
    let mut sides = [Vec::new(), Vec::new()];
    for (side, instances) in sides.iter_mut().zip([&plan.prefill, &plan.decode]) {
        for instance in instances {
            let address = preflight::resolve(&instance.target, world).await?[0];
            side.push((instance.clone(), address));
        }
    }
    let [prefill, decode] = sides;
    Ok(Direct { dialect: plan.dialect.unwrap_or_default(), prefill, decode, by_turns: plan.by_turns })
}

/// Says what about the connection is not as safe as it may seem.
fn caution(target: &Target, address: SocketAddr, world: &mut Surroundings) {
    let url = target.base_url();
    let away = target.http_proxy().is_some();
    match target.tls() {
        Some(tls) if !tls.verified() => {
            world.note(&format!("warning: --insecure: nobody checks that it is {url} that answers\n"));
        }
        None if target.api_key().is_some() && (away || !address.ip().is_loopback()) => {
            world.note(&format!("warning: the API key is sent to {url} unencrypted\n"));
        }
        _ => {}
    }
}

/// What all passes of a run to `places` have in common; `cores` may be used for reading.
pub(super) fn load_config(
    plan: &ServePlan,
    target: &Target,
    places: Vec<Place>,
    cores: usize,
    clock: Clock,
    world: &Surroundings,
) -> LoadConfig {
    let shards = plan.shards.unwrap_or(cores.clamp(1, 16));
    let (pacing, stamps, shards) = match world.workers {
        Workers::Threads => (Pacing::Thread { spin: plan.pacing_spin }, Stamps::Kernel, shards),
        Workers::Local => (Pacing::Runtime, Stamps::User, 1),
    };
    LoadConfig {
        places,
        shards,
        timeouts: plan.timeouts,
        read_limits: plan.read_limits,
        keep_text: plan.save_text,
        stamps,
        clock,
        workers: world.workers,
        pacing,
        secrets: secrets::of(target, &plan.extra_body).into(),
    }
}

/// Says what is about to happen.
fn announce(plan: &ServePlan, manifest: &Manifest, directory: &Path, world: &mut Surroundings) {
    let target = &manifest.target;
    let place = match &target.topology {
        Some(topology) => {
            format!("an embedded simulated {topology} cluster (SIMULATED: no real model, no real hardware)")
        }
        None => {
            let kind = if target.simulated { " (SIMULATED: no real model, no real hardware)" } else { "" };
            format!("{}{}{kind}", target.base_url, target.endpoint)
        }
    };
    let settings = &manifest.settings;
    let place = place + &target.http_proxy.as_ref().map_or(String::new(), |url| format!(" through {url}"));
    let rate = settings.request_rate.map_or("all at once".to_owned(), |rate| format!("{rate} requests/s"));
    let limit = settings.max_concurrency.map_or(String::new(), |most| format!(", at most {most} in flight"));
    world.note(&format!(
        "{} requests of dataset {} to {place}, model {}, {rate}{limit}, seed {}\nresults go to {}\n",
        settings.num_prompts,
        manifest.dataset.name,
        report::plain(&target.model),
        settings.seed,
        directory.display(),
    ));
    if let Some(salt) = &settings.salt {
        world.note(&format!("each prompt begins with `{}`, so they are not vLLM's\n", report::plain(salt)));
    }
    if let Some(remark) = &manifest.dataset.remark {
        world.note(&format!("prompts: {remark}\n"));
    }
    if plan.num_warmups > 0 {
        world.note(&format!("{} warm-up requests first\n", plan.num_warmups));
    }
}
