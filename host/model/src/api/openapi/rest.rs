//! Operations → the resources of a REST API.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Context;
use super::at::At;
use super::operation::Operation;
use super::schema::Models;
use super::security::{Authorizer, Scheme};
use crate::api::rest::{
    self, Definition, EndpointConfiguration, GatewayResponse, Method, RequestValidator, Resource,
    RestApi,
};
use crate::api::stable_id;
use crate::problem::did_you_mean;

pub(super) fn assemble<'r>(
    context: &Context<'r>,
    operations: Vec<Operation>,
    models: Models<'r>,
) -> Definition {
    let mut resources = Resources::default();
    resources.at("/");
    for operation in operations {
        let path = operation.path.clone();
        let method = method(context, operation);
        resources
            .at(&path)
            .resource_methods
            .insert(method.http_method.clone(), method);
    }
    Definition {
        rest_api: rest_api(context, &resources),
        resources: resources.list,
        models: models.finish(),
        request_validators: validators(&context.root),
        authorizers: authorizers(context),
        gateway_responses: gateway_responses(&context.root),
    }
}

/// The resources by path, each after its parent.
#[derive(Default)]
struct Resources {
    list: Vec<Resource>,
    places: BTreeMap<String, usize>,
}

impl Resources {
    /// The resource of a path, made with its parents if need be.
    fn at(&mut self, path: &str) -> &mut Resource {
        let path = if path.len() > 1 {
            path.strip_suffix('/').unwrap_or(path)
        } else {
            path
        };
        let place = self.place(path);
        &mut self.list[place]
    }

    fn place(&mut self, path: &str) -> usize {
        if let Some(place) = self.places.get(path) {
            return *place;
        }
        let mut resource = Resource {
            id: stable_id("resource", path),
            path: path.to_owned(),
            ..Resource::default()
        };
        if let Some((parent, part)) = path.rsplit_once('/').filter(|_| path != "/") {
            let parent = self.place(if parent.is_empty() { "/" } else { parent });
            resource.parent_id = Some(self.list[parent].id.clone());
            resource.path_part = Some(part.to_owned());
        }
        self.list.push(resource);
        self.places.insert(path.to_owned(), self.list.len() - 1);
        self.list.len() - 1
    }
}

fn method(context: &Context<'_>, operation: Operation) -> Method {
    let parameters = operation.parameters.into_iter();
    let authorization_type = match (&operation.security.authorizer, operation.security.iam) {
        (Some(name), _) => authorization_type(context, name),
        (None, true) => "AWS_IAM",
        (None, false) => "NONE",
    };
    Method {
        http_method: operation.method,
        authorization_type: authorization_type.to_owned(),
        authorizer_id: operation
            .security
            .authorizer
            .map(|name| stable_id("authorizer", &name)),
        api_key_required: operation.security.api_key_required,
        request_validator_id: operation
            .validator
            .map(|name| stable_id("validator", &name)),
        operation_name: operation.name,
        request_parameters: parameters
            .map(|(key, required)| (format!("method.request.{key}"), required))
            .collect(),
        request_models: operation.models,
        method_responses: operation.responses,
        method_integration: operation
            .integration
            .map(|integration| integration.into_rest()),
        authorization_scopes: operation.security.scopes,
    }
}

