//! The bounds of a call and of an instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wasmtime::ResourceLimiter;

use crate::account::Account;

/// The bounds of one binding or function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time of one call, waiting included.
    pub deadline: Duration,
    /// Wall-clock time of making an instance and configuring it.
    pub start_deadline: Duration,
    /// Linear memory of one instance, in bytes, over all its memories.
    pub memory_bytes: u64,
    /// Instances of one worker thread; a call that finds none free is a [`crate::Fault::Busy`].
    pub instances_max: usize,
}

/// Instances of plugins and functions that this process holds, whoever holds them: those of bindings that no deployment has
/// any more would be seen here and in no account.
pub fn instances_live() -> u64 {
    LIVE.load(Ordering::Relaxed)
}

/// Rides in an instance's store, and so counts it for as long as its memory is there.
pub(crate) struct Alive(());

impl Alive {
    pub(crate) fn new() -> Self {
        LIVE.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

static LIVE: AtomicU64 = AtomicU64::new(0);

/// Keeps the memory and the tables of one store within bounds.
#[derive(Debug)]
pub(crate) struct Meter {
    account: Arc<Account>,
    memory_bytes_max: usize,
    memory_bytes: usize,
    /// A growth was refused: a trap that follows is the limit's doing.
    pub(crate) refused: bool,
}

impl Meter {
    pub(crate) fn new(memory_bytes_max: u64, account: Arc<Account>) -> Self {
        Self {
            account,
            memory_bytes_max: usize::try_from(memory_bytes_max).unwrap_or(usize::MAX),
            memory_bytes: 0,
            refused: false,
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.account.memory_was_freed(self.memory_bytes);
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self
            .memory_bytes
            .saturating_add(desired.saturating_sub(current));
        if total > self.memory_bytes_max {
            self.refused = true;
            return Ok(false);
        }
        self.account.memory_grew(total - self.memory_bytes);
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}

/// What the largest toolchain needs (CPython: 38 core instances, tables below this).
pub(crate) const TABLE_ELEMENTS_MAX: usize = 60_000;
