//! What each binding costs, in the metrics and in `tidegate top`.

use std::process::Output;

use serde_json::{Value, json};
use tidegate_tests::{Api, Load, Operation, TestNode, binary, fixture, items_function};
use tokio::process::Command;

async fn top(node: &TestNode, arguments: &[&str]) -> Output {
    Command::new(binary())
        .args(["top", "--admin", &node.admin_address().to_string()])
        .args(arguments)
        .output()
        .await
        .expect("it starts")
}

#[tokio::test]
async fn calls_of_capabilities_time_on_a_thread_and_memory_are_counted_by_binding() {
    let keyed = json!({ "step": "authorizer", "plugin": "api-key", "configuration": {}, "grants": { "api-keys": true } });
    let sleepy =
        json!({ "step": "authorizer", "plugin": "sleepy", "limits": { "deadline": "300ms" } });
    let node = TestNode::with("")
        .api(
            &Api::new()
                .route("GET /keyed", Operation::mock("hello").binding(keyed))
                .route("GET /sleepy", Operation::mock("hello").binding(sleepy)),
        )
        .plugin("sleepy", &fixture("sleepy"))
        .key("a-key-of-twenty-letters", &["api/test"])
        .start()
        .await;
    for _ in 0..10 {
        let request = node
            .build("GET", "/test/keyed")
            .header("x-api-key", "a-key-of-twenty-letters");
        node.ask(request).await.assert_status(200);
    }
    node.get("/test/sleepy").await.assert_status(500);
    let metrics = node.metrics().await;
    let of = |metric: &str, binding: &str| metrics.sum(metric, &[("binding", binding)]);
    let (keyed, sleepy) = (
        "api/test GET /keyed: authorizer api-key",
        "api/test GET /sleepy: authorizer sleepy",
    );
    let asked = metrics.sum(
        "tidegate_plugin_host_calls_total",
        &[("binding", keyed), ("capability", "api-keys")],
    );
    assert_eq!(
        (of("tidegate_plugin_calls_total", keyed), asked),
        (10.0, 10.0)
    );
    assert!(of("tidegate_plugin_memory_bytes", keyed) >= 65_536.0);
    for binding in [keyed, sleepy] {
        let (busy, whole) = (
            of("tidegate_plugin_busy_seconds_total", binding),
            of("tidegate_plugin_seconds_total", binding),
        );
        assert!(0.0 < busy && busy <= whole, "{binding}: {busy} of {whole}");
    }
    // It waits for its deadline, and holds nobody up.
    let whole = of("tidegate_plugin_seconds_total", sleepy);
    let busy = of("tidegate_plugin_busy_seconds_total", sleepy);
    assert!(whole >= 0.3 && busy < whole / 2.0, "{busy} of {whole}");
    assert_eq!(
        of("tidegate_plugin_memory_bytes", sleepy),
        0.0,
        "its instance is gone"
    );
}

#[tokio::test]
async fn a_functions_tables_are_counted_as_the_hosts() {
    let node = TestNode::with("")
        .api(&Api::new().route("GET /items", Operation::function("items")))
        .function("items", items_function(), "tables = ['items']")
        .start()
        .await;
    node.get("/test/items").await;
    node.until("a table was asked", |metrics| {
        let labels = [("binding", "items"), ("capability", "table")];
        metrics.sum("tidegate_plugin_host_calls_total", &labels) >= 1.0
    })
    .await;
}

#[tokio::test]
async fn top_shows_what_each_binding_does_while_it_does_it() {
    let binding = json!({ "step": "authorizer", "plugin": "guard" });
    let node = TestNode::with("")
        .api(
            &Api::new()
                .route("GET /a", Operation::mock("hello").binding(binding))
                .route(
                    "GET /b",
                    Operation::mock("hello")
                        .binding(json!({ "step": "authorizer", "plugin": "trap" })),
                ),
        )
        .plugin("guard", &fixture("allow"))
        .plugin("trap", &fixture("trap"))
        .start()
        .await;
    let load = Load::start(&node, "/test/a", 2);
    load.more(20).await;
    let output = top(&node, &["--json"]).await;
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["node"]["name"], "test");
    assert!(
        told["node"]["resident_bytes"].as_u64() > Some(1 << 20),
        "{told:#}"
    );
    let rows = told["bindings"].as_array().unwrap();
    let row = |plugin: &str| {
        rows.iter()
            .find(|row| row["plugin"] == plugin)
            .expect("it is bound")
    };
    let (guard, trap) = (row("guard"), row("trap"));
    assert_eq!(rows[0], *guard, "what is busy comes first: {told:#}");
    for figure in [
        "calls_per_s",
        "busy_percent",
        "mean_us",
        "instances",
        "memory_bytes",
    ] {
        assert!(guard[figure].as_f64() > Some(0.0), "{figure}: {guard:#}");
    }
    assert_eq!(
        ["calls", "faults", "refused"].map(|what| &trap[format!("{what}_per_s")]),
        [&json!(0.0); 3]
    );

    let output = top(&node, &["--once", "--every", "100ms", "--sort", "calls"]).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("node test · revision 1 · "), "{text}");
    assert!(text.contains("api/test GET /a: authorizer guard"), "{text}");
    load.stop().await.assert_only(200);
    let refused = top(&node, &["--every", "1ms"]).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("--every"),
        "{said}"
    );
}
