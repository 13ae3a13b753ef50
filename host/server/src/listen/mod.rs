//! Socket → request: accepting connections, TLS, HTTP/1.1 and HTTP/2.
//!
//! [`accept::bind`] opens one socket per worker thread, [`accept::run`] serves it there until the node drains.
//! What a request means is the [`Service`]'s.

pub mod accept;
pub(crate) mod http;
mod supervise;
pub mod tls;
mod transport;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tidegate_model::config::Private;

use crate::body::Body;

/// What a listener holds its viewers to; one worker's share of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Connections that this worker has open at most; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Speak HTTP/1.1.
    pub http1: bool,
    /// Speak HTTP/2: by ALPN under TLS, by prior knowledge in the clear.
    pub http2: bool,
    /// Bytes of request line and header fields; more is answered with 431.
    pub header_bytes_max: usize,
    /// Number of header fields; more is answered with 431.
    pub headers_max: usize,
    /// From the first byte of a request's header section (or the start of the connection) to its last.
    pub header_timeout: Duration,
    /// How long a connection may be open without a request.
    pub keep_alive_timeout: Duration,
    /// How long a viewer may take no byte of a response that is ready for it.
    pub write_timeout: Duration,
    pub tls_handshake_timeout: Duration,
    /// Requests that one HTTP/2 connection may have open.
    pub http2_streams_max: u32,
    /// Bytes of request body that a viewer may send ahead on one HTTP/2 stream, and on one connection.
    pub http2_stream_window_bytes: u32,
    pub http2_connection_window_bytes: u32,
    /// How often an HTTP/2 connection with open requests is asked whether it is still there.
    pub http2_ping_interval: Duration,
    pub http2_ping_timeout: Duration,
    /// What makes it a private listener.
    pub private: Option<Arc<Private>>,
    /// When the node drains: how long a connection without a request is kept for the one that may be on its way.
    pub drain_idle: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            http1: true,
            http2: true,
            // API Gateway takes 10,240 bytes of header fields; with the longest path it allows there is room to spare.
            header_bytes_max: 32 << 10,
            headers_max: 100,
            // A header section of 10 KiB at 10 kbit/s.
            header_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            tls_handshake_timeout: Duration::from_secs(10),
            // RFC 9113 §6.5.2 asks for no less than 100.
            http2_streams_max: 100,
            // 1 MiB a stream fills 80 Mbit/s at a round trip of 100 ms.
            http2_stream_window_bytes: 1 << 20,
            http2_connection_window_bytes: 4 << 20,
            http2_ping_interval: Duration::from_secs(20),
            http2_ping_timeout: Duration::from_secs(20),
            // The next request of a busy viewer comes within a round trip or two.
            drain_idle: Duration::from_millis(500),
            private: None,
        }
    }
}

/// A viewer's connection, as its requests see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// Under TLS.
    pub tls: bool,
    pub protocol: Protocol,
    /// The name that the viewer asked for in the TLS handshake (SNI), in lower case.
    pub server_name: Option<String>,
    /// The private listener that it came by; `None`: a public one.
    pub private: Option<Arc<Private>>,
}

/// The HTTP of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1, or HTTP/1.0 where the request says so.
    Http1,
    Http2,
}

/// Answers requests.
pub trait Service: 'static {
    /// Answers one request. Dropped unfinished when the viewer leaves. `Expect: 100-continue` is answered when the
    /// request's body is first polled.
    fn call(
        self: Rc<Self>,
        request: Request<Incoming>,
        connection: Rc<Connection>,
    ) -> impl Future<Output = Response<Body>> + 'static;

    /// Hears of a request that is answered with `status` by itself, since it could not be read: 400, 408, 414, 431.
    /// Returns the request id to answer with, if there is to be one.
    fn refused(&self, connection: &Connection, status: StatusCode) -> Option<String> {
        let _ = (connection, status);
        None
    }
}

#[cfg(test)]
mod tests;
