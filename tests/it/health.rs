//! A plugin's or function's own cases, which travel with it and are run before another version takes traffic.

use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::{
    Api, Load, Operation, TestNode, binary, fixture, until, until_within, with_section,
};
use tokio::process::Command;

fn api(configuration: Value) -> Api {
    let binding =
        json!({ "step": "authorizer", "plugin": "guard", "configuration": configuration });
    Api::new().route("GET /a", Operation::mock("hello").binding(binding))
}

/// The authorizer that lets everyone in, with cases.
fn carrying(cases: &str) -> Vec<u8> {
    with_section(fs::read(fixture("allow")).unwrap(), "tidegate:cases", cases)
}

/// One file of cases.
fn cases(file: Value) -> String {
    json!([{ "file": "first.toml", "content": file }]).to_string()
}

fn everyone_is_let_in() -> Value {
    json!({ "name": "everyone is let in", "expect": { "allow": {} } })
}

fn nobody_is_let_in() -> Value {
    json!({ "name": "nobody is let in", "expect": { "forbidden": {} } })
}

async fn node(configuration: Value) -> TestNode {
    TestNode::with("")
        .api(&api(configuration))
        .plugin("guard", &fixture("allow"))
        .start()
        .await
}

async fn swap(node: &TestNode, component: &[u8]) -> Output {
    let path: PathBuf = node.path("next.wasm");
    fs::write(&path, component).unwrap();
    Command::new(binary())
        .args(["--json", "plugin", "swap", "guard"])
        .arg(&path)
        .args(["--admin", &node.admin_address().to_string()])
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_version_that_fails_its_own_case_is_refused_with_the_difference_and_the_old_one_serves_on()
 {
    let node = node(json!({})).await;
    let load = Load::start(&node, "/test/a", 4);
    let failing = cases(json!({ "case": [everyone_is_let_in(), nobody_is_let_in()] }));
    let refused = swap(&node, &carrying(&failing)).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{said}");
    for part in [
        "plugin \"guard\": its case \"nobody is let in\" of first.toml fails",
        "- expected {\"forbidden\":{}}",
        "+ got      {\"allow\":",
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    let versions = node.admin("/tidegate/v1/plugins").await.text();
    assert!(!versions.contains("\"source\":\"swap\""), "{versions}");

    let passing = cases(json!({ "case": [everyone_is_let_in(), everyone_is_let_in()] }));
    let swapped = swap(&node, &carrying(&passing)).await;
    let told: Value = serde_json::from_slice(&swapped.stdout).expect("it is swapped in");
    assert_eq!(told["cases_passed"], 2, "{told:#}");
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn a_case_of_any_configuration_is_run_with_the_bindings_and_another_with_its_own() {
    let node = node(json!({ "rate": 1 })).await;
    let schema = r#"{ "type": "object", "required": ["rate"] }"#;
    let with = |case: Value| {
        let component = carrying(&cases(json!({ "case": [case] })));
        with_section(component, "tidegate:configuration-schema", schema)
    };
    let refused = swap(&node, &with(everyone_is_let_in())).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("\"refused\""), "{said}");
    let mut any = everyone_is_let_in();
    any["configuration"] = json!("binding");
    let swapped = swap(&node, &with(any)).await;
    assert!(swapped.status.success(), "{swapped:?}");
}

#[tokio::test]
async fn what_carries_no_readable_cases_is_refused_by_name() {
    let node = node(json!({})).await;
    for section in ["", "{}", "[{\"file\":\"a\",\"content\":{}}]", "[1]"] {
        let refused = swap(&node, &carrying(section)).await;
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            said.contains("the cases that it carries cannot be read"),
            "{section}: {said}"
        );
    }
    let several = cases(json!({ "case": [{ "name": "x", "step": "throttle", "expect": {} }] }));
    let refused = swap(&node, &carrying(&several)).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("throttle, which the plugin does not implement"),
        "{said}"
    );
    node.get("/test/a").await.assert_status(200);
}

#[tokio::test]
async fn a_file_that_was_saved_is_checked_as_well_and_a_start_is_not() {
    let failing = carrying(&cases(json!({ "case": [nobody_is_let_in()] })));
    let node = node(json!({})).await;
    let load = Load::start(&node, "/test/a", 2);
    fs::write(node.path("guard.wasm"), &failing).unwrap();
    node.until_logged(&["its case \"nobody is let in\" of first.toml fails"])
        .await;
    load.more(20).await;
    load.stop().await.assert_only(200);
    // There is nothing that could serve on.
    let node = node.stop().await.start().await;
    until("it serves", async || {
        (node.get("/test/a").await.status == 200).then_some(())
    })
    .await;
}

/// A node that invokes the function `f`, or one with `f` around its integration.
async fn running(component: &str, around: bool) -> TestNode {
    let operation = match around {
        false => Operation::function("f"),
        true => Operation::mock("hello").field("x-tidegate-middleware", json!(["f"])),
    };
    TestNode::with("")
        .api(&Api::new().route("GET /a", operation))
        .function("f", &fixture(component), "")
        .start()
        .await
}

async fn revision(node: &TestNode) -> Value {
    node.admin("/tidegate/v1/node").await.json()["revision"].clone()
}

/// Saves the function with a case that fails and sees that it is refused, then with one that passes and sees that it serves.
async fn tells_them_apart(component: &str, around: bool, passing: Value, failing: Value) {
    let node = running(component, around).await;
    let load = Load::start(&node, "/test/a", 4);
    let first = revision(&node).await;
    let save = |case: &Value| {
        let bytes = fs::read(fixture(component)).unwrap();
        let section = cases(json!({ "case": [case] }));
        let bytes = with_section(bytes, "tidegate:cases", &section);
        fs::write(node.path("next.wasm"), bytes).unwrap();
        fs::rename(node.path("next.wasm"), node.path("f.wasm")).unwrap();
    };
    save(&failing);
    let named = "function \"f\": its case \"it answers\" of first.toml fails";
    until_within(COMPILED, "the case is said to fail", async || {
        let mut lines = node.log().into_iter();
        lines.find(|line| line.contains(named))
    })
    .await;
    assert_eq!(revision(&node).await, first, "{component}");
    save(&passing);
    until_within(COMPILED, "it serves", async || {
        (revision(&node).await != first).then_some(())
    })
    .await;
    load.stop().await.assert_only(200);
}

/// Compilers give way to all others: a machine with much to do takes its time.
const COMPILED: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_function_that_fails_its_own_case_is_refused_and_the_one_before_serves_on() {
    let case = |body: &str| {
        json!({
            "name": "it answers",
            "request": { "method": "POST", "path": "/a", "body": "content" },
            "expect": { "response": { "status": 200, "body": body } },
        })
    };
    tells_them_apart("function-echo", false, case("content"), case("other")).await;
}

#[tokio::test]
async fn a_case_of_a_function_around_an_integration_says_what_that_answers() {
    let case = |path: &str| {
        let sent = json!({ "x-own": "1", "x-through": "0.3" });
        let got = json!({ "x-of-it": "2", "x-through": "0.3" });
        json!({
            "name": "it answers",
            "request": { "method": "POST", "path": "/a", "headers": { "x-own": "1" }, "body": "content" },
            "response": { "status": 201, "headers": { "x-of-it": "2" }, "body": "behind" },
            "expect": {
                "response": { "status": 201, "headers": got, "body": "behind" },
                "sent-on": { "method": "POST", "path": path, "headers": sent, "body": "content" },
            },
        })
    };
    tells_them_apart("middleware-p3", true, case("/a"), case("/b")).await;
}
