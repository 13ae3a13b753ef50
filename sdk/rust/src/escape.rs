//! Text inside other text: JSON strings, URIs.

/// Appends `value` as it stands inside a JSON string (RFC 8259 section 7), without the quotes.
pub fn push_json(value: &str, into: &mut String) {
    for char in value.chars() {
        match char {
            '"' => into.push_str("\\\""),
            '\\' => into.push_str("\\\\"),
            '\0'..='\u{1f}' => {
                into.push_str("\\u00");
                push_hexadecimal(char as u8, into);
            }
            other => into.push(other),
        }
    }
}

/// Appends `value` percent-encoded but for unreserved characters (RFC 3986 section 2.3) and those of `kept`.
pub fn push_percent(value: &str, kept: &str, into: &mut String) {
    for char in value.chars() {
        if char.is_ascii_alphanumeric() || "-._~".contains(char) || kept.contains(char) {
            into.push(char);
            continue;
        }
        for byte in char.encode_utf8(&mut [0; 4]).bytes() {
            into.push('%');
            push_hexadecimal(byte, into);
        }
    }
}

fn push_hexadecimal(byte: u8, into: &mut String) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    into.push(DIGITS[usize::from(byte >> 4)]);
    into.push(DIGITS[usize::from(byte & 15)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_text_reads_back_as_it_was() {
        for value in ["", "plain é 🦀", "\"\\/\u{0}\u{1f}\r\n\t\u{7f}"] {
            let mut text = String::from("\"");
            push_json(value, &mut text);
            text.push('"');
            assert_eq!(serde_json::from_str::<String>(&text).unwrap(), value);
        }
    }

    #[test]
    fn what_has_a_meaning_in_a_uri_is_encoded() {
        let cases = [
            ("a b/c?d=e&f#é", "", "a%20b%2Fc%3Fd%3De%26f%23%C3%A9"),
            ("a/b c", "/", "a/b%20c"),
            ("~-._", "", "~-._"),
        ];
        for (value, kept, expected) in cases {
            let mut text = String::new();
            push_percent(value, kept, &mut text);
            assert_eq!(text, expected);
        }
    }
}
