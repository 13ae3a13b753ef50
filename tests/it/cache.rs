//! The cache by HTTP's own rules: what is served from store, who waits for whom, what is shared with whom, and what nobody
//! can make others get. What the public suite looks at is in `cache_suite`.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use serde_json::json;
use tidegate_tests::{
    Api, Body, Connection, Operation, Reply, TestNode, TestOrigin, read_until_closed, text,
};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Barrier, Notify};

/// A node that caches what `origin` says of everything below `/test`.
async fn caching(origin: &TestOrigin) -> TestNode {
    caching_with(origin, "http://origin/{proxy}", "").await
}

async fn caching_with(origin: &TestOrigin, uri: &str, more: &str) -> TestNode {
    let api = Api::new().route("ANY /{proxy+}", Operation::proxy(uri));
    TestNode::with(more)
        .api_with("api", &api.text(), STAGE)
        .toml(&format!(
            "[upstream.origin]\ntargets = ['http://{}']\nretries = 0",
            origin.address()
        ))
        .start()
        .await
}

fn saying(body: impl Into<Bytes>, headers: &[(&str, &str)]) -> Response<Body> {
    let mut response = Response::builder();
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(text(body)).unwrap()
}

/// An origin whose responses have these fields, and count as their body.
async fn counting(headers: &'static [(&'static str, &'static str)]) -> TestOrigin {
    let count = Arc::new(AtomicUsize::new(0));
    TestOrigin::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        async move { saying(number.to_string(), headers) }
    })
    .await
}

fn spawn(node: &Arc<TestNode>, count: usize) -> Vec<tokio::task::JoinHandle<Reply>> {
    let get = |_| {
        let node = node.clone();
        tokio::spawn(async move { node.get("/test/a").await })
    };
    (0..count).map(get).collect()
}

async fn waiting(node: &TestNode, count: usize) {
    node.until("requests wait", |metrics| {
        metrics.sum("tidegate_cache_waiting", &[]) == count as f64
    })
    .await;
}

// ── From store ──────────────────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn a_stored_response_is_served_without_the_origin_and_says_so() {
    let origin = counting(&[FRESH, ("etag", "\"v\"")]).await;
    let node = caching(&origin).await;
    let first = node.get("/test/a?q=1").await;
    assert_eq!(first.text(), "1");
    assert_eq!(
        first.header("cache-status"),
        "Tidegate; fwd=uri-miss; stored"
    );
    let again = node.get("/test/a?q=1").await;
    assert_eq!((again.status.as_u16(), again.text().as_str()), (200, "1"));
    assert!(again.header("age").parse::<u64>().is_ok());
    assert!(
        again
            .header("cache-status")
            .starts_with("Tidegate; hit; ttl="),
        "{}",
        again.header("cache-status")
    );
    let head = node.ask(node.build("HEAD", "/test/a?q=1")).await;
    assert_eq!(
        (head.status.as_u16(), head.header("content-length")),
        (200, "1")
    );
    let same = node
        .ask(
            node.build("GET", "/test/a?q=1")
                .header("if-none-match", "\"v\""),
        )
        .await;
    assert_eq!((same.status.as_u16(), same.text().as_str()), (304, ""));
    let part = node
        .ask(
            node.build("GET", "/test/a?q=1")
                .header("range", "bytes=0-0"),
        )
        .await;
    assert_eq!(
        (part.status.as_u16(), part.header("content-range")),
        (206, "bytes 0-0/1")
    );
    let beyond = node
        .ask(node.build("GET", "/test/a?q=1").header("range", "bytes=7-"))
        .await;
    assert_eq!(
        (beyond.status.as_u16(), beyond.header("content-range")),
        (416, "bytes */1")
    );
    assert_eq!(origin.requests(), 1);
    assert_eq!(node.get("/test/a?q=2").await.text(), "2");
    assert_eq!(node.get("/test/a").await.text(), "3");
    let metrics = node.metrics().await;
    let count = |outcome| metrics.sum("tidegate_cache_requests_total", &[("outcome", outcome)]);
    assert_eq!((count("hit"), count("miss")), (5.0, 3.0));
    assert_eq!(metrics.sum("tidegate_cache_entries", &[]), 3.0);
    assert!(metrics.sum("tidegate_cache_bytes", &[]) > 0.0);
}

