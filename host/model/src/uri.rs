//! Percent-encoding, and edits of a query that leave the rest of it as it was (RFC 3986).

use std::borrow::Cow;

/// Decodes one path segment. What is no valid escape stays as it is; bytes that are no UTF-8 become U+FFFD.
///
/// Borrows where there is nothing to decode. A `+` is a plus sign here: only form data means a space by it.
pub fn decode_segment(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let decoded = decode(segment.as_bytes(), false);
    Cow::Owned(
        String::from_utf8(decoded)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    )
}

/// Decodes the name or value of a query parameter: as [`decode_segment`], and `+` is a space
/// (WHATWG URL §5.1, `application/x-www-form-urlencoded`).
pub fn decode_query(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let decoded = decode(text.as_bytes(), true);
    Cow::Owned(
        String::from_utf8(decoded)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    )
}

fn decode(text: &[u8], plus_is_space: bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let escaped = match after {
            [high, low, ..] if byte == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                rest = &after[2..];
            }
            None if byte == b'+' && plus_is_space => decoded.push(b' '),
            None => decoded.push(byte),
        }
    }
    decoded
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}
