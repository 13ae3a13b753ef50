//! What a quota gives out: the one truth, kept by the node that is alone or by the first origin.
//!
//! Nodes do not ask for each request: they are given chunks ahead. A chunk counts as admitted from the moment that it is
//! given, so what is written down is never less than what was admitted, whatever is killed when.
//!
//! A node says up to where it may admit in this period (`upto`, all its chunks together), not what changed since it last spoke:
//! a message that is lost or comes twice changes nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Terms;

/// The account of one quota.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// When the first period began, for the offset.
    first: Option<u64>,
    /// When the period that it counts began.
    begins: u64,
    /// What may have been admitted in it.
    given: u64,
    /// By node, its part of that.
    leases: BTreeMap<String, Lease>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Lease {
    session: u64,
    upto: u64,
}

/// What a node says of its part, and what it would have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// When the period began that `upto` is of.
    pub begins: u64,
    /// What it may admit in the period, by what it was given and has not given back. More than it was given: it was cut off.
    pub upto: u64,
    /// What of that it has not used.
    pub at_hand: u64,
    /// What requests are waiting for.
    pub need: u64,
    /// What it would have at hand beside what is there.
    pub want: u64,
}

/// What a node may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// When the period began.
    pub begins: u64,
    /// Until it ends, in milliseconds; a node's own clock may be wrong.
    pub ends_in: u64,
    /// What it may admit in the period, all told.
    pub upto: u64,
    /// What nobody has been given.
    pub left: u64,
}

impl Account {
    /// Settles with a node. `session` is another one each time that it starts: what it was given before stays counted.
    pub fn settle(&mut self, node: &str, session: u64, ask: &Ask, terms: Terms, now: u64) -> Grant {
        let span = terms.period.at(now);
        if self.begins != span.begins {
            self.begins = span.begins;
            self.given = 0;
            self.leases.clear();
        }
        let first = *self.first.get_or_insert(span.begins);
        let offset = if first == span.begins {
            terms.offset
        } else {
            0
        };
        let limit = u64::from(terms.limit.saturating_sub(offset));
        let upto = self.hear(node, session, ask);
        let left = limit.saturating_sub(self.given);
        let chunk = match upto {
            Some(_) => chunk(ask, limit, left, self.leases.len() as u64),
            None => 0,
        };
        self.given += chunk;
        let upto = upto.unwrap_or(0) + chunk;
        if let Some(lease) = self.leases.get_mut(node) {
            lease.upto = upto;
        }
        Grant {
            begins: span.begins,
            ends_in: span.ends.saturating_sub(now),
            upto,
            left: left - chunk,
        }
    }

    /// Whether it can be forgotten: it counts nothing any more, and nothing of it matters later.
    pub fn is_over(&self, terms: Terms, now: u64) -> bool {
        self.begins != terms.period.at(now).begins && terms.offset == 0
    }

    /// What may have been admitted in the period that it counts.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// Takes up what a node says it may admit; `None` where there are too many nodes.
    ///
    /// It can give back what it was given, and no more. What it admitted beyond that is counted.
    fn hear(&mut self, node: &str, session: u64, ask: &Ask) -> Option<u64> {
        if !self.leases.contains_key(node) && self.leases.len() >= NODES_MAX {
            return None;
        }
        let upto = if ask.begins == self.begins {
            ask.upto.min(UPTO_MAX)
        } else {
            0
        };
        let new = Lease { session, upto: 0 };
        let lease = self.leases.entry(node.to_owned()).or_insert(new.clone());
        if lease.session != session {
            *lease = new;
        }
        let returned = lease.upto.saturating_sub(upto);
        let beyond = upto.saturating_sub(lease.upto);
        self.given = self.given.saturating_sub(returned).saturating_add(beyond);
        lease.upto = upto;
        Some(upto)
    }
}

/// How much a node is given of what is left: what requests are waiting for, or what it would have at hand, but so little that
/// all nodes together sit on half of what is left and on a twentieth of the limit at most, whatever is used by then.
fn chunk(ask: &Ask, limit: u64, left: u64, nodes: u64) -> u64 {
    let most = (left / (2 * nodes)).min(limit / (20 * nodes)).max(1);
    let more = most.saturating_sub(ask.at_hand);
    ask.want.min(more).max(ask.need).min(left)
}

/// Edges and origins of a region.
const NODES_MAX: usize = 1000;
/// A thousand times the largest limit: sums of it for all nodes stay numbers.
const UPTO_MAX: u64 = (u32::MAX as u64) * 1000;

#[cfg(test)]
mod tests {
    use super::super::Period;
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_795_632_898_000; // 2026-11-25
    const DAY: u64 = 86_400_000;

    fn terms(limit: u32, offset: u32) -> Terms {
        Terms {
            limit,
            offset,
            period: Period::Day,
        }
    }

    /// `upto` and `left` of the answer.
    fn settle(account: &mut Account, node: &str, upto: u64, need: u64, want: u64) -> (u64, u64) {
        let ask = Ask {
            begins: Period::Day.at(NOW).begins,
            upto,
            at_hand: 0,
            need,
            want,
        };
        let grant = account.settle(node, 1, &ask, terms(100, 0), NOW);
        (grant.upto, grant.left)
    }

