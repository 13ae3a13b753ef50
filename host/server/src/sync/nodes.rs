//! The nodes that an origin knows: what they report of themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tidegate_model::canary::Observed;
use tidegate_model::lease;

use crate::identity::{Peer, Role};
use crate::link::origins::Transport;
use crate::services::quota::ledger::{Settled, Settlement};
use crate::services::rate_limit::Demand;
use crate::sync::trial::Tried;

/// What a node tells its origins, every second and whenever something changes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    pub version: String,
    /// The snapshot that it serves; empty: none yet.
    pub snapshot: String,
    /// Why it does not serve the newest one.
    pub problem: Option<String>,
    /// What carries the link to whom it reports.
    pub transport: Option<Transport>,
    /// The link's round trip, in microseconds.
    pub rtt_us: Option<u64>,
    /// Requests since it started.
    pub requests: u64,
    /// What its token buckets were asked for since the last report.
    pub demands: Vec<Demand>,
    /// Since the last report, in milliseconds.
    pub over_ms: u64,
    /// What is to be settled about quotas: the node's own, or of one that follows it.
    pub quotas: Option<Settlement>,
    /// What a canary has come to here, while one runs.
    pub tried: Option<Tried>,
    /// By an origin that follows another: what it has come to on the nodes that report to it, by their names.
    pub tried_by: BTreeMap<String, Tried>,
}

/// What an origin answers a report with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Leases {
    /// Edges that follow the origin.
    pub edges: usize,
    /// By bucket: the part of its rate that is this node's.
    pub parts: HashMap<String, f64>,
    /// Where quotas were to be settled, and could be.
    pub quotas: Option<Settled>,
}

/// The nodes that have linked to this one since it started.
#[derive(Default)]
pub struct Nodes {
    known: Mutex<BTreeMap<String, Known>>,
    wanted: Mutex<AllWanted>,
}

/// What all nodes are asked for.
#[derive(Default)]
struct AllWanted {
    /// By bucket, and then by node.
    buckets: HashMap<String, BTreeMap<String, Wanted>>,
    /// When what nobody wants any more was removed last.
    swept: Option<Instant>,
}

/// What one node is asked for of one bucket.
struct Wanted {
    /// Tokens per second.
    demand: f64,
    at: Instant,
}

struct Known {
    peer: Peer,
    report: Report,
    heard_at: Instant,
    links: usize,
}

/// A node, as an operator sees it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    pub name: String,
    pub role: &'static str,
    pub region: String,
    pub health: Health,
    pub version: String,
    pub snapshot: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    pub transport: Option<Transport>,
    pub rtt_ms: Option<f64>,
    pub requests: u64,
    /// Since it was last heard of.
    pub heard_ms: u64,
}

/// Whether a node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It reports, and serves the newest snapshot.
    Up,
    /// It reports, and serves another one: it has a problem, or is about to change.
    Behind,
    /// It has not been heard of for some seconds.
    Lost,
}

impl Nodes {
    /// A node follows this one until the result is dropped.
    pub fn follow(self: &std::sync::Arc<Self>, peer: &Peer) -> Followed {
        self.change(peer, |known| known.links += 1);
        Followed {
            nodes: self.clone(),
            peer: peer.clone(),
        }
    }

    /// A node has reported; gives its parts of the buckets that it asks for.
    pub fn report(&self, peer: &Peer, mut report: Report) -> Leases {
        let demands = std::mem::take(&mut report.demands);
        let over = Duration::from_millis(report.over_ms).max(OVER_LEAST);
        if peer.role != Role::Origin {
            report.tried_by.clear(); // no edge speaks for another
        }
        self.change(peer, |known| known.report = report);
        let parts = demands.into_iter().map(|demand| {
            let part = self.part(&peer.name, &demand, over);
            (demand.bucket, part)
        });
        Leases {
            parts: parts.collect(),
            edges: self.edges(),
            quotas: None,
        }
    }

