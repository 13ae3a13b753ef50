//! What origins do to the gateway, and what the viewer sees of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;
use tidegate_tests::{
    Api, Authority, Load, Operation, RawOrigin, TestNode, TestOrigin, text, until,
};

fn api() -> Api {
    Api::new()
        .route("ANY /a", Operation::proxy("http://origin/"))
        .route("GET /hello", Operation::mock("hello"))
}

/// A node whose upstream `origin` has these settings.
async fn node_with(upstream: &str) -> TestNode {
    TestNode::with("")
        .api(&api())
        .toml(&format!("[upstream.origin]\n{upstream}"))
        .start()
        .await
}

fn targets(addresses: &[std::net::SocketAddr]) -> String {
    let targets: Vec<String> = addresses
        .iter()
        .map(|address| format!("'http://{address}'"))
        .collect();
    format!("targets = [{}]", targets.join(", "))
}

#[tokio::test]
async fn an_origin_that_resets_is_a_bad_gateway_and_the_log_says_which() {
    let origin = RawOrigin::resetting().await;
    let node = node_with(&format!("{}\nretries = 0", targets(&[origin.address()]))).await;
    let load = Load::start(&node, "/test/hello", 4);
    node.get("/test/a")
        .await
        .assert_error(502, "Internal server error");
    node.until_logged(&[&origin.address().to_string(), "Connection reset"])
        .await;
    load.more(10).await;
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn an_origin_that_nobody_is_at_is_a_bad_gateway() {
    let node = node_with("targets = ['http://127.0.0.1:1']").await;
    node.get("/test/a")
        .await
        .assert_error(502, "Internal server error");
}

#[tokio::test]
async fn an_origin_that_stalls_times_out_while_others_are_served() {
    let origin = RawOrigin::stalling().await;
    let node = node_with(&format!(
        "{}\nfirst-byte-timeout = '300ms'",
        targets(&[origin.address()])
    ))
    .await;
    let load = Load::start(&node, "/test/hello", 4);
    node.get("/test/a")
        .await
        .assert_error(504, "Endpoint request timed out");
    load.more(10).await;
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn an_integrations_own_timeout_holds() {
    let origin = RawOrigin::stalling().await;
    let integration = json!({ "type": "http_proxy", "httpMethod": "GET", "uri": "http://origin/", "timeoutInMillis": 200 });
    let api = Api::new().route(
        "GET /a",
        Operation::empty().field("x-amazon-apigateway-integration", integration),
    );
    let node = TestNode::with("")
        .api(&api)
        .upstream("origin", origin.address())
        .start()
        .await;
    node.get("/test/a")
        .await
        .assert_error(504, "Endpoint request timed out");
}

#[tokio::test]
async fn what_is_no_http_is_a_bad_gateway() {
    for reply in [
        &b"hello\r\n\r\n"[..],
        b"HTTP/1.1 9999 Odd\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n",
        b"",
    ] {
        let origin = RawOrigin::replying(reply).await;
        let node = node_with(&format!("{}\nretries = 0", targets(&[origin.address()]))).await;
        node.get("/test/a")
            .await
            .assert_error(502, "Internal server error");
        node.get("/test/hello").await.assert_status(200);
    }
}

/// The header section is out when the lie shows: all that is left is to break off, so that nobody takes it for the whole.
#[tokio::test]
async fn an_origin_that_sends_less_than_it_said_never_looks_complete() {
    for reply in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
    ] {
        let origin = RawOrigin::replying(reply).await;
        let node = node_with(&targets(&[origin.address()])).await;
        for mut connection in [node.connect().await, node.connect_h2().await] {
            let request = node.build("GET", "/test/a").body(text("")).unwrap();
            let complete = match connection.send(request).await {
                Ok(response) => {
                    response.status().is_success() && response.into_body().collect().await.is_ok()
                }
                Err(_) => false,
            };
            assert!(!complete, "{}", String::from_utf8_lossy(reply));
        }
        node.get("/test/hello").await.assert_status(200);
    }
}

#[tokio::test]
async fn an_origin_that_sends_more_than_it_said_poisons_no_other_request() {
    let origin = RawOrigin::replying(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison").await;
    let node = node_with(&targets(&[origin.address()])).await;
    for _ in 0..5 {
        assert_eq!(node.get("/test/a").await.text(), "hello");
    }
}

#[tokio::test]
async fn targets_take_turns() {
    let origins = [
        TestOrigin::saying("one").await,
        TestOrigin::saying("two").await,
    ];
    let node = node_with(&targets(&[origins[0].address(), origins[1].address()])).await;
    let mut connection = node.connect().await;
    for _ in 0..10 {
        connection
            .ask(node.build("GET", "/test/a").body(Bytes::new()).unwrap())
            .await
            .unwrap()
            .assert_status(200);
    }
    assert_eq!((origins[0].requests(), origins[1].requests()), (5, 5));
}

#[tokio::test]
async fn the_target_with_fewer_requests_under_way_is_preferred() {
    let (busy, idle) = (
        TestOrigin::saying("busy").await,
        TestOrigin::saying("idle").await,
    );
    let settings = format!(
        "{}\nbalance = 'least-request'",
        targets(&[busy.address(), idle.address()])
    );
    let node = TestNode::with(
        "[node]\nname = 'test'\nregion = 'local'\nsuffix = 'localhost'\nthreads = 1\ndata = 'data'",
    )
    .api(&api())
    .toml(&format!("[upstream.origin]\n{settings}"))
    .start()
    .await;
    busy.hold();
    // Until one waits at the busy one: from then on it has more under way.
    let mut held = tokio::task::JoinSet::new();
    while busy.requests() == 0 {
        let (address, request) = (
            node.address(),
            node.build("GET", "/test/a").body(Bytes::new()).unwrap(),
        );
        let before = busy.requests() + idle.requests();
        held.spawn(async move {
            let mut connection = tidegate_tests::Connection::http1(address).await.unwrap();
            connection.ask(request).await.unwrap().status
        });
        until("the request arrives", async || {
            (busy.requests() + idle.requests() > before).then_some(())
        })
        .await;
    }
    let served = idle.requests();
    for _ in 0..10 {
        assert_eq!(node.get("/test/a").await.text(), "idle");
    }
    assert_eq!((busy.requests(), idle.requests()), (1, served + 10));
    busy.release();
    while let Some(status) = held.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_safe_request_is_tried_again_elsewhere_and_an_unsafe_one_is_not() {
    let (broken, good) = (
        RawOrigin::resetting().await,
        TestOrigin::saying("good").await,
    );
    let node = node_with(&format!(
        "{}\nretries = 1",
        targets(&[broken.address(), good.address()])
    ))
    .await;
    for _ in 0..4 {
        assert_eq!(node.get("/test/a").await.text(), "good");
    }
    assert!(broken.connections() >= 1, "the broken one had its turns");
    let (mut refused, before) = (0, good.requests());
    for _ in 0..4 {
        match node.post("/test/a", "{}").await.status {
            StatusCode::OK => {}
            StatusCode::BAD_GATEWAY => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(refused >= 1, "a POST that was sent is not sent again");
    assert_eq!(good.requests() - before, 4 - refused);
}

#[tokio::test]
async fn a_request_that_was_not_sent_yet_is_tried_elsewhere_whatever_it_is() {
    let good = TestOrigin::saying("good").await;
    let nobody = "127.0.0.1:1".parse().unwrap();
    let node = node_with(&format!(
        "{}\nretries = 1",
        targets(&[nobody, good.address()])
    ))
    .await;
    for _ in 0..4 {
        assert_eq!(node.post("/test/a", "{}").await.text(), "good");
    }
    assert_eq!(good.requests(), 4);
}

#[tokio::test]
async fn a_kept_connection_that_the_origin_closed_costs_no_request() {
    let closing = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&closing);
    // One reply for each connection, without saying so: the next request on it finds it closed.
    let origin = RawOrigin::start(move |mut stream| {
        let counted = Arc::clone(&counted);
        async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut buffer = [0; 4096];
            if stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
                    .await;
            }
            drop(stream);
            counted.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let node = node_with(&targets(&[origin.address()])).await;
    for number in 1..=10 {
        node.get("/test/a").await.assert_status(200);
        until("the origin closed", async || {
            (closing.load(Ordering::SeqCst) >= number).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_target_that_fails_its_health_check_gets_no_requests_until_it_is_well() {
    let sick = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&sick);
    let first = TestOrigin::start(move |request| {
        let status = match request.uri().path() {
            "/health" if seen.load(Ordering::SeqCst) => 503,
            _ => 200,
        };
        async move {
            Response::builder()
                .status(status)
                .body(text("first"))
                .unwrap()
        }
    })
    .await;
    let second = TestOrigin::saying("second").await;
    let health = "health = { path = '/health', interval = '50ms', timeout = '1s', healthy = 2, unhealthy = 2 }";
    let node = node_with(&format!(
        "{}\n{health}",
        targets(&[first.address(), second.address()])
    ))
    .await;

    let answers = async || {
        let mut answers = Vec::new();
        for _ in 0..6 {
            answers.push(node.get("/test/a").await.text());
        }
        answers
    };
    let only_second = async || {
        answers()
            .await
            .iter()
            .all(|answer| answer == "second")
            .then_some(())
    };
    let both = async || {
        answers()
            .await
            .iter()
            .any(|answer| answer == "first")
            .then_some(())
    };
    until("both serve", both).await;
    sick.store(true, Ordering::SeqCst);
    until("the sick one is left out", only_second).await;
    sick.store(false, Ordering::SeqCst);
    until("it is back", both).await;
}

#[tokio::test]
async fn a_target_that_keeps_failing_is_left_out_for_a_while() {
    let (broken, good) = (
        RawOrigin::resetting().await,
        TestOrigin::saying("good").await,
    );
    let ejection = "ejection = { failures = 2, for = '60s' }\nretries = 1";
    let node = node_with(&format!(
        "{}\n{ejection}",
        targets(&[broken.address(), good.address()])
    ))
    .await;
    let quiet = async || {
        let before = broken.connections();
        for _ in 0..6 {
            node.get("/test/a").await.assert_status(200);
        }
        (broken.connections() == before).then_some(())
    };
    until("the broken one is left out", quiet).await;
    assert!(broken.connections() >= 2, "it had its chance");
}

#[tokio::test]
async fn an_http2_upstream_is_spoken_to_in_http2() {
    let origin = TestOrigin::echo().await;
    let node = node_with(&format!(
        "{}\nprotocol = 'h2'",
        targets(&[origin.address()])
    ))
    .await;
    for _ in 0..3 {
        let reply = node.post("/test/a", "content").await;
        reply.assert_status(200);
        assert_eq!(reply.json()["version"], "HTTP/2.0");
        assert_eq!(reply.json()["body"], "content");
    }
}

#[tokio::test]
async fn a_tls_upstream_is_trusted_by_its_authority_only() {
    let authority = Authority::new();
    for protocol in ["http/1.1", "h2"] {
        let origin = TestOrigin::start_tls(
            authority.server(&["orders.internal"], &[protocol]),
            |request| async move { Response::new(text(format!("{:?}", request.version()))) },
        )
        .await;
        let start = async |certificate: String| {
            let settings = format!(
                "targets = ['https://{}']\nprotocol = '{protocol}'\nretries = 0\n\
                 tls = {{ ca = 'ca.pem', server-name = 'orders.internal' }}",
                origin.address()
            );
            let setup = TestNode::with("")
                .api(&api())
                .toml(&format!("[upstream.origin]\n{settings}"));
            setup.file("ca.pem", certificate.as_bytes()).start().await
        };
        let trusting = start(authority.pem()).await;
        let expected = if protocol == "h2" {
            "HTTP/2.0"
        } else {
            "HTTP/1.1"
        };
        assert_eq!(trusting.get("/test/a").await.text(), expected);

        let wary = start(Authority::new().pem()).await;
        wary.get("/test/a")
            .await
            .assert_error(502, "Internal server error");
        wary.until_logged(&["certificate"]).await;
    }
}

#[tokio::test]
async fn connections_to_the_origin_are_kept_and_bounded() {
    let origin = TestOrigin::saying("hello").await;
    let bound = format!("{}\nconnections-max = 4", targets(&[origin.address()]));
    let node = node_with(&bound).await;
    let load = Load::start(&node, "/test/a", 16);
    load.more(500).await;
    let tally = load.stop().await;
    assert!(tally.failures.is_empty(), "{tally:?}");
    // What the bound leaves no room for is told so at once, and does not queue.
    assert!(
        tally
            .statuses
            .keys()
            .all(|status| [200, 503].contains(status)),
        "{tally:?}"
    );
    assert!(tally.statuses[&200] > 100, "{tally:?}");
    assert!(
        origin.connections() <= 4,
        "{} connections",
        origin.connections()
    );
}

#[tokio::test]
async fn a_viewer_that_leaves_frees_the_request_to_the_origin() {
    let origin = TestOrigin::saying("hello").await;
    let node = node_with(&targets(&[origin.address()])).await;
    origin.hold();
    let mut connection = node.connect().await;
    let request = node.build("GET", "/test/a").body(Bytes::new()).unwrap();
    let leaving = tokio::spawn(async move { connection.ask(request).await });
    until("the request arrives", async || {
        (origin.requests() == 1).then_some(())
    })
    .await;
    let open = |metrics: &tidegate_tests::Metrics| {
        metrics.sum("tidegate_upstream_connections", &[("state", "open")])
    };
    assert_eq!(open(&node.metrics().await), 1.0);
    leaving.abort();
    let _ = leaving.await;
    // The origin still holds the request: nothing but the viewer's leaving ends it.
    node.until("the connection to the origin is given up", |metrics| {
        open(metrics) == 0.0
    })
    .await;
    assert_eq!(origin.requests(), 1);
    origin.release();
    node.get("/test/a").await.assert_status(200);
}
