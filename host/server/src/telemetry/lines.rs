//! Lines of log sinks, on their way to standard output or a file.
//!
//! One thread writes them all, so no worker waits for a disk. What it cannot take in time is counted as lost.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// Hands lines to the writing thread.
pub struct Lines {
    sender: Option<SyncSender<Batch>>,
    thread: Option<JoinHandle<()>>,
    /// Lines that were lost.
    pub lost: Arc<AtomicU64>,
}

struct Batch {
    destination: String,
    lines: Vec<String>,
}

impl Lines {
    /// Starts the thread; it ends when this is dropped, after the last line.
    ///
    /// # Errors
    ///
    /// Where the system has no thread for it.
    pub fn start() -> io::Result<Self> {
        let (sender, receiver) = sync_channel(BATCHES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = lost.clone();
        let thread = thread::Builder::new()
            .name("log-lines".into())
            .spawn(move || write_all(&receiver, &counted))?;
        Ok(Self {
            sender: Some(sender),
            thread: Some(thread),
            lost,
        })
    }

    /// Hands over lines for `stdout` or `file:PATH`. Never waits.
    pub fn write(&self, destination: &str, lines: Vec<String>) {
        let count = lines.len() as u64;
        let batch = Batch {
            destination: destination.to_owned(),
            lines,
        };
        let taken = self
            .sender
            .as_ref()
            .is_some_and(|sender| sender.try_send(batch).is_ok());
        if !taken {
            self.lost.fetch_add(count, Ordering::Relaxed);
        }
    }
}

impl Drop for Lines {
    /// Waits until the last line is written.
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            _ = thread.join(); // a panic there has been printed
        }
    }
}

fn write_all(batches: &Receiver<Batch>, lost: &AtomicU64) {
    let mut files: HashMap<String, BufWriter<File>> = HashMap::new();
    while let Ok(batch) = batches.recv() {
        if let Err(error) = write(&mut files, &batch) {
            lost.fetch_add(batch.lines.len() as u64, Ordering::Relaxed);
            tracing::warn!(destination = batch.destination, %error, "log lines cannot be written");
            files.remove(&batch.destination);
        }
    }
}

fn write(files: &mut HashMap<String, BufWriter<File>>, batch: &Batch) -> io::Result<()> {
    let Some(path) = batch.destination.strip_prefix("file:") else {
        return write_lines(&mut io::stdout().lock(), &batch.lines);
    };
    if !files.contains_key(&batch.destination) {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        files.insert(batch.destination.clone(), BufWriter::new(file));
    }
    let file = files.get_mut(&batch.destination).expect("inserted above");
    write_lines(file, &batch.lines)
}

fn write_lines(to: &mut impl Write, lines: &[String]) -> io::Result<()> {
    for line in lines {
        to.write_all(line.as_bytes())?;
        to.write_all(b"\n")?;
    }
    to.flush()
}

/// Batches that wait for the disk; with 256 lines each, some megabytes.
const BATCHES_MAX: usize = 256;
