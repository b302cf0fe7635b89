//! What a run sends, pass by pass, and its sending.

use super::dataset::Dataset;
use super::direct::Direct;
use super::ending::ended_early;
use super::requests::{Writing, probe_request, warmup_request};
use super::serve::Reached;
use super::{Error, ProbePrompt, ServePlan, Surroundings, WarmupPrompts, progress};
use crate::load::{Live, Load, Pass, PassReport, Prepared};
use crate::measure::Kind;
use crate::workload::{Request, Workload};
use std::time::Duration;

/// What a run sends, by pass.
pub(super) struct Passes {
    pub(super) probe: Option<Prepared>,
    pub(super) warmups: Vec<Prepared>,
    pub(super) main: Vec<Prepared>,
    pub(super) schedule: Vec<Duration>,
}

/// Writes every request of the run and sets its time.
pub(super) fn passes(
    plan: &ServePlan,
    reached: &Reached,
    run_id: &str,
    dataset: Dataset,
) -> Result<Passes, Error> {
    let writing = Writing::of(plan, &reached.target, &reached.model, run_id, &dataset);
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
    let main = match &reached.direct {
        None => writing.prepare_all(workload.requests),
        Some(direct) => by_routes(direct, &writing, workload.requests)?,
    };
    Ok(Passes {
        probe: probe.map(|request| writing.prepare(&request, "probe")),
        warmups,
        schedule: workload.schedule.offsets().to_vec(),
        main,
    })
}

/// The main load where some of it, or all, goes past the proxy.
fn by_routes(direct: &Direct, writing: &Writing<'_>, requests: Vec<Request>) -> Result<Vec<Prepared>, Error> {
    let numbered = requests.into_iter().enumerate();
    numbered
        .map(|(nth, request)| match direct.takes(nth) {
            true => direct.prepare(writing, &request, nth, &nth.to_string()),
            false => Ok(writing.prepare(&request, &nth.to_string())),
        })
        .collect()
}

/// What is sent before the measured load.
pub(super) async fn warm_up(
    plan: &ServePlan,
    passes: &mut Passes,
    load: &mut Load,
    world: &Surroundings,
) -> Result<(), Error> {
    if !passes.warmups.is_empty() {
        let warmup = Pass {
            max_concurrency: plan.max_concurrency,
            ..Pass::at_once(Kind::Warmup, std::mem::take(&mut passes.warmups))
        };
        load.pass(warmup, world.interrupt.signal()).await.map_err(ended_early)?;
    }
    Ok(())
}

/// The measured load, and what went wrong with showing it.
pub(super) async fn run_passes(
    plan: &ServePlan,
    passes: Passes,
    load: &mut Load,
    live: &Live,
    world: &mut Surroundings,
) -> Result<(PassReport, Option<String>), Error> {
    let stop = world.interrupt.signal();
    let planned = passes.main.len();
    let main = Pass {
        schedule: passes.schedule,
        max_concurrency: plan.max_concurrency,
        max_duration: plan.max_duration,
        max_error_rate: Some(plan.max_error_rate),
        ..Pass::at_once(Kind::Main, passes.main)
    };
    let sending = load.pass(main, stop);
    let (report, fault) = match plan.progress {
        true => progress::shown(sending, planned, live, world).await,
        false => (sending.await, None),
    };
    Ok((report.map_err(ended_early)?, fault))
}
