//! Servers that the gateway's integrations ask.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// A body of any kind, for both directions.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// A whole body.
pub fn text(body: impl Into<Bytes>) -> Body {
    Full::new(body.into())
        .map_err(|never| match never {})
        .boxed()
}

/// An HTTP server, HTTP/1.1 and HTTP/2, that answers as the test says and counts.
pub struct TestOrigin {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    requests: AtomicUsize,
    connections: AtomicUsize,
    /// While `true`, requests wait before the handler sees them.
    held: watch::Sender<bool>,
}

impl TestOrigin {
    /// Answers each request by `handler`, in the clear.
    pub async fn start<H, F>(handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::start_with(Ipv4Addr::LOCALHOST, None, handler).await
    }

    /// Answers each request by `handler`, over TLS.
    pub async fn start_tls<H, F>(config: Arc<ServerConfig>, handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::start_with(
            Ipv4Addr::LOCALHOST,
            Some(TlsAcceptor::from(config)),
            handler,
        )
        .await
    }

    /// Answers every request with 200 and `body`.
    pub async fn saying(body: &'static str) -> Self {
        Self::start(move |_| async move { Response::new(text(body)) }).await
    }

    /// Answers with what it was asked, as JSON: `method`, `uri`, `version`, `headers` (names to lists of values), `body`.
    pub async fn echo() -> Self {
        Self::start(echo).await
    }

    /// As [`TestOrigin::start`], where other regions reach it.
    pub async fn start_at<H, F>(address: Ipv4Addr, handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::start_with(address, None, handler).await
    }

    async fn start_with<H, F>(address: Ipv4Addr, tls: Option<TlsAcceptor>, handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind((address, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            held: watch::Sender::new(false),
        });
        let server = tokio::spawn(serve(listener, tls, Arc::new(handler), Arc::clone(&shared)));
        Self {
            address,
            shared,
            server,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that arrived, held ones included.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Connections that were accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// From now on requests wait, until [`TestOrigin::release`].
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Lets the held requests go.
    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// Stops listening and drops every connection.
    pub async fn stop(self) {
        self.server.abort();
        let address = self.address;
        drop(self);
        crate::until("the origin's port is closed", async || {
            TcpStream::connect(address).await.is_err().then_some(())
        })
        .await;
    }
}

impl Drop for TestOrigin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve<H, F>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    handler: Arc<H>,
    shared: Arc<Shared>,
) where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // Aborting the server drops the set, and with it every connection.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let _ = stream.set_nodelay(true);
        let (handler, shared, tls) = (Arc::clone(&handler), Arc::clone(&shared), tls.clone());
        connections.spawn(async move {
            match tls {
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        converse(stream, handler, shared).await;
                    }
                }
                None => converse(stream, handler, shared).await,
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn converse<H, F>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    handler: Arc<H>,
    shared: Arc<Shared>,
) where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let (handler, shared) = (Arc::clone(&handler), Arc::clone(&shared));
        async move {
            shared.requests.fetch_add(1, Ordering::SeqCst);
            // Fails where the sender is gone, which lives as long as we do.
            let _ = shared.held.subscribe().wait_for(|held| !held).await;
            Ok::<_, std::convert::Infallible>(handler(request).await)
        }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    // A gateway that goes away is what some tests are about.
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn echo(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let values = |name| {
        let values = parts.headers.get_all(name).iter();
        values
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect::<Vec<_>>()
    };
    let headers: serde_json::Map<_, _> = parts
        .headers
        .keys()
        .map(|name| (name.to_string(), json!(values(name))))
        .collect();
    let document = json!({
        "method": parts.method.as_str(),
        "uri": parts.uri.to_string(),
        "version": format!("{:?}", parts.version),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    });
    let mut response = Response::new(text(document.to_string()));
    response.headers_mut().insert(
        "content-type",
        http::HeaderValue::from_static("application/json"),
    );
    response
}

/// A TCP server that does with each connection what the test says, HTTP or not.
pub struct RawOrigin {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl RawOrigin {
    /// Hands each accepted connection to `handler`.
    pub async fn start<H, F>(handler: H) -> Self
    where
        H: Fn(TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let server = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tasks.spawn(handler(stream));
            }
        });
        Self {
            address,
            connections,
            server,
        }
    }

    /// Reads a request's header section, sends `reply` as it stands, then closes.
    pub async fn replying(reply: &'static [u8]) -> Self {
        use tokio::io::AsyncWriteExt;
        Self::start(move |mut stream| async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(reply).await;
            let _ = stream.shutdown().await;
        })
        .await
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that were accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Closes by a reset as soon as a request's header section is there (RFC 9293 section 3.10.4: ABORT).
    pub async fn resetting() -> Self {
        Self::start(|mut stream| async move {
            read_head(&mut stream).await;
            #[allow(deprecated)] // Zero does not block; it is what turns close into a reset.
            let _ = stream.set_linger(Some(std::time::Duration::ZERO));
        })
        .await
    }

    /// Takes requests and never answers.
    pub async fn stalling() -> Self {
        Self::start(|mut stream| async move {
            crate::read_until_closed(&mut stream).await;
        })
        .await
    }
}

impl Drop for RawOrigin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Reads up to the end of a header section, or of the connection; gives what it read.
async fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => head.extend_from_slice(&buffer[..read]),
            _ => break,
        }
    }
    head
}
