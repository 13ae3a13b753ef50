//! Listeners over real sockets: bare viewers that send what they like, and hyper's client for those that behave.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::tls::{Identity, Tls};
use super::*;
use crate::body::{BoxError, End, OnEnd};
use crate::drain::{self, Drain, Outcome};
use crate::stream::LocalExecutor;

/// What bodies came to: bytes, and how they ended.
type Ends = mpsc::UnboundedReceiver<(u64, &'static str)>;

struct Gateway {
    ends: mpsc::UnboundedSender<(u64, &'static str)>,
    refused: RefCell<Vec<StatusCode>>,
    calls: Cell<u32>,
}

struct Note(mpsc::UnboundedSender<(u64, &'static str)>);

impl OnEnd for Note {
    fn on_end(self: Box<Self>, bytes: u64, end: End<'_>) {
        let end = match end {
            End::Complete => "complete",
            End::Abandoned => "abandoned",
            End::Failed(_) => "failed",
        };
        let _ = self.0.send((bytes, end));
    }
}

impl Service for Gateway {
    async fn call(
        self: Rc<Self>,
        request: Request<Incoming>,
        connection: Rc<Connection>,
    ) -> Response<Body> {
        self.calls.set(self.calls.get() + 1);
        let body = match request.uri().path() {
            "/panic" => panic!("as asked"),
            "/echo" => request.into_body().into(),
            "/read" => request
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .into(),
            "/pending" => std::future::pending().await,
            "/connection" => format!(
                "{:?} {} {:?}",
                connection.protocol, connection.tls, connection.server_name
            )
            .into(),
            "/endless" => endless(),
            "/fails" => {
                let pieces = [
                    Ok(Frame::data(Bytes::from("half"))),
                    Err(BoxError::from("broken")),
                ];
                stream(pieces.into_iter())
            }
            _ => "hello".into(),
        };
        Response::new(body.with_on_end(Box::new(Note(self.ends.clone()))))
    }

    fn refused(&self, _: &Connection, status: StatusCode) -> Option<String> {
        self.refused.borrow_mut().push(status);
        Some("id-1".to_owned())
    }
}

struct Pieces<I>(I);

impl<I: Iterator<Item = Result<Frame<Bytes>, BoxError>> + Unpin> http_body::Body for Pieces<I> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        std::task::Poll::Ready(self.0.next())
    }
}

fn stream(
    pieces: impl Iterator<Item = Result<Frame<Bytes>, BoxError>> + Unpin + Send + 'static,
) -> Body {
    Body::Boxed(UnsyncBoxBody::new(Pieces(pieces)))
}

fn endless() -> Body {
    let piece = Bytes::from(vec![b'x'; 64 << 10]);
    stream(std::iter::repeat_with(move || {
        Ok(Frame::data(piece.clone()))
    }))
}

struct Fixture {
    address: SocketAddr,
    gateway: Rc<Gateway>,
    ends: Ends,
    trigger: drain::Trigger,
    drained: tokio::task::JoinHandle<Outcome>,
    accepting: tokio::task::JoinHandle<std::io::Result<()>>,
}

#[test]
fn an_address_is_no_second_nodes() {
    for workers in [1, 2] {
        let sockets = accept::bind("127.0.0.1:0".parse().unwrap(), workers).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let error = accept::bind(address, 1).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        drop(sockets);
        accept::bind(address, workers).unwrap();
    }
}

impl Fixture {
    fn start(settings: Settings, tls: Option<Arc<Tls>>) -> Self {
        let socket = accept::bind("127.0.0.1:0".parse().unwrap(), 1)
            .unwrap()
            .remove(0);
        let address = socket.local_addr().unwrap();
        let (sender, ends) = mpsc::unbounded_channel();
        let gateway = Rc::new(Gateway {
            ends: sender,
            refused: RefCell::default(),
            calls: Cell::new(0),
        });
        let (trigger, signal) = drain::channel();
        let drain = Drain::new();
        let accepting = accept::run(
            socket,
            Rc::new(settings),
            tls,
            gateway.clone(),
            drain.clone(),
        );
        let accepting = tokio::task::spawn_local(accepting);
        let drained = tokio::task::spawn_local(async move { drain.run(signal).await });
        Self {
            address,
            gateway,
            ends,
            trigger,
            drained,
            accepting,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a new connection, and returns all that comes back until it is closed.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        rest(&mut stream).await
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut received)).await;
    read.expect("the connection is closed").unwrap();
    String::from_utf8_lossy(&received).into_owned()
}

/// Reads a response that has a Content-Length.
async fn read_response(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\n") {
        received.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(received).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |text| text.parse().unwrap());
    let mut content = vec![0; length];
    stream.read_exact(&mut content).await.unwrap();
    head + &String::from_utf8(content).unwrap()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const LAST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[tokio::test(flavor = "local")]
async fn a_connection_serves_one_request_after_the_other() {
    let mut node = Fixture::start(Settings::default(), None);
    let mut stream = node.connect().await;
    for _ in 0..3 {
        stream.write_all(GET).await.unwrap();
        let response = read_response(&mut stream).await;
        assert!(
            response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("\r\n\r\nhello"),
            "{response}"
        );
        assert_eq!(node.ends.recv().await.unwrap(), (5, "complete"));
    }
    stream.write_all(&[GET, GET, LAST].concat()).await.unwrap();
    assert_eq!(
        rest(&mut stream).await.matches("hello").count(),
        3,
        "pipelined"
    );
}

#[tokio::test(flavor = "local")]
async fn what_cannot_be_read_is_refused_in_the_shape_of_our_errors() {
    let node = Fixture::start(
        Settings {
            header_bytes_max: 4096,
            headers_max: 10,
            ..Settings::default()
        },
        None,
    );
    let long_field = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "x".repeat(5000)
    );
    let many_fields = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: 1\r\n".repeat(11));
    let cases: [(&str, &[u8], &str); 7] = [
        ("not HTTP", b"hello\r\n\r\n", "400 Bad Request"),
        (
            "TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            "400 Bad Request",
        ),
        (
            "a space in a field's name",
            b"GET / HTTP/1.1\r\nhost : a\r\n\r\n",
            "400 Bad Request",
        ),
        (
            "two lengths",
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "400 Bad Request",
        ),
        (
            "a length that is none",
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
            "400 Bad Request",
        ),
        (
            "too long",
            long_field.as_bytes(),
            "431 Request Header Fields Too Large",
        ),
        (
            "too many",
            many_fields.as_bytes(),
            "431 Request Header Fields Too Large",
        ),
    ];
    for (what, bytes, status) in cases {
        let response = node.exchange(bytes).await;
        let reason = status.split_once(' ').unwrap().1;
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{what}: {response}"
        );
        for field in [
            "content-type: application/json\r\n",
            "connection: close\r\n",
            "x-amzn-requestid: id-1\r\n",
            "date: ",
        ] {
            assert!(response.contains(field), "{what}: no {field} in {response}");
        }
        assert!(
            response.ends_with(&format!("\r\n\r\n{{\"message\": \"{reason}\"}}")),
            "{what}: {response}"
        );
    }
    assert_eq!(node.gateway.refused.borrow().len(), cases.len());
    assert_eq!(node.gateway.calls.get(), 0);
}

