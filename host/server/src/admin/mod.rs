//! The admin address: health, metrics, what the node serves, and the plugin versions that it is handed.
//!
//! It faces this machine, where browsers run pages of strangers. So what changes anything takes a method that no page can
//! send without asking first (PUT), and a `Host` that is this machine's own, so that no name of a stranger's leads here. The
//! latter goes for what plugins log as well.

mod cache;
mod logs;
mod nodes;
mod plugins;
mod recordings;
mod tokens;
mod usage;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tidegate_model::config::Role;

pub use tokens::Tokens;

use crate::body::Body;
use crate::cache::Cache;
use crate::control::Commands;
use crate::drain;
use crate::listen::{Connection, Service};
use crate::membership::Membership;
use crate::request::reply;
use crate::serving::Serving;
use crate::telemetry::metrics::Metrics;

pub use logs::Logs;

/// Answers on the admin address.
pub struct Admin {
    pub name: String,
    pub region: String,
    pub metrics: Arc<Metrics>,
    pub serving: Arc<ArcSwap<Serving>>,
    pub cache: Arc<Cache>,
    pub role: Role,
    /// Threads that serve.
    pub workers: usize,
    /// A follower has served a snapshot.
    pub has_served: Cell<bool>,
    /// What the node has in common with others.
    pub membership: Option<Arc<Membership>>,
    pub logs: Logs,
    pub commands: Arc<Commands>,
    /// None where this node takes no others, or does not sign for them.
    pub tokens: Option<Tokens>,
    pub drain: drain::Signal,
    /// When the process did.
    pub began: Instant,
}

impl Service for Admin {
    async fn call(self: Rc<Self>, request: Request<Incoming>, _: Rc<Connection>) -> Response<Body> {
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        // What plugins say and are asked may name people and secrets: it is for no stranger's page either.
        let guarded = !read || [LOGS, RECORDINGS].contains(&request.uri().path());
        if guarded && !is_local(&request) {
            return message(
                StatusCode::FORBIDDEN,
                "changes are taken, and logs and requests given, where Host is an address or localhost",
            );
        }
        match (read, request.uri().path()) {
            (true, "/healthz") => message(StatusCode::OK, "alive"),
            (true, "/readyz") => self.ready(),
            (true, "/metrics") => self.metrics(),
            (true, LOGS) => self.logs.answer(&request),
            (true, RECORDINGS) => recordings::answer(&self.serving.load(), &request),
            (true, "/tidegate/v1/usage") => reply::json(&self.usage()),
            (true, "/tidegate/v1/node") => reply::json(&self.node()),
            (_, "/tidegate/v1/cache" | "/tidegate/v1/cache/purge") => {
                let purges = self.membership.as_ref().map(|it| &it.purges);
                cache::answer(&self.cache, purges, &request).await
            }
            (_, "/tidegate/v1/nodes/tokens") => {
                tokens::answer(self.tokens.as_ref(), &request).await
            }
            (true, "/tidegate/v1/nodes") => reply::json(&nodes::list(&self)),
            (_, path) => match path.strip_prefix("/tidegate/v1/plugins") {
                Some(rest) => {
                    let rest = rest.trim_start_matches('/').to_owned();
                    plugins::answer(&self.commands, &rest, request).await
                }
                None if read => message(
                    StatusCode::NOT_FOUND,
                    "there is /healthz, /readyz, /metrics, /tidegate/v1/node, /tidegate/v1/nodes, /tidegate/v1/logs, /tidegate/v1/recordings, /tidegate/v1/usage, /tidegate/v1/cache and /tidegate/v1/plugins",
                ),
                None => message(StatusCode::METHOD_NOT_ALLOWED, "only GET"),
            },
        }
    }
}

/// Whether the request was sent to this machine by address or as `localhost`: no name that a stranger's server could
/// give this address to (DNS rebinding).
fn is_local(request: &Request<Incoming>) -> bool {
    let host = request
        .headers()
        .get(HOST)
        .and_then(|host| host.to_str().ok());
    let authority = match (request.uri().authority(), host) {
        (Some(authority), _) => Some(authority.clone()),
        (None, Some(host)) => host.parse().ok(),
        (None, None) => None,
    };
    authority.is_some_and(|authority: http::uri::Authority| {
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok()
    })
}

impl Admin {
    /// Whether the node wants requests. It answers here only once it serves; what is left to tell is whether it drains.
    fn ready(&self) -> Response<Body> {
        if self.drain.is_pulled() {
            return message(StatusCode::SERVICE_UNAVAILABLE, "draining");
        }
        let follows = self.membership.as_ref().is_some_and(|it| it.follows);
        let serving = self.serving.load();
        if follows && !self.has_served.get() {
            let served = serving.adopted.is_by(self.workers);
            self.has_served
                .set(served && !serving.stable.published.is_empty());
        }
        if follows && !self.has_served.get() {
            let waiting = "waiting for a snapshot of an origin";
            return message(StatusCode::SERVICE_UNAVAILABLE, waiting);
        }
        message(StatusCode::OK, "ready")
    }

    fn metrics(&self) -> Response<Body> {
        let mut response = Response::new(Body::Full(self.metrics.render().into()));
        let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, format);
        response
    }

    fn node(&self) -> serde_json::Value {
        let deployed = &self.serving.load().stable;
        let stages = deployed.snapshot.stages.iter().map(|stage| {
            let routes: Vec<_> = stage.entries.iter().map(|route| &route.key).collect();
            json!({ "api": stage.api_id, "stage": stage.name, "deploymentId": stage.deployment_id, "routes": routes })
        });
        let bindings = deployed.bindings.iter().map(|binding| {
            json!({
                "name": binding.name(),
                "step": binding.step.name(),
                "component": binding.plugin().hash,
                "waits": binding.needs.waits,
                "instances": binding.account.instances(),
            })
        });
        json!({
            "name": self.name,
            "region": self.region,
            "role": self.role.as_str(),
            "snapshot": *deployed.published,
            "version": env!("CARGO_PKG_VERSION"),
            "revision": deployed.revision,
            "stages": stages.collect::<Vec<_>>(),
            "bindings": bindings.collect::<Vec<_>>(),
        })
    }
}

fn message(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = reply::json(&json!({ "message": message }));
    *response.status_mut() = status;
    response
}

const LOGS: &str = "/tidegate/v1/logs";
const RECORDINGS: &str = "/tidegate/v1/recordings";
