//! The configuration of a binding against the schema that its plugin carries.

use std::path::PathBuf;

use serde_json::{Value, json};
use tidegate_tests::{Api, Load, Operation, Setup, TestNode, binary, fixture, with_section};
use tokio::process::Command;

/// The harmless authorizer, with a schema in it.
fn with_schema(schema: &str) -> Vec<u8> {
    let component = std::fs::read(fixture("allow")).unwrap();
    with_section(component, "tidegate:configuration-schema", schema)
}

fn api(configuration: Value) -> Api {
    let binding =
        json!({ "step": "authorizer", "plugin": "guard", "configuration": configuration });
    Api::new().route("GET /a", Operation::mock("hello").binding(binding))
}

fn guarded(schema: &str, configuration: &Value) -> Setup {
    TestNode::with("[plugin.guard]\ncomponent = 'guard.wasm'")
        .file("guard.wasm", &with_schema(schema))
        .api(&api(configuration.clone()))
}

#[tokio::test]
async fn what_breaks_the_plugins_schema_is_refused_with_every_pointer_and_reason() {
    for (configuration, causes) in [
        (
            json!({ "rate": 0 }),
            &["/rate", "0 is less than or equal to the minimum of 0"][..],
        ),
        (
            json!({ "rate": 1, "names": ["a", 2] }),
            &["/names/1", "2 is not of type \"string\""],
        ),
        (json!({}), &["\"rate\" is a required property"]),
        (
            json!({ "rate": "x", "rite": 1 }),
            &["/rate", "'rite' was unexpected"],
        ),
    ] {
        let named = ["plugin \"guard\"", "authorizer"];
        guarded(SCHEMA, &configuration)
            .check()
            .assert_refused(causes);
        guarded(SCHEMA, &configuration)
            .check()
            .assert_refused(&named);
        guarded(SCHEMA, &configuration)
            .refused()
            .assert_refused(causes);
    }
    let node = guarded(SCHEMA, &json!({ "rate": 1 })).start().await;
    assert_eq!(node.get("/test/a").await.text(), "hello");
}

#[tokio::test]
async fn a_schema_that_is_none_is_the_plugins_fault_by_name() {
    for schema in [
        "{",
        "{ \"type\": \"strong\" }",
        "{ \"$ref\": \"http://127.0.0.1:9/x\" }",
    ] {
        guarded(schema, &json!({}))
            .check()
            .assert_refused(&["plugin \"guard\"", "configuration schema"]);
    }
}

#[tokio::test]
async fn a_version_whose_schema_the_configuration_breaks_is_not_swapped_in() {
    let node = TestNode::with("")
        .api(&api(json!({ "rate": 0 })))
        .plugin("guard", &fixture("allow"))
        .start()
        .await;
    let load = Load::start(&node, "/test/a", 2);
    let next: PathBuf = node.path("next.wasm");
    std::fs::write(&next, with_schema(SCHEMA)).unwrap();
    let output = Command::new(binary())
        .args(["plugin", "swap", "guard"])
        .arg(&next)
        .args(["--admin", &node.admin_address().to_string()])
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("/rate"), "{said}");
    load.more(20).await;
    load.stop().await.assert_only(200);
}

const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {
        "rate": { "type": "number", "exclusiveMinimum": 0 },
        "names": { "type": "array", "items": { "type": "string" } }
    },
    "required": ["rate"],
    "additionalProperties": false
}"#;
