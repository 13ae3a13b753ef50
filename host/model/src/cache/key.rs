//! What a stored response is found by.
//!
//! The key is text that cannot be read in two ways: a store compares it whole, so that no two requests ever share an
//! entry by the accident of a hash. What the origin is told and is not part of the key is a way to poison the cache:
//! [`super::forward`] sees to that.
//!
//! Source: RFC 9111 §2.

use http::HeaderMap;

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
    /// Percent-encoded, as it came: what an origin may tell apart is told apart here.
    pub path: &'a str,
    pub query: Option<&'a str>,
}

/// Writes the key of a URL. Every caller has its own.
pub fn write(text: &mut Vec<u8>, target: &Target<'_>, asker: &Asker<'_>) {
    start(text, target.scope, asker, b'u');
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
    start(text, target.scope, asker, b'p');
    match &stage.namespace {
        Some(namespace) => piece(text, namespace.as_bytes()),
        None => piece(text, target.path.as_bytes()),
    }
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

fn start(text: &mut Vec<u8>, scope: &str, asker: &Asker<'_>, kind: u8) {
    text.clear();
    text.push(kind);
    text.push(if asker.tls { b's' } else { b'-' });
    text.extend_from_slice(&asker.port.to_be_bytes());
    piece(text, scope.as_bytes());
}

fn url(text: &mut Vec<u8>, target: &Target<'_>) {
    piece(text, target.path.as_bytes());
    optional(text, target.query.map(str::as_bytes));
}

fn end(text: &mut Vec<u8>, asker: &Asker<'_>) {
    if let Some((principal, usage_key)) = asker.caller {
        piece(text, principal.as_bytes());
        piece(text, usage_key.as_bytes());
    }
}

/// A piece with its length before it: whatever is in it, it ends where it ends.
fn piece(text: &mut Vec<u8>, piece: &[u8]) {
    let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
    text.extend_from_slice(&length.to_be_bytes());
    text.extend_from_slice(piece);
}

fn optional(text: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => text.push(0),
        Some(value) => {
            text.push(1);
            piece(text, value);
        }
    }
}

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
