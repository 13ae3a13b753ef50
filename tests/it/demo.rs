//! The sample: items in a table, behind every step of the pipeline, in two stages.

use bytes::Bytes;
use serde_json::{Value, json};
use tidegate_tests::{Reply, TestNode, items_function, root};

/// The demo's own definition and stages, on free ports.
async fn node() -> TestNode {
    let definition =
        std::fs::read_to_string(root().join("configs/demo/items.openapi.yaml")).unwrap();
    TestNode::with("")
        .function(
            "items",
            items_function(),
            "tables = ['items-dev', 'items-prod']",
        )
        .api_with("api", &definition, STAGES)
        .key(KEY, &["api/dev", "api/prod"])
        .start()
        .await
}

async fn send(node: &TestNode, method: &str, path: &str, body: Value) -> Reply {
    let request = node
        .build(method, path)
        .header("x-api-key", KEY)
        .header("content-type", "application/json");
    let body = if body.is_null() {
        Bytes::new()
    } else {
        Bytes::from(body.to_string())
    };
    node.request(request.body(body).unwrap()).await
}

fn lamp() -> Value {
    json!({ "name": "Lamp", "price": 19.5 })
}

#[tokio::test]
async fn an_item_is_created_read_changed_listed_and_deleted() {
    let node = node().await;
    let created = send(&node, "POST", "/dev/items", lamp()).await;
    created.assert_status(201);
    let id = created.json()["id"].as_str().expect("an id").to_owned();
    let path = format!("/dev/items/{id}");

    let read = send(&node, "GET", &path, Value::Null).await;
    read.assert_status(200);
    assert_eq!(
        (&read.json()["name"], &read.json()["price"]),
        (&json!("Lamp"), &json!(19.5))
    );

    let changed = send(&node, "PUT", &path, json!({ "name": "Lamp", "price": 21 })).await;
    changed.assert_status(200);
    assert_eq!(
        send(&node, "GET", &path, Value::Null).await.json()["price"],
        json!(21)
    );

    let listed = send(&node, "GET", "/dev/items", Value::Null).await;
    listed.assert_status(200);
    assert!(listed.text().contains(&id), "{}", listed.text());

    let deleted = send(&node, "DELETE", &path, Value::Null).await;
    assert!(deleted.status.is_success(), "{}", deleted.status);
    send(&node, "GET", &path, Value::Null)
        .await
        .assert_status(404);
}

#[tokio::test]
async fn every_gate_of_the_sample_holds() {
    let node = node().await;
    node.get("/dev/items").await.assert_error(403, "Forbidden");
    for body in [json!({}), json!({ "name": 7, "price": 1 }), json!([])] {
        send(&node, "POST", "/dev/items", body)
            .await
            .assert_error(400, "Invalid request body");
    }
    send(&node, "GET", "/dev/unknown", Value::Null)
        .await
        .assert_error(403, "Missing Authentication Token");
    let listed = send(&node, "GET", "/dev/items", Value::Null).await;
    listed.assert_status(200);
    assert_eq!(
        listed.header("x-served-by"),
        "tidegate",
        "the transformation of every response"
    );
}

#[tokio::test]
async fn the_stages_do_not_share_their_items() {
    let node = node().await;
    let id = send(&node, "POST", "/dev/items", lamp()).await.json()["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    send(&node, "GET", &format!("/dev/items/{id}"), Value::Null)
        .await
        .assert_status(200);
    send(&node, "GET", &format!("/prod/items/{id}"), Value::Null)
        .await
        .assert_status(404);
}

#[tokio::test]
async fn the_stages_are_throttled_each_on_its_own() {
    let node = node().await;
    let mut throttled = false;
    for _ in 0..20 {
        let reply = send(&node, "GET", "/prod/items", Value::Null).await;
        if reply.status == 429 {
            reply.assert_error(429, "Too Many Requests");
            throttled = true;
        }
        send(&node, "GET", "/dev/items", Value::Null)
            .await
            .assert_status(200);
    }
    assert!(throttled, "twenty requests passed a burst of five");
}

#[tokio::test]
async fn items_survive_a_restart() {
    let node = node().await;
    let id = send(&node, "POST", "/dev/items", lamp()).await.json()["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let node = node.stop().await.start().await;
    send(&node, "GET", &format!("/dev/items/{id}"), Value::Null)
        .await
        .assert_status(200);
}

#[tokio::test]
async fn whatever_was_acknowledged_survives_a_kill() {
    let node = node().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        let created = send(&node, "POST", "/dev/items", lamp()).await;
        created.assert_status(201);
        ids.push(created.json()["id"].as_str().expect("an id").to_owned());
    }
    let node = node.kill9().await.start().await;
    for id in ids {
        send(&node, "GET", &format!("/dev/items/{id}"), Value::Null)
            .await
            .assert_status(200);
    }
}

const KEY: &str = "a-key-only-for-this-test";

/// As the demo's, but with a burst that a test reaches.
const STAGES: &str = "\
[api.stage.dev]
variables = { tenant = 'acme-dev', table = 'items-dev' }
throttle = { rate = 1000, burst = 1000 }
[api.stage.prod]
variables = { tenant = 'acme', table = 'items-prod' }
throttle = { rate = 0.01, burst = 5 }";
