//! The disk tier: what outlives the process, bounded by bytes.
//!
//! A log in segments (`segment`), of which the oldest makes room for the newest. An `index` in memory says where each
//! key's entry is. All that is stored is written as it comes, by one thread (`writer`); what is asked for and is not in
//! memory is read by a few others (`reader`). Requests wait for a read as long as `READ_WAIT`, for a write never: where
//! the writer does not keep up, or the disk is full, entries are not written.
//!
//! What was purged or made doubtful is in a file of its own (`changes`). It is written before it is acknowledged; where
//! that cannot be, all segments are removed, so that nothing comes back that should not.

mod changes;
mod index;
mod keys;
mod purges;
mod reader;
mod record;
mod recover;
mod segment;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, File};
use std::hash::Hasher;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use siphasher::sip::SipHasher13;
use tokio::sync::{oneshot, watch};

use super::doubt::Doubts;
use super::purge::Purge;
use super::store::Entry;
use super::stored::Shapes;
use index::{Index, Slot};
use keys::Keys;
use purges::Purges;
use segment::Segment;

/// The tier, open.
pub struct Disk {
    shared: Arc<Shared>,
    writes: SyncSender<writer::Job>,
    reads: SyncSender<reader::Job>,
    /// Closed by the writer when it ends.
    ended: Mutex<Receiver<()>>,
}

/// What an operator asked for.
pub struct Settings {
    pub bytes_max: u64,
    pub path: PathBuf,
    /// What keys are derived from; `None`: made up, and kept in the path.
    pub secret: Option<String>,
}

/// What of the last process bears on this one.
pub struct Opened {
    pub disk: Disk,
    /// Later than all that happened.
    pub clock: u64,
    pub doubts: Arc<Doubts>,
}

/// An entry that was read, and where.
pub struct Found {
    pub entry: Entry,
    place: Place,
}

/// Where an entry was read.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    hash: u64,
    slot: Slot,
}

impl Found {
    /// Where it was read.
    pub fn place(&self) -> Place {
        self.place
    }
}

/// Figures, to be told.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Figures {
    pub entries: u64,
    pub bytes: u64,
    pub bytes_max: u64,
    /// Entries that were read.
    pub hits: u64,
    /// Entries that were written.
    pub writes: u64,
    /// Entries that were not, since the disk did not keep up, or was full.
    pub dropped: u64,
    /// Entries that were damaged.
    pub corrupt: u64,
    /// What an earlier process left is still being looked through.
    pub recovering: bool,
    /// Nothing is written at the moment.
    pub stopped: bool,
}

/// What the threads share.
struct Shared {
    folder: PathBuf,
    bytes_max: u64,
    keys: Keys,
    index: Index,
    segments: RwLock<BTreeMap<u32, Arc<Segment>>>,
    /// What is held against what is read.
    purges: RwLock<Purges>,
    doubts: Arc<Doubts>,
    shapes: Arc<Shapes>,
    /// What was asked for before is to be asked for again: the machine stopped, and may have lost changes.
    floor: AtomicU64,
    pending: Mutex<Pending>,
    /// Which changes are written, by their numbers.
    written: watch::Sender<u64>,
    queued_bytes: AtomicU64,
    stopped: AtomicBool,
    ending: AtomicBool,
    /// Changes can neither be written nor made up for.
    broken: AtomicBool,
    hits: AtomicU64,
    writes: AtomicU64,
    dropped: AtomicU64,
    corrupt: AtomicU64,
    /// Held as long as the directory is ours.
    _lock: File,
}

/// Changes that are not written yet: one for each place at most.
#[derive(Default)]
struct Pending {
    doubts: HashMap<u32, u64>,
    purges: Vec<(u64, u32, Purge)>,
    /// How many there were ever.
    count: u64,
}

