//! Functions: `wasi:http` components, 0.2 and 0.3, unchanged.

use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use tidegate_tests::{Api, Load, Operation, TestNode, fixture, text};

/// The echo functions: one of `wasi:http` 0.2 and one of 0.3.
const ECHOES: [&str; 2] = ["function-echo", "function-echo-p3"];

async fn invoking(function: &str, settings: &str) -> TestNode {
    let api = Api::new()
        .route("ANY /{proxy+}", Operation::function("f"))
        .route("GET /hello", Operation::mock("hello"));
    TestNode::with("")
        .api(&api)
        .function("f", &fixture(function), settings)
        .start()
        .await
}

#[tokio::test]
async fn a_function_sees_the_request_as_it_was_sent_and_is_heard_as_it_answers() {
    for function in ECHOES {
        for isolation in ["reuse", "request"] {
            let node = invoking(function, &format!("isolation = '{isolation}'")).await;
            for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PURGE"] {
                let request = node
                    .build(method, "/test/a%20b/c?d=%C3%A9&e=1&e=2")
                    .header("x-own", "1")
                    .header("x-own", "2")
                    .header(
                        "x-latin",
                        http::HeaderValue::from_bytes(b"caf\xe9").unwrap(),
                    )
                    .header("connection", "x-hop")
                    .header("x-hop", "1")
                    .header("tidegate-stage", "forged");
                let content = if method == "GET" { "" } else { "content" };
                let reply = node.request(request.body(content.into()).unwrap()).await;
                let shown = format!("{function} {isolation} {method} {:?}", reply.headers);
                assert_eq!(
                    (reply.status.as_u16(), reply.text()),
                    (200, content.into()),
                    "{shown}"
                );
                assert_eq!(reply.header("x-echo-method"), method, "{shown}");
                assert_eq!(
                    reply.header("x-echo-path"),
                    "/a%20b/c?d=%C3%A9&e=1&e=2",
                    "{shown}"
                );
                let all = |name: &str| {
                    let values = reply.headers.get_all(name).iter();
                    values
                        .map(|value| value.as_bytes().to_vec())
                        .collect::<Vec<_>>()
                };
                assert_eq!(all("x-echo-x-own"), [b"1", b"2"], "{shown}");
                assert_eq!(all("x-echo-x-latin"), [b"caf\xe9"], "{shown}");
                assert_eq!(all("x-echo-tidegate-stage"), [b"test"], "{shown}");
                assert!(all("x-echo-x-hop").is_empty(), "{shown}");
            }
        }
    }
}

/// Each piece is sent after the one before came back: the function has it, and its answer is out, before the body ends.
#[tokio::test]
async fn bodies_stream_through_a_function_piece_by_piece() {
    for function in ECHOES {
        let node = invoking(function, "").await;
        for mut connection in [node.connect().await, node.connect_h2().await] {
            let (mut pieces, body) = Channel::<Bytes, std::io::Error>::new(1);
            let request = node.build("POST", "/test/a").body(body.boxed()).unwrap();
            pieces.send_data(Bytes::from("piece 0")).await.unwrap();
            let mut response = connection.send(request).await.unwrap();
            assert_eq!(response.status(), 200, "{function}");
            for number in 0..4 {
                let expected = format!("piece {number}");
                let mut got = String::new();
                while got.len() < expected.len() {
                    let frame = response.body_mut().frame().await.expect("a piece").unwrap();
                    if let Ok(data) = frame.into_data() {
                        got.push_str(std::str::from_utf8(&data).unwrap());
                    }
                }
                assert_eq!(got, expected, "{function}");
                let next = format!("piece {}", number + 1);
                pieces.send_data(Bytes::from(next)).await.unwrap();
            }
            drop(pieces);
            let rest = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(rest, "piece 4", "{function}");
        }
    }
}

#[tokio::test]
async fn several_mebibytes_come_back_from_a_function_as_they_were_sent() {
    let content: Bytes = (0..3 << 20).map(|n: u32| (n % 251) as u8).collect();
    for function in ECHOES {
        let node = invoking(function, "").await;
        let body = Full::new(content.clone())
            .map_err(|never| match never {})
            .boxed();
        let request = node.build("POST", "/test/a").body(body).unwrap();
        let response = node.connect().await.send(request).await.unwrap();
        let echoed = response.into_body().collect().await.unwrap().to_bytes();
        assert!(echoed == content, "{function}: {} octets", echoed.len());
    }
}

