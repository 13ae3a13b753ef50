//! `GET /tidegate/v1/recordings?plugin=NAME`: requests that pass a plugin from now on, as cases, one JSON object a line.
//!
//! `&count=N` for so many, 10 unless given; `&secrets=true` to have the values of `authorization`, `cookie` and their like.

use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use tidegate_model::uri;
use tidegate_sandbox::{Decision, Step};

use super::message;
use crate::body::{Body, BoxError};
use crate::cases::record::Wanted;
use crate::serving::Serving;

/// Answers a request.
pub fn answer(serving: &Serving, request: &Request<Incoming>) -> Response<Body> {
    match wanted(serving, request.uri().query().unwrap_or_default()) {
        Ok(wanted) => match serving.stable.recorder.start(wanted) {
            Some(mut cases) => {
                let lines = stream::poll_fn(move |cx| {
                    let line = cases.poll_recv(cx);
                    line.map(|line| Some(Ok::<_, BoxError>(Frame::data(Bytes::from(line?)))))
                });
                let body = UnsyncBoxBody::new(StreamBody::new(lines));
                let mut response = Response::new(Body::Boxed(body));
                let kind = HeaderValue::from_static("application/x-ndjson");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            None => message(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many record requests already",
            ),
        },
        Err(problem) => message(StatusCode::BAD_REQUEST, &problem),
    }
}

fn wanted(serving: &Serving, query: &str) -> Result<Wanted, String> {
    let parameter = |name| uri::query_parameter(query, name);
    let plugin = parameter("plugin").ok_or("`plugin` is missing: whose requests?")?;
    let count = match parameter("count") {
        None => 10,
        Some(count) => count
            .parse()
            .ok()
            .filter(|count| (1..=COUNT_MAX).contains(count))
            .ok_or_else(|| format!("`count` is not between 1 and {COUNT_MAX}"))?,
    };
    let bindings = serving.deployments().flat_map(|deployed| {
        let specs = &deployed.snapshot.bindings;
        specs.iter().zip(&deployed.bindings)
    });
    let mut of_it = bindings
        .filter(|(spec, _)| spec.plugin == *plugin)
        .peekable();
    if of_it.peek().is_none() {
        return Err(format!("nothing is bound to a plugin \"{plugin}\" here"));
    }
    let is_called = of_it.any(|(_, binding)| {
        binding.step != Step::LogSink && matches!(binding.setup.decision, Decision::Call)
    });
    if !is_called {
        return Err(format!(
            "requests do not call \"{plugin}\": its decisions stand for all of them, or it is a log sink"
        ));
    }
    Ok(Wanted {
        plugin: plugin.into_owned(),
        count,
        keeps_secrets: parameter("secrets").is_some_and(|value| value == "true"),
    })
}

/// More than anybody reads.
const COUNT_MAX: usize = 1000;
