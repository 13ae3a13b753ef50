//! The responses that are kept in memory, bounded by bytes.
//!
//! An entry holds all responses of one key (RFC 9111 §2: the primary key), of which a request selects one. Entries are
//! replaced as a whole; who reads one keeps what it read.
//!
//! An unsafe request makes a URL's responses doubtful, whoever they were stored for, and also those that are still on their
//! way. So there is a clock of such changes, and a table with the time of the last one for each URL ([`Doubts`]): what was
//! asked for before it is asked for again.
//!
//! Where there is a disk tier, what is kept here is written there too, and what is not here may be had from there
//! ([`Store::promote`]).

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use moka::notification::RemovalCause;
use moka::ops::compute::Op;
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};
use tidegate_model::cache::key;
use tidegate_model::cache::vary;

use super::disk::{Disk, Opened};
use super::doubt::{Doubts, Url};
use super::purge::Purge;
use super::stored::{Shapes, Stored};

/// The memory tier.
pub struct Store {
    entries: Cache<Box<[u8]>, Arc<Entry>>,
    bytes_max: usize,
    pub shapes: Arc<Shapes>,
    /// Counts changes.
    clock: AtomicU64,
    doubts: Arc<Doubts>,
    disk: Option<Disk>,
    /// When the last purge ended.
    purged: AtomicU64,
    evictions: Arc<AtomicU64>,
}

/// Most keys have one: it stands in the entry itself.
pub type Responses = SmallVec<[Arc<Stored>; 1]>;

/// The responses of one key, the newest first.
#[derive(Debug, Default)]
pub struct Entry {
    pub responses: Responses,
    /// Until when (seconds since 1970) requests are not made to wait for each other: the answer was for one only.
    pub apart_until: u64,
}

/// When something was asked for, and which URL it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub at: u64,
    pub place: u32,
}

impl Store {
    /// A store that takes at most `bytes_max`, roughly.
    pub fn new(bytes_max: u64) -> Self {
        let random = |number: u8| RandomState::new().hash_one(number);
        let doubts = Arc::new(Doubts::new((random(0), random(1))));
        Self::with(bytes_max, Arc::default(), 1, doubts, None)
    }

    /// One that has a disk tier as well.
    pub fn over(bytes_max: u64, shapes: Arc<Shapes>, opened: Opened) -> Self {
        let Opened {
            disk,
            clock,
            doubts,
        } = opened;
        Self::with(bytes_max, shapes, clock, doubts, Some(disk))
    }

