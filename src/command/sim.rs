//! `pdbench sim`: the simulated cluster as a server.

use super::embedded::Bound;
use super::preflight::raise_descriptor_limit_fully;
use super::{Error, Exit, SimPlan, Surroundings, input};
use crate::runtime::{Clock, Stop};
use crate::sim::TruthSink;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// Serves until it is asked to stop.
pub(super) async fn serve_sim(plan: SimPlan, world: &mut Surroundings) -> Result<Exit, Error> {
    let clock = Clock::start();
    let started = (world.wall_clock)().timestamp();
    raise_descriptor_limit_fully();
    let truth = plan.truth_log.as_deref().map(truth_sink).transpose()?;
    let bound = Bound::bind(&plan)?;
    let mut text = format!("simulated {} cluster, model {}", plan.config.topology, plan.config.model);
    if let [front] = bound.fronts()[..] {
        let _ = write!(text, ", on http://{front}");
    }
    text += " (Ctrl-C ends it)\n";
    if plan.config.topology.roles().count() != 1 {
        text += &bound.listed();
    }
    // Before the log begins, which may go to standard output as well.
    world.print(&text)?;
    let embedded = bound.start(&plan, started, clock, truth, world.workers)?;
    let mut stop = world.interrupt.signal();
    stop.reached(Stop::Drain).await;
    let totals = embedded.stop(stop).await;
    world.note(&format!(
        "served {} requests, {} cancelled, {} failed, {} refused; {} prompt and {} output tokens; \
         latest step {:.1} ms late\n",
        totals.complete,
        totals.cancelled,
        totals.error,
        totals.rejected,
        totals.prompt_tokens,
        totals.output_tokens,
        totals.worst_lateness.as_secs_f64() * 1e3,
    ));
    Ok(Exit::Valid)
}

/// Writes the truth log line by line; it is flushed when the cluster ends.
fn truth_sink(path: &Path) -> Result<TruthSink, Error> {
    let mut file = input::create(path, "the truth log")?;
    Ok(Box::new(move |line| {
        // The simulator goes on without its log: what it serves does not depend on it.
        let _ = file.write_all(line.as_bytes()).and_then(|()| file.write_all(b"\n"));
    }))
}
