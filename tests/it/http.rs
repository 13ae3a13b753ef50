//! HTTP/1.1 and HTTP/2 between the viewer, the node and the origin.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, Version};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use serde_json::json;
use tidegate_tests::{Api, Authority, Body, Connection, Operation, TestNode, TestOrigin, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A node that forwards everything below `/test` to `origin`.
async fn forwarding_to(origin: &TestOrigin) -> TestNode {
    let api = Api::new().route("ANY /{proxy+}", Operation::proxy("http://origin/{proxy}"));
    TestNode::with("")
        .api(&api)
        .upstream("origin", origin.address())
        .start()
        .await
}

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    let origin = TestOrigin::saying("hello").await;
    let node = forwarding_to(&origin).await;
    let mut connection = node.connect().await;
    for _ in 0..5 {
        let reply = connection
            .ask(node.build("GET", "/test/a").body(Bytes::new()).unwrap())
            .await
            .unwrap();
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (200, "hello")
        );
        assert_eq!(reply.version, Version::HTTP_11);
    }
    assert_eq!(origin.requests(), 5);
    assert_eq!(
        origin.connections(),
        1,
        "the connection to the origin is kept as well"
    );
}

#[tokio::test]
async fn http2_in_the_clear_is_spoken_by_prior_knowledge() {
    let origin = TestOrigin::echo().await;
    let node = forwarding_to(&origin).await;
    let mut connection = node.connect_h2().await;
    for number in 0..5 {
        let request = node
            .build("POST", &format!("/test/a?n={number}"))
            .body(Bytes::from("content"))
            .unwrap();
        let reply = connection.ask(request).await.unwrap();
        reply.assert_status(200);
        assert_eq!(reply.version, Version::HTTP_2);
        assert_eq!(reply.json()["uri"], format!("/a?n={number}"));
        assert_eq!(reply.json()["body"], "content");
        assert_eq!(
            reply.json()["version"],
            "HTTP/1.1",
            "what the upstream's configuration says"
        );
    }
}

