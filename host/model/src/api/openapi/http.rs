//! Operations → the resources of an HTTP API.

use super::Context;
use super::at::At;
use super::operation::Operation;
use super::security::{Authorizer, Scheme};
use crate::api::http::{
    self, Api, Cors, Definition, JwtConfiguration, ParameterConstraints, Route,
};
use crate::api::stable_id;

pub(super) fn assemble(context: &Context<'_>, operations: Vec<Operation>) -> Definition {
    let mut routes = Vec::new();
    let mut integrations = Vec::new();
    for mut operation in operations {
        let key = operation.key();
        let integration_id = stable_id("integration", &key);
        let integration = operation.integration.take();
        let target = integration
            .as_ref()
            .map(|_| format!("integrations/{integration_id}"));
        integrations.extend(integration.map(|integration| integration.into_http(integration_id)));
        routes.push(route(context, key, target, operation));
    }
    Definition {
        api: api(context),
        routes,
        integrations,
        authorizers: authorizers(context),
    }
}

fn route(
    context: &Context<'_>,
    key: String,
    target: Option<String>,
    operation: Operation,
) -> Route {
    let security = operation.security;
    let authorization_type = match (&security.authorizer, security.iam) {
        (Some(name), _) if is_jwt(context, name) => "JWT",
        (Some(_), _) => "CUSTOM",
        (None, true) => "AWS_IAM",
        (None, false) => "NONE",
    };
    let parameters = operation.parameters.into_iter();
    Route {
        route_id: stable_id("route", &key),
        route_key: key,
        target,
        api_key_required: security.api_key_required,
        authorization_scopes: security.scopes,
        authorization_type: authorization_type.to_owned(),
        authorizer_id: security
            .authorizer
            .map(|name| stable_id("authorizer", &name)),
        operation_name: operation.name,
        request_models: operation.models,
        request_parameters: parameters
            .map(|(key, required)| {
                (
                    format!("route.request.{key}"),
                    ParameterConstraints { required },
                )
            })
            .collect(),
        ..Route::default()
    }
}

fn is_jwt(context: &Context<'_>, name: &str) -> bool {
    let mut schemes = context.schemes.iter();
    schemes.any(|(known, scheme)| {
        known == name && matches!(scheme, Scheme::Authorizer(it) if it.kind == "JWT")
    })
}

fn api(context: &Context<'_>) -> Api {
    let root = &context.root;
    let info = root.get("info");
    let name = info.as_ref().and_then(|info| info.text_at("title"));
    if name.is_none() {
        root.problem("`info.title` is missing: it is the API's name");
    }
    Api {
        api_id: context.api_id.to_owned(),
        name: name.unwrap_or_default(),
        protocol_type: "HTTP".to_owned(),
        description: info.as_ref().and_then(|info| info.text_at("description")),
        version: info.as_ref().and_then(|info| info.text_at("version")),
        route_selection_expression: Some("$request.method $request.path".to_owned()),
        cors_configuration: root.get("x-amazon-apigateway-cors").map(|at| cors(&at)),
        ..Api::default()
    }
}

fn cors(at: &At<'_>) -> Cors {
    at.only(&[
        "allowCredentials",
        "allowHeaders",
        "allowMethods",
        "allowOrigins",
        "exposeHeaders",
        "maxAge",
    ]);
    Cors {
        allow_credentials: at.flag_at("allowCredentials").unwrap_or(false),
        allow_headers: at.texts_at("allowHeaders"),
        allow_methods: at.texts_at("allowMethods"),
        allow_origins: at.texts_at("allowOrigins"),
        expose_headers: at.texts_at("exposeHeaders"),
        max_age: at.get("maxAge").and_then(|age| age.read()),
    }
}

fn authorizers(context: &Context<'_>) -> Vec<http::Authorizer> {
    let authorizer = |(name, scheme): (&String, &Scheme)| match scheme {
        Scheme::Authorizer(authorizer) => Some(authorizer_of(name, authorizer)),
        Scheme::Plugin(_) => Some(authorizer_of(
            name,
            &Authorizer {
                kind: "REQUEST".to_owned(),
                ..Authorizer::default()
            },
        )),
        Scheme::ApiKey | Scheme::Iam => None,
    };
    context.schemes.iter().filter_map(authorizer).collect()
}

fn authorizer_of(name: &str, authorizer: &Authorizer) -> http::Authorizer {
    let sources = authorizer
        .identity_source
        .iter()
        .flat_map(|sources| sources.split(','));
    let is_jwt = authorizer.kind == "JWT";
    http::Authorizer {
        authorizer_id: stable_id("authorizer", name),
        name: name.to_owned(),
        authorizer_type: authorizer.kind.clone(),
        authorizer_uri: authorizer.uri.clone(),
        authorizer_credentials_arn: authorizer.credentials.clone(),
        authorizer_payload_format_version: authorizer.payload_format_version.clone(),
        authorizer_result_ttl_in_seconds: authorizer.result_ttl_in_seconds,
        enable_simple_responses: authorizer.enable_simple_responses,
        identity_source: sources.map(|source| source.trim().to_owned()).collect(),
        identity_validation_expression: authorizer.identity_validation_expression.clone(),
        jwt_configuration: is_jwt.then(|| JwtConfiguration {
            audience: authorizer.audience.clone(),
            issuer: authorizer.issuer.clone(),
        }),
    }
}
