//! `Condition`: when a statement is about a request.

use std::borrow::Cow;

use serde_json::Value;

use super::operator::{Operand, Operator};
use super::{Context, Request};

/// An operator, a key, and the values that it is compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    operator: Operator,
    negated: bool,
    quantifier: Quantifier,
    /// "If the policy key is present in the context of the request, process the key as specified in the policy. If the key is
    /// not present, evaluate the condition element as true."
    if_exists: bool,
    key: String,
    operands: Vec<Operand>,
}

/// How many of the request's values have to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    /// For keys with one value.
    One,
    All,
    Any,
}

/// Reads the element, all conditions of which have to hold.
///
/// # Errors
/// Sentences on what it is not.
pub fn parse(value: &Value, variables: bool) -> Result<Vec<Condition>, Vec<String>> {
    let Value::Object(operators) = value else {
        return Err(vec!["Condition is no object".to_owned()]);
    };
    let (mut conditions, mut problems) = (Vec::new(), Vec::new());
    for (name, keys) in operators {
        let Some((quantifier, operator, negated, if_exists)) = read_name(name) else {
            problems.push(format!("Condition has \"{name}\", which is no operator"));
            continue;
        };
        let Value::Object(keys) = keys else {
            problems.push(format!("{name} is no object of keys and values"));
            continue;
        };
        for (key, values) in keys {
            let values = match values {
                Value::Array(values) => values.as_slice(),
                one => std::slice::from_ref(one),
            };
            let mut operands = Vec::new();
            for value in values {
                match text_of(value).map(|text| operator.operand(&text, variables)) {
                    Some(Ok(operand)) => operands.push(operand),
                    Some(Err(problem)) => problems.push(format!("{name} {key}: {problem}")),
                    None => problems.push(format!("{name} {key}: {value} is no value")),
                }
            }
            if operands.is_empty() && problems.is_empty() {
                problems.push(format!("{name} {key} has no value"));
            }
            conditions.push(Condition {
                operator,
                negated,
                quantifier,
                if_exists,
                key: key.to_ascii_lowercase(),
                operands,
            });
        }
    }
    if problems.is_empty() {
        Ok(conditions)
    } else {
        Err(problems)
    }
}

fn read_name(name: &str) -> Option<(Quantifier, Operator, bool, bool)> {
    let (quantifier, rest) = match name.split_once(':') {
        Some(("ForAllValues", rest)) => (Quantifier::All, rest),
        Some(("ForAnyValue", rest)) => (Quantifier::Any, rest),
        Some(_) => return None,
        None => (Quantifier::One, name),
    };
    let (rest, if_exists) = match rest.strip_suffix("IfExists") {
        Some(rest) if rest != "Null" => (rest, true),
        _ => (rest, false),
    };
    let (operator, negated) = Operator::parse(rest)?;
    Some((quantifier, operator, negated, if_exists))
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

impl Condition {
    /// Whether it holds.
    pub fn holds(&self, request: &Request<'_>) -> bool {
        let values = request.context.values(&self.key);
        if self.operator == Operator::Null {
            let absent = Operand::Truth(values.is_empty());
            return self.operands.contains(&absent);
        }
        if values.is_empty() {
            // "ForAllValues … also returns true if there are no context keys in the request"; "negated matching … and the
            // right key is not present, the condition is true"; "ForAnyValue … if there are no context keys, false".
            return match self.quantifier {
                Quantifier::All => true,
                Quantifier::Any => self.if_exists,
                Quantifier::One => self.if_exists || self.negated,
            };
        }
        let holds = |value: &Cow<'_, str>| self.holds_for(value, request.context);
        let mut held = values.iter().map(holds);
        match self.quantifier {
            Quantifier::All => held.all(|held| held),
            Quantifier::Any => held.any(|held| held),
            // Several values where one is expected: none of them may be what is not to be.
            Quantifier::One if self.negated => held.all(|held| held),
            Quantifier::One => held.any(|held| held),
        }
    }

    /// "If a single condition operator includes multiple values for a context key, those values are evaluated using a logical
    /// OR"; "for negated matching condition operators … a logical NOR".
    fn holds_for(&self, value: &str, context: &dyn Context) -> bool {
        let holds = |operand| self.operator.holds(value, operand, context);
        self.operands.iter().any(holds) != self.negated
    }
}
