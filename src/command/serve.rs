//! `pdbench serve`: loads a target, measures, reports.

use super::client::Client;
use super::dataset::{Dataset, Making};
use super::embedded::Embedded;
use super::manifest::{Known, manifest, recover_span, run_id};
use super::preflight::{self, Connections};
use super::recorder::{Recorder, RunDirectory, write_results};
use super::requests::{Writing, probe_request, salt_text, salted, warmup_request};
use super::{Error, Exit, InterruptedBy, ProbePrompt, ServePlan, Surroundings, TargetPlan, WarmupPrompts};
use super::{earlier, input, progress, result_file, secrets};
use crate::load::{Ending, Live, Load, LoadConfig, Pacing, Pass, PassReport, Prepared};
use crate::measure::{Kind, Manifest, Run, Stamps, State, TickerFacts};
use crate::report::{self, Reported, Style};
use crate::runtime::{Clock, Stop, Workers};
use crate::wire::Target;
use crate::wire::openai::BodyOptions;
use crate::workload::{ArrivalProcess, Request, Workload};
use jiff::Zoned;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Where requests go, once that is known.
struct Reached {
    target: Target,
    /// Asks it what is not load.
    client: Client,
    /// Those of its name; the first is the one that is used.
    addresses: Vec<SocketAddr>,
    model: String,
    /// The model behind that name, where it has another.
    model_id: Option<String>,
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
    plan.result.as_ref().map_or(Ok(()), result_file::check)?;
    let mut stop = world.interrupt.signal();
    let reached = tokio::select! {
        biased;
        reached = reach(&plan, &started, clock, world) => Some(reached),
        () = stop.reached(Stop::Drain) => None,
    };
    let stopped = || Error::new(Exit::Interrupted, "stopped before the load began");
    let reached = reached.ok_or_else(|| preflight::stopped_early(world).unwrap_or_else(stopped))?;
    // A fault of the dataset is said first: it is there with any target.
    let mut dataset = making.finish()?;
    let reached = reached?;
    let salt = plan.salt.as_ref().map(|salt| salt_text(salt, &run_id));
    dataset.requests = salted(dataset.requests, salt.as_deref(), &dataset.counter);
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
        preflight::probe(&mut load, request, &reached.client, &plan.path, world).await?;
    }
    let known = Known {
        plan: &plan,
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
        stamps,
    };
    let mut manifest = manifest(known, world);
    manifest.sent_before = earlier::same_prompts(&plan.output_dir, &manifest);
    let directory = RunDirectory::create(&plan.output_dir, &manifest, &recorder)?;
    announce(&plan, &manifest, directory.path(), world);
    let throttled_before = input::throttled_periods();
    let ran = run_passes(&plan, passes, &mut load, &live, world).await;
    let ended = load.finish().await;
    if let Some(embedded) = reached.embedded {
        embedded.stop().await;
    }
    let died = |error| Error::new(Exit::Aborted, "the load ended early").caused_by(error);
    let ran = ran.and_then(|report| ended.map(|()| report).map_err(died));
    finish(&plan, &mut manifest, directory, ran, throttled_before, world)
}

/// Descriptors that one connection costs: one for the client, one more for the cluster in the same process.
fn raise_descriptor_limit(plan: &ServePlan, requests: usize) -> Result<(), Error> {
    let most = requests.max(plan.num_warmups);
    let connections = match (plan.max_concurrency, plan.arrivals) {
        (Some(limit), _) => Connections::Exactly(limit.min(most)),
        (None, ArrivalProcess::AllAtOnce) => Connections::Exactly(most),
        // An open loop keeps as many as the server is slow.
        (None, _) => Connections::AtMost(most),
    };
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
            let model = config.model.clone();
            let embedded = Embedded::start(config, clock, world)?;
            let target = Target::parse(&format!("http://{}", embedded.address)).map_err(|error| {
                Error::new(Exit::Preflight, "cannot use the embedded cluster").caused_by(error)
            })?;
            let client = Client::new(&target, embedded.address)
                .map_err(|error| preflight::no_client(&target, error))?;
            Ok(Reached {
                target,
                client,
                addresses: vec![embedded.address],
                model_id: plan.model.clone().filter(|id| *id != model),
                model,
                embedded: Some(embedded),
                simulated: true,
            })
        }
        TargetPlan::Remote(target) => {
            let target = input::trusting(target, &plan.trust)?;
            let mut addresses = preflight::resolve(&target).await?;
            let (address, client) =
                preflight::wait_ready(&target, &addresses, plan.wait_ready, world).await?;
            addresses.sort_by_key(|&other| other != address);
            caution(&target, address, world);
            let (model, model_id) = match plan.served_model_name.as_ref().or(plan.model.as_ref()) {
                Some(model) => (model.clone(), plan.model.clone()),
                None => preflight::first_model(&client).await?,
            };
            let model_id = model_id.filter(|id| *id != model);
            let simulated = client.is_simulator().await;
            Ok(Reached { target, client, addresses, model, model_id, embedded: None, simulated })
        }
    }
}

