//! Upstreams over real sockets: hyper for origins that behave, bare sockets for those that do not.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderValue};
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tidegate_model::balance::{Balance, HealthThresholds};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

use super::*;
use crate::body::{Body, BodyError, Fault};
use crate::listen::tls::{Identity, Tls as ServerTls};
use crate::stream::LocalExecutor;

/// Serves each connection with `serve`, which is told its number.
async fn raw_origin<F>(serve: impl Fn(TcpStream, usize) -> F + 'static) -> SocketAddr
where
    F: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(serve(stream, number));
        }
    });
    address
}

/// Serves each request with `answer`, over HTTP/1.1 or HTTP/2.
async fn http_origin<F, B>(
    protocol: Protocol,
    answer: impl Fn(Request<Incoming>) -> F + Clone + 'static,
) -> SocketAddr
where
    F: Future<Output = Response<B>> + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<crate::body::BoxError>> + 'static,
{
    raw_origin(move |stream, _| {
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let answer = answer(request);
            async { Ok::<_, Infallible>(answer.await) }
        });
        serve(protocol, stream, service)
    })
    .await
}

/// Serves one connection until it ends.
async fn serve<B, S>(protocol: Protocol, stream: TcpStream, service: S)
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S::Future: 'static,
    B: http_body::Body<Data = Bytes, Error: Into<crate::body::BoxError>> + 'static,
{
    let io = TokioIo::new(stream);
    let _ = match protocol {
        Protocol::Http1 => {
            hyper::server::conn::http1::Builder::new()
                .serve_connection(io, service)
                .await
        }
        Protocol::Http2 => {
            hyper::server::conn::http2::Builder::new(LocalExecutor)
                .serve_connection(io, service)
                .await
        }
    };
}

async fn hello(_: Request<Incoming>) -> Response<Full<Bytes>> {
    Response::new("hello".into())
}

