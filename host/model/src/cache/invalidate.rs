//! Which stored responses an unsafe request makes doubtful.
//!
//! Source: RFC 9111 §4.4.

use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, Method, StatusCode};

/// Whether a response invalidates what is stored of its URL.
///
/// "A cache MUST invalidate the target URI … when it receives a non-error status code in response to an unsafe request
/// method (including methods whose safety is unknown)". "A non-error response is one with a 2xx or 3xx status code."
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method);
    !safe && (status.is_success() || status.is_redirection())
}

/// The other URLs that such a response is about, as path and query: those of `Location` and `Content-Location`.
///
/// "The cache MUST NOT trigger an invalidation … if the origin of the URI to be invalidated differs from that of the
/// target URI": `is_host` tells.
pub fn also(
    response: &HeaderMap,
    path_and_query: &str,
    is_host: impl Fn(&str) -> bool,
) -> impl Iterator<Item = String> {
    [LOCATION, CONTENT_LOCATION]
        .into_iter()
        .filter_map(move |name| {
            let location = response.get(name)?.to_str().ok()?;
            on_this_host(location, path_and_query, &is_host)
        })
}

/// Resolves a reference against the path and query of a request (RFC 3986 §5); `None` where it leads to another host.
pub fn on_this_host(reference: &str, base: &str, is_host: impl Fn(&str) -> bool) -> Option<String> {
    let reference = reference.split('#').next().unwrap_or_default();
    let absolute = ["http://", "https://", "//"]
        .iter()
        .find_map(|scheme| strip_prefix_ignoring_case(reference, scheme));
    let path = match absolute {
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            if !is_host(authority) {
                return None;
            }
            if path.starts_with('/') {
                path.to_owned()
            } else {
                format!("/{path}")
            }
        }
        None if has_scheme(reference) => return None,
        None => {
            let (base_path, _) = base.split_once('?').unwrap_or((base, ""));
            match reference.as_bytes().first() {
                None => base.to_owned(),
                Some(b'/') => reference.to_owned(),
                Some(b'?') => format!("{base_path}{reference}"),
                Some(_) => {
                    let folder = base_path.rfind('/').map_or("/", |at| &base_path[..=at]);
                    format!("{folder}{reference}")
                }
            }
        }
    };
    Some(without_dots(&path))
}

fn strip_prefix_ignoring_case<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn has_scheme(reference: &str) -> bool {
    reference
        .find([':', '/', '?'])
        .is_some_and(|at| reference.as_bytes()[at] == b':')
}

/// Removes `.` and `..` (RFC 3986 §5.2.4).
fn without_dots(path_and_query: &str) -> String {
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    let mut segments: Vec<&str> = Vec::new();
    let mut open = false; // whether the last one names a folder
    for segment in path.split('/').skip(1) {
        open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let mut text = format!("/{}", segments.join("/"));
    if open && !text.ends_with('/') {
        text.push('/');
    }
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_methods_that_did_not_fail_invalidate() {
        let search = Method::from_bytes(b"M-SEARCH").unwrap();
        let cases = [
            (&Method::POST, 200, true),
            (&Method::PUT, 204, true),
            (&Method::DELETE, 303, true),
            (&search, 200, true),
            (&Method::POST, 404, false),
            (&Method::POST, 500, false),
            (&Method::GET, 200, false),
            (&Method::OPTIONS, 200, false),
        ];
        for (method, status, expected) in cases {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(invalidates(method, status), expected, "{method} {status}");
        }
    }

    #[test]
    fn references_are_resolved_on_this_host_only() {
        let cases = [
            ("/x", Some("/x")),
            ("x", Some("/a/x")),
            ("../x?q=1", Some("/x?q=1")),
            ("./", Some("/a/")),
            ("..", Some("/")),
            ("?z", Some("/a/b?z")),
            ("", Some("/a/b?c")),
            ("#frag", Some("/a/b?c")),
            ("http://here/x", Some("/x")),
            ("HTTPS://HERE:80", Some("/")),
            ("http://here?q", Some("/?q")),
            ("//here/x", Some("/x")),
            ("//there/x", None),
            ("http://there/x", None),
            ("mailto:a@here", None),
            ("x:y", None),
            ("/x:y", Some("/x:y")),
            ("/../../x", Some("/x")),
        ];
        let is_host = |host: &str| host.to_ascii_lowercase().starts_with("here");
        for (reference, expected) in cases {
            assert_eq!(
                on_this_host(reference, "/a/b?c", is_host).as_deref(),
                expected,
                "{reference}"
            );
        }
    }

    #[test]
    fn both_locations_are_meant() {
        let mut response = HeaderMap::new();
        response.insert(LOCATION, "/new".parse().unwrap());
        response.insert(CONTENT_LOCATION, "http://there/x".parse().unwrap());
        let found: Vec<_> = also(&response, "/a", |host| host == "here").collect();
        assert_eq!(found, ["/new"]);
    }
}
