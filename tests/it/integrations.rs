//! Decisions that are made anew for each request: where an integration sends it, and who answers instead.

use serde_json::json;
use tidegate_tests::{Api, Operation, RawOrigin, TestNode, TestOrigin, fixture};

/// A node whose integration is the fixture `planner`, which does what the request's `x-plan` says.
async fn planning(origin: &TestOrigin, upstreams_granted: &[&str]) -> TestNode {
    let binding = json!({
        "step": "integration", "plugin": "planner", "grants": { "upstream": upstreams_granted },
    });
    let stamp = json!({ "step": "response-transform", "plugin": "stamp-one" });
    let operation = Operation::empty().binding(binding).binding(stamp);
    TestNode::with("")
        .api(&Api::new().route("ANY /{proxy+}", operation))
        .plugin("planner", &fixture("planner"))
        .plugin("stamp-one", &fixture("stamp-one"))
        .function("echo", &fixture("function-echo"), "")
        .upstream("origin", origin.address())
        .start()
        .await
}

#[tokio::test]
async fn a_request_is_forwarded_where_the_integration_says_with_its_edits() {
    let origin = TestOrigin::echo().await;
    let node = planning(&origin, &[]).await;
    let request = node
        .build("POST", "/test/a?own=1")
        .header("x-plan", "forward http://origin/there?b=2")
        .header("x-secret", "not for the origin")
        .body("content".into())
        .unwrap();
    let reply = node.request(request).await;
    reply.assert_status(200);
    let seen = reply.json();
    assert_eq!(
        (&seen["method"], &seen["uri"], &seen["body"]),
        (&json!("PUT"), &json!("/there?b=2"), &json!("content")),
        "the URI is the plan's, whole"
    );
    assert_eq!(seen["headers"]["x-planned"], json!(["yes"]));
    assert_eq!(seen["headers"]["x-secret"], json!(null));
    assert_eq!(reply.header("x-stamp"), "one", "a transform comes after it");
}

#[tokio::test]
async fn a_host_that_is_no_upstream_is_forwarded_to_only_where_it_was_granted() {
    let (origin, granted, other) = (
        TestOrigin::echo().await,
        TestOrigin::saying("granted").await,
        TestOrigin::saying("other").await,
    );
    let node = planning(&origin, &[&granted.address().to_string()]).await;
    let ask = async |uri: String| {
        let plan = format!("forward {uri}");
        node.ask(node.build("GET", "/test/a").header("x-plan", plan))
            .await
    };
    let reply = ask(format!("http://{}/", granted.address())).await;
    assert_eq!(reply.text(), "granted");
    ask(format!("http://{}/", other.address()))
        .await
        .assert_error(500, "Internal server error");
    node.until_logged(&[
        &other.address().to_string(),
        "the binding was not granted this host (grants: upstream)",
    ])
    .await;
    assert_eq!(other.requests(), 0);
    for (uri, cause) in [
        ("/no/host", "it is not absolute"),
        ("http://[", "is not a URI"),
    ] {
        ask(uri.into())
            .await
            .assert_error(500, "Internal server error");
        node.until_logged(&[cause]).await;
    }
}

#[tokio::test]
async fn the_time_that_a_plan_gives_holds() {
    let (origin, stalling) = (TestOrigin::echo().await, RawOrigin::stalling().await);
    let host = stalling.address().to_string();
    let node = planning(&origin, &[&host]).await;
    let request = node
        .build("GET", "/test/a")
        .header("x-plan", format!("forward http://{host}/"));
    // The plan's 500 ms, not the route's 29 s.
    node.ask(request)
        .await
        .assert_error(504, "Endpoint request timed out");
}

#[tokio::test]
async fn a_function_is_invoked_as_the_integration_says_with_its_edits() {
    let origin = TestOrigin::echo().await;
    let node = planning(&origin, &[]).await;
    let request = node
        .build("POST", "/test/a/b?own=1")
        .header("x-plan", "invoke echo")
        .header("x-secret", "not for the function")
        .body("content".into())
        .unwrap();
    let reply = node.request(request).await;
    assert_eq!(
        (reply.status.as_u16(), reply.text().as_str()),
        (200, "content")
    );
    assert_eq!(reply.header("x-echo-method"), "POST");
    assert_eq!(reply.header("x-echo-path"), "/a/b?own=1&planned=yes");
    assert_eq!(reply.header("x-echo-x-planned"), "yes");
    assert!(!reply.headers.contains_key("x-echo-x-secret"));

    let unknown = node
        .build("GET", "/test/a")
        .header("x-plan", "invoke nobody");
    node.ask(unknown)
        .await
        .assert_error(500, "Internal server error");
    node.until_logged(&["no function \"nobody\""]).await;
}

#[tokio::test]
async fn an_integration_answers_by_itself_where_it_says_so() {
    let origin = TestOrigin::echo().await;
    let node = planning(&origin, &[]).await;
    let request = node
        .build("GET", "/test/a")
        .header("x-plan", "respond in other words");
    let reply = node.ask(request).await;
    assert_eq!(
        (reply.status.as_u16(), reply.text().as_str()),
        (203, "in other words")
    );
    let seen = ["x-planned", "x-stamp", "content-length"].map(|name| reply.header(name));
    assert_eq!(seen, ["yes", "one", "14"]);
    assert_eq!(origin.requests(), 0);
}

#[tokio::test]
async fn a_request_transform_that_answers_spares_the_integration_and_not_the_response_transforms() {
    let origin = TestOrigin::saying("from the origin").await;
    let steps = [
        ("request-transform", "short"),
        ("response-transform", "stamp-one"),
    ];
    let bound = |operation: Operation, (step, plugin)| {
        operation.binding(json!({ "step": step, "plugin": plugin }))
    };
    let operation = steps
        .into_iter()
        .fold(Operation::proxy("http://origin/"), bound);
    let node = TestNode::with("")
        .api(&Api::new().route("GET /a", operation))
        .plugin("short", &fixture("short"))
        .plugin("stamp-one", &fixture("stamp-one"))
        .upstream("origin", origin.address())
        .start()
        .await;
    let request = node.build("GET", "/test/a").header("x-short", "enough");
    let reply = node.ask(request).await;
    assert_eq!(
        (reply.status.as_u16(), reply.text().as_str()),
        (203, "enough")
    );
    assert_eq!(
        (reply.header("x-by"), reply.header("x-stamp")),
        ("short", "one")
    );
    assert_eq!(origin.requests(), 0);
    assert_eq!(node.get("/test/a").await.text(), "from the origin");
}

#[tokio::test]
async fn a_header_transform_gives_the_path_that_a_function_sees() {
    let configuration = json!({
        "request": {
            "path": "/v2${request.path}/${request.querystring.kind}",
            "query": { "remove": ["kind"], "rename": { "old": "new" }, "set": { "added": "1 + 1" } },
        },
    });
    let operation =
        Operation::function("echo").step("request-transform", "header-transform", configuration);
    let node = TestNode::with("")
        .api(&Api::new().route("GET /{proxy+}", operation))
        .function("echo", &fixture("function-echo"), "")
        .start()
        .await;
    let reply = node.get("/test/a/b%20c?kind=x%2Fy&old=3&left=4").await;
    reply.assert_status(200);
    assert_eq!(
        reply.header("x-echo-path"),
        "/v2/a/b%20c/x%2Fy?new=3&left=4&added=1%20%2B%201"
    );
}
