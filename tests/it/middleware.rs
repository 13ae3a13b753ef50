//! Functions around an integration: what they see, what they may change, and what becomes of a request when they fail.

use std::fs;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tidegate_tests::linked::{edge, origin_named};
use tidegate_tests::{
    Api, Body, Load, Metrics, Operation, Reply, Setup, TestNode, TestOrigin, fixture, text, until,
};

/// The fixture of each version of `wasi:http`, and what it says in `x-through`.
const BOTH: [(&str, &str); 2] = [("middleware", "0.2"), ("middleware-p3", "0.3")];

/// A node that forwards to `origin`, with `component` as the function `m` around that.
fn around(component: &str, origin: &TestOrigin, settings: &str) -> Setup {
    around_with(component, origin, settings, json!(["m"]))
}

fn around_with(component: &str, origin: &TestOrigin, settings: &str, middleware: Value) -> Setup {
    let uri = format!("http://{}/at/{{proxy}}", origin.address());
    let operation = Operation::proxy(&uri).field("x-tidegate-middleware", middleware);
    TestNode::with("")
        .api(&Api::new().route("ANY /{proxy+}", operation))
        .function("m", &fixture(component), settings)
}

async fn wishing(node: &TestNode, method: &str, wish: &str, content: &'static str) -> Reply {
    let request = node.build(method, "/test/a").header("x-do", wish);
    node.request(request.body(content.into()).unwrap()).await
}

fn through(headers: &HeaderMap) -> Vec<&str> {
    let lines = headers.get_all("x-through").iter();
    lines.map(|line| line.to_str().unwrap()).collect()
}

fn instances(metrics: &Metrics) -> f64 {
    metrics.sum("tidegate_plugin_instances", &[("step", "function")])
}

#[tokio::test]
async fn a_request_and_its_response_pass_through_and_are_else_what_they_are_without() {
    let origin = TestOrigin::echo().await;
    for (component, mark) in BOTH {
        for isolation in ["reuse", "request"] {
            let settings = format!("isolation = '{isolation}'");
            let node = around(component, &origin, &settings).start().await;
            let plain = around_with(component, &origin, &settings, json!([]))
                .start()
                .await;
            for (method, content) in [("GET", ""), ("POST", "content"), ("PURGE", "")] {
                let ask = async |node: &TestNode| {
                    let request = node
                        .build(method, "/test/a%20b/c?d=%C3%A9&e=1&e=2")
                        .header("x-own", "1")
                        .header("x-own", "2")
                        .header("tidegate-stage", "forged")
                        .header("cookie", "a=b");
                    let reply = node.request(request.body(content.into()).unwrap()).await;
                    reply.assert_status(200);
                    let port = node.address().port().to_string(); // is each one's own
                    let seen = reply.text().replace(&port, "PORT");
                    let seen: Value = serde_json::from_str(&seen).unwrap();
                    (through(&reply.headers).join(","), seen)
                };
                let (said, mut seen) = ask(&node).await;
                let (nothing, mut expected) = ask(&plain).await;
                assert_eq!((said.as_str(), nothing.as_str()), (mark, ""), "{component}");
                let sent = seen["headers"].as_object_mut().unwrap();
                assert_eq!(sent.remove("x-through"), Some(json!([mark])));
                for seen in [&mut seen, &mut expected] {
                    let headers = seen["headers"].as_object_mut().unwrap();
                    // How a body is framed is the connection's matter.
                    for name in ["content-length", "transfer-encoding"] {
                        headers.remove(name);
                    }
                }
                assert_eq!(seen, expected, "{component} {isolation} {method}");
            }
        }
    }
}

#[tokio::test]
async fn several_nest_in_the_order_written_around_integrations_of_any_kind() {
    let origin = TestOrigin::echo().await;
    let uri = format!("http://{}/", origin.address());
    let operations = [
        ("GET /forward", Operation::proxy(&uri)),
        ("GET /invoke", Operation::function("echo")),
        ("GET /mock", Operation::mock("mock")),
    ];
    let api = Api::new().field("x-tidegate-middleware", json!(["outer"]));
    let api = operations.into_iter().fold(api, |api, (key, operation)| {
        let inner = json!([{ "function": "inner", "fault-policy": "fail" }]);
        api.route(key, operation.field("x-tidegate-middleware", inner))
    });
    let node = TestNode::with("")
        .api(&api)
        .function("outer", &fixture("middleware"), "")
        .function("inner", &fixture("middleware-p3"), "")
        .function("echo", &fixture("function-echo"), "")
        .start()
        .await;
    for path in ["/test/forward", "/test/invoke", "/test/mock"] {
        let reply = node.get(path).await;
        reply.assert_status(200);
        assert_eq!(
            through(&reply.headers),
            ["0.3", "0.2"],
            "{path}: the innermost first"
        );
    }
    let seen = node.get("/test/forward").await.json();
    assert_eq!(seen["headers"]["x-through"], json!(["0.2", "0.3"]));
    let reply = node.get("/test/invoke").await;
    let lines = reply.headers.get_all("x-echo-x-through").iter();
    assert_eq!(lines.collect::<Vec<_>>(), ["0.2", "0.3"]);
    assert_eq!(reply.header("x-echo-tidegate-route"), "GET /invoke");
}

