//! `x-amazon-apigateway-integration`: what answers an operation.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::Context;
use super::at::At;
use crate::api::{http, rest};
use crate::deployment::Flavor;
use crate::problem::did_you_mean;

/// The extension of an operation.
pub(super) const KEY: &str = "x-amazon-apigateway-integration";

/// The extension of `components`: integrations that operations refer to.
pub(super) const SHARED: &str = "x-amazon-apigateway-integrations";

/// An integration as it was written, for either kind of API.
#[derive(Debug, Clone, Default)]
pub(super) struct Integration {
    /// In upper case: `AWS_PROXY`.
    kind: String,
    http_method: Option<String>,
    uri: Option<String>,
    connection_type: Option<String>,
    connection_id: Option<String>,
    credentials: Option<String>,
    request_parameters: BTreeMap<String, String>,
    request_templates: BTreeMap<String, String>,
    passthrough_behavior: Option<String>,
    content_handling: Option<String>,
    timeout_in_millis: Option<u32>,
    cache_namespace: Option<String>,
    cache_key_parameters: Vec<String>,
    responses: IndexMap<String, rest::IntegrationResponse>,
    insecure_skip_verification: bool,
    server_name_to_verify: Option<String>,
    response_transfer_mode: Option<String>,
    integration_target: Option<String>,
    subtype: Option<String>,
    payload_format_version: Option<String>,
    response_parameters: BTreeMap<String, BTreeMap<String, String>>,
}

/// The integration of an operation, which may refer to a shared one.
pub(super) fn read(operation: &At<'_>, context: &Context<'_>) -> Option<Integration> {
    let at = operation.get(KEY)?.resolved()?;
    at.only(KEYS);
    let Some(kind) = at.text_at("type") else {
        at.problem("`type` is missing");
        return None;
    };
    let kind = kind.to_ascii_lowercase();
    if !TYPES.contains(&kind.as_str()) {
        let hint = did_you_mean(&kind, TYPES.iter().copied());
        at.problem_with_hint(
            format!("type \"{kind}\" is none of {}", TYPES.join(", ")),
            hint,
        );
        return None;
    }
    let uri = at.text_at("uri");
    if uri.is_none() && kind != "mock" && at.get("integrationSubtype").is_none() {
        at.problem("`uri` is missing");
        return None;
    }
    let timeout_in_millis = at.count_at("timeoutInMillis");
    if timeout_in_millis.is_some_and(|timeout| !(50..=TIMEOUT_MS_MAX).contains(&timeout)) {
        at.problem(format!(
            "`timeoutInMillis` is not between 50 and {TIMEOUT_MS_MAX}"
        ));
    }
    let tls = at.get("tlsConfig");
    let http_api = context.flavor == Flavor::Http;
    Some(Integration {
        kind: kind.to_ascii_uppercase(),
        http_method: at
            .text_at("httpMethod")
            .map(|method| method.to_ascii_uppercase()),
        uri,
        connection_type: at
            .text_at("connectionType")
            .map(|kind| kind.to_ascii_uppercase()),
        connection_id: at.text_at("connectionId"),
        credentials: at.text_at("credentials"),
        request_parameters: at.text_map_at("requestParameters"),
        request_templates: at.text_map_at("requestTemplates"),
        passthrough_behavior: at
            .text_at("passthroughBehavior")
            .map(|text| text.to_ascii_uppercase()),
        content_handling: at
            .text_at("contentHandling")
            .map(|text| text.to_ascii_uppercase()),
        timeout_in_millis,
        cache_namespace: at.text_at("cacheNamespace"),
        cache_key_parameters: at.texts_at("cacheKeyParameters"),
        responses: responses(&at),
        insecure_skip_verification: tls
            .as_ref()
            .and_then(|tls| tls.flag_at("insecureSkipVerification"))
            .unwrap_or(false),
        server_name_to_verify: tls
            .as_ref()
            .and_then(|tls| tls.text_at("serverNameToVerify")),
        response_transfer_mode: at.text_at("responseTransferMode"),
        integration_target: at.text_at("integrationTarget"),
        subtype: at.text_at("integrationSubtype"),
        payload_format_version: at.text_at("payloadFormatVersion"),
        response_parameters: if http_api {
            response_parameters(&at)
        } else {
            BTreeMap::new()
        },
    })
}

