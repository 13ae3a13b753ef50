//! Bindings: resolved, completed with defaults, and each kept once.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::API_KEY;
use crate::api::BindingSpec;
use crate::config::{AccessLog, Node, Throttle};
use crate::deployment::{
    Binding, BindingId, FaultPolicy, Grants, Isolation, Limits, Pipeline, Step,
};
use crate::problem::{Place, Problems, did_you_mean};

/// All bindings so far.
pub(super) struct Bindings<'n> {
    node: &'n Node,
    builtins: Vec<&'n str>,
    /// With where each was written first.
    list: Vec<(Arc<Binding>, Place)>,
    by_content: HashMap<String, BindingId>,
}

/// Where bindings are bound.
pub(super) struct Scope<'s> {
    /// `items/dev`.
    pub(super) label: String,
    /// The route's key; `None` for the stage as a whole.
    pub(super) route: Option<&'s str>,
}

impl<'n> Bindings<'n> {
    pub(super) fn new(node: &'n Node, builtins: &[&'n str]) -> Self {
        Self {
            node,
            builtins: builtins.to_vec(),
            list: Vec::new(),
            by_content: HashMap::new(),
        }
    }

    pub(super) fn into_list(self) -> Vec<(Arc<Binding>, Place)> {
        self.list
    }

    pub(super) fn name(&self, id: BindingId) -> &str {
        &self.list[id.0 as usize].0.name
    }

    /// Whether an authorizer of a pipeline decides who may; an API key only says who counts.
    pub(super) fn authorize(&self, pipeline: &Pipeline) -> bool {
        let mut authorizers = pipeline.authorizers.iter();
        authorizers.any(|id| self.list[id.0 as usize].0.plugin != API_KEY)
    }

    /// The binding's place, shared with an equal one.
    ///
    /// Built-ins are shared by all stages. A plugin of the operator's is shared within a stage: what an instance
    /// remembers of one stage's requests is not for another's.
    pub(super) fn bind(
        &mut self,
        spec: BindingSpec,
        scope: &Scope<'_>,
        problems: &mut Problems,
    ) -> Option<BindingId> {
        let at = scope
            .route
            .map(|route| format!("route \"{route}\""))
            .unwrap_or_else(|| format!("stage \"{}\"", scope.label));
        let own = self.node.plugins.contains_key(&spec.plugin);
        if !own && !self.builtins.contains(&spec.plugin.as_str()) {
            let known = self
                .node
                .plugins
                .keys()
                .map(String::as_str)
                .chain(self.builtins.iter().copied());
            let hint = did_you_mean(&spec.plugin, known);
            problems.add_with_hint(
                &spec.place,
                format!("{at}: no plugin \"{}\"", spec.plugin),
                hint,
            );
            return None;
        }
        for secret in spec
            .grants
            .secrets
            .iter()
            .filter(|name| !self.node.secrets.contains_key(*name))
        {
            let hint = did_you_mean(secret, self.node.secrets.keys().map(String::as_str));
            problems.add_with_hint(&spec.place, format!("{at}: no secret \"{secret}\""), hint);
        }
        if spec.step == Step::Integration && spec.fault_policy == Some(FaultPolicy::Bypass) {
            problems.add(
                &spec.place,
                format!("{at}: `fault-policy: bypass` at an integration: nothing else would answer the request"),
            );
        }
        let name = match scope.route {
            Some(route) => format!(
                "{} {route}: {} {}",
                scope.label,
                step_name(spec.step),
                spec.plugin
            ),
            None => format!("{}: {} {}", scope.label, step_name(spec.step), spec.plugin),
        };
        let grants = if own {
            spec.grants
        } else {
            with_builtin(&spec.plugin, &spec.configuration, spec.grants)
        };
        let binding = Binding {
            name,
            step: spec.step,
            plugin: spec.plugin,
            configuration: spec.configuration,
            grants,
            limits: spec.limits,
            fault_policy: spec.fault_policy.unwrap_or(default_fault_policy(spec.step)),
            isolation: spec.isolation,
        };
        let content = format!(
            "{} {:?} {} {} {:?} {:?} {:?} {:?}",
            if own { scope.label.as_str() } else { "" },
            binding.step,
            binding.plugin,
            binding.configuration,
            binding.grants,
            binding.limits,
            binding.fault_policy,
            binding.isolation,
        );
        // Far fewer than 2³² bindings fit into a definition of 10 MiB.
        let next = BindingId(self.list.len() as u32);
        let id = *self.by_content.entry(content).or_insert(next);
        if id == next {
            self.list.push((Arc::new(binding), spec.place));
        }
        Some(id)
    }
}

