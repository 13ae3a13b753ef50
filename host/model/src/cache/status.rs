//! `Cache-Status`: what the cache tells of how it came to a response.
//!
//! Source: RFC 9211.

use http::HeaderName;

/// Why a request was sent on (RFC 9211 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// "the cache was configured to not handle this request"
    Bypass,
    /// "the request method's semantics require the request to be forwarded"
    Method,
    /// "did not contain any responses that matched the request URI"
    UriMiss,
    /// "contained a response that matched the request URI, but could not select a response based upon … Vary"
    VaryMiss,
    /// "was able to select a fresh response …, but the request's semantics … did not allow its use"
    Request,
    /// "was able to select a response …, but it was stale"
    Stale,
    /// "was able to select a partial response …, but it did not contain all of the requested ranges"
    Partial,
}

impl Forwarded {
    fn token(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// The entry for a response that was served from store; `time_left` may be negative.
pub fn hit(time_left: i64) -> String {
    format!("{NAME}; hit; ttl={time_left}")
}

/// The entry for one that another request's answer served.
pub fn collapsed(why: Forwarded) -> String {
    format!("{NAME}; fwd={}; collapsed", why.token())
}

/// The entry for one that was sent on. `status` where the origin's is another than the response's; `stored` whether it
/// is kept, or a word for why not.
pub fn forwarded(why: Forwarded, status: Option<u16>, stored: Result<(), &'static str>) -> String {
    let mut text = format!("{NAME}; fwd={}", why.token());
    if let Some(status) = status {
        text.push_str(&format!("; fwd-status={status}"));
    }
    match stored {
        Ok(()) => text.push_str("; stored"),
        Err("") => {}
        Err(detail) => text.push_str(&format!("; detail={detail}")),
    }
    text
}

/// The field's name.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const NAME: &str = "Tidegate";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_items_with_parameters() {
        let cases = [
            (hit(30), "Tidegate; hit; ttl=30"),
            (hit(-5), "Tidegate; hit; ttl=-5"),
            (
                collapsed(Forwarded::UriMiss),
                "Tidegate; fwd=uri-miss; collapsed",
            ),
            (
                forwarded(Forwarded::Stale, Some(304), Ok(())),
                "Tidegate; fwd=stale; fwd-status=304; stored",
            ),
            (
                forwarded(Forwarded::UriMiss, None, Err("private")),
                "Tidegate; fwd=uri-miss; detail=private",
            ),
            (
                forwarded(Forwarded::Method, None, Err("")),
                "Tidegate; fwd=method",
            ),
        ];
        for (entry, expected) in cases {
            assert_eq!(entry, expected);
        }
    }
}
