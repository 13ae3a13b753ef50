//! The URI that requests are sent to: text with `{name}` for path parameters and `${…}` for other values.

use tidegate_plugin::configuration::Field;
use tidegate_plugin::{ConfigurationError, Part, Reading, Template, parse_template};

use crate::parameters::path_part;

/// Reads a URI. A value in it cannot leave its place: the authority takes only stage variables, and what comes from a
/// request is percent-encoded.
pub fn read(field: &Field, mapped: &[(String, Template)]) -> Result<Template, ConfigurationError> {
    let template = field.parse(|text| parse(text, mapped))?;
    for (name, _) in mapped {
        let text = field.string()?;
        if !text.contains(&format!("{{{name}}}")) && !text.contains(&format!("{{{name}+}}")) {
            return Err(field.error(format!(
                "has no {{{name}}}, to which a request parameter is mapped"
            )));
        }
    }
    Ok(template)
}

/// Where in a URI a part stands (RFC 3986 section 3).
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Authority,
    Path,
    Query,
}

fn parse(text: &str, mapped: &[(String, Template)]) -> Result<Template, String> {
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| text.starts_with(scheme));
    let scheme = scheme.ok_or("must start with http:// or https://")?;
    let mut parts = vec![Part::Literal(scheme.to_string())];
    let mut place = Place::Authority;
    let mut host_octets = 0;
    for part in parse_template(&text[scheme.len()..])? {
        match part {
            Part::Literal(literal) => {
                let before = literal.split(['/', '?']).next().unwrap_or_default().len();
                if place == Place::Authority {
                    host_octets += before;
                }
                place = push_literal(&literal, place, mapped, &mut parts)?;
            }
            Part::Value(reading) | Part::Segment(reading) | Part::Segments(reading) => {
                if place == Place::Authority {
                    match reading {
                        // It starts with a slash, and so ends the host.
                        Reading::Path => place = Place::Path,
                        _ => host_octets += 1,
                    }
                }
                push(value(reading, place)?, &mut parts);
            }
        }
    }
    match host_octets {
        0 => Err("must name a host or an upstream".into()),
        _ => Ok(parts),
    }
}

/// Takes text apart at its `{name}`s, and follows it from the authority to the query.
fn push_literal(
    literal: &str,
    from: Place,
    mapped: &[(String, Template)],
    parts: &mut Template,
) -> Result<Place, String> {
    let mut place = from;
    let mut run = String::new();
    let mut chars = literal.chars();
    while let Some(char) = chars.next() {
        place = match (place, char) {
            (Place::Authority, '/') => Place::Path,
            (Place::Authority | Place::Path, '?') => Place::Query,
            _ => place,
        };
        match char {
            '{' if place == Place::Authority => {
                return Err("takes path parameters behind the host only".into());
            }
            '{' => {
                let rest = chars.as_str();
                let end = rest.find('}').ok_or("`{` without its `}`")?;
                if end == 0 {
                    return Err("`{}` names no path parameter".into());
                }
                push(Part::Literal(std::mem::take(&mut run)), parts);
                push(path_part(&rest[..end], mapped), parts);
                chars = rest[end + 1..].chars();
            }
            '#' => return Err("must have no fragment".into()),
            '@' if place == Place::Authority => return Err("must have no user information".into()),
            char if is_no_uri(char) => return Err(format!("{char:?} must be percent-encoded")),
            char => run.push(char),
        }
    }
    push(Part::Literal(run), parts);
    Ok(place)
}

/// Adds a part; text joins the text before it.
fn push(part: Part, parts: &mut Template) {
    match (part, parts.last_mut()) {
        (Part::Literal(text), Some(Part::Literal(before))) => before.push_str(&text),
        (Part::Literal(text), _) if text.is_empty() => {}
        (part, _) => parts.push(part),
    }
}

/// A value at its place. Stage variables are the operator's: they may hold a host, or several segments.
fn value(reading: Reading, place: Place) -> Result<Part, String> {
    match (place, &reading) {
        (_, Reading::StageVariable(_)) => Ok(Part::Value(reading)),
        (Place::Authority, _) => {
            Err("takes only ${stageVariables.NAME} in its host: no caller may choose it".into())
        }
        (Place::Path, Reading::Path) | (Place::Query, Reading::QueryString) => {
            Ok(Part::Value(reading))
        }
        (Place::Path, Reading::PathParameter(name)) if name == "proxy" => {
            Ok(Part::Segments(reading))
        }
        _ => Ok(Part::Segment(reading)),
    }
}

