//! Strict reading of a binding's configuration: each value is taken by its key, what is left over is refused, and every
//! error says where by a JSON pointer (RFC 6901).
//!
//! ```
//! use tidegate_plugin::Configuration;
//!
//! let mut fields = Configuration::parse(r#"{"rate": 0, "brust": 20}"#).unwrap().object().unwrap();
//! let rate = fields.required("rate").unwrap();
//! assert_eq!(rate.error("must be above 0").to_string(), "/rate: must be above 0");
//! assert_eq!(fields.finish().unwrap_err().to_string(), "/brust: unknown key; there is rate");
//! ```

use std::fmt;

use serde_json::{Map, Value};

use crate::types::{Part, Reading, Template};
use crate::{Reads, Text, field};

/// A binding's configuration as the host handed it over.
#[derive(Debug)]
pub struct Configuration(Field);

impl Configuration {
    /// Reads one JSON document.
    ///
    /// # Errors
    ///
    /// The text is no JSON.
    pub fn parse(text: &str) -> Result<Self, ConfigurationError> {
        match serde_json::from_str(text) {
            Ok(value) => Ok(Self(Field {
                pointer: String::new(),
                value,
            })),
            Err(error) => Err(ConfigurationError {
                pointer: String::new(),
                reason: format!("is no JSON: {error}"),
            }),
        }
    }

    /// The configuration as an object.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn object(self) -> Result<Fields, ConfigurationError> {
        self.0.object()
    }

    /// The whole configuration as one value.
    pub fn field(self) -> Field {
        self.0
    }
}

/// What is wrong with a configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationError {
    pointer: String,
    reason: String,
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_str() {
            "" => write!(out, "the configuration {}", self.reason),
            pointer => write!(out, "{pointer}: {}", self.reason),
        }
    }
}

impl std::error::Error for ConfigurationError {}

