//! When a quota begins anew.

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, Time};

/// How long a quota counts. All of them begin at midnight, UTC: a week on Sunday, a month on the first.
///
/// API Gateway's reference names the periods and leaves their beginnings open; days are those of UTC, and weeks those that
/// the SDKs' documentation of `QuotaSettings` gives an example of ("starts on Sunday").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    Day,
    Week,
    Month,
}

/// One period, in milliseconds since 1970: from `begins` to just before `ends`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub begins: u64,
    pub ends: u64,
}

impl Period {
    /// The period that `now` is in.
    pub fn at(self, now: u64) -> Span {
        let day = now.min(LATEST) / DAY;
        let (begins, ends) = match self {
            Self::Day => (day, day + 1),
            Self::Week => {
                let weeks = (day + SUNDAY) / 7;
                ((weeks * 7).saturating_sub(SUNDAY), weeks * 7 + 7 - SUNDAY)
            }
            Self::Month => month(day),
        };
        Span {
            begins: begins * DAY,
            ends: ends * DAY,
        }
    }

    /// As configurations and records have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

/// The first days of the month that `day` is in and of the next, since 1970.
fn month(day: u64) -> (u64, u64) {
    let seconds = (day * DAY / 1000) as i64;
    let date = OffsetDateTime::from_unix_timestamp(seconds)
        .expect("before LATEST, which `time` knows")
        .replace_time(Time::MIDNIGHT);
    let of_month = u64::from(date.day());
    let length = u64::from(date.month().length(date.year()));
    let begins = day + 1 - of_month;
    (begins, begins + length)
}

/// In milliseconds; UTC as computers count it has no leap seconds.
const DAY: u64 = 24 * 60 * 60 * 1000;
/// Days from the Sunday before to the first day of 1970, a Thursday.
const SUNDAY: u64 = 4;
/// The year 9000: a clock that says more is broken.
const LATEST: u64 = 221_845_392_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::format_description::well_known::Rfc3339;

    fn at(text: &str) -> u64 {
        let time = OffsetDateTime::parse(text, &Rfc3339).unwrap();
        u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap()
    }

    #[test]
    fn periods_begin_at_midnight_on_sunday_and_on_the_first() {
        use Period::{Day, Month, Week};
        // Which, when, from, to.
        let cases = [
            (Day, "2026-11-25T18:34:58Z", "2026-11-25", "2026-11-26"),
            (Day, "2026-11-25T00:00:00Z", "2026-11-25", "2026-11-26"),
            (Day, "2026-11-25T23:59:59.999Z", "2026-11-25", "2026-11-26"),
            (Day, "2024-02-28T12:00:00Z", "2024-02-28", "2024-02-29"),
            (Day, "2026-12-31T12:00:00Z", "2026-12-31", "2027-01-01"),
            (Week, "2026-11-25T18:34:58Z", "2026-11-22", "2026-11-29"),
            (Week, "2026-11-22T00:00:00Z", "2026-11-22", "2026-11-29"),
            (Week, "2026-11-28T23:59:59.999Z", "2026-11-22", "2026-11-29"),
            (Week, "2027-01-01T00:00:00Z", "2026-12-27", "2027-01-03"),
            (Week, "1970-01-01T00:00:00Z", "1970-01-01", "1970-01-04"),
            (Month, "2026-11-25T18:34:58Z", "2026-11-01", "2026-12-01"),
            (Month, "2026-12-01T00:00:00Z", "2026-12-01", "2027-01-01"),
            (
                Month,
                "2026-02-28T23:59:59.999Z",
                "2026-02-01",
                "2026-03-01",
            ),
            (Month, "2024-02-29T12:00:00Z", "2024-02-01", "2024-03-01"),
            (Month, "2000-02-29T12:00:00Z", "2000-02-01", "2000-03-01"),
            (Month, "2100-02-28T12:00:00Z", "2100-02-01", "2100-03-01"),
            (Month, "2026-04-30T12:00:00Z", "2026-04-01", "2026-05-01"),
        ];
        for (period, now, begins, ends) in cases {
            let midnight = |day: &str| at(&format!("{day}T00:00:00Z"));
            let expected = Span {
                begins: midnight(begins),
                ends: midnight(ends),
            };
            assert_eq!(period.at(at(now)), expected, "{period:?} at {now}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_is_in_one_period(now in any::<u64>()) {
            for period in [Period::Day, Period::Week, Period::Month] {
                let span = period.at(now);
                let now = now.min(LATEST);
                prop_assert!(span.begins <= now && now < span.ends);
                prop_assert_eq!(period.at(span.begins), span);
                prop_assert_eq!(period.at(span.ends).begins, span.ends.min(period.at(LATEST).begins));
            }
        }
    }
}
