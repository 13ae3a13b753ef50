//! What a stored response is found by.
//!
//! The key is text that cannot be read in two ways: a store compares it whole, so that no two requests ever share an
//! entry by the accident of a hash. What the origin is told and is not part of the key is a way to poison the cache:
//! [`super::forward`] sees to that.
//!
//! Source: RFC 9111 §2.

use http::HeaderMap;

use super::piece;
use super::policy::{KeyParameter, Mode, Policy};

/// Who asks, and by which listener: the origin is told both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker<'a> {
    pub tls: bool,
    /// The listener's.
    pub port: u16,
    /// What the API says identifies the caller: principal and usage key. `None` where the route has no authorizer.
    pub caller: Option<(&'a str, &'a str)>,
}

/// The URL of a request, below its stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// `api/stage`.
    pub scope: &'a str,
    /// As it was asked for, with its port: the origin is told it, and may write links by it.
    pub host: &'a str,
    /// Percent-encoded, as it came: what an origin may tell apart is told apart here.
    pub path: &'a str,
    pub query: Option<&'a str>,
}

/// Writes the key of a URL. Every caller has its own.
pub fn write(text: &mut Vec<u8>, target: &Target<'_>, asker: &Asker<'_>) {
    start(text, target, asker, BY_URL);
    url(text, target);
    end(text, asker);
}

/// Writes the key by the parameters that a stage's cache is keyed by. `parameter` finds a path parameter.
///
/// Where no parameters are named, the path and the query are the key. Where some are, it is the path and these; and in
/// a namespace that was named, these alone, so that several resources can share entries.
pub fn write_by_parameters<'a>(
    text: &mut Vec<u8>,
    target: &Target<'a>,
    asker: &Asker<'_>,
    policy: &Policy,
    request: &HeaderMap,
    parameter: impl Fn(&str) -> Option<&'a str>,
) {
    let Mode::Stage(stage) = &policy.mode else {
        return write(text, target, asker);
    };
    if stage.key_parameters.is_empty() {
        return write(text, target, asker);
    }
    let (kind, place) = match &stage.namespace {
        Some(namespace) => (BY_NAMESPACE, namespace.as_str()),
        None => (BY_PARAMETERS, target.path),
    };
    start(text, target, asker, kind);
    piece::write(text, place.as_bytes());
    for key in &stage.key_parameters {
        match key {
            KeyParameter::Path(name) => optional(text, parameter(name).map(str::as_bytes)),
            KeyParameter::Query(name) => {
                // All of them, in order: which one of several an origin takes is its own affair.
                let query = target.query.unwrap_or_default();
                for (key, value) in crate::uri::parameters(query) {
                    if crate::uri::decode_query(key) == name.as_str() {
                        optional(text, Some(value.as_bytes()));
                    }
                }
                optional(text, None);
            }
            KeyParameter::Header(name) => {
                for value in request.get_all(name) {
                    optional(text, Some(value.as_bytes()));
                }
                optional(text, None);
            }
        }
    }
    end(text, asker);
}

/// What a key says of the URL that its response is for: for who looks for entries by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<'k> {
    /// `api/stage`.
    pub scope: &'k [u8],
    pub host: &'k [u8],
    /// `None` in a namespace, which several paths can share.
    pub path: Option<&'k [u8]>,
    /// `None` as well where only some parameters of it are part of the key.
    pub query: Option<&'k [u8]>,
}

impl Named<'_> {
    /// Path and query.
    pub fn url(&self) -> Option<Vec<u8>> {
        let mut url = self.path?.to_vec();
        if let Some(query) = self.query {
            url.push(b'?');
            url.extend_from_slice(query);
        }
        Some(url)
    }
}

/// Reads a key that was written here; `None` where it was not.
pub fn read(key: &[u8]) -> Option<Named<'_>> {
    let (&[kind, _, _, _], rest) = key.split_first_chunk::<4>()?;
    let (scope, rest) = piece::read(rest)?;
    let (host, rest) = piece::read(rest)?;
    let (path, rest) = piece::read(rest)?;
    let query = match (kind, rest.split_first()) {
        (BY_URL, Some((1, rest))) => Some(piece::read(rest)?.0),
        _ => None,
    };
    Some(Named {
        scope,
        host,
        path: (kind != BY_NAMESPACE).then_some(path),
        query,
    })
}

fn start(text: &mut Vec<u8>, target: &Target<'_>, asker: &Asker<'_>, kind: u8) {
    text.clear();
    text.push(kind);
    text.push(if asker.tls { b's' } else { b'-' });
    text.extend_from_slice(&asker.port.to_be_bytes());
    piece::write(text, target.scope.as_bytes());
    piece::write(text, target.host.as_bytes());
    // "case-insensitive and normally provided in lowercase" (RFC 9110 §4.2.3)
    let host = text.len() - target.host.len();
    text[host..].make_ascii_lowercase();
}

fn url(text: &mut Vec<u8>, target: &Target<'_>) {
    piece::write(text, target.path.as_bytes());
    optional(text, target.query.map(str::as_bytes));
}

fn end(text: &mut Vec<u8>, asker: &Asker<'_>) {
    if let Some((principal, usage_key)) = asker.caller {
        piece::write(text, principal.as_bytes());
        piece::write(text, usage_key.as_bytes());
    }
}

