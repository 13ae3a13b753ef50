//! Answers requests by an HTTP server. The plugin says where to and with what; the node carries the request there, and
//! its body never enters the plugin.

mod parameters;
mod uri;

use tidegate_plugin::{
    Configuration, ConfigurationError, Forward, Given, Integration, Plan, Plugin, Reading, Rule,
    Setup, StandingForward, StandingPlan, Template, escape, field, render,
};

/// The integration: where to, and with what changes.
#[derive(Debug)]
pub struct Http {
    uri: Template,
    method: Option<String>,
    rules: Vec<Rule>,
    /// Query parameters beside those of `uri`, where the request's own are not passed on.
    query: Vec<(String, Template)>,
    pass_query: bool,
    timeout_ms: Option<u32>,
}

impl Plugin for Http {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let parameters = parameters::read(fields.optional("requestParameters"))?;
        let uri = uri::read(&fields.required("uri")?, &parameters.path)?;
        let method = match fields.optional("method") {
            Some(method) => Some(method.parse(read_method)?),
            None => None,
        };
        let pass_query = match fields.optional("passQuery") {
            Some(pass) => pass.boolean()?,
            None => true,
        };
        let timeout_ms = match fields.optional("timeoutMs") {
            Some(timeout) => Some(timeout.integer(1, TIMEOUT_MS_MAX)?),
            None => None,
        };
        fields.finish()?;
        let mut rules = parameters.header_rules();
        let query = match pass_query {
            true => {
                rules.extend(parameters.query_rules());
                Vec::new()
            }
            false => parameters.query,
        };
        Ok(Self {
            uri,
            method,
            rules,
            query,
            pass_query,
            timeout_ms,
        }
        .set_up())
    }
}

impl Integration for Http {
    fn integrate(&self, _given: Given) -> Result<Plan, String> {
        Ok(Plan::Forward(self.forward(&Reading::look_up)))
    }
}

impl Http {
    /// The decision stands, unless it makes a query of values: these need another encoding than a path's, and absent ones
    /// leave no trace.
    fn set_up(self) -> Setup<Self> {
        if !self.query.is_empty() || !uri::stands(&self.uri) {
            return Setup::new(self);
        }
        let standing = StandingForward {
            uri: self.uri.clone(),
            method: self.method.clone(),
            rules: self.rules.clone(),
            pass_query: self.pass_query,
            timeout_ms: self.timeout_ms,
        };
        Setup::new(self).plan(StandingPlan::Forward(standing))
    }

    /// The decision for the one request whose values `look_up` knows.
    fn forward(&self, look_up: &dyn Fn(&Reading) -> Option<String>) -> Forward {
        let mut uri = String::new();
        for part in &self.uri {
            // Part by part: a URI stands also where all its values are absent.
            uri.push_str(&render(std::slice::from_ref(part), look_up).unwrap_or_default());
        }
        for (name, template) in &self.query {
            if let Some(value) = render(template, look_up) {
                uri.push(if uri.contains('?') { '&' } else { '?' });
                escape::push_percent(name, "", &mut uri);
                uri.push('=');
                escape::push_percent(&value, "", &mut uri);
            }
        }
        if self.pass_query
            && let Some(query) = look_up(&Reading::QueryString)
        {
            uri.push(if uri.contains('?') { '&' } else { '?' });
            uri.push_str(&query);
        }
        Forward {
            uri,
            method: self.method.clone(),
            edits: self
                .rules
                .iter()
                .filter_map(|rule| rule.edit(look_up))
                .collect(),
            timeout_ms: self.timeout_ms,
        }
    }
}

/// A method is a token (RFC 9110 section 9.1), and its case matters.
fn read_method(text: &str) -> Result<String, String> {
    match field::name(text) {
        Ok(_) => Ok(text.to_string()),
        Err(_) => Err(format!("\"{text}\" is no method")),
    }
}

/// Five minutes: API Gateway's longest, after an increase of the account's limit.
const TIMEOUT_MS_MAX: u32 = 300_000;

