//! Token buckets: how much may pass now, and when the next may.
//!
//! A bucket is one number, so that threads can share it without a lock: the time at which it will be full again (the
//! *theoretical arrival time* of the generic cell rate algorithm, ITU-T I.371 annex A, which admits exactly what a token
//! bucket does). Times are nanoseconds on the caller's monotonic clock.

use std::time::Duration;

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds for one token.
    interval: u64,
    /// Nanoseconds in which an empty bucket fills.
    capacity: u64,
}

/// What taking a token came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was there: the bucket will be full at `full_at`, and has `left` whole tokens.
    Admitted { full_at: u64, left: u32 },
    /// It was not; after `retry_after` one will be, unless somebody else takes it.
    Rejected { retry_after: Duration },
}

impl Rate {
    /// `rate` tokens a second, at most `burst` at once. `None` unless `rate` is finite and above 0, and `burst` above 0.
    pub fn new(rate: f64, burst: u32) -> Option<Self> {
        if !(rate.is_finite() && rate > 0.0) || burst == 0 {
            return None;
        }
        // Below one token in 500 years the interval saturates; above a billion a second it is one nanosecond.
        let interval = (1e9 / rate).ceil().clamp(1.0, 1.6e19) as u64; // up: never above the rate
        let capacity = interval.saturating_mul(burst.into());
        Some(Self { interval, capacity })
    }

    /// A part of it, above 0 and at most 1: fills as much more slowly, and holds as much less, but at least one token.
    pub fn part(self, part: f64) -> Self {
        let interval = (self.interval as f64 / part).clamp(1.0, 1.6e19) as u64;
        Self {
            interval,
            capacity: self.capacity.max(interval),
        }
    }

    /// Takes one token at `now` from the bucket that will be full at `full_at`; a bucket never used is full at 0.
    pub fn take(&self, full_at: u64, now: u64) -> Taken {
        let capacity = self.capacity;
        let next = full_at.max(now).saturating_add(self.interval);
        let missing = next - now;
        if missing > capacity {
            return Taken::Rejected {
                retry_after: Duration::from_nanos(missing - capacity),
            };
        }
        let left = u32::try_from((capacity - missing) / self.interval).unwrap_or(u32::MAX);
        Taken::Admitted {
            full_at: next,
            left,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_bucket_holds_its_burst_and_fills_at_its_rate() {
        let rate = Rate::new(10.0, 3).expect("valid");
        let mut full_at = 0;
        let mut take = |now| match rate.take(full_at, now) {
            Taken::Admitted {
                full_at: next,
                left,
            } => {
                full_at = next;
                Ok(left)
            }
            Taken::Rejected { retry_after } => Err(retry_after.as_millis()),
        };
        let start = 1000 * MS;
        let cases = [
            (start, Ok(2)),
            (start, Ok(1)),
            (start, Ok(0)),
            (start, Err(100)),
            (start + 40 * MS, Err(60)),
            (start + 100 * MS, Ok(0)),
            (start + 100 * MS, Err(100)),
            (start + 10_000 * MS, Ok(2)),
        ];
        for (now, expected) in cases {
            assert_eq!(take(now), expected, "at {now}");
        }
    }

    #[test]
    fn settings_that_admit_nothing_are_refused() {
        for (rate, burst) in [
            (0.0, 1),
            (-1.0, 1),
            (f64::NAN, 1),
            (f64::INFINITY, 1),
            (1.0, 0),
        ] {
            assert_eq!(Rate::new(rate, burst), None, "{rate} {burst}");
        }
    }

    proptest! {
        #[test]
        fn never_admits_more_than_its_rate_and_burst(
            rate in 0.1f64..1e6,
            burst in 1u32..1000,
            steps in prop::collection::vec(0u64..50_000_000, 1..300),
        ) {
            let bucket = Rate::new(rate, burst).expect("valid");
            let (mut now, mut full_at, mut admitted) = (0u64, 0u64, 0u64);
            for step in &steps {
                now += step;
                if let Taken::Admitted { full_at: next, .. } = bucket.take(full_at, now) {
                    full_at = next;
                    admitted += 1;
                }
            }
            // The interval is cut to whole nanoseconds, which admits at most that share more.
            let interval = (1e9 / rate).floor().max(1.0);
            prop_assert!(admitted as f64 <= now as f64 / interval + f64::from(burst) + 1.0);
        }
    }
}
