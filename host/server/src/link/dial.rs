//! One thread's connections to the origins: kept open, measured, made again, and chosen from.
//!
//! Each origin has one connection for each thread: HTTP/3 over QUIC, or HTTP/2 over TCP where UDP does not pass. Both speak
//! the same requests, so nothing above here knows which it is.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use h3::error::StreamError;
use http::{Method, Request, Response, StatusCode};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use quinn::VarInt;
use rustls_pki_types::ServerName;
use smallvec::SmallVec;
use tidegate_model::balance::nearest_first;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::h3::{Sending, Upload, length, received, split_request};
use super::origins::{Open, Origin, Origins, Transport};
use super::{LinkError, quic, told};
use crate::body::Body;
use crate::identity::ORIGIN_NAME;
use crate::stream::{LocalExecutor, Stream};

/// One thread's way to the origins.
pub struct Dialer {
    pub origins: Arc<Origins>,
    dialed: Vec<Rc<Dialed>>,
    changed: Rc<Notify>,
    /// Keeps the connections; ends with this.
    _keeping: JoinSet<()>,
}

/// An origin, with this thread's connection to it.
struct Dialed {
    origin: Arc<Origin>,
    connection: RefCell<Option<Rc<Connection>>>,
    changed: Rc<Notify>,
}

/// A connection to an origin.
struct Connection {
    carrier: Carrier,
    /// Requests are still sent as early data, which an attacker can send again: only what is safe goes out so.
    early: Cell<bool>,
    confirmed: Notify,
    open: Open,
}

enum Carrier {
    Quic {
        sender: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
        connection: quinn::Connection,
    },
    Tcp {
        sender: http2::SendRequest<Body>,
    },
}

impl Dialer {
    /// Starts to connect to all origins; needs a `LocalSet`.
    pub fn start(origins: Arc<Origins>) -> Rc<Self> {
        let changed = Rc::new(Notify::new());
        let dialed: Vec<Rc<Dialed>> = origins
            .list
            .iter()
            .map(|origin| {
                Rc::new(Dialed {
                    origin: origin.clone(),
                    connection: RefCell::default(),
                    changed: changed.clone(),
                })
            })
            .collect();
        let mut keeping = JoinSet::new();
        for one in &dialed {
            keeping.spawn_local(one.clone().keep(origins.clone()));
        }
        Rc::new(Self {
            origins,
            dialed,
            changed,
            _keeping: keeping,
        })
    }

    /// Sends a request that was decided by the snapshot of that `sequence` to the nearest origin that is well, and to
    /// another one where that fails and a second attempt is safe: nothing was sent, or nothing was done there, or the method
    /// is idempotent; and the body is at hand. `deadline` is for the response's head.
    ///
    /// # Errors
    /// Why the last attempt failed.
    ///
    /// # Cancel safety
    /// Dropped, it gives the request up.
    pub async fn send(
        &self,
        request: Request<Body>,
        sequence: u64,
        deadline: Instant,
    ) -> Result<Response<Body>, LinkError> {
        let mut request = request;
        let mut tried: SmallVec<[usize; 4]> = SmallVec::new();
        let mut last = None;
        let mut rounds = 1;
        loop {
            let Some((place, connection)) = self.choose(sequence, &tried, deadline).await else {
                // All were tried: once more, on connections that have been made anew since.
                if last.is_some() && rounds < ROUNDS_MAX {
                    rounds += 1;
                    tried.clear();
                    continue;
                }
                return Err(last.unwrap_or(LinkError::Unreachable));
            };
            tried.push(place);
            let again = self.copy_of(&request);
            let repeats = request.method().is_idempotent();
            let origin = &self.dialed[place].origin;
            let (error, next) = match timeout_at(deadline, connection.send(request)).await {
                // It has done nothing.
                Ok(Ok(response)) if told::is_other_snapshot(&response) => {
                    (LinkError::OtherSnapshot, again)
                }
                Ok(Ok(response)) => {
                    self.origins.count(origin, true);
                    return Ok(response);
                }
                Ok(Err(Failed::NotSent(error, request))) => (error, Some(*request)),
                Ok(Err(Failed::Sent(error))) => (error, again.filter(|_| repeats)),
                Err(_) => (LinkError::Timeout, None),
            };
            self.origins
                .count(origin, matches!(error, LinkError::OtherSnapshot));
            tracing::debug!(origin = origin.address, %error, "link: request failed");
            match next {
                Some(next) => request = next,
                None => return Err(error),
            }
            last = Some(error);
        }
    }