fn optional(text: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => text.push(0),
        Some(value) => {
            text.push(1);
            piece::write(text, value);
        }
    }
}

const BY_URL: u8 = b'u';
const BY_PARAMETERS: u8 = b'p';
const BY_NAMESPACE: u8 = b'n';

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::policy::{Stage, Strategy};

    const NOBODY: Asker<'static> = Asker {
        tls: false,
        port: 80,
        caller: None,
    };

    fn key(target: Target<'_>, asker: Asker<'_>) -> Vec<u8> {
        let mut text = Vec::new();
        write(&mut text, &target, &asker);
        text
    }

    #[test]
    fn whatever_an_origin_can_tell_apart_has_another_key() {
        let target = Target {
            scope: "a/b",
            host: "h:80",
            path: "/x",
            query: Some("q=1"),
        };
        let of = |id, usage| Asker {
            caller: Some((id, usage)),
            ..NOBODY
        };
        let mut keys = vec![
            key(target, NOBODY),
            key(
                target,
                Asker {
                    tls: true,
                    ..NOBODY
                },
            ),
            key(target, Asker { port: 81, ..NOBODY }),
            key(target, of("", "")),
            key(target, of("ann", "")),
            key(target, of("ann", "k")),
            key(target, of("an", "nk")),
            key(target, of("bob", "")),
            key(
                Target {
                    scope: "a/c",
                    ..target
                },
                NOBODY,
            ),
            key(
                Target {
                    host: "h:81",
                    ..target
                },
                NOBODY,
            ),
            key(
                Target {
                    path: "/X",
                    ..target
                },
                NOBODY,
            ),
            key(
                Target {
                    path: "/%78",
                    ..target
                },
                NOBODY,
            ),
            key(
                Target {
                    path: "/x/",
                    ..target
                },
                NOBODY,
            ),
            key(
                Target {
                    path: "/x?q=1",
                    query: None,
                    ..target
                },
                NOBODY,
            ),
            key(
                Target {
                    query: None,
                    ..target
                },
                NOBODY,
            ),
            key(
                Target {
                    query: Some(""),
                    ..target
                },
                NOBODY,
            ),
            key(
                Target {
                    query: Some("q=1&"),
                    ..target
                },
                NOBODY,
            ),
            key(
                Target {
                    query: Some("q=1;q=2"),
                    ..target
                },
                NOBODY,
            ),
        ];
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
        let shouted = Target {
            host: "H:80",
            ..target
        };
        assert_eq!(key(shouted, NOBODY), key(target, NOBODY));
    }

    #[test]
    fn a_key_tells_the_url_that_it_was_written_for() {
        let target = Target {
            scope: "a/b",
            host: "h",
            path: "/x",
            query: Some("q=1"),
        };
        let named = Named {
            scope: b"a/b",
            host: b"h",
            path: Some(b"/x"),
            query: Some(b"q=1"),
        };
        assert_eq!(read(&key(target, NOBODY)), Some(named));
        let without = Target {
            query: None,
            ..target
        };
        let of_ann = Asker {
            caller: Some(("ann", "")),
            ..NOBODY
        };
        let expected = Named {
            query: None,
            ..named
        };
        assert_eq!(read(&key(without, of_ann)), Some(expected));
        for cut in 0..key(target, NOBODY).len() {
            let _ = read(&key(target, NOBODY)[..cut]);
        }
    }

    #[test]
    fn a_stages_cache_is_keyed_by_the_parameters_that_it_names() {
        let stage = |namespace: Option<&str>| Policy {
            mode: Mode::Stage(Stage {
                ttl: 300,
                namespace: namespace.map(str::to_owned),
                key_parameters: vec![
                    KeyParameter::Query("q".to_owned()),
                    KeyParameter::Header("x-a".parse().unwrap()),
                    KeyParameter::Path("id".to_owned()),
                ],
                require_authorization: true,
                unauthorized: Strategy::Ignore,
                any_method: false,
            }),
            shares_set_cookie: false,
            encrypted: false,
            by_caller: false,
        };
        let key = |policy: &Policy, path: &str, query: &str, header: &str, id: &'static str| {
            let mut text = Vec::new();
            let mut headers = HeaderMap::new();
            headers.insert("x-a", header.parse().unwrap());
            let target = Target {
                scope: "a/b",
                host: "h",
                path,
                query: Some(query),
            };
            write_by_parameters(&mut text, &target, &NOBODY, policy, &headers, |name| {
                (name == "id").then_some(id)
            });
            text
        };
        let own = stage(None);
        let one = key(&own, "/x", "q=1&r=1", "h", "7");
        let cases = [
            (key(&own, "/x", "r=2&q=1", "h", "7"), true),
            (key(&own, "/x", "%71=1", "h", "7"), true),
            (key(&own, "/x", "q=2&r=1", "h", "7"), false),
            (key(&own, "/x", "q=1&q=2", "h", "7"), false),
            (key(&own, "/x", "q=1&r=1", "other", "7"), false),
            (key(&own, "/x", "q=1&r=1", "h", "8"), false),
            (key(&own, "/y", "q=1&r=1", "h", "7"), false),
        ];
        for (other, same) in cases {
            assert_eq!(one == other, same);
        }
        let shared = stage(Some("n"));
        assert_eq!(
            key(&shared, "/x", "q=1", "h", "7"),
            key(&shared, "/y", "q=1", "h", "7")
        );
    }
}