/// An address where nobody listens.
fn dead() -> SocketAddr {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

fn settings(targets: &[SocketAddr]) -> Settings {
    let address = |socket: &SocketAddr| TargetAddress {
        tls: false,
        host: socket.ip().to_string(),
        port: socket.port(),
    };
    Settings {
        targets: targets.iter().map(address).collect(),
        ..Settings::new("origin", address(&targets[0]))
    }
}

struct Fixture {
    directory: Arc<Directory>,
    upstreams: Upstreams,
}

impl Fixture {
    fn new(settings: Settings) -> Self {
        let directory = Directory::new(vec![settings], 1).unwrap();
        let upstreams = Upstreams::new(directory.clone());
        Self {
            directory,
            upstreams,
        }
    }

    fn handle(&self) -> Handle {
        self.upstreams.named("origin").unwrap()
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, UpstreamError> {
        self.handle().send(request, SendOptions::default()).await
    }

    async fn text(&self, request: Request<Body>) -> String {
        read(self.send(request).await.unwrap()).await.unwrap()
    }

    fn report(&self) -> TargetReport {
        self.directory.report().remove(0)
    }

    /// Waits until the figures are as told.
    async fn until(&self, condition: impl Fn(&TargetReport) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !condition(&self.report()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        waited
            .await
            .unwrap_or_else(|_| panic!("still {:?}", self.report()));
    }
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::Empty).unwrap()
}

fn post(content: &'static str) -> Request<Body> {
    Request::post("/").body(content.into()).unwrap()
}

async fn read(response: Response<Body>) -> Result<String, BodyError> {
    let bytes = response.into_body().collect(1 << 20).await?;
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

/// Reads a header section.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// An origin that answers each connection's first request with these bytes, then closes it.
async fn says(bytes: &'static [u8]) -> SocketAddr {
    raw_origin(move |mut stream, _| async move {
        read_head(&mut stream).await;
        stream.write_all(bytes).await.unwrap();
    })
    .await
}

/// A body that yields what is sent to it.
struct Channel(mpsc::UnboundedReceiver<Result<Frame<Bytes>, crate::body::BoxError>>);

impl http_body::Body for Channel {
    type Data = Bytes;
    type Error = crate::body::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, crate::body::BoxError>>> {
        self.0.poll_recv(cx)
    }
}

type Feed = mpsc::UnboundedSender<Result<Frame<Bytes>, crate::body::BoxError>>;

fn channel() -> (Feed, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Body::Boxed(Channel(receiver).boxed_unsync()))
}

#[tokio::test(flavor = "local")]
async fn requests_one_after_the_other_share_a_connection() {
    let origin = Fixture::new(settings(&[http_origin(Protocol::Http1, hello).await]));
    for _ in 0..5 {
        assert_eq!(origin.text(get("/")).await, "hello");
    }
    assert_eq!(origin.text(post("x")).await, "hello");
    let report = origin.report();
    assert_eq!(
        (report.connects, report.requests, report.failures),
        (1, 6, 0)
    );
    origin
        .until(|report| report.connections_idle == 1 && report.in_flight == 0)
        .await;
}

#[tokio::test(flavor = "local")]
async fn the_target_sees_its_own_host_unless_told_otherwise() {
    let address = http_origin(Protocol::Http1, |request: Request<Incoming>| async move {
        let host = request.headers()[HOST].as_bytes().to_vec();
        Response::new(Full::<Bytes>::from(host))
    })
    .await;
    let origin = Fixture::new(settings(&[address]));
    let request = || {
        Request::get("/")
            .header(HOST, "viewer.example")
            .body(Body::Empty)
            .unwrap()
    };
    assert_eq!(origin.text(request()).await, address.to_string());
    let options = SendOptions {
        host: Host::Request,
        ..SendOptions::default()
    };
    let response = origin.handle().send(request(), options).await.unwrap();
    assert_eq!(read(response).await.unwrap(), "viewer.example");
}

#[tokio::test(flavor = "local")]
async fn a_connection_closed_while_idle_fails_no_request() {
    let address = raw_origin(|mut stream, _| async move {
        read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await
            .unwrap();
    })
    .await;
    let origin = Fixture::new(settings(&[address]));
    for _ in 0..20 {
        let body = Request::post("/").body(Body::Empty).unwrap();
        assert_eq!(
            origin.text(body).await,
            "ok",
            "a POST could not be sent twice"
        );
    }
    assert_eq!(origin.report().failures, 0);
}

#[tokio::test(flavor = "local")]
async fn a_connection_that_closes_on_a_request_is_renewed_where_that_is_safe() {
    let address = raw_origin(|mut stream, number| async move {
        read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await
            .unwrap();
        if number % 2 == 0 {
            read_head(&mut stream).await; // the second request, which gets no answer
        } else {
            let head = read_head(&mut stream).await.unwrap_or_default();
            let length = head.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{head}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let origin = Fixture::new(Settings {
        retries: 0,
        ..settings(&[address])
    });

    assert_eq!(origin.text(get("/first")).await, "ok");
    let again = Request::get("/second?a=b")
        .header("x-a", "1")
        .body(Body::Empty)
        .unwrap();
    assert_eq!(
        origin.text(again).await,
        "ok",
        "on connection 1, by a copy of the request"
    );
    let echoed = origin
        .text(
            Request::get("/third")
                .header("x-a", "2")
                .body(Body::Empty)
                .unwrap(),
        )
        .await;
    assert!(
        echoed.starts_with("GET /third HTTP/1.1\r\n") && echoed.contains("x-a: 2\r\n"),
        "{echoed}"
    );

    assert_eq!(origin.text(get("/first")).await, "ok", "on connection 2");
    let error = origin.send(post("once")).await.unwrap_err();
    assert!(
        matches!(error, UpstreamError::ConnectionTerminated { .. }),
        "{error:?}"
    );
}

/// An origin that gives a request's body back, but on its first connection ends with a PUT once it has read as many octets
/// of it as the path says.
async fn ends_on_put(protocol: Protocol) -> SocketAddr {
    raw_origin(move |stream, number| async move {
        let enough = Rc::new(Notify::new());
        let read_all = enough.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let enough = read_all.clone();
            async move {
                let ends = number == 0 && request.method() == Method::PUT;
                let wanted: usize = request.uri().path()[1..].parse().unwrap_or_default();
                let mut body = request.into_body();
                let mut bytes = Vec::new();
                while let Some(frame) = body.frame().await {
                    bytes.extend(frame.unwrap().into_data().unwrap_or_default());
                    if ends && bytes.len() >= wanted {
                        enough.notify_one();
                        std::future::pending::<()>().await;
                    }
                }
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(bytes)))
            }
        });
        let serving = serve(protocol, stream, service);
        tokio::select! {
            () = serving => {}
            () = enough.notified() => {}
        }
    })
    .await
}

#[tokio::test(flavor = "local")]
async fn a_short_body_is_sent_again_with_its_request() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for (what, known) in [("its length known", true), ("in pieces", false)] {
            let origin = Fixture::new(Settings {
                protocol,
                retries: 0,
                ..settings(&[ends_on_put(protocol).await])
            });
            assert_eq!(origin.text(post("warm")).await, "warm");
            let (feed, body) = channel();
            let body = if known { "one two".into() } else { body };
            feed.send(Ok(Frame::data("one ".into()))).unwrap();
            let handle = origin.handle();
            let request = Request::put("/4").header("x-a", "1").body(body).unwrap();
            let sending = handle.send(request, SendOptions::default());
            let feeding = async {
                origin.until(|report| report.connects == 2).await;
                let _ = feed.send(Ok(Frame::data("two".into())));
                drop(feed);
            };
            let (response, ()) = tokio::join!(sending, feeding);
            let text = read(response.unwrap()).await.unwrap();
            assert_eq!(text, "one two", "{protocol:?}, {what}");
            let report = origin.report();
            assert_eq!((report.failures, report.retries), (0, 0), "{protocol:?}");
        }
    }
}

