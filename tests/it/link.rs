//! Edges in front of an origin: what is decided where, and what passes between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use tidegate_tests::linked::{
    API_KEY, api_to, edge, edge_with, nodes, origin_named, origin_to, ready, without_udp,
};
use tidegate_tests::{Api, Connection, Operation, TestNode, TestOrigin, text, until};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_request_is_admitted_at_the_edge_and_answered_at_the_origin() {
    let upstream = TestOrigin::echo().await;
    let origin = origin_to(&upstream).await;
    let edge = edge("edge-1", &origin, &[]).await;

    let refused = edge.get("/test/to/a").await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!(upstream.requests(), 0, "the edge decides");

    let asked = edge
        .build("GET", "/test/to/a%20b?q=1&q=%C3%A4")
        .header("x-api-key", API_KEY)
        .header("x-mine", "ä");
    let reply = edge.ask(asked).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = reply.json();
    assert_eq!(seen["method"], "GET");
    assert_eq!(seen["uri"], "/a%20b?q=1&q=%C3%A4");
    let headers = &seen["headers"];
    assert_eq!(headers["x-forwarded-for"][0], "127.0.0.1");
    assert_eq!(headers["x-forwarded-proto"][0], "http");
    let host = format!("api.execute-api.local.localhost:{}", edge.address().port());
    assert_eq!(
        headers["x-forwarded-host"][0], host,
        "the viewer's, not the link's"
    );
    let ours = headers
        .as_object()
        .unwrap()
        .keys()
        .find(|name| name.starts_with("tidegate-"));
    assert_eq!(ours, None, "what nodes tell each other stays between them");
    let told = reply
        .headers
        .keys()
        .find(|name| name.as_str().starts_with("tidegate-"));
    assert_eq!(told, None);
    assert!(reply.headers.contains_key("x-amzn-requestid"));
}

#[tokio::test]
async fn bodies_stream_both_ways_and_trailers_pass() {
    let upstream = TestOrigin::start(|request| async move {
        // Each piece goes back as it comes, in upper case; then how many there were, and what came after them.
        let (mut pieces, body) = Channel::<Bytes, std::io::Error>::new(1);
        tokio::spawn(async move {
            let mut coming = request.into_body();
            let mut trailers = http::HeaderMap::new();
            let mut count = 0;
            while let Some(Ok(frame)) = coming.frame().await {
                match frame.into_data() {
                    Ok(data) => {
                        let data = data.to_ascii_uppercase();
                        pieces.send_data(data.into()).await.unwrap();
                        count += 1;
                    }
                    Err(frame) => trailers = frame.into_trailers().unwrap(),
                }
            }
            trailers.insert("x-sum", count.into());
            pieces.send_trailers(trailers).await.unwrap();
        });
        let mut response = Response::new(body.boxed());
        response
            .headers_mut()
            .insert("trailer", "x-sum, x-checksum".parse().unwrap());
        response
    })
    .await;
    for_both_transports(&upstream, async |edge| {
        let (mut pieces, body) = Channel::<Bytes, std::io::Error>::new(1);
        let request = edge
            .build("POST", "/test/open/echo")
            .header("te", "trailers")
            .header("trailer", "x-checksum")
            .body(body.boxed())
            .unwrap();
        let mut connection = Connection::http2(edge.address()).await.unwrap();
        pieces.send_data("one".into()).await.unwrap();
        let mut response = connection.send(request).await.unwrap();
        assert_eq!(response.status(), 200);
        for (piece, expected) in [
            (None, "ONE"),
            (Some("two"), "TWO"),
            (Some("three"), "THREE"),
        ] {
            if let Some(piece) = piece {
                pieces.send_data(piece.into()).await.unwrap();
            }
            let frame = response.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), expected, "as it comes");
        }
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-checksum", "abc".parse().unwrap());
        pieces.send_trailers(trailers).await.unwrap();
        drop(pieces);
        let rest = response.collect().await.unwrap();
        let trailers = rest.trailers().unwrap();
        assert_eq!(
            (&trailers["x-sum"], &trailers["x-checksum"]),
            (&"3".parse().unwrap(), &"abc".parse().unwrap())
        );
    })
    .await;
}

