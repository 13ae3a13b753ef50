//! Steady requests beside a test, and what became of each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use tokio::task::JoinSet;

use crate::client::{Connection, Reply};
use crate::node::TestNode;
use crate::origin::text;
use crate::wait::until;

/// Workers that each send one request after another on a kept connection, until told to stop.
pub struct Load {
    workers: JoinSet<Tally>,
    shared: Arc<Shared>,
}

struct Shared {
    stopping: AtomicBool,
    answered: AtomicU64,
}

/// What is wrong with a response, if anything.
type Wrong = fn(&Reply) -> Option<String>;

/// What became of the requests.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Complete responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// How often a kept connection turned out to be closed before a request's first byte was answered; the request was
    /// sent again on a new one, as RFC 9112 section 9.3.1 has it.
    pub reconnects: u64,
    /// Requests on a new connection without a whole response, and responses that are wrong.
    pub failures: Vec<String>,
    /// Whether a new connection was refused in the end: the node had gone.
    pub refused: bool,
    /// The longest time from a request's beginning, its connection included, to its response's last byte.
    pub slowest: Duration,
}

impl Load {
    /// Sends `GET path` to the API `api` on `connections` connections.
    pub fn start(node: &TestNode, path: &str, connections: usize) -> Self {
        Self::start_with(node, connections, node.build("GET", path))
    }

    /// Sends `request` on `connections` connections.
    pub fn start_with(
        node: &TestNode,
        connections: usize,
        request: http::request::Builder,
    ) -> Self {
        Self::start_checking(node, connections, request, |_| None)
    }

    /// As [`Load::start_with`]; a response that `wrong` says something of counts as failed.
    pub fn start_checking(
        node: &TestNode,
        connections: usize,
        request: http::request::Builder,
        wrong: Wrong,
    ) -> Self {
        let request = request.body(Bytes::new()).expect("a request");
        let shared = Arc::new(Shared {
            stopping: AtomicBool::new(false),
            answered: AtomicU64::new(0),
        });
        let mut workers = JoinSet::new();
        for _ in 0..connections {
            let shared = Arc::clone(&shared);
            workers.spawn(work(node.address(), request.clone(), shared, wrong));
        }
        Self { workers, shared }
    }

    /// Whole responses so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Waits for `count` more responses: the load lives.
    pub async fn more(&self, count: u64) {
        let enough = self.answered() + count;
        until("responses under load", async || {
            (self.answered() >= enough).then_some(())
        })
        .await;
    }

    /// Stops, and gives what became of all requests.
    pub async fn stop(self) -> Tally {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.finish().await
    }

    /// Waits until every worker's new connection is refused: the node's end.
    pub async fn finish(mut self) -> Tally {
        let mut sum = Tally::default();
        while let Some(tally) = self.workers.join_next().await {
            sum.add(tally.expect("a worker does not panic"));
        }
        sum
    }
}

impl Tally {
    /// Sees that every request was answered, with this status, at the first attempt.
    #[track_caller]
    pub fn assert_only(&self, status: u16) {
        self.assert_answered(status);
        assert_eq!(self.reconnects, 0, "a kept connection was closed: {self:?}");
        assert!(!self.refused, "{self:?}");
    }

    /// Sees that every request was answered, with this status; connections may have been closed between two.
    #[track_caller]
    pub fn assert_answered(&self, status: u16) {
        assert!(self.failures.is_empty(), "{self:?}");
        assert_eq!(
            self.statuses.keys().copied().collect::<Vec<_>>(),
            [status],
            "{self:?}"
        );
    }

    /// Whole responses.
    pub fn answered(&self) -> u64 {
        self.statuses.values().sum()
    }

    fn add(&mut self, other: Self) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.reconnects += other.reconnects;
        self.failures.extend(other.failures);
        self.refused |= other.refused;
        self.slowest = self.slowest.max(other.slowest);
    }
}

async fn work(
    address: SocketAddr,
    request: Request<Bytes>,
    shared: Arc<Shared>,
    wrong: Wrong,
) -> Tally {
    let mut tally = Tally::default();
    let mut kept: Option<Connection> = None;
    while !shared.stopping.load(Ordering::Relaxed) {
        let began = Instant::now();
        let reused = kept
            .as_ref()
            .is_some_and(|connection| !connection.is_closed());
        let mut connection = match kept.take().filter(|_| reused) {
            Some(connection) => connection,
            None => match Connection::http1(address).await {
                Ok(connection) => connection,
                Err(_) => {
                    tally.refused = true;
                    break;
                }
            },
        };
        let body = request.body().clone();
        let response = match connection.send(request.clone().map(|_| text(body))).await {
            Ok(response) => response,
            // The peer closed while we wrote: a race that HTTP/1.1 cannot avoid.
            Err(error) if reused && is_closed(&error) => {
                tally.reconnects += 1;
                continue;
            }
            Err(error) => {
                tally.failures.push(format!("{error:?}"));
                continue;
            }
        };
        match Reply::read(response).await {
            Ok(reply) => {
                *tally.statuses.entry(reply.status.as_u16()).or_default() += 1;
                tally.failures.extend(wrong(&reply));
                tally.slowest = tally.slowest.max(began.elapsed());
                shared.answered.fetch_add(1, Ordering::Relaxed);
                if reply.header("connection") != "close" {
                    kept = Some(connection);
                }
            }
            Err(error) => tally.failures.push(format!("{error:?}")),
        }
    }
    tally
}

fn is_closed(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    let source = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    let reset = source.is_some_and(|source| {
        matches!(
            source.kind(),
            std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
        )
    });
    error.is_canceled() || error.is_closed() || error.is_incomplete_message() || reset
}
