//! What a route's cache does: HTTP's own rules, or API Gateway's.
//!
//! Sources: RFC 9111; Amazon API Gateway, "Cache settings for REST APIs", and its `MethodSetting`.

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, StatusCode};

use super::directives::RequestDirectives;
use super::freshness::Lifetime;
use super::targeted::Told;

/// The cache of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub mode: Mode,
    /// The operator lets responses that set cookies be shared by all.
    pub shares_set_cookie: bool,
    /// What leaves memory is encrypted.
    pub encrypted: bool,
    /// The route has an authorizer: each caller has entries of its own.
    pub by_caller: bool,
}

/// Whose rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// The origin says what is stored, and for how long (RFC 9111).
    Http,
    /// The stage says for how long; successful GETs are stored.
    Stage(Stage),
}

/// API Gateway's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// `cacheTtlInSeconds`: 0 to 3600; 0 stores nothing.
    pub ttl: u64,
    /// `cacheNamespace`, where the integration names one.
    pub namespace: Option<String>,
    /// `cacheKeyParameters`.
    pub key_parameters: Vec<KeyParameter>,
    /// `requireAuthorizationForCacheControl`.
    pub require_authorization: bool,
    /// `unauthorizedCacheControlHeaderStrategy`.
    pub unauthorized: Strategy,
    /// The setting is the method's own: then it is for whatever method that is. A stage's is for GET. Content is no part of
    /// the key, as in the service.
    pub any_method: bool,
}

/// A part of the request that makes a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyParameter {
    Header(HeaderName),
    Query(String),
    Path(String),
}

impl KeyParameter {
    /// Reads `method.request.{header|querystring|path}.{name}`.
    ///
    /// # Errors
    /// A sentence on what it is not.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = text.strip_prefix("method.request.").and_then(|rest| {
            let (kind, name) = rest.split_once('.')?;
            match kind {
                _ if name.is_empty() => None,
                "header" => name.parse().ok().map(Self::Header),
                "querystring" | "multivaluequerystring" => Some(Self::Query(name.to_owned())),
                "path" => Some(Self::Path(name.to_owned())),
                _ => None,
            }
        });
        known.ok_or_else(|| {
            format!("\"{text}\" is no method.request.header, .querystring or .path parameter")
        })
    }
}

/// What is done where a caller that may not invalidate an entry asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// `FAIL_WITH_403`.
    Fail,
    /// `SUCCEED_WITH_RESPONSE_HEADER`: served from store, with a warning.
    Warn,
    /// `SUCCEED_WITHOUT_RESPONSE_HEADER`: served from store.
    Ignore,
}

impl Strategy {
    /// Reads the service's name.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "FAIL_WITH_403" => Some(Self::Fail),
            "SUCCEED_WITH_RESPONSE_HEADER" => Some(Self::Warn),
            "SUCCEED_WITHOUT_RESPONSE_HEADER" => Some(Self::Ignore),
            _ => None,
        }
    }
}

/// What a request's `Cache-Control` comes to in a stage's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Served as if it were not there.
    None,
    /// The entry is fetched anew.
    Invalidate,
    /// It may not ask for that.
    Unauthorized(Strategy),
}

impl Stage {
    /// Judges `Cache-Control: max-age=0`. `may_invalidate`, which is asked where it matters: whether the caller has the
    /// permission `execute-api:InvalidateCache`.
    pub fn wish(&self, request: &RequestDirectives, may_invalidate: impl Fn() -> bool) -> Wish {
        let asks = request.max_age == Some(0) || request.no_cache;
        match (
            asks,
            asks && self.require_authorization && !may_invalidate(),
        ) {
            (false, _) => Wish::None,
            (true, false) => Wish::Invalidate,
            (true, true) => Wish::Unauthorized(self.unauthorized),
        }
    }

    fn is_keyed_by(&self, header: &HeaderName) -> bool {
        self.key_parameters
            .iter()
            .any(|parameter| matches!(parameter, KeyParameter::Header(name) if name == header))
    }
}

impl Policy {
    /// For how long a response is fresh here.
    pub fn lifetime(
        &self,
        status: StatusCode,
        response: &HeaderMap,
        told: &Told,
        received_at: u64,
    ) -> Lifetime {
        match &self.mode {
            Mode::Http => super::freshness::lifetime(status, response, told, received_at),
            // The service stores what the integration succeeded with.
            Mode::Stage(stage) if status.is_success() && stage.ttl > 0 => {
                Lifetime::Explicit(stage.ttl)
            }
            Mode::Stage(_) => Lifetime::None,
        }
    }

