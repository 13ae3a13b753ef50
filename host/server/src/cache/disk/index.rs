//! Where on disk the entry of a key is.
//!
//! By the key's hash, of 8 bytes: the record has the whole key, and of two keys with one hash the later has the place.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The index.
pub struct Index {
    /// Locked for a lookup only, but for sweeps.
    shards: Box<[Mutex<Shard>]>,
    /// What was there before is still being read: what is forgotten has to be remembered until then.
    recovering: AtomicBool,
}

/// A record's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub segment: u32,
    pub at: u32,
    /// Of the whole record; 0: the key has none.
    pub bytes: u32,
}

type Shard = HashMap<u64, Slot, BuildHasherDefault<Itself>>;

/// Keys are hashes already.
#[derive(Default)]
struct Itself(u64);

impl Hasher for Itself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Index {
    /// An empty one. `recovering`: what was there before will be told.
    pub fn new(recovering: bool) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            recovering: AtomicBool::new(recovering),
        }
    }

    /// Where the entry of a key is.
    pub fn get(&self, hash: u64) -> Option<Slot> {
        let slot = self.shard(hash).get(&hash).copied();
        slot.filter(|slot| slot.bytes > 0)
    }

    /// It is here now.
    pub fn put(&self, hash: u64, slot: Slot) {
        self.shard(hash).insert(hash, slot);
    }

    /// It was here, before the process began: newer ones stay.
    pub fn recover(&self, hash: u64, slot: Slot) {
        match self.shard(hash).entry(hash) {
            Entry::Vacant(entry) => drop(entry.insert(slot)),
            Entry::Occupied(mut entry) => {
                let known = entry.get();
                if (known.segment, known.at) < (slot.segment, slot.at) {
                    entry.insert(slot);
                }
            }
        }
    }

    /// It is nowhere.
    pub fn forget(&self, hash: u64) {
        if self.recovering.load(Ordering::Acquire) {
            self.put(hash, NOWHERE);
        } else {
            self.shard(hash).remove(&hash);
        }
    }

    /// It is not there.
    pub fn forget_if(&self, hash: u64, slot: Slot) {
        let known = self.get(hash);
        if known == Some(slot) {
            self.forget(hash);
        }
    }

    /// All that was there before has been told. `lives`: whether a segment is still there.
    pub fn recovered(&self, lives: impl Fn(u32) -> bool) {
        self.recovering.store(false, Ordering::Release);
        self.sweep(|slot| slot.bytes > 0 && lives(slot.segment));
    }

    /// Whether what was there before is still being read.
    pub fn is_recovering(&self) -> bool {
        self.recovering.load(Ordering::Acquire)
    }

    /// Keeps some.
    pub fn sweep(&self, keeps: impl Fn(&Slot) -> bool) {
        for shard in &self.shards {
            lock(shard).retain(|_, slot| keeps(slot));
        }
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        let shards = self.shards.iter();
        shards.map(|shard| lock(shard).len() as u64).sum()
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The map takes the upper and the lower bits.
        lock(&self.shards[usize::from((hash >> 32) as u8) % SHARDS])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

const SHARDS: usize = 64;
const NOWHERE: Slot = Slot {
    segment: u32::MAX,
    at: u32::MAX,
    bytes: 0,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(segment: u32, at: u32) -> Slot {
        Slot {
            segment,
            at,
            bytes: 10,
        }
    }

    #[test]
    fn what_is_recovered_gives_way_to_what_is_newer_or_was_forgotten() {
        let index = Index::new(true);
        index.recover(1, slot(3, 0));
        index.recover(1, slot(2, 8));
        index.put(2, slot(9, 0));
        index.recover(2, slot(3, 0));
        index.forget(3);
        index.recover(3, slot(3, 0));
        index.recover(
            4,
            Slot {
                bytes: 0,
                ..slot(3, 8)
            },
        );
        index.recover(4, slot(3, 0));
        index.recover(5, slot(1, 0));
        index.recovered(|segment| segment != 1);
        let found: Vec<_> = (1..=5).map(|hash| index.get(hash)).collect();
        assert_eq!(
            found,
            [Some(slot(3, 0)), Some(slot(9, 0)), None, None, None]
        );
        assert_eq!(index.len(), 2);
        index.forget_if(1, slot(4, 4));
        assert!(index.get(1).is_some());
        index.forget_if(1, slot(3, 0));
        assert!(index.get(1).is_none());
    }
}
