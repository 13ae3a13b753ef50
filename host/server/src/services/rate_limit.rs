//! Token buckets of the node: atomic, shared by all threads, found without a lock after a thread's first use.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tidegate_model::bucket::{self, Rate};
use tidegate_sandbox::wit::Taken;

/// The buckets of a node.
pub struct Buckets {
    began: Instant,
    /// Which node these are of, for the threads' own tables.
    generation: u64,
    all: Mutex<HashMap<String, Arc<Bucket>>>,
}

/// When it will be full, in nanoseconds since the node began.
#[derive(Default)]
struct Bucket {
    full_at: AtomicU64,
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
}

/// The buckets that this thread has used lately.
#[derive(Default)]
struct Known {
    generation: u64,
    /// `scope`, NUL, `key`.
    buckets: HashMap<String, Arc<Bucket>>,
    name: String,
}

impl Default for Buckets {
    fn default() -> Self {
        static GENERATIONS: AtomicU64 = AtomicU64::new(1);
        Self {
            began: Instant::now(),
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
            all: Mutex::default(),
        }
    }
}

impl Buckets {
    /// Takes a token; `rate` is finite and above 0. A `burst` of 0 admits nothing.
    pub fn take(&self, scope: &str, key: &str, rate: f64, burst: u32) -> Taken {
        let Some(rate) = Rate::new(rate, burst) else {
            return Taken::Rejected(u32::MAX);
        };
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        KNOWN.with_borrow_mut(|known| known.bucket(self, scope, key).take(rate, now))
    }

    fn bucket(&self, name: &str, now: u64) -> Arc<Bucket> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = all.get(name) {
            return bucket.clone();
        }
        if all.len() >= BUCKETS_MAX {
            // A full bucket forgotten is a full bucket made anew: nothing changes for anyone.
            all.retain(|_, bucket| bucket.full_at.load(Ordering::Relaxed) > now);
        }
        if all.len() >= BUCKETS_MAX {
            // All are in use: the fuller half goes, since it loses the least.
            let sum: u128 = all
                .values()
                .map(|bucket| u128::from(bucket.full_at.load(Ordering::Relaxed)))
                .sum();
            let mean = sum / all.len() as u128;
            all.retain(|_, bucket| u128::from(bucket.full_at.load(Ordering::Relaxed)) > mean);
        }
        all.entry(name.to_owned()).or_default().clone()
    }
}

impl Known {
    fn bucket(&mut self, buckets: &Buckets, scope: &str, key: &str) -> &Bucket {
        if self.generation != buckets.generation || self.buckets.len() >= KNOWN_MAX {
            self.buckets.clear();
            self.generation = buckets.generation;
        }
        self.name.clear();
        self.name.push_str(scope);
        self.name.push('\0');
        self.name.push_str(key);
        if !self.buckets.contains_key(&self.name) {
            let now = u64::try_from(buckets.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.buckets
                .insert(self.name.clone(), buckets.bucket(&self.name, now));
        }
        &self.buckets[&self.name]
    }
}

impl Bucket {
    fn take(&self, rate: Rate, now: u64) -> Taken {
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            match rate.take(full_at, now) {
                bucket::Taken::Rejected { retry_after } => {
                    let milliseconds = retry_after.as_nanos().div_ceil(1_000_000);
                    return Taken::Rejected(u32::try_from(milliseconds).unwrap_or(u32::MAX));
                }
                bucket::Taken::Admitted {
                    full_at: next,
                    left,
                } => {
                    match self.full_at.compare_exchange_weak(
                        full_at,
                        next,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    ) {
                        Ok(_) => return Taken::Admitted(left),
                        Err(found) => full_at = found,
                    }
                }
            }
        }
    }
}

/// The contract's bound.
const BUCKETS_MAX: usize = 100_000;
/// What one thread keeps at hand.
const KNOWN_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_a_bucket() {
        let buckets = Buckets::default();
        let admitted: usize = std::thread::scope(|threads| {
            let take = || {
                (0..100)
                    .filter(|_| matches!(buckets.take("a/dev", "k", 0.001, 50), Taken::Admitted(_)))
                    .count()
            };
            let running: Vec<_> = (0..4).map(|_| threads.spawn(take)).collect();
            running
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .sum()
        });
        assert_eq!(admitted, 50);
    }

    #[test]
    fn scopes_do_not_share() {
        let buckets = Buckets::default();
        assert!(matches!(
            buckets.take("a/dev", "k", 0.001, 1),
            Taken::Admitted(0)
        ));
        assert!(matches!(
            buckets.take("a/dev", "k", 0.001, 1),
            Taken::Rejected(_)
        ));
        assert!(matches!(
            buckets.take("a/prod", "k", 0.001, 1),
            Taken::Admitted(0)
        ));
    }
}
