//! A canary at an origin, and what edges make of it.

use std::fs;

use http::{Request, Response};
use serde_json::{Value, json};
use tidegate_tests::linked::{edge, follower_setup, nodes, origin_named, put, ready};
use tidegate_tests::{Api, Load, Operation, Setup, TestNode, TestOrigin, fixture, text, until};

const HEADER: &str = "x-canary";

/// Puts a component on trial.
async fn try_out(node: &TestNode, plugin: &str, component: &str, parameters: &str) {
    let path = format!("/tidegate/v1/plugins/{plugin}?{parameters}");
    let request = Request::put(path)
        .header("host", node.admin_address().to_string())
        .header("content-type", "application/wasm")
        .body(fs::read(fixture(component)).unwrap().into());
    node.ask_admin(request.unwrap()).await.assert_status(200);
}

async fn canary(node: &TestNode, plugin: &str) -> Value {
    let plugins = node.admin("/tidegate/v1/plugins").await.json();
    let mut all = plugins.as_array().expect("a list").iter();
    let found = all.find(|entry| entry["plugin"] == plugin);
    found.expect("the plugin is listed")["canary"].clone()
}

/// Also where the plugin was left alone after many of them.
async fn until_rolled_back_for_faults(origin: &TestNode) {
    let outcome = until("it is rolled back", async || {
        let canary = canary(origin, "guard").await;
        canary["outcome"].as_str().map(str::to_owned)
    })
    .await;
    assert!(outcome.starts_with("rolled back: faults in "), "{outcome}");
}

async fn until_ended(edge: &TestNode, plugin: &str) {
    until("the edge serves one version", async || {
        canary(edge, plugin).await.is_null().then_some(())
    })
    .await;
}

/// A setup whose `GET /a` has the plugin at a step.
fn with_plugin(step: &str, plugin: &str, component: &str) -> Setup {
    let binding = json!({ "step": step, "plugin": plugin });
    let operation = Operation::mock("hello").binding(binding);
    origin_named("home", "")
        .api(&Api::new().route("GET /a", operation))
        .plugin(plugin, &fixture(component))
}

/// The stamps of a request and of its response; `chosen` is one that the canary takes.
async fn stamps(node: &TestNode, chosen: bool) -> [String; 2] {
    let request = node.build("GET", "/test/a");
    let reply = node
        .ask(match chosen {
            true => request.header(HEADER, "yes"),
            false => request,
        })
        .await;
    reply.assert_status(200);
    ["x-asked", "x-stamp"].map(|name| reply.header(name).to_owned())
}

async fn until_stamped(node: &TestNode, chosen: bool, stamp: &str) {
    until("it is served by the other version", async || {
        (stamps(node, chosen).await == [stamp, stamp]).then_some(())
    })
    .await;
}

/// The request is stamped at the origin, and the response on the edge: both by the version that the edge chose.
#[tokio::test]
async fn an_edges_requests_are_split_as_the_origins_are_and_each_has_one_version() {
    let upstream = TestOrigin::start(|request| async move {
        let mut response = Response::new(text("hello"));
        let stamp = request.headers().get("x-stamp").cloned();
        stamp.map(|stamp| response.headers_mut().insert("x-asked", stamp));
        response
    })
    .await;
    let uri = format!("http://{}/", upstream.address());
    let operation = ["request-transform", "response-transform"]
        .into_iter()
        .fold(Operation::proxy(&uri), |operation, step| {
            operation.binding(json!({ "step": step, "plugin": "stamp" }))
        });
    let origin = origin_named("home", "")
        .api(&Api::new().route("GET /a", operation))
        .plugin("stamp", &fixture("stamp-one"))
        .start()
        .await;
    let edge = edge("one", &origin, &[]).await;
    assert_eq!(stamps(&edge, true).await, ["one", "one"]);
    let load = Load::start(&edge, "/test/a", 2);
    for end in ["rollback", "promote"] {
        try_out(&origin, "stamp", "stamp-two", "canary=x-canary:%20yes").await;
        until_stamped(&edge, true, "two").await;
        for node in [&origin, &edge] {
            assert_eq!(stamps(node, false).await, ["one", "one"]);
            assert_eq!(stamps(node, true).await, ["two", "two"]);
            assert_eq!(canary(node, "stamp").await["split"], "x-canary: yes");
        }
        // Both versions' requests were the edge's.
        until("the origin has the edge's figures", async || {
            let canary = canary(&origin, "stamp").await;
            let requests = |side: &str| canary[side]["requests"].as_u64();
            (requests("canary") >= Some(3) && requests("stable") >= Some(3)).then_some(())
        })
        .await;
        let path = format!("/tidegate/v1/plugins/stamp/{end}");
        let refused = put(&edge, &path).await;
        refused.assert_status(400);
        assert!(refused.text().contains("change plugins there"));
        put(&origin, &path).await.assert_status(200);
        match end {
            "rollback" => until_stamped(&edge, true, "one").await,
            _ => until_stamped(&edge, false, "two").await,
        }
    }
    load.stop().await.assert_only(200);
}