impl Disk {
    /// Opens the tier, and starts its threads. What is there is looked through meanwhile.
    ///
    /// # Errors
    /// Where the directory cannot be made or is in use, or the key is none.
    pub fn open(settings: &Settings, shapes: &Arc<Shapes>) -> io::Result<Opened> {
        let folder = settings.path.clone();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.try_lock().map_err(io::Error::from)?;
        let keys = match &settings.secret {
            Some(secret) => Keys::of(secret.as_bytes()),
            None => Keys::kept_in(&folder.join("key"))?,
        };
        let past = recover::past(&folder, &keys);
        let doubts = Arc::new(Doubts::new(keys.hashes));
        for (place, at) in past.doubts {
            doubts.change(place, at);
        }
        let shared = Arc::new(Shared {
            bytes_max: settings.bytes_max,
            index: Index::new(!past.segments.is_empty()),
            segments: RwLock::new(past.segments),
            purges: RwLock::new(past.purges),
            doubts: doubts.clone(),
            shapes: shapes.clone(),
            floor: AtomicU64::new(past.floor),
            pending: Mutex::default(),
            written: watch::Sender::new(0),
            queued_bytes: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            hits: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            corrupt: AtomicU64::new(0),
            keys,
            folder,
            _lock: lock,
        });
        let (writes, ended) = writer::start(&shared, past.clock)?;
        let reads = reader::start(&shared)?;
        recover::start(&shared)?;
        Ok(Opened {
            disk: Self {
                shared,
                writes,
                reads,
                ended: Mutex::new(ended),
            },
            clock: past.clock,
            doubts,
        })
    }

    /// Whether the entry of a key may be there.
    pub fn has(&self, key: &[u8]) -> bool {
        self.shared.index.get(self.shared.hash(key)).is_some()
    }

    /// Reads the entry of a key: without what was purged since.
    pub async fn read(&self, key: &[u8]) -> Option<Found> {
        let hash = self.shared.hash(key);
        let slot = self.shared.index.get(hash)?;
        let (reply, read) = oneshot::channel();
        let key = Box::from(key);
        let job = reader::Job {
            key,
            hash,
            slot,
            reply,
        };
        // Where many wait for the disk already, the origin is quicker.
        self.reads.try_send(job).ok()?;
        let entry = tokio::time::timeout(READ_WAIT, read).await.ok()?.ok()??;
        self.shared.hits.fetch_add(1, Ordering::Relaxed);
        let place = Place { hash, slot };
        Some(Found { entry, place })
    }

    /// Whether what was read there is still what the key has.
    pub fn still_has(&self, place: Place) -> bool {
        self.shared.index.get(place.hash) == Some(place.slot)
    }

