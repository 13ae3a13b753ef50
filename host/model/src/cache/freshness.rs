//! How long a stored response is fresh, and how old it is.
//!
//! Source: RFC 9111 §4.2.

use http::header::{AGE, DATE, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, StatusCode};

use super::date;
use super::directives::{SECONDS_MAX, delta_seconds};
use super::targeted::Told;

/// How long a response may be served without asking the origin. Whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// The origin said so.
    Explicit(u64),
    /// It did not; this is a guess.
    Heuristic(u64),
    /// Neither.
    None,
}

impl Lifetime {
    pub fn seconds(self) -> u64 {
        match self {
            Self::Explicit(seconds) | Self::Heuristic(seconds) => seconds,
            Self::None => 0,
        }
    }
}

/// Returns how long a shared cache may serve a response without asking the origin.
///
/// Takes the response as the origin sent it and when it came (seconds since 1970, our clock). `s-maxage` wins over
/// `max-age`, which wins over `Expires − Date`; what cannot be read counts as zero, so that it is not served.
///
/// Source: RFC 9111 §4.2.1, §4.2.2.
pub fn lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    told: &Told,
    received_at: u64,
) -> Lifetime {
    let directives = &told.directives;
    // "If the cache is shared and the s-maxage response directive is present, use its value, or"
    // "If the max-age response directive is present, use its value, or"
    if let Some(seconds) = directives.s_maxage.or(directives.max_age) {
        return Lifetime::Explicit(seconds);
    }
    if told.targeted {
        return Lifetime::None; // Expires is not for us then
    }
    // "If the Expires response header field is present, use its value minus the value of the Date response header field"
    if let Some(expires) = headers.get(EXPIRES) {
        // "using the time the message was received if [Date] is not present"
        let sent_at = of_field(headers, &DATE).unwrap_or(received_at);
        // "A cache recipient MUST interpret invalid date formats, especially the value "0", as representing a time in
        // the past" (§5.3)
        let expires = date::parse(expires.as_bytes()).unwrap_or(0);
        return Lifetime::Explicit(expires.saturating_sub(sent_at).min(SECONDS_MAX));
    }
    // "a cache MUST NOT use heuristics … when an explicit expiration time is present", and only for what is
    // "defined as heuristically cacheable", or "explicitly marked as cacheable, e.g., with a public response directive".
    if !(directives.public || is_heuristically_cacheable(status)) {
        return Lifetime::None;
    }
    let Some(modified) = of_field(headers, &LAST_MODIFIED) else {
        return Lifetime::None;
    };
    let sent_at = of_field(headers, &DATE).unwrap_or(received_at);
    // "a heuristic expiration value that is no more than some fraction of the interval since that time. A typical
    // setting of this fraction might be 10%."
    let seconds = sent_at.saturating_sub(modified) / 10;
    Lifetime::Heuristic(seconds.min(HEURISTIC_MAX))
}

/// Returns how old a response was when it came: `corrected_initial_age`, in seconds.
///
/// `asked_at` and `received_at` are when it was requested and when it came, by our clock. An `Age` that cannot be read
/// makes it older than any lifetime.
///
/// Source: RFC 9111 §4.2.3.
pub fn initial_age(headers: &HeaderMap, asked_at: u64, received_at: u64) -> u64 {
    // "apparent_age = max(0, response_time - date_value);"
    let apparent = of_field(headers, &DATE).map_or(0, |date| received_at.saturating_sub(date));
    // "response_delay = response_time - request_time; corrected_age_value = age_value + response_delay;"
    let delay = received_at.saturating_sub(asked_at);
    let corrected = age_value(headers).saturating_add(delay);
    // "corrected_initial_age = max(apparent_age, corrected_age_value);"
    apparent.max(corrected).min(AGE_UNKNOWN)
}

/// The value of `Age`; [`AGE_UNKNOWN`] where it is there and cannot be read.
///
/// §5.1 would have a cache take the first member of a list, and ignore what is invalid. A response that claims to come
/// from a cache and does not say for how long it was there is better asked for again; so only a list that one sender
/// wrote is read by its first member. One that was put together from several lines (", ") counts as those lines, of
/// which nobody knows whose they are.
fn age_value(headers: &HeaderMap) -> u64 {
    let mut lines = headers.get_all(AGE).iter();
    let value = match (lines.next(), lines.next()) {
        (None, _) => return 0,
        (Some(value), None) => value.as_bytes(),
        (Some(_), Some(_)) => return AGE_UNKNOWN,
    };
    if value.windows(2).any(|pair| pair == b", ") {
        return AGE_UNKNOWN;
    }
    let first = value.split(|byte| *byte == b',').next().unwrap_or(value);
    delta_seconds(first.trim_ascii()).unwrap_or(AGE_UNKNOWN)
}

