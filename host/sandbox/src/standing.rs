//! Decisions that stand: what a plugin decided once, for the host to carry out for each request.

use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::bindings::gateway::tidegate::gateway::types;
use crate::exchange::{Exchange, Reading, header_name};

/// A change that is the same for every request but for what its templates read.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Sets a field to one value.
    SetHeader(HeaderName, FieldText),
    /// Adds a field line.
    AppendHeader(HeaderName, FieldText),
    /// Removes a field.
    RemoveHeader(HeaderName),
    /// Gives a field another name.
    RenameHeader(HeaderName, HeaderName),
    /// Sets a query parameter.
    SetQueryParameter(String, Template),
    /// Removes a query parameter.
    RemoveQueryParameter(String),
    /// Gives a query parameter another name.
    RenameQueryParameter(String, String),
    /// Replaces the path.
    SetPath(Template),
    /// Sets the status.
    SetStatus(StatusCode),
}

/// A field's value: ready to use where nothing is read.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldText {
    /// Text that stands.
    Fixed(HeaderValue),
    /// Put together for each request.
    Template(Template),
}

/// Text that is put together for each request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Template(Vec<Part>);

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    Literal(String),
    Value(Reading),
    Segment(Reading),
    Segments(Reading),
}

/// What an integration decided for every request.
#[derive(Debug, Clone)]
pub enum StandingPlan {
    /// Send it to an HTTP server.
    Forward {
        /// The absolute URI.
        uri: Template,
        /// The method, where it is not the request's own.
        method: Option<Method>,
        /// Changes to the request.
        rules: Vec<Rule>,
        /// Appends the request's own query.
        pass_query: bool,
        /// Milliseconds until the response's header section.
        timeout_ms: Option<u32>,
    },
    /// Invoke a function.
    Invoke {
        /// Its name.
        function: String,
        /// Milliseconds until the response's header section.
        timeout_ms: Option<u32>,
    },
    /// Answer with this.
    Respond(types::Response),
}

impl Template {
    /// The text where nothing is read.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// A URI's scheme and authority, where they are literal, and the template of what follows.
    pub fn split_origin(&self) -> Option<(&str, Self)> {
        let Some(Part::Literal(first)) = self.0.first() else {
            return None;
        };
        let authority = first.find("://")? + "://".len();
        let end = match first[authority..].find(['/', '?']) {
            Some(end) => authority + end,
            None if self.0.len() == 1 => first.len(),
            None => return None, // a reading may still be part of the authority
        };
        let mut rest = self.0.clone();
        rest[0] = Part::Literal(first[end..].to_owned());
        Some((&first[..end], Self(rest)))
    }

    /// Whether it reads the request's header fields.
    pub fn reads_headers(&self) -> bool {
        self.0.iter().any(|part| match part {
            Part::Literal(_) => false,
            Part::Value(reading) | Part::Segment(reading) | Part::Segments(reading) => {
                reading.needs_headers()
            }
        })
    }

    /// Appends the text for this request to `text`; `false` where it reads values and all of them are absent.
    pub fn write(&self, exchange: &dyn Exchange, text: &mut String) -> bool {
        let (mut reads, mut found) = (false, false);
        for part in &self.0 {
            let (reading, encode): (&Reading, fn(&str, &mut String)) = match part {
                Part::Literal(literal) => {
                    text.push_str(literal);
                    continue;
                }
                Part::Value(reading) => (reading, |value, text| text.push_str(value)),
                Part::Segment(reading) => {
                    (reading, |value, text| percent_encode(value, false, text))
                }
                Part::Segments(reading) => {
                    (reading, |value, text| percent_encode(value, true, text))
                }
            };
            reads = true;
            if let Some(value) = reading.of(exchange) {
                found = true;
                encode(&value, text);
            }
        }
        found || !reads
    }

    fn parse(parts: Vec<types::Part>) -> Result<Self, String> {
        let part = |part| {
            Ok::<_, String>(match part {
                types::Part::Literal(text) => Part::Literal(text),
                types::Part::Value(reading) => Part::Value(Reading::parse(reading)?),
                types::Part::Segment(reading) => Part::Segment(Reading::parse(reading)?),
                types::Part::Segments(reading) => Part::Segments(Reading::parse(reading)?),
            })
        };
        parts
            .into_iter()
            .map(part)
            .collect::<Result<Vec<_>, _>>()
            .map(Self)
    }
}

impl Rule {
    /// Whether it reads the request's header fields.
    pub fn reads_headers(&self) -> bool {
        match self {
            Self::SetHeader(_, FieldText::Template(text))
            | Self::AppendHeader(_, FieldText::Template(text)) => text.reads_headers(),
            Self::SetQueryParameter(_, text) | Self::SetPath(text) => text.reads_headers(),
            _ => false,
        }
    }

