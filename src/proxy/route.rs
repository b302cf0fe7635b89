use crate::cluster::Role;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use std::str::FromStr;

/// How instances are chosen. Prefill and decode instances are always chosen independently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with the fewest requests in flight.
    LeastInFlight,
    /// The one with the fewest prompt tokens in flight.
    LeastTokens,
    /// The score heap of vllm-ascend's load balancing proxy.
    Ascend,
    /// Drawn.
    Random,
}

impl Policy {
    /// All of them.
    pub const ALL: [Policy; 5] =
        [Policy::RoundRobin, Policy::LeastInFlight, Policy::LeastTokens, Policy::Ascend, Policy::Random];

    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Policy::RoundRobin => "round-robin",
            Policy::LeastInFlight => "least-in-flight",
            Policy::LeastTokens => "least-tokens",
            Policy::Ascend => "ascend",
            Policy::Random => "random",
        }
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|policy| policy.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|policy| policy.name()).collect();
            format!("`{text}` is not a policy: want one of {}", names.join(", "))
        })
    }
}

/// What a request asks of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// Tokens of the prompt, mostly an estimate of four bytes a token.
    pub prompt_tokens: u64,
    /// Most tokens of the answer.
    pub max_tokens: u64,
    /// Bytes of the request's body: what the score of vllm-ascend goes by.
    pub body_bytes: u64,
}

impl Job {
    /// Tokens that an instance of this role must hold: the prompt and one token, or prompt and answer.
    pub fn context(&self, role: Role) -> u64 {
        match role {
            Role::Prefill => self.prompt_tokens.saturating_add(1),
            Role::Decode | Role::Mixed => self.prompt_tokens.saturating_add(self.max_tokens),
        }
    }

    /// What the request weighs on an instance of this role in vllm-ascend's score: for prefill an affine function
    /// of the tokens (bytes / 4 · 0.0345 + 120.0745, its authors' fit in ms), for decode the body's bytes.
    pub fn score(&self, role: Role) -> f64 {
        match role {
            Role::Prefill => self.body_bytes as f64 / 4.0 * 0.0345 + 120.0745,
            Role::Decode | Role::Mixed => self.body_bytes as f64,
        }
    }
}

/// An instance as a policy sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Candidate {
    /// It takes requests.
    pub up: bool,
    /// Requests in flight.
    pub in_flight: u32,
    /// Prompt tokens of those.
    pub prompt_tokens: u64,
    /// Sum of the scores of what it works on.
    pub active: f64,
    /// Sum of the scores of those whose KV it still holds.
    pub kv: f64,
    /// Longest context it holds, in tokens, if known.
    pub max_model_len: Option<u64>,
}

impl Candidate {
    /// vllm-ascend's priority, lowest first: work, and for prefill 0.3 of the KV held.
    fn priority(&self, role: Role) -> f64 {
        match role {
            Role::Prefill => self.active + 0.3 * self.kv,
            Role::Decode | Role::Mixed => self.active,
        }
    }
}

/// What a policy remembers between two choices among the instances of one role.
#[derive(Clone, Debug)]
pub struct State {
    next: usize,
    draws: Pcg64Mcg,
}

impl State {
    /// At the start, with the seed of what is drawn.
    pub fn new(seed: u64) -> Self {
        Self { next: 0, draws: Pcg64Mcg::seed_from_u64(seed) }
    }
}

/// Chooses among the instances of `role`; `None` when none is up. Where some of them are known to be too small for
/// the job they are passed over; where all are, the largest is taken, whose own refusal says more than ours could:
/// the job's length is an estimate.
pub fn choose(
    policy: Policy,
    role: Role,
    candidates: &[Candidate],
    job: &Job,
    state: &mut State,
) -> Option<usize> {
    let room = |candidate: &Candidate| candidate.max_model_len.unwrap_or(u64::MAX);
    let most = candidates.iter().filter(|candidate| candidate.up).map(room).max()?;
    let needed = job.context(role).min(most);
    let fits = |candidate: &Candidate| candidate.up && needed <= room(candidate);
    let count = candidates.len();
    let start = state.next % count;
    let in_turn = (0..count).map(|step| (start + step) % count).filter(|&at| fits(&candidates[at]));
    let chosen = match policy {
        Policy::RoundRobin => in_turn.take(1).next(),
        // Ties go by turn, or the first instance would bear every quiet hour alone.
        Policy::LeastInFlight => in_turn.min_by_key(|&at| candidates[at].in_flight),
        Policy::LeastTokens => {
            in_turn.min_by_key(|&at| (candidates[at].prompt_tokens, candidates[at].in_flight))
        }
        Policy::Ascend => (0..count).filter(|&at| fits(&candidates[at])).min_by(|&one, &other| {
            candidates[one].priority(role).total_cmp(&candidates[other].priority(role))
        }),
        Policy::Random => {
            let fitting: Vec<_> = in_turn.collect();
            (!fitting.is_empty()).then(|| fitting[state.draws.random_range(0..fitting.len())])
        }
    }?;
    state.next = chosen + 1;
    Some(chosen)
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
