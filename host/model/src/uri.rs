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

/// Percent-encodes `text` for use as one path segment: all but unreserved characters, sub-delims, `:` and `@`
/// (RFC 3986 §3.3).
pub fn encode_segment(text: &str) -> Cow<'_, str> {
    encode(text, is_segment_byte)
}

/// As [`encode_segment`], and `/` stays: for what a greedy parameter holds.
pub fn encode_segments(text: &str) -> Cow<'_, str> {
    encode(text, |byte| is_segment_byte(byte) || byte == b'/')
}

/// Percent-encodes a name or value of a query parameter; a space is `%20`, which every reader understands.
pub fn encode_query(text: &str) -> Cow<'_, str> {
    // `&`, `=`, `+` and `;` mean something to readers of parameters.
    let plain = |byte| {
        is_unreserved(byte)
            || matches!(
                byte,
                b'!' | b'$' | b'\'' | b'(' | b')' | b'*' | b',' | b':' | b'@' | b'/' | b'?'
            )
    };
    encode(text, plain)
}

fn encode(text: &str, plain: impl Fn(u8) -> bool) -> Cow<'_, str> {
    let Some(first) = text.bytes().position(|byte| !plain(byte)) else {
        return Cow::Borrowed(text);
    };
    let mut encoded = String::with_capacity(text.len() + 16);
    encoded.push_str(&text[..first]);
    for byte in text[first..].bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    Cow::Owned(encoded)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn is_segment_byte(byte: u8) -> bool {
    let sub_delim = matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
    );
    is_unreserved(byte) || sub_delim || matches!(byte, b':' | b'@')
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The parameters of a query without its `?`, in order, as they were written. Empty pieces (`a&&b`) are left out.
pub fn parameters(query: &str) -> impl DoubleEndedIterator<Item = (&str, &str)> {
    let pieces = query.split('&').filter(|piece| !piece.is_empty());
    pieces.map(|piece| piece.split_once('=').unwrap_or((piece, "")))
}

/// The last value of a query parameter, decoded. `name` is decoded as well.
pub fn query_parameter<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    let mut from_last = parameters(query).rev();
    from_last
        .find(|(written, _)| decode_query(written) == name)
        .map(|(_, value)| decode_query(value))
}

/// Sets a query parameter to one value, where its first value was, or at the end. `name` and `value` are decoded.
pub fn set_query_parameter(query: &mut String, name: &str, value: &str) {
    let mut pending = Some(format!("{}={}", encode_query(name), encode_query(value)));
    rewrite(query, |piece, written| {
        if decode_query(written) != name {
            return Some(Cow::Borrowed(piece));
        }
        pending.take().map(Cow::Owned)
    });
    if let Some(added) = pending {
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(&added);
    }
}

/// Removes a query parameter, all its values. `name` is decoded.
pub fn remove_query_parameter(query: &mut String, name: &str) {
    rewrite(query, |piece, written| {
        (decode_query(written) != name).then_some(Cow::Borrowed(piece))
    });
}

/// Gives a query parameter another name, all its values. Both names are decoded.
pub fn rename_query_parameter(query: &mut String, from: &str, to: &str) {
    rewrite(query, |piece, written| {
        if decode_query(written) != from {
            return Some(Cow::Borrowed(piece));
        }
        Some(Cow::Owned(format!(
            "{}{}",
            encode_query(to),
            &piece[written.len()..]
        )))
    });
}

/// Puts the query together again from what `keep` makes of each piece and the name in it.
fn rewrite(
    query: &mut String,
    mut keep: impl for<'q> FnMut(&'q str, &'q str) -> Option<Cow<'q, str>>,
) {
    let mut rewritten = String::with_capacity(query.len() + 32);
    for piece in query.split('&').filter(|piece| !piece.is_empty()) {
        let name = piece.split_once('=').map_or(piece, |(name, _)| name);
        let Some(kept) = keep(piece, name) else {
            continue;
        };
        if !rewritten.is_empty() {
            rewritten.push('&');
        }
        rewritten.push_str(&kept);
    }
    *query = rewritten;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn segments_decode_and_encode() {
        let cases = [
            ("plain", "plain", "plain"),
            ("a%20b", "a b", "a%20b"),
            ("a+b", "a+b", "a+b"),
            ("%2F%2f", "//", "%2F%2F"),
            ("100%", "100%", "100%25"),
            ("%zz%4", "%zz%4", "%25zz%254"),
            ("%C3%A9", "é", "%C3%A9"),
            ("%ff", "\u{fffd}", "%EF%BF%BD"),
        ];
        for (text, decoded, encoded) in cases {
            assert_eq!(decode_segment(text), decoded, "{text}");
            assert_eq!(encode_segment(decoded), encoded, "{text}");
        }
        assert_eq!(encode_segments("a/b c?"), "a/b%20c%3F");
    }

    #[test]
    fn query_edits_leave_the_other_parameters_as_they_were() {
        type Edit = fn(&mut String);
        let set: Edit = |query| set_query_parameter(query, "a b", "1&2");
        let remove: Edit = |query| remove_query_parameter(query, "a b");
        let rename: Edit = |query| rename_query_parameter(query, "a b", "c&d");
        let cases = [
            (set, "", "a%20b=1%262"),
            (set, "x=%7e", "x=%7e&a%20b=1%262"),
            (set, "a+b=0&x&a%20b=9", "a%20b=1%262&x"),
            (remove, "a+b=0&&x=1&a%20b&y", "x=1&y"),
            (remove, "a+b", ""),
            (rename, "a+b=%7e&x&a%20b", "c%26d=%7e&x&c%26d"),
            (rename, "ab=1", "ab=1"),
        ];
        for (edit, query, expected) in cases {
            let mut edited = query.to_owned();
            edit(&mut edited);
            assert_eq!(edited, expected, "{query}");
        }
    }

    #[test]
    fn the_last_value_of_a_parameter_counts() {
        let cases = [
            ("a=1&b=2&a=3", Some("3")),
            ("%61=x+y%2B", Some("x y+")),
            ("a", Some("")),
            ("a=b=c", Some("b=c")),
            ("A=1", None),
            ("", None),
        ];
        for (query, expected) in cases {
            assert_eq!(query_parameter(query, "a").as_deref(), expected, "{query}");
        }
    }

    proptest! {
        #[test]
        fn what_is_set_is_read_again(query in "[a-c&=%+é]{0,30}", name in ".{0,5}", value in ".{0,8}") {
            let mut edited = query.clone();
            set_query_parameter(&mut edited, &name, &value);
            prop_assert_eq!(query_parameter(&edited, &name).map(Cow::into_owned), Some(value));
            remove_query_parameter(&mut edited, &name);
            prop_assert_eq!(query_parameter(&edited, &name), None);
        }

        #[test]
        fn encoding_is_undone_by_decoding(text in ".{0,20}") {
            prop_assert_eq!(decode_segment(&encode_segment(&text)).into_owned(), text.as_str());
            prop_assert_eq!(decode_query(&encode_query(&text)).into_owned(), text.as_str());
        }

        #[test]
        fn any_query_can_be_edited(query in "(?s).{0,40}", name in "[a-c]?") {
            for edit in [remove_query_parameter, |query: &mut String, name: &str| rename_query_parameter(query, name, "z")] {
                edit(&mut query.clone(), &name);
            }
        }
    }
}
