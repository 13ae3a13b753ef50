//! `/tidegate/v1/cache`: what the cache holds, and what of it is to go.
//!
//! - `GET /tidegate/v1/cache` gives its figures.
//! - `PUT /tidegate/v1/cache/purge` with one of `?url=`, `?prefix=`, `?tag=`, `?stage=` or `?all=true` removes what that
//!   names, or with `&soft=true` marks it stale.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tidegate_model::uri;

use super::message;
use crate::body::Body;
use crate::cache::purge::Purge;
use crate::cache::{Cache, Outcome};
use crate::request::reply;

/// Answers a request.
pub async fn answer(cache: &Arc<Cache>, request: &Request<Incoming>) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/tidegate/v1/cache") => reply::json(&figures(cache)),
        (&Method::PUT, "/tidegate/v1/cache/purge") => match read(request) {
            Ok(purge) => carry_out(cache.clone(), purge).await,
            Err(problem) => message(StatusCode::BAD_REQUEST, &problem),
        },
        _ => message(
            StatusCode::NOT_FOUND,
            "there is GET /tidegate/v1/cache, and PUT /tidegate/v1/cache/purge?url=…|prefix=…|tag=…|stage=…|all=true",
        ),
    }
}

fn figures(cache: &Cache) -> serde_json::Value {
    let (entries, bytes, evictions) = cache.store.size();
    let requests: serde_json::Map<_, _> = Outcome::ALL
        .into_iter()
        .map(|outcome| (outcome.name().to_owned(), cache.counted(outcome).into()))
        .collect();
    json!({ "entries": entries, "bytes": bytes, "evictions": evictions, "requests": requests })
}

/// What a request wants purged; exactly one thing.
fn read(request: &Request<Incoming>) -> Result<Purge, String> {
    let query = request.uri().query().unwrap_or_default();
    let parameter = |name| uri::query_parameter(query, name);
    let is_true = |name| parameter(name).is_some_and(|value| value == "true");
    let mut named = Vec::new();
    if let Some(url) = parameter("url") {
        named.push(Purge::url(&url)?);
    }
    if let Some(prefix) = parameter("prefix") {
        named.push(Purge::prefix(&prefix)?);
    }
    named.extend(parameter("tag").map(|tag| Purge::tag(&tag)));
    named.extend(parameter("stage").map(|stage| Purge::stage(&stage)));
    if is_true("all") {
        named.push(Purge::all());
    }
    match <[Purge; 1]>::try_from(named) {
        Ok([mut purge]) => {
            purge.soft = is_true("soft");
            Ok(purge)
        }
        Err(_) => Err("name one of url, prefix, tag, stage, or all=true".to_owned()),
    }
}

async fn carry_out(cache: Arc<Cache>, purge: Purge) -> Response<Body> {
    let soft = purge.soft;
    let what = format!("{purge:?}");
    match tokio::task::spawn_blocking(move || cache.store.purge(&purge)).await {
        Ok(count) => {
            tracing::info!(purge = what, count, "purged");
            reply::json(&json!({ "purged": count, "soft": soft }))
        }
        Err(error) => message(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
