//! The cache's disk tier: what outlives a restart and a kill, what does not come back, and what a disk that is damaged or
//! full comes to.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::json;
use tidegate_tests::{Api, Operation, Reply, Stopped, TestNode, TestOrigin, say_skipped, text};

/// An origin whose responses count as their body, vary on the language, and have a validator and a tag.
async fn counting() -> TestOrigin {
    let count = Arc::new(AtomicUsize::new(0));
    TestOrigin::start(move |request: Request<Incoming>| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            let path = request.uri().path();
            let padding = match path.strip_prefix("/large/") {
                Some(_) => 64 << 10,
                None => 0,
            };
            let tag = path.split('/').nth(1).unwrap_or_default().to_owned();
            Response::builder()
                .header("cache-control", "max-age=600")
                .header("etag", format!("\"{number}\""))
                .header("vary", "accept-language")
                .header("surrogate-key", tag)
                .header("x-line", "one")
                .header("x-line", "two")
                .body(text(format!("secret {number}{}", " ".repeat(padding))))
                .unwrap()
        }
    })
    .await
}

async fn caching(origin: &TestOrigin, cache: &str, stage: &str) -> TestNode {
    let api = Api::new().route("ANY /{proxy+}", Operation::proxy("http://origin/{proxy}"));
    TestNode::with(&format!("[cache]\n{cache}"))
        .api_with("api", &api.text(), &format!("[api.stage.test]\n{stage}"))
        .upstream("origin", origin.address())
        .start()
        .await
}

async fn on_disk(origin: &TestOrigin) -> TestNode {
    caching(origin, "disk = '64MiB'", "cache = 'http'").await
}

/// Waits until so many entries have been written.
async fn written(node: &TestNode, count: f64) {
    node.until("entries are written", |metrics| {
        metrics.sum("tidegate_cache_disk_writes_total", &[]) >= count
    })
    .await;
}

/// Waits until what an earlier process left has been looked through.
async fn recovered(node: &TestNode) {
    node.until_logged(&["the cache on disk has been looked through"])
        .await;
}

async fn purge(node: &TestNode, query: &str) -> Reply {
    let request = Request::builder()
        .method("PUT")
        .uri(format!("/tidegate/v1/cache/purge?{query}"))
        .header("host", node.admin_address().to_string())
        .body(Bytes::new());
    node.ask_admin(request.unwrap()).await
}

/// The files of the tier that have responses, the oldest first.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "segment")
        })
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn what_was_stored_is_served_after_a_restart_and_after_a_kill() {
    let origin = counting().await;
    let node = on_disk(&origin).await;
    let german = |node: &TestNode| {
        node.build("GET", "/test/a?q=1")
            .header("accept-language", "de")
    };
    node.get("/test/a?q=1").await.assert_status(200);
    node.ask(german(&node)).await.assert_status(200);
    written(&node, 2.0).await;
    let node = node.stop().await.start_again().await;
    recovered(&node).await;
    let reply = node.get("/test/a?q=1").await;
    assert_eq!(reply.text(), "secret 1");
    assert_eq!(reply.header("etag"), "\"1\"");
    let lines: Vec<_> = reply.headers.get_all("x-line").iter().collect();
    assert_eq!(lines, ["one", "two"]);
    assert!(
        reply
            .header("cache-status")
            .starts_with("Tidegate; hit; ttl=")
    );
    assert!(reply.header("age").parse::<u64>().is_ok());
    assert_eq!(node.ask(german(&node)).await.text(), "secret 2");
    let same = node
        .build("GET", "/test/a?q=1")
        .header("if-none-match", "\"1\"");
    assert_eq!(node.ask(same).await.status.as_u16(), 304);
    assert_eq!(node.get("/test/b").await.text(), "secret 3");
    written(&node, 1.0).await;
    let node = node.kill9().await.start_again().await;
    recovered(&node).await;
    assert_eq!(node.get("/test/b").await.text(), "secret 3");
    assert_eq!(node.get("/test/a?q=1").await.text(), "secret 1");
    assert_eq!(origin.requests(), 3);
    let metrics = node.metrics().await;
    assert_eq!(metrics.sum("tidegate_cache_disk_hits_total", &[]), 2.0);
    assert_eq!(metrics.sum("tidegate_cache_disk_entries", &[]), 2.0);
    let show = node.admin("/tidegate/v1/cache").await.json();
    assert_eq!(
        (&show["entries"], &show["disk"]["entries"]),
        (&json!(2), &json!(2))
    );
}

