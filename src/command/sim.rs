//! `pdbench sim`: the simulated cluster as a server.

use super::embedded::listen;
use super::preflight::raise_descriptor_limit_fully;
use super::{Error, Exit, SimPlan, Surroundings, input};
use crate::runtime::Clock;
use crate::sim::{self, TruthSink};
use std::io::{self, Write};
use std::path::Path;

/// Serves until it is asked to stop.
pub(super) async fn serve_sim(plan: SimPlan, world: &mut Surroundings) -> Result<Exit, Error> {
    let clock = Clock::start();
    let mut config = plan.config;
    let anchor = (world.wall_clock)().timestamp().as_microsecond();
    config.wall_anchor_unix_us = u64::try_from(anchor).unwrap_or(0);
    let failed = |error: io::Error| {
        Error::new(Exit::Usage, format!("cannot listen on {}", plan.address))
            .caused_by(error)
            .help("name an address of this machine with --host and a free port with --port")
    };
    raise_descriptor_limit_fully();
    let listener = listen(plan.address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let truth = plan.truth_log.as_deref().map(truth_sink).transpose()?;
    world.print(&format!(
        "simulated {} cluster, model {}, on http://{address} (Ctrl-C ends it)\n",
        config.topology, config.model
    ))?;
    let totals = sim::run(listener, config, clock, truth, world.interrupt.signal()).await;
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