    /// Whether no other caller is ever given what is stored for a request with these fields.
    pub fn is_of_one_caller(&self, request: &HeaderMap) -> bool {
        match &self.mode {
            _ if self.by_caller => true,
            Mode::Http => false,
            Mode::Stage(stage) => [AUTHORIZATION, COOKIE]
                .iter()
                .all(|name| !request.contains_key(name) || stage.is_keyed_by(name)),
        }
    }

    /// Whether requests of any method are answered from store, as GETs are.
    pub fn takes_any_method(&self) -> bool {
        matches!(&self.mode, Mode::Stage(stage) if stage.any_method)
    }

    /// Whether a field of the request is part of the key.
    pub fn is_keyed_by(&self, header: &HeaderName) -> bool {
        matches!(&self.mode, Mode::Stage(stage) if stage.is_keyed_by(header))
    }
}

/// What a caller is told whose wish was not heard.
pub const WARNING: &str =
    "199 Cache-control headers were ignored because the caller was unauthorized.";
/// The service's default for `cacheTtlInSeconds`.
pub const TTL_DEFAULT: u32 = 300;
/// The service's bound.
pub const TTL_MAX: u32 = 3600;

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(require_authorization: bool, unauthorized: Strategy) -> Stage {
        Stage {
            ttl: 300,
            namespace: None,
            key_parameters: vec![KeyParameter::Header(AUTHORIZATION)],
            require_authorization,
            unauthorized,
            any_method: false,
        }
    }

    #[test]
    fn key_parameters_are_the_services() {
        let cases = [
            (
                "method.request.header.X-A",
                Some(KeyParameter::Header("x-a".parse().unwrap())),
            ),
            (
                "method.request.querystring.q",
                Some(KeyParameter::Query("q".to_owned())),
            ),
            (
                "method.request.path.id",
                Some(KeyParameter::Path("id".to_owned())),
            ),
            ("method.request.body.id", None),
            ("method.request.path.", None),
            ("integration.request.path.id", None),
            ("id", None),
        ];
        for (text, expected) in cases {
            assert_eq!(KeyParameter::parse(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn who_may_not_invalidate_gets_what_the_strategy_says() {
        let max_age = |seconds| RequestDirectives {
            max_age: Some(seconds),
            ..RequestDirectives::default()
        };
        let cases = [
            (false, false, max_age(0), Wish::Invalidate),
            (true, true, max_age(0), Wish::Invalidate),
            (true, false, max_age(0), Wish::Unauthorized(Strategy::Fail)),
            (true, false, max_age(10), Wish::None),
            (true, false, RequestDirectives::default(), Wish::None),
        ];
        for (required, may, request, expected) in cases {
            let stage = stage(required, Strategy::Fail);
            assert_eq!(
                stage.wish(&request, || may),
                expected,
                "{required} {may} {request:?}"
            );
        }
        for name in [
            "FAIL_WITH_403",
            "SUCCEED_WITH_RESPONSE_HEADER",
            "SUCCEED_WITHOUT_RESPONSE_HEADER",
        ] {
            assert!(Strategy::parse(name).is_some());
        }
        assert_eq!(Strategy::parse("fail"), None);
    }

    #[test]
    fn a_stage_decides_on_the_lifetime_of_what_succeeded() {
        let policy = |ttl| Policy {
            mode: Mode::Stage(Stage {
                ttl,
                ..stage(true, Strategy::Warn)
            }),
            shares_set_cookie: false,
            encrypted: false,
            by_caller: false,
        };
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", "max-age=5".parse().unwrap());
        let told = Told::read(&headers);
        let lifetime = |ttl, status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            policy(ttl).lifetime(status, &headers, &told, 0)
        };
        assert_eq!(lifetime(300, 200), Lifetime::Explicit(300));
        assert_eq!(lifetime(300, 404), Lifetime::None);
        assert_eq!(lifetime(0, 200), Lifetime::None);
    }

    #[test]
    fn credentials_that_are_part_of_the_key_are_one_callers() {
        let policy = Policy {
            mode: Mode::Stage(stage(true, Strategy::Warn)),
            shares_set_cookie: false,
            encrypted: false,
            by_caller: false,
        };
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "x".parse().unwrap());
        assert!(policy.is_of_one_caller(&headers));
        headers.insert(COOKIE, "y".parse().unwrap());
        assert!(!policy.is_of_one_caller(&headers));
        let http = Policy {
            mode: Mode::Http,
            ..policy.clone()
        };
        assert!(!http.is_of_one_caller(&HeaderMap::new()));
        let by_caller = Policy {
            by_caller: true,
            ..http
        };
        assert!(by_caller.is_of_one_caller(&headers));
    }
}