#[tokio::test]
async fn a_viewer_that_wants_only_what_is_stored_is_told_when_nothing_is() {
    let origin = counting(&[FRESH]).await;
    let node = caching(&origin).await;
    let only = || {
        node.build("GET", "/test/a")
            .header("cache-control", "only-if-cached")
    };
    node.ask(only()).await.assert_error(504, "Gateway Timeout");
    assert_eq!(origin.requests(), 0);
    node.get("/test/a").await;
    node.ask(only()).await.assert_status(200);
}

#[tokio::test]
async fn a_stale_response_is_served_while_it_is_renewed_behind_the_viewer() {
    let origin = counting(&[
        ("cache-control", "max-age=10, stale-while-revalidate=60"),
        ("age", "20"),
    ])
    .await;
    let node = caching(&origin).await;
    assert_eq!(node.get("/test/a").await.text(), "1");
    origin.hold();
    assert_eq!(node.get("/test/a").await.text(), "1");
    assert_eq!(node.get("/test/a").await.text(), "1");
    tidegate_tests::until("it is asked once", async || {
        (origin.requests() == 2).then_some(())
    })
    .await;
    origin.release();
    tidegate_tests::until("what came is served", async || {
        (node.get("/test/a").await.text() == "2").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stale_response_stands_in_for_an_origin_that_fails_where_that_is_allowed() {
    let cases = [
        ("max-age=10, stale-if-error=60", 503, 200),
        ("max-age=10, stale-if-error=5", 503, 503),
        ("max-age=10, stale-if-error=60, must-revalidate", 503, 503),
        ("max-age=10", 503, 503),
        ("max-age=10, stale-if-error=60", 404, 404),
    ];
    for (cache_control, failure, expected) in cases {
        let count = Arc::new(AtomicUsize::new(0));
        let origin = TestOrigin::start(move |_| {
            let first = count.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                let headers = [("cache-control", cache_control), ("age", "20")];
                let mut response = saying("stored", if first { &headers } else { &[] });
                if !first {
                    *response.status_mut() = failure.try_into().unwrap();
                }
                response
            }
        })
        .await;
        let node = caching(&origin).await;
        node.get("/test/a").await.assert_status(200);
        let reply = node.get("/test/a").await;
        assert_eq!(reply.status.as_u16(), expected, "{cache_control}");
    }
}

#[tokio::test]
async fn a_stale_response_stands_in_for_an_origin_that_is_gone() {
    let origin = counting(&[("cache-control", "max-age=10"), ("age", "20")]).await;
    let node = caching(&origin).await;
    assert_eq!(node.get("/test/a").await.text(), "1");
    origin.stop().await;
    let reply = node.get("/test/a").await;
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "1"));
    assert!(reply.header("cache-status").contains("ttl=-"));
}

