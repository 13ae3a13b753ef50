//! Purges that an origin was told of, in order: edges ask for what they have missed.
//!
//! Each is one line of a file, flushed before it is acknowledged. A node that asks for more than is kept, or by another
//! log's count, is told to purge everything.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::manifest::hex;
use crate::durable;

/// The log of an origin.
pub struct Purges {
    path: PathBuf,
    /// Which log it is: another one counts anew.
    epoch: String,
    kept: Mutex<Kept>,
    last: watch::Sender<u64>,
}

struct Kept {
    file: fs::File,
    lines: VecDeque<Purged>,
    /// Lines of the file, of which the last are `lines`.
    written: usize,
    /// A write failed: the file may end in half a line, behind which nothing would be read again.
    torn: bool,
}

/// One purge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// From 1.
    pub number: u64,
    /// What is to go, as in the query of `/tidegate/v1/cache/purge`.
    pub query: String,
}

/// Where a node stands in an origin's log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub epoch: String,
    pub number: u64,
}

/// What a node has missed.
#[derive(Debug, PartialEq, Eq)]
pub enum Missed {
    These(Vec<Purged>),
    /// More than is known.
    Unknown,
}

#[derive(Serialize, Deserialize)]
struct First {
    epoch: String,
}

impl Purges {
    /// Reads the log, or begins one.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_file(path).with_context(|| path.display().to_string())
    }

    fn open_file(path: &Path) -> Result<Self> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let mut lines = text.split_inclusive(|&octet| octet == b'\n');
        let first = lines
            .next()
            .and_then(|line| serde_json::from_slice(line).ok());
        // A line that was being written when the node was killed was not acknowledged; it has no end.
        let whole: Vec<&[u8]> = lines.filter(|line| line.ends_with(b"\n")).collect();
        let read = whole
            .iter()
            .map_while(|line| serde_json::from_slice(line).ok());
        let mut kept: VecDeque<Purged> = read.collect();
        // Where others cannot be read, their numbers may be known to nodes: they are not given out again.
        let first = first.filter(|_| kept.len() == whole.len());
        while kept.len() > KEPT_MAX {
            kept.pop_front();
        }
        let epoch = match first {
            Some(First { epoch }) => epoch,
            None => {
                kept.clear();
                let mut random = [0; 8];
                aws_lc_rs::rand::fill(&mut random).context("no random numbers")?;
                hex(&random)
            }
        };
        let file = write_anew(path, &epoch, &kept)?;
        let last = kept.back().map_or(0, |purged| purged.number);
        Ok(Self {
            path: path.to_owned(),
            epoch,
            kept: Mutex::new(Kept {
                file,
                torn: false,
                written: kept.len(),
                lines: kept,
            }),
            last: watch::channel(last).0,
        })
    }

    /// Writes a purge down; it is on the disk when this returns.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn record(&self, query: &str) -> io::Result<u64> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let purged = Purged {
            number: *self.last.borrow() + 1,
            query: query.to_owned(),
        };
        if kept.torn {
            kept.file = write_anew(&self.path, &self.epoch, &kept.lines)?;
            (kept.written, kept.torn) = (kept.lines.len(), false);
        }
        kept.torn = true;
        write_line(&mut kept.file, &purged)?;
        kept.file.sync_data()?;
        kept.torn = false;
        let number = purged.number;
        kept.lines.push_back(purged);
        kept.written += 1;
        if kept.lines.len() > KEPT_MAX {
            kept.lines.pop_front();
        }
        if kept.written > 2 * KEPT_MAX {
            // It is on the disk already: what fails here is tried again with the next one.
            match write_anew(&self.path, &self.epoch, &kept.lines) {
                Ok(file) => (kept.file, kept.written) = (file, kept.lines.len()),
                Err(_) => kept.torn = true,
            }
        }
        self.last.send_replace(number);
        Ok(number)
    }

    /// The end of the log.
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch.clone(),
            number: *self.last.borrow(),
        }
    }

    /// What came after a position.
    pub fn since(&self, position: &Position) -> Missed {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let last = *self.last.borrow();
        let first = last.saturating_sub(kept.lines.len() as u64);
        if position.epoch != self.epoch || !(first..=last).contains(&position.number) {
            return Missed::Unknown;
        }
        let skip = usize::try_from(position.number - first).unwrap_or(usize::MAX);
        Missed::These(kept.lines.iter().skip(skip).cloned().collect())
    }

    /// Learns of the next purge.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

