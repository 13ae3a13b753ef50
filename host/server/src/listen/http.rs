//! One viewer's connection: HTTP/1.1 or HTTP/2 over a byte stream, until it ends.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::debug;

use super::supervise::{Activity, InFlight, Phase, Supervisor};
use super::transport::{Refuse, Transport};
use super::{Connection, Protocol, Service, Settings};
use crate::body::{Body, BodyError};
use crate::drain::{Drain, Watcher};
use crate::stream::{LocalExecutor, Stream};

/// Serves a connection until either side ends it. `protocol` is what the handshake agreed on; without it, the first bytes
/// tell.
pub(super) async fn serve<S: Service>(
    mut stream: Stream,
    connection: Connection,
    protocol: Option<Protocol>,
    settings: Rc<Settings>,
    service: Rc<S>,
    mut watcher: Watcher,
) {
    let (protocol, prefix) = match protocol {
        Some(protocol) => (protocol, Bytes::new()),
        None => match first_bytes(&mut stream, &settings, &mut watcher).await {
            Some(told) => told,
            None => return,
        },
    };
    let link = Link {
        connection: Rc::new(Connection {
            protocol,
            ..connection
        }),
        settings,
        service,
        watcher,
    };
    match protocol {
        Protocol::Http1 => link.http1(stream, prefix).await,
        Protocol::Http2 => link.http2(stream, prefix).await,
    }
}

/// Tells the protocol by the first bytes, which are returned with it; `None` when none came in time.
async fn first_bytes(
    stream: &mut Stream,
    settings: &Settings,
    watcher: &mut Watcher,
) -> Option<(Protocol, Bytes)> {
    match (settings.http1, settings.http2) {
        (_, false) => return Some((Protocol::Http1, Bytes::new())),
        (false, true) => return Some((Protocol::Http2, Bytes::new())),
        (true, true) => {}
    }
    tokio::select! {
        told = tokio::time::timeout(settings.header_timeout, sniff(stream)) => told.ok()?.ok(),
        () = async {
            watcher.draining().await;
            tokio::time::sleep(settings.drain_idle).await;
        } => None,
    }
}

/// Reads until the bytes differ from HTTP/2's preface or are all of it. Source: RFC 9113 §3.4.
async fn sniff(stream: &mut Stream) -> io::Result<(Protocol, Bytes)> {
    let mut bytes = [0; PREFACE.len()];
    let mut len = 0;
    let protocol = loop {
        let read = stream.read(&mut bytes[len..]).await?;
        len += read;
        if read == 0 || bytes[..len] != PREFACE[..len] {
            break Protocol::Http1;
        }
        if len == PREFACE.len() {
            break Protocol::Http2;
        }
    };
    Ok((protocol, Bytes::copy_from_slice(&bytes[..len])))
}

/// All that a connection needs beside its bytes.
struct Link<S> {
    connection: Rc<Connection>,
    settings: Rc<Settings>,
    service: Rc<S>,
    watcher: Watcher,
}

/// How the serving of a connection ended.
enum Ended {
    Finished(hyper::Result<()>),
    /// Nothing came of waiting in this phase.
    Waited(Phase),
}

