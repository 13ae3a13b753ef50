//! Plugin versions handed to a running node: swapped in, gone back from, and tried on some of the requests.

use std::fs;
use std::path::Path;
use std::process::Output;

use http::Response;
use serde_json::{Value, json};
use tidegate_tests::{
    Api, Load, Operation, Reply, TestNode, TestOrigin, binary, fixture, text, until, with_section,
};
use tokio::process::Command;

fn stamped() -> Api {
    let binding = json!({ "step": "response-transform", "plugin": "stamp" });
    Api::new().route("GET /a", Operation::mock("hello").binding(binding))
}

async fn stamping_node() -> TestNode {
    TestNode::with("")
        .api(&stamped())
        .plugin("stamp", &fixture("stamp-one"))
        .start()
        .await
}

/// A node with a route behind the authorizer `guard`, which lets everyone in.
pub async fn guarded_node() -> TestNode {
    let binding = json!({ "step": "authorizer", "plugin": "guard" });
    TestNode::with("")
        .api(&Api::new().route("GET /a", Operation::mock("hello").binding(binding)))
        .plugin("guard", &fixture("allow"))
        .start()
        .await
}

/// Runs `tidegate plugin …` against the node, while the test's load goes on.
async fn plugin(node: &TestNode, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(["--json", "plugin"]).args(arguments);
    command.args(["--admin", &node.admin_address().to_string()]);
    command.output().await.expect("the command starts")
}

