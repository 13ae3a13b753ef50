//! API Gateway's `requestParameters`: what of the request goes where in the integration's.

use tidegate_plugin::configuration::Field;
use tidegate_plugin::{ConfigurationError, Part, Reading, Rule, Template, field};

/// The mapped values by where they go.
#[derive(Debug, Default, PartialEq)]
pub struct Parameters {
    pub headers: Vec<(String, Template)>,
    pub query: Vec<(String, Template)>,
    pub path: Vec<(String, Template)>,
}

impl Parameters {
    pub fn header_rules(&self) -> Vec<Rule> {
        self.headers.iter().cloned().map(Rule::SetHeader).collect()
    }

    pub fn query_rules(&self) -> Vec<Rule> {
        self.query
            .iter()
            .cloned()
            .map(Rule::SetQueryParameter)
            .collect()
    }
}

/// Reads the mappings: `integration.request.{header,querystring,path}.NAME` to a source.
///
/// Source: Amazon API Gateway, "Mapping source and target of parameters for REST APIs".
pub fn read(mappings: Option<Field>) -> Result<Parameters, ConfigurationError> {
    let mut parameters = Parameters::default();
    let Some(mappings) = mappings else {
        return Ok(parameters);
    };
    for (target, source) in mappings.object()?.rest() {
        let template = source.parse(read_source)?;
        let refuse = |reason| source.error(reason);
        match target
            .strip_prefix("integration.request.")
            .and_then(|target| target.split_once('.'))
        {
            Some(("header", name)) => {
                let name = field::own_name(name).map_err(refuse)?;
                if let [Part::Literal(text)] = template.as_slice() {
                    field::check_value(text).map_err(refuse)?;
                }
                parameters.headers.push((name, template));
            }
            Some(("querystring", name)) if !name.is_empty() => {
                parameters.query.push((name.into(), template))
            }
            Some(("path", name)) if !name.is_empty() => {
                parameters.path.push((name.into(), template))
            }
            _ => return Err(source.error(TARGETS)),
        }
    }
    Ok(parameters)
}

/// `'static'`, `method.request.{header,querystring,path}.NAME`, `context.NAME` or `stageVariables.NAME`.
fn read_source(text: &str) -> Result<Template, String> {
    if let Some(fixed) = text
        .strip_prefix('\'')
        .and_then(|text| text.strip_suffix('\''))
    {
        return Ok(vec![Part::Literal(fixed.into())]);
    }
    let expression = match text.strip_prefix("method.") {
        Some(request) if NAMED.iter().any(|prefix| request.starts_with(prefix)) => {
            format!("${request}")
        }
        None if text.starts_with("context.") || text.starts_with("stageVariables.") => {
            format!("${text}")
        }
        _ => return Err(format!("\"{text}\" is no source; {SOURCES}")),
    };
    Ok(vec![Part::Value(tidegate_plugin::parse_expression(
        &expression,
    )?)])
}

/// The template of the path parameter `name` in the URI: what is mapped to it, or the route's parameter itself.
pub fn path_part(name: &str, mapped: &[(String, Template)]) -> Part {
    let (name, is_greedy) = match name.strip_suffix('+') {
        Some(name) => (name, true),
        None => (name, name == "proxy"),
    };
    let reading = match mapped
        .iter()
        .find(|(target, _)| target == name)
        .map(|(_, template)| template.as_slice())
    {
        Some([Part::Literal(text)]) => return Part::Literal(encode(text, is_greedy)),
        Some([Part::Value(reading)]) => reading.clone(),
        _ => Reading::PathParameter(name.into()),
    };
    // `{id}` of a greedy parameter's value: what comes from `{proxy+}` is many segments wherever it goes.
    match is_greedy || reading == Reading::PathParameter("proxy".into()) {
        true => Part::Segments(reading),
        false => Part::Segment(reading),
    }
}

fn encode(text: &str, is_greedy: bool) -> String {
    let mut encoded = String::new();
    tidegate_plugin::escape::push_percent(text, if is_greedy { "/" } else { "" }, &mut encoded);
    encoded
}

const NAMED: [&str; 3] = ["request.header.", "request.querystring.", "request.path."];

const TARGETS: &str = "is mapped to no parameter of the integration; the key must be integration.request.header.NAME, \
     integration.request.querystring.NAME or integration.request.path.NAME";

const SOURCES: &str = "there are 'static', method.request.header.NAME, method.request.querystring.NAME, \
     method.request.path.NAME, context.NAME and stageVariables.NAME";

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_plugin::Configuration;

    fn parameters(text: &str) -> Result<Parameters, String> {
        let field = Configuration::parse(text).unwrap().field();
        read(Some(field)).map_err(|error| error.to_string())
    }

    #[test]
    fn each_source_becomes_a_template() {
        let value = |reading| vec![Part::Value(reading)];
        let cases = [
            ("'a.b'", vec![Part::Literal("a.b".into())]),
            ("''", vec![Part::Literal(String::new())]),
            (
                "method.request.header.X-A",
                value(Reading::Header("x-a".into())),
            ),
            (
                "method.request.querystring.q",
                value(Reading::QueryParameter("q".into())),
            ),
            (
                "method.request.path.id",
                value(Reading::PathParameter("id".into())),
            ),
            (
                "context.identity.sourceIp",
                value(Reading::Context("identity.sourceIp".into())),
            ),
            (
                "stageVariables.x",
                value(Reading::StageVariable("x".into())),
            ),
        ];
        for (source, template) in cases {
            assert_eq!(read_source(source), Ok(template), "{source}");
        }
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        let cases = [
            r#"{"integration.request.header.a": "method.request.body"}"#,
            r#"{"integration.request.header.a": "method.request.path"}"#,
            r#"{"integration.request.header.a": "request.header.b"}"#,
            r#"{"integration.request.header.a": "method.context.stage"}"#,
            r#"{"integration.request.header.a": "'"}"#,
            r#"{"integration.request.header.a b": "'x'"}"#,
            r#"{"integration.request.header.connection": "'x'"}"#,
            r#"{"integration.request.header.a": "'x\ny'"}"#,
            r#"{"integration.request.body.a": "'x'"}"#,
            r#"{"integration.request.path.": "'x'"}"#,
            r#"{"header.a": "'x'"}"#,
        ];
        for text in cases {
            assert!(parameters(text).is_err(), "{text}");
        }
    }
}
