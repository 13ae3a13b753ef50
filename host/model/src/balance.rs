//! Which target of an upstream takes the next request, and when one may be left out for a while.
//!
//! Pure: the caller hands in what it knows of each target. Connections and health checks are the server's.

use std::time::Duration;

/// How an upstream spreads its requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Balance {
    /// Each target in turn.
    #[default]
    RoundRobin,
    /// The target with the fewest requests in flight; in turn where several have the same number.
    LeastRequest,
}

/// What is known of one target when a request looks for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    pub standing: Standing,
    /// Requests sent to it whose responses have not ended.
    pub in_flight: u32,
}

/// Whether a target should get requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Healthy,
    /// Left out for a time after requests failed. It gets requests again where all healthy targets are ejected: a
    /// target that sometimes fails is better than none.
    Ejected,
    /// Its health checks fail: it gets no requests.
    Unhealthy,
}

/// Chooses among `count` targets; `None` where all are unhealthy.
///
/// `turn` counts the requests of this upstream and decides who is next. `avoid` is the target that the request was
/// tried at before: it is chosen again only where there is no other.
pub fn choose(
    balance: Balance,
    turn: usize,
    count: usize,
    avoid: Option<usize>,
    candidate: impl Fn(usize) -> Candidate,
) -> Option<usize> {
    if count == 1 {
        return (candidate(0).standing != Standing::Unhealthy).then_some(0);
    }
    let start = if count == 0 { 0 } else { turn % count };
    let in_turn = || (start..count).chain(0..start);
    let with = |standing: Standing| {
        let mut standing = in_turn()
            .filter(move |&place| avoid != Some(place))
            .filter_map(|place| {
                let candidate = candidate(place);
                (candidate.standing == standing).then_some((place, candidate.in_flight))
            });
        match balance {
            Balance::RoundRobin => standing.next(),
            Balance::LeastRequest => standing.min_by_key(|&(_, in_flight)| in_flight),
        }
        .map(|(place, _)| place)
    };
    with(Standing::Healthy)
        .or_else(|| with(Standing::Ejected))
        .or_else(|| {
            avoid.filter(|&place| place < count && candidate(place).standing != Standing::Unhealthy)
        })
}

/// Whether one more of `count` targets may be ejected where `ejected` already are.
///
/// At most half of them: when more fail, the fault is likely elsewhere, and the rest would drown.
pub fn may_eject(count: usize, ejected: usize) -> bool {
    ejected < count / 2
}

/// How far an origin is from an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nearness {
    /// The link's round trip, as last measured.
    pub rtt: Duration,
    /// It has been silent, or requests to it have failed: it is asked where no other is left.
    pub doubtful: bool,
}

/// The nearest origin that is well, else the nearest at all; among equals the first.
pub fn nearest_first<T>(
    origins: impl Iterator<Item = (Nearness, usize, T)>,
) -> Option<(Nearness, usize, T)> {
    origins.min_by_key(|(nearness, place, _)| (nearness.doubtful, nearness.rtt, *place))
}

/// Requests that fail at an origin in a row, after which it is asked last for a while.
pub const EJECT_AFTER: u32 = 3;

/// When consecutive results change what a health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthThresholds {
    /// Passing checks in a row after which an unhealthy target is healthy; at least 1.
    pub healthy: u32,
    /// Failing checks in a row after which a healthy target is unhealthy; at least 1.
    pub unhealthy: u32,
}

/// The health of one target as its checks see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    pub healthy: bool,
    /// Results in a row that contradict `healthy`.
    against: u32,
    /// No check has ended yet.
    unknown: bool,
}

impl Health {
    /// A target counts as healthy until its first check says otherwise; that first one decides alone.
    pub fn unknown() -> Self {
        Self {
            healthy: true,
            against: 0,
            unknown: true,
        }
    }

