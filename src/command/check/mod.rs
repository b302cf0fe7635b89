//! `pdbench check`: exercises every pair of prefill and decode instances, and the proxy before them, and says what of a
//! PD deployment does not work.

mod asking;
mod counting;
mod ground;
mod plan;

pub use ground::is_spoken;
pub use plan::CheckPlan;

use super::ending::{Closing, ended_early, finish};
use super::manifest::{Known, manifest, run_id};
use super::recorder::{Recorder, RunDirectory};
use super::serve::load_config;
use super::{Error, Exit, Surroundings, preflight};
use crate::cluster::Role;
use crate::load::{Ending, KeepText, Live, Load, Pass, PassReport, Sink};
use crate::measure::check::{
    Ask, CheckFacts, Design, Errand, PairWay, RoundTold, Sharing, StoreTold, usual_requests,
};
use crate::measure::{DatasetFacts, Kind, Manifest, NodeFacts, RequestRecord};
use crate::report::{self, plain};
use crate::runtime::{Clock, lock};
use asking::Asking;
use counting::{Counting, store_keys};
use ground::Ground;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Runs a whole check and prints its result.
pub(super) async fn check(plan: CheckPlan, world: &mut Surroundings) -> Result<Exit, Error> {
    let started = (world.wall_clock)();
    let clock = Clock::start();
    let run_id = run_id("check", &started, &world.run_id_suffix);
    report::probe_writable(&plan.serve.output_dir).map_err(|error| {
        Error::new(Exit::NotWritten, "the results would have no place")
            .caused_by(error)
            .help("name a writable directory with --output-dir")
    })?;
    let mut ground = ground::reach_or_stop(&plan, &started, clock, world).await?;
    let rounds = design(&plan, &ground).rounds();
    let mut facts = facts(&plan, &ground, &rounds).await;
    let recorder = Recorder::default();
    let heard = Heard::default();
    let front = ground.front();
    let (target, addresses) = (front.target.clone(), vec![front.address]);
    let mut config = load_config(&plan.serve, &target, ground.places(), world.host.cores, clock, world);
    config.keep_text = KeepText::All;
    let stamps = config.stamps;
    let most = 2 * rounds.iter().map(Vec::len).max().unwrap_or(0);
    preflight::raise_descriptor_limit(preflight::Connections::Exactly(most), 6)?;
    let load = Load::start(config, Arc::new(Live::default()), &heard.and(recorder.sink()))
        .map_err(|error| Error::new(Exit::Preflight, "cannot start the load").caused_by(error))?;
    let asking = Asking::of(&plan, &ground, &run_id);
    let known = Known {
        plan: &plan.serve,
        verb: "check",
        run_id: run_id.clone(),
        started: &started,
        target: &target,
        addresses: &addresses,
        simulated: ground.simulated,
        model: ground.model.clone(),
        model_id: None,
        salt: None,
        dataset: dataset(),
        num_prompts: rounds.iter().flatten().map(|ask| asking.legs(ask)).sum(),
        stamps,
    };
    let mut manifest = manifest(known, world);
    manifest.nodes = ground.nodes.iter().map(|spot| spot.facts()).collect::<Vec<NodeFacts>>();
    manifest.settings.output_len = Some(plan.output_tokens);
    manifest.check = Some(facts.clone());
    let directory = RunDirectory::create(&plan.serve.output_dir, &manifest, &recorder)?;
    announce(&manifest, &facts, directory.path(), world);
    let mut counting = Counting::begin(&mut ground.nodes).await;
    let mut sending = Sending { asking, load, heard: &heard, counting: &mut counting, numbered: 0 };
    let ran = sending.run(rounds, &mut facts, world).await;
    let ended = sending.load.finish().await;
    if let (Some(told), Some(store)) = (&mut facts.store, &plan.store) {
        match store_keys(store, world).await {
            Ok(keys) => told.keys_after = keys,
            Err(why) => told.silent = Some(why),
        }
    }
    manifest.check = Some(facts);
    manifest.broken.extend(ground.end().await);
    let ran = ran.and_then(|report| ended.map(|()| report).map_err(ended_early));
    finish(Closing::of_load(&plan.serve, &mut manifest, directory, None), ran, world)
}

/// What there is to exercise.
fn design(plan: &CheckPlan, ground: &Ground) -> Design {
    let alive = |role| {
        let nodes = ground.nodes.iter().enumerate();
        nodes.filter(move |(_, spot)| spot.told.role == role && spot.told.silent.is_none()).map(|(at, _)| at)
    };
    let (prefill, decode): (Vec<_>, Vec<_>) = (alive(Role::Prefill).collect(), alive(Role::Decode).collect());
    let usual = usual_requests(prefill.len() * decode.len());
    Design {
        requests: plan.requests.unwrap_or(usual),
        way: if ground.dialect.is_some() { PairWay::Direct } else { PairWay::Proxy },
        sharing: match ground.dialect {
            Some(dialect) if !dialect.kv_outlives_its_request() => Sharing::Round,
            _ => Sharing::Nothing,
        },
        proxy: ground.proxy.is_some(),
        baseline: ground.baseline.is_some(),
        prefill,
        decode,
    }
}

async fn facts(plan: &CheckPlan, ground: &Ground, rounds: &[Vec<Ask>]) -> CheckFacts {
    let named = |spot: &Option<ground::Spot>| spot.as_ref().map(|spot| spot.told.address.clone());
    let store = plan.store.as_ref().map(|store| StoreTold {
        address: store.authority(),
        silent: ground.store.as_ref().err().cloned(),
        keys_before: ground.store.clone().ok().flatten(),
        keys_after: None,
    });
    CheckFacts {
        dialect: ground.dialect.map(|dialect| dialect.name().to_owned()),
        proxy: named(&ground.proxy),
        baseline: named(&ground.baseline),
        nodes: ground.nodes.iter().map(|spot| spot.told.clone()).collect(),
        store,
        output_tokens: plan.output_tokens,
        planned: rounds.iter().map(Vec::len).sum(),
        rounds: Vec::new(),
    }
}

