//! What a request reads: the immutable, compiled form of every API and stage of a node.
//!
//! A [`Snapshot`] is made by [`compile()`] from the API model and the node's deployable settings, and swapped in whole. It
//! names plugins and functions but holds no compiled component: linking those is the server's.

pub mod compile;
mod resource_policy;
pub mod routes;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use compile::{compile, load};
pub use resource_policy::{PolicyUse, ResourcePolicy, Verdict};
pub use routes::{Params, Routes, Selection};
pub use snapshot::{Located, PATH_PREFIX};

use crate::cache::policy::{Mode, Policy};
use crate::problem::Place;

/// All stages that a node serves, and the bindings that their routes share.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub stages: Vec<Arc<Stage>>,
    /// Every distinct binding once: routes refer to it by its place. Two routes with the same plugin, configuration,
    /// grants and limits share one binding, and so its instances.
    pub bindings: Vec<Arc<Binding>>,
    /// Where each binding was written, or first, where several share it. Beside it and not in it: an edit that only moves
    /// lines changes no binding.
    pub places: Vec<Place>,
    index: snapshot::Index,
}

/// The place of a binding in [`Snapshot::bindings`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BindingId(pub u32);

/// A stage of an API, as it was deployed.
#[derive(Debug)]
pub struct Stage {
    pub api_id: String,
    pub api_name: String,
    pub flavor: Flavor,
    pub endpoint: EndpointType,
    /// Who may invoke it, before anything else is asked; `None`: whoever can reach it.
    pub resource_policy: Option<ResourcePolicy>,
    pub name: String,
    /// `api/stage`: what API keys and token buckets are scoped by.
    pub scope: String,
    /// `arn:aws:execute-api:{region}:{account}:{api}/{stage}`: what policies know it by.
    pub arn: String,
    /// The first 16 hex digits of the SHA-256 over the definition and the stage's settings.
    pub deployment_id: String,
    pub variables: BTreeMap<String, String>,
    /// Matching: path below the stage → index into `entries`.
    pub routes: Routes,
    pub entries: Vec<Route>,
    /// Whether a route of it caches by HTTP's rules: then unsafe requests make stored responses doubtful.
    pub caches_by_http: bool,
    /// The stage's log sinks, which take a record of each request, also of those that match no route.
    pub log_sinks: Vec<BindingId>,
}

impl Stage {
    /// What policies know a request by; `path` is the one below the stage.
    pub fn resource(&self, method: &str, path: &str) -> String {
        format!("{}/{method}{path}", self.arn)
    }
}

/// Whose semantics an API has: what an unknown route is answered with, how parameters are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// API Gateway's REST API (v1).
    Rest,
    /// API Gateway's HTTP API (v2).
    Http,
}

/// From where an API answers (DESIGN: the request's way).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EndpointType {
    /// On every edge of every region.
    Edge,
    /// At origins of its region only.
    Regional,
    /// As `Regional`, and through private listeners only.
    Private,
}

/// A route: method and path pattern, and the bindings that a request passes through.
#[derive(Debug)]
pub struct Route {
    /// `GET /items/{id}`, `ANY /{proxy+}` or `$default`: `$context.routeKey`.
    pub key: String,
    /// `/items/{id}`: `$context.resourcePath`.
    pub resource_path: String,
    /// The names of the path parameters, in the order of [`Params`].
    pub parameters: Vec<String>,
    pub pipeline: Pipeline,
    /// What of the stage's resource policy lets a request pass.
    pub policy_use: PolicyUse,
    /// How its responses are cached; `None`: not at all.
    pub cache: Option<Arc<Policy>>,
    /// How long the integration may take until its response's header section is there. API Gateway: 29 s.
    pub timeout: Duration,
    /// The largest request or response body that a binding may collect. API Gateway: 10 MiB.
    pub payload_bytes_max: u64,
}

impl Route {
    /// Whether its responses are cached by HTTP's rules.
    pub fn caches_by_http(&self) -> bool {
        self.cache
            .as_ref()
            .is_some_and(|policy| policy.mode == Mode::Http)
    }

