//! The responses that are kept in memory, bounded by bytes.
//!
//! An entry holds all responses of one key (RFC 9111 §2: the primary key), of which a request selects one. Entries are
//! replaced as a whole; who reads one keeps what it read.
//!
//! An unsafe request makes a URL's responses doubtful, whoever they were stored for, and also those that are still on their
//! way. So there is a clock of such changes, and a table with the time of the last one for each URL, by its hash: what was
//! asked for before it is asked for again. Two URLs with one hash cost a needless question, and never a wrong answer.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use moka::notification::RemovalCause;
use moka::ops::compute::Op;
use moka::sync::Cache;
use tidegate_model::cache::key;
use tidegate_model::cache::vary;

use super::purge::Purge;
use super::stored::{SelectedBy, Shapes, Stored};

/// The memory tier.
pub struct Store {
    entries: Cache<Box<[u8]>, Arc<Entry>>,
    bytes_max: usize,
    pub shapes: Shapes,
    hasher: RandomState,
    /// Counts changes.
    clock: AtomicU64,
    /// When responses of a URL became doubtful, by its hash; made with the first change.
    doubtful: OnceLock<Box<[AtomicU64]>>,
    /// When the last purge ended.
    purged: AtomicU64,
    evictions: Arc<AtomicU64>,
}

/// The responses of one key, the newest first.
#[derive(Debug, Default)]
pub struct Entry {
    pub responses: Vec<Stored>,
    /// Until when (seconds since 1970) requests are not made to wait for each other: the answer was for one only.
    pub apart_until: u64,
}

/// When something was asked for, and which URL it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    at: u64,
    place: u32,
}

