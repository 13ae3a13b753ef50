//! Admits callers that show one of the node's API keys.
//!
//! As API Gateway does, a request without a key and one with a wrong key get the same answer: 403.

use tidegate_plugin::{
    Authorizer, Configuration, ConfigurationError, Given, Plugin, Principal, Reading, Setup,
    Verdict, api_keys,
};

/// The authorizer; all that it is told is where the key stands, and that is handed over with the call.
#[derive(Debug)]
pub struct ApiKey;

impl Plugin for ApiKey {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let header = fields.optional("header");
        let source = fields.optional("identitySource");
        fields.finish()?;
        let key = match (header, source) {
            (None, None) => Reading::Header("x-api-key".into()),
            (Some(header), None) => Reading::Header(header.field_name()?),
            (None, Some(source)) => source.expression()?,
            (Some(_), Some(source)) => {
                return Err(
                    source.error("stands beside header; one of the two says where the key is")
                );
            }
        };
        Ok(Setup::new(Self).reads([key]))
    }
}

impl Authorizer for ApiKey {
    fn authorize(&self, given: Given) -> Result<Verdict, String> {
        let value = match given.get(0) {
            Some(value) if !value.is_empty() => value,
            _ => return Ok(Verdict::Forbidden(Some("no API key".into()))),
        };
        Ok(match api_keys::find(value) {
            Some(key) => Verdict::Allow(Principal {
                id: key.id.clone(),
                context: Vec::new(),
                usage_identifier_key: Some(key.id),
            }),
            None => Verdict::Forbidden(Some("unknown API key".into())),
        })
    }
}

tidegate_plugin::export!(ApiKey: authorizer);

#[cfg(test)]
mod tests {
    use super::*;

    fn configure(text: &str) -> Result<Setup<ApiKey>, String> {
        Configuration::parse(text)
            .and_then(ApiKey::configure)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_key_is_read_where_the_configuration_says() {
        let cases = [
            ("{}", Reading::Header("x-api-key".into())),
            (r#"{"header": "X-Key"}"#, Reading::Header("x-key".into())),
            (
                r#"{"identitySource": "$request.querystring.key"}"#,
                Reading::QueryParameter("key".into()),
            ),
        ];
        for (text, reading) in cases {
            assert_eq!(configure(text).unwrap().readings(), [reading], "{text}");
        }
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_its_place() {
        let cases = [
            (r#"{"header": "a b"}"#, "/header: "),
            (r#"{"identitySource": "x"}"#, "/identitySource: "),
            (
                r#"{"header": "a", "identitySource": "$request.path"}"#,
                "/identitySource: ",
            ),
            (r#"{"head": "a"}"#, "/head: unknown key"),
        ];
        for (text, start) in cases {
            let error = configure(text).unwrap_err();
            assert!(error.starts_with(start), "{text}: {error}");
        }
    }

    #[test]
    fn the_example_is_valid() {
        configure(include_str!("../example.json")).unwrap();
    }

    #[test]
    fn a_request_without_a_key_is_forbidden() {
        for value in [None, Some(String::new())] {
            let verdict = ApiKey.authorize(vec![value].into()).unwrap();
            assert_eq!(verdict, Verdict::Forbidden(Some("no API key".into())));
        }
    }
}
