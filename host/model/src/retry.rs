//! Whether a request that failed at an upstream may be sent again.
//!
//! Pure: the caller says what happened. A request is sent twice only where the server cannot have acted on it twice.

use http::Method;

/// How far the failed attempt got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// No byte of the request was written: no connection, or one that was closed before.
    NotSent,
    /// Some of it was written, or may have been, and nothing of a response came.
    Sent,
}

/// One failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    pub progress: Progress,
    /// The connection had carried requests before, so its server may have closed it for idleness just then.
    pub reused: bool,
    /// Whether another attempt could end otherwise: a refused connection may, a timeout of the response has used up the
    /// time there was.
    pub retryable: bool,
    /// Whether the whole request is at hand to be sent again.
    pub replayable: bool,
    /// [`is_idempotent`] of its method.
    pub idempotent: bool,
    /// Attempts made before this one for which the operator's number of retries counts.
    pub retried: u32,
    /// A closed connection has already been made up for once.
    pub renewed: bool,
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it again on a new connection; it does not count, since the server only closed an idle connection.
    Renew,
    /// Send it again, to another target where there is one; takes one from the budget.
    Retry,
    /// Report the failure.
    GiveUp,
}

/// Decides on one failure, `retries_max` being the operator's setting.
///
/// Source: RFC 9110 §9.2.2: a client may retry a request automatically when it is idempotent or was never applied.
pub fn decide(failure: Failure, retries_max: u32) -> Verdict {
    if !failure.replayable || !failure.retryable {
        return Verdict::GiveUp;
    }
    if failure.progress == Progress::Sent && !failure.idempotent {
        return Verdict::GiveUp;
    }
    if failure.reused && !failure.renewed {
        return Verdict::Renew;
    }
    if failure.retried < retries_max {
        Verdict::Retry
    } else {
        Verdict::GiveUp
    }
}

/// Whether sending a request twice has the effect of sending it once. Source: RFC 9110 §9.2.2.
pub fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// How many retries an upstream may get beside its requests, so that a broken one is not buried under them.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    /// Hundredths of a retry.
    hundredths: u32,
}

impl RetryBudget {
    /// Starts full.
    pub fn new() -> Self {
        Self {
            hundredths: BUDGET_MAX,
        }
    }

    /// A request was sent: adds a fifth of a retry.
    pub fn deposit(&mut self) {
        self.hundredths = (self.hundredths + DEPOSIT).min(BUDGET_MAX);
    }

    /// Takes one retry; `false` where none is left.
    pub fn withdraw(&mut self) -> bool {
        let left = self.hundredths.checked_sub(100);
        self.hundredths = left.unwrap_or(self.hundredths);
        left.is_some()
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}

/// One retry for five requests: enough for one target of six being down.
const DEPOSIT: u32 = 20;
/// Ten retries in a row after a quiet time.
const BUDGET_MAX: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURE: Failure = Failure {
        progress: Progress::NotSent,
        reused: false,
        retryable: true,
        replayable: true,
        idempotent: true,
        retried: 0,
        renewed: false,
    };

    #[test]
    fn a_request_is_sent_again_only_where_it_is_safe() {
        let sent = Failure {
            progress: Progress::Sent,
            ..FAILURE
        };
        let stale = Failure {
            reused: true,
            ..sent
        };
        let cases = [
            ("a refused connection", FAILURE, 1, Verdict::Retry),
            ("no retries allowed", FAILURE, 0, Verdict::GiveUp),
            (
                "all used up",
                Failure {
                    retried: 2,
                    ..FAILURE
                },
                2,
                Verdict::GiveUp,
            ),
            (
                "not sent: any method",
                Failure {
                    idempotent: false,
                    ..FAILURE
                },
                1,
                Verdict::Retry,
            ),
            (
                "the request is gone",
                Failure {
                    replayable: false,
                    ..FAILURE
                },
                9,
                Verdict::GiveUp,
            ),
            (
                "no use",
                Failure {
                    retryable: false,
                    ..FAILURE
                },
                9,
                Verdict::GiveUp,
            ),
            ("sent, idempotent", sent, 1, Verdict::Retry),
            (
                "sent, not idempotent",
                Failure {
                    idempotent: false,
                    ..sent
                },
                9,
                Verdict::GiveUp,
            ),
            ("a stale connection costs nothing", stale, 0, Verdict::Renew),
            (
                "nor before it was written to",
                Failure {
                    progress: Progress::NotSent,
                    ..stale
                },
                0,
                Verdict::Renew,
            ),
            (
                "but only once",
                Failure {
                    renewed: true,
                    ..stale
                },
                0,
                Verdict::GiveUp,
            ),
            (
                "then it counts",
                Failure {
                    renewed: true,
                    ..stale
                },
                1,
                Verdict::Retry,
            ),
            (
                "stale, not idempotent",
                Failure {
                    idempotent: false,
                    ..stale
                },
                9,
                Verdict::GiveUp,
            ),
        ];
        for (what, failure, retries_max, expected) in cases {
            assert_eq!(decide(failure, retries_max), expected, "{what}");
        }
    }

    #[test]
    fn idempotent_methods_are_those_of_the_rfc() {
        let idempotent = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
        for method in [
            "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "CONNECT", "LOCK",
        ] {
            let parsed = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(
                is_idempotent(&parsed),
                idempotent.contains(&method),
                "{method}"
            );
        }
    }

    #[test]
    fn the_budget_allows_one_retry_for_five_requests() {
        let mut budget = RetryBudget::new();
        assert_eq!(
            (0..20).filter(|_| budget.withdraw()).count(),
            10,
            "what it holds at first"
        );
        for _ in 0..4 {
            budget.deposit();
        }
        assert!(!budget.withdraw(), "four requests are not enough");
        budget.deposit();
        assert!(budget.withdraw());
        assert!(!budget.withdraw());
    }
}
