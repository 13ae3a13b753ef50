//! What a gateway does to the header fields that it forwards.
//!
//! Runs for each request and response: values that are the same for a connection are made once, in [`Peer`] and [`Via`].

use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

/// Removes what is meant for this connection only: the fields that `Connection` names, `Connection` itself, and those
/// that have to be removed whether named or not.
///
/// `Host` and `Content-Length` stay even if they are named: they frame and route the message.
///
/// Source: RFC 9110 §7.6.1.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(first) = headers.get(CONNECTION).cloned() {
        let more: Vec<HeaderValue> = headers
            .get_all(CONNECTION)
            .iter()
            .skip(1)
            .cloned()
            .collect();
        headers.remove(CONNECTION);
        remove_named(headers, &first);
        for value in &more {
            remove_named(headers, value);
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Whether `name` belongs to the connection or is the host's to set: no plugin may touch it.
pub fn is_connection_field(name: &HeaderName) -> bool {
    *name == CONNECTION || *name == CONTENT_LENGTH || HOP_BY_HOP.contains(name)
}

fn remove_named(headers: &mut HeaderMap, options: &HeaderValue) {
    for option in options.as_bytes().split(|byte| *byte == b',') {
        let option = option.trim_ascii();
        // Most often it is one of these two, which name no field that would be left.
        if option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close") {
            continue;
        }
        let Ok(name) = HeaderName::from_bytes(option) else {
            continue;
        };
        if name != HOST && name != CONTENT_LENGTH {
            headers.remove(name);
        }
    }
}

const HOP_BY_HOP: [HeaderName; 5] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// A gateway's `Via` entries, one for each version of HTTP that a message may have come by.
///
/// Source: RFC 9110 §7.6.3.
#[derive(Debug, Clone)]
pub struct Via {
    http10: HeaderValue,
    http11: HeaderValue,
    http2: HeaderValue,
    http3: HeaderValue,
}

impl Via {
    /// `pseudonym` stands for the host name, which is nobody's business. `None` where it is no token.
    pub fn new(pseudonym: &str) -> Option<Self> {
        let entry = |version: &str| HeaderValue::try_from(format!("{version} {pseudonym}")).ok();
        let token = HeaderName::from_bytes(pseudonym.as_bytes()).is_ok();
        if !token {
            return None;
        }
        Some(Self {
            http10: entry("1.0")?,
            http11: entry("1.1")?,
            http2: entry("2.0")?,
            http3: entry("3.0")?,
        })
    }

    /// Appends the entry for a message that was received as `version`.
    pub fn append_to(&self, headers: &mut HeaderMap, version: Version) {
        let entry = match version {
            Version::HTTP_2 => &self.http2,
            Version::HTTP_3 => &self.http3,
            Version::HTTP_11 => &self.http11,
            _ => &self.http10,
        };
        headers.append(VIA, entry.clone());
    }
}

/// Who is at the other end of a connection, ready to be told to upstreams.
#[derive(Debug, Clone)]
pub struct Peer {
    client: HeaderValue,
    scheme: HeaderValue,
    port: HeaderValue,
    /// `for=…;proto=…`
    forwarded: String,
}

impl Peer {
    /// `client`: the peer's address; `tls`: whether it came by TLS; `port`: the listener's, that it came to.
    pub fn new(client: IpAddr, tls: bool, port: u16) -> Self {
        // An IPv4 client of a dual-stack listener is an IPv4 client.
        let client = client.to_canonical();
        let scheme = if tls { "https" } else { "http" };
        // RFC 7239 §6: an IPv6 address is in brackets, and so in quotes.
        let node = match client {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("\"[{address}]\""),
        };
        let text = client.to_string();
        Self {
            client: HeaderValue::try_from(text).expect("an address is visible ASCII"),
            scheme: HeaderValue::from_static(scheme),
            port: HeaderValue::from(port),
            forwarded: format!("for={node};proto={scheme}"),
        }
    }

    /// Tells an upstream whom a request is from, and what it asked for. `host` is the `Host` or `:authority` received.
    ///
    /// `X-Forwarded-For` and `Forwarded` are lists: what the client sent stays before our entry, and only entries that
    /// trusted hops appended mean something. `X-Forwarded-Proto`, `-Host` and `-Port` are single values, so they are set.
    ///
    /// Source: RFC 7239 §4 and §5; Amazon API Gateway sends the `X-Forwarded-*` fields.
    pub fn append_to(&self, headers: &mut HeaderMap, host: Option<&HeaderValue>) {
        append_element(headers, &X_FORWARDED_FOR, &self.client);
        headers.insert(X_FORWARDED_PROTO, self.scheme.clone());
        headers.insert(X_FORWARDED_PORT, self.port.clone());
        match host {
            Some(host) => headers.insert(X_FORWARDED_HOST, host.clone()),
            None => headers.remove(X_FORWARDED_HOST),
        };
        append_element(headers, &FORWARDED, &self.forwarded(host));
    }

    fn forwarded(&self, host: Option<&HeaderValue>) -> HeaderValue {
        let quotable = |host: &&str| !host.contains(['"', '\\']);
        let host = host.and_then(|host| host.to_str().ok()).filter(quotable);
        let host_len = host.map_or(0, |host| ";host=\"\"".len() + host.len());
        let mut text = String::with_capacity(self.forwarded.len() + host_len);
        text.push_str(&self.forwarded);
        if let Some(host) = host {
            // A port's colon is no token character: the value is always quoted.
            text.push_str(";host=\"");
            text.push_str(host);
            text.push('"');
        }
        HeaderValue::try_from(text).expect("visible ASCII and a host that was a field value")
    }
}

