//! On an edge: what is behind the cache is asked of an origin.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, EXPECT, HOST, TE};
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use tidegate_model::deployment::Route;
use tidegate_model::headers::remove_hop_by_hop;
use tokio::time::Instant;

use super::error::response_type;
use super::integrate::{sent_body, wants_trailers};
use super::{Answer, Exchange, GatewayError, own};
use crate::body::Body;
use crate::identity::ORIGIN_NAME;
use crate::link::LinkError;
use crate::link::dial::Dialer;
use crate::link::told::{By, Outcome, Told, Who, milliseconds_of, number_of};
use crate::worker::Local;

/// Asks the nearest origin that is well for what the integration answers.
///
/// # Errors
/// What the origin says went wrong there, or why it could not be asked.
///
/// # Cancel safety
/// Dropped, it gives the request up, at the origin too where that has not answered.
pub async fn ask(
    dialer: &Dialer,
    local: &Local,
    route: &Route,
    exchange: &mut Arc<Exchange>,
    body: Body,
) -> Result<Answer, GatewayError> {
    let request = forwarded(local, route, own(exchange), body)?;
    // The origin keeps to the route's timeout, and says so; beyond it something is wrong with the way there.
    let deadline = Instant::now() + route.timeout + ON_THE_WAY;
    let manifest = local.deployed.manifest.as_ref();
    let sequence = manifest.map_or(0, |manifest| manifest.sequence);
    let mut response = dialer
        .send(request, sequence, deadline)
        .await
        .map_err(GatewayError::Link)?;
    *response.version_mut() = Version::HTTP_11; // the link's is nobody's business
    remove_hop_by_hop(response.headers_mut());
    let outcome = Outcome::take(response.headers_mut())
        .map_err(|problem| GatewayError::Link(LinkError::Unintelligible(problem)))?;
    let account = &mut own(exchange).account;
    account.integration_status = outcome.status.and_then(|it| StatusCode::from_u16(it).ok());
    account.integration_latency = outcome.latency_ms.map(Duration::from_millis);
    account.integration_error.clone_from(&outcome.cause);
    answered(outcome, response)
}

fn answered(outcome: Outcome, response: Response<Body>) -> Result<Answer, GatewayError> {
    match outcome.by {
        By::Integration => Ok(Answer::Integration(response)),
        By::Transform => Ok(Answer::Transform(response)),
        By::Gateway => Err(GatewayError::AtOrigin {
            status: response.status(),
            message: outcome.message.unwrap_or_default(),
            response_type: response_type(&outcome.error_type.unwrap_or_default()),
            cause: outcome.cause.unwrap_or_default(),
        }),
        By::OtherSnapshot => Err(GatewayError::Link(LinkError::OtherSnapshot)),
    }
}

fn forwarded(
    local: &Local,
    route: &Route,
    exchange: &mut Exchange,
    body: Body,
) -> Result<Request<Body>, GatewayError> {
    let mut request = Request::new(sent_body(exchange, body));
    *request.method_mut() = exchange.head.method.clone();
    *request.uri_mut() = at_origin(exchange.head.uri.path_and_query())?;
    let host = exchange.host().map(str::to_owned);
    let mut headers = local.request_headers(exchange);
    let trailers = headers.get(TE).is_some_and(wants_trailers);
    remove_hop_by_hop(&mut headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    headers.remove(HOST); // told beside
    headers.remove(EXPECT); // answered here
    if exchange.body.is_some() {
        headers.remove(CONTENT_LENGTH);
    }
    let told = Told {
        snapshot: Cow::Borrowed(&local.deployed.published),
        stage: Cow::Borrowed(&exchange.stage.scope),
        route: Cow::Borrowed(&route.key),
        offset: exchange.path_offset,
        id: Cow::Borrowed(exchange.id.as_str()),
        viewer: exchange.viewer.peer,
        tls: exchange.viewer.tls,
        port: exchange.viewer.port,
        host: host.map(Cow::Owned),
        version: number_of(exchange.head.version),
        began_ms: milliseconds_of(exchange.began_at),
        has_body: !request.body().is_end_stream(),
        principal: exchange.account.principal.as_ref().map(Who::of),
    };
    told.put(&mut headers);
    *request.headers_mut() = headers;
    Ok(request)
}

/// The same path and query, at the origin.
fn at_origin(path: Option<&PathAndQuery>) -> Result<Uri, GatewayError> {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(Authority::from_static(ORIGIN_NAME));
    parts.path_and_query = path.cloned();
    Uri::from_parts(parts).map_err(|_| GatewayError::BadRequest("the target is not a path"))
}

/// Two round trips around the world, and a failover.
const ON_THE_WAY: Duration = Duration::from_secs(3);