#[tokio::test(flavor = "local")]
async fn a_refusal_reaches_a_viewer_that_is_still_sending() {
    let node = Fixture::start(
        Settings {
            header_bytes_max: 4096,
            ..Settings::default()
        },
        None,
    );
    let mut stream = node.connect().await;
    let (mut reader, mut writer) = stream.split();
    let sending = async {
        let _ = writer
            .write_all(format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(150_000)).as_bytes())
            .await;
    };
    let mut received = Vec::new();
    let (_, read) = tokio::join!(sending, reader.read_to_end(&mut received));
    read.expect("no reset before the response was read");
    assert!(
        received.starts_with(b"HTTP/1.1 431 "),
        "{}",
        String::from_utf8_lossy(&received)
    );
}

#[tokio::test(flavor = "local")]
async fn a_header_that_does_not_end_in_time_is_refused() {
    let header_timeout = Duration::from_millis(50);
    let node = Fixture::start(
        Settings {
            header_timeout,
            ..Settings::default()
        },
        None,
    );
    let response = node.exchange(b"GET / HTTP/1.1\r\nhost: a\r\n").await;
    assert!(
        response.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
        "{response}"
    );
    assert!(
        response.ends_with("{\"message\": \"Request Timeout\"}"),
        "{response}"
    );
    assert_eq!(
        node.exchange(b"").await,
        "",
        "who says nothing hears nothing"
    );
    assert_eq!(node.exchange(b"PRI * HT").await, "", "half a preface");

    let mut second = node.connect().await;
    second.write_all(GET).await.unwrap();
    read_response(&mut second).await;
    second.write_all(b"GET / HT").await.unwrap();
    assert!(
        rest(&mut second).await.starts_with("HTTP/1.1 408 "),
        "also after another request"
    );
}