    fn with(
        bytes_max: u64,
        shapes: Arc<Shapes>,
        clock: u64,
        doubts: Arc<Doubts>,
        disk: Option<Disk>,
    ) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let counted = evictions.clone();
        let entries = Cache::<Box<[u8]>, Arc<Entry>>::builder()
            .name("responses")
            .max_capacity(bytes_max)
            .weigher(|key, entry| weight(key, entry))
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            })
            .build();
        Self {
            entries,
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
            shapes,
            clock: AtomicU64::new(clock),
            doubts,
            disk,
            purged: AtomicU64::new(0),
            evictions,
        }
    }

    /// The entry of a key.
    pub fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.entries.get(key)
    }

    /// Whether the disk may have the entry of a key that memory does not have.
    pub fn may_promote(&self, key: &[u8]) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.has(key))
    }

    /// Brings the entry of a key from disk to memory, where it is there and nothing newer is here.
    ///
    /// # Cancel safety
    /// Dropped, it brings nothing.
    pub async fn promote(&self, key: &[u8]) {
        let Some(disk) = &self.disk else {
            return;
        };
        let purged = self.purged.load(Ordering::Acquire);
        let Some(found) = disk.read(key).await else {
            return;
        };
        let place = found.place();
        let entry = Arc::new(found.entry);
        self.entries
            .entry(key.into())
            .and_compute_with(|known| match known {
                None if disk.still_has(place) => Op::Put(entry),
                _ => Op::Nop,
            });
        // A purge that began since may have passed by this key before it was there.
        if purged != self.purged.load(Ordering::Acquire) {
            self.entries.invalidate(key);
        }
    }

    /// Waits until what was purged or made doubtful so far would outlive the process; gives whether it would.
    pub async fn settle(&self, within: Duration) -> bool {
        match &self.disk {
            Some(disk) => disk.settle(within).await,
            None => true,
        }
    }

    /// The disk tier.
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Notes that a URL is asked for now. What is stored with the mark is doubtful from the next change of it on.
    pub fn mark(&self, url: &Url<'_>) -> Mark {
        Mark {
            at: self.clock.load(Ordering::Acquire),
            place: self.doubts.place(url),
        }
    }

    /// Whether the URL of a stored response was changed since it was asked for.
    pub fn is_doubtful(&self, stored: &Stored) -> bool {
        stored.asked.at < self.doubts.last(stored.asked.place)
    }

    /// Makes all that was asked for of a URL until now doubtful.
    pub fn doubt(&self, url: &Url<'_>) {
        self.doubt_place(self.doubts.place(url));
    }

    /// Makes all that was asked for of the URL of a stored response until now doubtful.
    pub fn doubt_stored(&self, stored: &Stored) {
        self.doubt_place(stored.asked.place);
    }

    fn doubt_place(&self, place: u32) {
        let now = self.clock.fetch_add(1, Ordering::AcqRel) + 1;
        self.doubts.change(place, now);
        if let Some(disk) = &self.disk {
            disk.doubt(place, now);
        }
    }

    /// Keeps a response, in place of what the same requests would have selected. Gives whether it did: not where there was a
    /// purge since it was asked for.
    pub fn put(&self, key: &[u8], stored: Arc<Stored>) -> bool {
        if stored.asked.at < self.purged.load(Ordering::Acquire) {
            return false;
        }
        let bytes_max = self.bytes_max / ENTRY_SHARE;
        if stored.weight() > bytes_max {
            return false;
        }
        self.change(key, Also::Disk, |entry| {
            let mut responses: Responses = smallvec![stored.clone()];
            let new = &responses[0];
            let others = entry.map_or(&[][..], |entry| &entry.responses);
            let mut bytes = new.weight();
            let mut kept = Vec::new();
            for other in others {
                bytes += other.weight();
                let replaced = other.selected_by() == new.selected_by();
                if !replaced && kept.len() + 1 < RESPONSES_MAX && bytes <= bytes_max {
                    kept.push(other.clone());
                }
            }
            responses.extend(kept);
            Some(Entry {
                responses,
                apart_until: 0,
            })
        });
        // A purge that began since we looked may have passed by this key before it was there.
        let kept = stored.asked.at >= self.purged.load(Ordering::Acquire);
        if !kept {
            self.forget(key, &stored);
        }
        kept
    }

    /// Notes that requests for a key shall not wait for each other until then.
    pub fn keep_apart(&self, key: &[u8], until: u64) {
        self.change(key, Also::Nothing, |entry| {
            let responses = entry.map_or_else(Responses::new, |entry| entry.responses.clone());
            Some(Entry {
                responses,
                apart_until: until,
            })
        });
    }

    /// Forgets the response that requests like these select.
    pub fn forget(&self, key: &[u8], stored: &Stored) {
        let selected_by = stored.selected_by();
        self.change(key, Also::Disk, |entry| {
            let mut entry = Entry {
                responses: entry?.responses.clone(),
                apart_until: entry?.apart_until,
            };
            entry
                .responses
                .retain(|other| other.selected_by() != selected_by);
            (!entry.responses.is_empty()).then_some(entry)
        });
    }

    fn change(&self, key: &[u8], also: Also, next: impl FnOnce(Option<&Entry>) -> Option<Entry>) {
        self.entries.entry(key.into()).and_compute_with(|entry| {
            let entry = entry.map(moka::Entry::into_value);
            let next = next(entry.as_deref()).map(Arc::new);
            // In here, so that the disk hears of changes in the order that they were made in.
            if let Some(disk) = self.disk.as_ref().filter(|_| also == Also::Disk) {
                match &next {
                    Some(next) => disk.write(key, next),
                    None => disk.forget(key),
                }
            }
            match (next, entry) {
                (Some(next), _) => Op::Put(next),
                (None, Some(_)) => Op::Remove,
                (None, None) => Op::Nop,
            }
        });
    }

    /// Removes what `purge` names, or marks it stale; gives how many responses that were. It looks at every entry: off the
    /// workers' threads. What is on disk is not counted; that it is gone there for good is for [`Self::settle`] to say.
    pub fn purge(&self, purge: &Purge) -> u64 {
        // What is on its way was asked for before this moment, and is not kept.
        let now = self.clock.fetch_add(1, Ordering::AcqRel) + 1;
        if let Some(disk) = &self.disk {
            disk.purge(now, purge);
        }
        self.purged.fetch_max(now, Ordering::AcqRel);
        let mut count = 0;
        for (key, entry) in &self.entries {
            let Some(named) = key::read(&key) else {
                continue;
            };
            let meant = |stored: &Stored| purge.means(&named, stored);
            let found = entry
                .responses
                .iter()
                .filter(|stored| meant(stored))
                .count();
            if found == 0 {
                continue;
            }
            count += found as u64;
            self.change(&key, Also::Nothing, |entry| {
                let mut responses = entry?.responses.clone();
                if purge.soft {
                    let meant = responses.iter().filter(|stored| meant(stored));
                    meant.for_each(|stored| stored.mark_purged());
                } else {
                    responses.retain(|stored| !meant(stored));
                }
                (!responses.is_empty()).then(|| Entry {
                    responses,
                    apart_until: 0,
                })
            });
        }
        count
    }

    /// Entries, bytes and evictions, to be told.
    pub fn size(&self) -> (u64, u64, u64) {
        self.entries.run_pending_tasks();
        (
            self.entries.entry_count(),
            self.entries.weighted_size(),
            self.evictions.load(Ordering::Relaxed),
        )
    }
}

