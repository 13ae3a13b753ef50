//! Operations: method and path, parameters, body, responses, security, integration.

use std::collections::{BTreeMap, HashSet};

use super::at::At;
use super::integration::{self, Integration};
use super::schema::{self, Models};
use super::security::Security;
use super::{Context, Dialect, extensions};
use crate::api::{BindingSpec, MiddlewareSpec, Operation as Extension, rest};
use crate::deployment::{Flavor, Routes};
use crate::problem::Place;

/// An operation as it was written, for either kind of API.
pub(super) struct Operation {
    /// `GET` …, or `ANY`.
    pub(super) method: String,
    /// `/items/{id}`; `$default` for an HTTP API's default route.
    pub(super) path: String,
    pub(super) name: Option<String>,
    /// `{header|querystring|path}.{name}` → whether it is required.
    pub(super) parameters: BTreeMap<String, bool>,
    /// Media type → model name.
    pub(super) models: BTreeMap<String, String>,
    pub(super) body_required: bool,
    pub(super) responses: BTreeMap<String, rest::MethodResponse>,
    /// The name of a request validator of the root.
    pub(super) validator: Option<String>,
    pub(super) security: Security,
    pub(super) integration: Option<Integration>,
    pub(super) bindings: Vec<BindingSpec>,
    middleware: Vec<MiddlewareSpec>,
    place: Place,
}

impl Operation {
    /// `GET /items/{id}` or `$default`.
    pub(super) fn key(&self) -> String {
        if self.path == DEFAULT {
            self.path.clone()
        } else {
            format!("{} {}", self.method, self.path)
        }
    }

    pub(super) fn extension(&self) -> Extension {
        Extension {
            bindings: self.bindings.clone(),
            middleware: self.middleware.clone(),
            body_required: self.body_required,
            place: self.place.clone(),
        }
    }
}

/// All operations of the definition, in the order written. Reports those that no request could tell apart.
pub(super) fn read_all<'r>(context: &Context<'r>, models: &mut Models<'r>) -> Vec<Operation> {
    let Some(paths) = context.root.get("paths") else {
        context
            .root
            .problem("`paths` is missing: an API without a route answers nothing");
        return Vec::new();
    };
    let mut routes = Routes::new(context.flavor);
    let mut operations = Vec::new();
    let before = context.root.problem_count();
    for (path, at) in paths.entries() {
        if path.starts_with("x-") {
            continue;
        }
        let Some(at) = at.resolved() else { continue };
        for (key, operation) in at.entries() {
            let Some(method) = method_of(key, &operation, context) else {
                continue;
            };
            let operation = read(method, path, &at, &operation, models, context);
            let method = (operation.method != "ANY")
                .then(|| operation.method.parse().ok())
                .flatten();
            let added = match operation.path.as_str() {
                DEFAULT => routes.add_default(operations.len()).map(|()| Vec::new()),
                path => routes.add(method, path, operations.len()),
            };
            match added {
                Ok(names) => declare_path_parameters(names, &operation, &at),
                Err(error) => at.problem(format!("route \"{}\": {error}", operation.key())),
            }
            operations.push(operation);
        }
    }
    if operations.is_empty() && context.root.problem_count() == before {
        paths.problem("the API has no route");
    }
    operations
}

/// The method of an entry of a path; `None` for what is no operation.
fn method_of(key: &str, at: &At<'_>, context: &Context<'_>) -> Option<&'static str> {
    if let Some((_, method)) = METHODS.iter().find(|(name, _)| *name == key) {
        return Some(method);
    }
    let known = PATH_KEYS.contains(&key) || key.starts_with("x-");
    if !known || key.starts_with("x-amazon-apigateway-") && key != "x-amazon-apigateway-cors" {
        let names = METHODS.iter().map(|(name, _)| *name);
        let hint = crate::problem::did_you_mean(key, names);
        if key == "trace" && context.dialect != Dialect::Swagger2 {
            at.problem("API Gateway has no TRACE methods");
        } else {
            at.problem_with_hint(format!("unknown key `{key}`"), hint);
        }
    }
    None
}

fn read<'r>(
    method: &str,
    path: &str,
    path_at: &At<'r>,
    at: &At<'r>,
    models: &mut Models<'r>,
    context: &Context<'r>,
) -> Operation {
    at.only_extensions(EXTENSIONS);
    let is_default = context.flavor == Flavor::Http && path == "/$default";
    let mut operation = Operation {
        method: method.to_owned(),
        path: if is_default {
            DEFAULT.to_owned()
        } else {
            path.to_owned()
        },
        name: at.text_at("operationId"),
        parameters: BTreeMap::new(),
        models: BTreeMap::new(),
        body_required: false,
        responses: BTreeMap::new(),
        validator: validator(at, context),
        security: context.schemes.of(at, &context.root),
        integration: integration::read(at, context),
        bindings: extensions::bindings(at),
        middleware: extensions::middleware(at),
        place: at.place(),
    };
    parameters(&mut operation, path_at, at, models, context);
    if let Some(body) = at.get("requestBody").and_then(|body| body.resolved()) {
        operation.body_required = body.flag_at("required").unwrap_or(false);
        for (media_type, content) in body.entries_at("content") {
            if let Some(schema) = content.get("schema") {
                operation.models.extend(
                    models
                        .name_of(&schema)
                        .map(|name| (media_type.to_owned(), name)),
                );
            }
        }
    }
    for (status, response) in at.entries_at("responses") {
        let Some(response) = response.resolved() else {
            continue;
        };
        operation.responses.insert(
            status.to_owned(),
            method_response(status, &response, models, context),
        );
    }
    operation
}

