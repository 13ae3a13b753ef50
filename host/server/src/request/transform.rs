//! Changes to a request before its integration, and to the response after it.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::Body as _;
use tidegate_model::deployment::{BindingId, Route};
use tidegate_model::uri;
use tidegate_sandbox::standing::{FieldText, Rule, editable, final_status};
use tidegate_sandbox::wit::{Edit, Outcome};
use tidegate_sandbox::{Decision, Fault};

use super::gatekeep::{after_fault, collect_for, shared};
use super::{Exchange, GatewayError, own, usable};
use crate::body::Body;
use crate::cases::answers;
use crate::worker::Local;

/// What the request transforms came to.
pub enum Transformed {
    /// On to the integration.
    Proceed,
    /// One of them answered.
    Respond(Response<Body>),
}

/// Applies the request transforms in order.
pub async fn request(
    local: &Local,
    route: &Route,
    exchange: &mut Arc<Exchange>,
    body: &mut Body,
) -> Result<Transformed, GatewayError> {
    for &id in &route.pipeline.request_transforms {
        if let Decision::Rules(rules) = &local.pool(id).binding().setup.decision {
            apply_request_rules(own(exchange), rules);
            continue;
        }
        collect_for(local, id, route, exchange, body).await?;
        let outcome = local.pool(id).transform_request(shared(exchange)).await;
        local.record(id, exchange, &outcome, answers::outcome_value);
        let outcome = match outcome {
            Ok(Outcome::Edits(edits)) => apply_request_edits(own(exchange), edits).map(|()| None),
            Ok(Outcome::Respond(response)) => usable::response(response).map(Some),
            Err(fault) => Err(fault),
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(response)) => return Ok(Transformed::Respond(response)),
            Err(fault) => after_fault(local, id, fault, plugin_fault)?,
        }
    }
    Ok(Transformed::Proceed)
}

/// Applies the response transforms in order.
pub async fn response(
    local: &Local,
    route: &Route,
    exchange: &mut Arc<Exchange>,
    response: Response<Body>,
) -> Result<Response<Body>, GatewayError> {
    if route.pipeline.response_transforms.is_empty() {
        return Ok(response);
    }
    let (mut head, mut body) = response.into_parts();
    own(exchange).response = Some((head.status, std::mem::take(&mut head.headers)));
    for &id in &route.pipeline.response_transforms {
        if let Decision::Rules(rules) = &local.pool(id).binding().setup.decision {
            apply_response_rules(exchange, rules);
            continue;
        }
        collect_response_for(local, id, route, exchange, &mut body).await?;
        let edits = local.pool(id).transform_response(shared(exchange)).await;
        local.record(id, exchange, &edits, answers::edits_value);
        let outcome = match edits {
            Ok(edits) => apply_response_edits(own(exchange), edits),
            Err(fault) => Err(fault),
        };
        if let Err(fault) = outcome {
            after_fault(local, id, fault, plugin_fault)?;
        }
    }
    let exchange = own(exchange);
    if let Some((status, headers)) = exchange.response.take() {
        (head.status, head.headers) = (status, headers);
    }
    if let Some(collected) = exchange.response_body.take() {
        head.headers.remove(http::header::CONTENT_LENGTH); // the collected body knows its own
        body = Body::Full(collected);
    }
    Ok(Response::from_parts(head, body))
}

async fn collect_response_for(
    local: &Local,
    id: BindingId,
    route: &Route,
    exchange: &mut Arc<Exchange>,
    body: &mut Body,
) -> Result<(), GatewayError> {
    if !local.pool(id).binding().needs.response_body || exchange.response_body.is_some() {
        return Ok(());
    }
    let bytes_max = route.payload_bytes_max;
    if body.size_hint().lower() > bytes_max {
        return Err(GatewayError::ResponseBody(
            crate::body::BodyError::TooLarge { bytes_max },
        ));
    }
    let collected = std::mem::take(body)
        .collect(bytes_max)
        .await
        .map_err(GatewayError::ResponseBody)?;
    own(exchange).response_body = Some(collected);
    Ok(())
}

/// Applies rules to the request.
pub(super) fn apply_request_rules(exchange: &mut Exchange, rules: &[Rule]) {
    for rule in rules {
        match rule {
            Rule::SetHeader(name, text) => {
                if let Some(value) = field_value(text, exchange) {
                    exchange.head.headers.insert(name, value);
                }
            }
            Rule::AppendHeader(name, text) => {
                if let Some(value) = field_value(text, exchange) {
                    exchange.head.headers.append(name, value);
                }
            }
            Rule::RemoveHeader(name) => remove(&mut exchange.head.headers, name),
            Rule::RenameHeader(from, to) => rename(&mut exchange.head.headers, from, to),
            Rule::SetQueryParameter(name, text) => {
                let mut value = String::new();
                if text.write(exchange, &mut value) {
                    uri::set_query_parameter(exchange.query_mut(), name, &value);
                }
            }
            Rule::RemoveQueryParameter(name) => {
                uri::remove_query_parameter(exchange.query_mut(), name)
            }
            Rule::RenameQueryParameter(from, to) => {
                uri::rename_query_parameter(exchange.query_mut(), from, to)
            }
            Rule::SetPath(text) => {
                let mut path = String::new();
                if text.write(exchange, &mut path) {
                    exchange.new_path = Some(path);
                }
            }
            Rule::SetStatus(_) => {} // says something of responses only
        }
    }
}

