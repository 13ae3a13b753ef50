//! The request path: one pass, in this order.
//!
//! receive → gatekeep → cache → transform → (middleware →) integrate → transform → reply; the record is written when the last byte has left.

mod cache;
pub mod context;
pub mod error;
pub mod exchange;
pub mod forwarded;
mod gatekeep;
mod integrate;
mod link;
mod middleware;
mod policy;
mod receive;
mod record;
pub mod recorded;
pub mod reply;
mod transform;
pub mod usable;

use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tidegate_model::deployment::Route;

pub use error::GatewayError;
pub use exchange::{Exchange, RequestId};

use crate::body::Body;
use crate::listen::Connection;
use crate::worker::{Local, Worker};
use record::Record;
use transform::Transformed;

/// Serves one request. Always yields a response, and always writes one record: also when the viewer leaves, since a
/// record that is dropped unfinished says so (499).
pub async fn handle(
    worker: &Rc<Worker>,
    request: Request<Incoming>,
    connection: &Connection,
) -> Response<Body> {
    let local = worker.local(request.headers());
    let mut record = Record::begin(local);
    let (exchange, mut body) = match receive::arrive(worker, record.local(), request, connection) {
        Ok(arrived) => arrived,
        Err(error) => return record.refuse(&error),
    };
    let exchange = record.routed(exchange);
    let outcome = serve(worker, exchange, &mut body).await;
    match outcome {
        Ok(response) => record.finish(response),
        Err(error) => record.fail(&error), // the one place an error becomes a response
    }
}

async fn serve(
    worker: &Rc<Worker>,
    passing: &mut record::Passing,
    body: &mut Body,
) -> Result<Response<Body>, GatewayError> {
    let stage = passing.exchange.stage.clone();
    let Some(route) = passing.exchange.route.map(|place| &stage.entries[place]) else {
        return Err(GatewayError::UnknownRoute {
            rest: passing.exchange.is_rest(),
        });
    };
    let (local, exchange) = (passing.local.clone(), &mut passing.exchange);

    gatekeep::admit(&local, route, exchange, body).await?;
    let changes = stage.caches_by_http && !exchange.head.method.is_safe();
    let host = if changes {
        exchange.host().map(str::to_owned)
    } else {
        None
    };
    let response = match &route.cache {
        None => answer(worker, &local, route, exchange, body).await?.into(),
        Some(policy) => cache::respond(worker, &local, route, policy, exchange, body).await?,
    };
    if changes && !route.caches_by_http() {
        let (status, headers) = (response.status(), response.headers());
        let host = host.as_deref();
        Box::pin(cache::invalidate(worker, exchange, host, status, headers)).await;
    }
    transform::response(&local, route, exchange, response).await
}

/// Whose answer it is.
enum Answer {
    Integration(Response<Body>),
    /// A request transform's.
    Transform(Response<Body>),
}

/// Asks the integration, by what request transforms make of the request; on an edge, an origin does.
async fn answer(
    worker: &Rc<Worker>,
    local: &Rc<Local>,
    route: &Route,
    exchange: &mut Arc<Exchange>,
    body: &mut Body,
) -> Result<Answer, GatewayError> {
    if let Some(dialer) = worker
        .dialer
        .as_ref()
        .filter(|_| !local.answers_here(route))
    {
        let body = std::mem::take(body);
        return Box::pin(link::ask(dialer, local, route, exchange, body)).await;
    }
    match transform::request(local, route, exchange, body).await? {
        Transformed::Proceed => {
            let body = std::mem::take(body);
            let response = integrate::call(worker, local, route, exchange, body).await?;
            Ok(Answer::Integration(response))
        }
        Transformed::Respond(response) => Ok(Answer::Transform(response)),
    }
}

impl From<Answer> for Response<Body> {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Integration(response) | Answer::Transform(response) => response,
        }
    }
}

/// The exchange, to be changed between calls.
fn own(exchange: &mut Arc<Exchange>) -> &mut Exchange {
    Arc::get_mut(exchange).expect("a step call lets go of the exchange before it returns")
}
