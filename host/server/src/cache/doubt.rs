//! When the responses of a URL became doubtful, whoever they were stored for.
//!
//! Entries would have to be found by URL; instead there is a table with the time of each URL's last change, by its hash. Two
//! URLs with one hash cost a needless question, and never a wrong answer.

use std::hash::{Hash, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use siphasher::sip::SipHasher13;

/// The table.
pub struct Doubts {
    keys: (u64, u64),
    /// Made with the first change.
    table: OnceLock<Box<[AtomicU64]>>,
}

/// A URL, whoever asks for it and by whatever host and scheme.
#[derive(Debug, Clone, Copy)]
pub struct Url<'a> {
    /// `api/stage`.
    pub scope: &'a str,
    pub path: &'a str,
    pub query: Option<&'a str>,
}

impl Doubts {
    /// An empty one. Who knows the keys knows which URLs share a place; what outlives the process keeps them.
    pub fn new(keys: (u64, u64)) -> Self {
        Self {
            keys,
            table: OnceLock::new(),
        }
    }

    /// The place of a URL.
    pub fn place(&self, url: &Url<'_>) -> u32 {
        let mut hasher = SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        url.scope.hash(&mut hasher);
        url.path.hash(&mut hasher);
        url.query.hash(&mut hasher);
        u32::try_from(hasher.finish() % PLACES).unwrap_or_default()
    }

    /// When the URLs of a place were changed last; 0: never.
    pub fn last(&self, place: u32) -> u64 {
        self.table.get().map_or(0, |table| {
            table
                .get(place as usize)
                .map_or(u64::MAX, |last| last.load(Ordering::Acquire))
        })
    }

    /// The URLs of a place were changed.
    pub fn change(&self, place: u32, at: u64) {
        let table = self
            .table
            .get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
        if let Some(last) = table.get(place as usize) {
            last.fetch_max(at, Ordering::AcqRel);
        }
    }

    /// All places that were changed, and when.
    pub fn all(&self) -> impl Iterator<Item = (u32, u64)> {
        let table = self.table.get().into_iter().flatten();
        let times = table.map(|last| last.load(Ordering::Acquire));
        (0..).zip(times).filter(|(_, at)| *at > 0)
    }
}

/// Places of the table: 1 MiB; a thousand changes make one stored response in a hundred be asked for in vain.
const PLACES: u64 = 1 << 17;
