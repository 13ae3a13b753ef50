//! Sending a part of the requests to a new version, and judging by what becomes of them.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Which requests go to the new version.
#[derive(Debug, Clone, PartialEq)]
pub enum Split {
    /// This share of them, in percent: above 0, at most 100.
    Percent(f64),
    /// Those with this header field.
    Header {
        /// The field's name.
        name: HeaderName,
        /// The whole value of one of its lines.
        value: HeaderValue,
    },
}

/// What a split cannot be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no split: write a share (\"10%\") or a header (\"x-canary: yes\")")]
pub struct SplitError(String);

impl Split {
    /// Reads `10%` or `x-canary: yes`.
    ///
    /// # Errors
    ///
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, SplitError> {
        let refused = || SplitError(text.to_owned());
        let Some((name, value)) = text.split_once(':') else {
            let share = text.strip_suffix('%').ok_or_else(refused)?;
            let share: f64 = share.trim().parse().map_err(|_| refused())?;
            return (share > 0.0 && share <= 100.0)
                .then_some(Self::Percent(share))
                .ok_or_else(refused);
        };
        Ok(Self::Header {
            name: name.trim().parse().map_err(|_| refused())?,
            value: value.trim().parse().map_err(|_| refused())?,
        })
    }

    /// Whether a request with these fields goes to the new version; `draw` is any number, evenly distributed.
    pub fn takes(&self, headers: &HeaderMap, draw: u32) -> bool {
        match self {
            Self::Percent(share) => f64::from(draw) < share / 100.0 * (f64::from(u32::MAX) + 1.0),
            Self::Header { name, value } => headers.get_all(name).iter().any(|line| line == value),
        }
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Percent(share) => write!(f, "{share}%"),
            Self::Header { name, value } => {
                write!(f, "{name}: {}", value.to_str().unwrap_or("(octets)"))
            }
        }
    }
}

/// What became of the requests that one of the versions served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observed {
    /// Responses.
    pub requests: u64,
    /// Those with a status of 500 or above.
    pub failures: u64,
    /// Time until their header sections, in sum.
    pub latency: Duration,
    /// Faults of the version's own calls.
    pub faults: u64,
}

impl std::ops::Add for Observed {
    type Output = Self;

    /// What became of both together.
    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            failures: self.failures.saturating_add(other.failures),
            latency: self.latency.saturating_add(other.latency),
            faults: self.faults.saturating_add(other.faults),
        }
    }
}

impl Observed {
    fn share(&self, of: u64) -> f64 {
        if self.requests == 0 {
            return 0.0;
        }
        // What is under way has faults already, and is no request yet.
        (100.0 * of as f64 / self.requests as f64).min(100.0)
    }

    fn mean(&self) -> Duration {
        let requests = u32::try_from(self.requests).unwrap_or(u32::MAX);
        self.latency.checked_div(requests).unwrap_or_default()
    }
}

/// How much worse than the old version the new one may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Requests of the new version before it is judged: one failure among three says little.
    pub requests_min: u64,
    /// Percentage points of requests with faults, above the old version's.
    pub faults_percent: f64,
    /// Percentage points of 5xx responses, above the old version's.
    pub failures_percent: f64,
    /// Times the old version's mean latency, and a millisecond, so that microseconds decide nothing.
    pub latency_factor: f64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            requests_min: 20,
            faults_percent: 1.0,
            failures_percent: 1.0,
            latency_factor: 1.5,
        }
    }
}

/// What a bound cannot be.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{value:?} is no bound for `{name}`: {expected}")]
pub struct BoundError {
    name: &'static str,
    value: String,
    expected: &'static str,
}

impl Bounds {
    /// The bounds that `value` gives for the names of [`Self::NAMES`], and the default ones for the rest.
    ///
    /// # Errors
    ///
    /// The first value that is none: percentages are 0 to 100, a factor is at least 1.
    pub fn read<V: AsRef<str>>(value: impl Fn(&str) -> Option<V>) -> Result<Self, BoundError> {
        let number =
            |name: &'static str, within: std::ops::RangeInclusive<f64>, expected, default| {
                let Some(text) = value(name) else {
                    return Ok(default);
                };
                let text = text.as_ref();
                let parsed = text.parse().ok().filter(|number| within.contains(number));
                parsed.ok_or_else(|| BoundError {
                    name,
                    value: text.to_owned(),
                    expected,
                })
            };
        let default = Self::default();
        let [requests, faults, failures, latency] = Self::NAMES;
        let percent = "percentage points, 0 to 100";
        Ok(Self {
            requests_min: number(
                requests,
                1.0..=1e9,
                "a number of requests, at least 1",
                default.requests_min as f64,
            )? as u64,
            faults_percent: number(faults, 0.0..=100.0, percent, default.faults_percent)?,
            failures_percent: number(failures, 0.0..=100.0, percent, default.failures_percent)?,
            latency_factor: number(
                latency,
                1.0..=1000.0,
                "times the old version's mean latency, 1 to 1000",
                default.latency_factor,
            )?,
        })
    }

    /// What the bounds are called, on command lines and in requests.
    pub const NAMES: [&str; 4] = ["min-requests", "max-faults", "max-failures", "max-latency"];
}

/// What the comparison says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Too few requests yet.
    Wait,
    /// It is within its bounds.
    Within,
    /// It is not: holds what exceeds what.
    Exceeds(String),
}

