//! From a request on the wire to one whose API, stage and route are known.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::HOST;
use http::{Method, Request, Version};
use hyper::body::Incoming;
use tidegate_model::deployment::{EndpointType, Flavor, Located, Params, Selection, Stage};

use super::GatewayError;
use super::exchange::{Account, Exchange, RequestId, Viewer, below, host_of};
use crate::body::Body;
use crate::listen::Connection;
use crate::worker::{Local, Worker};

/// Finds the API, the stage and the route, and bounds the body.
///
/// A request that no route matches arrives too: its stage's log sinks hear of it.
pub fn arrive(
    worker: &Worker,
    local: &Local,
    request: Request<Incoming>,
    connection: &Connection,
) -> Result<(Arc<Exchange>, Body), GatewayError> {
    let (mut head, incoming) = request.into_parts();
    // A tunnel is nobody's API (RFC 9110 section 9.3.6), and an asterisk names no resource.
    if head.method == Method::CONNECT || !head.uri.path().starts_with('/') {
        return Err(GatewayError::BadRequest("the target is not a path"));
    }
    // "MUST respond with a 400" to a request that lacks Host or has several (RFC 9112 section 3.2).
    if head.version == Version::HTTP_11 && head.headers.get_all(HOST).iter().count() != 1 {
        return Err(GatewayError::BadRequest("not one Host"));
    }
    follow_target(&mut head.headers, &head.uri);
    let (stage, path_offset) = match local
        .deployed
        .snapshot
        .locate(host_of(&head), head.uri.path())
    {
        Located::Stage { stage, path_offset } => (stage.clone(), path_offset),
        Located::UnknownStage(flavor) => {
            return Err(GatewayError::UnknownStage {
                rest: flavor == Flavor::Rest,
            });
        }
        Located::UnknownApi => return Err(GatewayError::UnknownApi),
    };
    if !is_served(&stage, connection) {
        return Err(GatewayError::Forbidden {
            reason: Some(format!("{} does not answer on this listener", stage.scope)),
        });
    }
    let (route, params) = match stage
        .routes
        .select(&head.method, below(head.uri.path(), path_offset))
    {
        Selection::Matched { entry, params } => (Some(entry), params),
        Selection::MethodNotAllowed | Selection::NotFound => (None, Params::default()),
    };
    let body = bounded(worker, incoming)?;
    let removed = remove_own_fields(&mut head.headers);
    if !removed.is_empty() {
        let (peer, stage) = (connection.peer, &stage.scope);
        local.tell_sparingly(|left_out| {
            tracing::warn!(%peer, stage, fields = removed.join(", "), left_out, "fields removed that only nodes may send");
        });
    }
    let exchange = Exchange {
        head,
        stage,
        route,
        params,
        path_offset,
        viewer: Viewer {
            peer: connection.peer,
            tls: connection.tls,
            port: connection.local.port(),
            private: connection.private.clone(),
        },
        id: RequestId::random(),
        began: Instant::now(),
        began_at: SystemTime::now(),
        account: Account::default(),
        new_path: None,
        new_query: None,
        body: None,
        for_edge: false,
        response: None,
        response_body: None,
    };
    Ok((Arc::new(exchange), body))
}

/// Whether an API answers where the request came in: PRIVATE ones on private listeners only, and these serve what they are
/// told to.
fn is_served(stage: &Stage, connection: &Connection) -> bool {
    match &connection.private {
        Some(private) => private.serves.contains(&stage.endpoint),
        None => stage.endpoint != EndpointType::Private,
    }
}

fn bounded(worker: &Worker, incoming: Incoming) -> Result<Body, GatewayError> {
    use http_body::Body as _;
    if incoming.is_end_stream() {
        return Ok(Body::Empty);
    }
    let bytes_max = worker.settings.body_bytes_max;
    if incoming.size_hint().lower() > bytes_max {
        return Err(GatewayError::RequestTooLarge { bytes_max });
    }
    Ok(Body::Incoming(incoming)
        .with_limit(bytes_max)
        .with_idle_timeout(worker.settings.body_timeout))
}

/// "a proxy MUST ignore the received Host header field (if any) and instead replace it with the host information of the
/// request-target" (RFC 9112 section 3.2.2); in HTTP/2 as well they may not differ (RFC 9113 section 8.3.1). Else a request
/// is routed by one name, and upstreams are told another.
fn follow_target(headers: &mut http::HeaderMap, target: &http::Uri) {
    let Some(authority) = target.authority() else {
        return;
    };
    if let Some(host) = headers.get_mut(HOST)
        && host.as_bytes() != authority.as_str().as_bytes()
        && let Ok(authority) = http::HeaderValue::from_str(authority.as_str())
    {
        *host = authority;
    }
}

/// What the gateway tells functions and other nodes in fields of its own, it takes from nobody else. Gives their names.
fn remove_own_fields(headers: &mut http::HeaderMap) -> Vec<String> {
    let ours = |name: &&http::HeaderName| name.as_str().starts_with("tidegate-");
    let names: Vec<String> = headers
        .keys()
        .filter(ours)
        .map(ToString::to_string)
        .collect();
    for name in &names {
        headers.remove(name);
    }
    names
}
