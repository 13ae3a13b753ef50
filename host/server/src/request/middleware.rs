//! Functions around an integration: each gets the request, and answers with what it makes of the answer behind it.
//!
//! A function runs in the request's own future, as one that is an integration does. What it asks of what is behind it, the
//! next such function or the integration, comes by a channel to a task of the request's: a function may ask before it
//! answers or while its answer streams, once, several times or never. The task ends with the function's call, and so does
//! what it still waits for.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use http::header::{HOST, TE};
use http::{Request, Response, StatusCode, request};
use http_body::{Body as _, Frame, SizeHint};
use tidegate_model::deployment::{FaultPolicy, Route};
use tidegate_sandbox::Fault;
use tidegate_sandbox::function::BodyFailure;
use tidegate_sandbox::next::Ask;
use tidegate_sandbox::wit::HttpError;
use tokio::sync::mpsc;

use super::exchange::Account;
use super::integrate::{alone, function_body, function_request, wants_trailers};
use super::{Exchange, GatewayError, own};
use crate::body::{self, Body};
use crate::services::client;
use crate::telemetry::entry;
use crate::upstream::UpstreamError;
use crate::worker::{Local, Worker};

/// Calls what stands around the integration from `depth` on. Boxed, since it leads to itself.
pub fn around<'a>(
    worker: &'a Rc<Worker>,
    local: &'a Rc<Local>,
    route: &'a Route,
    depth: usize,
    exchange: &'a mut Arc<Exchange>,
    body: Body,
) -> LocalBoxFuture<'a, Result<Response<Body>, GatewayError>> {
    Box::pin(async move {
        let exchange = own(exchange);
        let behind = Rc::new(Behind::of(worker, local, exchange, depth + 1));
        let broken = Arc::default();
        let request = function_request(local, exchange, watched(body, &broken))?;
        let outcome = call(&behind, route, depth, request).await;
        let found = behind.found.take();
        found.write_down(&mut exchange.account);
        match (outcome, broken.get()) {
            // Whatever the function made of it, it was the viewer's request that broke off.
            (Err(_), Some(&fault)) if depth == 0 => {
                Err(GatewayError::Upstream(UpstreamError::HttpRequestError {
                    fault,
                }))
            }
            (outcome, _) => outcome,
        }
    })
}

fn watched(body: Body, broken: &Arc<OnceLock<body::Fault>>) -> Body {
    match body.is_end_stream() {
        true => Body::Empty,
        false => body.with_fault(broken.clone()),
    }
}

async fn call(
    behind: &Rc<Behind>,
    route: &Route,
    depth: usize,
    request: Request<Body>,
) -> Result<Response<Body>, GatewayError> {
    let middleware = &route.pipeline.middleware[depth];
    let function = &middleware.function;
    let pool = behind
        .local
        .function(function)
        .ok_or_else(|| GatewayError::Destination(format!("no function \"{function}\"")))?;
    // By the authority it tells what is behind it from others, and viewers choose that.
    if pool.may_ask(request.uri()) {
        return Err(GatewayError::BadRequest(
            "the Host field names a server that a function around the integration asks",
        ));
    }
    let (request, kept) = match middleware.fault_policy {
        FaultPolicy::Bypass => Kept::copy(request),
        FaultPolicy::Deny | FaultPolicy::Fail => (request.map(Lent::Owned), None),
    };
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    tokio::task::spawn_local(behind.clone().answer(asked));
    let fault = match pool.invoke_around(request, asks).await {
        Ok(response) => return Ok(response.map(function_body)),
        Err(fault) => fault,
    };
    let (asked, failed) = {
        let mut found = behind.found.borrow_mut();
        (found.asked, found.failed.take())
    };
    if let (Fault::Answered(_), Some(error)) = (&fault, failed) {
        return Err(error); // what went wrong behind it, it passes on
    }
    match kept.and_then(Kept::untouched).filter(|_| !asked) {
        Some(request) => {
            behind.local.tell_failure(|left_out| {
                let (kind, text) = (fault.kind(), fault.to_string());
                let fault = entry::in_one(&text);
                tracing::warn!(function, kind, %fault, left_out, "middleware fault, bypassed");
            });
            behind.ask(request).await
        }
        None => Err(GatewayError::Function {
            function: function.clone(),
            fault,
        }),
    }
}

/// What is behind a function.
struct Behind {
    worker: Rc<Worker>,
    local: Rc<Local>,
    /// The request without what the function says of it: with those fields only that are the gateway's matter.
    exchange: Exchange,
    /// The place of the next function, or past the last.
    depth: usize,
    found: RefCell<Found>,
}

/// What became known behind a function.
#[derive(Default)]
struct Found {
    /// The function has asked.
    asked: bool,
    status: Option<StatusCode>,
    latency: Option<Duration>,
    error: Option<String>,
    /// Why the last request got no response.
    failed: Option<GatewayError>,
}

impl Behind {
    fn of(worker: &Rc<Worker>, local: &Rc<Local>, exchange: &Exchange, depth: usize) -> Self {
        let mut head = Request::new(()).into_parts().0;
        head.uri = exchange.head.uri.clone();
        head.version = exchange.head.version;
        let fields = &exchange.head.headers;
        let host = fields.get(HOST).map(|value| (HOST, value.clone()));
        let te = fields.get(TE).filter(|te| wants_trailers(te));
        let te = te.map(|value| (TE, value.clone()));
        head.headers.extend(host.into_iter().chain(te));
        Self {
            worker: worker.clone(),
            local: local.clone(),
            exchange: exchange.with_head(head),
            depth,
            found: RefCell::default(),
        }
    }