#[tokio::test(flavor = "local")]
async fn an_idle_connection_is_closed_after_its_time() {
    let keep_alive_timeout = Duration::from_millis(50);
    let node = Fixture::start(
        Settings {
            keep_alive_timeout,
            ..Settings::default()
        },
        None,
    );
    let started = tokio::time::Instant::now();
    assert!(node.exchange(GET).await.ends_with("hello"));
    assert!(started.elapsed() >= keep_alive_timeout);
}

#[tokio::test(flavor = "local")]
async fn a_request_that_comes_byte_by_byte_is_http1() {
    let node = Fixture::start(Settings::default(), None);
    for start in ["POST", "PRI", "P", "PUT"] {
        let mut stream = node.connect().await;
        stream.set_nodelay(true).unwrap();
        let request = format!("{start} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        for byte in request.into_bytes() {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(rest(&mut stream).await.ends_with("hello"), "{start}");
    }
}

/// A connection of hyper's HTTP/2 client over a stream.
async fn http2_client<T>(stream: T) -> hyper::client::conn::http2::SendRequest<Body>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let (sender, driven) =
        hyper::client::conn::http2::handshake(LocalExecutor, TokioIo::new(stream))
            .await
            .unwrap();
    tokio::task::spawn_local(async move {
        let _ = driven.await;
    });
    sender
}

async fn http1_client<T>(stream: T) -> hyper::client::conn::http1::SendRequest<Body>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let (sender, driven) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::task::spawn_local(async move {
        let _ = driven.await;
    });
    sender
}

fn request(uri: &str) -> Request<Body> {
    Request::get(uri)
        .header("host", "a")
        .body(Body::Empty)
        .unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "local")]
async fn http2_is_known_by_its_preface() {
    let node = Fixture::start(Settings::default(), None);
    let mut viewer = http2_client(node.connect().await).await;
    let response = viewer
        .send_request(request("http://a/connection"))
        .await
        .unwrap();
    assert_eq!(text(response).await, "Http2 false None");

    let only_http1 = Fixture::start(
        Settings {
            http2: false,
            ..Settings::default()
        },
        None,
    );
    let mut stream = only_http1.connect().await;
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    rest(&mut stream).await;
    assert_eq!(only_http1.gateway.calls.get(), 0);
}

fn identity() -> (Identity, rustls::RootCertStore) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let identity =
        Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    (identity, roots)
}

async fn tls_connect(
    address: SocketAddr,
    roots: &rustls::RootCertStore,
    alpn: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config))
        .connect("localhost".try_into().unwrap(), stream)
        .await
}

