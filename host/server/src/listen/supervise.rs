//! When a viewer's connection has been waited for long enough.
//!
//! The transport and the requests leave marks in [`Activity`]; [`Supervisor`] reads them each time the connection has
//! nothing more to do, and stamps the time then. So a request costs one look at the clock, and no timer.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::Settings;
use crate::alarm::Alarm;

/// What a connection is doing.
#[derive(Debug)]
pub(super) struct Activity {
    requests: Cell<u32>,
    /// A header section is being read: bytes came, or the connection is new.
    head: Cell<bool>,
    /// The viewer takes no more bytes for now.
    blocked: Cell<bool>,
    /// Something has happened since the supervisor looked.
    moved: Cell<bool>,
    bytes_came: Cell<bool>,
    http1: bool,
}

impl Activity {
    pub(super) fn new(http1: bool) -> Rc<Self> {
        Rc::new(Self {
            requests: Cell::new(0),
            head: Cell::new(true),
            blocked: Cell::new(false),
            moved: Cell::new(true),
            bytes_came: Cell::new(false),
            http1,
        })
    }

    /// Bytes came, or the end of them.
    pub(super) fn read(&self) {
        self.bytes_came.set(true);
        // On HTTP/2, what comes outside of requests are settings and pings, which say nothing of a request.
        if self.http1 && self.requests.get() == 0 && !self.head.get() {
            self.head.set(true);
            self.moved.set(true);
        }
    }

    /// A write was taken, or not for now.
    pub(super) fn wrote(&self, taken: bool) {
        if taken == self.blocked.get() {
            self.blocked.set(!taken);
            self.moved.set(true);
        }
    }

    /// The header section of a request is complete; the guard is held until its response is.
    pub(super) fn begin(self: &Rc<Self>) -> InFlight {
        self.requests.set(self.requests.get() + 1);
        self.head.set(false);
        self.moved.set(true);
        InFlight(self.clone())
    }

    /// Whether bytes of a request have come that is not yet served.
    pub(super) fn reads_head(&self) -> bool {
        self.head.get() && self.bytes_came.get()
    }

    fn phase(&self) -> Phase {
        if self.blocked.get() {
            Phase::Blocked
        } else if self.requests.get() > 0 {
            Phase::Serving
        } else if self.head.get() {
            Phase::Head
        } else {
            Phase::Idle
        }
    }
}

/// A request that is being served.
#[derive(Debug)]
pub(super) struct InFlight(Rc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
        self.0.moved.set(true);
    }
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// For the rest of a header section.
    Head,
    /// For its service; the time is the service's to bound.
    Serving,
    /// For the viewer to take bytes.
    Blocked,
    /// For the next request.
    Idle,
}

/// Watches over the time of one connection.
pub(super) struct Supervisor {
    activity: Rc<Activity>,
    settings: Rc<Settings>,
    alarm: Alarm,
    phase: Phase,
    since: Instant,
    draining: bool,
}

impl Supervisor {
    pub(super) fn new(activity: Rc<Activity>, settings: Rc<Settings>) -> Self {
        Self {
            activity,
            settings,
            alarm: Alarm::default(),
            phase: Phase::Head,
            since: Instant::now(),
            draining: false,
        }
    }

    /// Called when the connection has nothing more to do: ready with what has been waited for too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, draining: bool) -> Poll<Phase> {
        let drain_starts = draining && !std::mem::replace(&mut self.draining, draining);
        let moved = self.activity.moved.replace(false) || drain_starts;
        if moved {
            self.phase = self.activity.phase();
        }
        let allowed = match self.phase {
            Phase::Serving => return Poll::Pending,
            Phase::Blocked => self.settings.write_timeout,
            Phase::Head | Phase::Idle if draining && !self.activity.reads_head() => {
                self.settings.drain_idle
            }
            Phase::Head => self.settings.header_timeout,
            Phase::Idle => self.settings.keep_alive_timeout,
        };
        if moved && !allowed.is_zero() {
            self.since = Instant::now();
            self.alarm.set(cx, self.since, self.since + allowed);
            return Poll::Pending;
        }
        self.alarm
            .poll(cx, Some(self.since + allowed))
            .map(|()| self.phase)
    }
}
