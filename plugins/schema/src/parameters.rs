//! Required parameters, and the schemas of their values.

use tidegate_plugin::configuration::{Field, Fields};
use tidegate_plugin::json::{self, Value};
use tidegate_plugin::{ConfigurationError, Given, Reading, Reads, field};

use crate::dialect::{self, Compiled};

/// A parameter that requests have, or may have.
#[derive(Debug)]
pub struct Parameter {
    name: String,
    required: bool,
    schema: Option<Compiled>,
    /// Its place among the given values.
    place: usize,
}

/// Takes the list of parameters.
pub fn read(list: Field, reads: &mut Reads) -> Result<Vec<Parameter>, ConfigurationError> {
    list.list()?
        .into_iter()
        .map(|parameter| one(parameter.object()?, reads))
        .collect()
}

fn one(mut fields: Fields, reads: &mut Reads) -> Result<Parameter, ConfigurationError> {
    let place = fields.required("in")?;
    let named = fields.required("name")?;
    let name = named.string()?;
    let reading = match place.string()?.as_str() {
        "header" => Reading::Header(named.parse(field::name)?),
        "querystring" => Reading::QueryParameter(name.clone()),
        "path" => Reading::PathParameter(name.clone()),
        other => {
            return Err(place.error(format!("\"{other}\" is none of header, querystring, path")));
        }
    };
    let required = match fields.optional("required") {
        Some(required) => required.boolean()?,
        None => false,
    };
    let schema = match fields.optional("schema") {
        Some(schema) => Some(dialect::compile(&schema)?),
        None => None,
    };
    let place = reads.place(reading).map_err(|reason| named.error(reason))?;
    fields.finish()?;
    Ok(Parameter {
        name,
        required,
        schema,
        place,
    })
}

/// What is wrong with a request's parameters, in API Gateway's words.
pub fn judge(parameters: &[Parameter], given: &Given) -> Option<String> {
    let missing = parameters.iter().filter(|parameter| {
        // API Gateway: "included and not blank".
        parameter.required
            && given
                .get(parameter.place)
                .is_none_or(|value| value.trim().is_empty())
    });
    let missing: Vec<&str> = missing.map(|parameter| parameter.name.as_str()).collect();
    if !missing.is_empty() {
        return Some(format!(
            "Missing required request parameters: [{}]",
            missing.join(", ")
        ));
    }
    let invalid = parameters.iter().filter(|parameter| {
        match (&parameter.schema, given.get(parameter.place)) {
            (Some(schema), Some(text)) => !schema.accepts_text(text),
            _ => false,
        }
    });
    let invalid: Vec<&str> = invalid.map(|parameter| parameter.name.as_str()).collect();
    (!invalid.is_empty()).then(|| format!("Invalid request parameters: [{}]", invalid.join(", ")))
}

impl Compiled {
    /// Whether a parameter's text fits: as it stands, or read as the number or truth value that it looks like.
    fn accepts_text(&self, text: &str) -> bool {
        if self.accepts(&Value::String(text.into())) {
            return true;
        }
        match json::from_str(text) {
            Ok(value @ (Value::Number(_) | Value::Bool(_))) => self.accepts(&value),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_plugin::Configuration;

    fn judge_values(configuration: &str, values: &[Option<&str>]) -> Option<String> {
        let field = Configuration::parse(configuration).unwrap().field();
        let parameters = read(field, &mut Reads::default()).unwrap();
        let values: Vec<_> = values.iter().map(|value| value.map(String::from)).collect();
        judge(&parameters, &values.into())
    }

    #[test]
    fn all_missing_parameters_are_named_in_their_order() {
        let configuration = r#"[{"in": "querystring", "name": "b", "required": true},
                                {"in": "header", "name": "A", "required": true},
                                {"in": "path", "name": "c"}]"#;
        let message = |text: &str| Some(text.to_string());
        let cases: [(&[Option<&str>], _); 4] = [
            (
                &[None, None, None],
                message("Missing required request parameters: [b, A]"),
            ),
            (
                &[Some("x"), Some(" "), None],
                message("Missing required request parameters: [A]"),
            ),
            (&[Some("x"), Some("y"), None], None),
            (&[Some("x"), Some("y"), Some("z")], None),
        ];
        for (values, expected) in cases {
            assert_eq!(judge_values(configuration, values), expected, "{values:?}");
        }
    }

    #[test]
    fn a_value_is_judged_as_what_its_schema_asks_for() {
        let cases = [
            (r#"{"type": "integer", "minimum": 1}"#, "5", true),
            (r#"{"type": "integer", "minimum": 1}"#, "0", false),
            (r#"{"type": "integer"}"#, "x", false),
            (r#"{"type": "integer"}"#, "[1]", false),
            (r#"{"type": "boolean"}"#, "true", true),
            (r#"{"type": "boolean"}"#, "yes", false),
            (r#"{"type": "string", "maxLength": 2}"#, "123", false),
            (r#"{"type": "string", "enum": ["1"]}"#, "1", true),
        ];
        for (schema, text, is_valid) in cases {
            let configuration = format!(r#"[{{"in": "path", "name": "p", "schema": {schema}}}]"#);
            let message = (!is_valid).then(|| "Invalid request parameters: [p]".to_string());
            assert_eq!(
                judge_values(&configuration, &[Some(text)]),
                message,
                "{schema} {text}"
            );
        }
    }
}