/// Does the same with two edges: the link of one is QUIC, that of the other TCP.
async fn for_both_transports(upstream: &TestOrigin, test: impl AsyncFn(&TestNode)) {
    let origin = origin_to(upstream).await;
    let blocked = without_udp(origin.link()).await;
    for (name, ways, transport) in [("quic", vec![], "Quic"), ("tcp", vec![blocked], "Tcp")] {
        let edge = edge(name, &origin, &ways).await;
        edge.until_logged(&["link up", transport]).await;
        test(&edge).await;
    }
}

#[tokio::test]
async fn large_bodies_pass_whole_and_one_that_breaks_off_is_not_taken_for_whole() {
    let large = Bytes::from(vec![7; 5 << 20]);
    let sent = large.clone();
    let upstream = TestOrigin::start(move |request| {
        let sent = sent.clone();
        async move {
            if request.uri().path() == "/broken" {
                let (mut pieces, body) = Channel::new(1);
                tokio::spawn(async move {
                    pieces.send_data("half".into()).await.unwrap();
                    pieces.abort(std::io::Error::other("gone"));
                });
                return Response::new(body.boxed());
            }
            let got = request.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(got.len(), sent.len());
            Response::new(text(sent))
        }
    })
    .await;
    for_both_transports(&upstream, async |edge| {
        let request = edge
            .build("POST", "/test/open/large")
            .body(large.clone())
            .unwrap();
        let reply = edge.request(request).await;
        assert_eq!(
            (reply.status.as_u16(), reply.body.len()),
            (200, large.len())
        );
        assert!(reply.body == large);

        let request = edge
            .build("GET", "/test/open/broken")
            .body(Bytes::new())
            .unwrap();
        let broken = edge.connect().await.ask(request).await;
        // It breaks off, or is known to be broken before its head has gone on.
        assert!(
            broken.as_ref().map_or(true, |reply| reply.status == 502),
            "{broken:?}"
        );
        // The link is fine.
        let again = edge.request(
            edge.build("POST", "/test/open/large")
                .body(large.clone())
                .unwrap(),
        );
        assert_eq!(again.await.status, 200);
    })
    .await;
}

/// What is told beside a request that an edge forwards is what the origin keeps responses by as well.
#[tokio::test]
async fn callers_share_nothing_in_the_origins_cache() {
    let (ann, bob) = (
        "ann-has-a-long-enough-key-",
        "bob-has-a-long-enough-key-as-well",
    );
    let count = AtomicUsize::new(0);
    let upstream = TestOrigin::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            let mut response = Response::new(text(number.to_string()));
            let control = "public, max-age=600".parse().unwrap();
            response.headers_mut().insert("cache-control", control);
            response
        }
    })
    .await;
    let stages = "[api.stage.test]\ncache = 'http'";
    let origin = origin_named("home", "")
        .api_with("api", &api_to(&upstream).text(), stages)
        .key(ann, &["api/test"])
        .key(bob, &["api/test"])
        .start()
        .await;
    let first = edge("one", &origin, &[]).await;
    // On the same port: what an origin may answer by is part of the key.
    let port = first.address().port();
    let more = format!("[[listener]]\naddress = '127.0.0.2:{port}'\n");
    let second = edge_with("two", &origin, &[], &more).await;
    let get = async |edge: &TestNode, key| {
        let request = edge.build("GET", "/test/to/a").header("x-api-key", key);
        edge.ask(request).await.text()
    };
    assert_eq!(get(&first, ann).await, "1");
    assert_eq!(get(&second, bob).await, "2", "what is stored is another's");
    assert_eq!(get(&second, ann).await, "1", "as the origin has stored it");
    assert_eq!(get(&first, bob).await, "2");
    assert_eq!(upstream.requests(), 2);
}