/// Its instance is let go, and the next caller gets another.
#[tokio::test]
async fn a_viewer_that_leaves_in_the_middle_of_a_functions_body_frees_its_instance() {
    for function in ECHOES {
        // Where the function hears first that its request broke off, it may end well: an instance for one request is gone then,
        // too.
        let node = invoking(function, "isolation = 'request'").await;
        let (mut pieces, body) = Channel::<Bytes, std::io::Error>::new(1);
        let request = node.build("POST", "/test/a").body(body.boxed()).unwrap();
        pieces.send_data(Bytes::from("piece 0")).await.unwrap();
        let mut connection = node.connect().await;
        let mut response = connection.send(request).await.unwrap();
        response.body_mut().frame().await.expect("a piece").unwrap();
        let live = |metrics: &tidegate_tests::Metrics| {
            metrics.sum("tidegate_plugin_instances", &[("step", "function")])
        };
        assert_eq!(live(&node.metrics().await), 1.0, "{function}");
        drop((response, connection, pieces));
        node.until("the instance is gone", |metrics| live(metrics) == 0.0)
            .await;
        let request = node.build("POST", "/test/a").body(text("again")).unwrap();
        let again = node.connect().await.send(request).await.unwrap();
        assert_eq!(
            again.into_body().collect().await.unwrap().to_bytes(),
            "again"
        );
    }
}

#[tokio::test]
async fn a_function_serves_many_callers_at_once() {
    for function in ECHOES {
        let node = invoking(function, "").await;
        let load = Load::start(&node, "/test/a", 16);
        load.more(200).await;
        load.stop().await.assert_only(200);
        let instances = node.metrics().await;
        let instances = instances.sum("tidegate_plugin_instances", &[("step", "function")]);
        assert!((1.0..=16.0).contains(&instances), "{function}: {instances}");
    }
}

#[tokio::test]
async fn a_function_that_is_missing_or_no_component_is_refused_by_name() {
    let setup = || {
        TestNode::with("[function.broken]\ncomponent = 'broken.wasm'")
            .api(&Api::new().route("GET /a", Operation::function("broken")))
    };
    let whole = std::fs::read(fixture("function-echo")).unwrap();
    let plugin = std::fs::read(fixture("allow")).unwrap();
    let cases: [(&[u8], &str); 6] = [
        (b"", "this is not WebAssembly"),
        (b"#!/bin/sh", "this is not WebAssembly"),
        (b"\0asm\x01\0\0\0", "this is a core module, not a component"),
        (b"\0asm\x0d\0\x01\0garbage", "the component is damaged: "),
        (&whole[..whole.len() / 2], "the component is damaged: "),
        (
            &plugin,
            "and no wasi:http/incoming-handler (0.2) or wasi:http/handler (0.3)",
        ),
    ];
    setup()
        .check()
        .assert_refused(&["function \"broken\"", "broken.wasm"]);
    setup()
        .refused()
        .assert_refused(&["function \"broken\"", "broken.wasm"]);
    for (bytes, cause) in cases {
        let refused = setup().file("broken.wasm", bytes).check();
        refused.assert_refused(&["function \"broken\"", cause]);
    }
    setup()
        .file("broken.wasm", &whole[..whole.len() / 2])
        .refused()
        .assert_refused(&["function \"broken\"", "the component is damaged: "]);
}

#[tokio::test]
async fn a_function_that_was_damaged_under_a_running_node_leaves_the_old_one_serving() {
    let node = invoking("function-echo", "").await;
    let load = Load::start(&node, "/test/a", 4);
    std::fs::write(node.path("f.wasm"), b"\0asm but nothing else").unwrap();
    node.until_logged(&["function \"f\""]).await;
    load.more(20).await;
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn a_function_whose_instances_are_all_in_use_takes_no_more_invocations() {
    let one =
        "[node]\nname = 'test'\nregion = 'local'\nsuffix = 'localhost'\nthreads = 1\ndata = 'data'";
    for function in ECHOES {
        let node = TestNode::with(one)
            .api(&Api::new().route("ANY /{proxy+}", Operation::function("f")))
            .function("f", &fixture(function), "instances = 1")
            .start()
            .await;
        let (mut pieces, body) = Channel::<Bytes, std::io::Error>::new(1);
        let request = node.build("POST", "/test/a").body(body.boxed()).unwrap();
        let mut connection = node.connect().await;
        pieces.send_data("one".into()).await.unwrap();
        let mut held = connection.send(request).await.unwrap();
        let piece = held.frame().await.unwrap().unwrap();
        assert_eq!(piece.into_data().unwrap(), "one");
        let refused = node.get("/test/a").await;
        refused.assert_error(503, "Service Unavailable");
        node.until_logged(&["has no free instance"]).await;
        drop(pieces);
        held.collect().await.unwrap();
        node.get("/test/a").await.assert_status(200);
    }
}
