//! The body's media type and schema.

use tidegate_plugin::configuration::Fields;
use tidegate_plugin::{ConfigurationError, json};

use crate::dialect::{self, Compiled};

/// What a request's body must be.
#[derive(Debug)]
pub struct Body {
    required: bool,
    /// Schemas by media type in lower case: whole ones first, then `type/*`, then `*/*`.
    content: Vec<(String, Compiled)>,
}

impl Body {
    /// Takes `required` and `content` of the configuration.
    pub fn read(mut fields: Fields) -> Result<Self, ConfigurationError> {
        let required = match fields.optional("required") {
            Some(required) => required.boolean()?,
            None => false,
        };
        let mut content = Vec::new();
        if let Some(by_type) = fields.optional("content") {
            for (range, schema) in by_type.object()?.rest() {
                let range = media_type(&range);
                if range.split('/').count() != 2 || range.split('/').any(str::is_empty) {
                    return Err(schema.error("is no media type, such as application/json"));
                }
                content.push((range, dialect::compile(&schema)?));
            }
        }
        fields.finish()?;
        content.sort_by_key(|(range, _)| range.matches('*').count());
        Ok(Self { required, content })
    }

    /// Whether a body of this `Content-Type` fits. As API Gateway does: without a content type it is JSON, and where
    /// there is no schema for its type it is not looked at.
    pub fn accepts(&self, content_type: Option<&str>, body: &[u8]) -> bool {
        if body.is_empty() {
            return !self.required;
        }
        let media_type = content_type.map_or("application/json".into(), media_type);
        let schema = self
            .content
            .iter()
            .find(|(range, _)| covers(range, &media_type));
        match schema {
            None => true,
            // A range may cover types that are no JSON; a type that is named has the schema of its JSON form.
            Some((range, _)) if range.contains('*') && !is_json(&media_type) => true,
            Some((_, schema)) => json::from_slice(body).is_ok_and(|value| schema.accepts(&value)),
        }
    }
}

/// A media type without its parameters, in lower case (RFC 9110 section 8.3.1).
fn media_type(text: &str) -> String {
    let essence = text.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// Whether a media range (RFC 9110 section 12.5.1) covers a media type.
fn covers(range: &str, media_type: &str) -> bool {
    match range.strip_suffix("/*") {
        Some("*") => true,
        Some(kind) => media_type.split('/').next() == Some(kind),
        None => range == media_type,
    }
}

/// JSON (RFC 8259), or a format on top of it (RFC 6839 section 3.1).
fn is_json(media_type: &str) -> bool {
    media_type == "application/json" || media_type.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_plugin::Configuration;

    fn body(configuration: &str) -> Body {
        Body::read(
            Configuration::parse(configuration)
                .unwrap()
                .object()
                .unwrap(),
        )
        .unwrap()
    }

    #[test]
    fn the_content_type_chooses_the_schema() {
        let body = body(
            r#"{"content": {"*/*": {"required": ["any"]}, "application/*": {"required": ["app"]},
                            "Application/JSON": {"required": ["json"]}}}"#,
        );
        let cases = [
            (None, r#"{"json": 1}"#, true),
            (None, r#"{"app": 1}"#, false),
            (
                Some("application/json; charset=utf-8"),
                r#"{"json": 1}"#,
                true,
            ),
            (Some("APPLICATION/JSON"), r#"{}"#, false),
            (Some("application/problem+json"), r#"{"app": 1}"#, true),
            (Some("application/problem+json"), r#"{"json": 1}"#, false),
            (Some("model/gltf+json"), r#"{"any": 1}"#, true),
            (Some("model/gltf+json"), r#"{}"#, false),
            (Some("text/plain"), "text", true),
            (Some("application/octet-stream"), "\0", true),
        ];
        for (content_type, text, fits) in cases {
            assert_eq!(
                body.accepts(content_type, text.as_bytes()),
                fits,
                "{content_type:?} {text}"
            );
        }
    }

    #[test]
    fn a_type_without_a_schema_is_not_looked_at() {
        let body = body(r#"{"content": {"application/json": {"type": "object"}}}"#);
        assert!(body.accepts(Some("text/plain"), b"text"));
        assert!(body.accepts(Some(""), b"text"));
        assert!(!body.accepts(None, b"text"));
        assert!(!body.accepts(None, b"{} {}"));
    }

    #[test]
    fn an_absent_body_is_valid_unless_required() {
        let schema = r#""content": {"application/json": {"type": "object"}}"#;
        assert!(body(&format!("{{{schema}}}")).accepts(None, b""));
        assert!(!body(&format!(r#"{{"required": true, {schema}}}"#)).accepts(None, b""));
    }
}
