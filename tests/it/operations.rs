//! What an operator sees: health, metrics, logs, and the words of `tidegate check`.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tidegate_tests::{Api, Load, Operation, TestNode, TestOrigin, fixture, until};

fn api() -> Api {
    Api::new()
        .route("GET /a", Operation::mock("hello"))
        .route("GET /items/{id}", Operation::proxy("http://origin/"))
}

#[tokio::test]
async fn health_and_readiness_are_told_on_the_admin_address_only() {
    let node = TestNode::with("")
        .api(&Api::new().route("GET /a", Operation::mock("hello")))
        .start()
        .await;
    node.admin("/healthz").await.assert_status(200);
    node.admin("/readyz").await.assert_status(200);
    node.admin("/nothing").await.assert_status(404);
    for path in ["/healthz", "/readyz", "/metrics"] {
        let request = Request::builder()
            .uri(path)
            .header("host", "localhost")
            .body(Bytes::new())
            .unwrap();
        let reply = node.connect().await.ask(request).await.unwrap();
        assert!(reply.status.is_client_error(), "{path}: {}", reply.status);
    }
}

#[tokio::test]
async fn metrics_count_requests_latencies_and_plugin_calls() {
    let origin = TestOrigin::saying("hello").await;
    let binding = json!({ "step": "authorizer", "plugin": "allow" });
    let guarded = Operation::mock("guarded").binding(binding);
    let node = TestNode::with("")
        .api(&api().route("GET /guarded", guarded))
        .plugin("allow", &fixture("allow"))
        .upstream("origin", origin.address())
        .start()
        .await;
    for _ in 0..3 {
        node.get("/test/a").await.assert_status(200);
        node.get("/test/items/7").await.assert_status(200);
    }
    for _ in 0..5 {
        node.get("/test/guarded").await.assert_status(200);
    }
    node.get("/test/unknown").await.assert_status(403);
    let counted = |status: &'static str, count: f64| {
        move |metrics: &tidegate_tests::Metrics| {
            metrics.sum("tidegate_requests_total", &[("status", status)]) == count
        }
    };
    node.until("eleven requests are counted", counted("200", 11.0))
        .await;
    node.until("one refusal is counted", counted("403", 1.0))
        .await;
    let metrics = node.metrics().await;
    assert_eq!(
        metrics.sum("tidegate_request_duration_seconds_count", &[]),
        12.0,
        "{}",
        metrics.text()
    );
    let of_guard = |name: &str| {
        let binding = "api/test GET /guarded: authorizer allow";
        metrics.sum(name, &[("binding", binding), ("step", "authorizer")])
    };
    let shown = metrics.text();
    assert_eq!(of_guard("tidegate_plugin_calls_total"), 5.0, "{shown}");
    assert_eq!(of_guard("tidegate_plugin_faults_total"), 0.0, "{shown}");
    let seconds = of_guard("tidegate_plugin_seconds_total");
    assert!(0.0 < seconds && seconds < 5.0, "{shown}");
    // One for each of the two workers at the most, since nobody asked twice at once.
    for name in [
        "tidegate_plugin_instances",
        "tidegate_plugin_instances_started_total",
        "tidegate_instances_live",
    ] {
        let instances = match name {
            "tidegate_instances_live" => metrics.sum(name, &[]),
            of_binding => of_guard(of_binding),
        };
        assert!((1.0..=2.0).contains(&instances), "{name}: {shown}");
    }
    for line in metrics
        .text()
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        assert!(
            !line.contains("/items/7"),
            "a label for each path has no bound: {line}"
        );
    }
    assert!(metrics.text().contains("# HELP tidegate_requests_total"));
}

#[tokio::test]
async fn each_request_leaves_one_line_in_the_access_log() {
    let stages = "[api.stage.test]\naccess-log = { output = { file = 'access.log' }, \
                  format = '$context.requestId $context.httpMethod $context.resourcePath $context.status $context.responseLength $context.nothing' }";
    let node = TestNode::with("")
        .api_with("api", &mock_only().text(), stages)
        .start()
        .await;
    let id = node
        .get("/test/a")
        .await
        .header("x-amzn-requestid")
        .to_owned();
    let refused = node
        .get("/test/unknown")
        .await
        .header("x-amzn-requestid")
        .to_owned();
    let log = node.path("access.log");
    let lines = until("two lines are written", async || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        (text.lines().count() == 2).then(|| text.lines().map(str::to_owned).collect::<Vec<_>>())
    })
    .await;
    // Each worker writes its own.
    assert!(lines.contains(&format!("{id} GET /a 200 5 -")), "{lines:?}");
    let refusal = format!("{refused} GET - 403 ");
    assert!(
        lines.iter().any(|line| line.starts_with(&refusal)),
        "{lines:?}"
    );
}

