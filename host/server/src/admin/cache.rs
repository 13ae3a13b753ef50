//! `/tidegate/v1/cache`: what the cache holds, and what of it is to go.
//!
//! - `GET /tidegate/v1/cache` gives its figures.
//! - `PUT /tidegate/v1/cache/purge` with one of `?url=`, `?prefix=`, `?tag=`, `?stage=` or `?all=true` removes what that
//!   names, or with `&soft=true` marks it stale.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use super::message;
use crate::body::Body;
use crate::cache::disk::Disk;
use crate::cache::purge::Purge;
use crate::cache::{Cache, Outcome};
use crate::request::reply;
use crate::sync::purges::Purges;

/// Answers a request.
///
/// `purges` is where an origin writes down what other nodes are to purge as well.
pub async fn answer(
    cache: &Arc<Cache>,
    purges: Option<&Arc<Purges>>,
    request: &Request<Incoming>,
) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/tidegate/v1/cache") => reply::json(&figures(cache)),
        (&Method::PUT, "/tidegate/v1/cache/purge") => {
            let query = request.uri().query().unwrap_or_default();
            match Purge::from_query(query) {
                Ok(purge) => carry_out(cache.clone(), purge, query, purges).await,
                Err(problem) => message(StatusCode::BAD_REQUEST, &problem),
            }
        }
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
    let disk = cache.store.disk().map(Disk::figures);
    json!({
        "entries": entries, "bytes": bytes, "evictions": evictions, "requests": requests, "disk": disk,
    })
}

async fn carry_out(
    cache: Arc<Cache>,
    purge: Purge,
    query: &str,
    purges: Option<&Arc<Purges>>,
) -> Response<Body> {
    let soft = purge.soft;
    let what = format!("{purge:?}");
    let (purges, query, purged) = (purges.cloned(), query.to_owned(), cache.clone());
    let purging = tokio::task::spawn_blocking(move || {
        // Here first: a node that hears of it may ask this one at once.
        let count = purged.store.purge(&purge);
        if let Some(purges) = purges {
            purges.record(&query)?;
        }
        std::io::Result::Ok(count)
    });
    let count = match purging.await.map_err(std::io::Error::other).flatten() {
        Ok(count) => count,
        Err(error) => return message(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    // What is acknowledged holds, whatever becomes of the process.
    if !cache.store.settle(SETTLE_WAIT).await {
        tracing::error!(purge = what, count, "purged, but not noted on disk");
        return message(
            StatusCode::SERVICE_UNAVAILABLE,
            "it is purged, but the disk does not take a note of it: after a restart it might be back",
        );
    }
    tracing::info!(purge = what, count, "purged");
    reply::json(&json!({ "purged": count, "soft": soft }))
}

/// A disk that is busy with other things takes its time to make sure of a note.
const SETTLE_WAIT: Duration = Duration::from_secs(10);