#[tokio::test(flavor = "local")]
async fn a_long_body_is_sent_once() {
    let long = Bytes::from(vec![b'x'; replay::BODY_KEPT_MAX + 1]);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for known in [true, false] {
            let origin = Fixture::new(Settings {
                protocol,
                retries: 0,
                ..settings(&[ends_on_put(protocol).await])
            });
            assert_eq!(origin.text(post("warm")).await, "warm");
            let (feed, body) = channel();
            feed.send(Ok(Frame::data(long.clone()))).unwrap();
            let body = if known { long.clone().into() } else { body };
            let request = Request::put(format!("/{}", long.len())).body(body).unwrap();
            let error = origin.send(request).await.unwrap_err();
            assert!(
                matches!(error, UpstreamError::ConnectionTerminated { .. }),
                "{protocol:?}: {error:?}"
            );
            assert_eq!(origin.report().connects, 1);
        }
    }
}

#[tokio::test(flavor = "local")]
async fn a_connection_is_not_used_for_longer_than_its_server_says() {
    for content in ["ok", ""] {
        for (keep_alive, connects) in [("keep-alive: timeout=0\r\n", 4), ("", 1)] {
            let length = content.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\n{keep_alive}content-length: {length}\r\n\r\n{content}");
            let address = raw_origin(move |mut stream, _| {
                let answer = answer.clone();
                async move {
                    while read_head(&mut stream).await.is_some() {
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            })
            .await;
            let origin = Fixture::new(settings(&[address]));
            for _ in 0..4 {
                let request = Request::post("/").body(Body::Empty).unwrap();
                assert_eq!(origin.text(request).await, content);
            }
            let report = origin.report();
            assert_eq!(report.connects, connects, "{keep_alive:?}, {content:?}");
        }
    }
}

#[tokio::test(flavor = "local")]
async fn what_was_not_sent_goes_to_another_target() {
    let live = http_origin(Protocol::Http1, |request: Request<Incoming>| async move {
        Response::new(Full::new(
            request.into_body().collect().await.unwrap().to_bytes(),
        ))
    })
    .await;
    let origin = Fixture::new(settings(&[dead(), live]));
    for _ in 0..4 {
        assert_eq!(origin.text(post("once")).await, "once");
    }
    let refused = origin
        .directory
        .report()
        .into_iter()
        .find(|report| report.failures > 0)
        .unwrap();
    assert_eq!(
        (refused.failures, refused.retries),
        (2, 2),
        "every other turn"
    );
}

#[tokio::test(flavor = "local")]
async fn without_a_live_target_the_error_says_why() {
    let origin = Fixture::new(settings(&[dead()]));
    let error = origin.send(get("/")).await.unwrap_err();
    assert!(
        matches!(error, UpstreamError::ConnectionRefused { .. }),
        "{error:?}"
    );
    assert_eq!(error.disposition().status, 502);
    assert_eq!(origin.report().requests, 2, "one retry");
}

#[tokio::test(flavor = "local")]
async fn misbehaving_targets_have_names() {
    let huge: &'static str =
        format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(200_000)).leak();
    let cases: [(&str, &'static [u8], &str); 5] = [
        ("closes at once", b"", "connection_terminated"),
        (
            "closes within the header",
            b"HTTP/1.1 200 OK\r\ncont",
            "connection_terminated",
        ),
        (
            "speaks something else",
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "http_protocol_error",
        ),
        (
            "two lengths",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n12",
            "http_protocol_error",
        ),
        (
            "a header without end",
            huge.as_bytes(),
            "http_response_header_section_size",
        ),
    ];
    for (what, bytes, expected) in cases {
        let origin = Fixture::new(Settings {
            retries: 0,
            ..settings(&[says(bytes).await])
        });
        let error = origin.send(get("/")).await.unwrap_err();
        assert_eq!(
            error.disposition().error_type,
            expected,
            "{what}: {error:?}"
        );
    }
}

#[tokio::test(flavor = "local")]
async fn a_body_that_ends_early_is_an_error_and_not_an_end() {
    let cases: [(&str, &'static [u8], Fault); 4] = [
        (
            "content-length",
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive!",
            Fault::Terminated,
        ),
        (
            "chunked",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfive!\r\n",
            Fault::Terminated,
        ),
        (
            "within a chunk",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nfive!",
            Fault::Terminated,
        ),
        (
            "chunk size",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nz\r\n",
            Fault::Malformed,
        ),
    ];
    for (what, bytes, expected) in cases {
        let origin = Fixture::new(settings(&[says(bytes).await]));
        let error = read(origin.send(get("/")).await.unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.fault(), expected, "{what}: {error:?}");
        origin
            .until(|report| report.in_flight == 0 && report.connections_open == 0)
            .await;
    }
}

#[tokio::test(flavor = "local")]
async fn a_connection_with_more_bytes_than_announced_is_not_used_again() {
    let address = raw_origin(|mut stream, _| async move {
        while read_head(&mut stream).await.is_some() {
            let _ = stream
                .write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 SMUGGLED\r\n\r\n",
                )
                .await;
        }
    })
    .await;
    let origin = Fixture::new(settings(&[address]));
    for _ in 0..3 {
        assert_eq!(origin.text(get("/")).await, "ok");
        origin.until(|report| report.connections_open == 0).await;
    }
    assert_eq!(origin.report().connects, 3);
}

#[tokio::test(flavor = "local")]
async fn a_response_that_does_not_begin_in_time_is_given_up() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let address = http_origin(protocol, |request: Request<Incoming>| async move {
            if request.uri().path() == "/slow" {
                std::future::pending::<()>().await;
            }
            Response::new(Full::<Bytes>::from("hello"))
        })
        .await;
        let origin = Fixture::new(Settings {
            protocol,
            ..settings(&[address])
        });
        assert_eq!(origin.text(get("/")).await, "hello");
        let options = SendOptions {
            first_byte_timeout: Some(Duration::from_millis(30)),
            ..SendOptions::default()
        };
        let error = origin
            .handle()
            .send(get("/slow"), options)
            .await
            .unwrap_err();
        assert!(
            matches!(error, UpstreamError::HttpResponseTimeout { .. }),
            "{protocol:?}: {error:?}"
        );
        assert_eq!(error.disposition().status, 504);
        assert_eq!(origin.text(get("/")).await, "hello");
        assert_eq!(origin.report().failures, 1);
        origin.until(|report| report.in_flight == 0).await;
    }
}