/// The same, where it has to succeed: gives what it printed.
async fn done(node: &TestNode, arguments: &[&str]) -> Value {
    let output = plugin(node, arguments).await;
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    let log = || node.log().join("\n");
    assert!(output.status.success(), "{arguments:?}: {shown}\n{}", log());
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn path(component: &Path) -> &str {
    component.to_str().expect("UTF-8")
}

async fn stamp(node: &TestNode) -> String {
    node.get("/test/a").await.header("x-stamp").to_owned()
}

/// Connections are spread over the workers: some are each's.
async fn every_worker_serves(node: &TestNode, version: &str) {
    for _ in 0..16 {
        assert_eq!(stamp(node).await, version);
    }
}

async fn canary(node: &TestNode, plugin: &str) -> Value {
    listed(node, plugin).await["canary"].clone()
}

async fn listed(node: &TestNode, plugin: &str) -> Value {
    let plugins = node.admin("/tidegate/v1/plugins").await.json();
    let all = plugins.as_array().expect("a list").iter();
    let found = all.clone().find(|entry| entry["plugin"] == plugin);
    found.expect("the plugin is listed").clone()
}

#[tokio::test]
async fn what_a_plugin_keeps_in_the_host_outlives_its_versions_and_its_configurations() {
    let api = |number: u32| {
        let binding = json!({
            "step": "response-transform", "plugin": "capable", "configuration": { "number": number },
            "grants": { "secrets": ["token"], "shared-cache": true, "metrics": true },
        });
        Api::new()
            .route("GET /a", Operation::mock("a").binding(binding))
            .route("GET /number", Operation::mock(&number.to_string()))
    };
    let node = TestNode::with("")
        .api(&api(1))
        .plugin("capable", &fixture("capable"))
        .file("token.txt", b"let-me-in\n")
        .toml("[secret.token]\nfile = 'token.txt'")
        .start()
        .await;
    let count = async || {
        let reply = node.get("/test/a").await;
        reply.header("x-count").parse::<u32>().expect("a number")
    };
    assert_eq!((count().await, count().await), (1, 2));
    let other = with_section(fs::read(fixture("capable")).unwrap(), "version", "2");
    let file = node.path("other.wasm");
    fs::write(&file, other).unwrap();
    done(&node, &["swap", "capable", path(&file)]).await;
    assert_eq!(count().await, 3);
    done(&node, &["rollback", "capable"]).await;
    assert_eq!(count().await, 4);
    fs::write(node.path("api.openapi.yaml"), api(2).text()).unwrap();
    until("the edit is deployed", async || {
        (node.get("/test/number").await.text() == "2").then_some(())
    })
    .await;
    assert_eq!(count().await, 5);
}

#[tokio::test]
async fn a_hundred_swaps_under_load_fail_no_request_and_each_serves_at_once() {
    let node = stamping_node().await;
    let versions = [("two", fixture("stamp-two")), ("one", fixture("stamp-one"))];
    let load = Load::start(&node, "/test/a", 8);
    for (number, (expected, component)) in versions.iter().cycle().take(100).enumerate() {
        done(&node, &["swap", "stamp", path(component)]).await;
        // Workers take it over with their next turn.
        until("the new version serves", async || {
            (stamp(&node).await == *expected).then_some(())
        })
        .await;
        if number % 10 == 0 {
            load.more(20).await;
        }
    }
    load.stop().await.assert_only(200);
    // Of a hundred versions and one the last is left: two workers, and as many calls at once as there are connections.
    node.until("the instances of old versions are gone", |metrics| {
        let live = metrics.sum("tidegate_instances_live", &[]);
        (1.0..=16.0).contains(&live)
    })
    .await;
}

/// An upstream that tells which version's stamp a request had, and the plugin `stamp` before it and behind it.
async fn stamping_both_ways() -> (TestOrigin, TestNode) {
    let origin = TestOrigin::start(|request| async move {
        let mut response = Response::new(text("hello"));
        if let Some(stamp) = request.headers().get("x-stamp") {
            response.headers_mut().insert("x-asked", stamp.clone());
        }
        response
    })
    .await;
    let operation = ["request-transform", "response-transform"]
        .into_iter()
        .fold(Operation::proxy("http://origin/"), |operation, step| {
            operation.binding(json!({ "step": step, "plugin": "stamp" }))
        });
    let node = TestNode::with("")
        .api(&Api::new().route("GET /a", operation))
        .plugin("stamp", &fixture("stamp-one"))
        .upstream("origin", origin.address())
        .start()
        .await;
    (origin, node)
}

#[tokio::test]
async fn no_request_sees_two_versions_of_one_plugin() {
    let (_origin, node) = stamping_both_ways().await;
    let request = node.build("GET", "/test/a");
    let load = Load::start_checking(&node, 8, request, |reply| {
        let (asked, answered) = (reply.header("x-asked"), reply.header("x-stamp"));
        let one_version = asked == answered && !asked.is_empty();
        (!one_version).then(|| format!("asked by {asked:?}, answered by {answered:?}"))
    });
    let versions = [fixture("stamp-two"), fixture("stamp-one")];
    for (number, component) in versions.iter().cycle().take(100).enumerate() {
        done(&node, &["swap", "stamp", path(component)]).await;
        if number % 10 == 0 {
            load.more(20).await;
        }
    }
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn a_request_in_flight_ends_on_its_version_which_is_freed_then() {
    let (origin, node) = stamping_both_ways().await;
    let stamps = |reply: &Reply| {
        let stamp = |name| reply.header(name).to_owned();
        (stamp("x-asked"), stamp("x-stamp"))
    };
    let live = async || {
        let metrics = node.metrics().await;
        metrics.sum("tidegate_instances_live", &[])
    };
    origin.hold();
    let held = node.get("/test/a");
    let others = async {
        until("it is under way", async || {
            (origin.requests() == 1).then_some(())
        })
        .await;
        assert_eq!(live().await, 1.0, "of the request transform");
        done(&node, &["swap", "stamp", path(&fixture("stamp-two"))]).await;
        assert_eq!(live().await, 1.0, "the old version's");
        let new = node.get("/test/a");
        let release = async {
            until("another one is under way", async || {
                (origin.requests() == 2).then_some(())
            })
            .await;
            assert_eq!(live().await, 2.0, "one of each version");
            origin.release();
        };
        tokio::join!(new, release).0
    };
    let (held, new) = tokio::join!(held, others);
    assert_eq!(stamps(&held), ("one".to_owned(), "one".to_owned()));
    assert_eq!(stamps(&new), ("two".to_owned(), "two".to_owned()));
    until("the new version's two instances are left", async || {
        (live().await == 2.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_version_that_was_swapped_in_is_in_force_after_kill_9_and_can_be_gone_back_from() {
    let node = stamping_node().await;
    done(&node, &["swap", "stamp", path(&fixture("stamp-two"))]).await;
    let node = node.kill9().await.start().await;
    assert_eq!(stamp(&node).await, "two");
    let listed = done(&node, &["list"]).await;
    let listed = listed.as_array().unwrap().iter();
    let sources: Vec<_> = listed
        .filter(|entry| entry["plugin"] == "stamp")
        .map(|entry| entry["source"].clone())
        .collect();
    assert_eq!(sources, [json!("swap")]);

    let back = done(&node, &["rollback", "stamp"]).await;
    assert_eq!(back["source"], "file");
    every_worker_serves(&node, "one").await;
    let refused = plugin(&node, &["rollback", "stamp"]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nothing to go back from"));
    let node = node.kill9().await.start().await;
    assert_eq!(stamp(&node).await, "one");
}

#[tokio::test]
async fn what_cannot_serve_is_refused_with_its_cause_and_leaves_the_running_version_untouched() {
    let node = guarded_node().await;
    let load = Load::start(&node, "/test/a", 4);
    let whole = fs::read(fixture("allow")).unwrap();
    fs::write(node.path("half.wasm"), &whole[..whole.len() / 2]).unwrap();
    fs::write(node.path("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let (half, core) = (node.path("half.wasm"), node.path("core.wasm"));
    let cases = [
        (half, "the component is damaged: "),
        (core, "this is a core module, not a component"),
        (
            fixture("useless"),
            "the component exports greet, and no step of tidegate:gateway@0.1.0",
        ),
        (
            fixture("stamp-one"),
            "the plugin implements request-transform, response-transform, not authorizer",
        ),
        (
            fixture("missing-grant"),
            "the plugin imports tidegate:gateway/crypto, which this binding was not granted",
        ),
        (
            fixture("bad-configure"),
            "the configuration is never good enough",
        ),
        (
            fixture("old-version"),
            "@0.0.9; this node speaks tidegate:gateway@0.1.0",
        ),
    ];
    for (component, cause) in &cases {
        let refused = plugin(&node, &["swap", "guard", path(component)]).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success(),
            "{}: accepted",
            component.display()
        );
        assert!(said.contains(cause), "{}: {said}", component.display());
    }
    let unknown = plugin(&node, &["swap", "gard", path(&fixture("allow"))]).await;
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("guard"));
    load.more(20).await;
    load.stop().await.assert_only(200);
    let kept = fs::read_dir(node.path("data/plugins")).unwrap().flatten();
    let components = kept.filter(|file| file.path().extension().is_some_and(|end| end == "wasm"));
    assert_eq!(components.count(), 0, "refused components stay on the disk");
}

#[tokio::test]
async fn a_version_that_someone_else_wrote_to_is_not_served() {
    let node = stamping_node().await;
    let swapped = done(&node, &["swap", "stamp", path(&fixture("stamp-two"))]).await;
    let kept = format!("data/plugins/{}.wasm", swapped["version"].as_str().unwrap());
    fs::copy(fixture("stamp-one"), node.path(&kept)).unwrap();
    let definition = node.path("api.openapi.yaml");
    let text = fs::read_to_string(&definition).unwrap();
    fs::write(&definition, text + "\n").unwrap();
    node.until_logged(&["not what was swapped in"]).await;
    assert_eq!(stamp(&node).await, "two");
}

#[tokio::test]
async fn a_canary_gets_the_requests_with_its_header_until_it_is_promoted() {
    let node = stamping_node().await;
    let two = fixture("stamp-two");
    done(
        &node,
        &["swap", "stamp", path(&two), "--canary", "x-canary: yes"],
    )
    .await;
    let chosen = async || {
        let request = node.build("GET", "/test/a").header("x-canary", "yes");
        node.ask(request).await.header("x-stamp").to_owned()
    };
    until("the canary serves", async || {
        (chosen().await == "two").then_some(())
    })
    .await;
    // Fewer than a canary is judged by: on a busy machine its mean latency says nothing.
    for _ in 0..10 {
        assert_eq!(
            (stamp(&node).await.as_str(), chosen().await.as_str()),
            ("one", "two")
        );
    }
    let second = plugin(&node, &["swap", "stamp", path(&two)]).await;
    assert!(String::from_utf8_lossy(&second.stderr).contains("canary"));

    done(&node, &["promote", "stamp"]).await;
    every_worker_serves(&node, "two").await;
    assert_eq!(canary(&node, "stamp").await["outcome"], "promoted");
    let node = node.kill9().await.start().await;
    assert_eq!(stamp(&node).await, "two");
}

#[tokio::test]
async fn other_changes_to_plugins_wait_for_a_canary_and_leave_it_whole() {
    let bindings =
        ["stamp", "other"].map(|plugin| json!({ "step": "response-transform", "plugin": plugin }));
    let [first, second] = bindings;
    let operation = Operation::mock("hello").binding(second).binding(first);
    let node = TestNode::with("")
        .api(&Api::new().route("GET /a", operation))
        .plugin("stamp", &fixture("stamp-one"))
        .plugin("other", &fixture("stamp-one"))
        .start()
        .await;
    let two = fixture("stamp-two");
    done(&node, &["swap", "other", path(&two)]).await;
    let trial = ["swap", "stamp", path(&two), "--canary", "x-canary: yes"];
    done(&node, &trial).await;
    for change in [
        &["rollback", "other"][..],
        &["swap", "other", path(&two)],
        &["promote", "other"],
    ] {
        let refused = plugin(&node, change).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("canary"), "{change:?}: {said}");
    }
    assert!(canary(&node, "stamp").await["outcome"].is_null());
    done(&node, &["promote", "stamp"]).await;
    let node = node.kill9().await.start().await;
    assert_eq!(stamp(&node).await, "two");
}

#[tokio::test]
async fn a_file_that_is_saved_while_a_canary_runs_is_served_and_ends_it() {
    let node = stamping_node().await;
    let revision = async || node.admin("/tidegate/v1/node").await.json()["revision"].clone();
    let before = revision().await;
    let two = fixture("stamp-two");
    done(&node, &["swap", "stamp", path(&two), "--canary", "50%"]).await;
    let binding = json!({ "step": "response-transform", "plugin": "stamp" });
    let edited = Api::new().route("GET /a", Operation::mock("edited").binding(binding));
    fs::write(node.path("api.openapi.yaml"), edited.text()).unwrap();
    until("the edit serves", async || {
        (node.get("/test/a").await.text() == "edited").then_some(())
    })
    .await;
    assert_eq!(stamp(&node).await, "one");
    let ended = canary(&node, "stamp").await;
    assert_eq!(ended["outcome"], "ended by a reload");
    // The canary's deployment had a revision of its own.
    let after = revision().await;
    assert_eq!(after.as_u64(), before.as_u64().map(|before| before + 2));
}

#[tokio::test]
async fn a_canary_gets_its_share_and_is_promoted_by_itself_where_nothing_is_wrong() {
    let node = stamping_node().await;
    let two = fixture("stamp-two");
    done(
        &node,
        &[
            "swap",
            "stamp",
            path(&two),
            "--canary",
            "25%",
            "--for",
            "1s",
        ],
    )
    .await;
    let load = Load::start(&node, "/test/a", 8);
    until("it is promoted", async || {
        (canary(&node, "stamp").await["outcome"] == "promoted").then_some(())
    })
    .await;
    load.stop().await.assert_only(200);
    let figures = canary(&node, "stamp").await;
    let requests = |side: &str| figures[side]["requests"].as_f64().unwrap();
    let share = requests("canary") / (requests("canary") + requests("stable"));
    assert!(
        (0.1..0.4).contains(&share),
        "{share} of the requests: {figures}"
    );
    assert_eq!(stamp(&node).await, "two");
}

#[tokio::test]
async fn a_canary_that_faults_is_rolled_back_by_itself() {
    let node = guarded_node().await;
    let trap = fixture("trap");
    done(&node, &["swap", "guard", path(&trap), "--canary", "50%"]).await;
    let load = Load::start(&node, "/test/a", 4);
    let outcome = until("it is rolled back", async || {
        let canary = canary(&node, "guard").await;
        canary["outcome"].as_str().map(str::to_owned)
    })
    .await;
    assert!(outcome.starts_with("rolled back: "), "{outcome}");
    node.until_logged(&["canary rolled back", "guard"]).await;
    load.stop().await;
    // Who ends it in the same moment goes back no further.
    let late = plugin(&node, &["rollback", "guard", "--canary"]).await;
    let told: Value = serde_json::from_slice(&late.stdout).expect("JSON");
    assert_eq!(told["error"], "no canary of \"guard\" is running");
    for _ in 0..20 {
        node.get("/test/a").await.assert_status(200);
    }
}

/// The old version's calls are over at once, the new one's take ten milliseconds.
#[tokio::test]
async fn a_canary_that_is_slower_is_rolled_back_for_its_latency() {
    let binding =
        json!({ "step": "authorizer", "plugin": "guard", "configuration": { "milliseconds": 10 } });
    let node = TestNode::with("")
        .api(&Api::new().route("GET /a", Operation::mock("hello").binding(binding)))
        .plugin("guard", &fixture("allow"))
        .start()
        .await;
    let slow = fixture("sleepy");
    done(&node, &["swap", "guard", path(&slow), "--canary", "50%"]).await;
    let load = Load::start(&node, "/test/a", 2);
    let outcome = until("it is rolled back", async || {
        let canary = canary(&node, "guard").await;
        canary["outcome"].as_str().map(str::to_owned)
    })
    .await;
    assert!(
        outcome.starts_with("rolled back: a mean latency of"),
        "{outcome}"
    );
    load.stop().await.assert_only(200);
}

/// Nothing of it is a fault: the version itself says 503.
#[tokio::test]
async fn who_watches_a_canary_sees_why_it_was_rolled_back_and_how_it_was_promoted() {
    let binding = json!({ "step": "request-transform", "plugin": "stamp" });
    let node = TestNode::with("")
        .api(&Api::new().route("GET /a", Operation::mock("hello").binding(binding)))
        .plugin("stamp", &fixture("stamp-one"))
        .start()
        .await;
    let load = Load::start(&node, "/test/a", 2);
    let (unavailable, two) = (fixture("unavailable"), fixture("stamp-two"));
    let watch = async |component: &Path, json: bool| {
        let mut command = Command::new(binary());
        command.args(json.then_some("--json"));
        command.args(["plugin", "swap", "stamp", path(component), "--watch"]);
        command.args(["--canary", "50%", "--for", "2s", "--admin"]);
        command.arg(node.admin_address().to_string());
        let output = command.output().await.expect("the command starts");
        let said = String::from_utf8(output.stdout).expect("UTF-8");
        (output.status.code(), said)
    };
    let (code, said) = watch(&unavailable, false).await;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(code, Some(1), "{said}");
    assert!(lines[0].contains("serves requests of 50% after"), "{said}");
    let last = lines.last().expect("some");
    assert!(last.contains("rolled back: 5xx in 100.0 %"), "{said}");
    assert!(
        last.contains("· new: ") && last.contains(" 0 faults"),
        "{said}"
    );

    let (code, said) = watch(&two, true).await;
    let states: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(code, Some(0), "{said}");
    let running = &states[1..states.len() - 1];
    assert!(running.len() > 1, "live figures: {said}");
    assert!(running.iter().all(|state| state["outcome"].is_null()));
    let last = states.last().expect("some");
    assert_eq!(last["outcome"], "promoted");
    assert!(last["canary"]["requests"].as_u64() > running[0]["canary"]["requests"].as_u64());
    let tally = load.stop().await;
    assert_eq!(tally.statuses.keys().collect::<Vec<_>>(), [&200, &503]);
}

#[tokio::test]
async fn a_canary_is_judged_by_the_bounds_that_it_was_given() {
    let node = guarded_node().await;
    let trap = fixture("trap");
    let swap = [
        "swap",
        "guard",
        path(&trap),
        "--canary",
        "50%",
        "--for",
        "1s",
    ];
    let refused = plugin(&node, &[&swap[..], &["--max-faults", "many"]].concat()).await;
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("max-faults") && said.contains("0 to 100"),
        "{said}"
    );

    let lenient = [
        "--max-faults",
        "100",
        "--max-failures",
        "100",
        "--max-latency",
        "1000",
    ];
    done(&node, &[&swap[..], &lenient].concat()).await;
    let load = Load::start(&node, "/test/a", 4);
    until("it is promoted, as bad as it is", async || {
        (canary(&node, "guard").await["outcome"] == "promoted").then_some(())
    })
    .await;
    let tally = load.stop().await;
    assert!(tally.statuses.contains_key(&500), "{tally:?}");
}

#[tokio::test]
async fn what_rollback_and_promote_have_said_is_served_by_every_worker_at_once() {
    let node = stamping_node().await;
    let two = fixture("stamp-two");
    let load = Load::start(&node, "/test/a", 8);
    for _ in 0..5 {
        done(&node, &["swap", "stamp", path(&two), "--canary", "50%"]).await;
        done(&node, &["promote", "stamp"]).await;
        every_worker_serves(&node, "two").await;
        done(&node, &["rollback", "stamp"]).await;
        every_worker_serves(&node, "one").await;
        done(&node, &["swap", "stamp", path(&two), "--canary", "50%"]).await;
        done(&node, &["rollback", "stamp"]).await;
        every_worker_serves(&node, "one").await;
    }
    // The last canary has ended, and is not what is said to serve.
    let mut command = Command::new(binary());
    command.args(["plugin", "swap", "stamp", path(&fixture("stamp-one"))]);
    command.args(["--admin", &node.admin_address().to_string()]);
    let output = command.output().await.expect("the command starts");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let entry = listed(&node, "stamp").await;
    let version = entry["version"].as_str().expect("a version");
    let expected = format!("version {} serves", &version[..12]);
    assert!(said.contains(&expected), "{said}, {entry:#}");
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn pages_of_strangers_change_nothing() {
    let node = stamping_node().await;
    let component = fs::read(fixture("stamp-two")).unwrap();
    let path = "/tidegate/v1/plugins/stamp";
    let ask = async |method: &str, host: &str, kind: &str| {
        let request = http::Request::builder().method(method).uri(path);
        let request = request.header("host", host).header("content-type", kind);
        node.ask_admin(request.body(component.clone().into()).unwrap())
            .await
    };
    let own = node.admin_address().to_string();
    // What a page can send without asking, and what a name can do that was pointed to this machine.
    ask("POST", &own, "text/plain").await.assert_status(404);
    ask("PUT", &own, "text/plain").await.assert_status(415);
    ask("PUT", "attacker.example:9080", "application/wasm")
        .await
        .assert_status(403);
    assert_eq!(stamp(&node).await, "one");
    ask("PUT", &own, "application/wasm")
        .await
        .assert_status(200);
}
