//! What answers a request: an upstream, a function, or the integration itself.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HOST, TE, TRAILER};
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tidegate_model::deployment::{BindingId, Route};
use tidegate_model::headers::remove_hop_by_hop;
use tidegate_sandbox::function::{BodyFailure, FunctionBody};
use tidegate_sandbox::wit::{Forward, Invocation, Plan};
use tidegate_sandbox::{Fault, FunctionPool, standing};

use super::gatekeep::{collect_for, shared};
use super::transform::{apply_request_edits, apply_request_rules, plugin_fault};
use super::{Exchange, GatewayError, middleware, own, usable};
use crate::body::Body;
use crate::body::{BodyError, BoxError};
use crate::cases::answers;
use crate::upstream::{Handle, SendOptions, TargetAddress};
use crate::worker::{Destination, Forwarding, Integration, Local, Worker};

/// Calls the integration of the route, through what stands around it.
pub async fn call(
    worker: &Rc<Worker>,
    local: &Rc<Local>,
    route: &Route,
    exchange: &mut Arc<Exchange>,
    body: Body,
) -> Result<Response<Body>, GatewayError> {
    if !route.pipeline.middleware.is_empty() {
        return middleware::around(worker, local, route, 0, exchange, body).await;
    }
    alone(worker, local, route, exchange, body).await
}

/// Calls the integration itself.
pub(super) async fn alone(
    worker: &Worker,
    local: &Local,
    route: &Route,
    exchange: &mut Arc<Exchange>,
    mut body: Body,
) -> Result<Response<Body>, GatewayError> {
    let id = route
        .pipeline
        .integration
        .ok_or(GatewayError::NoIntegration)?;
    let began = Instant::now();
    let outcome = match local.integration(id) {
        Integration::Forward(forwarding) => {
            forward_as_it_stands(worker, local, route, exchange, body, forwarding).await
        }
        Integration::Invoke {
            name,
            pool,
            timeout,
        } => {
            let timeout = timeout.unwrap_or(route.timeout);
            invoke(local, name, pool, timeout, exchange, body).await
        }
        Integration::Respond(response) => {
            usable::response(response.clone()).map_err(|fault| at(local, id, fault))
        }
        Integration::Call => {
            collect_for(local, id, route, exchange, &mut body).await?;
            let plan = local.pool(id).integrate(shared(exchange)).await;
            local.record(id, exchange, &plan, answers::plan_value);
            match plan {
                // Boxed: few routes have such an integration, and its size would be that of every request's future.
                Ok(plan) => {
                    Box::pin(carry_out(worker, local, id, route, exchange, body, plan)).await
                }
                Err(fault) => Err(at(local, id, fault)),
            }
        }
    };
    let account = &mut own(exchange).account;
    account.integration_latency = Some(began.elapsed());
    match &outcome {
        Ok(response) => account.integration_status = Some(response.status()),
        Err(error) => account.integration_error = Some(error.to_string()),
    }
    outcome
}

async fn carry_out(
    worker: &Worker,
    local: &Local,
    id: BindingId,
    route: &Route,
    exchange: &mut Arc<Exchange>,
    body: Body,
    plan: Plan,
) -> Result<Response<Body>, GatewayError> {
    match plan {
        Plan::Respond(response) => usable::response(response).map_err(|fault| at(local, id, fault)),
        Plan::Invoke(Invocation {
            function,
            edits,
            timeout_ms,
        }) => {
            apply_request_edits(own(exchange), edits).map_err(|fault| at(local, id, fault))?;
            let pool = local
                .function(&function)
                .ok_or_else(|| GatewayError::Destination(format!("no function \"{function}\"")))?;
            invoke(
                local,
                &function,
                pool,
                milliseconds(timeout_ms).unwrap_or(route.timeout),
                exchange,
                body,
            )
            .await
        }
        Plan::Forward(Forward {
            uri,
            method,
            edits,
            timeout_ms,
        }) => {
            apply_request_edits(own(exchange), edits).map_err(|fault| at(local, id, fault))?;
            let uri: Uri = uri
                .parse()
                .map_err(|_| at(local, id, Fault::Unusable(format!("{uri:?} is not a URI"))))?;
            let handle = local.destination(worker, id, &uri)?;
            let method = match method {
                Some(method) => standing::method(&method)
                    .map_err(|problem| at(local, id, Fault::Unusable(problem)))?,
                None => exchange.head.method.clone(),
            };
            let path = uri
                .path_and_query()
                .cloned()
                .unwrap_or_else(|| PathAndQuery::from_static("/"));
            let timeout = milliseconds(timeout_ms).unwrap_or(route.timeout);
            forward(
                worker, local, exchange, body, &handle, method, path, timeout,
            )
            .await
        }
    }
}

