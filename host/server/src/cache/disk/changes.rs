//! What was purged and made doubtful, in a file of its own: it has to hold when the process is killed, and what it is about
//! may be in any segment.
//!
//! ```text
//! file    "tgchang1" check[8]   then frames
//! frame   bytes[4] !bytes[4] crc[4]   then a change, by postcard
//! ```
//!
//! The file is written anew when a process begins, and when it has grown too long.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::segment::Fault;
use crate::cache::purge::Purge;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A process began: where its clock started, since when nothing is beyond doubt, and in which life of the machine.
    Began {
        clock: u64,
        floor: u64,
        boot: String,
    },
    /// The URLs of a place were changed.
    Doubt { at: u64, place: u32 },
    /// Something was purged. `segment` is the last one that may hold it.
    Purge { at: u64, segment: u32, purge: Purge },
    /// The process ended in order.
    Ended,
}

/// The file, open to be appended to.
pub struct Changes {
    file: File,
    bytes: u64,
}

impl Changes {
    /// Reads what the last process left; `None` where there was none.
    ///
    /// # Errors
    /// Where it cannot be read as a whole: then nobody knows what was purged. A last change that is not all there was
    /// never acknowledged, and is none.
    pub fn read(path: &Path, check: &[u8; 8]) -> Result<Option<Vec<Change>>, Fault> {
        let mut text = Vec::new();
        match File::open(path) {
            Ok(file) => drop(file.take(BYTES_MAX).read_to_end(&mut text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        if text.len() as u64 == BYTES_MAX {
            return Err(Fault::Corrupt("it is too long"));
        }
        let Some(mut rest) = text.strip_prefix(MAGIC) else {
            return Err(Fault::Corrupt("it is none of this version"));
        };
        match rest.strip_prefix(check) {
            Some(frames) => rest = frames,
            None => return Err(Fault::Corrupt("it was written under another key")),
        }
        let mut changes = Vec::new();
        while let Some((change, after)) = frame(rest)? {
            changes.push(change);
            rest = after;
        }
        Ok(Some(changes))
    }

    /// Writes a new file in place of the old one, for good.
    ///
    /// # Errors
    /// The disk's.
    pub fn create(path: &Path, check: &[u8; 8], changes: &[Change]) -> io::Result<Self> {
        let new = path.with_extension("new");
        let mut text = [&MAGIC[..], check].concat();
        for change in changes {
            write(&mut text, change);
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&new)?;
        file.write_all_at(&text, 0)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?; // the name too
        }
        Ok(Self {
            file,
            bytes: text.len() as u64,
        })
    }

    /// Appends changes; where it returns, they outlive the process, and with `sync` the machine.
    ///
    /// # Errors
    /// The disk's.
    pub fn append(&mut self, changes: &[Change], sync: bool) -> io::Result<()> {
        let mut text = Vec::new();
        for change in changes {
            write(&mut text, change);
        }
        self.file.write_all_at(&text, self.bytes)?;
        self.bytes += text.len() as u64;
        if sync { self.file.sync_data() } else { Ok(()) }
    }

    /// Whether it should be written anew.
    pub fn is_long(&self) -> bool {
        self.bytes > BYTES_LONG
    }
}

fn write(text: &mut Vec<u8>, change: &Change) {
    // A vector takes all that there is.
    if let Ok(change) = postcard::to_allocvec(change) {
        let length = u32::try_from(change.len()).unwrap_or(u32::MAX);
        text.extend_from_slice(&length.to_le_bytes());
        text.extend_from_slice(&(!length).to_le_bytes());
        text.extend_from_slice(&crc32fast::hash(&change).to_le_bytes());
        text.extend_from_slice(&change);
    }
}

fn frame(text: &[u8]) -> Result<Option<(Change, &[u8])>, Fault> {
    let Some((head, rest)) = text.split_first_chunk::<12>() else {
        return Ok(None);
    };
    // A machine that stopped may have made room for what it did not write any more.
    if text.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let number = |at: usize| {
        let bytes = head[at..].first_chunk::<4>().expect("12 bytes");
        u32::from_le_bytes(*bytes)
    };
    // Else a damaged length would look like an end.
    if number(0) != !number(4) {
        return Err(Fault::Corrupt("the length of a change is none"));
    }
    let Some((change, after)) = rest.split_at_checked(number(0) as usize) else {
        return Ok(None);
    };
    if crc32fast::hash(change) != number(8) {
        return Err(Fault::Corrupt("a change's checksum is wrong"));
    }
    let change = postcard::from_bytes(change);
    let change = change.map_err(|_| Fault::Corrupt("a change is none"))?;
    Ok(Some((change, after)))
}

const MAGIC: &[u8; 8] = b"tgchang1";
/// All places of the table of doubts are 2 MiB.
const BYTES_LONG: u64 = 8 << 20;
const BYTES_MAX: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_they_were_written_and_a_cut_off_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changes");
        assert!(matches!(Changes::read(&path, b"12345678"), Ok(None)));
        let began = Change::Began {
            clock: 1,
            floor: 2,
            boot: "b".to_owned(),
        };
        let more = [
            Change::Doubt { at: 3, place: 4 },
            Change::Purge {
                at: 5,
                segment: 6,
                purge: Purge::tag("t"),
            },
            Change::Ended,
        ];
        let mut file = Changes::create(&path, b"12345678", std::slice::from_ref(&began)).unwrap();
        file.append(&more, true).unwrap();
        let all = [&[began.clone()][..], &more].concat();
        let read = || Changes::read(&path, b"12345678");
        assert_eq!(read().unwrap(), Some(all));
        assert!(Changes::read(&path, b"87654321").is_err());
        let raw = std::fs::read(&path).unwrap();
        std::fs::write(&path, &raw[..raw.len() - 1]).unwrap();
        assert_eq!(read().unwrap().map(|changes| changes.len()), Some(3));
        std::fs::write(&path, [&raw[..], &[0; 100]].concat()).unwrap();
        assert_eq!(read().unwrap().map(|changes| changes.len()), Some(4));
        for at in 0..raw.len() {
            let mut damaged = raw.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert!(read().is_err(), "{at}");
        }
    }
}
