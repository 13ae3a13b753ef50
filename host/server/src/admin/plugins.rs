//! `/tidegate/v1/plugins`: which versions there are, and putting others in force.
//!
//! - `GET /tidegate/v1/plugins` lists them.
//! - `PUT /tidegate/v1/plugins/NAME` with a component (`application/wasm`) swaps it in; `?canary=10%25` or
//!   `?canary=x-canary:%20yes` for some of the requests, `&for=60s` to promote it after that time by itself, and
//!   `&min-requests=`, `&max-faults=`, `&max-failures=`, `&max-latency=` for what it is rolled back for. Its signature comes
//!   in the field `Tidegate-Signature`.
//!   A name that the node does not know is refused unless `?new=true` says that it is meant.
//! - `PUT /tidegate/v1/plugins/NAME/promote` and `…/rollback`.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use tidegate_model::canary::{Bounds, Split};
use tidegate_model::config::DurationText;
use tidegate_model::uri;

use super::message;
use crate::body::{Body, BodyError};
use crate::control::{Command, Commands, RollBack, Swap};
use crate::deploy::COMPONENT_BYTES_MAX;
use crate::request::reply;
use crate::serving::Terms;
use crate::signature;

/// Answers a request; `rest` is its path below `/tidegate/v1/plugins/`.
pub async fn answer(commands: &Commands, rest: &str, request: Request<Incoming>) -> Response<Body> {
    match (request.method().clone(), rest.split_once('/'), rest) {
        (Method::GET, None, "") => done(commands.send(Command::Report).await),
        (Method::PUT, None, name) if !name.is_empty() => swap(commands, name, request).await,
        (Method::PUT, Some((name, "promote")), _) => {
            let name = name.to_owned();
            done(commands.send(|reply| Command::Promote(name, reply)).await)
        }
        (Method::PUT, Some((name, "rollback")), _) => {
            let name = name.to_owned();
            let query = request.uri().query().unwrap_or_default();
            let what = match uri::query_parameter(query, "canary").as_deref() {
                None => RollBack::Either,
                Some("only") => RollBack::Canary,
                Some(_) => return message(StatusCode::BAD_REQUEST, "`canary` can only be `only`"),
            };
            done(
                commands
                    .send(|reply| Command::RollBack(name, what, reply))
                    .await,
            )
        }
        _ => message(
            StatusCode::NOT_FOUND,
            "there is GET /tidegate/v1/plugins, and PUT /tidegate/v1/plugins/NAME[/promote|/rollback]",
        ),
    }
}

async fn swap(commands: &Commands, name: &str, request: Request<Incoming>) -> Response<Body> {
    let Some(_receiving) = commands.receive() else {
        return message(
            StatusCode::SERVICE_UNAVAILABLE,
            "other components are being swapped in: try again",
        );
    };
    match read(name, request).await {
        Ok(swap) => done(
            commands
                .send(|reply| Command::Swap(Box::new(swap), reply))
                .await,
        ),
        Err(refusal) => refusal,
    }
}

/// Takes a component, and which requests it is for.
async fn read(name: &str, request: Request<Incoming>) -> Result<Swap, Response<Body>> {
    let bad = |text: &str| message(StatusCode::BAD_REQUEST, text);
    let content_type = request.headers().get(CONTENT_TYPE);
    if content_type.is_none_or(|kind| kind != "application/wasm") {
        return Err(message(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a component has Content-Type: application/wasm",
        ));
    }
    let signature = request.headers().get(signature::HEADER);
    let signature = signature
        .map(|line| line.to_str().map(str::to_owned))
        .transpose()
        .map_err(|_| bad("the signature is no text"))?;
    let query = request.uri().query().unwrap_or_default().to_owned();
    let parameter = |name: &str| uri::query_parameter(&query, name);
    let split = parameter("canary")
        .map(|text| Split::parse(&text))
        .transpose()
        .map_err(|error| bad(&error.to_string()))?;
    let promote_after: Option<Duration> = parameter("for")
        .map(|text| DurationText::parse(&text).map(|span| span.0))
        .transpose()
        .map_err(|problem| bad(&problem.to_string()))?;
    let bounds = Bounds::read(parameter).map_err(|problem| bad(&problem.to_string()))?;
    let of_canaries = promote_after.is_some() || bounds != Bounds::default();
    if of_canaries && split.is_none() {
        return Err(bad(
            "`for` and the bounds are how a canary ends: say which requests it gets, `canary`",
        ));
    }
    let terms = Terms {
        promote_after,
        bounds,
    };
    let collected = Body::Incoming(request.into_body())
        .with_idle_timeout(BODY_IDLE)
        .collect(COMPONENT_BYTES_MAX)
        .await;
    let component = collected.map_err(|error| match error {
        BodyError::TooLarge { .. } => message(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string()),
        _ => bad(&error.to_string()),
    })?;
    Ok(Swap {
        plugin: name.to_owned(),
        new: parameter("new").is_some_and(|value| value == "true"),
        component,
        signature,
        canary: split.map(|split| (split, terms)),
    })
}

fn done<T: Serialize>(outcome: anyhow::Result<T>) -> Response<Body> {
    match outcome.map(|report| serde_json::to_value(report)) {
        Ok(Ok(report)) => reply::json(&report),
        Ok(Err(error)) => message(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        Err(error) => message(StatusCode::BAD_REQUEST, &format!("{error:#}")),
    }
}

/// Until the next piece of a component.
const BODY_IDLE: Duration = Duration::from_secs(30);
