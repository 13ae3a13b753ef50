//! The admin address: health, metrics, and what the node serves.

use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use crate::body::Body;
use crate::deploy::Deployed;
use crate::drain;
use crate::listen::{Connection, Service};
use crate::request::reply;
use crate::telemetry::metrics::Metrics;

/// Answers on the admin address.
pub struct Admin {
    pub name: String,
    pub region: String,
    pub metrics: Arc<Metrics>,
    pub deployed: Arc<ArcSwapOption<Deployed>>,
    pub drain: drain::Signal,
}

impl Service for Admin {
    async fn call(self: Rc<Self>, request: Request<Incoming>, _: Rc<Connection>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return message(StatusCode::METHOD_NOT_ALLOWED, "only GET");
        }
        match request.uri().path() {
            "/healthz" => message(StatusCode::OK, "alive"),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(),
            "/tidegate/v1/node" => reply::json(&self.node()),
            _ => message(
                StatusCode::NOT_FOUND,
                "there is /healthz, /readyz, /metrics and /tidegate/v1/node",
            ),
        }
    }
}

impl Admin {
    /// Whether the node wants requests: it serves a snapshot, and does not drain.
    fn ready(&self) -> Response<Body> {
        if self.drain.is_pulled() {
            return message(StatusCode::SERVICE_UNAVAILABLE, "draining");
        }
        match &*self.deployed.load() {
            Some(_) => message(StatusCode::OK, "ready"),
            None => message(StatusCode::SERVICE_UNAVAILABLE, "starting"),
        }
    }

    fn metrics(&self) -> Response<Body> {
        let mut response = Response::new(Body::Full(self.metrics.render().into()));
        let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, format);
        response
    }

    fn node(&self) -> serde_json::Value {
        let deployed = self.deployed.load();
        let Some(deployed) = &*deployed else {
            return json!({ "name": self.name, "region": self.region });
        };
        let stages = deployed.snapshot.stages.iter().map(|stage| {
            let routes: Vec<_> = stage.entries.iter().map(|route| &route.key).collect();
            json!({ "api": stage.api_id, "stage": stage.name, "deploymentId": stage.deployment_id, "routes": routes })
        });
        let bindings = deployed.bindings.iter().map(|binding| {
            json!({
                "name": binding.name(),
                "step": binding.step.name(),
                "component": binding.plugin().hash,
                "waits": binding.plugin().waits(),
                "instances": binding.account.instances(),
            })
        });
        json!({
            "name": self.name,
            "region": self.region,
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
