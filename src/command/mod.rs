//! What each verb does: one recipe a file, which puts the other rooms together. The only room that prints.
//! Deliberately absent: flags (`cli` knows them) and any logic that a test would want for itself.

mod accuracy;
mod answers;
mod begun;
mod cache;
mod check;
mod child;
mod client;
mod compare;
mod dataset;
mod direct;
mod earlier;
mod embedded;
mod ending;
mod error;
mod input;
mod ladder;
mod lengths;
mod manifest;
mod observe;
mod passes;
mod plan;
mod preflight;
mod progress;
mod proxy;
mod recorder;
mod remake;
mod repeat;
mod requests;
mod result_file;
mod secrets;
mod selftest;
mod serve;
mod signals;
mod sim;
mod surroundings;

pub use crate::report::Existing;
pub use accuracy::sources::{PUBLISHED, Published};
pub use accuracy::{AccuracyPlan, Baseline, Paths, PromptFormat};
pub use answers::AnswersPlan;
pub use cache::{CachePlan, Errand, FetchPlan, Way};
pub use check::{CheckPlan, is_spoken};
pub use compare::ComparePlan;
pub use error::{Error, Exit};
pub(crate) use input::key_file;
pub use ladder::{LadderPlan, LadderPrompts};
pub use observe::WatchPlan;
pub use plan::{
    DatasetPlan, DirectPlan, Instance, Plan, ProbePrompt, ProxyPlan, RepeatPlan, RepeatWay, ResultPlan, Salt,
    SelftestPlan, ServePlan, SimPlan, TargetPlan, TokenizerPlan, TrustPlan, WarmupPrompts,
};
pub use remake::ReportPlan;
pub use surroundings::{Environment, Interrupt, InterruptedBy, Resolver, Resolving, Surroundings};

/// Does what was asked for. Inside a `current_thread` tokio runtime.
///
/// # Errors
/// What kept it from being done, with the exit status for that.
pub async fn run(mut plan: Plan, world: &mut Surroundings) -> Result<Exit, Error> {
    answers::learn(&mut plan)?;
    match plan {
        Plan::Serve(plan) => serve::serve(plan, world).await,
        Plan::Ladder(plan) => ladder::ladder(*plan, world).await,
        Plan::Repeat(plan) => repeat::repeat(*plan, world).await,
        Plan::Accuracy(plan) => accuracy::accuracy(*plan, world).await,
        Plan::Check(plan) => check::check(*plan, world).await,
        Plan::Sim(plan) => sim::serve_sim(plan, world).await,
        Plan::Selftest(plan) => selftest::selftest(plan, world).await,
        Plan::Proxy(plan) => proxy::serve_proxy(plan, world).await,
        Plan::Dataset(plan) => cache::dataset(plan, world).await,
        Plan::Report(plan) => remake::remake(&plan, world),
        Plan::Compare(plan) => compare::compare(&plan, world),
    }
}
