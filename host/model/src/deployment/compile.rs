//! API model and node settings → [`Snapshot`]: the deployment.
//!
//! Names are resolved here, and what the service knows and Tidegate does not have yet is refused here, by name: an API
//! whose policy nobody enforces must not go live. Components are not looked at; the server links them.

mod bindings;
mod cache;
mod endpoint;
mod integration;
mod mapping;
mod middleware;
mod mock;
mod route;
mod validator;

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use self::bindings::{Bindings, Scope};
use self::integration::Refusal;
use self::route::RouteSource;
use super::resource_policy::api_arn;
use super::{
    BindingId, EndpointType, Flavor, LogOutput, Pipeline, ResourcePolicy, Route, Routes, Snapshot,
    Stage, Step,
};
use crate::api::{BindingSpec, Definition, Resources, openapi};
use crate::config::{self, Node, Role};
use crate::document::Document;
use crate::iam::Invalid;
use crate::problem::{Place, Problems};

/// Reads the definitions that `node` names, and compiles them. `builtins` are the names of the plugins that the binary
/// holds.
///
/// # Errors
/// All problems of all definitions and stages.
pub fn load(node: &Node, builtins: &[&str]) -> Result<Snapshot, Problems> {
    let mut problems = Problems::default();
    let mut definitions = BTreeMap::new();
    for api in &node.apis {
        let read = Document::load(&api.definition)
            .and_then(|document| openapi::import(&api.id, &document));
        match read {
            Ok(definition) => drop(definitions.insert(api.id.clone(), definition)),
            Err(found) => problems.extend(found),
        }
    }
    match compile_into(node, &definitions, builtins, &mut problems) {
        snapshot if problems.is_empty() => Ok(snapshot),
        _ => Err(problems.sorted()),
    }
}

/// Compiles the stages of `node`. `definitions` holds its APIs by their identifiers.
///
/// # Errors
/// All problems of all stages.
pub fn compile(
    node: &Node,
    definitions: &BTreeMap<String, Definition>,
    builtins: &[&str],
) -> Result<Snapshot, Problems> {
    let mut problems = Problems::default();
    let snapshot = compile_into(node, definitions, builtins, &mut problems);
    problems.or(snapshot)
}

fn compile_into(
    node: &Node,
    definitions: &BTreeMap<String, Definition>,
    builtins: &[&str],
    problems: &mut Problems,
) -> Snapshot {
    let mut compiler = Compiler {
        node,
        bindings: Bindings::new(node, builtins),
        problems,
    };
    let mut stages = Vec::new();
    for api in &node.apis {
        let Some(definition) = definitions.get(&api.id) else {
            continue;
        };
        // The others answer at origins only.
        if node.role == Role::Edge && endpoint::of(api, definition).ok() != Some(EndpointType::Edge)
        {
            continue;
        }
        stages.extend(
            api.stages
                .iter()
                .map(|stage| Arc::new(compiler.stage(api, definition, stage))),
        );
    }
    Snapshot::new(
        stages,
        compiler.bindings.into_list(),
        &node.region,
        &node.suffix,
    )
}

struct Compiler<'n, 'p> {
    node: &'n Node,
    bindings: Bindings<'n>,
    problems: &'p mut Problems,
}

/// The stage that is compiled.
struct StageContext<'s> {
    api_id: &'s str,
    settings: &'s config::Stage,
    definition: &'s Definition,
    flavor: Flavor,
}

impl StageContext<'_> {
    /// `items/dev`.
    fn label(&self) -> String {
        format!("{}/{}", self.api_id, self.settings.name)
    }

    /// The API's resource policy, which only REST APIs have.
    fn policy(&self) -> Option<&str> {
        match &self.definition.resources {
            Resources::Rest(rest) => rest.rest_api.policy.as_deref(),
            Resources::Http(_) => None,
        }
    }
}

