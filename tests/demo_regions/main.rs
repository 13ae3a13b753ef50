//! `cargo demo-regions`: an origin and three edges, far from each other on this machine, drawn live in the terminal.
//!
//! Viewers in each region ask the edge near them, mostly for what is in its cache. Keys cut paths and heal them, deploy,
//! purge, and kill the origin. Where standard output is no terminal, it writes a line for each edge every second.

mod board;
mod screen;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tidegate_tests::linked::put;
use tidegate_tests::world::{AWAY, Edge, HOME, Viewer, World, definition, network, upstream};
use tidegate_tests::{Stopped, TestNode, TestOrigin};
use tokio::sync::Mutex;

use crate::board::Board;
use crate::screen::{Key, Screen};

/// The demo, running.
struct Demo {
    network: tidegate_tests::network::Network,
    origin: Mutex<Option<Origin>>,
    edges: Vec<Edge>,
    upstream: TestOrigin,
    board: Board,
}

enum Origin {
    Up(Box<TestNode>),
    Down(Stopped),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let seconds = match arguments() {
        Ok(seconds) => seconds,
        Err(usage) => {
            eprintln!("{usage}");
            return ExitCode::FAILURE;
        }
    };
    let network = match network(SEED) {
        Ok(network) => network,
        Err(missing) => {
            eprintln!("demo-regions: {missing}");
            return ExitCode::FAILURE;
        }
    };
    eprintln!(
        "starting an origin in {HOME} and edges in {} …",
        AWAY.map(|(region, _)| region).join(", ")
    );
    let upstream = network
        .region(HOME)
        .within(upstream(Duration::from_secs(30)))
        .await;
    let world = World::start(network, |setup| {
        setup.api_with(
            "api",
            &definition("1", &upstream),
            "[api.stage.test]\ncache = 'http'",
        )
    })
    .await;
    let World {
        network,
        origin,
        edges,
    } = world;
    let demo = Demo {
        network,
        origin: Mutex::new(Some(Origin::Up(Box::new(origin)))),
        edges,
        upstream,
        board: Board::default(),
    };
    demo.run(seconds).await;
    ExitCode::SUCCESS
}

/// How long to run; none: until it is told to end.
fn arguments() -> Result<Option<Duration>, String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(None),
        ["--seconds", seconds] => match seconds.parse() {
            Ok(seconds) => Ok(Some(Duration::from_secs(seconds))),
            Err(_) => Err(format!("\"{seconds}\" is no number of seconds")),
        },
        _ => Err("cargo demo-regions [--seconds N]".to_owned()),
    }
}

impl Demo {
    async fn run(&self, seconds: Option<Duration>) {
        let began = Instant::now();
        let mut screen = Screen::open();
        let every = screen.every();
        let viewers = join_all(self.edges.iter().map(|edge| self.view(edge)));
        let direct = join_all(self.edges.iter().map(|edge| self.view_directly(edge)));
        let showing = async {
            loop {
                let key = tokio::select! {
                    key = screen.key() => Some(key),
                    () = tokio::time::sleep(every) => None,
                };
                match key {
                    Some(Key::End) => return,
                    Some(Key::Cut(place)) => self.cut_or_heal(place),
                    Some(Key::Deploy) => self.deploy().await,
                    Some(Key::Purge) => self.purge().await,
                    Some(Key::Kill) => self.kill_or_start().await,
                    None => {}
                }
                if seconds.is_some_and(|seconds| began.elapsed() >= seconds) {
                    return;
                }
                self.look().await;
                screen.show(&self.board, &self.network, &self.edges);
            }
        };
        tokio::select! {
            _ = viewers => {}
            _ = direct => {}
            () = showing => {}
        }
    }

    /// Somebody near an edge: nine of ten requests are for what others have asked for.
    async fn view(&self, edge: &Edge) {
        let region = self.network.region(edge.region);
        let mut viewer = Viewer::new(region, edge.node.address());
        for turn in 0_u64.. {
            let path = match turn % 10 {
                0 => format!("/to/new/{turn}"),
                other => format!("/to/kept/{other}"),
            };
            let began = Instant::now();
            let reply = tokio::time::timeout(PATIENCE, viewer.get(&path)).await;
            self.board.asked(
                edge.region,
                reply.unwrap_or_else(|_| Err("too slow".to_owned())),
                began.elapsed(),
            );
            tokio::time::sleep(THINKING).await;
        }
    }

    /// Somebody in the same region who asks the origin itself.
    async fn view_directly(&self, edge: &Edge) {
        let at = match self.origin.lock().await.as_ref() {
            Some(Origin::Up(origin)) => origin.address(),
            _ => return std::future::pending().await,
        };
        let mut viewer = Viewer::new(self.network.region(edge.region), at);
        loop {
            let began = Instant::now();
            let reply = tokio::time::timeout(PATIENCE, viewer.get("/to/kept/1")).await;
            if !matches!(reply, Ok(Ok(_))) {
                viewer = Viewer::new(self.network.region(edge.region), at);
            }
            let answered = matches!(&reply, Ok(Ok(reply)) if reply.status == 200);
            self.board
                .asked_directly(edge.region, answered.then(|| began.elapsed()));
            tokio::time::sleep(THINKING * 5).await;
        }
    }

    /// Asks the origin what it knows of its edges.
    async fn look(&self) {
        let origin = self.origin.lock().await;
        let Some(Origin::Up(origin)) = origin.as_ref() else {
            self.board.origin_is_down();
            return;
        };
        let home = self.network.region(HOME);
        let nodes = home.within(origin.admin("/tidegate/v1/nodes")).await;
        self.board.nodes(&nodes.json());
    }

    fn cut_or_heal(&self, place: usize) {
        let Some(edge) = self.edges.get(place) else {
            return;
        };
        match self.network.is_cut(HOME, edge.region) {
            true => self.network.heal(HOME, edge.region),
            false => self.network.cut(HOME, edge.region),
        }
    }

    async fn deploy(&self) {
        let version = self.board.next_version();
        let file = match self.origin.lock().await.as_ref() {
            Some(Origin::Up(origin)) => origin.path("api.openapi.yaml"),
            _ => return,
        };
        if let Err(error) = std::fs::write(file, definition(&version.to_string(), &self.upstream)) {
            self.board.say(format!("not deployed: {error}"));
        } else {
            self.board
                .say(format!("version {version} deployed at the origin"));
        }
    }

    async fn purge(&self) {
        let origin = self.origin.lock().await;
        let Some(Origin::Up(origin)) = origin.as_ref() else {
            return;
        };
        let home = self.network.region(HOME);
        let reply = home
            .within(put(origin, "/tidegate/v1/cache/purge?all=true"))
            .await;
        self.board
            .say(format!("purged everything, everywhere: {}", reply.status));
    }

    async fn kill_or_start(&self) {
        let mut origin = self.origin.lock().await;
        *origin = match origin.take() {
            Some(Origin::Up(node)) => {
                self.board.say("the origin was killed: kill -9".to_owned());
                Some(Origin::Down(node.kill9().await))
            }
            Some(Origin::Down(stopped)) => {
                let home = self.network.region(HOME);
                let node = home.within(stopped.start()).await;
                self.board.say("the origin is back".to_owned());
                Some(Origin::Up(Box::new(node)))
            }
            None => None,
        };
    }
}

const SEED: u64 = 4;
/// Between two requests of one viewer.
const THINKING: Duration = Duration::from_millis(20);
/// Longer is an outage, to a viewer.
const PATIENCE: Duration = Duration::from_secs(5);
