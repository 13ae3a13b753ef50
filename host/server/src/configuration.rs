//! A binding's configuration against the schema that its plugin carries.

use serde_json::Value;
use tidegate_sandbox::Plugin;

/// Checks a configuration before the plugin is handed it.
///
/// # Errors
///
/// Every problem, each with the JSON pointer (RFC 6901) that it is about; or what is wrong with the schema.
pub fn check(plugin: &Plugin, configuration: &Value) -> Result<(), String> {
    match plugin.schema() {
        Some(schema) => check_against(schema, configuration),
        None => Ok(()),
    }
}

fn check_against(schema: &str, configuration: &Value) -> Result<(), String> {
    let schema: Value = serde_json::from_str(schema)
        .map_err(|error| format!("the plugin's configuration schema is no JSON: {error}"))?;
    let validator = jsonschema::validator_for(&schema)
        .map_err(|error| format!("the plugin's configuration schema cannot be used: {error}"))?;
    let problems: Vec<String> = validator
        .iter_errors(configuration)
        .map(|error| {
            let pointer = error.instance_path().to_string();
            match pointer.as_str() {
                "" => format!("the configuration: {error}"),
                pointer => format!("{pointer}: {error}"),
            }
        })
        .collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SCHEMA: &str = r#"{
        "type": "object",
        "properties": { "rate": { "type": "number", "exclusiveMinimum": 0 }, "list": { "items": { "type": "string" } } },
        "required": ["rate"],
        "additionalProperties": false
    }"#;

    #[test]
    fn every_problem_has_its_pointer() {
        assert_eq!(check_against(SCHEMA, &json!({ "rate": 1 })), Ok(()));
        let cases = [
            (json!({ "rate": 0 }), "/rate: "),
            (json!({ "rate": 1, "list": ["a", 2] }), "/list/1: "),
            (json!({}), "the configuration: \"rate\""),
            (json!({ "rate": 1, "rite": 2 }), "'rite'"),
        ];
        for (configuration, named) in cases {
            let problem = check_against(SCHEMA, &configuration).unwrap_err();
            assert!(problem.contains(named), "{configuration}: {problem}");
        }
    }

    #[test]
    fn a_schema_that_is_none_is_said_to_be_the_plugins() {
        for schema in ["{", r#"{ "type": "strong" }"#] {
            let problem = check_against(schema, &json!({})).unwrap_err();
            assert!(
                problem.starts_with("the plugin's configuration schema"),
                "{problem}"
            );
        }
    }
}