fn authorization_type(context: &Context<'_>, name: &str) -> &'static str {
    let scheme = context.schemes.iter().find(|(known, _)| *known == name);
    match scheme {
        Some((_, Scheme::Authorizer(authorizer))) if authorizer.kind == "COGNITO_USER_POOLS" => {
            "COGNITO_USER_POOLS"
        }
        _ => "CUSTOM",
    }
}

fn rest_api(context: &Context<'_>, resources: &Resources) -> RestApi {
    let root = &context.root;
    let info = root.get("info");
    let name = info.as_ref().and_then(|info| info.text_at("title"));
    if name.is_none() {
        root.problem("`info.title` is missing: it is the API's name");
    }
    RestApi {
        id: context.api_id.to_owned(),
        name: name.unwrap_or_default(),
        description: info.as_ref().and_then(|info| info.text_at("description")),
        version: info.as_ref().and_then(|info| info.text_at("version")),
        binary_media_types: root.texts_at("x-amazon-apigateway-binary-media-types"),
        minimum_compression_size: root.count_at("x-amazon-apigateway-minimum-compression-size"),
        api_key_source: api_key_source(root),
        endpoint_configuration: root
            .get("x-amazon-apigateway-endpoint-configuration")
            .map(|at| EndpointConfiguration {
                types: at.texts_at("types"),
                ip_address_type: at.text_at("ipAddressType"),
                vpc_endpoint_ids: at.texts_at("vpcEndpointIds"),
            }),
        policy: root
            .get("x-amazon-apigateway-policy")
            .map(|at| match at.value {
                Value::String(text) => text.clone(),
                policy => policy.to_string(),
            }),
        root_resource_id: resources.list.first().map(|root| root.id.clone()),
        ..RestApi::default()
    }
}

fn api_key_source(root: &At<'_>) -> Option<String> {
    let at = root.get("x-amazon-apigateway-api-key-source")?;
    let source = at.text()?.to_ascii_uppercase();
    if source != "HEADER" && source != "AUTHORIZER" {
        at.problem(format!("\"{source}\" is neither HEADER nor AUTHORIZER"));
    }
    Some(source)
}

fn validators(root: &At<'_>) -> Vec<RequestValidator> {
    let validators = root
        .entries_at("x-amazon-apigateway-request-validators")
        .into_iter();
    validators
        .map(|(name, at)| {
            at.only(&["validateRequestBody", "validateRequestParameters"]);
            RequestValidator {
                id: stable_id("validator", name),
                name: name.to_owned(),
                validate_request_body: at.flag_at("validateRequestBody").unwrap_or(false),
                validate_request_parameters: at
                    .flag_at("validateRequestParameters")
                    .unwrap_or(false),
            }
        })
        .collect()
}

fn authorizers(context: &Context<'_>) -> Vec<rest::Authorizer> {
    let authorizer = |(name, scheme): (&String, &Scheme)| match scheme {
        Scheme::Authorizer(authorizer) => Some(authorizer_of(name, authorizer)),
        // What the service would call a Lambda authorizer.
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

fn authorizer_of(name: &str, authorizer: &Authorizer) -> rest::Authorizer {
    rest::Authorizer {
        id: stable_id("authorizer", name),
        name: name.to_owned(),
        r#type: authorizer.kind.clone(),
        provider_arns: authorizer.provider_arns.clone(),
        auth_type: authorizer.auth_type.clone(),
        authorizer_uri: authorizer.uri.clone(),
        authorizer_credentials: authorizer.credentials.clone(),
        identity_source: authorizer.identity_source.clone(),
        identity_validation_expression: authorizer.identity_validation_expression.clone(),
        authorizer_result_ttl_in_seconds: authorizer.result_ttl_in_seconds,
    }
}

fn gateway_responses(root: &At<'_>) -> Vec<GatewayResponse> {
    let responses = root
        .entries_at("x-amazon-apigateway-gateway-responses")
        .into_iter();
    responses
        .map(|(kind, at)| {
            at.only(&["statusCode", "responseParameters", "responseTemplates"]);
            if !RESPONSE_TYPES.contains(&kind) {
                let hint = did_you_mean(kind, RESPONSE_TYPES.iter().copied());
                at.problem_with_hint(format!("no gateway response \"{kind}\""), hint);
            }
            GatewayResponse {
                response_type: kind.to_owned(),
                status_code: at.text_at("statusCode"),
                response_parameters: at.text_map_at("responseParameters"),
                response_templates: at.text_map_at("responseTemplates"),
                default_response: false,
            }
        })
        .collect()
}

/// Source: Amazon API Gateway, "Gateway response types".
const RESPONSE_TYPES: &[&str] = &[
    "ACCESS_DENIED",
    "API_CONFIGURATION_ERROR",
    "AUTHORIZER_CONFIGURATION_ERROR",
    "AUTHORIZER_FAILURE",
    "BAD_REQUEST_BODY",
    "BAD_REQUEST_PARAMETERS",
    "DEFAULT_4XX",
    "DEFAULT_5XX",
    "EXPIRED_TOKEN",
    "INTEGRATION_FAILURE",
    "INTEGRATION_TIMEOUT",
    "INVALID_API_KEY",
    "INVALID_SIGNATURE",
    "MISSING_AUTHENTICATION_TOKEN",
    "QUOTA_EXCEEDED",
    "REQUEST_TOO_LARGE",
    "RESOURCE_NOT_FOUND",
    "THROTTLED",
    "UNAUTHORIZED",
    "UNSUPPORTED_MEDIA_TYPE",
    "WAF_FILTERED",
];
