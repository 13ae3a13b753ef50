//! Quotas: what is admitted in a period, on one node, over its ends, and on several nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::json;
use tidegate_tests::linked::{edge, in_step, origin_named};
use tidegate_tests::{Api, Operation, PATIENCE, TestNode, until, until_within};
use tokio::task::JoinSet;

/// Admits `limit` in a day.
fn limited(limit: u32) -> Operation {
    let quota = json!({ "quota": format!("of {limit}"), "limit": limit, "period": "day" });
    Operation::mock("hello").step("throttle", "quota", quota)
}

fn seconds_until_midnight() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    86_400 - now.as_secs() % 86_400
}

/// A day that begins in the middle of a test begins its quotas anew.
pub async fn not_at_midnight() {
    until_within(3 * PATIENCE, "the day is not about to end", async || {
        (seconds_until_midnight() > 45).then_some(())
    })
    .await;
}

/// Requests on one connection until so many were refused; counts the admitted ones.
async fn ask_until_refused(node: &TestNode, path: &str, times: usize) -> u64 {
    let mut connection = node.connect().await;
    let (mut admitted, mut refused) = (0, 0);
    while refused < times {
        let request = node.build("GET", path).body(Bytes::new()).unwrap();
        match connection.ask(request).await.unwrap().status.as_u16() {
            200 => admitted += 1,
            429 => refused += 1,
            other => panic!("{other}"),
        }
    }
    admitted
}

#[tokio::test]
async fn a_quota_admits_its_limit_and_then_says_when_it_begins_anew() {
    not_at_midnight().await;
    let quota =
        json!({ "limit": 5, "offset": 2, "period": "day", "key": ["$request.header.x-caller"] });
    let api = Api::new().route("GET /all", limited(70)).route(
        "GET /each",
        Operation::mock("hello").step("throttle", "quota", quota),
    );
    let node = Arc::new(TestNode::with("").api(&api).start().await);
    let mut asking = JoinSet::new();
    for _ in 0..4 {
        let node = node.clone();
        asking.spawn(async move { ask_until_refused(&node, "/test/all", 5).await });
    }
    let admitted: u64 = asking.join_all().await.into_iter().sum();
    assert_eq!(admitted, 70);

    let before = seconds_until_midnight();
    let refused = node.get("/test/all").await;
    refused.assert_error(429, "Limit Exceeded");
    assert_eq!(refused.header("x-amzn-errortype"), "LimitExceededException");
    let renews_in: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!(
        (before - 5..=before).contains(&renews_in),
        "{renews_in} of {before}"
    );

    for caller in ["a", "b"] {
        let ask = || node.ask(node.build("GET", "/test/each").header("x-caller", caller));
        for _ in 0..3 {
            ask().await.assert_status(200); // the limit less the offset
        }
        ask().await.assert_error(429, "Limit Exceeded");
    }
}

#[tokio::test]
async fn what_was_admitted_outlives_the_node() {
    not_at_midnight().await;
    let api = Api::new()
        .route("GET /killed", limited(400))
        .route("GET /stopped", limited(100));
    let node = TestNode::with("").api(&api).start().await;
    let mut connection = node.connect().await;
    for _ in 0..30 {
        let request = node
            .build("GET", "/test/stopped")
            .body(Bytes::new())
            .unwrap();
        assert_eq!(connection.ask(request).await.unwrap().status, 200);
    }
    let node = node.stop().await.start().await;
    assert_eq!(
        ask_until_refused(&node, "/test/stopped", 5).await,
        70,
        "what was at hand is given back"
    );

    let node = Arc::new(node);
    let admitted = Arc::new(AtomicU64::new(0));
    let mut asking = JoinSet::new();
    for _ in 0..4 {
        let (node, admitted) = (node.clone(), admitted.clone());
        asking.spawn(async move {
            let mut connection = node.connect().await;
            let request = || {
                node.build("GET", "/test/killed")
                    .body(Bytes::new())
                    .unwrap()
            };
            while let Ok(reply) = connection.ask(request()).await {
                assert_eq!(reply.status, 200);
                if admitted.fetch_add(1, Ordering::Relaxed) == 150 {
                    node.kill();
                }
            }
        });
    }
    asking.join_all().await;
    let node = Arc::into_inner(node).expect("all have ended");
    let node = node.kill9().await.start().await;
    let before = admitted.load(Ordering::Relaxed);
    let after = ask_until_refused(&node, "/test/killed", 5).await;
    println!("admitted of 400: {before} before the kill, {after} after it");
    // A chunk is a twentieth at most; four answers may have been lost.
    assert!(
        (376..=400).contains(&(before + after)),
        "{before} + {after}"
    );
}

/// Asks each edge until told to stop; the first one without a pause.
struct Asking {
    stop: Arc<AtomicBool>,
    admitted: Arc<[AtomicU64; 4]>,
    refused: Arc<[AtomicU64; 4]>,
    tasks: JoinSet<()>,
}

