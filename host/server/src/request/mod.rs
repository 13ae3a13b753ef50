//! The request path: one pass, in this order.
//!
//! receive → gatekeep → transform → integrate → transform → reply; the record is written when the last byte has left.

pub mod context;
pub mod error;
pub mod exchange;
mod gatekeep;
mod integrate;
mod receive;
mod record;
pub mod reply;
mod transform;

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

pub use error::GatewayError;
pub use exchange::{Exchange, RequestId};

use crate::body::Body;
use crate::listen::Connection;
use crate::worker::Worker;
use record::Record;
use transform::Transformed;

/// Serves one request. Always yields a response, and always writes one record: also when the viewer leaves, since a
/// record that is dropped unfinished says so (499).
pub async fn handle(
    worker: &Worker,
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
    worker: &Worker,
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
    let response = match transform::request(&local, route, exchange, body).await? {
        Transformed::Proceed => {
            integrate::call(worker, &local, route, exchange, std::mem::take(body)).await?
        }
        Transformed::Respond(response) => response,
    };
    transform::response(&local, route, exchange, response).await
}

/// The exchange, to be changed between calls.
fn own(exchange: &mut Arc<Exchange>) -> &mut Exchange {
    Arc::get_mut(exchange).expect("a step call lets go of the exchange before it returns")
}
