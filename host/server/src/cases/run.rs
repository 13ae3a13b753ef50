//! Runs a case: in the sandbox that the node runs plugins in, over a request and surroundings that are only text.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::{Value, json};
use tidegate_sandbox::function::{BodyFailure, FunctionBody};
use tidegate_sandbox::next::Ask;
use tidegate_sandbox::{
    BindError, Binding, BindingOptions, Decision, Exchange, Fault, Function, FunctionOptions,
    FunctionPool, Grants, Kept, Limits, Plugin, Pool, Step,
};

use tokio::sync::mpsc;

use super::answers::*;
use super::case::{Case, CaseExchange, Surroundings};
use super::diff::{Difference, differences};
use super::services::{CaseServices, Told};
use crate::configuration;
use crate::request::usable;

/// What came of a case.
pub struct Ran {
    /// Nothing where it passed.
    pub differences: Vec<Difference>,
    pub log: Vec<String>,
}

/// Runs a plugin's case; `configuration` is for one that holds whatever it is.
///
/// # Errors
///
/// Where the case cannot be run at all.
///
/// # Cancel safety
///
/// Dropping the future leaves nothing behind.
pub async fn plugin(
    plugin: &Arc<Plugin>,
    surroundings: &Surroundings,
    case: &Case,
    configuration: &Value,
) -> Result<Ran> {
    let services = Arc::new(CaseServices::new(surroundings.clone()));
    let configuration = case.configuration.as_ref().unwrap_or(configuration);
    let actual = decide(plugin, &services, case, configuration)
        .await
        .with_context(|| format!("case \"{}\"", case.name))?;
    Ok(compared(case, actual, &services))
}

/// Runs a function's case.
///
/// # Cancel safety
///
/// As [`plugin`].
pub async fn function(function: &Arc<Function>, surroundings: &Surroundings, case: &Case) -> Ran {
    let services = Arc::new(CaseServices::new(surroundings.clone()));
    let actual = invoke(function.clone(), &services, case).await;
    compared(case, actual, &services)
}

fn compared(case: &Case, mut actual: Value, services: &CaseServices) -> Ran {
    let Told {
        log,
        lines,
        counted,
        ..
    } = services.told();
    if let Some(members) = actual.as_object_mut() {
        members.insert("lines".into(), lines.into());
        members.insert("log".into(), log.clone().into());
        members.insert("counted".into(), json!(counted));
    }
    Ran {
        differences: differences(&case.expect, &actual),
        log,
    }
}

/// Binds the plugin with the case's configuration, and asks it.
async fn decide(
    plugin: &Arc<Plugin>,
    services: &Arc<CaseServices>,
    case: &Case,
    configuration: &Value,
) -> Result<Value> {
    let step = case.step_of(plugin)?;
    if let Err(problem) = configuration::check(plugin, configuration) {
        return Ok(json!({ "refused": problem }));
    }
    let options = BindingOptions {
        name: case.name.clone(),
        step,
        configuration: configuration.to_string(),
        grants: all_grants(services),
        limits: limits(),
        reuse: true,
        kept: Kept::default(),
    };
    let binding = match Binding::new(plugin.clone(), options, services.clone()).await {
        Ok(binding) => binding,
        Err(BindError::Configure(Fault::Start(reason))) => {
            return Ok(json!({ "refused": reason }));
        }
        Err(error) => return Err(error.into()),
    };
    let exchange: Arc<dyn Exchange> = Arc::new(case.exchange.clone());
    match &binding.setup.decision {
        Decision::Rules(rules) => {
            let edits: Vec<Value> = rules
                .iter()
                .filter_map(|rule| rule_value(rule, &*exchange))
                .collect();
            return Ok(json!({ "edits": edits, "standing": true }));
        }
        Decision::Plan(plan) => {
            return Ok(json!({ "plan": format!("{plan:?}"), "standing": true }));
        }
        Decision::Call => {}
    }
    let pool = Pool::new(binding);
    for _ in 1..case.times {
        _ = ask(&pool, step, exchange.clone()).await; // what is expected becomes of the last
    }
    Ok(ask(&pool, step, exchange).await.unwrap_or_else(fault_value))
}

