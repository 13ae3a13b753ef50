//! The origins that an edge knows, as all of its threads see them.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidegate_model::balance::{self, Nearness};
use tokio::sync::Notify;

use crate::cache::behind::Behind;
use crate::identity::Identity;

/// All origins of an edge.
pub struct Origins {
    pub identity: Identity,
    pub list: Vec<Arc<Origin>>,
    /// Whether they have told what was purged.
    pub behind: Arc<Behind>,
    /// One of them serves another snapshot.
    pub(super) adopted: Notify,
    /// For QUIC; sessions are resumed by all threads.
    pub(super) quic: quinn::ClientConfig,
    /// For TCP.
    pub(super) tcp: Arc<rustls::ClientConfig>,
    began: Instant,
}

/// One origin, and how well it can be reached.
#[derive(Debug)]
pub struct Origin {
    /// `host:port`, as configured.
    pub address: String,
    /// By the last measurement, in microseconds; 0: none yet.
    rtt_us: AtomicU64,
    transport: AtomicU8,
    /// Connections of all threads.
    open: AtomicU32,
    /// Requests that failed at the link in a row.
    failures: AtomicU32,
    /// On the node's clock, in milliseconds.
    ejected_until: AtomicU64,
    /// Nothing was heard for longer than keep-alives take.
    silent: AtomicBool,
    /// Of the newest snapshot that it serves, as far as it has told.
    sequence: AtomicU64,
    /// In the list.
    place: usize,
    behind: Arc<Behind>,
}

/// What carries the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Transport {
    /// HTTP/3.
    Quic = 1,
    /// HTTP/2, where UDP does not pass.
    Tcp = 2,
}