    pub(crate) fn parse_all(rules: Vec<types::Rule>) -> Result<Vec<Self>, String> {
        rules.into_iter().map(Self::parse).collect()
    }

    fn parse(rule: types::Rule) -> Result<Self, String> {
        Ok(match rule {
            types::Rule::SetHeader((name, text)) => {
                Self::SetHeader(editable(&name)?, FieldText::parse(text)?)
            }
            types::Rule::AppendHeader((name, text)) => {
                Self::AppendHeader(editable(&name)?, FieldText::parse(text)?)
            }
            types::Rule::RemoveHeader(name) => Self::RemoveHeader(editable(&name)?),
            types::Rule::RenameHeader((from, to)) => {
                Self::RenameHeader(editable(&from)?, editable(&to)?)
            }
            types::Rule::SetQueryParameter((name, text)) => {
                Self::SetQueryParameter(name, Template::parse(text)?)
            }
            types::Rule::RemoveQueryParameter(name) => Self::RemoveQueryParameter(name),
            types::Rule::RenameQueryParameter((from, to)) => Self::RenameQueryParameter(from, to),
            types::Rule::SetPath(text) => Self::SetPath(Template::parse(text)?),
            types::Rule::SetStatus(status) => Self::SetStatus(final_status(status)?),
        })
    }
}

impl FieldText {
    fn parse(parts: Vec<types::Part>) -> Result<Self, String> {
        let template = Template::parse(parts)?;
        match template.literal() {
            Some(text) => HeaderValue::from_str(text)
                .map(Self::Fixed)
                .map_err(|_| format!("{text:?} is not a field value (RFC 9110 section 5.5)")),
            None => Ok(Self::Template(template)),
        }
    }
}

impl StandingPlan {
    pub(crate) fn parse(plan: types::StandingPlan) -> Result<Self, String> {
        Ok(match plan {
            types::StandingPlan::Forward(forward) => Self::Forward {
                uri: Template::parse(forward.uri)?,
                method: forward.method.as_deref().map(method).transpose()?,
                rules: Rule::parse_all(forward.rules)?,
                pass_query: forward.pass_query,
                timeout_ms: forward.timeout_ms,
            },
            types::StandingPlan::Invoke(invocation) if !invocation.edits.is_empty() => {
                return Err(
                    "a standing invocation has no edits: use a request-transform".to_owned(),
                );
            }
            types::StandingPlan::Invoke(invocation) => Self::Invoke {
                function: invocation.function,
                timeout_ms: invocation.timeout_ms,
            },
            types::StandingPlan::Respond(response) => {
                final_status(response.status)?;
                Self::Respond(response)
            }
        })
    }
}

/// A field name that a plugin may change.
///
/// # Errors
///
/// Fields that belong to the connection (RFC 9110 section 7.6.1) and `Content-Length` are the host's.
pub fn editable(name: &str) -> Result<HeaderName, String> {
    let name = header_name(name)?;
    if HOST_FIELDS.contains(&name.as_str()) {
        return Err(format!(
            "the field \"{name}\" belongs to the connection: a plugin cannot change it"
        ));
    }
    Ok(name)
}

/// A status code that a response can end with.
pub fn final_status(status: u16) -> Result<StatusCode, String> {
    match StatusCode::from_u16(status) {
        Ok(code) if (200..600).contains(&status) => Ok(code),
        _ => Err(format!("{status} is not a final status code (200 to 599)")),
    }
}

/// A method from a plugin.
pub fn method(name: &str) -> Result<Method, String> {
    match Method::from_bytes(name.as_bytes()) {
        Ok(Method::CONNECT) | Err(_) => {
            Err(format!("\"{name}\" is not a method that can be forwarded"))
        }
        Ok(method) => Ok(method),
    }
}

/// Percent-encodes what does not stand for itself in a path segment (RFC 3986 section 3.3), or in several.
fn percent_encode(value: &str, keep_slashes: bool, text: &mut String) {
    for octet in value.bytes() {
        let stands = octet.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&octet);
        if stands || (keep_slashes && octet == b'/') {
            text.push(octet.into());
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            text.extend([
                '%',
                HEX[usize::from(octet >> 4)].into(),
                HEX[usize::from(octet & 15)].into(),
            ]);
        }
    }
}

