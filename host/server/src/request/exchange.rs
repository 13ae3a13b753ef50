//! The request in hand, from the moment its route is known until its record is written.

use std::borrow::Cow;
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode, Version};
use tidegate_model::config::Private;
use tidegate_model::deployment::{Flavor, Params, Route, Stage};
use tidegate_model::uri;
use tidegate_sandbox::wit::Principal;

use super::context;

/// A request and, later, its response. One allocation holds all of it; steps see it through an `Arc`, and between their
/// calls it is changed in place.
pub struct Exchange {
    pub head: Parts,
    pub stage: Arc<Stage>,
    /// The place of the route in the stage; `None` where none matched.
    pub route: Option<usize>,
    pub params: Params,
    /// Where the path below the stage starts, in the path that was received.
    pub path_offset: usize,
    pub viewer: Viewer,
    pub id: RequestId,
    pub began: Instant,
    pub began_at: SystemTime,
    pub account: Account,
    /// The path below the stage, where a transform set it.
    pub new_path: Option<String>,
    /// The query, where a transform changed it; empty is none.
    pub new_query: Option<String>,
    pub body: Option<Bytes>,
    /// An edge has forwarded it, which keeps what it is answered.
    pub for_edge: bool,
    pub response: Option<(StatusCode, HeaderMap)>,
    pub response_body: Option<Bytes>,
}

/// What became known of a request on its way.
#[derive(Default)]
pub struct Account {
    pub principal: Option<Principal>,
    pub integration_status: Option<StatusCode>,
    pub integration_latency: Option<Duration>,
    pub integration_error: Option<String>,
    pub error_message: Option<String>,
    pub error_type: Option<&'static str>,
    pub status: Option<StatusCode>,
    pub response_bytes: Option<u64>,
    pub latency: Option<Duration>,
}

/// Whom the request is from.
#[derive(Debug, Clone)]
pub struct Viewer {
    pub peer: SocketAddr,
    pub tls: bool,
    /// The listener's, that it came to.
    pub port: u16,
    /// The private listener that it came to; `None`: a public one.
    pub private: Option<Arc<Private>>,
}

/// A request's identifier: a UUID of version 4 (RFC 9562 section 5.4), made without a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 36]);

impl RequestId {
    /// A new one. Identifiers are unique, not secret.
    pub fn random() -> Self {
        let random = (u128::from(next_random()) << 64) | u128::from(next_random());
        let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        let mut text = [b'-'; 36];
        let mut digit = 0;
        for (place, octet) in text.iter_mut().enumerate() {
            if !matches!(place, 8 | 13 | 18 | 23) {
                *octet = b"0123456789abcdef"[((bits >> (124 - 4 * digit)) & 0xf) as usize];
                digit += 1;
            }
        }
        Self(text)
    }

    /// One that another node has given.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |octet: &u8| octet.is_ascii_hexdigit() || *octet == b'-';
        let octets: [u8; 36] = text.as_bytes().try_into().ok()?;
        octets.iter().all(fits).then_some(Self(octets))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hex digits and dashes")
    }
}

/// A number for decisions by chance.
pub fn draw() -> u32 {
    (next_random() >> 32) as u32
}

/// SplitMix64 (Steele, Lea, Flood 2014), seeded once for each thread by the system.
fn next_random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = {
            let mut seed = [0; 8];
            // Without the system's random numbers nothing else here would start either; the address still differs.
            if aws_lc_rs::rand::fill(&mut seed).is_err() {
                seed = (&raw const seed as u64).to_ne_bytes();
            }
            Cell::new(u64::from_ne_bytes(seed))
        };
    }
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

impl Exchange {
    /// The route that was matched.
    pub fn route(&self) -> Option<&Route> {
        self.route.map(|place| &self.stage.entries[place])
    }

    /// The path that the route was matched by, below the stage; its parameters are spans of this.
    pub fn matched_path(&self) -> &str {
        below(self.head.uri.path(), self.path_offset)
    }

    /// The `Host` field or `:authority`.
    pub fn host(&self) -> Option<&str> {
        host_of(&self.head)
    }

    /// The request as it came, to be sent once more by itself: without a body, and with nothing that became known since.
    pub fn again(&self) -> Self {
        let mut head = http::Request::new(()).into_parts().0;
        head.method = self.head.method.clone();
        head.uri = self.head.uri.clone();
        head.version = self.head.version;
        head.headers = self.head.headers.clone();
        Self {
            id: RequestId::random(),
            began: Instant::now(),
            began_at: SystemTime::now(),
            ..self.with_head(head)
        }
    }

