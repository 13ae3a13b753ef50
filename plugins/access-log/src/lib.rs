//! Writes one line for each request, by a format of API Gateway's variables.

use tidegate_plugin::{
    Configuration, ConfigurationError, Given, LogSink, Plugin, Reads, Setup, escape, log_output,
    parse_expression,
};

/// The sink: its format.
#[derive(Debug)]
pub struct AccessLog {
    pieces: Vec<Piece>,
    /// How a value is written: the format makes JSON, or plain text.
    escape: fn(&str, &mut String),
}

#[derive(Debug, PartialEq)]
enum Piece {
    Literal(String),
    Given(usize),
}

impl Plugin for AccessLog {
    fn configure(configuration: Configuration) -> Result<Setup<Self>, ConfigurationError> {
        let mut fields = configuration.object()?;
        let format = fields.required("format")?;
        let mut reads = Reads::default();
        let pieces = format.parse(|text| parse_format(text, &mut reads))?;
        let is_json = format.string()?.trim_start().starts_with('{');
        fields.finish()?;
        let escape = if is_json {
            escape::push_json
        } else {
            push_plain
        };
        Ok(Setup::new(Self { pieces, escape }).reads(reads))
    }
}

impl LogSink for AccessLog {
    fn write(&self, records: Vec<Given>) -> Result<(), String> {
        let lines: Vec<String> = records.iter().map(|record| self.line(record)).collect();
        log_output::write(&lines);
        Ok(())
    }
}

impl AccessLog {
    fn line(&self, record: &Given) -> String {
        let mut line = String::with_capacity(256);
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => line.push_str(text),
                Piece::Given(place) => match record.get(*place) {
                    Some(value) => (self.escape)(value, &mut line),
                    None => line.push('-'),
                },
            }
        }
        line
    }
}

/// Reads a format: text with `$context.NAME` and `$request.header.NAME`. A dollar sign before anything else stands for
/// itself. A name ends before a dot or dash that nothing follows, so that `$context.status.` and
/// `$context.requestId-$context.status` mean what they look like.
fn parse_format(format: &str, reads: &mut Reads) -> Result<Vec<Piece>, String> {
    if format.contains(['\r', '\n']) {
        return Err("must be one line".into());
    }
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('$') {
        literal.push_str(&rest[..at]);
        rest = &rest[at..];
        let variable = &rest[..variable_length(rest)];
        if variable.starts_with("$context.") || variable.starts_with("$request.header.") {
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Given(reads.place(parse_expression(variable)?)?));
        } else if variable.starts_with("$request.") || variable.starts_with("$stageVariables.") {
            return Err(format!(
                "{variable} is not known once a request is served; there are $context.NAME and $request.header.NAME"
            ));
        } else {
            literal.push_str(variable);
        }
        rest = &rest[variable.len()..];
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

/// The octets of the dollar sign at the start and the name behind it.
fn variable_length(text: &str) -> usize {
    let is_name = |char: char| char.is_ascii_alphanumeric() || "_.-".contains(char);
    let name = text[1..]
        .split(|char| !is_name(char))
        .next()
        .unwrap_or_default();
    1 + name.trim_end_matches(['.', '-']).len()
}

/// As it stands, but for what would forge or break a line.
fn push_plain(value: &str, line: &mut String) {
    for char in value.chars() {
        match char.is_control() {
            true => line.extend(char.escape_default()),
            false => line.push(char),
        }
    }
}

tidegate_plugin::export!(AccessLog: log_sink);

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_plugin::Reading;

    fn configure(format: &str) -> Result<Setup<AccessLog>, String> {
        let text = tidegate_plugin::json::json!({ "format": format }).to_string();
        Configuration::parse(&text)
            .and_then(AccessLog::configure)
            .map_err(|error| error.to_string())
    }

    fn line(format: &str, values: &[Option<&str>]) -> String {
        let values: Vec<_> = values.iter().map(|value| value.map(String::from)).collect();
        configure(format).unwrap().plugin().line(&values.into())
    }

    #[test]
    fn a_line_is_the_format_with_its_values() {
        let cases: [(&str, &[Option<&str>], &str); 7] = [
            (
                "$context.requestId $context.status",
                &[Some("r"), Some("200")],
                "r 200",
            ),
            (
                "$context.requestId-$context.status.",
                &[Some("r"), Some("200")],
                "r-200.",
            ),
            ("[$context.requestId]", &[None], "[-]"),
            (
                "$request.header.User-Agent!",
                &[Some("curl\n\u{1b}x")],
                "curl\\n\\u{1b}x!",
            ),
            (
                "5$ $$context.stage $other",
                &[Some("dev")],
                "5$ $dev $other",
            ),
            (
                r#"{"agent":"$request.header.user-agent","again":"$request.header.User-Agent"}"#,
                &[Some("a\"b\\\n")],
                r#"{"agent":"a\"b\\\u000A","again":"a\"b\\\u000A"}"#,
            ),
            ("plain", &[], "plain"),
        ];
        for (format, values, expected) in cases {
            assert_eq!(line(format, values), expected, "{format}");
        }
    }

    #[test]
    fn the_names_of_variables_reach_to_their_end() {
        let cases = [
            (
                "$context.identity.sourceIp",
                Reading::Context("identity.sourceIp".into()),
            ),
            (
                "$context.authorizer.a-b,",
                Reading::Context("authorizer.a-b".into()),
            ),
            ("$request.header.X-A_1\"", Reading::Header("x-a_1".into())),
        ];
        for (format, reading) in cases {
            assert_eq!(configure(format).unwrap().readings(), [reading], "{format}");
        }
    }

    #[test]
    fn a_wrong_format_is_refused() {
        for format in ["a\nb", "$request.path", "$stageVariables.a"] {
            let error = configure(format).unwrap_err();
            assert!(error.starts_with("/format: "), "{format:?}: {error}");
        }
    }

    #[test]
    fn the_example_is_valid() {
        let example = Configuration::parse(include_str!("../example.json")).unwrap();
        assert!(AccessLog::configure(example).is_ok());
    }
}