    /// Answers what the function asks, until its call has ended.
    async fn answer(self: Rc<Self>, mut asked: mpsc::Receiver<Ask>) {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                ask = asked.recv(), if under_way.len() < ASKS_MAX => match ask {
                    Some(ask) => under_way.push(self.answer_one(ask)),
                    None => return,
                },
                Some(()) = under_way.next() => {}
            }
        }
    }

    async fn answer_one(&self, ask: Ask) {
        let Ask {
            request,
            mut answer,
        } = ask;
        if answer.is_closed() {
            return; // the function had failed before this came, and may be passed by
        }
        self.found.borrow_mut().asked = true;
        let response = tokio::select! {
            response = self.ask(request.map(Body::from_component)) => response,
            () = answer.closed() => return, // nobody waits any more
        };
        let response = match response {
            Ok(response) => Ok(response.map(Body::into_component)),
            Err(error) => {
                let told = told(&error);
                self.found.borrow_mut().failed = Some(error);
                Err(told)
            }
        };
        _ = answer.send(response);
    }

    async fn ask(&self, request: Request<Body>) -> Result<Response<Body>, GatewayError> {
        let (head, body) = request.into_parts();
        let mut exchange = Arc::new(self.sent_on(head));
        let stage = exchange.stage.clone();
        let place = exchange
            .route
            .expect("around an integration, so on a route");
        let (route, worker, local) = (&stage.entries[place], &self.worker, &self.local);
        let outcome = match self.depth < route.pipeline.middleware.len() {
            true => around(worker, local, route, self.depth, &mut exchange, body).await,
            false => alone(worker, local, route, &mut exchange, body).await,
        };
        let account = &mut own(&mut exchange).account;
        let mut found = self.found.borrow_mut();
        found.status = account.integration_status;
        found.latency = account.integration_latency;
        found.error = account.integration_error.take();
        outcome
    }

    /// The request as the function sends it on. Host, viewer and caller stay what they are, and what the gateway tells
    /// functions is told to nobody else.
    fn sent_on(&self, head: request::Parts) -> Exchange {
        let own = &self.exchange.head;
        let mut sent = Request::new(()).into_parts().0;
        (sent.method, sent.headers) = (head.method, head.headers);
        (sent.uri, sent.version) = (own.uri.clone(), own.version);
        let told: Vec<_> = sent
            .headers
            .keys()
            .filter(|name| name.as_str().starts_with("tidegate-"))
            .cloned()
            .collect();
        for name in told.iter().chain(&[HOST, TE]) {
            sent.headers.remove(name);
        }
        sent.headers.extend(own.headers.clone());
        let mut exchange = self.exchange.with_head(sent);
        if head.uri.path() != exchange.matched_path() {
            exchange.new_path = Some(head.uri.path().to_owned());
        }
        if head.uri.query() != exchange.head.uri.query() {
            exchange.new_query = Some(head.uri.query().unwrap_or_default().to_owned());
        }
        exchange
    }
}

impl Found {
    fn write_down(self, account: &mut Account) {
        account.integration_status = self.status;
        account.integration_latency = self.latency;
        account.integration_error = self.error;
    }
}

/// What a function is told of what went wrong behind it.
fn told(error: &GatewayError) -> HttpError {
    match error {
        GatewayError::Upstream(error) => client::named(error),
        GatewayError::Function {
            fault: Fault::Deadline(_),
            ..
        } => HttpError::Timeout,
        error => HttpError::ProtocolError(error.to_string()),
    }
}

/// A request that can be had back, for as long as its function has touched nothing of it.
struct Kept {
    head: Request<()>,
    body: Arc<Mutex<Option<Body>>>,
}

impl Kept {
    fn copy(request: Request<Body>) -> (Request<Lent>, Option<Self>) {
        let (head, body) = request.into_parts();
        let body = Arc::new(Mutex::new(Some(body)));
        let kept = Self {
            head: Request::from_parts(head.clone(), ()),
            body: body.clone(),
        };
        (Request::from_parts(head, Lent::Shared(body)), Some(kept))
    }

    /// The request, unless the function has read of its body.
    fn untouched(self) -> Option<Request<Body>> {
        let body = taken(&self.body)?;
        Some(self.head.map(|()| body))
    }
}

fn taken(body: &Mutex<Option<Body>>) -> Option<Body> {
    body.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// A function's request body.
enum Lent {
    Owned(Body),
    /// Nothing of it was read so far.
    Shared(Arc<Mutex<Option<Body>>>),
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = BodyFailure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        if let Self::Shared(body) = &*self {
            let body = taken(body).unwrap_or_default();
            *self = Self::Owned(body);
        }
        match &mut *self {
            Self::Owned(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|error| BodyFailure(error.to_string())),
            Self::Shared(_) => unreachable!("it was just taken"),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Owned(body) => body.is_end_stream(),
            Self::Shared(body) => {
                let body = body.lock().unwrap_or_else(PoisonError::into_inner);
                body.as_ref().is_none_or(Body::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Owned(body) => body.size_hint(),
            Self::Shared(body) => {
                let body = body.lock().unwrap_or_else(PoisonError::into_inner);
                body.as_ref().map(Body::size_hint).unwrap_or_default()
            }
        }
    }
}

/// Requests of one call to what is behind it, at once: more than a function has a use for.
const ASKS_MAX: usize = 8;
