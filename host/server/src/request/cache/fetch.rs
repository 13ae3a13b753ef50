//! Asking the integration for what the store does not have, or not for certain.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{Method, Response};
use tidegate_model::cache::reuse::Span;
use tidegate_model::cache::status;
use tidegate_model::deployment::Route;

use super::asking::{Asking, Question, Waited};
use super::keep::{Came, Taken};
use super::seconds;
use crate::body::Body;
use crate::cache::Outcome;
use crate::cache::flight::{Landed, Leader};
use crate::request::{Answer, Exchange, GatewayError, answer, own};
use crate::worker::{Local, Worker};

/// Asks the integration, or waits for who does; stores the answer where that is allowed.
///
/// # Errors
/// The integration's, where nothing stored may stand in for it.
///
/// # Cancel safety
/// Dropping it gives the request up; who waits for it asks instead.
pub async fn fetch(
    worker: &Rc<Worker>,
    local: &Rc<Local>,
    route: &Route,
    exchange: &mut Arc<Exchange>,
    body: &mut Body,
    asking: Box<Asking>,
) -> Result<Response<Body>, GatewayError> {
    let mut asking = asking;
    let leader = match asking.wait(worker).await {
        Waited::Served(response) => return Ok(response),
        Waited::Asks(leader) => leader,
    };
    lead(worker, local, route, exchange, body, &mut asking, leader).await
}

/// Asks the integration behind a viewer that has been served: nobody waits for this.
pub fn behind(worker: &Rc<Worker>, local: &Rc<Local>, exchange: &Exchange, asking: Asking) {
    let (Some(leader), Some(place)) = (asking.try_lead(&worker.cache), exchange.route) else {
        return; // somebody asks already
    };
    let (worker, local, mut asking) = (worker.clone(), local.clone(), asking);
    // All of it, whatever the viewer asked for.
    let mut again = exchange.again();
    again.head.method = Method::GET;
    for headers in [&mut again.head.headers, &mut asking.request] {
        for name in [RANGE, IF_RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE] {
            headers.remove(name);
        }
    }
    asking.method = Method::GET;
    let mut exchange = Arc::new(again);
    worker.clone().spawn(async move {
        let stage = exchange.stage.clone();
        let route = &stage.entries[place];
        let mut none = Body::Empty;
        let fetched = lead(
            &worker,
            &local,
            route,
            &mut exchange,
            &mut none,
            &mut asking,
            Some(leader),
        );
        let read = match fetched.await {
            Ok(response) => {
                let bytes_max = worker.cache.body_bytes_max;
                let read = response.into_body().collect(bytes_max).await;
                read.map(drop).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(cause) = read {
            let (stage, route) = (&exchange.stage.scope, &route.key);
            tracing::warn!(stage, route, cause, "a stale response was not renewed");
        }
    });
}

async fn lead(
    worker: &Rc<Worker>,
    local: &Rc<Local>,
    route: &Route,
    exchange: &mut Arc<Exchange>,
    body: &mut Body,
    asking: &mut Asking,
    mut leader: Option<Leader>,
) -> Result<Response<Body>, GatewayError> {
    let mut question = asking.question();
    loop {
        let asked_at = seconds(SystemTime::now());
        asking.prepare(
            &mut own(exchange).head.headers,
            question,
            leader.is_some() && !asking.request.contains_key(RANGE),
        );
        let answered = answer(worker, local, route, exchange, body).await;
        let now = seconds(SystemTime::now());
        let response = match answered {
            Ok(Answer::Integration(response)) => response,
            Ok(Answer::Transform(response)) => {
                land(leader, Landed::Apart);
                return Ok(response);
            }
            Err(error) => {
                land(leader, Landed::Apart);
                let stored = match error {
                    GatewayError::Upstream(_) | GatewayError::Link(_) => {
                        asking.stand_in(now, Span::covers_disconnection)
                    }
                    GatewayError::Function { .. } | GatewayError::AtOrigin { .. } => {
                        asking.stand_in(now, Span::covers_errors)
                    }
                    _ => None,
                };
                return match stored {
                    Some(stored) => {
                        worker.count_cached(Outcome::Stale);
                        tracing::warn!(cause = %error, "served a stale response");
                        Ok(asking.respond(stored, now, &status::hit(stored.span.time_left(now))))
                    }
                    None => Err(error),
                };
            }
        };
        let came = Came {
            worker,
            exchange,
            asked_at,
            now,
        };
        match came.take(asking, question, response, &mut leader).await? {
            Taken::Response(response) => return Ok(response),
            Taken::Again => {
                // From the beginning, without what is stored.
                asking.stored = None;
                question = Question::Plain;
                let exchange = own(exchange);
                exchange.head.headers = asking.request.clone();
                (exchange.new_path, exchange.new_query) = (None, None);
            }
        }
    }
}

fn land(leader: Option<Leader>, landed: Landed) {
    if let Some(leader) = leader {
        leader.land(landed);
    }
}