/// Writes the file whole, and returns it to be written on.
fn write_anew(path: &Path, epoch: &str, lines: &VecDeque<Purged>) -> io::Result<fs::File> {
    let mut text = Vec::new();
    let first = First {
        epoch: epoch.to_owned(),
    };
    write_line(&mut text, &first)?;
    for line in lines {
        write_line(&mut text, line)?;
    }
    durable::replace_private(path, &text)?;
    fs::OpenOptions::new().append(true).open(path)
}

fn write_line(file: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text)
}

/// A node that missed more asks its origins for everything anew.
const KEPT_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(missed: Missed) -> Option<Vec<u64>> {
        match missed {
            Missed::These(these) => Some(these.iter().map(|purged| purged.number).collect()),
            Missed::Unknown => None,
        }
    }

    #[test]
    fn what_was_missed_is_told_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("purges");
        let purges = Purges::open(&path).unwrap();
        let begin = purges.position();
        for query in ["all=true", "tag=a", "url=/x"] {
            purges.record(query).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{{\"number\":4,\"que")).unwrap(); // killed while it wrote
        let purges = Purges::open(&path).unwrap();
        assert_eq!(numbers(purges.since(&begin)), Some(vec![1, 2, 3]));
        assert_eq!(purges.record("tag=b").unwrap(), 4);
        let seen = Position {
            number: 3,
            ..begin.clone()
        };
        assert_eq!(numbers(purges.since(&seen)), Some(vec![4]));
        assert_eq!(numbers(purges.since(&purges.position())), Some(vec![]));
    }

    #[test]
    fn a_write_that_failed_costs_none_of_those_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("purges");
        let purges = Purges::open(&path).unwrap();
        let begin = purges.position();
        purges.record("tag=a").unwrap();
        {
            // A disk that takes nothing: the file is open for reading only.
            let mut kept = purges.kept.lock().unwrap();
            kept.file = fs::File::open(&path).unwrap();
        }
        purges.record("tag=b").unwrap_err();
        let half = format!("{}{{\"number\":2,", fs::read_to_string(&path).unwrap());
        fs::write(&path, half).unwrap();
        assert_eq!(purges.record("tag=c").unwrap(), 2);
        let again = Purges::open(&path).unwrap();
        assert_eq!(numbers(again.since(&begin)), Some(vec![1, 2]));
    }

    #[test]
    fn numbers_that_may_be_known_are_not_given_out_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("purges");
        let purges = Purges::open(&path).unwrap();
        let begin = purges.position();
        for query in ["tag=a", "tag=b", "tag=c"] {
            purges.record(query).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("tag=b\"", "tag=b")).unwrap(); // a sector that is damaged
        let again = Purges::open(&path).unwrap();
        assert_ne!(again.position().epoch, begin.epoch);
        assert_eq!(numbers(again.since(&begin)), None, "more than is known");
    }

    #[test]
    fn who_counts_otherwise_has_missed_everything() {
        let folder = tempfile::tempdir().unwrap();
        let purges = Purges::open(&folder.path().join("purges")).unwrap();
        let begin = purges.position();
        for _ in 0..3 {
            purges.record("all=true").unwrap();
        }
        let other = |epoch: &str, number| Position {
            epoch: epoch.to_owned(),
            number,
        };
        for position in [other("other", 3), other("", 0), other(&begin.epoch, 4)] {
            assert_eq!(purges.since(&position), Missed::Unknown, "{position:?}");
        }
    }

    #[test]
    fn the_log_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("purges");
        let purges = Purges::open(&path).unwrap();
        let begin = purges.position();
        {
            let mut kept = purges.kept.lock().unwrap();
            kept.written = 2 * KEPT_MAX; // as after many
        }
        purges.record("tag=a").unwrap();
        assert_eq!(purges.kept.lock().unwrap().written, 1);
        purges.record("tag=b").unwrap();
        assert_eq!(numbers(purges.since(&begin)), Some(vec![1, 2]));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    }
}
