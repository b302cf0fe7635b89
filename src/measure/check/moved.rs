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
/// most requests say so.
pub(super) fn chunk(facts: &CheckFacts, moved: &[Moved]) -> f64 {
    let told = facts.of(Role::Decode).filter_map(|node| facts.nodes[node].block_size).max();
    let block = told.unwrap_or(BLOCK) as f64;
    let fits = |chunk: &f64| {
        block <= *chunk && moved.len() <= 2 * moved.iter().filter(|moved| moved.rest <= *chunk).count()
    };
    [block].into_iter().chain(CHUNKS).find(fits).unwrap_or(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_a_block_unless_most_requests_leave_more() {
        let of = |rests: &[f64]| {
            let moved: Vec<Moved> =
                rests.iter().map(|&rest| Moved { prompt: 900.0, external: 900.0 - rest, rest }).collect();
            chunk(&CheckFacts::default(), &moved)
        };
        assert_eq!(of(&[]), 16.0);
        assert_eq!(of(&[1.0, 15.0, 9.0]), 16.0);
        assert_eq!(of(&[130.0, 15.0, 250.0, 255.0]), 256.0);
        // Half of them lost is still the other half's block.
        assert_eq!(of(&[900.0, 900.0, 3.0, 16.0]), 16.0);
        assert_eq!(of(&[804.0, 777.0]), 16.0);
    }
}