/// The members of a JSON object, taken one by one. A member that is `null` counts as absent.
#[derive(Debug)]
pub struct Fields {
    pointer: String,
    members: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Fields {
    /// The member `key`, if it is there.
    pub fn optional(&mut self, key: &'static str) -> Option<Field> {
        self.known.push(key);
        match self.members.remove(key)? {
            Value::Null => None,
            value => Some(Field {
                pointer: below(&self.pointer, key),
                value,
            }),
        }
    }

    /// The member `key`.
    ///
    /// # Errors
    ///
    /// It is absent.
    pub fn required(&mut self, key: &'static str) -> Result<Field, ConfigurationError> {
        match self.optional(key) {
            Some(field) => Ok(field),
            None => Err(ConfigurationError {
                pointer: below(&self.pointer, key),
                reason: "is missing".into(),
            }),
        }
    }

    /// All members that are left, with their keys: for an object whose keys are the operator's.
    pub fn rest(self) -> impl Iterator<Item = (String, Field)> {
        let pointer = self.pointer;
        self.members.into_iter().map(move |(key, value)| {
            let pointer = below(&pointer, &key);
            (key, Field { pointer, value })
        })
    }

    /// All members that are left, with their keys as names of header fields in lower case.
    ///
    /// # Errors
    ///
    /// A key is no name that a plugin may give a field ([`field::own_name`]).
    pub fn header_fields(self) -> Result<Vec<(String, Field)>, ConfigurationError> {
        self.rest()
            .map(|(key, field)| match field::own_name(&key) {
                Ok(name) => Ok((name, field)),
                Err(reason) => Err(field.error(reason)),
            })
            .collect()
    }

    /// An error about the object itself.
    pub fn error(&self, reason: impl Into<String>) -> ConfigurationError {
        ConfigurationError {
            pointer: self.pointer.clone(),
            reason: reason.into(),
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// There is a member that was never asked for.
    pub fn finish(self) -> Result<(), ConfigurationError> {
        match self.members.keys().next() {
            None => Ok(()),
            Some(key) => Err(ConfigurationError {
                pointer: below(&self.pointer, key),
                reason: match self.known.as_slice() {
                    [] => "unknown key; there is none".into(),
                    known => format!("unknown key; there is {}", known.join(", ")),
                },
            }),
        }
    }
}

/// A value and its place.
#[derive(Debug)]
pub struct Field {
    pointer: String,
    value: Value,
}

impl Field {
    /// An error about this value.
    pub fn error(&self, reason: impl Into<String>) -> ConfigurationError {
        ConfigurationError {
            pointer: self.pointer.clone(),
            reason: reason.into(),
        }
    }

    /// The value as it stands.
    pub fn value(self) -> Value {
        self.value
    }

    /// The value, to look at.
    pub fn as_value(&self) -> &Value {
        &self.value
    }

    /// A string.
    ///
    /// # Errors
    ///
    /// It is something else.
    pub fn string(&self) -> Result<String, ConfigurationError> {
        match &self.value {
            Value::String(text) => Ok(text.clone()),
            _ => Err(self.error("must be a string")),
        }
    }

    /// A string that `read` makes something of; its error becomes one about this value.
    ///
    /// # Errors
    ///
    /// It is no string, or `read` refuses it.
    pub fn parse<T>(
        &self,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigurationError> {
        match &self.value {
            Value::String(text) => read(text).map_err(|reason| self.error(reason)),
            _ => Err(self.error("must be a string")),
        }
    }

    /// A list of different expressions, each of which becomes the next of `reads`; gives how many.
    ///
    /// # Errors
    ///
    /// As [`Field::expression`]; one is there already.
    pub fn readings(self, reads: &mut Reads) -> Result<usize, ConfigurationError> {
        let mut count = 0;
        for expression in self.list()? {
            let reading = expression.expression()?;
            let place = reads.place(reading);
            if place.map_err(|reason| expression.error(reason))? < count {
                return Err(expression.error("is there already"));
            }
            count += 1;
        }
        Ok(count)
    }

    /// An expression such as `$request.header.name`.
    ///
    /// # Errors
    ///
    /// As [`parse_expression`](crate::parse_expression).
    pub fn expression(&self) -> Result<Reading, ConfigurationError> {
        self.parse(crate::parse_expression)
    }

    /// A template such as `Bearer ${stageVariables.token}`.
    ///
    /// # Errors
    ///
    /// As [`parse_template`](crate::parse_template).
    pub fn template(&self) -> Result<Template, ConfigurationError> {
        self.parse(crate::parse_template)
    }

    /// A template for the value of a header field.
    ///
    /// # Errors
    ///
    /// As [`template`](Self::template), or its text is unfit for a field value ([`field::check_value`]).
    pub fn header_template(&self) -> Result<Template, ConfigurationError> {
        let template = self.template()?;
        for part in &template {
            if let Part::Literal(text) = part {
                field::check_value(text).map_err(|reason| self.error(reason))?;
            }
        }
        Ok(template)
    }

    /// As [`template`](Self::template), to be rendered by the plugin itself.
    ///
    /// # Errors
    ///
    /// As [`Text::parse`].
    pub fn text(&self, reads: &mut Reads) -> Result<Text, ConfigurationError> {
        self.parse(|text| Text::parse(text, reads))
    }

    /// As [`header_template`](Self::header_template), to be rendered by the plugin itself.
    ///
    /// # Errors
    ///
    /// As [`header_template`](Self::header_template) and [`Text::parse`].
    pub fn header_text(&self, reads: &mut Reads) -> Result<Text, ConfigurationError> {
        self.header_template()?;
        self.text(reads)
    }

    /// The name of a header field that is read, in lower case.
    ///
    /// # Errors
    ///
    /// It is no token (RFC 9110 section 5.6.2).
    pub fn field_name(&self) -> Result<String, ConfigurationError> {
        self.parse(field::name)
    }

    /// A number.
    ///
    /// # Errors
    ///
    /// It is something else.
    pub fn number(&self) -> Result<f64, ConfigurationError> {
        self.value
            .as_f64()
            .ok_or_else(|| self.error("must be a number"))
    }

    /// A whole number between two others, both included.
    ///
    /// # Errors
    ///
    /// It is something else, or outside.
    pub fn integer(&self, least: u32, most: u32) -> Result<u32, ConfigurationError> {
        let number = self
            .value
            .as_u64()
            .and_then(|number| u32::try_from(number).ok());
        match number {
            Some(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(self.error(format!("must be a whole number from {least} to {most}"))),
        }
    }

    /// `true` or `false`.
    ///
    /// # Errors
    ///
    /// It is something else.
    pub fn boolean(&self) -> Result<bool, ConfigurationError> {
        self.value
            .as_bool()
            .ok_or_else(|| self.error("must be true or false"))
    }

    /// An object.
    ///
    /// # Errors
    ///
    /// It is something else.
    pub fn object(self) -> Result<Fields, ConfigurationError> {
        match self.value {
            Value::Object(members) => Ok(Fields {
                pointer: self.pointer,
                members,
                known: Vec::new(),
            }),
            _ => Err(self.error("must be an object")),
        }
    }

    /// A list.
    ///
    /// # Errors
    ///
    /// It is something else.
    pub fn list(self) -> Result<Vec<Field>, ConfigurationError> {
        match self.value {
            Value::Array(values) => Ok(values
                .into_iter()
                .enumerate()
                .map(|(place, value)| Field {
                    pointer: format!("{}/{place}", self.pointer),
                    value,
                })
                .collect()),
            _ => Err(self.error("must be a list")),
        }
    }

    /// A list of strings.
    ///
    /// # Errors
    ///
    /// It is something else.
    pub fn strings(self) -> Result<Vec<String>, ConfigurationError> {
        self.list()?.iter().map(Field::string).collect()
    }
}

/// The pointer to a member (RFC 6901 section 3).
fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Configuration::parse(text).unwrap().object().unwrap()
    }

    #[test]
    fn an_error_points_at_its_place() {
        let mut root = fields(r#"{"a": {"b/c": [1, "x"]}}"#);
        let (key, list) = root
            .required("a")
            .unwrap()
            .object()
            .unwrap()
            .rest()
            .next()
            .unwrap();
        assert_eq!(key, "b/c");
        let error = list.strings().unwrap_err();
        assert_eq!(error.to_string(), "/a/b~1c/0: must be a string");
    }

    #[test]
    fn an_unknown_key_is_refused_with_those_that_there_are() {
        let mut root = fields(r#"{"heeder": "x"}"#);
        assert!(root.optional("header").is_none());
        assert_eq!(
            root.finish().unwrap_err().to_string(),
            "/heeder: unknown key; there is header"
        );
        assert!(fields("{}").finish().is_ok());
    }

    #[test]
    fn a_null_counts_as_absent() {
        let mut root = fields(r#"{"a": null}"#);
        assert_eq!(
            root.required("a").unwrap_err().to_string(),
            "/a: is missing"
        );
        assert!(root.finish().is_ok());
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        let mut root = fields(
            r#"{"number": "1", "integer": 1.5, "high": 11, "object": [], "list": {}, "boolean": 0}"#,
        );
        let mut take = |key| root.required(key).unwrap();
        assert!(take("number").number().is_err());
        assert!(take("integer").integer(0, 10).is_err());
        assert_eq!(
            take("high").integer(1, 10).unwrap_err().to_string(),
            "/high: must be a whole number from 1 to 10"
        );
        assert!(take("object").object().is_err());
        assert!(take("list").list().is_err());
        assert!(take("boolean").boolean().is_err());
    }

    #[test]
    fn what_is_no_object_is_refused_as_a_whole() {
        let error = Configuration::parse("[]").unwrap().object().unwrap_err();
        assert_eq!(error.to_string(), "the configuration must be an object");
        assert!(
            Configuration::parse("{")
                .unwrap_err()
                .to_string()
                .starts_with("the configuration is no JSON: ")
        );
    }
}
