//! Why the gateway itself answers a request, and what it answers.
//!
//! One table gives each cause its status, its message and its gateway response type, as Amazon API Gateway has them
//! ("Gateway response types").

use std::time::Duration;

use http::StatusCode;
use tidegate_sandbox::Fault;

use crate::body::BodyError;
use crate::link::LinkError;
use crate::upstream::UpstreamError;

/// Why a request is answered by the gateway.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Neither host nor path names an API of this node.
    #[error("no API is served here")]
    UnknownApi,
    /// The API has no such stage.
    #[error("no such stage")]
    UnknownStage {
        /// REST APIs answer 403, HTTP APIs 404.
        rest: bool,
    },
    /// The API has no such route.
    #[error("no route matches")]
    UnknownRoute {
        /// REST APIs answer 403, HTTP APIs 404.
        rest: bool,
    },
    /// The request's target or its framing cannot be used.
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    /// An authorizer asks for credentials.
    #[error("unauthorized")]
    Unauthorized {
        /// `WWW-Authenticate`.
        challenge: Option<String>,
    },
    /// An authorizer refuses.
    #[error("forbidden: {}", reason.as_deref().unwrap_or("no reason given"))]
    Forbidden {
        /// For the log only.
        reason: Option<String>,
    },
    /// The API's resource policy refuses.
    #[error("the resource policy {} {resource}", if *explicit { "denies" } else { "does not allow" })]
    DeniedByPolicy {
        /// The ARN of what was asked for.
        resource: String,
        /// A statement denies it; else none allows it.
        explicit: bool,
    },
    /// A throttle refuses.
    #[error("too many requests")]
    Throttled {
        /// Until a retry can succeed.
        retry_after: Duration,
    },
    /// A throttle refuses: a quota is used up.
    #[error("limit exceeded")]
    QuotaExceeded {
        /// Until the quota begins anew.
        renews_in: Duration,
    },
    /// A validator refuses the parameters.
    #[error("invalid parameters: {0}")]
    InvalidParameters(String),
    /// A validator refuses the body.
    #[error("invalid body: {0}")]
    InvalidBody(String),
    /// A validator refuses the media type.
    #[error("unsupported media type")]
    UnsupportedMediaType,
    /// The request's body is over the limit.
    #[error("the body is larger than {bytes_max} bytes")]
    RequestTooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// The request's body did not come whole.
    #[error("the request's body failed: {0}")]
    RequestBody(#[source] BodyError),
    /// A plugin failed at an authorizer's place.
    #[error("the authorizer {binding} {fault}")]
    AuthorizerFault {
        /// Which.
        binding: String,
        /// How.
        fault: Fault,
    },
    /// A plugin failed at another place.
    #[error("the plugin {binding} {fault}")]
    PluginFault {
        /// Which.
        binding: String,
        /// How.
        fault: Fault,
    },
    /// The viewer wants what is stored, and nothing is.
    #[error("not stored, and the request says only-if-cached")]
    NotStored,
    /// The viewer may not have a stored response replaced.
    #[error("not authorized to invalidate the cache")]
    InvalidationForbidden,
    /// The route has nothing behind it.
    #[error("no integration defined for method")]
    NoIntegration,
    /// The integration's plan names what the binding may not reach, or nothing that exists.
    #[error("the integration cannot be reached: {0}")]
    Destination(String),
    /// The upstream gave no response.
    #[error("the integration failed: {0}")]
    Upstream(#[source] UpstreamError),
    /// The function gave no response.
    #[error("the function {function} {fault}")]
    Function {
        /// Which.
        function: String,
        /// How.
        fault: Fault,
    },
    /// The origin that an edge asked answered for itself.
    #[error("at the origin: {cause}")]
    AtOrigin {
        /// The origin's.
        status: StatusCode,
        /// What the caller is told.
        message: String,
        /// The gateway response type.
        response_type: &'static str,
        /// For the log.
        cause: String,
    },
    /// An edge got no answer of an origin.
    #[error("the origin gave no answer: {0}")]
    Link(#[source] LinkError),
    /// The response's body is larger than a plugin may have it, or broke off.
    #[error("the integration's response cannot be read: {0}")]
    ResponseBody(#[source] BodyError),
}

/// What follows from an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disposition {
    pub status: StatusCode,
    /// What the caller is told.
    pub message: String,
    /// The gateway response type, `$context.error.responseType`.
    pub response_type: &'static str,
    pub concern: Concern,
}

/// Whom an error concerns, and so how loud the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// The node's operator: something here or behind it is broken.
    Operator,
    /// Whoever sent it: no request that could be served. Operators want its cause at hand when they are asked.
    Sender,
    /// The caller alone: the gateway did what it is there for.
    Caller,
}

impl GatewayError {
    /// The consequences of this error.
    pub fn disposition(&self) -> Disposition {
        use Concern::{Caller, Operator, Sender};
        let (status, message, response_type, concern) = match self {
            Self::DeniedByPolicy { resource, explicit } => {
                let message = denied(resource, *explicit);
                return disposition(403, &message, "ACCESS_DENIED", Caller);
            }
            Self::UnknownApi => (404, "Not Found", "RESOURCE_NOT_FOUND", Caller),
            Self::UnknownStage { rest: true } => (403, "Forbidden", "ACCESS_DENIED", Caller),
            Self::UnknownStage { rest: false } => (404, "Not Found", "RESOURCE_NOT_FOUND", Caller),
            Self::UnknownRoute { rest: true } => (
                403,
                "Missing Authentication Token",
                "MISSING_AUTHENTICATION_TOKEN",
                Caller,
            ),
            Self::UnknownRoute { rest: false } => (404, "Not Found", "RESOURCE_NOT_FOUND", Caller),
            Self::BadRequest(_) => (400, "Bad Request", "DEFAULT_4XX", Sender),
            Self::Unauthorized { .. } => (401, "Unauthorized", "UNAUTHORIZED", Caller),
            Self::Forbidden { .. } => (403, "Forbidden", "ACCESS_DENIED", Caller),
            Self::Throttled { .. } => (429, "Too Many Requests", "THROTTLED", Caller),
            Self::QuotaExceeded { .. } => (429, "Limit Exceeded", "QUOTA_EXCEEDED", Caller),
            Self::InvalidParameters(message) => {
                (400, message.as_str(), "BAD_REQUEST_PARAMETERS", Caller)
            }
            Self::InvalidBody(message) => (400, message.as_str(), "BAD_REQUEST_BODY", Caller),
            Self::UnsupportedMediaType => (
                415,
                "Unsupported Media Type",
                "UNSUPPORTED_MEDIA_TYPE",
                Caller,
            ),
            Self::RequestTooLarge { .. } => (413, "Request Too Long", "REQUEST_TOO_LARGE", Sender),
            Self::RequestBody(BodyError::TooLarge { .. }) => {
                (413, "Request Too Long", "REQUEST_TOO_LARGE", Sender)
            }
            Self::RequestBody(BodyError::IdleTimeout { .. }) => {
                (408, "Request Timeout", "DEFAULT_4XX", Sender)
            }
            Self::RequestBody(_) => (400, "Bad Request", "DEFAULT_4XX", Sender),
            Self::AuthorizerFault { .. } => (500, INTERNAL, "AUTHORIZER_FAILURE", Operator),
            Self::PluginFault { .. } => (500, INTERNAL, "DEFAULT_5XX", Operator),
            Self::NotStored => (504, "Gateway Timeout", "DEFAULT_5XX", Caller),
            Self::InvalidationForbidden => (403, "Forbidden", "ACCESS_DENIED", Caller),
            Self::NoIntegration => (
                500,
                "No integration defined for method",
                "API_CONFIGURATION_ERROR",
                Operator,
            ),
            Self::Destination(_) => (500, INTERNAL, "API_CONFIGURATION_ERROR", Operator),
            Self::Upstream(error) => return upstream(error),
            Self::Function {
                fault: Fault::Deadline(_),
                ..
            } => (504, TIMEOUT, "INTEGRATION_TIMEOUT", Operator),
            Self::Function {
                fault: Fault::Busy, ..
            } => (503, UNAVAILABLE, "INTEGRATION_FAILURE", Operator),
            Self::Function { .. } => (502, INTERNAL, "INTEGRATION_FAILURE", Operator),
            Self::AtOrigin {
                status,
                message,
                response_type,
                ..
            } => {
                let concern = if status.is_server_error() {
                    Operator
                } else {
                    Sender
                };
                (status.as_u16(), message.as_str(), *response_type, concern)
            }
            Self::Link(LinkError::Timeout) => (504, TIMEOUT, "INTEGRATION_TIMEOUT", Operator),
            Self::Link(LinkError::Unreachable | LinkError::OtherSnapshot) => {
                (503, UNAVAILABLE, "INTEGRATION_FAILURE", Operator)
            }
            Self::Link(LinkError::Broken(_) | LinkError::Unintelligible(_)) => {
                (502, INTERNAL, "INTEGRATION_FAILURE", Operator)
            }
            Self::ResponseBody(_) => (502, INTERNAL, "INTEGRATION_FAILURE", Operator),
        };
        disposition(status, message, response_type, concern)
    }
}

/// A gateway response type by its name, as an origin tells it.
pub fn response_type(name: &str) -> &'static str {
    let known = RESPONSE_TYPES.iter().find(|known| **known == name);
    known.copied().unwrap_or("DEFAULT_5XX")
}