impl Origins {
    /// Those of a configuration; nothing is connected yet.
    ///
    /// # Errors
    /// Where the node's certificate cannot be used.
    pub fn new(addresses: &[String], identity: Identity) -> anyhow::Result<Self> {
        let behind = Arc::new(Behind::new(addresses.len()));
        let origin = |(place, address): (usize, &String)| {
            Arc::new(Origin {
                address: address.clone(),
                rtt_us: AtomicU64::new(0),
                transport: AtomicU8::new(0),
                open: AtomicU32::new(0),
                failures: AtomicU32::new(0),
                ejected_until: AtomicU64::new(0),
                silent: AtomicBool::new(false),
                sequence: AtomicU64::new(UNKNOWN),
                place,
                behind: behind.clone(),
            })
        };
        let quic = super::quic::client_config(identity.client_config(&[super::ALPN_H3])?)?;
        let tcp = identity.client_config(&[super::ALPN_H2])?;
        Ok(Self {
            identity,
            list: addresses.iter().enumerate().map(origin).collect(),
            behind,
            adopted: Notify::new(),
            quic,
            tcp: Arc::new(tcp),
            began: Instant::now(),
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// An origin has told which snapshot it serves.
    pub fn serves(&self, place: usize, sequence: u64) {
        self.list[place].sequence.store(sequence, Ordering::Relaxed);
        self.adopted.notify_waiters();
    }

    /// An origin has told of a snapshot that it serves beside the one of before.
    pub fn serves_up_to(&self, place: usize, sequence: u64) {
        let known = &self.list[place].sequence;
        known.fetch_max(sequence, Ordering::Relaxed);
        self.adopted.notify_waiters();
    }

    /// How near an origin is to be taken for.
    pub(super) fn nearness(&self, origin: &Origin) -> Nearness {
        let ejected = origin.ejected_until.load(Ordering::Relaxed) > self.now_ms();
        Nearness {
            rtt: origin.rtt().unwrap_or(Duration::MAX),
            doubtful: ejected || origin.silent.load(Ordering::Relaxed),
        }
    }

    /// A request got through to an origin, or did not.
    pub(super) fn count(&self, origin: &Origin, through: bool) {
        if through {
            origin.failures.store(0, Ordering::Relaxed);
            return;
        }
        let failures = origin.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures >= balance::EJECT_AFTER {
            let until = self.now_ms() + EJECTED_MS;
            if origin.ejected_until.swap(until, Ordering::Relaxed) < self.now_ms() {
                tracing::warn!(
                    origin = origin.address,
                    failures,
                    "origin left out for a while"
                );
            }
        }
    }
}

impl Origin {
    /// The link's round trip.
    pub fn rtt(&self) -> Option<Duration> {
        match self.rtt_us.load(Ordering::Relaxed) {
            0 => None,
            microseconds => Some(Duration::from_micros(microseconds)),
        }
    }

    /// Whether it can answer what was decided by a snapshot: it serves that one or a later one, as far as is known. A node may be
    /// told of a snapshot by one origin before another has it.
    pub(super) fn has_reached(&self, sequence: u64) -> bool {
        self.sequence.load(Ordering::Relaxed) >= sequence
    }

    /// Whether any thread has a connection.
    pub fn is_connected(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// What carries it now.
    pub fn transport(&self) -> Option<Transport> {
        match self.transport.load(Ordering::Relaxed) {
            1 => Some(Transport::Quic),
            2 => Some(Transport::Tcp),
            _ => None,
        }
    }

    pub(super) fn measured(&self, rtt: Duration, silent: bool) {
        let microseconds = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX).max(1);
        self.rtt_us.store(microseconds, Ordering::Relaxed);
        self.silent.store(silent, Ordering::Relaxed);
    }

    pub(super) fn opened(self: &Arc<Self>, transport: Transport) -> Open {
        self.transport.store(transport as u8, Ordering::Relaxed);
        self.silent.store(false, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        self.ejected_until.store(0, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Open {
            origin: self.clone(),
            answered: Cell::new(false),
        }
    }
}

/// Counts as a connection while it is held.
#[derive(Debug)]
pub(super) struct Open {
    origin: Arc<Origin>,
    answered: Cell<bool>,
}

impl Open {
    /// The origin has answered: it is there.
    pub(super) fn answered(&self) {
        if !self.answered.replace(true) {
            self.origin.behind.connected(self.origin.place);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.origin.open.fetch_sub(1, Ordering::Relaxed);
        if self.answered.get() {
            self.origin.behind.disconnected(self.origin.place);
        }
    }
}

/// The sequence of an origin that has not told: it is asked for whatever there is.
pub const UNKNOWN: u64 = u64::MAX;
/// A process restarts in that time; a connection that is made anew ends it at once.
const EJECTED_MS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Authority;

    /// Two origins, both connected.
    fn two() -> (tempfile::TempDir, Origins, [Open; 2]) {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path()).unwrap();
        let identity = authority.identify(folder.path(), "home", "local").unwrap();
        let addresses = ["a:1".to_owned(), "b:1".to_owned()];
        let origins = Origins::new(&addresses, identity).unwrap();
        let open = [0, 1].map(|place| origins.list[place].opened(Transport::Quic));
        (folder, origins, open)
    }

    /// The place of the origin that is asked first.
    fn first(origins: &Origins) -> usize {
        let all = origins.list.iter().enumerate();
        let near = all.map(|(place, origin)| (origins.nearness(origin), place, ()));
        balance::nearest_first(near).unwrap().1
    }

    #[test]
    fn an_origin_that_fails_again_and_again_is_asked_last_for_a_while() {
        let (_folder, origins, _open) = two();
        let [near, far] = [&origins.list[0], &origins.list[1]];
        near.measured(Duration::from_millis(20), false);
        far.measured(Duration::from_millis(80), false);
        assert_eq!(first(&origins), 0);
        // One that gets through in between is well.
        for _ in 0..3 {
            origins.count(near, false);
            origins.count(near, false);
            origins.count(near, true);
        }
        assert_eq!(first(&origins), 0);
        for _ in 0..balance::EJECT_AFTER {
            origins.count(near, false);
        }
        assert_eq!(first(&origins), 1, "it failed three times in a row");
        // Where both fail, the nearer one is asked again.
        for _ in 0..balance::EJECT_AFTER {
            origins.count(far, false);
        }
        assert_eq!(first(&origins), 0);
        drop(near.opened(Transport::Quic));
        drop(far.opened(Transport::Quic));
        origins.count(far, false);
        assert_eq!(first(&origins), 0, "a new connection is a new start");
        near.measured(Duration::from_millis(20), true);
        assert_eq!(first(&origins), 1, "nothing is heard of it");
    }

    #[test]
    fn an_origin_answers_by_snapshots_that_it_has_reached() {
        let (_folder, origins, _open) = two();
        let reached = |sequence| {
            let all = origins.list.iter();
            all.map(|origin| origin.has_reached(sequence))
                .collect::<Vec<_>>()
        };
        assert_eq!(reached(7), [true, true], "neither has told");
        origins.serves(0, 7);
        origins.serves(1, 6);
        assert_eq!((reached(6), reached(7)), (vec![true; 2], vec![true, false]));
        origins.serves(1, 7);
        assert_eq!(reached(7), [true, true]);
    }
}
