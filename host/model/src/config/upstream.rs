//! `[upstream.*]`: named groups of servers that `http` integrations forward to.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::limits::{at_least_one, positive};
use super::source::Source;
use super::units::DurationText;
use crate::problem::Place;

/// A named group of servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    pub name: String,
    /// At least one; all of the same scheme.
    pub targets: Vec<Target>,
    pub balance: Balance,
    /// Whether the targets speak HTTP/2: by ALPN for `https`, by prior knowledge for `http`.
    pub http2: bool,
    pub tls: UpstreamTls,
    /// Name resolution, TCP and TLS together.
    pub connect_timeout: Duration,
    /// From the request's last byte to the response's header section.
    pub first_byte_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// Connections to all targets together.
    pub connections_max: usize,
    /// Active checks; `None`: targets count as healthy.
    pub health: Option<Health>,
    /// Passive checks; `None`: failures have no consequence.
    pub ejection: Option<Ejection>,
    /// How often a request is tried again on another connection or target, where that is safe.
    pub retries: u32,
    pub place: Place,
}

/// One server of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    pub scheme: Scheme,
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
}

/// The URI scheme of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

/// How an upstream chooses among its healthy targets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// One after another.
    #[default]
    RoundRobin,
    /// The one with the fewest requests under way.
    LeastRequest,
}

/// How `https` targets are authenticated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// A PEM file of trust anchors; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// The name to ask for (SNI) and to verify; `None`: the target's host.
    pub server_name: Option<String>,
}

/// Active health checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Asked for with GET.
    pub path: String,
    /// From one check of a target to its next.
    pub interval: Duration,
    /// For the whole check.
    pub timeout: Duration,
    /// Good checks in a row that make a target healthy.
    pub healthy: u32,
    /// Bad checks in a row that make it unhealthy.
    pub unhealthy: u32,
    /// The status codes of a good check.
    pub status: StatusRanges,
}

/// Sets of status codes: `200-399`, `200,204`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRanges(Vec<RangeInclusive<u16>>);

