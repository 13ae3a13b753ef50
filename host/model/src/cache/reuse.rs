//! Whether a stored response may be served, at this moment and to this request.
//!
//! Source: RFC 9111 §4, §4.2.4 and §5.2.1; RFC 5861.

use serde::{Deserialize, Serialize};

use super::directives::{RequestDirectives, SECONDS_MAX, Scope};
use super::freshness::Lifetime;
use super::targeted::Told;

/// What is known of a stored response's time. Seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Since 1970, our clock.
    received_at: u32,
    /// How old it was then.
    initial_age: u32,
    lifetime: u32,
    while_revalidate: u32,
    if_error: u32,
    /// `no-cache`: never without asking.
    always_asks: bool,
    /// `must-revalidate` and what means the same to a shared cache: never stale.
    never_stale: bool,
    /// `s-maxage`: stale only where the origin says so itself.
    not_at_the_viewers_wish: bool,
}

/// What to do with a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Serve it.
    Fresh,
    /// Serve it, though it is stale: the viewer said that it may be.
    Stale,
    /// Serve it, and ask the origin meanwhile.
    StaleWhileRevalidate,
    /// Ask the origin first.
    Validate,
}

impl Span {
    /// `initial_age` as of [`super::freshness::initial_age`].
    pub fn new(told: &Told, lifetime: Lifetime, initial_age: u64, received_at: u64) -> Self {
        let directives = &told.directives;
        let said = |seconds: Option<u64>| short(seconds.unwrap_or(0).min(SECONDS_MAX));
        Self {
            received_at: short(received_at),
            initial_age: short(initial_age),
            lifetime: said(Some(lifetime.seconds())),
            while_revalidate: said(directives.stale_while_revalidate),
            if_error: said(directives.stale_if_error),
            always_asks: directives.no_cache == Some(Scope::Response),
            // "proxy-revalidate … analogous to must-revalidate, except that [it] does not apply to private caches"
            never_stale: directives.must_revalidate || directives.proxy_revalidate,
            not_at_the_viewers_wish: directives.s_maxage.is_some(),
        }
    }

    /// A lifetime that somebody else decides on than the origin; it is never served stale.
    pub fn fixed(ttl: u64, received_at: u64) -> Self {
        Self {
            received_at: short(received_at),
            initial_age: 0,
            lifetime: short(ttl),
            while_revalidate: 0,
            if_error: 0,
            always_asks: false,
            never_stale: true,
            not_at_the_viewers_wish: true,
        }
    }

    /// "current_age = corrected_initial_age + resident_time" (RFC 9111 §4.2.3).
    pub fn age(&self, now: u64) -> u64 {
        u64::from(self.initial_age).saturating_add(now.saturating_sub(self.received_at()))
    }

    /// Since 1970, our clock.
    pub fn received_at(&self) -> u64 {
        self.received_at.into()
    }

    /// How long it stays fresh; negative for how long it has been stale.
    pub fn time_left(&self, now: u64) -> i64 {
        let age = i64::try_from(self.age(now)).unwrap_or(i64::MAX);
        i64::from(self.lifetime).saturating_sub(age)
    }

