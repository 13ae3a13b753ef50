//! Answers requests by itself, with a response from the configuration.

use tidegate_plugin::{
    Configuration, ConfigurationError, Given, Integration, Plan, Plugin, Reads, Response, Setup,
    StandingPlan, Text, escape, field,
};

/// The integration: the response, with what of it depends on the request.
#[derive(Debug)]
pub struct Mock {
    status: u16,
    headers: Vec<(String, Text)>,
    body: Text,
}

impl Plugin for Mock {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut reads = Reads::default();
        let mut fields = configuration.object()?;
        let status = match fields.optional("statusCode") {
            Some(status) => status.integer(200, 599)? as u16,
            None => 200,
        };
        let mut headers = Vec::new();
        if let Some(named) = fields.optional("headers") {
            for (name, value) in named.object()?.header_fields()? {
                headers.push((name, value.header_text(&mut reads)?));
            }
        }
        let body = match fields.optional("body") {
            Some(body) => body.text(&mut reads)?,
            None => Text::literal(""),
        };
        fields.finish()?;
        let mock = Self {
            status,
            headers,
            body,
        };
        Ok(match mock.is_literal() {
            true => {
                let plan = StandingPlan::Respond(mock.response(&Given::default()));
                Setup::new(mock).plan(plan)
            }
            false => Setup::new(mock).reads(reads),
        })
    }
}

impl Integration for Mock {
    fn integrate(&self, given: Given) -> Result<Plan, String> {
        Ok(Plan::Respond(self.response(&given)))
    }
}

impl Mock {
    fn is_literal(&self) -> bool {
        self.body.is_literal() && self.headers.iter().all(|(_, value)| value.is_literal())
    }

    fn response(&self, given: &Given) -> Response {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.render_with(given, field::push_value)))
            .collect();
        // A value must not end the JSON string that it stands in.
        let body = match headers
            .iter()
            .any(|(name, value)| name == "content-type" && is_json(value))
        {
            true => self.body.render_with(given, escape::push_json),
            false => self.body.render(given),
        };
        Response {
            status: self.status,
            headers,
            body: body.into_bytes(),
        }
    }
}

/// Whether a value of `Content-Type` says JSON (RFC 8259) or a format on top of it (RFC 6839 section 3.1).
fn is_json(content_type: &str) -> bool {
    let media_type = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}

tidegate_plugin::export!(Mock: integration);

#[cfg(test)]
mod tests {
    use super::*;

    fn configure(text: &str) -> Result<Setup<Mock>, String> {
        Configuration::parse(text)
            .and_then(Mock::configure)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_response_without_a_template_stands() {
        let setup = configure(
            r#"{"statusCode": 418, "headers": {"Content-Type": "text/plain"}, "body": "$${tea}"}"#,
        )
        .unwrap();
        let Some(StandingPlan::Respond(response)) = &setup.standing().plan else {
            panic!("no standing response");
        };
        assert_eq!(response.status, 418);
        assert_eq!(
            response.headers,
            [("content-type".into(), "text/plain".into())]
        );
        assert_eq!(response.body, b"${tea}");
    }

    #[test]
    fn a_template_is_filled_in_for_each_request() {
        let setup = configure(
            r#"{"headers": {"x-id": "${request.path.id}"}, "body": "id: ${request.path.id}"}"#,
        )
        .unwrap();
        assert!(setup.standing().plan.is_none());
        assert_eq!(setup.readings().len(), 1);
        let Ok(Plan::Respond(response)) =
            setup.plugin().integrate(vec![Some("a\r\nb".into())].into())
        else {
            panic!("no response");
        };
        assert_eq!(response.headers, [("x-id".into(), "ab".into())]);
        assert_eq!(response.body, b"id: a\r\nb");
    }

    #[test]
    fn a_value_cannot_leave_its_json_string() {
        let setup = configure(
            r#"{"headers": {"Content-Type": "application/problem+json; charset=utf-8"}, "body": "{\"id\": \"${request.path.id}\"}"}"#,
        )
        .unwrap();
        let Ok(Plan::Respond(response)) = setup
            .plugin()
            .integrate(vec![Some("a\", \"b".into())].into())
        else {
            panic!("no response");
        };
        assert_eq!(response.body, br#"{"id": "a\", \"b"}"#);
    }

    #[test]
    fn an_empty_configuration_is_an_empty_200() {
        let setup = configure("{}").unwrap();
        let Ok(Plan::Respond(response)) = setup.plugin().integrate(Given::default()) else {
            panic!("no response");
        };
        assert_eq!(
            (response.status, response.headers.len(), response.body.len()),
            (200, 0, 0)
        );
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_its_place() {
        let cases = [
            (
                r#"{"statusCode": 199}"#,
                "/statusCode: must be a whole number from 200 to 599",
            ),
            (r#"{"headers": {"a b": "x"}}"#, "/headers/a b: "),
            (
                r#"{"headers": {"connection": "close"}}"#,
                "/headers/connection: ",
            ),
            (r#"{"headers": {"a": 1}}"#, "/headers/a: must be a string"),
            (r#"{"headers": {"a": "x\ny"}}"#, "/headers/a: "),
            (r#"{"body": "${"}"#, "/body: "),
            (r#"{"status": 200}"#, "/status: unknown key"),
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
