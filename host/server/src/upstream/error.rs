//! What can go wrong with an upstream, by the names of RFC 9209, and what follows from each.

use crate::body::Fault;

/// Why an upstream gave no response. `target` is the authority that was tried.
///
/// Source: RFC 9209 §2.3.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The health checks of all its targets fail.
    #[error("no healthy target of {upstream}")]
    DestinationUnavailable { upstream: String },
    /// All connections that it may have are in use, and none became free in time.
    #[error("connections to {target} are used up")]
    ConnectionLimitReached { target: String },
    #[error("cannot resolve {host}")]
    DnsError {
        host: String,
        #[source]
        source: std::io::Error,
    },
    #[error("resolving {host} took too long")]
    DnsTimeout { host: String },
    #[error("{target} refuses connections")]
    ConnectionRefused { target: String },
    #[error("connecting to {target} took too long")]
    ConnectionTimeout { target: String },
    #[error("no route to {target}")]
    DestinationIpUnroutable { target: String },
    #[error("TLS with {target} failed")]
    TlsProtocolError {
        target: String,
        #[source]
        source: std::io::Error,
    },
    #[error("certificate of {target} is not accepted")]
    TlsCertificateError {
        target: String,
        #[source]
        source: std::io::Error,
    },
    /// The connection ended before a response came.
    #[error("{target} closed the connection")]
    ConnectionTerminated {
        target: String,
        #[source]
        source: Option<hyper::Error>,
    },
    /// The response's header section did not come in time.
    #[error("{target} did not answer in time")]
    HttpResponseTimeout { target: String },
    #[error("response header of {target} is too large")]
    HttpResponseHeaderSectionSize { target: String },
    #[error("{target} does not speak HTTP as expected")]
    HttpProtocolError {
        target: String,
        #[source]
        source: Option<hyper::Error>,
    },
    /// The request could not be sent to its end, since its body failed.
    #[error("request body: {fault}")]
    HttpRequestError { fault: Fault },
}

/// What follows from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disposition {
    /// The status code for the viewer.
    pub status: u16,
    /// The proxy error type of RFC 9209 §2.3, for `Proxy-Status`, logs and metrics.
    pub error_type: &'static str,
    /// Whether the target is to blame: it counts against it for ejection.
    pub blames_target: bool,
    /// Whether another attempt could end otherwise.
    pub retryable: bool,
}

impl UpstreamError {
    /// The consequences of this error.
    pub fn disposition(&self) -> Disposition {
        let (status, error_type, blames_target, retryable) = match self {
            Self::DestinationUnavailable { .. } => (503, "destination_unavailable", false, false),
            Self::ConnectionLimitReached { .. } => (503, "connection_limit_reached", false, true),
            Self::DnsError { .. } => (502, "dns_error", true, true),
            Self::DnsTimeout { .. } => (504, "dns_timeout", true, true),
            Self::ConnectionRefused { .. } => (502, "connection_refused", true, true),
            Self::ConnectionTimeout { .. } => (504, "connection_timeout", true, true),
            Self::DestinationIpUnroutable { .. } => (502, "destination_ip_unroutable", true, true),
            Self::TlsProtocolError { .. } => (502, "tls_protocol_error", true, true),
            Self::TlsCertificateError { .. } => (502, "tls_certificate_error", true, true),
            Self::ConnectionTerminated { .. } => (502, "connection_terminated", true, true),
            // The time that there was is used up.
            Self::HttpResponseTimeout { .. } => (504, "http_response_timeout", true, false),
            Self::HttpResponseHeaderSectionSize { .. } => {
                (502, "http_response_header_section_size", false, false)
            }
            Self::HttpProtocolError { .. } => (502, "http_protocol_error", true, false),
            Self::HttpRequestError { fault } => match fault {
                Fault::TooLarge => (413, "http_request_error", false, false),
                Fault::IdleTimeout => (408, "http_request_error", false, false),
                Fault::Terminated | Fault::Malformed => (400, "http_request_error", false, false),
                // The body was made here.
                Fault::Source => (500, "proxy_internal_error", false, false),
            },
        };
        Disposition {
            status,
            error_type,
            blames_target,
            retryable,
        }
    }
}