/// Nobody asks the origin itself: what it rolls back for was seen by its edge.
#[tokio::test]
async fn a_canary_whose_faults_an_edge_sees_is_rolled_back_everywhere() {
    let origin = with_plugin("authorizer", "guard", "allow").start().await;
    let edge = edge("one", &origin, &[]).await;
    let load = Load::start(&edge, "/test/a", 4);
    try_out(&origin, "guard", "trap", "canary=50%25").await;
    until_rolled_back_for_faults(&origin).await;
    let tally = load.stop().await;
    assert!(
        tally.statuses.contains_key(&500),
        "the edge tried it: {tally:?}"
    );
    until_ended(&edge, "guard").await;
    for _ in 0..16 {
        edge.get("/test/a").await.assert_status(200);
    }
}

#[tokio::test]
async fn an_edge_takes_part_again_after_a_restart_and_not_without_its_origin() {
    let origin = with_plugin("response-transform", "stamp", "stamp-one")
        .start()
        .await;
    let mut edge = edge("one", &origin, &[]).await;
    let chosen = async |edge: &TestNode, stamp: &str| {
        until("the stamp is this one", async || {
            (stamps(edge, true).await[1] == stamp).then_some(())
        })
        .await;
    };
    try_out(&origin, "stamp", "stamp-two", "canary=x-canary:%20yes").await;
    chosen(&edge, "two").await;
    edge = edge.kill9().await.start().await;
    ready(&edge).await;
    chosen(&edge, "two").await;
    // A reload of its own.
    edge.hang_up();
    edge.until_logged(&["reloaded"]).await;
    chosen(&edge, "two").await;
    assert!(nodes(&origin).await[0]["problem"].is_null());
    origin.kill9().await;
    chosen(&edge, "one").await;
}

/// The edge reports to the second origin only, and the first one rolls back.
#[tokio::test]
async fn a_canary_is_judged_too_by_what_edges_of_another_origin_see() {
    let first = with_plugin("authorizer", "guard", "allow").start().await;
    let link = "[link]\naddress = '127.0.0.1:0'";
    let second = follower_setup("second", "origin", &first, &[], link)
        .start()
        .await;
    ready(&second).await;
    let edge = edge("one", &first, &[second.link()]).await;
    let load = Load::start(&edge, "/test/a", 4);
    try_out(&first, "guard", "trap", "canary=50%25").await;
    until_rolled_back_for_faults(&first).await;
    let names: Vec<Value> = nodes(&first)
        .await
        .into_iter()
        .map(|mut node| node["name"].take())
        .collect();
    assert_eq!(names, ["second"], "the edge reports elsewhere");
    let tally = load.stop().await;
    assert!(tally.statuses.contains_key(&500), "{tally:?}");
    until_ended(&edge, "guard").await;
}

/// What is in the way of its file goes away: nobody tells the edge of that.
#[tokio::test]
async fn an_edge_that_cannot_take_part_in_a_canary_tries_again() {
    let origin = with_plugin("response-transform", "stamp", "stamp-one")
        .start()
        .await;
    let edge = edge("one", &origin, &[]).await;
    try_out(&origin, "stamp", "stamp-two", "canary=x-canary:%20no").await;
    let version = canary(&origin, "stamp").await["version"].clone();
    put(&origin, "/tidegate/v1/plugins/stamp/rollback")
        .await
        .assert_status(200);
    until_ended(&edge, "stamp").await;

    let file = edge.path("data/snapshot/files");
    let file = file.join(version.as_str().expect("a hash"));
    _ = fs::remove_file(&file); // where it was fetched the first time
    fs::create_dir_all(file.join("in the way")).unwrap();
    try_out(&origin, "stamp", "stamp-two", "canary=x-canary:%20yes").await;
    edge.until_logged(&["canary: ", "this node serves the stable version only"])
        .await;
    until("the origin is told", async || {
        let problem = nodes(&origin).await[0]["problem"].clone();
        problem.as_str()?.starts_with("canary: ").then_some(())
    })
    .await;
    assert_eq!(stamps(&edge, true).await[1], "one");
    fs::remove_dir_all(&file).unwrap();
    until("it takes part", async || {
        (stamps(&edge, true).await[1] == "two").then_some(())
    })
    .await;
    until("the origin is told", async || {
        nodes(&origin).await[0]["problem"].is_null().then_some(())
    })
    .await;
}
