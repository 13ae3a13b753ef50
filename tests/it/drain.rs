//! The node's end: told by SIGTERM, it finishes what it began.

use bytes::Bytes;
use tidegate_tests::{Api, Load, Operation, Reply, TestNode, TestOrigin, fixture, until};
use tokio::task::JoinHandle;

async fn node(origin: &TestOrigin, toml: &str) -> TestNode {
    let api = Api::new()
        .route("GET /hello", Operation::mock("hello"))
        .route("GET /forward", Operation::proxy("http://origin/"));
    TestNode::with(toml)
        .api(&api)
        .upstream("origin", origin.address())
        .start()
        .await
}

/// A request that the origin has and does not answer yet.
async fn held_request(node: &TestNode, origin: &TestOrigin) -> JoinHandle<hyper::Result<Reply>> {
    origin.hold();
    let mut connection = node.connect().await;
    let request = node
        .build("GET", "/test/forward")
        .body(Bytes::new())
        .unwrap();
    let waiting = tokio::spawn(async move { connection.ask(request).await });
    until("the request arrives", async || {
        (origin.requests() == 1).then_some(())
    })
    .await;
    waiting
}

#[tokio::test]
async fn sigterm_under_load_loses_no_request() {
    let origin = TestOrigin::saying("hello").await;
    let mut node = node(&origin, "").await;
    let load = Load::start(&node, "/test/forward", 16);
    load.more(200).await;
    node.terminate();
    let tally = load.finish().await;
    tally.assert_answered(200);
    assert!(
        tally.reconnects <= 16,
        "each connection is closed once: {tally:?}"
    );
    assert!(tally.refused, "the node went: {tally:?}");
    assert_eq!(
        origin.requests() as u64,
        tally.answered(),
        "what was forwarded was answered: {tally:?}"
    );
    assert!(node.ended().await.success());
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_node_ends() {
    let origin = TestOrigin::saying("hello").await;
    let mut node = node(&origin, "").await;
    origin.hold();
    let mut waiting = Vec::new();
    for mut connection in [node.connect().await, node.connect_h2().await] {
        let request = node
            .build("GET", "/test/forward")
            .body(Bytes::new())
            .unwrap();
        waiting.push(tokio::spawn(async move { connection.ask(request).await }));
    }
    until("both requests arrive", async || {
        (origin.requests() == 2).then_some(())
    })
    .await;
    node.terminate();
    let address = node.address();
    until("the listener closes", async || {
        tokio::net::TcpStream::connect(address)
            .await
            .is_err()
            .then_some(())
    })
    .await;
    assert!(waiting.iter().all(|request| !request.is_finished()));
    origin.release();
    for request in waiting {
        let reply = request.await.unwrap().expect("answered");
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (200, "hello")
        );
    }
    assert!(node.ended().await.success());
}

#[tokio::test]
async fn a_node_that_drains_is_alive_and_not_ready() {
    let origin = TestOrigin::saying("hello").await;
    let mut node = node(&origin, "").await;
    let waiting = held_request(&node, &origin).await;
    node.admin("/readyz").await.assert_status(200);
    node.terminate();
    until("it is not ready", async || {
        let reply = node.admin("/readyz").await;
        (reply.status == 503).then(|| assert_eq!(reply.json()["message"], "draining"))
    })
    .await;
    node.admin("/healthz").await.assert_status(200);
    assert!(!waiting.is_finished(), "the request is under way");
    origin.release();
    assert_eq!(waiting.await.unwrap().expect("answered").text(), "hello");
    assert!(node.ended().await.success());
}

#[tokio::test]
async fn sigterm_is_heard_while_a_reload_configures_slowly() {
    let binding = serde_json::json!({ "step": "authorizer", "plugin": "switched" });
    let operation = Operation::mock("hello").binding(binding);
    let mut node = TestNode::with("")
        .api(&Api::new().route("GET /a", operation))
        .plugin("switched", &fixture("allow"))
        .start()
        .await;
    std::fs::copy(fixture("slow-configure"), node.path("switched.wasm")).unwrap();
    node.until_logged(&["configures slowly"]).await;
    let began = std::time::Instant::now();
    node.terminate();
    assert!(node.ended().await.success());
    // Its start deadline is 5 s.
    let took = began.elapsed();
    assert!(took < std::time::Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn idle_connections_do_not_hold_the_node_up() {
    let origin = TestOrigin::saying("hello").await;
    let mut node = node(&origin, "").await;
    let mut idle = [node.connect().await, node.connect_h2().await];
    for connection in &mut idle {
        let request = node.build("GET", "/test/hello").body(Bytes::new()).unwrap();
        connection.ask(request).await.unwrap().assert_status(200);
    }
    let began = std::time::Instant::now();
    node.terminate();
    assert!(node.ended().await.success());
    assert!(
        began.elapsed() < std::time::Duration::from_secs(10),
        "it waited for idle connections"
    );
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off_at_the_deadline() {
    let origin = TestOrigin::saying("hello").await;
    let mut node = node(&origin, "[timeouts]\ndrain = '500ms'").await;
    let waiting = held_request(&node, &origin).await;
    node.terminate();
    node.ended().await;
    assert!(waiting.await.unwrap().is_err());
}
