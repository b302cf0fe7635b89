//! `pdbench serve`: loads a target, measures, reports.

use super::dataset::{Dataset, Making};
use super::embedded::Embedded;
use super::manifest::{Known, manifest, run_id};
use super::recorder::{Recorder, RunDirectory, write_results};
use super::requests::{Writing, probe_request, warmup_request};
use super::{Error, Exit, InterruptedBy, ProbePrompt, ServePlan, Surroundings, TargetPlan, WarmupPrompts};
use super::{preflight, progress};
use crate::load::{Ending, Live, Load, LoadConfig, Pacing, Pass, PassReport, Prepared};
use crate::measure::{Kind, Manifest, Run, Stamps, State};
use crate::report::{self, Reported, Style};
use crate::runtime::{Clock, Workers};
use crate::wire::Target;
use crate::wire::openai::BodyOptions;
use crate::workload::{Request, Workload};
use jiff::Zoned;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Where requests go, once that is known.
struct Reached {
    target: Target,
    addresses: Vec<SocketAddr>,
    model: String,
    embedded: Option<Embedded>,
    simulated: bool,
}

/// What a run sends, by pass.
struct Passes {
    probe: Option<Prepared>,
    warmups: Vec<Prepared>,
    main: Vec<Prepared>,
    schedule: Vec<Duration>,
}

/// Runs a whole benchmark and prints its result.
pub(super) async fn serve(plan: ServePlan, world: &mut Surroundings) -> Result<Exit, Error> {
    let started = (world.wall_clock)();
    let clock = Clock::start();
    let run_id = run_id("serve", &started, &world.run_id_suffix);
    let making = Making::start(&plan, started.datetime(), world)?;
    report::probe_writable(&plan.output_dir).map_err(|error| {
        Error::new(Exit::NotWritten, "the results would have no place")
            .caused_by(error)
            .help("name a writable directory with --output-dir")
    })?;
    let reached = reach(&plan, &started, clock, world).await;
    // A fault of the dataset is said first: it is there with any target.
    let dataset = making.finish()?;
    let reached = reached?;
    raise_descriptor_limit(&plan, dataset.requests.len())?;
    let facts = dataset.facts.clone();
    let mut passes = passes(&plan, &reached, &run_id, dataset);

    let live = Arc::new(Live::default());
    let recorder = Recorder::default();
    let config = load_config(&plan, &reached, clock, world);
    let stamps = config.stamps;
    let mut load = Load::start(config, Arc::clone(&live), &recorder.sink())
        .map_err(|error| Error::new(Exit::Preflight, "cannot start the load").caused_by(error))?;
    if let Some(request) = passes.probe.take() {
        preflight::probe(&mut load, request, &reached.target, &plan.path, world).await?;
    }
    let known = Known {
        plan: &plan,
        run_id,
        started: &started,
        target: &reached.target,
        addresses: &reached.addresses,
        simulated: reached.simulated,
        model: reached.model.clone(),
        dataset: facts,
        requests: &passes.main,
        stamps,
    };
    let mut manifest = manifest(known, world);
    let directory = RunDirectory::create(&plan.output_dir, &manifest, &recorder)?;
    announce(&plan, &manifest, directory.path(), world);
    let ran = run_passes(&plan, passes, &mut load, &live, world).await;
    load.finish().await;
    if let Some(embedded) = reached.embedded {
        embedded.stop().await;
    }
    finish(&plan, &mut manifest, directory, ran?, world)
}

/// Descriptors that one connection costs: one for the client, one more for the cluster in the same process.
fn raise_descriptor_limit(plan: &ServePlan, requests: usize) -> Result<(), Error> {
    let connections = plan.max_concurrency.unwrap_or(requests).min(requests.max(plan.num_warmups));
    let each = match plan.target {
        TargetPlan::Embedded(_) => 2,
        TargetPlan::Remote(_) => 1,
    };
    preflight::raise_descriptor_limit(connections, each)
}

