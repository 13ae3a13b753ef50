//! What an origin may be told by a request whose answer others will get.
//!
//! An origin that lets a field change its answer and does not say so by `Vary` makes every viewer able to poison the
//! cache for all others. The fields below are those that frameworks are known to obey and that no browser sends: they
//! name another host, scheme, path or method than the request's own. They are removed; what the gateway says of the
//! viewer itself is part of the key, or not said.
//!
//! Sources: Kettle, "Practical Web Cache Poisoning" (2018) and "Web Cache Entanglement" (2020); Nguyen, Lo Iacono,
//! Federrath, "Your Cache Has Fallen: Cache-Poisoned Denial-of-Service Attack" (CCS 2019); CVE-2024-46982 and what is like
//! it, for what frameworks tell their own parts in fields.

use http::{HeaderMap, HeaderName};

use super::policy::Policy;

/// Removes from a request what would let it decide on other viewers' responses. Fields of the key stay.
pub fn remove_overrides(request: &mut HeaderMap, policy: &Policy) {
    let names: Vec<HeaderName> = request
        .keys()
        .filter(|name| is_override(name) && !policy.is_keyed_by(name))
        .cloned()
        .collect();
    for name in names {
        request.remove(name);
    }
}

/// Whether a request has such fields.
pub fn has_overrides(request: &HeaderMap) -> bool {
    request.keys().any(is_override)
}

fn is_override(name: &HeaderName) -> bool {
    let text = name.as_str();
    OVERRIDES.contains(&text)
        || ["x-forwarded-", "x-invoke-", "x-original-"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
}

/// Fields beside `x-forwarded-*`, `x-original-*` and `x-invoke-*`, in lower case.
const OVERRIDES: [&str; 32] = [
    "base-url",
    "cf-connecting-ip",
    "client-ip",
    "cluster-client-ip",
    "destination",
    "fastly-client-ip",
    "forwarded",
    "front-end-https",
    "http-host",
    "proxy",
    "proxy-host",
    "request-uri",
    "true-client-ip",
    "x-amz-website-redirect-location",
    "x-arr-ssl",
    "x-client-ip",
    "x-backend-host",
    "x-host",
    "x-http-destinationurl",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-matched-path",
    "x-method-override",
    "x-middleware-prefetch",
    "x-middleware-rewrite",
    "x-middleware-subrequest",
    "x-now-route-matches",
    "x-proxy-url",
    "x-real-ip",
    "x-rewrite-url",
    "x-url-scheme",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::policy::{KeyParameter, Mode, Stage, Strategy};

    fn policy(mode: Mode) -> Policy {
        Policy {
            mode,
            shares_set_cookie: false,
            encrypted: false,
            by_caller: false,
        }
    }

    #[test]
    fn what_names_another_host_path_or_method_is_not_passed_on() {
        let mut request = HeaderMap::new();
        for name in [
            "x-forwarded-host",
            "x-forwarded-scheme",
            "x-forwarded-for",
            "x-host",
            "x-original-url",
            "x-rewrite-url",
            "x-http-method-override",
            "x-invoke-path",
            "x-middleware-prefetch",
            "forwarded",
            "accept",
            "x-mine",
        ] {
            request.insert(HeaderName::from_static(name), "v".parse().unwrap());
        }
        remove_overrides(&mut request, &policy(Mode::Http));
        let mut left: Vec<_> = request.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-mine"]);
    }

    #[test]
    fn what_is_part_of_the_key_is_passed_on() {
        let mut request = HeaderMap::new();
        request.insert("x-host", "v".parse().unwrap());
        let stage = Stage {
            ttl: 300,
            namespace: None,
            key_parameters: vec![KeyParameter::Header("x-host".parse().unwrap())],
            require_authorization: true,
            unauthorized: Strategy::Warn,
            any_method: false,
        };
        remove_overrides(&mut request, &policy(Mode::Stage(stage)));
        assert!(request.contains_key("x-host"));
    }
}