    /// A node's part of a bucket, by what all that were heard of lately are asked for.
    fn part(&self, node: &str, demand: &Demand, over: Duration) -> f64 {
        let now = Instant::now();
        let mut all = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let all = &mut *all;
        if all.buckets.len() >= BUCKETS_MAX && !all.buckets.contains_key(&demand.bucket) {
            // It looks at all of them: not for each that is new.
            if all.swept.is_none_or(|swept| now - swept >= SWEEP_EVERY) {
                all.swept = Some(now);
                all.buckets
                    .retain(|_, wanted| wanted.values().any(|it| now - it.at < WANTED_FOR));
            }
            if all.buckets.len() >= BUCKETS_MAX {
                return 1.0 / self.edges().max(1) as f64;
            }
        }
        let wanted = all.buckets.entry(demand.bucket.clone()).or_default();
        wanted.retain(|_, it| now - it.at < WANTED_FOR);
        let newest = demand.asked as f64 / over.as_secs_f64();
        let mine = wanted.entry(node.to_owned()).or_insert(Wanted {
            demand: newest,
            at: now,
        });
        mine.demand += (newest - mine.demand) * WEIGHT;
        mine.at = now;
        let demands: Vec<f64> = wanted.values().map(|it| it.demand).collect();
        let place = wanted.keys().position(|other| other == node);
        let parts = lease::divide(demand.rate.max(f64::MIN_POSITIVE), &demands);
        place.map_or(0.0, |place| parts[place])
    }

    /// How many edges follow this node.
    fn edges(&self) -> usize {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let edges = known.values();
        edges
            .filter(|known| known.links > 0 && known.peer.role == Role::Edge)
            .count()
    }

    /// What a trial has come to on the nodes that report to this one, of the old version and of the new one.
    pub fn tried(&self, trial: u64) -> (Observed, Observed) {
        let none = Default::default();
        let add = |(stable, canary): (Observed, Observed), tried: Tried| {
            (stable + tried.stable.into(), canary + tried.canary.into())
        };
        self.tried_by(trial).into_values().fold(none, add)
    }

    /// The same for each of them, by its name. A node that reports to several origins is heard of from each: its newest
    /// figures count.
    pub fn tried_by(&self, trial: u64) -> BTreeMap<String, Tried> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_node = BTreeMap::<String, Tried>::new();
        for (name, Known { report, .. }) in &*known {
            let own = report.tried.iter().map(|tried| (name, tried));
            let of_trial = own
                .chain(&report.tried_by)
                .filter(|(_, tried)| tried.trial == trial);
            for (name, tried) in of_trial {
                let newest = by_node.entry(name.clone()).or_default();
                if newest.requests() <= tried.requests() {
                    *newest = *tried;
                }
            }
        }
        by_node
    }

    /// How many nodes follow this one.
    pub fn followers(&self) -> u64 {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().filter(|known| known.links > 0).count() as u64
    }

    /// The snapshots that nodes which follow this one, or did a while ago, said they serve.
    pub fn served(&self) -> BTreeSet<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = known
            .values()
            .filter(|it| it.heard_at.elapsed() < FORGOTTEN_AFTER);
        lately.map(|known| known.report.snapshot.clone()).collect()
    }

    /// All of them. `newest` is the snapshot that they should serve.
    pub fn list(&self, newest: &str) -> Vec<Seen> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().map(|known| known.seen(newest)).collect()
    }

    fn change(&self, peer: &Peer, change: impl FnOnce(&mut Known)) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(peer.name.clone()).or_insert_with(|| Known {
            peer: peer.clone(),
            report: Report::default(),
            heard_at: Instant::now(),
            links: 0,
        });
        known.peer = peer.clone();
        known.heard_at = Instant::now();
        change(known);
    }
}