/// The operation's parameters and its path's; its own win by place and name (OpenAPI 3.0 §4.7.9.1 "Path Item Object").
fn parameters<'r>(
    operation: &mut Operation,
    path: &At<'r>,
    at: &At<'r>,
    models: &mut Models<'r>,
    context: &Context<'r>,
) {
    let mut seen: HashSet<(String, String)> = HashSet::new();
    for parameter in at
        .items_at("parameters")
        .into_iter()
        .chain(path.items_at("parameters"))
    {
        let Some(parameter) = parameter.resolved() else {
            continue;
        };
        let (Some(place), Some(name)) = (parameter.text_at("in"), parameter.text_at("name")) else {
            parameter.problem("a parameter needs `name` and `in`");
            continue;
        };
        if !seen.insert((place.clone(), name.clone())) {
            continue;
        }
        let required = parameter.flag_at("required").unwrap_or(false);
        match place.as_str() {
            "header" => drop(
                operation
                    .parameters
                    .insert(format!("header.{name}"), required),
            ),
            "query" => drop(
                operation
                    .parameters
                    .insert(format!("querystring.{name}"), required),
            ),
            "path" => drop(operation.parameters.insert(format!("path.{name}"), true)),
            // The service has no cookie parameters: they come as a header.
            "cookie" => {}
            "body" if context.dialect == Dialect::Swagger2 => {
                operation.body_required = required;
                let Some(schema) = parameter.get("schema") else {
                    continue;
                };
                let Some(model) = models.name_of(&schema) else {
                    continue;
                };
                for media_type in consumes(at, context) {
                    operation.models.insert(media_type, model.clone());
                }
            }
            "formData" if context.dialect == Dialect::Swagger2 => {}
            _ => parameter.problem(format!("`in` is \"{place}\"; use header, query or path")),
        }
    }
}

/// Swagger 2.0: the media types of a body, the operation's or the root's.
fn consumes(at: &At<'_>, context: &Context<'_>) -> Vec<String> {
    let own = at.texts_at("consumes");
    let types = if own.is_empty() {
        context.root.texts_at("consumes")
    } else {
        own
    };
    if types.is_empty() {
        vec![schema::JSON.to_owned()]
    } else {
        types
    }
}

fn method_response<'r>(
    status: &str,
    at: &At<'r>,
    models: &mut Models<'r>,
    context: &Context<'r>,
) -> rest::MethodResponse {
    let mut response = rest::MethodResponse {
        status_code: status.to_owned(),
        ..Default::default()
    };
    for (name, _) in at.entries_at("headers") {
        response
            .response_parameters
            .insert(format!("method.response.header.{name}"), false);
    }
    if context.dialect == Dialect::Swagger2 {
        if let Some(schema) = at.get("schema") {
            response.response_models.extend(
                models
                    .name_of(&schema)
                    .map(|name| (schema::JSON.to_owned(), name)),
            );
        }
        return response;
    }
    for (media_type, content) in at.entries_at("content") {
        if let Some(schema) = content.get("schema") {
            response.response_models.extend(
                models
                    .name_of(&schema)
                    .map(|name| (media_type.to_owned(), name)),
            );
        }
    }
    response
}

/// The operation's request validator, or the root's.
fn validator(at: &At<'_>, context: &Context<'_>) -> Option<String> {
    let at = at.get(VALIDATOR).or_else(|| context.root.get(VALIDATOR))?;
    let name = at.text()?;
    let known = context
        .root
        .entries_at("x-amazon-apigateway-request-validators");
    if known.iter().any(|(known, _)| *known == name) {
        return Some(name);
    }
    let hint = crate::problem::did_you_mean(&name, known.iter().map(|(known, _)| *known));
    at.problem_with_hint(format!("no request validator \"{name}\""), hint);
    None
}

/// A parameter of the path that the operation does not list is a parameter all the same; one that it lists and the path
/// does not have is a typing error.
fn declare_path_parameters(names: Vec<String>, operation: &Operation, at: &At<'_>) {
    let listed = operation
        .parameters
        .keys()
        .filter_map(|key| key.strip_prefix("path."));
    for name in listed.filter(|name| {
        !names
            .iter()
            .any(|known| known == name.trim_end_matches('+'))
    }) {
        let hint = crate::problem::did_you_mean(name, names.iter().map(String::as_str));
        at.problem_with_hint(
            format!(
                "route \"{}\": the path has no parameter \"{{{name}}}\"",
                operation.key()
            ),
            hint,
        );
    }
}

const DEFAULT: &str = "$default";

const VALIDATOR: &str = "x-amazon-apigateway-request-validator";

const METHODS: &[(&str, &str)] = &[
    ("get", "GET"),
    ("put", "PUT"),
    ("post", "POST"),
    ("delete", "DELETE"),
    ("options", "OPTIONS"),
    ("head", "HEAD"),
    ("patch", "PATCH"),
    ("x-amazon-apigateway-any-method", "ANY"),
];

const PATH_KEYS: &[&str] = &["parameters", "summary", "description", "servers", "$ref"];

const EXTENSIONS: &[&str] = &[
    integration::KEY,
    VALIDATOR,
    "x-amazon-apigateway-auth",
    "x-tidegate-bindings",
    "x-tidegate-middleware",
];
