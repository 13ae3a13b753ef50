//! What a fault means for the request, by step and by the binding's policy.

use std::fs;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use tidegate_tests::linked;
use tidegate_tests::{Api, Load, Operation, TestNode, TestOrigin, fixture, until};

/// The steps on a request's way whose fault has a policy.
const STEPS: [&str; 5] = [
    "authorizer",
    "throttle",
    "validator",
    "request-transform",
    "response-transform",
];

/// `GET /{step}/{policy}/{how}` for each step, with the fixture that fails at every one; `default` names no policy.
async fn node() -> TestNode {
    let mut api = Api::new().route("GET /hello", Operation::mock("hello"));
    for step in STEPS {
        for policy in ["default", "deny", "fail", "bypass"] {
            for how in ["trap", "error"] {
                let mut binding = json!({
                    "step": step, "plugin": "faulty", "configuration": { "how": how },
                });
                if policy != "default" {
                    binding["fault-policy"] = json!(policy);
                }
                let operation = Operation::mock("behind it").binding(binding);
                api = api.route(&format!("GET /{step}/{policy}/{how}"), operation);
            }
        }
    }
    for how in ["trap", "error"] {
        let binding: Value =
            json!({ "step": "integration", "plugin": "faulty", "configuration": { "how": how } });
        let operation = Operation::empty().binding(binding);
        api = api.route(&format!("GET /integration/{how}"), operation);
    }
    TestNode::with("")
        .api(&api)
        .plugin("faulty", &fixture("faulty"))
        .start()
        .await
}

#[tokio::test]
async fn a_fault_at_any_step_is_500_unless_the_binding_bypasses_it() {
    let node = node().await;
    let load = Load::start(&node, "/test/hello", 4);
    for step in STEPS {
        for how in ["trap", "error"] {
            for policy in ["default", "deny", "fail"] {
                let reply = node.get(&format!("/test/{step}/{policy}/{how}")).await;
                assert_eq!(reply.status, 500, "{step} {policy} {how}");
                reply.assert_error(500, "Internal server error");
            }
            let reply = node.get(&format!("/test/{step}/bypass/{how}")).await;
            assert_eq!(
                (reply.status.as_u16(), reply.text().as_str()),
                (200, "behind it"),
                "{step} {how}"
            );
        }
        let binding = format!("api/test GET /{step}/bypass/error: {step} faulty");
        node.until_logged(&[
            "plugin fault, bypassed",
            &binding,
            "answered with an error: the fixture fails, as it should",
        ])
        .await;
        let route = format!("route=\"GET /{step}/deny/trap\"");
        node.until_logged(&["request failed", &route, "faulty trapped: "])
            .await;
    }
    load.more(10).await;
    load.stop().await.assert_only(200);
}

/// The first of its edits is sound, the second names a field of the connection.
#[tokio::test]
async fn edits_that_cannot_be_used_are_500_and_a_bypass_leaves_nothing_of_them() {
    let origin = TestOrigin::echo().await;
    let mut api = Api::new();
    for step in ["request-transform", "response-transform"] {
        for policy in ["fail", "bypass"] {
            let binding = json!({ "step": step, "plugin": "half-good", "fault-policy": policy });
            let operation = Operation::proxy("http://origin/").binding(binding);
            api = api.route(&format!("GET /{step}/{policy}"), operation);
        }
    }
    let node = TestNode::with("")
        .api(&api)
        .plugin("half-good", &fixture("half-good"))
        .upstream("origin", origin.address())
        .start()
        .await;
    for step in ["request-transform", "response-transform"] {
        node.get(&format!("/test/{step}/fail"))
            .await
            .assert_error(500, "Internal server error");
        node.until_logged(&["gave an answer that cannot be used", "content-length"])
            .await;
        let reply = node.get(&format!("/test/{step}/bypass")).await;
        reply.assert_status(200);
        assert_eq!(reply.json()["headers"]["x-half"], json!(null), "{step}");
        assert_eq!(reply.header("x-half"), "", "{step}");
    }
}

#[tokio::test]
async fn an_integration_that_fails_is_500() {
    let node = node().await;
    for how in ["trap", "error"] {
        node.get(&format!("/test/integration/{how}"))
            .await
            .assert_error(500, "Internal server error");
    }
    let faults = node.metrics().await;
    let faults = faults.sum("tidegate_plugin_faults_total", &[("step", "integration")]);
    assert_eq!(faults, 2.0);
}

