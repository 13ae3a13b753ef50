//! The cache of a node: mechanism only. What may be stored, for how long, and what may be served is decided by
//! `tidegate_model::cache`; `request::cache` is where a request meets it.
//!
//! [`store`] keeps responses, and [`disk`] those that outlive the process; [`doubt`] knows which were changed; [`stored`] is
//! one of them, [`fill`] makes one of a response on its way to a viewer, [`flight`] lets requests wait for another one's
//! answer, [`purge`] names what is to go, and [`behind`] knows whether that has been heard.

pub mod behind;
pub mod disk;
pub mod doubt;
pub mod fill;
pub mod flight;
pub mod purge;
pub mod store;
pub mod stored;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate_model::config::NodeCache;

use behind::Behind;
use flight::{Flights, Joined, Landed};
use store::Store;

/// Shared by all workers.
pub struct Cache {
    pub store: Store,
    pub flights: Arc<Flights>,
    pub behind: Arc<Behind>,
    /// The largest body that is kept.
    pub body_bytes_max: u64,
    /// How long a request waits for another one's answer.
    pub wait: Duration,
    counts: Box<[Counts]>,
    waiting: AtomicU64,
}

/// What became of a request, by the words of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Served from store, fresh.
    Hit,
    /// Served from store, stale: while the origin is asked, where it failed, or since the viewer said so.
    Stale,
    /// The origin said that what is stored still holds.
    Revalidated,
    /// Served by the answer to another request that was under way.
    Collapsed,
    /// The origin answered.
    Miss,
    /// The request was none for the cache.
    Bypass,
}

/// A request that waits.
pub struct Waiting<'a>(&'a AtomicU64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One worker's numbers, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts([AtomicU64; Outcome::ALL.len()]);

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Hit,
        Self::Stale,
        Self::Revalidated,
        Self::Collapsed,
        Self::Miss,
        Self::Bypass,
    ];

    /// As the metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Collapsed => "collapsed",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

impl Cache {
    /// One for this many workers.
    pub fn new(settings: &NodeCache, store: Store, behind: Arc<Behind>, workers: usize) -> Self {
        Self {
            store,
            flights: Arc::default(),
            behind,
            body_bytes_max: settings.body.0,
            wait: settings.wait,
            counts: (0..workers.max(1)).map(|_| Counts::default()).collect(),
            waiting: AtomicU64::new(0),
        }
    }

    /// Brings the entry of a key from disk to memory; who asks for the same meanwhile waits for it.
    pub async fn promote(&self, key: &[u8]) {
        let mut flight = b"disk ".to_vec();
        flight.extend_from_slice(key);
        match self.flights.join(&flight) {
            Joined::Leads(leader) => {
                self.store.promote(key).await;
                leader.land(Landed::Stored);
            }
            Joined::Follows(mut follower) => drop(follower.landed().await),
        }
    }

    /// Counts a request of a worker.
    pub fn count(&self, worker: usize, outcome: Outcome) {
        self.counts[worker].0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A request waits for another one's answer, as long as this is there.
    pub fn waits(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    /// Requests that wait for another one's answer.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Requests that came to this.
    pub fn counted(&self, outcome: Outcome) -> u64 {
        self.counts
            .iter()
            .map(|counts| counts.0[outcome as usize].load(Ordering::Relaxed))
            .sum()
    }
}
