//! `Cache-Control`, of responses and of requests: what the directives say, before anything is decided by them.
//!
//! Source: RFC 9111 §5.2; RFC 5861 for the two that begin with `stale`.

use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What a response says of its being stored. Spans are whole seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    pub max_age: Option<u64>,
    pub s_maxage: Option<u64>,
    pub stale_while_revalidate: Option<u64>,
    pub stale_if_error: Option<u64>,
    pub no_store: bool,
    pub no_cache: Option<Scope>,
    pub private: Option<Scope>,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
}

/// What `no-cache` and `private` are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The whole response.
    Response,
    /// These fields of it.
    Fields(Vec<HeaderName>),
}

impl ResponseDirectives {
    /// Reads the field lines of `Cache-Control`.
    pub fn read(headers: &HeaderMap) -> Self {
        Self::of(headers.get_all(CACHE_CONTROL))
    }

    /// Reads field lines of that syntax.
    pub fn of<'v>(lines: impl IntoIterator<Item = &'v HeaderValue>) -> Self {
        let mut directives = Self::default();
        for line in lines {
            for (name, value) in elements(line.as_bytes()) {
                directives.take(&name.to_ascii_lowercase(), value.as_deref());
            }
        }
        directives
    }

    /// Takes one directive; `name` is in lower case. Those that are not known are nothing to a cache (RFC 9111 §5.2.3).
    pub fn take(&mut self, name: &[u8], value: Option<&[u8]>) {
        match name {
            b"max-age" => lesser(&mut self.max_age, value),
            b"s-maxage" => lesser(&mut self.s_maxage, value),
            b"stale-while-revalidate" => lesser(&mut self.stale_while_revalidate, value),
            b"stale-if-error" => lesser(&mut self.stale_if_error, value),
            b"no-store" => self.no_store = true,
            b"no-cache" => widen(&mut self.no_cache, value),
            b"private" => widen(&mut self.private, value),
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            _ => {}
        }
    }

    /// The fields that may not be given from store: those that `no-cache` and `private` name.
    pub fn fields_not_stored(&self) -> impl Iterator<Item = &HeaderName> {
        [&self.no_cache, &self.private]
            .into_iter()
            .flat_map(|scope| match scope {
                Some(Scope::Fields(names)) => names.as_slice(),
                _ => &[],
            })
    }
}

/// What a request says of stored responses. Spans are whole seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    pub max_age: Option<u64>,
    pub min_fresh: Option<u64>,
    /// `Some(u64::MAX)` where any staleness will do.
    pub max_stale: Option<u64>,
    pub no_cache: bool,
    pub no_store: bool,
    pub only_if_cached: bool,
}

impl RequestDirectives {
    /// Reads `Cache-Control`, and `Pragma` where that is absent.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        let mut lines = headers.get_all(CACHE_CONTROL).iter().peekable();
        if lines.peek().is_none() {
            // "treat [Pragma: no-cache] as if Cache-Control: no-cache were present" (RFC 9111 §5.4)
            let mut pragma = headers.get_all(PRAGMA).iter();
            directives.no_cache = pragma.any(|line| {
                elements(line.as_bytes()).any(|(name, _)| name.eq_ignore_ascii_case(b"no-cache"))
            });
            return directives;
        }
        for (name, value) in lines.flat_map(|line| elements(line.as_bytes())) {
            let value = value.as_deref();
            match name.to_ascii_lowercase().as_slice() {
                b"max-age" => lesser(&mut directives.max_age, value),
                b"min-fresh" => directives.min_fresh = value.and_then(delta_seconds),
                // "If no value is assigned to max-stale, then the client will accept a stale response of any age"
                b"max-stale" => {
                    directives.max_stale = match value {
                        None => Some(u64::MAX),
                        Some(value) => delta_seconds(value),
                    }
                }
                b"no-cache" => directives.no_cache = true,
                b"no-store" => directives.no_store = true,
                b"only-if-cached" => directives.only_if_cached = true,
                _ => {}
            }
        }
        directives
    }
}

/// The elements of a list, `name` or `name=value`, quoted strings unquoted.
///
/// Commas inside a quoted string belong to it (RFC 9110 §5.6.4).
pub fn elements(line: &[u8]) -> impl Iterator<Item = (&[u8], Option<Vec<u8>>)> {
    split(line, b',').filter_map(|element| {
        let element = element.trim_ascii();
        if element.is_empty() {
            return None;
        }
        match element.iter().position(|byte| *byte == b'=') {
            None => Some((element, None)),
            Some(at) => Some((&element[..at], Some(unquoted(&element[at + 1..])))),
        }
    })
}

/// Splits at a separator that is outside of quoted strings.
pub fn split(mut rest: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let (mut quoted, mut escaped) = (false, false);
        for (at, byte) in rest.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                byte if *byte == separator && !quoted => {
                    let piece = &rest[..at];
                    rest = &rest[at + 1..];
                    return Some(piece);
                }
                _ => {}
            }
        }
        ended = true;
        Some(rest)
    })
}

fn unquoted(value: &[u8]) -> Vec<u8> {
    let inner = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    let Some(inner) = inner else {
        return value.to_vec();
    };
    let mut escaped = false;
    let plain = inner.iter().filter(|byte| {
        let skip = **byte == b'\\' && !escaped;
        escaped = skip;
        !skip
    });
    plain.copied().collect()
}