#[tokio::test]
async fn what_was_purged_or_changed_does_not_come_back_after_a_kill() {
    let origin = counting().await;
    let node = on_disk(&origin).await;
    let paths = [
        "/test/a",
        "/test/b",
        "/test/c/1",
        "/test/d",
        "/test/e",
        "/test/f",
    ];
    for (number, path) in paths.iter().enumerate() {
        assert_eq!(
            node.get(path).await.text(),
            format!("secret {}", number + 1)
        );
    }
    written(&node, 6.0).await;
    // What is purged is not only in memory.
    let node = node.stop().await.start_again().await;
    recovered(&node).await;
    for query in ["url=/a", "tag=b", "prefix=/c/", "tag=e&soft=true"] {
        purge(&node, query).await.assert_status(200);
    }
    node.post("/test/d", "{}").await.assert_status(200);
    let node = node.kill9().await.start_again().await;
    recovered(&node).await;
    let before = origin.requests();
    for (number, path) in paths.iter().enumerate() {
        let gone = node.get(path).await.text() != format!("secret {}", number + 1);
        assert_eq!(gone, *path != "/test/f", "{path}");
    }
    assert_eq!(origin.requests(), before + 5);
    purge(&node, "all=true").await.assert_status(200);
    let node = node.kill9().await.start_again().await;
    recovered(&node).await;
    for path in paths {
        node.get(path).await.assert_status(200);
    }
    assert_eq!(origin.requests(), before + 5 + 6);
}

#[tokio::test]
async fn a_damaged_record_is_left_out_with_a_line_and_so_is_a_damaged_file() {
    let origin = counting().await;
    let node = on_disk(&origin).await;
    for path in ["/test/a", "/test/b", "/test/c"] {
        node.get(path).await.assert_status(200);
    }
    written(&node, 3.0).await;
    let stopped = node.stop().await;
    let folder = stopped.folder().join("data/cache");
    let file = segments(&folder).remove(0);
    let content = fs::read(&file).unwrap();
    let body = content
        .windows(8)
        .position(|window| window == b"secret 1")
        .unwrap();
    let open = fs::OpenOptions::new().write(true).open(&file).unwrap();
    open.write_all_at(b"S", body as u64).unwrap();
    fs::write(folder.join("00000042.segment"), "no segment at all").unwrap();

    let node = stopped.start_again().await;
    recovered(&node).await;
    node.until_logged(&["00000042.segment", "its header is cut off"])
        .await;
    assert_eq!(node.get("/test/a").await.text(), "secret 4");
    node.until_logged(&["damaged", "its checksum is wrong"])
        .await;
    assert_eq!(node.get("/test/b").await.text(), "secret 2");
    assert_eq!(node.get("/test/c").await.text(), "secret 3");
    assert_eq!(origin.requests(), 4);

    // Where nobody knows what was purged, nothing is served.
    let stopped = node.stop().await;
    let changes = folder_of(&stopped).join("changes");
    let mut content = fs::read(&changes).unwrap();
    *content.last_mut().unwrap() ^= 1;
    fs::write(&changes, content).unwrap();
    let node = stopped.start_again().await;
    node.until_logged(&["what was purged", "a change's checksum is wrong"])
        .await;
    assert_eq!(node.get("/test/b").await.text(), "secret 5");
}

fn folder_of(stopped: &Stopped) -> PathBuf {
    stopped.folder().join("data/cache")
}

#[tokio::test]
async fn what_is_to_be_encrypted_is_and_is_of_no_use_without_its_key() {
    let origin = counting().await;
    let stage = "cache = { data-encrypted = true }";
    let node = caching(&origin, "disk = '64MiB'", stage).await;
    let private = "/test/private-path";
    node.get(private).await.assert_status(200);
    written(&node, 1.0).await;
    let stopped = node.stop().await;
    let folder = folder_of(&stopped);
    for file in segments(&folder) {
        let content = fs::read(&file).unwrap();
        for clear in [&b"secret 1"[..], b"private-path", b"x-line", b"api/test"] {
            assert!(
                !content.windows(clear.len()).any(|window| window == clear),
                "{:?} stands in {}",
                String::from_utf8_lossy(clear),
                file.display()
            );
        }
        assert_eq!(mode(&file), 0o600);
    }
    assert_eq!((mode(&folder.join("key")), mode(&folder)), (0o600, 0o700));
    let node = stopped.start_again().await;
    recovered(&node).await;
    assert_eq!(node.get(private).await.text(), "secret 1");
    let stopped = node.stop().await;
    fs::remove_file(folder.join("key")).unwrap();
    let node = stopped.start_again().await;
    node.until_logged(&["written under another key"]).await;
    assert_eq!(node.get(private).await.text(), "secret 2");
}

