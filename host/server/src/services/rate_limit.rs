//! Token buckets of the node: atomic, shared by all threads, found without a lock after a thread's first use.
//!
//! On an edge a bucket is shared with other edges: it has a part of the rate, leased from the origin by what it is asked for
//! ([`Buckets::demand`], [`Buckets::lease`]). Until the origin has said, it has an even part.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tidegate_model::bucket::{self, Rate};
use tidegate_sandbox::wit::Taken;

use super::known::{self, Known};

/// The buckets of a node.
pub struct Buckets {
    began: Instant,
    /// Which node these are of, for the threads' own tables.
    generation: u64,
    all: Mutex<HashMap<String, Arc<Bucket>>>,
    /// Shared with other edges.
    leased: bool,
    /// Of a bucket without a lease yet, in millionths.
    even: AtomicU32,
}

/// What a bucket was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Demand {
    pub bucket: String,
    /// Tokens per second; at most.
    pub rate: f64,
    /// Tokens that it was asked for since it was told last.
    pub asked: u64,
}

/// When it will be full, in nanoseconds since the node began.
struct Bucket {
    full_at: AtomicU64,
    /// Of the rate that is this node's, in millionths.
    part: AtomicU32,
    /// Tokens that it was asked for, where it is leased.
    asked: AtomicU64,
    /// The rate that it was asked with last, as bits of an f64.
    rate: AtomicU64,
}

thread_local! {
    /// By `scope`, NUL, `key`.
    static KNOWN: RefCell<Known<Bucket>> = RefCell::default();
}

impl Default for Buckets {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            generation: known::generation(),
            all: Mutex::default(),
            leased: false,
            even: AtomicU32::new(WHOLE),
        }
    }
}

impl Buckets {
    /// Those of an edge, which have parts of what they are told.
    pub fn leased() -> Self {
        Self {
            leased: true,
            ..Self::default()
        }
    }

    /// What buckets were asked for since the last call, the most wanted first; at most a few thousand.
    pub fn demand(&self) -> Vec<Demand> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = all.iter().filter_map(|(name, bucket)| {
            let asked = bucket.asked.swap(0, Ordering::Relaxed);
            (asked > 0).then(|| Demand {
                bucket: name.clone(),
                rate: f64::from_bits(bucket.rate.load(Ordering::Relaxed)),
                asked,
            })
        });
        let mut demands: Vec<Demand> = asked.collect();
        demands.sort_by_key(|demand| std::cmp::Reverse(demand.asked));
        demands.truncate(DEMANDS_MAX);
        demands
    }

    /// Takes the parts that the origin says, between 0 and 1, and how many edges there are: a bucket without a lease has an
    /// even part.
    pub fn lease(&self, edges: usize, parts: &HashMap<String, f64>) {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, part) in parts {
            if let Some(bucket) = all.get(name) {
                bucket.part.store(millionths(*part), Ordering::Relaxed);
            }
        }
        let even = millionths(1.0 / edges.max(1) as f64);
        self.even.store(even, Ordering::Relaxed);
    }

    /// Takes a token; `rate` is finite and above 0. A `burst` of 0 admits nothing.
    pub fn take(&self, scope: &str, key: &str, rate: f64, burst: u32) -> Taken {
        let per_second = rate;
        let Some(rate) = Rate::new(rate, burst) else {
            return Taken::Rejected(u32::MAX);
        };
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        KNOWN.with_borrow_mut(|known| {
            let find = |name: &str| Some(self.bucket(name, now));
            let Some(bucket) = known.get(self.generation, &[scope, key], find) else {
                return Taken::Rejected(u32::MAX);
            };
            if self.leased {
                bucket.take_leased(rate, per_second, now)
            } else {
                bucket.take(rate, now)
            }
        })
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
        let even = self.even.load(Ordering::Relaxed);
        let made = || Arc::new(Bucket::new(even));
        all.entry(name.to_owned()).or_insert_with(made).clone()
    }
}

impl Bucket {
    fn new(part: u32) -> Self {
        Self {
            full_at: AtomicU64::new(0),
            part: AtomicU32::new(part),
            asked: AtomicU64::new(0),
            rate: AtomicU64::new(0),
        }
    }

    fn take_leased(&self, rate: Rate, per_second: f64, now: u64) -> Taken {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.rate.store(per_second.to_bits(), Ordering::Relaxed);
        let part = f64::from(self.part.load(Ordering::Relaxed)) / f64::from(WHOLE);
        self.take(rate.part(part), now)
    }

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

/// At least a millionth: a bucket with no part at all would never be asked for again.
fn millionths(part: f64) -> u32 {
    (part * f64::from(WHOLE)).clamp(1.0, f64::from(WHOLE)) as u32
}

const WHOLE: u32 = 1_000_000;
/// In one report.
const DEMANDS_MAX: usize = 2000;
/// The contract's bound.
const BUCKETS_MAX: usize = 100_000;

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

    #[test]
    fn a_leased_bucket_has_its_part_and_tells_what_it_was_asked_for() {
        let buckets = Buckets::leased();
        buckets.lease(4, &HashMap::new());
        let admitted = |count: usize| {
            (0..count)
                .filter(|_| matches!(buckets.take("a/dev", "k", 0.001, 40), Taken::Admitted(_)))
                .count()
        };
        assert_eq!(admitted(100), 10, "a quarter");
        let demand = Demand {
            bucket: "a/dev\0k".to_owned(),
            rate: 0.001,
            asked: 100,
        };
        assert_eq!(buckets.demand(), [demand]);
        assert_eq!(buckets.demand(), []);
        buckets.lease(4, &HashMap::from([("a/dev\0k".to_owned(), 1.0)]));
        let more = admitted(100);
        assert!(more <= 30, "what was taken counts: {more}");
    }
}
