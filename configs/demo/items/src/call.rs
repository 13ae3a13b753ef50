//! What a request asks for, and the answers that need no table.

use serde_json::{Value, json};

/// What a request asks for.
#[derive(Debug, PartialEq)]
pub enum Call {
    /// At most `limit` items whose ids come after `after`.
    List { limit: usize, after: Option<String> },
    /// The item of the body.
    Create,
    /// The item of this id.
    Read(String),
    /// The item of the body, under this id.
    Replace(String),
    /// No item of this id any more.
    Delete(String),
}

/// An answer: a status, a `Location` or `Allow` header, and JSON.
#[derive(Debug, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub header: Option<(&'static str, String)>,
    pub body: Option<Value>,
}

impl Reply {
    /// An answer with content.
    pub fn json(status: u16, body: Value) -> Self {
        Self {
            status,
            header: None,
            body: Some(body),
        }
    }

    /// An error in the gateway's own shape.
    pub fn error(status: u16, message: impl Into<String>) -> Self {
        Self::json(status, json!({ "message": message.into() }))
    }

    /// The same answer with a header field.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.header = Some((name, value.into()));
        self
    }
}

/// Reads a request's method and its path with the query.
///
/// # Errors
///
/// The answer to a request that asks for nothing that there is.
pub fn parse(method: &str, path_with_query: &str) -> Result<Call, Reply> {
    let (path, query) = path_with_query
        .split_once('?')
        .unwrap_or((path_with_query, ""));
    if path == "/items" {
        return match method {
            "GET" => list(query),
            "POST" => Ok(Call::Create),
            _ => {
                Err(Reply::error(405, format!("{method} is not for {path}"))
                    .with("allow", "GET, POST"))
            }
        };
    }
    let id = match path.strip_prefix("/items/") {
        Some(id) if !id.contains('/') => decode(id),
        _ => return Err(Reply::error(404, format!("there is nothing at {path}"))),
    };
    let Some(id) = id.filter(|id| super::item::is_id(id)) else {
        return Err(Reply::error(
            400,
            "the id must be 1 to 256 octets of visible text",
        ));
    };
    match method {
        "GET" => Ok(Call::Read(id)),
        "PUT" => Ok(Call::Replace(id)),
        "DELETE" => Ok(Call::Delete(id)),
        _ => Err(Reply::error(405, format!("{method} is not for {path}"))
            .with("allow", "GET, PUT, DELETE")),
    }
}

fn list(query: &str) -> Result<Call, Reply> {
    let (mut limit, mut after) = (LIMIT, None);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name {
            "limit" => match value.parse() {
                Ok(number) if (1..=LIMIT_MAX).contains(&number) => limit = number,
                _ => return Err(Reply::error(400, format!("limit must be 1 to {LIMIT_MAX}"))),
            },
            "cursor" => match decode(&value.replace('+', " ")) {
                Some(id) => after = Some(id),
                None => return Err(Reply::error(400, "the cursor is none of ours")),
            },
            _ => {}
        }
    }
    Ok(Call::List { limit, after })
}

/// Percent-decodes; `None` where that is no text.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        (bytes, rest) = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                bytes.push((digit(high)? * 16 + digit(low)?) as u8);
                (bytes, after)
            }
            (b'%', _) => return None,
            (byte, after) => {
                bytes.push(*byte);
                (bytes, after)
            }
        };
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encodes all but unreserved characters (RFC 3986 section 2.3).
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(byte.into())
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

const LIMIT: usize = 25;
const LIMIT_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_from_its_method_and_path() {
        let list = |limit, after: Option<&str>| Call::List {
            limit,
            after: after.map(String::from),
        };
        let cases = [
            ("GET", "/items", list(LIMIT, None)),
            (
                "GET",
                "/items?limit=2&cursor=a%2Fb&other",
                list(2, Some("a/b")),
            ),
            ("POST", "/items", Call::Create),
            ("GET", "/items/a%20b", Call::Read("a b".into())),
            ("PUT", "/items/a?x=y", Call::Replace("a".into())),
            ("DELETE", "/items/%C3%BC", Call::Delete("ü".into())),
        ];
        for (method, path, call) in cases {
            assert_eq!(parse(method, path), Ok(call), "{method} {path}");
        }
    }

    #[test]
    fn what_there_is_not_is_answered_with_an_error() {
        let cases = [
            ("GET", "/", 404),
            ("GET", "/items/a/b", 404),
            ("GET", "/items/", 400),
            ("GET", "/items/%", 400),
            ("GET", "/items/%zz", 400),
            ("GET", "/items/%FF", 400),
            ("GET", "/items/%0A", 400),
            ("GET", "/items?limit=0", 400),
            ("GET", "/items?limit=101", 400),
            ("GET", "/items?limit=x", 400),
            ("GET", "/items?cursor=%", 400),
            ("DELETE", "/items", 405),
            ("POST", "/items/a", 405),
        ];
        for (method, path, status) in cases {
            let reply = parse(method, path).unwrap_err();
            assert_eq!(reply.status, status, "{method} {path}");
            assert!(reply.body.unwrap()["message"].is_string());
            assert_eq!(reply.header.is_some(), status == 405);
        }
    }

    #[test]
    fn encoding_reads_back() {
        for text in ["a", "a b/ü%", "🦀?&=#+"] {
            assert_eq!(decode(&encode(text)).as_deref(), Some(text));
        }
    }
}
