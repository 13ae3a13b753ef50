//! Mock integrations → the built-in `mock`.

use serde_json::{Map, Value, json};

use super::integration::Refusal;
use crate::api::rest;

/// The `mock` plugin's configuration: the request template names the status code, which chooses the response.
///
/// Source: Amazon API Gateway, "Set up mock integrations".
pub(super) fn configuration(integration: &rest::Integration) -> Result<Value, Refusal> {
    let status = match integration.request_templates.values().next() {
        None => 200,
        Some(template) => status_of(template)?,
    };
    let responses = &integration.integration_responses;
    let matching = responses.values().find(|it| {
        it.selection_pattern
            .as_deref()
            .is_some_and(|it| it == status.to_string())
    });
    let default = responses
        .values()
        .find(|response| response.selection_pattern.is_none());
    let Some(response) = matching.or(default) else {
        return Ok(json!({ "statusCode": status }));
    };
    let status: u16 = response.status_code.parse().unwrap_or(status);
    let mut headers = Map::new();
    for (name, value) in &response.response_parameters {
        let name = name.strip_prefix("method.response.header.").unwrap_or(name);
        let literal = value
            .strip_prefix('\'')
            .and_then(|value| value.strip_suffix('\''));
        let template = match literal {
            Some(literal) => literal.replace("${", "$${"),
            None if value.starts_with("context.") || value.starts_with("stageVariables.") => {
                format!("${{{value}}}")
            }
            None => {
                return Err(Refusal::unsupported(&format!(
                    "the response parameter {value}"
                )));
            }
        };
        headers.insert(name.to_owned(), template.into());
    }
    let mut configuration = json!({ "statusCode": status });
    if let Some((media_type, template)) = response.response_templates.iter().next() {
        if !headers
            .keys()
            .any(|name| name.eq_ignore_ascii_case("content-type"))
        {
            headers.insert("content-type".to_owned(), media_type.as_str().into());
        }
        configuration["body"] = body_of(template)?.into();
    }
    if !headers.is_empty() {
        configuration["headers"] = Value::Object(headers);
    }
    Ok(configuration)
}

fn status_of(template: &str) -> Result<u16, Refusal> {
    let status = serde_json::from_str::<Value>(template)
        .ok()
        .and_then(|it| it.get("statusCode")?.as_u64());
    status
        .and_then(|status| u16::try_from(status).ok())
        .ok_or_else(|| {
            Refusal::new("the mock's request template is not `{\"statusCode\": 200}`".to_owned())
        })
}

/// A response template as the plugin's template. References to `$context` and `$stageVariables` are the same in both but
/// for their braces; what else the service's template language has is not supported yet.
fn body_of(template: &str) -> Result<String, Refusal> {
    let mut body = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        body.push_str(before);
        let braced = after.starts_with('{');
        let reference = after.strip_prefix('{').unwrap_or(after);
        let length = reference
            .bytes()
            .take_while(|it| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_'))
            .count();
        let name = reference[..length].trim_end_matches('.');
        if !name.starts_with("context.") && !name.starts_with("stageVariables.") {
            return Err(Refusal::unsupported(
                "a mapping template with more than $context and $stageVariables",
            ));
        }
        body.push_str(&format!("${{{name}}}"));
        rest = &reference[name.len()..];
        if braced {
            rest = rest
                .strip_prefix('}')
                .ok_or_else(|| Refusal::unsupported("this mapping template"))?;
        }
    }
    body.push_str(rest);
    let directives = ["#set", "#if", "#foreach", "#else", "#end", "##", "#*"];
    if directives
        .iter()
        .any(|directive| template.contains(directive))
    {
        return Err(Refusal::unsupported("a mapping template with directives"));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_may_refer_to_context_and_stage_variables() {
        let cases = [
            ("{\"a\": 1}", Some("{\"a\": 1}")),
            ("$context.requestId.", Some("${context.requestId}.")),
            (
                "${context.identity.sourceIp}x",
                Some("${context.identity.sourceIp}x"),
            ),
            (
                "$stageVariables.a $stageVariables.b",
                Some("${stageVariables.a} ${stageVariables.b}"),
            ),
            ("$input.body", None),
            ("$", None),
            ("#set($x = 1)", None),
            ("$util.escapeJavaScript('x')", None),
        ];
        for (template, expected) in cases {
            assert_eq!(body_of(template).ok().as_deref(), expected, "{template}");
        }
    }
}
