//! What versions of plugins cost a running node: the requests that are served while one is swapped in, and memory.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::json;
use tidegate_fixtures::build_javascript;
use tidegate_tests::{Api, Load, Operation, Pace, TestNode, fixture, until, with_section};

use crate::swap::guarded_node;

#[tokio::test]
async fn requests_of_a_swaps_second_wait_hardly_longer_than_those_of_the_second_before() {
    let node = guarded_node().await;
    let component = fs::read(fixture("allow")).unwrap();
    let mut pace = Pace::start(&node, "/test/a", PER_SECOND);
    let second = PER_SECOND as usize;
    let p99 = |latencies: Vec<Duration>| latencies[latencies.len() * 99 / 100];
    let (mut before, mut during) = (Vec::new(), Vec::new());
    pace.next(second).await; // warms up
    for number in 0..100 {
        // One that was never compiled here.
        let version = with_section(component.clone(), "version", &number.to_string());
        if number % 5 == 0 {
            before.push(p99(pace.next(second).await));
        }
        let (swapped, latencies) = tokio::join!(node.swap("guard", version), pace.next(second));
        swapped.assert_status(200);
        during.push(p99(latencies));
    }
    let median = |mut latencies: Vec<Duration>| {
        latencies.sort_unstable();
        latencies[latencies.len() / 2]
    };
    let (before, during) = (median(before), median(during));
    // What a thread needs to wake up is no swap's doing.
    let bound = before * 3 / 2 + Duration::from_micros(200);
    assert!(during <= bound, "p99 {during:?}, and {before:?} before");
}

#[tokio::test]
async fn what_loads_a_version_gives_way_to_requests() {
    let node = guarded_node().await;
    let threads = fs::read_dir(format!("/proc/{}/task", node.id())).unwrap();
    let mut niceness = BTreeMap::new();
    for thread in threads.flatten() {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap();
        let (name, fields) = stat.rsplit_once(')').unwrap();
        let kind = name.split_once('(').unwrap().1.split('-').next().unwrap();
        // Source: proc_pid_stat(5), field 19; the one after the name is the third.
        let nice: i32 = fields.split_whitespace().nth(16).unwrap().parse().unwrap();
        niceness.insert(kind.to_owned(), nice);
    }
    assert_eq!(niceness["compile"], 19, "{niceness:?}");
    assert!(niceness["worker"] < 19, "{niceness:?}");
}

#[tokio::test]
async fn the_code_of_versions_that_serve_no_more_leaves_memory() {
    let node = guarded_node().await;
    let component = fs::read(fixture("allow")).unwrap();
    let code = || {
        let maps = fs::read_to_string(format!("/proc/{}/maps", node.id())).unwrap();
        let of_plugins = |line: &&str| line.contains(SHARED_CODE) || !line.contains(['/', '[']);
        let code = maps.lines().filter(|line| line.contains(" r-xp "));
        code.filter(of_plugins).count()
    };
    let before = code();
    for number in 0..20 {
        let version = with_section(component.clone(), "version", &number.to_string());
        node.swap("guard", version).await.assert_status(200);
    }
    until("one version's code is there", async || {
        node.get("/test/a").await.assert_status(200);
        (code() <= before).then_some(())
    })
    .await;
    // Each has one piece, of which there is one copy.
    let files = fs::read_dir(format!("/proc/{}/fd", node.id())).unwrap();
    let files = files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok());
    let copies = files.filter(|file| file.to_string_lossy().contains(SHARED_CODE));
    assert!(copies.count() <= 1);
}

#[tokio::test]
async fn code_that_plugins_have_in_common_is_once_in_memory() {
    let component = fs::read(fixture("allow")).unwrap();
    let files = shared_files(&node_with_versions(&component).await);
    // The first one's code is its own, the others have one.
    assert!(files.values().any(|mapped| mapped.len() == 2), "{files:?}");
}

