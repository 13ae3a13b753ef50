//! Validators: asking the origin whether what is stored still holds, and telling viewers that what they hold does.
//!
//! Source: RFC 9111 §4.3; RFC 9110 §8.8 and §13.

use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, DATE, ETAG,
    IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
    TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName};

use super::date;
use super::directives::split;

/// Whether a response has anything to ask by.
pub fn has_validator(response: &HeaderMap) -> bool {
    response.contains_key(ETAG) || response.contains_key(LAST_MODIFIED)
}

/// Makes a request ask whether a stored response still holds. Gives whether there is anything to ask by.
///
/// Source: RFC 9111 §4.3.1.
pub fn ask_by(request: &mut HeaderMap, stored: &HeaderMap) -> bool {
    if !has_validator(stored) {
        return false;
    }
    for name in PRECONDITIONS {
        request.remove(name);
    }
    // "If … an entity tag was provided …, include it in If-None-Match", "include … Last-Modified in If-Modified-Since"
    for (from, to) in [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)] {
        if let Some(validator) = stored.get(from) {
            request.insert(to, validator.clone());
        }
    }
    true
}

/// Whether a request has conditions that only the origin can judge: `If-Match`, `If-Unmodified-Since`
/// (RFC 9111 §4.3.2: they "are not applicable to a cache").
pub fn is_for_the_origin(request: &HeaderMap) -> bool {
    request.contains_key(IF_MATCH) || request.contains_key(IF_UNMODIFIED_SINCE)
}

/// Whether a request has conditions that a cache may judge.
pub fn is_conditional(request: &HeaderMap) -> bool {
    request.contains_key(IF_NONE_MATCH) || request.contains_key(IF_MODIFIED_SINCE)
}

/// Whether what the viewer holds is what is stored: it is told 304.
///
/// Source: RFC 9111 §4.3.2; RFC 9110 §13.2.2.
pub fn is_not_modified(request: &HeaderMap, stored: &HeaderMap) -> bool {
    // "When If-None-Match is present, evaluate [it]", and then If-Modified-Since is not looked at.
    if request.contains_key(IF_NONE_MATCH) {
        return matches_any(request, stored);
    }
    let Some(since) = request.get(IF_MODIFIED_SINCE) else {
        return false;
    };
    let Some(since) = date::parse(since.as_bytes()) else {
        return false; // "MUST ignore … if the received field value is not a valid HTTP-date"
    };
    // "if … the stored response's Last-Modified …; or, if no Last-Modified …, Date"
    let field = stored.get(LAST_MODIFIED).or(stored.get(DATE));
    field
        .and_then(|field| date::parse(field.as_bytes()))
        .is_some_and(|modified| modified <= since)
}

