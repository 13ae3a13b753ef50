//! Functions that the public toolchains' own packages bring as examples: loaded unchanged, as functions and around an
//! integration.

use std::path::Path;

use http::Request;
use serde_json::{Value, json};
use tidegate_fixtures::{build_javascript_example, build_python_example, build_rust_example};
use tidegate_tests::{Api, Operation, Reply, Setup, TestNode, TestOrigin};

/// The examples of componentize-py, and the world that each is documented for.
const PYTHON: [(&str, &str); 2] = [
    ("http", "wasi:http/proxy@0.2.0"),
    ("http-p3", "wasi:http/service@0.3.0"),
];

fn invoking(component: &Path, settings: &str) -> Setup {
    let api = ["ANY /", "ANY /{proxy+}"]
        .into_iter()
        .fold(Api::new(), |api, key| {
            api.route(key, Operation::function("f"))
        });
    TestNode::with("")
        .api(&api)
        .function("f", component, settings)
}

/// A node with the component around `operation`.
fn around(operation: Operation, component: &Path, settings: &str) -> Setup {
    let operation = operation.field("x-tidegate-middleware", json!(["f"]));
    TestNode::with("")
        .api(&Api::new().route("ANY /{proxy+}", operation))
        .function("f", component, settings)
}

/// Asks by a name without a port, which a function can know before the node has one.
async fn ask(node: &TestNode, method: &str, path: &str, fields: &[(&str, &str)]) -> Reply {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("host", HOST);
    let request = fields.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    node.ask(request).await
}

#[tokio::test]
async fn rust_examples_of_both_versions_answer_as_functions() {
    let server = build_rust_example("wstd", "http_server");
    let node = invoking(&server, "").start().await;
    let home = node.get("/test/").await;
    assert_eq!(home.text(), "Hello, wasi:http/proxy world!\n");
    let echo = node.post("/test/echo", "some content").await;
    assert_eq!(
        (echo.status.as_u16(), echo.text().as_str()),
        (200, "some content")
    );
    let fields = [("x-own", "mine"), ("x-response-status", "418")];
    let headers = ask(&node, "GET", "/test/echo-headers", &fields).await;
    assert_eq!(headers.header("x-own"), "mine");
    let status = ask(&node, "GET", "/test/response-status", &fields).await;
    assert_eq!(status.status, 418);
    let stream = node.get("/test/stream-body").await.text();
    assert_eq!(stream.matches("stream started").count(), 5, "{stream}");
    node.get("/test/response-fail").await.assert_status(502);
    node.get("/test/none").await.assert_status(404);

    for krate in ["wasip2", "wasip3"] {
        let node = invoking(&build_rust_example(krate, "http-proxy"), "")
            .start()
            .await;
        for _ in 0..2 {
            assert_eq!(node.get("/test/a").await.text(), "Hello, WASI!", "{krate}");
        }
    }
}

#[tokio::test]
async fn rust_examples_stand_around_an_integration() {
    let origin = TestOrigin::echo().await;
    let uri = format!("http://{}/at/{{proxy}}", origin.address());
    let proxy = build_rust_example("wstd", "http_server_proxy");
    let settings = format!("environment = {{ TARGET_URL = 'http://{HOST}/' }}");
    let node = around(Operation::proxy(&uri), &proxy, &settings)
        .start()
        .await;
    let seen = ask(&node, "PUT", "/test/proxy/a?b=c", &[("x-own", "mine")]).await;
    seen.assert_status(200);
    let seen: Value = seen.json();
    assert_eq!(
        (&seen["method"], &seen["headers"]["x-own"]),
        (&json!("PUT"), &json!(["mine"]))
    );
    assert_eq!(origin.requests(), 1);
    // Its own answer, without asking what is behind it.
    ask(&node, "GET", "/test/else", &[])
        .await
        .assert_status(404);
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn python_examples_of_both_versions_answer_as_functions() {
    let origin = TestOrigin::saying("hello").await;
    for (example, world) in PYTHON {
        let component = build_python_example(example, world);
        let settings = format!("http-client = ['{}']", origin.address());
        let node = invoking(&component, &settings).start().await;
        let echo = node.post("/test/echo", "some content").await;
        assert_eq!(
            (echo.status.as_u16(), echo.text().as_str()),
            (200, "some content"),
            "{example}"
        );
        assert_eq!(echo.header("content-type"), "application/json", "{example}");
        let url = format!("http://{}/a", origin.address());
        let hashed = ask(&node, "GET", "/test/hash-all", &[("url", &url)]).await;
        assert_eq!(
            hashed.text(),
            format!("{url}: {SHA256_OF_HELLO}\n"),
            "{example}"
        );
        node.get("/test/none").await.assert_status(400);
    }
}

/// They ask for the URLs that they are told: here the one that they were asked by, behind which the integration is.
#[tokio::test]
async fn python_examples_of_both_versions_stand_around_an_integration() {
    for (example, world) in PYTHON {
        let component = build_python_example(example, world);
        let node = around(Operation::mock("hello"), &component, "")
            .start()
            .await;
        let url = format!("http://{HOST}/hash-all");
        let hashed = ask(&node, "GET", "/test/hash-all", &[("url", &url)]).await;
        assert_eq!(
            hashed.text(),
            format!("{url}: {SHA256_OF_HELLO}\n"),
            "{example}"
        );
    }
}

#[tokio::test]
async fn javascript_example_answers_as_a_function() {
    let node = invoking(&build_javascript_example(HOST), "").start().await;
    for _ in 0..2 {
        let home = node.get("/test/").await;
        assert_eq!((home.status.as_u16(), home.text().as_str()), (200, "Hono!"));
    }
    node.get("/test/none").await.assert_status(404);
}

#[tokio::test]
async fn javascript_example_stands_around_an_integration() {
    let origin = TestOrigin::echo().await;
    let uri = format!("http://{}/at/{{proxy}}", origin.address());
    let component = build_javascript_example(HOST);
    let node = around(Operation::proxy(&uri), &component, "").start().await;
    let fields = [("x-own", "mine"), ("authorization", "Bearer mine")];
    let seen = ask(&node, "PUT", "/test/proxy/a", &fields).await;
    seen.assert_status(200);
    let seen: Value = seen.json();
    assert_eq!(
        (&seen["method"], &seen["headers"]["x-own"]),
        (&json!("PUT"), &json!(["mine"]))
    );
    // It keeps this for itself.
    assert_eq!(seen["headers"]["authorization"], Value::Null);
    assert_eq!(origin.requests(), 1);
    // Its own answer, without asking what is behind it.
    ask(&node, "GET", "/test/else", &[])
        .await
        .assert_status(404);
    assert_eq!(origin.requests(), 1);
}

const HOST: &str = "api.execute-api.local.localhost";
const SHA256_OF_HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
