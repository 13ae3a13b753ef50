//! Sees to it that requests find something at hand of each quota: settles with the ledger, in batches, one after another.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_model::quota::{Ask, Holding};
use tokio::sync::{mpsc, oneshot};

use super::ledger::{ASKS_MAX, Asked, Settle, Settled, Settlement, settle};
use super::{Quota, Quotas, lock, now};

/// Keeps a node's quotas. One for a node.
pub struct Keeper {
    quotas: Arc<Quotas>,
    ledger: mpsc::Sender<Settle>,
    /// Whether the ledger is another node's, and may be out of reach.
    far: bool,
    /// It was out of reach the last time.
    cut_off: bool,
    /// How many share with this one, as the ledger said last.
    nodes: u64,
    node: String,
    session: u64,
    number: u64,
    held: HashMap<String, Held>,
    looked_at: u64,
    /// Nothing more is wanted.
    ending: bool,
}

/// A quota in use.
struct Held {
    quota: Arc<Quota>,
    holding: Holding,
    /// Somebody waits, or too little is at hand.
    flagged: bool,
    used: u64,
    used_at: u64,
}

impl Keeper {
    /// That of `node`; `far`: the ledger is another node's.
    pub fn new(quotas: Arc<Quotas>, ledger: mpsc::Sender<Settle>, node: String, far: bool) -> Self {
        Self {
            quotas,
            ledger,
            far,
            cut_off: false,
            nodes: 0,
            node,
            session: now(),
            number: 0,
            held: HashMap::new(),
            looked_at: 0,
            ending: false,
        }
    }

