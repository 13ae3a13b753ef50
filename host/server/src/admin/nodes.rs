//! `/tidegate/v1/nodes`: the nodes that link to this one.
//!
//! - `GET /tidegate/v1/nodes` lists this node and those that have linked to it since it started.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use super::{Admin, message};
use crate::body::Body;
use crate::request::reply;

/// Answers a request.
pub async fn answer(admin: &Admin, request: Request<Incoming>) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/tidegate/v1/nodes") => reply::json(&list(admin)),
        _ => message(StatusCode::NOT_FOUND, "there is GET /tidegate/v1/nodes"),
    }
}

fn list(admin: &Admin) -> serde_json::Value {
    let snapshot = admin.serving.load().stable.published.clone();
    let nodes = admin.membership.as_ref().map(|it| it.nodes.list(&snapshot));
    let this = json!({
        "name": admin.name,
        "role": admin.role.as_str(),
        "region": admin.region,
        "version": env!("CARGO_PKG_VERSION"),
        "snapshot": *snapshot,
    });
    json!({ "this": this, "nodes": nodes.unwrap_or_default() })
}
