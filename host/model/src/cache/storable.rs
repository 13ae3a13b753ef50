//! Whether a response may be stored by a cache that many share.
//!
//! Source: RFC 9111 §3 and §3.5.

use http::header::{AUTHORIZATION, COOKIE, FORWARDED, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode};

use super::directives::Scope;
use super::freshness::Lifetime;
use super::targeted::Told;
use super::vary::Vary;

/// What is known of an exchange when its response has come.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    pub method: &'a Method,
    pub request: &'a HeaderMap,
    pub status: StatusCode,
    pub response: &'a HeaderMap,
    pub told: &'a Told,
    pub lifetime: Lifetime,
    /// The stored response is only ever given to the caller that the request was admitted for.
    pub of_one_caller: bool,
    /// The operator lets responses that set cookies be shared.
    pub shares_set_cookie: bool,
}

/// Whether a response may be stored, or the first reason why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storability {
    Storable,
    /// A word for `Cache-Status` and the metrics.
    Not(&'static str),
}

/// Decides whether the response may be stored.
///
/// Source: RFC 9111 §3, in its order.
pub fn storability(answered: &Answered<'_>) -> Storability {
    use Storability::{Not, Storable};
    let Answered {
        method,
        request,
        status,
        response,
        told,
        lifetime,
        ..
    } = *answered;
    let directives = &told.directives;
    // "the request method is understood by the cache" (POST: validate::is_own_representation has the last word)
    if *method != Method::GET && *method != Method::POST {
        return Not("method");
    }
    // "the response status code is final"; a 304 alone is no response to anybody else, nor is what an origin found wrong
    // with one request: else whoever sends a bad one decides what all others get.
    if status.is_informational() || is_about_one_request(status) {
        return Not("status");
    }
    // "if the response status code is 206 or 304, or the must-understand cache directive is present: the cache
    // understands the response status code"
    if directives.must_understand && !is_understood(status) {
        return Not("must-understand");
    }
    // "the no-store cache directive is not present in the response"; a cache that understands the status "SHOULD ignore
    // the no-store directive" beside must-understand (§5.2.2.3).
    if directives.no_store && !directives.must_understand {
        return Not("no-store");
    }
    // "if the cache is shared: the private response directive is either not present or allows a shared cache to store a
    // modified response"
    if directives.private == Some(Scope::Response) {
        return Not("private");
    }
    // "if the cache is shared: the Authorization header field is not present in the request or a response directive is
    // present that explicitly allows shared caching". Cookies are credentials as well, whatever their field is called.
    let for_all = directives.public || directives.s_maxage.is_some() || directives.must_revalidate;
    if !answered.of_one_caller && !for_all {
        if request.contains_key(AUTHORIZATION) {
            return Not("authorization");
        }
        if request.contains_key(COOKIE) && !varies_on_cookie(response) {
            return Not("cookie");
        }
    }
    // Who asks is told to the origin and is no part of the key.
    if varies_on_the_viewer(response) {
        return Not("vary");
    }
    // A session that is handed out twice is one session for two people (RFC 9111 §7.3).
    if response.contains_key(SET_COOKIE) && !answered.shares_set_cookie {
        return Not("set-cookie");
    }
    // "the response contains at least one of": a public directive, Expires, max-age, s-maxage, or a status that is
    // heuristically cacheable. What can neither be served nor validated would only take room.
    let serves_stale = directives.stale_while_revalidate.unwrap_or(0) > 0
        || directives.stale_if_error.unwrap_or(0) > 0;
    let validator = super::validate::has_validator(response);
    if lifetime == Lifetime::None && !(validator && (status.is_success() || directives.public)) {
        return Not("no-lifetime");
    }
    if lifetime.seconds() == 0 && !validator && !serves_stale {
        return Not("no-lifetime");
    }
    // A POST is stored for later GETs only where the origin says for how long (RFC 9110 §9.3.3).
    if *method == Method::POST
        && (status != StatusCode::OK || !matches!(lifetime, Lifetime::Explicit(1..)))
    {
        return Not("method");
    }
    Storable
}

fn varies_on_cookie(response: &HeaderMap) -> bool {
    matches!(Vary::read(response), Vary::Fields(names) if names.contains(&COOKIE))
}

/// Whether a response varies on nothing that a request selects by, or on what the gateway says of the viewer.
fn varies_on_the_viewer(response: &HeaderMap) -> bool {
    match Vary::read(response) {
        Vary::Nothing => false,
        Vary::Everything => true,
        Vary::Fields(names) => names
            .iter()
            .any(|name| *name == FORWARDED || name.as_str() == "x-forwarded-for"),
    }
}

/// Status codes that answer fields or content of a request, or its sender, and not its URL (RFC 9110 §15.5; RFC 6585 and
/// RFC 8470 §5.2: "MUST NOT be stored by a cache").
fn is_about_one_request(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        304 | 408
            | 411
            | 412
            | 413
            | 415
            | 416
            | 417
            | 421
            | 422
            | 425
            | 426
            | 428
            | 429
            | 431
            | 511
    )
}

