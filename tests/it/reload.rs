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

/// What a known gateway got wrong: each reload left its instances behind.
#[tokio::test]
async fn reloads_leave_no_instances_behind() {
    let node = TestNode::with("").api(&saying("0")).start().await;
    let load = Load::start(&node, "/test/a", 4);
    let reload = async |number: usize| {
        let body = number.to_string();
        fs::write(node.path("api.openapi.yaml"), saying(&body).text()).unwrap();
        until("the new definition serves", async || {
            (node.get("/test/a").await.text() == body).then_some(())
        })
        .await;
    };
    for number in 1..=5 {
        reload(number).await;
    }
    let instances = async || node.metrics().await.sum("tidegate_plugin_instances", &[]);
    let (early, resident) = (instances().await, node.resident_bytes());
    for number in 6..=25 {
        reload(number).await;
    }
    load.more(20).await;
    load.stop().await.assert_only(200);
    until("instances of old deployments are gone", async || {
        (instances().await <= early).then_some(())
    })
    .await;
    let grown = node.resident_bytes().saturating_sub(resident);
    assert!(grown < 16 << 20, "twenty reloads cost {grown} bytes");
}