    /// Has an entry written, in place of what the key had. Never waits.
    pub fn write(&self, key: &[u8], entry: &Arc<Entry>) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs());
        let lasts = |stored: &Arc<super::stored::Stored>| stored.span.time_left(now) >= LASTS;
        if !entry.responses.iter().any(lasts) {
            return self.forget(key);
        }
        let hash = self.shared.hash(key);
        self.shared.index.forget(hash);
        let bytes: usize = entry.responses.iter().map(|stored| stored.weight()).sum();
        let bytes = bytes as u64;
        let queued = self.shared.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        let job = writer::Job::Put {
            hash,
            key: key.into(),
            entry: entry.clone(),
            bytes,
        };
        let sent = queued <= QUEUED_BYTES_MAX
            && !self.shared.stopped.load(Ordering::Relaxed)
            && self.writes.try_send(job).is_ok();
        if !sent {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            // One that is queued from before must not stand in for it.
            let _ = self.writes.try_send(writer::Job::Gone { hash });
        }
    }

    /// Has the entry of a key forgotten. Never waits.
    pub fn forget(&self, key: &[u8]) {
        let hash = self.shared.hash(key);
        let queued = self.shared.queued_bytes.load(Ordering::Acquire) > 0;
        if queued || self.shared.index.get(hash).is_some() || self.shared.index.is_recovering() {
            self.shared.index.forget(hash);
            let _ = self.writes.try_send(writer::Job::Gone { hash });
        }
    }

    /// Notes that the URLs of a place were changed.
    pub fn doubt(&self, place: u32, at: u64) {
        let mut pending = self.shared.pending();
        let last = pending.doubts.entry(place).or_default();
        *last = at.max(*last);
        pending.count += 1;
        drop(pending);
        self.wake();
    }

    /// Notes a purge: what is read from now on is held against it.
    pub fn purge(&self, at: u64, purge: &Purge) {
        // What is queued was asked for before, and may be written to as many segments as it fills.
        let queued = 2 * QUEUED_BYTES_MAX / self.shared.segment_bytes().max(1) + 1;
        let queued = u32::try_from(queued).unwrap_or(u32::MAX);
        let newest = self.shared.newest().saturating_add(queued);
        self.shared.purges_mut().add(purge, at, newest);
        let mut pending = self.shared.pending();
        pending.purges.push((at, newest, purge.clone()));
        pending.count += 1;
        drop(pending);
        self.wake();
    }

    /// Waits until all changes that were noted so far would outlive the process; gives whether they would.
    pub async fn settle(&self, within: Duration) -> bool {
        let count = self.shared.pending().count;
        let mut written = self.shared.written.subscribe();
        let settled = written.wait_for(|written| *written >= count);
        let settled = tokio::time::timeout(within, settled).await;
        matches!(settled, Ok(Ok(_))) && !self.shared.broken.load(Ordering::Acquire)
    }

    /// Figures, to be told.
    pub fn figures(&self) -> Figures {
        let shared = &self.shared;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            entries: shared.index.len(),
            bytes: shared.bytes(),
            bytes_max: shared.bytes_max,
            hits: count(&shared.hits),
            writes: count(&shared.writes),
            dropped: count(&shared.dropped),
            corrupt: count(&shared.corrupt),
            recovering: shared.index.is_recovering(),
            stopped: shared.stopped.load(Ordering::Relaxed),
        }
    }

    /// Writes what is queued, and ends in order. Blocks, but not for ever.
    pub fn close(&self) {
        self.shared.ending.store(true, Ordering::Release);
        self.wake();
        let ended = lock(&self.ended).recv_timeout(END_WAIT);
        if ended == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the cache's disk is too slow to end in order");
        }
    }

    fn wake(&self) {
        match self.writes.try_send(writer::Job::Noted) {
            // It looks for changes before it takes the next job.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

impl Shared {
    fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.keys.hashes.0, self.keys.hashes.1);
        hasher.write(key);
        hasher.finish()
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        lock(&self.pending)
    }

    fn segments(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<u32, Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn segments_mut(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<u32, Arc<Segment>>> {
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn segment(&self, id: u32) -> Option<Arc<Segment>> {
        self.segments().get(&id).cloned()
    }

    fn purges_mut(&self) -> std::sync::RwLockWriteGuard<'_, Purges> {
        self.purges.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn segment_bytes(&self) -> u64 {
        (self.bytes_max / 16).min(SEGMENT_MAX)
    }

    /// The segment that is written to, or will be.
    fn newest(&self) -> u32 {
        let segments = self.segments();
        segments.last_key_value().map_or(1, |(id, _)| id + 1)
    }

    fn bytes(&self) -> u64 {
        let segments = self.segments();
        segments.values().map(|segment| segment.bytes()).sum()
    }

    fn changes_file(&self) -> PathBuf {
        self.folder.join("changes")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which life of the machine this is: a process that was killed loses nothing that it had written, a machine does. Source:
/// random(4), `/proc/sys/kernel/random/boot_id`; empty where there is none, and then every process may be in another one.
fn boot() -> String {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let boot = std::fs::read_to_string(path).unwrap_or_default();
    boot.trim().to_owned()
}

/// A disk that takes longer is no help.
const READ_WAIT: Duration = Duration::from_secs(1);
/// Seconds that a response has to be fresh for to be worth writing.
const LASTS: i64 = 5;
/// What a node that drains has left for the disk.
const END_WAIT: Duration = Duration::from_secs(5);
/// What waits to be written keeps its memory.
const SEGMENT_MAX: u64 = 1 << 30;
const QUEUED_BYTES_MAX: u64 = 64 << 20;

#[cfg(test)]
mod tests;