fn dataset() -> DatasetFacts {
    DatasetFacts {
        name: "check".to_owned(),
        path: "generated".to_owned(),
        sha256: String::new(),
        token_counter: "estimate".to_owned(),
        tokenizer_load_ms: None,
        remark: Some("verse behind a number of the run's own: no cache knows any of it".to_owned()),
    }
}

/// Says what is about to happen.
fn announce(manifest: &Manifest, facts: &CheckFacts, directory: &Path, world: &mut Surroundings) {
    let count = |role| facts.of(role).count();
    let place = match &manifest.target.topology {
        Some(topology) => {
            format!("an embedded simulated {topology} cluster (SIMULATED: no real model, no real hardware)")
        }
        None => plain(&manifest.target.base_url),
    };
    let way = match &facts.dialect {
        Some(dialect) => format!("pairs in dialect {dialect}"),
        None => "pairs through the proxy".to_owned(),
    };
    world.note(&format!(
        "{} requests to {place}: {} prefill and {} decode instances, {way}, model {}\nresults go to {}\n",
        facts.planned,
        count(Role::Prefill),
        count(Role::Decode),
        plain(&manifest.target.model),
        directory.display(),
    ));
}

/// The records of the run so far, beside the journal.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<RequestRecord>>>);

impl Heard {
    /// A sink that keeps what it hands on.
    fn and(&self, sink: Sink) -> Sink {
        let heard = self.clone();
        Arc::new(move |records| {
            lock(&heard.0).extend(records.iter().cloned());
            sink(records);
        })
    }
}

/// The rounds, one after another.
struct Sending<'a> {
    asking: Asking<'a>,
    load: Load,
    heard: &'a Heard,
    counting: &'a mut Counting,
    /// Requests so far.
    numbered: usize,
}

impl Sending<'_> {
    async fn run(
        &mut self,
        rounds: Vec<Vec<Ask>>,
        facts: &mut CheckFacts,
        world: &Surroundings,
    ) -> Result<PassReport, Error> {
        let mut whole: Option<PassReport> = None;
        for asks in rounds {
            let Some(report) = self.round(&asks, facts.rounds.len(), world).await? else { continue };
            let growth = self.counting.settle(&self.expected(&asks)).await;
            self.numbered += asks.len();
            facts.rounds.push(RoundTold { asks, growth });
            let go_on = report.ending == Ending::Complete;
            whole = Some(match whole {
                None => report,
                Some(before) => PassReport { start: before.start, sent: before.sent + report.sent, ..report },
            });
            if !go_on {
                break;
            }
        }
        whole.ok_or_else(|| {
            Error::new(Exit::Preflight, "no instance takes requests, and there is no proxy")
                .help("start the deployment, or name its proxy with --base-url")
        })
    }

    /// Sends one round; nothing where a request of it cannot be made.
    async fn round(
        &mut self,
        asks: &[Ask],
        nth: usize,
        world: &Surroundings,
    ) -> Result<Option<PassReport>, Error> {
        let mut requests = Vec::new();
        for (at, ask) in asks.iter().enumerate() {
            let stop = if ask.stops { self.first_token(ask.prompt) } else { None };
            if ask.stops && stop.is_none() {
                return Ok(None);
            }
            requests.extend(self.asking.prepare(ask, self.numbered + at, stop)?);
        }
        let stage = u32::try_from(nth).ok();
        let pass = Pass { stage, ..Pass::at_once(Kind::Check, requests) };
        let report = self.load.pass(pass, world.interrupt.signal()).await.map_err(ended_early)?;
        self.load.flush().await.map_err(ended_early)?;
        Ok(Some(report))
    }

    /// What the answer to a prompt begins with, where that can be a stop.
    fn first_token(&self, prompt: usize) -> Option<String> {
        let records = lock(&self.heard.0);
        let id = self.asking.id_of_prompt(prompt);
        let record = records.iter().rev().find(|record| record.is_ok() && record.id.contains(&id))?;
        let token = &record.asking.as_ref()?.replies.first()?.tokens.first()?.token;
        // A token that ends inside a character is no text.
        (!token.trim().is_empty() && !token.contains('\u{fffd}') && !token.starts_with("bytes:"))
            .then(|| token.clone())
    }

    /// Requests that each instance should have ended after a round whose answers were all ok: a number for each; nothing
    /// where one failed.
    fn expected(&self, asks: &[Ask]) -> Option<Vec<(Option<usize>, f64)>> {
        let records = lock(&self.heard.0);
        let of_round = |record: &&RequestRecord| {
            let number = record.asking.as_ref().and_then(|asking| asking.questions.first());
            number.is_some_and(|&number| self.numbered <= number as usize)
        };
        if records.iter().filter(of_round).any(|record| !record.is_ok()) {
            return None;
        }
        let mut expected = Vec::new();
        for ask in asks {
            match ask.errand {
                Errand::Pair { prefill, decode } => {
                    expected.extend([(Some(prefill), 1.0), (Some(decode), 1.0)])
                }
                Errand::Alone { node } => expected.push((Some(node), 1.0)),
                // One at either side, wherever that is.
                Errand::Proxy { .. } => expected.push((None, 2.0)),
                Errand::Baseline => {}
            }
        }
        Some(expected)
    }
}
