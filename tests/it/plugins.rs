//! Components that misbehave: each gets the response that is specified, and nobody else notices.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::{Api, Load, Operation, TestNode, fixture, until};

/// A node of one worker thread, with a harmless route and one behind `plugin`, an authorizer with this binding: whoever
/// holds the thread holds everybody.
async fn node_with(plugin: &str, binding: Value) -> TestNode {
    TestNode::with(ONE_THREAD)
        .api(&api(binding))
        .plugin(plugin, &fixture(plugin))
        .start()
        .await
}

fn api(binding: Value) -> Api {
    Api::new()
        .route("GET /hello", Operation::mock("hello"))
        .route("GET /guarded", Operation::mock("guarded").binding(binding))
}

fn authorizer(plugin: &str) -> Value {
    json!({ "step": "authorizer", "plugin": plugin })
}

fn authorizer_with(plugin: &str, limits: Value) -> Value {
    json!({ "step": "authorizer", "plugin": plugin, "limits": limits })
}

/// Asks the guarded route again and again while others load the node: they are served while it fails, far sooner than its
/// deadline. Gives the slowest faulty answer's time.
async fn faults_and_disturbs_nobody(node: &TestNode, cause: &str) -> Duration {
    let load = Load::start(node, "/test/hello", 8);
    load.more(8).await; // everybody is connected
    let before = load.answered();
    let (mut faults, mut slowest) = (0, Duration::ZERO);
    while faults < 3 || load.answered() < before + 100 {
        let began = Instant::now();
        node.get("/test/guarded")
            .await
            .assert_error(500, "Internal server error");
        slowest = slowest.max(began.elapsed());
        faults += 1;
    }
    let tally = load.stop().await;
    node.until_logged(&[cause]).await;
    tally.assert_only(200);
    assert!(
        tally.slowest < FAR_BELOW_THE_DEADLINE,
        "others waited: {tally:?}"
    );
    let metrics = node.metrics().await;
    let counted = metrics.sum("tidegate_plugin_faults_total", &[("step", "authorizer")]);
    assert!(counted >= 3.0, "{counted} faults were counted");
    slowest
}

/// The deadline of the plugins that hold on to their calls.
const DEADLINE: &str = "2s";
/// What others may have to wait on a busy machine, while a plugin takes until its deadline.
const FAR_BELOW_THE_DEADLINE: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_trap_is_500_and_disturbs_nobody() {
    let node = node_with("trap", authorizer("trap")).await;
    faults_and_disturbs_nobody(&node, "trapped: wasm trap: wasm `unreachable` instruction").await;
    // What the guest said before it trapped.
    node.until_logged(&["the fixture panics, as it should"])
        .await;
}

#[tokio::test]
async fn an_endless_loop_ends_at_its_deadline() {
    let binding = authorizer_with("spin", json!({ "deadline": DEADLINE }));
    let node = node_with("spin", binding).await;
    let slowest = faults_and_disturbs_nobody(&node, "passed its deadline of 2s").await;
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
}

#[tokio::test]
async fn a_memory_bomb_ends_at_its_limit() {
    let binding = authorizer_with("bomb", json!({ "memory": "8MiB", "deadline": DEADLINE }));
    let node = node_with("bomb", binding).await;
    let before = node.resident_bytes();
    faults_and_disturbs_nobody(&node, "needs more memory than its limit of 8388608 bytes").await;
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "the node grew by {grown} bytes");
}

#[tokio::test]
async fn a_host_call_that_sleeps_ten_seconds_ends_at_the_deadline() {
    let binding = authorizer_with("sleepy", json!({ "deadline": DEADLINE }));
    let node = node_with("sleepy", binding).await;
    let slowest = faults_and_disturbs_nobody(&node, "passed its deadline of 2s").await;
    assert!(slowest < Duration::from_secs(9), "{slowest:?}");
}

