//! What an edge has decided of a request, as it travels to the origin, and what the origin says of its answer.
//!
//! Both are one header field with a JSON object. The link's mutual TLS says who wrote it; nobody else's is ever read: what
//! viewers send under `tidegate-…` is removed when it arrives.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use serde::{Deserialize, Serialize};
use tidegate_sandbox::wit::Principal;

/// What the edge decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told<'a> {
    /// The snapshot that it was decided by.
    pub snapshot: Cow<'a, str>,
    /// `api/stage`.
    pub stage: Cow<'a, str>,
    /// The route's key.
    pub route: Cow<'a, str>,
    /// Where the path below the stage starts.
    pub offset: usize,
    /// The request's identifier.
    pub id: Cow<'a, str>,
    pub viewer: SocketAddr,
    pub tls: bool,
    /// Of the listener that the viewer came to.
    pub port: u16,
    /// `Host` or `:authority`, as the viewer sent it.
    pub host: Option<Cow<'a, str>>,
    /// Of HTTP: 10, 11, 20 or 30.
    pub version: u8,
    /// When the request came, in milliseconds since 1970.
    pub began_ms: u64,
    /// Whether content follows.
    pub has_body: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub principal: Option<Who<'a>>,
}

/// Who the authorizers say it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Who<'a> {
    pub id: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty", default)]
    pub context: Cow<'a, [(String, String)]>,
}

/// What the origin says of its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    pub by: By,
    /// What the integration answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency_ms: Option<u64>,
    /// The gateway response type, where the origin itself answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error_type: Option<String>,
    /// What the caller is told then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// What went wrong, for the edge's log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
}

/// Whose the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    Integration,
    /// A request transform's.
    Transform,
    /// The origin's own: the request failed.
    Gateway,
    /// The origin's own: it does not serve by the snapshot that the edge decided by, and has done nothing.
    OtherSnapshot,
}

impl Told<'_> {
    /// Takes it out of a forwarded request's fields.
    ///
    /// # Errors
    /// A sentence, where it is missing or is none of ours.
    pub fn take(headers: &mut HeaderMap) -> Result<Told<'static>, String> {
        let field = headers
            .remove(TOLD)
            .ok_or_else(|| format!("{TOLD} is missing"))?;
        serde_json::from_slice(field.as_bytes()).map_err(|error| format!("{TOLD}: {error}"))
    }

    /// Puts it into the fields of a request that is to be forwarded.
    pub fn put(&self, headers: &mut HeaderMap) {
        headers.insert(TOLD, field(self));
    }
}

impl Outcome {
    /// Takes it out of an origin's response.
    ///
    /// # Errors
    /// A sentence, where it is missing or is none of ours.
    pub fn take(headers: &mut HeaderMap) -> Result<Self, String> {
        let field = headers
            .remove(OUTCOME)
            .ok_or_else(|| format!("{OUTCOME} is missing"))?;
        serde_json::from_slice(field.as_bytes()).map_err(|error| format!("{OUTCOME}: {error}"))
    }

    /// Puts it into a response that goes back over the link.
    pub fn put(&self, headers: &mut HeaderMap) {
        headers.insert(OUTCOME, field(self));
    }

    /// An answer that is somebody's.
    pub fn of(by: By, status: Option<StatusCode>, latency: Option<Duration>) -> Self {
        Self {
            by,
            status: status.map(|status| status.as_u16()),
            latency_ms: latency
                .map(|latency| u64::try_from(latency.as_millis()).unwrap_or(u64::MAX)),
            error_type: None,
            message: None,
            cause: None,
        }
    }
}

impl<'a> Who<'a> {
    /// As it travels.
    pub fn of(principal: &'a Principal) -> Self {
        Self {
            id: Cow::Borrowed(&principal.id),
            key: principal.usage_identifier_key.as_deref().map(Cow::Borrowed),
            context: Cow::Borrowed(&principal.context),
        }
    }
}

impl From<Who<'_>> for Principal {
    fn from(who: Who<'_>) -> Self {
        Self {
            id: who.id.into_owned(),
            usage_identifier_key: who.key.map(Cow::into_owned),
            context: who.context.into_owned(),
        }
    }
}

/// Whether an origin has done nothing about a request: it does not serve by the snapshot that the edge decided by.
pub fn is_other_snapshot<B>(response: &Response<B>) -> bool {
    if response.status() != StatusCode::MISDIRECTED_REQUEST {
        return false; // an upstream's own 421 has another outcome
    }
    let outcome = response.headers().get(OUTCOME);
    let outcome = outcome.and_then(|it| serde_json::from_slice::<Outcome>(it.as_bytes()).ok());
    outcome.is_some_and(|outcome| outcome.by == By::OtherSnapshot)
}

/// HTTP's version as a number.
pub fn number_of(version: Version) -> u8 {
    match version {
        Version::HTTP_10 => 10,
        Version::HTTP_2 => 20,
        Version::HTTP_3 => 30,
        _ => 11,
    }
}

/// HTTP's version by its number.
pub fn version_of(number: u8) -> Version {
    match number {
        10 => Version::HTTP_10,
        20 => Version::HTTP_2,
        30 => Version::HTTP_3,
        _ => Version::HTTP_11,
    }
}

/// Milliseconds since 1970.
pub fn milliseconds_of(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// JSON escapes all control characters but DEL, which can stand in strings only, and in no field.
fn field(value: &impl Serialize) -> HeaderValue {
    let mut text = serde_json::to_vec(value).expect("strings and numbers");
    if text.contains(&DEL) {
        let escape = |byte: u8| match byte {
            DEL => b"\\u007f".to_vec(),
            other => vec![other],
        };
        text = text.into_iter().flat_map(escape).collect();
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
        .expect("JSON without control characters")
}

/// Only what an edge forwards has it.
pub const TOLD: HeaderName = HeaderName::from_static("tidegate-told");
const OUTCOME: HeaderName = HeaderName::from_static("tidegate-outcome");
const DEL: u8 = 0x7f;

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told<'static> {
        Told {
            snapshot: "0123".into(),
            stage: "items/prod".into(),
            route: "GET /items/{id}".into(),
            offset: 5,
            id: "an id".into(),
            viewer: "[2001:db8::1]:4711".parse().unwrap(),
            tls: true,
            port: 8443,
            host: Some("items.example".into()),
            version: 20,
            began_ms: 1_764_000_000_000,
            has_body: true,
            principal: Some(Who {
                id: "\u{7f}\r\n\"ä".into(),
                key: Some("partner".into()),
                context: vec![("tenant".to_owned(), "acme\0".to_owned())].into(),
            }),
        }
    }

    #[test]
    fn what_was_told_arrives_whatever_it_holds() {
        let mut headers = HeaderMap::new();
        told().put(&mut headers);
        assert_eq!(Told::take(&mut headers).unwrap(), told());
        assert!(headers.is_empty(), "and goes no further");
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        for text in ["", "{}", "null", "{\"snapshot\":\"a\"}"] {
            let mut headers = HeaderMap::new();
            headers.insert(TOLD, text.parse().unwrap());
            assert!(Told::take(&mut headers).is_err(), "{text:?}");
        }
        assert!(Told::take(&mut HeaderMap::new()).is_err());
        assert!(Outcome::take(&mut HeaderMap::new()).is_err());
    }

    #[test]
    fn versions_come_back() {
        for version in [
            Version::HTTP_10,
            Version::HTTP_11,
            Version::HTTP_2,
            Version::HTTP_3,
        ] {
            assert_eq!(version_of(number_of(version)), version);
        }
    }
}