#[tokio::test]
async fn nobody_but_an_edge_can_say_what_was_decided() {
    let upstream = TestOrigin::echo().await;
    let origin = origin_to(&upstream).await;
    let edge = edge("edge-1", &origin, &[]).await;
    let told = serde_json::json!({
        "snapshot": tidegate_tests::linked::snapshot(&origin).await, "stage": "api/test",
        "route": "ANY /to/{proxy+}", "offset": 5, "id": "00000000-0000-4000-8000-000000000000",
        "viewer": "192.0.2.1:1", "tls": true, "port": 443, "host": "api.example", "version": 11,
        "began_ms": 0, "has_body": false, "principal": { "id": "root" },
    });
    for node in [&origin, &edge] {
        let forged = node
            .build("GET", "/test/to/a")
            .header("tidegate-told", told.to_string());
        assert_eq!(node.ask(forged).await.status, 403, "by {}", node.address());
        let open = node
            .build("GET", "/test/open/a")
            .header("tidegate-told", told.to_string());
        let reply = node.ask(open).await;
        assert_eq!(reply.status, 200);
        assert!(!reply.text().contains("tidegate-told"), "{}", reply.text());
    }
    assert_eq!(upstream.requests(), 2);
}

#[tokio::test]
async fn what_goes_wrong_at_the_origin_is_told_as_if_it_were_here() {
    let upstream = TestOrigin::saying("").await;
    let gone = upstream.address();
    let origin = origin_to(&upstream).await;
    let edge = edge("edge-1", &origin, &[]).await;
    drop(upstream);
    until("the upstream is gone", async || {
        TcpStream::connect(gone).await.is_err().then_some(())
    })
    .await;
    let here = origin.get("/test/open/a").await;
    let there = edge.get("/test/open/a").await;
    assert_eq!(there.status, here.status);
    assert_eq!(there.text(), here.text());
    edge.until_logged(&["request failed", "at the origin"])
        .await;
}

#[tokio::test]
async fn without_an_origin_an_edge_answers_what_needs_none() {
    let upstream = TestOrigin::start(|_| async {
        let mut response = Response::new(text("stored"));
        let control = "max-age=600".parse().unwrap();
        response.headers_mut().insert("cache-control", control);
        response
    })
    .await;
    let stages = "[api.stage.test]\ncache = 'http'";
    let origin = origin_named("home", "")
        .api_with("api", &api_to(&upstream).text(), stages)
        .key(API_KEY, &["api/test"])
        .start()
        .await;
    let edge = edge("edge-1", &origin, &[]).await;
    assert_eq!(edge.get("/test/open/a").await.text(), "stored");
    let stopped = origin.kill9().await;
    assert_eq!(edge.get("/test/mock").await.text(), "said at the edge");
    assert_eq!(edge.get("/test/open/a").await.text(), "stored");
    until("no thread has a link any more", async || {
        (edge.get("/test/open/b").await.status == 503).then_some(())
    })
    .await;
    assert_eq!(upstream.requests(), 1);

    // Started again without any origin, it serves from its disk.
    let edge = edge.kill9().await.start().await;
    ready(&edge).await;
    assert_eq!(edge.get("/test/mock").await.text(), "said at the edge");
    assert_eq!(edge.get("/test/to/a").await.status, 403, "keys are known");
    drop(stopped);
}

