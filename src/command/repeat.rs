//! `pdbench serve --repeat-d-times`: batches of equal decode requests, held in flight at once.

mod barrier;
mod counters;
mod direct;
mod external;
mod through_proxy;

use super::client::Client;
use super::dataset::Making;
use super::embedded::{self, Bound, Embedded};
use super::ending::{Closing, finish};
use super::manifest::{Known, manifest, run_id};
use super::preflight::{self, Connections};
use super::recorder::{Recorder, RunDirectory};
use super::requests::{Writing, salt_text, salted};
use super::serve::load_config;
use super::{Error, Exit, Instance, RepeatPlan, RepeatWay, SimPlan, Surroundings, TargetPlan};
use super::{input, result_file};
use crate::cluster::{Node, Role};
use crate::load::{Ending, Live, Load, PassReport, Place};
use crate::measure::{Kind, Prompts, RepeatFacts, StageFacts, Way};
use crate::report;
use crate::runtime::Clock;
use crate::wire::Target;
use crate::wire::dialect::Dialect;
use crate::workload::Request;
use jiff::Timestamp;
use std::net::SocketAddr;
use std::sync::Arc;

/// An instance that answers.
struct Reached {
    node: Node,
    target: Target,
    address: SocketAddr,
    client: Client,
}

/// What the stages of a run work with.
struct Bench<'a> {
    plan: &'a RepeatPlan,
    writing: Writing<'a>,
    load: Load,
    recorder: Recorder,
    clock: Clock,
    prefill: Vec<Reached>,
    decode: Vec<Reached>,
    world: &'a mut Surroundings,
}

/// Runs all batches and prints their result.
pub(super) async fn repeat(plan: RepeatPlan, world: &mut Surroundings) -> Result<Exit, Error> {
    let started = (world.wall_clock)();
    let clock = Clock::start();
    let run_id = run_id("repeat", &started, &world.run_id_suffix);
    let making = Making::start(&plan.serve, started.datetime(), world)?;
    report::probe_writable(&plan.serve.output_dir).map_err(|error| {
        Error::new(Exit::NotWritten, "the results would have no place")
            .caused_by(error)
            .help("name a writable directory with --output-dir")
    })?;
    plan.serve.result.as_ref().map_or(Ok(()), result_file::check)?;
    let (embedded, front, prefill, decode) = reach(&plan, started.timestamp(), clock, world).await?;
    let mut dataset = making.finish()?;
    let salt = plan.serve.salt.as_ref().map(|salt| salt_text(salt, &run_id));
    dataset.requests = salted(dataset.requests, salt.as_deref(), &dataset.counter);
    let most = 1 + plan.times.iter().copied().max().unwrap_or(0);
    let each = match (&embedded, &plan.way) {
        // Each replica has a prefill of its own then, whose connection stays open.
        (None, RepeatWay::Direct { .. }) if plan.prompts == Prompts::Unique => 2,
        (None, _) => 1,
        (Some(_), RepeatWay::Direct { .. }) => 2,
        (Some(_), _) => 6,
    };
    preflight::raise_descriptor_limit(Connections::Exactly(most), each)?;

    let entry = front.as_ref().or(decode.first()).ok_or_else(no_instance)?;
    let (model, model_id) = match plan.serve.served_model_name.as_ref().or(plan.serve.model.as_ref()) {
        Some(model) => (model.clone(), plan.serve.model.clone()),
        None => preflight::first_model(&entry.client).await?,
    };
    let simulated = embedded.is_some() || entry.client.is_simulator().await;
    let (target, addresses) = (entry.target.clone(), vec![entry.address]);
    let recorder = Recorder::default();
    let places = front.iter().chain(&prefill).chain(&decode).map(place).collect();
    let config = load_config(&plan.serve, &target, places, world.host.cores, clock, world);
    let stamps = config.stamps;
    let load = Load::start(config, Arc::new(Live::default()), &recorder.sink())
        .map_err(|error| Error::new(Exit::Preflight, "cannot start the load").caused_by(error))?;
    let writing = Writing::of(&plan.serve, &target, &model, &run_id, &dataset);
    let stages = stages(&plan, dataset.requests)?;
    let known = Known {
        plan: &plan.serve,
        verb: "repeat",
        run_id,
        started: &started,
        target: &target,
        addresses: &addresses,
        simulated,
        model: model.clone(),
        model_id: model_id.filter(|id| *id != model),
        salt,
        dataset: dataset.facts,
        num_prompts: planned(&plan),
        stamps,
    };
    let mut manifest = manifest(known, world);
    manifest.repeat = Some(facts(&plan, Vec::new()));
    let directory = RunDirectory::create(&plan.serve.output_dir, &manifest, &recorder)?;
    world.note(&format!("results go to {}\n", directory.path().display()));
    let throttled_before = input::throttled_periods();
    let mut bench = Bench { plan: &plan, writing, load, recorder, clock, prefill, decode, world };
    let (ran, known) = bench.run(stages, front.as_ref()).await;
    let Bench { load, .. } = bench;
    let ended = load.finish().await;
    if let Some(embedded) = embedded {
        embedded.stop_now().await;
    }
    manifest.repeat = Some(facts(&plan, known));
    let died = |error| Error::new(Exit::Aborted, "the load ended early").caused_by(error);
    let ran = ran.and_then(|report| ended.map(|()| report).map_err(died));
    finish(Closing::of_load(&plan.serve, &mut manifest, directory, throttled_before), ran, world)
}

