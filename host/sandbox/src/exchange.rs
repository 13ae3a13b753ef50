//! The request in hand, as components see it.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};

use crate::bindings::gateway::tidegate::gateway::types;

/// A request, and its response once there is one, that step calls are about.
///
/// The embedder implements it; a call holds it in an `Arc` and lets go of it before it returns, so between calls the
/// embedder can change it in place.
pub trait Exchange: Send + Sync + 'static {
    /// The method as received.
    fn method(&self) -> &str;
    /// The path below the stage, percent-encoded.
    fn path(&self) -> &str;
    /// The query without `?`.
    fn query_string(&self) -> Option<&str>;
    /// The header fields.
    fn headers(&self) -> &HeaderMap;
    /// The last value of a query parameter, decoded.
    fn query_parameter(&self, name: &str) -> Option<Cow<'_, str>>;
    /// All query parameters, decoded, in order.
    fn query_parameters(&self) -> Vec<(String, String)>;
    /// A path parameter, decoded.
    fn path_parameter(&self, name: &str) -> Option<Cow<'_, str>>;
    /// All path parameters, decoded, in the pattern's order.
    fn path_parameters(&self) -> Vec<(String, String)>;
    /// A variable of the stage.
    fn stage_variable(&self, name: &str) -> Option<&str>;
    /// A variable of `$context`, without the prefix.
    fn context(&self, name: &str) -> Option<Cow<'_, str>>;
    /// The collected request body; `None` where it was not collected.
    fn body(&self) -> Option<&Bytes>;
    /// The response's status and header fields, once there is one.
    fn response(&self) -> Option<(StatusCode, &HeaderMap)>;
    /// The collected response body; `None` where it was not collected.
    fn response_body(&self) -> Option<&Bytes>;
    /// What scopes keys and buckets: the API and the stage, `items/dev`.
    fn scope(&self) -> &str;
}

/// `types.reading`, with field names parsed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// The method.
    Method,
    /// The path below the stage.
    Path,
    /// The query without `?`.
    QueryString,
    /// A request header field.
    Header(HeaderName),
    /// A query parameter, decoded.
    QueryParameter(String),
    /// A path parameter, decoded.
    PathParameter(String),
    /// A stage variable.
    StageVariable(String),
    /// A `$context` variable.
    Context(String),
}

impl Reading {
    /// The reading that a plugin named.
    ///
    /// # Errors
    ///
    /// A sentence, where a header name is not a token (RFC 9110 section 5.6.2).
    pub(crate) fn parse(reading: types::Reading) -> Result<Self, String> {
        Ok(match reading {
            types::Reading::Method => Self::Method,
            types::Reading::Path => Self::Path,
            types::Reading::QueryString => Self::QueryString,
            types::Reading::Header(name) => Self::Header(header_name(&name)?),
            types::Reading::QueryParameter(name) => Self::QueryParameter(name),
            types::Reading::PathParameter(name) => Self::PathParameter(name),
            types::Reading::StageVariable(name) => Self::StageVariable(name),
            types::Reading::Context(name) => Self::Context(name),
        })
    }

    /// Whether its value comes from the request's header fields.
    pub fn needs_headers(&self) -> bool {
        match self {
            Self::Header(_) => true,
            Self::Context(name) => matches!(
                name.as_str(),
                "identity.userAgent" | "domainName" | "domainPrefix"
            ),
            _ => false,
        }
    }

    /// Its value for the request in hand.
    pub fn of<'a>(&self, exchange: &'a dyn Exchange) -> Option<Cow<'a, str>> {
        match self {
            Self::Method => Some(Cow::Borrowed(exchange.method())),
            Self::Path => Some(Cow::Borrowed(exchange.path())),
            Self::QueryString => exchange.query_string().map(Cow::Borrowed),
            Self::Header(name) => field(exchange.headers(), name),
            Self::QueryParameter(name) => exchange.query_parameter(name),
            Self::PathParameter(name) => exchange.path_parameter(name),
            Self::StageVariable(name) => exchange.stage_variable(name).map(Cow::Borrowed),
            Self::Context(name) => exchange.context(name),
        }
    }
}

/// The field lines of a name, joined by `, ` (RFC 9110 section 5.3).
pub fn field<'a>(
    headers: &'a HeaderMap,
    name: impl http::header::AsHeaderName,
) -> Option<Cow<'a, str>> {
    let mut lines = headers.get_all(name).iter();
    let first = text(lines.next()?.as_bytes());
    let mut rest = lines.peekable();
    if rest.peek().is_none() {
        return Some(first);
    }
    let mut joined = first.into_owned();
    for line in rest {
        joined.push_str(", ");
        joined.push_str(&text(line.as_bytes()));
    }
    Some(Cow::Owned(joined))
}

/// A field value as text: UTF-8 where it is, ISO 8859-1 where it is not.
pub fn text(value: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(value.iter().map(|&octet| octet as char).collect()),
    }
}

/// A field name from a plugin.
pub(crate) fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("\"{name}\" is not a header name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn field_lines_are_joined_and_opaque_octets_become_latin_1() {
        let mut headers = HeaderMap::new();
        headers.append("accept", HeaderValue::from_static("a"));
        headers.append("accept", HeaderValue::from_static("b"));
        headers.append(
            "x-name",
            HeaderValue::from_bytes(b"caf\xe9").expect("obs-text is allowed"),
        );
        assert_eq!(field(&headers, "accept").as_deref(), Some("a, b"));
        assert_eq!(field(&headers, "x-name").as_deref(), Some("café"));
        assert_eq!(field(&headers, "absent"), None);
    }
}
