//! Files edited under a running node: the next request sees the new state, and none is dropped on the way.

use std::fs;

use serde_json::json;
use tidegate_tests::{Api, Load, Operation, TestNode, fixture, until};

fn saying(body: &str) -> Api {
    Api::new().route("GET /a", Operation::mock(body))
}

#[tokio::test]
async fn an_edited_definition_serves_the_next_requests_and_drops_none() {
    let node = TestNode::with("").api(&saying("one")).start().await;
    let load = Load::start(&node, "/test/a", 8);
    load.more(20).await;
    for body in ["two", "three", "four"] {
        fs::write(node.path("api.openapi.yaml"), saying(body).text()).unwrap();
        until("the new definition serves", async || {
            (node.get("/test/a").await.text() == body).then_some(())
        })
        .await;
    }
    load.more(20).await;
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn a_definition_that_is_replaced_by_renaming_is_seen_as_well() {
    let node = TestNode::with("").api(&saying("one")).start().await;
    fs::write(node.path("draft"), saying("two").text()).unwrap();
    fs::rename(node.path("draft"), node.path("api.openapi.yaml")).unwrap();
    until("the new definition serves", async || {
        (node.get("/test/a").await.text() == "two").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_broken_edit_leaves_the_old_one_serving_and_is_logged() {
    let node = TestNode::with("").api(&saying("one")).start().await;
    let load = Load::start(&node, "/test/a", 4);
    fs::write(node.path("api.openapi.yaml"), "openapi: 3.0.3\npaths: [").unwrap();
    node.until_logged(&["api.openapi.yaml"]).await;
    load.more(20).await;
    assert_eq!(node.get("/test/a").await.text(), "one");

    fs::write(node.path("api.openapi.yaml"), saying("two").text()).unwrap();
    until("the mended definition serves", async || {
        (node.get("/test/a").await.text() == "two").then_some(())
    })
    .await;
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn a_replaced_component_serves_the_next_requests_and_drops_none() {
    let operation = Operation::mock("hello")
        .binding(json!({ "step": "response-transform", "plugin": "stamp" }));
    let node = TestNode::with("")
        .api(&Api::new().route("GET /a", operation))
        .plugin("stamp", &fixture("stamp-one"))
        .start()
        .await;
    let load = Load::start(&node, "/test/a", 8);
    assert_eq!(node.get("/test/a").await.header("x-stamp"), "one");
    for (component, stamp) in [("stamp-two", "two"), ("stamp-one", "one")] {
        fs::copy(fixture(component), node.path("stamp.wasm")).unwrap();
        until("the new component serves", async || {
            (node.get("/test/a").await.header("x-stamp") == stamp).then_some(())
        })
        .await;
    }
    load.more(20).await;
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn a_component_that_became_unreadable_leaves_the_old_one_serving() {
    let operation = Operation::mock("hello")
        .binding(json!({ "step": "response-transform", "plugin": "stamp" }));
    let node = TestNode::with("")
        .api(&Api::new().route("GET /a", operation))
        .plugin("stamp", &fixture("stamp-one"))
        .start()
        .await;
    let load = Load::start(&node, "/test/a", 4);
    fs::write(node.path("stamp.wasm"), b"\0asm but nothing else").unwrap();
    node.until_logged(&["plugin \"stamp\""]).await;
    load.more(20).await;
    assert_eq!(node.get("/test/a").await.header("x-stamp"), "one");
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn an_edited_node_configuration_serves_the_next_requests_and_drops_none() {
    let headers =
        json!({ "response": { "headers": { "set": { "x-tenant": "${stageVariables.tenant}" } } } });
    let binding = json!({ "step": "authorizer", "plugin": "api-key" });
    let api = Api::new()
        .route(
            "GET /a",
            Operation::mock("hello").step("response-transform", "header-transform", headers),
        )
        .route("GET /throttled", Operation::mock("hello"))
        .route("GET /closed", Operation::mock("hello").binding(binding));
    let stage = "[api.stage.test]\nvariables = { tenant = 'first' }\n\
                 [api.stage.test.route.'GET /throttled']\nthrottle = { rate = 1000, burst = 1000 }";
    let node = TestNode::with("")
        .api_with("api", &api.text(), stage)
        .key("first-key-0123456789", &["api/test"])
        .start()
        .await;
    let load = Load::start(&node, "/test/a", 4);
    load.more(8).await;
    let with_key = async |key: &str| {
        let request = node.build("GET", "/test/closed").header("x-api-key", key);
        node.ask(request).await.status.as_u16()
    };
    assert_eq!(node.get("/test/a").await.header("x-tenant"), "first");
    assert_eq!(with_key("first-key-0123456789").await, 200);

    node.edit("tenant = 'first'", "tenant = 'second'");
    until("the new variable is there", async || {
        (node.get("/test/a").await.header("x-tenant") == "second").then_some(())
    })
    .await;

    node.edit("'first-key-0123456789'", "'second-key-0123456789'");
    until("the new key opens", async || {
        (with_key("second-key-0123456789").await == 200).then_some(())
    })
    .await;
    assert_eq!(with_key("first-key-0123456789").await, 403);

    for _ in 0..5 {
        node.get("/test/throttled").await.assert_status(200);
    }
    node.edit(
        "throttle = { rate = 1000, burst = 1000 }",
        "throttle = { rate = 0.01, burst = 2 }",
    );
    until("the new throttle holds", async || {
        (node.get("/test/throttled").await.status == 429).then_some(())
    })
    .await;
    load.more(8).await;
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn a_replaced_function_serves_the_next_requests_and_drops_none() {
    let api = Api::new()
        .route("GET /a", Operation::function("f"))
        .route("GET /hello", Operation::mock("hello"));
    let node = TestNode::with("")
        .api(&api)
        .function("f", &fixture("function-echo"), "")
        .start()
        .await;
    let load = Load::start(&node, "/test/a", 8);
    let before = node.get("/test/a").await;
    assert_eq!(before.header("x-echo-method"), "GET");
    let hello = Load::start(&node, "/test/hello", 4);
    // The same function, of another version of wasi:http: nothing but the component tells them apart.
    let version = async || {
        let metrics = node.metrics().await;
        let text = metrics.text();
        let line = text.lines().find(|line| {
            line.starts_with("tidegate_plugin_calls_total{") && line.contains("step=\"function\"")
        });
        let labels = line.expect("the function's calls").split_once("version=\"");
        let (_, rest) = labels.expect("a version");
        rest.split('"').next().map(str::to_owned)
    };
    for component in ["function-echo-p3", "function-echo"] {
        let old = version().await;
        fs::copy(fixture(component), node.path("f.wasm")).unwrap();
        until("the new component serves", async || {
            (version().await != old).then_some(())
        })
        .await;
        load.more(20).await;
        assert_eq!(node.get("/test/a").await.header("x-echo-method"), "GET");
    }
    load.stop().await.assert_only(200);
    hello.stop().await.assert_only(200);

    fs::copy(fixture("function-trap"), node.path("f.wasm")).unwrap();
    until("even one that fails is what was asked for", async || {
        (node.get("/test/a").await.status == 502).then_some(())
    })
    .await;
}

/// A secret's file is not watched: whoever writes it says when.
#[tokio::test]
async fn sighup_reads_everything_anew() {
    let binding = json!({
        "step": "response-transform", "plugin": "capable",
        "grants": { "secrets": ["token"], "shared-cache": true, "metrics": true },
    });
    let node = TestNode::with("")
        .api(&Api::new().route("GET /a", Operation::mock("hello").binding(binding)))
        .plugin("capable", &fixture("capable"))
        .file("secret.txt", b"first")
        .toml("[secret.token]\nfile = 'secret.txt'")
        .start()
        .await;
    let load = Load::start(&node, "/test/a", 4);
    let token = async || node.get("/test/a").await.header("x-token").to_owned();
    fs::write(node.path("secret.txt"), "second").unwrap();
    load.more(20).await;
    assert_eq!(token().await, "first");
    node.hang_up();
    until("the new secret is there", async || {
        (token().await == "second").then_some(())
    })
    .await;
    node.until_logged(&["reloaded"]).await;
    load.more(20).await;
    load.stop().await.assert_only(200);
}

/// What a known gateway got wrong: each reload left its instances behind. The plugin's configuration changes with each, so
/// that every deployment has instances of its own, of 4 MiB each.
#[tokio::test]
async fn reloads_leave_no_instances_behind() {
    let versioned = |version: usize| {
        let configuration = json!({ "version": version.to_string() });
        let operation = Operation::mock("hello").step("response-transform", "heavy", configuration);
        Api::new().route("GET /a", operation)
    };
    let node = TestNode::with("")
        .api(&versioned(0))
        .plugin("heavy", &fixture("heavy"))
        .start()
        .await;
    let load = Load::start(&node, "/test/a", CONNECTIONS);
    let reload = async |version: usize| {
        fs::write(node.path("api.openapi.yaml"), versioned(version).text()).unwrap();
        until("the new definition serves", async || {
            let reply = node.get("/test/a").await;
            reply.assert_status(200);
            (reply.header("x-version") == version.to_string()).then_some(())
        })
        .await;
        load.more(CONNECTIONS as u64 * 2).await; // and both workers have instances
    };
    for version in 1..=5 {
        reload(version).await;
    }
    let resident = node.resident_bytes();
    for version in 6..=25 {
        reload(version).await;
    }
    load.stop().await.assert_only(200);
    // Each of the two workers has at most one instance for each call that it is in at once.
    let few = 2 * (CONNECTIONS + 1);
    node.until("the instances of old deployments are gone", |metrics| {
        let live = metrics.sum("tidegate_instances_live", &[]) as usize;
        (1..=few).contains(&live)
    })
    .await;
    let grown = node.resident_bytes().saturating_sub(resident);
    assert!(grown < 48 << 20, "twenty reloads cost {grown} bytes");
}

const CONNECTIONS: usize = 4;
