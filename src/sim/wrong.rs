//! KV that arrives wrong: damaged, or another request's. Only what a decode node took over can be; what a node
//! computes itself is right. Who is met follows from the prompt and the seed.
//! Deliberately absent: damage that stays: what the node's own cache then has of the prompt counts as right.

use super::answer::{Answer, Limits};
use super::faults::{FaultKind, Faults};
use super::node::Node;
use super::prompt::{Prompt, mix, uniform};
use super::truth::KvWrong;
use crate::cluster::Role;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What a node took.
#[derive(Debug, Default)]
pub(super) struct Taken {
    requests: AtomicU64,
    /// Whose KV came last, and for which prompt.
    latest: Mutex<Option<(String, Prompt)>>,
}

const CORRUPT: u64 = u64::from_be_bytes(*b"corrupt "); // draws for different ends differ
const SWAP: u64 = u64::from_be_bytes(*b"swap    ");
const WHERE: u64 = u64::from_be_bytes(*b"where   ");

impl Taken {
    /// Counts a request; gives how many there were before.
    pub fn one_more(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// Whose KV came before that of request `id` does.
    fn before(&self, id: String, prompt: &Prompt) -> Option<(String, Prompt)> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).replace((id, prompt.clone()))
    }
}

impl Node {
    /// The answer to `prompt` from KV that the node took over, as request number `earlier` from 0, and what is wrong
    /// with that KV.
    pub(super) fn answer_from_taken(
        &self,
        id: String,
        prompt: &Prompt,
        limits: &Limits,
        faults: &Faults,
        earlier: u64,
    ) -> (Answer, Option<KvWrong>) {
        let config = &self.config;
        let before = self.taken.before(id, prompt);
        let draw = |what: u64| mix(prompt.hash ^ mix(config.seed ^ what));
        let met = |what, share: f64| self.member.role != Role::Mixed && uniform(draw(what)) < share;
        let other = before.filter(|(_, other)| other.hash != prompt.hash && met(SWAP, faults.swapped_kv()));
        if let Some((with, other)) = other {
            self.metrics.lock().kv_swapped += 1;
            return (Answer::new(&other, config, limits), Some(KvWrong::Swapped { with }));
        }
        if met(CORRUPT, faults.corrupted_kv(earlier)) {
            self.metrics.lock().kv_corrupted += 1;
            let (answer, from_token) = Answer::damaged(prompt, config, limits, draw(WHERE));
            return (answer, Some(KvWrong::Corrupted { from_token }));
        }
        (Answer::new(prompt, config, limits), None)
    }
}

impl Faults {
    /// Share of prompts whose KV is damaged, for a node that took so many requests before.
    fn corrupted_kv(&self, earlier: u64) -> f64 {
        let share = self.find(|kind| match kind {
            FaultKind::CorruptKv(share) => Some(share),
            FaultKind::MadeUpKv => Some(1.0),
            FaultKind::CorruptKvRising(requests) => Some((earlier as f64 / f64::from(requests)).min(1.0)),
            _ => None,
        });
        share.unwrap_or(0.0)
    }

    /// Share of prompts for which other KV is used.
    fn swapped_kv(&self) -> f64 {
        self.find(|kind| if let FaultKind::SwapKv(share) = kind { Some(share) } else { None }).unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_constant_or_grows_with_what_the_node_took() {
        let share = |text: &str, earlier| text.parse::<Faults>().unwrap().corrupted_kv(earlier);
        assert_eq!((share("none", 9), share("lose-kv,corrupt-kv=0.25", 9)), (0.0, 0.25));
        let rising = "corrupt-kv-rising=40";
        assert_eq!((share(rising, 0), share(rising, 10), share(rising, 400)), (0.0, 0.25, 1.0));
    }
}
