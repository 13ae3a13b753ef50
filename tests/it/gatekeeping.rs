//! Who is let in: API keys, throttles, validators, and what an unknown route is answered with.

use std::collections::HashSet;

use serde_json::json;
use tidegate_tests::{Api, Operation, TestNode, TestOrigin};

fn with_api_key(operation: Operation) -> Operation {
    let binding = json!({
        "step": "authorizer", "plugin": "api-key", "configuration": {}, "grants": { "api-keys": true },
    });
    operation.binding(binding)
}

#[tokio::test]
async fn only_a_key_of_the_stage_is_let_in() {
    let api = Api::new().route("GET /a", with_api_key(Operation::mock("hello")));
    let node = TestNode::with("")
        .api_with("api", &api.text(), "[api.stage.test]\n[api.stage.other]")
        .key(KEY, &["api/test"])
        .start()
        .await;
    let cases = [
        ("/test/a", Some(KEY), 200),
        ("/test/a", Some("wrong"), 403),
        ("/test/a", None, 403),
        ("/other/a", Some(KEY), 403),
    ];
    for (path, key, status) in cases {
        let request = key
            .into_iter()
            .fold(node.build("GET", path), |request, key| {
                request.header("x-api-key", key)
            });
        let reply = node.ask(request).await;
        match status {
            200 => assert_eq!(reply.text(), "hello"),
            _ => reply.assert_error(403, "Forbidden"),
        }
    }
}

#[tokio::test]
async fn a_security_requirement_of_an_api_key_is_enforced() {
    let api = Api::new()
        .security_scheme(
            "key",
            json!({ "type": "apiKey", "name": "x-api-key", "in": "header" }),
        )
        .route(
            "GET /closed",
            Operation::mock("hello").field("security", json!([{ "key": [] }])),
        )
        .route("GET /open", Operation::mock("hello"));
    let node = TestNode::with("")
        .api(&api)
        .key(KEY, &["api/test"])
        .start()
        .await;
    node.get("/test/closed")
        .await
        .assert_error(403, "Forbidden");
    node.ask(node.build("GET", "/test/closed").header("x-api-key", KEY))
        .await
        .assert_status(200);
    node.get("/test/open").await.assert_status(200);
}

#[tokio::test]
async fn a_throttle_admits_its_burst_and_then_says_when_to_come_again() {
    let api = Api::new().route("GET /a", Operation::mock("hello"));
    let node = TestNode::with("")
        .api_with(
            "api",
            &api.text(),
            "[api.stage.test]\nthrottle = { rate = 0.01, burst = 3 }\n[api.stage.free]",
        )
        .start()
        .await;
    for _ in 0..3 {
        node.get("/test/a").await.assert_status(200);
    }
    let reply = node.get("/test/a").await;
    reply.assert_error(429, "Too Many Requests");
    let retry_after: u64 = reply.header("retry-after").parse().expect("seconds");
    assert!((1..=100).contains(&retry_after), "{retry_after}");
    node.get("/free/a").await.assert_status(200);
}

