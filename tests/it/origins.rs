//! Several origins in front of an edge: which one is asked, and which one next.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_tests::linked::{api_to, edge, follower_setup, in_step, origin_to, ready, snapshot};
use tidegate_tests::{Load, Operation, Passes, Router, TestNode, TestOrigin, until};

/// Two origins of a region, the second of which serves what the first does.
struct Origins {
    first: TestNode,
    second: TestNode,
    /// Between the two.
    between: Router,
    /// From edges to each: the way to one of them is longer.
    ways: [Router; 2],
}

impl Origins {
    /// The way to the first is `late.0` long, that to the second `late.1`.
    async fn start(upstream: &TestOrigin, late: (Duration, Duration)) -> Self {
        let first = origin_to(upstream).await;
        let between = Router::start(first.link()).await;
        let link = "[link]\naddress = '127.0.0.1:0'";
        let second = follower_setup("second", "origin", &first, &[between.address], link)
            .start()
            .await;
        ready(&second).await;
        let ways = [
            Router::start_late(first.link(), late.0).await,
            Router::start_late(second.link(), late.1).await,
        ];
        in_step(&first, &[&second]).await;
        Self {
            first,
            second,
            between,
            ways,
        }
    }

    /// An edge of both that has measured how far they are; the farther one stands first in its configuration.
    async fn edge(&self) -> TestNode {
        let mut addresses: Vec<SocketAddr> = self.ways.iter().map(|way| way.address).collect();
        addresses.reverse();
        let edge = edge("edge-1", &self.first, &addresses).await;
        in_step(&self.first, &[&edge]).await;
        for origin in [&self.first, &self.second] {
            until("the way has been measured", async || {
                let nodes = tidegate_tests::linked::nodes(origin).await;
                let node = nodes.iter().find(|node| node["name"] == "edge-1")?;
                node["rttMs"].as_f64()
            })
            .await;
        }
        edge
    }
}

/// A way that is longer than the other, whatever else the machine does.
const FAR: Duration = Duration::from_millis(60);
const NEAR: Duration = Duration::ZERO;

