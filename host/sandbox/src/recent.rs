//! The last lines that an instance wrote, for the report of its fault.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// The last lines of one call, whichever way they were written: the `log` capability, or WASI's output.
///
/// A lock, since WASI's streams have to be `Send`; an instance is on one thread, so it is never contended, and taking it
/// once for each call costs some nanoseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recent(Arc<Mutex<VecDeque<String>>>);

impl Recent {
    /// Adds a line; the oldest goes where there are too many.
    pub(crate) fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        let cut = line.floor_char_boundary(LINE_BYTES_MAX);
        lines.push_back(line[..cut].to_owned());
    }

    /// A call begins: what was said in others says nothing of it.
    pub(crate) fn forget(&self) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.clear();
    }

    /// `cause`, and the lines below it where there are any.
    pub(crate) fn below(&self, cause: String) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return cause;
        }
        let mut text = cause;
        text.push_str("\nits last lines:");
        for line in lines.iter() {
            text.push_str("\n    ");
            text.push_str(line);
        }
        text
    }
}

/// Lines kept: a panic's message takes three in Rust, and in Go some twenty, with its stack.
const LINES_MAX: usize = 24;
/// Bytes of one line that are kept; the log has it whole.
const LINE_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_the_call_follow_the_cause() {
        let recent = Recent::default();
        assert_eq!(recent.below("trapped".to_owned()), "trapped");
        recent.push("of the call before");
        recent.forget();
        (0..LINES_MAX + 2).for_each(|number| recent.push(&number.to_string()));
        let lines: Vec<_> = (2..LINES_MAX + 2)
            .map(|number| format!("\n    {number}"))
            .collect();
        assert_eq!(
            recent.below("trapped".to_owned()),
            format!("trapped\nits last lines:{}", lines.concat())
        );
        recent.push(&"ä".repeat(LINE_BYTES_MAX));
        assert!(recent.below(String::new()).len() < 20 * LINES_MAX + LINE_BYTES_MAX);
    }
}