impl Asking {
    fn start(edges: &[Arc<TestNode>], path: &'static str, even: bool) -> Self {
        let asking = Self {
            stop: Arc::default(),
            admitted: Arc::default(),
            refused: Arc::default(),
            tasks: JoinSet::new(),
        };
        let mut tasks = JoinSet::new();
        for (place, node) in edges.iter().enumerate() {
            let node = node.clone();
            let (stop, admitted, refused) = (
                asking.stop.clone(),
                asking.admitted.clone(),
                asking.refused.clone(),
            );
            tasks.spawn(async move {
                let mut connection = node.connect().await;
                let pause = match (even, place) {
                    (true, _) => 5,
                    (false, 0) => 2,
                    (false, _) => 40,
                };
                let mut ticks = tokio::time::interval(std::time::Duration::from_millis(pause));
                while !stop.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let request = node.build("GET", path).body(Bytes::new()).unwrap();
                    let counts = match connection.ask(request).await.unwrap().status.as_u16() {
                        200 => &admitted,
                        429 => &refused,
                        other => panic!("{other}"),
                    };
                    counts[place].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { tasks, ..asking }
    }

    fn by_edge(&self) -> [u64; 4] {
        std::array::from_fn(|place| self.admitted[place].load(Ordering::Relaxed))
    }

    fn admitted(&self) -> u64 {
        self.by_edge().iter().sum()
    }

    /// Waits until every edge has refused `times` more.
    async fn refused_everywhere(&self, times: u64) {
        let refused = || {
            self.refused
                .each_ref()
                .map(|count| count.load(Ordering::Relaxed))
        };
        let before = refused();
        until("every edge refuses", async || {
            let more = refused()
                .into_iter()
                .zip(before)
                .all(|(now, before)| now >= before + times);
            more.then_some(())
        })
        .await;
    }

    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let admitted = self.admitted.clone();
        self.tasks.join_all().await;
        admitted
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }
}

async fn four_edges(api: &Api) -> (TestNode, Vec<Arc<TestNode>>) {
    let origin = origin_named("home", "").api(api).start().await;
    let mut edges = Vec::new();
    for name in ["one", "two", "three", "four"] {
        edges.push(Arc::new(edge(name, &origin, &[]).await));
    }
    in_step(
        &origin,
        &edges.iter().map(|edge| &**edge).collect::<Vec<_>>(),
    )
    .await;
    (origin, edges)
}

#[tokio::test]
async fn four_edges_share_a_quota_by_what_they_are_asked_for() {
    not_at_midnight().await;
    let (origin, edges) = four_edges(&Api::new().route("GET /a", limited(1000))).await;
    let asking = Asking::start(&edges, "/test/a", false);
    until("nearly all of the quota is used", async || {
        (asking.admitted() >= 950).then_some(())
    })
    .await;
    let by_edge = asking.by_edge();
    asking.refused_everywhere(5).await;
    let admitted = asking.stop().await;
    println!("admitted of 1000: {admitted}, by edge {by_edge:?}");
    assert!((950..=1050).contains(&admitted), "{by_edge:?}");
    assert!(
        by_edge[1..].iter().all(|&one| one >= 10),
        "who asks for little gets it: {by_edge:?}"
    );
    assert!(
        ask_until_refused(&origin, "/test/a", 5).await + admitted <= 1000,
        "it is one quota"
    );
}

#[tokio::test]
async fn edges_that_are_cut_off_admit_twice_the_quota_at_most_and_report_it() {
    not_at_midnight().await;
    let limit = 2000;
    let (origin, edges) = four_edges(&Api::new().route("GET /a", limited(limit))).await;
    let limit = u64::from(limit);
    let asking = Asking::start(&edges, "/test/a", true);
    until("some of the quota is used", async || {
        (asking.admitted() >= 200).then_some(())
    })
    .await;
    origin.pause();
    let before = asking.admitted();
    asking.refused_everywhere(20).await;
    let alone = asking.admitted();
    println!("admitted of {limit}: {before} before the origin was gone, {alone} without it");
    assert!((limit / 2..=2 * limit).contains(&alone), "{alone}");
    origin.resume();
    for edge in &edges {
        edge.until_logged(&["quotas", "an origin answers again"])
            .await;
    }
    asking.refused_everywhere(20).await;
    let admitted = asking.stop().await;
    let at_origin = ask_until_refused(&origin, "/test/a", 5).await;
    println!(
        "and {} after it was back, {at_origin} at the origin",
        admitted - alone
    );
    let all = admitted + at_origin;
    assert!(all <= 2 * limit, "{admitted} + {at_origin}");
    assert!(
        all <= limit.max(alone) + limit / 20,
        "what the edges admitted alone is counted: {alone}, then {all}"
    );
}
