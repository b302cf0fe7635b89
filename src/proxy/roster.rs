use super::instance::{Assigned, Instance};
use super::route::{Candidate, Job, Policy, State, choose};
use crate::cluster::{Node, Role};
use crate::runtime::lock;
use std::sync::{Arc, Mutex};

/// The instances of both roles, and whose turn it is.
#[derive(Debug)]
pub(super) struct Roster {
    policy: Policy,
    sides: Mutex<[Side; 2]>,
}

#[derive(Debug)]
struct Side {
    instances: Vec<Arc<Instance>>,
    state: State,
}

fn index(role: Role) -> usize {
    match role {
        Role::Prefill => 0,
        // An instance that could do both is asked to decode here.
        Role::Decode | Role::Mixed => 1,
    }
}

impl Roster {
    pub fn new(policy: Policy, seed: u64) -> Self {
        let side = |seed| Side { instances: Vec::new(), state: State::new(seed) };
        Self { policy, sides: Mutex::new([side(seed), side(!seed)]) }
    }

    /// Adds an instance; `None` when it is there already.
    pub fn add(&self, role: Role, node: Node, max_model_len: Option<u64>) -> Option<Arc<Instance>> {
        let mut sides = lock(&self.sides);
        let instances = &mut sides[index(role)].instances;
        if instances.iter().any(|known| known.name == node.authority()) {
            return None;
        }
        let instance = Instance::new(role, node, max_model_len);
        instances.push(Arc::clone(&instance));
        Some(instance)
    }

    /// Takes an instance out; its requests in flight end.
    pub fn remove(&self, role: Role, name: &str) -> Option<Arc<Instance>> {
        let mut sides = lock(&self.sides);
        let instances = &mut sides[index(role)].instances;
        let at = instances.iter().position(|known| known.name == name)?;
        let gone = instances.remove(at);
        gone.remove();
        Some(gone)
    }

    /// The instances of a role, in the order in which they came.
    pub fn instances(&self, role: Role) -> Vec<Arc<Instance>> {
        lock(&self.sides)[index(role)].instances.clone()
    }

    /// Chooses an instance and gives it the job; `None` when none of the role is up.
    pub fn assign(&self, role: Role, job: Job) -> Option<Assigned> {
        let mut sides = lock(&self.sides);
        let Side { instances, state } = &mut sides[index(role)];
        let candidates: Vec<Candidate> = instances.iter().map(|instance| instance.candidate()).collect();
        let chosen = choose(self.policy, role, &candidates, &job, state)?;
        Some(instances[chosen].assign(job))
    }

    /// Why no instance of a role is up, for the client who asks.
    pub fn why_none(&self, role: Role) -> String {
        let instances = self.instances(role);
        if instances.is_empty() {
            return format!("no {role} instance is known");
        }
        let why = |instance: &Arc<Instance>| format!("{} ({})", instance.name, instance.state().1);
        let each: Vec<String> = instances.iter().map(why).collect();
        format!("no {role} instance is up: {}", each.join(", "))
    }
}
