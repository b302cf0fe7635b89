//! `pdbench` measures prefill/decode (PD) disaggregated LLM serving: how fast is it, is it still right, and
//! where does the time go; and it says plainly when a number is not to be trusted.
//!
//! A tour, in the order in which a run uses the rooms:
//! - [`cli`] turns what was typed into a [`Plan`](command::Plan); [`command`] has one recipe for each verb.
//! - [`workload`] makes the requests and their arrival times, both before the run starts.
//! - [`load`] sends them by that schedule and stamps every event; [`wire`] knows the protocols.
//! - [`measure`] holds what happened, one record a request, and folds records into numbers and verdicts.
//! - [`proxy`] stands between a client and the prefill and decode instances of a deployment.
//! - [`observe`] scrapes what the instances of a deployment count meanwhile.
//! - [`accuracy`] makes questions of a task's documents and scores the answers.
//! - [`report`] keeps the records and shows the numbers.
//! - [`sim`] is a prefill/decode cluster of known truth to try all of this on; [`cluster`] names its parts.
//! - [`runtime`] is the seam between real and virtual time.
//!
//! [`Cli`] and [`run`] are the public door; everything a run takes from the world is in [`Surroundings`].

pub mod accuracy;
pub mod cli;
pub mod cluster;
pub mod command;
pub mod load;
pub mod measure;
pub mod observe;
pub mod proxy;
pub mod report;
pub mod runtime;
pub mod sim;
pub mod wire;
pub mod workload;

pub use cli::Parsed as Cli;
pub use command::{Exit, Surroundings};

/// Runs a command line and gives its exit status. Inside a `current_thread` tokio runtime; on a paused one,
/// with [`Workers::Local`](runtime::Workers::Local), the whole run takes place in virtual time.
pub async fn run(world: &mut Surroundings) -> Exit {
    let outside = cli::Outside { variable: &world.environment, key_file: &command::key_file };
    let parsed = match cli::parse(&world.arguments, &outside) {
        Ok(Cli::Plan(plan)) => command::run(*plan, world).await,
        Ok(Cli::Text(text)) => world.print(&text).map(|()| Exit::Valid),
        Ok(Cli::Refused(message)) => {
            world.note(&message);
            return Exit::Usage;
        }
        Err(error) => Err(error),
    };
    parsed.unwrap_or_else(|error| {
        world.note(&error.message());
        error.exit
    })
}