fn no_instance() -> Error {
    Error::new(Exit::Usage, "there is no decode instance to send replicas to")
        .help("name them with --decode HOST:PORT…")
}

/// Main requests and replicas that a run should leave records of.
fn planned(plan: &RepeatPlan) -> usize {
    let replicas: usize = plan.times.iter().map(|times| times + 1).sum();
    match plan.way {
        RepeatWay::Direct { .. } => replicas,
        RepeatWay::Proxy => replicas + plan.times.len(),
        RepeatWay::External { .. } => plan.times.len(),
    }
}

fn facts(plan: &RepeatPlan, stages: Vec<StageFacts>) -> RepeatFacts {
    let (way, dialect) = match &plan.way {
        RepeatWay::Direct { dialect, .. } => (Way::Direct, Some(dialect.name().to_owned())),
        RepeatWay::Proxy => (Way::Proxy, None),
        RepeatWay::External { .. } => (Way::External, None),
    };
    RepeatFacts {
        way,
        prompts: plan.prompts,
        dialect,
        settle_s: plan.settle.as_secs_f64(),
        ramp_s: plan.ramp.as_secs_f64(),
        stages,
    }
}

type Instances = (Option<Embedded>, Option<Reached>, Vec<Reached>, Vec<Reached>);

/// Finds every instance: the embedded cluster, the proxy in front if there is one, prefill and decode.
async fn reach(
    plan: &RepeatPlan,
    started: Timestamp,
    clock: Clock,
    world: &mut Surroundings,
) -> Result<Instances, Error> {
    if let TargetPlan::Embedded(sim) = &plan.serve.target {
        // Its proxy repeats only what the KV outlives.
        let sim = SimPlan { dialect: Dialect::Plain, ..(**sim).clone() };
        let bound = Bound::bind(&sim)?;
        let all = |addresses: Vec<SocketAddr>| {
            let one = |address| embedded::instance(address, &plan.serve.headers);
            addresses.into_iter().map(one).collect::<Result<Vec<_>, _>>()
        };
        let nodes = |roles: [Role; 2]| roles.iter().flat_map(|role| bound.of(*role)).collect();
        let (prefill, decode) =
            (all(nodes([Role::Prefill, Role::Mixed]))?, all(nodes([Role::Decode, Role::Mixed]))?);
        let fronts = all(bound.fronts())?;
        let embedded = bound.start(&sim, started, clock, None, world.workers)?;
        if let RepeatWay::Direct { .. } = plan.way {
            let (prefill, decode) =
                (reached(&prefill, plan, world).await?, reached(&decode, plan, world).await?);
            return Ok((Some(embedded), None, prefill, decode));
        }
        let front = reached(&fronts, plan, world).await?.pop();
        let decode = match plan.way {
            RepeatWay::External { .. } => reached(&decode, plan, world).await?,
            _ => Vec::new(),
        };
        return Ok((Some(embedded), front, Vec::new(), decode));
    }
    let front = match (&plan.way, &plan.serve.target) {
        (RepeatWay::Proxy | RepeatWay::External { .. }, TargetPlan::Remote(target)) => {
            let node = format!("{}:{}", target.host(), target.port()).parse();
            let node = node.map_err(|error: String| Error::new(Exit::Usage, error))?;
            let target = input::trusting(target, &plan.serve.trust)?;
            reached(&[Instance { node, target }], plan, world).await?.pop()
        }
        _ => None,
    };
    let (prefill, decode) = match &plan.way {
        RepeatWay::Direct { prefill, decode, .. } => (prefill.as_slice(), decode.as_slice()),
        RepeatWay::Proxy => (&[][..], &[][..]),
        RepeatWay::External { decode } => (&[][..], decode.as_slice()),
    };
    Ok((None, front, reached(prefill, plan, world).await?, reached(decode, plan, world).await?))
}