#[tokio::test(flavor = "local")]
async fn under_tls_the_handshake_agrees_on_the_protocol() {
    let (identity, roots) = identity();
    let tls = Arc::new(Tls::new(&identity, true, true).unwrap());
    let node = Fixture::start(Settings::default(), Some(tls));

    let stream = tls_connect(node.address, &roots, &[b"h2", b"http/1.1"])
        .await
        .unwrap();
    let mut viewer = http2_client(stream).await;
    let response = viewer
        .send_request(request("https://localhost/connection"))
        .await
        .unwrap();
    assert_eq!(text(response).await, "Http2 true Some(\"localhost\")");

    for alpn in [&[b"http/1.1".as_slice()][..], &[]] {
        let mut viewer = http1_client(tls_connect(node.address, &roots, alpn).await.unwrap()).await;
        let response = viewer.send_request(request("/connection")).await.unwrap();
        assert_eq!(text(response).await, "Http1 true Some(\"localhost\")");
    }
}

#[tokio::test(flavor = "local")]
async fn a_certificate_is_replaced_without_a_restart() {
    let (old, old_roots) = identity();
    let (new, new_roots) = identity();
    let tls = Arc::new(Tls::new(&old, true, true).unwrap());
    let node = Fixture::start(Settings::default(), Some(tls.clone()));
    let mut before = http1_client(tls_connect(node.address, &old_roots, &[]).await.unwrap()).await;
    tls.replace(&new).unwrap();
    assert!(tls_connect(node.address, &new_roots, &[]).await.is_ok());
    assert!(tls_connect(node.address, &old_roots, &[]).await.is_err());
    assert_eq!(
        before.send_request(request("/")).await.unwrap().status(),
        200,
        "on the connection of before"
    );
}

#[test]
fn an_identity_needs_a_certificate_and_its_own_key() {
    let make = || {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new())
            .unwrap()
            .self_signed(&key)
            .unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let (certificate, key) = make();
    let (_, other_key) = make();
    let cases = [
        (certificate.as_str(), key.as_str(), None),
        (&key, &key, Some("no certificate in the file")),
        (&certificate, &certificate, Some("private key is not PEM")),
        (
            &certificate,
            &other_key,
            Some("certificate and private key cannot be used"),
        ),
    ];
    for (certificate, key, expected) in cases {
        let error = Identity::from_pem(certificate.as_bytes(), key.as_bytes()).err();
        assert_eq!(error.map(|error| error.to_string()).as_deref(), expected);
    }
}

#[tokio::test(flavor = "local")]
async fn a_viewer_that_waits_for_100_is_told_when_its_body_is_read() {
    let node = Fixture::start(Settings::default(), None);
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\nconnection: close\r\n\r\n"
        )
    };
    let mut stream = node.connect().await;
    stream.write_all(head("/read").as_bytes()).await.unwrap();
    let expected = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut interim = vec![0; expected.len()];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(interim, expected);
    stream.write_all(b"data").await.unwrap();
    assert!(rest(&mut stream).await.ends_with("data"));

    let response = node.exchange(head("/unread").as_bytes()).await;
    assert!(
        response.starts_with("HTTP/1.1 200 OK\r\n"),
        "not asked for the body: {response}"
    );
}

