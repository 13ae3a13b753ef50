//! Which field speaks to this cache: `CDN-Cache-Control`, `Surrogate-Control`, or `Cache-Control` as for everyone.
//!
//! Sources: RFC 9213 §2 (targeted fields), RFC 8941 §3.2 (dictionaries); "Edge Architecture Specification", W3C Note
//! 2001, §2 for the surrogates.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::directives::{ResponseDirectives, delta_seconds, split};

/// What a response tells this cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    pub directives: ResponseDirectives,
    /// It was told by a targeted field: "MUST ignore the Cache-Control and Expires header fields" (RFC 9213 §2.2).
    pub targeted: bool,
}

impl Told {
    /// Reads the first field that there is of our list (RFC 9213 §2.2: "the first … with a valid, non-empty value").
    pub fn read(headers: &HeaderMap) -> Self {
        if let Some(directives) = cdn_cache_control(headers) {
            return Self {
                directives,
                targeted: true,
            };
        }
        if let Some(directives) = surrogate_control(headers) {
            return Self {
                directives,
                targeted: true,
            };
        }
        Self {
            directives: ResponseDirectives::read(headers),
            targeted: false,
        }
    }
}

/// A dictionary of structured fields. "If there is a parsing failure, the entire field is ignored" (§2.1).
fn cdn_cache_control(headers: &HeaderMap) -> Option<ResponseDirectives> {
    if !headers.contains_key(CDN_CACHE_CONTROL) {
        return None;
    }
    let mut directives = ResponseDirectives::default();
    let mut members = 0;
    for line in headers.get_all(CDN_CACHE_CONTROL) {
        for member in split(line.as_bytes(), b',') {
            let member = member.trim_ascii();
            if member.is_empty() {
                return None; // a comma too many
            }
            take_member(&mut directives, member)?;
            members += 1;
        }
    }
    (members > 0).then_some(directives)
}

fn take_member(directives: &mut ResponseDirectives, member: &[u8]) -> Option<()> {
    // Parameters say nothing that is known here: "Parameters … are ignored unless otherwise specified".
    let item = split(member, b';').next()?.trim_ascii_end();
    let (key, value) = match item.iter().position(|byte| *byte == b'=') {
        None => (item, None),
        Some(at) => (&item[..at], Some(&item[at + 1..])),
    };
    let starts = key
        .first()
        .is_some_and(|byte| byte.is_ascii_lowercase() || *byte == b'*');
    let goes_on = key
        .iter()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(byte));
    if !starts || !goes_on {
        return None;
    }
    match (key, value.map(bare_item)) {
        (_, Some(None)) => None, // no structured value
        // A value of another type than the directive's makes that one unusable, and only that one.
        (
            b"max-age" | b"s-maxage" | b"stale-while-revalidate" | b"stale-if-error",
            Some(Some(Item::Integer(digits))),
        ) if delta_seconds(digits).is_some() => {
            directives.take(key, Some(digits));
            Some(())
        }
        (b"max-age" | b"s-maxage" | b"stale-while-revalidate" | b"stale-if-error", _) => Some(()),
        (_, Some(Some(Item::Boolean(false)))) => Some(()),
        (_, None | Some(Some(Item::Boolean(true)))) => {
            directives.take(key, None);
            Some(())
        }
        (_, Some(Some(Item::String(text)))) => {
            directives.take(key, Some(text));
            Some(())
        }
        (_, Some(Some(_))) => Some(()),
    }
}

enum Item<'v> {
    Integer(&'v [u8]),
    Boolean(bool),
    String(&'v [u8]),
    Other,
}

fn bare_item(value: &[u8]) -> Option<Item<'_>> {
    let first = value.first()?;
    match first {
        b'?' => match value {
            b"?1" => Some(Item::Boolean(true)),
            b"?0" => Some(Item::Boolean(false)),
            _ => None,
        },
        b'"' => {
            let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
            Some(Item::String(inner))
        }
        b'-' | b'0'..=b'9' => {
            let digits = value.strip_prefix(b"-").unwrap_or(value);
            let whole = digits.iter().all(u8::is_ascii_digit) && !digits.is_empty();
            match (whole, digits.len()) {
                (true, 1..=15) => Some(Item::Integer(value)),
                (true, _) => None, // §3.3.1: at most 15 digits
                (false, _) => decimal(digits).then_some(Item::Other),
            }
        }
        byte if byte.is_ascii_alphabetic() || *byte == b'*' => {
            let token = |byte: &u8| byte.is_ascii_graphic() && !b"\"(),;<=>?@[\\]{}".contains(byte);
            value.iter().all(token).then_some(Item::Other)
        }
        b'(' | b':' => Some(Item::Other), // an inner list, a byte sequence: no directive has one
        _ => None,
    }
}

