use crate::expression::parse_reading;
use crate::types::{Part, Reading, Template};
use crate::{Given, Reads};

/// Reads a template: text with `${…}` around an expression without its `$`, as in
/// `${request.header.x-a}-${context.requestId}`; `$${` is a literal `${`.
///
/// # Errors
///
/// A sentence on what is wrong, without its place.
pub fn parse_template(text: &str) -> Result<Template, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            literal.push_str(&rest[..at - 1]);
            literal.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        literal.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let end = inside
            .find('}')
            .ok_or("`${` without its `}`; a literal `${` is written `$${`")?;
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        parts.push(Part::Value(parse_reading(&inside[..end])?));
        rest = &inside[end + 1..];
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

/// A template that the plugin itself renders, from the values that it is given.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Literal(String),
    Given(usize),
}

impl Text {
    /// Reads a template as [`parse_template`] does, and asks for the values that it needs.
    ///
    /// # Errors
    ///
    /// A sentence on what is wrong, without its place.
    pub fn parse(text: &str, reads: &mut Reads) -> Result<Self, String> {
        let mut pieces = Vec::new();
        for part in parse_template(text)? {
            pieces.push(match part {
                Part::Literal(text) => Piece::Literal(text),
                Part::Value(reading) | Part::Segment(reading) | Part::Segments(reading) => {
                    Piece::Given(reads.place(reading)?)
                }
            });
        }
        Ok(Self { pieces })
    }

    /// Text that stands as it is.
    pub fn literal(text: impl Into<String>) -> Self {
        Self {
            pieces: vec![Piece::Literal(text.into())],
        }
    }

    /// The value of one reading.
    ///
    /// # Errors
    ///
    /// As [`Reads::place`].
    pub fn value(reading: Reading, reads: &mut Reads) -> Result<Self, String> {
        Ok(Self {
            pieces: vec![Piece::Given(reads.place(reading)?)],
        })
    }

    /// Whether it is the same for every request.
    pub fn is_literal(&self) -> bool {
        self.pieces
            .iter()
            .all(|piece| matches!(piece, Piece::Literal(_)))
    }

    /// The text for one request; a value that is absent leaves nothing.
    pub fn render(&self, given: &Given) -> String {
        self.render_with(given, |value, into| into.push_str(value))
    }

    /// The text for one request, each value written by `write` (escaped, say).
    pub fn render_with(&self, given: &Given, write: impl Fn(&str, &mut String)) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Given(place) => write(given.get(*place).unwrap_or_default(), &mut text),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Part {
        Part::Literal(text.into())
    }

    #[test]
    fn a_template_is_text_and_values() {
        let header = || Part::Value(Reading::Header("x-a".into()));
        let cases = [
            ("", vec![]),
            ("plain", vec![literal("plain")]),
            ("{not} $this }", vec![literal("{not} $this }")]),
            ("${request.header.x-a}", vec![header()]),
            (
                "a${request.header.x-a}b${request.path}",
                vec![
                    literal("a"),
                    header(),
                    literal("b"),
                    Part::Value(Reading::Path),
                ],
            ),
            ("$${request.path}", vec![literal("${request.path}")]),
            (
                "5$ $${a} ${request.path}",
                vec![literal("5$ ${a} "), Part::Value(Reading::Path)],
            ),
        ];
        for (text, parts) in cases {
            assert_eq!(parse_template(text), Ok(parts), "{text}");
        }
    }

    #[test]
    fn a_broken_template_is_refused() {
        for text in [
            "${",
            "a ${request.path",
            "${}",
            "${nothing.of.ours}",
            "${$request.path}",
        ] {
            assert!(parse_template(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_text_renders_what_it_was_given() {
        let mut reads = Reads::default();
        let text = Text::parse(
            "${request.path}?${context.stage}-${request.path}",
            &mut reads,
        )
        .unwrap();
        assert_eq!(reads.into_iter().len(), 2);
        assert_eq!(text.render(&vec![Some("/a".into()), None].into()), "/a?-/a");
        assert!(!text.is_literal());
        assert!(
            Text::parse("$${}", &mut Reads::default())
                .unwrap()
                .is_literal()
        );
    }
}
