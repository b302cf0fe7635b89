//! How much of a prompt's KV came from elsewhere.

use super::evidence::Asked;
use super::{CheckFacts, Growth};
use crate::cluster::Role;

/// What a decode instance counted of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moved {
    /// Prompt tokens.
    pub(super) prompt: f64,
    /// Those whose KV came from elsewhere.
    pub(super) external: f64,
    /// Those that neither did nor were in the instance's own cache: it computed them.
    pub(super) rest: f64,
}

/// Tokens in a block where no instance tells: vLLM's usual number.
const BLOCK: u64 = 16;
/// Tokens that connectors move at a time where that is more than a block: LMCache's usual number is the last.
const CHUNKS: [f64; 4] = [32.0, 64.0, 128.0, 256.0];

impl Moved {
    /// Of an ok request that was the only one that the instance served meanwhile; `None` where it does not tell.
    pub(super) fn of(asked: &Asked<'_>, decode: usize) -> Option<Self> {
        let growth = asked.grown(decode).filter(|growth| asked.is_ok() && served_one(growth))?;
        let (prompt, external) = (asked.prompt_tokens()?, growth.external?);
        let here = external + growth.local_cache_hit.unwrap_or(0.0);
        Some(Self { prompt, external, rest: (prompt - here).max(0.0) })
    }
}

/// Whether an instance ended one request and no other; yes where it does not tell.
pub(super) fn served_one(growth: &Growth) -> bool {
    growth.finished.is_none_or(|finished| finished == 1.0)
}

/// The tokens that move at a time: the last ones of a prompt, fewer than these, stay behind. A block; more only where
/// most requests whose KV moved at all say so, by what stayed behind and by whole multiples of what moved.
pub(super) fn chunk(facts: &CheckFacts, moved: &[Moved]) -> f64 {
    let told = facts.of(Role::Decode).filter_map(|node| facts.nodes[node].block_size).max();
    let block = told.unwrap_or(BLOCK) as f64;
    let some: Vec<&Moved> = moved.iter().filter(|moved| 0.0 < moved.external).collect();
    let fits = |chunk: &f64| {
        let whole = |moved: &&&Moved| {
            let here = moved.prompt - moved.rest;
            moved.rest <= *chunk && (*chunk == block || here % chunk == 0.0)
        };
        block <= *chunk && some.len() <= 2 * some.iter().filter(whole).count()
    };
    [block].into_iter().chain(CHUNKS).find(fits).unwrap_or(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_a_block_unless_most_requests_leave_more() {
        let of = |told: &[(f64, f64)]| {
            let moved: Vec<Moved> = told
                .iter()
                .map(|&(prompt, external)| Moved { prompt, external, rest: prompt - external })
                .collect();
            chunk(&CheckFacts::default(), &moved)
        };
        assert_eq!(of(&[]), 16.0);
        assert_eq!(of(&[(700.0, 699.0), (690.0, 688.0), (41.0, 40.0)]), 16.0);
        assert_eq!(of(&[(700.0, 512.0), (530.0, 512.0), (767.0, 512.0)]), 256.0);
        // What is lost says nothing of what moves, and what is left of a put that ended early is no chunk.
        assert_eq!(of(&[(100.0, 0.0), (100.0, 0.0), (700.0, 699.0)]), 16.0);
        assert_eq!(of(&[(200.0, 96.0), (210.0, 96.0)]), 16.0);
    }
}
