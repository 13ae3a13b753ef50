//! The link: what edges and origins say to each other, over HTTP/3 on QUIC with mutual TLS, or HTTP/2 on TCP where UDP does
//! not pass.
//!
//! An edge [`dial`]s its origins, one connection for each thread and origin. An origin [`accept`]s on every worker. What
//! passes is HTTP: requests of viewers that the edge has admitted and that its cache does not answer ([`told`] travels with
//! them), and a few of the nodes' own under `/tidegate/link/v1/`.

pub mod accept;
pub mod dial;
mod h3;
pub mod host;
pub mod origins;
pub mod quic;
pub mod told;

use http::Uri;

/// Why a request over the link has no response.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("no origin can be reached")]
    Unreachable,
    #[error("the origin did not answer in time")]
    Timeout,
    #[error("the link broke: {0}")]
    Broken(String),
    #[error("the origin's answer cannot be understood: {0}")]
    Unintelligible(String),
    #[error("no origin serves by this edge's snapshot")]
    OtherSnapshot,
}

/// A resource of the link's own.
///
/// # Errors
/// Where the path and the query are none: what another node said can stand in them.
pub fn uri(path: &str) -> Result<Uri, http::Error> {
    Uri::builder()
        .scheme("https")
        .authority(crate::identity::ORIGIN_NAME)
        .path_and_query(path)
        .build()
}

pub const ALPN_H3: &[u8] = b"h3";
pub const ALPN_H2: &[u8] = b"h2";
/// Answers 204: to measure a round trip.
pub const PING: &str = "/tidegate/link/v1/ping";
/// What happens at an origin, line by line: see [`crate::sync::follow::Event`].
pub const EVENTS: &str = "/tidegate/link/v1/events";
/// Takes a [`crate::sync::nodes::Report`].
pub const REPORT: &str = "/tidegate/link/v1/report";
/// Takes a certificate signing request.
pub const RENEW: &str = "/tidegate/link/v1/renew";
/// Before a hash: a file of the snapshot.
pub const FILES: &str = "/tidegate/link/v1/files/";
/// Before what machine code is for, and a component's hash: its machine code.
pub const ARTIFACTS: &str = "/tidegate/link/v1/artifacts/";
/// A viewer's header section, and what the edge tells beside it.
pub const HEADER_BYTES_MAX: u64 = 192 << 10;
