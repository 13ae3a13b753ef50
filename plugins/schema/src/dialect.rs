//! JSON Schema as API definitions write it: draft 4 (API Gateway's models), OpenAPI 3.0's own dialect of it, and the later
//! drafts that OpenAPI 3.1 uses.

use jsonschema::{Draft, ValidationOptions, Validator};
use tidegate_plugin::ConfigurationError;
use tidegate_plugin::configuration::Field;
use tidegate_plugin::json::{Map, Value, json};

/// A schema ready to judge values.
#[derive(Debug)]
pub struct Compiled(Validator);

impl Compiled {
    /// Whether the value fits.
    pub fn accepts(&self, value: &Value) -> bool {
        self.0.is_valid(value)
    }
}

/// Compiles a schema. References reach only into the schema itself.
pub fn compile(schema: &Field) -> Result<Compiled, ConfigurationError> {
    let mut value = schema.as_value().clone();
    let options = match value.get("$schema") {
        Some(_) => jsonschema::options(),
        None => {
            modernize(&mut value);
            jsonschema::options().with_draft(draft(&value))
        }
    };
    let options: ValidationOptions = options;
    match options.build(&value) {
        Ok(validator) => Ok(Compiled(validator)),
        Err(error) => Err(schema.error(format!("is no JSON Schema: {error}"))),
    }
}

/// The draft of a schema that does not name one. 2019-09 still knows lists in `items`, as draft 4 does; `prefixItems`
/// is what came in their place.
fn draft(schema: &Value) -> Draft {
    let is_new = match schema {
        Value::Object(members) => {
            members.contains_key("prefixItems")
                || members
                    .values()
                    .any(|value| draft(value) == Draft::Draft202012)
        }
        Value::Array(values) => values
            .iter()
            .any(|value| draft(value) == Draft::Draft202012),
        _ => false,
    };
    if is_new {
        Draft::Draft202012
    } else {
        Draft::Draft201909
    }
}

/// Says in later drafts' words what draft 4 and OpenAPI 3.0 say in theirs: `nullable`, a true `exclusiveMinimum`, `id`.
fn modernize(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.remove("nullable") == Some(Value::Bool(true)) {
                allow_null(members);
            }
            exclude("exclusiveMinimum", "minimum", members);
            exclude("exclusiveMaximum", "maximum", members);
            for (name, value) in members {
                match name.as_str() {
                    // Their values are data, not schemas.
                    "const" | "default" | "enum" | "example" | "examples" | "required" => {}
                    "properties" | "patternProperties" | "definitions" | "$defs"
                    | "dependentSchemas" => {
                        for schema in value.as_object_mut().into_iter().flat_map(Map::values_mut) {
                            modernize(schema);
                        }
                    }
                    _ => modernize(value),
                }
            }
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(modernize),
        _ => {}
    }
}

/// OpenAPI 3.0: `nullable` lets `null` in beside what `type` and `enum` allow; without a `type` it says nothing.
fn allow_null(members: &mut Map<String, Value>) {
    match members.get_mut("type") {
        Some(Value::Array(types)) => types.push(json!("null")),
        Some(one) => *one = json!([one.take(), "null"]),
        None => return,
    }
    if let Some(Value::Array(values)) = members.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
}

/// Draft 4: a true `exclusive` makes the bound itself unfit.
fn exclude(exclusive: &str, bound: &str, members: &mut Map<String, Value>) {
    if let Some(Value::Bool(is_exclusive)) = members.get(exclusive) {
        let is_exclusive = *is_exclusive;
        members.remove(exclusive);
        if is_exclusive && let Some(value) = members.remove(bound) {
            members.insert(exclusive.into(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_plugin::Configuration;

    fn accepts(schema: &Value, value: &Value) -> bool {
        let field = Configuration::parse(&schema.to_string()).unwrap().field();
        compile(&field).unwrap().accepts(value)
    }

    #[test]
    fn every_dialect_means_what_it_says() {
        let cases = [
            (
                json!({"type": "number", "minimum": 1, "exclusiveMinimum": true}),
                json!(1.5),
                json!(1),
            ),
            (
                json!({"type": "number", "maximum": 1, "exclusiveMaximum": false}),
                json!(1),
                json!(2),
            ),
            (json!({"exclusiveMinimum": 1}), json!(2), json!(1)),
            (
                json!({"type": "string", "nullable": true}),
                json!(null),
                json!(1),
            ),
            (
                json!({"type": "string", "enum": ["a"], "nullable": true}),
                json!(null),
                json!("b"),
            ),
            (json!({"type": ["string", "null"]}), json!(null), json!(1)),
            (
                json!({"properties": {"nullable": {"type": "boolean"}}}),
                json!({"nullable": true}),
                json!({"nullable": 1}),
            ),
            (
                json!({"items": [{"type": "string"}], "additionalItems": false}),
                json!(["a"]),
                json!(["a", 1]),
            ),
            (
                json!({"prefixItems": [{"type": "string"}], "items": false}),
                json!(["a"]),
                json!(["a", 1]),
            ),
            (
                json!({"const": {"nullable": true}}),
                json!({"nullable": true}),
                json!({}),
            ),
            (
                json!({"$ref": "#/definitions/a", "definitions": {"a": {"type": "string", "nullable": true}}}),
                json!(null),
                json!(1),
            ),
            (
                json!({"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 1, "exclusiveMaximum": true}),
                json!(0),
                json!(1),
            ),
            (
                json!({"type": "string", "pattern": "^a+$"}),
                json!("aa"),
                json!("ab"),
            ),
            (
                json!({"required": ["a"], "additionalProperties": false, "properties": {"a": {}}}),
                json!({"a": 1}),
                json!({"a": 1, "b": 1}),
            ),
            (
                json!({"if": {"required": ["a"]}, "then": {"required": ["b"]}}),
                json!({"a": 1, "b": 1}),
                json!({"a": 1}),
            ),
        ];
        for (schema, good, bad) in cases {
            assert!(accepts(&schema, &good), "{schema} {good}");
            assert!(!accepts(&schema, &bad), "{schema} {bad}");
        }
    }
}