impl Known {
    fn seen(&self, newest: &str) -> Seen {
        let heard = self.heard_at.elapsed();
        let health = match self.links > 0 && heard < LOST_AFTER {
            false => Health::Lost,
            true if self.report.snapshot == newest => Health::Up,
            true => Health::Behind,
        };
        let Report {
            version,
            snapshot,
            problem,
            transport,
            rtt_us,
            requests,
            ..
        } = self.report.clone();
        Seen {
            name: self.peer.name.clone(),
            role: self.peer.role.as_str(),
            region: self.peer.region.clone(),
            health,
            version,
            snapshot,
            problem,
            transport,
            rtt_ms: rtt_us.map(|microseconds| microseconds as f64 / 1e3),
            requests,
            heard_ms: u64::try_from(heard.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// A node that follows.
pub struct Followed {
    nodes: std::sync::Arc<Nodes>,
    peer: Peer,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.nodes.change(&self.peer, |known| known.links -= 1);
    }
}

/// A node that asks for nothing of a bucket for so long has no part of it any more.
const WANTED_FOR: Duration = Duration::from_secs(3);
/// Of the newest figure in the running mean: half a second's worth.
const WEIGHT: f64 = 0.5;
const OVER_LEAST: Duration = Duration::from_millis(50);
/// As on each node.
const BUCKETS_MAX: usize = 100_000;
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Three reports, and a round trip.
const LOST_AFTER: Duration = Duration::from_secs(4);
/// A node that comes back in that time finds what it decides by.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::trial::Counted;

    fn peer(name: &str) -> Peer {
        Peer {
            name: name.to_owned(),
            role: Role::Edge,
            region: "local".to_owned(),
        }
    }

    fn asks(nodes: &Nodes, name: &str, asked: u64) -> f64 {
        let demand = Demand {
            bucket: "b".to_owned(),
            rate: 100.0,
            asked,
        };
        let report = Report {
            demands: vec![demand],
            over_ms: 1000,
            ..Report::default()
        };
        nodes.report(&peer(name), report).parts["b"]
    }

    #[test]
    fn parts_follow_demand_and_never_exceed_the_whole() {
        let nodes = Nodes::default();
        assert_eq!(asks(&nodes, "a", 10), 1.0, "alone");
        for _ in 0..10 {
            for (name, asked) in [("a", 10), ("b", 500)] {
                asks(&nodes, name, asked);
            }
        }
        let (a, b) = (asks(&nodes, "a", 10), asks(&nodes, "b", 500));
        assert!((a - 0.1).abs() < 0.01 && (b - 0.9).abs() < 0.01, "{a} {b}");
    }

    #[test]
    fn a_canarys_figures_of_a_node_count_once_and_no_edge_speaks_for_another() {
        let counted = |requests| Tried {
            trial: 7,
            canary: Counted {
                requests,
                ..Counted::default()
            },
            ..Tried::default()
        };
        let second = Peer {
            role: Role::Origin,
            ..peer("second")
        };
        let nodes = Nodes::default();
        let reports = |peer: &Peer, own, others: &[(&str, u64)]| {
            let others = others.iter();
            let others = others.map(|(name, requests)| ((*name).to_owned(), counted(*requests)));
            let report = Report {
                tried: Some(counted(own)),
                tried_by: others.collect(),
                ..Report::default()
            };
            nodes.report(peer, report);
            nodes.tried(7).1.requests
        };
        assert_eq!(reports(&peer("a"), 10, &[]), 10);
        assert_eq!(reports(&second, 100, &[("a", 9), ("b", 1000)]), 1110);
        assert_eq!(reports(&second, 100, &[("a", 12), ("b", 1000)]), 1112);
        assert_eq!(reports(&peer("a"), 13, &[("c", 10_000)]), 1113);
        assert_eq!(nodes.tried(8).1.requests, 0, "another canary's");
    }

    #[test]
    fn a_node_is_lost_when_it_no_longer_follows() {
        let nodes = std::sync::Arc::new(Nodes::default());
        let health = |newest| nodes.list(newest)[0].health;
        let following = nodes.follow(&peer("a"));
        let report = Report {
            snapshot: "1".to_owned(),
            ..Report::default()
        };
        assert_eq!(nodes.report(&peer("a"), report).edges, 1);
        assert_eq!((health("1"), health("2")), (Health::Up, Health::Behind));
        drop(following);
        assert_eq!(health("1"), Health::Lost);
    }
}
