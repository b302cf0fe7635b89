//! The KV blocks that a prefill node keeps: the least recently used go first. Pure.

use std::collections::{BTreeMap, HashMap};

/// Blocks by the hash of everything up to their end.
#[derive(Debug)]
pub(super) struct PrefixCache {
    capacity: usize,
    /// When each block was last used. Never iterated: its order is not deterministic.
    used: HashMap<u64, u64>,
    by_use: BTreeMap<u64, u64>,
    uses: u64,
}

impl PrefixCache {
    /// An empty cache for `capacity` blocks.
    pub fn new(capacity: u64) -> Self {
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        Self { capacity, used: HashMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }

    /// How many of `blocks`, from the first on, are cached.
    pub fn cached(&self, blocks: &[u64]) -> usize {
        blocks.iter().take_while(|hash| self.used.contains_key(hash)).count()
    }

    /// Keeps `blocks`. The last ones count as used longest ago, so that beginnings outlive ends.
    pub fn keep(&mut self, blocks: &[u64]) {
        for hash in blocks.iter().rev() {
            self.uses += 1;
            if let Some(before) = self.used.insert(*hash, self.uses) {
                self.by_use.remove(&before);
            }
            self.by_use.insert(self.uses, *hash);
        }
        while self.capacity < self.used.len() {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.used.remove(&oldest);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.used.clear();
        self.by_use.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_ends_at_the_first_missing_block() {
        let mut cache = PrefixCache::new(10);
        cache.keep(&[1, 2, 3]);
        assert_eq!(cache.cached(&[1, 2, 9, 3]), 2);
        cache.clear();
        assert_eq!(cache.cached(&[1]), 0);
    }

    #[test]
    fn a_full_cache_forgets_ends_before_beginnings_and_old_before_new() {
        let mut cache = PrefixCache::new(4);
        cache.keep(&[1, 2, 3]);
        cache.keep(&[7, 8]);
        assert_eq!(cache.cached(&[1, 2, 3]), 2);
        cache.keep(&[1, 2]);
        cache.keep(&[9]);
        assert_eq!((cache.cached(&[1, 2]), cache.cached(&[7, 8])), (2, 1));
    }
}
