//! Parts of a representation: what a viewer asks for, what is stored, and putting both together.
//!
//! Source: RFC 9110 §14; RFC 9111 §3.3 and §3.4. Several ranges at once are answered with the whole, which §14.2 allows.

use std::ops::Range;

use http::header::{CONTENT_RANGE, DATE, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

use super::date;
use super::directives::delta_seconds;
use super::validate::strong_etag;

/// A part that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// From this byte on, to that one (inclusive) or to the end.
    From(u64, Option<u64>),
    /// The last bytes.
    Last(u64),
}

/// A part of a representation: bytes `first` to `last`, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub first: u64,
    pub last: u64,
    /// The length of the whole; `None` where the origin did not say.
    pub total: Option<u64>,
}

/// Reads `Range`; `None` where there is none, or one that is ignored: another unit, several ranges, none that is valid.
pub fn asked(request: &HeaderMap) -> Option<Asked> {
    let value = request.get(RANGE)?.as_bytes();
    let (unit, set) = value.split_at_checked(b"bytes=".len())?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let at = set.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (set[..at].trim_ascii(), set[at + 1..].trim_ascii());
    if first.is_empty() {
        return number(last).map(Asked::Last);
    }
    let first = number(first)?;
    if last.is_empty() {
        return Some(Asked::From(first, None));
    }
    // "invalid if the last-pos value is present and less than first-pos"
    let last = number(last).filter(|last| *last >= first)?;
    Some(Asked::From(first, Some(last)))
}

impl Asked {
    /// The bytes that are meant of a representation of `total` bytes; `None` where it has none of them: 416.
    pub fn of(self, total: u64) -> Option<(u64, u64)> {
        let end = total.checked_sub(1)?;
        match self {
            Self::From(first, _) if first > end => None,
            Self::From(first, last) => Some((first, last.map_or(end, |last| last.min(end)))),
            Self::Last(0) => None,
            Self::Last(count) => Some((total.saturating_sub(count), end)),
        }
    }
}

/// Whether `If-Range` lets the range stand: it is not there, or names what is stored.
///
/// "A server … MUST ignore the Range header field if the If-Range validator does not match" (RFC 9110 §13.1.5).
pub fn if_range_holds(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(condition) = request.get(IF_RANGE) else {
        return true;
    };
    if condition.as_bytes().ends_with(b"\"") {
        // "using the strong comparison function"
        return strong_etag(stored) == Some(condition.as_bytes());
    }
    let stamp = |value: &HeaderValue| date::parse(value.as_bytes());
    let (Some(modified), Some(wanted)) =
        (stored.get(LAST_MODIFIED).and_then(stamp), stamp(condition))
    else {
        return false;
    };
    // A date is a strong validator only where the response was made at least a second later (§8.8.2.2).
    let sent_at = stored.get(DATE).and_then(stamp);
    modified == wanted && sent_at.is_some_and(|sent_at| sent_at > modified)
}

/// Reads the `Content-Range` of a 206 (RFC 9110 §14.4).
pub fn content_range(headers: &HeaderMap) -> Option<Part> {
    let value = headers.get(CONTENT_RANGE)?.as_bytes();
    let range = value.strip_prefix(b"bytes ")?;
    let slash = range.iter().position(|byte| *byte == b'/')?;
    let (range, total) = (&range[..slash], &range[slash + 1..]);
    let dash = range.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (number(&range[..dash])?, number(&range[dash + 1..])?);
    let total = match total {
        b"*" => None,
        total => Some(number(total)?),
    };
    // "invalid if it contains a … last-pos value less than its first-pos value, or a complete-length value less than or
    // equal to its last-pos value"
    let valid = first <= last && total.is_none_or(|total| total > last);
    valid.then_some(Part { first, last, total })
}

impl Part {
    /// The whole of `total` bytes; `None` where there are none.
    pub fn whole(total: u64) -> Option<Self> {
        Some(Self {
            first: 0,
            last: total.checked_sub(1)?,
            total: Some(total),
        })
    }

    /// This part as far as `bytes` of content go: a message may hold less than it announces (RFC 9111 §3.3).
    pub fn as_far_as(self, bytes: u64) -> Option<Self> {
        let last = self.first.checked_add(bytes)?.checked_sub(1)?;
        (bytes > 0).then_some(Self {
            last: last.min(self.last),
            ..self
        })
    }

    /// The bytes that are asked for, where this part has all of them.
    pub fn has(&self, asked: Asked) -> Option<(u64, u64)> {
        let wanted = match (asked, self.total) {
            (asked, Some(total)) => asked.of(total)?,
            (Asked::From(first, Some(last)), None) => (first, last),
            (_, None) => return None, // nobody knows where the end is
        };
        (self.first <= wanted.0 && wanted.1 <= self.last).then_some(wanted)
    }

