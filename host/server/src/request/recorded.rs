//! A step call as a case: what `tidegate plugin test` makes of the same request is to be the same answer.
//!
//! Left out is what cannot be played again: faults, refusals of throttles, which are about other requests, and bodies that are
//! no text.

use serde_json::{Map, Value, json};
use tidegate_model::deployment::Binding;
use tidegate_sandbox::Exchange as _;

use super::Exchange;
use crate::cases::answers::fields_value;
use crate::cases::record::Wanted;

/// A step call as the case of that number; `None` where it cannot be played again.
pub fn case(
    binding: &Binding,
    exchange: &Exchange,
    answer: Value,
    wanted: &Wanted,
    number: usize,
) -> Option<Value> {
    let throttled = ["reject", "exceeded"];
    if throttled.iter().any(|word| answer.get(word).is_some()) {
        return None;
    }
    let fields = |headers| {
        let mut fields = fields_value(headers);
        if let (Value::Object(fields), false) = (&mut fields, wanted.keeps_secrets) {
            for (name, value) in fields {
                if SECRETS.contains(&name.as_str()) {
                    *value = REDACTED.into();
                }
            }
        }
        fields
    };
    let text = |body: Option<&bytes::Bytes>| match body {
        Some(body) => std::str::from_utf8(body).ok().map(str::to_owned),
        None => Some(String::new()), // the plugin reads none
    };
    let variables = CONTEXT.iter().filter_map(|name| {
        let value = exchange.context(name)?;
        Some(((*name).to_owned(), Value::from(value)))
    });
    let of_authorizers = exchange.account.principal.iter().flat_map(|principal| {
        let context = principal.context.iter();
        context.map(|(key, value)| (format!("authorizer.{key}"), Value::from(value.as_str())))
    });
    let parameters = exchange.path_parameters().into_iter();
    let parameters = parameters.map(|(name, value)| (name, Value::from(value)));
    let stage = exchange.stage.variables.iter();
    let stage = stage.map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    let mut request = json!({
        "method": exchange.method(),
        "path": exchange.path(),
        "headers": fields(exchange.headers()),
        "path-parameters": parameters.collect::<Map<_, _>>(),
        "stage-variables": stage.collect::<Map<_, _>>(),
        "context": variables.chain(of_authorizers).collect::<Map<_, _>>(),
        "body": text(exchange.body())?,
    });
    if let Some(query) = exchange.query_string() {
        request["query-string"] = query.into();
    }
    let mut case = json!({
        "name": format!("{number}: {} {}", exchange.method(), exchange.path()),
        "step": binding.step,
        "configuration": binding.configuration,
        "request": request,
        "expect": without_nothing(answer),
    });
    if let Some((status, headers)) = exchange.response() {
        case["response"] = json!({
            "status": status.as_u16(),
            "headers": fields(headers),
            "body": text(exchange.response_body())?,
        });
    }
    Some(without_nothing(case))
}

/// TOML has no `null`: a member without a value is left out, and an answer without one agrees with any.
fn without_nothing(value: Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Object(members) => {
            let alone = members.len() == 1;
            let said = members
                .into_iter()
                .filter(|(_, value)| alone || !value.is_null());
            said.map(|(name, value)| (name, without_nothing(value)))
                .collect::<Map<_, _>>()
                .into()
        }
        other => other,
    }
}

/// Fields whose values are secrets of callers.
const SECRETS: [&str; 5] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-api-key",
];
/// What stands in their place.
const REDACTED: &str = "redacted";
/// What plugins can ask of the request by `$context` before it has been answered.
const CONTEXT: [&str; 16] = [
    "accountId",
    "apiId",
    "authorizer.principalId",
    "deploymentId",
    "domainName",
    "httpMethod",
    "identity.apiKeyId",
    "identity.sourceIp",
    "identity.userAgent",
    "path",
    "protocol",
    "requestId",
    "requestTime",
    "resourcePath",
    "routeKey",
    "stage",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_value_is_left_out_or_agrees_with_any() {
        for (answer, expected) in [
            (
                json!({ "allow": { "id": "a", "usage-identifier-key": null, "context": {} } }),
                json!({ "allow": { "id": "a", "context": {} } }),
            ),
            (
                json!({ "unauthorized": null }),
                json!({ "unauthorized": {} }),
            ),
            (json!({ "edits": [] }), json!({ "edits": [] })),
        ] {
            assert_eq!(without_nothing(answer), expected);
        }
    }
}