#[tokio::test]
async fn an_origin_that_is_killed_under_load_costs_no_answer_for_longer_than_two_seconds() {
    let upstream = TestOrigin::saying("hello").await;
    let origins = Origins::start(&upstream, (NEAR, FAR)).await;
    let edge = origins.edge().await;
    let load = Load::start(&edge, "/test/open/a", 4);
    load.more(200).await;
    let killed = Instant::now();
    let _first = origins.first.kill9().await;
    load.more(200).await;
    let took = killed.elapsed();
    let tally = load.stop().await;
    tally.assert_answered(200);
    assert!(tally.slowest < Duration::from_secs(2), "{tally:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn an_origin_that_ends_in_order_loses_no_request() {
    let upstream = TestOrigin::saying("hello").await;
    let origins = Origins::start(&upstream, (NEAR, FAR)).await;
    let edge = origins.edge().await;
    let load = Load::start(&edge, "/test/open/a", 4);
    load.more(200).await;
    let began = Instant::now();
    origins.first.stop().await;
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    load.more(200).await;
    load.stop().await.assert_answered(200);
}

#[tokio::test]
async fn what_is_not_safe_is_never_asked_of_a_second_origin() {
    for (method, times) in [("GET", 2), ("POST", 1)] {
        let upstream = TestOrigin::saying("hello").await;
        let origins = Origins::start(&upstream, (NEAR, FAR)).await;
        let edge = Arc::new(origins.edge().await);
        upstream.hold();
        let asking = tokio::spawn({
            let edge = edge.clone();
            async move {
                let request = edge.build(method, "/test/open/a").body(Bytes::new());
                edge.request(request.unwrap()).await
            }
        });
        until("the nearest origin has asked", async || {
            (upstream.requests() == 1).then_some(())
        })
        .await;
        let _first = origins.first.kill9().await;
        if times == 2 {
            until("the other one has asked", async || {
                (upstream.requests() == 2).then_some(())
            })
            .await;
        }
        upstream.release();
        let reply = asking.await.unwrap();
        assert_eq!(
            reply.status == 200,
            times == 2,
            "{method}: {}",
            reply.text()
        );
        // The edge is well, and so is what else it is asked.
        let again = edge.build(method, "/test/open/a").body(Bytes::new());
        assert_eq!(edge.request(again.unwrap()).await.status, 200);
        assert_eq!(upstream.requests(), times + 1, "{method}");
    }
}

/// Asks for something that only an origin can answer, in both ways: once whole, and once as it comes.
async fn assert_forwards(edge: &TestNode, path: &str) {
    for turn in 0..8 {
        let whole = edge.build("GET", path).body(Bytes::new()).unwrap();
        let coming = edge.build("POST", path).body("content".into()).unwrap();
        for request in [whole, coming] {
            let method = request.method().clone();
            let reply = edge.request(request).await;
            assert_eq!(
                reply.status,
                200,
                "{turn} {method} {path}: {}",
                reply.text()
            );
        }
    }
}

/// An edge is told of a snapshot by the origin where it was deployed, and is nearer to one that has not heard of it.
#[tokio::test]
async fn an_edge_that_is_ahead_of_an_origin_asks_another() {
    let upstream = TestOrigin::saying("hello").await;
    let origins = Origins::start(&upstream, (FAR, NEAR)).await;
    let edge = origins.edge().await;
    assert_forwards(&edge, "/test/open/a").await;
    let old = snapshot(&origins.second).await;
    origins.between.let_pass(Passes::Nothing);
    let uri = format!("http://{}/{{proxy}}", upstream.address());
    let api = api_to(&upstream).route("ANY /new/{proxy+}", Operation::proxy(&uri));
    std::fs::write(origins.first.path("api.openapi.yaml"), api.text()).unwrap();
    until("the edge serves it", async || {
        (snapshot(&edge).await != old).then_some(())
    })
    .await;
    assert_eq!(snapshot(&origins.second).await, old, "it is cut off");
    assert_forwards(&edge, "/test/new/a").await;
    assert_forwards(&edge, "/test/open/a").await;
}

/// Lets no more files of snapshots onto a node's disk.
fn stick(node: &TestNode) {
    let files = node.path("data/snapshot/files");
    std::fs::remove_dir_all(&files).unwrap();
    std::fs::write(&files, "no folder").unwrap();
}

/// Deploys something else at an origin, and waits until it is served.
async fn deploy(origin: &TestNode, upstream: &TestOrigin, what: &str) {
    let before = snapshot(origin).await;
    let api = api_to(upstream).route(&format!("GET /{what}"), Operation::mock(what));
    std::fs::write(origin.path("api.openapi.yaml"), api.text()).unwrap();
    until("it is served", async || {
        (snapshot(origin).await != before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_edge_that_stays_behind_is_answered_by_what_it_decides_by() {
    let upstream = TestOrigin::saying("hello").await;
    let origin = origin_to(&upstream).await;
    let edge = edge("edge-1", &origin, &[]).await;
    let old = snapshot(&edge).await;
    stick(&edge);
    // More than an origin keeps of what nobody asks by.
    for turn in 0..12 {
        deploy(&origin, &upstream, &format!("new-{turn}")).await;
        assert_forwards(&edge, "/test/open/a").await;
    }
    assert_eq!(snapshot(&edge).await, old);
}

#[tokio::test]
async fn what_an_origin_has_done_nothing_about_another_one_answers() {
    let upstream = TestOrigin::saying("hello").await;
    let mut origins = Origins::start(&upstream, (NEAR, FAR)).await;
    let edge = origins.edge().await;
    stick(&edge);
    deploy(&origins.first, &upstream, "new").await;
    in_step(&origins.first, &[&origins.second]).await;
    // Started again, it knows nothing of what was before.
    origins.first = origins.first.kill9().await.start().await;
    origins.ways[0].lead_to(origins.first.link());
    edge.until_logged(&["link down"]).await;
    until("the link is up again", async || {
        let all = tidegate_tests::linked::nodes(&origins.first).await;
        let seen = all.iter().find(|node| node["name"] == "edge-1")?;
        (seen["health"] == "behind").then_some(())
    })
    .await;
    for method in ["GET", "POST"] {
        for _ in 0..8 {
            let request = edge.build(method, "/test/open/a").body(Bytes::new());
            let reply = edge.request(request.unwrap()).await;
            assert_eq!(reply.status, 200, "{method}: {}", reply.text());
        }
    }
    origins
        .first
        .until_logged(&["forwarded request refused", "is not served here"])
        .await;
}
