//! The accounts of all quotas, in the embedded store: at the node that is alone, and at the first origin.
//!
//! One task settles with all nodes. What has come in meanwhile is settled together: one read, one write, one flush; answers go
//! out after the flush.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_model::quota::{Account, Ask, Grant, Terms};
use tidegate_sandbox::capabilities::keyvalue::Table;
use tokio::sync::{mpsc, oneshot};

use super::{NAME_BYTES_MAX, now};
use crate::store::embedded::Embedded;
use crate::sync::nodes::Nodes;

/// What a node settles about its quotas.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settlement {
    pub node: String,
    /// Another one each time that the node starts.
    pub session: u64,
    /// Rises: what comes late is not heard.
    pub number: u64,
    pub asks: Vec<Asked>,
}

/// One quota of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub quota: String,
    pub terms: Terms,
    #[serde(flatten)]
    pub ask: Ask,
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// Nodes that follow the one with the ledger.
    pub nodes: u64,
    /// In the order of the asks.
    pub grants: Vec<Grant>,
}

/// A settlement, and who waits for it.
pub struct Settle {
    pub settlement: Settlement,
    pub reply: oneshot::Sender<Result<Settled, String>>,
}

/// Settles, or says why not.
///
/// # Errors
/// Where the ledger cannot be reached, or cannot write.
pub async fn settle(
    ledger: &mpsc::Sender<Settle>,
    settlement: Settlement,
) -> Result<Settled, String> {
    let (reply, settled) = oneshot::channel();
    let settle = Settle { settlement, reply };
    let sent = ledger.try_send(settle);
    sent.map_err(|_| "too many settlements are waiting".to_owned())?;
    let settled = settled.await;
    settled.unwrap_or_else(|_| Err("the settlement was dropped".to_owned()))
}

/// A way to a ledger, and its other end.
pub fn channel() -> (mpsc::Sender<Settle>, mpsc::Receiver<Settle>) {
    mpsc::channel(SETTLEMENTS_MAX)
}

impl Settlement {
    /// Whether it is within bounds; who sends it may be another node.
    pub fn is_bounded(&self) -> bool {
        let bounded = |asked: &Asked| asked.quota.len() <= NAME_BYTES_MAX;
        self.asks.len() <= ASKS_MAX && self.asks.iter().all(bounded)
    }
}

/// The accounts, and who settles.
pub struct Ledger {
    store: Arc<Embedded>,
    /// Where other nodes follow this one.
    nodes: Option<Arc<Nodes>>,
    /// By node, the session and number that it was heard with last.
    heard: HashMap<String, (u64, u64)>,
    /// Accounts in the store; none: it has not been looked.
    count: Option<usize>,
}

/// An account, as it is stored.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    terms: Terms,
    account: Account,
}

impl Ledger {
    pub fn new(store: Arc<Embedded>, nodes: Option<Arc<Nodes>>) -> Self {
        Self {
            store,
            nodes,
            heard: HashMap::new(),
            count: None,
        }
    }

    /// Settles with all who ask, until nobody can any more.
    pub async fn run(mut self, mut asked: mpsc::Receiver<Settle>) {
        while let Some(first) = asked.recv().await {
            let mut batch = vec![first];
            while let Ok(next) = asked.try_recv() {
                batch.push(next);
            }
            let settlements = batch.iter().map(|settle| &settle.settlement);
            let answers = self.settle_all(settlements.collect()).await;
            match answers {
                Ok(answers) => {
                    for (settle, answer) in batch.into_iter().zip(answers) {
                        _ = settle.reply.send(answer); // who asked may have left
                    }
                }
                Err(problem) => {
                    tracing::error!(problem, "quotas cannot be written down");
                    for settle in batch {
                        _ = settle.reply.send(Err(problem.clone()));
                    }
                }
            }
        }
    }

    async fn settle_all(
        &mut self,
        batch: Vec<&Settlement>,
    ) -> Result<Vec<Result<Settled, String>>, String> {
        let table = self.store.quotas()?;
        let names: BTreeSet<&str> = batch
            .iter()
            .flat_map(|settlement| settlement.asks.iter().map(|asked| &*asked.quota))
            .collect();
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let stored = table.get_many(names.clone()).await?;
        let mut found: HashMap<String, Option<Entry>> = HashMap::new();
        for (name, stored) in names.into_iter().zip(stored) {
            let entry = stored.and_then(|stored| read(&name, &stored));
            found.insert(name, entry);
        }
        let mut entries = found.clone();
        let answers = batch.iter().map(|it| self.settle_one(it, &mut entries));
        let answers = answers.collect();
        let changed = entries
            .into_iter()
            .filter(|(name, entry)| found[name] != *entry);
        let mut pairs = Vec::new();
        let mut new = 0;
        for (name, entry) in changed {
            new += usize::from(found[&name].is_none());
            let text = serde_json::to_vec(&entry).map_err(|error| error.to_string())?;
            pairs.push((name, Some(text)));
        }
        if new > 0 {
            self.make_room(&*table, new).await?;
        }
        if !pairs.is_empty() {
            table.write(pairs).await?;
        }
        Ok(answers)
    }

