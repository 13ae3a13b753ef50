//! Policy documents.

use serde_json::{Map, Value};
use thiserror::Error;

use super::condition::{self, Condition};
use super::pattern::{Case, Pattern};
use super::principal::Principals;
use super::{Decision, Request};

/// A document.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Debug, Clone, PartialEq)]
struct Statement {
    denies: bool,
    /// `None`: the policy is somebody's own.
    principals: Option<Set<Principals>>,
    actions: Set<Vec<Pattern>>,
    /// `None`: all.
    resources: Option<Set<Vec<Pattern>>>,
    conditions: Vec<Condition>,
}

/// What is meant, or all else.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Set<T> {
    members: T,
    not: bool,
}

/// Why a document is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", .0.join("; "))]
pub struct Invalid(pub Vec<String>);

impl Policy {
    /// Reads a document. `resource` completes what a statement says of resources: services have short forms.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(text: &str, resource: impl Fn(&str) -> String) -> Result<Self, Invalid> {
        if text.len() > BYTES_MAX {
            return Err(Invalid(vec![format!(
                "it is longer than {BYTES_MAX} bytes"
            )]));
        }
        let value: Value = serde_json::from_str(text)
            .map_err(|error| Invalid(vec![format!("it is no JSON: {error}")]))?;
        Self::read(&value, resource)
    }

    /// Reads a document that is JSON already.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn read(value: &Value, resource: impl Fn(&str) -> String) -> Result<Self, Invalid> {
        let Value::Object(document) = value else {
            return Err(Invalid(vec!["it is no object".to_owned()]));
        };
        let mut problems = Vec::new();
        unknown(document, &["Version", "Id", "Statement"], &mut problems);
        // "If you do not include a Version element, the value defaults to 2008-10-17", in which variables are text.
        let variables = match document.get("Version").map(Value::as_str) {
            Some(Some("2012-10-17")) => true,
            None | Some(Some("2008-10-17")) => false,
            Some(_) => {
                problems.push("Version is neither 2012-10-17 nor 2008-10-17".to_owned());
                false
            }
        };
        let statements = match document.get("Statement") {
            Some(Value::Array(statements)) => statements.as_slice(),
            Some(one @ Value::Object(_)) => std::slice::from_ref(one),
            _ => {
                problems.push("Statement is missing".to_owned());
                &[]
            }
        };
        let reader = Reader {
            variables,
            resource: &resource,
        };
        let mut read = Vec::new();
        for (number, statement) in statements.iter().enumerate() {
            let mut found = Vec::new();
            read.extend(reader.statement(statement, &mut found));
            let of = |problem| format!("statement {}: {problem}", number + 1);
            problems.extend(found.into_iter().map(of));
        }
        if problems.is_empty() {
            Ok(Self { statements: read })
        } else {
            Err(Invalid(problems))
        }
    }

    /// What it says of a request.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        decide([self], request)
    }
}

/// What policies say together: "an explicit deny in any policy overrides any allows".
pub fn decide<'p>(
    policies: impl IntoIterator<Item = &'p Policy>,
    request: &Request<'_>,
) -> Decision {
    let mut decision = Decision::Silent;
    for statement in policies.into_iter().flat_map(|policy| &policy.statements) {
        // What denies is the last word; what allows says nothing new where something else did.
        if (statement.denies || decision == Decision::Silent) && statement.means(request) {
            if statement.denies {
                return Decision::Denied;
            }
            decision = Decision::Allowed;
        }
    }
    decision
}

impl Statement {
    /// Whether it is about a request.
    fn means(&self, request: &Request<'_>) -> bool {
        let any = |patterns: &[Pattern], text: &str, case| {
            let matches = |pattern: &Pattern| pattern.matches(text, request.context, case);
            patterns.iter().any(matches)
        };
        if let Some(principals) = &self.principals
            && principals.members.mean(request.principal) == principals.not
        {
            return false;
        }
        // "The action … names are case insensitive."
        if any(&self.actions.members, request.action, Case::Ignored) == self.actions.not {
            return false;
        }
        if let Some(resources) = &self.resources
            && any(&resources.members, request.resource, Case::Matters) == resources.not
        {
            return false;
        }
        self.conditions
            .iter()
            .all(|condition| condition.holds(request))
    }
}

