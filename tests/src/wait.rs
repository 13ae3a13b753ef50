//! Waiting for a condition, with a bound; and saying what cannot be tested here.

use std::fmt::Display;
use std::io::Write;
use std::time::{Duration, Instant};

/// How long a condition may take to come true before the test fails: far more than it ever should.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls `condition` until it gives a value; panics with `what` after [`PATIENCE`].
pub async fn until<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, condition).await
}

/// As [`until`], with another bound.
pub async fn until_within<T>(
    patience: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "waited {patience:?} in vain: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Says why a test does nothing here, to standard error itself: the runner keeps to itself what goes through `eprintln!` in a
/// test that passes.
pub fn say_skipped(why: &dyn Display) {
    // Nobody is there to read it otherwise.
    _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