impl Compiler<'_, '_> {
    fn stage(
        &mut self,
        api: &config::Api,
        definition: &Definition,
        settings: &config::Stage,
    ) -> Stage {
        let (flavor, api_name) = match &definition.resources {
            Resources::Rest(rest) => (Flavor::Rest, &rest.rest_api.name),
            Resources::Http(http) => (Flavor::Http, &http.api.name),
        };
        let stage = StageContext {
            api_id: &api.id,
            settings,
            definition,
            flavor,
        };
        let place = definition
            .extensions
            .place
            .clone()
            .unwrap_or_else(|| api.place.clone());
        let endpoint = endpoint::of(api, definition).unwrap_or_else(|refusal| {
            let message = format!("api \"{}\": {}", api.id, refusal.message);
            self.problems.add_with_hint(&place, message, refusal.hint);
            EndpointType::Regional
        });
        let resource_policy = self.resource_policy(&stage, &place);
        if endpoint == EndpointType::Private && stage.policy().is_none() {
            let message = format!("api \"{}\": a PRIVATE API needs a resource policy", api.id);
            let hint = "say who may invoke it by x-amazon-apigateway-policy".to_owned();
            self.problems.add_with_hint(&place, message, Some(hint));
        }
        if flavor == Flavor::Rest && settings.name == "$default" {
            let message = format!("api \"{}\": a REST API has no stage $default", api.id);
            self.problems.add(&settings.place, message);
        }
        let sources = route::sources(definition);
        if sources.is_empty() {
            self.problems
                .add(&place, format!("api \"{}\" has no route", api.id));
        }
        self.unknown_route_settings(&stage, &sources);
        let (routes, entries) = self.routes(&stage, &sources);
        Stage {
            api_id: api.id.clone(),
            api_name: api_name.clone(),
            flavor,
            endpoint,
            resource_policy,
            name: settings.name.clone(),
            scope: stage.label(),
            arn: format!("{}/{}", api_arn(&self.node.region, &api.id), settings.name),
            deployment_id: deployment_id(definition, endpoint, settings),
            variables: settings.variables.clone(),
            routes,
            caches_by_http: entries.iter().any(Route::caches_by_http),
            entries,
            log_sinks: self.log_sinks(&stage),
        }
    }

    fn resource_policy(
        &mut self,
        stage: &StageContext<'_>,
        place: &Place,
    ) -> Option<ResourcePolicy> {
        let arn = api_arn(&self.node.region, stage.api_id);
        match ResourcePolicy::parse(stage.policy()?, &arn) {
            Ok(policy) => Some(policy),
            Err(Invalid(problems)) => {
                for problem in problems {
                    let message = format!("x-amazon-apigateway-policy: {problem}");
                    self.problems.add(place, message);
                }
                None
            }
        }
    }