/// The responses by their selection pattern; `default` for what matches none.
fn responses(at: &At<'_>) -> IndexMap<String, rest::IntegrationResponse> {
    let mut responses = IndexMap::new();
    for (pattern, at) in at.entries_at("responses") {
        at.only(&[
            "statusCode",
            "responseParameters",
            "responseTemplates",
            "contentHandling",
        ]);
        let Some(status_code) = at.text_at("statusCode") else {
            at.problem("`statusCode` is missing");
            continue;
        };
        let response = rest::IntegrationResponse {
            status_code: status_code.clone(),
            selection_pattern: (pattern != "default").then(|| pattern.to_owned()),
            response_parameters: at.text_map_at("responseParameters"),
            response_templates: at.text_map_at("responseTemplates"),
            content_handling: at.text_at("contentHandling"),
        };
        if responses.insert(status_code, response).is_some() {
            at.problem("another response has the same `statusCode`");
        }
    }
    responses
}

/// An HTTP API's changes to responses: status code → mapping.
fn response_parameters(at: &At<'_>) -> BTreeMap<String, BTreeMap<String, String>> {
    let Some(at) = at.get("responseParameters") else {
        return BTreeMap::new();
    };
    at.entries()
        .into_iter()
        .map(|(status, _)| (status.to_owned(), at.text_map_at(status)))
        .collect()
}

impl Integration {
    pub(super) fn into_rest(self) -> rest::Integration {
        rest::Integration {
            r#type: self.kind,
            http_method: self.http_method,
            uri: self.uri,
            connection_type: self.connection_type,
            connection_id: self.connection_id,
            credentials: self.credentials,
            request_parameters: self.request_parameters,
            request_templates: self.request_templates,
            passthrough_behavior: self.passthrough_behavior,
            content_handling: self.content_handling,
            timeout_in_millis: self.timeout_in_millis,
            cache_namespace: self.cache_namespace,
            cache_key_parameters: self.cache_key_parameters,
            integration_responses: self.responses,
            tls_config: self.insecure_skip_verification.then_some(rest::TlsConfig {
                insecure_skip_verification: true,
            }),
            response_transfer_mode: self.response_transfer_mode,
            integration_target: self.integration_target,
        }
    }

    pub(super) fn into_http(self, integration_id: String) -> http::Integration {
        http::Integration {
            integration_id,
            integration_type: self.kind,
            integration_method: self.http_method,
            integration_uri: self.uri,
            integration_subtype: self.subtype,
            connection_type: self.connection_type,
            connection_id: self.connection_id,
            credentials_arn: self.credentials,
            request_parameters: self.request_parameters,
            request_templates: self.request_templates,
            response_parameters: self.response_parameters,
            passthrough_behavior: self.passthrough_behavior,
            content_handling_strategy: self.content_handling,
            payload_format_version: self.payload_format_version,
            timeout_in_millis: self.timeout_in_millis,
            tls_config: self.server_name_to_verify.map(|name| http::TlsConfig {
                server_name_to_verify: Some(name),
            }),
            ..http::Integration::default()
        }
    }
}

const TYPES: &[&str] = &["http", "http_proxy", "aws", "aws_proxy", "mock"];

const KEYS: &[&str] = &[
    "type",
    "httpMethod",
    "uri",
    "connectionType",
    "connectionId",
    "credentials",
    "requestParameters",
    "requestTemplates",
    "passthroughBehavior",
    "contentHandling",
    "timeoutInMillis",
    "cacheNamespace",
    "cacheKeyParameters",
    "responses",
    "responseParameters",
    "tlsConfig",
    "responseTransferMode",
    "integrationTarget",
    "integrationSubtype",
    "payloadFormatVersion",
    "description",
];

/// 29,000 by default; accounts may have more (Amazon API Gateway, "Quotas").
const TIMEOUT_MS_MAX: u32 = 300_000;
