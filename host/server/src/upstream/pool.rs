//! One worker's connections to one target.
//!
//! HTTP/1.1: a stack of idle connections, the last used on top. A connection puts itself back: the task that drives it
//! sees first that a response has ended, and also that the server has closed it. The same task has the connection's one
//! timer, which stands for the deadline of the response as well as for the idle time.
//! HTTP/2: connections are shared, and another one is opened where all are full.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::Counters;
use crate::alarm::Alarm;
use crate::body::Body;
use crate::stream::{LocalExecutor, Stream};

/// How many connections a pool may have open, and who waits for one.
#[derive(Debug)]
pub(super) struct Room {
    counters: Arc<Counters>,
    connections_max: u32,
    waiting: Cell<u32>,
    freed: Notify,
}

/// A connection's place in its pool, from before it is opened until it is closed.
#[derive(Debug)]
struct Place(Rc<Room>);

impl Room {
    fn new(connections_max: u32, counters: Arc<Counters>) -> Rc<Self> {
        Rc::new(Self {
            counters,
            connections_max,
            waiting: Cell::new(0),
            freed: Notify::new(),
        })
    }

    fn take(self: &Rc<Self>) -> Option<Place> {
        let open = self.counters.open.load(Ordering::Relaxed);
        (open < self.connections_max).then(|| {
            self.counters.open.store(open + 1, Ordering::Relaxed);
            Place(self.clone())
        })
    }

    /// Waits until a connection is put back or closed; `false` at the deadline, or when too many wait already.
    async fn wait(&self, deadline: Instant) -> bool {
        if self.waiting.get() >= self.connections_max {
            return false;
        }
        let _waiting = Waiting::begin(&self.waiting);
        timeout_at(deadline, self.freed.notified()).await.is_ok()
    }

    fn freed(&self) {
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
    /// Counts its requests.
    serial: Cell<u64>,
    timed_out: Cell<bool>,
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

    /// An idle connection, or a new one from `open`; with it, whether it was used before. With `fresh` always a new one.
    pub(super) async fn acquire<E>(
        self: &Rc<Self>,
        fresh: bool,
        deadline: Instant,
        open: impl AsyncFnOnce() -> Result<Stream, E>,
    ) -> Result<(Rc<Http1>, bool), NoConnection<E>> {
        let place = loop {
            if !fresh && let Some(connection) = self.take_idle() {
                return Ok((connection, true));
            }
            if let Some(place) = self.room.take() {
                break place;
            }
            if let Some(stale) = self.take_idle() {
                stale.close(); // its place is free a moment later
            }
            if !self.room.wait(deadline).await {
                return Err(NoConnection::LimitReached);
            }
        };
        let stream = open().await.map_err(NoConnection::Failed)?;
        Ok((self.adopt(stream, place).await, false))
    }

    fn take_idle(&self) -> Option<Rc<Http1>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(connection) = idle.pop() {
            self.count_idle(idle.len());
            if connection
                .sender
                .borrow()
                .as_ref()
                .is_some_and(http1::SendRequest::is_ready)
            {
                return Some(connection);
            }
        }
        None
    }

    async fn adopt(self: &Rc<Self>, stream: Stream, place: Place) -> Rc<Http1> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BUFFER_MAX);
        let (sender, driven) = builder
            .handshake(TokioIo::new(stream))
            .await
            .expect("a handshake of HTTP/1.1 sends nothing and cannot fail");
        let connection = Rc::new(Http1 {
            sender: RefCell::new(Some(sender)),
            state: Cell::new(State::Busy { deadline: None }),
            serial: Cell::new(0),
            timed_out: Cell::new(false),
        });
        let mut driver = Driver {
            driven,
            connection: connection.clone(),
            pool: Rc::downgrade(self),
            idle_timeout: self.idle_timeout,
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
    /// Sends a request, whose response must begin by `deadline`; the number is for [`Http1::responded`].
    #[allow(clippy::type_complexity)]
    pub(super) fn send(
        &self,
        request: http::Request<Body>,
        deadline: Instant,
    ) -> (
        u64,
        Option<
            impl Future<Output = Result<http::Response<hyper::body::Incoming>, TrySendError>> + use<>,
        >,
    ) {
        let serial = self.serial.get() + 1;
        self.serial.set(serial);
        self.state.set(State::Busy {
            deadline: Some(deadline),
        });
        let sending = self
            .sender
            .borrow_mut()
            .as_mut()
            .map(|sender| sender.try_send_request(request));
        (serial, sending)
    }

    /// The response of that request has begun, so its deadline is met. By now the connection may already be serving another.
    pub(super) fn responded(&self, serial: u64) {
        if self.serial.get() == serial && matches!(self.state.get(), State::Busy { .. }) {
            self.state.set(State::Busy { deadline: None });
        }
    }

    /// Whether it was closed since the response did not begin in time.
    pub(super) fn timed_out(&self) -> bool {
        self.timed_out.get()
    }

    fn close(&self) {
        self.sender.borrow_mut().take();
    }
}

pub(super) type TrySendError = hyper::client::conn::TrySendError<http::Request<Body>>;