impl<S: Service> Link<S> {
    async fn http1(mut self, stream: Stream, prefix: Bytes) {
        let activity = Activity::new(true);
        let refuse = self.refuse();
        let transport = Transport::new(stream, prefix, activity.clone(), Some(refuse.clone()));
        let entry = self.entry(&activity);
        let service = service_fn(move |request| entry.answer(request));
        let mut server = http1_builder(&self.settings).serve_connection(transport, service);
        let mut supervisor = Supervisor::new(activity.clone(), self.settings.clone());
        let ended = poll_fn(|cx| {
            let draining = self.watcher.poll_draining(cx).is_ready();
            if let Poll::Ready(result) = Pin::new(&mut server).poll(cx) {
                return Poll::Ready(Ended::Finished(result));
            }
            supervisor.poll(cx, draining).map(Ended::Waited)
        })
        .await;
        let mut stream = server.into_parts().io.into_inner();
        match ended {
            Ended::Finished(Ok(())) => linger(&mut stream).await,
            Ended::Finished(Err(error)) => {
                debug!(peer = %self.connection.peer, %error, "connection ended");
                linger(&mut stream).await;
            }
            Ended::Waited(Phase::Head) if activity.reads_head() => {
                let response = refuse(StatusCode::REQUEST_TIMEOUT, "");
                if tokio::time::timeout(LINGER, stream.write_all(&response))
                    .await
                    .is_ok_and(|written| written.is_ok())
                {
                    linger(&mut stream).await;
                }
            }
            Ended::Waited(phase) => {
                debug!(peer = %self.connection.peer, ?phase, "connection closed");
                if phase != Phase::Blocked {
                    let _ = tokio::time::timeout(LINGER, stream.shutdown()).await;
                }
            }
        }
    }

    async fn http2(mut self, stream: Stream, prefix: Bytes) {
        let activity = Activity::new(false);
        let transport = Transport::new(stream, prefix, activity.clone(), None);
        let entry = self.entry(&activity);
        let service = service_fn(move |request| entry.answer(request));
        let mut server = http2_builder(&self.settings).serve_connection(transport, service);
        let mut supervisor = Supervisor::new(activity, self.settings.clone());
        let mut goodbye = None;
        let ended = poll_fn(|cx| {
            if goodbye.is_none() && self.watcher.poll_draining(cx).is_ready() {
                goodbye = Some(());
                Pin::new(&mut server).graceful_shutdown();
            }
            if let Poll::Ready(result) = Pin::new(&mut server).poll(cx) {
                return Poll::Ready(Ended::Finished(result));
            }
            // GOAWAY ends it as soon as its streams have; the longer wait is for a viewer that does not answer.
            supervisor.poll(cx, false).map(Ended::Waited)
        })
        .await;
        match ended {
            Ended::Finished(Ok(())) => {}
            Ended::Finished(Err(error)) => {
                debug!(peer = %self.connection.peer, %error, "connection ended")
            }
            Ended::Waited(Phase::Blocked) => {
                debug!(peer = %self.connection.peer, "viewer takes no bytes")
            }
            Ended::Waited(_) => {
                Pin::new(&mut server).graceful_shutdown();
                let _ = tokio::time::timeout(LINGER, server).await;
            }
        }
    }

    fn entry(&self, activity: &Rc<Activity>) -> Entry<S> {
        Entry {
            service: self.service.clone(),
            connection: self.connection.clone(),
            activity: activity.clone(),
            drain: self.watcher.drain().clone(),
            settings: self.settings.clone(),
        }
    }

    /// Makes the response to what could not be read, in the shape of the gateway's errors.
    fn refuse(&self) -> Rc<Refuse> {
        let service = self.service.clone();
        let connection = self.connection.clone();
        Rc::new(move |status, date| {
            let reason = status.canonical_reason().unwrap_or("Bad Request");
            let content = content(reason);
            let request_id = match service.refused(&connection, status) {
                Some(id) => format!("x-amzn-requestid: {id}\r\n"),
                None => String::new(),
            };
            let date = if date.is_empty() {
                String::new()
            } else {
                format!("{date}\r\n")
            };
            let code = status.as_str();
            let length = content.len();
            Bytes::from(format!(
                "HTTP/1.1 {code} {reason}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
                 connection: close\r\n{request_id}{date}\r\n{content}"
            ))
        })
    }
}

/// Where requests come in from hyper.
struct Entry<S> {
    service: Rc<S>,
    connection: Rc<Connection>,
    activity: Rc<Activity>,
    drain: Rc<Drain>,
    settings: Rc<Settings>,
}