#[tokio::test]
async fn tls_agrees_on_the_protocol_that_the_viewer_prefers() {
    let authority = Authority::new();
    let origin = TestOrigin::echo().await;
    let api = Api::new().route("ANY /{proxy+}", Operation::proxy("http://origin/{proxy}"));
    let setup = TestNode::with(
        "[[listener]]\naddress = '127.0.0.1:0'\ntls = { certificate = 'cert.pem', key = 'key.pem' }",
    );
    authority.issue(&[NAME], setup.folder());
    let node = setup
        .api(&api)
        .upstream("origin", origin.address())
        .start()
        .await;

    for (offered, agreed, version) in [
        (&["h2", "http/1.1"][..], "h2", Version::HTTP_2),
        (&["http/1.1"], "http/1.1", Version::HTTP_11),
        (&[], "", Version::HTTP_11),
    ] {
        let mut connection = Connection::tls(node.address(), NAME, authority.client(offered))
            .await
            .unwrap();
        assert_eq!(connection.protocol, agreed);
        let reply = connection
            .ask(node.build("GET", "/test/a").body(Bytes::new()).unwrap())
            .await
            .unwrap();
        reply.assert_status(200);
        assert_eq!(reply.version, version);
        assert_eq!(
            reply.json()["headers"]["x-forwarded-proto"],
            json!(["https"])
        );
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_the_viewers_to_refuse() {
    let setup = TestNode::with(
        "[[listener]]\naddress = '127.0.0.1:0'\ntls = { certificate = 'cert.pem', key = 'key.pem' }",
    );
    Authority::new().issue(&[NAME], setup.folder());
    let node = setup
        .api(&Api::new().route("GET /", Operation::mock("hello")))
        .start()
        .await;
    assert!(
        Connection::tls(node.address(), NAME, Authority::new().client(&["h2"]))
            .await
            .is_err()
    );
}

/// Each piece is sent after the one before came back: nothing on the way waits for a whole body.
#[tokio::test]
async fn bodies_stream_through_piece_by_piece_in_both_directions() {
    let origin = TestOrigin::start(|request| async move {
        Response::new(request.into_body().map_err(std::io::Error::other).boxed())
    })
    .await;
    let node = forwarding_to(&origin).await;
    for mut connection in [node.connect().await, node.connect_h2().await] {
        let (mut pieces, body) = Channel::<Bytes, std::io::Error>::new(1);
        let request = node.build("POST", "/test/echo").body(body.boxed()).unwrap();
        pieces.send_data(Bytes::from("piece 0")).await.unwrap();
        let mut response = connection.send(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(next_piece(response.body_mut()).await, "piece 0");
        for number in 1..4 {
            pieces
                .send_data(Bytes::from(format!("piece {number}")))
                .await
                .unwrap();
            assert_eq!(
                next_piece(response.body_mut()).await,
                format!("piece {number}")
            );
        }
        drop(pieces);
        // HTTP/2 may end a body by a frame without data.
        let rest = response.into_body().collect().await.unwrap().to_bytes();
        assert!(rest.is_empty(), "{rest:?}");
    }
}

async fn next_piece(body: &mut hyper::body::Incoming) -> String {
    let frame = body.frame().await.expect("a piece").expect("no error");
    String::from_utf8(frame.into_data().expect("data").to_vec()).unwrap()
}

#[tokio::test]
async fn a_hundred_mebibytes_pass_in_both_directions_without_being_kept() {
    let origin = TestOrigin::start(|mut request| async move {
        let mut received = 0;
        while let Some(Ok(frame)) = request.body_mut().frame().await {
            received += frame.data_ref().map_or(0, Bytes::len);
        }
        let mut response = Response::new(zeros(PIECES));
        response
            .headers_mut()
            .insert("x-received", HeaderValue::from(received));
        response
    })
    .await;
    let api = Api::new().route("ANY /{proxy+}", Operation::proxy("http://origin/{proxy}"));
    let node = TestNode::with("[limits]\nbody = '200MiB'")
        .api(&api)
        .upstream("origin", origin.address());
    let node = node.start().await;
    node.get("/test/warm").await.assert_status(200);

    let before = node.resident_bytes_max();
    let request = node
        .build("POST", "/test/large")
        .body(zeros(PIECES))
        .unwrap();
    let mut response = node.connect().await.send(request).await.unwrap();
    assert_eq!(
        response.headers()["x-received"],
        (PIECES * PIECE_BYTES).to_string()
    );
    let mut received = 0;
    while let Some(frame) = response.body_mut().frame().await {
        received += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(received, PIECES * PIECE_BYTES);
    let grown = node.resident_bytes_max() - before;
    assert!(grown < 32 << 20, "the node grew by {grown} bytes");
}

const PIECES: usize = 1600;
const PIECE_BYTES: usize = 64 << 10;

fn zeros(pieces: usize) -> Body {
    static PIECE: [u8; PIECE_BYTES] = [0; PIECE_BYTES];
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(4);
    tokio::spawn(async move {
        for _ in 0..pieces {
            if sender.send_data(Bytes::from_static(&PIECE)).await.is_err() {
                return;
            }
        }
    });
    body.boxed()
}

#[tokio::test]
async fn a_viewer_that_expects_100_is_told_to_continue() {
    let origin = TestOrigin::echo().await;
    let node = forwarding_to(&origin).await;
    let mut stream = node.raw().await;
    let head = "POST /_aws/execute-api/api/test/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 7\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(
        read_head(&mut stream).await.lines().next(),
        Some("HTTP/1.1 100 Continue")
    );
    stream.write_all(b"content").await.unwrap();
    assert_eq!(
        read_head(&mut stream).await.lines().next(),
        Some("HTTP/1.1 200 OK")
    );
}

#[tokio::test]
async fn a_request_that_is_refused_is_not_told_to_continue() {
    let api = Api::new().route("POST /a", Operation::mock("hello"));
    let node = TestNode::with("").api(&api).start().await;
    let mut stream = node.raw().await;
    let head = "POST /_aws/execute-api/api/test/b HTTP/1.1\r\nhost: localhost\r\ncontent-length: 7\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(
        read_head(&mut stream).await.lines().next(),
        Some("HTTP/1.1 403 Forbidden")
    );
}

/// Reads one header section and nothing behind it.
async fn read_head(stream: &mut tokio::net::TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a header section"));
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn trailers_pass_from_the_origin_to_the_viewer() {
    let origin = TestOrigin::start(|_| async {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("abc"));
        let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(2);
        sender.send_data(Bytes::from("content")).await.unwrap();
        sender.send_trailers(trailers).await.unwrap();
        Response::builder()
            .header("trailer", "x-checksum")
            .body(body.boxed())
            .unwrap()
    })
    .await;
    let node = forwarding_to(&origin).await;
    for mut connection in [node.connect().await, node.connect_h2().await] {
        let request = node
            .build("GET", "/test/a")
            .header("te", "trailers")
            .body(Bytes::new())
            .unwrap();
        let reply = connection.ask(request).await.unwrap();
        assert_eq!(reply.text(), "content");
        assert_eq!(
            reply.trailers.get("x-checksum").unwrap(),
            "abc",
            "{:?}",
            reply.version
        );
    }
}

#[tokio::test]
async fn trailers_pass_from_the_viewer_to_the_origin() {
    let origin = TestOrigin::start(|request| async move {
        let body = request.into_body().collect().await.unwrap();
        let trailer = body
            .trailers()
            .and_then(|trailers| trailers.get("x-checksum"))
            .cloned();
        Response::new(text(trailer.map_or_else(Bytes::new, |value| {
            Bytes::copy_from_slice(value.as_bytes())
        })))
    })
    .await;
    let node = forwarding_to(&origin).await;
    for mut connection in [node.connect().await, node.connect_h2().await] {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("abc"));
        let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(2);
        sender.send_data(Bytes::from("content")).await.unwrap();
        sender.send_trailers(trailers).await.unwrap();
        drop(sender);
        let request = node
            .build("POST", "/test/a")
            .header("trailer", "x-checksum")
            .body(body.boxed())
            .unwrap();
        let response = connection.send(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "abc");
    }
}

#[tokio::test]
async fn fields_of_the_viewers_connection_do_not_reach_the_origin() {
    let origin = TestOrigin::echo().await;
    let node = forwarding_to(&origin).await;
    let request = node
        .build("GET", "/test/a")
        .header("connection", "x-hop, keep-alive")
        .header("x-hop", "1")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("te", "gzip")
        .header("upgrade", "websocket")
        .header("x-end", "stays");
    let reply = node.ask(request).await;
    reply.assert_status(200);
    let headers = &reply.json()["headers"];
    for name in ["x-hop", "keep-alive", "proxy-connection", "te", "upgrade"] {
        assert_eq!(headers[name], json!(null), "{name} reached the origin");
    }
    assert_eq!(headers["x-end"], json!(["stays"]));
}

#[tokio::test]
async fn fields_of_the_origins_connection_do_not_reach_the_viewer() {
    let origin = TestOrigin::start(|_| async {
        let response = Response::builder()
            .header("connection", "x-hop")
            .header("x-hop", "1");
        response
            .header("keep-alive", "timeout=5")
            .header("x-end", "stays")
            .body(text("hello"))
            .unwrap()
    })
    .await;
    let node = forwarding_to(&origin).await;
    let reply = node.get("/test/a").await;
    reply.assert_status(200);
    for name in ["x-hop", "keep-alive"] {
        assert_eq!(reply.header(name), "", "{name} reached the viewer");
    }
    assert_eq!(reply.header("x-end"), "stays");
}

#[tokio::test]
async fn the_origin_is_told_who_asked_and_by_which_way() {
    let origin = TestOrigin::echo().await;
    let node = forwarding_to(&origin).await;
    let request = node
        .build("GET", "/test/a")
        .header("x-forwarded-for", "192.0.2.1")
        .header("via", "1.0 before");
    let headers = node.ask(request).await.json()["headers"].clone();
    let joined = |name: &str| {
        let values = headers[name]
            .as_array()
            .unwrap_or_else(|| panic!("no {name}: {headers}"));
        values
            .iter()
            .map(|value| value.as_str().unwrap())
            .collect::<Vec<_>>()
            .join(", ")
    };
    assert_eq!(joined("x-forwarded-for"), "192.0.2.1, 127.0.0.1");
    assert_eq!(joined("x-forwarded-proto"), "http");
    assert_eq!(
        joined("x-forwarded-port"),
        node.address().port().to_string()
    );
    let forwarded = joined("forwarded");
    assert!(
        forwarded.contains("for=127.0.0.1") && forwarded.contains("proto=http"),
        "{forwarded}"
    );
    let via = joined("via");
    assert!(via.starts_with("1.0 before, 1.1 "), "{via}");
}

#[tokio::test]
async fn a_head_request_has_the_length_and_no_body() {
    let origin = TestOrigin::saying("hello").await;
    let node = forwarding_to(&origin).await;
    let mut connection = node.connect().await;
    for _ in 0..2 {
        let reply = connection
            .ask(node.build("HEAD", "/test/a").body(Bytes::new()).unwrap())
            .await
            .unwrap();
        reply.assert_status(200);
        assert_eq!(reply.header("content-length"), "5");
        assert!(reply.body.is_empty());
    }
}

#[tokio::test]
async fn an_upgrade_that_nobody_offers_is_an_ordinary_request() {
    let origin = TestOrigin::saying("hello").await;
    let node = forwarding_to(&origin).await;
    let request = node
        .build("GET", "/test/a")
        .header("connection", "upgrade")
        .header("upgrade", "websocket");
    let reply = node.ask(request).await;
    assert_eq!(
        (reply.status.as_u16(), reply.text().as_str()),
        (200, "hello")
    );
}

#[tokio::test]
async fn an_api_is_found_by_its_host_name_and_by_its_path() {
    let api = Api::new().route("GET /a", Operation::mock("hello"));
    let node = TestNode::with("").api(&api).start().await;
    let by_path = http::Request::builder()
        .uri("/_aws/execute-api/api/test/a")
        .header("host", "localhost");
    for request in [node.build("GET", "/test/a"), by_path] {
        let reply = node.ask(request).await;
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (200, "hello")
        );
    }
    let unknown = node.ask(node.build_for("other", "GET", "/test/a")).await;
    assert!(unknown.status.is_client_error(), "{}", unknown.status);
    assert!(unknown.json()["message"].is_string(), "{}", unknown.text());
}

#[tokio::test]
async fn an_origin_that_sends_by_pieces_is_heard_at_once() {
    let origin = TestOrigin::start(|_| async {
        let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
        tokio::spawn(async move {
            let _ = sender.send_data(Bytes::from("data: 1\n\n")).await;
            // Open until the viewer leaves: an event stream.
            std::future::pending::<()>().await;
        });
        Response::builder()
            .header("content-type", "text/event-stream")
            .body(body.boxed())
            .unwrap()
    })
    .await;
    let node = forwarding_to(&origin).await;
    let request = node.build("GET", "/test/a").body(text("")).unwrap();
    let mut response = node.connect().await.send(request).await.unwrap();
    assert_eq!(next_piece(response.body_mut()).await, "data: 1\n\n");
}

const NAME: &str = "api.execute-api.local.localhost";
