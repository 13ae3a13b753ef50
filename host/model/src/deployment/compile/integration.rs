//! Integrations → the built-ins `http` and `function`; [`mock`] has its own file.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{StageContext, bindings, mock};
use crate::api::{BindingSpec, http, rest};
use crate::config::Node;
use crate::deployment::Step;
use crate::problem::{Place, did_you_mean};

/// The integration of a method or route.
pub(super) enum IntegrationSource<'d> {
    Rest(&'d rest::Integration),
    Http(&'d http::Integration),
}

/// Why a route cannot be compiled: a sentence without its subject.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Refusal {
    pub(super) fn unsupported(what: &str) -> Self {
        Self {
            message: format!("{what} is not supported yet"),
            hint: None,
        }
    }

    pub(super) fn new(message: String) -> Self {
        Self {
            message,
            hint: None,
        }
    }
}

impl IntegrationSource<'_> {
    /// The integration's own timeout.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let timeout_ms = match self {
            Self::Rest(integration) => integration.timeout_in_millis,
            Self::Http(integration) => integration.timeout_in_millis,
        };
        timeout_ms.map(|ms| Duration::from_millis(ms.into()))
    }

    pub(super) fn compile(
        &self,
        stage: &StageContext<'_>,
        node: &Node,
        place: Place,
    ) -> Result<BindingSpec, Refusal> {
        let (kind, uri, connection) = match self {
            Self::Rest(it) => (&it.r#type, it.uri.as_deref(), it.connection_type.as_deref()),
            Self::Http(it) => (
                &it.integration_type,
                it.integration_uri.as_deref(),
                it.connection_type.as_deref(),
            ),
        };
        if connection.is_some_and(|connection| connection != "INTERNET") {
            return Err(Refusal::unsupported("an integration through a VPC link"));
        }
        let uri = uri.unwrap_or_default();
        let (plugin, configuration) = match (kind.as_str(), self) {
            (
                "AWS_PROXY",
                Self::Http(http::Integration {
                    integration_subtype: Some(subtype),
                    ..
                }),
            ) => {
                return Err(Refusal::unsupported(&format!(
                    "the integration subtype {subtype}"
                )));
            }
            ("AWS_PROXY", _) => ("function", function(uri, &stage.settings.variables, node)?),
            ("HTTP" | "HTTP_PROXY", Self::Rest(it)) => ("http", rest_http(it, uri, stage, node)?),
            ("HTTP_PROXY", Self::Http(it)) => (
                "http",
                forward(
                    uri,
                    it.integration_method.as_deref(),
                    true,
                    &BTreeMap::new(),
                    stage,
                    node,
                )?,
            ),
            ("MOCK", Self::Rest(it)) => ("mock", mock::configuration(it)?),
            (kind, Self::Http(_)) => {
                return Err(Refusal::new(format!(
                    "an HTTP API has no integrations of type {kind}"
                )));
            }
            (kind, _) => {
                return Err(Refusal::unsupported(&format!(
                    "an integration of type {kind}"
                )));
            }
        };
        Ok(bindings::builtin(
            Step::Integration,
            plugin,
            configuration,
            place,
        ))
    }
}

/// The function that a Lambda ARN names, in either form that the service takes.
///
/// Source: Amazon API Gateway, "x-amazon-apigateway-integration object", `uri`.
fn function(
    uri: &str,
    variables: &BTreeMap<String, String>,
    node: &Node,
) -> Result<Value, Refusal> {
    let uri = with_variables(uri, variables)?;
    let Some(name) = function_name(&uri) else {
        return Err(Refusal {
            message: format!("uri \"{uri}\" names no function"),
            hint: Some("write \"arn:aws:lambda:{region}:{account}:function:{name}\"".to_owned()),
        });
    };
    if !node.functions.contains_key(name) {
        let hint = did_you_mean(name, node.functions.keys().map(String::as_str));
        return Err(Refusal {
            message: format!("no function \"{name}\""),
            hint,
        });
    }
    Ok(json!({ "function": name }))
}

fn function_name(uri: &str) -> Option<&str> {
    let arn = match uri.split_once(":lambda:path/") {
        Some((_, path)) => path
            .split_once("/functions/")?
            .1
            .split("/invocations")
            .next()?,
        None => uri,
    };
    let fields: Vec<&str> = arn.split(':').collect();
    match fields.as_slice() {
        ["arn", _, "lambda", _, _, "function", name]
        | ["arn", _, "lambda", _, _, "function", name, _]
            if !name.is_empty() =>
        {
            Some(name)
        }
        _ => None,
    }
}