    /// Decides whether it may be served at `now`. `purged`: somebody has marked it stale.
    pub fn reuse(&self, request: &RequestDirectives, now: u64, purged: bool) -> Reuse {
        // "the stored response does not contain the no-cache directive, unless it is successfully validated"
        if self.always_asks || request.no_cache {
            return Reuse::Validate;
        }
        let age = self.age(now);
        // "the client prefers a response whose age is less than or equal to the specified number of seconds"
        if request.max_age.is_some_and(|max| age > max) {
            return Reuse::Validate;
        }
        let left = self.time_left(now);
        // "response_is_fresh = (freshness_lifetime > current_age)"; "the client prefers a response whose freshness
        // lifetime is no less than its current age plus the specified time in seconds"
        let wanted = request
            .min_fresh
            .map_or(0, |seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
        if left > 0 && left >= wanted && !purged {
            return Reuse::Fresh;
        }
        // "A cache MUST NOT generate a stale response if it is prohibited by an explicit in-protocol directive"
        if self.never_stale || request.min_fresh.is_some() {
            return Reuse::Validate;
        }
        let stale_for = if purged {
            0
        } else {
            u64::try_from(left.saturating_neg()).unwrap_or(0)
        };
        // "caches MAY serve the response in which it appears after it becomes stale, up to the indicated number of
        // seconds" (RFC 5861 §3); "must not … if max-age=0" is what the request's max-age has seen to above.
        if stale_for < u64::from(self.while_revalidate) {
            return Reuse::StaleWhileRevalidate;
        }
        // "the client will accept a response that has exceeded its freshness lifetime by no more than the specified
        // number of seconds"
        let accepted = request
            .max_stale
            .filter(|_| !self.not_at_the_viewers_wish && !purged);
        if accepted.is_some_and(|accepted| stale_for <= accepted) {
            return Reuse::Stale;
        }
        Reuse::Validate
    }

    /// Whether it may be served to who was waiting for it: it was asked for after they had asked, so that it is as new as
    /// an answer of their own would be, though it may be stale on arrival. Where the origin wants to be asked by each, it is.
    pub fn serves_who_waited(&self, request: &RequestDirectives) -> bool {
        !self.always_asks && !self.never_stale && !request.no_cache && request.min_fresh.is_none()
    }

    /// Whether it may be served where the origin fails: `stale-if-error` (RFC 5861 §4).
    pub fn covers_errors(&self, request: &RequestDirectives, now: u64) -> bool {
        if self.never_stale || self.always_asks || request.no_cache {
            return false;
        }
        let left = self.time_left(now);
        left.saturating_neg() < i64::from(self.if_error)
    }

    /// Whether it may be served where the origin cannot be reached.
    ///
    /// "A cache MUST NOT generate a stale response unless it is disconnected or doing so is explicitly permitted", nor where
    /// a directive prohibits it: "must-revalidate, proxy-revalidate, s-maxage, no-cache" (RFC 9111 §4.2.4).
    pub fn covers_disconnection(&self, request: &RequestDirectives, now: u64) -> bool {
        if self.covers_errors(request, now) {
            return true;
        }
        let prohibited = self.never_stale
            || self.always_asks
            || self.not_at_the_viewers_wish
            || request.no_cache
            || request.min_fresh.is_some();
        !prohibited && self.time_left(now).saturating_neg() < DISCONNECTED_MAX
    }
}

/// An hour's outage is bridged; what is older than that is no longer what anybody wants to see.
const DISCONNECTED_MAX: i64 = 3600;

/// Seconds since 1970 fit until 2106.
fn short(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn span(cache_control: &str) -> Span {
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", cache_control.parse().unwrap());
        let told = Told::read(&headers);
        let lifetime =
            crate::cache::freshness::lifetime(http::StatusCode::OK, &headers, &told, 1000);
        Span::new(&told, lifetime, 10, 1000)
    }

    #[test]
    fn a_response_is_served_while_it_is_fresh_or_may_be_stale() {
        use Reuse::{Fresh, Stale, StaleWhileRevalidate, Validate};
        let none = RequestDirectives::default();
        let max_age = |seconds| RequestDirectives {
            max_age: Some(seconds),
            ..none
        };
        let min_fresh = |seconds| RequestDirectives {
            min_fresh: Some(seconds),
            ..none
        };
        let max_stale = |seconds| RequestDirectives {
            max_stale: Some(seconds),
            ..none
        };
        let no_cache = RequestDirectives {
            no_cache: true,
            ..none
        };
        // It is 10 s old at second 1000.
        let cases = [
            ("max-age=60", none, 1049, Fresh),
            ("max-age=60", none, 1050, Validate),
            ("max-age=60", max_age(20), 1010, Fresh),
            ("max-age=60", max_age(20), 1011, Validate),
            ("max-age=60", max_age(0), 1000, Validate),
            ("max-age=60", min_fresh(20), 1030, Fresh),
            ("max-age=60", min_fresh(20), 1031, Validate),
            ("max-age=60", no_cache, 1000, Validate),
            ("max-age=60", max_stale(5), 1055, Stale),
            ("max-age=60", max_stale(5), 1056, Validate),
            ("max-age=60", max_stale(u64::MAX), 1_000_000, Stale),
            ("max-age=60, must-revalidate", max_stale(5), 1055, Validate),
            ("max-age=60, proxy-revalidate", max_stale(5), 1055, Validate),
            ("s-maxage=60", max_stale(5), 1055, Validate),
            ("max-age=60, no-cache", none, 1000, Validate),
            ("max-age=60, no-cache=\"x\"", none, 1000, Fresh),
            (
                "max-age=60, stale-while-revalidate=30",
                none,
                1079,
                StaleWhileRevalidate,
            ),
            (
                "max-age=60, stale-while-revalidate=30",
                none,
                1080,
                Validate,
            ),
            (
                "max-age=60, stale-while-revalidate=30",
                no_cache,
                1079,
                Validate,
            ),
            (
                "max-age=60, stale-while-revalidate=30",
                max_age(0),
                1079,
                Validate,
            ),
            (
                "max-age=60, stale-while-revalidate=30, must-revalidate",
                none,
                1079,
                Validate,
            ),
            (
                "s-maxage=60, stale-while-revalidate=30",
                none,
                1079,
                StaleWhileRevalidate,
            ),
        ];
        for (cache_control, request, now, expected) in cases {
            assert_eq!(
                span(cache_control).reuse(&request, now, false),
                expected,
                "{cache_control} {request:?} at {now}"
            );
        }
    }

    #[test]
    fn what_was_purged_softly_is_stale_from_then_on() {
        let none = RequestDirectives::default();
        let cases = [
            ("max-age=60", Reuse::Validate),
            (
                "max-age=60, stale-while-revalidate=1",
                Reuse::StaleWhileRevalidate,
            ),
        ];
        for (cache_control, expected) in cases {
            assert_eq!(span(cache_control).reuse(&none, 1001, true), expected);
        }
    }

    #[test]
    fn an_origin_that_fails_is_covered_for_as_long_as_it_said() {
        let none = RequestDirectives::default();
        let cases = [
            ("max-age=60, stale-if-error=30", 1079, true),
            ("max-age=60, stale-if-error=30", 1080, false),
            ("max-age=60", 1050, false),
            (
                "max-age=60, stale-if-error=30, must-revalidate",
                1060,
                false,
            ),
            ("max-age=60, stale-if-error=30, no-cache", 1060, false),
        ];
        for (cache_control, now, expected) in cases {
            assert_eq!(
                span(cache_control).covers_errors(&none, now),
                expected,
                "{cache_control}"
            );
        }
    }

    #[test]
    fn an_origin_that_cannot_be_reached_is_covered_unless_that_is_prohibited() {
        let none = RequestDirectives::default();
        let no_cache = RequestDirectives {
            no_cache: true,
            ..none
        };
        let cases = [
            ("max-age=60", none, 1060, true),
            ("max-age=60", none, 1050 + 3600, false),
            ("max-age=60", no_cache, 1060, false),
            ("max-age=60, must-revalidate", none, 1060, false),
            ("max-age=60, proxy-revalidate", none, 1060, false),
            ("s-maxage=60", none, 1060, false),
            ("max-age=60, no-cache", none, 1060, false),
            ("s-maxage=60, stale-if-error=30", none, 1060, true),
        ];
        for (cache_control, request, now, expected) in cases {
            let covers = span(cache_control).covers_disconnection(&request, now);
            assert_eq!(covers, expected, "{cache_control} at {now}");
        }
    }

    #[test]
    fn ages_and_lifetimes_without_end_do_not_overflow() {
        let told = Told::default();
        let span = Span::new(&told, Lifetime::Explicit(u64::MAX), u64::MAX, 0);
        assert_eq!(
            span.reuse(&RequestDirectives::default(), u64::MAX, false),
            Reuse::Validate
        );
    }
}
