//! The thread that writes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::changes::{Change, Changes};
use super::index::Slot;
use super::purges::Purges;
use super::segment::{HEADER, Kind, RECORD, Segment};
use super::{Shared, boot, record};
use crate::cache::store::Entry;

/// What is to be written.
pub enum Job {
    Put {
        hash: u64,
        key: Box<[u8]>,
        entry: Arc<Entry>,
        /// What it is counted as.
        bytes: u64,
    },
    Gone {
        hash: u64,
    },
    /// Changes were noted, or it is to end.
    Noted,
}

struct Writer {
    shared: Arc<Shared>,
    jobs: Receiver<Job>,
    clock: u64,
    /// `None`: the changes cannot be written, and so there are no segments.
    changes: Option<Changes>,
    /// `None`: the next record begins one.
    segment: Option<Arc<Segment>>,
    /// Records for the end of the segment, and where they will be.
    batch: Vec<u8>,
    placed: Vec<(u64, Option<Slot>)>,
    /// Bytes of the queue that are in the batch, or were refused.
    taken: u64,
    /// Nothing is tried before.
    stopped_until: Option<Instant>,
    /// The log says that nothing is written.
    told: bool,
}

/// Starts the thread; what is returned is closed when it ends.
///
/// # Errors
/// Where there is none to be had.
pub(super) fn start(
    shared: &Arc<Shared>,
    clock: u64,
) -> io::Result<(SyncSender<Job>, Receiver<()>)> {
    let (sender, jobs) = sync_channel(QUEUE);
    let (ends, ended) = sync_channel(0);
    let mut writer = Writer {
        shared: shared.clone(),
        jobs,
        clock,
        changes: None,
        segment: None,
        batch: Vec::new(),
        placed: Vec::new(),
        taken: 0,
        stopped_until: None,
        told: false,
    };
    writer.begin();
    let thread = thread::Builder::new().name("cache-write".to_owned());
    thread.spawn(move || {
        writer.run();
        drop(ends);
    })?;
    Ok((sender, ended))
}