#[tokio::test]
async fn a_path_and_a_query_that_it_sets_are_what_is_asked_for() {
    let api = Api::new().field("x-tidegate-middleware", json!(["m"]));
    let origin = TestOrigin::echo().await;
    let uri = format!("http://{}/fixed", origin.address());
    let api = api
        .route("GET /invoke", Operation::function("echo"))
        .route("GET /forward", Operation::proxy(&uri));
    for (component, _) in BOTH {
        let node = TestNode::with("")
            .api(&api)
            .function("m", &fixture(component), "")
            .function("echo", &fixture("function-echo"), "")
            .start()
            .await;
        let ask = async |path: &str| {
            node.ask(node.build("GET", path).header("x-do", "rewrite"))
                .await
        };
        let reply = ask("/test/invoke?a=1").await;
        assert_eq!(
            reply.header("x-echo-path"),
            "/rewritten?by=middleware",
            "{component}"
        );
        let seen = ask("/test/forward?a=1").await.json();
        assert_eq!(seen["uri"], "/fixed?by=middleware", "{component}");
    }
}

/// Each piece is sent after the one before came back: neither the function nor the node holds more than is on its way.
#[tokio::test]
async fn bodies_stream_through_it_in_both_directions_with_their_trailers() {
    let origin = TestOrigin::start(echo_body).await;
    let node = around("middleware-p3", &origin, "").start().await;
    for mut connection in [node.connect().await, node.connect_h2().await] {
        let (mut pieces, body) = Channel::<Bytes, std::io::Error>::new(1);
        let request = node
            .build("POST", "/test/a")
            .header("te", "trailers")
            .header("trailer", "x-checksum");
        pieces.send_data(Bytes::from("piece 0")).await.unwrap();
        let mut response = connection
            .send(request.body(body.boxed()).unwrap())
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        for number in 0..4 {
            let expected = format!("piece {number}");
            let mut got = String::new();
            while got.len() < expected.len() {
                let frame = response.body_mut().frame().await.expect("a piece").unwrap();
                got.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
            }
            assert_eq!(got, expected);
            let next = format!("piece {}", number + 1);
            pieces.send_data(Bytes::from(next)).await.unwrap();
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("abc"));
        pieces.send_trailers(trailers).await.unwrap();
        drop(pieces);
        let rest = response.into_body().collect().await.unwrap();
        assert_eq!(rest.trailers().expect("trailers")["x-checksum"], "abc");
        assert_eq!(rest.to_bytes(), "piece 4");
    }
}

async fn echo_body(request: Request<Incoming>) -> Response<Body> {
    let broken = |error: hyper::Error| std::io::Error::other(error);
    let mut response = Response::new(request.into_body().map_err(broken).boxed());
    let trailer = HeaderValue::from_static("x-checksum");
    response.headers_mut().insert("trailer", trailer);
    response
}

#[tokio::test]
async fn what_is_larger_than_its_memory_passes_through() {
    let content: Bytes = (0..10_u32 << 20).map(|n| (n % 251) as u8).collect();
    let sent_back = content.clone();
    let origin = TestOrigin::start(move |request| {
        let sent_back = sent_back.clone();
        async move {
            let came = request.into_body().collect().await.unwrap().to_bytes();
            assert!(came == sent_back, "{} octets came", came.len());
            Response::new(text(came))
        }
    })
    .await;
    for (component, mark) in BOTH {
        let node = around(component, &origin, "memory = '4MiB'").start().await;
        let body = Full::new(content.clone()).map_err(|never| match never {});
        let request = node.build("POST", "/test/a").body(body.boxed()).unwrap();
        let response = node.connect().await.send(request).await.unwrap();
        assert_eq!(through(response.headers()), [mark]);
        let came = response.into_body().collect().await.unwrap().to_bytes();
        assert!(came == content, "{component}: {} octets", came.len());
    }
}

