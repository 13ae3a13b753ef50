//! The threads that read entries.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tidegate_model::cache::key;
use tokio::sync::oneshot;

use super::index::Slot;
use super::segment::Fault;
use super::{Shared, lock, record};
use crate::cache::store::Entry;

/// An entry to be read.
pub struct Job {
    pub key: Box<[u8]>,
    pub hash: u64,
    pub slot: Slot,
    pub reply: oneshot::Sender<Option<Entry>>,
}

/// Starts the threads; they end when nobody can ask any more.
///
/// # Errors
/// Where there is no thread to be had.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<SyncSender<Job>> {
    let (jobs, receiver) = sync_channel(QUEUE);
    let receiver = Arc::new(Mutex::new(receiver));
    for number in 0..READERS {
        let (shared, receiver) = (shared.clone(), receiver.clone());
        thread::Builder::new()
            .name(format!("cache-read-{number}"))
            .spawn(move || run(&shared, &receiver))?;
    }
    Ok(jobs)
}

fn run(shared: &Shared, jobs: &Mutex<Receiver<Job>>) {
    loop {
        let next = lock(jobs).recv();
        let Ok(job) = next else {
            return;
        };
        // Who has waited too long has left.
        if !job.reply.is_closed() {
            let entry = read(shared, &job);
            let _ = job.reply.send(entry);
        }
    }
}

fn read(shared: &Shared, job: &Job) -> Option<Entry> {
    let entry = match shared.segment(job.slot.segment) {
        None => None, // it has made room for newer ones
        Some(segment) => match segment.read(job.slot) {
            Ok(payload) => decode(shared, job, &payload),
            Err(fault) => {
                damaged(shared, job, &fault);
                None
            }
        },
    };
    if entry.is_none() {
        shared.index.forget_if(job.hash, job.slot);
    }
    entry
}

fn decode(shared: &Shared, job: &Job, payload: &bytes::Bytes) -> Option<Entry> {
    let Some((key, mut entry)) = record::read(payload, &shared.shapes) else {
        damaged(shared, job, &Fault::Corrupt("it holds no entry"));
        return None;
    };
    // Another one's, by the accident of a hash.
    if *key != *job.key {
        return None;
    }
    let purges = shared.purges.read();
    let purges = purges.unwrap_or_else(PoisonError::into_inner);
    purges.apply(&key::read(key)?, &mut entry.responses);
    let floor = shared.floor.load(Ordering::Relaxed);
    for stored in &entry.responses {
        if stored.asked.at < floor {
            stored.mark_purged();
        }
    }
    (!entry.responses.is_empty()).then_some(entry)
}

fn damaged(shared: &Shared, job: &Job, cause: &Fault) {
    let before = shared.corrupt.fetch_add(1, Ordering::Relaxed);
    let Slot { segment, at, .. } = job.slot;
    if before < TOLD_MAX {
        tracing::warn!(segment, at, %cause, "a stored response on disk is damaged and left out");
    }
}

/// Enough for a disk to choose its order among.
const READERS: usize = 4;
/// Entries that wait to be read.
const QUEUE: usize = 256;
/// Damaged entries that are told of one by one; the rest is in the metrics.
const TOLD_MAX: u64 = 100;