#[tokio::test]
async fn javascript_plugins_have_the_interpreters_code_in_common() {
    let component = fs::read(build_javascript("authorizer")).unwrap();
    let files = shared_files(&node_with_versions(&component).await);
    let of_two = files.values().filter(|mapped| mapped.len() == 2);
    let of_two: Vec<usize> = of_two.map(|mapped| mapped[0]).collect();
    assert!(of_two.iter().sum::<usize>() > 3 << 20, "{files:?}");
    assert!(of_two.len() > 3, "it has several pieces: {files:?}");
}

/// A node with three plugins that have their code in common, each of which lets `let-me-in` in.
async fn node_with_versions(component: &[u8]) -> TestNode {
    let folder = tempfile::tempdir().unwrap();
    let (mut setup, mut api) = (TestNode::with(""), Api::new());
    for plugin in VERSIONS {
        let file = folder.path().join(plugin);
        fs::write(&file, with_section(component.to_vec(), "name", plugin)).unwrap();
        setup = setup.plugin(plugin, &file);
        let binding = json!({ "step": "authorizer", "plugin": plugin });
        let operation = Operation::mock("hello").binding(binding);
        api = api.route(&format!("GET /{plugin}"), operation);
    }
    let node = setup.api(&api).start().await;
    for plugin in VERSIONS {
        let request = node.build("GET", &format!("/test/{plugin}"));
        let request = request.header("authorization", "let-me-in");
        node.ask(request).await.assert_status(200);
    }
    node
}

/// The files in memory that code is mapped from, and how much of each at every place. Source: proc_pid_maps(5).
fn shared_files(node: &TestNode) -> BTreeMap<String, Vec<usize>> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", node.id())).unwrap();
    let mut files = BTreeMap::<_, Vec<_>>::new();
    for line in maps.lines().filter(|line| line.contains(SHARED_CODE)) {
        let words: Vec<_> = line.split_whitespace().collect();
        let (first, end) = words[0].split_once('-').unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        let length = number(end) - number(first);
        files.entry(words[4].to_owned()).or_default().push(length);
    }
    files
}

#[tokio::test]
async fn hundreds_of_swaps_and_edits_leave_no_memory_behind() {
    leaves_no_memory(false).await;
}

#[tokio::test]
async fn nor_do_hundreds_under_load() {
    leaves_no_memory(true).await;
}

/// Swaps many times, every tenth time beside an edit of the configuration, and sees that memory is in the end what it was early on.
async fn leaves_no_memory(load: bool) {
    let node = guarded_node().await;
    let component = fs::read(fixture("allow")).unwrap();
    let load = load.then(|| Load::start(&node, "/test/a", 1));
    let (mut early, mut late) = (u64::MAX, u64::MAX);
    for number in 0..SWAPS {
        let version = with_section(component.clone(), "version", &(number % 4).to_string());
        node.swap("guard", version).await.assert_status(200);
        if number % 10 == 0 {
            let binding = json!({
                "step": "authorizer", "plugin": "guard", "configuration": { "number": number }
            });
            let edited = Operation::mock("hello").binding(binding);
            let text = Api::new().route("GET /a", edited).text();
            fs::write(node.path("api.openapi.yaml"), text).unwrap();
        }
        // The least of some moments: a version that is being compiled takes memory for a while, and a leak is there at all times.
        match number {
            EARLY..EARLY_END => early = node.resident_bytes().min(early),
            LATE.. => late = node.resident_bytes().min(late),
            _ => {}
        }
    }
    if let Some(load) = load {
        load.stop().await.assert_only(200);
    }
    assert!(
        late <= early + early / 20,
        "{early} bytes after a fifth, {late} in the end"
    );
}

const VERSIONS: [&str; 3] = ["one", "two", "three"];
const SHARED_CODE: &str = "/memfd:tidegate-code";
/// Far less than a node built for tests can serve: where all of a core is in use, any work shows.
const PER_SECOND: u32 = 500;
const SWAPS: u32 = 500;
const EARLY: u32 = SWAPS / 5;
const EARLY_END: u32 = EARLY + WINDOW;
const LATE: u32 = SWAPS - WINDOW;
const WINDOW: u32 = 40;