impl Store {
    /// A store that takes at most `bytes_max`, roughly.
    pub fn new(bytes_max: u64) -> Self {
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
            shapes: Shapes::default(),
            hasher: RandomState::new(),
            clock: AtomicU64::new(1),
            doubtful: OnceLock::new(),
            purged: AtomicU64::new(0),
            evictions,
        }
    }

    /// The entry of a key.
    pub fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.entries.get(key)
    }

    /// Notes that a URL is asked for now. What is stored with the mark is doubtful from the next change of it on.
    pub fn mark(&self, url: &Url<'_>) -> Mark {
        Mark {
            at: self.clock.load(Ordering::Acquire),
            place: self.place(url),
        }
    }

    /// Whether the URL of a stored response was changed since it was asked for.
    pub fn is_doubtful(&self, stored: &Stored) -> bool {
        self.doubtful.get().is_some_and(|table| {
            stored.asked.at < table[stored.asked.place as usize].load(Ordering::Acquire)
        })
    }

    /// Makes all that was asked for of a URL until now doubtful.
    pub fn doubt(&self, url: &Url<'_>) {
        let now = self.clock.fetch_add(1, Ordering::AcqRel) + 1;
        let table = self
            .doubtful
            .get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect());
        table[self.place(url) as usize].fetch_max(now, Ordering::AcqRel);
    }

    /// Keeps a response, in place of what the same requests would have selected. Gives whether it did: not where there was a
    /// purge since it was asked for.
    pub fn put(&self, key: &[u8], stored: Stored) -> bool {
        if stored.asked.at < self.purged.load(Ordering::Acquire) {
            return false;
        }
        let bytes_max = self.bytes_max / ENTRY_SHARE;
        if stored.weight() > bytes_max {
            return false;
        }
        let (asked_at, selected_by) = (stored.asked.at, stored.selected_by.clone());
        self.change(key, |entry| {
            let mut responses = vec![stored];
            let new = &responses[0];
            let others = entry.map_or(&[][..], |entry| &entry.responses);
            let mut bytes = new.weight();
            let mut kept = Vec::new();
            for other in others {
                bytes += other.weight();
                let replaced = other.selected_by == new.selected_by;
                if !replaced && kept.len() + 1 < RESPONSES_MAX && bytes <= bytes_max {
                    kept.push(other.clone());
                }
            }
            responses.append(&mut kept);
            Some(Entry {
                responses,
                apart_until: 0,
            })
        });
        // A purge that began since we looked may have passed by this key before it was there.
        let kept = asked_at >= self.purged.load(Ordering::Acquire);
        if !kept {
            self.forget_selected(key, &selected_by);
        }
        kept
    }

    /// Notes that requests for a key shall not wait for each other until then.
    pub fn keep_apart(&self, key: &[u8], until: u64) {
        self.change(key, |entry| {
            let responses = entry.map_or_else(Vec::new, |entry| entry.responses.clone());
            Some(Entry {
                responses,
                apart_until: until,
            })
        });
    }

    /// Forgets the response that requests like these select.
    pub fn forget(&self, key: &[u8], stored: &Stored) {
        self.forget_selected(key, &stored.selected_by);
    }

    fn forget_selected(&self, key: &[u8], selected_by: &Option<Box<SelectedBy>>) {
        self.change(key, |entry| {
            let mut entry = Entry {
                responses: entry?.responses.clone(),
                apart_until: entry?.apart_until,
            };
            entry
                .responses
                .retain(|other| other.selected_by != *selected_by);
            (!entry.responses.is_empty()).then_some(entry)
        });
    }

    fn change(&self, key: &[u8], next: impl FnOnce(Option<&Entry>) -> Option<Entry>) {
        self.entries.entry(key.into()).and_compute_with(|entry| {
            let entry = entry.map(moka::Entry::into_value);
            match (next(entry.as_deref()), entry) {
                (Some(next), _) => Op::Put(Arc::new(next)),
                (None, Some(_)) => Op::Remove,
                (None, None) => Op::Nop,
            }
        });
    }

    /// Removes what `purge` names, or marks it stale; gives how many responses that were. It looks at every entry: off the
    /// workers' threads.
    pub fn purge(&self, purge: &Purge) -> u64 {
        // What is on its way was asked for before this moment, and is not kept.
        let now = self.clock.fetch_add(1, Ordering::AcqRel) + 1;
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
            self.change(&key, |entry| {
                let mut responses = entry?.responses.clone();
                if purge.soft {
                    for stored in responses.iter_mut().filter(|stored| meant(stored)) {
                        stored.purged = true;
                    }
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

    fn place(&self, url: &Url<'_>) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        url.scope.hash(&mut hasher);
        url.path.hash(&mut hasher);
        url.query.hash(&mut hasher);
        u32::try_from(hasher.finish() % PLACES).unwrap_or_default()
    }
}

/// A URL, whoever asks for it and by whatever host and scheme.
#[derive(Debug, Clone, Copy)]
pub struct Url<'a> {
    /// `api/stage`.
    pub scope: &'a str,
    pub path: &'a str,
    pub query: Option<&'a str>,
}

impl Entry {
    /// The response that a request with these fields selects.
    pub fn select(&self, request: &HeaderMap) -> Option<&Stored> {
        let exact = |stored: &&Stored| match &stored.selected_by {
            None => true,
            Some(by) => vary::selecting(&by.names, request) == by.values,
        };
        // "If multiple stored responses match, the cache will need to choose one to use": the most recent.
        self.responses.iter().find(exact).or_else(|| {
            self.responses.iter().find(|stored| {
                stored.selected_by.as_ref().is_some_and(|by| {
                    let language = [http::header::ACCEPT_LANGUAGE];
                    by.names[..] == language
                        && vary::is_in_the_language_wanted(
                            &by.names,
                            &stored.fields.unpack(),
                            request,
                        )
                })
            })
        })
    }
}

fn weight(key: &[u8], entry: &Entry) -> u32 {
    let responses: usize = entry.responses.iter().map(Stored::weight).sum();
    u32::try_from(key.len() + responses + OVERHEAD).unwrap_or(u32::MAX)
}

/// What the store itself needs for an entry. With it, 311,000 responses of 1 KiB counted as 526 MB, and resident memory had
/// grown by 524 MB.
const OVERHEAD: usize = 320;
/// Places of the table: 1 MiB; a thousand changes make one stored response in a hundred be asked for in vain.
const PLACES: u64 = 1 << 17;
/// Responses of one key: languages, encodings, and some of both.
const RESPONSES_MAX: usize = 32;
/// One key's responses take at most this part of the memory.
const ENTRY_SHARE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::StatusCode;
    use tidegate_model::cache::key::{Asker, Target};
    use tidegate_model::cache::reuse::Span;

    use super::super::stored::Fields;

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

    fn stored(store: &Store, path: &str, body: &'static str, selected: Option<&str>) -> Stored {
        Stored {
            status: StatusCode::OK,
            fields: Fields::pack(&HeaderMap::new(), &store.shapes),
            body: Bytes::from_static(body.as_bytes()),
            part: None,
            span: Span::fixed(60, 1000),
            selected_by: selected.map(|language| {
                let names = [http::header::ACCEPT_LANGUAGE];
                let mut request = HeaderMap::new();
                request.insert("accept-language", language.parse().unwrap());
                Box::new(SelectedBy {
                    values: vary::selecting(&names, &request),
                    names: Box::new(names),
                })
            }),
            tags: Box::new([Box::from(&b"t"[..])]),
            purged: false,
            asked: store.mark(&url(path)),
        }
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
            let body = entry.select(&request).map(|stored| stored.body.clone());
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
        assert!(store.get(&key_of("/b")).unwrap().responses[0].purged);
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