    fn routes(
        &mut self,
        stage: &StageContext<'_>,
        sources: &[RouteSource<'_>],
    ) -> (Routes, Vec<Route>) {
        let mut routes = Routes::new(stage.flavor);
        let mut entries = Vec::new();
        for source in sources {
            let added = match source.path {
                "$default" => routes.add_default(entries.len()).map(|()| Vec::new()),
                path => routes.add(source.method.clone(), path, entries.len()),
            };
            match added {
                Ok(parameters) => entries.push(self.route(stage, source, parameters)),
                Err(error) => self.problems.add(
                    &source.place(stage),
                    format!("route \"{}\": {error}", source.key),
                ),
            }
        }
        (routes, entries)
    }

    fn route(
        &mut self,
        stage: &StageContext<'_>,
        source: &RouteSource<'_>,
        parameters: Vec<String>,
    ) -> Route {
        let timeout = source
            .integration
            .as_ref()
            .and_then(|integration| integration.timeout());
        let pipeline = self.pipeline(stage, source);
        let cache = match source.cache(stage, !pipeline.authorizers.is_empty()) {
            Ok(cache) => cache,
            Err(problem) => {
                let message = format!("route \"{}\": {problem}", source.key);
                self.problems.add(&source.place(stage), message);
                None
            }
        };
        Route {
            key: source.key.clone(),
            resource_path: source.path.to_owned(),
            parameters,
            policy_use: source.policy_use(self.bindings.authorize(&pipeline)),
            pipeline,
            cache,
            timeout: timeout.unwrap_or(self.node.timeouts.integration),
            payload_bytes_max: self.node.limits.payload.0,
        }
    }

    /// The service's steps first, each followed by the bindings that were written for it: the root's, then the
    /// operation's. The authorizer comes before the API key, as in the service.
    fn pipeline(&mut self, stage: &StageContext<'_>, source: &RouteSource<'_>) -> Pipeline {
        let place = source.place(stage);
        let written = stage
            .definition
            .extensions
            .bindings
            .iter()
            .chain(source.bindings(stage));
        let mut specs: Vec<BindingSpec> = Vec::new();
        specs.extend(self.accepted(source.authorizer(stage), source, &place));
        specs.extend(self.accepted(source.api_key(stage), source, &place));
        specs.extend(source.throttles(stage));
        specs.extend(self.accepted(source.validator(stage), source, &place));
        specs.extend(self.accepted(source.mapping(stage), source, &place));
        specs.extend(written.filter(|spec| spec.step != Step::LogSink).cloned());
        let integration = source.integration.as_ref();
        let integration = integration.map(|it| it.compile(stage, self.node, place.clone()));
        specs.extend(self.accepted(integration.transpose(), source, &place));
        for spec in source
            .bindings(stage)
            .iter()
            .filter(|spec| spec.step == Step::LogSink)
        {
            let message = format!(
                "route \"{}\": a log sink takes all records of a stage: bind it at the root",
                source.key
            );
            self.problems.add(&spec.place, message);
        }
        let scope = Scope {
            label: stage.label(),
            route: Some(&source.key),
        };
        let mut pipeline = Pipeline {
            middleware: self.middleware(stage, source),
            ..Pipeline::default()
        };
        // Authorizers that were written stand with those of the service, before the API key.
        specs.sort_by_key(|spec| {
            (
                spec.step != Step::Authorizer,
                spec.plugin == API_KEY && spec.step == Step::Authorizer,
            )
        });
        for spec in specs {
            let (step, place) = (spec.step, spec.place.clone());
            let Some(id) = self.bindings.bind(spec, &scope, self.problems) else {
                continue;
            };
            if let Some(second) = put(&mut pipeline, step, id) {
                let first = &self.bindings.name(second);
                self.problems.add(
                    &place,
                    format!(
                        "route \"{}\": a second integration beside {first}",
                        source.key
                    ),
                );
            }
        }
        pipeline
    }

    /// The binding, or its problem said.
    fn accepted(
        &mut self,
        spec: Result<Option<BindingSpec>, Refusal>,
        source: &RouteSource<'_>,
        place: &Place,
    ) -> Option<BindingSpec> {
        match spec {
            Ok(spec) => spec,
            Err(Refusal { message, hint }) => {
                let message = format!("route \"{}\": {message}", source.key);
                self.problems.add_with_hint(place, message, hint);
                None
            }
        }
    }

    fn log_sinks(&mut self, stage: &StageContext<'_>) -> Vec<BindingId> {
        let scope = Scope {
            label: stage.label(),
            route: None,
        };
        let access_log = stage.settings.access_log.as_ref();
        let mut specs: Vec<BindingSpec> = access_log
            .map(|log| bindings::access_log(log, stage.settings.place.clone()))
            .into_iter()
            .collect();
        let written = &stage.definition.extensions.bindings;
        specs.extend(
            written
                .iter()
                .filter(|spec| spec.step == Step::LogSink)
                .cloned(),
        );
        let bound = specs
            .into_iter()
            .filter_map(|spec| self.bindings.bind(spec, &scope, self.problems));
        bound.collect()
    }

    /// A setting for a route that the API does not have protects nothing.
    fn unknown_route_settings(&mut self, stage: &StageContext<'_>, sources: &[RouteSource<'_>]) {
        for (key, settings) in &stage.settings.routes {
            if sources.iter().any(|source| source.key == *key) {
                continue;
            }
            let hint =
                crate::problem::did_you_mean(key, sources.iter().map(|source| source.key.as_str()));
            let message = format!("stage \"{}\": no route \"{key}\"", stage.label());
            self.problems.add_with_hint(&settings.place, message, hint);
        }
    }
}

/// Puts a binding into its step. Gives back the integration that is there already, where this is another one.
fn put(pipeline: &mut Pipeline, step: Step, id: BindingId) -> Option<BindingId> {
    match step {
        Step::Authorizer => pipeline.authorizers.push(id),
        Step::Throttle => pipeline.throttles.push(id),
        Step::Validator => pipeline.validators.push(id),
        Step::RequestTransform => pipeline.request_transforms.push(id),
        Step::ResponseTransform => pipeline.response_transforms.push(id),
        Step::Integration if pipeline.integration.is_some() => return pipeline.integration,
        Step::Integration => pipeline.integration = Some(id),
        Step::LogSink => {}
    }
    None
}

/// Changes with the definition and with what the stage sets, and with nothing else.
fn deployment_id(
    definition: &Definition,
    endpoint: EndpointType,
    settings: &config::Stage,
) -> String {
    let routes = settings
        .routes
        .iter()
        .map(|(key, route)| (key, route.throttle, &route.cache));
    let output = settings.access_log.as_ref().map(|log| match &log.output {
        LogOutput::Stdout => "stdout".to_owned(),
        LogOutput::File(path) => path.display().to_string(),
    });
    let format = settings.access_log.as_ref().map(|log| &log.format);
    let routes: Vec<_> = routes.collect();
    let settings = format!(
        "{:?}",
        (
            endpoint,
            &settings.name,
            &settings.variables,
            settings.throttle,
            &settings.cache,
            routes,
            output,
            format
        )
    );
    let digest = Sha256::new()
        .chain_update(&definition.digest)
        .chain_update(settings)
        .finalize();
    digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

const API_KEY: &str = "api-key";

#[cfg(test)]
mod tests;
