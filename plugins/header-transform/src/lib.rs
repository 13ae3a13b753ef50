//! Changes headers, query parameters, path and status by fixed rules, which the node applies without a call.
//!
//! Of one kind of thing, renames come first, then removals, then what is set, then what is added.

use tidegate_plugin::configuration::{Field, Fields};
use tidegate_plugin::{
    Configuration, ConfigurationError, Edit, Given, Outcome, Part, Plugin, Reading,
    RequestTransform, ResponseTransform, Rule, Setup, Template, field,
};

/// The transform, in both directions.
#[derive(Debug)]
pub struct HeaderTransform {
    request: Vec<Rule>,
    response: Vec<Rule>,
}

impl Plugin for HeaderTransform {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let request = match fields.optional("request") {
            Some(request) => request_rules(request.object()?)?,
            None => Vec::new(),
        };
        let response = match fields.optional("response") {
            Some(response) => response_rules(response.object()?)?,
            None => Vec::new(),
        };
        fields.finish()?;
        let plugin = Self {
            request: request.clone(),
            response: response.clone(),
        };
        Ok(Setup::new(plugin)
            .request_rules(request)
            .response_rules(response))
    }
}

impl RequestTransform for HeaderTransform {
    fn transform_request(&self, _given: Given) -> Result<Outcome, String> {
        Ok(Outcome::Edits(edits(&self.request)))
    }
}

impl ResponseTransform for HeaderTransform {
    fn transform_response(&self, _given: Given) -> Result<Vec<Edit>, String> {
        Ok(edits(&self.response))
    }
}

fn edits(rules: &[Rule]) -> Vec<Edit> {
    rules
        .iter()
        .filter_map(|rule| rule.edit(&Reading::look_up))
        .collect()
}

fn request_rules(mut fields: Fields) -> Result<Vec<Rule>, ConfigurationError> {
    let mut rules = Vec::new();
    if let Some(path) = fields.optional("path") {
        rules.push(Rule::SetPath(path_template(&path)?));
    }
    if let Some(query) = fields.optional("query") {
        rules.extend(query_rules(query.object()?)?);
    }
    if let Some(headers) = fields.optional("headers") {
        rules.extend(header_rules(headers.object()?)?);
    }
    fields.finish()?;
    Ok(rules)
}

fn response_rules(mut fields: Fields) -> Result<Vec<Rule>, ConfigurationError> {
    let mut rules = Vec::new();
    if let Some(status) = fields.optional("status") {
        rules.push(Rule::SetStatus(status.integer(200, 599)? as u16));
    }
    if let Some(headers) = fields.optional("headers") {
        rules.extend(header_rules(headers.object()?)?);
    }
    fields.finish()?;
    Ok(rules)
}

fn header_rules(mut fields: Fields) -> Result<Vec<Rule>, ConfigurationError> {
    let mut rules = Vec::new();
    if let Some(rename) = fields.optional("rename") {
        for (from, to) in rename.object()?.header_fields()? {
            rules.push(Rule::RenameHeader((from, to.parse(field::own_name)?)));
        }
    }
    if let Some(remove) = fields.optional("remove") {
        for name in remove.list()? {
            rules.push(Rule::RemoveHeader(name.parse(field::own_name)?));
        }
    }
    if let Some(set) = fields.optional("set") {
        for (name, value) in set.object()?.header_fields()? {
            rules.push(Rule::SetHeader((name, value.header_template()?)));
        }
    }
    if let Some(append) = fields.optional("append") {
        for (name, value) in append.object()?.header_fields()? {
            rules.push(Rule::AppendHeader((name, value.header_template()?)));
        }
    }
    fields.finish()?;
    Ok(rules)
}

fn query_rules(mut fields: Fields) -> Result<Vec<Rule>, ConfigurationError> {
    let mut rules = Vec::new();
    if let Some(rename) = fields.optional("rename") {
        for (from, to) in rename.object()?.rest() {
            rules.push(Rule::RenameQueryParameter((
                from,
                to.parse(parameter_name)?,
            )));
        }
    }
    if let Some(remove) = fields.optional("remove") {
        for name in remove.list()? {
            rules.push(Rule::RemoveQueryParameter(name.parse(parameter_name)?));
        }
    }
    if let Some(set) = fields.optional("set") {
        for (name, value) in set.object()?.rest() {
            rules.push(Rule::SetQueryParameter((name, value.template()?)));
        }
    }
    fields.finish()?;
    Ok(rules)
}

fn parameter_name(name: &str) -> Result<String, String> {
    match name {
        "" => Err("must name a query parameter".into()),
        name => Ok(name.to_string()),
    }
}