/// The service's words; of the account it tells the last digits only.
fn denied(resource: &str, explicit: bool) -> String {
    let mut parts: Vec<&str> = resource.splitn(6, ':').collect();
    let masked = parts.get(4).map(|account| {
        let shown = account.len().saturating_sub(4);
        format!("********{}", account.get(shown..).unwrap_or_default())
    });
    if let (Some(part), Some(masked)) = (parts.get_mut(4), &masked) {
        *part = masked;
    }
    let how = if explicit {
        " with an explicit deny"
    } else {
        ""
    };
    format!(
        "User: anonymous is not authorized to perform: execute-api:Invoke on resource: {}{how}",
        parts.join(":")
    )
}

fn upstream(error: &UpstreamError) -> Disposition {
    let status = error.disposition().status;
    let (message, response_type) = match status {
        413 => ("Request Too Long", "REQUEST_TOO_LARGE"),
        400 => ("Bad Request", "DEFAULT_4XX"),
        408 => ("Request Timeout", "DEFAULT_4XX"),
        503 => (UNAVAILABLE, "INTEGRATION_FAILURE"),
        504 => (TIMEOUT, "INTEGRATION_TIMEOUT"),
        _ => (INTERNAL, "INTEGRATION_FAILURE"),
    };
    let concern = if status >= 500 {
        Concern::Operator
    } else {
        Concern::Sender
    };
    disposition(status, message, response_type, concern)
}

fn disposition(
    status: u16,
    message: &str,
    response_type: &'static str,
    concern: Concern,
) -> Disposition {
    let status = StatusCode::from_u16(status).expect("from the tables above");
    Disposition {
        status,
        message: message.to_owned(),
        response_type,
        concern,
    }
}

/// Those of what goes on behind the cache.
const RESPONSE_TYPES: [&str; 7] = [
    "API_CONFIGURATION_ERROR",
    "DEFAULT_4XX",
    "DEFAULT_5XX",
    "INTEGRATION_FAILURE",
    "INTEGRATION_TIMEOUT",
    "REQUEST_TOO_LARGE",
    "ACCESS_DENIED",
];
const INTERNAL: &str = "Internal server error";
const TIMEOUT: &str = "Endpoint request timed out";
const UNAVAILABLE: &str = "Service Unavailable";
