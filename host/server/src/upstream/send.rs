//! Sending a request: choosing the target, and trying again where that is safe.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{EXPECT, HOST};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tidegate_model::balance::{Candidate, choose};
use tidegate_model::retry::{self, Failure, Progress, Verdict};
use tokio::time::{Instant, timeout_at};

use super::pool::{Http1Pool, Http2Pool, NoConnection, TrySendError};
use super::{Counters, Handle, Lease, LocalTarget, Pool, Target, Upstream, UpstreamError, connect};
use crate::body::Body;

/// How one request is sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct SendOptions {
    /// In place of the upstream's own [`first_byte_timeout`](super::Settings::first_byte_timeout).
    pub first_byte_timeout: Option<Duration>,
    pub host: Host,
}

/// Which `Host` the target sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Host {
    /// The target's own, or the one that the request has.
    #[default]
    Target,
    Request,
}

/// An attempt that yielded no response.
struct Failed {
    error: UpstreamError,
    progress: Progress,
    reused: bool,
    /// The request, where hyper gave it back.
    request: Option<Request<Body>>,
}

impl Handle {
    /// The name of the upstream.
    pub fn name(&self) -> &str {
        &self.0.group.settings.name
    }

    /// Sends a request and returns the response when its header section is there; bodies stream in both directions.
    ///
    /// The request has path and query for a URI; hop-by-hop fields are the caller's to remove, `Expect` is removed here,
    /// since the body is read when the target takes it. It is tried again as `model::retry` decides.
    ///
    /// # Errors
    /// When no attempt yielded a response. A body that ends early is reported by the body.
    ///
    /// # Cancel safety
    /// Dropping it gives the request up, and closes an HTTP/1.1 connection that it was sent on.
    pub async fn send(
        &self,
        mut request: Request<Body>,
        options: SendOptions,
    ) -> Result<Response<Body>, UpstreamError> {
        let upstream = &*self.0;
        let settings = &upstream.group.settings;
        let deadline = Instant::now()
            + options
                .first_byte_timeout
                .unwrap_or(settings.first_byte_timeout);
        request.headers_mut().remove(EXPECT);
        let idempotent = retry::is_idempotent(request.method());
        let repeatable = idempotent && request.body().is_end_stream();
        // The error that hyper reports for a request whose own body failed does not tell so for HTTP/2.
        let fault = (!request.body().is_end_stream()).then(|| Arc::new(OnceLock::new()));
        if let Some(fault) = &fault {
            request = request.map(|body| body.with_fault(fault.clone()));
        }
        upstream.budget.borrow_mut().deposit();

        let mut avoid = None;
        let mut retried = 0;
        let mut renewed = false;
        loop {
            let place = upstream.choose(avoid)?;
            let target = &upstream.targets[place];
            let spare = repeatable.then(|| copy_of(&request));
            let exchange = Exchange {
                upstream,
                target,
                deadline,
                options,
                fresh: renewed,
                repeatable,
            };
            let failed = match exchange.run(request).await {
                Ok(response) => {
                    target.shared.succeeded();
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            if let Some(&fault) = fault.as_ref().and_then(|fault| fault.get()) {
                return Err(UpstreamError::HttpRequestError { fault });
            }
            let disposition = failed.error.disposition();
            let again = failed.request.or(spare);
            let failure = Failure {
                progress: failed.progress,
                reused: failed.reused,
                retryable: disposition.retryable && Instant::now() < deadline,
                replayable: again.is_some(),
                idempotent,
                retried,
                renewed,
            };
            let verdict = retry::decide(failure, settings.retries);
            if disposition.blames_target && verdict != Verdict::Renew {
                Counters::count(&target.counters.failures);
                upstream.group.failed(&target.shared);
            }
            match (verdict, again) {
                (Verdict::Renew, Some(again)) => {
                    renewed = true;
                    request = again;
                }
                (Verdict::Retry, Some(again)) if upstream.budget.borrow_mut().withdraw() => {
                    retried += 1;
                    avoid = Some(place);
                    Counters::count(&target.counters.retries);
                    request = again;
                }
                _ => return Err(failed.error),
            }
        }
    }
}

impl Upstream {
    fn choose(&self, avoid: Option<usize>) -> Result<usize, UpstreamError> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        choose(
            self.group.settings.balance,
            turn,
            self.targets.len(),
            avoid,
            |place| {
                let target = &self.targets[place];
                let standing = target.shared.standing(self.group.clock);
                let in_flight = target.counters.in_flight.load(Ordering::Relaxed);
                Candidate {
                    standing,
                    in_flight,
                }
            },
        )
        .ok_or_else(|| UpstreamError::DestinationUnavailable {
            upstream: self.group.settings.name.clone(),
        })
    }
}

/// One attempt at one target.
struct Exchange<'a> {
    upstream: &'a Upstream,
    target: &'a LocalTarget,
    deadline: Instant,
    options: SendOptions,
    /// On a connection of its own.
    fresh: bool,
    /// Whether it could be sent twice.
    repeatable: bool,
}

