//! The KV store of a cluster, as MooncakeStore is one: blocks by the hash of everything up to their end, put by
//! prefill nodes, found by all others. A full store forgets what was used longest ago; whoever looked a block up
//! has a lease on it, during which it is not forgotten. Pure: it is told the time.
//! Deliberately absent: replicas, disks, and memory that leaves with a node.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// Blocks that any node can fetch.
#[derive(Debug)]
pub(super) struct Store {
    capacity: usize,
    lease: Duration,
    /// Never iterated: its order is not deterministic.
    kept: HashMap<u64, Kept>,
    by_use: BTreeMap<u64, u64>,
    uses: u64,
}

#[derive(Debug)]
struct Kept {
    used: u64,
    leased_until: Instant,
}

impl Store {
    /// An empty store for `capacity` blocks.
    pub fn new(capacity: u64, lease: Duration) -> Self {
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        Self { capacity, lease, kept: HashMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }

    /// Which of `hashes` are missing, so that only those travel.
    pub fn missing(&self, hashes: &[u64]) -> Vec<u64> {
        hashes.iter().copied().filter(|hash| !self.kept.contains_key(hash)).collect()
    }

    /// Keeps `hashes`, beginnings longer than ends; gives how many found no room because all others are leased.
    pub fn put(&mut self, hashes: &[u64], now: Instant) -> usize {
        for hash in hashes.iter().rev() {
            self.touch(*hash, now);
        }
        let oldest = self.by_use.iter().filter(|(_, hash)| self.kept[*hash].leased_until <= now);
        let over = self.kept.len().saturating_sub(self.capacity);
        let forgotten: Vec<(u64, u64)> = oldest.take(over).map(|(used, hash)| (*used, *hash)).collect();
        for (used, hash) in &forgotten {
            self.by_use.remove(used);
            self.kept.remove(hash);
        }
        hashes.iter().filter(|hash| !self.kept.contains_key(hash)).count()
    }

    /// How many of `hashes`, from the first on, are here; they are leased from now on.
    pub fn look_up(&mut self, hashes: &[u64], now: Instant) -> usize {
        let found = hashes.iter().take_while(|hash| self.kept.contains_key(hash)).count();
        for hash in hashes[..found].iter().rev() {
            self.touch(*hash, now);
            if let Some(kept) = self.kept.get_mut(hash) {
                kept.leased_until = now + self.lease;
            }
        }
        found
    }

    fn touch(&mut self, hash: u64, now: Instant) {
        self.uses += 1;
        let kept = self.kept.entry(hash).or_insert(Kept { used: 0, leased_until: now });
        self.by_use.remove(&kept.used);
        kept.used = self.uses;
        self.by_use.insert(self.uses, hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_forgets_old_ends_first_but_nothing_leased() {
        let (now, lease) = (Instant::now(), Duration::from_secs(10));
        let mut store = Store::new(4, lease);
        assert_eq!(store.put(&[1, 2, 3], now), 0);
        assert_eq!(store.look_up(&[1, 2], now), 2);
        assert_eq!(store.put(&[7, 8, 9], now), 1);
        assert_eq!((store.look_up(&[1, 2, 3], now), store.look_up(&[7, 8, 9], now)), (2, 2));
        assert_eq!(store.missing(&[7, 5, 8]), [5]);
        let later = now + lease;
        assert_eq!((store.put(&[4, 5, 6], later), store.look_up(&[4, 5, 6], later)), (0, 3));
        assert_eq!((store.look_up(&[7], later), store.look_up(&[1], later)), (1, 0));
    }
}
