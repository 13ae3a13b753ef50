//! Requests that pass a plugin of a running node, written down as cases.
//!
//! A step call has its request and its answer written down where somebody records its plugin: what `tidegate plugin test` makes
//! of the same request is to be the same answer. Left out is what cannot be played again: faults, refusals of throttles, which
//! are about other requests, and bodies that are no text.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};
use tidegate_model::deployment::Binding;
use tidegate_sandbox::Exchange as _;
use tokio::sync::mpsc;

use super::answers::fields_value;
use crate::request::exchange::Exchange;

/// Who records what.
#[derive(Debug, Default)]
pub struct Recorder {
    /// How many do. Step calls look at this only, as long as nobody does.
    recording: AtomicUsize,
    recordings: Mutex<Vec<Recording>>,
}

#[derive(Debug)]
struct Recording {
    wanted: Wanted,
    /// How many it has.
    count: usize,
    cases: mpsc::Sender<Value>,
}

/// What somebody records.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub plugin: String,
    pub count: usize,
    /// Values of fields that are secrets are written down too.
    pub keeps_secrets: bool,
}

impl Recorder {
    /// Records until so many cases are taken, or the receiver is dropped. `None` where too many record already.
    pub fn start(&self, wanted: Wanted) -> Option<mpsc::Receiver<Value>> {
        let mut recordings = self.lock();
        recordings.retain(|one| !one.cases.is_closed());
        if recordings.len() >= RECORDINGS_MAX {
            return None;
        }
        let (cases, received) = mpsc::channel(wanted.count.clamp(1, WAITING_MAX));
        recordings.push(Recording {
            wanted,
            count: 0,
            cases,
        });
        self.recording.store(recordings.len(), Ordering::Relaxed);
        Some(received)
    }

    /// Whether nobody records.
    pub fn is_idle(&self) -> bool {
        self.recording.load(Ordering::Relaxed) == 0
    }

    /// Writes a step call down, for who records its plugin. Nobody waits: who is too slow for it goes without.
    pub fn take(&self, binding: &Binding, exchange: &Exchange, answer: &Value) {
        let mut recordings = self.lock();
        recordings.retain_mut(|one| {
            if one.wanted.plugin == binding.plugin
                && let Some(case) = case(binding, exchange, answer, one)
                && one.cases.try_send(case).is_ok()
            {
                one.count += 1;
            }
            one.count < one.wanted.count && !one.cases.is_closed()
        });
        self.recording.store(recordings.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Recording>> {
        self.recordings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` where it cannot be played again.
fn case(
    binding: &Binding,
    exchange: &Exchange,
    answer: &Value,
    recording: &Recording,
) -> Option<Value> {
    let throttled = ["reject", "exceeded"];
    if throttled.iter().any(|word| answer.get(word).is_some()) {
        return None;
    }
    let fields = |headers| {
        let mut fields = fields_value(headers);
        if let (Value::Object(fields), false) = (&mut fields, recording.wanted.keeps_secrets) {
            for (name, value) in fields {
                if SECRETS.contains(&name.as_str()) {
                    *value = REDACTED.into();
                }
            }
        }
        fields
    };
    let text = |body: Option<&bytes::Bytes>| match body {
        Some(body) => std::str::from_utf8(body).ok().map(str::to_owned),
        None => Some(String::new()), // the plugin reads none
    };
    let variables = CONTEXT.iter().filter_map(|name| {
        let value = exchange.context(name)?;
        Some(((*name).to_owned(), Value::from(value)))
    });
    let of_authorizers = exchange.account.principal.iter().flat_map(|principal| {
        let context = principal.context.iter();
        context.map(|(key, value)| (format!("authorizer.{key}"), Value::from(value.as_str())))
    });
    let parameters = exchange.path_parameters().into_iter();
    let parameters = parameters.map(|(name, value)| (name, Value::from(value)));
    let stage = exchange.stage.variables.iter();
    let stage = stage.map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    let mut request = json!({
        "method": exchange.method(),
        "path": exchange.path(),
        "headers": fields(exchange.headers()),
        "path-parameters": parameters.collect::<Map<_, _>>(),
        "stage-variables": stage.collect::<Map<_, _>>(),
        "context": variables.chain(of_authorizers).collect::<Map<_, _>>(),
        "body": text(exchange.body())?,
    });
    if let Some(query) = exchange.query_string() {
        request["query-string"] = query.into();
    }
    let number = recording.count + 1;
    let mut case = json!({
        "name": format!("{number}: {} {}", exchange.method(), exchange.path()),
        "step": binding.step,
        "configuration": binding.configuration,
        "request": request,
        "expect": without_nothing(answer.clone()),
    });
    if let Some((status, headers)) = exchange.response() {
        case["response"] = json!({
            "status": status.as_u16(),
            "headers": fields(headers),
            "body": text(exchange.response_body())?,
        });
    }
    Some(without_nothing(case))
}

/// TOML has no `null`: a member without a value is left out, and an answer without one agrees with any.
fn without_nothing(value: Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Object(members) => {
            let alone = members.len() == 1;
            let said = members
                .into_iter()
                .filter(|(_, value)| alone || !value.is_null());
            said.map(|(name, value)| (name, without_nothing(value)))
                .collect::<Map<_, _>>()
                .into()
        }
        other => other,
    }
}

/// Fields whose values are secrets of callers.
const SECRETS: [&str; 5] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-api-key",
];
/// What stands in their place.
const REDACTED: &str = "redacted";
/// What plugins can ask of the request by `$context` before it has been answered.
const CONTEXT: [&str; 16] = [
    "accountId",
    "apiId",
    "authorizer.principalId",
    "deploymentId",
    "domainName",
    "httpMethod",
    "identity.apiKeyId",
    "identity.sourceIp",
    "identity.userAgent",
    "path",
    "protocol",
    "requestId",
    "requestTime",
    "resourcePath",
    "routeKey",
    "stage",
];
/// At once; each has a connection to the admin address.
const RECORDINGS_MAX: usize = 8;
/// Cases that their reader has not taken.
const WAITING_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_value_is_left_out_or_agrees_with_any() {
        for (answer, expected) in [
            (
                json!({ "allow": { "id": "a", "usage-identifier-key": null, "context": {} } }),
                json!({ "allow": { "id": "a", "context": {} } }),
            ),
            (
                json!({ "unauthorized": null }),
                json!({ "unauthorized": {} }),
            ),
            (json!({ "edits": [] }), json!({ "edits": [] })),
        ] {
            assert_eq!(without_nothing(answer), expected);
        }
    }

    #[test]
    fn no_more_record_than_there_is_room_for_and_who_left_makes_some() {
        let recorder = Recorder::default();
        let wanted = Wanted {
            plugin: "a".to_owned(),
            count: 1,
            keeps_secrets: false,
        };
        assert!(recorder.is_idle());
        let mut all: Vec<_> = (0..RECORDINGS_MAX)
            .map(|_| recorder.start(wanted.clone()).expect("room"))
            .collect();
        assert!(recorder.start(wanted.clone()).is_none() && !recorder.is_idle());
        all.pop();
        assert!(recorder.start(wanted).is_some());
    }
}