/// What of a change in memory the disk hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Also {
    Disk,
    /// It has not to know, or knows otherwise.
    Nothing,
}

impl Entry {
    /// The response that a request with these fields selects.
    pub fn select(&self, request: &HeaderMap) -> Option<&Arc<Stored>> {
        let exact = |stored: &&Arc<Stored>| match stored.selected_by() {
            None => true,
            Some(by) => vary::selecting(&by.names, request) == by.values,
        };
        // "If multiple stored responses match, the cache will need to choose one to use": the most recent.
        self.responses.iter().find(exact).or_else(|| {
            self.responses.iter().find(|stored| {
                stored.selected_by().is_some_and(|by| {
                    let language = [http::header::ACCEPT_LANGUAGE];
                    by.names[..] == language
                        && vary::is_in_the_language_wanted(&by.names, &stored.headers(), request)
                })
            })
        })
    }
}

fn weight(key: &[u8], entry: &Entry) -> u32 {
    let responses: usize = entry.responses.iter().map(|stored| stored.weight()).sum();
    u32::try_from(key.len() + responses + OVERHEAD).unwrap_or(u32::MAX)
}

/// What the store itself needs for an entry: a million responses of 1 KiB (the benchmark's case `cache-million`) took 1,594 bytes
/// each of resident memory, 1,240 of which are counted otherwise.
const OVERHEAD: usize = 350;
/// Responses of one key: languages, encodings, and some of both.
const RESPONSES_MAX: usize = 32;
/// One key's responses take at most this part of the memory.
const ENTRY_SHARE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use tidegate_model::cache::key::{Asker, Target};
    use tidegate_model::cache::reuse::Span;

    use super::super::stored::{Content, Fields, Rare, SelectedBy};

    fn url(path: &str) -> Url<'_> {
        Url {
            scope: "a/s",
            path,
            query: None,
        }
    }

    fn key_of(path: &str) -> Vec<u8> {
        let mut key = Vec::new();
        let target = Target {
            scope: "a/s",
            host: "h",
            path,
            query: None,
        };
        let asker = Asker {
            tls: false,
            port: 80,
            caller: None,
        };
        key::write(&mut key, &target, &asker);
        key
    }

    fn stored(store: &Store, path: &str, body: &str, selected: Option<&str>) -> Arc<Stored> {
        Arc::new(Stored {
            status: StatusCode::OK,
            fields: Fields::pack(&HeaderMap::new(), &store.shapes),
            body: Content::Own(body.as_bytes().into()),
            span: Span::fixed(60, 1000),
            rare: Rare {
                part: None,
                selected_by: selected.map(|language| {
                    let names = [http::header::ACCEPT_LANGUAGE];
                    let mut request = HeaderMap::new();
                    request.insert("accept-language", language.parse().unwrap());
                    SelectedBy {
                        values: vary::selecting(&names, &request),
                        names: Box::new(names),
                    }
                }),
                tags: Box::new([Box::from(&b"t"[..])]),
            }
            .boxed(),
            purged: false.into(),
            encrypted: false,
            asked: store.mark(&url(path)),
        })
    }

    /// Each with the two counts of its [`Arc`] in a class of the allocator's: the next one takes 16 MB more of a million.
    #[test]
    fn entries_are_small() {
        let counts = 2 * size_of::<usize>();
        assert!(size_of::<Entry>() + counts <= 48);
        assert!(size_of::<Stored>() + counts <= 112);
    }

    #[test]
    fn a_response_takes_the_place_of_what_the_same_requests_selected() {
        let store = Store::new(1 << 20);
        let key = key_of("/x");
        for (body, language) in [("de", "de"), ("en", "en"), ("new de", "de")] {
            assert!(store.put(&key, stored(&store, "/x", body, Some(language))));
        }
        let entry = store.get(&key).unwrap();
        assert_eq!(entry.responses.len(), 2);
        let mut request = HeaderMap::new();
        for (language, expected) in [("de", Some("new de")), ("en", Some("en")), ("fr", None)] {
            request.insert("accept-language", language.parse().unwrap());
            let body = entry.select(&request).map(|stored| stored.content());
            assert_eq!(body.as_deref(), expected.map(str::as_bytes), "{language}");
        }
        store.forget(&key, &entry.responses[0]);
        assert_eq!(store.get(&key).unwrap().responses.len(), 1);
    }

    #[test]
    fn what_was_asked_for_before_a_change_is_doubtful_and_only_that() {
        let store = Store::new(1 << 20);
        let before = stored(&store, "/x", "old", None);
        assert!(!store.is_doubtful(&before));
        store.doubt(&url("/x"));
        assert!(store.is_doubtful(&before), "also where it is put later");
        assert!(!store.is_doubtful(&stored(&store, "/x", "new", None)));
    }

    #[test]
    fn a_purge_takes_what_it_names_and_what_is_on_its_way() {
        let store = Store::new(1 << 20);
        let late = stored(&store, "/late", "late", None);
        for path in ["/a/1", "/a/2", "/b"] {
            assert!(store.put(&key_of(path), stored(&store, path, "body", None)));
        }
        let prefix = Purge::prefix("/a/").unwrap();
        assert_eq!(store.purge(&prefix), 2);
        assert!(store.get(&key_of("/a/1")).is_none());
        assert!(store.get(&key_of("/b")).is_some());
        assert!(!store.put(&key_of("/late"), late));
        let mut tag = Purge::tag("t");
        tag.soft = true;
        assert_eq!(store.purge(&tag), 1);
        assert!(store.get(&key_of("/b")).unwrap().responses[0].is_purged());
    }

    #[test]
    fn memory_is_bounded() {
        let store = Store::new(1 << 20);
        let body: &'static str = "x".repeat(10_000).leak();
        for number in 0..1000 {
            let path = format!("/{number}");
            store.put(&key_of(&path), stored(&store, &path, body, None));
        }
        let (entries, bytes, _) = store.size();
        assert!(bytes <= 1 << 20, "{entries} entries, {bytes} bytes");
        let large: &'static str = "x".repeat(300_000).leak();
        assert!(!store.put(&key_of("/large"), stored(&store, "/large", large, None)));
    }
}
