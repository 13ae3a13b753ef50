//! What is written down of a request: metrics, log lines, and records for the stage's log sinks.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::error::Concern;
use super::{Exchange, GatewayError, RequestId, own, reply};
use crate::body::{Body, End, OnEnd};
use crate::telemetry::entry;
use crate::worker::{Local, Sinks, StageLocal};

/// A request on its way, until it is written down.
pub struct Record {
    local: Rc<Local>,
    passing: Option<Passing>,
}

/// A request whose API, stage and route are known.
pub struct Passing {
    pub local: Rc<Local>,
    pub exchange: Arc<Exchange>,
    stage: Rc<StageLocal>,
}

impl Record {
    pub fn begin(local: Rc<Local>) -> Self {
        Self {
            local,
            passing: None,
        }
    }

    pub fn local(&self) -> &Local {
        &self.local
    }

    /// The request's stage is known.
    pub fn routed(&mut self, exchange: Arc<Exchange>) -> &mut Passing {
        let stage = self.local.stage(&exchange.stage);
        self.passing.insert(Passing {
            local: self.local.clone(),
            exchange,
            stage,
        })
    }

    /// Ends the record of a request that no stage took.
    pub fn refuse(self, error: &GatewayError) -> Response<Body> {
        let mut response = reply::from_error(error);
        let id = RequestId::random();
        let (request_id, status) = (id.as_str(), response.status().as_u16());
        match error.disposition().concern {
            Concern::Sender => self.local.tell_sparingly(|left_out| {
                tracing::info!(request_id, status, cause = %chain(error), left_out, "request refused");
            }),
            _ => tracing::debug!(request_id, status, cause = %chain(error), "request refused"),
        }
        self.local.unrouted().count(response.status());
        identify(&mut response, &id);
        response
    }

    /// Ends the record with the gateway's own response.
    pub fn fail(mut self, error: &GatewayError) -> Response<Body> {
        let response = reply::from_error(error);
        if let Some(passing) = &mut self.passing {
            let disposition = error.disposition();
            let exchange = own(&mut passing.exchange);
            let (request_id, route) = (
                exchange.id.as_str(),
                exchange.route().map(|route| route.key.as_str()),
            );
            let (scope, status) = (&exchange.stage.scope, disposition.status.as_u16());
            match disposition.concern {
                Concern::Operator => self.local.tell_failure(|left_out| {
                    tracing::error!(
                        request_id, stage = scope, route, status, cause = %chain(error), left_out, "request failed"
                    );
                }),
                Concern::Sender => self.local.tell_sparingly(|left_out| {
                    tracing::info!(
                        request_id, stage = scope, route, status, cause = %chain(error), left_out, "request refused"
                    );
                }),
                Concern::Caller => {
                    tracing::debug!(request_id, stage = scope, route, status, cause = %chain(error), "request refused");
                }
            }
            exchange.account.error_message = Some(disposition.message);
            exchange.account.error_type = Some(disposition.response_type);
        }
        self.finish(response)
    }

    /// Ends the record: at once where the response's length is known, else when its last byte has left.
    pub fn finish(mut self, mut response: Response<Body>) -> Response<Body> {
        let Some(mut passing) = self.passing.take() else {
            return response;
        };
        let exchange = own(&mut passing.exchange);
        identify(&mut response, &exchange.id);
        let latency = exchange.began.elapsed();
        exchange.account.status = Some(response.status());
        exchange.account.latency = Some(latency);
        passing
            .stage
            .route(exchange.route)
            .observe(response.status(), latency);
        passing.local.compare(response.status(), latency);
        if passing.stage.sinks.is_empty() {
            return response;
        }
        let Passing {
            exchange, stage, ..
        } = passing;
        let finishing = Finishing {
            exchange,
            sinks: stage.sinks.clone(),
        };
        match response.body() {
            Body::Empty => finishing.write(0),
            Body::Full(content) => finishing.write(content.len() as u64),
            _ => return response.map(|body| body.with_on_end(Box::new(finishing))),
        }
        response
    }
}

impl Drop for Record {
    /// The viewer left before there was a response.
    fn drop(&mut self) {
        if let Some(mut passing) = self.passing.take() {
            let Some(exchange) = Arc::get_mut(&mut passing.exchange) else {
                return;
            };
            let latency = exchange.began.elapsed();
            exchange.account.status = Some(client_closed_request());
            exchange.account.latency = Some(latency);
            passing
                .stage
                .route(exchange.route)
                .observe(client_closed_request(), latency);
            if !passing.stage.sinks.is_empty() {
                Finishing {
                    exchange: passing.exchange,
                    sinks: passing.stage.sinks.clone(),
                }
                .write(0);
            }
        }
    }
}

/// A record that waits for its response's last byte.
struct Finishing {
    exchange: Arc<Exchange>,
    sinks: Arc<Sinks>,
}

impl Finishing {
    fn write(mut self, bytes: u64) {
        own(&mut self.exchange).account.response_bytes = Some(bytes);
        self.sinks.write(&self.exchange);
    }
}

impl OnEnd for Finishing {
    fn on_end(mut self: Box<Self>, bytes: u64, end: End<'_>) {
        let account = &mut own(&mut self.exchange).account;
        match end {
            End::Complete => {}
            End::Abandoned => account.status = Some(client_closed_request()),
            End::Failed(error) => {
                let cause = chain(error);
                tracing::error!(
                    request_id = self.exchange.id.as_str(),
                    cause,
                    "response broke off"
                );
                own(&mut self.exchange).account.integration_error = Some(cause);
            }
        }
        self.write(bytes);
    }
}

fn identify(response: &mut Response<Body>, id: &RequestId) {
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
}

/// An error with its causes, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let error_text = error.to_string();
        if !text.ends_with(&error_text) {
            text.push_str(": ");
            text.push_str(&error_text);
        }
        cause = error.source();
    }
    entry::in_one(&text).into_owned()
}

/// nginx's code for a viewer that left; no response has it.
fn client_closed_request() -> StatusCode {
    StatusCode::from_u16(499).expect("three digits")
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
