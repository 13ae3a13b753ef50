//! The sample: items in a table, behind every step of the pipeline, in two stages.

use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};
use tidegate_tests::{Reply, Setup, TestNode, fixture, items_function, root};

/// The demo as it stands in configs/demo, with `function` in the place of its own.
fn setup(function: &Path, changes: &[(&str, &str)]) -> Setup {
    let folder = root().join("configs/demo");
    let mut text = std::fs::read_to_string(folder.join("node.toml")).unwrap();
    let ports = [
        ("\"127.0.0.1:8080\"", "\"127.0.0.1:0\""),
        ("\"127.0.0.1:9080\"", "\"127.0.0.1:0\""),
        ("\"../../target/demo-data\"", "\"data\""),
        ("\"../../target/functions/items.wasm\"", "\"items.wasm\""),
    ];
    for (from, to) in ports.iter().chain(changes) {
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        text = text.replace(from, to);
    }
    TestNode::with(&text)
        .file("items.wasm", &std::fs::read(function).unwrap())
        .file(
            "items.openapi.yaml",
            &std::fs::read(folder.join("items.openapi.yaml")).unwrap(),
        )
}

pub async fn node() -> TestNode {
    setup(items_function(), &[]).start().await
}

async fn send(node: &TestNode, method: &str, path: &str, body: Value) -> Reply {
    let request = node
        .build_for("items", method, path)
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
    node.ask(node.build_for("items", "GET", "/dev/items"))
        .await
        .assert_error(403, "Forbidden");
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

/// The function of the fixtures shows the request as it arrives at the demo's.
#[tokio::test]
async fn the_function_is_told_the_tenant_of_its_stage() {
    let node = setup(&fixture("function-echo"), &[]).start().await;
    for (stage, tenant) in [("dev", "acme-dev"), ("prod", "acme")] {
        let request = node
            .build_for("items", "GET", &format!("/{stage}/items"))
            .header("x-api-key", KEY)
            .header("x-tenant", "somebody-else");
        let reply = node.ask(request).await;
        reply.assert_status(200);
        let told: Vec<_> = reply.headers.get_all("x-echo-x-tenant").iter().collect();
        assert_eq!(told, [tenant], "{stage}");
    }
}

#[tokio::test]
async fn of_many_that_create_one_item_at_once_one_does() {
    let node = node().await;
    let request = || {
        let item = json!({ "id": "lamp", "name": "Lamp", "price": 19.5 });
        node.build_for("items", "POST", "/dev/items")
            .header("x-api-key", KEY)
            .header("content-type", "application/json")
            .body(Bytes::from(item.to_string()))
            .unwrap()
    };
    let mut connections = Vec::new();
    for _ in 0..20 {
        connections.push((node.connect().await, request()));
    }
    let asked = connections.into_iter().map(|(mut connection, request)| {
        tokio::spawn(async move { connection.ask(request).await })
    });
    let (mut created, mut refused) = (0, 0);
    for reply in asked.collect::<Vec<_>>() {
        let reply = reply.await.unwrap().expect("an answer");
        match reply.status.as_u16() {
            201 => created += 1,
            409 => refused += 1,
            other => panic!("{other}: {}", reply.text()),
        }
    }
    assert_eq!((created, refused), (1, 19));

    // A place that was freed is free.
    let gone = send(&node, "DELETE", "/dev/items/lamp", Value::Null).await;
    gone.assert_status(204);
    node.request(request()).await.assert_status(201);
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
    // The only change: a burst that a test reaches.
    let burst = (
        "throttle = { rate = 1000, burst = 2000 }",
        "throttle = { rate = 0.01, burst = 5 }",
    );
    let node = setup(items_function(), &[burst]).start().await;
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

/// The demo's own.
pub const KEY: &str = "demo-key-0123456789abcdef";