fn of_field(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    date::parse(headers.get(name)?.as_bytes())
}

/// Source: RFC 9110 §15.1.
fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// "a heuristic … more than 24 hours" used to need a warning; nobody misses a day's cache, and many a stale month.
const HEURISTIC_MAX: u64 = 24 * 3600;
/// Older than any lifetime.
pub const AGE_UNKNOWN: u64 = 2 * SECONDS_MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::map;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW: u64 = 784_111_777;

    #[test]
    fn lifetimes_are_explicit_or_guessed_in_that_order() {
        use Lifetime::{Explicit, Heuristic, None};
        let now = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let in_a_minute = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
        let hour_ago = ("last-modified", "Sun, 06 Nov 1994 07:49:37 GMT");
        let year_ago = ("last-modified", "Sat, 06 Nov 1993 08:49:37 GMT");
        type Fields<'f> = &'f [(&'static str, &'f str)];
        let cases: [(u16, Fields, Lifetime); 18] = [
            (
                200,
                &[("cache-control", "s-maxage=5, max-age=9")],
                Explicit(5),
            ),
            (
                200,
                &[("cache-control", "max-age=9"), now, in_a_minute],
                Explicit(9),
            ),
            (
                200,
                &[("cache-control", "max-age=x"), now, in_a_minute],
                Explicit(0),
            ),
            (200, &[now, in_a_minute], Explicit(60)),
            (200, &[in_a_minute], Explicit(60)),
            (200, &[("date", "yesterday"), in_a_minute], Explicit(60)),
            (200, &[now, ("expires", "0")], Explicit(0)),
            (
                200,
                &[now, ("expires", "Sun, 06 Nov 1994 08:48:37 GMT")],
                Explicit(0),
            ),
            (599, &[now, in_a_minute], Explicit(60)),
            (200, &[now, hour_ago], Heuristic(360)),
            (200, &[now, year_ago], Heuristic(HEURISTIC_MAX)),
            (404, &[now, hour_ago], Heuristic(360)),
            (201, &[now, hour_ago], None),
            (503, &[now, hour_ago], None),
            (
                599,
                &[now, hour_ago, ("cache-control", "public")],
                Heuristic(360),
            ),
            (200, &[now], None),
            (
                200,
                &[("cdn-cache-control", "public"), now, in_a_minute],
                None,
            ),
            (
                200,
                &[("cdn-cache-control", "max-age=7"), now, in_a_minute],
                Explicit(7),
            ),
        ];
        for (status, fields, expected) in cases {
            let headers = map(fields);
            let status = StatusCode::from_u16(status).unwrap();
            let told = Told::read(&headers);
            assert_eq!(
                lifetime(status, &headers, &told, NOW),
                expected,
                "{status} {fields:?}"
            );
        }
    }

    #[test]
    fn a_response_is_as_old_as_it_says_or_as_its_date_says() {
        let cases: [(&[(&str, &str)], u64); 12] = [
            (&[], 2),
            (&[("age", "30")], 32),
            (&[("date", "Sun, 06 Nov 1994 08:48:37 GMT")], 60),
            (
                &[("date", "Sun, 06 Nov 1994 08:48:37 GMT"), ("age", "100")],
                102,
            ),
            (&[("date", "Sun, 06 Nov 1994 09:48:37 GMT")], 2),
            (&[("age", "abc")], AGE_UNKNOWN),
            (&[("age", "-7200")], AGE_UNKNOWN),
            (&[("age", "7200.0")], AGE_UNKNOWN),
            (&[("age", "7200;foo=bar")], AGE_UNKNOWN),
            (&[("age", "7,0")], 9),
            (&[("age", "0, 0")], AGE_UNKNOWN),
            (&[("age", "0"), ("age", "0")], AGE_UNKNOWN),
        ];
        for (fields, expected) in cases {
            assert_eq!(
                initial_age(&map(fields), NOW - 2, NOW),
                expected,
                "{fields:?}"
            );
        }
    }
}