impl Exchange<'_> {
    async fn run(&self, request: Request<Body>) -> Result<Response<Body>, Failed> {
        Counters::count(&self.target.counters.requests);
        let lease = Lease::new(self.target.counters.clone());
        match &self.target.pool {
            Pool::Http1(pool) => self.http1(pool, request, lease).await,
            Pool::Http2(pool) => self.http2(pool, request, lease).await,
        }
    }

    async fn http1(
        &self,
        pool: &Rc<Http1Pool>,
        mut request: Request<Body>,
        lease: Lease,
    ) -> Result<Response<Body>, Failed> {
        *request.version_mut() = Version::HTTP_11;
        if self.options.host == Host::Target || !request.headers().contains_key(HOST) {
            request
                .headers_mut()
                .insert(HOST, self.target.shared.host.clone());
        }
        if !self.repeatable {
            // It must not meet a connection that the server has closed already: lets the runtime look at the sockets first.
            tokio::task::yield_now().await;
        }
        let until = self.connect_until();
        let (connection, reused) = match pool
            .acquire(self.fresh, until, async || self.connect(until).await)
            .await
        {
            Ok(acquired) => acquired,
            Err(none) => return Err(self.not_connected(none, request)),
        };
        let (serial, sending) = connection.send(request, self.deadline);
        let Some(sending) = sending else {
            // Closed between being taken and now, which nothing does.
            let error = UpstreamError::ConnectionTerminated {
                target: self.target.shared.authority(),
                source: None,
            };
            return Err(Failed {
                error,
                progress: Progress::Sent,
                reused,
                request: None,
            });
        };
        match sending.await {
            Ok(response) => {
                connection.responded(serial);
                Ok(self.respond(response, lease))
            }
            Err(_) if connection.timed_out() => Err(self.timed_out()),
            Err(error) => Err(self.not_sent(error, reused)),
        }
    }

    async fn http2(
        &self,
        pool: &Rc<Http2Pool>,
        mut request: Request<Body>,
        mut lease: Lease,
    ) -> Result<Response<Body>, Failed> {
        if let Err(error) = self.absolute(&mut request) {
            return Err(Failed {
                error,
                progress: Progress::NotSent,
                reused: false,
                request: None,
            });
        }
        let until = self.connect_until();
        let handshake = |source| UpstreamError::HttpProtocolError {
            target: self.target.shared.authority(),
            source: Some(source),
        };
        let acquired = pool
            .acquire(
                self.fresh,
                until,
                async || self.connect(until).await,
                handshake,
            )
            .await;
        let (connection, reused) = match acquired {
            Ok(acquired) => acquired,
            Err(none) => return Err(self.not_connected(none, request)),
        };
        let (sending, stream) = connection.send(request);
        lease._stream = Some(stream);
        match timeout_at(self.deadline, sending).await {
            Ok(Ok(response)) => Ok(self.respond(response, lease)),
            Ok(Err(error)) => Err(self.not_sent(error, reused)),
            Err(_) => Err(self.timed_out()),
        }
    }

    async fn connect(&self, until: Instant) -> Result<crate::stream::Stream, UpstreamError> {
        Counters::count(&self.target.counters.connects);
        let group = &self.upstream.group;
        connect::connect(
            &self.upstream.resolver,
            &self.target.shared,
            group.tls.as_ref(),
            group.settings.protocol,
            until,
        )
        .await
    }

    fn connect_until(&self) -> Instant {
        self.deadline
            .min(Instant::now() + self.upstream.group.settings.connect_timeout)
    }

    fn respond(&self, response: Response<Incoming>, lease: Lease) -> Response<Body> {
        let idle = self.upstream.group.settings.body_idle_timeout;
        response.map(|incoming| match Body::from(incoming) {
            Body::Empty => Body::Empty,
            body => body.with_idle_timeout(idle).with_lease(lease),
        })
    }

    /// Gives the request the absolute URI from which HTTP/2 takes scheme and authority. Source: RFC 9113 §8.3.1.
    fn absolute(&self, request: &mut Request<Body>) -> Result<(), UpstreamError> {
        let target = &self.target.shared;
        let own = request.headers_mut().remove(HOST);
        let host = own
            .filter(|_| self.options.host == Host::Request)
            .unwrap_or_else(|| target.host.clone());
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = absolute_uri(request.uri(), target, &host).ok_or_else(|| {
            UpstreamError::HttpProtocolError {
                target: target.authority(),
                source: None,
            }
        })?;
        Ok(())
    }

    fn not_connected(&self, none: NoConnection<UpstreamError>, request: Request<Body>) -> Failed {
        let error = match none {
            NoConnection::LimitReached => UpstreamError::ConnectionLimitReached {
                target: self.target.shared.authority(),
            },
            NoConnection::Failed(error) => error,
        };
        Failed {
            error,
            progress: Progress::NotSent,
            reused: false,
            request: Some(request),
        }
    }

    fn timed_out(&self) -> Failed {
        let error = UpstreamError::HttpResponseTimeout {
            target: self.target.shared.authority(),
        };
        Failed {
            error,
            progress: Progress::Sent,
            reused: false,
            request: None,
        }
    }

    fn not_sent(&self, mut error: TrySendError, reused: bool) -> Failed {
        let request = error.take_message();
        let progress = if request.is_some() {
            Progress::NotSent
        } else {
            Progress::Sent
        };
        let error = send_error(error.into_error(), &self.target.shared);
        Failed {
            error,
            progress,
            reused,
            request,
        }
    }
}

fn absolute_uri(uri: &Uri, target: &Target, host: &HeaderValue) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(if target.address.tls {
        Scheme::HTTPS
    } else {
        Scheme::HTTP
    });
    parts.authority = Some(Authority::try_from(host.as_bytes()).ok()?);
    parts
        .path_and_query
        .get_or_insert(PathAndQuery::from_static("/"));
    Uri::from_parts(parts).ok()
}

/// A request without body, once more.
fn copy_of(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(Body::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

fn send_error(error: hyper::Error, target: &Target) -> UpstreamError {
    let target = target.authority();
    if error.is_parse_too_large() {
        return UpstreamError::HttpResponseHeaderSectionSize { target };
    }
    if error.is_parse() {
        return UpstreamError::HttpProtocolError {
            target,
            source: Some(error),
        };
    }
    UpstreamError::ConnectionTerminated {
        target,
        source: Some(error),
    }
}
