//! An origin, and edges 20, 80 and 150 ms from it, with 1 % of packets lost: what they are good for, in figures.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Response;
use tidegate_tests::linked::{nodes, put};
use tidegate_tests::network::{Network, Path};
use tidegate_tests::world::{
    AWAY, HOME, Viewer, World, definition, follower, in_step_over, network, origin, upstream,
};
use tidegate_tests::{PATIENCE, Setup, TestNode, TestOrigin, binary, text, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// What was measured, by what and then by region.
#[derive(Default)]
struct Figures(Vec<(&'static str, BTreeMap<&'static str, String>)>);

impl Figures {
    fn add(&mut self, what: &'static str, region: &'static str, figure: String) {
        let at = self.0.iter().position(|(row, _)| *row == what);
        let at = at.unwrap_or_else(|| {
            self.0.push((what, BTreeMap::new()));
            self.0.len() - 1
        });
        self.0[at].1.insert(region, figure);
    }

    /// To standard error itself: the runner keeps what goes through `println!` to itself.
    fn print(&self) {
        let mut table = format!("\n{:<44}", "");
        for (region, rtt_ms) in AWAY {
            write!(table, "{:>24}", format!("{region} ({rtt_ms} ms)")).unwrap();
        }
        for (what, row) in &self.0 {
            write!(table, "\n{what:<44}").unwrap();
            for (region, _) in AWAY {
                write!(table, "{:>24}", row.get(region).map_or("", String::as_str)).unwrap();
            }
        }
        table.push_str("\n\n");
        std::io::stderr().write_all(table.as_bytes()).unwrap();
    }
}

#[tokio::test]
async fn regions_far_from_their_origin() {
    let network = match network(SEED) {
        Ok(network) => network,
        Err(missing) => {
            missing.say();
            return;
        }
    };
    let upstream = network
        .region(HOME)
        .within(upstream(Duration::from_secs(3600)))
        .await;
    let world = World::start(network, |setup| {
        setup.api_with(
            "api",
            &definition("one", &upstream),
            "[api.stage.test]\ncache = 'http'",
        )
    })
    .await;
    world.in_step().await;
    let mut figures = Figures::default();
    latencies(&world, &mut figures).await;
    deployments(&world, &upstream, &mut figures).await;
    purges(&world, &mut figures).await;
    a_region_that_is_cut_off(&world, &upstream, &mut figures).await;
    let world = an_origin_that_is_killed(world, &upstream, &mut figures).await;
    figures.print();
    drop(world);
}

/// What viewers wait for: at the edge near them, and at the origin.
async fn latencies(world: &World, figures: &mut Figures) {
    let measured = world.edges.iter().map(async |edge| {
        let here = world.network.region(edge.region);
        let mut near = Viewer::new(here, edge.node.address());
        let mut far = Viewer::new(here, world.origin.address());
        for viewer in [&mut near, &mut far] {
            viewer.get("/to/kept/a").await.unwrap(); // connects, and fills the cache
        }
        [
            asked(&mut near, |_| "/to/kept/a".to_owned()).await,
            asked(&mut far, |_| "/to/kept/a".to_owned()).await,
            asked(&mut near, |turn| format!("/to/new/{turn}")).await,
            asked(&mut far, |turn| format!("/to/new/{turn}")).await,
        ]
    });
    let measured = join_all(measured).await;
    for (edge, [hit, direct, miss, direct_miss]) in world.edges.iter().zip(&measured) {
        for (what, times) in [
            ("GET, in the edge's cache", hit),
            ("GET, of the origin directly", direct),
            ("GET, in no cache, by the edge", miss),
            ("GET, in no cache, of the origin directly", direct_miss),
        ] {
            figures.add(what, edge.region, shown(times));
        }
        let (region, rtt) = (edge.region, rtt_to(edge.region));
        assert!(percentile(hit, 50) < rtt / 2, "{region}: a hit stays here");
        assert!(percentile(direct, 50) >= rtt, "{region}: the origin is far");
        // The link is there already: one round trip, and what both nodes do.
        let miss = percentile(miss, 50);
        let bound = rtt * 2 + Duration::from_millis(20);
        assert!((rtt..bound).contains(&miss), "{region}: {miss:?}");
    }
}

/// Asks some times on a kept connection, each answer checked; sorted times.
async fn asked(viewer: &mut Viewer<'_>, path: impl Fn(usize) -> String) -> Vec<Duration> {
    let mut times = Vec::new();
    for turn in 0..TURNS {
        let path = path(turn);
        let began = Instant::now();
        let reply = viewer.get(&path).await.unwrap();
        times.push(began.elapsed());
        reply.assert_status(200);
        assert_eq!(
            reply.text(),
            path["/to".len()..],
            "the answer to another question"
        );
    }
    times.sort();
    times
}

/// From the moment at which the origin serves a new definition to the one at which each edge does.
async fn deployments(world: &World, upstream: &TestOrigin, figures: &mut Figures) {
    let mut took: BTreeMap<&'static str, Vec<Duration>> = BTreeMap::new();
    for turn in 0..DEPLOYMENTS {
        let version = format!("version {turn}");
        deploy(&world.origin, &version, upstream);
        served(&world.network, HOME, &world.origin, &version).await;
        let began = Instant::now();
        let waiting = world.edges.iter().map(async |edge| {
            served(&world.network, edge.region, &edge.node, &version).await;
            (edge.region, began.elapsed())
        });
        for (region, time) in join_all(waiting).await {
            took.entry(region).or_default().push(time);
        }
    }
    for (region, mut times) in took {
        times.sort();
        figures.add("a deployment reaches the edge", region, shown(&times));
        let slowest = percentile(&times, 100);
        assert!(slowest < Duration::from_secs(2), "{region}: {slowest:?}");
    }
}

fn deploy(origin: &TestNode, version: &str, upstream: &TestOrigin) {
    std::fs::write(
        origin.path("api.openapi.yaml"),
        definition(version, upstream),
    )
    .unwrap();
}

/// Waits until a node answers by a version.
async fn served(network: &Network, region: &str, node: &TestNode, version: &str) {
    let mut viewer = Viewer::new(network.region(region), node.address());
    until(version, async || {
        let reply = viewer.get("/version").await.ok()?;
        (reply.text() == version).then_some(())
    })
    .await;
}

/// From a purge at the origin to the moment at which an edge has not got it any more.
async fn purges(world: &World, figures: &mut Figures) {
    let mut took: BTreeMap<&'static str, Vec<Duration>> = BTreeMap::new();
    let paths: Vec<String> = (0..PURGES)
        .map(|turn| format!("/to/kept/purge-{turn}"))
        .collect();
    join_all(world.edges.iter().map(async |edge| {
        let mut viewer = Viewer::new(world.network.region(edge.region), edge.node.address());
        for path in &paths {
            viewer.get(path).await.unwrap().assert_status(200);
            assert!(holds(&mut viewer, path).await, "{}: {path}", edge.region);
        }
    }))
    .await;
    for path in &paths {
        let began = Instant::now();
        let purging = async {
            let change = format!("/tidegate/v1/cache/purge?url={path}");
            world
                .home()
                .within(put(&world.origin, &change))
                .await
                .assert_status(200);
        };
        let waiting = join_all(world.edges.iter().map(async |edge| {
            let mut viewer = Viewer::new(world.network.region(edge.region), edge.node.address());
            while holds(&mut viewer, path).await {
                assert!(began.elapsed() < PATIENCE, "{}: {path} stays", edge.region);
            }
            (edge.region, began.elapsed())
        }));
        let ((), gone) = tokio::join!(purging, waiting);
        for (region, time) in gone {
            took.entry(region).or_default().push(time);
        }
    }
    for (region, mut times) in took {
        times.sort();
        figures.add("a purge reaches the edge", region, shown(&times));
        let bound = Duration::from_millis(150) + rtt_to(region);
        // Packets are late where the machine is busy: the 99th percentile is printed, and is a figure for a quiet one.
        assert!(percentile(&times, 90) <= bound, "{region}: {times:?}");
    }
}

/// Whether a node has a stored response, without asking anybody (RFC 9111 §5.2.1.7).
async fn holds(viewer: &mut Viewer<'_>, path: &str) -> bool {
    let fields = [("cache-control", "only-if-cached")];
    viewer.get_with(path, &fields).await.unwrap().status == 200
}

/// The farthest region is cut off, a deployment and a purge pass it by, and it comes back.
async fn a_region_that_is_cut_off(world: &World, upstream: &TestOrigin, figures: &mut Figures) {
    let edge = world.edges.last().unwrap();
    let region = edge.region;
    let mut viewer = Viewer::new(world.network.region(region), edge.node.address());
    for path in ["/to/kept/stays", "/to/kept/goes"] {
        viewer.get(path).await.unwrap().assert_status(200);
    }
    world.network.cut(HOME, region);
    let hit = asked(&mut viewer, |_| "/to/kept/stays".to_owned()).await;
    figures.add("cut off: GET, in the edge's cache", region, shown(&hit));
    let began = Instant::now();
    let refused = viewer.get("/to/new/while-cut-off").await.unwrap();
    assert!(
        matches!(refused.status.as_u16(), 502..=504),
        "{}",
        refused.status
    );
    figures.add(
        "cut off: GET, in no cache, is refused after",
        region,
        milliseconds(began.elapsed()),
    );

    deploy(&world.origin, "while cut off", upstream);
    served(&world.network, HOME, &world.origin, "while cut off").await;
    let others = &world.edges[..world.edges.len() - 1];
    for other in others {
        served(&world.network, other.region, &other.node, "while cut off").await;
    }
    let change = "/tidegate/v1/cache/purge?url=/to/kept/goes";
    world
        .home()
        .within(put(&world.origin, change))
        .await
        .assert_status(200);
    assert_ne!(
        viewer.get("/version").await.unwrap().text(),
        "while cut off"
    );

    world.network.heal(HOME, region);
    let began = Instant::now();
    until("the link is up again", async || {
        let reply = viewer.get("/to/new/after-it").await.ok()?;
        // What it has missed it has heard of before it asks anything.
        if reply.status == 200 {
            assert!(
                !holds(&mut viewer, "/to/kept/goes").await,
                "purged, and served"
            );
        }
        (reply.status == 200).then_some(())
    })
    .await;
    figures.add(
        "healed: GET, in no cache, is answered after",
        region,
        milliseconds(began.elapsed()),
    );
    served(&world.network, region, &edge.node, "while cut off").await;
    figures.add(
        "healed: the edge has the deployment after",
        region,
        milliseconds(began.elapsed()),
    );
    in_step_over(&world.network, &world.origin, edge).await;
    assert!(
        holds(&mut viewer, "/to/kept/stays").await,
        "nobody purged it"
    );
}

/// The path to the nearest origin is cut, without a word to anybody, while an edge forwards.
#[tokio::test]
async fn where_the_path_to_the_nearest_origin_is_cut_another_one_answers_within_two_seconds() {
    let network = match Network::start(&["near", "far", "here"], SEED) {
        Ok(network) => network,
        Err(missing) => {
            missing.say();
            return;
        }
    };
    for (a, b, rtt_ms) in [
        ("near", "here", 20),
        ("far", "here", 80),
        ("near", "far", 60),
    ] {
        let rtt = Duration::from_millis(rtt_ms);
        network.connect(
            a,
            b,
            Path {
                rtt,
                loss: 0.0,
                bytes_per_second: None,
            },
        );
    }
    let near = network.region("near");
    let serving = TestOrigin::start_at(near.address(), |request| async move {
        Response::new(text(request.uri().path().to_owned()))
    });
    let upstream = near.within(serving).await;
    let with =
        |setup: Setup| setup.api_with("api", &definition("one", &upstream), "[api.stage.test]");
    let first = origin(&network, "near", with).await;
    let home = ("near", &first);
    let second = follower(&network, "far", "origin", home, &[first.link()]).await;
    let edge = follower(
        &network,
        "here",
        "edge",
        home,
        // The nearest one stands last: its round trip decides.
        &[second.link(), first.link()],
    )
    .await;

    let mut viewer = Viewer::new(network.region("here"), edge.address());
    viewer.get("/to/first").await.unwrap().assert_status(200);
    let before = asked(&mut viewer, |turn| format!("/to/before/{turn}")).await;
    let (rtt, other) = (Duration::from_millis(20), Duration::from_millis(80));
    assert!(
        (rtt..other).contains(&percentile(&before, 50)),
        "the nearest one answers"
    );
    network.cut("near", "here");
    let after = asked(&mut viewer, |turn| format!("/to/after/{turn}")).await;
    assert!(percentile(&after, 50) >= other, "the other one answers");
    let figures = format!("cut from the nearest origin: {}\n", shown(&after));
    std::io::stderr().write_all(figures.as_bytes()).unwrap();
    network.heal("near", "here");
    until("the nearest one answers again", async || {
        let began = Instant::now();
        viewer.get("/to/again").await.ok()?;
        (began.elapsed() < other).then_some(())
    })
    .await;
    let slowest = percentile(&after, 100);
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}

/// Twenty edges, each in a region of its own, half a world away from the origin.
#[tokio::test]
async fn a_deployment_is_on_twenty_far_edges_within_a_second() {
    let names: Vec<String> = (1..=EDGES).map(|number| format!("far-{number}")).collect();
    let regions: Vec<&str> = [HOME]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .collect();
    let network = match Network::start(&regions, SEED) {
        Ok(network) => network,
        Err(missing) => {
            missing.say();
            return;
        }
    };
    let lay = |rtt_ms| {
        for region in &names {
            let path = Path {
                rtt: Duration::from_millis(rtt_ms),
                loss: 0.0,
                bytes_per_second: None,
            };
            network.connect(HOME, region, path);
        }
    };
    lay(2); // so that they join in no time
    let upstream = network
        .region(HOME)
        .within(upstream(Duration::from_secs(60)))
        .await;
    let origin = origin(&network, HOME, |setup| {
        setup.api_with("api", &definition("one", &upstream), "[api.stage.test]")
    })
    .await;
    let mut edges = Vec::new();
    for region in &names {
        let link = [origin.link()];
        edges.push(follower(&network, region, "edge", (HOME, &origin), &link).await);
    }
    lay(150);
    until("the link is measured anew", async || {
        let nodes = network.region(HOME).within(nodes(&origin)).await;
        let far = nodes
            .iter()
            .filter(|node| node["rttMs"].as_f64().is_some_and(|rtt_ms| rtt_ms > 140.0));
        (far.count() == edges.len()).then_some(())
    })
    .await;
    let mut slowest = Vec::new();
    for turn in 0..DEPLOYMENTS {
        let version = format!("version {turn}");
        deploy(&origin, &version, &upstream);
        served(&network, HOME, &origin, &version).await;
        let began = Instant::now();
        join_all(names.iter().zip(&edges).map(async |(region, edge)| {
            served(&network, region, edge, &version).await;
        }))
        .await;
        slowest.push(began.elapsed());
    }
    slowest.sort();
    let figures = format!(
        "a deployment is on {EDGES} edges 150 ms away: {}\n",
        shown(&slowest)
    );
    std::io::stderr().write_all(figures.as_bytes()).unwrap();
    let all = percentile(&slowest, 100);
    assert!(all < Duration::from_secs(1), "{slowest:?}");
}

/// What became of the requests of one edge's viewers.
#[derive(Default)]
struct Tally {
    right: AtomicU64,
    refused: AtomicU64,
    wrong: AtomicU64,
}

/// The only origin is killed while all edges forward, just after it has acknowledged a deployment and a purge.
async fn an_origin_that_is_killed(
    world: World,
    upstream: &TestOrigin,
    figures: &mut Figures,
) -> World {
    let World {
        network,
        origin,
        edges,
    } = world;
    let tallies: Vec<Tally> = edges.iter().map(|_| Tally::default()).collect();
    let ended = AtomicBool::new(false);
    for edge in &edges {
        let mut viewer = Viewer::new(network.region(edge.region), edge.node.address());
        for path in ["/to/kept/purged-last", "/to/kept/stays-over-it"] {
            viewer.get(path).await.unwrap().assert_status(200);
        }
    }
    let load = join_all(edges.iter().zip(&tallies).map(async |(edge, tally)| {
        let mut viewer = Viewer::new(network.region(edge.region), edge.node.address());
        let mut turn = 0;
        while !ended.load(Ordering::Relaxed) {
            turn += 1;
            let path = format!("/to/new/under-load-{turn}");
            let counter = match viewer.get(&path).await {
                Ok(reply) if reply.status == 200 && reply.text() == path["/to".len()..] => {
                    &tally.right
                }
                Ok(reply) if matches!(reply.status.as_u16(), 502..=504) => &tally.refused,
                _ => &tally.wrong,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let killing = async {
        let home = network.region(HOME);
        join_all(tallies.iter().map(|tally| more(&tally.right, 10))).await;
        deploy(&origin, "the last word", upstream);
        served(&network, HOME, &origin, "the last word").await;
        let change = "/tidegate/v1/cache/purge?url=/to/kept/purged-last";
        home.within(put(&origin, change)).await.assert_status(200);
        let stopped = origin.kill9().await;
        let killed = Instant::now();
        let noticed = tallies.iter().map(async |tally| {
            more(&tally.refused, 1).await;
            killed.elapsed()
        });
        let noticed = join_all(noticed).await;
        let origin = home.within(stopped.start()).await;
        let restarted = Instant::now();
        let recovered = tallies.iter().map(async |tally| {
            more(&tally.right, 1).await;
            restarted.elapsed()
        });
        let recovered = join_all(recovered).await;
        ended.store(true, Ordering::Relaxed);
        (origin, noticed, recovered)
    };
    let (_, (origin, noticed, recovered)) = tokio::join!(load, killing);
    for (place, (edge, tally)) in edges.iter().zip(&tallies).enumerate() {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (right, refused) = (count(&tally.right), count(&tally.refused));
        assert_eq!(count(&tally.wrong), 0, "{}: wrong answers", edge.region);
        for (what, figure) in [
            (
                "killed: right / refused / wrong answers",
                format!("{right} / {refused} / 0"),
            ),
            (
                "killed: GET, in no cache, is refused after",
                milliseconds(noticed[place]),
            ),
            (
                "started again: it is answered after",
                milliseconds(recovered[place]),
            ),
        ] {
            figures.add(what, edge.region, figure);
        }
    }
    let world = World {
        network,
        origin,
        edges,
    };
    world.in_step().await;
    for edge in &world.edges {
        served(&world.network, edge.region, &edge.node, "the last word").await;
        let mut viewer = Viewer::new(world.network.region(edge.region), edge.node.address());
        until("the acknowledged purge", async || {
            (!holds(&mut viewer, "/to/kept/purged-last").await).then_some(())
        })
        .await;
        assert!(
            holds(&mut viewer, "/to/kept/stays-over-it").await,
            "{}",
            edge.region
        );
    }
    world
}

/// Waits until there are `count` more.
async fn more(counter: &AtomicU64, count: u64) {
    let enough = counter.load(Ordering::Relaxed) + count;
    until("answers under load", async || {
        (counter.load(Ordering::Relaxed) >= enough).then_some(())
    })
    .await;
}

/// What `cargo demo-regions` runs, for some seconds.
async fn demo(through: &[&str]) -> String {
    let mut command = tokio::process::Command::new(through[0]);
    command
        .args(&through[1..])
        .env("TIDEGATE_BINARY", binary())
        .kill_on_drop(true);
    let done = timeout(4 * PATIENCE, command.output())
        .await
        .expect("it ends by itself")
        .unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{said}");
    said
}

#[tokio::test]
async fn the_demo_shows_each_region_as_lines_or_as_a_picture() {
    if let Err(missing) = network(SEED) {
        missing.say();
        return;
    }
    let binary = env!("CARGO_BIN_EXE_demo-regions");
    let lines = demo(&[binary, "--seconds", "5"]).await;
    for (region, _) in AWAY {
        let last = lines
            .lines()
            .rfind(|line| line.starts_with(region))
            .expect(&lines);
        for word in ["link=quic", "health=up", "failures=0", "cut=false"] {
            assert!(last.contains(word), "no {word}: {last}");
        }
        let (_, hits) = last.split_once(" hits=").expect(last);
        let (hits, _) = hits.split_once('%').expect(last);
        assert!(hits.parse::<u32>().expect(last) >= 50, "{last}");
    }
    // A terminal, by util-linux's `script`.
    let drawn = demo(&[
        "script",
        "-qec",
        &format!("{binary} --seconds 5"),
        "/dev/null",
    ])
    .await;
    for words in [
        "Tidegate in four regions",
        "1 2 3 cut or heal",
        "requests/s",
        "\u{1b}[?1049l",
    ] {
        assert!(drawn.contains(words), "no {words:?}: {drawn}");
    }
}

/// A terminal with somebody at its keys.
#[tokio::test]
async fn the_demos_keys_cut_deploy_purge_kill_and_end() {
    if let Err(missing) = network(SEED) {
        missing.say();
        return;
    }
    let demo = env!("CARGO_BIN_EXE_demo-regions");
    let mut terminal = tokio::process::Command::new("script")
        .args(["-qec", demo, "/dev/null"])
        .env("TIDEGATE_BINARY", binary())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut keys = terminal.stdin.take().unwrap();
    let mut screen = terminal.stdout.take().unwrap();
    let mut drawn = String::new();
    for (key, shown) in [
        ("", "1 2 3 cut or heal"),
        ("d", "deployed at the origin"),
        ("p", "purged everything, everywhere: 200"),
        ("1", "╳ cut"),
        ("k", "the origin was killed"),
        ("k", "the origin is back"),
    ] {
        drawn.clear();
        keys.write_all(key.as_bytes()).await.unwrap();
        let mut piece = [0; 16384];
        timeout(4 * PATIENCE, async {
            while !drawn.contains(shown) {
                let read = screen.read(&mut piece).await.unwrap();
                assert!(read > 0, "it ended: {drawn}");
                drawn.push_str(&String::from_utf8_lossy(&piece[..read]));
            }
        })
        .await
        .unwrap_or_else(|_| panic!("no {shown:?} after {key:?}: {drawn}"));
    }
    keys.write_all(b"q").await.unwrap();
    let mut rest = Vec::new();
    let ended = async {
        screen.read_to_end(&mut rest).await.unwrap();
        terminal.wait().await.unwrap()
    };
    let status = timeout(4 * PATIENCE, ended).await.expect("it ends");
    assert!(status.success());
    assert!(String::from_utf8_lossy(&rest).contains("\u{1b}[?1049l"));
}

fn rtt_to(region: &str) -> Duration {
    let away = AWAY.iter().find(|(name, _)| *name == region);
    Duration::from_millis(away.expect("a region").1)
}

/// Of sorted times.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() * percent).div_ceil(100).max(1) - 1]
}

/// The middle, and what all but one of a hundred stay below.
fn shown(times: &[Duration]) -> String {
    let ms = |percent| percentile(times, percent).as_secs_f64() * 1e3;
    format!("p50 {:.1} p99 {:.1} ms", ms(50), ms(99))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

/// What is lost is the same in every run, as far as the packets are.
const SEED: u64 = 4;
const TURNS: usize = 60;
const EDGES: usize = 20;
const DEPLOYMENTS: usize = 10;
const PURGES: usize = 100;