struct Reader<'r, F> {
    variables: bool,
    resource: &'r F,
}

impl<F: Fn(&str) -> String> Reader<'_, F> {
    fn statement(&self, value: &Value, problems: &mut Vec<String>) -> Option<Statement> {
        let Value::Object(statement) = value else {
            problems.push("it is no object".to_owned());
            return None;
        };
        unknown(statement, ELEMENTS, problems);
        let denies = match statement.get("Effect").and_then(Value::as_str) {
            Some("Allow") => false,
            Some("Deny") => true,
            _ => {
                problems.push("Effect is neither Allow nor Deny".to_owned());
                return None;
            }
        };
        let principals = either(statement, "Principal", problems).and_then(|(value, not)| {
            let name = if not { "NotPrincipal" } else { "Principal" };
            match Principals::parse(value) {
                Ok(members) => Some(Set { members, not }),
                Err(problem) => {
                    problems.push(format!("{name} {problem}"));
                    None
                }
            }
        });
        if !denies && principals.as_ref().is_some_and(|principals| principals.not) {
            problems.push("NotPrincipal with Allow means everybody else in the world".to_owned());
        }
        let actions = self.patterns(statement, "Action", str::to_owned, problems);
        let resources = self.patterns(statement, "Resource", self.resource, problems);
        let conditions = match statement
            .get("Condition")
            .map(|it| condition::parse(it, self.variables))
        {
            None => Vec::new(),
            Some(Ok(conditions)) => conditions,
            Some(Err(found)) => {
                problems.extend(found);
                Vec::new()
            }
        };
        let Some(actions) = actions else {
            if problems.is_empty() {
                problems.push("Action is missing".to_owned());
            }
            return None;
        };
        Some(Statement {
            denies,
            principals,
            actions,
            resources,
            conditions,
        })
    }

    fn patterns(
        &self,
        statement: &Map<String, Value>,
        name: &str,
        complete: impl Fn(&str) -> String,
        problems: &mut Vec<String>,
    ) -> Option<Set<Vec<Pattern>>> {
        let (value, not) = either(statement, name, problems)?;
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        let texts: Option<Vec<&str>> = values.iter().map(Value::as_str).collect();
        let Some(texts) = texts.filter(|texts| !texts.is_empty()) else {
            problems.push(format!("{name} is neither text nor a list of texts"));
            return None;
        };
        let members = texts
            .into_iter()
            .map(|text| Pattern::parse(&complete(text), self.variables));
        Some(Set {
            members: members.collect(),
            not,
        })
    }
}

/// An element or its negation; both at once is a problem.
fn either<'v>(
    statement: &'v Map<String, Value>,
    name: &str,
    problems: &mut Vec<String>,
) -> Option<(&'v Value, bool)> {
    let not = format!("Not{name}");
    match (statement.get(name), statement.get(&not)) {
        (Some(_), Some(_)) => {
            problems.push(format!("it has both {name} and {not}"));
            None
        }
        (Some(value), None) => Some((value, false)),
        (None, Some(value)) => Some((value, true)),
        (None, None) => None,
    }
}

/// An element with a typing error would be one that restricts nothing.
fn unknown(object: &Map<String, Value>, known: &[&str], problems: &mut Vec<String>) {
    let strangers = object.keys().filter(|key| !known.contains(&key.as_str()));
    problems.extend(strangers.map(|key| {
        let hint = crate::problem::did_you_mean(key, known.iter().copied());
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("\"{key}\" is no element{hint}")
    }));
}

const ELEMENTS: &[&str] = &[
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
];
/// API Gateway takes 8,192 bytes of a resource policy; IAM's own are shorter.
const BYTES_MAX: usize = 32 << 10;