/// Drives one HTTP/1.1 connection.
struct Driver {
    driven: http1::Connection<TokioIo<Stream>, Body>,
    connection: Rc<Http1>,
    pool: Weak<Http1Pool>,
    idle_timeout: Duration,
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
            && self
                .connection
                .sender
                .borrow()
                .as_ref()
                .is_some_and(http1::SendRequest::is_ready)
        {
            self.rest();
        }
        let deadline = match self.connection.state.get() {
            State::Busy { deadline } => deadline,
            State::Idle { since } => Some(since + self.idle_timeout),
        };
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
                self.connection.state.set(State::Idle {
                    since: Instant::now(),
                });
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

/// The HTTP/2 connections to a target.
#[derive(Debug)]
pub(super) struct Http2Pool {
    connections: RefCell<Vec<Rc<Http2>>>,
    /// One connection is being opened; the rest of the requests wait for it.
    opening: Cell<bool>,
    opened: Notify,
    room: Rc<Room>,
    idle_timeout: Duration,
}

/// An HTTP/2 connection, with many requests at a time.
#[derive(Debug)]
pub(super) struct Http2 {
    sender: http2::SendRequest<Body>,
    streams: Arc<AtomicU32>,
    /// As the server's settings say.
    streams_max: Cell<usize>,
    used: Cell<Instant>,
}

impl Http2Pool {
    pub(super) fn new(
        connections_max: u32,
        idle_timeout: Duration,
        counters: Arc<Counters>,
    ) -> Rc<Self> {
        Rc::new(Self {
            connections: RefCell::default(),
            opening: Cell::new(false),
            opened: Notify::new(),
            room: Room::new(connections_max, counters),
            idle_timeout,
        })
    }

    /// A connection with room for one more stream, or a new one from `open`; with it, whether it was used before.
    pub(super) async fn acquire<E>(
        self: &Rc<Self>,
        fresh: bool,
        deadline: Instant,
        open: impl AsyncFnOnce() -> Result<Stream, E>,
        failed: impl FnOnce(hyper::Error) -> E,
    ) -> Result<(Rc<Http2>, bool), NoConnection<E>> {
        let place = loop {
            if !fresh && let Some(connection) = self.open_connection() {
                return Ok((connection, true));
            }
            if self.opening.get() {
                if timeout_at(deadline, self.opened.notified()).await.is_err() {
                    return Err(NoConnection::LimitReached);
                }
                continue;
            }
            match self.room.take() {
                Some(place) => break place,
                None if self.room.wait(deadline).await => {}
                None => return Err(NoConnection::LimitReached),
            }
        };
        let _opening = Opening::begin(self);
        let stream = open().await.map_err(NoConnection::Failed)?;
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(BUFFER_MAX)
            .max_header_list_size(HEADER_LIST_MAX)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let (sender, driven) = builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| NoConnection::Failed(failed(error)))?;
        let connection = Rc::new(Http2 {
            sender,
            streams: Arc::new(AtomicU32::new(0)),
            streams_max: Cell::new(driven.current_max_send_streams()),
            used: Cell::new(Instant::now()),
        });
        self.connections.borrow_mut().push(connection.clone());
        tokio::task::spawn_local(drive_http2(
            driven,
            connection.clone(),
            Rc::downgrade(self),
            self.idle_timeout,
            place,
        ));
        Ok((connection, false))
    }

    fn open_connection(&self) -> Option<Rc<Http2>> {
        let connections = self.connections.borrow();
        let fits = |connection: &&Rc<Http2>| {
            !connection.sender.is_closed()
                && (connection.streams.load(Ordering::Relaxed) as usize)
                    < connection.streams_max.get()
        };
        connections.iter().find(fits).cloned()
    }
}

impl Http2 {
    /// Sends a request; the stream counts as open while the second result is held.
    pub(super) fn send(
        &self,
        request: http::Request<Body>,
    ) -> (
        impl Future<Output = Result<http::Response<hyper::body::Incoming>, TrySendError>> + use<>,
        OpenStream,
    ) {
        self.used.set(Instant::now());
        self.streams.fetch_add(1, Ordering::Relaxed);
        (
            self.sender.clone().try_send_request(request),
            OpenStream(self.streams.clone()),
        )
    }
}

/// A stream of an HTTP/2 connection, until its response has ended.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<AtomicU32>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Opening<'a>(&'a Http2Pool);

impl<'a> Opening<'a> {
    fn begin(pool: &'a Http2Pool) -> Self {
        pool.opening.set(true);
        Self(pool)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.set(false);
        self.0.opened.notify_waiters();
    }
}

async fn drive_http2(
    mut driven: http2::Connection<TokioIo<Stream>, Body, LocalExecutor>,
    connection: Rc<Http2>,
    pool: Weak<Http2Pool>,
    idle_timeout: Duration,
    _place: Place,
) {
    let mut alarm = Alarm::default();
    let mut looked = Instant::now();
    poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut driven).poll(cx) {
            if let Err(error) = result {
                debug!(%error, "connection to a target ended");
            }
            return Poll::Ready(());
        }
        connection
            .streams_max
            .set(driven.current_max_send_streams());
        while alarm.poll(cx, Some(looked + idle_timeout)).is_ready() {
            let unused =
                connection.streams.load(Ordering::Relaxed) == 0 && connection.used.get() <= looked;
            if unused || pool.strong_count() == 0 {
                return Poll::Ready(());
            }
            looked = Instant::now();
        }
        Poll::Pending
    })
    .await;
    if let Some(pool) = pool.upgrade() {
        pool.connections
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, &connection));
    }
}

/// What hyper may hold of a response on its way: also the bound on its header section.
const BUFFER_MAX: usize = 128 << 10;
const HEADER_LIST_MAX: u32 = 64 << 10;
/// 1 MiB a stream fills 800 Mbit/s at a round trip of 10 ms, which is a target's distance.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
