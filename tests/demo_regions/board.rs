//! What is known at the moment: what viewers see, and what the origin says of its edges.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_tests::Reply;

/// Written by viewers, read by the screen; all on one thread.
#[derive(Default)]
pub struct Board(RefCell<State>);

#[derive(Default)]
struct State {
    views: BTreeMap<&'static str, View>,
    nodes: Option<Value>,
    version: u32,
    said: String,
}

/// What the viewers of one region saw in the last seconds.
#[derive(Default)]
struct View {
    /// When, how long it took, and whether the edge's cache answered; none where there was no answer.
    asked: VecDeque<(Instant, Option<(Duration, bool)>)>,
    direct: Option<Duration>,
}

/// One edge, as it is shown.
pub struct Line {
    pub region: &'static str,
    pub requests_per_second: f64,
    /// Percent; none where nothing was answered.
    pub hits: Option<f64>,
    /// The middle one.
    pub latency: Option<Duration>,
    pub failures: usize,
    /// Of a request to the origin itself; none where there is no answer.
    pub direct: Option<Duration>,
    /// What the origin says: health, transport, snapshot, round trip in milliseconds.
    pub health: String,
    pub transport: String,
    pub snapshot: String,
    pub rtt_ms: Option<f64>,
}

impl Board {
    /// A viewer asked the edge near it.
    pub fn asked(&self, region: &'static str, reply: Result<Reply, String>, took: Duration) {
        let answered = reply.ok().filter(|reply| reply.status == 200);
        let seen = answered.map(|reply| (took, is_hit(&reply)));
        let mut state = self.0.borrow_mut();
        let view = state.views.entry(region).or_default();
        let now = Instant::now();
        view.asked.push_back((now, seen));
        while view.asked.front().is_some_and(|(at, _)| now - *at > SHOWN) {
            view.asked.pop_front();
        }
    }

    /// A viewer asked the origin itself.
    pub fn asked_directly(&self, region: &'static str, took: Option<Duration>) {
        self.0.borrow_mut().views.entry(region).or_default().direct = took;
    }

    /// The origin's list of nodes.
    pub fn nodes(&self, nodes: &Value) {
        self.0.borrow_mut().nodes = Some(nodes.clone());
    }

    pub fn origin_is_down(&self) {
        self.0.borrow_mut().nodes = None;
    }

    /// What the next deployment is called; the first one was 1.
    pub fn next_version(&self) -> u32 {
        let mut state = self.0.borrow_mut();
        state.version += 1;
        state.version + 1
    }

    /// Something happened.
    pub fn say(&self, what: String) {
        self.0.borrow_mut().said = what;
    }

    /// The last thing that happened.
    pub fn said(&self) -> String {
        self.0.borrow().said.clone()
    }

    /// The snapshot that the origin serves; none while it is down.
    pub fn origin(&self) -> Option<String> {
        let state = self.0.borrow();
        Some(short(&state.nodes.as_ref()?["this"]["snapshot"]))
    }

    /// What is to be shown of an edge.
    pub fn line(&self, region: &'static str) -> Line {
        let state = self.0.borrow();
        let empty = View::default();
        let view = state.views.get(region).unwrap_or(&empty);
        let mut answered: Vec<(Duration, bool)> =
            view.asked.iter().filter_map(|(_, seen)| *seen).collect();
        answered.sort_unstable();
        let hits = answered.iter().filter(|(_, hit)| *hit).count();
        let since = view.asked.front().map_or(SHOWN, |(at, _)| at.elapsed());
        let nodes = state
            .nodes
            .as_ref()
            .and_then(|nodes| nodes["nodes"].as_array());
        let node = nodes.and_then(|nodes| nodes.iter().find(|node| node["region"] == region));
        let of_node = |key: &str| node.map_or(&Value::Null, |node| &node[key]);
        let text = |key: &str| of_node(key).as_str().unwrap_or("?").to_owned();
        Line {
            region,
            requests_per_second: view.asked.len() as f64 / since.as_secs_f64().max(0.1),
            hits: (!answered.is_empty()).then(|| 100.0 * hits as f64 / answered.len() as f64),
            latency: answered.get(answered.len() / 2).map(|(took, _)| *took),
            failures: view.asked.len() - answered.len(),
            direct: view.direct,
            health: text("health"),
            transport: text("transport"),
            snapshot: short(of_node("snapshot")),
            rtt_ms: of_node("rttMs").as_f64(),
        }
    }
}

/// Whether the cache nearest to the viewer had it: the last member (RFC 9211 §2).
fn is_hit(reply: &Reply) -> bool {
    let last = reply.headers.get_all("cache-status").iter().next_back();
    let last = last
        .and_then(|field| field.to_str().ok())
        .unwrap_or_default();
    last.rsplit(',')
        .next()
        .is_some_and(|member| member.contains("; hit"))
}

fn short(snapshot: &Value) -> String {
    let text = snapshot.as_str().unwrap_or("?");
    text.chars().take(8).collect()
}

/// What is shown is what was seen in this time.
const SHOWN: Duration = Duration::from_secs(3);
