//! Waiting for a condition, with a bound.

use std::time::{Duration, Instant};

/// How long a condition may take to come true before the test fails: far more than it ever should.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls `condition` until it gives a value; panics with `what` after [`PATIENCE`].
pub async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