#[tokio::test]
async fn the_key_can_be_a_secret_of_the_nodes() {
    let origin = counting().await;
    let cache = "disk = '64MiB'\nsecret = 'tier'\npath = 'tier'\n[secret.tier]\nfile = 'tier.txt'";
    let api = Api::new().route("ANY /{proxy+}", Operation::proxy("http://origin/{proxy}"));
    let node = TestNode::with(&format!("[cache]\n{cache}"))
        .file("tier.txt", b"long and random\n")
        .api_with(
            "api",
            &api.text(),
            "[api.stage.test]\ncache = { data-encrypted = true }",
        )
        .upstream("origin", origin.address())
        .start()
        .await;
    node.get("/test/a").await.assert_status(200);
    written(&node, 1.0).await;
    assert!(!node.path("tier/key").exists());
    let node = node.stop().await.start_again().await;
    recovered(&node).await;
    assert_eq!(node.get("/test/a").await.text(), "secret 1");
    let stopped = node.stop().await;
    fs::write(stopped.folder().join("tier.txt"), "another\n").unwrap();
    let node = stopped.start_again().await;
    node.until_logged(&["written under another key"]).await;
    assert_eq!(node.get("/test/a").await.text(), "secret 2");
}

#[tokio::test]
async fn the_oldest_makes_room_for_the_newest() {
    let origin = counting().await;
    let cache = "disk = '16MiB'\nmemory = '1MiB'";
    let node = caching(&origin, cache, "cache = 'http'").await;
    // 25 MiB.
    for number in 0..400 {
        node.get(&format!("/test/large/{number}"))
            .await
            .assert_status(200);
    }
    written(&node, 400.0).await;
    let folder = node.path("data/cache");
    let bytes: u64 = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes <= 16 << 20, "{bytes}");
    let before = origin.requests();
    assert!(
        node.get("/test/large/350")
            .await
            .text()
            .starts_with("secret 351 ")
    );
    assert_eq!(
        origin.requests(),
        before,
        "from disk: memory has room for few"
    );
    node.get("/test/large/0").await.assert_status(200);
    assert_eq!(origin.requests(), before + 1);
}

/// A file system of this size, in memory.
struct Small(PathBuf);

impl Small {
    /// `None` where the test has not the rights for it.
    fn mount(path: PathBuf, bytes: usize) -> Option<Self> {
        fs::create_dir_all(&path).unwrap();
        let options = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        match mount(
            "tmpfs",
            &path,
            "tmpfs",
            MountFlags::empty(),
            options.as_c_str(),
        ) {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                say_skipped(&format!(
                    "no file system of its own can be mounted: {error}"
                ));
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_stops_the_writing_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small");
    let Some(_small) = Small::mount(path.clone(), 4 << 20) else {
        return;
    };
    let origin = counting().await;
    let cache = format!("disk = '64MiB'\npath = '{}'", path.display());
    let node = caching(&origin, &cache, "cache = 'http'").await;
    for number in 0..100 {
        let reply = node.get(&format!("/test/large/{number}")).await;
        assert!(reply.text().starts_with(&format!("secret {} ", number + 1)));
    }
    node.until_logged(&["does not write to its disk", "No space left"])
        .await;
    for number in 0..100 {
        let reply = node.get(&format!("/test/large/{number}")).await;
        assert!(reply.text().starts_with(&format!("secret {} ", number + 1)));
    }
    assert_eq!(origin.requests(), 100, "memory goes on");
    // A purge cannot be noted where not a byte is left: then nothing may be left that it is about.
    let filler = fs::File::create(path.join("filler")).unwrap();
    let mut at = 0;
    while filler.write_all_at(&[1; 4096], at).is_ok() {
        at += 4096;
    }
    let tags: String = "t".repeat(8000);
    purge(&node, &format!("tag={tags}"))
        .await
        .assert_status(200);
    purge(&node, "url=/large/0").await.assert_status(200);
    let node = node.kill9().await.start_again().await;
    assert!(
        node.get("/test/large/0")
            .await
            .text()
            .starts_with("secret 101 ")
    );
    // With room again, it goes on.
    fs::remove_file(path.join("filler")).unwrap();
    node.until("it writes again", |metrics| {
        metrics.sum("tidegate_cache_disk_stopped", &[]) == 0.0
    })
    .await;
    node.get("/test/a").await.assert_status(200);
    written(&node, 1.0).await;
}

#[tokio::test]
async fn a_directory_belongs_to_one_node() {
    let origin = counting().await;
    let node = on_disk(&origin).await;
    let path = node.path("data/cache");
    let api = Api::new().route("GET /a", Operation::mock("hello"));
    TestNode::with(&format!(
        "[cache]\ndisk = '64MiB'\npath = '{}'",
        path.display()
    ))
    .api(&api)
    .refused()
    .assert_refused(&["the cache on disk", "data/cache"]);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