#[tokio::test]
async fn what_it_answers_by_itself_asks_nobody() {
    let origin = TestOrigin::echo().await;
    for (component, _) in BOTH {
        let node = around(component, &origin, "").start().await;
        let reply = wishing(&node, "POST", "refuse", "content").await;
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (403, "refused on the way")
        );
        assert!(through(&reply.headers).is_empty());
    }
    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn a_fault_fails_the_request_or_lets_it_pass_where_nothing_of_it_was_touched() {
    let origin = TestOrigin::echo().await;
    for (component, mark) in BOTH {
        let fails = around(component, &origin, "").start().await;
        let bypass = json!([{ "function": "m", "fault-policy": "bypass" }]);
        let passes = around_with(component, &origin, "", bypass).start().await;
        let mut asked = origin.requests();
        let mut cases = vec![
            (&fails, "POST", "trap", 502, 0),
            (&fails, "GET", "ask-and-trap", 502, 1),
            (&passes, "GET", "trap", 200, 1),
            (&passes, "POST", "trap", 200, 1),
            // The integration is not asked twice.
            (&passes, "GET", "ask-and-trap", 502, 1),
        ];
        if component == "middleware" {
            cases.push((&passes, "POST", "read-and-trap", 502, 0));
        }
        for (node, method, wish, status, asks) in cases {
            let content = if method == "GET" { "" } else { "content" };
            let reply = wishing(node, method, wish, content).await;
            let shown = format!("{component} {method} {wish}");
            assert_eq!(reply.status, status, "{shown}");
            assert_eq!(origin.requests() - asked, asks, "{shown}");
            asked = origin.requests();
            if status == 200 {
                assert_eq!(reply.json()["body"], content, "{shown}");
                assert!(through(&reply.headers).is_empty(), "{shown}");
            }
            // The next one is served as ever.
            assert_eq!(
                through(&wishing(node, "GET", "", "").await.headers),
                [mark],
                "{shown}"
            );
            asked += 1;
        }
        passes
            .until_logged(&["middleware fault, bypassed", "\"m\""])
            .await;
        let faults = passes
            .metrics()
            .await
            .sum("tidegate_plugin_faults_total", &[("step", "function")]);
        assert!(faults >= 3.0, "{component}: {faults}");
    }
}

#[tokio::test]
async fn it_is_told_what_became_of_the_integration_and_passes_it_on_as_it_is() {
    let origin = TestOrigin::echo().await;
    for (component, mark) in BOTH {
        let node = around(component, &origin, "").start().await;
        assert_eq!(
            through(&wishing(&node, "GET", "", "").await.headers),
            [mark]
        );
        let refusing = TestOrigin::echo().await;
        let gone = around(component, &refusing, "").start().await;
        refusing.stop().await;
        wishing(&gone, "GET", "", "").await.assert_status(502);
        gone.until_logged(&["refuses connections"]).await;
        let reply = wishing(&gone, "GET", "say-why", "").await;
        assert_eq!(reply.status, 200);
        assert!(
            reply.text().contains("ConnectionRefused"),
            "{component}: {}",
            reply.text()
        );

        let held = TestOrigin::echo().await;
        held.hold();
        let slow = around(component, &held, "")
            .toml("[timeouts]\nintegration = '200ms'")
            .start()
            .await;
        wishing(&slow, "GET", "", "").await.assert_status(504);
        let reply = wishing(&slow, "GET", "say-why", "").await;
        assert!(
            reply.text().contains("HttpResponseTimeout"),
            "{component}: {}",
            reply.text()
        );
    }
}

#[tokio::test]
async fn a_viewer_that_leaves_ends_it_and_what_it_waits_for() {
    for (component, _) in BOTH {
        let origin = TestOrigin::echo().await;
        let node = around(component, &origin, "").start().await;
        origin.hold();
        let mut connection = node.connect().await;
        let request = node.build("GET", "/test/a").body(text("")).unwrap();
        let mut response = Box::pin(connection.send(request));
        let asked = until("the integration is asked", async || {
            (origin.requests() == 1).then_some(())
        });
        tokio::select! {
            _ = &mut response => panic!("{component}: the integration is held"),
            () = asked => {}
        }
        assert_eq!(instances(&node.metrics().await), 1.0, "{component}");
        drop(response); // and with it the connection
        drop(connection);
        node.until("the instance is gone", |metrics| instances(metrics) == 0.0)
            .await;
        origin.release();
        wishing(&node, "GET", "", "").await.assert_status(200);
    }
}

