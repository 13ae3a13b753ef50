//! The whole shutdown story.
//!
//! A [`Trigger`] (SIGTERM) tells all worker threads through its [`Signal`]. Each has a [`Drain`], of which every
//! connection holds a [`Watcher`]. When the trigger is pulled, accept loops stop, HTTP/1.1 connections end with the
//! response in hand (`Connection: close`), HTTP/2 connections send GOAWAY. A worker is done when its last watcher is
//! dropped, or when the deadline has passed; what is left then is cut off.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Starts the shutdown of a node.
#[derive(Debug)]
pub struct Trigger(watch::Sender<Option<Instant>>);

/// Tells one worker thread when the shutdown starts.
#[derive(Debug, Clone)]
pub struct Signal(watch::Receiver<Option<Instant>>);

/// A trigger and the signal that its worker threads clone.
pub fn channel() -> (Trigger, Signal) {
    let (sender, receiver) = watch::channel(None);
    (Trigger(sender), Signal(receiver))
}

impl Trigger {
    /// Starts the shutdown: connections have `within` to finish. A second call changes nothing.
    pub fn pull(&self, within: Duration) {
        self.0.send_if_modified(|deadline| {
            let first = deadline.is_none();
            deadline.get_or_insert_with(|| Instant::now() + within);
            first
        });
    }
}

impl Signal {
    /// Waits for the trigger, and returns the deadline. A dropped trigger counts as pulled, with no time left.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn pulled(&mut self) -> Instant {
        match self.0.wait_for(Option::is_some).await {
            Ok(deadline) => deadline.expect("waited for a deadline"),
            Err(_) => Instant::now(),
        }
    }

    /// Whether the shutdown has started.
    pub fn is_pulled(&self) -> bool {
        self.0.borrow().is_some()
    }
}

/// How a worker's shutdown ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All connections finished.
    Clean,
    /// The deadline passed with this many connections open.
    Cut { connections: usize },
}

/// One worker thread's part of the shutdown.
#[derive(Debug)]
pub struct Drain {
    draining: Cell<bool>,
    watchers: RefCell<Watchers>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Watchers {
    next: u64,
    wakers: BTreeMap<u64, Option<Waker>>,
}

impl Drain {
    /// Not draining, without watchers.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            draining: Cell::new(false),
            watchers: RefCell::default(),
            changed: Notify::new(),
        })
    }

    /// Waits for the signal, lets the connections finish, and returns when they have or the deadline has passed.
    pub async fn run(self: &Rc<Self>, mut signal: Signal) -> Outcome {
        let deadline = signal.pulled().await;
        self.start();
        match tokio::time::timeout_at(deadline, self.idle()).await {
            Ok(()) => Outcome::Clean,
            Err(_) => Outcome::Cut {
                connections: self.watchers(),
            },
        }
    }

    /// Starts draining: wakes all watchers.
    pub fn start(&self) {
        self.draining.set(true);
        for waker in self
            .watchers
            .borrow_mut()
            .wakers
            .values_mut()
            .filter_map(Option::take)
        {
            waker.wake();
        }
        self.changed.notify_waiters();
    }

    /// A new watcher, which holds up the shutdown until it is dropped.
    pub fn watch(self: &Rc<Self>) -> Watcher {
        let mut watchers = self.watchers.borrow_mut();
        let id = watchers.next;
        watchers.next += 1;
        watchers.wakers.insert(id, None);
        Watcher {
            drain: self.clone(),
            id,
            registered: false,
        }
    }

    /// Watchers that are held.
    pub fn watchers(&self) -> usize {
        self.watchers.borrow().wakers.len()
    }

    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    async fn idle(&self) {
        loop {
            let changed = self.changed.notified();
            if self.watchers() == 0 {
                return;
            }
            changed.await;
        }
    }
}

/// Held by what must finish before the worker ends: an accept loop, a connection.
#[derive(Debug)]
pub struct Watcher {
    drain: Rc<Drain>,
    id: u64,
    registered: bool,
}

impl Watcher {
    /// Ready once the shutdown has started; else wakes the task when it does. Costs a look at a flag after the first call,
    /// so it must always be polled by the same task.
    pub fn poll_draining(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.drain.draining.get() {
            return Poll::Ready(());
        }
        if !self.registered {
            self.registered = true;
            self.drain
                .watchers
                .borrow_mut()
                .wakers
                .insert(self.id, Some(cx.waker().clone()));
        }
        Poll::Pending
    }

    /// What it watches.
    pub fn drain(&self) -> &Rc<Drain> {
        &self.drain
    }

    /// Waits for the start of the shutdown.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn draining(&mut self) {
        std::future::poll_fn(|cx| self.poll_draining(cx)).await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watchers = self.drain.watchers.borrow_mut();
        watchers.wakers.remove(&self.id);
        let last = watchers.wakers.is_empty();
        drop(watchers);
        if last {
            self.drain.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn it_ends_when_the_last_watcher_is_dropped() {
        let (trigger, signal) = channel();
        let drain = Drain::new();
        let mut watchers = [drain.watch(), drain.watch()];
        let running = tokio::task::spawn_local({
            let drain = drain.clone();
            async move { drain.run(signal).await }
        });
        trigger.pull(Duration::from_secs(30));
        for watcher in &mut watchers {
            watcher.draining().await;
        }
        assert!(drain.is_draining() && !running.is_finished());
        drop(watchers);
        let started = Instant::now();
        assert_eq!(running.await.unwrap(), Outcome::Clean);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn it_ends_at_the_deadline_of_the_first_trigger() {
        let (trigger, signal) = channel();
        let drain = Drain::new();
        let _watcher = drain.watch();
        let started = Instant::now();
        trigger.pull(Duration::from_secs(30));
        trigger.pull(Duration::from_secs(90));
        assert_eq!(drain.run(signal).await, Outcome::Cut { connections: 1 });
        assert_eq!(started.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn a_lost_trigger_leaves_no_time() {
        let (trigger, signal) = channel();
        let drain = Drain::new();
        let _watcher = drain.watch();
        drop(trigger);
        assert_eq!(drain.run(signal).await, Outcome::Cut { connections: 1 });
    }
}
