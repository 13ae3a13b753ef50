//! What strangers send: too much, too slowly, or no HTTP at all. Each is answered, and the others are served meanwhile.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use tidegate_tests::{
    Api, Authority, Connection, Load, Operation, PATIENCE, TestNode, TestOrigin, read_until_closed,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

fn api() -> Api {
    Api::new()
        .route("GET /hello", Operation::mock("hello"))
        .route("POST /forward", Operation::proxy("http://origin/"))
}

async fn node_with(toml: &str) -> (TestNode, TestOrigin) {
    let origin = TestOrigin::echo().await;
    let node = TestNode::with(toml)
        .api(&api())
        .upstream("origin", origin.address())
        .start()
        .await;
    (node, origin)
}

#[tokio::test]
async fn malformed_requests_are_answered_with_400_and_disturb_nobody() {
    let (node, origin) = node_with("").await;
    let load = Load::start(&node, "/test/hello", 4);
    let cases: &[(&str, &str)] = &[
        ("no request line", "hello\r\n\r\n"),
        (
            "an unknown version",
            "GET /test/hello HTTP/9.9\r\nhost: a\r\n\r\n",
        ),
        ("no host", "GET /test/hello HTTP/1.1\r\n\r\n"),
        (
            "two hosts",
            "GET /test/hello HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        ),
        (
            "a space before the colon",
            "GET /test/hello HTTP/1.1\r\nhost: a\r\nx-a : b\r\n\r\n",
        ),
        (
            "a control character in a value",
            "GET /test/hello HTTP/1.1\r\nhost: a\r\nx-a: b\x01c\r\n\r\n",
        ),
        (
            "two lengths",
            "POST /_aws/execute-api/api/test/forward HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        ),
        (
            "no number as the length",
            "POST /_aws/execute-api/api/test/forward HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
        ),
        (
            "a signed length",
            "POST /_aws/execute-api/api/test/forward HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na",
        ),
        (
            "an unknown transfer coding",
            "POST /_aws/execute-api/api/test/forward HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n",
        ),
        (
            "chunked not last",
            "POST /_aws/execute-api/api/test/forward HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        ),
    ];
    for (what, bytes) in cases {
        let mut stream = node.raw().await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let answer = timeout(PATIENCE, read_object(&mut stream))
            .await
            .expect(what);
        assert!(
            answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "),
            "{what}: {answer:?}"
        );
        assert!(
            answer.contains("\r\n\r\n{\"message\":"),
            "{what}: {answer:?}"
        );
        assert!(
            answer.to_lowercase().contains("\r\nx-amzn-requestid: "),
            "{what}: {answer:?}"
        );
    }
    assert_eq!(origin.requests(), 0, "none of them is forwarded");
    load.more(10).await;
    load.stop().await.assert_only(200);
}

/// Reads up to the end of a JSON object, or of the connection.
async fn read_object(stream: &mut tokio::net::TcpStream) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while !text.ends_with(b"}") {
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => text.extend_from_slice(&buffer[..read]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_broken_chunk_is_answered_with_400_and_ends_nothing_else() {
    let (node, _origin) = node_with("").await;
    let load = Load::start(&node, "/test/hello", 4);
    for chunk in ["xyz\r\n", "ffffffffffffffffff\r\na\r\n", "2\r\nabxy"] {
        let mut stream = node.raw().await;
        let head = "POST /_aws/execute-api/api/test/forward HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(chunk.as_bytes()).await.unwrap();
        let answer = timeout(PATIENCE, read_object(&mut stream))
            .await
            .expect("an answer");
        assert_refused(&answer, "400 Bad Request", "Bad Request");
    }
    load.more(10).await;
    load.stop().await.assert_only(200);
}

/// Whether a raw answer is the gateway's own error.
#[track_caller]
fn assert_refused(answer: &str, status: &str, message: &str) {
    let (head, content) = answer.split_once("\r\n\r\n").expect(answer);
    assert_eq!(head.lines().next(), Some(&*format!("HTTP/1.1 {status}")));
    let content: serde_json::Value = serde_json::from_str(content).expect(answer);
    assert_eq!(content, serde_json::json!({ "message": message }));
    let head = head.to_lowercase();
    assert!(head.contains("\r\nx-amzn-requestid: "), "{answer}");
    assert!(
        head.contains("\r\ncontent-type: application/json"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_length_beside_chunks_never_reaches_the_origin_as_two_requests() {
    let (node, origin) = node_with("").await;
    let mut stream = node.raw().await;
    let smuggled = "POST /_aws/execute-api/api/test/forward HTTP/1.1\r\nhost: a\r\ncontent-length: 60\r\ntransfer-encoding: chunked\r\n\r\n\
                    0\r\n\r\nGET /_aws/execute-api/api/test/hello HTTP/1.1\r\nhost: a\r\n\r\n";
    stream.write_all(smuggled.as_bytes()).await.unwrap();
    let _ = stream.shutdown().await;
    let answer = timeout(PATIENCE, read_until_closed(&mut stream))
        .await
        .expect("closed");
    // RFC 9112 section 6.3: an error, or chunked wins and the connection ends behind it.
    assert!(answer.matches("HTTP/1.1 200").count() <= 1, "{answer}");
    assert!(origin.requests() <= 1);
}

#[tokio::test]
async fn headers_over_the_limit_are_answered_with_431() {
    let (node, origin) = node_with("[limits]\nhead = '8KiB'\nheaders = 40").await;
    let large = node
        .build("GET", "/test/hello")
        .header("x-large", "a".repeat(9 << 10));
    let many = (0..41).fold(node.build("GET", "/test/hello"), |request, n| {
        request.header(format!("x-{n}"), "a")
    });
    for request in [large, many] {
        node.ask(request)
            .await
            .assert_error(431, "Request Header Fields Too Large");
    }
    let fits = node
        .build("GET", "/test/hello")
        .header("x-large", "a".repeat(6 << 10));
    node.ask(fits).await.assert_status(200);
    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn headers_over_the_limit_are_refused_on_http2_as_well() {
    let (node, _origin) = node_with("[limits]\nhead = '8KiB'\nheaders = 40").await;
    let mut connection = node.connect_h2().await;
    let large = node
        .build("GET", "/test/hello")
        .header("x-large", "a".repeat(9 << 10));
    let many = (0..41).fold(node.build("GET", "/test/hello"), |request, n| {
        request.header(format!("x-{n}"), "a")
    });
    for request in [large, many] {
        let reply = connection.ask(request.body(Bytes::new()).unwrap()).await;
        reply
            .unwrap()
            .assert_error(431, "Request Header Fields Too Large");
    }
    // What is far beyond is not even kept.
    let huge = node
        .build("GET", "/test/hello")
        .header("x-large", "a".repeat(40 << 10))
        .body(Bytes::new())
        .unwrap();
    connection.ask(huge).await.unwrap().assert_status(431);
    // The connection has seen no error: it serves on.
    let request = node.build("GET", "/test/hello").body(Bytes::new()).unwrap();
    connection.ask(request).await.unwrap().assert_status(200);
    node.until("the two that were told so are counted", |metrics| {
        metrics.sum("tidegate_requests_total", &[("status", "431")]) >= 2.0
    })
    .await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_with_413() {
    let (node, _origin) = node_with("[limits]\nbody = '64KiB'").await;
    let said = node.post("/test/forward", vec![b'a'; 65 << 10]).await;
    said.assert_error(413, "Request Too Long");

    // Without a length, so that the node finds out on the way.
    let (mut pieces, body) = Channel::<Bytes, std::io::Error>::new(1);
    tokio::spawn(async move {
        for _ in 0..128 {
            if pieces
                .send_data(Bytes::from(vec![b'a'; 1024]))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    let request = node
        .build("POST", "/test/forward")
        .body(body.boxed())
        .unwrap();
    let response = node.connect().await.send(request).await.unwrap();
    assert_eq!(response.status(), 413);
    node.post("/test/forward", vec![b'a'; 63 << 10])
        .await
        .assert_status(200);
}

#[tokio::test]
async fn a_viewer_that_sends_its_headers_too_slowly_is_cut_off() {
    let (node, _origin) = node_with("[timeouts]\nheader = '300ms'\nkeep-alive = '300ms'").await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = node.raw().await;
        stream
            .write_all(b"GET /test/hello HTTP/1.1\r\nhost: ")
            .await
            .unwrap();
        slow.push(stream);
    }
    let load = Load::start(&node, "/test/hello", 4);
    load.more(20).await;
    for mut stream in slow {
        let answer = timeout(PATIENCE, read_until_closed(&mut stream))
            .await
            .expect("cut off");
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
            "{answer:?}"
        );
    }
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn a_viewer_that_does_not_finish_its_handshake_is_cut_off() {
    let authority = Authority::new();
    let setup = TestNode::with(
        "[timeouts]\nhandshake = '300ms'\n[[listener]]\naddress = '127.0.0.1:0'\ntls = { certificate = 'cert.pem', key = 'key.pem' }",
    );
    authority.issue(&[NAME], setup.folder());
    let api = Api::new().route("GET /hello", Operation::mock("hello"));
    let node = setup.api(&api).start().await;
    // Nothing at all; the beginning of a ClientHello (RFC 8446 section 5.1) whose rest never comes.
    let mut slow = Vec::new();
    for bytes in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        for _ in 0..20 {
            let mut stream = node.raw().await;
            stream.write_all(bytes).await.unwrap();
            slow.push(stream);
        }
    }
    let began = std::time::Instant::now();
    let mut connection = Connection::tls(node.address(), NAME, authority.client(&["h2"]))
        .await
        .expect("a handshake beside them");
    let request = node.build("GET", "/test/hello").body(Bytes::new()).unwrap();
    connection.ask(request).await.unwrap().assert_status(200);
    for mut stream in slow {
        timeout(PATIENCE, read_until_closed(&mut stream))
            .await
            .expect("cut off");
    }
    // Far below the ten seconds that are the default.
    assert!(began.elapsed() < Duration::from_secs(8));
    let request = node.build("GET", "/test/hello").body(Bytes::new()).unwrap();
    connection.ask(request).await.unwrap().assert_status(200);
}

const NAME: &str = "api.execute-api.local.localhost";

#[tokio::test]
async fn a_viewer_that_stops_in_the_middle_of_a_body_is_cut_off() {
    let (node, _origin) = node_with("[timeouts]\nbody = '300ms'").await;
    let mut stream = node.raw().await;
    let head = "POST /_aws/execute-api/api/test/forward HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = timeout(PATIENCE, read_until_closed(&mut stream))
        .await
        .expect("cut off");
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
        "{answer:?}"
    );
    node.get("/test/hello").await.assert_status(200);
}

#[tokio::test]
async fn a_connection_that_idles_too_long_is_closed() {
    let (node, _origin) = node_with("[timeouts]\nkeep-alive = '200ms'").await;
    let mut stream = node.raw().await;
    stream
        .write_all(b"GET /_aws/execute-api/api/test/hello HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let began = std::time::Instant::now();
    let answer = timeout(PATIENCE, read_until_closed(&mut stream))
        .await
        .expect("closed");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        began.elapsed() >= Duration::from_millis(150),
        "closed at once"
    );
}

/// Whatever arrives: an answer or a closed connection, and never a panic. Deterministic, so that a failure can be run again.
#[tokio::test]
async fn no_bytes_from_the_network_reach_a_panic() {
    let (node, _origin) =
        node_with("[timeouts]\nheader = '200ms'\nkeep-alive = '200ms'\nbody = '200ms'").await;
    let samples: [&[u8]; 4] = [
        b"GET /_aws/execute-api/api/test/hello?a=%20&b=1 HTTP/1.1\r\nhost: a\r\nx-b: c\r\nconnection: close\r\n\r\n",
        b"POST /_aws/execute-api/api/test/forward HTTP/1.1\r\nhost: api.execute-api.local.localhost\r\ncontent-length: 4\r\n\r\nabcd",
        b"POST /test/forward HTTP/1.1\r\nhost: api.execute-api.local.localhost\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64\x00\x00\x04\x01\x05\x00\x00\x00\x01\x82\x84\x86\x41",
    ];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    for _ in 0..30 {
        let mut batch = tokio::task::JoinSet::new();
        for sample in samples.iter().cycle().take(40) {
            let mut bytes = sample.to_vec();
            for _ in 0..=below(6) {
                let at = below(bytes.len());
                match below(3) {
                    0 => bytes[at] = b"\0\r\n :/?%\xff\x80\x7f"[below(11)],
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, b"\r\n %:/;,\0\xff"[below(10)]),
                }
            }
            let mut stream = node.raw().await;
            batch.spawn(async move {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                timeout(PATIENCE, read_until_closed(&mut stream))
                    .await
                    .expect("an end");
            });
        }
        while let Some(ended) = batch.join_next().await {
            ended.unwrap();
        }
    }
    node.get("/test/hello").await.assert_status(200);
    let panics: Vec<String> = node
        .log()
        .into_iter()
        .filter(|line| line.contains("panic"))
        .collect();
    assert!(panics.is_empty(), "{panics:?}");
}