    /// The same request with another head, of which path and parameters are the route's as before: without a body, and
    /// with nothing that became known since gatekeeping.
    pub fn with_head(&self, head: Parts) -> Self {
        Self {
            head,
            stage: self.stage.clone(),
            route: self.route,
            params: self.params.clone(),
            path_offset: self.path_offset,
            viewer: self.viewer.clone(),
            id: self.id,
            began: self.began,
            began_at: self.began_at,
            account: Account {
                principal: self.account.principal.clone(),
                ..Account::default()
            },
            new_path: None,
            new_query: None,
            body: None,
            for_edge: self.for_edge,
            response: None,
            response_body: None,
        }
    }

    /// The query to forward.
    pub fn query(&self) -> Option<&str> {
        match &self.new_query {
            Some(query) => Some(query.as_str()).filter(|query| !query.is_empty()),
            None => self.head.uri.query(),
        }
    }

    /// The query, to be changed.
    pub fn query_mut(&mut self) -> &mut String {
        self.new_query
            .get_or_insert_with(|| self.head.uri.query().unwrap_or_default().to_owned())
    }

    /// The path below the stage, as transforms left it.
    pub fn current_path(&self) -> &str {
        self.new_path
            .as_deref()
            .unwrap_or_else(|| self.matched_path())
    }

    /// Whether the API is a REST API.
    pub fn is_rest(&self) -> bool {
        self.stage.flavor == Flavor::Rest
    }

    /// `HTTP/1.1`: `$context.protocol`.
    pub fn protocol(&self) -> &'static str {
        match self.head.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            Version::HTTP_3 => "HTTP/3.0",
            _ => "HTTP/1.1",
        }
    }
}

/// The `Host` field or `:authority` of a request.
pub fn host_of(head: &Parts) -> Option<&str> {
    match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => head.headers.get(http::header::HOST)?.to_str().ok(),
    }
}

/// What follows `offset` in a path; `/` where nothing does.
pub fn below(path: &str, offset: usize) -> &str {
    match path.get(offset..) {
        Some("") | None => "/",
        Some(rest) => rest,
    }
}

impl tidegate_sandbox::Exchange for Exchange {
    fn method(&self) -> &str {
        self.head.method.as_str()
    }

    fn path(&self) -> &str {
        self.current_path()
    }

    fn query_string(&self) -> Option<&str> {
        self.query()
    }

    fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    fn query_parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        uri::query_parameter(self.query()?, name)
    }

    fn query_parameters(&self) -> Vec<(String, String)> {
        let decoded = |(name, value)| {
            (
                uri::decode_query(name).into_owned(),
                uri::decode_query(value).into_owned(),
            )
        };
        uri::parameters(self.query().unwrap_or_default())
            .map(decoded)
            .collect()
    }

    fn path_parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        self.route()?
            .parameter(name, &self.params, self.matched_path())
            .map(uri::decode_segment)
    }

    fn path_parameters(&self) -> Vec<(String, String)> {
        let Some(route) = self.route() else {
            return Vec::new();
        };
        let value = |place| {
            self.params
                .get(place, self.matched_path())
                .unwrap_or_default()
        };
        let pair = |(place, name): (usize, &String)| {
            (name.clone(), uri::decode_segment(value(place)).into_owned())
        };
        route.parameters.iter().enumerate().map(pair).collect()
    }

    fn stage_variable(&self, name: &str) -> Option<&str> {
        self.stage.variables.get(name).map(String::as_str)
    }

    fn context(&self, name: &str) -> Option<Cow<'_, str>> {
        context::variable(self, name)
    }

    fn body(&self) -> Option<&Bytes> {
        self.body.as_ref()
    }

    fn response(&self) -> Option<(StatusCode, &HeaderMap)> {
        self.response
            .as_ref()
            .map(|(status, headers)| (*status, headers))
    }

    fn response_body(&self) -> Option<&Bytes> {
        self.response_body.as_ref()
    }

    fn scope(&self) -> &str {
        &self.stage.scope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_version_4_uuids_and_differ() {
        let (one, other) = (RequestId::random(), RequestId::random());
        assert_ne!(one, other);
        let text = one.as_str();
        assert_eq!(text.len(), 36);
        assert_eq!(&text[14..15], "4");
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"), "{text}");
        assert_eq!(text.bytes().filter(|&octet| octet == b'-').count(), 4);
    }

    #[test]
    fn the_path_below_a_stage_is_never_empty() {
        for (path, offset, expected) in [
            ("/dev", 4, "/"),
            ("/dev/", 4, "/"),
            ("/dev/a", 4, "/a"),
            ("/a", 0, "/a"),
        ] {
            assert_eq!(below(path, offset), expected);
        }
    }
}