#[tokio::test]
async fn another_version_takes_over_under_load_and_no_request_fails() {
    let origin = TestOrigin::echo().await;
    let node = around("middleware", &origin, "").start().await;
    let load = Load::start(&node, "/test/a", 8);
    for (component, mark) in [BOTH[1], BOTH[0]] {
        load.more(50).await;
        fs::copy(fixture(component), node.path("next.wasm")).unwrap();
        fs::rename(node.path("next.wasm"), node.path("m.wasm")).unwrap();
        until("the other version serves", async || {
            let reply = wishing(&node, "GET", "", "").await;
            (through(&reply.headers) == [mark]).then_some(())
        })
        .await;
    }
    load.more(50).await;
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn other_servers_are_asked_by_its_grants_and_viewers_cannot_name_one_for_the_integration() {
    let (origin, other) = (TestOrigin::echo().await, TestOrigin::echo().await);
    let to = format!("http://{}/elsewhere", other.address());
    let asked = |node: &TestNode| {
        node.build("GET", "/test/a")
            .header("x-do", "elsewhere")
            .header("x-to", &to)
    };
    let denied = around("middleware", &origin, "").start().await;
    denied.ask(asked(&denied)).await.assert_status(502);
    assert_eq!(other.requests(), 0, "nothing is granted");

    let granted = format!("http-client = ['{}']", other.address());
    let node = around("middleware", &origin, &granted).start().await;
    let seen = node.ask(asked(&node)).await.json();
    assert_eq!(seen["uri"], "/elsewhere");
    assert_eq!(
        seen["headers"]["host"],
        json!([other.address().to_string()])
    );
    assert_eq!(origin.requests(), 0);

    // By this Host, what it sends on would go to the other server, or what it asks of that to the integration.
    let request = Request::builder()
        .uri("/_aws/execute-api/api/test/a")
        .header("host", other.address().to_string());
    let reply = node.ask(request).await;
    reply.assert_status(400);
    assert_eq!((origin.requests(), other.requests()), (0, 1));
}

#[tokio::test]
async fn a_viewers_request_that_is_too_large_is_refused_as_one() {
    let origin = TestOrigin::echo().await;
    for (component, _) in BOTH {
        let node = around(component, &origin, "")
            .toml("[limits]\nbody = '64KiB'")
            .start()
            .await;
        let (mut pieces, body) = Channel::<Bytes, std::io::Error>::new(1);
        let request = node.build("POST", "/test/a").body(body.boxed()).unwrap();
        let mut connection = node.connect().await;
        let sends = async move {
            // It ends when the node has heard enough.
            while pieces
                .send_data(Bytes::from(vec![0; 16 << 10]))
                .await
                .is_ok()
            {}
        };
        let (response, ()) = tokio::join!(connection.send(request), sends);
        assert_eq!(response.unwrap().status(), 413, "{component}");
    }
}

#[tokio::test]
async fn it_runs_where_the_integration_does() {
    let upstream = TestOrigin::echo().await;
    let uri = format!("http://{}/{{proxy}}", upstream.address());
    let api = Api::new()
        .field("x-tidegate-middleware", json!(["m"]))
        .route("GET /mock", Operation::mock("mock"))
        .route("ANY /to/{proxy+}", Operation::proxy(&uri));
    let origin = origin_named("home", "")
        .api(&api)
        .function("m", &fixture("middleware-p3"), "")
        .start()
        .await;
    let edge = edge("edge-1", &origin, &[]).await;
    for path in ["/test/mock", "/test/to/a"] {
        let reply = edge.get(path).await;
        reply.assert_status(200);
        assert_eq!(through(&reply.headers), ["0.3"], "{path}");
    }
    let request = edge.build("GET", "/test/mock").header("x-do", "refuse");
    edge.ask(request).await.assert_status(403);
    assert_eq!(instances(&edge.metrics().await), 0.0);
    assert!(instances(&origin.metrics().await) >= 1.0);
}

#[test]
fn one_that_is_not_there_is_refused_with_its_place() {
    let operation = Operation::mock("a").field("x-tidegate-middleware", json!(["mm"]));
    TestNode::with("")
        .api(&Api::new().route("GET /a", operation))
        .function("m", &fixture("middleware"), "")
        .check()
        .assert_refused(&[
            "api.openapi.yaml:",
            "no function \"mm\"; did you mean \"m\"?",
        ]);
}
