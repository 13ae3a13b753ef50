//! Whether a plugin's answer can be used: what the contract in [wit/](../../../../wit/) asks for beside its types.
//!
//! The request path and plugins' cases ask it alike.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tidegate_sandbox::Fault;
use tidegate_sandbox::standing::{editable, final_status};
use tidegate_sandbox::wit::{self, Edit, Outcome, Plan, Verdict};

use crate::body::Body;

/// A principal's context is bounded: it is kept with the request, and for as long as a decision is cached.
pub fn verdict(verdict: Verdict) -> Result<Verdict, Fault> {
    if let Verdict::Allow(principal) = &verdict {
        let bytes = |(key, value): &(String, String)| key.len() + value.len();
        let (entries, bytes) = (
            principal.context.len(),
            principal.context.iter().map(bytes).sum::<usize>(),
        );
        if entries > CONTEXT_ENTRIES_MAX || bytes > CONTEXT_BYTES_MAX {
            return Err(Fault::Unusable(format!(
                "a context of {entries} entries with {bytes} bytes; at most {CONTEXT_ENTRIES_MAX} with {CONTEXT_BYTES_MAX}"
            )));
        }
    }
    Ok(verdict)
}

/// Edits of a request, or a response.
pub fn outcome(outcome: Outcome) -> Result<Outcome, Fault> {
    match &outcome {
        Outcome::Edits(edits) => request_edits(edits)?,
        Outcome::Respond(answer) => drop(response(answer.clone())?),
    }
    Ok(outcome)
}

/// A response, or edits of the request that is sent on.
pub fn plan(plan: Plan) -> Result<Plan, Fault> {
    match &plan {
        Plan::Respond(answer) => drop(response(answer.clone())?),
        Plan::Forward(forward) => request_edits(&forward.edits)?,
        Plan::Invoke(invocation) => request_edits(&invocation.edits)?,
    }
    Ok(plan)
}

pub fn request_edits(edits: &[Edit]) -> Result<(), Fault> {
    edits.iter().try_for_each(request_edit)
}

pub fn response_edits(edits: &[Edit]) -> Result<(), Fault> {
    edits.iter().try_for_each(response_edit)
}

/// A whole response from a plugin.
pub fn response(response: wit::Response) -> Result<Response<Body>, Fault> {
    let mut headers = HeaderMap::with_capacity(response.headers.len() + 4);
    for (name, value) in response.headers {
        headers.append(
            editable(&name).map_err(Fault::Unusable)?,
            field_value(value)?,
        );
    }
    let status: StatusCode = final_status(response.status).map_err(Fault::Unusable)?;
    let body = match Bytes::from(response.body) {
        content if content.is_empty() => Body::Empty,
        content => Body::Full(content),
    };
    let mut answer = Response::new(body);
    (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
    Ok(answer)
}

/// The value of a field.
pub fn field_value(value: impl TryInto<HeaderValue>) -> Result<HeaderValue, Fault> {
    value
        .try_into()
        .map_err(|_| Fault::Unusable("a header value with control characters".to_owned()))
}

fn request_edit(edit: &Edit) -> Result<(), Fault> {
    match edit {
        Edit::SetPath(path) if !is_path(path) => {
            Err(Fault::Unusable(format!("{path:?} is not a path")))
        }
        Edit::SetStatus(_) => Err(Fault::Unusable("set-status in a request".to_owned())),
        field => edit_of_field(field),
    }
}

fn response_edit(edit: &Edit) -> Result<(), Fault> {
    match edit {
        Edit::SetStatus(code) => final_status(*code).map(drop).map_err(Fault::Unusable),
        Edit::SetQueryParameter(_)
        | Edit::RemoveQueryParameter(_)
        | Edit::RenameQueryParameter(_)
        | Edit::SetPath(_) => Err(Fault::Unusable(
            "a change to a request, in a response".to_owned(),
        )),
        field => edit_of_field(field),
    }
}

fn edit_of_field(edit: &Edit) -> Result<(), Fault> {
    let name = |name: &str| editable(name).map(drop).map_err(Fault::Unusable);
    match edit {
        Edit::SetHeader((field, value)) | Edit::AppendHeader((field, value)) => {
            name(field)?;
            field_value(value.as_str()).map(drop)
        }
        Edit::RemoveHeader(field) => name(field),
        Edit::RenameHeader((from, to)) => name(from).and_then(|()| name(to)),
        _ => Ok(()),
    }
}

fn is_path(path: &str) -> bool {
    let mut escapes = path.split('%').skip(1);
    path.starts_with('/')
        && path.is_ascii()
        && !path.contains(['?', '#'])
        && escapes
            .all(|rest| rest.len() >= 2 && rest.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit))
        && http::uri::PathAndQuery::try_from(path).is_ok()
}

/// The contract's bounds of an authorizer's context.
const CONTEXT_ENTRIES_MAX: usize = 64;
const CONTEXT_BYTES_MAX: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use tidegate_sandbox::wit::Principal;

    use super::*;

    #[test]
    fn a_context_is_bounded() {
        let entries = |count: usize, bytes: usize| {
            let entry = (String::new(), "x".repeat(bytes));
            Verdict::Allow(Principal {
                id: "a".to_owned(),
                context: vec![entry; count],
                usage_identifier_key: None,
            })
        };
        for (count, bytes, fits) in [
            (0, 0, true),
            (
                CONTEXT_ENTRIES_MAX,
                CONTEXT_BYTES_MAX / CONTEXT_ENTRIES_MAX,
                true,
            ),
            (CONTEXT_ENTRIES_MAX + 1, 0, false),
            (1, CONTEXT_BYTES_MAX, true),
            (1, CONTEXT_BYTES_MAX + 1, false),
        ] {
            let checked = verdict(entries(count, bytes));
            assert_eq!(checked.is_ok(), fits, "{count} of {bytes}: {checked:?}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for (path, expected) in [
            ("/a/b%20c", true),
            ("a", false),
            ("/a?b", false),
            ("/a b", false),
            ("/%C3%BC", true),
            ("/ü", false),
            ("/%zz", false),
            ("/%2", false),
            ("/%", false),
            ("", false),
        ] {
            assert_eq!(is_path(path), expected, "{path}");
        }
    }

    #[test]
    fn what_no_message_can_hold_is_refused() {
        let set = |name: &str, value: &str| Edit::SetHeader((name.to_owned(), value.to_owned()));
        for (edit, of_request, of_response) in [
            (set("x-a", "b"), true, true),
            (set("x a", "b"), false, false),
            (set("x-a", "b\r\nx-c: d"), false, false),
            (set("content-length", "7"), false, false),
            (Edit::SetStatus(404), false, true),
            (Edit::SetStatus(99), false, false),
            (Edit::SetPath("/a".to_owned()), true, false),
        ] {
            let edits = [edit];
            assert_eq!(request_edits(&edits).is_ok(), of_request, "{edits:?}");
            assert_eq!(response_edits(&edits).is_ok(), of_response, "{edits:?}");
            let outcome = outcome(Outcome::Edits(edits.to_vec()));
            assert_eq!(outcome.is_ok(), of_request, "{edits:?}");
        }
        for (status, header, fits) in [(200, "x-a", true), (99, "x-a", false), (200, "x a", false)]
        {
            let answer = wit::Response {
                status,
                headers: vec![(header.to_owned(), "b".to_owned())],
                body: Vec::new(),
            };
            assert_eq!(
                plan(Plan::Respond(answer.clone())).is_ok(),
                fits,
                "{answer:?}"
            );
            assert_eq!(outcome(Outcome::Respond(answer)).is_ok(), fits);
        }
    }
}