    /// Sends a request to one origin, and to no other.
    ///
    /// # Errors
    /// As [`Self::send`]; unreachable as well where it is not connected.
    pub async fn send_to(
        &self,
        place: usize,
        request: Request<Body>,
        deadline: Instant,
    ) -> Result<Response<Body>, LinkError> {
        let connection = self.dialed[place].current().ok_or(LinkError::Unreachable)?;
        match timeout_at(deadline, connection.send(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(Failed::NotSent(error, _) | Failed::Sent(error))) => Err(error),
            Err(_) => Err(LinkError::Timeout),
        }
    }

    /// Whether an origin is connected.
    pub fn is_connected(&self, place: usize) -> bool {
        self.dialed[place].current().is_some()
    }

    /// Waits until an origin is connected.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn connected(&self, place: usize) {
        loop {
            let changed = self.changed.notified();
            if self.dialed[place].current().is_some() {
                return;
            }
            changed.await;
        }
    }

    /// The nearest connection that was not tried, to an origin that serves by the request's snapshot; where there is none at
    /// all, waits a moment for one.
    async fn choose(
        &self,
        sequence: u64,
        tried: &[usize],
        deadline: Instant,
    ) -> Option<(usize, Rc<Connection>)> {
        let patience = deadline.min(Instant::now() + WAIT_MAX);
        loop {
            let changed = self.changed.notified();
            let adopted = self.origins.adopted.notified();
            let open = self
                .dialed
                .iter()
                .enumerate()
                .filter_map(|(place, dialed)| {
                    let connection = dialed.current().filter(|_| !tried.contains(&place))?;
                    if !dialed.origin.has_reached(sequence) {
                        return None;
                    }
                    Some((self.origins.nearness(&dialed.origin), place, connection))
                });
            if let Some((_, place, connection)) = nearest_first(open) {
                return Some((place, connection));
            }
            if !tried.is_empty() {
                return None;
            }
            tokio::select! {
                () = changed => {}
                () = adopted => {}
                () = tokio::time::sleep_until(patience) => return None,
            }
        }
    }

    /// The same request once more, where there can be a second attempt: the body is at hand, and either the method is
    /// idempotent or another origin may take what the first did nothing about.
    fn copy_of(&self, request: &Request<Body>) -> Option<Request<Body>> {
        let body = match request.body() {
            Body::Empty => Body::Empty,
            Body::Full(content) => Body::Full(content.clone()),
            _ => return None,
        };
        if self.dialed.len() == 1 && !request.method().is_idempotent() {
            return None;
        }
        let mut again = Request::new(body);
        *again.method_mut() = request.method().clone();
        *again.uri_mut() = request.uri().clone();
        *again.headers_mut() = request.headers().clone();
        Some(again)
    }
}

/// Why a request has no response.
enum Failed {
    /// It did not leave; here it is.
    NotSent(LinkError, Box<Request<Body>>),
    Sent(LinkError),
}

impl Connection {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Failed> {
        if self.early.get() && !request.method().is_safe() {
            self.confirmed.notified().await;
            if self.early.get() {
                let error = LinkError::Broken("it ended before its handshake".to_owned());
                return Err(Failed::NotSent(error, Box::new(request)));
            }
        }
        match &self.carrier {
            Carrier::Quic { sender, .. } => over_quic(sender.clone(), request).await,
            Carrier::Tcp { sender } => over_tcp(sender.clone(), request).await,
        }
    }

    /// The handshake is over.
    fn confirm(&self) {
        self.early.set(false);
        self.open.answered();
        self.confirmed.notify_waiters();
    }

    fn is_open(&self) -> bool {
        match &self.carrier {
            Carrier::Quic { connection, .. } => connection.close_reason().is_none(),
            Carrier::Tcp { sender } => !sender.is_closed(),
        }
    }
}