#[tokio::test(flavor = "local")]
async fn a_response_that_stalls_is_given_up() {
    let address = raw_origin(|mut stream, _| async move {
        read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive!")
            .await
            .unwrap();
        let _ = stream.read_u8().await; // until we hang up
    })
    .await;
    let body_idle_timeout = Duration::from_millis(30);
    let origin = Fixture::new(Settings {
        body_idle_timeout,
        ..settings(&[address])
    });
    let error = read(origin.send(get("/")).await.unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.fault(), Fault::IdleTimeout);
    origin.until(|report| report.connections_open == 0).await;
}

#[tokio::test(flavor = "local")]
async fn an_idle_connection_is_closed_after_its_time() {
    let idle_timeout = Duration::from_millis(20);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let address = http_origin(protocol, hello).await;
        let origin = Fixture::new(Settings {
            idle_timeout,
            protocol,
            ..settings(&[address])
        });
        assert_eq!(origin.text(get("/")).await, "hello");
        origin
            .until(|report| report.connections_open == 0 && report.connections_idle == 0)
            .await;
        assert_eq!(origin.text(get("/")).await, "hello");
    }
}

#[tokio::test(flavor = "local")]
async fn a_request_waits_for_a_connection_when_all_are_in_use() {
    let origin = Fixture::new(Settings {
        connections_max: 1,
        connect_timeout: Duration::from_millis(50),
        ..settings(&[http_origin(Protocol::Http1, |_| async {
            let (feed, body) = channel();
            feed.send(Ok(Frame::data("begin".into()))).unwrap();
            tokio::task::spawn_local(async move {
                feed.closed().await; // an endless response
            });
            Response::new(body)
        })
        .await])
    });
    let endless = origin.send(get("/")).await.unwrap();
    let error = origin.send(get("/")).await.unwrap_err();
    assert!(
        matches!(error, UpstreamError::ConnectionLimitReached { .. }),
        "{error:?}"
    );
    assert_eq!(error.disposition().status, 503);

    let handle = origin.handle();
    let mut waiting = Box::pin(handle.send(get("/"), SendOptions::default()));
    poll_fn(|cx| {
        assert!(waiting.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    drop(endless);
    assert_eq!(waiting.await.unwrap().status(), 200);
    assert_eq!(origin.report().connects, 2);
}

#[tokio::test(flavor = "local")]
async fn a_response_may_come_while_the_request_is_still_being_sent() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let address = http_origin(protocol, |request: Request<Incoming>| async move {
            Response::new(request.into_body()) // an echo
        })
        .await;
        let origin = Fixture::new(Settings {
            protocol,
            ..settings(&[address])
        });
        let (feed, body) = channel();
        let mut response = origin
            .send(Request::post("/").body(body).unwrap())
            .await
            .unwrap();
        for piece in ["one", "two"] {
            feed.send(Ok(Frame::data(piece.into()))).unwrap();
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), piece);
        }
        drop(feed);
        assert_eq!(read(response).await.unwrap(), "", "the end follows");
        origin.until(|report| report.in_flight == 0).await;
        assert_eq!(origin.report().connects, 1);
    }
}

