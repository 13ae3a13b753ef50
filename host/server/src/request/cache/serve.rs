//! A stored response, as the response to a request: the whole of it, a part, or that it has not changed.

use std::sync::Arc;

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, WARNING,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use tidegate_model::cache::range::{self, Part};
use tidegate_model::cache::status::{self, CACHE_STATUS};
use tidegate_model::cache::{policy, validate};

use super::Exchange;
use crate::body::Body;
use crate::cache::stored::Stored;

/// What is asked for of what is stored.
pub struct Asked<'a> {
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    /// A part will not do.
    pub whole: bool,
    /// By an edge, which keeps it too.
    pub for_edge: bool,
}

/// The response to a request that was found in store. `whole`: a part will not do.
pub fn hit(stored: &Arc<Stored>, exchange: &Exchange, now: u64, whole: bool) -> Response<Body> {
    let asked = Asked {
        method: &exchange.head.method,
        headers: &exchange.head.headers,
        whole,
        for_edge: exchange.for_edge,
    };
    let entry = status::hit(stored.span.time_left(now));
    response(stored, &asked, now, &entry)
}

/// A response of what is stored. `entry` is what `Cache-Status` tells.
pub fn response(stored: &Arc<Stored>, asked: &Asked<'_>, now: u64, entry: &str) -> Response<Body> {
    let Asked {
        method,
        headers: request,
        whole,
        for_edge,
    } = *asked;
    let mut headers = stored.headers();
    // "MUST generate an Age header field" (RFC 9111 §4)
    headers.insert(AGE, HeaderValue::from(stored.span.age(now)));
    tell(&mut headers, entry);
    let mut content = stored.content();
    let mut code = stored.status;
    // "MUST ignore all received preconditions if [the] response … would have been a status code other than a 2xx"
    // (RFC 9110 §13.2.1)
    if code.is_success() && method.is_safe() {
        if validate::is_conditional(request) && validate::is_not_modified(request, &headers) {
            return not_modified(headers, for_edge);
        }
        let asked = range::asked(request)
            .filter(|_| *method == Method::GET)
            .filter(|_| stored.part().is_some() || (code == StatusCode::OK && !whole))
            .filter(|_| range::if_range_holds(request, &headers));
        let held = stored.part().or_else(|| Part::whole(content.len() as u64));
        if let Some(asked) = asked {
            let cut = held.and_then(|held| held.cut(asked, content.len() as u64));
            let Some((bytes, part)) = cut else {
                return not_satisfiable(headers, content.len());
            };
            let at = |byte: u64| usize::try_from(byte).unwrap_or(usize::MAX);
            content = content.slice(at(bytes.start)..at(bytes.end));
            code = StatusCode::PARTIAL_CONTENT;
            set(&mut headers, CONTENT_RANGE, &part.value());
            headers.remove(CONTENT_LENGTH);
        }
    }
    let body = if *method == Method::HEAD {
        Body::Empty
    } else {
        content.into()
    };
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (code, headers);
    response
}

/// Whether what is stored has all that a request asks for: all of it does, a part only where no more is asked for.
pub fn has(stored: &Arc<Stored>, method: &Method, request: &HeaderMap) -> bool {
    let Some(part) = stored.part() else {
        return true;
    };
    // "A server MUST ignore a Range header field received with a request method … other than GET" (RFC 9110 §14.2)
    *method == Method::GET
        && range::asked(request)
            .is_some_and(|asked| part.cut(asked, stored.body().len() as u64).is_some())
        && range::if_range_holds(request, &stored.headers())
}

/// Tells the viewer that its wish for a new response was not heard.
pub fn warn(headers: &mut HeaderMap) {
    headers.append(WARNING, HeaderValue::from_static(policy::WARNING));
}

/// Adds an entry to `Cache-Status`.
pub fn tell(headers: &mut HeaderMap, entry: &str) {
    if let Ok(entry) = HeaderValue::from_str(entry) {
        headers.append(CACHE_STATUS, entry);
    }
}

/// "a 304 response … ought not generate other representation metadata …, unless said metadata exists for the purpose of guiding
/// cache updates" (RFC 9110 §15.4.5): an edge's copy is to become what the origin's is.
fn not_modified(mut headers: HeaderMap, for_edge: bool) -> Response<Body> {
    headers.remove(CONTENT_LENGTH);
    headers.remove(CONTENT_RANGE);
    if !for_edge {
        for name in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE] {
            headers.remove(name);
        }
    }
    let mut response = Response::new(Body::Empty);
    (*response.status_mut(), *response.headers_mut()) = (StatusCode::NOT_MODIFIED, headers);
    response
}

fn not_satisfiable(mut headers: HeaderMap, total: usize) -> Response<Body> {
    for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING] {
        headers.remove(name);
    }
    set(&mut headers, CONTENT_RANGE, &format!("bytes */{total}"));
    let mut response = Response::new(Body::Empty);
    (*response.status_mut(), *response.headers_mut()) =
        (StatusCode::RANGE_NOT_SATISFIABLE, headers);
    response
}

fn set(headers: &mut HeaderMap, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