async fn over_quic(
    mut sender: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    request: Request<Body>,
) -> Result<Response<Body>, Failed> {
    let (head, body) = split_request(request);
    let is_head = *head.method() == Method::HEAD;
    let broken = |error: StreamError| Failed::Sent(LinkError::Broken(error.to_string()));
    let stream = match sender.send_request(clone_of(&head)).await {
        Ok(stream) => stream,
        Err(error) => {
            let unsent = Request::from_parts(head.into_parts().0, body);
            let error = LinkError::Broken(error.to_string());
            return Err(Failed::NotSent(error, Box::new(unsent)));
        }
    };
    let (sending, mut receiving) = stream.split();
    let sending = Sending::new(sending);
    let upload = match body {
        Body::Empty | Body::Full(_) => {
            // A server that answers without reading it stops the stream: the answer counts.
            _ = sending.body(body).await;
            None
        }
        streaming => {
            let sent = tokio::task::spawn_local(async move {
                if let Err(error) = sending.body(streaming).await {
                    tracing::debug!(error = ?error, "link: a request's body was not sent whole");
                }
            });
            Some(Upload(sent.abort_handle()))
        }
    };
    let response = loop {
        let response = receiving.recv_response().await.map_err(broken)?;
        if !response.status().is_informational() {
            break response;
        }
    };
    let left = match response.status() {
        _ if is_head => Some(0),
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Some(0),
        _ => length(response.headers()),
    };
    Ok(response.map(|()| received(receiving, left, upload)))
}

fn clone_of(head: &Request<()>) -> Request<()> {
    let mut copy = Request::new(());
    *copy.method_mut() = head.method().clone();
    *copy.uri_mut() = head.uri().clone();
    *copy.headers_mut() = head.headers().clone();
    copy
}

async fn over_tcp(
    mut sender: http2::SendRequest<Body>,
    request: Request<Body>,
) -> Result<Response<Body>, Failed> {
    match sender.try_send_request(request).await {
        Ok(response) => Ok(response.map(Body::from)),
        Err(mut error) => {
            let unsent = error.take_message();
            let error = LinkError::Broken(error.into_error().to_string());
            Err(match unsent {
                Some(request) => Failed::NotSent(error, Box::new(request)),
                None => Failed::Sent(error),
            })
        }
    }
}

impl Dialed {
    fn current(&self) -> Option<Rc<Connection>> {
        let connection = self.connection.borrow();
        connection.as_ref().filter(|one| one.is_open()).cloned()
    }

    /// Keeps a connection open for ever.
    async fn keep(self: Rc<Self>, origins: Arc<Origins>) {
        let mut pause = PAUSE_LEAST;
        let mut told = false;
        // Early data goes out before anybody has answered: not a second time to who did not the first time.
        let mut early = true;
        loop {
            match self.connect(&origins, early).await {
                Ok(made) => {
                    let transport = made.transport();
                    tracing::info!(origin = self.origin.address, ?transport, "link up");
                    (pause, told) = (PAUSE_LEAST, false);
                    let connection = made.connection.clone();
                    let why = self.hold(made, &origins).await;
                    self.replace(None);
                    early = !connection.early.get();
                    connection.confirmed.notify_waiters(); // there is nothing to wait for any more
                    tracing::warn!(origin = self.origin.address, why, "link down");
                }
                Err(error) if !told => {
                    told = true; // once for each outage
                    tracing::warn!(origin = self.origin.address, %error, "no link");
                }
                Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MOST);
        }
    }

    fn replace(&self, connection: Option<Rc<Connection>>) {
        *self.connection.borrow_mut() = connection;
        self.changed.notify_waiters();
    }

