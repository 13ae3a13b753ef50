//! Responses that the gateway makes itself.

use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response};

use super::GatewayError;
use crate::body::Body;

/// The one place where an error becomes a response: the status, `{"message": …}`, and what the status asks for.
pub fn from_error(error: &GatewayError) -> Response<Body> {
    let disposition = error.disposition();
    let denied = matches!(error, GatewayError::DeniedByPolicy { .. });
    // The service's own: what judges policies writes it otherwise than what stands before it.
    let key = if denied { "Message" } else { "message" };
    let mut response = json(&serde_json::json!({ key: disposition.message }));
    *response.status_mut() = disposition.status;
    let headers = response.headers_mut();
    let exception = match denied {
        true => "AccessDeniedException",
        false => exception(disposition.response_type),
    };
    headers.insert(ERROR_TYPE, HeaderValue::from_static(exception));
    match error {
        GatewayError::Unauthorized {
            challenge: Some(challenge),
        } => {
            if let Ok(challenge) = HeaderValue::from_str(challenge) {
                headers.insert(WWW_AUTHENTICATE, challenge);
            }
        }
        GatewayError::Throttled { retry_after: after }
        | GatewayError::QuotaExceeded { renews_in: after } => {
            let seconds = after.as_millis().div_ceil(1000).max(1); // whole seconds (RFC 9110 section 10.2.3)
            headers.insert(
                RETRY_AFTER,
                HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)),
            );
        }
        _ => {}
    }
    response
}

/// A response with a JSON body.
pub fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::Full(value.to_string().into()));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The exception name that API Gateway's REST APIs answer with, in `x-amzn-ErrorType`.
fn exception(response_type: &str) -> &'static str {
    match response_type {
        "ACCESS_DENIED" => "ForbiddenException",
        "AUTHORIZER_FAILURE" => "AuthorizerConfigurationException",
        "BAD_REQUEST_BODY" | "BAD_REQUEST_PARAMETERS" | "DEFAULT_4XX" => "BadRequestException",
        "INTEGRATION_TIMEOUT" => "InternalServerErrorException",
        "MISSING_AUTHENTICATION_TOKEN" => "MissingAuthenticationTokenException",
        "QUOTA_EXCEEDED" => "LimitExceededException",
        "REQUEST_TOO_LARGE" => "RequestTooLargeException",
        "RESOURCE_NOT_FOUND" => "NotFoundException",
        "THROTTLED" => "TooManyRequestsException",
        "UNAUTHORIZED" => "UnauthorizedException",
        "UNSUPPORTED_MEDIA_TYPE" => "UnsupportedMediaTypeException",
        _ => "InternalServerErrorException",
    }
}

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_throttled_caller_is_told_whole_seconds() {
        for (milliseconds, expected) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2")] {
            let response = from_error(&GatewayError::Throttled {
                retry_after: Duration::from_millis(milliseconds),
            });
            assert_eq!(response.status(), 429);
            assert_eq!(response.headers()[RETRY_AFTER], expected);
        }
    }

    #[test]
    fn a_challenge_reaches_the_caller_and_a_reason_does_not() {
        let challenge = Some("Bearer error=\"invalid_token\"".to_owned());
        let response = from_error(&GatewayError::Unauthorized { challenge });
        assert_eq!(
            response.headers()[WWW_AUTHENTICATE],
            "Bearer error=\"invalid_token\""
        );

        let response = from_error(&GatewayError::Forbidden {
            reason: Some("key expired".to_owned()),
        });
        assert!(
            matches!(response.body(), Body::Full(body) if &body[..] == b"{\"message\":\"Forbidden\"}")
        );
    }
}