fn matches_any(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let mut tags = request
        .get_all(IF_NONE_MATCH)
        .iter()
        .flat_map(|line| split(line.as_bytes(), b','))
        .map(<[u8]>::trim_ascii);
    let stored = stored.get(ETAG).map(|etag| opaque(etag.as_bytes()));
    // "using the weak comparison function" (RFC 9110 §13.1.2)
    tags.any(|tag| tag == b"*" || stored.is_some_and(|stored| opaque(tag) == stored))
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The strong entity tag of a response.
pub fn strong_etag(headers: &HeaderMap) -> Option<&[u8]> {
    let etag = headers.get(ETAG)?.as_bytes();
    let quoted = etag.len() >= 2 && etag.starts_with(b"\"") && etag.ends_with(b"\"");
    quoted.then_some(etag)
}

/// Whether a 304 speaks of this stored response: what both say of their validators is the same.
///
/// Source: RFC 9111 §4.3.4.
pub fn is_about(not_modified: &HeaderMap, stored: &HeaderMap) -> bool {
    let agree = |name: HeaderName, same: fn(&[u8], &[u8]) -> bool| match (
        not_modified.get(&name),
        stored.get(&name),
    ) {
        (Some(new), Some(old)) => same(new.as_bytes(), old.as_bytes()),
        _ => true,
    };
    agree(ETAG, |new, old| opaque(new) == opaque(old))
        && agree(LAST_MODIFIED, |new, old| new == old)
}

/// Whether a 304 to a request by [`ask_by`] speaks of what it asked about.
///
/// The one entity tag that was asked by is the only one that the origin can have found to match. Where it answers with
/// another one it changed that on its way out, as servers do that compress; the stored one is kept.
pub fn answers(not_modified: &HeaderMap, stored: &HeaderMap) -> bool {
    stored.contains_key(ETAG) || is_about(not_modified, stored)
}

/// Updates the fields of a stored response by those of a newer one about the same representation.
///
/// Source: RFC 9111 §3.2.
pub fn update(stored: &mut HeaderMap, newer: &HeaderMap) {
    let kept = |name: &HeaderName| NOT_UPDATED.contains(name) || is_md5(name);
    let mut names: Vec<&HeaderName> = newer.keys().filter(|name| !kept(name)).collect();
    names.dedup();
    // "the cache MUST add each header field in the provided response to the stored response, replacing field values
    // that are already present"
    for name in names {
        stored.remove(name);
        for value in newer.get_all(name) {
            stored.append(name, value.clone());
        }
    }
}

/// Whether the response to a POST is what a GET of the same URL would give: `Content-Location` says so.
///
/// `path_and_query` are the request's own, `is_host` tells our host from others'. Source: RFC 9110 §9.3.3.
pub fn is_own_representation(
    response: &HeaderMap,
    path_and_query: &str,
    is_host: impl Fn(&str) -> bool,
) -> bool {
    response
        .get(CONTENT_LOCATION)
        .and_then(|location| location.to_str().ok())
        .and_then(|location| super::invalidate::on_this_host(location, path_and_query, is_host))
        .is_some_and(|location| location == path_and_query)
}

fn is_md5(name: &HeaderName) -> bool {
    name.as_str() == "content-md5"
}

/// The conditions that are replaced by ours when we ask.
const PRECONDITIONS: [HeaderName; 3] = [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE];

/// What is about the content that is stored, or about one connection: "a cache MUST NOT update".
const NOT_UPDATED: [HeaderName; 7] = [
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    ETAG,
    TRAILER,
    TRANSFER_ENCODING,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::map;

    const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 09:49:37 GMT";

    #[test]
    fn the_origin_is_asked_by_what_it_gave() {
        let stored = map(&[("etag", "W/\"a\""), ("last-modified", OLD)]);
        let mut request = map(&[
            ("if-none-match", "\"viewer\""),
            ("if-range", "\"v\""),
            ("x", "1"),
        ]);
        assert!(ask_by(&mut request, &stored));
        let expected = map(&[
            ("if-none-match", "W/\"a\""),
            ("if-modified-since", OLD),
            ("x", "1"),
        ]);
        assert_eq!(request, expected);
        let mut request = map(&[("if-none-match", "\"viewer\"")]);
        assert!(!ask_by(&mut request, &map(&[("date", OLD)])));
        assert_eq!(request, map(&[("if-none-match", "\"viewer\"")]));
    }

    #[test]
    fn viewers_are_told_304_where_they_hold_what_is_stored() {
        type Fields<'f> = &'f [(&'static str, &'f str)];
        let cases: [(Fields, Fields, bool); 15] = [
            (&[("if-none-match", "\"a\"")], &[("etag", "\"a\"")], true),
            (&[("if-none-match", "W/\"a\"")], &[("etag", "\"a\"")], true),
            (
                &[("if-none-match", "\"x\", \"a\"")],
                &[("etag", "W/\"a\"")],
                true,
            ),
            (
                &[("if-none-match", "\"x,\", \"a\"")],
                &[("etag", "\"a\"")],
                true,
            ),
            (&[("if-none-match", "\"x\"")], &[("etag", "\"a\"")], false),
            (&[("if-none-match", "\"a\"")], &[], false),
            (&[("if-none-match", "*")], &[], true),
            (
                &[("if-none-match", "\"x\""), ("if-modified-since", OLD)],
                &[("last-modified", OLD)],
                false,
            ),
            (
                &[("if-modified-since", OLD)],
                &[("last-modified", OLD)],
                true,
            ),
            (
                &[("if-modified-since", LATER)],
                &[("last-modified", OLD)],
                true,
            ),
            (
                &[("if-modified-since", OLD)],
                &[("last-modified", LATER)],
                false,
            ),
            (&[("if-modified-since", OLD)], &[("date", OLD)], true),
            (&[("if-modified-since", OLD)], &[], false),
            (
                &[("if-modified-since", "soon")],
                &[("last-modified", OLD)],
                false,
            ),
            (&[], &[("etag", "\"a\"")], false),
        ];
        for (request, stored, expected) in cases {
            assert_eq!(
                is_not_modified(&map(request), &map(stored)),
                expected,
                "{request:?} {stored:?}"
            );
        }
    }

    #[test]
    fn a_304_is_about_the_response_whose_validators_it_has() {
        type Fields<'f> = &'f [(&'static str, &'f str)];
        let cases: [(Fields, Fields, bool); 5] = [
            (&[], &[("etag", "\"a\"")], true),
            (&[("etag", "\"a\"")], &[("etag", "W/\"a\"")], true),
            (&[("etag", "\"b\"")], &[("etag", "\"a\"")], false),
            (
                &[("last-modified", LATER)],
                &[("last-modified", OLD)],
                false,
            ),
            (&[("etag", "\"a\"")], &[("last-modified", OLD)], true),
        ];
        for (new, old, expected) in cases {
            assert_eq!(is_about(&map(new), &map(old)), expected, "{new:?} {old:?}");
        }
    }

    #[test]
    fn a_304_answers_the_one_tag_that_was_asked_by() {
        let tag = |tag| map(&[("etag", tag)]);
        let date = |date| map(&[("last-modified", date)]);
        assert!(answers(&tag("\"a-gzip\""), &tag("\"a\"")));
        assert!(answers(&date(OLD), &date(OLD)));
        assert!(!answers(&date(LATER), &date(OLD)));
    }

    #[test]
    fn a_newer_response_updates_all_but_what_is_about_the_content() {
        let mut stored = map(&[
            ("etag", "\"a\""),
            ("content-length", "5"),
            ("content-encoding", "br"),
            ("content-md5", "old"),
            ("x-old", "1"),
            ("x-both", "1"),
            ("x-both", "2"),
        ]);
        let newer = map(&[
            ("etag", "\"b\""),
            ("content-length", "9"),
            ("content-encoding", "gzip"),
            ("content-md5", "new"),
            ("content-type", "text/html"),
            ("x-both", "3"),
        ]);
        update(&mut stored, &newer);
        let expected = map(&[
            ("etag", "\"a\""),
            ("content-length", "5"),
            ("content-encoding", "br"),
            ("content-md5", "old"),
            ("content-type", "text/html"),
            ("x-old", "1"),
            ("x-both", "3"),
        ]);
        assert_eq!(stored, expected);
    }

    #[test]
    fn a_post_is_stored_where_it_says_that_it_is_what_a_get_gives() {
        let cases = [
            (Some("/a?b"), true),
            (Some("?b"), true),
            (Some("/a"), false),
            (Some("http://here/a?b"), true),
            (Some("http://there/a?b"), false),
            (None, false),
        ];
        for (location, expected) in cases {
            let response = match location {
                Some(location) => map(&[("content-location", location)]),
                None => map(&[]),
            };
            let own = is_own_representation(&response, "/a?b", |host| host == "here");
            assert_eq!(own, expected, "{location:?}");
        }
    }
}
