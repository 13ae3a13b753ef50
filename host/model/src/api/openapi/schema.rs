//! Schemas: OpenAPI's dialects → models whose text is JSON Schema.
//!
//! 3.1 schemas are JSON Schema already. Of 3.0 and Swagger 2.0, `nullable` and the boolean `exclusiveMinimum` and
//! `exclusiveMaximum` are translated and what only documents is left out. A reference becomes the service's reference to
//! another model, so that models stay small and may be recursive.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::at::At;
use super::{Context, Dialect};
use crate::api::{rest, stable_id};

/// The media type of a body that says none.
pub(super) const JSON: &str = "application/json";

/// The models of an API, those with names first, and then those that operations and other models refer to.
pub(super) struct Models<'r> {
    api_id: String,
    dialect: Dialect,
    schemas: Vec<(String, At<'r>)>,
    /// Pointer of the schema → its model's name.
    names: HashMap<String, String>,
}

impl<'r> Models<'r> {
    pub(super) fn new(context: &Context<'r>) -> Self {
        let named = match context.dialect {
            Dialect::Swagger2 => context.root.entries_at("definitions"),
            _ => context
                .root
                .get("components")
                .map(|at| at.entries_at("schemas"))
                .unwrap_or_default(),
        };
        let mut models = Self {
            api_id: context.api_id.to_owned(),
            dialect: context.dialect,
            schemas: Vec::new(),
            names: HashMap::new(),
        };
        for (name, at) in named {
            // The service's model names are alphanumeric.
            let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
            let taken = name.is_empty() || models.schemas.iter().any(|(other, _)| *other == name);
            models.add(if taken { name_of_place(&at) } else { name }, at);
        }
        models
    }

    fn add(&mut self, name: String, at: At<'r>) {
        self.names.insert(at.pointer.clone(), name.clone());
        self.schemas.push((name, at));
    }

    /// The name of the model for a schema: that of the one it refers to, else one that its place makes.
    pub(super) fn name_of(&mut self, schema: &At<'r>) -> Option<String> {
        let at = match schema.value.get("$ref") {
            Some(reference) => schema.follow(reference)?,
            None => schema.clone(),
        };
        if let Some(name) = self.names.get(&at.pointer) {
            return Some(name.clone());
        }
        let name = name_of_place(&at);
        self.add(name.clone(), at);
        Some(name)
    }

    /// All models.
    pub(super) fn finish(mut self) -> Vec<rest::Model> {
        let mut models = Vec::new();
        // A schema may refer to further ones, which are added behind it.
        while let Some((name, at)) = self.schemas.get(models.len()).cloned() {
            let schema = self.convert(&at);
            models.push(rest::Model {
                id: stable_id("model", &name),
                description: at
                    .value
                    .get("description")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
                schema: schema.to_string(),
                content_type: JSON.to_owned(),
                name,
            });
        }
        models
    }

    /// The recursion is as deep as the document, whose depth is bounded.
    fn convert(&mut self, at: &At<'r>) -> Value {
        let Some(schema) = at.value.as_object() else {
            if !at.value.is_boolean() {
                at.problem("is not a schema");
            }
            return at.value.clone();
        };
        let mut converted = Map::new();
        if schema.contains_key("$ref") && at.resolved().is_none() {
            return Value::Object(converted);
        }
        if let Some(name) = schema.get("$ref").and_then(|_| self.name_of(at)) {
            converted.insert(
                "$ref".to_owned(),
                rest::model_url(&self.api_id, &name).into(),
            );
            // Before 3.1, what stands beside a reference is ignored.
            if self.dialect != Dialect::OpenApi31 {
                return Value::Object(converted);
            }
        }
        for (key, at) in at.entries() {
            if key == "$ref" || self.dialect != Dialect::OpenApi31 && is_documentation(key) {
                continue;
            }
            let value = match shape(key, at.value) {
                Shape::Schema => self.convert(&at),
                Shape::List => at.items().iter().map(|item| self.convert(item)).collect(),
                Shape::Map => {
                    let entries = at.entries().into_iter();
                    Value::Object(
                        entries
                            .map(|(name, at)| (name.to_owned(), self.convert(&at)))
                            .collect(),
                    )
                }
                Shape::Plain => at.value.clone(),
            };
            converted.insert(key.to_owned(), value);
        }
        if self.dialect != Dialect::OpenApi31 {
            bound(&mut converted, "exclusiveMinimum", "minimum");
            bound(&mut converted, "exclusiveMaximum", "maximum");
            converted = nullable(converted);
        }
        Value::Object(converted)
    }
}

/// Before 3.1, `exclusiveMinimum: true` says that `minimum` itself is excluded.
fn bound(schema: &mut Map<String, Value>, exclusive: &str, inclusive: &str) {
    let Some(flag) = schema.get(exclusive).and_then(Value::as_bool) else {
        return;
    };
    schema.remove(exclusive);
    if flag && let Some(limit) = schema.remove(inclusive) {
        schema.insert(exclusive.to_owned(), limit);
    }
}

/// `nullable: true` adds null to the types and to the values that are enumerated.
fn nullable(mut schema: Map<String, Value>) -> Map<String, Value> {
    let flags = [schema.remove("nullable"), schema.remove("x-nullable")];
    if !flags.contains(&Some(Value::Bool(true))) {
        return schema;
    }
    match schema.get("type").cloned() {
        Some(Value::String(name)) => {
            schema.insert("type".to_owned(), json!([name, "null"]));
            if let Some(Value::Array(values)) = schema.get_mut("enum")
                && !values.contains(&Value::Null)
            {
                values.push(Value::Null);
            }
            schema
        }
        // 3.0.3: without a type, null is allowed unless something else forbids it.
        _ if schema.is_empty() => schema,
        _ => Map::from_iter([("anyOf".to_owned(), json!([schema, {"type": "null"}]))]),
    }
}

enum Shape {
    Schema,
    List,
    Map,
    Plain,
}

/// Where a keyword holds schemas (JSON Schema 2020-12, core and validation vocabularies).
fn shape(key: &str, value: &Value) -> Shape {
    match key {
        "items" if value.is_array() => Shape::List,
        "items"
        | "additionalItems"
        | "additionalProperties"
        | "unevaluatedItems"
        | "unevaluatedProperties"
        | "contains"
        | "propertyNames"
        | "not"
        | "if"
        | "then"
        | "else" => Shape::Schema,
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => Shape::List,
        "properties" | "patternProperties" | "dependentSchemas" | "$defs" | "definitions" => {
            Shape::Map
        }
        _ => Shape::Plain,
    }
}

fn is_documentation(key: &str) -> bool {
    let vendor = key.starts_with("x-") && key != "x-nullable";
    vendor
        || matches!(
            key,
            "example"
                | "externalDocs"
                | "xml"
                | "discriminator"
                | "deprecated"
                | "readOnly"
                | "writeOnly"
        )
}

fn name_of_place(at: &At<'_>) -> String {
    format!("Model{}", stable_id("model", &at.pointer))
}
