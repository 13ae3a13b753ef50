//! `shared-cache`: a cache that all instances of a binding share, on every thread.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::account::Capability;
use crate::bindings::gateway::tidegate::gateway::shared_cache::Host;
use crate::instance::StepState;

impl Host for StepState {
    fn get(&mut self, key: String) -> Option<Vec<u8>> {
        self.calls(Capability::SharedCache);
        self.binding
            .kept
            .0
            .get(&key, Instant::now())
            .map(|value| value.to_vec())
    }

    fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: u32) {
        self.calls(Capability::SharedCache);
        self.binding.kept.0.set(
            key,
            value.into(),
            Duration::from_millis(ttl_ms.into()),
            Instant::now(),
        );
    }

    fn delete(&mut self, key: String) {
        self.calls(Capability::SharedCache);
        self.binding.kept.0.delete(&key);
    }
}

/// Entries with an end, bounded by their bytes; the oldest written go first.
///
/// A lock, since entries cross threads; it is held for a look-up, and only bindings that were granted a shared cache pay.
#[derive(Debug, Default)]
pub(crate) struct SharedCache {
    inner: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<Arc<str>, Entry>,
    /// Keys in the order of writing; a key written again stands here more than once, and only its newest turn counts.
    order: VecDeque<(Arc<str>, u64)>,
    bytes: usize,
    written: u64,
}

#[derive(Debug)]
struct Entry {
    value: Bytes,
    expires: Instant,
    turn: u64,
}

impl SharedCache {
    pub(crate) fn get(&self, key: &str, now: Instant) -> Option<Bytes> {
        let entries = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .by_key
            .get(key)
            .filter(|entry| entry.expires > now)
            .map(|entry| entry.value.clone())
    }

    pub(crate) fn set(&self, key: String, value: Bytes, ttl: Duration, now: Instant) {
        let size = key.len() + value.len();
        if size > ENTRY_BYTES_MAX {
            return;
        }
        let mut entries = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        entries.remove(&key);
        let key: Arc<str> = key.into();
        entries.written += 1;
        let turn = entries.written;
        entries.by_key.insert(
            key.clone(),
            Entry {
                value,
                expires: now + ttl,
                turn,
            },
        );
        entries.order.push_back((key, turn));
        entries.bytes += size;
        entries.shrink();
    }

    pub(crate) fn delete(&self, key: &str) {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}

impl Entries {
    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.by_key.remove(key) {
            self.bytes -= key.len() + entry.value.len();
        }
    }

    fn shrink(&mut self) {
        while self.bytes > BYTES_MAX || self.order.len() > 2 * self.by_key.len() + 16 {
            let Some((key, turn)) = self.order.pop_front() else {
                break;
            };
            match self.by_key.get(&key) {
                Some(entry) if entry.turn == turn && self.bytes > BYTES_MAX => self.remove(&key),
                Some(entry) if entry.turn == turn => self.order.push_back((key, turn)),
                _ => {}
            }
        }
    }
}

/// The contract's bounds.
const ENTRY_BYTES_MAX: usize = 1 << 20;
const BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_end_and_the_oldest_make_room() {
        let (cache, now) = (SharedCache::default(), Instant::now());
        cache.set(
            "a".into(),
            Bytes::from_static(b"1"),
            Duration::from_secs(1),
            now,
        );
        assert_eq!(cache.get("a", now).as_deref(), Some(&b"1"[..]));
        assert_eq!(cache.get("a", now + Duration::from_secs(1)), None);

        let large = Bytes::from(vec![0; ENTRY_BYTES_MAX - 8]);
        for number in 0..20 {
            cache.set(
                format!("k{number}"),
                large.clone(),
                Duration::from_secs(9),
                now,
            );
        }
        assert_eq!(cache.get("k0", now), None, "the oldest went");
        assert!(cache.get("k19", now).is_some());
        assert!(cache.inner.lock().expect("unpoisoned").bytes <= BYTES_MAX);
    }

    #[test]
    fn a_key_that_is_written_over_and_over_keeps_the_order_short() {
        let (cache, now) = (SharedCache::default(), Instant::now());
        for _ in 0..10_000 {
            cache.set(
                "a".into(),
                Bytes::from_static(b"1"),
                Duration::from_secs(1),
                now,
            );
        }
        assert!(cache.inner.lock().expect("unpoisoned").order.len() < 100);
    }
}