tidegate_plugin::export!(Http: integration);

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_plugin::{Edit, Part};

    fn configure(text: &str) -> Result<Setup<Http>, String> {
        Configuration::parse(text)
            .and_then(Http::configure)
            .map_err(|error| error.to_string())
    }

    fn look_up(reading: &Reading) -> Option<String> {
        match reading {
            Reading::PathParameter(name) if name == "id" => Some("a b/c".into()),
            Reading::QueryParameter(name) if name == "q" => Some("x&y=z".into()),
            Reading::Header(name) if name == "y" => Some("Y".into()),
            Reading::QueryString => Some("q=x%26y%3Dz".into()),
            _ => None,
        }
    }

    #[test]
    fn a_forward_stands() {
        let setup = configure(
            r#"{"uri": "http://orders/items/{id}", "method": "GET", "timeoutMs": 1000,
                "requestParameters": {"integration.request.header.X": "method.request.header.Y",
                                      "integration.request.querystring.p": "'static'"}}"#,
        )
        .unwrap();
        let Some(StandingPlan::Forward(forward)) = &setup.standing().plan else {
            panic!("no standing forward");
        };
        let uri = vec![
            Part::Literal("http://orders/items/".into()),
            Part::Segment(Reading::PathParameter("id".into())),
        ];
        assert_eq!(forward.uri, uri);
        assert_eq!(
            (
                forward.method.as_deref(),
                forward.pass_query,
                forward.timeout_ms
            ),
            (Some("GET"), true, Some(1000))
        );
        let rules = [
            Rule::SetHeader(("x".into(), vec![Part::Value(Reading::Header("y".into()))])),
            Rule::SetQueryParameter(("p".into(), vec![Part::Literal("static".into())])),
        ];
        assert_eq!(forward.rules, rules);
    }

    #[test]
    fn a_query_of_its_own_is_made_for_each_request_without_absent_values() {
        let setup = configure(
            r#"{"uri": "http://orders/{id}?a=${request.querystring.q}", "passQuery": false,
                "requestParameters": {"integration.request.querystring.b c": "method.request.querystring.q",
                                      "integration.request.querystring.d": "method.request.querystring.absent",
                                      "integration.request.header.x": "method.request.header.y"}}"#,
        )
        .unwrap();
        assert!(setup.standing().plan.is_none());
        let forward = setup.plugin().forward(&look_up);
        assert_eq!(
            forward.uri,
            "http://orders/a%20b%2Fc?a=x%26y%3Dz&b%20c=x%26y%3Dz"
        );
        assert_eq!(forward.edits, [Edit::SetHeader(("x".into(), "Y".into()))]);
    }

    #[test]
    fn a_value_cannot_add_to_the_query_of_the_uri() {
        let setup = configure(r#"{"uri": "http://orders/?a=${request.querystring.q}"}"#).unwrap();
        assert!(setup.standing().plan.is_none());
        let forward = setup.plugin().forward(&look_up);
        assert_eq!(forward.uri, "http://orders/?a=x%26y%3Dz&q=x%26y%3Dz");
    }

    #[test]
    fn a_call_gives_what_the_standing_decision_says() {
        let cases = [
            (
                r#"{"uri": "http://orders/{id}"}"#,
                "http://orders/a%20b%2Fc?q=x%26y%3Dz",
            ),
            (
                r#"{"uri": "http://orders/{id}?k=v"}"#,
                "http://orders/a%20b%2Fc?k=v&q=x%26y%3Dz",
            ),
            (
                r#"{"uri": "http://orders/{absent}", "passQuery": false}"#,
                "http://orders/",
            ),
        ];
        for (text, uri) in cases {
            assert_eq!(
                configure(text).unwrap().plugin().forward(&look_up).uri,
                uri,
                "{text}"
            );
        }
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_its_place() {
        let cases = [
            ("{}", "/uri: is missing"),
            (r#"{"uri": "http://a/", "method": "G T"}"#, "/method: "),
            (
                r#"{"uri": "http://a/", "passQuery": "yes"}"#,
                "/passQuery: must be true or false",
            ),
            (
                r#"{"uri": "http://a/", "timeoutMs": 0}"#,
                "/timeoutMs: must be",
            ),
            (
                r#"{"uri": "http://a/", "timeoutMs": 300001}"#,
                "/timeoutMs: must be",
            ),
            (r#"{"uri": "http://a/", "url": ""}"#, "/url: unknown key"),
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