    /// Which bytes of `held` bytes of content are asked for, and what part they are; `None` where not all of them are there.
    ///
    /// A part that the origin says goes to the end ends with its content: "the last 5 bytes" are the last ones that it has,
    /// also where they are fewer than it announced. "a server might want to send only a subset of the data requested …
    /// Since a 206 response is self-descriptive, the client can still understand a response that only partially satisfies
    /// its range request" (RFC 9110 §15.3.7).
    pub fn cut(&self, asked: Asked, held: u64) -> Option<(Range<u64>, Self)> {
        let there = self.as_far_as(held)?;
        let total = self.total.filter(|total| self.last + 1 == *total);
        let (start, part) = match (asked, total) {
            (Asked::Last(count), Some(total)) => {
                let count = count.min(total);
                let start = held.checked_sub(count).filter(|_| count > 0)?;
                let (first, last) = (total - count, self.last);
                return Some((
                    start..held,
                    Self {
                        first,
                        last,
                        ..*self
                    },
                ));
            }
            (Asked::From(first, None), Some(_)) if first <= there.last => {
                (first.checked_sub(self.first)?, Self { first, ..there })
            }
            _ => {
                let (first, last) = there.has(asked)?;
                (
                    first - self.first,
                    Self {
                        first,
                        last,
                        ..*self
                    },
                )
            }
        };
        Some((start..start + (part.last - part.first) + 1, part))
    }

    /// What is missing at the end of a part that begins at the start.
    pub fn rest(&self) -> Option<Asked> {
        let total = self.total?;
        (self.first == 0 && self.last + 1 < total).then_some(Asked::From(self.last + 1, None))
    }

    /// Whether `other` goes on where this part ends, and belongs to the same representation.
    ///
    /// "A client … MAY combine … if they all share the same strong validator" (RFC 9111 §3.4).
    pub fn is_continued_by(&self, stored: &HeaderMap, other: &Self, headers: &HeaderMap) -> bool {
        let same = strong_etag(stored).is_some_and(|etag| strong_etag(headers) == Some(etag));
        same && other.first == self.last + 1 && self.total.is_some() && self.total == other.total
    }

    /// As the value of `Content-Range`.
    pub fn value(&self) -> String {
        let total = self.total.map_or("*".to_owned(), |total| total.to_string());
        format!("bytes {}-{}/{total}", self.first, self.last)
    }
}