async fn forward_as_it_stands(
    worker: &Worker,
    local: &Local,
    route: &Route,
    exchange: &mut Arc<Exchange>,
    body: Body,
    forwarding: &Forwarding,
) -> Result<Response<Body>, GatewayError> {
    if !forwarding.rules.is_empty() {
        apply_request_rules(own(exchange), &forwarding.rules);
    }
    let method = forwarding
        .method
        .clone()
        .unwrap_or_else(|| exchange.head.method.clone());
    let timeout = forwarding.timeout.unwrap_or(route.timeout);
    match &forwarding.destination {
        Destination::Fixed { handle, path } => {
            let path = path_of(path, forwarding.pass_query, exchange)?;
            forward(worker, local, exchange, body, handle, method, path, timeout).await
        }
        Destination::FromTemplate { uri, binding } => {
            let mut text = String::with_capacity(64);
            uri.write(&**exchange, &mut text);
            let uri: Uri = text
                .parse()
                .map_err(|_| GatewayError::Destination(format!("{text:?} is not a URI")))?;
            let handle = local.destination(worker, *binding, &uri)?;
            let path = uri
                .path_and_query()
                .map_or("/", PathAndQuery::as_str)
                .to_owned();
            let path = with_query(path, forwarding.pass_query, exchange)?;
            forward(
                worker, local, exchange, body, &handle, method, path, timeout,
            )
            .await
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "each is a decision of its own, made just above"
)]
async fn forward(
    worker: &Worker,
    local: &Local,
    exchange: &mut Arc<Exchange>,
    body: Body,
    handle: &Handle,
    method: Method,
    path: PathAndQuery,
    timeout: Duration,
) -> Result<Response<Body>, GatewayError> {
    let exchange = own(exchange);
    let mut request = Request::new(sent_body(exchange, body));
    let host = exchange.head.headers.get(HOST).cloned().or_else(|| {
        // HTTP/2 has no Host field but :authority.
        exchange
            .head
            .uri
            .authority()
            .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
    });
    let mut headers = local.request_headers(exchange);
    let trailers = headers.get(TE).is_some_and(wants_trailers);
    remove_hop_by_hop(&mut headers);
    if trailers {
        // Ours to say on this connection, since trailers are passed on (RFC 9110 section 10.1.4).
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    worker
        .peer(&exchange.viewer)
        .append_to(&mut headers, host.as_ref());
    worker
        .settings
        .via
        .append_to(&mut headers, exchange.head.version);
    if exchange.body.is_some() {
        headers.remove(http::header::CONTENT_LENGTH); // the collected body knows its own
        headers.remove(TRAILER); // and has none
    }
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(path);
    *request.headers_mut() = headers;

    let options = SendOptions {
        first_byte_timeout: Some(timeout),
        ..SendOptions::default()
    };
    let mut response = handle
        .send(request, options)
        .await
        .map_err(GatewayError::Upstream)?;
    remove_hop_by_hop(response.headers_mut());
    Ok(response)
}

async fn invoke(
    local: &Local,
    name: &str,
    pool: &FunctionPool,
    timeout: Duration,
    exchange: &mut Arc<Exchange>,
    body: Body,
) -> Result<Response<Body>, GatewayError> {
    let failure: fn(BodyError) -> BodyFailure = |error| BodyFailure(error.to_string());
    let request = function_request(local, own(exchange), body)?.map(|body| body.map_err(failure));
    let fault = |fault| GatewayError::Function {
        function: name.to_owned(),
        fault,
    };
    let response = match tokio::time::timeout(timeout, pool.invoke(request)).await {
        Ok(answered) => answered.map_err(fault)?,
        Err(_) => return Err(fault(Fault::Deadline(timeout))),
    };
    Ok(response.map(function_body))
}

/// The body of a function's response.
pub(super) fn function_body(body: FunctionBody) -> Body {
    match body.whole() {
        Some(content) => content.into(),
        None => Body::Boxed(UnsyncBoxBody::new(
            body.map_err(|error| -> BoxError { error.into() }),
        )),
    }
}

pub(super) fn wants_trailers(te: &HeaderValue) -> bool {
    te.as_bytes()
        .split(|byte| *byte == b',')
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// The request as a function sees it: the path below the stage, and what the gateway knows in fields of its own.
pub(super) fn function_request(
    local: &Local,
    exchange: &mut Exchange,
    body: Body,
) -> Result<Request<Body>, GatewayError> {
    let body = sent_body(exchange, body);
    let not_an_authority = |_| GatewayError::BadRequest("the Host field is no authority");
    let authority = match (exchange.head.uri.authority(), exchange.host()) {
        (Some(authority), _) => authority.clone(),
        (None, host) => {
            Authority::try_from(host.unwrap_or("localhost")).map_err(not_an_authority)?
        }
    };
    let mut uri = uri::Parts::default();
    uri.scheme = Some(match exchange.viewer.tls {
        true => Scheme::HTTPS,
        false => Scheme::HTTP,
    });
    uri.authority = Some(authority);
    uri.path_and_query = Some(with_query(
        exchange.current_path().to_owned(),
        true,
        exchange,
    )?);
    let uri =
        Uri::from_parts(uri).map_err(|_| GatewayError::BadRequest("the target is not a path"))?;

    let mut headers = local.request_headers(exchange);
    remove_hop_by_hop(&mut headers);
    headers.remove(http::header::EXPECT);
    if exchange.body.is_some() {
        headers.remove(http::header::CONTENT_LENGTH);
        headers.remove(TRAILER);
    }
    let mut tell = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    tell("tidegate-request-id", exchange.id.as_str());
    if let Some(principal) = &exchange.account.principal {
        tell("tidegate-principal-id", &principal.id);
        let context: serde_json::Map<_, _> = principal
            .context
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().into()))
            .collect();
        tell(
            "tidegate-authorizer-context",
            &serde_json::Value::from(context).to_string(),
        );
    }
    for (name, value) in local.told_to_functions(exchange) {
        headers.insert(name.clone(), value.clone());
    }

    let mut request = Request::new(body);
    (
        *request.method_mut(),
        *request.uri_mut(),
        *request.headers_mut(),
    ) = (exchange.head.method.clone(), uri, headers);
    Ok(request)
}

/// The collected body where a step collected it, else the one that streams.
pub(super) fn sent_body(exchange: &Exchange, streaming: Body) -> Body {
    match &exchange.body {
        Some(collected) if collected.is_empty() => Body::Empty,
        Some(collected) => Body::Full(collected.clone()),
        None => streaming,
    }
}

fn path_of(
    path: &crate::worker::PathText,
    pass_query: bool,
    exchange: &Exchange,
) -> Result<PathAndQuery, GatewayError> {
    match path {
        crate::worker::PathText::Fixed(path) if !pass_query || exchange.query().is_none() => {
            Ok(path.clone())
        }
        crate::worker::PathText::Fixed(path) => {
            with_query(path.as_str().to_owned(), true, exchange)
        }
        crate::worker::PathText::Template(template) => {
            let mut text = String::with_capacity(64);
            template.write(exchange, &mut text);
            if !text.starts_with('/') {
                text.insert(0, '/');
            }
            with_query(text, pass_query, exchange)
        }
    }
}

fn with_query(
    mut path: String,
    pass_query: bool,
    exchange: &Exchange,
) -> Result<PathAndQuery, GatewayError> {
    if let Some(query) = exchange.query().filter(|_| pass_query) {
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str(query);
    }
    PathAndQuery::try_from(path)
        .map_err(|_| GatewayError::BadRequest("the path or the query cannot be forwarded"))
}

fn at(local: &Local, id: BindingId, fault: Fault) -> GatewayError {
    plugin_fault(local.deployed.snapshot.binding(id).name.clone(), fault)
}

fn milliseconds(timeout: Option<u32>) -> Option<Duration> {
    timeout.map(|milliseconds| Duration::from_millis(milliseconds.into()))
}

impl Local {
    /// The upstream that a URI names, where the binding may send there.
    fn destination(
        &self,
        worker: &Worker,
        id: BindingId,
        uri: &Uri,
    ) -> Result<Handle, GatewayError> {
        let refused = |reason: &str| GatewayError::Destination(format!("{uri}: {reason}"));
        let authority = uri
            .authority()
            .ok_or_else(|| refused("it is not absolute"))?;
        if let Some(handle) = worker.upstreams.named(authority.as_str()) {
            return Ok(handle);
        }
        let granted = &self.deployed.snapshot.binding(id).grants.upstream;
        if !crate::deploy::host_is_granted(granted, authority) {
            return Err(refused(
                "the binding was not granted this host (grants: upstream)",
            ));
        }
        let address = TargetAddress::of(uri).ok_or_else(|| refused("it names no server"))?;
        worker
            .upstreams
            .resolve(&address)
            .map_err(|error| refused(&error.to_string()))
    }
}
