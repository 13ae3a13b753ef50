//! The parameter mapping of HTTP APIs → the `header-transform` plugin's configuration.
//!
//! Source: Amazon API Gateway, "Transform API requests and responses for HTTP APIs".

use serde_json::{Map, Value, json};

use super::integration::Refusal;
use crate::api::http::Integration;

/// The changes to requests; `None` where there are none.
pub(super) fn configuration(integration: &Integration) -> Result<Option<Value>, Refusal> {
    if !integration.response_parameters.is_empty() {
        return Err(Refusal::unsupported(
            "responseParameters of an HTTP API's integration",
        ));
    }
    let mut request = Map::new();
    for (key, value) in &integration.request_parameters {
        let wrong = || Refusal::unsupported(&format!("the parameter mapping \"{key}\""));
        let (operation, target) = key.split_once(':').ok_or_else(wrong)?;
        let (place, name) = target.split_once('.').unwrap_or((target, ""));
        let (part, operation) = match (place, operation) {
            ("path", "overwrite") if name.is_empty() => {
                request.insert("path".to_owned(), template(value).into());
                continue;
            }
            ("header", "append") => ("headers", "append"),
            ("header", "overwrite") => ("headers", "set"),
            ("header", "remove") => ("headers", "remove"),
            // A query parameter of the mapping has one value: adding it to none is setting it.
            ("querystring", "append" | "overwrite") => ("query", "set"),
            ("querystring", "remove") => ("query", "remove"),
            _ => return Err(wrong()),
        };
        if name.is_empty() {
            return Err(wrong());
        }
        let part = request.entry(part).or_insert_with(|| json!({}));
        if operation == "remove" {
            match &mut part[operation] {
                Value::Array(names) => names.push(name.into()),
                absent => *absent = json!([name]),
            }
        } else {
            part[operation][name] = template(value).into();
        }
    }
    Ok((!request.is_empty()).then(|| json!({ "request": request })))
}

/// `$request.header.x` alone is an expression; in text expressions are in braces already.
fn template(value: &str) -> String {
    match value.strip_prefix('$') {
        Some(expression) if !expression.starts_with('{') => format!("${{{expression}}}"),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_mapping_becomes_a_header_transform() {
        let cases = [
            (json!({}), Some(Value::Null)),
            (
                json!({"append:header.x-a": "$request.header.b", "overwrite:header.c": "v-${context.requestId}",
                       "remove:header.d": "''", "remove:header.e": ""}),
                Some(
                    json!({"request": {"headers": {"append": {"x-a": "${request.header.b}"},
                       "set": {"c": "v-${context.requestId}"}, "remove": ["d", "e"]}}}),
                ),
            ),
            (
                json!({"overwrite:path": "$request.path.proxy", "overwrite:querystring.a": "1", "remove:querystring.b": ""}),
                Some(
                    json!({"request": {"path": "${request.path.proxy}", "query": {"set": {"a": "1"}, "remove": ["b"]}}}),
                ),
            ),
            (json!({"append:path": "x"}), None),
            (json!({"overwrite:statuscode": "200"}), None),
            (json!({"header.x": "1"}), None),
            (json!({"append:header.": "1"}), None),
        ];
        for (parameters, expected) in cases {
            let integration = Integration {
                request_parameters: serde_json::from_value(parameters.clone()).unwrap(),
                ..Integration::default()
            };
            let configuration = configuration(&integration)
                .ok()
                .map(Option::unwrap_or_default);
            assert_eq!(configuration, expected, "{parameters}");
        }
    }
}
