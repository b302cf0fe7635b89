//! The KV blocks of one node: those in use, counted, and those that nobody uses but that still hold the KV of
//! some prompt's beginning, until the room is needed. Pure. Deliberately absent: blocks of generated tokens
//! that are found again, and two sequences that share a block which both computed.

use std::collections::{BTreeMap, HashMap};

/// Blocks by the hash of everything up to their end.
#[derive(Debug)]
pub(super) struct Pool {
    capacity: u64,
    reuse: bool,
    /// Never iterated: its order is not deterministic.
    known: HashMap<u64, Known>,
    /// Known blocks that nobody uses, least recently used first.
    idle: BTreeMap<u64, u64>,
    /// Blocks in use that nobody can find.
    private: u64,
    stamps: u64,
}

#[derive(Debug)]
struct Known {
    users: u64,
    /// When the last user left it.
    stamp: u64,
    /// False after a reset: it goes with its last user.
    found: bool,
}

/// Blocks of one sequence. They go back by [`Pool::give_back`] alone.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    known: Vec<u64>,
    private: u64,
}

impl Blocks {
    /// How many.
    pub fn count(&self) -> u64 {
        self.known.len() as u64 + self.private
    }
}

impl Pool {
    /// An unused pool of `capacity` blocks; without `reuse` it finds nothing.
    pub fn new(capacity: u64, reuse: bool) -> Self {
        Self { capacity, reuse, known: HashMap::new(), idle: BTreeMap::new(), private: 0, stamps: 0 }
    }

    /// Whether it finds blocks again.
    pub fn reuses(&self) -> bool {
        self.reuse
    }

    /// How many of `hashes`, from the first on, are here.
    pub fn found(&self, hashes: &[u64]) -> usize {
        hashes.iter().take_while(|hash| self.known.get(hash).is_some_and(|known| known.found)).count()
    }

    /// Blocks in use.
    pub fn used(&self) -> u64 {
        (self.known.len() - self.idle.len()) as u64 + self.private
    }

    /// Blocks that can be taken: free ones, and those that nobody uses.
    pub fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.used())
    }

    /// How many of `hashes` are here but idle: taking them takes room.
    pub fn idle_of(&self, hashes: &[u64]) -> u64 {
        hashes.iter().filter(|hash| self.known.get(hash).is_some_and(|known| known.users == 0)).count() as u64
    }

    /// Adds `hashes`, which are here, to `blocks`.
    pub fn share(&mut self, blocks: &mut Blocks, hashes: &[u64]) {
        for hash in hashes {
            if let Some(known) = self.known.get_mut(hash) {
                if known.users == 0 {
                    self.idle.remove(&known.stamp);
                }
                known.users += 1;
                blocks.known.push(*hash);
            }
        }
        self.forget_beyond();
    }

    /// Adds a new block to `blocks`.
    pub fn take(&mut self, blocks: &mut Blocks) {
        self.private += 1;
        blocks.private += 1;
        self.forget_beyond();
    }

    /// One of the new ones of `blocks` is full: others find it by `hash`, unless they find another already.
    pub fn name(&mut self, blocks: &mut Blocks, hash: u64) {
        if self.reuse && 0 < blocks.private && !self.known.contains_key(&hash) {
            self.private -= 1;
            blocks.private -= 1;
            self.known.insert(hash, Known { users: 1, stamp: 0, found: true });
            blocks.known.push(hash);
        }
    }

    /// Takes `blocks` back. The last ones count as used longest ago, so that beginnings outlive ends.
    pub fn give_back(&mut self, blocks: Blocks) {
        self.private -= blocks.private;
        for hash in blocks.known.into_iter().rev() {
            let Some(known) = self.known.get_mut(&hash) else { continue };
            known.users -= 1;
            if known.users == 0 && !known.found {
                self.known.remove(&hash);
            } else if known.users == 0 {
                self.stamps += 1;
                known.stamp = self.stamps;
                self.idle.insert(self.stamps, hash);
            }
        }
    }

    /// Finds nothing of what is here now any more.
    pub fn reset(&mut self) {
        for (_, hash) in std::mem::take(&mut self.idle) {
            self.known.remove(&hash);
        }
        self.known.values_mut().for_each(|known| known.found = false);
    }

    fn forget_beyond(&mut self) {
        while self.capacity < self.used() + self.idle.len() as u64 {
            let Some((_, oldest)) = self.idle.pop_first() else { return };
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(pool: &mut Pool, hashes: &[u64]) -> Blocks {
        let mut blocks = Blocks::default();
        let found = pool.found(hashes);
        pool.share(&mut blocks, &hashes[..found]);
        for hash in &hashes[found..] {
            pool.take(&mut blocks);
            pool.name(&mut blocks, *hash);
        }
        blocks
    }

    #[test]
    fn a_hit_ends_at_the_first_missing_block() {
        let mut pool = Pool::new(10, true);
        let blocks = filled(&mut pool, &[1, 2, 3]);
        assert_eq!((pool.found(&[1, 2, 9, 3]), pool.used(), blocks.count()), (2, 3, 3));
        pool.give_back(blocks);
        assert_eq!((pool.found(&[1, 2, 3]), pool.used(), pool.room()), (3, 0, 10));
        pool.reset();
        assert_eq!(pool.found(&[1]), 0);
    }

    #[test]
    fn blocks_in_use_are_shared_and_counted_once() {
        let mut pool = Pool::new(10, true);
        let (one, other) = (filled(&mut pool, &[1, 2]), filled(&mut pool, &[1, 2, 3]));
        assert_eq!(pool.used(), 3);
        pool.give_back(one);
        assert_eq!(pool.used(), 3);
        pool.reset();
        assert_eq!((pool.found(&[1]), pool.used()), (0, 3));
        pool.give_back(other);
        assert_eq!((pool.found(&[1]), pool.used()), (0, 0));
    }

    #[test]
    fn room_is_made_of_the_ends_first_and_of_the_old_before_the_new() {
        let mut pool = Pool::new(5, true);
        for prompt in [&[1, 2, 3][..], &[7, 8]] {
            let blocks = filled(&mut pool, prompt);
            pool.give_back(blocks);
        }
        let mut blocks = Blocks::default();
        pool.take(&mut blocks);
        assert_eq!((pool.found(&[1, 2, 3]), pool.found(&[7, 8])), (2, 2));
        pool.take(&mut blocks);
        pool.name(&mut blocks, 9);
        assert_eq!((pool.found(&[1, 2, 3]), pool.found(&[7, 8]), pool.room()), (1, 2, 3));
    }

    #[test]
    fn without_reuse_nothing_is_found() {
        let mut pool = Pool::new(5, false);
        let blocks = filled(&mut pool, &[1, 2]);
        pool.give_back(blocks);
        assert_eq!((pool.found(&[1]), pool.used()), (0, 0));
    }
}
