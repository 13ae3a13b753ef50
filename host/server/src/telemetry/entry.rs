//! An entry of the node's log, as people read it.

use std::borrow::Cow;

/// A text with its further lines indented, so that none of what plugins and senders say can be taken for another entry.
pub fn in_one(text: &str) -> Cow<'_, str> {
    if text.contains('\n') {
        text.replace('\n', "\n    ").into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_it_begins_an_entry() {
        assert_eq!(in_one("one"), "one");
        let forged = "q\n2026-01-01T00:00:00Z ERROR forged\n";
        assert_eq!(
            in_one(forged),
            "q\n    2026-01-01T00:00:00Z ERROR forged\n    "
        );
    }
}