const HOST_FIELDS: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_encoded_so_that_a_value_cannot_leave_its_place() {
        let cases = [
            ("a b", false, "a%20b"),
            ("a/b", false, "a%2Fb"),
            ("a/b?c#d", true, "a/b%3Fc%23d"),
            ("é", false, "%C3%A9"),
        ];
        for (value, keep_slashes, expected) in cases {
            let mut text = String::new();
            percent_encode(value, keep_slashes, &mut text);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn fields_of_the_connection_cannot_be_edited() {
        for name in [
            "Connection",
            "content-length",
            "Transfer-Encoding",
            "bad name",
        ] {
            assert!(editable(name).is_err(), "{name}");
        }
        assert!(editable("X-Tenant").is_ok());
    }

    /// Deterministic, so that a failure can be run again: xorshift (Marsaglia, 2003).
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % bound as u64) as usize
        }

        fn text(&mut self) -> String {
            const PIECES: [&str; 24] = [
                "",
                "a",
                "x-a",
                "Host",
                "content-length",
                "Connection",
                "te",
                "http",
                "://",
                "/",
                "?",
                "#",
                "@",
                ":",
                ".",
                " ",
                "\r\n",
                "\0",
                "é",
                "%2F",
                "{",
                "\u{7f}",
                "200",
                "GET",
            ];
            (0..self.below(5))
                .map(|_| PIECES[self.below(PIECES.len())])
                .collect()
        }

        fn template(&mut self) -> Vec<types::Part> {
            let reading = |random: &mut Self| match random.below(4) {
                0 => types::Reading::Header(random.text()),
                1 => types::Reading::Context(random.text()),
                2 => types::Reading::PathParameter(random.text()),
                _ => types::Reading::QueryString,
            };
            let part = |random: &mut Self| match random.below(4) {
                0 => types::Part::Value(reading(random)),
                1 => types::Part::Segment(reading(random)),
                _ => types::Part::Literal(random.text()),
            };
            (0..self.below(4)).map(|_| part(self)).collect()
        }

        fn rule(&mut self) -> types::Rule {
            match self.below(9) {
                0 => types::Rule::SetHeader((self.text(), self.template())),
                1 => types::Rule::AppendHeader((self.text(), self.template())),
                2 => types::Rule::RemoveHeader(self.text()),
                3 => types::Rule::RenameHeader((self.text(), self.text())),
                4 => types::Rule::SetQueryParameter((self.text(), self.template())),
                5 => types::Rule::RemoveQueryParameter(self.text()),
                6 => types::Rule::RenameQueryParameter((self.text(), self.text())),
                7 => types::Rule::SetPath(self.template()),
                _ => types::Rule::SetStatus(u16::try_from(self.below(70_000) % 65_536).unwrap()),
            }
        }
    }

    /// Whatever a plugin replies is read or refused, and what was read keeps the contract.
    #[test]
    fn no_reply_of_a_plugin_reaches_a_panic_or_the_hosts_own_fields() {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let ours = |name: &HeaderName| HOST_FIELDS.contains(&name.as_str());
        let (mut read, mut refused) = (0, 0);
        for _ in 0..50_000 {
            match Rule::parse(random.rule()) {
                Ok(rule) => {
                    read += 1;
                    match &rule {
                        Rule::SetHeader(name, _)
                        | Rule::AppendHeader(name, _)
                        | Rule::RemoveHeader(name) => assert!(!ours(name), "{rule:?}"),
                        Rule::RenameHeader(from, to) => assert!(!ours(from) && !ours(to)),
                        Rule::SetStatus(status) => assert!((200..600).contains(&status.as_u16())),
                        _ => {}
                    }
                }
                Err(reason) => {
                    refused += 1;
                    assert!(!reason.is_empty(), "refused without a reason");
                }
            }
        }
        assert!(read > 1000 && refused > 1000, "{read} {refused}");
    }

    /// What is taken for the server's name is all that comes before the path, and nothing of it is a reading.
    #[test]
    fn the_origin_of_a_uri_is_literal_and_whole() {
        let mut random = Random(0x2545_F491_4F6C_DD1D);
        let mut split = 0;
        for _ in 0..50_000 {
            let Ok(template) = Template::parse(random.template()) else {
                continue;
            };
            let Some((origin, rest)) = template.split_origin() else {
                continue;
            };
            split += 1;
            let (_, authority) = origin.split_once("://").expect("a scheme");
            assert!(!authority.contains(['/', '?']), "{origin:?}");
            let first = match template.0.first() {
                Some(Part::Literal(first)) => first.clone(),
                other => panic!("{other:?}"),
            };
            let Some(Part::Literal(left)) = rest.0.first() else {
                panic!("{rest:?}");
            };
            assert_eq!(format!("{origin}{left}"), first);
            assert_eq!(rest.0[1..], template.0[1..]);
            assert!(template.0.len() == 1 || !left.is_empty(), "{template:?}");
        }
        assert!(split > 100, "{split}");
    }
}
