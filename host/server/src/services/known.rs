//! What a thread has at hand of a table that all threads share, so that it takes the table's lock once for each entry.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The entries that this thread has used lately, by name.
pub struct Known<T> {
    /// Which table they are of.
    generation: u64,
    entries: HashMap<String, Arc<T>>,
    name: String,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self {
            generation: 0,
            entries: HashMap::new(),
            name: String::new(),
        }
    }
}

impl<T> Known<T> {
    /// The entry whose name has these parts, of the table with this generation; `find` looks there, and may find no room.
    pub fn get(
        &mut self,
        generation: u64,
        parts: &[&str],
        find: impl FnOnce(&str) -> Option<Arc<T>>,
    ) -> Option<&Arc<T>> {
        if self.generation != generation || self.entries.len() >= KNOWN_MAX {
            self.entries.clear();
            self.generation = generation;
        }
        self.name.clear();
        for (place, part) in parts.iter().enumerate() {
            if place > 0 {
                self.name.push('\0');
            }
            self.name.push_str(part);
        }
        if !self.entries.contains_key(&self.name) {
            self.entries.insert(self.name.clone(), find(&self.name)?);
        }
        self.entries.get(&self.name)
    }

    /// Forgets the entry that was asked for last: the table has another one.
    pub fn forget(&mut self) {
        self.entries.remove(&self.name);
    }
}

/// A number for a table, which no other one has.
pub fn generation() -> u64 {
    static GENERATIONS: AtomicU64 = AtomicU64::new(1);
    GENERATIONS.fetch_add(1, Ordering::Relaxed)
}

const KNOWN_MAX: usize = 10_000;