/// Compares the new version with the old one over the same time.
pub fn judge(bounds: &Bounds, stable: &Observed, canary: &Observed) -> Judgement {
    if canary.requests < bounds.requests_min {
        return Judgement::Wait;
    }
    let shares = [
        (
            "faults",
            canary.faults,
            stable.faults,
            bounds.faults_percent,
        ),
        (
            "5xx",
            canary.failures,
            stable.failures,
            bounds.failures_percent,
        ),
    ];
    for (what, new, old, allowed) in shares {
        let (new, old) = (canary.share(new), stable.share(old));
        if new > old + allowed {
            return Judgement::Exceeds(format!(
                "{what} in {new:.1} % of its requests, against {old:.1} % of the old version's"
            ));
        }
    }
    let allowed = stable.mean().mul_f64(bounds.latency_factor) + LATENCY_SLACK;
    if stable.requests >= bounds.requests_min && canary.mean() > allowed {
        return Judgement::Exceeds(format!(
            "a mean latency of {:.1} ms, against {:.1} ms",
            canary.mean().as_secs_f64() * 1e3,
            stable.mean().as_secs_f64() * 1e3
        ));
    }
    Judgement::Within
}

const LATENCY_SLACK: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_and_completed() {
        let read = |pairs: &[(&str, &str)]| {
            let pairs: Vec<(String, String)> = pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            Bounds::read(|name| {
                let found = pairs.iter().find(|(other, _)| other == name)?;
                Some(found.1.clone())
            })
        };
        assert_eq!(read(&[]), Ok(Bounds::default()));
        let given = [
            ("min-requests", "5"),
            ("max-faults", "0"),
            ("max-failures", "2.5"),
            ("max-latency", "3"),
        ];
        let expected = Bounds {
            requests_min: 5,
            faults_percent: 0.0,
            failures_percent: 2.5,
            latency_factor: 3.0,
        };
        assert_eq!(read(&given), Ok(expected));
        for (name, value) in [
            ("min-requests", "0"),
            ("max-faults", "101"),
            ("max-failures", "-1"),
            ("max-latency", "0.5"),
            ("max-latency", "NaN"),
            ("max-faults", ""),
        ] {
            let refused = read(&[(name, value)]).unwrap_err().to_string();
            assert!(refused.contains(name), "{refused}");
        }
    }

    #[test]
    fn a_split_is_a_share_or_a_header() {
        for (text, shown) in [
            ("10%", Some("10%")),
            ("0.5 %", Some("0.5%")),
            ("100%", Some("100%")),
            ("x-canary: yes", Some("x-canary: yes")),
            ("x-canary: 10%", Some("x-canary: 10%")),
            ("0%", None),
            ("101%", None),
            ("NaN%", None),
            ("ten", None),
            ("x canary: yes", None),
            ("", None),
        ] {
            let split = Split::parse(text).ok().map(|split| split.to_string());
            assert_eq!(split.as_deref(), shown, "{text:?}");
        }
    }

    #[test]
    fn a_share_takes_its_part_of_all_draws_and_a_header_whoever_has_it() {
        let headers = HeaderMap::new();
        let draws = (0..1000u32).map(|draw| draw * (u32::MAX / 1000));
        for (share, expected) in [("10%", 100), ("100%", 1000)] {
            let split = Split::parse(share).unwrap();
            let taken = draws.clone().filter(|&draw| split.takes(&headers, draw));
            assert!(taken.count().abs_diff(expected) <= 1, "{share}");
        }
        let split = Split::parse("x-canary: yes").unwrap();
        let mut with = HeaderMap::new();
        with.append("x-canary", HeaderValue::from_static("no"));
        assert!(!split.takes(&with, 0));
        with.append("x-canary", HeaderValue::from_static("yes"));
        assert!(split.takes(&with, u32::MAX) && !split.takes(&headers, 0));
    }

    fn observed(requests: u64, failures: u64, faults: u64, mean_ms: u64) -> Observed {
        Observed {
            requests,
            failures,
            faults,
            latency: Duration::from_millis(mean_ms * requests),
        }
    }

    #[test]
    fn a_version_is_judged_against_the_one_before_it() {
        let cases = [
            (observed(1000, 0, 0, 10), observed(19, 19, 19, 99), "wait"),
            (observed(1000, 0, 0, 10), observed(20, 0, 0, 10), "within"),
            (observed(1000, 0, 0, 10), observed(100, 1, 1, 16), "within"),
            (observed(1000, 0, 0, 10), observed(100, 2, 0, 10), "5xx"),
            (observed(1000, 0, 0, 10), observed(100, 0, 2, 10), "faults"),
            (
                observed(1000, 100, 0, 10),
                observed(100, 10, 0, 10),
                "within",
            ),
            (observed(1000, 0, 0, 10), observed(100, 0, 0, 17), "latency"),
            // Nothing to compare with: latency decides nothing.
            (observed(0, 0, 0, 0), observed(100, 0, 0, 500), "within"),
        ];
        for (stable, canary, expected) in cases {
            let judgement = match judge(&Bounds::default(), &stable, &canary) {
                Judgement::Wait => "wait".to_owned(),
                Judgement::Within => "within".to_owned(),
                Judgement::Exceeds(what) => what,
            };
            assert!(judgement.contains(expected), "{judgement}: {canary:?}");
        }
        let lenient = Bounds {
            faults_percent: 100.0,
            ..Bounds::default()
        };
        let under_way = observed(100, 0, 103, 10);
        let judgement = judge(&lenient, &observed(1000, 0, 0, 10), &under_way);
        assert_eq!(judgement, Judgement::Within);
    }
}