async fn reached(
    instances: &[Instance],
    plan: &RepeatPlan,
    world: &mut Surroundings,
) -> Result<Vec<Reached>, Error> {
    let mut all = Vec::with_capacity(instances.len());
    for Instance { node, target } in instances {
        let addresses = preflight::resolve(target, world).await?;
        let (address, client) =
            preflight::wait_ready(target, &addresses, plan.serve.wait_ready, world).await?;
        all.push(Reached { node: node.clone(), target: target.clone(), address, client });
    }
    Ok(all)
}

fn place(instance: &Reached) -> Place {
    Place {
        address: instance.address,
        tls: instance.target.tls().cloned(),
        tunnel: None,
        name: Some(instance.node.to_string()),
        greeting: Some(greeting(&instance.target)),
    }
}

/// A question that costs an instance nothing.
fn greeting(target: &Target) -> Vec<u8> {
    let (base, host) = (target.base_path(), target.authority());
    format!("GET {base}/health HTTP/1.1\r\nhost: {host}\r\naccept-encoding: identity\r\n\r\n").into_bytes()
}

/// The prompts of each batch: one, or one a replica.
fn stages(plan: &RepeatPlan, requests: Vec<Request>) -> Result<Vec<(usize, Vec<Request>)>, Error> {
    let mut rest = requests.into_iter();
    let mut stages = Vec::with_capacity(plan.times.len());
    for &times in &plan.times {
        let wanted = match plan.prompts {
            Prompts::Same => 1,
            Prompts::Unique => times + 1,
        };
        let own: Vec<Request> = rest.by_ref().take(wanted).collect();
        if own.len() < wanted {
            return Err(Error::new(Exit::Usage, "the dataset has too few prompts for all batches")
                .help("take another dataset, or --repeat-prompts same"));
        }
        stages.push((times + 1, own));
    }
    Ok(stages)
}

impl Bench<'_> {
    /// All batches, one after another; what became of them, and what is known of each.
    async fn run(
        &mut self,
        stages: Vec<(usize, Vec<Request>)>,
        front: Option<&Reached>,
    ) -> (Result<PassReport, Error>, Vec<StageFacts>) {
        let (mut whole, mut known) = (None::<PassReport>, Vec::new());
        for (number, (replicas, requests)) in stages.into_iter().enumerate() {
            let stage = u32::try_from(number).unwrap_or(u32::MAX);
            self.world.note(&format!("batch of {replicas}\n"));
            let ran = match (&self.plan.way, front) {
                (RepeatWay::Direct { .. }, _) | (_, None) => self.direct(stage, replicas, &requests).await,
                (RepeatWay::Proxy, Some(front)) => {
                    self.through_proxy(stage, replicas, &requests, front).await
                }
                (RepeatWay::External { .. }, Some(_)) => self.external(stage, replicas, &requests).await,
            };
            match ran {
                Ok((report, facts)) => {
                    known.push(facts);
                    let go_on = report.ending == Ending::Complete;
                    whole = Some(match whole {
                        Some(before) => joined(before, report),
                        None => report,
                    });
                    if !go_on {
                        break;
                    }
                }
                Err(error) => return (Err(error), known),
            }
        }
        (whole.ok_or_else(no_instance), known)
    }
}

/// Two passes of one load as one.
fn joined(before: PassReport, after: PassReport) -> PassReport {
    let watch = match (before.watch, after.watch) {
        (Some(mut one), Some(other)) => {
            one.in_flight.extend(other.in_flight);
            one.tick_p99_late_ms = greater(one.tick_p99_late_ms, other.tick_p99_late_ms);
            one.busiest_shard = greater(one.busiest_shard, other.busiest_shard);
            Some(one)
        }
        (one, other) => one.or(other),
    };
    PassReport { start: before.start, sent: before.sent + after.sent, watch, ..after }
}

fn greater(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.into_iter().chain(other).reduce(f64::max)
}

/// The word that an error has for a pass.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Prefill => "prefill",
        Kind::Replica => "decode",
        Kind::Question => "question",
        Kind::Check => "check",
        Kind::Probe | Kind::Warmup | Kind::Main => "trigger",
    }
}