impl Writer {
    fn run(mut self) {
        loop {
            let job = self.jobs.recv_timeout(TICK);
            self.write_changes();
            match job {
                Ok(job) => self.take_all(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.try_again();
            if self.shared.ending.load(Ordering::Acquire) {
                break;
            }
        }
        self.end();
    }

    /// Writes a job, and those that have come meanwhile, at once.
    fn take_all(&mut self, first: Job) {
        self.take(first);
        while self.batch.len() < BATCH
            && let Ok(job) = self.jobs.try_recv()
        {
            self.take(job);
        }
        self.flush();
        // Only now: what is queued is not in the index yet, and must be found by who forgets it.
        let taken = std::mem::take(&mut self.taken);
        self.shared.queued_bytes.fetch_sub(taken, Ordering::AcqRel);
    }

    fn end(mut self) {
        while let Ok(job) = self.jobs.try_recv() {
            self.take_all(job);
        }
        self.write_changes();
        if let Some(changes) = &mut self.changes {
            let synced = self
                .segment
                .as_ref()
                .map_or(Ok(()), |segment| segment.sync());
            if let Err(error) = synced.and_then(|()| changes.append(&[Change::Ended], true)) {
                tracing::warn!(%error, "the cache on disk did not end in order");
            }
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Put {
                hash,
                key,
                entry,
                bytes,
            } => {
                self.put(hash, &key, &entry);
                self.taken += bytes;
            }
            Job::Gone { hash } => self.add(hash, Kind::Gone, |_| {}),
            Job::Noted => {}
        }
    }

    fn put(&mut self, hash: u64, key: &[u8], entry: &Entry) {
        let encrypted = entry.responses.iter().any(|stored| stored.encrypted);
        let kind = if encrypted {
            Kind::Encrypted
        } else {
            Kind::Plain
        };
        self.add(hash, kind, |text| record::write(text, key, entry));
    }

    /// Puts a record into the batch.
    fn add(&mut self, hash: u64, kind: Kind, payload: impl FnOnce(&mut Vec<u8>)) {
        if self.stopped_until.is_some() || self.changes.is_none() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let start = self.batch.len();
        self.batch.resize(start + RECORD, 0);
        payload(&mut self.batch);
        let room = (self.batch.len() - start + TAG_ROOM) as u64;
        if room + HEADER as u64 > self.segment_bytes() {
            self.batch.truncate(start);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let fits = self
            .segment
            .as_ref()
            .is_some_and(|segment| segment.bytes() + start as u64 + room <= self.segment_bytes());
        let mut start = start;
        if !fits {
            let record = self.batch.split_off(start);
            self.flush();
            if !self.rotate() {
                return;
            }
            start = 0;
            self.batch = record;
        }
        let Some(segment) = &self.segment else {
            return;
        };
        let at = segment.bytes() + start as u64;
        segment.frame(&mut self.batch, start, at, hash, kind);
        let slot = Slot {
            segment: segment.id,
            at: u32::try_from(at).unwrap_or(u32::MAX),
            bytes: u32::try_from(self.batch.len() - start).unwrap_or(u32::MAX),
        };
        let slot = Some(slot).filter(|_| kind != Kind::Gone);
        self.placed.push((hash, slot));
    }

    /// Writes the batch.
    fn flush(&mut self) {
        let placed = std::mem::take(&mut self.placed);
        if self.batch.is_empty() {
            return;
        }
        let written = match &self.segment {
            Some(segment) => segment.append(&self.batch),
            None => Ok(()),
        };
        self.batch.clear();
        self.batch.shrink_to(BATCH);
        if let Err(error) = written {
            self.abandon();
            self.shared
                .dropped
                .fetch_add(placed.len() as u64, Ordering::Relaxed);
            return self.stop(&error);
        }
        if std::mem::take(&mut self.told) {
            tracing::info!("the cache writes to its disk again");
        }
        for (hash, slot) in placed {
            match slot {
                Some(slot) => {
                    self.shared.index.put(hash, slot);
                    self.shared.writes.fetch_add(1, Ordering::Relaxed);
                }
                None => self.shared.index.forget(hash),
            }
        }
    }

    /// The segment's end is in no known state: nothing more is written to it.
    fn abandon(&mut self) {
        let Some(segment) = self.segment.take() else {
            return;
        };
        if segment.bytes() == HEADER as u64 {
            self.shared.segments_mut().remove(&segment.id);
            if let Err(error) = segment.remove() {
                tracing::error!(segment = segment.id, %error, "a file of the cache cannot be removed");
            }
        }
    }

    /// Begins a segment; the oldest make room for it.
    fn rotate(&mut self) -> bool {
        self.segment = None;
        let room = self.shared.bytes_max.saturating_sub(CHANGES_ROOM);
        while self.shared.bytes() + self.segment_bytes() > room {
            if !self.remove_oldest() {
                break;
            }
        }
        let id = self.shared.newest();
        match Segment::create(&self.shared.folder, id, &self.shared.keys) {
            Ok(segment) => {
                let segment = Arc::new(segment);
                self.shared.segments_mut().insert(id, segment.clone());
                self.segment = Some(segment);
                true
            }
            Err(error) => {
                self.batch.clear();
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                self.stop(&error);
                false
            }
        }
    }

    fn remove_oldest(&mut self) -> bool {
        let Some((id, segment)) = self.shared.segments_mut().pop_first() else {
            return false;
        };
        if let Err(error) = segment.remove() {
            tracing::error!(segment = id, %error, "a file of the cache cannot be removed");
        }
        self.shared.index.sweep(|slot| slot.segment != id);
        self.shared.purges_mut().forget_before(id + 1);
        true
    }

    /// A sixteenth of the whole: so much is lost at once.
    fn segment_bytes(&self) -> u64 {
        self.shared.segment_bytes()
    }

    /// Writes what was noted, and tells who waits for it.
    fn write_changes(&mut self) {
        let mut pending = self.shared.pending();
        let (doubts, purges) = (
            std::mem::take(&mut pending.doubts),
            std::mem::take(&mut pending.purges),
        );
        let count = pending.count;
        drop(pending);
        if doubts.is_empty() && purges.is_empty() {
            return;
        }
        let latest = doubts.values().chain(purges.iter().map(|(at, ..)| at));
        self.clock = latest.copied().max().unwrap_or(0).max(self.clock);
        // Where there are no changes there are no segments, and nothing for them to be about.
        if let Some(changes) = &mut self.changes {
            let sync = !purges.is_empty();
            let doubts = doubts.into_iter();
            let mut list: Vec<_> = doubts
                .map(|(place, at)| Change::Doubt { at, place })
                .collect();
            list.extend(
                purges
                    .into_iter()
                    .map(|(at, segment, purge)| Change::Purge { at, segment, purge }),
            );
            let written = changes.append(&list, sync);
            if let Err(error) = written {
                self.empty(&format!("changes cannot be written: {error}"));
            } else if self.shared.purges_mut().is_full() {
                self.empty("there were too many purges to be held against it");
                self.begin();
            } else if self.changes.as_ref().is_some_and(Changes::is_long) {
                self.begin();
            }
        }
        self.shared.written.send_replace(count);
    }

    /// Writes the file of changes anew.
    fn begin(&mut self) {
        let mut list = vec![Change::Began {
            clock: self.clock,
            floor: self.shared.floor.load(Ordering::Relaxed),
            boot: boot(),
        }];
        let doubts = self.shared.doubts.all();
        list.extend(doubts.map(|(place, at)| Change::Doubt { at, place }));
        let purges = self.shared.purges_mut();
        list.extend(
            purges
                .all()
                .map(|(purge, at, segment)| Change::Purge { at, segment, purge }),
        );
        drop(purges);
        let path = self.shared.changes_file();
        match Changes::create(&path, &self.shared.keys.check, &list) {
            Ok(changes) => self.changes = Some(changes),
            Err(error) => {
                self.empty(&format!("changes cannot be written: {error}"));
                self.stop(&error);
            }
        }
    }

    /// Removes all that is there: what would be purged cannot be noted.
    fn empty(&mut self, cause: &str) {
        tracing::error!(cause, "the cache on disk is emptied");
        (self.segment, self.changes) = (None, None);
        self.batch.clear();
        self.placed.clear();
        let segments = std::mem::take(&mut *self.shared.segments_mut());
        self.shared.index.sweep(|_| false);
        *self.shared.purges_mut() = Purges::default();
        for segment in segments.values() {
            if let Err(error) = segment.remove() {
                // It might come back with what should be gone.
                self.shared.broken.store(true, Ordering::Release);
                tracing::error!(segment = segment.id, %error, "a file of the cache cannot be removed");
            }
        }
        self.stopped_until = Some(Instant::now() + PAUSE);
    }

    /// Writes nothing for a while.
    fn stop(&mut self, error: &io::Error) {
        self.stopped_until = Some(Instant::now() + PAUSE);
        self.shared.stopped.store(true, Ordering::Relaxed);
        if !std::mem::replace(&mut self.told, true) {
            tracing::error!(
                %error,
                folder = %self.shared.folder.display(),
                "the cache does not write to its disk: it goes on from memory, and tries again"
            );
        }
    }

    /// After a pause, whether the disk takes something again.
    fn try_again(&mut self) {
        if self
            .stopped_until
            .is_none_or(|until| Instant::now() < until)
        {
            return;
        }
        self.stopped_until = None;
        if self.changes.is_none() {
            self.begin();
        }
        if self.changes.is_some() && self.rotate() {
            self.shared.stopped.store(false, Ordering::Relaxed);
        }
    }
}

/// Entries that wait to be written.
const QUEUE: usize = 1024;
/// Bytes that are written at once.
const BATCH: usize = 1 << 20;
/// What the file of changes may take of the whole.
const CHANGES_ROOM: u64 = 8 << 20;
/// What encryption adds to a record.
const TAG_ROOM: usize = 16;
/// How often it looks whether it may go on.
const TICK: Duration = Duration::from_millis(500);
/// How long a disk that refused is left alone.
const PAUSE: Duration = Duration::from_secs(5);