/// The fixture counts its calls: an instance that is used again goes on counting.
#[tokio::test]
async fn an_instance_that_trapped_or_whose_caller_left_is_never_used_again() {
    let binding = json!({
        "step": "response-transform", "plugin": "counter", "limits": { "deadline": "60s" },
    });
    let node = node_with("counter", binding).await;
    let calls = async || node.get("/test/guarded").await.header("x-calls").to_owned();
    let asking = |what: &str| node.build("GET", "/test/guarded").header("x-do", what);
    for expected in ["1", "2", "3"] {
        assert_eq!(calls().await, expected, "a sound instance is kept");
    }
    node.ask(asking("trap"))
        .await
        .assert_error(500, "Internal server error");
    for expected in ["1", "2"] {
        assert_eq!(calls().await, expected, "after a trap");
    }

    let mut connection = node.connect().await;
    let request = asking("sleep").body(bytes::Bytes::new()).unwrap();
    let leaving = tokio::spawn(async move { connection.ask(request).await });
    node.until_logged(&["falls asleep"]).await;
    leaving.abort();
    let _ = leaving.await;
    node.until("the node saw the caller leave", |metrics| {
        metrics.sum("tidegate_requests_total", &[("status", "499")]) == 1.0
    })
    .await;
    for expected in ["1", "2"] {
        assert_eq!(calls().await, expected, "after a caller that left");
    }
}

#[tokio::test]
async fn a_fault_is_bypassed_where_the_binding_says_so() {
    let mut binding = authorizer("trap");
    binding["fault-policy"] = json!("bypass");
    let node = node_with("trap", binding).await;
    for _ in 0..3 {
        assert_eq!(node.get("/test/guarded").await.text(), "guarded");
    }
}

/// The fixture traps when the request says so, and answers otherwise.
#[tokio::test]
async fn a_plugin_that_crashed_comes_back() {
    let node = node_with("trap-on-header", authorizer("trap-on-header")).await;
    for _ in 0..20 {
        node.get("/test/guarded").await.assert_status(200);
        let crashing = node.build("GET", "/test/guarded").header("x-trap", "1");
        node.ask(crashing)
            .await
            .assert_error(500, "Internal server error");
    }
    node.get("/test/guarded").await.assert_status(200);
}

