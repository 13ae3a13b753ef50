//! What a node does with its part of a quota: how much it would have at hand, what it gives back, and what it does alone.

use super::Terms;
use super::account::{Ask, Grant};

/// A node's part of one quota.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Holding {
    /// When the period began that the rest is of.
    begins: u64,
    /// When it ends, by the node's own clock.
    ends: u64,
    /// What it may admit in the period, chunks and what it took alone.
    upto: u64,
    /// What the account has of that.
    told: u64,
    /// What nobody had been given when it last heard.
    left: u64,
    /// What it may still take alone, since it is cut off.
    alone: Option<u64>,
    demand: Demand,
}

/// How much is taken, in a second.
#[derive(Debug, Clone, Default, PartialEq)]
struct Demand {
    rate: f64,
    measured_at: u64,
    used_then: u64,
}

/// What becomes of what a node has at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// So much is added.
    More(u64),
    /// Another period has begun: what was at hand is void, and this is there.
    Anew(u64),
}

impl Holding {
    /// What to ask for, where `at_hand` is there and requests wait for `need`.
    pub fn ask(&mut self, at_hand: u64, need: u64, now: u64) -> Ask {
        let target = self.target(at_hand, now);
        let low = need > 0 || at_hand < target.div_ceil(2);
        Ask {
            begins: self.begins,
            upto: self.upto,
            at_hand,
            need,
            want: if low {
                target.saturating_sub(at_hand)
            } else {
                0
            },
        }
    }

    /// What of `at_hand` is not needed here for the next seconds; it must be taken away there, and [`Holding::give_back`]
    /// told.
    pub fn surplus(&mut self, at_hand: u64, now: u64) -> u64 {
        let target = self.target(at_hand, now);
        if at_hand > 2 * target {
            at_hand - target
        } else {
            0
        }
    }

    /// So much will not be used.
    pub fn give_back(&mut self, amount: u64) {
        self.upto = self.upto.saturating_sub(amount);
        self.demand.used_then = self.demand.used_then.min(self.upto);
    }

    /// Takes the answer to `ask`; what was taken alone meanwhile is not told yet.
    pub fn heard(&mut self, ask: &Ask, grant: &Grant, now: u64) -> Change {
        self.alone = None;
        self.left = grant.left;
        self.ends = now.saturating_add(grant.ends_in);
        let asked = if ask.begins == grant.begins {
            ask.upto
        } else {
            0
        };
        let got = grant.upto.saturating_sub(asked);
        let anew = self.begins != grant.begins;
        if anew {
            self.anew(grant.begins, now);
        }
        self.upto = self.upto.saturating_add(got);
        self.told = asked.saturating_add(got);
        if anew {
            Change::Anew(got)
        } else {
            Change::More(got)
        }
    }

    /// Nobody answers: takes of this node's even part of what was left when it last heard. In a period that it has heard
    /// nothing of, that is all of the limit.
    pub fn alone(&mut self, ask: &Ask, terms: Terms, nodes: u64, now: u64) -> Change {
        let span = terms.period.at(now);
        let anew = now >= self.ends && span.begins != self.begins;
        if anew {
            self.anew(span.begins, now);
            self.ends = span.ends;
            self.left = terms.limit.into();
            self.alone = None;
        }
        let part = self.alone.get_or_insert(self.left / nodes.max(1));
        let chunk = ask.want.min(*part / 2).max(ask.need).min(*part);
        *part -= chunk;
        self.left = self.left.saturating_sub(chunk);
        self.upto += chunk;
        if anew {
            Change::Anew(chunk)
        } else {
            Change::More(chunk)
        }
    }

    /// What it may admit in the period.
    pub fn upto(&self) -> u64 {
        self.upto
    }

    /// Whether the account has what is so here.
    pub fn is_told(&self) -> bool {
        self.upto == self.told
    }

    /// When the period ends, by the node's own clock.
    pub fn ends(&self) -> u64 {
        self.ends
    }

    /// What may be admitted beside what is at hand, as far as is known: nobody had it when the node last heard.
    pub fn left(&self) -> u64 {
        self.alone.unwrap_or(self.left)
    }

    fn anew(&mut self, begins: u64, now: u64) {
        self.begins = begins;
        self.upto = 0;
        self.told = 0;
        self.demand.used_then = 0;
        self.demand.measured_at = now;
    }

    /// What would last for a second, and one as long as some are taken: who comes now and then does not wait either.
    fn target(&mut self, at_hand: u64, now: u64) -> u64 {
        let used = self.upto.saturating_sub(at_hand);
        let rate = self.demand.measure(used, now);
        if rate < RATE_LEAST {
            0
        } else {
            rate.ceil() as u64
        }
    }
}

impl Demand {
    /// A running mean; what comes all at once is seen at once.
    fn measure(&mut self, used: u64, now: u64) -> f64 {
        let elapsed = now.saturating_sub(self.measured_at);
        let newest =
            used.saturating_sub(self.used_then) as f64 * 1000.0 / elapsed.max(SHORTEST) as f64;
        if elapsed < SHORTEST {
            return self.rate.max(newest);
        }
        self.rate += (newest - self.rate) * WEIGHT;
        (self.measured_at, self.used_then) = (now, used);
        self.rate
    }
}