/// The response is on its way when a log sink is called: its fault is nobody's but the records'.
#[tokio::test]
async fn a_log_sink_that_traps_loses_its_records_and_no_request() {
    let bindings = json!([
        { "step": "log-sink", "plugin": "faulty", "configuration": { "how": "trap" } },
    ]);
    let api = Api::new()
        .route("GET /a", Operation::mock("hello"))
        .field("x-tidegate-bindings", bindings);
    let node = TestNode::with("")
        .api(&api)
        .plugin("faulty", &fixture("faulty"))
        .start()
        .await;
    let load = Load::start(&node, "/test/a", 4);
    load.more(200).await;
    let tally = load.stop().await;
    tally.assert_only(200);
    node.until("every record is counted as lost", |metrics| {
        metrics.sum("tidegate_log_records_lost_total", &[]) == tally.answered() as f64
    })
    .await;
    node.until_logged(&["log records lost", "trapped: "]).await;
}

/// One component at two places: the host field, which every request has, makes it trap at the first.
#[tokio::test]
async fn a_binding_that_traps_on_every_call_leaves_the_plugins_others_alone_and_recovers_at_once() {
    let api = |header: &str| {
        let guarded = |header: &str| {
            let operation = Operation::mock("in");
            operation.step("authorizer", "guard", json!({ "header": header }))
        };
        Api::new()
            .route("GET /bad", guarded(header))
            .route("GET /good", guarded("x-trap"))
    };
    let node = TestNode::with("")
        .api(&api("host"))
        .plugin("guard", &fixture("trap-on-header"))
        .start()
        .await;
    let calls = async || {
        let metrics = node.metrics().await;
        let binding = [("binding", "api/test GET /bad: authorizer guard")];
        metrics.sum("tidegate_plugin_calls_total", &binding)
    };
    let trap_until_left_alone = async || {
        until("both workers leave it alone", async || {
            let before = calls().await;
            for _ in 0..20 {
                node.get("/test/bad").await.assert_status(500);
            }
            // A pause that ends lets one call through.
            (calls().await - before <= 4.0).then_some(())
        })
        .await;
    };
    let serves_at_once = async || {
        for _ in 0..20 {
            node.get("/test/bad").await.assert_status(200);
        }
    };
    let load = Load::start(&node, "/test/good", 4);
    trap_until_left_alone().await;
    node.until_logged(&[
        "GET /bad",
        "is not called for a while, since it failed too often",
    ])
    .await;
    node.swap("guard", fs::read(fixture("allow")).unwrap())
        .await
        .assert_status(200);
    serves_at_once().await;

    let back = "/tidegate/v1/plugins/guard/rollback";
    linked::put(&node, back).await.assert_status(200);
    trap_until_left_alone().await;
    let before = node.metrics().await.sum("tidegate_deployments_total", &[]);
    fs::write(node.path("api.openapi.yaml"), api("x-other").text()).unwrap();
    node.until("the edit is deployed", |metrics| {
        metrics.sum("tidegate_deployments_total", &[]) > before
    })
    .await;
    until("both workers serve by it", async || {
        for _ in 0..16 {
            if node.get("/test/bad").await.status != 200 {
                return None;
            }
        }
        Some(())
    })
    .await;
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn a_policy_that_there_is_not_is_refused_with_those_that_there_are() {
    let binding = json!({ "step": "authorizer", "plugin": "allow", "fault-policy": "ignore" });
    let operation = Operation::mock("hello").binding(binding);
    let check = TestNode::with("")
        .api(&Api::new().route("GET /a", operation))
        .plugin("allow", &fixture("allow"))
        .check();
    check.assert_refused(&["api.openapi.yaml:", "ignore", "deny", "bypass", "fail"]);
}

#[tokio::test]
async fn a_binding_whose_instances_are_all_in_use_takes_no_more_calls() {
    let binding = json!({
        "step": "authorizer", "plugin": "sleepy", "limits": { "deadline": "8s", "instances": 1 },
    });
    let node = TestNode::with("")
        .api(&Api::new().route("GET /a", Operation::mock("hello").binding(binding)))
        .plugin("sleepy", &fixture("sleepy"))
        .start()
        .await;
    // Two workers have an instance each; the third call finds none, and none of the two comes back before its deadline.
    let mut replies: FuturesUnordered<_> = (0..3).map(|_| node.get("/test/a")).collect();
    let began = std::time::Instant::now();
    let first = replies.next().await.expect("there are three");
    assert!(began.elapsed() < std::time::Duration::from_secs(8));
    first.assert_status(500);
    node.until_logged(&["has no free instance"]).await;
}
