//! One worker's HTTP/1.1 connections to one target: a stack of idle ones, the last used on top.
//!
//! A connection puts itself back: the task that drives it sees first that a response has ended, and also that the server
//! has closed it. The same task has the connection's one timer, which stands for the deadline of the response as well as
//! for the idle time.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use tokio::time::Instant;
use tracing::debug;

use super::Counters;
use super::pool::{NoConnection, Place, Room};
use super::replay::{Recorder, SentHead};
use crate::alarm::Alarm;
use crate::body::Body;
use crate::stream::Stream;

/// The HTTP/1.1 connections to a target.
#[derive(Debug)]
pub(super) struct Http1Pool {
    idle: RefCell<Vec<Rc<Http1>>>,
    room: Rc<Room>,
    idle_timeout: Duration,
}

/// An HTTP/1.1 connection, with one request at a time.
#[derive(Debug)]
pub(super) struct Http1 {
    /// `None` once it is to be closed.
    sender: RefCell<Option<http1::SendRequest<Body>>>,
    state: Cell<State>,
    /// When the state was last set, until the driver has looked.
    moved: Cell<Option<Instant>>,
    /// Counts its requests.
    serial: Cell<u64>,
    sent: Rc<SentHead>,
    timed_out: Cell<bool>,
    /// How long it may be idle: the pool's time, or less where the server closes it sooner.
    idle_timeout: Cell<Duration>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Sending a request, or receiving its response: its header section until the deadline.
    Busy { deadline: Option<Instant> },
    /// In the pool.
    Idle { since: Instant },
}

impl Http1Pool {
    pub(super) fn new(
        connections_max: u32,
        idle_timeout: Duration,
        counters: Arc<Counters>,
    ) -> Rc<Self> {
        Rc::new(Self {
            idle: RefCell::default(),
            room: Room::new(connections_max, counters),
            idle_timeout,
        })
    }

    /// A connection when none is idle, or with `fresh` in any case: a new one from `open`, or one that became idle
    /// meanwhile; with it, whether it was used before.
    pub(super) async fn acquire<E>(
        self: &Rc<Self>,
        fresh: bool,
        deadline: Instant,
        open: impl Future<Output = Result<Stream, E>>,
    ) -> Result<(Rc<Http1>, bool), NoConnection<E>> {
        let place = loop {
            if let Some(place) = self.room.take() {
                break place;
            }
            if fresh && let Some(stale) = self.take_idle() {
                stale.close(); // its place is free a moment later
            }
            if !self.room.wait(deadline).await {
                return Err(NoConnection::LimitReached);
            }
            if !fresh && let Some(connection) = self.take_idle() {
                return Ok((connection, true));
            }
        };
        let stream = open.await.map_err(NoConnection::Failed)?;
        Ok((self.adopt(stream, place).await, false))
    }