    /// Keeps them until told to end (or `end` is dropped), and then gives back what is at hand.
    pub async fn run(mut self, mut end: oneshot::Receiver<()>) {
        let quotas = self.quotas.clone();
        loop {
            let resting = self.held.is_empty();
            tokio::select! {
                _ = &mut end => break,
                () = quotas.wake.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY), if !resting => {}
            }
            self.take_up();
            if now().saturating_sub(self.looked_at) >= LOOK_EVERY.as_millis() as u64 {
                self.look();
            }
            while self.settle().await {}
        }
        self.give_all_back().await;
    }

    /// Takes up what was flagged.
    fn take_up(&mut self) {
        for quota in std::mem::take(&mut *lock(&self.quotas.flagged)) {
            quota.flagged.store(false, Ordering::Release);
            let made = || Held {
                quota: quota.clone(),
                holding: Holding::default(),
                flagged: true,
                used: 0,
                used_at: now(),
            };
            let held = self.held.entry(quota.name.clone()).or_insert_with(made);
            held.flagged = true;
        }
    }

    /// Looks at all that is held: gives back what is not needed, drops what rests.
    fn look(&mut self) {
        let now = now();
        self.looked_at = now;
        let rests = match self.quotas.is_crowded() {
            true => REST_CROWDED,
            false => REST,
        };
        let quotas = self.quotas.clone();
        self.held.retain(|_, held| {
            let at_hand = held.quota.at_hand(now);
            let used = held.holding.upto().saturating_sub(at_hand);
            if used != held.used {
                (held.used, held.used_at) = (used, now);
            }
            let surplus = held.holding.surplus(at_hand, now);
            held.give_back(surplus);
            let over = now >= held.holding.ends();
            if over {
                held.quota.take_back(u64::MAX); // void
            }
            let told = over || held.holding.is_told();
            let resting = now.saturating_sub(held.used_at) >= rests;
            !(told && resting && !held.flagged && quotas.drop_idle(&held.quota))
        });
    }

    /// Settles what is to be settled, as much as goes at once; tells whether there may be more.
    async fn settle(&mut self) -> bool {
        if self.cut_off {
            self.go_on_alone();
        }
        let now = now();
        let mut asked = Vec::new();
        let mut needs = Vec::new();
        let open = self.held.iter_mut();
        let open = open.filter(|(_, held)| held.flagged || !held.holding.is_told());
        for (name, held) in open.take(ASKS_MAX) {
            let need = if held.flagged { held.quota.need() } else { 0 };
            let mut ask = held.holding.ask(held.quota.at_hand(now), need, now);
            if self.ending {
                ask.want = 0;
            }
            needs.push((name.clone(), ask.clone()));
            asked.push(Asked {
                quota: name.clone(),
                terms: held.quota.terms(),
                ask,
            });
        }
        if asked.is_empty() {
            return false;
        }
        match self.ask(asked).await {
            Ok(settled) => {
                self.take_answers(needs, settled);
                true
            }
            Err(problem) => {
                self.miss_answers(needs, &problem);
                false // there is a next time
            }
        }
    }

    async fn ask(&mut self, asks: Vec<Asked>) -> Result<Settled, String> {
        self.number += 1;
        let asked = asks.len();
        let settlement = Settlement {
            node: self.node.clone(),
            session: self.session,
            number: self.number,
            asks,
        };
        let ledger = self.ledger.clone();
        let settling = settle(&ledger, settlement);
        let settled = match self.far {
            false => settling.await?,
            true => self.wait_far(settling).await?,
        };
        if settled.grants.len() != asked {
            return Err("the answer is another's".to_owned());
        }
        Ok(settled)
    }

    /// Waits for another node's answer; while it is cut off, those who wait here do not wait for that.
    async fn wait_far(
        &mut self,
        settling: impl Future<Output = Result<Settled, String>>,
    ) -> Result<Settled, String> {
        let quotas = self.quotas.clone();
        let mut settling = pin!(tokio::time::timeout(FAR_TIMEOUT, settling));
        loop {
            tokio::select! {
                settled = &mut settling => {
                    return settled.unwrap_or_else(|_| Err("no origin answers".to_owned()));
                }
                () = quotas.wake.notified(), if self.cut_off => {
                    self.take_up();
                    self.go_on_alone();
                }
            }
        }
    }

    fn take_answers(&mut self, asks: Vec<(String, Ask)>, settled: Settled) {
        if std::mem::take(&mut self.cut_off) {
            tracing::info!("quotas: an origin answers again");
        }
        self.nodes = settled.nodes;
        let now = now();
        for ((name, ask), grant) in asks.into_iter().zip(settled.grants) {
            let Some(held) = self.held.get_mut(&name) else {
                continue;
            };
            let change = held.holding.heard(&ask, &grant, now);
            held.bring(change, ask.need, now);
        }
    }

    fn miss_answers(&mut self, asks: Vec<(String, Ask)>, problem: &str) {
        if self.far {
            if !std::mem::replace(&mut self.cut_off, true) {
                tracing::warn!(problem, "quotas: going on with this node's part");
            }
            return self.go_on_alone();
        }
        for (name, _) in asks {
            if let Some(held) = self.held.get_mut(&name) {
                held.flagged = false;
                held.quota.fail(problem);
            }
        }
    }

    /// Takes what is needed of this node's own part; it is told when an origin answers.
    fn go_on_alone(&mut self) {
        let now = now();
        for held in self.held.values_mut().filter(|held| held.flagged) {
            let need = held.quota.need();
            let ask = held.holding.ask(held.quota.at_hand(now), need, now);
            let terms = held.quota.terms();
            let change = held.holding.alone(&ask, terms, self.nodes, now);
            held.bring(change, need, now);
        }
    }

    async fn give_all_back(&mut self) {
        self.ending = true;
        self.take_up();
        for held in self.held.values_mut() {
            held.flagged = false;
            held.give_back(u64::MAX);
        }
        while self.settle().await {}
    }
}

impl Held {
    fn give_back(&mut self, amount: u64) {
        let taken = self.quota.take_back(amount);
        self.holding.give_back(taken);
    }

    fn bring(&mut self, change: tidegate_model::quota::Change, need: u64, now: u64) {
        self.flagged = false;
        let (left, ends) = (self.holding.left(), self.holding.ends());
        self.quota.bring(change, need, left, ends, now);
    }
}

/// What is not needed is given back within a second or two, and the last one within five.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Far less than a step's deadline, and more than round trips around the world.
const FAR_TIMEOUT: Duration = Duration::from_millis(700);
/// In milliseconds: what nobody used for so long is dropped.
const REST: u64 = 10_000;
const REST_CROWDED: u64 = 500;