async fn ask(pool: &Pool, step: Step, exchange: Arc<dyn Exchange>) -> Result<Value, Fault> {
    match step {
        Step::Authorizer => pool
            .authorize(exchange)
            .await
            .and_then(usable::verdict)
            .map(verdict_value),
        Step::Throttle => pool.admit(exchange).await.map(admission_value),
        Step::Validator => pool.validate(exchange).await.map(validity_value),
        Step::RequestTransform => pool
            .transform_request(exchange)
            .await
            .and_then(usable::outcome)
            .map(outcome_value),
        Step::Integration => pool
            .integrate(exchange)
            .await
            .and_then(usable::plan)
            .map(plan_value),
        Step::ResponseTransform => {
            let edits = pool.transform_response(exchange).await?;
            usable::response_edits(&edits)?;
            Ok(edits_value(edits))
        }
        Step::LogSink => {
            let reads = &pool.binding().setup.reads;
            let record = reads
                .iter()
                .map(|reading| reading.of(&*exchange).map(Into::into))
                .collect();
            pool.write_records(&[record])
                .await
                .map(|()| json!({ "written": true }))
        }
    }
}

/// Everything that can be granted: whether a binding grants it is not what a case is about.
fn all_grants(services: &CaseServices) -> Grants {
    Grants {
        crypto: true,
        jwks: vec!["*".to_owned()],
        rate_limit: true,
        quota: true,
        api_keys: true,
        shared_cache: true,
        http_client: vec!["*".to_owned()],
        secrets: services.secret_names(),
        metrics: true,
        log_output: Some("case".to_owned()),
    }
}

/// A binding's own where it says none, but for more time: cases are run on machines that do other things, too.
fn limits() -> Limits {
    Limits {
        deadline: Duration::from_secs(2),
        start_deadline: Duration::from_secs(10),
        memory_bytes: 64 << 20,
        instances_max: 4,
    }
}

async fn invoke(function: Arc<Function>, services: &Arc<CaseServices>, case: &Case) -> Value {
    let options = FunctionOptions {
        name: "function".to_owned(),
        environment: Vec::new(),
        tables: Vec::new(),
        http_client: Vec::new(),
        limits: limits(),
        reuse: true,
    };
    let pool = FunctionPool::new(function, options, services.clone(), Arc::default());
    for _ in 1..case.times {
        _ = send(&pool, case.exchange.clone()).await; // what is expected becomes of the last
    }
    send(&pool, case.exchange.clone()).await
}

async fn send(pool: &FunctionPool, exchange: CaseExchange) -> Value {
    let next = exchange.response().map(|(status, headers)| {
        let mut next = Response::new(exchange.response_body().cloned().unwrap_or_default());
        (*next.status_mut(), *next.headers_mut()) = (status, headers.clone());
        next
    });
    let query = exchange.query.map(|query| format!("?{query}"));
    let mut request = Request::builder()
        .method(exchange.method.as_str())
        .uri(format!(
            "http://case.test{}{}",
            exchange.path,
            query.unwrap_or_default()
        ));
    if let Some(headers) = request.headers_mut() {
        *headers = exchange.headers;
    }
    let body = Full::new(exchange.body).map_err(|error| BodyFailure(error.to_string()));
    let request = match request.body(body) {
        Ok(request) => request,
        Err(error) => return json!({ "refused": error.to_string() }),
    };
    if next.is_none() {
        return response_value(pool.invoke(request).await).await;
    }
    let (asks, asked) = mpsc::channel(1);
    let (mut actual, sent_on) = tokio::join!(
        async { response_value(pool.invoke_around(request, asks).await).await },
        answer(asked, next),
    );
    if let (Some(members), Some(sent_on)) = (actual.as_object_mut(), sent_on) {
        members.insert("sent-on".into(), sent_on);
    }
    actual
}

async fn response_value(response: Result<Response<FunctionBody>, Fault>) -> Value {
    let (head, body) = match response {
        Ok(response) => response.into_parts(),
        Err(fault) => return fault_value(fault),
    };
    match body.collect().await {
        Ok(body) => json!({ "response": {
            "status": head.status.as_u16(),
            "headers": fields_value(&head.headers),
            "body": String::from_utf8_lossy(&body.to_bytes()),
        } }),
        Err(error) => json!({ "fault": error.to_string() }),
    }
}

/// Answers what a function around an integration asks of that, with the case's response; gives the last request.
async fn answer(mut asked: mpsc::Receiver<Ask>, next: Option<Response<Bytes>>) -> Option<Value> {
    let mut sent_on = None;
    while let Some(ask) = asked.recv().await {
        let (head, body) = ask.request.into_parts();
        // The answer first: the component may write its request's body when it has that.
        let response = next.clone().unwrap_or_default();
        _ = ask.answer.send(Ok(
            response.map(|body| crate::body::Body::from(body).into_component())
        ));
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        sent_on = Some(json!({
            "method": head.method.as_str(),
            "path": head.uri.path_and_query().map_or("/", |path| path.as_str()),
            "headers": fields_value(&head.headers),
            "body": String::from_utf8_lossy(&body),
        }));
    }
    sent_on
}

/// What of a request is looked at: a case is for people to read.
const BODY_BYTES_MAX: usize = 1 << 20;