/// As the value of `Range`.
impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::From(first, None) => write!(f, "bytes={first}-"),
            Self::From(first, Some(last)) => write!(f, "bytes={first}-{last}"),
            Self::Last(count) => write!(f, "bytes=-{count}"),
        }
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    // A number of more digits than this is nobody's file, and would lose its last ones.
    (digits.len() <= 18)
        .then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
        .filter(|_| delta_seconds(digits).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::map;

    #[test]
    fn one_range_of_bytes_is_understood() {
        let cases = [
            ("bytes=0-1", Some((0, 1))),
            ("Bytes=0-1", Some((0, 1))),
            ("bytes=5-", Some((5, 9))),
            ("bytes=-3", Some((7, 9))),
            ("bytes=-30", Some((0, 9))),
            ("bytes=8-30", Some((8, 9))),
            ("bytes=10-", None),
            ("bytes=-0", None),
        ];
        for (value, expected) in cases {
            let asked = asked(&map(&[("range", value)])).expect(value);
            assert_eq!(asked.of(10), expected, "{value}");
            assert_eq!(asked.of(0), None, "{value} of nothing");
        }
        for ignored in [
            "bytes=2-1",
            "bytes=a-b",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=-",
            "bytes=+1-2",
            "bytes=99999999999999999999-",
            "",
        ] {
            assert_eq!(asked(&map(&[("range", ignored)])), None, "{ignored}");
        }
    }

    #[test]
    fn content_ranges_are_refused_where_they_contradict_themselves() {
        let part = |first, last, total| Some(Part { first, last, total });
        let cases = [
            ("bytes 0-4/10", part(0, 4, Some(10))),
            ("bytes 4-9/*", part(4, 9, None)),
            ("bytes 4-3/10", None),
            ("bytes 4-10/10", None),
            ("bytes */10", None),
            ("bytes 4-9", None),
            ("nonsense", None),
        ];
        for (value, expected) in cases {
            assert_eq!(
                content_range(&map(&[("content-range", value)])),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn a_part_answers_what_lies_in_it() {
        let part = Part {
            first: 4,
            last: 8,
            total: Some(10),
        };
        let cases = [
            (Asked::From(6, Some(8)), Some((6, 8))),
            (Asked::From(4, Some(4)), Some((4, 4))),
            (Asked::From(6, None), None),
            (Asked::Last(1), None),
            (Asked::From(3, Some(5)), None),
        ];
        for (asked, expected) in cases {
            assert_eq!(part.has(asked), expected, "{asked}");
        }
        let open = Part {
            total: None,
            ..part
        };
        assert_eq!(open.has(Asked::From(5, Some(6))), Some((5, 6)));
        assert_eq!(open.has(Asked::From(5, None)), None);
        assert_eq!(Part::whole(10).unwrap().has(Asked::Last(1)), Some((9, 9)));
        assert_eq!(Part::whole(0), None);
    }

    #[test]
    fn a_part_is_cut_by_where_it_begins_or_ends() {
        let part = |first, last| Part {
            first,
            last,
            total: Some(10),
        };
        let (whole, end, short) = (part(0, 9), part(4, 9), part(4, 9));
        let cases = [
            (whole, 10, Asked::From(2, Some(3)), Some((2..4, part(2, 3)))),
            (whole, 10, Asked::From(2, None), Some((2..10, part(2, 9)))),
            (whole, 10, Asked::Last(3), Some((7..10, part(7, 9)))),
            (whole, 10, Asked::Last(30), Some((0..10, part(0, 9)))),
            (whole, 10, Asked::From(10, None), None),
            (end, 6, Asked::From(6, Some(8)), Some((2..5, part(6, 8)))),
            (end, 6, Asked::Last(2), Some((4..6, part(8, 9)))),
            (end, 6, Asked::Last(7), None),
            (end, 6, Asked::From(3, None), None),
            (part(4, 8), 5, Asked::Last(1), None),
            // One byte less than it announces.
            (short, 5, Asked::From(6, Some(8)), Some((2..5, part(6, 8)))),
            (short, 5, Asked::From(6, Some(9)), None),
            (short, 5, Asked::From(6, None), Some((2..5, part(6, 8)))),
            (short, 5, Asked::Last(5), Some((0..5, part(5, 9)))),
            (short, 5, Asked::Last(6), None),
        ];
        for (part, held, asked, expected) in cases {
            assert_eq!(part.cut(asked, held), expected, "{part:?} {asked}");
        }
    }

    #[test]
    fn parts_are_put_together_only_under_one_strong_validator() {
        let begin = Part {
            first: 0,
            last: 4,
            total: Some(10),
        };
        let end = Part {
            first: 5,
            last: 9,
            total: Some(10),
        };
        assert_eq!(begin.rest(), Some(Asked::From(5, None)));
        assert_eq!(end.rest(), None);
        assert_eq!(Part::whole(5).unwrap().rest(), None);
        let strong = map(&[("etag", "\"a\"")]);
        let cases = [
            (&strong, &end, &strong, true),
            (&strong, &end, &map(&[("etag", "\"b\"")]), false),
            (
                &map(&[("etag", "W/\"a\"")]),
                &end,
                &map(&[("etag", "W/\"a\"")]),
                false,
            ),
            (&map(&[]), &end, &map(&[]), false),
            (&strong, &Part { first: 6, ..end }, &strong, false),
            (
                &strong,
                &Part {
                    total: Some(11),
                    ..end
                },
                &strong,
                false,
            ),
        ];
        for (stored, other, headers, expected) in cases {
            assert_eq!(
                begin.is_continued_by(stored, other, headers),
                expected,
                "{other:?}"
            );
        }
    }

    #[test]
    fn a_message_that_ends_early_is_a_shorter_part() {
        let part = Part {
            first: 4,
            last: 9,
            total: Some(10),
        };
        assert_eq!(part.as_far_as(5), Some(Part { last: 8, ..part }));
        assert_eq!(part.as_far_as(60), Some(part));
        assert_eq!(part.as_far_as(0), None);
        assert_eq!(part.value(), "bytes 4-9/10");
    }

    #[test]
    fn if_range_wants_a_strong_validator() {
        const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        const LATER: &str = "Sun, 06 Nov 1994 09:49:37 GMT";
        let cases = [
            ("\"a\"", [("etag", "\"a\""), ("x", "")], true),
            ("\"b\"", [("etag", "\"a\""), ("x", "")], false),
            ("W/\"a\"", [("etag", "W/\"a\""), ("x", "")], false),
            (OLD, [("last-modified", OLD), ("date", LATER)], true),
            (OLD, [("last-modified", OLD), ("date", OLD)], false),
            (LATER, [("last-modified", OLD), ("date", LATER)], false),
            ("soon", [("last-modified", OLD), ("date", LATER)], false),
        ];
        for (condition, stored, expected) in cases {
            let request = map(&[("if-range", condition)]);
            assert_eq!(
                if_range_holds(&request, &map(&stored)),
                expected,
                "{condition} {stored:?}"
            );
        }
        assert!(if_range_holds(&map(&[]), &map(&[])));
    }
}