    /// Takes in the result of one check.
    pub fn observe(&mut self, passed: bool, thresholds: HealthThresholds) {
        if std::mem::take(&mut self.unknown) {
            self.healthy = passed;
            return;
        }
        if passed == self.healthy {
            self.against = 0;
            return;
        }
        self.against += 1;
        let needed = if passed {
            thresholds.healthy
        } else {
            thresholds.unhealthy
        };
        if self.against >= needed.max(1) {
            *self = Self {
                healthy: passed,
                against: 0,
                unknown: false,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Standing::{Ejected, Healthy, Unhealthy};

    fn pick(
        balance: Balance,
        turn: usize,
        avoid: Option<usize>,
        targets: &[(Standing, u32)],
    ) -> Option<usize> {
        choose(balance, turn, targets.len(), avoid, |place| Candidate {
            standing: targets[place].0,
            in_flight: targets[place].1,
        })
    }

    #[test]
    fn round_robin_takes_healthy_targets_in_turn() {
        let targets = [(Healthy, 9), (Unhealthy, 0), (Healthy, 0)];
        let picked: Vec<_> = (0..6)
            .map(|turn| pick(Balance::RoundRobin, turn, None, &targets))
            .collect();
        assert_eq!(
            picked,
            [Some(0), Some(2), Some(2), Some(0), Some(2), Some(2)]
        );
    }

    #[test]
    fn choices_follow_standing_then_load_then_turn() {
        let least = Balance::LeastRequest;
        type Case<'a> = (
            &'a str,
            usize,
            Option<usize>,
            &'a [(Standing, u32)],
            Option<usize>,
        );
        let cases: [Case; 10] = [
            (
                "the fewest in flight",
                0,
                None,
                &[(Healthy, 2), (Healthy, 1), (Healthy, 3)],
                Some(1),
            ),
            (
                "in turn where equal",
                1,
                None,
                &[(Healthy, 1), (Healthy, 1)],
                Some(1),
            ),
            (
                "an ejected target is left out",
                0,
                None,
                &[(Ejected, 0), (Healthy, 5)],
                Some(1),
            ),
            (
                "ejected before nothing",
                0,
                None,
                &[(Ejected, 0), (Unhealthy, 0)],
                Some(0),
            ),
            (
                "unhealthy never",
                0,
                None,
                &[(Unhealthy, 0), (Unhealthy, 0)],
                None,
            ),
            (
                "another than the one tried",
                0,
                Some(0),
                &[(Healthy, 0), (Healthy, 9)],
                Some(1),
            ),
            (
                "even an ejected one",
                0,
                Some(0),
                &[(Healthy, 0), (Ejected, 9)],
                Some(1),
            ),
            ("the same where alone", 0, Some(0), &[(Healthy, 0)], Some(0)),
            (
                "the same where the rest is unhealthy",
                0,
                Some(0),
                &[(Healthy, 0), (Unhealthy, 0)],
                Some(0),
            ),
            ("no target", 3, None, &[], None),
        ];
        for (what, turn, avoid, targets, expected) in cases {
            assert_eq!(pick(least, turn, avoid, targets), expected, "{what}");
        }
    }

    #[test]
    fn at_most_half_of_the_targets_are_ejected() {
        let cases = [
            (0, 0, false),
            (1, 0, false),
            (2, 0, true),
            (2, 1, false),
            (3, 1, false),
            (5, 1, true),
        ];
        for (count, ejected, expected) in cases {
            assert_eq!(may_eject(count, ejected), expected, "{ejected} of {count}");
        }
    }

    #[test]
    fn health_changes_after_its_thresholds() {
        let thresholds = HealthThresholds {
            healthy: 2,
            unhealthy: 3,
        };
        let cases: [(&str, &[bool], bool); 6] = [
            ("healthy until checked", &[], true),
            ("the first check decides", &[false], false),
            ("two failures are not three", &[true, false, false], true),
            ("three are", &[true, false, false, false], false),
            (
                "a pass between starts over",
                &[true, false, false, true, false, false],
                true,
            ),
            ("two passes heal", &[false, true, true], true),
        ];
        for (what, results, expected) in cases {
            let mut health = Health::unknown();
            for &passed in results {
                health.observe(passed, thresholds);
            }
            assert_eq!(health.healthy, expected, "{what}");
        }
    }

    #[test]
    fn the_nearest_origin_that_is_well_is_asked_first() {
        let at = |milliseconds, doubtful| Nearness {
            rtt: Duration::from_millis(milliseconds),
            doubtful,
        };
        for (origins, expected) in [
            (vec![], None),
            (vec![at(80, false), at(20, false)], Some(1)),
            (vec![at(80, false), at(20, true)], Some(0)),
            (vec![at(80, true), at(20, true)], Some(1)),
            (vec![at(20, false), at(20, false)], Some(0)),
        ] {
            let known = origins.iter().enumerate();
            let chosen = nearest_first(known.map(|(place, nearness)| (*nearness, place, ())));
            assert_eq!(chosen.map(|(_, place, ())| place), expected, "{origins:?}");
        }
    }
}