impl<S: Service> Entry<S> {
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Reply>, Infallible>> + use<S> {
        let in_flight = self.activity.begin();
        let head = request.method() == Method::HEAD;
        let service = self.service.clone();
        let connection = self.connection.clone();
        let http1 = connection.protocol == Protocol::Http1;
        let closing = http1.then(|| self.drain.clone());
        // hyper keeps to the limits on HTTP/1.1, where it reads the lines.
        let too_large = !http1 && is_too_large(request.headers(), &self.settings);
        async move {
            let mut response = match too_large {
                true => refusal(&*service, &connection),
                false => service.call(request, connection).await,
            };
            if closing.is_some_and(|drain| drain.is_draining()) {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if head
                || matches!(
                    response.status(),
                    StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
                )
            {
                response.body_mut().mark_unread();
            }
            Ok(response.map(|body| Reply {
                body,
                _in_flight: in_flight,
            }))
        }
    }
}

/// Whether a header section is over the limits. Source of its size: RFC 9113 section 6.5.2.
fn is_too_large(headers: &HeaderMap, settings: &Settings) -> bool {
    let octets = |(name, value): (&HeaderName, &HeaderValue)| {
        name.as_str().len() + value.len() + HEADER_LIST_OVERHEAD
    };
    headers.len() > settings.headers_max
        || headers.iter().map(octets).sum::<usize>() > settings.header_bytes_max
}

/// The shape of the gateway's errors.
fn content(reason: &str) -> String {
    format!("{{\"message\": \"{reason}\"}}")
}

/// Tells an HTTP/2 viewer that its header section is over the limits.
fn refusal<S: Service>(service: &S, connection: &Connection) -> Response<Body> {
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    let reason = status.canonical_reason().unwrap_or_default();
    let mut response = Response::new(Body::Full(content(reason).into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let id = service.refused(connection, status);
    if let Some(Ok(id)) = id.map(HeaderValue::try_from) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}

/// A response's body, during which its request counts as being served.
struct Reply {
    body: Body,
    _in_flight: InFlight,
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn http1_builder(settings: &Settings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None) // the supervisor's
        .max_header_size(settings.header_bytes_max)
        .max_buf_size((settings.header_bytes_max + BODY_BUFFER).max(BODY_BUFFER));
    if settings.headers_max != HYPERS_HEADERS_MAX {
        // hyper then keeps them on the heap, an allocation for each request.
        builder.max_headers(settings.headers_max);
    }
    builder
}

fn http2_builder(settings: &Settings) -> http2::Builder<LocalExecutor> {
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.http2_streams_max)
        // Up to here a request is told what is wrong with it; beyond, h2 answers 431 and says no more.
        .max_header_list_size(
            u32::try_from(settings.header_bytes_max.saturating_mul(4)).unwrap_or(u32::MAX),
        )
        .initial_stream_window_size(settings.http2_stream_window_bytes)
        .initial_connection_window_size(settings.http2_connection_window_bytes)
        .max_send_buf_size(BODY_BUFFER)
        // Rapid reset (CVE-2023-44487): streams that were reset before we took them, and that we had to reset.
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(RESET_STREAMS_MAX)
        .keep_alive_interval(settings.http2_ping_interval)
        .keep_alive_timeout(settings.http2_ping_timeout);
    builder
}

/// Closes our side, then reads what still comes for a moment: bytes that nobody has read would make the kernel reset the
/// connection, and the viewer would lose the response that explains it. Source: RFC 9112 §9.6.
async fn linger(stream: &mut Stream) {
    let _ = tokio::time::timeout(LINGER, async {
        stream.shutdown().await?;
        let mut scrap = [0; 4096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut scrap).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        io::Result::Ok(())
    })
    .await;
}

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HYPERS_HEADERS_MAX: usize = 100;
/// What hyper may hold of a body on its way, per direction.
const BODY_BUFFER: usize = 128 << 10;
const RESET_STREAMS_MAX: usize = 64;
const HEADER_LIST_OVERHEAD: usize = 32;
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 << 10;