#[tokio::test]
async fn response_transforms_see_what_comes_from_store_as_well() {
    let origin = counting(&[FRESH]).await;
    let operation = Operation::proxy("http://origin/a").step(
        "response-transform",
        "header-transform",
        json!({ "response": { "headers": { "set": { "x-request": "${context.requestId}" } } } }),
    );
    let api = Api::new().route("GET /a", operation);
    let node = TestNode::with("")
        .api_with("api", &api.text(), STAGE)
        .upstream("origin", origin.address())
        .start()
        .await;
    for _ in 0..2 {
        let reply = node.get("/test/a").await;
        assert_eq!(reply.text(), "1");
        assert_eq!(reply.header("x-request"), reply.header("x-amzn-requestid"));
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_passes_and_is_not_kept() {
    let large: &'static str = "x".repeat(300_000).leak();
    let origin = TestOrigin::start(move |_| async move { saying(large, &[FRESH]) }).await;
    let node = caching_with(
        &origin,
        "http://origin/{proxy}",
        "[cache]\nmemory = '1MiB'\nbody = '200kB'",
    )
    .await;
    for expected in 1..=2 {
        assert_eq!(node.get("/test/a").await.body.len(), 300_000);
        assert_eq!(origin.requests(), expected);
    }
}

#[tokio::test]
async fn an_unsafe_request_makes_what_is_stored_doubtful_for_every_caller() {
    let origin = TestOrigin::start(|request| async move {
        match request.method().as_str() {
            "POST" => saying("", &[("location", "/b")]),
            _ => saying("", &[FRESH]),
        }
    })
    .await;
    let node = keyed_by_caller(&origin).await;
    let get = async |key: &'static str, path: &str| {
        let before = origin.requests();
        let request = node.build("GET", path).header("x-api-key", key);
        node.ask(request).await.assert_status(200);
        origin.requests() > before
    };
    for path in ["/test/a", "/test/b", "/test/c"] {
        for key in [ANN, BOB] {
            assert!(get(key, path).await);
            assert!(!get(key, path).await);
        }
    }
    let post = node.build("POST", "/test/a").header("x-api-key", ANN);
    node.ask(post).await.assert_status(200);
    for key in [ANN, BOB] {
        assert!(get(key, "/test/a").await, "its own URL");
        assert!(get(key, "/test/b").await, "the one that it names");
        assert!(!get(key, "/test/c").await, "another one");
    }
}

// ── Waiting for each other ──────────────────────────────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn viewers_that_miss_together_are_one_request() {
    let origin = counting(&[FRESH]).await;
    let node = Arc::new(caching(&origin).await);
    origin.hold();
    let viewers = spawn(&node, 50);
    waiting(&node, 49).await;
    origin.release();
    for viewer in viewers {
        assert_eq!(viewer.await.unwrap().text(), "1");
    }
    assert_eq!(origin.requests(), 1);
    let metrics = node.metrics().await;
    let labels = [("outcome", "collapsed")];
    assert_eq!(metrics.sum("tidegate_cache_requests_total", &labels), 49.0);
}

#[tokio::test]
async fn one_revalidation_serves_every_waiting_viewer() {
    let origin = counting(&[("cache-control", "max-age=0"), ("etag", "\"v\"")]).await;
    let node = Arc::new(caching(&origin).await);
    node.get("/test/a").await;
    origin.hold();
    let viewers = spawn(&node, 20);
    waiting(&node, 19).await;
    origin.release();
    for viewer in viewers {
        assert_eq!(viewer.await.unwrap().text(), "2");
    }
    assert_eq!(origin.requests(), 2, "one fill, one revalidation");
}

#[tokio::test]
async fn an_answer_for_one_releases_the_others_at_once() {
    // The first is answered for itself; the others are answered only when all of them have come.
    let others = Arc::new(Barrier::new(9));
    let count = Arc::new(AtomicUsize::new(0));
    let origin = TestOrigin::start(move |_| {
        let (others, number) = (others.clone(), count.fetch_add(1, Ordering::SeqCst));
        async move {
            if number > 0 {
                others.wait().await;
            }
            saying("for you", &[("cache-control", "private")])
        }
    })
    .await;
    let node = Arc::new(caching(&origin).await);
    origin.hold();
    let viewers = spawn(&node, 10);
    waiting(&node, 9).await;
    origin.release();
    for viewer in viewers {
        assert_eq!(viewer.await.unwrap().text(), "for you");
    }
    assert_eq!(origin.requests(), 10);
}