/// In milliseconds: a rate over less is noise.
const SHORTEST: u64 = 100;
/// Of the newest figure in the running mean.
const WEIGHT: f64 = 0.5;
/// Some four seconds after the last was taken.
const RATE_LEAST: f64 = 1e-4;

#[cfg(test)]
mod tests {
    use super::super::Period;
    use super::*;

    const NOW: u64 = 1_795_632_898_000; // 2026-11-25
    const TERMS: Terms = Terms {
        limit: 100,
        offset: 0,
        period: Period::Day,
    };

    fn grant(upto: u64, left: u64) -> Grant {
        let span = Period::Day.at(NOW);
        Grant {
            begins: span.begins,
            ends_in: span.ends - NOW,
            upto,
            left,
        }
    }

    /// Asks, and is answered that it may admit `upto`.
    fn hear(holding: &mut Holding, upto: u64, left: u64) -> Change {
        let ask = holding.ask(0, 0, NOW);
        holding.heard(&ask, &grant(upto, left), NOW)
    }

    #[test]
    fn what_is_granted_comes_to_hand_once() {
        let mut holding = Holding::default();
        assert_eq!(hear(&mut holding, 10, 90), Change::Anew(10));
        assert_eq!(hear(&mut holding, 10, 90), Change::More(0));
        assert_eq!(hear(&mut holding, 25, 75), Change::More(15));
        let impossible = hear(&mut holding, 5, 75);
        assert_eq!(impossible, Change::More(0));
        assert_eq!((holding.upto(), holding.left()), (25, 75));
        assert_eq!(holding.ends(), Period::Day.at(NOW).ends);
        assert!(holding.is_told());
    }

    #[test]
    fn a_node_would_have_what_lasts_a_second_and_gives_the_rest_back() {
        let mut holding = Holding::default();
        hear(&mut holding, 100, 0);
        // 50 used in 250 ms: 200 a second, of which half is believed at once.
        assert_eq!(
            holding.ask(50, 0, NOW + 250).want,
            0,
            "50 at hand are half of 100"
        );
        assert_eq!(holding.ask(40, 0, NOW + 260).want, 60, "less than half");
        assert_eq!(holding.surplus(40, NOW + 270), 0);
        // Then nothing any more.
        let surplus: Vec<u64> = (2..40)
            .map(|tick| holding.surplus(40, NOW + 250 * tick))
            .collect();
        assert_eq!(
            surplus[..6],
            [0, 0, 22, 31, 35, 37],
            "most of it within two seconds"
        );
        let given_back = surplus[37];
        assert_eq!(given_back, 40, "in the end all of it");
        holding.give_back(given_back);
        assert_eq!(holding.upto(), 60);
    }

    #[test]
    fn the_first_requests_already_say_how_many_come() {
        let mut holding = Holding::default();
        let ask = holding.ask(0, 1, NOW);
        assert_eq!((ask.need, ask.want), (1, 0));
        hear(&mut holding, 1, 99);
        assert_eq!(holding.ask(0, 1, NOW + 3).want, 10);
    }

    #[test]
    fn a_node_that_is_cut_off_has_an_even_part_of_what_was_left() {
        let mut holding = Holding::default();
        hear(&mut holding, 10, 80);
        let ask = Ask {
            begins: 0,
            upto: 0,
            at_hand: 0,
            need: 1,
            want: 100,
        };
        let mut alone = 0;
        for _ in 0..100 {
            match holding.alone(&ask, TERMS, 4, NOW) {
                Change::More(more) => alone += more,
                Change::Anew(_) => panic!("it is the same day"),
            }
        }
        assert_eq!(alone, 20, "a quarter");
        assert_eq!(holding.upto(), 30, "which is told when somebody answers");
        assert!(!holding.is_told());
        assert_eq!(hear(&mut holding, 30, 60), Change::More(0));
        assert!(holding.is_told());
        // The next time it is a part of what is left then.
        holding.alone(&Ask { need: 100, ..ask }, TERMS, 4, NOW);
        assert_eq!(holding.upto(), 45);
    }

    #[test]
    fn what_is_taken_alone_while_an_answer_is_on_its_way_is_told_later() {
        let mut holding = Holding::default();
        hear(&mut holding, 10, 80);
        let asked = holding.ask(0, 7, NOW);
        let ask = Ask {
            need: 5,
            want: 0,
            ..asked.clone()
        };
        holding.alone(&ask, TERMS, 4, NOW);
        let got = holding.heard(&asked, &grant(17, 73), NOW);
        assert_eq!((got, holding.upto()), (Change::More(7), 22));
        assert!(!holding.is_told());
    }

    #[test]
    fn a_period_that_nothing_was_heard_of_begins_with_the_limit() {
        let ask = Ask {
            begins: 0,
            upto: 0,
            at_hand: 0,
            need: 1000,
            want: 0,
        };
        let mut holding = Holding::default();
        assert_eq!(holding.alone(&ask, TERMS, 0, NOW), Change::Anew(100));
        assert_eq!(holding.alone(&ask, TERMS, 0, NOW), Change::More(0));
        let tomorrow = NOW + 86_400_000;
        assert_eq!(holding.alone(&ask, TERMS, 4, tomorrow), Change::Anew(25));
        assert_eq!(holding.ends(), Period::Day.at(tomorrow).ends);
    }
}