#[tokio::test(flavor = "local")]
async fn trailers_pass_in_both_directions() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let address = http_origin(protocol, |request: Request<Incoming>| async move {
            let trailers = request
                .into_body()
                .collect()
                .await
                .unwrap()
                .trailers()
                .cloned()
                .unwrap();
            let (feed, body) = channel();
            feed.send(Ok(Frame::data("data".into()))).unwrap();
            feed.send(Ok(Frame::trailers(trailers))).unwrap();
            let mut response = Response::new(body);
            response
                .headers_mut()
                .insert("trailer", HeaderValue::from_static("x-sum"));
            response
        })
        .await;
        let origin = Fixture::new(Settings {
            protocol,
            ..settings(&[address])
        });
        let (feed, body) = channel();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        feed.send(Ok(Frame::data("data".into()))).unwrap();
        feed.send(Ok(Frame::trailers(trailers.clone()))).unwrap();
        drop(feed);
        let request = Request::post("/")
            .header("te", "trailers")
            .header("trailer", "x-sum")
            .body(body)
            .unwrap();
        let response = origin.send(request).await.unwrap();
        let received = BodyExt::collect(response.into_body()).await.unwrap();
        assert_eq!(received.trailers(), Some(&trailers), "{protocol:?}");
    }
}

#[tokio::test(flavor = "local")]
async fn a_request_whose_body_fails_blames_nobody_else() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let address = http_origin(protocol, |request: Request<Incoming>| async move {
            let _ = request.into_body().collect().await;
            Response::new(Full::<Bytes>::from("read"))
        })
        .await;
        let origin = Fixture::new(Settings {
            protocol,
            ..settings(&[address])
        });

        let (feed, body) = channel();
        feed.send(Ok(Frame::data("data".into()))).unwrap();
        feed.send(Err("lost".into())).unwrap();
        let error = origin
            .send(Request::put("/").body(body).unwrap())
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                UpstreamError::HttpRequestError {
                    fault: Fault::Source
                }
            ),
            "{error:?}"
        );

        let (feed, body) = channel();
        feed.send(Ok(Frame::data("too much".into()))).unwrap();
        let error = origin
            .send(Request::put("/").body(body.with_limit(5)).unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.disposition().status, 413, "{protocol:?}: {error:?}");
        assert_eq!(origin.report().failures, 0);
    }
}

#[tokio::test(flavor = "local")]
async fn giving_up_a_request_closes_its_connection() {
    let (closed, mut was_closed) = mpsc::unbounded_channel();
    let address = raw_origin(move |mut stream, _| {
        let closed = closed.clone();
        async move {
            read_head(&mut stream).await;
            closed.send(()).unwrap();
            let _ = stream.read_u8().await;
            closed.send(()).unwrap();
        }
    })
    .await;
    let origin = Fixture::new(settings(&[address]));
    let handle = origin.handle();
    let sending = handle.send(get("/"), SendOptions::default());
    tokio::select! {
        response = sending => panic!("{response:?}"),
        _ = was_closed.recv() => {} // the request has arrived
    }
    was_closed.recv().await.unwrap();
    origin
        .until(|report| report.in_flight == 0 && report.connections_open == 0)
        .await;
}

#[tokio::test(flavor = "local")]
async fn expect_is_ours_to_answer_and_is_not_passed_on() {
    let address = http_origin(Protocol::Http1, |request: Request<Incoming>| async move {
        let expected = request.headers().contains_key(EXPECT);
        Response::new(Full::<Bytes>::from(format!(
            "{expected} {:?}",
            request.headers().get(CONTENT_LENGTH)
        )))
    })
    .await;
    let origin = Fixture::new(settings(&[address]));
    let request = Request::post("/")
        .header(EXPECT, "100-continue")
        .body("data".into())
        .unwrap();
    assert_eq!(origin.text(request).await, "false Some(\"4\")");
}