    /// QUIC, or with some delay TCP: what is there first.
    async fn connect(&self, origins: &Origins, early: bool) -> io::Result<Made> {
        let mut addresses: Vec<SocketAddr> = tokio::net::lookup_host(&self.origin.address)
            .await?
            .collect();
        addresses.truncate(ADDRESSES_MAX);
        let mut last = io::Error::other("the name has no address");
        for address in addresses {
            match timeout(CONNECT_TIMEOUT, self.connect_to(address, origins, early)).await {
                Ok(Ok(made)) => return Ok(made),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }

    async fn connect_to(
        &self,
        address: SocketAddr,
        origins: &Origins,
        early: bool,
    ) -> io::Result<Made> {
        let quic = std::pin::pin!(self.connect_quic(address, origins, early));
        let tcp = std::pin::pin!(async {
            tokio::time::sleep(HEAD_START).await;
            self.connect_tcp(address, origins).await
        });
        match select(quic, tcp).await {
            Either::Left((Ok(made), _)) | Either::Right((Ok(made), _)) => Ok(made),
            Either::Left((Err(over_quic), tcp)) => {
                tracing::debug!(origin = self.origin.address, error = %over_quic, "no QUIC");
                tcp.await.map_err(|over_tcp| neither(&over_quic, &over_tcp))
            }
            Either::Right((Err(over_tcp), quic)) => quic
                .await
                .map_err(|over_quic| neither(&over_quic, &over_tcp)),
        }
    }

    async fn connect_quic(
        &self,
        address: SocketAddr,
        origins: &Origins,
        early: bool,
    ) -> io::Result<Made> {
        let endpoint = quic::client(address)?;
        let connecting = endpoint
            .connect_with(origins.quic.clone(), address, ORIGIN_NAME)
            .map_err(io::Error::other)?;
        let (connection, accepted) = if early {
            match connecting.into_0rtt() {
                Ok((connection, accepted)) => (connection, Some(accepted)),
                Err(connecting) => (connecting.await?, None),
            }
        } else {
            (connecting.await?, None)
        };
        let (mut driver, sender) = ::h3::client::builder()
            .max_field_section_size(super::HEADER_BYTES_MAX)
            .send_grease(false)
            .build(h3_quinn::Connection::new(connection.clone()))
            .await
            .map_err(io::Error::other)?;
        let made = Rc::new(Connection {
            carrier: Carrier::Quic { sender, connection },
            early: Cell::new(accepted.is_some()),
            confirmed: Notify::new(),
            open: self.origin.opened(Transport::Quic),
        });
        if !made.early.get() {
            made.open.answered();
        }
        let confirming = made.clone();
        let address = self.origin.address.clone();
        let ended = async move {
            let confirmed = async {
                let Some(accepted) = accepted else {
                    return std::future::pending().await;
                };
                if !accepted.await {
                    return "early data was refused".to_owned();
                }
                tracing::debug!(origin = address, "early data accepted");
                confirming.confirm();
                std::future::pending().await
            };
            tokio::select! {
                error = std::future::poll_fn(|cx| driver.poll_close(cx)) => error.to_string(),
                why = confirmed => why,
            }
        };
        Ok(Made {
            connection: made,
            ended: Box::pin(ended),
        })
    }

    async fn connect_tcp(&self, address: SocketAddr, origins: &Origins) -> io::Result<Made> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(ORIGIN_NAME).expect("a DNS name");
        let stream = TlsConnector::from(origins.tcp.clone())
            .connect(name, stream)
            .await?;
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(super::HEADER_BYTES_MAX).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        let stream = Stream::Tls(Box::new(stream.into()));
        let (sender, driver) = builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let connection = Rc::new(Connection {
            carrier: Carrier::Tcp { sender },
            early: Cell::new(false),
            confirmed: Notify::new(),
            open: self.origin.opened(Transport::Tcp),
        });
        connection.open.answered();
        let ended = async move {
            match driver.await {
                Ok(()) => "closed".to_owned(),
                Err(error) => error.to_string(),
            }
        };
        Ok(Made {
            connection,
            ended: Box::pin(ended),
        })
    }

    /// Holds a connection until it ends; says why. From TCP it changes to QUIC when that passes again.
    async fn hold(&self, made: Made, origins: &Origins) -> String {
        let Made {
            connection,
            mut ended,
        } = made;
        self.replace(Some(connection.clone()));
        let mut measuring = tokio::time::interval(MEASURE_EVERY);
        let mut heard = (0, Instant::now());
        let mut upgrade_at = Instant::now() + UPGRADE_EVERY;
        loop {
            tokio::select! {
                why = &mut ended => return why,
                _ = measuring.tick() => {}
            }
            match &connection.carrier {
                Carrier::Quic { connection, .. } => {
                    let received = connection.stats().udp_rx.datagrams;
                    if received != heard.0 {
                        heard = (received, Instant::now());
                    }
                    let rtt = connection.rtt();
                    if heard.1.elapsed() > DEAD_AFTER + rtt {
                        // QUIC itself waits for three probe timeouts at least, which are long on a path that was busy.
                        connection.close(VarInt::from_u32(0), b"silent");
                    }
                    self.origin
                        .measured(rtt, heard.1.elapsed() > SILENT_AFTER + rtt);
                }
                Carrier::Tcp { sender } => {
                    let began = Instant::now();
                    let asked = timeout(PING_TIMEOUT, over_tcp(sender.clone(), ping()));
                    let answered = tokio::select! {
                        why = &mut ended => return why,
                        answered = asked => matches!(answered, Ok(Ok(_))),
                    };
                    self.origin.measured(began.elapsed(), !answered);
                    if Instant::now() >= upgrade_at {
                        upgrade_at = Instant::now() + UPGRADE_EVERY;
                        let upgraded = tokio::select! {
                            why = &mut ended => return why,
                            upgraded = self.upgrade(origins) => upgraded,
                        };
                        if let Some(made) = upgraded {
                            // What is under way over TCP ends there.
                            tokio::task::spawn_local(async move {
                                _ = timeout(FAREWELL, ended).await;
                            });
                            tracing::info!(origin = self.origin.address, "link goes on over QUIC");
                            return Box::pin(self.hold(made, origins)).await;
                        }
                    }
                }
            }
        }
    }

    async fn upgrade(&self, origins: &Origins) -> Option<Made> {
        let mut addresses = tokio::net::lookup_host(&self.origin.address).await.ok()?;
        // Not before it has answered: what it takes the place of works.
        let made = self.connect_quic(addresses.next()?, origins, false);
        timeout(HEAD_START, made).await.ok()?.ok()
    }
}

/// A connection, and what drives it until it ends.
struct Made {
    connection: Rc<Connection>,
    ended: std::pin::Pin<Box<dyn Future<Output = String>>>,
}

impl Made {
    fn transport(&self) -> Transport {
        match self.connection.carrier {
            Carrier::Quic { .. } => Transport::Quic,
            Carrier::Tcp { .. } => Transport::Tcp,
        }
    }
}

/// Why there is no link: by either way, since one may just not pass, and the other say what is wrong.
fn neither(over_quic: &io::Error, over_tcp: &io::Error) -> io::Error {
    io::Error::other(format!("over QUIC: {over_quic}; over TCP: {over_tcp}"))
}

fn ping() -> Request<Body> {
    let mut request = Request::new(Body::Empty);
    *request.uri_mut() = super::uri(super::PING).expect("a path of ours");
    request
}

const ROUNDS_MAX: u32 = 2;
/// For a connection, where there is none.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// An attempt that nobody answers sends ever more seldom: a new one finds an origin that is back sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(2500);
/// What QUIC has ahead of TCP: a handshake over 150 ms, and a first packet that was lost.
const HEAD_START: Duration = Duration::from_millis(1200);
const PAUSE_LEAST: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_millis(500);
const MEASURE_EVERY: Duration = Duration::from_millis(200);
/// Three keep-alives, and the time to probe. What waits for an answer is asked of another origin then.
const DEAD_AFTER: Duration = Duration::from_millis(1200);
/// Two keep-alives.
const SILENT_AFTER: Duration = Duration::from_millis(850);
const UPGRADE_EVERY: Duration = Duration::from_secs(30);
const FAREWELL: Duration = Duration::from_secs(30);
const PING_INTERVAL: Duration = Duration::from_millis(500);
const PING_TIMEOUT: Duration = Duration::from_secs(1);
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Of one name.
const ADDRESSES_MAX: usize = 4;