    #[test]
    fn chunks_get_smaller_with_what_is_left() {
        // need, want, limit, left, nodes, chunk
        let cases = [
            (1, 0, 100, 100, 1, 1),
            (0, 0, 100, 100, 1, 0),
            (1, 50, 1000, 1000, 1, 50),
            (1, 500, 1000, 1000, 1, 50), // a twentieth of the limit
            (1, 500, 1000, 1000, 4, 12), // of all nodes together
            (1, 500, 1000, 60, 1, 30),   // half of what is left
            (1, 500, 1000, 3, 1, 1),
            (1, 500, 1000, 1, 1, 1),
            (1, 500, 1000, 0, 1, 0),
            (80, 0, 1000, 100, 4, 80), // who waits is served
            (80, 0, 1000, 30, 4, 30),
            (0, 9, 10, 10, 1, 1),
        ];
        for (need, want, limit, left, nodes, expected) in cases {
            let ask = Ask {
                begins: 0,
                upto: 0,
                at_hand: 0,
                need,
                want,
            };
            let got = chunk(&ask, limit, left, nodes);
            assert_eq!(got, expected, "{ask:?} of {left} of {limit} among {nodes}");
        }
    }

    #[test]
    fn what_is_at_hand_counts_but_who_waits_is_served() {
        // at hand, need, chunk
        for (at_hand, need, expected) in [(30, 0, 20), (50, 0, 0), (60, 0, 0), (50, 5, 5)] {
            let ask = Ask {
                begins: 0,
                upto: 0,
                at_hand,
                need,
                want: 500,
            };
            assert_eq!(chunk(&ask, 1000, 1000, 1), expected, "{ask:?}");
        }
    }

    #[test]
    fn what_is_given_back_is_for_others_and_what_was_admitted_alone_is_counted() {
        let mut account = Account::default();
        assert_eq!(settle(&mut account, "a", 0, 60, 0), (60, 40));
        assert_eq!(settle(&mut account, "b", 0, 60, 0), (40, 0));
        assert_eq!(
            settle(&mut account, "a", 30, 0, 0),
            (30, 30),
            "30 given back"
        );
        assert_eq!(settle(&mut account, "b", 40, 60, 0), (70, 0));
        assert_eq!(settle(&mut account, "a", 45, 1, 0), (45, 0), "15 alone");
        assert_eq!(account.given(), 115);
        assert_eq!(
            settle(&mut account, "a", 0, 0, 0),
            (0, 30),
            "of 45 and no more"
        );
    }

    #[test]
    fn an_answer_that_was_lost_costs_nothing() {
        let mut account = Account::default();
        for _ in 0..3 {
            assert_eq!(settle(&mut account, "a", 0, 10, 0), (10, 90));
        }
    }

    #[test]
    fn what_a_node_had_before_it_was_started_again_stays_counted() {
        let mut account = Account::default();
        let mut ask = Ask {
            begins: Period::Day.at(NOW).begins,
            upto: 0,
            at_hand: 0,
            need: 10,
            want: 0,
        };
        account.settle("a", 1, &ask, terms(100, 0), NOW);
        let grant = account.settle("a", 2, &ask, terms(100, 0), NOW);
        assert_eq!((grant.upto, grant.left), (10, 80));
        // It cannot give back what its forerunner had.
        (ask.upto, ask.need) = (0, 0);
        assert_eq!(account.settle("a", 2, &ask, terms(100, 0), NOW).left, 90);
    }

    #[test]
    fn a_period_begins_anew_and_the_offset_is_of_the_first() {
        let mut account = Account::default();
        let ask = Ask {
            begins: 0,
            upto: 77,
            at_hand: 0,
            need: 1000,
            want: 0,
        };
        // days later, granted, left
        let cases = [(0, 70), (1, 100), (2, 100)];
        for (days, expected) in cases {
            let now = NOW + days * DAY;
            let grant = account.settle("a", 1, &ask, terms(100, 30), now);
            assert_eq!((grant.upto, grant.left), (expected, 0), "{days} days later");
            assert_eq!(now + grant.ends_in, Period::Day.at(now).ends);
        }
        assert!(
            !account.is_over(terms(100, 30), NOW + 9 * DAY),
            "else it would be the first again"
        );
        assert!(account.is_over(terms(100, 0), NOW + 9 * DAY));
        assert!(!account.is_over(terms(100, 0), NOW + 2 * DAY));
    }

    #[test]
    fn an_offset_beyond_the_limit_leaves_nothing() {
        let ask = Ask {
            begins: 0,
            upto: 0,
            at_hand: 0,
            need: 1,
            want: 0,
        };
        let grant = Account::default().settle("a", 1, &ask, terms(5, 9), NOW);
        assert_eq!((grant.upto, grant.left), (0, 0));
    }

    proptest! {
        /// Nodes that keep to what they are told admit no more than the limit.
        #[test]
        fn the_limit_holds(moves in prop::collection::vec((0usize..4, 0u64..50, 0u64..50, 0u64..50), 1..200)) {
            let mut account = Account::default();
            let (mut upto, mut used) = ([0u64; 4], [0u64; 4]);
            for (node, need, want, using) in moves {
                used[node] = (used[node] + using).min(upto[node]);
                if using % 3 == 0 {
                    upto[node] = used[node]; // gives back
                }
                let name = node.to_string();
                upto[node] = settle(&mut account, &name, upto[node], need, want).0;
                prop_assert!(upto.iter().sum::<u64>() <= 100, "{:?}", upto);
                prop_assert_eq!(upto.iter().sum::<u64>(), account.given());
            }
        }

        /// No node's word breaks the arithmetic.
        #[test]
        fn any_word_is_heard(asks in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()), 1..50)) {
            let mut account = Account::default();
            for (session, upto, need, want) in asks {
                let ask = Ask { begins: Period::Day.at(NOW).begins, upto, at_hand: 0, need, want };
                account.settle("a", session, &ask, terms(100, 0), NOW);
            }
        }
    }
}
