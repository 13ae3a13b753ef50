//! Purging: by URL, prefix, tag, stage, everything; hard and soft; by the admin address and by the command line.

use std::process::Command;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tidegate_tests::{Api, Operation, Reply, TestNode, TestOrigin, binary, text};

/// Tags each response by the first segment of its path, and by "all"; answers conditions.
async fn tagging() -> TestOrigin {
    TestOrigin::start(|request: Request<Incoming>| async move {
        let first = request.uri().path().split('/').nth(1).unwrap_or_default();
        let same = request.headers().contains_key("if-none-match");
        Response::builder()
            .status(if same { 304 } else { 200 })
            .header("cache-control", "max-age=600")
            .header("etag", "\"v\"")
            .header("surrogate-key", format!("{first} everything"))
            .header("cache-tag", "cloud, flare")
            .body(text(if same { "" } else { "content" }))
            .unwrap()
    })
    .await
}

async fn two_stages(origin: &TestOrigin) -> TestNode {
    let api = Api::new().route("ANY /{proxy+}", Operation::proxy("http://origin/{proxy}"));
    TestNode::with("")
        .api_with(
            "api",
            &api.text(),
            "[api.stage.test]\ncache = 'http'\n[api.stage.other]\ncache = 'http'",
        )
        .upstream("origin", origin.address())
        .start()
        .await
}

async fn purge(node: &TestNode, query: &str) -> Reply {
    let request = Request::builder()
        .method("PUT")
        .uri(format!("/tidegate/v1/cache/purge?{query}"))
        .header("host", node.admin_address().to_string())
        .body(Bytes::new());
    node.ask_admin(request.unwrap()).await
}

const PATHS: [&str; 5] = [
    "/test/a/1",
    "/test/a/2?q=1",
    "/test/b",
    "/test/ab",
    "/other/a/1",
];

#[tokio::test]
async fn a_purge_removes_what_it_names_and_nothing_else() {
    let origin = tagging().await;
    let node = two_stages(&origin).await;
    let host = format!(
        "http://api.execute-api.local.localhost:{}",
        node.address().port()
    );
    let cases: [(String, &[&str]); 14] = [
        ("url=/b".into(), &["/test/b"]),
        ("url=/a/1".into(), &["/test/a/1", "/other/a/1"]),
        ("url=/a/2".into(), &[]),
        ("url=/a/2%3Fq=1".into(), &["/test/a/2?q=1"]),
        (format!("url={host}/b"), &["/test/b"]),
        ("url=http://elsewhere/b".into(), &[]),
        (
            "prefix=/a/".into(),
            &["/test/a/1", "/test/a/2?q=1", "/other/a/1"],
        ),
        (
            "prefix=/a".into(),
            &["/test/a/1", "/test/a/2?q=1", "/test/ab", "/other/a/1"],
        ),
        ("tag=b".into(), &["/test/b"]),
        ("tag=flare".into(), &PATHS),
        ("tag=nothing".into(), &[]),
        ("stage=api/other".into(), &["/other/a/1"]),
        ("stage=api".into(), &PATHS),
        ("all=true".into(), &PATHS),
    ];
    for (query, gone) in cases {
        for path in PATHS {
            node.get(path).await.assert_status(200);
        }
        let reply = purge(&node, &query).await;
        reply.assert_status(200);
        assert_eq!(
            reply.json(),
            json!({ "purged": gone.len(), "soft": false }),
            "{query}"
        );
        for path in PATHS {
            let before = origin.requests();
            node.get(path).await.assert_status(200);
            assert_eq!(
                origin.requests() > before,
                gone.contains(&path),
                "{query} {path}"
            );
        }
    }
}

#[tokio::test]
async fn a_soft_purge_has_the_origin_asked_whether_it_still_holds() {
    let origin = tagging().await;
    let node = two_stages(&origin).await;
    node.get("/test/b").await;
    let reply = purge(&node, "tag=b&soft=true").await;
    assert_eq!(reply.json(), json!({ "purged": 1, "soft": true }));
    for _ in 0..2 {
        let reply = node.get("/test/b").await;
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (200, "content")
        );
    }
    assert_eq!(origin.requests(), 2);
    let labels = [("outcome", "revalidated")];
    let metrics = node.metrics().await;
    assert_eq!(metrics.sum("tidegate_cache_requests_total", &labels), 1.0);
}

#[tokio::test]
async fn a_response_that_was_asked_for_before_a_purge_is_not_kept_after_it() {
    let origin = tagging().await;
    let node = std::sync::Arc::new(two_stages(&origin).await);
    origin.hold();
    let asking = node.clone();
    let viewer = tokio::spawn(async move { asking.get("/test/b").await });
    tidegate_tests::until("the origin is asked", async || {
        (origin.requests() == 1).then_some(())
    })
    .await;
    purge(&node, "url=/b").await.assert_status(200);
    origin.release();
    viewer.await.unwrap().assert_status(200);
    node.get("/test/b").await;
    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn what_names_nothing_or_two_things_is_refused() {
    let origin = tagging().await;
    let node = two_stages(&origin).await;
    for query in ["", "url=/a&tag=b", "url=nowhere", "all=yes"] {
        assert_eq!(purge(&node, query).await.status.as_u16(), 400, "{query}");
    }
    let get = node.admin("/tidegate/v1/cache/purge?all=true").await;
    assert_eq!(get.status.as_u16(), 404, "a page could send it");
}

#[tokio::test]
async fn the_command_line_purges_and_shows() {
    let origin = tagging().await;
    let node = two_stages(&origin).await;
    node.get("/test/a/2?q=1").await;
    let run = |arguments: &[&str]| {
        let output = Command::new(binary())
            .args(arguments)
            .args(["--admin", &node.admin_address().to_string()])
            .output()
            .expect("the command starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), said)
    };
    let (done, said) = run(&["cache", "show", "--json"]);
    let figures: Value = serde_json::from_str(&said).unwrap();
    assert!(done);
    assert_eq!(
        (&figures["entries"], &figures["requests"]["miss"]),
        (&json!(1), &json!(1))
    );
    let cases = [
        (&["cache", "purge", "--tag", "a b&c"][..], "0 purged\n"),
        (
            &["cache", "purge", "--url", "/a/2?q=1", "--soft"],
            "1 purged\n",
        ),
        (&["cache", "purge", "--prefix", "/a/"], "1 purged\n"),
        (&["cache", "purge", "--stage", "api/test"], "0 purged\n"),
        (
            &["cache", "purge", "--all", "--json"],
            "{\"purged\":0,\"soft\":false}\n",
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(run(arguments), (true, expected.to_owned()), "{arguments:?}");
    }
    assert!(!run(&["cache", "purge"]).0);
    assert!(!run(&["cache", "purge", "--all", "--tag", "b"]).0);
}
