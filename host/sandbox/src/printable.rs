//! What a component says, as it may stand in a log that people read.

use std::borrow::Cow;
use std::fmt::Write;

/// The text without control characters but for ends of lines and tabs: they would act on a terminal. They are written as in Rust.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let acts = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    if !text.contains(acts) {
        return text.into();
    }
    let mut clean = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if acts(letter) {
            _ = write!(clean, "{}", letter.escape_default()); // a String takes everything
        } else {
            clean.push(letter);
        }
    }
    clean.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_a_terminal() {
        let cases = [
            ("plain, ä\n\tand more", "plain, ä\n\tand more"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("a\0b\rc\u{9b}d", "a\\u{0}b\\rc\\u{9b}d"),
        ];
        for (text, expected) in cases {
            assert_eq!(printable(text), expected, "{text:?}");
        }
    }
}
