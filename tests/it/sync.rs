//! What a region serves: deployed once at its origin, on every node a moment later.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use http::Response;
use tidegate_tests::linked::{
    edge, edge_setup, edge_with, follower_setup, in_step, nodes, origin_named, put, ready,
    snapshot, without_udp,
};
use tidegate_tests::{
    Api, Load, Operation, TestNode, TestOrigin, binary, fixture, root, text, until, with_section,
};

fn saying(what: &str) -> Api {
    Api::new().route("GET /a", Operation::mock(what))
}

async fn home(api: &Api) -> TestNode {
    origin_named("home", "").api(api).start().await
}

#[tokio::test]
async fn a_deployment_reaches_every_edge_and_a_bad_one_none() {
    let origin = home(&saying("one")).await;
    let edges = [
        edge("one", &origin, &[]).await,
        edge("two", &origin, &[]).await,
    ];
    for node in &edges {
        assert_eq!(node.get("/test/a").await.text(), "one");
    }
    let definition = origin.path("api.openapi.yaml");
    let began = Instant::now();
    std::fs::write(&definition, saying("two").text()).unwrap();
    for node in &edges {
        until("the edge serves the new one", async || {
            (node.get("/test/a").await.text() == "two").then_some(())
        })
        .await;
    }
    println!("a deployment reached two edges in {:?}", began.elapsed());
    in_step(&origin, &[&edges[0], &edges[1]]).await;

    let before = snapshot(&origin).await;
    std::fs::write(&definition, "openapi: 3.0.3\ninfo: {}\n").unwrap();
    origin.until_logged(&["reload refused"]).await;
    for node in [&origin, &edges[0], &edges[1]] {
        assert_eq!(snapshot(node).await, before);
        assert_eq!(node.get("/test/a").await.text(), "two");
    }
}

async fn swap(node: &TestNode, component: &str) -> tidegate_tests::Reply {
    node.swap("stamp", std::fs::read(fixture(component)).unwrap())
        .await
}

/// What a node's log says of the snapshots that it has adopted: files, and compiled components, that it fetched.
fn fetched(node: &TestNode) -> Vec<(u64, u64)> {
    let lines = node.log().into_iter();
    let adopted = lines.filter(|line| line.contains("snapshot adopted"));
    adopted
        .map(|line| (field(&line, "files="), field(&line, "compiled=")))
        .collect()
}