/// The final status codes whose caching is defined: RFC 9110 §15, and those of its extensions that a gateway meets.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=206 | 300..=305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 428 | 429 | 431 | 451 | 500..=505 | 511
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::freshness::lifetime;
    use crate::headers::map;

    fn decide(
        method: &Method,
        request: &[(&'static str, &'static str)],
        status: u16,
        response: &[(&'static str, &'static str)],
        of_one_caller: bool,
    ) -> Storability {
        let (request, response) = (map(request), map(response));
        let status = StatusCode::from_u16(status).unwrap();
        let told = Told::read(&response);
        storability(&Answered {
            method,
            request: &request,
            status,
            response: &response,
            told: &told,
            lifetime: lifetime(status, &response, &told, 1_000_000),
            of_one_caller,
            shares_set_cookie: false,
        })
    }

    #[test]
    fn what_may_be_stored_is_decided_by_method_status_and_directives() {
        use Storability::{Not, Storable};
        const FRESH: (&str, &str) = ("cache-control", "max-age=60");
        const ETAG: (&str, &str) = ("etag", "\"a\"");
        type Fields = &'static [(&'static str, &'static str)];
        let get = Method::GET;
        let cases: [(&Method, Fields, u16, Fields, Storability); 28] = [
            (&get, &[], 200, &[FRESH], Storable),
            (&get, &[], 599, &[FRESH], Storable),
            (&get, &[], 500, &[FRESH], Storable),
            (&get, &[], 206, &[FRESH], Storable),
            (&get, &[], 304, &[FRESH], Not("status")),
            (&get, &[], 416, &[FRESH], Not("status")),
            (&get, &[], 431, &[FRESH], Not("status")),
            (&get, &[], 200, &[FRESH, ("vary", "*")], Not("vary")),
            (
                &get,
                &[],
                200,
                &[FRESH, ("vary", "accept, X-Forwarded-For")],
                Not("vary"),
            ),
            (
                &get,
                &[],
                599,
                &[("cache-control", "max-age=60, must-understand")],
                Not("must-understand"),
            ),
            (
                &get,
                &[],
                200,
                &[("cache-control", "max-age=60, must-understand, no-store")],
                Storable,
            ),
            (
                &get,
                &[],
                200,
                &[("cache-control", "max-age=60, no-store")],
                Not("no-store"),
            ),
            (
                &get,
                &[],
                200,
                &[("cache-control", "max-age=60, private")],
                Not("private"),
            ),
            (
                &get,
                &[],
                200,
                &[("cache-control", "max-age=60, private=\"x-a\"")],
                Storable,
            ),
            (
                &get,
                &[("authorization", "x")],
                200,
                &[FRESH],
                Not("authorization"),
            ),
            (
                &get,
                &[("authorization", "x")],
                200,
                &[("cache-control", "max-age=60, public")],
                Storable,
            ),
            (
                &get,
                &[("authorization", "x")],
                200,
                &[("cache-control", "s-maxage=60")],
                Storable,
            ),
            (
                &get,
                &[("authorization", "x")],
                200,
                &[("cache-control", "max-age=60, must-revalidate")],
                Storable,
            ),
            (&get, &[("cookie", "a=b")], 200, &[FRESH], Not("cookie")),
            (
                &get,
                &[("cookie", "a=b")],
                200,
                &[FRESH, ("vary", "Cookie")],
                Storable,
            ),
            (
                &get,
                &[],
                200,
                &[FRESH, ("set-cookie", "a=b")],
                Not("set-cookie"),
            ),
            (&get, &[], 200, &[], Not("no-lifetime")),
            (&get, &[], 200, &[ETAG], Storable),
            (
                &get,
                &[],
                200,
                &[("cache-control", "max-age=0")],
                Not("no-lifetime"),
            ),
            (
                &get,
                &[],
                200,
                &[("cache-control", "max-age=0, stale-while-revalidate=9")],
                Storable,
            ),
            (&Method::PUT, &[], 200, &[FRESH], Not("method")),
            (&Method::POST, &[], 200, &[FRESH], Storable),
            (&Method::POST, &[], 201, &[FRESH], Not("method")),
        ];
        for (method, request, status, response, expected) in cases {
            assert_eq!(
                decide(method, request, status, response, false),
                expected,
                "{method} {request:?} {status} {response:?}"
            );
        }
    }

    #[test]
    fn what_is_stored_for_one_caller_may_hold_what_credentials_brought() {
        use Storability::{Not, Storable};
        let authorized = [("authorization", "x"), ("cookie", "y")];
        let cases = [
            (("cache-control", "max-age=60"), Storable),
            (("cache-control", "max-age=60, private"), Not("private")),
        ];
        for (response, expected) in cases {
            assert_eq!(
                decide(&Method::GET, &authorized, 200, &[response], true),
                expected,
                "{response:?}"
            );
        }
    }
}
