//! Token buckets: how much may pass now, and when the next may.

use std::time::{Duration, Instant};

/// A token bucket: fills at `rate` tokens per second and holds at most `burst`.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    filled_at: Instant,
}

/// Whether a token was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It was; `left` whole tokens remain.
    Admit { left: u32 },
    /// It was not; after `retry_after` one will be, unless somebody else takes it.
    Reject { retry_after: Duration },
}

impl TokenBucket {
    /// A full bucket. `None` unless `rate` (tokens per second) is finite and above 0, and `burst` above 0.
    pub fn new(rate: f64, burst: u32, now: Instant) -> Option<Self> {
        let burst = f64::from(burst);
        (rate > 0.0 && rate.is_finite() && burst > 0.0).then_some(Self {
            rate,
            burst,
            tokens: burst,
            filled_at: now,
        })
    }

    /// Takes one token at `now`, or says how long until one is available. A `now` before the last one counts as that one.
    pub fn take(&mut self, now: Instant) -> Admission {
        let elapsed = now.saturating_duration_since(self.filled_at);
        self.tokens = (self.tokens + elapsed.as_secs_f64() * self.rate).min(self.burst);
        self.filled_at = self.filled_at.max(now);
        if self.tokens < 1.0 {
            let missing = (1.0 - self.tokens) / self.rate;
            return Admission::Reject {
                retry_after: Duration::try_from_secs_f64(missing).unwrap_or(Duration::MAX),
            };
        }
        self.tokens -= 1.0;
        // Truncates, and saturates far above any `burst`.
        Admission::Admit {
            left: self.tokens as u32,
        }
    }

    /// The same bucket under new settings: what it held stays, up to the new `burst`. Settings that
    /// [`new`](Self::new) refuses change nothing.
    pub fn resize(&mut self, rate: f64, burst: u32) {
        if let Some(new) = Self::new(rate, burst, self.filled_at) {
            self.tokens = self.tokens.min(new.burst);
            (self.rate, self.burst) = (new.rate, new.burst);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10.0, 2, start).unwrap();
        let reject = |ms| Admission::Reject {
            retry_after: Duration::from_millis(ms),
        };
        let cases = [
            (0, Admission::Admit { left: 1 }),
            (0, Admission::Admit { left: 0 }),
            (0, reject(100)),
            (50, reject(50)),
            (100, Admission::Admit { left: 0 }),
            (90, reject(100)),
            (10_000, Admission::Admit { left: 1 }),
            (10_000, Admission::Admit { left: 0 }),
            (10_000, reject(100)),
        ];
        for (at_ms, expected) in cases {
            let admission = bucket.take(start + Duration::from_millis(at_ms));
            // Whole milliseconds: binary fractions make 50 ms a nanosecond longer.
            let admission = match admission {
                Admission::Reject { retry_after } => {
                    reject((retry_after.as_secs_f64() * 1000.0).round() as u64)
                }
                admit => admit,
            };
            assert_eq!(admission, expected, "at {at_ms} ms");
        }
    }

    #[test]
    fn settings_that_admit_nothing_or_everything_are_refused() {
        let now = Instant::now();
        for (rate, burst) in [
            (0.0, 1),
            (-1.0, 1),
            (f64::NAN, 1),
            (f64::INFINITY, 1),
            (1.0, 0),
        ] {
            assert!(
                TokenBucket::new(rate, burst, now).is_none(),
                "{rate} {burst}"
            );
        }
        let mut bucket = TokenBucket::new(f64::MIN_POSITIVE, 1, now).unwrap();
        bucket.take(now);
        assert_eq!(
            bucket.take(now),
            Admission::Reject {
                retry_after: Duration::MAX
            }
        );
    }

    #[test]
    fn a_smaller_burst_holds_less_at_once() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(1.0, 10, now).unwrap();
        bucket.resize(1.0, 2);
        assert_eq!(bucket.take(now), Admission::Admit { left: 1 });
        bucket.resize(1.0, 100);
        assert_eq!(bucket.take(now), Admission::Admit { left: 0 });
    }

    proptest! {
        #[test]
        fn never_more_pass_than_rate_times_time_and_burst(
            rate in 0.1f64..1e6, burst in 1u32..1000, waits_us in prop::collection::vec(0u64..5_000, 1..400)
        ) {
            let start = Instant::now();
            let mut bucket = TokenBucket::new(rate, burst, start).unwrap();
            let mut now = start;
            let mut admitted = 0.0;
            for wait in waits_us {
                now += Duration::from_micros(wait);
                if matches!(bucket.take(now), Admission::Admit { .. }) {
                    admitted += 1.0;
                }
                let most = rate * (now - start).as_secs_f64() + f64::from(burst);
                prop_assert!(admitted <= most + 1e-6, "{admitted} of {most}");
            }
        }

        #[test]
        fn a_rejected_caller_that_waits_is_admitted(rate in 0.1f64..1e6, burst in 1u32..100) {
            let mut now = Instant::now();
            let mut bucket = TokenBucket::new(rate, burst, now).unwrap();
            for _ in 0..burst + 20 {
                if let Admission::Reject { retry_after } = bucket.take(now) {
                    now += retry_after + Duration::from_nanos(1);
                    let admitted = matches!(bucket.take(now), Admission::Admit { .. });
                    prop_assert!(admitted);
                }
            }
        }
    }
}
