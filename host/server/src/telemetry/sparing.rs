//! Log lines that strangers can cause: so many a second, and the number of those that were left out.

use std::cell::Cell;
use std::time::Instant;

use tidegate_model::bucket::{Rate, Taken};

/// One thread's allowance of such lines.
#[derive(Debug)]
pub struct Sparing {
    rate: Rate,
    began: Instant,
    full_at: Cell<u64>,
    left_out: Cell<u64>,
}

impl Default for Sparing {
    /// A person can read some ten lines a second; a burst shows what a scan asked for.
    fn default() -> Self {
        Self {
            rate: Rate::new(10.0, 100).expect("both are above 0"),
            began: Instant::now(),
            full_at: Cell::new(0),
            left_out: Cell::new(0),
        }
    }
}

impl Sparing {
    /// Has a line written, where one may be now; with how many were left out before it, if any were.
    pub fn tell(&self, write: impl FnOnce(Option<u64>)) {
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if let Some(left_out) = self.admit_at(now) {
            write((left_out > 0).then_some(left_out));
        }
    }

    fn admit_at(&self, now: u64) -> Option<u64> {
        match self.rate.take(self.full_at.get(), now) {
            Taken::Admitted { full_at, .. } => {
                self.full_at.set(full_at);
                Some(self.left_out.take())
            }
            Taken::Rejected { .. } => {
                self.left_out.set(self.left_out.get() + 1);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted() {
        let sparing = Sparing::default();
        let written = (0..250).filter(|_| sparing.admit_at(0).is_some()).count();
        assert_eq!(written, 100);
        assert_eq!(
            sparing.admit_at(100_000_000),
            Some(150),
            "a tenth of a second later"
        );
        assert_eq!(sparing.admit_at(200_000_000), Some(0));
    }
}