/// What a built-in asks for, so that nobody has to grant a built-in what it is for.
fn with_builtin(plugin: &str, configuration: &Value, mut grants: Grants) -> Grants {
    match plugin {
        "api-key" => grants.api_keys = true,
        "token-bucket" => grants.rate_limit = true,
        "quota" => grants.quota = true,
        "jwt" => {
            grants.crypto = true;
            let urls = ["issuer", "jwksUri"]
                .iter()
                .filter_map(|key| configuration.get(key)?.as_str());
            let needed = if configuration.get("jwks").is_some() {
                Vec::new()
            } else {
                urls.filter_map(authority).collect()
            };
            add_missing(&mut grants.jwks, needed);
        }
        "http" => {
            let uri = configuration.get("uri").and_then(Value::as_str);
            add_missing(
                &mut grants.upstream,
                uri.and_then(authority).into_iter().collect(),
            );
        }
        _ => {}
    }
    grants
}

fn add_missing(hosts: &mut Vec<String>, needed: Vec<String>) {
    for host in needed {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
}

/// `host` or `host:port` of an absolute URI, unless it has an expression.
pub(super) fn authority(uri: &str) -> Option<String> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    (!authority.is_empty() && !authority.contains(['{', '$', '@'])).then(|| authority.to_owned())
}

/// A gatekeeping step that cannot decide lets nobody through.
fn default_fault_policy(step: Step) -> FaultPolicy {
    match step {
        Step::Authorizer | Step::Throttle | Step::Validator => FaultPolicy::Deny,
        Step::RequestTransform | Step::Integration | Step::ResponseTransform | Step::LogSink => {
            FaultPolicy::Fail
        }
    }
}

fn step_name(step: Step) -> &'static str {
    match step {
        Step::Authorizer => "authorizer",
        Step::Throttle => "throttle",
        Step::Validator => "validator",
        Step::RequestTransform => "request-transform",
        Step::Integration => "integration",
        Step::ResponseTransform => "response-transform",
        Step::LogSink => "log-sink",
    }
}

/// A binding of a built-in with nothing but a configuration.
pub(super) fn builtin(step: Step, plugin: &str, configuration: Value, place: Place) -> BindingSpec {
    BindingSpec {
        step,
        plugin: plugin.to_owned(),
        configuration,
        grants: Grants::default(),
        limits: Limits::default(),
        fault_policy: None,
        isolation: Isolation::default(),
        place,
    }
}

/// The throttle of a stage (`bucket` is `stage`) or of a route (`bucket` is its key).
pub(super) fn throttle(bucket: &str, throttle: Throttle, place: Place) -> BindingSpec {
    let configuration = json!({ "bucket": bucket, "rate": throttle.rate, "burst": throttle.burst });
    builtin(Step::Throttle, "token-bucket", configuration, place)
}

/// The access log of a stage.
pub(super) fn access_log(log: &AccessLog, place: Place) -> BindingSpec {
    let configuration = Map::from_iter([("format".to_owned(), Value::from(log.format.as_str()))]);
    let mut spec = builtin(
        Step::LogSink,
        "access-log",
        Value::Object(configuration),
        place,
    );
    spec.grants.log_output = Some(log.output.clone());
    spec
}
