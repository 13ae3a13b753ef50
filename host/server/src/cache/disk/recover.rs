//! What an earlier process left.
//!
//! The changes are read before anything is served; the segments are looked through meanwhile, the newest first.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use super::changes::{Change, Changes};
use super::index::Slot;
use super::keys::Keys;
use super::purges::Purges;
use super::segment::{Fault, Kind, RECORD, Segment};
use super::{Shared, boot};

/// What is known of the past.
#[derive(Default)]
pub struct Past {
    /// Later than all that happened.
    pub clock: u64,
    pub floor: u64,
    pub doubts: HashMap<u32, u64>,
    pub purges: Purges,
    pub segments: BTreeMap<u32, Arc<Segment>>,
}

/// Reads the changes and opens the segments. What is of no use is removed, with a line that says why.
pub fn past(folder: &Path, keys: &Keys) -> Past {
    let files = segment_files(folder);
    let changes = match Changes::read(&folder.join("changes"), &keys.check) {
        Ok(Some(changes)) => changes,
        Ok(None) if files.is_empty() => return begin(),
        Ok(None) => return without(files, &Fault::Corrupt("it is not there")),
        Err(fault) => return without(files, &fault),
    };
    let mut past = begin();
    let (mut clock, mut lost) = (0, false);
    for change in changes {
        match change {
            Change::Began {
                clock: began,
                floor,
                boot: life,
            } => {
                clock = clock.max(began);
                past.floor = past.floor.max(floor);
                lost = life.is_empty() || life != boot();
            }
            Change::Doubt { at, place } => {
                clock = clock.max(at);
                past.doubts.insert(place, at);
            }
            Change::Purge { at, segment, purge } => {
                clock = clock.max(at);
                past.purges.add(&purge, at, segment);
            }
            Change::Ended => lost = false,
        }
    }
    // More than what may have happened and was not written.
    past.clock = clock + CLOCK_STEP;
    if lost {
        tracing::warn!(
            "the machine stopped while the node ran: what the cache has on disk is asked for again before it is served"
        );
        past.floor = past.clock;
    }
    for (id, path) in files {
        match Segment::open(&path, id, keys) {
            Ok(segment) => drop(past.segments.insert(id, Arc::new(segment))),
            Err(cause) => {
                tracing::warn!(file = %path.display(), %cause, "a file of the cache is of no use and removed");
                remove(&path);
            }
        }
    }
    past
}

/// Looks through the segments on a thread of its own.
///
/// # Errors
/// Where there is no thread to be had.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<()> {
    if shared.index.is_recovering() {
        let shared = shared.clone();
        thread::Builder::new()
            .name("cache-recover".to_owned())
            .spawn(move || run(&shared))?;
    }
    Ok(())
}

fn run(shared: &Shared) {
    let segments: Vec<_> = shared.segments().values().rev().cloned().collect();
    for segment in segments {
        let found = segment.scan(|at, header| {
            let bytes = match header.kind {
                Kind::Gone => 0,
                Kind::Plain | Kind::Encrypted => header.bytes + RECORD as u32,
            };
            let slot = Slot {
                segment: segment.id,
                at,
                bytes,
            };
            shared.index.recover(header.hash, slot);
        });
        if let Err((at, cause)) = found {
            shared.corrupt.fetch_add(1, Ordering::Relaxed);
            let segment = segment.id;
            tracing::warn!(segment, at, %cause, "a file of the cache is damaged: what follows in it is left out");
        }
    }
    let segments = shared.segments();
    shared.index.recovered(|id| segments.contains_key(&id));
    drop(segments);
    let (entries, bytes) = (shared.index.len(), shared.bytes());
    tracing::info!(entries, bytes, "the cache on disk has been looked through");
}

fn begin() -> Past {
    Past {
        clock: 1,
        ..Past::default()
    }
}

/// Nobody knows what was purged: all of it may have been.
fn without(files: Vec<(u32, PathBuf)>, cause: &Fault) -> Past {
    tracing::warn!(
        %cause,
        "what was purged from the cache on disk cannot be read: all of it is removed"
    );
    for (_, path) in files {
        remove(&path);
    }
    begin()
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::error!(file = %path.display(), %error, "a file of the cache cannot be removed");
    }
}

fn segment_files(folder: &Path) -> Vec<(u32, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .filter_map(|path| Some((Segment::id_of(&path)?, path)))
        .collect()
}

/// Changes are written within a moment; in that, nobody makes so many.
const CLOCK_STEP: u64 = 1 << 32;