#[tokio::test]
async fn nobody_waits_longer_than_the_node_says() {
    let (held, count) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let release = held.clone();
    let origin = TestOrigin::start(move |_| {
        let (held, number) = (held.clone(), count.fetch_add(1, Ordering::SeqCst));
        async move {
            if number == 0 {
                held.notified().await;
            }
            saying("late", &[FRESH])
        }
    })
    .await;
    let node = caching_with(&origin, "http://origin/{proxy}", "[cache]\nwait = '100ms'").await;
    let node = Arc::new(node);
    let leader = spawn(&node, 1);
    tidegate_tests::until("the first has come", async || {
        (origin.requests() == 1).then_some(())
    })
    .await;
    for viewer in spawn(&node, 3) {
        assert_eq!(viewer.await.unwrap().text(), "late");
    }
    release.notify_one();
    for viewer in leader {
        assert_eq!(viewer.await.unwrap().text(), "late");
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_is_nobody_elses() {
    let (broken, count) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let break_off = broken.clone();
    let origin = TestOrigin::start(move |_| {
        let (broken, number) = (broken.clone(), count.fetch_add(1, Ordering::SeqCst));
        async move {
            if number > 0 {
                return saying("whole", &[FRESH]);
            }
            let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
            tokio::spawn(async move {
                let _ = sender.send_data(Bytes::from("half")).await;
                broken.notified().await;
                sender.abort(std::io::Error::other("broken"));
            });
            Response::builder()
                .header(FRESH.0, FRESH.1)
                .body(body.boxed())
                .unwrap()
        }
    })
    .await;
    let node = Arc::new(caching(&origin).await);
    let mut leader = node.connect().await;
    let request = node.build("GET", "/test/a").body(text("")).unwrap();
    let mut half = leader.send(request).await.unwrap().into_body();
    half.frame().await.unwrap().unwrap();
    let viewers = spawn(&node, 5);
    waiting(&node, 5).await;
    break_off.notify_one();
    assert!(half.collect().await.is_err());
    for viewer in viewers {
        assert_eq!(viewer.await.unwrap().text(), "whole");
    }
}

#[tokio::test]
async fn when_the_viewer_leaves_that_asked_first_the_next_one_asks() {
    let origin = counting(&[FRESH]).await;
    let node = Arc::new(caching(&origin).await);
    origin.hold();
    let mut first = node.raw().await;
    let host = format!("api.execute-api.local.localhost:{}", node.address().port());
    first
        .write_all(format!("GET /test/a HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    tidegate_tests::until("the first has come", async || {
        (origin.requests() == 1).then_some(())
    })
    .await;
    let viewers = spawn(&node, 5);
    waiting(&node, 5).await;
    drop(first);
    waiting(&node, 4).await;
    origin.release();
    for viewer in viewers {
        viewer.await.unwrap().assert_status(200);
    }
    assert_eq!(origin.requests(), 2);
}

// ── Sharing ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A node whose callers have keys.
async fn keyed_by_caller(origin: &TestOrigin) -> TestNode {
    let binding = json!({
        "step": "authorizer", "plugin": "api-key", "configuration": {}, "grants": { "api-keys": true },
    });
    let operation = Operation::proxy("http://origin/{proxy}").binding(binding);
    let api = Api::new().route("ANY /{proxy+}", operation);
    TestNode::with("")
        .api_with("api", &api.text(), STAGE)
        .upstream("origin", origin.address())
        .key(ANN, &["api/test"])
        .key(BOB, &["api/test"])
        .start()
        .await
}

#[tokio::test]
async fn callers_that_an_authorizer_tells_apart_share_nothing() {
    let origin = counting(&[("cache-control", "public, max-age=60")]).await;
    let node = keyed_by_caller(&origin).await;
    let get = async |key| {
        let request = node.build("GET", "/test/a").header("x-api-key", key);
        node.ask(request).await.text()
    };
    assert_eq!(get(ANN).await, "1");
    assert_eq!(get(BOB).await, "2");
    assert_eq!(get(ANN).await, "1");
    assert_eq!(get(BOB).await, "2");
}

#[tokio::test]
async fn who_is_not_admitted_gets_nothing_from_store() {
    let origin = counting(&[("cache-control", "public, max-age=60")]).await;
    let node = keyed_by_caller(&origin).await;
    let with_key = node.build("GET", "/test/a").header("x-api-key", ANN);
    node.ask(with_key).await.assert_status(200);
    for request in [
        node.build("GET", "/test/a"),
        node.build("GET", "/test/a").header("x-api-key", "wrong"),
        node.build("GET", "/test/a")
            .header("cache-control", "only-if-cached"),
        node.build("GET", "/test/a")
            .header("cache-control", "max-stale"),
    ] {
        node.ask(request).await.assert_error(403, "Forbidden");
    }
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn what_is_for_one_viewer_is_never_given_to_another() {
    type Fields = &'static [(&'static str, &'static str)];
    let cases: [(&str, Fields, Fields); 9] = [
        ("private", &[], &[("cache-control", "private, max-age=60")]),
        ("no-store", &[], &[("cache-control", "no-store")]),
        ("a new session", &[], &[FRESH, ("set-cookie", "session=1")]),
        (
            "a new session, said to be public",
            &[],
            &[
                ("cache-control", "public, max-age=60"),
                ("set-cookie", "session=1"),
            ],
        ),
        ("credentials", &[("authorization", "Basic YTpi")], &[FRESH]),
        ("a session", &[("cookie", "session=1")], &[FRESH]),
        ("by a field that nobody knows", &[], &[FRESH, ("vary", "*")]),
        (
            "by the viewer's address",
            &[],
            &[FRESH, ("vary", "X-Forwarded-For")],
        ),
        (
            "a session that it varies on",
            &[("cookie", "session=1")],
            &[FRESH, ("vary", "Cookie")],
        ),
    ];
    for (name, request, response) in cases {
        let origin = counting(response).await;
        let node = caching(&origin).await;
        let first = request
            .iter()
            .fold(node.build("GET", "/test/a"), |builder, (field, value)| {
                builder.header(*field, *value)
            });
        assert_eq!(node.ask(first).await.text(), "1");
        assert_eq!(node.get("/test/a").await.text(), "2", "{name}");
    }
}

// ── Poisoning ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// An origin that trusts all that it should not, and shows by its answers what reached it.
async fn gullible(request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes());
    let body = body.unwrap_or_default();
    let field = |name: &str| {
        let value = head.headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    // Too much of a header, or what it does not like in one: refused, and not said for how long.
    let bytes: usize = head.headers.values().map(http::HeaderValue::len).sum();
    if bytes > 8 << 10 || field("x-meta").is_some() {
        return Response::builder()
            .status(400)
            .body(text("poisoned"))
            .unwrap();
    }
    if field("x-forwarded-scheme").is_some_and(|scheme| scheme != "https") {
        return Response::builder()
            .status(301)
            .header("location", "https://evil.example/poisoned")
            .header(FRESH.0, FRESH.1)
            .body(text(""))
            .unwrap();
    }
    if head.headers.contains_key("range") {
        return Response::builder()
            .status(416)
            .header(FRESH.0, FRESH.1)
            .body(text("poisoned"))
            .unwrap();
    }
    let names = [
        "host",
        "x-forwarded-host",
        "x-forwarded-server",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-host",
        "x-original-url",
        "x-rewrite-url",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "forwarded",
        "x-original-host",
        "x-http-host-override",
        "x-url-scheme",
        "cookie",
        "if-none-match",
        "x-invoke-path",
        "x-middleware-prefetch",
        "surrogate-capability",
    ];
    let seen: Vec<_> = names
        .into_iter()
        .filter_map(|name| Some((name, field(name)?)))
        .collect();
    let says = format!(
        "{} {} {seen:?} {}",
        head.method,
        head.uri,
        String::from_utf8_lossy(&body)
    );
    if field("x-http-method-override").is_some() {
        return Response::builder()
            .status(404)
            .header(FRESH.0, FRESH.1)
            .body(text(format!("poisoned {says}")))
            .unwrap();
    }
    saying(says, &[FRESH])
}

#[tokio::test]
async fn no_published_technique_poisons_what_others_get() {
    const PATH: &str = "/test/a?q=1";
    /// Fields of the attacker's request, its path, its body.
    type Attack = (
        &'static str,
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static str,
    );
    let oversize: &'static str = "x".repeat(9 << 10).leak();
    let oversize: &'static [(&str, &str)] = vec![("x-oversized", oversize)].leak();
    let attacks: [Attack; 30] = [
        // Kettle, "Practical Web Cache Poisoning" (2018).
        (
            "unkeyed host",
            PATH,
            &[("x-forwarded-host", "evil.example")],
            "",
        ),
        (
            "unkeyed host, another name",
            PATH,
            &[("x-host", "evil.example")],
            "",
        ),
        (
            "unkeyed host, a third name",
            PATH,
            &[("x-original-host", "evil.example")],
            "",
        ),
        (
            "unkeyed server",
            PATH,
            &[("x-forwarded-server", "evil.example")],
            "",
        ),
        (
            "host override",
            PATH,
            &[("x-http-host-override", "evil.example")],
            "",
        ),
        (
            "standard form",
            PATH,
            &[("forwarded", "host=evil.example")],
            "",
        ),
        (
            "unkeyed scheme",
            PATH,
            &[("x-forwarded-scheme", "http")],
            "",
        ),
        (
            "unkeyed scheme, another name",
            PATH,
            &[("x-url-scheme", "evil")],
            "",
        ),
        ("unkeyed port", PATH, &[("x-forwarded-port", "123evil")], ""),
        (
            "unkeyed prefix",
            PATH,
            &[("x-forwarded-prefix", "/evil")],
            "",
        ),
        ("route poisoning", PATH, &[("x-original-url", "/evil")], ""),
        (
            "route poisoning, another name",
            PATH,
            &[("x-rewrite-url", "/evil")],
            "",
        ),
        // CVE-2024-46982 and its kin; for the last one, Dion-Marcil, "Beyond XSS: Edge Side Include Injection" (2018).
        (
            "a framework's own field",
            PATH,
            &[("x-invoke-path", "/evil")],
            "",
        ),
        (
            "a framework's prefetch",
            PATH,
            &[("x-middleware-prefetch", "evil")],
            "",
        ),
        (
            "a capability that nobody has",
            PATH,
            &[("surrogate-capability", "evil=\"ESI/1.0\"")],
            "",
        ),
        // Nguyen, Lo Iacono, Federrath, "Your Cache Has Fallen" (CCS 2019).
        (
            "method override",
            PATH,
            &[("x-http-method-override", "POST")],
            "",
        ),
        (
            "method override, another name",
            PATH,
            &[("x-http-method", "evil")],
            "",
        ),
        (
            "method override, a third name",
            PATH,
            &[("x-method-override", "evil")],
            "",
        ),
        ("header oversize", PATH, oversize, ""),
        ("meta character", PATH, &[("x-meta", "evil\tevil")], ""),
        ("range", PATH, &[("range", "bytes=evil-,1-1,2-2")], ""),
        (
            "range beyond the end",
            PATH,
            &[("range", "bytes=999999-")],
            "",
        ),
        // Kettle, "Web Cache Entanglement" (2020).
        ("fat GET", PATH, &[], "q=evil"),
        ("parameter cloaking", "/test/a?q=1;q=evil", &[], ""),
        (
            "parameter cloaking by a question mark",
            "/test/a?q=1?q=evil",
            &[],
            "",
        ),
        ("unkeyed query", "/test/a?q=1&utm_content=evil", &[], ""),
        ("encoded query", "/test/a?q=1%26q=evil", &[], ""),
        // Path confusion: Mirheidari et al., "Cached and Confused" (2020); Kettle, "Gotta cache 'em all" (2024).
        ("encoded path", "/test/%61?q=1&evil", &[], ""),
        ("dot segments", "/test/evil/../a?q=1", &[], ""),
        ("session fixation", PATH, &[("cookie", "session=evil")], ""),
    ];
    for (name, path, fields, body) in attacks {
        let origin = TestOrigin::start(gullible).await;
        let node = caching(&origin).await;
        let request = fields
            .iter()
            .fold(node.build("GET", path), |builder, (field, value)| {
                builder.header(*field, *value)
            });
        node.request(request.body(Bytes::from(body)).unwrap()).await;
        let victim = node.get(PATH).await;
        let says = victim.text();
        assert_eq!(victim.status.as_u16(), 200, "{name}: {says}");
        assert!(
            !says.contains("evil") && !says.contains("poisoned"),
            "{name}: {says}"
        );
        assert!(says.starts_with("GET /a?q=1 "), "{name}: {says}");
    }
}

#[tokio::test]
async fn no_framing_or_host_of_a_request_poisons_what_others_get() {
    /// What it is, and the head of the request by our host.
    type Attack<'a> = (&'a str, &'a dyn Fn(&str) -> String);
    let attacks: [Attack; 6] = [
        ("a port of its own", &|host| {
            let name = host.split(':').next().unwrap();
            format!("GET /test/a HTTP/1.1\r\nhost: {name}:1evil\r\n")
        }),
        ("two hosts", &|host| {
            format!("GET /test/a HTTP/1.1\r\nhost: {host}\r\nhost: evil.example\r\n")
        }),
        ("a target with another host than Host", &|host| {
            format!("GET http://{host}/test/a HTTP/1.1\r\nhost: evil.example\r\n")
        }),
        ("a target of evil's with our Host", &|host| {
            format!("GET http://evil.example/test/a HTTP/1.1\r\nhost: {host}\r\n")
        }),
        ("a stage by path under another host", &|_| {
            "GET /_aws/execute-api/api/test/a HTTP/1.1\r\nhost: evil.example\r\n".to_owned()
        }),
        ("a space before the colon", &|host| {
            format!("GET /test/a HTTP/1.1\r\nhost: {host}\r\nx-forwarded-host : evil.example\r\n")
        }),
    ];
    for (name, head) in attacks {
        let origin = TestOrigin::start(gullible).await;
        let node = caching(&origin).await;
        let host = format!("api.execute-api.local.localhost:{}", node.address().port());
        let mut stream = node.raw().await;
        let request = format!("{}connection: close\r\n\r\n", head(&host));
        stream.write_all(request.as_bytes()).await.unwrap();
        read_until_closed(&mut stream).await;
        let by_path = Request::builder()
            .uri("/_aws/execute-api/api/test/a")
            .header("host", node.address().to_string());
        for victim in [node.build("GET", "/test/a"), by_path] {
            let victim = node.ask(victim).await;
            assert_eq!(victim.status.as_u16(), 200, "{name}: {}", victim.text());
            assert!(!victim.text().contains("evil"), "{name}: {}", victim.text());
        }
    }
}

#[tokio::test]
async fn what_an_account_page_says_is_not_stored_under_a_name_that_looks_static() {
    // Gil, "Web Cache Deception Attack" (2017): the origin serves the page for whatever follows it.
    let origin = TestOrigin::start(|request: Request<Incoming>| async move {
        let session = request.headers().get("cookie");
        let session = session.and_then(|cookie| cookie.to_str().ok());
        saying(
            format!("account of {}", session.unwrap_or("nobody")),
            &[("cache-control", "max-age=600")],
        )
    })
    .await;
    let node = caching(&origin).await;
    for path in [
        "/test/account/x.css",
        "/test/account;x.js",
        "/test/account%2Fx.png",
    ] {
        let victim = node.build("GET", path).header("cookie", "victim");
        assert_eq!(node.ask(victim).await.text(), "account of victim");
        assert_eq!(node.get(path).await.text(), "account of nobody");
    }
}

#[tokio::test]
async fn variants_without_end_do_not_push_out_all_others() {
    let origin = TestOrigin::start(|request: Request<Incoming>| async move {
        let lang = request.headers().get("x-variant").cloned();
        let lang = lang.as_ref().and_then(|value| value.to_str().ok());
        saying(
            lang.unwrap_or("none").to_owned(),
            &[FRESH, ("vary", "x-variant")],
        )
    })
    .await;
    let node = caching(&origin).await;
    let mut seen = HashSet::new();
    for number in 0..100 {
        let request = node.build("GET", "/test/a").header("x-variant", number);
        seen.insert(node.ask(request).await.text());
    }
    assert_eq!(seen.len(), 100, "each gets its own");
    assert_eq!(node.get("/test/a").await.text(), "none");
    assert_eq!(node.metrics().await.sum("tidegate_cache_entries", &[]), 1.0);
}

#[tokio::test]
async fn http2_finds_what_http1_stored() {
    let origin = counting(&[FRESH]).await;
    let node = caching(&origin).await;
    assert_eq!(node.get("/test/a").await.text(), "1");
    let mut connection: Connection = node.connect_h2().await;
    let request = node.build("GET", "/test/a").body(Bytes::new()).unwrap();
    assert_eq!(connection.ask(request).await.unwrap().text(), "1");
}

const STAGE: &str = "[api.stage.test]\ncache = 'http'";
const FRESH: (&str, &str) = ("cache-control", "max-age=600");
const ANN: &str = "anns-key-0123456789abcdef";
const BOB: &str = "bobs-own-key-0123456789abcdef";