#[tokio::test(flavor = "local")]
async fn an_upgrade_is_answered_without_upgrading() {
    let node = Fixture::start(Settings::default(), None);
    let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let mut stream = node.connect().await;
    stream.write_all(request).await.unwrap();
    assert!(
        read_response(&mut stream)
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
    stream.write_all(LAST).await.unwrap();
    assert!(rest(&mut stream).await.ends_with("hello"), "still HTTP");
}

#[tokio::test(flavor = "local")]
async fn trailers_pass_in_both_directions() {
    let node = Fixture::start(Settings::default(), None);
    let mut stream = node.connect().await;
    let request = b"POST /echo HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntrailer: x-sum\r\nconnection: close\r\n\
        transfer-encoding: chunked\r\n\r\n4\r\ndata\r\n0\r\nx-sum: 42\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let response = rest(&mut stream).await;
    assert!(response.contains("4\r\ndata\r\n"), "{response}");

    let mut viewer = http2_client(node.connect().await).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    let pieces = [
        Ok(Frame::data(Bytes::from("data"))),
        Ok(Frame::trailers(trailers.clone())),
    ];
    let request = Request::post("http://a/echo")
        .body(stream_of(pieces))
        .unwrap();
    let response = viewer.send_request(request).await.unwrap();
    let echoed = response.into_body().collect().await.unwrap();
    assert_eq!(echoed.trailers(), Some(&trailers));
}

fn stream_of<const N: usize>(pieces: [Result<Frame<Bytes>, BoxError>; N]) -> Body {
    stream(pieces.into_iter())
}

#[tokio::test(flavor = "local")]
async fn how_a_response_ended_is_told_once() {
    let mut node = Fixture::start(Settings::default(), None);
    let mut stream = node.connect().await;
    stream
        .write_all(b"HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let response = rest(&mut stream).await;
    assert!(
        response.contains("content-length: 5\r\n") && response.ends_with("\r\n\r\n"),
        "{response}"
    );
    assert_eq!(
        node.ends.recv().await.unwrap(),
        (0, "complete"),
        "HEAD has no body to send"
    );

    let mut stream = node.connect().await;
    stream
        .write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    stream.read_u8().await.unwrap();
    drop(stream);
    let (bytes, end) = node.ends.recv().await.unwrap();
    assert!(bytes > 0 && end == "abandoned", "{bytes} {end}");

    let mut stream = node.connect().await;
    stream
        .write_all(b"GET /fails HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let cut = rest(&mut stream).await;
    assert!(!cut.ends_with("0\r\n\r\n"), "no clean end: {cut}");
    assert_eq!(node.ends.recv().await.unwrap(), (4, "failed"));

    let mut viewer = http2_client(node.connect().await).await;
    let whole = match viewer.send_request(request("http://a/fails")).await {
        Ok(response) => response.into_body().collect().await.is_ok(),
        Err(_) => false, // reset before its header section was flushed
    };
    assert!(!whole, "no clean end");
    assert_eq!(node.ends.recv().await.unwrap(), (4, "failed"));
    let response = viewer
        .send_request(request("http://a/endless"))
        .await
        .unwrap();
    drop(response);
    assert_eq!(node.ends.recv().await.unwrap().1, "abandoned");
}

#[tokio::test(flavor = "local")]
async fn a_viewer_that_takes_no_bytes_is_cut_off() {
    let write_timeout = Duration::from_millis(50);
    let mut node = Fixture::start(
        Settings {
            write_timeout,
            ..Settings::default()
        },
        None,
    );
    let mut stream = node.connect().await;
    stream
        .write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let ended = tokio::time::timeout(PATIENCE, node.ends.recv())
        .await
        .unwrap();
    assert_eq!(ended.unwrap().1, "abandoned");
    drop(stream);
}

#[tokio::test(flavor = "local")]
async fn a_panic_costs_one_connection_and_no_more() {
    let node = Fixture::start(Settings::default(), None);
    let mut other = node.connect().await;
    other.write_all(GET).await.unwrap();
    read_response(&mut other).await;
    assert_eq!(
        node.exchange(b"GET /panic HTTP/1.1\r\nhost: a\r\n\r\n")
            .await,
        ""
    );
    other.write_all(LAST).await.unwrap();
    assert!(rest(&mut other).await.ends_with("hello"));

    let mut viewer = http2_client(node.connect().await).await;
    assert!(
        viewer
            .send_request(request("http://a/panic"))
            .await
            .is_err()
    );
    assert_eq!(
        viewer
            .send_request(request("http://a/"))
            .await
            .unwrap()
            .status(),
        200,
        "one stream"
    );
}

#[tokio::test(flavor = "local")]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let node = Fixture::start(
        Settings {
            connections_max: 1,
            ..Settings::default()
        },
        None,
    );
    let mut first = node.connect().await;
    first.write_all(GET).await.unwrap();
    read_response(&mut first).await;
    let mut second = node.connect().await; // by the kernel
    second.write_all(LAST).await.unwrap();
    first.write_all(GET).await.unwrap();
    read_response(&mut first).await;
    assert_eq!(
        node.gateway.calls.get(),
        2,
        "the second connection's request waits"
    );
    drop(first);
    assert!(rest(&mut second).await.ends_with("hello"));
}

#[tokio::test(flavor = "local")]
async fn no_request_is_lost_when_the_node_drains() {
    let node = Fixture::start(Settings::default(), None);
    let served = Rc::new(Cell::new(0_u32));
    // Each viewer sends on one connection as long as it may, and opens another one where it was told to close it.
    let viewers: Vec<_> = (0..20)
        .map(|_| {
            let address = node.address;
            let served = served.clone();
            tokio::task::spawn_local(async move {
                while let Ok(mut stream) = TcpStream::connect(address).await {
                    loop {
                        stream
                            .write_all(GET)
                            .await
                            .expect("an open connection takes a request");
                        let response = read_response(&mut stream).await;
                        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
                        served.set(served.get() + 1);
                        if response.contains("connection: close\r\n") {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    while served.get() < 500 {
        tokio::task::yield_now().await;
    }
    node.trigger.pull(Duration::from_secs(10));
    for viewer in viewers {
        viewer.await.expect("no viewer met a closed connection");
    }
    assert_eq!(node.drained.await.unwrap(), Outcome::Clean);
    node.accepting.await.unwrap().unwrap();
    assert_eq!(node.gateway.calls.get(), served.get());
}

#[tokio::test(flavor = "local")]
async fn http2_streams_are_finished_when_the_node_drains() {
    let node = Fixture::start(Settings::default(), None);
    let mut viewer = http2_client(node.connect().await).await;
    let (feed, receiver) = mpsc::unbounded_channel();
    let body = Body::Boxed(UnsyncBoxBody::new(Fed(receiver)));
    let mut response = viewer
        .send_request(Request::post("http://a/echo").body(body).unwrap())
        .await
        .unwrap();
    node.trigger.pull(Duration::from_secs(10));
    feed.send(Ok(Frame::data(Bytes::from("late")))).unwrap();
    assert_eq!(
        response
            .body_mut()
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap(),
        "late"
    );
    drop(feed);
    assert_eq!(text(response).await, "");
    assert_eq!(node.drained.await.unwrap(), Outcome::Clean);
    assert!(
        viewer.send_request(request("http://a/")).await.is_err(),
        "gone away"
    );
}

#[tokio::test(flavor = "local")]
async fn what_does_not_end_is_cut_at_the_deadline() {
    let node = Fixture::start(Settings::default(), None);
    let mut stream = node.connect().await;
    stream
        .write_all(b"GET /pending HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    while node.gateway.calls.get() == 0 {
        tokio::task::yield_now().await;
    }
    node.trigger.pull(Duration::from_millis(30));
    assert_eq!(node.drained.await.unwrap(), Outcome::Cut { connections: 1 });
    node.accepting.abort();
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test(flavor = "local")]
async fn methods_and_versions_pass_as_they_are() {
    let node = Fixture::start(Settings::default(), None);
    let response = node.exchange(b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.0 200 OK\r\n"), "{response}");
    let mut viewer = http1_client(node.connect().await).await;
    for method in ["DELETE", "PATCH", "PURGE"] {
        let mut request = request("/");
        *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(
            text(viewer.send_request(request).await.unwrap()).await,
            "hello"
        );
        viewer.ready().await.unwrap();
    }
}

/// A body that yields what is sent to it.
struct Fed(mpsc::UnboundedReceiver<Result<Frame<Bytes>, Infallible>>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0
            .poll_recv(cx)
            .map(|piece| piece.map(|piece| piece.map_err(|never| match never {})))
    }
}

/// Until a condition must hold.
const PATIENCE: Duration = Duration::from_secs(10);
