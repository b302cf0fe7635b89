//! The functional check of a PD deployment: what is asked of whom ([`Design`]), what instances and store told meanwhile
//! ([`CheckFacts`]), and what both show ([`CheckResult`]): a verdict a step, a verdict for each pair of instances, and
//! findings that say what is wrong, where and what to do.
//! Deliberately absent: who asks, and how the legs of a request are spoken.

mod alone;
mod cause;
mod compare;
mod evidence;
mod facts;
mod fault;
mod moved;
mod nodes;
mod pairs;
mod place;
mod plan;
mod proxied;
mod result;

pub use cause::Cause;
pub use facts::{CheckFacts, Growth, NodeTold, RoundTold, StoreTold};
pub use fault::CheckFault;
pub use place::At;
pub use plan::{Ask, Design, Errand, PairWay, Sharing, usual_requests};
pub(super) use result::check;
pub use result::{CheckResult, PairResult, Step, StepResult, Verdict};

/// What `asking.arm` of a record says: that it is a whole request or its decode leg …
pub const ANSWER: usize = 0;
/// … or the prefill leg beside it. `asking.questions` is the number of the request.
pub const PREFILL_LEG: usize = 1;

/// What no check of answers and counters can see.
pub const BLIND: &str = "KV blocks that arrive in another order (text and likelihoods stay as they are), and damage \
    that is rarer than one request in as many as were sent";