#[tokio::test]
async fn an_access_log_of_json_stays_json_whatever_a_viewer_sends() {
    let format = r#"{"id":"$context.requestId","agent":"$context.identity.userAgent","status":"$context.status"}"#;
    let stages = format!("[api.stage.test]\naccess-log = {{ format = '{format}' }}");
    let node = TestNode::with("")
        .api_with("api", &mock_only().text(), &stages)
        .start()
        .await;
    let agent = r#"a"b\c"#;
    let reply = node
        .ask(node.build("GET", "/test/a").header("user-agent", agent))
        .await;
    let line = node
        .until_logged(&[reply.header("x-amzn-requestid"), "agent"])
        .await;
    let record: Value =
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(
        (&record["agent"], &record["status"]),
        (&json!(agent), &json!("200"))
    );
}

fn mock_only() -> Api {
    Api::new().route("GET /a", Operation::mock("hello"))
}

#[tokio::test]
async fn problems_of_a_configuration_are_all_told_with_their_place() {
    let check = TestNode::with(
        "[[listener]]\naddress = '127.0.0.1:0'\nprotocls = ['h2']\n[limits]\nbody = '1 elephant'",
    )
    .api_with("api", "openapi: 3.0.3\n", "[api.stage.test]")
    .check();
    check.assert_refused(&["node.toml:", "protocls", "did you mean", "elephant"]);
}

#[tokio::test]
async fn problems_of_a_definition_are_told_with_their_line() {
    for (definition, words) in [
        (
            "openapi: 3.0.3\ninfo: { title: t, version: '1' }\npaths: [\n",
            &["api.openapi.yaml:"][..],
        ),
        ("hello", &["api.openapi.yaml"]),
        (
            "openapi: 3.0.3\ninfo: { title: t, version: '1' }\npaths:\n  /a:\n    get:\n      responses: {}\n      x-tidegate-bindings:\n        - step: integration\n          plugin: moc\n",
            &["api.openapi.yaml:", "moc", "mock"],
        ),
        (
            "openapi: 3.0.3\ninfo: { title: t, version: '1' }\npaths:\n  /a:\n    get:\n      responses: {}\n      x-amazon-apigateway-integration:\n        type: http_proxi\n        uri: http://a/\n        httpMethod: GET\n",
            &["api.openapi.yaml:", "http_proxi"],
        ),
    ] {
        let check = TestNode::with("")
            .api_with("api", definition, "[api.stage.test]")
            .check();
        check.assert_refused(words);
    }
}

#[tokio::test]
async fn a_configuration_of_a_plugin_that_it_refuses_is_named() {
    let operation = Operation::mock("hello").step(
        "throttle",
        "token-bucket",
        json!({ "bucket": "b", "rate": 0, "burst": 1 }),
    );
    let check = TestNode::with("")
        .api(&Api::new().route("GET /a", operation))
        .check();
    check.assert_refused(&["token-bucket", "/rate"]);
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let setup =
        TestNode::with("").toml("[[api]]\nid = 'api'\ndefinition = 'gone.yaml'\n[api.stage.test]");
    setup.check().assert_refused(&["gone.yaml"]);
}

#[tokio::test]
async fn a_good_configuration_is_accepted() {
    let check = TestNode::with("").api(&mock_only()).check();
    assert!(check.success, "{}", check.output);
}

#[tokio::test]
async fn a_taken_port_is_told_at_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let refused = TestNode::with(&format!("[[listener]]\naddress = '{address}'"))
        .api(&mock_only())
        .refused();
    refused.assert_refused(&[&address.to_string()]);
}