fn decimal(digits: &[u8]) -> bool {
    let mut parts = digits.split(|byte| *byte == b'.');
    let digits_only = |part: Option<&[u8]>, max: usize| {
        part.is_some_and(|part| {
            (1..=max).contains(&part.len()) && part.iter().all(u8::is_ascii_digit)
        })
    };
    digits_only(parts.next(), 12) && digits_only(parts.next(), 3) && parts.next().is_none()
}

/// `Surrogate-Control: max-age=60, no-store;tidegate`: a directive with a target of another name is not for us.
fn surrogate_control(headers: &HeaderMap) -> Option<ResponseDirectives> {
    let mut directives = ResponseDirectives::default();
    let mut ours = 0;
    for line in headers.get_all(SURROGATE_CONTROL) {
        for element in split(line.as_bytes(), b',') {
            let mut parts = split(element, b';').map(<[u8]>::trim_ascii);
            let directive = parts.next().unwrap_or_default();
            if directive.is_empty() || !parts.all(|target| target == SURROGATE.as_bytes()) {
                continue;
            }
            ours += 1;
            let (name, value) = match directive.iter().position(|byte| *byte == b'=') {
                None => (directive, None),
                Some(at) => (&directive[..at], Some(&directive[at + 1..])),
            };
            // "max-age=600+3600": fresh for 600 s, and then, stale, for 3600 s more.
            let (value, extension) = match value.map(|value| value.split(|byte| *byte == b'+')) {
                Some(mut spans) => (spans.next(), spans.next()),
                None => (None, None),
            };
            match name.to_ascii_lowercase().as_slice() {
                name @ b"max-age" => {
                    directives.take(name, value);
                    if let Some(extension) = extension {
                        directives.take(b"stale-while-revalidate", Some(extension));
                    }
                }
                b"no-store" => directives.no_store = true,
                b"no-store-remote" => directives.no_store = true,
                _ => {} // content="ESI/1.0" and others: not our trade
            }
        }
    }
    (ours > 0).then_some(directives)
}

/// What an origin is told that it may address us as: `Surrogate-Capability`.
pub fn surrogate_capability() -> HeaderValue {
    HeaderValue::from_static("tidegate=\"Surrogate/1.0\"")
}

/// The field that tells it.
pub const SURROGATE_CAPABILITY: HeaderName = HeaderName::from_static("surrogate-capability");
/// The field that answers it; for surrogates only.
pub const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
const SURROGATE: &str = "tidegate";

#[cfg(test)]
mod tests {
    use super::*;

    /// `max-age`, `no-store`, and whether a targeted field said so.
    type Short = (Option<u64>, bool, bool);

    fn told(fields: &[(&'static str, &str)]) -> Short {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let told = Told::read(&headers);
        (
            told.directives.max_age,
            told.directives.no_store,
            told.targeted,
        )
    }

    #[test]
    fn a_targeted_field_replaces_cache_control_where_it_can_be_read() {
        let cc = ("cache-control", "max-age=1");
        let cdn = |value| ("cdn-cache-control", value);
        type Fields<'f> = &'f [(&'static str, &'f str)];
        let cases: [(Fields, Short); 15] = [
            (&[cc], (Some(1), false, false)),
            (&[cc, cdn("max-age=60")], (Some(60), false, true)),
            (&[cc, cdn("max-age=60;x=1, foo")], (Some(60), false, true)),
            (&[cc, cdn("no-store")], (None, true, true)),
            (&[cc, cdn("no-store=?0, max-age=5")], (Some(5), false, true)),
            (&[cc, cdn("MAX-AGE=60")], (Some(1), false, false)),
            (&[cc, cdn("max-age=60,")], (Some(1), false, false)),
            (&[cc, cdn("max-age=&")], (Some(1), false, false)),
            (&[cc, cdn("")], (Some(1), false, false)),
            (&[cc, cdn("max-age=60.5")], (None, false, true)),
            (&[cc, cdn("max-age=\"60\"")], (None, false, true)),
            (&[cc, cdn("max-age=-60")], (None, false, true)),
            (
                &[cc, cdn("max-age=9999999999999999")],
                (Some(1), false, false),
            ),
            (
                &[("surrogate-control", "max-age=9"), cdn("max-age=60")],
                (Some(60), false, true),
            ),
            (&[cc, cdn("private")], (None, false, true)),
        ];
        for (fields, expected) in cases {
            assert_eq!(told(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_surrogate_takes_what_is_for_all_and_what_is_for_it() {
        let cases = [
            ("max-age=60", (Some(60), false, true)),
            ("max-age=60;tidegate", (Some(60), false, true)),
            ("max-age=60;other", (Some(1), false, false)),
            ("max-age=60;other, max-age=5", (Some(5), false, true)),
            ("MaX-aGe=60", (Some(60), false, true)),
            ("max-age=60+30", (Some(60), false, true)),
            ("no-store", (None, true, true)),
            ("", (Some(1), false, false)),
        ];
        for (value, expected) in cases {
            let fields = [("cache-control", "max-age=1"), ("surrogate-control", value)];
            assert_eq!(told(&fields), expected, "{value}");
        }
    }
}