    /// A path parameter by its name, percent-encoded as it stands in `path`, which `params` was selected by.
    pub fn parameter<'p>(&self, name: &str, params: &Params, path: &'p str) -> Option<&'p str> {
        let place = self
            .parameters
            .iter()
            .position(|parameter| parameter == name)?;
        params.get(place, path)
    }
}

/// The bindings of a route by step, each in the order of calling, and what stands around its integration.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pipeline {
    pub authorizers: Vec<BindingId>,
    pub throttles: Vec<BindingId>,
    pub validators: Vec<BindingId>,
    pub request_transforms: Vec<BindingId>,
    /// Around the integration, the outermost first.
    pub middleware: Vec<Middleware>,
    /// `None`: the route answers 500 with `{"message": "No integration defined for method"}`, as API Gateway does.
    pub integration: Option<BindingId>,
    pub response_transforms: Vec<BindingId>,
}

/// A function around an integration: it gets the request, and answers with what it makes of what is behind it. Its grants,
/// limits and isolation are the function's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Middleware {
    /// One of the node's functions.
    pub function: String,
    /// With `Bypass`, a request that it failed on before it touched it goes past it.
    pub fault_policy: FaultPolicy,
}

/// A plugin at one place of a pipeline, with its configuration, grants, limits and fault policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Where it was written, for people: `items/dev GET /items: authorizer api-key`. The first place, where several share it.
    pub name: String,
    pub step: Step,
    /// A built-in's name or one of the node's `[plugin.*]` tables.
    pub plugin: String,
    pub configuration: serde_json::Value,
    pub grants: Grants,
    pub limits: Limits,
    pub fault_policy: FaultPolicy,
    pub isolation: Isolation,
}

/// What a request passes through (DESIGN: steps).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    Authorizer,
    Throttle,
    Validator,
    RequestTransform,
    Integration,
    ResponseTransform,
    LogSink,
}

/// What a binding may ask the host for, by the name of the WIT interface. Nothing is granted by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Grants {
    pub crypto: bool,
    /// Hosts (`host` or `host:port`) whose key sets may be fetched.
    pub jwks: Vec<String>,
    pub rate_limit: bool,
    pub quota: bool,
    pub api_keys: bool,
    pub shared_cache: bool,
    /// Hosts (`host` or `host:port`) that may be asked.
    pub http_client: Vec<String>,
    /// Names of secrets.
    pub secrets: Vec<String>,
    pub metrics: bool,
    pub log_output: Option<LogOutput>,
    /// Names of tables (`wasi:keyvalue` buckets).
    pub tables: Vec<String>,
    /// Hosts (`host`, `host:port`, or `*`) beside the node's upstreams that an integration may forward to.
    pub upstream: Vec<String>,
}

/// Where log records go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogOutput {
    Stdout,
    File(std::path::PathBuf),
}

/// The bounds of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time of a step call, waiting included.
    pub deadline: Duration,
    /// Wall-clock time of making an instance and `configure`.
    pub start_deadline: Duration,
    /// Linear memory of one instance, in bytes.
    pub memory_bytes: u64,
    /// Calls at once, on each worker: each has an instance.
    pub instances: u16,
}

/// The most that a binding or a function may have: a node has room for two thousand, of all of them and all workers.
pub const INSTANCES_MAX: u16 = 1000;

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A step call takes 3–30 µs; one that asks another server may take as long as people wait for a page.
            deadline: Duration::from_millis(1000),
            // Interpreters (Python) need a good second for their first breath.
            start_deadline: Duration::from_secs(5),
            memory_bytes: 64 << 20,
            // With 64 MiB each they would still fit a large machine.
            instances: 128,
        }
    }
}

/// What a fault of the plugin (trap, deadline, memory, error) means for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultPolicy {
    /// The request is refused in the step's name: 500 with the response type `AUTHORIZER_FAILURE` for an authorizer,
    /// `DEFAULT_5XX` for the other steps, which have none of their own (API Gateway: "Gateway response types").
    Deny,
    /// The step counts as passed. Not for an integration; a log sink's records are lost, as with `fail`.
    Bypass,
    /// The request fails whatever the step was for: 500 with the response type `DEFAULT_5XX`; a log sink's records are
    /// lost.
    Fail,
}

/// Whether an instance sees one request or many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    #[default]
    Reuse,
    Request,
}