    fn settle_one(
        &mut self,
        settlement: &Settlement,
        entries: &mut HashMap<String, Option<Entry>>,
    ) -> Result<Settled, String> {
        let Settlement {
            node,
            session,
            number,
            asks,
        } = settlement;
        if self.heard.len() >= HEARD_MAX {
            self.heard.clear(); // what comes late is rare
        }
        let last = self.heard.insert(node.clone(), (*session, *number));
        if let Some(last) = last.filter(|last| last.0 == *session && last.1 >= *number) {
            self.heard.insert(node.clone(), last);
            return Err("the settlement comes late".to_owned());
        }
        let now = now();
        let grants = asks.iter().map(|Asked { quota, terms, ask }| {
            let entry = entries.entry(quota.clone()).or_default();
            let entry = entry.get_or_insert_with(|| Entry {
                terms: *terms,
                account: Account::default(),
            });
            entry.terms = *terms;
            entry.account.settle(node, *session, ask, *terms, now)
        });
        Ok(Settled {
            grants: grants.collect(),
            nodes: self.nodes.as_ref().map_or(0, |nodes| nodes.followers()),
        })
    }

    /// Removes accounts of periods that are over, where there would be too many; and where that is not enough, those that
    /// little was taken of.
    async fn make_room(&mut self, table: &dyn Table, new: usize) -> Result<(), String> {
        let count = match self.count {
            Some(count) if count + new <= ACCOUNTS_MAX => count,
            _ => sweep(table, ACCOUNTS_MAX.saturating_sub(new)).await?,
        };
        self.count = Some(count + new);
        Ok(())
    }
}

/// Removes what is over, and more if there are more than `most`; tells how many are left.
async fn sweep(table: &dyn Table, most: usize) -> Result<usize, String> {
    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    let mut skip = Some(0);
    let now = now();
    while let Some(from) = skip {
        let page = table.keys(from).await?;
        let stored = table.get_many(page.keys.clone()).await?;
        for (name, stored) in page.keys.into_iter().zip(stored) {
            match stored.and_then(|stored| read(&name, &stored)) {
                Some(entry) if !entry.account.is_over(entry.terms, now) => {
                    kept.push((entry.account.given(), name));
                }
                _ => removed.push((name, None)),
            }
        }
        skip = page.next;
    }
    if kept.len() > most {
        kept.sort_unstable();
        let fewest = kept.drain(..kept.len() - most / 2);
        removed.extend(fewest.map(|(_, name)| (name, None)));
    }
    if !removed.is_empty() {
        table.write(removed).await?;
    }
    Ok(kept.len())
}

/// An account that cannot be read begins anew.
fn read(name: &str, stored: &[u8]) -> Option<Entry> {
    serde_json::from_slice(stored)
        .inspect_err(|error| tracing::error!(%error, quota = name, "an account cannot be read"))
        .ok()
}

/// In one settlement: with the longest names it is below the size that a report may have.
pub const ASKS_MAX: usize = 400;
/// The contract's bound.
const ACCOUNTS_MAX: usize = 100_000;
/// More nodes than a region has.
const HEARD_MAX: usize = 10_000;
/// Settlements that wait for the disk: several of each node.
const SETTLEMENTS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use tidegate_model::quota::Period;

    use super::*;

    fn asks(node: &str, session: u64, number: u64, upto: u64, need: u64) -> Settlement {
        let terms = Terms {
            limit: 100,
            offset: 0,
            period: Period::Day,
        };
        let ask = Ask {
            begins: Period::Day.at(now()).begins,
            upto,
            at_hand: 0,
            need,
            want: 0,
        };
        let quota = "a/dev\0day\0k".to_owned();
        Settlement {
            node: node.to_owned(),
            session,
            number,
            asks: vec![Asked { quota, terms, ask }],
        }
    }

    /// `upto` and `left` of each answer.
    async fn answers(ledger: &mut Ledger, batch: &[Settlement]) -> Vec<Result<(u64, u64), String>> {
        let answers = ledger.settle_all(batch.iter().collect()).await;
        let of_one = |settled: Settled| (settled.grants[0].upto, settled.grants[0].left);
        let answers = answers.expect("the store writes").into_iter();
        answers.map(|answer| answer.map(of_one)).collect()
    }

    #[tokio::test]
    async fn what_was_given_is_there_after_the_store_was_opened_again() {
        let directory =
            std::env::temp_dir().join(format!("tidegate-ledger-{}", std::process::id()));
        let open = || Ledger::new(Arc::new(Embedded::open(&directory).expect("opens")), None);
        let mut ledger = open();
        let both = [asks("a", 1, 1, 0, 30), asks("b", 1, 1, 0, 30)];
        assert_eq!(
            answers(&mut ledger, &both).await,
            [Ok((30, 70)), Ok((30, 40))]
        );
        let late = Err("the settlement comes late".to_owned());
        assert_eq!(answers(&mut ledger, &both[..1]).await, [late]);
        drop(ledger);

        let mut ledger = open();
        let again = [asks("a", 1, 2, 10, 0), asks("b", 2, 1, 0, 30)];
        assert_eq!(
            answers(&mut ledger, &again).await,
            [Ok((10, 60)), Ok((30, 30))],
            "20 given back; what b had stays counted"
        );
        drop(ledger);
        std::fs::remove_dir_all(directory).expect("ours");
    }

    #[test]
    fn a_settlement_of_another_node_has_bounds() {
        let mut settlement = asks("a", 1, 1, 0, 1);
        assert!(settlement.is_bounded());
        settlement.asks[0].quota = "k".repeat(NAME_BYTES_MAX + 1);
        assert!(!settlement.is_bounded());
        settlement = asks("a", 1, 1, 0, 1);
        settlement.asks = vec![settlement.asks[0].clone(); ASKS_MAX + 1];
        assert!(!settlement.is_bounded());
    }
}
