//! A client that does one thing at a time and shows everything it got.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::origin::Body;

/// A response, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl Reply {
    /// Reads a response to its end.
    pub async fn read(response: Response<Incoming>) -> hyper::Result<Self> {
        let (parts, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let (status, version, headers) = (parts.status, parts.version, parts.headers);
        Ok(Self {
            status,
            version,
            headers,
            body: body.to_bytes(),
            trailers,
        })
    }

    /// The body as text; what is not UTF-8 is shown as such.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `null` where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's first value; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Whether this is the gateway's own error: the status, `{"message": …}`, and a request id.
    #[track_caller]
    pub fn assert_error(&self, status: u16, message: &str) {
        let shown = format!("{} {}", self.status, self.text());
        assert_eq!(self.status, status, "{shown}");
        assert_eq!(
            self.json(),
            serde_json::json!({ "message": message }),
            "{shown}"
        );
        assert_eq!(self.header("content-type"), "application/json", "{shown}");
        assert!(
            !self.header("x-amzn-requestid").is_empty(),
            "no request id: {:?}",
            self.headers
        );
    }

    /// Whether the status is this one; shows the whole reply where it is not.
    #[track_caller]
    pub fn assert_status(&self, status: u16) {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
    }
}

/// One connection to the node, of one protocol.
pub struct Connection {
    sender: Sender,
    scheme: &'static str,
    /// What ALPN agreed on; empty without TLS.
    pub protocol: String,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Connection {
    /// HTTP/1.1 in the clear.
    pub async fn http1(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            sender: http1_over(stream).await.map_err(other)?,
            scheme: "http",
            protocol: String::new(),
        })
    }

    /// HTTP/2 in the clear, with prior knowledge (RFC 9113 section 3.3).
    pub async fn http2(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        Ok(Self {
            sender: http2_over(stream).await.map_err(other)?,
            scheme: "http",
            protocol: String::new(),
        })
    }

    /// TLS as `name`, then what ALPN agrees on.
    pub async fn tls(
        address: SocketAddr,
        name: &str,
        config: Arc<ClientConfig>,
    ) -> std::io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).map_err(other)?;
        let stream = TcpStream::connect(address).await?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        let protocol =
            String::from_utf8_lossy(stream.get_ref().1.alpn_protocol().unwrap_or_default())
                .into_owned();
        let sender = if protocol == "h2" {
            http2_over(stream).await
        } else {
            http1_over(stream).await
        };
        Ok(Self {
            sender: sender.map_err(other)?,
            scheme: "https",
            protocol,
        })
    }

    /// Sends a request and gives the response as soon as its header section is there. The request's URI is a path; its
    /// `Host` header names the API.
    pub async fn send(&mut self, mut request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                // HTTP/2 has the host in the target (RFC 9113 section 8.3.1).
                if let Some(host) = request.headers_mut().remove(http::header::HOST) {
                    *request.uri_mut() = absolute(
                        self.scheme,
                        host.to_str().unwrap_or_default(),
                        request.uri(),
                    );
                }
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Sends a request with a whole body and reads the response to its end.
    pub async fn ask(&mut self, request: Request<Bytes>) -> hyper::Result<Reply> {
        let request = request.map(|body| Full::new(body).map_err(|never| match never {}).boxed());
        Reply::read(self.send(request).await?).await
    }

    /// Whether the peer closed the connection.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

/// Reads what is left of a raw connection, as text; a reset ends it as well.
pub async fn read_until_closed(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        bytes.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn http1_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> hyper::Result<Sender> {
    let (sender, connection) = http1::Builder::new()
        .handshake(TokioIo::new(stream))
        .await?;
    // Ends with the connection; its error reaches the request that waits on it.
    tokio::spawn(connection.with_upgrades());
    Ok(Sender::Http1(sender))
}

async fn http2_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> hyper::Result<Sender> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(connection);
    Ok(Sender::Http2(sender))
}

fn absolute(scheme: &str, host: &str, uri: &Uri) -> Uri {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    format!("{scheme}://{host}{path}")
        .parse()
        .expect("a host and a path")
}

fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> std::io::Error {
    std::io::Error::other(error)
}