#[tokio::test]
async fn a_request_that_the_definition_does_not_allow_is_refused_with_the_reason() {
    let schema = json!({
        "type": "object", "required": ["name"], "additionalProperties": false,
        "properties": { "name": { "type": "string", "minLength": 1 } },
    });
    let operation = Operation::mock("hello").step(
        "validator",
        "schema",
        json!({
            "parameters": [
                { "in": "querystring", "name": "a", "required": true },
                { "in": "header", "name": "x-b", "required": true },
            ],
            "body": { "required": true, "content": { "application/json": schema } },
        }),
    );
    let node = TestNode::with("")
        .api(&Api::new().route("POST /a", operation))
        .start()
        .await;
    let ask = async |query: &str, body: &'static str| {
        let request = node
            .build("POST", &format!("/test/a{query}"))
            .header("x-b", "1");
        let request = request
            .header("content-type", "application/json")
            .body(body.into())
            .unwrap();
        node.request(request).await
    };
    node.post("/test/a", r#"{"name":"x"}"#)
        .await
        .assert_error(400, "Missing required request parameters: [a, x-b]");
    ask("", r#"{"name":"x"}"#)
        .await
        .assert_error(400, "Missing required request parameters: [a]");
    for body in [
        "{}",
        r#"{"name":""}"#,
        r#"{"name":"x","more":1}"#,
        "{",
        "[]",
        "",
    ] {
        ask("?a=1", body)
            .await
            .assert_error(400, "Invalid request body");
    }
    ask("?a=1", r#"{"name":"x"}"#).await.assert_status(200);
}

#[tokio::test]
async fn an_unknown_route_of_a_rest_api_is_answered_as_the_service_does() {
    let api = Api::new().route("GET /a", Operation::mock("hello"));
    let node = TestNode::with("").api(&api).start().await;
    node.get("/test/b")
        .await
        .assert_error(403, "Missing Authentication Token");
    node.post("/test/a", "{}")
        .await
        .assert_error(403, "Missing Authentication Token");
    node.get("/nostage/a").await.assert_error(403, "Forbidden");
}

#[tokio::test]
async fn an_unknown_route_of_an_http_api_is_not_found() {
    let integration = json!({
        "type": "http_proxy", "httpMethod": "ANY", "uri": "http://origin/", "payloadFormatVersion": "1.0",
    });
    let api = Api::new().route(
        "GET /a",
        Operation::empty().field("x-amazon-apigateway-integration", integration),
    );
    let origin = TestOrigin::saying("hello").await;
    let node = TestNode::with("")
        .api(&api)
        .upstream("origin", origin.address())
        .start()
        .await;
    node.get("/test/a").await.assert_status(200);
    node.get("/test/b").await.assert_error(404, "Not Found");
}

#[tokio::test]
async fn a_route_without_an_integration_says_so() {
    let api = Api::new().route("GET /a", Operation::empty());
    let node = TestNode::with("").api(&api).start().await;
    node.get("/test/a")
        .await
        .assert_error(500, "No integration defined for method");
}

#[tokio::test]
async fn every_response_has_a_request_id_of_its_own() {
    let origin = TestOrigin::echo().await;
    let api = Api::new()
        .route("GET /mock", Operation::mock("hello"))
        .route("GET /forward", Operation::proxy("http://origin/"))
        .route("GET /closed", with_api_key(Operation::mock("hello")))
        .route("GET /broken", Operation::proxy("http://nobody/"));
    let node = TestNode::with("")
        .api(&api)
        .upstream("origin", origin.address())
        .upstream("nobody", "127.0.0.1:1".parse().unwrap())
        .key(KEY, &["api/test"])
        .start()
        .await;
    let mut ids = HashSet::new();
    let paths = [
        "/test/mock",
        "/test/forward",
        "/test/closed",
        "/test/broken",
        "/test/unknown",
        "/unknown",
    ];
    for path in paths {
        let request = node.build("GET", path).header("x-amzn-requestid", "mine");
        let id = node
            .ask(request)
            .await
            .header("x-amzn-requestid")
            .to_owned();
        assert!(!id.is_empty() && id != "mine", "{path}: {id:?}");
        ids.insert(id);
    }
    assert_eq!(ids.len(), paths.len());
}

#[tokio::test]
async fn transforms_change_what_the_origin_and_the_viewer_see() {
    let origin = TestOrigin::echo().await;
    let operation = Operation::proxy("http://origin/things/{id}")
        .step(
            "request-transform",
            "header-transform",
            json!({ "request": {
                "headers": {
                    "set": { "x-stage": "${context.stage}", "x-id": "id ${request.path.id}" },
                    "remove": ["x-secret"],
                    "rename": { "x-old": "x-new" },
                },
                "query": { "set": { "from": "gateway" }, "remove": ["drop"], "rename": { "a": "b" } },
            } }),
        )
        .step(
            "response-transform",
            "header-transform",
            json!({ "response": { "status": 202, "headers": { "set": { "x-served": "tidegate" }, "remove": ["content-type"] } } }),
        );
    let node = TestNode::with("")
        .api(&Api::new().route("GET /things/{id}", operation))
        .upstream("origin", origin.address())
        .start()
        .await;
    let request = node
        .build("GET", "/test/things/7?a=1&drop=2&keep=3")
        .header("x-secret", "s")
        .header("x-old", "o");
    let reply = node.ask(request).await;
    reply.assert_status(202);
    assert_eq!(
        (reply.header("x-served"), reply.header("content-type")),
        ("tidegate", "")
    );
    let seen = reply.json();
    assert_eq!(seen["headers"]["x-stage"], json!(["test"]));
    assert_eq!(seen["headers"]["x-id"], json!(["id 7"]));
    assert_eq!(seen["headers"]["x-new"], json!(["o"]));
    for absent in ["x-secret", "x-old"] {
        assert_eq!(seen["headers"][absent], json!(null), "{absent}");
    }
    let uri = seen["uri"].as_str().unwrap();
    let (path, query) = uri.split_once('?').unwrap();
    let parameters: HashSet<&str> = query.split('&').collect();
    assert_eq!(path, "/things/7");
    assert_eq!(parameters, HashSet::from(["b=1", "keep=3", "from=gateway"]));
}

#[tokio::test]
async fn stage_variables_fill_in_the_integration() {
    let (blue, green) = (
        TestOrigin::saying("blue").await,
        TestOrigin::saying("green").await,
    );
    let api = Api::new().route(
        "GET /a",
        Operation::proxy("http://${stageVariables.color}/"),
    );
    let stages = "[api.stage.one]\nvariables = { color = 'blue' }\n[api.stage.two]\nvariables = { color = 'green' }";
    let node = TestNode::with("")
        .api_with("api", &api.text(), stages)
        .upstream("blue", blue.address())
        .upstream("green", green.address())
        .start()
        .await;
    assert_eq!(node.get("/one/a").await.text(), "blue");
    assert_eq!(node.get("/two/a").await.text(), "green");
}

const KEY: &str = "a-key-only-for-this-test";
