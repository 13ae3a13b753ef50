//! Checks that a request has the parameters and the body that the API's definition asks for, as API Gateway's request
//! validator does.

mod body;
mod dialect;
mod parameters;

use tidegate_plugin::{
    Configuration, ConfigurationError, Given, Plugin, Reading, Reads, Setup, Validator, Validity,
    request_body,
};

use body::Body;
use parameters::Parameter;

/// The validator: what a request must have.
#[derive(Debug)]
pub struct Schema {
    parameters: Vec<Parameter>,
    /// The body's rules, and the place among the given values of its media type.
    body: Option<(Body, usize)>,
}

impl Plugin for Schema {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let mut reads = Reads::default();
        let parameters = match fields.optional("parameters") {
            Some(list) => parameters::read(list, &mut reads)?,
            None => Vec::new(),
        };
        let body = match fields.optional("body") {
            Some(body) => {
                let place = reads.place(Reading::Header("content-type".into()));
                let place = place.map_err(|reason| body.error(reason))?;
                Some((Body::read(body.object()?)?, place))
            }
            None => None,
        };
        fields.finish()?;
        Ok(Setup::new(Self { parameters, body }).reads(reads))
    }
}

impl Validator for Schema {
    fn validate(&self, given: Given) -> Result<Validity, String> {
        Ok(self.judge(&given, request_body::read))
    }
}

impl Schema {
    fn judge(&self, given: &Given, read_body: impl FnOnce() -> Vec<u8>) -> Validity {
        if let Some(message) = parameters::judge(&self.parameters, given) {
            return Validity::InvalidParameters(message);
        }
        match &self.body {
            Some((body, place)) if !body.accepts(given.get(*place), &read_body()) => {
                Validity::InvalidBody("Invalid request body".into())
            }
            _ => Validity::Valid,
        }
    }
}

tidegate_plugin::export!(Schema: validator);

#[cfg(test)]
mod tests {
    use super::*;

    fn configure(text: &str) -> Result<Setup<Schema>, String> {
        Configuration::parse(text)
            .and_then(Schema::configure)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn parameters_are_judged_before_the_body_is_read() {
        let setup = configure(
            r#"{"parameters": [{"in": "header", "name": "X", "required": true}], "body": {"required": true}}"#,
        )
        .unwrap();
        let validity = setup
            .plugin()
            .judge(&Given::default(), || panic!("the body was read"));
        let message = "Missing required request parameters: [X]";
        assert_eq!(validity, Validity::InvalidParameters(message.into()));
    }

    #[test]
    fn a_body_that_fits_no_schema_is_invalid() {
        let setup = configure(include_str!("../example.json")).unwrap();
        let given = |content_type: Option<&str>| {
            Given::from(vec![Some("7".into()), content_type.map(String::from)])
        };
        let judge =
            |given: Given, body: &str| setup.plugin().judge(&given, || body.as_bytes().to_vec());
        assert_eq!(judge(given(None), r#"{"name": "a"}"#), Validity::Valid);
        let invalid = Validity::InvalidBody("Invalid request body".into());
        assert_eq!(judge(given(None), r#"{"nam": "a"}"#), invalid);
        assert_eq!(judge(given(Some("application/json")), ""), invalid);
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_its_place() {
        let cases = [
            (
                r#"{"parameters": [{"in": "cookie", "name": "a"}]}"#,
                "/parameters/0/in: ",
            ),
            (
                r#"{"parameters": [{"in": "header"}]}"#,
                "/parameters/0/name: is missing",
            ),
            (
                r#"{"parameters": [{"in": "header", "name": "a b"}]}"#,
                "/parameters/0/name: ",
            ),
            (
                r#"{"parameters": [{"in": "path", "name": "a", "schema": {"type": "text"}}]}"#,
                "/parameters/0/schema: ",
            ),
            (
                r#"{"body": {"content": {"application/json": {"type": 5}}}}"#,
                "/body/content/application~1json: ",
            ),
            (
                r#"{"body": {"content": {"json": {}}}}"#,
                "/body/content/json: is no media type",
            ),
            (
                r##"{"body": {"content": {"application/json": {"$ref": "#/definitions/absent"}}}}"##,
                "/body/content/application~1json: ",
            ),
            (
                r#"{"body": {"content": {"application/json": {"$ref": "http://localhost/a"}}}}"#,
                "/body/content/application~1json: ",
            ),
            (
                r#"{"body": {"requird": true}}"#,
                "/body/requird: unknown key",
            ),
            (r#"{"query": {}}"#, "/query: unknown key"),
        ];
        for (text, start) in cases {
            let error = configure(text).unwrap_err();
            assert!(error.starts_with(start), "{text}: {error}");
        }
    }
}
