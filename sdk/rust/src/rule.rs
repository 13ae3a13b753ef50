use crate::types::{Edit, Part, Reading, Rule};
use crate::{escape, request};

impl Reading {
    /// The value for the request in hand; `None` where it is absent.
    pub fn look_up(&self) -> Option<String> {
        match self {
            Self::Method => Some(request::method()),
            Self::Path => Some(request::path()),
            Self::QueryString => request::query_string(),
            Self::Header(name) => request::header(name),
            Self::QueryParameter(name) => request::query_parameter(name),
            Self::PathParameter(name) => request::path_parameter(name),
            Self::StageVariable(name) => request::stage_variable(name),
            Self::Context(name) => request::context(name),
        }
    }
}

impl Rule {
    /// What the rule does to one message, whose values `look_up` knows; `None` where it does nothing.
    ///
    /// For a plugin whose decision stands for some configurations and not for others.
    pub fn edit(&self, look_up: &dyn Fn(&Reading) -> Option<String>) -> Option<Edit> {
        let named =
            |name: &str, template| render(template, look_up).map(|value| (name.to_string(), value));
        Some(match self {
            Self::SetHeader((name, template)) => Edit::SetHeader(named(name, template)?),
            Self::AppendHeader((name, template)) => Edit::AppendHeader(named(name, template)?),
            Self::RemoveHeader(name) => Edit::RemoveHeader(name.clone()),
            Self::RenameHeader(names) => Edit::RenameHeader(names.clone()),
            Self::SetQueryParameter((name, template)) => {
                Edit::SetQueryParameter(named(name, template)?)
            }
            Self::RemoveQueryParameter(name) => Edit::RemoveQueryParameter(name.clone()),
            Self::RenameQueryParameter(names) => Edit::RenameQueryParameter(names.clone()),
            Self::SetPath(template) => Edit::SetPath(render(template, look_up)?),
            Self::SetStatus(status) => Edit::SetStatus(*status),
        })
    }
}

/// A template's text for one message; `None` where it has readings and all of them are absent.
pub fn render(template: &[Part], look_up: &dyn Fn(&Reading) -> Option<String>) -> Option<String> {
    let mut text = String::new();
    let (mut readings, mut there) = (0, 0);
    for part in template {
        let (reading, push): (_, fn(&str, &mut String)) = match part {
            Part::Literal(literal) => {
                text.push_str(literal);
                continue;
            }
            Part::Value(reading) => (reading, |value, into| into.push_str(value)),
            Part::Segment(reading) => {
                (reading, |value, into| escape::push_percent(value, "", into))
            }
            Part::Segments(reading) => (reading, |value, into| {
                escape::push_percent(value, "/", into)
            }),
        };
        readings += 1;
        if let Some(value) = look_up(reading) {
            there += 1;
            push(&value, &mut text);
        }
    }
    (readings == 0 || there > 0).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(reading: &Reading) -> Option<String> {
        match reading {
            Reading::PathParameter(name) if name == "id" => Some("a/b ü".into()),
            _ => None,
        }
    }

    #[test]
    fn a_part_is_encoded_for_its_place() {
        let id = || Reading::PathParameter("id".into());
        let cases = [
            (
                vec![Part::Literal("x".into()), Part::Value(id())],
                Some("xa/b ü"),
            ),
            (vec![Part::Segment(id())], Some("a%2Fb%20%C3%BC")),
            (vec![Part::Segments(id())], Some("a/b%20%C3%BC")),
            (
                vec![Part::Literal("x".into()), Part::Value(Reading::Method)],
                None,
            ),
            (
                vec![Part::Value(Reading::Method), Part::Segment(id())],
                Some("a%2Fb%20%C3%BC"),
            ),
            (vec![Part::Literal("x".into())], Some("x")),
            (vec![], Some("")),
        ];
        for (template, text) in cases {
            assert_eq!(render(&template, &look_up).as_deref(), text, "{template:?}");
        }
    }

    #[test]
    fn a_rule_without_its_values_does_nothing() {
        let absent = vec![Part::Value(Reading::Method)];
        assert_eq!(
            Rule::SetHeader(("a".into(), absent.clone())).edit(&look_up),
            None
        );
        assert_eq!(
            Rule::SetQueryParameter(("a".into(), absent)).edit(&look_up),
            None
        );
        let present = vec![Part::Literal("b".into())];
        let edit = Rule::AppendHeader(("a".into(), present)).edit(&look_up);
        assert_eq!(edit, Some(Edit::AppendHeader(("a".into(), "b".into()))));
    }
}
