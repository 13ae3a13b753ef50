//! On an origin: a request that an edge has admitted goes on here, from its transforms to its integration.
//!
//! Response transforms, log sinks and metrics of the stage are the edge's, which knows the viewer. Where HTTP's rules say what
//! may be kept, the origin's cache stands in between as a shield: what several edges miss is asked for once.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::HOST;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use tidegate_model::deployment::{Route, Selection};

use super::cache;
use super::exchange::{Account, Exchange, RequestId, Viewer, below};
use super::{Answer, GatewayError, answer, reply};
use crate::body::Body;
use crate::link::told::{By, Outcome, Told, version_of};
use crate::worker::{Local, Worker};

/// Answers a request of an edge.
pub async fn handle(worker: &Rc<Worker>, request: Request<Body>) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    let told = match Told::take(&mut head.headers) {
        Ok(told) => told,
        Err(problem) => return refuse(StatusCode::BAD_REQUEST, By::Gateway, &problem),
    };
    let Some(local) = worker.published(&told.snapshot) else {
        let problem = format!("snapshot {} is not served here", told.snapshot);
        return refuse(StatusCode::MISDIRECTED_REQUEST, By::OtherSnapshot, &problem);
    };
    let mut body = match told.has_body {
        true => body
            .with_limit(worker.settings.body_bytes_max)
            .with_idle_timeout(worker.settings.body_timeout),
        false => Body::Empty, // the stream's end may not have come yet
    };
    let mut exchange = match arrived(&local, head, told) {
        Ok(exchange) => Arc::new(exchange),
        Err(problem) => return refuse(StatusCode::BAD_REQUEST, By::Gateway, &problem),
    };
    let stage = exchange.stage.clone();
    let route = exchange.route.map(|place| &stage.entries[place]);
    let route = route.expect("it was just found");
    let changes = stage.caches_by_http && !exchange.head.method.is_safe();
    let host = exchange.host().filter(|_| changes).map(str::to_owned);
    let answered = shielded(worker, &local, route, &mut exchange, &mut body).await;
    if let (true, Ok(Answer::Integration(response))) = (changes, &answered) {
        let (status, headers) = (response.status(), response.headers());
        cache::invalidate(worker, &exchange, host.as_deref(), status, headers).await;
    }
    let account = &exchange.account;
    let (status, latency) = (account.integration_status, account.integration_latency);
    match answered {
        Ok(Answer::Integration(response)) => {
            with(response, &Outcome::of(By::Integration, status, latency))
        }
        Ok(Answer::Transform(response)) => with(response, &Outcome::of(By::Transform, None, None)),
        Err(error) => failed(&exchange, &error, Outcome::of(By::Gateway, status, latency)),
    }
}

/// What the integration answers, or has answered another edge.
async fn shielded(
    worker: &Rc<Worker>,
    local: &Rc<Local>,
    route: &Route,
    exchange: &mut Arc<Exchange>,
    body: &mut Body,
) -> Result<Answer, GatewayError> {
    // What a transform makes up itself is kept nowhere, so it has to stay known as such.
    let shield = route
        .cache
        .as_ref()
        .filter(|_| route.caches_by_http() && local.transforms_by_rules(route));
    let Some(policy) = shield else {
        return answer(worker, local, route, exchange, body).await;
    };
    let response = cache::respond(worker, local, route, policy, exchange, body).await?;
    Ok(Answer::Integration(response))
}

/// The request as it was at the edge, after gatekeeping.
fn arrived(
    local: &Local,
    mut head: http::request::Parts,
    told: Told<'static>,
) -> Result<Exchange, String> {
    let path = head.uri.path_and_query().cloned();
    head.uri = path.map(Uri::from).ok_or("the target is not a path")?;
    head.version = version_of(told.version);
    if let Some(host) = &told.host {
        let host = HeaderValue::from_str(host).map_err(|_| "the host is none")?;
        head.headers.insert(HOST, host);
    }
    let mut stages = local.deployed.snapshot.stages.iter();
    let stage = stages
        .find(|stage| stage.scope == told.stage)
        .ok_or_else(|| format!("no stage {:?}", told.stage))?
        .clone();
    if head.uri.path().get(told.offset..).is_none() {
        return Err(format!("offset {} is not in the path", told.offset));
    }
    let matched = below(head.uri.path(), told.offset);
    let (route, params) = match stage.routes.select(&head.method, matched) {
        Selection::Matched { entry, params } if stage.entries[entry].key == told.route => {
            (entry, params)
        }
        _ => return Err(format!("route {:?} does not match", told.route)),
    };
    let began_at = SystemTime::UNIX_EPOCH + Duration::from_millis(told.began_ms);
    Ok(Exchange {
        head,
        stage,
        route: Some(route),
        params,
        path_offset: told.offset,
        viewer: Viewer {
            peer: told.viewer,
            tls: told.tls,
            port: told.port,
            private: None, // the edge has judged where it came in
        },
        id: RequestId::parse(&told.id).ok_or("the request's id is none")?,
        began: Instant::now(),
        began_at,
        account: Account {
            principal: told.principal.map(Into::into),
            ..Account::default()
        },
        new_path: None,
        new_query: None,
        body: None,
        for_edge: true,
        response: None,
        response_body: None,
    })
}

fn failed(exchange: &Exchange, error: &GatewayError, outcome: Outcome) -> Response<Body> {
    let disposition = error.disposition();
    let cause = super::record::chain(error);
    let (request_id, stage) = (exchange.id.as_str(), &exchange.stage.scope);
    let status = disposition.status.as_u16();
    tracing::debug!(request_id, stage, status, cause, "forwarded request failed");
    let outcome = Outcome {
        error_type: Some(disposition.response_type.to_owned()),
        message: Some(disposition.message),
        cause: Some(bounded(cause)),
        ..outcome
    };
    with(reply::from_error(error), &outcome)
}

fn refuse(status: StatusCode, by: By, problem: &str) -> Response<Body> {
    tracing::warn!(problem, "forwarded request refused");
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    let outcome = Outcome {
        cause: Some(bounded(problem.to_owned())),
        message: Some("Internal server error".to_owned()),
        ..Outcome::of(by, None, None)
    };
    with(response, &outcome)
}

fn with(mut response: Response<Body>, outcome: &Outcome) -> Response<Body> {
    outcome.put(response.headers_mut());
    response
}

/// It travels in a field.
fn bounded(mut cause: String) -> String {
    if cause.len() > CAUSE_BYTES_MAX {
        let end = (0..=CAUSE_BYTES_MAX)
            .rev()
            .find(|&at| cause.is_char_boundary(at));
        cause.truncate(end.unwrap_or(0));
    }
    cause
}

const CAUSE_BYTES_MAX: usize = 2048;