/// A number of seconds; more than there can be is as many as can be (RFC 9111 §1.2.2). `None` where it is none.
pub fn delta_seconds(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |number: u64, byte: &u8| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(byte - b'0'))
    };
    Some(value.iter().fold(0, digit).min(SECONDS_MAX))
}

/// Where a directive is there twice, the lesser counts; what cannot be read is 0, so that it is not served
/// ("caches are encouraged to consider responses that have invalid freshness information to be stale", §4.2.1).
fn lesser(known: &mut Option<u64>, value: Option<&[u8]>) {
    let seconds = value.and_then(delta_seconds).unwrap_or(0);
    *known = Some(known.map_or(seconds, |other| other.min(seconds)));
}

/// The unqualified form is about more than the qualified one.
fn widen(known: &mut Option<Scope>, value: Option<&[u8]>) {
    let names: Option<Vec<HeaderName>> = value.and_then(|value| {
        value
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty())
            .map(|name| HeaderName::from_bytes(name).ok())
            .collect()
    });
    *known = Some(match (known.take(), names) {
        (None, Some(names)) if !names.is_empty() => Scope::Fields(names),
        (Some(Scope::Fields(mut known)), Some(names)) if !names.is_empty() => {
            known.extend(names);
            Scope::Fields(known)
        }
        _ => Scope::Response,
    });
}

/// "the greatest positive integer it can conveniently represent" that leaves room for additions: 136 years.
pub const SECONDS_MAX: u64 = u32::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    fn response(lines: &[&str]) -> ResponseDirectives {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, line.parse().unwrap());
        }
        ResponseDirectives::read(&headers)
    }

    #[test]
    fn spans_are_read_whatever_their_case_and_what_is_none_is_zero() {
        let cases: [(&[&str], Option<u64>); 14] = [
            (&["max-age=60"], Some(60)),
            (&["MaX-aGe=60"], Some(60)),
            (&["foobar, max-age=60"], Some(60)),
            (&["max-age=003600"], Some(3600)),
            (&["max-age=\"60\""], Some(60)),
            (&["max-age='60'"], Some(0)),
            (&["max-age=-60"], Some(0)),
            (&["max-age=60.5"], Some(0)),
            (&["max-age"], Some(0)),
            (&["max-age=99999999999"], Some(SECONDS_MAX)),
            (&["max-age=99999999999999999999999"], Some(SECONDS_MAX)),
            (&["extension=\"max-age=3600\", max-age=1"], Some(1)),
            (&["max-age=10", "max-age=5"], Some(5)),
            (&["no-store"], None),
        ];
        for (lines, expected) in cases {
            assert_eq!(response(lines).max_age, expected, "{lines:?}");
        }
    }

    #[test]
    fn no_cache_and_private_are_about_the_response_or_about_fields() {
        let fields = |names: &[&'static str]| {
            let names = names.iter().map(|name| HeaderName::from_static(name));
            Some(Scope::Fields(names.collect()))
        };
        let cases = [
            ("no-cache", Some(Scope::Response)),
            ("no-cache=\"a, B\"", fields(&["a", "b"])),
            ("no-cache=a", fields(&["a"])),
            ("no-cache=\"a\", no-cache", Some(Scope::Response)),
            ("no-cache, no-cache=\"a\"", Some(Scope::Response)),
            ("no-cache=\"a\", no-cache=\"b\"", fields(&["a", "b"])),
            ("no-cache=\"\"", Some(Scope::Response)),
            ("no-cache=\"a b\"", Some(Scope::Response)),
            ("public", None),
        ];
        for (line, expected) in cases {
            assert_eq!(response(&[line]).no_cache, expected, "{line}");
            let private = line.replace("no-cache", "private");
            assert_eq!(response(&[&private]).private, expected, "{private}");
        }
        let both = response(&["no-cache=\"a\", private=\"b\""]);
        let names: Vec<_> = both.fields_not_stored().map(HeaderName::as_str).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn requests_have_directives_of_their_own() {
        let read = |fields: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            RequestDirectives::read(&headers)
        };
        let none = RequestDirectives::default();
        let cases: [(&[(&str, &str)], RequestDirectives); 7] = [
            (
                &[("cache-control", "max-age=0, no-store")],
                RequestDirectives {
                    max_age: Some(0),
                    no_store: true,
                    ..none
                },
            ),
            (
                &[("cache-control", "max-stale")],
                RequestDirectives {
                    max_stale: Some(u64::MAX),
                    ..none
                },
            ),
            (
                &[("cache-control", "max-stale=5, min-fresh=6")],
                RequestDirectives {
                    max_stale: Some(5),
                    min_fresh: Some(6),
                    ..none
                },
            ),
            (
                &[("cache-control", "only-if-cached")],
                RequestDirectives {
                    only_if_cached: true,
                    ..none
                },
            ),
            (
                &[("pragma", "no-cache")],
                RequestDirectives {
                    no_cache: true,
                    ..none
                },
            ),
            (&[("pragma", "no-cache"), ("cache-control", "x")], none),
            (&[("pragma", "foo")], none),
        ];
        for (fields, expected) in cases {
            assert_eq!(read(fields), expected, "{fields:?}");
        }
    }
}