/// Whether the node can fill the URI in by itself. In a query it cannot: a part that is encoded for a path segment may hold
/// `&`, `=` and `+`, which mean something there.
pub fn stands(uri: &Template) -> bool {
    let mut in_query = false;
    uri.iter().all(|part| match part {
        Part::Literal(text) => {
            in_query |= text.contains('?');
            true
        }
        Part::Value(_) => true,
        Part::Segment(_) | Part::Segments(_) => !in_query,
    })
}

/// What may not stand in a URI as it is (RFC 3986 section 2).
fn is_no_uri(char: char) -> bool {
    !(char.is_ascii_alphanumeric() || "-._~:/?[]@!$&'()*+,;=%".contains(char))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Part {
        Part::Literal(text.into())
    }

    fn parameter(name: &str) -> Reading {
        Reading::PathParameter(name.into())
    }

    #[test]
    fn a_uri_is_text_with_values_at_their_places() {
        let variable = |name: &str| Part::Value(Reading::StageVariable(name.into()));
        let cases = [
            ("http://orders", vec![literal("http://orders")]),
            (
                "https://a:8443/b?c=d",
                vec![literal("https://a:8443/b?c=d")],
            ),
            (
                "http://orders/items/{id}",
                vec![
                    literal("http://orders/items/"),
                    Part::Segment(parameter("id")),
                ],
            ),
            (
                "http://orders/{proxy}",
                vec![
                    literal("http://orders/"),
                    Part::Segments(parameter("proxy")),
                ],
            ),
            (
                "http://orders/{rest+}/x",
                vec![
                    literal("http://orders/"),
                    Part::Segments(parameter("rest")),
                    literal("/x"),
                ],
            ),
            (
                "http://${stageVariables.host}:81/${stageVariables.base}?x=${context.stage}",
                vec![
                    literal("http://"),
                    variable("host"),
                    literal(":81/"),
                    variable("base"),
                    literal("?x="),
                    Part::Segment(Reading::Context("stage".into())),
                ],
            ),
            (
                "http://a${request.path}?${request.querystring}",
                vec![
                    literal("http://a"),
                    Part::Value(Reading::Path),
                    literal("?"),
                    Part::Value(Reading::QueryString),
                ],
            ),
        ];
        for (text, parts) in cases {
            assert_eq!(parse(text, &[]), Ok(parts), "{text}");
        }
    }

    #[test]
    fn the_node_fills_in_what_is_before_the_query() {
        let cases = [
            ("http://a/{id}?x=y", true),
            ("http://a/{id}?x=${stageVariables.x}", true),
            ("http://a/?${request.querystring}", true),
            ("http://a/?x=${request.querystring.x}", false),
            ("http://a/?x={id}", false),
        ];
        for (text, by_itself) in cases {
            assert_eq!(stands(&parse(text, &[]).unwrap()), by_itself, "{text}");
        }
    }

    #[test]
    fn a_path_parameter_takes_what_is_mapped_to_it() {
        let mapped = |part| [("id".to_string(), vec![part])];
        let cases = [
            (
                Part::Value(parameter("item")),
                Part::Segment(parameter("item")),
            ),
            (
                Part::Value(Reading::Header("x".into())),
                Part::Segment(Reading::Header("x".into())),
            ),
            (
                Part::Value(parameter("proxy")),
                Part::Segments(parameter("proxy")),
            ),
        ];
        for (source, part) in cases {
            assert_eq!(
                parse("http://a/{id}", &mapped(source)),
                Ok(vec![literal("http://a/"), part])
            );
        }
        let fixed = parse("http://a/{id}/c", &mapped(literal("x/y")));
        assert_eq!(fixed, Ok(vec![literal("http://a/x%2Fy/c")]));
    }

    #[test]
    fn what_is_no_uri_of_a_server_is_refused() {
        let cases = [
            "",
            "orders",
            "ftp://a",
            "http://",
            "http:///a",
            "http://?a",
            "http://${request.path}",
            "http://${request.header.host}/",
            "http://{id}/",
            "http://a/{",
            "http://a/{}",
            "http://a/#b",
            "http://u@a/",
            "http://a/b c",
            "http://a/é",
            "http://a/}",
            "http://a/\n",
        ];
        for text in cases {
            assert!(parse(text, &[]).is_err(), "{text}");
        }
    }
}