/// Starts the embedded cluster, or finds the remote target, and learns the model's name.
async fn reach(
    plan: &ServePlan,
    started: &Zoned,
    clock: Clock,
    world: &mut Surroundings,
) -> Result<Reached, Error> {
    match &plan.target {
        TargetPlan::Embedded(config) => {
            let mut config = (**config).clone();
            config.wall_anchor_unix_us = u64::try_from(started.timestamp().as_microsecond()).unwrap_or(0);
            let model = plan.model.clone().unwrap_or_else(|| config.model.clone());
            let embedded = Embedded::start(config, clock, world)?;
            let target = Target::parse(&format!("http://{}", embedded.address)).map_err(|error| {
                Error::new(Exit::Preflight, "cannot use the embedded cluster").caused_by(error)
            })?;
            Ok(Reached {
                target,
                addresses: vec![embedded.address],
                model,
                embedded: Some(embedded),
                simulated: true,
            })
        }
        TargetPlan::Remote(target) => {
            let addresses = preflight::resolve(target).await?;
            preflight::wait_ready(target, addresses[0], plan.wait_ready, world).await?;
            let model = match &plan.model {
                Some(model) => model.clone(),
                None => preflight::first_model(target).await?,
            };
            let simulated = preflight::is_simulator(target).await;
            Ok(Reached { target: target.clone(), addresses, model, embedded: None, simulated })
        }
    }
}

/// Writes every request of the run and sets its time.
fn passes(plan: &ServePlan, reached: &Reached, run_id: &str, dataset: Dataset) -> Passes {
    let writing = Writing {
        target: &reached.target,
        endpoint: plan.endpoint,
        path: &plan.path,
        options: BodyOptions {
            model: reached.model.clone(),
            ignore_eos: plan.ignore_eos,
            chat_tokens_field: plan.chat_tokens_field,
            extra: plan.extra_body.clone(),
        },
        id_prefix: plan.request_id_prefix.clone().unwrap_or_else(|| format!("{run_id}-")),
        prompt_tokens_source: dataset.prompt_tokens_source(),
    };
    let Dataset { requests, counter, .. } = dataset;
    let first = requests.first().cloned();
    let probe = match (plan.probe, &first) {
        (ProbePrompt::None, _) | (_, None) => None,
        (ProbePrompt::First, Some(first)) => {
            let output_tokens = first.output_tokens.min(10);
            Some(Request { output_tokens, ..first.clone() })
        }
        (ProbePrompt::Own, Some(first)) => Some(probe_request(run_id, first.output_tokens, &counter)),
    };
    let warmups = (0..plan.num_warmups).filter_map(|number| {
        let first = first.as_ref()?;
        let request = match plan.warmup_prompts {
            WarmupPrompts::Own => warmup_request(run_id, number, first, &counter),
            WarmupPrompts::First => first.clone(),
        };
        Some(writing.prepare(&request, &format!("warmup-{number}")))
    });
    let warmups = warmups.collect();
    let workload = Workload::new(requests, plan.arrivals, plan.seed, plan.normalise);
    Passes {
        probe: probe.map(|request| writing.prepare(&request, "probe")),
        warmups,
        schedule: workload.schedule.offsets().to_vec(),
        main: writing.prepare_all(workload.requests),
    }
}

