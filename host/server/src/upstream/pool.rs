//! How many connections one worker may have to one target, and who waits for one.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::Counters;

/// The room for one pool's connections.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) counters: Arc<Counters>,
    connections_max: u32,
    waiting: Cell<u32>,
    freed: Notify,
}

/// A connection's place in its pool, from before it is opened until it is closed.
#[derive(Debug)]
pub(super) struct Place(Rc<Room>);

impl Room {
    pub(super) fn new(connections_max: u32, counters: Arc<Counters>) -> Rc<Self> {
        Rc::new(Self {
            counters,
            connections_max,
            waiting: Cell::new(0),
            freed: Notify::new(),
        })
    }

    pub(super) fn take(self: &Rc<Self>) -> Option<Place> {
        let open = self.counters.open.load(Ordering::Relaxed);
        (open < self.connections_max).then(|| {
            self.counters.open.store(open + 1, Ordering::Relaxed);
            Place(self.clone())
        })
    }

    /// Waits until a connection is put back or closed; `false` at the deadline, or when too many wait already.
    pub(super) async fn wait(&self, deadline: Instant) -> bool {
        if self.waiting.get() >= self.connections_max {
            return false;
        }
        let _waiting = Waiting::begin(&self.waiting);
        timeout_at(deadline, self.freed.notified()).await.is_ok()
    }

    pub(super) fn freed(&self) {
        if self.waiting.get() > 0 {
            self.freed.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let open = &self.0.counters.open;
        open.store(open.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        self.0.freed();
    }
}

struct Waiting<'a>(&'a Cell<u32>);

impl<'a> Waiting<'a> {
    fn begin(count: &'a Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Why there is no connection.
pub(super) enum NoConnection<E> {
    /// All are in use, and none became free in time.
    LimitReached,
    Failed(E),
}
