//! What a plugin decided, as JSON by the names of the contract: what cases expect is written so.

use http::HeaderMap;
use serde_json::{Map, Value, json};
use tidegate_sandbox::standing::{FieldText, Rule, Template};
use tidegate_sandbox::wit::{Admission, Edit, Outcome, Plan, Response, Validity, Verdict};
use tidegate_sandbox::{Exchange, Fault};

pub(crate) fn fields_value(headers: &HeaderMap) -> Value {
    headers
        .keys()
        .map(|name| {
            let value = tidegate_sandbox::exchange::field(headers, name);
            (name.as_str().to_owned(), json!(value))
        })
        .collect::<Map<_, _>>()
        .into()
}

pub(crate) fn verdict_value(verdict: Verdict) -> Value {
    match verdict {
        Verdict::Allow(principal) => json!({ "allow": {
            "id": principal.id,
            "context": principal.context.into_iter().map(|(key, value)| (key, value.into())).collect::<Map<_, _>>(),
            "usage-identifier-key": principal.usage_identifier_key,
        } }),
        Verdict::Unauthorized(challenge) => json!({ "unauthorized": challenge }),
        Verdict::Forbidden(reason) => json!({ "forbidden": reason }),
    }
}

pub(crate) fn admission_value(admission: Admission) -> Value {
    match admission {
        Admission::Admit => json!({ "admit": true }),
        Admission::Reject(retry_ms) => json!({ "reject": retry_ms }),
        Admission::Exceeded(renews_ms) => json!({ "exceeded": renews_ms }),
    }
}

pub(crate) fn validity_value(validity: Validity) -> Value {
    match validity {
        Validity::Valid => json!({ "valid": true }),
        Validity::InvalidParameters(message) => json!({ "invalid-parameters": message }),
        Validity::InvalidBody(message) => json!({ "invalid-body": message }),
        Validity::UnsupportedMediaType => json!({ "unsupported-media-type": true }),
    }
}

pub(crate) fn outcome_value(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Edits(edits) => edits_value(edits),
        Outcome::Respond(response) => json!({ "respond": response_value(response) }),
    }
}

pub(crate) fn plan_value(plan: Plan) -> Value {
    match plan {
        Plan::Forward(forward) => json!({ "forward": {
            "uri": forward.uri,
            "method": forward.method,
            "edits": edit_values(forward.edits),
            "timeout-ms": forward.timeout_ms,
        } }),
        Plan::Invoke(invocation) => json!({ "invoke": {
            "function": invocation.function,
            "edits": edit_values(invocation.edits),
            "timeout-ms": invocation.timeout_ms,
        } }),
        Plan::Respond(response) => json!({ "respond": response_value(response) }),
    }
}

fn response_value(response: Response) -> Value {
    let headers: Map<_, _> = response
        .headers
        .into_iter()
        .map(|(name, value)| (name.to_lowercase(), value.into()))
        .collect();
    json!({
        "status": response.status,
        "headers": headers,
        "body": String::from_utf8_lossy(&response.body),
    })
}

pub(crate) fn edits_value(edits: Vec<Edit>) -> Value {
    json!({ "edits": edit_values(edits) })
}

fn edit_values(edits: Vec<Edit>) -> Vec<Value> {
    edits.into_iter().map(edit_value).collect()
}

/// An edit by its name in the WIT.
fn edit_value(edit: Edit) -> Value {
    match edit {
        Edit::SetHeader((name, value)) => json!({ "set-header": [name, value] }),
        Edit::AppendHeader((name, value)) => json!({ "append-header": [name, value] }),
        Edit::RemoveHeader(name) => json!({ "remove-header": name }),
        Edit::RenameHeader((from, to)) => json!({ "rename-header": [from, to] }),
        Edit::SetQueryParameter((name, value)) => json!({ "set-query-parameter": [name, value] }),
        Edit::RemoveQueryParameter(name) => json!({ "remove-query-parameter": name }),
        Edit::RenameQueryParameter((from, to)) => json!({ "rename-query-parameter": [from, to] }),
        Edit::SetPath(path) => json!({ "set-path": path }),
        Edit::SetStatus(status) => json!({ "set-status": status }),
        Edit::SetBody(body) => json!({ "set-body": String::from_utf8_lossy(&body) }),
    }
}

/// What a rule that stands does to this message; nothing where the values it reads are absent.
pub(crate) fn rule_value(rule: &Rule, exchange: &dyn Exchange) -> Option<Value> {
    let written = |template: &Template| {
        let mut text = String::new();
        template.write(exchange, &mut text).then_some(text)
    };
    let field = |text: &FieldText| match text {
        FieldText::Fixed(value) => Some(String::from_utf8_lossy(value.as_bytes()).into_owned()),
        FieldText::Template(template) => written(template),
    };
    Some(match rule {
        Rule::SetHeader(name, text) => json!({ "set-header": [name.as_str(), field(text)?] }),
        Rule::AppendHeader(name, text) => json!({ "append-header": [name.as_str(), field(text)?] }),
        Rule::RemoveHeader(name) => json!({ "remove-header": name.as_str() }),
        Rule::RenameHeader(from, to) => json!({ "rename-header": [from.as_str(), to.as_str()] }),
        Rule::SetQueryParameter(name, text) => {
            json!({ "set-query-parameter": [name, written(text)?] })
        }
        Rule::RemoveQueryParameter(name) => json!({ "remove-query-parameter": name }),
        Rule::RenameQueryParameter(from, to) => json!({ "rename-query-parameter": [from, to] }),
        Rule::SetPath(text) => json!({ "set-path": written(text)? }),
        Rule::SetStatus(status) => json!({ "set-status": status.as_u16() }),
    })
}

pub(crate) fn fault_value(fault: Fault) -> Value {
    match fault {
        Fault::Answered(reason) => json!({ "error": reason }),
        fault => json!({ "fault": fault.to_string() }),
    }
}