fn field(line: &str, name: &str) -> u64 {
    let rest = line.split_once(name).expect("the field is there").1;
    let end = rest.find(|next: char| !next.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().unwrap()
}

#[tokio::test]
async fn an_edge_fetches_what_changed_and_compiles_nothing_that_its_origin_has() {
    let bindings = ["stamp", "other"]
        .map(|plugin| serde_json::json!({ "step": "response-transform", "plugin": plugin }));
    let operation = bindings
        .into_iter()
        .fold(Operation::mock("in"), Operation::binding);
    let version = |name: &str| {
        let component = std::fs::read(fixture("stamp-one")).unwrap();
        with_section(component, "version", name)
    };
    let debug = "[log]\nlevel = 'info,tidegate=debug'\n";
    let origin = origin_named("home", debug)
        .with_artifacts_of_its_own()
        .api(&Api::new().route("GET /a", operation))
        .plugin("stamp", &fixture("stamp-one"))
        .plugin("other", &fixture("stamp-one"))
        .file("other.wasm", &version("other"))
        .start()
        .await;
    let edge = edge_setup("one", &origin, &[], debug)
        .with_artifacts_of_its_own()
        .start()
        .await;
    ready(&edge).await;
    edge.get("/test/a").await.assert_status(200);
    // The definition and two components, and the code of these and of `mock`, which every node has.
    assert_eq!(fetched(&edge), [(3, 3)]);
    origin
        .swap("stamp", version("next"))
        .await
        .assert_status(200);
    in_step(&origin, &[&edge]).await;
    assert_eq!(fetched(&edge)[1..], [(1, 1)], "a version of one plugin");
    let compiled = |node: &TestNode| {
        let lines = node.log().into_iter();
        lines
            .filter(|line| line.contains("component compiled"))
            .count()
    };
    assert!(compiled(&origin) > 0, "a node that compiles says so");
    assert_eq!(compiled(&edge), 0, "{}", edge.log().join("\n"));
}

#[tokio::test]
async fn a_plugin_that_is_swapped_at_the_origin_is_swapped_everywhere() {
    let binding = serde_json::json!({ "step": "response-transform", "plugin": "stamp" });
    let api = Api::new().route("GET /a", Operation::mock("in").binding(binding));
    let origin = origin_named("home", "")
        .api(&api)
        .plugin("stamp", &fixture("stamp-one"))
        .start()
        .await;
    let edge = edge("one", &origin, &[]).await;
    let stamp = async |node: &TestNode| node.get("/test/a").await.header("x-stamp").to_owned();
    assert_eq!(stamp(&edge).await, "one");
    let swapped = swap(&origin, "stamp-two").await;
    assert_eq!(swapped.status, 200, "{}", swapped.text());
    until("the edge serves the new version", async || {
        (stamp(&edge).await == "two").then_some(())
    })
    .await;

    // At an edge there is nothing to be swapped.
    let refused = swap(&edge, "stamp-one").await;
    assert!(!refused.status.is_success());
    assert!(
        refused.text().contains("serves what its origins do"),
        "{}",
        refused.text()
    );
    let edge = edge.kill9().await.start().await;
    ready(&edge).await;
    assert_eq!(stamp(&edge).await, "two", "also after a restart");
}

/// The plugin stamps requests at the origin and responses at the edge.
#[tokio::test]
async fn a_request_that_two_nodes_answer_has_one_version_of_a_plugin() {
    let upstream = TestOrigin::start(|request| async move {
        let mut response = Response::new(text("hello"));
        let stamp = request.headers()["x-stamp"].clone();
        response.headers_mut().insert("x-asked", stamp);
        response
    })
    .await;
    let operation = ["request-transform", "response-transform"]
        .into_iter()
        .fold(Operation::proxy("http://origin/"), |operation, step| {
            operation.binding(serde_json::json!({ "step": step, "plugin": "stamp" }))
        });
    let origin = origin_named("home", "")
        .api(&Api::new().route("GET /a", operation))
        .plugin("stamp", &fixture("stamp-one"))
        .upstream("origin", upstream.address())
        .start()
        .await;
    let edge = edge("one", &origin, &[]).await;
    let request = edge.build("GET", "/test/a");
    let load = Load::start_checking(&edge, 8, request, |reply| {
        let (asked, answered) = (reply.header("x-asked"), reply.header("x-stamp"));
        (asked != answered).then(|| format!("asked by {asked:?}, answered by {answered:?}"))
    });
    for component in ["stamp-two", "stamp-one"].iter().cycle().take(50) {
        let before = snapshot(&edge).await;
        swap(&origin, component).await.assert_status(200);
        load.more(20).await;
        until("the edge follows", async || {
            (snapshot(&edge).await != before).then_some(())
        })
        .await;
    }
    load.stop().await.assert_only(200);
}

#[tokio::test]
async fn a_snapshot_that_was_tampered_with_on_the_disk_is_not_served() {
    let origin = home(&saying("one")).await;
    let node = edge("one", &origin, &[]).await;
    assert_eq!(node.get("/test/a").await.text(), "one");
    let path = node.path("data/snapshot/current.json.mac");
    let stopped = node.kill9().await;
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let node = stopped.start().await;
    node.until_logged(&["the last snapshot cannot be used", "tampered with"])
        .await;
    ready(&node).await; // the origin has it
    assert_eq!(node.get("/test/a").await.text(), "one");
}

#[tokio::test]
async fn an_edge_that_cannot_load_a_snapshot_keeps_the_old_one_and_says_so() {
    let origin = home(&saying("one")).await;
    let node = edge("one", &origin, &[]).await;
    // Its disk takes no more files of snapshots.
    let files = node.path("data/snapshot/files");
    std::fs::remove_dir_all(&files).unwrap();
    std::fs::write(&files, "no folder").unwrap();
    std::fs::write(origin.path("api.openapi.yaml"), saying("two").text()).unwrap();
    node.until_logged(&["snapshot refused", "the last good one serves on"])
        .await;
    assert_eq!(node.get("/test/a").await.text(), "one");
    until("the origin is told", async || {
        let all = nodes(&origin).await;
        let seen = all.iter().find(|seen| seen["name"] == "one")?;
        (seen["health"] == "behind" && seen["problem"].is_string()).then_some(())
    })
    .await;
    std::fs::remove_file(&files).unwrap();
    std::fs::create_dir(&files).unwrap();
    until("it catches up", async || {
        (node.get("/test/a").await.text() == "two").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_purge_at_the_origin_reaches_every_edge_also_one_that_was_away() {
    let upstream = TestOrigin::start(|request| async move {
        let mut response = Response::new(text(request.uri().path().to_owned()));
        let headers = response.headers_mut();
        headers.insert("cache-control", "max-age=600".parse().unwrap());
        headers.insert("cache-tag", "shop".parse().unwrap());
        response
    })
    .await;
    let uri = format!("http://{}/{{proxy}}", upstream.address());
    let api = Api::new().route("GET /{proxy+}", Operation::proxy(&uri));
    let origin = origin_named("home", "")
        .api_with("api", &api.text(), "[api.stage.test]\ncache = 'http'")
        .start()
        .await;
    let first = edge("one", &origin, &[]).await;
    // On the same port: what an origin may answer by is part of the key.
    let more = format!(
        "[[listener]]
address = '127.0.0.2:{}'
",
        first.address().port()
    );
    let second = edge_with("two", &origin, &[], &more).await;
    let edges = [first, second];
    for node in &edges {
        for _ in 0..2 {
            assert_eq!(node.get("/test/a").await.text(), "/a");
        }
    }
    assert_eq!(upstream.requests(), 1, "the origin's cache is a shield");
    let held = async |node: &TestNode| -> u64 {
        let figures = node.admin("/tidegate/v1/cache").await.json();
        figures["entries"].as_u64().unwrap()
    };
    let began = Instant::now();
    let purged = put(&origin, "/tidegate/v1/cache/purge?tag=shop").await;
    assert_eq!(purged.status, 200, "{}", purged.text());
    for node in &edges {
        until("the edge has purged", async || {
            (held(node).await == 0).then_some(())
        })
        .await;
    }
    let took = began.elapsed();
    println!("a purge reached two edges in {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");

    // One that was away hears of it when it is back: the origin has written it down.
    let log = origin.path("data/snapshot/purges");
    let text = std::fs::read_to_string(log).unwrap();
    assert!(text.contains("tag=shop"), "{text}");
}

/// An origin whose responses are kept for ten minutes, and one in front of it that says so.
async fn keeping() -> (TestOrigin, TestNode) {
    let upstream = TestOrigin::start(|request| async move {
        let mut response = Response::new(text(request.uri().path().to_owned()));
        let ten_minutes = "max-age=600".parse().unwrap();
        response.headers_mut().insert("cache-control", ten_minutes);
        response
    })
    .await;
    let uri = format!("http://{}/{{proxy}}", upstream.address());
    let api = Api::new().route("GET /{proxy+}", Operation::proxy(&uri));
    let origin = origin_named("home", "")
        .api_with("api", &api.text(), "[api.stage.test]\ncache = 'http'")
        .start()
        .await;
    (upstream, origin)
}

/// Whether a node serves a path from its store, asking nobody (RFC 9111 §5.2.1.7).
async fn holds(node: &TestNode, path: &str) -> bool {
    let asked = node
        .build("GET", path)
        .header("cache-control", "only-if-cached");
    match node.ask(asked).await.status.as_u16() {
        200 => true,
        504 => false,
        status => panic!("{status}"),
    }
}

#[tokio::test]
async fn an_edge_that_comes_back_serves_nothing_that_was_purged_meanwhile() {
    let (_upstream, origin) = keeping().await;
    // A second passes before an edge tries TCP: time enough to ask it before its link is up.
    let slow = without_udp(origin.link()).await;
    let mut edge = edge_with("one", &origin, &[slow], "[cache]\ndisk = '16MiB'").await;
    for path in ["/test/goes", "/test/stays"] {
        edge.get(path).await.assert_status(200);
    }
    edge.until("they are on the disk", |metrics| {
        metrics.sum("tidegate_cache_disk_writes_total", &[]) >= 2.0
    })
    .await;
    let stopped = edge.stop().await;
    put(&origin, "/tidegate/v1/cache/purge?url=/goes")
        .await
        .assert_status(200);
    edge = stopped.start_again().await;
    let recovered = ["the cache on disk has been looked through"];
    edge.until_logged(&recovered).await;
    assert!(!holds(&edge, "/test/goes").await, "purged, and served");
    assert!(holds(&edge, "/test/stays").await, "nobody purged it");

    // Nobody can tell what was purged: what there is is served.
    let stopped = edge.stop().await;
    let gone = origin.kill9().await;
    edge = stopped.start_again().await;
    edge.until_logged(&recovered).await;
    assert!(holds(&edge, "/test/stays").await, "no origin is there");
    drop(gone);
}

#[tokio::test]
async fn an_edge_hears_of_a_purge_by_whichever_origin_it_reaches() {
    let (_upstream, first) = keeping().await;
    let link = "[link]\naddress = '127.0.0.1:0'";
    let second = follower_setup("second", "origin", &first, &[], link)
        .start()
        .await;
    ready(&second).await;
    let edge = edge("one", &first, &[second.link()]).await;
    edge.get("/test/a").await.assert_status(200);
    assert!(holds(&edge, "/test/a").await);
    put(&first, "/tidegate/v1/cache/purge?url=/a")
        .await
        .assert_status(200);
    until("the edge has purged", async || {
        (!holds(&edge, "/test/a").await).then_some(())
    })
    .await;
}

/// A secret that comes with a snapshot is there when the plugins of that snapshot are configured.
#[tokio::test]
async fn a_secret_of_the_origin_is_at_hand_when_an_edge_configures_its_plugins() {
    let binding = serde_json::json!({
        "step": "response-transform", "plugin": "capable",
        "grants": { "secrets": ["token"], "shared-cache": true, "metrics": true },
    });
    let api = Api::new().route("GET /a", Operation::mock("in").binding(binding));
    let origin = origin_named("home", "")
        .api(&saying("none"))
        .plugin("capable", &fixture("capable"))
        .file("token.txt", b"for capable only\n")
        .start()
        .await;
    let edge = edge("one", &origin, &[]).await;
    // Both come by a reload: the plugin is bound, and the secret is new.
    let definition = origin.path("api.openapi.yaml");
    std::fs::write(definition, api.text()).unwrap();
    origin.edit("[link]", "[secret.token]\nfile = 'token.txt'\n[link]");
    for node in [&origin, &edge] {
        until("the secret is shown", async || {
            (node.get("/test/a").await.header("x-token") == "for capable only").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn edge_apis_answer_on_edges_and_regional_ones_at_their_origin_only() {
    let regional = "endpoint = 'REGIONAL'\n[api.stage.test]";
    let origin = origin_named("home", "")
        .api(&saying("everywhere"))
        .api_with("inner", &saying("at home").text(), regional)
        .start()
        .await;
    let edge = edge("one", &origin, &[]).await;
    let inner = async |node: &TestNode| node.ask(node.build_for("inner", "GET", "/test/a")).await;
    assert_eq!(edge.get("/test/a").await.text(), "everywhere");
    assert_eq!(origin.get("/test/a").await.text(), "everywhere");
    assert_eq!(inner(&origin).await.text(), "at home");
    assert_eq!(inner(&edge).await.status, 404);
}

#[tokio::test]
async fn a_node_that_has_not_joined_says_what_to_do() {
    let text = "[node]\nname = 'one'\nthreads = 2\ndata = 'data'\nrole = 'edge'\n[[origin]]\naddress = '127.0.0.1:9'";
    TestNode::with(text).refused().assert_refused(&[
        "this node has not joined its origins",
        "tidegate node token",
        "tidegate node join",
    ]);
}

#[tokio::test]
async fn an_edge_of_another_authority_is_refused() {
    let home_one = home(&saying("one")).await;
    let other = home(&saying("other")).await;
    // It has joined the one, and links to the other.
    let stranger = edge_setup("stranger", &home_one, &[other.link()], "")
        .start()
        .await;
    stranger.until_logged(&["no link"]).await;
    assert_eq!(stranger.admin("/readyz").await.status, 503);
    assert_eq!(nodes(&other).await.len(), 0);
}

/// Types the README's lines about regions, in an empty folder with copies of the configurations, on ports that are free.
#[tokio::test]
async fn the_readmes_lines_bring_up_an_origin_and_two_edges() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let section = readme.split_once("**Deploy regions.**").unwrap().1;
    let section = section.split_once("\nHow it is made:").unwrap().0;
    let blocks = section.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|block| block.split_once("```").unwrap().0.lines());
    let mut ports = HashMap::new();
    for port in ["8080", "8081", "8082", "9080", "9081", "9082", "7443"] {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        ports.insert(port, free.local_addr().unwrap().port().to_string());
    }
    let with_ports = |text: &str| {
        let mut text = text.to_owned();
        for (port, free) in &ports {
            text = text.replace(port, free);
        }
        text
    };
    let folder = tempfile::tempdir().unwrap();
    let configs = folder.path().join("configs");
    std::fs::create_dir(&configs).unwrap();
    for file in ["origin.toml", "edge.toml", "hello.openapi.yaml"] {
        let text = std::fs::read_to_string(root().join("configs").join(file)).unwrap();
        std::fs::write(configs.join(file), with_ports(&text)).unwrap();
    }
    let path = format!(
        "{}:{}",
        binary().parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let shell = |line: &str| {
        let mut command = tokio::process::Command::new("sh");
        command
            .args(["-c", &format!("exec {line}")])
            .current_dir(folder.path())
            .env("PATH", &path)
            .env("TIDEGATE_ADMIN", format!("127.0.0.1:{}", ports["9080"]))
            .kill_on_drop(true);
        command
    };
    let mut served = Vec::new();
    let mut fetched = 0;
    for line in lines {
        let line = with_ports(line);
        if line.starts_with("tidegate serve") {
            let admin = ["9080", "9081", "9082"][served.len()];
            let node = shell(&line).spawn().unwrap();
            let ready = format!("http://127.0.0.1:{}/readyz", ports[admin]);
            until("the node is ready", async || {
                let asked = shell(&format!("curl -sf {ready}")).output().await.unwrap();
                asked.status.success().then_some(())
            })
            .await;
            served.push((line, node));
            continue;
        }
        let done = shell(&line).output().await.unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{line}: {said}{wrong}");
        if line.starts_with("curl") {
            assert!(said.contains("hello"), "{line}: {said}");
            fetched += 1;
        }
        if line.ends_with("node list") {
            for name in ["origin-1", "edge-1", "edge-2"] {
                assert!(said.contains(name), "{said}");
            }
        }
    }
    assert_eq!((served.len(), fetched), (3, 2));

    // One edge stopped and started again.
    let (line, mut node) = served.remove(1);
    node.kill().await.unwrap();
    let again = shell(&line).spawn().unwrap();
    let url = format!(
        "http://127.0.0.1:{}/_aws/execute-api/hello/dev/hello",
        ports["8081"]
    );
    until("the edge answers again", async || {
        let asked = shell(&format!("curl -sf {url}")).output().await.unwrap();
        asked.status.success().then_some(())
    })
    .await;
    drop((again, served));
}