#[tokio::test]
async fn where_udp_does_not_pass_the_link_is_tcp_and_says_so() {
    let upstream = TestOrigin::echo().await;
    let origin = origin_to(&upstream).await;
    let blocked = without_udp(origin.link()).await;
    let over_tcp = edge("blocked", &origin, &[blocked]).await;
    let over_quic = edge("free", &origin, &[]).await;
    for node in [&over_tcp, &over_quic] {
        let request = node
            .build("POST", "/test/open/a")
            .body("content".into())
            .unwrap();
        let reply = node.request(request).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["body"], "content");
    }
    until("both have reported", async || {
        let nodes = nodes(&origin).await;
        let transport = |name: &str| {
            let node = nodes.iter().find(|node| node["name"] == name)?;
            (node["health"] == "up").then(|| node["transport"].clone())
        };
        (transport("blocked")? == "tcp" && transport("free")? == "quic").then_some(())
    })
    .await;
    let all = nodes(&origin).await;
    let free = all.iter().find(|node| node["name"] == "free").unwrap();
    assert_eq!(
        (&free["role"], &free["region"]),
        (&"edge".into(), &"far".into())
    );
    assert!(free["rttMs"].as_f64().unwrap() > 0.0, "{free}");
    assert_eq!(free["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn four_edges_share_a_throttle_by_what_they_are_asked_for() {
    let upstream = TestOrigin::saying("hello").await;
    let stages = "[api.stage.test]\nthrottle = { rate = 100, burst = 20 }";
    let origin = origin_named("home", "")
        .api_with("api", &api_to(&upstream).text(), stages)
        .key(API_KEY, &["api/test"])
        .start()
        .await;
    let mut edges = Vec::new();
    for name in ["one", "two", "three", "four"] {
        edges.push(Arc::new(edge(name, &origin, &[]).await));
    }
    // One is asked for hundreds a second, the others for ten each.
    let window = Duration::from_secs(10);
    let uneven = [3, 100, 100, 100].map(Duration::from_millis);
    let by_edge = admitted(&edges, uneven, Duration::from_secs(2), window).await;
    let sum: i32 = by_edge.iter().sum();
    println!("admitted in 10 s at 100/s: {sum}, by edge {by_edge:?}");
    assert!((950..=1050).contains(&sum), "{by_edge:?}");
    assert!(
        by_edge[1..].iter().all(|&one| one >= 90),
        "who asks for little gets it: {by_edge:?}"
    );

    // Nobody is there to share the rate out, and all are asked for more than there is.
    let _gone = origin.kill9().await;
    let by_edge = admitted(
        &edges,
        [Duration::from_millis(3); 4],
        Duration::ZERO,
        window,
    )
    .await;
    let sum: i32 = by_edge.iter().sum();
    println!("without their origin: {sum}, by edge {by_edge:?}");
    assert!((500..=2000).contains(&sum), "{by_edge:?}");
}

/// Asks each edge again and again, with a pause of its own; how many each has admitted in a window after a while.
async fn admitted(
    edges: &[Arc<TestNode>],
    pauses: [Duration; 4],
    warm: Duration,
    window: Duration,
) -> [i32; 4] {
    let mut asking = tokio::task::JoinSet::new();
    for (place, (node, pause)) in edges.iter().zip(pauses).enumerate() {
        let node = node.clone();
        asking.spawn(async move {
            let mut connection = node.connect().await;
            let mut ticks = tokio::time::interval(pause);
            let began = Instant::now();
            let mut admitted = 0;
            while began.elapsed() < warm + window {
                ticks.tick().await;
                let request = node.build("GET", "/test/mock").body(Bytes::new()).unwrap();
                let status = connection.ask(request).await.unwrap().status;
                assert!(status == 200 || status == 429, "{status}");
                if status == 200 && began.elapsed() >= warm {
                    admitted += 1;
                }
            }
            (place, admitted)
        });
    }
    let mut by_edge = [0; 4];
    while let Some(done) = asking.join_next().await {
        let (place, admitted) = done.unwrap();
        by_edge[place] = admitted;
    }
    by_edge
}

#[tokio::test]
async fn an_edge_has_no_function_of_the_origin_and_invokes_it_there() {
    let component = tidegate_tests::fixture("function_echo");
    let origin = origin_named("home", "")
        .api(&Api::new().route("ANY /f", Operation::function("echo")))
        .function("echo", &component, "")
        .start()
        .await;
    let edge = edge_with("edge-1", &origin, &[], "").await;
    let request = edge
        .build("POST", "/test/f")
        .body("to the function".into())
        .unwrap();
    let reply = edge.request(request).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.text().contains("to the function"), "{}", reply.text());
    let bytes = std::fs::read(&component).unwrap();
    let files = std::fs::read_dir(edge.path("data/snapshot/files")).unwrap();
    for file in files.flatten() {
        assert_ne!(
            std::fs::read(file.path()).unwrap(),
            bytes,
            "functions stay at origins"
        );
    }
}