#[tokio::test(flavor = "local")]
async fn requests_share_one_http2_connection() {
    let address = http_origin(Protocol::Http2, |request: Request<Incoming>| async move {
        Response::new(Full::<Bytes>::from(format!(
            "{:?} {}",
            request.version(),
            request.uri()
        )))
    })
    .await;
    let origin = Rc::new(Fixture::new(Settings {
        protocol: Protocol::Http2,
        ..settings(&[address])
    }));
    let requests: Vec<_> = (0..50)
        .map(|_| {
            let origin = origin.clone();
            tokio::task::spawn_local(async move { origin.text(get("/a?b")).await })
        })
        .collect();
    for request in requests {
        assert_eq!(
            request.await.unwrap(),
            format!("HTTP/2.0 http://{address}/a?b")
        );
    }
    assert_eq!(origin.report().connects, 1);
    origin.until(|report| report.in_flight == 0).await;
}

/// A certificate authority of its own, and an identity for `localhost` under it.
fn authority() -> (Vec<u8>, Identity) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let pem = certificate.pem().into_bytes();
    let identity = Identity::from_pem(&pem, key.serialize_pem().as_bytes()).unwrap();
    (pem, identity)
}

/// An origin under TLS that offers these protocols and says which one was agreed on.
async fn tls_origin(identity: &Identity, http1: bool, http2: bool) -> SocketAddr {
    let tls = Arc::new(ServerTls::new(identity, http1, http2).unwrap());
    raw_origin(move |stream, _| {
        let tls = tls.clone();
        async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let service = service_fn(|request: Request<Incoming>| async move {
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(format!(
                    "{:?}",
                    request.version()
                ))))
            });
            let io = TokioIo::new(stream);
            let _ = if http2 {
                hyper::server::conn::http2::Builder::new(LocalExecutor)
                    .serve_connection(io, service)
                    .await
            } else {
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(io, service)
                    .await
            };
        }
    })
    .await
}

fn tls_settings(address: SocketAddr, ca: &[u8]) -> Settings {
    let mut settings = settings(&[address]);
    settings.targets[0].tls = true;
    settings.tls = Tls {
        ca: Some(ca.to_vec()),
        server_name: Some("localhost".to_owned()),
    };
    settings.retries = 0;
    settings
}

#[tokio::test(flavor = "local")]
async fn targets_under_tls_are_verified() {
    let (ca, identity) = authority();
    let (other, _) = authority();
    let address = tls_origin(&identity, true, true).await;
    for (protocol, expected) in [(Protocol::Http1, "HTTP/1.1"), (Protocol::Http2, "HTTP/2.0")] {
        let origin = Fixture::new(Settings {
            protocol,
            ..tls_settings(address, &ca)
        });
        assert_eq!(origin.text(get("/")).await, expected);
    }

    let origin = Fixture::new(tls_settings(address, &other));
    let error = origin.send(get("/")).await.unwrap_err();
    assert!(
        matches!(error, UpstreamError::TlsCertificateError { .. }),
        "unknown authority: {error:?}"
    );

    let mut wrong_name = tls_settings(address, &ca);
    wrong_name.tls.server_name = Some("elsewhere".to_owned());
    let error = Fixture::new(wrong_name).send(get("/")).await.unwrap_err();
    assert!(
        matches!(error, UpstreamError::TlsCertificateError { .. }),
        "another name: {error:?}"
    );

    let plain = http_origin(Protocol::Http1, hello).await;
    let error = Fixture::new(tls_settings(plain, &ca))
        .send(get("/"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, UpstreamError::TlsProtocolError { .. }),
        "no TLS there: {error:?}"
    );
}

#[tokio::test(flavor = "local")]
async fn a_target_that_does_not_agree_on_http2_is_not_sent_it() {
    let (ca, identity) = authority();
    let address = tls_origin(&identity, true, false).await;
    let origin = Fixture::new(Settings {
        protocol: Protocol::Http2,
        ..tls_settings(address, &ca)
    });
    let error = origin.send(get("/")).await.unwrap_err();
    let name = error.disposition().error_type;
    assert!(
        ["http_protocol_error", "tls_protocol_error"].contains(&name),
        "{error:?}"
    );
}

