//! `GET /tidegate/v1/logs`: what plugins and functions said, one JSON object a line.
//!
//! `?plugin=NAME` for one of them; `&follow=true` to go on as more comes, `&from=now` to begin with that. A follower that is
//! too slow is told by a line `{"missed": 12}`.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use serde_json::json;
use tidegate_model::uri;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::message;
use crate::body::{Body, BoxError};
use crate::serving::Serving;
use crate::telemetry::tail::{Cursor, News, Tail};

/// What followers read.
#[derive(Clone)]
pub struct Logs {
    tail: Arc<Tail>,
    serving: Arc<ArcSwap<Serving>>,
    followers: Arc<Semaphore>,
}

impl Logs {
    pub fn new(tail: Arc<Tail>, serving: Arc<ArcSwap<Serving>>) -> Self {
        Self {
            tail,
            serving,
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
        }
    }

    /// Answers a request.
    pub fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let query = request.uri().query().unwrap_or_default();
        let parameter = |name| uri::query_parameter(query, name);
        let is = |name, wanted: &str| parameter(name).is_some_and(|value| value == wanted);
        let reader = Reader {
            plugin: parameter("plugin").map(Into::into),
            cursor: match is("from", "now") {
                true => self.tail.newest(),
                false => self.tail.oldest(),
            },
            logs: self.clone(),
        };
        let body = match is("follow", "true") {
            false => Body::from(reader.rest()),
            true => match self.followers.clone().try_acquire_owned() {
                Ok(permit) => reader.follow(permit),
                Err(_) => {
                    return message(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "too many follow the log already",
                    );
                }
            },
        };
        let mut response = Response::new(body);
        let lines = HeaderValue::from_static("application/x-ndjson");
        response.headers_mut().insert(CONTENT_TYPE, lines);
        response
    }
}

/// One who reads.
struct Reader {
    logs: Logs,
    plugin: Option<String>,
    cursor: Cursor,
}

impl Reader {
    /// All that is there by now.
    fn rest(mut self) -> String {
        let mut text = String::new();
        // What the ring holds, and not what comes meanwhile: there may be no end of that.
        for _ in 0..PIECES_MAX {
            let news = self.logs.tail.since(self.cursor);
            if news.lines.is_empty() {
                break;
            }
            text.push_str(&self.take(news));
        }
        text
    }

    /// All that comes, until the follower leaves.
    fn follow(self, permit: OwnedSemaphorePermit) -> Body {
        let pieces = stream::unfold((self, permit), async |(mut reader, permit)| {
            loop {
                let news = reader.logs.tail.after(reader.cursor).await;
                let text = reader.take(news);
                if !text.is_empty() {
                    let piece: Result<_, BoxError> = Ok(Frame::data(Bytes::from(text)));
                    return Some((piece, (reader, permit)));
                }
            }
        });
        Body::Boxed(UnsyncBoxBody::new(StreamBody::new(pieces)))
    }

    /// News as lines of text, less what is not asked for.
    fn take(&mut self, news: News) -> String {
        let mut text = String::new();
        if news.missed > 0 {
            text.push_str(&format!("{}\n", json!({ "missed": news.missed })));
        }
        let bindings = self
            .plugin
            .as_ref()
            .map(|plugin| self.logs.bindings_of(plugin));
        for line in &news.lines {
            let wanted = bindings
                .as_ref()
                .is_none_or(|bindings| bindings.contains(&line.binding));
            if wanted && let Ok(line) = serde_json::to_string(line) {
                text.push_str(&line);
                text.push('\n');
            }
        }
        self.cursor = news.cursor;
        text
    }
}

impl Logs {
    /// The bindings of a plugin as it is served now; a function's name is its own.
    fn bindings_of(&self, plugin: &str) -> BTreeSet<String> {
        let serving = self.serving.load();
        let specs = serving
            .deployments()
            .flat_map(|deployed| &deployed.snapshot.bindings);
        specs
            .filter(|spec| spec.plugin == plugin)
            .map(|spec| spec.name.clone())
            .chain([plugin.to_owned()])
            .collect()
    }
}

/// More than a full ring has.
const PIECES_MAX: usize = 32;
/// People who look on at once; each holds a connection.
const FOLLOWERS_MAX: usize = 32;
