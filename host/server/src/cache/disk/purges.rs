//! The purges that what is on disk has still to be held against.
//!
//! A purge does not look for what it names: that would be to read everything. It is noted, and each response that is read
//! is compared with those that came after it was asked for. A purge is of no more use when all segments of its time are gone.

use std::collections::HashMap;

use tidegate_model::cache::key::Named;

use crate::cache::purge::{Purge, Scope};
use crate::cache::store::Responses;

/// Purges, by what they name.
#[derive(Default)]
pub struct Purges {
    /// Those that are found by looking for what a response is called.
    exact: HashMap<Scope, Times>,
    /// Those that each response is compared with.
    prefixes: HashMap<Scope, Times>,
    /// Of all names.
    bytes: usize,
}

/// When something was purged last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Times {
    hard: u64,
    soft: u64,
    /// The last segment that may hold what it is about.
    segment: u32,
}

impl Purges {
    /// Notes a purge. `segment` is the one that is written to.
    pub fn add(&mut self, purge: &Purge, at: u64, segment: u32) {
        let scopes = match purge.scope {
            Scope::Prefix(_) => &mut self.prefixes,
            _ => &mut self.exact,
        };
        let times = scopes.entry(purge.scope.clone()).or_insert_with(|| {
            self.bytes += purge.scope.bytes();
            Times::default()
        });
        let time = if purge.soft {
            &mut times.soft
        } else {
            &mut times.hard
        };
        *time = at.max(*time);
        times.segment = segment.max(times.segment);
    }

    /// Removes what was purged since it was asked for, and marks stale what was marked.
    pub fn apply(&self, named: &Named<'_>, responses: &mut Responses) {
        responses.retain(|stored| {
            let scopes = Purge::scopes_of(named, stored);
            let exact = scopes.iter().filter_map(|scope| self.exact.get(scope));
            let prefixes = self.prefixes.iter();
            let prefixes = prefixes.filter(|(scope, _)| scope.means(named, stored));
            let (mut hard, mut soft) = (0, 0);
            for times in exact.chain(prefixes.map(|(_, times)| times)) {
                hard = times.hard.max(hard);
                soft = times.soft.max(soft);
            }
            if stored.asked.at < soft {
                stored.mark_purged();
            }
            stored.asked.at >= hard
        });
    }

    /// Forgets those that are about segments before this one only.
    pub fn forget_before(&mut self, segment: u32) {
        for scopes in [&mut self.exact, &mut self.prefixes] {
            scopes.retain(|_, times| times.segment >= segment);
        }
        let scopes = self.exact.keys().chain(self.prefixes.keys());
        self.bytes = scopes.map(Scope::bytes).sum();
    }

    /// Whether there are more than can be told from each other in good time.
    pub fn is_full(&self) -> bool {
        self.bytes > BYTES_MAX || self.prefixes.len() > PREFIXES_MAX
    }

    /// All of them: what, when, and until which segment.
    pub fn all(&self) -> impl Iterator<Item = (Purge, u64, u32)> {
        let all = self.exact.iter().chain(&self.prefixes);
        all.flat_map(|(scope, times)| {
            let purge = |soft| Purge {
                scope: scope.clone(),
                soft,
            };
            let each = [(purge(false), times.hard), (purge(true), times.soft)];
            each.into_iter()
                .filter(|(_, at)| *at > 0)
                .map(|(purge, at)| (purge, at, times.segment))
        })
    }
}

/// Some tens of thousands of names.
const BYTES_MAX: usize = 4 << 20;
/// Each response that is read is compared with each of them: some tens of microseconds.
const PREFIXES_MAX: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::disk::record::tests::entry;

    #[test]
    fn a_purge_takes_what_was_asked_for_before_it_and_only_what_it_names() {
        let named = Named {
            scope: b"a/s",
            host: b"h",
            path: Some(b"/x/y"),
            query: None,
        };
        let cases = [
            (Purge::all(), true),
            (Purge::tag("t"), true),
            (Purge::tag("u"), false),
            (Purge::stage("a"), true),
            (Purge::stage("a/s"), true),
            (Purge::stage("a/t"), false),
            (Purge::url("/x/y").unwrap(), true),
            (Purge::url("http://h/x/y").unwrap(), true),
            (Purge::url("http://i/x/y").unwrap(), false),
            (Purge::url("/x").unwrap(), false),
            (Purge::prefix("/x").unwrap(), true),
            (Purge::prefix("/y").unwrap(), false),
        ];
        for (purge, meant) in cases {
            for (at, after) in [(8, true), (7, false)] {
                let mut purges = Purges::default();
                purges.add(&purge, at, 3);
                let mut responses = entry().responses; // asked for at 7
                purges.apply(&named, &mut responses);
                assert_eq!(responses.is_empty(), meant && after, "{purge:?} at {at}");
                let soft = Purge {
                    soft: true,
                    ..purge.clone()
                };
                let mut purges = Purges::default();
                purges.add(&soft, at, 3);
                let mut responses = entry().responses;
                purges.apply(&named, &mut responses);
                assert_eq!(responses[0].is_purged(), meant && after, "{soft:?} at {at}");
                let all: Vec<_> = purges.all().collect();
                assert_eq!(all, [(soft, at, 3)]);
                purges.forget_before(3);
                assert_eq!(purges.all().count(), 1);
                purges.forget_before(4);
                assert_eq!(purges.all().count(), 0);
            }
        }
    }
}
