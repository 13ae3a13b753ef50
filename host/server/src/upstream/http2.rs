//! One worker's HTTP/2 connections to one target: shared by requests, with another one where all are full.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::Counters;
use super::http1::{Answer, BUFFER_MAX};
use super::pool::{NoConnection, Place, Room};
use crate::alarm::Alarm;
use crate::body::Body;
use crate::stream::{LocalExecutor, Stream};

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

    /// A connection with room for one more stream, or a new one from `open`, with `fresh` in any case; with it, whether it
    /// was used before.
    pub(super) async fn acquire<E>(
        self: &Rc<Self>,
        fresh: bool,
        deadline: Instant,
        open: impl Future<Output = Result<Stream, E>>,
        failed: impl FnOnce(hyper::Error) -> E,
    ) -> Result<(Rc<Http2>, bool), NoConnection<E>> {
        let place = loop {
            if !fresh && let Some(connection) = self.take_open() {
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
        let stream = open.await.map_err(NoConnection::Failed)?;
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

    /// A connection with room for one more stream.
    pub(super) fn take_open(&self) -> Option<Rc<Http2>> {
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
    ) -> (impl Future<Output = Answer> + use<>, OpenStream) {
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

const HEADER_LIST_MAX: u32 = 64 << 10;
/// 1 MiB a stream fills 800 Mbit/s at a round trip of 10 ms, which is a target's distance.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