/// Passive health checks: a target that fails requests in a row is left out for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ejection {
    /// Failed requests in a row (no connection, no response in time, 502, 503, 504).
    pub failures: u32,
    /// How long it is left out.
    pub duration: Duration,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Target {
    /// Reads `http://host:port` or `https://host:port`; the port's default is the scheme's.
    ///
    /// # Errors
    /// A sentence on what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("target \"{text}\" {why}");
        let uri: http::Uri = text.parse().map_err(|_| wrong("is not a URI"))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(wrong("does not start with http:// or https://")),
        };
        if uri.path() != "/" || uri.query().is_some() {
            return Err(wrong("has a path: it belongs into the integration's uri"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("has a user name"));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong("has no host"));
        }
        let default_port = if scheme == Scheme::Https { 443 } else { 80 };
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str() == authority.host() => default_port,
            None => return Err(wrong("has no valid port")),
        };
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port,
        })
    }

    /// `host:port`, for `Host` and `:authority`: without the port where it is the scheme's default (RFC 9110 §4.2.1).
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match (self.scheme, self.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl StatusRanges {
    /// Reads `200-399` or `200,204,300-399`.
    ///
    /// # Errors
    /// A sentence on what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("\"{text}\" is not a set of status codes: write \"200-399\" or \"200,204\"");
        let code = |text: &str| match text.trim().parse::<u16>() {
            Ok(code) if (100..=599).contains(&code) => Ok(code),
            _ => Err(wrong()),
        };
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let range = code(first)?..=code(last)?;
            if range.is_empty() {
                Err(wrong())
            } else {
                Ok(range)
            }
        };
        text.split(',')
            .map(range)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether `status` is one of them.
    pub fn contains(&self, status: http::StatusCode) -> bool {
        self.0.iter().any(|range| range.contains(&status.as_u16()))
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct UpstreamFile {
    /// `http://host:port` or `https://host:port`. Required, at least one.
    targets: Option<Spanned<Vec<Spanned<String>>>>,
    /// Default `"round-robin"`: fair without looking at the targets.
    balance: Option<Balance>,
    /// Default `"http/1.1"`: every server speaks it.
    protocol: Option<ProtocolFile>,
    /// Default: the system's trust anchors, the target's own name.
    tls: Option<UpstreamTlsFile>,
    /// Default `"1s"`: a round trip, and one retransmission of SYN.
    connect_timeout: Option<Spanned<DurationText>>,
    /// Default `"29s"`: API Gateway's integration timeout.
    first_byte_timeout: Option<Spanned<DurationText>>,
    /// Default `"60s"`: less than the 65–75 s after which common servers close, so that they do not close first.
    idle_timeout: Option<Spanned<DurationText>>,
    /// Default 1024: the file descriptors of a common server process.
    connections_max: Option<Spanned<usize>>,
    /// Default none.
    health: Option<Spanned<HealthFile>>,
    /// Default none.
    ejection: Option<Spanned<EjectionFile>>,
    /// Default 1: enough for the connection that the server closed just now.
    retries: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
enum ProtocolFile {
    #[serde(rename = "http/1.1")]
    Http1,
    #[serde(rename = "h2")]
    Http2,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct UpstreamTlsFile {
    ca: Option<String>,
    server_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct HealthFile {
    /// Required: no path is right for all servers.
    path: Option<Spanned<String>>,
    /// Default `"5s"`.
    interval: Option<Spanned<DurationText>>,
    /// Default `"1s"`: a health check that takes longer is a bad one.
    timeout: Option<Spanned<DurationText>>,
    /// Default 2: one good answer may be luck.
    healthy: Option<Spanned<u32>>,
    /// Default 3: one lost packet is no outage.
    unhealthy: Option<Spanned<u32>>,
    /// Default `"200-399"`: a redirect shows a living server.
    status: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct EjectionFile {
    /// Default 5.
    failures: Option<Spanned<u32>>,
    /// Default `"10s"`: a process restarts in that time.
    r#for: Option<Spanned<DurationText>>,
}

impl UpstreamFile {
    pub(super) fn compile(
        name: &str,
        file: Spanned<Self>,
        source: &mut Source,
    ) -> Option<Upstream> {
        let span = file.span();
        let file = file.into_inner();
        let owner = format!("upstream \"{name}\"");
        let health = file
            .health
            .and_then(|health| HealthFile::compile(&owner, health, source));
        let ejection = file
            .ejection
            .map(|ejection| EjectionFile::compile(&owner, ejection, source));
        let tls = file.tls.unwrap_or_default();
        let mut time = |key: &str, written: Option<Spanned<DurationText>>, default_s: u64| {
            positive(&owner, key, written, source).unwrap_or(Duration::from_secs(default_s))
        };
        let connect_timeout = time("connect-timeout", file.connect_timeout, 1);
        let first_byte_timeout = time("first-byte-timeout", file.first_byte_timeout, 29);
        let idle_timeout = time("idle-timeout", file.idle_timeout, 60);
        let connections_max = at_least_one(&owner, "connections-max", file.connections_max, source);
        let retries = file
            .retries
            .map_or(1, |retries| retries_of(&owner, &retries, source));
        let Some(targets) = file.targets else {
            source.missing(&span, &owner, "targets");
            return None;
        };
        Some(Upstream {
            name: name.to_owned(),
            targets: targets_of(&owner, &targets, source)?,
            balance: file.balance.unwrap_or_default(),
            http2: matches!(file.protocol, Some(ProtocolFile::Http2)),
            tls: UpstreamTls {
                ca: tls.ca.map(|ca| source.resolve(&ca)),
                server_name: tls.server_name,
            },
            connect_timeout,
            first_byte_timeout,
            idle_timeout,
            connections_max: connections_max.unwrap_or(1024),
            health,
            ejection,
            retries,
            place: source.place(&span),
        })
    }
}

impl HealthFile {
    fn compile(owner: &str, file: Spanned<Self>, source: &mut Source) -> Option<Health> {
        let span = file.span();
        let file = file.into_inner();
        let owner = format!("{owner}: health");
        let interval =
            positive(&owner, "interval", file.interval, source).unwrap_or(Duration::from_secs(5));
        let timeout =
            positive(&owner, "timeout", file.timeout, source).unwrap_or(Duration::from_secs(1));
        let healthy = at_least_one(&owner, "healthy", file.healthy, source).unwrap_or(2);
        let unhealthy = at_least_one(&owner, "unhealthy", file.unhealthy, source).unwrap_or(3);
        let status = match &file.status {
            None => StatusRanges(vec![200..=399]),
            Some(text) => match StatusRanges::parse(text.get_ref()) {
                Ok(status) => status,
                Err(why) => {
                    source.problem(&text.span(), format!("{owner}: {why}"));
                    return None;
                }
            },
        };
        let Some(path) = file.path else {
            source.missing(&span, &owner, "path");
            return None;
        };
        if !path.get_ref().starts_with('/')
            || path.get_ref().parse::<http::uri::PathAndQuery>().is_err()
        {
            source.problem(
                &path.span(),
                format!(
                    "{owner}: path \"{}\" does not start with / or is no path",
                    path.get_ref()
                ),
            );
        }
        Some(Health {
            path: path.into_inner(),
            interval,
            timeout,
            healthy,
            unhealthy,
            status,
        })
    }
}

impl EjectionFile {
    fn compile(owner: &str, file: Spanned<Self>, source: &mut Source) -> Ejection {
        let file = file.into_inner();
        let owner = format!("{owner}: ejection");
        Ejection {
            failures: at_least_one(&owner, "failures", file.failures, source).unwrap_or(5),
            duration: positive(&owner, "for", file.r#for, source)
                .unwrap_or(Duration::from_secs(10)),
        }
    }
}

fn targets_of(
    owner: &str,
    written: &Spanned<Vec<Spanned<String>>>,
    source: &mut Source,
) -> Option<Vec<Target>> {
    let mut targets: Vec<Target> = Vec::new();
    for text in written.get_ref() {
        match Target::parse(text.get_ref()) {
            Err(why) => source.problem(&text.span(), format!("{owner}: {why}")),
            Ok(target) if targets.contains(&target) => {
                source.problem(
                    &text.span(),
                    format!("{owner}: target \"{}\" is there twice", text.get_ref()),
                );
            }
            Ok(target)
                if targets
                    .first()
                    .is_some_and(|first| first.scheme != target.scheme) =>
            {
                source.problem(
                    &text.span(),
                    format!("{owner}: targets are both http and https"),
                );
            }
            Ok(target) => targets.push(target),
        }
    }
    if written.get_ref().is_empty() {
        source.problem(&written.span(), format!("{owner}: `targets` is empty"));
    }
    (!targets.is_empty()).then_some(targets)
}

fn retries_of(owner: &str, written: &Spanned<u32>, source: &mut Source) -> u32 {
    if *written.get_ref() > RETRIES_MAX {
        let message = format!(
            "{owner}: `retries` is above {RETRIES_MAX}: retries multiply load when it hurts most"
        );
        source.problem(&written.span(), message);
    }
    *written.get_ref()
}

const RETRIES_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_origins() {
        let cases = [
            ("http://127.0.0.1:9001", Ok("127.0.0.1:9001")),
            ("http://orders", Ok("orders")),
            ("https://orders:443", Ok("orders")),
            ("http://orders:443", Ok("orders:443")),
            ("http://[::1]:80/", Ok("[::1]")),
            ("orders:80", Err(())),
            ("ftp://orders", Err(())),
            ("http://orders/v1", Err(())),
            ("http://orders?x", Err(())),
            ("http://a@orders", Err(())),
            ("http://orders:99999", Err(())),
            ("http://", Err(())),
        ];
        for (text, expected) in cases {
            let authority = Target::parse(text)
                .map(|target| target.authority())
                .map_err(drop);
            assert_eq!(authority, expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn status_codes_are_ranges_and_lists() {
        let ok = http::StatusCode::OK;
        let cases = [
            ("200-399", Some(true)),
            ("204, 200", Some(true)),
            ("201-299", Some(false)),
            ("399-200", None),
            ("0-999", None),
            ("", None),
            ("2xx", None),
        ];
        for (text, expected) in cases {
            assert_eq!(
                StatusRanges::parse(text).ok().map(|set| set.contains(ok)),
                expected,
                "{text}"
            );
        }
    }
}
