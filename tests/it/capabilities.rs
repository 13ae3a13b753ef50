//! What a binding may be granted, used by a guest and seen from outside.

use std::fs;

use serde_json::{Value, json};
use tidegate_tests::{Api, Metrics, Operation, RawOrigin, TestNode, TestOrigin, fixture, until};

/// Who the authorizer says it is, in the response.
fn showing_the_principal(operation: Operation) -> Operation {
    let set = json!({ "x-principal": "${context.authorizer.principalId}" });
    let configuration = json!({ "response": { "headers": { "set": set } } });
    operation.step("response-transform", "header-transform", configuration)
}

/// An authorizer that asks `uri`, and may ask `hosts`.
fn caller(uri: &str, hosts: &[&str]) -> Value {
    json!({
        "step": "authorizer", "plugin": "caller",
        "configuration": { "uri": uri }, "grants": { "http-client": hosts },
        "limits": { "deadline": "10s" },
    })
}

async fn asking(text: &str, uri: &str, hosts: &[&str]) -> TestNode {
    let operation = showing_the_principal(Operation::mock("hello").binding(caller(uri, hosts)));
    TestNode::with(text)
        .api(&Api::new().route("GET /a", operation))
        .plugin("caller", &fixture("caller"))
        .start()
        .await
}

#[tokio::test]
async fn a_plugin_asks_the_servers_that_it_was_granted() {
    let origin = TestOrigin::echo().await;
    let host = origin.address().to_string();
    let node = asking("", &format!("http://{host}/ask?a=1"), &[&host]).await;
    let reply = node.get("/test/a").await;
    reply.assert_status(200);
    let asked: Value = serde_json::from_str(reply.header("x-principal")).expect("what was asked");
    assert_eq!(
        (&asked["method"], &asked["uri"], &asked["body"]),
        (&json!("POST"), &json!("/ask?a=1"), &json!("may they?"))
    );
    assert_eq!(asked["headers"]["x-from"], json!(["caller"]));
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn what_another_server_answers_is_the_plugins_to_judge() {
    let origin = RawOrigin::replying(
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    )
    .await;
    let host = origin.address().to_string();
    let node = asking("", &format!("http://{host}/"), &[&host]).await;
    node.get("/test/a").await.assert_error(403, "Forbidden");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_a_timeout_for_the_plugin() {
    let origin = RawOrigin::stalling().await;
    let host = origin.address().to_string();
    let node = asking("", &format!("http://{host}/"), &[&host]).await;
    node.get("/test/a")
        .await
        .assert_error(500, "Internal server error");
    node.until_logged(&["answered with an error: no answer: HttpError::Timeout"])
        .await;
}

#[tokio::test]
async fn a_server_that_was_not_granted_is_never_asked() {
    let (granted, other) = (
        TestOrigin::saying("granted").await,
        TestOrigin::saying("other").await,
    );
    let (host, uri) = (
        granted.address().to_string(),
        format!("http://{}/", other.address()),
    );
    let node = asking("", &uri, &[&host]).await;
    node.get("/test/a")
        .await
        .assert_error(500, "Internal server error");
    node.until_logged(&["no answer: HttpError::DestinationNotAllowed"])
        .await;
    assert_eq!((granted.requests(), other.requests()), (0, 0));
}

/// Even where the grant names them.
#[tokio::test]
async fn neither_the_admin_address_nor_link_local_ones_can_be_asked() {
    for host in ["ADMIN", "localhost:PORT", "169.254.169.254", "[fe80::1]:80"] {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = free.local_addr().unwrap();
        drop(free);
        let host = host.replace("ADMIN", &admin.to_string());
        let host = host.replace("PORT", &admin.port().to_string());
        let admin = admin.to_string();
        let text = format!("[admin]\naddress = '{admin}'");
        let node = asking(&text, &format!("http://{host}/metrics"), &[&host]).await;
        assert_eq!(node.admin_address().to_string(), admin);
        node.get("/test/a")
            .await
            .assert_error(500, "Internal server error");
        node.until_logged(&["no answer: HttpError::DestinationNotAllowed"])
            .await;
    }
}

#[tokio::test]
async fn what_a_sink_of_ones_own_writes_is_in_the_nodes_log_with_its_binding() {
    let binding = json!({ "step": "log-sink", "plugin": "log-writer" });
    let api = Api::new()
        .route("GET /a", Operation::mock("hello"))
        .field("x-tidegate-bindings", json!([binding]));
    let node = TestNode::with(JSON_LOG)
        .api(&api)
        .plugin("log-writer", &fixture("log-writer"))
        .start()
        .await;
    node.get("/test/a").await.assert_status(200);
    let line = node.until_logged(&["served GET /a with 200"]).await;
    let line: Value = serde_json::from_str(&line).expect("one JSON object");
    assert_eq!(line["binding"], "api/test: log-sink log-writer");
    assert_eq!(line["level"], "INFO");
}

#[tokio::test]
async fn what_a_step_logs_names_the_request() {
    let binding = json!({ "step": "authorizer", "plugin": "logging" });
    let operation = Operation::mock("hello").binding(binding);
    let node = TestNode::with(JSON_LOG)
        .api(&Api::new().route("GET /a", operation))
        .plugin("logging", &fixture("logging"))
        .start()
        .await;
    let reply = node.get("/test/a").await;
    reply.assert_status(200);
    let line = node.until_logged(&["line 63 of 70"]).await;
    let line: Value = serde_json::from_str(&line).expect("one JSON object");
    assert_eq!(line["request_id"], reply.header("x-amzn-requestid"));
    assert_eq!(line["binding"], "api/test GET /a: authorizer logging");
    // A call has 64 lines; the others are counted.
    let dropped = [("event", "log-lines-dropped")];
    assert_eq!(
        node.metrics()
            .await
            .sum("tidegate_plugin_events_total", &dropped),
        6.0
    );
    let lines = node.log();
    assert!(lines.iter().all(|line| !line.contains("line 64 of 70")));
    // And a line 4 KiB.
    let long = lines
        .iter()
        .find(|line| line.contains("long"))
        .expect("the long one");
    assert_eq!(long.matches('x').count(), 4096 - "long ".len());
}

#[tokio::test]
async fn a_transform_reads_and_writes_both_bodies() {
    let origin = TestOrigin::echo().await;
    let bindings = ["request-transform", "response-transform"]
        .map(|step| json!({ "step": step, "plugin": "upper-body" }));
    let [request, response] = bindings;
    let operation = Operation::proxy("http://origin/")
        .binding(request)
        .binding(response);
    let node = TestNode::with("")
        .api(&Api::new().route("POST /a", operation))
        .plugin("upper-body", &fixture("upper-body"))
        .upstream("origin", origin.address())
        .start()
        .await;
    for content in ["hello", "", "a longer one"] {
        let reply = node.post("/test/a", content).await;
        reply.assert_status(200);
        let shouted = format!("\"BODY\":\"{}\"", content.to_uppercase());
        assert!(reply.text().contains(&shouted), "{}", reply.text());
        assert!(reply.text().contains("\"METHOD\":\"POST\""));
        assert_eq!(
            reply.header("content-length"),
            reply.body.len().to_string(),
            "the length of what is sent"
        );
    }
}

#[tokio::test]
async fn a_response_over_the_limit_of_a_transform_that_reads_it_is_a_bad_gateway() {
    let origin = TestOrigin::saying("more than sixteen octets of content").await;
    let binding = json!({ "step": "response-transform", "plugin": "upper-body" });
    let operation = Operation::proxy("http://origin/").binding(binding);
    let node = TestNode::with("[limits]\npayload = 16")
        .api(&Api::new().route("GET /a", operation))
        .plugin("upper-body", &fixture("upper-body"))
        .upstream("origin", origin.address())
        .start()
        .await;
    node.get("/test/a")
        .await
        .assert_error(502, "Internal server error");
}

#[tokio::test]
async fn values_that_were_asked_for_are_the_ones_that_are_looked_up() {
    let route = |plugin: &str| {
        let binding = json!({ "step": "authorizer", "plugin": plugin });
        showing_the_principal(Operation::mock("hello").binding(binding))
    };
    let api = Api::new()
        .route("GET /given", route("five-headers-given"))
        .route("GET /asked", route("five-headers"));
    let node = TestNode::with("")
        .api(&api)
        .plugin("five-headers", &fixture("five-headers"))
        .plugin("five-headers-given", &fixture("five-headers-given"))
        .start()
        .await;
    for (names, count) in [
        (&[][..], "0"),
        (&["x-one", "x-five"], "2"),
        (&["X-One", "x-two", "x-three", "x-four", "x-five"], "5"),
        (&["x-six"], "0"),
    ] {
        for path in ["/test/given", "/test/asked"] {
            let request = names.iter().fold(node.build("GET", path), |request, name| {
                request.header(*name, "a")
            });
            let reply = node.ask(request).await;
            assert_eq!(reply.header("x-principal"), count, "{path} {names:?}");
        }
    }
}

#[tokio::test]
async fn secrets_the_shared_cache_and_counters_are_there_where_they_are_granted() {
    let grants = json!({ "secrets": ["token"], "shared-cache": true, "metrics": true });
    let binding = |isolation: &str| {
        json!({
            "step": "response-transform", "plugin": "capable",
            "grants": grants, "isolation": isolation,
        })
    };
    let api = Api::new()
        .route("GET /a", Operation::mock("a").binding(binding("request")))
        .route("GET /b", Operation::mock("b").binding(binding("reuse")));
    let node = TestNode::with("")
        .api(&api)
        .plugin("capable", &fixture("capable"))
        .file("token.txt", b"let-me-in\n")
        .toml("[secret.token]\nfile = 'token.txt'\n[secret.other]\nfile = 'token.txt'")
        .start()
        .await;
    // Each binding has its own cache, which its instances share: here each request has one of its own.
    for expected in ["1", "2", "3"] {
        for path in ["/test/a", "/test/b"] {
            let reply = node.get(path).await;
            let seen = ["x-token", "x-other", "x-count"].map(|name| reply.header(name));
            assert_eq!(seen, ["let-me-in", "none", expected], "{path}");
        }
    }
    let seen = |metrics: &Metrics, route: &str| {
        let binding = format!("api/test GET /{route}: response-transform capable");
        metrics.sum(
            "tidegate_plugin_events_total",
            &[("binding", &binding), ("event", "seen")],
        )
    };
    let metrics = node.metrics().await;
    assert_eq!((seen(&metrics, "a"), seen(&metrics, "b")), (6.0, 6.0));
}

#[tokio::test]
async fn a_secret_that_the_node_does_not_have_is_refused_by_name() {
    let binding = json!({
        "step": "response-transform", "plugin": "capable",
        "grants": { "secrets": ["tokn"], "shared-cache": true, "metrics": true },
    });
    let check = TestNode::with("")
        .api(&Api::new().route("GET /a", Operation::mock("a").binding(binding)))
        .plugin("capable", &fixture("capable"))
        .file("token.txt", b"let-me-in\n")
        .toml("[secret.token]\nfile = 'token.txt'")
        .check();
    check.assert_refused(&["no secret \"tokn\"", "did you mean \"token\"?"]);
}

#[tokio::test]
async fn a_capability_that_was_not_granted_is_named() {
    let grants = [
        ("secrets", json!(["token"])),
        ("shared-cache", json!(true)),
        ("metrics", json!(true)),
    ];
    for (missing, _) in &grants {
        let others = grants.iter().filter(|(name, _)| name != missing);
        let others: serde_json::Map<_, _> = others
            .map(|(name, grant)| ((*name).to_owned(), grant.clone()))
            .collect();
        let binding =
            json!({ "step": "response-transform", "plugin": "capable", "grants": others });
        let check = TestNode::with("")
            .api(&Api::new().route("GET /a", Operation::mock("a").binding(binding)))
            .plugin("capable", &fixture("capable"))
            .file("token.txt", b"let-me-in")
            .toml("[secret.token]\nfile = 'token.txt'")
            .check();
        let cause = format!(
            "the plugin imports tidegate:gateway/{missing}, which this binding was not granted"
        );
        check.assert_refused(&[&cause]);
    }
}

/// The log of a stage with two sinks, one of which fails: the other is not disturbed.
#[tokio::test]
async fn records_that_a_sink_refuses_are_counted_as_lost_and_the_others_get_theirs() {
    let bindings =
        json!([{ "step": "log-sink", "plugin": "faulty", "configuration": { "how": "error" } }]);
    let api = Api::new()
        .route("GET /a", Operation::mock("hello"))
        .field("x-tidegate-bindings", bindings);
    let stages = "[api.stage.test]\naccess-log = { output = { file = 'access.log' }, format = '$context.status' }";
    let node = TestNode::with("")
        .api_with("api", &api.text(), stages)
        .plugin("faulty", &fixture("faulty"))
        .start()
        .await;
    for _ in 0..3 {
        node.get("/test/a").await.assert_status(200);
    }
    until("three lines are written", async || {
        let text = fs::read_to_string(node.path("access.log")).unwrap_or_default();
        (text == "200\n200\n200\n").then_some(())
    })
    .await;
    node.until("three records are lost", |metrics| {
        metrics.sum("tidegate_log_records_lost_total", &[]) == 3.0
    })
    .await;
    node.until_logged(&[
        "log records lost",
        "answered with an error: the fixture fails, as it should",
    ])
    .await;
}

const JSON_LOG: &str = "[log]\nformat = 'json'";