fn load_config(plan: &ServePlan, reached: &Reached, clock: Clock, world: &Surroundings) -> LoadConfig {
    // An embedded cluster needs a processor of its own.
    let spare = usize::from(reached.embedded.is_some());
    let shards = plan.shards.unwrap_or(world.host.cores.saturating_sub(spare).clamp(1, 16));
    let (pacing, stamps, shards) = match world.workers {
        Workers::Threads => (Pacing::Thread { spin: plan.pacing_spin }, Stamps::Kernel, shards),
        Workers::Local => (Pacing::Runtime, Stamps::User, 1),
    };
    LoadConfig {
        address: reached.addresses[0],
        shards,
        timeouts: plan.timeouts,
        read_limits: plan.read_limits,
        keep_text: plan.save_text,
        stamps,
        clock,
        workers: world.workers,
        pacing,
        secrets: reached.target.api_key().cloned().into_iter().collect(),
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
    if let Some(remark) = &manifest.dataset.remark {
        world.note(&format!("prompts: {remark}\n"));
    }
    if plan.num_warmups > 0 {
        world.note(&format!("{} warm-up requests first\n", plan.num_warmups));
    }
}

/// Warm-ups, then the measured load.
async fn run_passes(
    plan: &ServePlan,
    passes: Passes,
    load: &mut Load,
    live: &Live,
    world: &mut Surroundings,
) -> Result<PassReport, Error> {
    let died = |error| Error::new(Exit::Aborted, "the load ended early").caused_by(error);
    let stop = world.interrupt.signal();
    if !passes.warmups.is_empty() {
        let warmup = Pass {
            kind: Kind::Warmup,
            schedule: vec![Duration::ZERO; passes.warmups.len()],
            requests: passes.warmups,
            max_concurrency: plan.max_concurrency,
            max_duration: None,
            max_error_rate: None,
        };
        load.pass(warmup, stop.clone()).await.map_err(died)?;
    }
    let planned = passes.main.len();
    let main = Pass {
        kind: Kind::Main,
        requests: passes.main,
        schedule: passes.schedule,
        max_concurrency: plan.max_concurrency,
        max_duration: plan.max_duration,
        max_error_rate: Some(plan.max_error_rate),
    };
    let sending = load.pass(main, stop);
    match plan.progress {
        true => progress::shown(sending, planned, live, world).await,
        false => sending.await,
    }
    .map_err(died)
}

/// Closes the journal, writes every file, prints the result, and settles the exit status.
fn finish(
    plan: &ServePlan,
    manifest: &mut Manifest,
    directory: RunDirectory,
    ran: PassReport,
    world: &mut Surroundings,
) -> Result<Exit, Error> {
    let (path, records, journal_error) = directory.records();
    let stopped = stopped(&ran, world);
    manifest.main_start = ran.start;
    manifest.main_end = Some(ran.end);
    manifest.state = if stopped.is_some() { State::Interrupted } else { State::Complete };
    manifest.interrupted_by = stopped.as_ref().map(|(_, why)| why.clone());
    let run = Run { manifest: manifest.clone(), records };
    let (summary, timeline, mut failures) = write_results(&path, &run);
    let style = if world.colour { Style::Colour } else { Style::Plain };
    let reported = Reported { run: &run, summary: &summary, timeline: &timeline };
    world.print(&report::console(&reported, style));
    world.print(&format!("\nreport: {}\n", path.join("report.html").display()));
    if let Some(error) = journal_error {
        failures.push(Error::new(Exit::NotWritten, "the journal has not every record").caused_by(error));
    }
    for failure in &failures {
        world.note(&failure.message());
    }
    Ok(match stopped {
        _ if !failures.is_empty() => Exit::NotWritten,
        Some((exit, _)) => exit,
        None if !summary.validity.valid => Exit::Invalid,
        None if plan.strict && 0 < summary.counts.failed => Exit::Invalid,
        None => Exit::Valid,
    })
}

/// What stopped a run before its planned end, and the exit status for that.
fn stopped(ran: &PassReport, world: &Surroundings) -> Option<(Exit, String)> {
    match (ran.ending, world.interrupt.by()) {
        (Ending::OverBudget { failed, of }, _) => {
            Some((Exit::Aborted, format!("given up, {failed} of the last {of} requests failed")))
        }
        (_, Some(InterruptedBy::Interrupt)) => Some((Exit::Interrupted, "SIGINT".to_owned())),
        (_, Some(InterruptedBy::Terminate)) => Some((Exit::Terminated, "SIGTERM".to_owned())),
        (Ending::Complete | Ending::DurationOver | Ending::Stopped, None) => None,
    }
}