fn rest_http(
    integration: &rest::Integration,
    uri: &str,
    stage: &StageContext<'_>,
    node: &Node,
) -> Result<Value, Refusal> {
    let custom = integration.r#type == "HTTP";
    let responses = integration.integration_responses.values();
    let mapped = |response: &rest::IntegrationResponse| {
        !response.response_templates.is_empty()
            || !response.response_parameters.is_empty()
            || response
                .selection_pattern
                .as_ref()
                .is_some_and(|pattern| *pattern != response.status_code)
    };
    if custom && (!integration.request_templates.is_empty() || responses.into_iter().any(mapped)) {
        return Err(Refusal {
            message: "mapping templates of http integrations are not supported yet".to_owned(),
            hint: Some("use type http_proxy".to_owned()),
        });
    }
    if integration
        .tls_config
        .as_ref()
        .is_some_and(|tls| tls.insecure_skip_verification)
    {
        return Err(Refusal::unsupported("insecureSkipVerification"));
    }
    forward(
        uri,
        integration.http_method.as_deref(),
        !custom,
        &integration.request_parameters,
        stage,
        node,
    )
}

/// The `http` plugin's configuration.
fn forward(
    uri: &str,
    method: Option<&str>,
    pass_query: bool,
    parameters: &BTreeMap<String, String>,
    stage: &StageContext<'_>,
    node: &Node,
) -> Result<Value, Refusal> {
    let uri = known_host(uri, &stage.settings.variables, node)?;
    let mut configuration = Map::new();
    configuration.insert("uri".to_owned(), uri.into());
    if let Some(method) = method.filter(|method| *method != "ANY") {
        configuration.insert("method".to_owned(), method.into());
    }
    configuration.insert("passQuery".to_owned(), pass_query.into());
    if !parameters.is_empty() {
        configuration.insert("requestParameters".to_owned(), json!(parameters));
    }
    Ok(Value::Object(configuration))
}

/// The URI with its authority's stage variables put in, where the authority is an upstream or another host.
///
/// A single label that is no upstream is a typing error: it would be looked up in DNS at each request.
fn known_host(
    uri: &str,
    variables: &BTreeMap<String, String>,
    node: &Node,
) -> Result<String, Refusal> {
    let wrong = |why: &str| Refusal::new(format!("uri \"{uri}\" {why}"));
    let (scheme, rest) = uri
        .split_once("://")
        .ok_or_else(|| wrong("is not absolute"))?;
    if scheme != "http" && scheme != "https" {
        return Err(wrong("does not start with http:// or https://"));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (written, below) = rest.split_at(end);
    let authority = with_variables(written, variables)?;
    if authority.is_empty() || authority.contains(['{', '}', '@', ' ']) {
        return Err(wrong("has no literal host"));
    }
    let host = authority.split(':').next().unwrap_or_default();
    if host != authority && node.upstreams.contains_key(host) {
        let hint = Some(format!("write {scheme}://{host}{below}"));
        let message =
            format!("uri \"{uri}\" has a port, and upstream \"{host}\" has its targets' ports");
        return Err(Refusal { message, hint });
    }
    let is_upstream = node.upstreams.contains_key(&authority);
    if !is_upstream && !authority.contains(['.', ':']) && authority != "localhost" {
        let hint = did_you_mean(&authority, node.upstreams.keys().map(String::as_str));
        return Err(Refusal {
            message: format!("no upstream \"{authority}\""),
            hint,
        });
    }
    Ok(format!("{scheme}://{authority}{below}"))
}

/// `text` with each `${stageVariables.name}` replaced.
fn with_variables(text: &str, variables: &BTreeMap<String, String>) -> Result<String, Refusal> {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${stageVariables.") {
        let (name, after) = after
            .split_once('}')
            .ok_or_else(|| Refusal::new(format!("\"{text}\" lacks a }}")))?;
        let Some(value) = variables.get(name) else {
            let hint = did_you_mean(name, variables.keys().map(String::as_str));
            return Err(Refusal {
                message: format!("the stage has no variable \"{name}\""),
                hint,
            });
        };
        replaced.push_str(before);
        replaced.push_str(value);
        rest = after;
    }
    replaced.push_str(rest);
    Ok(replaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_named_by_its_arn() {
        let invocation = "arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/";
        let arn = "arn:aws:lambda:eu-west-1:123456789012:function:items";
        let cases = [
            (format!("{invocation}{arn}/invocations"), Some("items")),
            (format!("{invocation}{arn}:live/invocations"), Some("items")),
            (arn.to_owned(), Some("items")),
            (format!("{arn}:7"), Some("items")),
            (
                "arn:aws-cn:lambda:cn-north-1:1:function:items".to_owned(),
                Some("items"),
            ),
            (
                "arn:aws:apigateway:eu-west-1:sqs:path/1/queue".to_owned(),
                None,
            ),
            ("arn:aws:lambda:eu-west-1:1:function:".to_owned(), None),
            ("items".to_owned(), None),
        ];
        for (uri, expected) in cases {
            assert_eq!(function_name(&uri), expected, "{uri}");
        }
    }
}