#[tokio::test]
async fn several_hundred_connections_are_served_side_by_side() {
    let node = TestNode::with("").api(&mock_only()).start().await;
    let load = Load::start(&node, "/test/a", 300);
    load.more(1000).await;
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn what_was_compiled_once_is_not_compiled_again_unless_it_was_damaged() {
    let operation = Operation::mock("hello")
        .step("authorizer", "allow", json!({}))
        .step("response-transform", "header-transform", json!({}));
    let node = TestNode::with("[log]\nlevel = 'debug'")
        .api(&Api::new().route("GET /a", operation))
        .plugin("allow", &fixture("allow"))
        .with_artifacts_of_its_own()
        .start()
        .await;
    let compiled = |node: &TestNode| {
        let lines = node.log().into_iter();
        lines
            .filter(|line| line.contains("component compiled"))
            .count()
    };
    node.get("/test/a").await.assert_status(200);
    assert_eq!(compiled(&node), 3, "mock, allow and header-transform");

    let node = node.stop().await.start().await;
    node.get("/test/a").await.assert_status(200);
    assert_eq!(compiled(&node), 0, "a warm start");

    // One is damaged, one is cut off, one is empty: each is compiled anew, and kept.
    let artifacts = fs::read_dir(node.path("data/artifacts")).unwrap().flatten();
    let mut artifacts: Vec<_> = artifacts
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|end| end == "cwasm"))
        .collect();
    artifacts.sort();
    let stopped = node.stop().await;
    let [damaged, short, empty] = &*artifacts else {
        panic!("not three artifacts: {artifacts:?}");
    };
    let mut bytes = fs::read(damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(damaged, bytes).unwrap();
    let bytes = fs::read(short).unwrap();
    fs::write(short, &bytes[..bytes.len() / 2]).unwrap();
    fs::write(empty, b"").unwrap();
    let node = stopped.start().await;
    node.get("/test/a").await.assert_status(200);
    assert_eq!(compiled(&node), 3);
    node.until_logged(&["compiled artifact is damaged or not this node's"])
        .await;

    let node = node.stop().await.start().await;
    node.get("/test/a").await.assert_status(200);
    assert_eq!(compiled(&node), 0, "what was compiled anew was kept");
}

/// As where a data directory moved to another machine: its key goes with it, and so the MAC is right.
#[tokio::test]
async fn machine_code_of_another_architecture_is_compiled_anew_and_what_runs_is_untouched() {
    let binding = json!({ "step": "response-transform", "plugin": "stamp" });
    let operation = Operation::mock("hello").binding(binding);
    let node = TestNode::with("")
        .api(&Api::new().route("GET /a", operation))
        .plugin("stamp", &fixture("stamp-two"))
        .with_artifacts_of_its_own()
        .start()
        .await;
    let two = fs::read(fixture("stamp-two")).unwrap();
    let artifact = artifact_of(&node, &two);
    let mut code = fs::read(&artifact).unwrap();
    code.truncate(code.len() - 32); // its MAC
    let ours = std::env::consts::ARCH.as_bytes();
    let places: Vec<_> = (0..code.len() - ours.len())
        .filter(|&at| code[at..].starts_with(ours))
        .collect();
    assert!(!places.is_empty(), "it says what it is for");
    let other: &[u8] = if ours == b"x86_64" {
        b"mips64"
    } else {
        b"riscv64"
    };
    for at in places {
        code[at..at + ours.len()].copy_from_slice(other);
    }
    fs::write(
        node.path("stamp.wasm"),
        fs::read(fixture("stamp-one")).unwrap(),
    )
    .unwrap();
    until("another version serves", async || {
        (node.get("/test/a").await.header("x-stamp") == "one").then_some(())
    })
    .await;
    let key = fs::read(node.path("data/artifacts/key")).unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
    code.extend_from_slice(aws_lc_rs::hmac::sign(&key, &code).as_ref());
    fs::write(&artifact, &code).unwrap();

    let load = Load::start(&node, "/test/a", 4);
    fs::write(node.path("stamp.wasm"), &two).unwrap();
    until("it is compiled anew, and serves", async || {
        (node.get("/test/a").await.header("x-stamp") == "two").then_some(())
    })
    .await;
    load.stop().await.assert_only(200);
    node.until_logged(&["compiled artifact is of no use", "architecture"])
        .await;
    assert_ne!(
        fs::read(&artifact).unwrap(),
        code,
        "what was compiled is kept in its place"
    );
}

fn artifact_of(node: &TestNode, component: &[u8]) -> PathBuf {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, component);
    let hash: String = digest
        .as_ref()
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    let files = fs::read_dir(node.path("data/artifacts")).unwrap().flatten();
    let mut files = files.map(|file| file.path());
    let is_its = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with(&hash)
    };
    files.find(is_its).expect("it was compiled here")
}
