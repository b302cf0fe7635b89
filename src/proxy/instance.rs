use super::leg::LegStats;
use super::route::{Candidate, Job};
use super::upstream::Pool;
use crate::cluster::{Node, Role};
use crate::runtime::lock;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Whether an instance takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No check of it was good yet.
    Starting,
    /// It takes requests.
    Up,
    /// It answered once and does not now.
    Down,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Up => "up",
            State::Down => "down",
        }
    }
}

/// A prefill or decode instance.
#[derive(Debug)]
pub(super) struct Instance {
    pub role: Role,
    /// `host:port`.
    pub name: String,
    /// What was said of it; [`Instance::node`] has what was learnt too.
    pub given: Node,
    /// Idle connections to it.
    pub pool: Pool,
    /// What its legs did.
    pub stats: LegStats,
    /// Asks for a check out of turn.
    pub suspicion: Notify,
    /// Told after each check; who waits for the first one finds it told.
    pub looked: Notify,
    facts: Mutex<Facts>,
    load: Mutex<Load>,
}

#[derive(Debug)]
struct Facts {
    node: Arc<Node>,
    state: State,
    /// What the last check that was not good said.
    why: String,
    max_model_len: Option<u64>,
    removed: bool,
}

#[derive(Debug, Default)]
struct Load {
    in_flight: u32,
    prompt_tokens: u64,
    active: f64,
    holding: u32,
    kv: f64,
}

impl Instance {
    pub fn new(role: Role, node: Node, max_model_len: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            role,
            name: node.authority(),
            given: node.clone(),
            pool: Pool::default(),
            stats: LegStats::default(),
            looked: Notify::new(),
            suspicion: Notify::new(),
            facts: Mutex::new(Facts {
                node: Arc::new(node),
                state: State::Starting,
                why: "it was not reached yet".to_owned(),
                max_model_len,
                removed: false,
            }),
            load: Mutex::default(),
        })
    }

    /// Where it is and how its KV side is reached.
    pub fn node(&self) -> Arc<Node> {
        Arc::clone(&lock(&self.facts).node)
    }

    /// Learns a fact about its KV side.
    pub fn learn(&self, change: impl FnOnce(&mut Node)) {
        change(Arc::make_mut(&mut lock(&self.facts).node));
    }

    pub fn learn_max_model_len(&self, max_model_len: u64) {
        lock(&self.facts).max_model_len = Some(max_model_len);
    }

    pub fn knows_max_model_len(&self) -> bool {
        lock(&self.facts).max_model_len.is_some()
    }

    /// Its state, and why where that is not up.
    pub fn state(&self) -> (State, String) {
        let facts = lock(&self.facts);
        (facts.state, facts.why.clone())
    }

    pub fn is_up(&self) -> bool {
        lock(&self.facts).state == State::Up
    }

    /// It answers: requests may come.
    pub fn admit(&self) {
        let mut facts = lock(&self.facts);
        facts.state = State::Up;
        facts.why.clear();
    }

    /// It does not answer: no request until a check is good.
    pub fn mark_down(&self, why: &str) {
        let mut facts = lock(&self.facts);
        if facts.state == State::Up {
            facts.state = State::Down;
        }
        facts.why = why.to_owned();
        drop(facts);
        self.pool.clear();
    }

    /// It takes nothing more; what is in flight ends.
    pub fn remove(&self) {
        lock(&self.facts).removed = true;
        self.pool.close();
        self.suspicion.notify_one();
    }

    pub fn is_removed(&self) -> bool {
        lock(&self.facts).removed
    }

    /// Requests assigned to it.
    pub fn in_flight(&self) -> u32 {
        lock(&self.load).in_flight
    }

    /// How a policy sees it.
    pub fn candidate(&self) -> Candidate {
        let facts = lock(&self.facts);
        let load = lock(&self.load);
        Candidate {
            up: facts.state == State::Up && !facts.removed,
            in_flight: load.in_flight,
            prompt_tokens: load.prompt_tokens,
            active: load.active,
            kv: load.kv,
            max_model_len: facts.max_model_len,
        }
    }

    /// Takes a request on.
    pub fn assign(self: &Arc<Self>, job: Job) -> Assigned {
        let mut load = lock(&self.load);
        load.in_flight += 1;
        load.prompt_tokens += job.prompt_tokens;
        load.active += job.score(self.role);
        load.holding += 1;
        load.kv += job.score(self.role);
        drop(load);
        Assigned { instance: Arc::clone(self), job, working: true, holding: true }
    }
}

/// A request's place on an instance; its weight is taken off when this is dropped, whatever became of the request.
#[derive(Debug)]
pub(super) struct Assigned {
    pub instance: Arc<Instance>,
    job: Job,
    working: bool,
    holding: bool,
}

impl Assigned {
    /// The instance has done its work; it may hold KV still.
    pub fn worked(&mut self) {
        if std::mem::replace(&mut self.working, false) {
            let mut load = lock(&self.instance.load);
            load.in_flight -= 1;
            load.prompt_tokens -= self.job.prompt_tokens;
            load.active -= self.job.score(self.instance.role);
            load.rest();
        }
    }

    /// The other side has its KV.
    pub fn released(&mut self) {
        if std::mem::replace(&mut self.holding, false) {
            let mut load = lock(&self.instance.load);
            load.holding -= 1;
            load.kv -= self.job.score(self.instance.role);
            load.rest();
        }
    }
}

impl Load {
    /// Sums of fractions do not come back to zero by themselves.
    fn rest(&mut self) {
        if self.in_flight == 0 {
            self.active = 0.0;
        }
        if self.holding == 0 {
            self.kv = 0.0;
        }
    }
}

impl Drop for Assigned {
    fn drop(&mut self) {
        self.worked();
        self.released();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_weighs_until_it_is_dropped() {
        let instance = Instance::new(Role::Prefill, "p:1".parse().unwrap(), None);
        instance.admit();
        let job = Job { prompt_tokens: 10, max_tokens: 1, body_bytes: 33 };
        let idle = instance.candidate();
        let (mut one, other) = (instance.assign(job), instance.assign(job));
        assert_eq!((instance.candidate().in_flight, instance.candidate().prompt_tokens), (2, 20));
        one.worked();
        one.worked();
        let candidate = instance.candidate();
        let score = job.score(Role::Prefill);
        assert!((candidate.active - score).abs() < 1e-9 && (candidate.kv - 2.0 * score).abs() < 1e-9);
        assert_eq!((candidate.in_flight, candidate.prompt_tokens), (1, 10));
        drop((one, other));
        assert_eq!(instance.candidate(), idle);
    }

    #[test]
    fn an_instance_that_never_answered_is_starting_not_down() {
        let instance = Instance::new(Role::Decode, "d:1".parse().unwrap(), None);
        instance.mark_down("refused");
        assert_eq!(instance.state(), (State::Starting, "refused".to_owned()));
        instance.admit();
        instance.mark_down("refused");
        assert_eq!(instance.state().0, State::Down);
    }
}
