use super::Cost;
use crate::runtime::lock;
use std::sync::Mutex;
use tokio::time::Instant;

/// The one link from the prefill nodes to the decode nodes: one transfer at a time occupies it, in the
/// order asked for. A transfer that is given up keeps its time on the link.
#[derive(Debug)]
pub(super) struct Link {
    cost: Cost,
    free_at: Mutex<Option<Instant>>,
}

impl Link {
    /// An idle link.
    pub fn new(cost: Cost) -> Self {
        Self { cost, free_at: Mutex::new(None) }
    }

    /// Moves the KV of `tokens`, ready to leave at `ready`, in `slowness` times the time that the cost model says.
    /// Gives the instant when it arrives.
    pub fn occupy(&self, tokens: u64, ready: Instant, slowness: f64) -> Instant {
        let mut free_at = lock(&self.free_at);
        let start = free_at.map_or(ready, |free_at| free_at.max(ready));
        let end = start + self.cost.link_occupied(tokens).mul_f64(slowness);
        *free_at = Some(end);
        end + self.cost.link_latency()
    }
}
