//! `[limits]`, `[timeouts]` and `[log]`: the bounds on what strangers send, and what is written down.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::source::Source;
use super::units::{ByteSize, DurationText};

/// The bounds on one request, one connection and the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Request line and header fields together. Beyond: 431.
    pub head: ByteSize,
    /// The number of header field lines. Beyond: 431.
    pub headers: usize,
    /// A request's content, streamed or not. Beyond: 413.
    pub body: ByteSize,
    /// What a plugin that reads a body may have collected. Beyond: 413 for a request, 502 for a response.
    pub payload: ByteSize,
    /// Connections that the node holds open at once. Beyond: they wait in the listen queue.
    pub connections: usize,
    /// Concurrent streams of one HTTP/2 connection (RFC 9113 §5.1.2).
    pub streams: u32,
}

/// How long the node waits for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For a whole request header section, from its first byte.
    pub header: Duration,
    /// For the next request on an idle connection.
    pub keep_alive: Duration,
    /// For the next piece of a request's body.
    pub body: Duration,
    /// For an integration's response header section.
    pub integration: Duration,
    /// For requests under way once the node is told to end.
    pub drain: Duration,
}

/// What the node says about itself, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A filter of the `tracing` kind: `info`, or `info,tidegate_server::upstream=debug`.
    pub level: String,
    pub format: LogFormat,
}

/// The shape of the node's log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One readable line for each event.
    #[default]
    Human,
    /// One JSON object for each event.
    Json,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct LimitsFile {
    /// Default `"16KiB"`: API Gateway's 10,240 bytes of headers, and room for what proxies in front add.
    head: Option<Spanned<ByteSize>>,
    /// Default 100: real requests have 10 to 30.
    headers: Option<Spanned<usize>>,
    /// Default `"10MiB"`: API Gateway's payload limit.
    body: Option<Spanned<ByteSize>>,
    /// Default `"10MiB"`, as `body`: what is let in may be read.
    payload: Option<Spanned<ByteSize>>,
    /// Default 10000: with some 20 KiB each they stay below 200 MiB.
    connections: Option<Spanned<usize>>,
    /// Default 128: RFC 9113 §6.5.2 advises against fewer than 100.
    streams: Option<Spanned<u32>>,
}

impl LimitsFile {
    pub(super) fn compile(self, source: &mut Source) -> Limits {
        let whole = |written: Option<Spanned<ByteSize>>| {
            written.map_or(ByteSize::mib(10), Spanned::into_inner)
        };
        let (body, payload) = (whole(self.body), whole(self.payload));
        Limits {
            head: at_least("limits", "head", self.head, HEAD_LEAST, source)
                .unwrap_or(ByteSize::kib(16)),
            headers: at_least_one("limits", "headers", self.headers, source).unwrap_or(100),
            body,
            payload,
            connections: at_least_one("limits", "connections", self.connections, source)
                .unwrap_or(10_000),
            streams: at_least_one("limits", "streams", self.streams, source).unwrap_or(128),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct TimeoutsFile {
    /// Default `"10s"`: two slow round trips with retransmission.
    handshake: Option<Spanned<DurationText>>,
    /// Default `"10s"`: a header section is a few packets; longer is an attack by slowness.
    header: Option<Spanned<DurationText>>,
    /// Default `"60s"`: browsers reuse within a minute, and an idle connection is cheap.
    keep_alive: Option<Spanned<DurationText>>,
    /// Default `"30s"`: mobile networks stall for seconds, not for half a minute.
    body: Option<Spanned<DurationText>>,
    /// Default `"29s"`: API Gateway's integration timeout.
    integration: Option<Spanned<DurationText>>,
    /// Default `"30s"`: what orchestrators grant between SIGTERM and SIGKILL.
    drain: Option<Spanned<DurationText>>,
}

impl TimeoutsFile {
    pub(super) fn compile(self, source: &mut Source) -> Timeouts {
        let mut positive = |key: &str, written: Option<Spanned<DurationText>>, default_s: u64| {
            positive("timeouts", key, written, source).unwrap_or(Duration::from_secs(default_s))
        };
        Timeouts {
            handshake: positive("handshake", self.handshake, 10),
            header: positive("header", self.header, 10),
            keep_alive: positive("keep-alive", self.keep_alive, 60),
            body: positive("body", self.body, 30),
            integration: positive("integration", self.integration, 29),
            // 0 means: end at once.
            drain: self
                .drain
                .map_or(Duration::from_secs(30), |drain| drain.into_inner().0),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct LogFile {
    /// Default `"info"`: what an operator acts on, and no line for each request (the access log has those).
    level: Option<String>,
    /// Default `"human"`: who starts a node by hand reads it by eye.
    format: Option<LogFormat>,
}

impl LogFile {
    pub(super) fn compile(self) -> Log {
        Log {
            level: self.level.unwrap_or_else(|| "info".to_owned()),
            format: self.format.unwrap_or_default(),
        }
    }
}

/// A span of time that has to be above 0.
pub(super) fn positive(
    owner: &str,
    key: &str,
    written: Option<Spanned<DurationText>>,
    source: &mut Source,
) -> Option<Duration> {
    let written = written?;
    if written.get_ref().0.is_zero() {
        source.problem(&written.span(), format!("{owner}: `{key}` is 0"));
        return None;
    }
    Some(written.into_inner().0)
}

/// A size that has to be at least so many bytes.
pub(super) fn at_least(
    owner: &str,
    key: &str,
    written: Option<Spanned<ByteSize>>,
    least: u64,
    source: &mut Source,
) -> Option<ByteSize> {
    let written = written?;
    if written.get_ref().0 < least {
        let message = format!("{owner}: `{key}` is below {least} bytes");
        source.problem(&written.span(), message);
    }
    Some(written.into_inner())
}

/// A count that has to be above 0.
pub(super) fn at_least_one<T: Copy + PartialEq + Default>(
    owner: &str,
    key: &str,
    written: Option<Spanned<T>>,
    source: &mut Source,
) -> Option<T> {
    let written = written?;
    if *written.get_ref() == T::default() {
        source.problem(&written.span(), format!("{owner}: `{key}` is 0"));
        return None;
    }
    Some(written.into_inner())
}

/// The least that carries an ordinary request.
const HEAD_LEAST: u64 = 1024;
