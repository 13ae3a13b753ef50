//! Request validators, models and required parameters → the `schema` plugin's configuration.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::integration::Refusal;
use crate::api::rest::{Definition, Method, model_url};

/// What a method's validator checks; `None` where that is nothing.
///
/// Source: Amazon API Gateway, "Request validation for REST APIs".
pub(super) fn configuration(
    api: &Definition,
    method: &Method,
    body_required: bool,
) -> Result<Option<Value>, Refusal> {
    let Some(id) = &method.request_validator_id else {
        return Ok(None);
    };
    let Some(validator) = api
        .request_validators
        .iter()
        .find(|validator| validator.id == *id)
    else {
        return Err(Refusal {
            message: "its request validator does not exist".to_owned(),
            hint: None,
        });
    };
    let mut configuration = Map::new();
    if validator.validate_request_parameters {
        let parameters = required_parameters(method);
        if !parameters.is_empty() {
            configuration.insert("parameters".to_owned(), parameters.into());
        }
    }
    if validator.validate_request_body && !method.request_models.is_empty() {
        let mut content = Map::new();
        for (media_type, model) in &method.request_models {
            content.insert(media_type.clone(), whole_schema(api, model)?);
        }
        configuration.insert(
            "body".to_owned(),
            json!({ "required": body_required, "content": content }),
        );
    }
    Ok((!configuration.is_empty()).then_some(Value::Object(configuration)))
}

/// Those that a request may lack: a path parameter is there by the route's nature.
fn required_parameters(method: &Method) -> Vec<Value> {
    let required = method
        .request_parameters
        .iter()
        .filter(|(_, required)| **required);
    let parameters = required.filter_map(|(key, _)| {
        let (place, name) = key.strip_prefix("method.request.")?.split_once('.')?;
        (place != "path").then(|| json!({ "in": place, "name": name, "required": true }))
    });
    parameters.collect()
}

/// A model's schema with all models that it refers to, directly or not, as its `$defs`.
fn whole_schema(api: &Definition, name: &str) -> Result<Value, Refusal> {
    let mut root = schema_of(api, name)?;
    let prefix = model_url(&api.rest_api.id, "");
    let mut wanted = Vec::new();
    refer_within(&mut root, &prefix, &mut wanted);
    let mut definitions = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        if definitions.contains_key(&name) {
            continue;
        }
        let mut schema = schema_of(api, &name)?;
        refer_within(&mut schema, &prefix, &mut wanted);
        definitions.insert(name, schema);
    }
    if let (Value::Object(root), false) = (&mut root, definitions.is_empty()) {
        let own = root.entry("$defs").or_insert_with(|| json!({}));
        for (name, schema) in definitions {
            own[name] = schema;
        }
    }
    Ok(root)
}

fn schema_of(api: &Definition, name: &str) -> Result<Value, Refusal> {
    let refused = |what: &str| Refusal {
        message: format!("model \"{name}\" {what}"),
        hint: None,
    };
    let model = api
        .models
        .iter()
        .find(|model| model.name == name)
        .ok_or_else(|| refused("does not exist"))?;
    serde_json::from_str(&model.schema).map_err(|_| refused("has a schema that is not JSON"))
}

/// Makes references to other models references to `$defs`, and notes their names.
fn refer_within(schema: &mut Value, prefix: &str, wanted: &mut Vec<String>) {
    match schema {
        Value::Object(entries) => {
            for (key, value) in entries {
                let name = value
                    .as_str()
                    .filter(|_| key == "$ref")
                    .and_then(|url| url.strip_prefix(prefix));
                match name.map(str::to_owned) {
                    Some(name) => {
                        *value = format!("#/$defs/{name}").into();
                        wanted.push(name);
                    }
                    None => refer_within(value, prefix, wanted),
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| refer_within(item, prefix, wanted)),
        _ => {}
    }
}
