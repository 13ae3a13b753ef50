//! The ways between edges and origins: what becomes of a link whose path changes, falls silent or carries much at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Response};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use tidegate_tests::linked::{api_to, edge, edge_with, origin_named, origin_to, without_udp};
use tidegate_tests::{Body, Load, Passes, Router, TestNode, TestOrigin, text, until};
use tokio::task::JoinSet;

#[tokio::test]
async fn a_link_survives_that_its_path_changes() {
    let upstream = TestOrigin::saying("hello").await;
    let origin = origin_to(&upstream).await;
    let router = Router::start(origin.link()).await;
    let edge = edge("edge-1", &origin, &[router.address]).await;
    let load = Load::start(&edge, "/test/open/a", 4);
    for _ in 0..3 {
        load.more(100).await;
        router.restart();
    }
    load.more(100).await;
    load.stop().await.assert_only(200);
    let down = edge
        .log()
        .into_iter()
        .find(|line| line.contains("link down"));
    assert_eq!(down, None);
    let over = edge.log().into_iter().find(|line| line.contains("Tcp"));
    assert_eq!(over, None, "there is no way for TCP");
}

/// Waits until so many lines have these words.
async fn logged(node: &TestNode, words: &str, times: usize) {
    until("lines of the log", async || {
        let log = node.log();
        let lines = log.iter().filter(|line| line.contains(words));
        (lines.count() >= times).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_link_that_is_made_again_sends_what_is_safe_with_its_first_packet() {
    let upstream = TestOrigin::echo().await;
    let origin = origin_to(&upstream).await;
    let router = Router::start(origin.link()).await;
    let more = "[log]\nlevel = 'info,tidegate=debug'";
    let edge = edge_with("edge-1", &origin, &[router.address], more).await;
    assert_eq!(edge.get("/test/open/a").await.status, 200);
    router.let_pass(Passes::Nothing);
    logged(&edge, "link down", THREADS).await;
    router.let_pass(Passes::Everything);
    logged(&edge, "link up", 2 * THREADS).await;
    edge.until_logged(&["early data accepted"]).await;
    for method in ["GET", "POST"] {
        let request = edge.build(method, "/test/open/a").body(Bytes::new());
        let reply = edge.request(request.unwrap()).await;
        assert_eq!(reply.status, 200, "{method}: {}", edge.log().join("\n"));
    }
}

/// Requests under way, each on a connection of its own; gives their statuses.
fn asking(edge: &Arc<TestNode>, method: &'static str, count: usize) -> JoinSet<u16> {
    let mut asked = JoinSet::new();
    for _ in 0..count {
        let edge = edge.clone();
        asked.spawn(async move {
            let request = edge.build(method, "/test/open/a").body(Bytes::new());
            edge.request(request.unwrap()).await.status.as_u16()
        });
    }
    asked
}

#[tokio::test]
async fn what_is_not_safe_waits_for_the_handshake() {
    let seen = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counted = seen.clone();
    let upstream = TestOrigin::start(move |request| {
        let place = usize::from(request.method() == Method::POST);
        counted[place].fetch_add(1, Ordering::SeqCst);
        async { Response::new(text("hello")) }
    })
    .await;
    let origin = origin_to(&upstream).await;
    let router = Router::start(origin.link()).await;
    let edge = Arc::new(edge("edge-1", &origin, &[router.address]).await);
    let [gets, posts] = &*seen;
    edge.get("/test/open/a").await.assert_status(200);
    router.let_pass(Passes::Nothing);
    logged(&edge, "link down", THREADS).await;

    // The first packets arrive, and no answer: no handshake ends.
    router.let_pass(Passes::OneWay);
    let unsafe_ones = asking(&edge, "POST", 8);
    let safe_ones = asking(&edge, "GET", 8);
    until("early data is answered", async || {
        (gets.load(Ordering::SeqCst) > 1).then_some(())
    })
    .await;
    assert_eq!(
        posts.load(Ordering::SeqCst),
        0,
        "an attacker could send it again"
    );
    router.let_pass(Passes::Everything);
    assert!(
        safe_ones
            .join_all()
            .await
            .iter()
            .all(|&status| status == 200)
    );
    assert!(
        unsafe_ones
            .join_all()
            .await
            .iter()
            .all(|&status| status == 200)
    );
    assert_eq!(posts.load(Ordering::SeqCst), 8, "each once");
}

#[tokio::test]
async fn one_connection_of_each_thread_carries_everything_and_outlives_silence() {
    let upstream = TestOrigin::saying("hello").await;
    let origin = origin_to(&upstream).await;
    let router = Router::start(origin.link()).await;
    let edge = Arc::new(edge("edge-1", &origin, &[router.address]).await);
    // Longer than a connection is kept of which nothing is heard.
    let began = Instant::now();
    until("nobody has asked anything for a while", async || {
        (began.elapsed() > 2 * IDLE_TIMEOUT).then_some(())
    })
    .await;
    upstream.hold();
    let asked = asking(&edge, "GET", 100);
    until("all are under way", async || {
        (upstream.requests() == 100).then_some(())
    })
    .await;
    upstream.release();
    assert!(asked.join_all().await.iter().all(|&status| status == 200));
    let log = edge.log();
    let of = |words| log.iter().filter(|line| line.contains(words)).count();
    assert_eq!((of("link up"), of("link down")), (THREADS, 0), "{log:#?}");
}

/// A body without end, and how much of it was taken.
fn endless() -> (Body, Arc<AtomicUsize>) {
    static PIECE: [u8; 64 << 10] = [0; 64 << 10];
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let (mut pieces, body) = Channel::<Bytes, std::io::Error>::new(1);
    tokio::spawn(async move {
        while pieces.send_data(Bytes::from_static(&PIECE)).await.is_ok() {
            count.fetch_add(PIECE.len(), Ordering::Relaxed);
        }
    });
    (body.boxed(), taken)
}

/// Waits until no more is taken.
async fn settled(taken: &AtomicUsize) -> usize {
    let mut last = (0, Instant::now());
    until("nothing more is taken", async || {
        let now = taken.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        }
        (now > 0 && last.1.elapsed() > Duration::from_secs(1)).then_some(now)
    })
    .await
}

#[tokio::test]
async fn a_link_takes_no_more_than_who_reads_at_its_other_end() {
    let limits = "[limits]\nbody = '100GiB'\n";
    for over_tcp in [false, true] {
        let (down, sent) = endless();
        let down = std::sync::Mutex::new(Some(down));
        let upstream = TestOrigin::start(move |request| {
            let down = down.lock().unwrap().take().unwrap_or_else(|| text(""));
            async move {
                if request.uri().path() == "/unread" {
                    std::future::pending::<()>().await;
                }
                Response::new(down)
            }
        })
        .await;
        let origin = origin_named("home", limits)
            .api(&api_to(&upstream))
            .start()
            .await;
        let ways = match over_tcp {
            false => vec![],
            true => vec![without_udp(origin.link()).await],
        };
        let edge = edge_with("edge-1", &origin, &ways, limits).await;
        let nodes = [&origin, &edge];
        let before = nodes.map(TestNode::resident_bytes);
        let held = async |taken: &AtomicUsize, what: &str| {
            let bytes = settled(taken).await;
            println!("{what}, TCP {over_tcp}: {} KiB are under way", bytes >> 10);
            assert!(bytes < BYTES_ON_THE_WAY, "{what}: {bytes} were taken");
            for (node, before) in nodes.iter().zip(before) {
                let grown = node.resident_bytes().saturating_sub(before);
                assert!(grown < 32 << 20, "{what}: a node grew by {grown} bytes");
            }
        };

        let request = edge
            .build("GET", "/test/open/endless")
            .body(text(""))
            .unwrap();
        let unread = edge.connect().await.send(request).await.unwrap();
        assert_eq!(unread.status(), 200);
        held(&sent, "a response").await;
        drop(unread);

        let (up, taken) = endless();
        let request = edge.build("POST", "/test/open/unread").body(up).unwrap();
        let mut connection = edge.connect().await;
        let sending = tokio::spawn(async move { connection.send(request).await.is_ok() });
        held(&taken, "a request").await;
        sending.abort();
    }
}

/// Of an edge: two that serve, and one that follows.
const THREADS: usize = 3;
/// That of the link's QUIC, or more.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Windows of four connections, and what the kernel keeps for them.
const BYTES_ON_THE_WAY: usize = 48 << 20;