#[tokio::test]
async fn a_plugin_that_always_fails_is_left_alone_for_a_while_and_a_good_version_serves_at_once() {
    let node = node_with("trap", authorizer("trap")).await;
    let load = Load::start(&node, "/test/hello", 4);
    let mut asked = 0;
    until("calls are spared", async || {
        for _ in 0..50 {
            node.get("/test/guarded")
                .await
                .assert_error(500, "Internal server error");
        }
        asked += 50;
        let calls = node.metrics().await;
        (calls.sum("tidegate_plugin_calls_total", &[("step", "authorizer")]) < f64::from(asked))
            .then_some(())
    })
    .await;
    node.until_logged(&[
        "is not called for a while, since it failed too often; the last time it trapped: ",
    ])
    .await;

    std::fs::copy(fixture("allow"), node.path("trap.wasm")).unwrap();
    until("the good version serves", async || {
        (node.get("/test/guarded").await.status == 200).then_some(())
    })
    .await;
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn instances_are_reused_unless_the_binding_wants_a_fresh_one_for_each_request() {
    // The fixture remembers what the request before said, and lets it out.
    for (isolation, leaks) in [("reuse", true), ("request", false)] {
        let mut binding =
            json!({ "step": "response-transform", "plugin": "leaky", "isolation": isolation });
        binding["configuration"] = json!({});
        let node = TestNode::with(ONE_THREAD)
            .api(&api(binding))
            .plugin("leaky", &fixture("leaky"))
            .start()
            .await;
        let seen = async |secret: &str| {
            let reply = node
                .ask(
                    node.build("GET", "/test/guarded")
                        .header("x-secret", secret),
                )
                .await;
            reply.assert_status(200);
            reply.header("x-leaked").to_owned()
        };
        seen("first").await;
        assert_eq!(
            seen("second").await,
            if leaks { "first" } else { "" },
            "{isolation}"
        );
    }
}

#[tokio::test]
async fn a_slow_configure_does_not_stall_the_node() {
    let mut binding = authorizer("slow-configure");
    binding["limits"] = json!({ "start-deadline": "200ms" });
    let began = Instant::now();
    let refused = TestNode::with("")
        .api(&api(binding))
        .plugin("slow-configure", &fixture("slow-configure"))
        .check();
    refused.assert_refused(&["slow-configure", "longer than 200ms"]);
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn a_slow_configure_at_a_reload_leaves_the_old_deployment_serving() {
    let node = node_with_component("switched", &fixture("allow")).await;
    let load = Load::start(&node, "/test/guarded", 4);
    load.more(4).await;
    let before = load.answered();
    std::fs::copy(fixture("slow-configure"), node.path("switched.wasm")).unwrap();
    // Its start deadline, 5 s by default.
    node.until_logged(&["switched", "configure took longer than 5s"])
        .await;
    let meanwhile = load.answered() - before;
    let tally = load.stop().await;
    tally.assert_only(200);
    assert!(meanwhile >= 100, "{meanwhile} answers in five seconds");
    assert!(
        tally.slowest < FAR_BELOW_THE_DEADLINE,
        "others waited: {tally:?}"
    );
}

async fn node_with_component(plugin: &str, component: &Path) -> TestNode {
    TestNode::with(ONE_THREAD)
        .api(&api(authorizer(plugin)))
        .plugin(plugin, component)
        .start()
        .await
}

#[tokio::test]
async fn what_cannot_work_is_refused_before_it_serves_and_the_cause_is_named() {
    for (plugin, causes) in [
        (
            "bad-configure",
            &["bad-configure", "the configuration is never good enough"][..],
        ),
        (
            "useless",
            &[
                "plugin \"useless\"",
                "the component exports greet, and no step of tidegate:gateway@0.1.0",
            ],
        ),
        (
            "old-version",
            &[
                "plugin \"old-version\"",
                "the component speaks tidegate:gateway/",
                "@0.0.9; this node speaks tidegate:gateway@0.1.0",
            ],
        ),
        (
            "missing-grant",
            &[
                "missing-grant",
                "the plugin imports tidegate:gateway/crypto, which this binding was not granted",
            ],
        ),
    ] {
        let setup = || {
            TestNode::with("")
                .api(&api(authorizer(plugin)))
                .plugin(plugin, &fixture(plugin))
        };
        setup().check().assert_refused(causes);
        setup().refused().assert_refused(causes);
    }
}

#[tokio::test]
async fn a_file_that_is_no_component_is_refused_by_name() {
    let setup = || {
        TestNode::with("[plugin.broken]\ncomponent = 'broken.wasm'").api(&api(authorizer("broken")))
    };
    setup().check().assert_refused(&["plugin \"broken\""]);
    for bytes in [
        &b""[..],
        b"hello",
        b"\0asm\x0d\0\x01\0garbage",
        b"\0asm\x01\0\0\0",
    ] {
        setup()
            .file("broken.wasm", bytes)
            .check()
            .assert_refused(&["plugin \"broken\""]);
        setup()
            .file("broken.wasm", bytes)
            .refused()
            .assert_refused(&["plugin \"broken\""]);
    }
    let whole = std::fs::read(fixture("allow")).unwrap();
    let half = &whole[..whole.len() / 2];
    setup()
        .file("broken.wasm", half)
        .check()
        .assert_refused(&["plugin \"broken\""]);
}

#[tokio::test]
async fn a_function_that_faults_is_502_or_504_and_disturbs_nobody() {
    for (function, settings, status, message) in [
        ("function-trap", "", 502, "Internal server error"),
        (
            "function-spin",
            "deadline = '200ms'",
            504,
            "Endpoint request timed out",
        ),
    ] {
        let api = Api::new()
            .route("GET /hello", Operation::mock("hello"))
            .route("GET /a", Operation::function("f"));
        let node = TestNode::with("")
            .api(&api)
            .function("f", Path::new(&fixture(function)), settings)
            .start()
            .await;
        let load = Load::start(&node, "/test/hello", 4);
        for _ in 0..3 {
            node.get("/test/a").await.assert_error(status, message);
        }
        load.more(20).await;
        load.stop().await.assert_only(200);
    }
}

const ONE_THREAD: &str =
    "[node]\nname = 'test'\nregion = 'local'\nsuffix = 'localhost'\nthreads = 1\ndata = 'data'";