    /// The connection that was used last, if it is still open.
    pub(super) fn take_idle(&self) -> Option<Rc<Http1>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(connection) = idle.pop() {
            self.count_idle(idle.len());
            if !connection.is_ready() {
                continue;
            }
            if connection.idle_timeout.get() < self.idle_timeout && connection.is_overdue() {
                connection.close();
                continue;
            }
            return Some(connection);
        }
        None
    }

    async fn adopt(self: &Rc<Self>, stream: Stream, place: Place) -> Rc<Http1> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BUFFER_MAX);
        let sent = Rc::new(SentHead::default());
        let (sender, driven) = builder
            .handshake(Recorder::new(stream, sent.clone()))
            .await
            .expect("a handshake of HTTP/1.1 sends nothing and cannot fail");
        let connection = Rc::new(Http1 {
            sender: RefCell::new(Some(sender)),
            state: Cell::new(State::Busy { deadline: None }),
            moved: Cell::new(None),
            serial: Cell::new(0),
            sent,
            timed_out: Cell::new(false),
            idle_timeout: Cell::new(self.idle_timeout),
        });
        let mut driver = Driver {
            driven,
            connection: connection.clone(),
            pool: Rc::downgrade(self),
            alarm: Alarm::default(),
        };
        // Ends with the connection, which ends when its pool is dropped and its response has ended.
        tokio::task::spawn_local(async move {
            let _place = place;
            poll_fn(|cx| driver.poll(cx)).await;
        });
        connection
    }

    fn put_back(&self, connection: Rc<Http1>) {
        let mut idle = self.idle.borrow_mut();
        idle.push(connection);
        self.count_idle(idle.len());
        self.room.freed();
    }

    fn remove(&self, connection: &Rc<Http1>) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|other| !Rc::ptr_eq(other, connection));
        self.count_idle(idle.len());
    }

    fn count_idle(&self, len: usize) {
        self.room
            .counters
            .idle
            .store(u32::try_from(len).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}

impl Drop for Http1Pool {
    fn drop(&mut self) {
        for connection in self.idle.borrow_mut().drain(..) {
            connection.close();
        }
        self.count_idle(0);
    }
}

impl Http1 {
    /// Sends the request, taking it from its place, at `now`, whose response must begin by `deadline`. With `keep`, what is sent of it is kept for
    /// [`Http1::sent`]. The number is for [`Http1::responded`].
    pub(super) fn send(
        &self,
        request: &mut Option<http::Request<Body>>,
        now: Instant,
        deadline: Instant,
        keep: bool,
    ) -> (u64, Option<impl Future<Output = Answer> + use<>>) {
        let serial = self.serial.get() + 1;
        self.serial.set(serial);
        self.state.set(State::Busy {
            deadline: Some(deadline),
        });
        self.moved.set(Some(now));
        self.sent.begin(keep);
        let mut sender = self.sender.borrow_mut();
        let sending = match (sender.as_mut(), request.take()) {
            (Some(sender), Some(request)) => Some(sender.try_send_request(request)),
            _ => None,
        };
        (serial, sending)
    }

    /// The response of that request has begun, so its deadline is met. By now the connection may already be serving another.
    pub(super) fn responded(&self, serial: u64, headers: &HeaderMap) {
        if serial == 1
            && let Some(kept) = kept_by_server(headers)
        {
            self.idle_timeout.set(self.idle_timeout.get().min(kept));
        }
        if self.serial.get() == serial && matches!(self.state.get(), State::Busy { .. }) {
            self.state.set(State::Busy { deadline: None });
        }
    }

    /// The last request, if it was to be kept and has been written.
    pub(super) fn sent(&self) -> Option<http::Request<Body>> {
        self.sent.request()
    }

    /// Whether it was closed since the response did not begin in time.
    pub(super) fn timed_out(&self) -> bool {
        self.timed_out.get()
    }

    fn is_ready(&self) -> bool {
        let sender = self.sender.borrow();
        sender.as_ref().is_some_and(http1::SendRequest::is_ready)
    }

    /// Whether it is idle for so long that the server may be closing it. The driver's timer does not see to that: it may
    /// have been set before the server's time was known.
    fn is_overdue(&self) -> bool {
        matches!(self.state.get(), State::Idle { since } if since.elapsed() >= self.idle_timeout.get())
    }

    fn close(&self) {
        self.sender.borrow_mut().take();
    }
}

/// What comes of a request.
pub(super) type Answer = Result<http::Response<Incoming>, TrySendError<http::Request<Body>>>;

/// Drives one HTTP/1.1 connection.
struct Driver {
    driven: http1::Connection<Recorder, Body>,
    connection: Rc<Http1>,
    pool: Weak<Http1Pool>,
    alarm: Alarm,
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(result) = Pin::new(&mut self.driven).poll(cx) {
            if let Err(error) = result {
                debug!(%error, "connection to a target ended");
            }
            self.leave();
            return Poll::Ready(());
        }
        if let State::Busy { .. } = self.connection.state.get()
            && self.connection.is_ready()
        {
            self.rest();
        }
        let deadline = match self.connection.state.get() {
            State::Busy { deadline } => deadline,
            State::Idle { since } => Some(since + self.connection.idle_timeout.get()),
        };
        if let (Some(now), Some(deadline)) = (self.connection.moved.take(), deadline)
            && now < deadline
        {
            self.alarm.set(cx, now, deadline);
            return Poll::Pending;
        }
        self.alarm.poll(cx, deadline).map(|()| {
            self.connection
                .timed_out
                .set(matches!(self.connection.state.get(), State::Busy { .. }));
            self.leave();
        })
    }

    /// The response has ended, and another request may come.
    fn rest(&self) {
        match self.pool.upgrade() {
            Some(pool) => {
                let since = Instant::now();
                self.connection.state.set(State::Idle { since });
                self.connection.moved.set(Some(since));
                pool.put_back(self.connection.clone());
            }
            None => self.connection.close(), // hyper then ends the connection and wakes us
        }
    }

    fn leave(&self) {
        self.connection.close();
        if let State::Idle { .. } = self.connection.state.get()
            && let Some(pool) = self.pool.upgrade()
        {
            pool.remove(&self.connection);
        }
    }
}

/// For how long a server that says `Keep-Alive: timeout=5` may be trusted to keep an idle connection: a second less, in
/// which a request can reach it, or half the time where it is shorter than two. Servers say the same in each response, so
/// the first one's is enough.
///
/// Source: RFC 2068 §19.7.1.1 for the field, draft-thomson-hybi-http-timeout-03 §2 for the parameter.
fn kept_by_server(headers: &HeaderMap) -> Option<Duration> {
    let parameters = headers.get(&KEEP_ALIVE)?.to_str().ok()?.split(',');
    let seconds = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_timeout = name.trim().eq_ignore_ascii_case("timeout");
        let value = value.trim().trim_matches('"');
        is_timeout.then(|| value.parse::<u32>().ok()).flatten()
    });
    let kept = Duration::from_secs(seconds.min()?.into());
    Some(kept.saturating_sub(MARGIN).max(kept / 2))
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const MARGIN: Duration = Duration::from_secs(1);

/// What hyper may hold of a response on its way: also the bound on its header section.
pub(super) const BUFFER_MAX: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_trusted_for_less_than_it_says() {
        let cases = [
            ("timeout=5", Some(4000)),
            ("Timeout = \"60\" , max=100", Some(59_000)),
            ("max=7,timeout=3", Some(2000)),
            ("timeout=2", Some(1000)),
            ("timeout=1", Some(500)),
            ("timeout=0", Some(0)),
            ("timeout=9, timeout=4", Some(3000)),
            ("timeout=-1", None),
            ("timeout=1e9", None),
            ("max=5", None),
            ("timeout", None),
            ("", None),
        ];
        for (value, expected) in cases {
            let headers = HeaderMap::from_iter([(KEEP_ALIVE, value.parse().unwrap())]);
            let expected = expected.map(Duration::from_millis);
            assert_eq!(kept_by_server(&headers), expected, "{value:?}");
        }
        assert_eq!(kept_by_server(&HeaderMap::new()), None);
    }
}