/// Says what about the connection is not as safe as it may seem.
fn caution(target: &Target, address: SocketAddr, world: &mut Surroundings) {
    let url = target.base_url();
    match target.tls() {
        Some(tls) if !tls.verified() => {
            world.note(&format!("warning: --insecure: nobody checks that it is {url} that answers\n"));
        }
        None if target.api_key().is_some() && !address.ip().is_loopback() => {
            world.note(&format!("warning: the API key is sent to {url} unencrypted\n"));
        }
        _ => {}
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
            logprobs: plan.logprobs,
            ignore_eos: plan.ignore_eos,
            chat_content: plan.chat_content,
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
        tls: reached.target.tls().cloned(),
        shards,
        timeouts: plan.timeouts,
        read_limits: plan.read_limits,
        keep_text: plan.save_text,
        stamps,
        clock,
        workers: world.workers,
        pacing,
        secrets: secrets::of(&reached.target, &plan.extra_body).into(),
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
    ran: Result<PassReport, Error>,
    throttled_before: Option<u64>,
    world: &mut Surroundings,
) -> Result<Exit, Error> {
    let (path, records, journal_error) = directory.records();
    let stopped = stopped(&ran, world);
    match &ran {
        Ok(ran) => {
            (manifest.main_start, manifest.main_end) = (ran.start, Some(ran.end));
            watched(manifest, ran, throttled_before);
        }
        Err(error) => {
            world.note(&error.message());
            recover_span(manifest, &records);
        }
    }
    manifest.state = if stopped.is_some() { State::Interrupted } else { State::Complete };
    manifest.interrupted_by = stopped.as_ref().map(|(_, why)| why.clone());
    let run = Run { manifest: manifest.clone(), records };
    let (summary, timeline, mut failures) = write_results(&path, &run);
    let style = if world.colour { Style::Colour } else { Style::Plain };
    let reported = Reported { run: &run, summary: &summary, timeline: &timeline };
    world.print(&report::console(&reported, style));
    world.print(&format!("\nreport: {}\n", path.join("report.html").display()));
    match plan.result.as_ref().map(|result| result_file::write(result, &reported)) {
        Some(Ok(path)) => world.print(&format!("result: {}\n", path.display())),
        Some(Err(error)) => failures.push(error),
        None => {}
    }
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

/// Notes what was seen of the client itself.
fn watched(manifest: &mut Manifest, ran: &PassReport, throttled_before: Option<u64>) {
    let Some(watch) = &ran.watch else { return };
    manifest.in_flight = Some(watch.in_flight.clone());
    manifest.ticker = watch.tick_p99_late_ms.map(|p99_late_ms| TickerFacts {
        p99_late_ms,
        worker_cpu_share: watch.busiest_shard.unwrap_or(0.0),
        throttled_periods: input::throttled_periods().zip(throttled_before).map(|(now, then)| now - then),
    });
}

/// What stopped a run before its planned end, and the exit status for that.
fn stopped(ran: &Result<PassReport, Error>, world: &Surroundings) -> Option<(Exit, String)> {
    let ending = match ran {
        Ok(ran) => ran.ending,
        Err(error) => return Some((Exit::Aborted, error.to_string())),
    };
    match (ending, world.interrupt.by()) {
        (Ending::OverBudget { failed, of }, _) => {
            Some((Exit::Aborted, format!("given up, {failed} of the last {of} requests failed")))
        }
        (_, Some(InterruptedBy::Interrupt)) => Some((Exit::Interrupted, "SIGINT".to_owned())),
        (_, Some(InterruptedBy::Terminate)) => Some((Exit::Terminated, "SIGTERM".to_owned())),
        (Ending::Complete | Ending::DurationOver | Ending::Stopped, None) => None,
    }
}