fn apply_response_rules(exchange: &mut Arc<Exchange>, rules: &[Rule]) {
    for rule in rules {
        // What a rule reads is read before the response is touched.
        let value = match rule {
            Rule::SetHeader(_, text) | Rule::AppendHeader(_, text) => field_value(text, exchange),
            _ => None,
        };
        let Some((status, headers)) = own(exchange).response.as_mut() else {
            return;
        };
        match (rule, value) {
            (Rule::SetHeader(name, _), Some(value)) => {
                headers.insert(name, value);
            }
            (Rule::AppendHeader(name, _), Some(value)) => {
                headers.append(name, value);
            }
            (Rule::RemoveHeader(name), _) => remove(headers, name),
            (Rule::RenameHeader(from, to), _) => rename(headers, from, to),
            (Rule::SetStatus(to), _) => *status = *to,
            _ => {} // the others say something of requests only
        }
    }
}

/// The value of a field, `None` where what it reads is absent or cannot stand in a field.
fn field_value(text: &FieldText, exchange: &Exchange) -> Option<HeaderValue> {
    match text {
        FieldText::Fixed(value) => Some(value.clone()),
        FieldText::Template(template) => {
            let mut value = String::new();
            template
                .write(exchange, &mut value)
                .then(|| HeaderValue::try_from(value).ok())?
        }
    }
}

/// Applies edits to the request, all or none: a fault may be bypassed, and half of a plugin's edits are nobody's intent.
pub(super) fn apply_request_edits(exchange: &mut Exchange, edits: Vec<Edit>) -> Result<(), Fault> {
    usable::request_edits(&edits)?;
    for edit in edits {
        match edit {
            Edit::SetQueryParameter((name, value)) => {
                uri::set_query_parameter(exchange.query_mut(), &name, &value)
            }
            Edit::RemoveQueryParameter(name) => {
                uri::remove_query_parameter(exchange.query_mut(), &name)
            }
            Edit::RenameQueryParameter((from, to)) => {
                uri::rename_query_parameter(exchange.query_mut(), &from, &to)
            }
            Edit::SetPath(path) => exchange.new_path = Some(path),
            Edit::SetBody(content) => exchange.body = Some(content.into()),
            field => edit_field(&mut exchange.head.headers, field)?,
        }
    }
    Ok(())
}

/// Applies edits to the response, all or none.
fn apply_response_edits(exchange: &mut Exchange, edits: Vec<Edit>) -> Result<(), Fault> {
    usable::response_edits(&edits)?;
    let Some((status, headers)) = exchange.response.as_mut() else {
        return Ok(());
    };
    for edit in edits {
        match edit {
            Edit::SetStatus(code) => *status = final_status(code).map_err(Fault::Unusable)?,
            Edit::SetBody(content) => exchange.response_body = Some(content.into()),
            field => edit_field(headers, field)?,
        }
    }
    Ok(())
}

fn edit_field(headers: &mut HeaderMap, edit: Edit) -> Result<(), Fault> {
    let name = |name: &str| editable(name).map_err(Fault::Unusable);
    match edit {
        Edit::SetHeader((field, value)) => {
            headers.insert(name(&field)?, usable::field_value(value)?);
        }
        Edit::AppendHeader((field, value)) => {
            headers.append(name(&field)?, usable::field_value(value)?);
        }
        Edit::RemoveHeader(field) => remove(headers, &name(&field)?),
        Edit::RenameHeader((from, to)) => rename(headers, &name(&from)?, &name(&to)?),
        _ => {} // the callers have taken the others
    }
    Ok(())
}

fn remove(headers: &mut HeaderMap, name: &HeaderName) {
    headers.remove(name);
}

fn rename(headers: &mut HeaderMap, from: &HeaderName, to: &HeaderName) {
    let lines: Vec<HeaderValue> = headers.get_all(from).iter().cloned().collect();
    if lines.is_empty() {
        return;
    }
    headers.remove(from);
    headers.remove(to);
    for line in lines {
        headers.append(to, line);
    }
}

pub(super) fn plugin_fault(binding: String, fault: Fault) -> GatewayError {
    GatewayError::PluginFault { binding, fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_field_keeps_its_lines_and_replaces_the_other() {
        let (from, to) = (
            HeaderName::from_static("x-a"),
            HeaderName::from_static("x-b"),
        );
        let mut headers = HeaderMap::new();
        headers.append(&from, HeaderValue::from_static("1"));
        headers.append(&from, HeaderValue::from_static("2"));
        headers.append(&to, HeaderValue::from_static("old"));
        rename(&mut headers, &from, &to);
        assert_eq!(headers.get_all(&to).iter().collect::<Vec<_>>(), ["1", "2"]);
        assert!(!headers.contains_key(&from));
    }
}