#[tokio::test(flavor = "local")]
async fn a_handshake_that_stalls_ends_at_the_connect_timeout() {
    let (ca, _) = authority();
    let address = raw_origin(|mut stream, _| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let connect_timeout = Duration::from_millis(30);
    let origin = Fixture::new(Settings {
        connect_timeout,
        ..tls_settings(address, &ca)
    });
    let error = origin.send(get("/")).await.unwrap_err();
    assert!(
        matches!(error, UpstreamError::ConnectionTimeout { .. }),
        "{error:?}"
    );
    origin.until(|report| report.connections_open == 0).await;
}

#[tokio::test(flavor = "local")]
async fn names_are_resolved_and_errors_of_it_named() {
    let address = http_origin(Protocol::Http1, hello).await;
    let mut named = settings(&[address]);
    named.targets[0].host = "localhost".to_owned();
    assert_eq!(Fixture::new(named.clone()).text(get("/")).await, "hello");

    named.targets[0].host = "no-such-name.invalid".to_owned();
    let error = Fixture::new(named).send(get("/")).await.unwrap_err();
    assert!(
        matches!(
            error,
            UpstreamError::DnsError { .. } | UpstreamError::DnsTimeout { .. }
        ),
        "{error:?}"
    );
}

#[tokio::test(flavor = "local")]
async fn targets_whose_checks_fail_get_no_requests_until_they_pass() {
    let well = Rc::new(Cell::new(false));
    let shown = well.clone();
    let address = http_origin(Protocol::Http1, move |request: Request<Incoming>| {
        let status = if request.uri().path() == "/health" && !shown.get() {
            500
        } else {
            200
        };
        async move {
            Response::builder()
                .status(status)
                .body(Full::<Bytes>::default())
                .unwrap()
        }
    })
    .await;
    let origin = Fixture::new(Settings {
        health: Some(HealthCheck {
            path: "/health".to_owned(),
            interval: Duration::from_millis(10),
            timeout: Duration::from_secs(1),
            thresholds: HealthThresholds {
                healthy: 2,
                unhealthy: 2,
            },
            status: tidegate_model::config::StatusRanges::parse("200-399").unwrap(),
        }),
        ..settings(&[address])
    });
    assert_eq!(
        origin.send(get("/")).await.unwrap().status(),
        200,
        "healthy until checked"
    );
    let directory = origin.directory.clone();
    tokio::task::spawn_local(async move { directory.check_health().await });
    origin.until(|report| !report.healthy).await;
    let error = origin.send(get("/")).await.unwrap_err();
    assert!(
        matches!(error, UpstreamError::DestinationUnavailable { .. }),
        "{error:?}"
    );

    well.set(true);
    origin.until(|report| report.healthy).await;
    assert_eq!(origin.send(get("/")).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "local")]
async fn a_failing_target_is_left_out_for_a_while_but_never_all() {
    let live = http_origin(Protocol::Http1, hello).await;
    let ejection = Some(Ejection {
        failures: 2,
        period: Duration::from_secs(600),
    });
    let origin = Fixture::new(Settings {
        ejection,
        ..settings(&[dead(), live])
    });
    for _ in 0..20 {
        assert_eq!(origin.text(get("/")).await, "hello");
    }
    let failed = origin
        .directory
        .report()
        .into_iter()
        .find(|report| report.ejected)
        .unwrap();
    assert_eq!((failed.failures, failed.ejections), (2, 1));

    let alone = Fixture::new(Settings {
        ejection,
        retries: 0,
        ..settings(&[dead()])
    });
    for _ in 0..5 {
        let error = alone.send(get("/")).await.unwrap_err();
        assert!(
            matches!(error, UpstreamError::ConnectionRefused { .. }),
            "still tried: {error:?}"
        );
    }
    assert!(!alone.report().ejected);
}

#[tokio::test(flavor = "local")]
async fn least_request_avoids_the_busy_target() {
    let answer = |name: &'static str| {
        move |request: Request<Incoming>| async move {
            let (feed, body) = channel();
            feed.send(Ok(Frame::data(name.into()))).unwrap();
            if request.uri().path() == "/endless" {
                tokio::task::spawn_local(async move { feed.closed().await });
            }
            Response::new(body)
        }
    };
    let a = http_origin(Protocol::Http1, answer("a")).await;
    let b = http_origin(Protocol::Http1, answer("b")).await;
    let origin = Fixture::new(Settings {
        balance: Balance::LeastRequest,
        ..settings(&[a, b])
    });
    let mut busy = origin.send(get("/endless")).await.unwrap();
    let busy_name = busy
        .body_mut()
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    for _ in 0..6 {
        let response = origin.send(get("/")).await.unwrap();
        assert_ne!(
            read(response).await.unwrap(),
            busy_name,
            "while the other one is busy"
        );
    }
    drop(busy);
    let names = [origin.text(get("/")).await, origin.text(get("/")).await];
    assert_ne!(names[0], names[1], "in turn again");
}