/// Adds `element` to the list of a field, in one field line: some servers read only the first line.
fn append_element(headers: &mut HeaderMap, name: &HeaderName, element: &HeaderValue) {
    if !headers.contains_key(name) {
        headers.insert(name, element.clone());
        return;
    }
    let mut joined = Vec::with_capacity(128);
    for line in headers.get_all(name) {
        joined.extend_from_slice(line.as_bytes());
        joined.extend_from_slice(b", ");
    }
    joined.extend_from_slice(element.as_bytes());
    // Field values joined are a field value.
    if let Ok(value) = HeaderValue::try_from(joined) {
        headers.insert(name, value);
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields for tests.
#[cfg(test)]
pub(crate) fn map(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, value.parse().unwrap());
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn only_end_to_end_fields_are_forwarded() {
        type Lines<'a> = &'a [(&'a str, &'a str)];
        let cases: [(Lines, &[&str]); 6] = [
            (
                &[
                    ("accept", "*/*"),
                    ("connection", "keep-alive"),
                    ("keep-alive", "timeout=5"),
                ],
                &["accept: */*"],
            ),
            (
                &[
                    ("connection", "X-Secret , close"),
                    ("x-secret", "1"),
                    ("x-open", "2"),
                ],
                &["x-open: 2"],
            ),
            (
                &[
                    ("connection", "a"),
                    ("connection", "b, c"),
                    ("a", "1"),
                    ("b", "2"),
                    ("c", "3"),
                ],
                &[],
            ),
            (
                &[
                    ("te", "trailers"),
                    ("transfer-encoding", "chunked"),
                    ("upgrade", "websocket"),
                    ("trailer", "x"),
                ],
                &["trailer: x"],
            ),
            (
                &[
                    ("connection", "host, content-length, @@, "),
                    ("host", "h"),
                    ("content-length", "3"),
                ],
                &["content-length: 3", "host: h"],
            ),
            (
                &[
                    ("proxy-connection", "keep-alive"),
                    ("proxy-authorization", "x"),
                ],
                &["proxy-authorization: x"],
            ),
        ];
        for (received, expected) in cases {
            let mut headers = map(received);
            remove_hop_by_hop(&mut headers);
            assert_eq!(lines(&headers), expected, "{received:?}");
        }
    }

    #[test]
    fn via_names_the_version_received_and_keeps_earlier_hops() {
        let via = Via::new("tidegate").unwrap();
        let mut headers = map(&[("via", "1.0 fred")]);
        via.append_to(&mut headers, Version::HTTP_11);
        via.append_to(&mut headers, Version::HTTP_2);
        let hops: Vec<_> = headers
            .get_all(VIA)
            .iter()
            .map(|hop| hop.to_str().unwrap())
            .collect();
        assert_eq!(hops, ["1.0 fred", "1.1 tidegate", "2.0 tidegate"]);
        assert!(Via::new("two words").is_none());
    }

    #[test]
    fn an_upstream_is_told_the_client_the_scheme_and_the_host() {
        let v4: IpAddr = "192.0.2.7".parse().unwrap();
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let mapped: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        let host = HeaderValue::from_static("api.test:8443");
        let cases = [
            (
                v4,
                "192.0.2.7",
                "for=192.0.2.7;proto=https;host=\"api.test:8443\"",
            ),
            (
                v6,
                "2001:db8::1",
                "for=\"[2001:db8::1]\";proto=https;host=\"api.test:8443\"",
            ),
            (
                mapped,
                "192.0.2.7",
                "for=192.0.2.7;proto=https;host=\"api.test:8443\"",
            ),
        ];
        for (client, forwarded_for, forwarded) in cases {
            let mut headers = map(&[("x-forwarded-proto", "http"), ("x-forwarded-port", "1")]);
            Peer::new(client, true, 8443).append_to(&mut headers, Some(&host));
            let expected = [
                format!("forwarded: {forwarded}"),
                format!("x-forwarded-for: {forwarded_for}"),
                "x-forwarded-host: api.test:8443".to_owned(),
                "x-forwarded-port: 8443".to_owned(),
                "x-forwarded-proto: https".to_owned(),
            ];
            assert_eq!(lines(&headers), expected);
        }
    }

    #[test]
    fn what_earlier_hops_said_stays_before_our_entry() {
        let mut headers = map(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("forwarded", "for=10.0.0.1"),
            ("x-forwarded-host", "evil"),
        ]);
        Peer::new("192.0.2.7".parse().unwrap(), false, 80).append_to(&mut headers, None);
        let expected = [
            "forwarded: for=10.0.0.1, for=192.0.2.7;proto=http",
            "x-forwarded-for: 10.0.0.1, 10.0.0.2, 192.0.2.7",
            "x-forwarded-port: 80",
            "x-forwarded-proto: http",
        ];
        assert_eq!(lines(&headers), expected);
    }

    #[test]
    fn a_host_that_cannot_be_quoted_is_left_out_of_forwarded() {
        let peer = Peer::new("192.0.2.7".parse().unwrap(), false, 80);
        for host in [&b"a\"b"[..], b"a\\b", b"\xff"] {
            let mut headers = HeaderMap::new();
            peer.append_to(&mut headers, Some(&HeaderValue::from_bytes(host).unwrap()));
            assert_eq!(headers[FORWARDED], "for=192.0.2.7;proto=http");
        }
    }
}
