//! Whether purges may have passed a node by: one that comes back to its origins serves nothing stored before it is told.
//!
//! While no origin can be reached, what is stored is served: nothing better is known. From the moment at which an origin is
//! connected again to the one at which it has told what was purged meanwhile, requests for stored responses wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

/// Shared by the links, which know when origins come back, and the cache, which waits.
#[derive(Debug)]
pub struct Behind {
    began: Instant,
    /// Milliseconds after `began` up to which requests wait; 0: they do not.
    until_ms: AtomicU64,
    origins: Mutex<Vec<Standing>>,
    changed: Notify,
}

/// An origin, as far as this is concerned.
#[derive(Debug, Clone, Default)]
struct Standing {
    /// Of all threads.
    connections: usize,
    /// It tells of each purge as it comes.
    told: bool,
}

impl Behind {
    /// Of a node with so many origins. One that has some begins by not knowing.
    pub fn new(origins: usize) -> Self {
        let behind = Self {
            began: Instant::now(),
            until_ms: AtomicU64::new(0),
            origins: Mutex::new(vec![Standing::default(); origins]),
            changed: Notify::new(),
        };
        if origins > 0 {
            behind.begin();
        }
        behind
    }

    /// A connection to an origin was made.
    pub fn connected(&self, place: usize) {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        origins[place].connections += 1;
        if !origins[place].told {
            self.begin(); // under the lock: `told` must not fall between
        }
    }

    /// A connection to an origin ended.
    pub fn disconnected(&self, place: usize) {
        self.change(place, |standing| standing.connections -= 1);
    }

    /// An origin has told what was purged, and goes on to; or it does not any more.
    pub fn told(&self, place: usize, told: bool) {
        self.change(place, |standing| standing.told = told);
    }

    fn change(&self, place: usize, change: impl FnOnce(&mut Standing)) {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        let knew = origins[place].told;
        change(&mut origins[place]);
        let connected = |origin: &&Standing| origin.connections > 0;
        if origins.iter().filter(connected).all(|origin| origin.told) {
            self.end(); // also where nobody is connected any more
        } else if knew && !origins[place].told && connected(&&origins[place]) {
            self.begin();
        }
    }

    fn begin(&self) {
        let until = self.now_ms() + WAIT_MAX_MS;
        self.until_ms.store(until, Ordering::Release);
    }

    fn end(&self) {
        self.until_ms.store(0, Ordering::Release);
        self.changed.notify_waiters();
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether stored responses may be ones that were purged: [`Self::over`] is to be waited for.
    pub fn is_so(&self) -> bool {
        self.until_ms.load(Ordering::Acquire) != 0
    }

    /// Waits until it is known what was purged; no longer than two seconds after the last origin came back.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn over(&self) {
        let told = async {
            loop {
                let changed = self.changed.notified();
                if !self.is_so() {
                    return;
                }
                changed.await;
            }
        };
        let until = self.until_ms.load(Ordering::Acquire);
        let left = until.saturating_sub(self.now_ms()).min(WAIT_MAX_MS);
        if timeout(Duration::from_millis(left), told).await.is_err() {
            // The origin says nothing. Unless it was made anew, the time is over for all.
            let over = (Ordering::AcqRel, Ordering::Relaxed);
            _ = self.until_ms.compare_exchange(until, 0, over.0, over.1);
        }
    }
}

/// Longer than a connection takes over 150 ms with a packet lost.
const WAIT_MAX_MS: u64 = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_origins_never_waits() {
        assert!(!Behind::new(0).is_so());
    }

    #[test]
    fn it_is_over_when_every_connected_origin_has_told() {
        let behind = Behind::new(2);
        assert!(behind.is_so(), "nothing is known at the start");
        behind.connected(0);
        assert!(behind.is_so(), "connected, not told");
        behind.told(0, true);
        assert!(!behind.is_so(), "the other one cannot be reached");
        behind.connected(1);
        assert!(behind.is_so(), "it may know more");
        behind.connected(1);
        behind.told(1, true);
        assert!(!behind.is_so());
        behind.connected(1);
        assert!(!behind.is_so(), "a further connection to who tells");
    }

    #[test]
    fn who_is_cut_off_serves_what_it_has_and_waits_when_it_is_back() {
        let behind = Behind::new(1);
        behind.connected(0);
        behind.told(0, true);
        behind.told(0, false);
        assert!(behind.is_so(), "connected, and not heard any more");
        behind.disconnected(0);
        assert!(!behind.is_so(), "cut off");
        behind.connected(0);
        assert!(behind.is_so(), "back");
        behind.told(0, true);
        assert!(!behind.is_so());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let behind = Behind::new(1);
        let patience = Duration::from_millis(WAIT_MAX_MS + 1);
        timeout(patience, behind.over()).await.unwrap();
        assert!(!behind.is_so());
    }
}