#[tokio::test(flavor = "local")]
async fn an_update_keeps_the_connections_of_what_did_not_change() {
    let address = http_origin(Protocol::Http1, hello).await;
    let origin = Fixture::new(settings(&[address]));
    assert_eq!(origin.text(get("/")).await, "hello");
    let old = origin.handle();

    let other = Settings {
        name: "other".to_owned(),
        ..settings(&[address])
    };
    origin
        .directory
        .update(vec![settings(&[address]), other.clone()])
        .unwrap();
    assert!(origin.upstreams.named("other").is_some());
    assert_eq!(origin.text(get("/")).await, "hello");
    assert_eq!(origin.report().connects, 1, "the connection of before");

    origin
        .directory
        .update(vec![Settings {
            retries: 5,
            ..settings(&[address])
        }])
        .unwrap();
    assert_eq!(origin.text(get("/")).await, "hello");
    assert_eq!(origin.report().requests, 1, "a new start");
    assert!(origin.upstreams.named("other").is_none());
    let response = old.send(get("/"), SendOptions::default()).await.unwrap();
    assert_eq!(
        read(response).await.unwrap(),
        "hello",
        "a handle outlives its configuration"
    );
}

#[tokio::test(flavor = "local")]
async fn settings_that_cannot_work_are_refused() {
    let address = dead();
    let no_targets = Settings {
        targets: Vec::new(),
        ..settings(&[address])
    };
    let ca = Settings {
        tls: Tls {
            ca: Some(b"no pem".to_vec()),
            server_name: None,
        },
        ..tls_settings(address, b"")
    };
    let name = Settings {
        tls: Tls {
            ca: None,
            server_name: Some("not a name".to_owned()),
        },
        ..tls_settings(address, b"")
    };
    let cases = [
        (no_targets, "upstream origin: no targets"),
        (
            ca,
            "upstream origin: the CA file is not PEM, or has no certificate",
        ),
        (name, "upstream origin: \"not a name\" is not a server name"),
    ];
    for (settings, expected) in cases {
        assert_eq!(
            Directory::new(vec![settings], 1).unwrap_err().to_string(),
            expected
        );
    }
}

#[tokio::test(flavor = "local")]
async fn hosts_that_are_not_configured_are_pooled_within_a_bound() {
    let address = http_origin(Protocol::Http1, hello).await;
    let upstreams = Upstreams::new(Directory::new(Vec::new(), 1).unwrap());
    let target = TargetAddress::parse(&format!("http://{address}")).unwrap();
    for _ in 0..2 * AD_HOC_MAX {
        let handle = upstreams.resolve(&target).unwrap();
        assert_eq!(
            read(handle.send(get("/"), SendOptions::default()).await.unwrap())
                .await
                .unwrap(),
            "hello"
        );
    }
    assert_eq!(
        upstreams.resolve(&target).unwrap().0.group.targets[0]
            .report(&upstreams.resolve(&target).unwrap().0.group)
            .connects,
        1
    );
    for port in 1..=2 * AD_HOC_MAX {
        let other = TargetAddress {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port: u16::try_from(port).unwrap(),
        };
        upstreams.resolve(&other).unwrap();
    }
    assert_eq!(upstreams.ad_hoc.borrow().handles.len(), AD_HOC_MAX);
}

#[test]
fn target_addresses_are_scheme_host_and_port() {
    let cases = [
        ("http://a", Some((false, "a", 80, "a"))),
        (
            "https://A.example/",
            Some((true, "a.example", 443, "a.example")),
        ),
        (
            "http://127.0.0.1:9001",
            Some((false, "127.0.0.1", 9001, "127.0.0.1:9001")),
        ),
        ("http://[::1]:80", Some((false, "::1", 80, "[::1]"))),
        ("https://a:80", Some((true, "a", 80, "a:80"))),
        ("http://a/path", None),
        ("http://a?query", None),
        ("ftp://a", None),
        ("a:80", None),
    ];
    for (uri, expected) in cases {
        let parsed = TargetAddress::parse(uri);
        let seen = parsed.as_ref().map(|address| {
            (
                address.tls,
                address.host.as_str(),
                address.port,
                address.authority(),
            )
        });
        let expected =
            expected.map(|(tls, host, port, authority)| (tls, host, port, authority.to_owned()));
        assert_eq!(seen, expected, "{uri}");
    }
}

#[tokio::test(flavor = "local")]
async fn a_response_without_body_frees_its_place_at_once() {
    let address = http_origin(Protocol::Http1, |_| async {
        Response::builder()
            .status(204)
            .body(Full::<Bytes>::default())
            .unwrap()
    })
    .await;
    let origin = Fixture::new(settings(&[address]));
    let request = Request::builder()
        .method(Method::DELETE)
        .uri("/")
        .body(Body::Empty)
        .unwrap();
    let response = origin.send(request).await.unwrap();
    assert_eq!(origin.report().in_flight, 0);
    assert!(response.body().is_end_stream());
}

/// Until a condition must hold.
const PATIENCE: Duration = Duration::from_secs(10);