/// A path in which every value stays inside its segment, but for the request's own path and the greedy parameter.
fn path_template(path: &Field) -> Result<Template, ConfigurationError> {
    let template = path.template()?;
    let is_rooted = match template.first() {
        Some(Part::Literal(text)) => text.starts_with('/'),
        Some(Part::Value(reading)) => *reading == Reading::Path,
        _ => false,
    };
    if !is_rooted {
        return Err(path.error("must start with / or ${request.path}"));
    }
    template
        .into_iter()
        .map(|part| match part {
            Part::Literal(text) if text.contains(is_no_path) => {
                Err(path.error("must be percent-encoded and have no query"))
            }
            Part::Value(reading) if reading == Reading::Path => Ok(Part::Value(reading)),
            Part::Value(reading) if reading == Reading::PathParameter("proxy".into()) => {
                Ok(Part::Segments(reading))
            }
            Part::Value(reading) => Ok(Part::Segment(reading)),
            other => Ok(other),
        })
        .collect()
}

/// What may not stand in a path as it is (RFC 3986 section 3.3).
fn is_no_path(char: char) -> bool {
    !(char.is_ascii_alphanumeric() || "/-._~!$&'()*+,;=:@%".contains(char))
}

tidegate_plugin::export!(HeaderTransform: request_transform, response_transform);

#[cfg(test)]
mod tests {
    use super::*;

    fn configure(text: &str) -> Result<Setup<HeaderTransform>, String> {
        Configuration::parse(text)
            .and_then(HeaderTransform::configure)
            .map_err(|error| error.to_string())
    }

    fn literal(text: &str) -> Template {
        vec![Part::Literal(text.into())]
    }

    #[test]
    fn both_directions_stand_even_when_they_are_empty() {
        let setup = configure("{}").unwrap();
        assert_eq!(setup.standing().request_rules, Some(vec![]));
        assert_eq!(setup.standing().response_rules, Some(vec![]));
    }

    #[test]
    fn rules_come_in_their_order() {
        let setup = configure(
            r#"{"request": {
                "headers": {"append": {"d": "4"}, "set": {"C": "3"}, "remove": ["B"], "rename": {"A": "Z"}},
                "query": {"set": {"q": "${request.header.x}"}, "remove": ["r"], "rename": {"s": "t"}},
                "path": "/v2${request.path}"
            }, "response": {"status": 201, "headers": {"remove": ["server"]}}}"#,
        )
        .unwrap();
        let request = vec![
            Rule::SetPath(vec![
                Part::Literal("/v2".into()),
                Part::Value(Reading::Path),
            ]),
            Rule::RenameQueryParameter(("s".into(), "t".into())),
            Rule::RemoveQueryParameter("r".into()),
            Rule::SetQueryParameter(("q".into(), vec![Part::Value(Reading::Header("x".into()))])),
            Rule::RenameHeader(("a".into(), "z".into())),
            Rule::RemoveHeader("b".into()),
            Rule::SetHeader(("c".into(), literal("3"))),
            Rule::AppendHeader(("d".into(), literal("4"))),
        ];
        assert_eq!(setup.standing().request_rules.as_ref(), Some(&request));
        let response = vec![Rule::SetStatus(201), Rule::RemoveHeader("server".into())];
        assert_eq!(setup.standing().response_rules.as_ref(), Some(&response));
    }

    #[test]
    fn a_value_in_the_path_stays_in_its_segment() {
        let setup = configure(
            r#"{"request": {"path": "/${stageVariables.v}/${request.path.id}/${request.path.proxy}"}}"#,
        )
        .unwrap();
        let path = Rule::SetPath(vec![
            Part::Literal("/".into()),
            Part::Segment(Reading::StageVariable("v".into())),
            Part::Literal("/".into()),
            Part::Segment(Reading::PathParameter("id".into())),
            Part::Literal("/".into()),
            Part::Segments(Reading::PathParameter("proxy".into())),
        ]);
        assert_eq!(setup.standing().request_rules, Some(vec![path]));
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_its_place() {
        let cases = [
            (r#"{"request": {"path": "a"}}"#, "/request/path: must start"),
            (
                r#"{"request": {"path": "${request.header.p}"}}"#,
                "/request/path: must start",
            ),
            (
                r#"{"request": {"path": "/a?b"}}"#,
                "/request/path: must be percent-encoded",
            ),
            (
                r#"{"request": {"headers": {"set": {"Content-Length": "1"}}}}"#,
                "/request/headers/set/Content-Length: ",
            ),
            (
                r#"{"request": {"headers": {"set": {"a": "x\r\ny"}}}}"#,
                "/request/headers/set/a: ",
            ),
            (
                r#"{"request": {"headers": {"rename": {"a": "b c"}}}}"#,
                "/request/headers/rename/a: ",
            ),
            (
                r#"{"request": {"headers": {"remove": "a"}}}"#,
                "/request/headers/remove: must be a list",
            ),
            (
                r#"{"request": {"query": {"append": {}}}}"#,
                "/request/query/append: unknown key",
            ),
            (
                r#"{"request": {"status": 200}}"#,
                "/request/status: unknown key",
            ),
            (
                r#"{"response": {"status": 99}}"#,
                "/response/status: must be",
            ),
            (
                r#"{"response": {"headers": {"set": {"a": "${oops}"}}}}"#,
                "/response/headers/set/a: there is no variable",
            ),
            (r#"{"respnse": {}}"#, "/respnse: unknown key"),
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
}
