//! Sending a request: choosing the target, and trying again where that is safe.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{CONNECTION, EXPECT, HOST, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tidegate_model::balance::{Candidate, choose};
use tidegate_model::retry::{self, Failure, Progress, Verdict};
use tokio::time::{Instant, timeout_at};

use super::http1::{Http1, Http1Pool};
use super::http2::{Http2, Http2Pool};
use super::pool::NoConnection;
use super::replay::SentBody;
use super::{Counters, Handle, Lease, LocalTarget, Pool, Target, Upstream, UpstreamError, connect};
use crate::body::{Body, Fault};
use crate::stream::Stream;

/// How one request is sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct SendOptions {
    /// Beside the upstream's own [`first_byte_timeout`](super::Settings::first_byte_timeout): the shorter one holds.
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
    pub fn send(
        &self,
        mut request: Request<Body>,
        options: SendOptions,
    ) -> impl Future<Output = Result<Response<Body>, UpstreamError>> {
        let upstream = &*self.0;
        let settings = &upstream.group.settings;
        let now = Instant::now();
        let deadline = now
            + options
                .first_byte_timeout
                .map_or(settings.first_byte_timeout, |timeout| {
                    timeout.min(settings.first_byte_timeout)
                });
        request.headers_mut().remove(EXPECT);
        let idempotent = retry::is_idempotent(request.method());
        // The error that hyper reports for a request whose own body failed does not tell so for HTTP/2.
        let fault = (!request.body().is_end_stream()).then(|| Arc::new(OnceLock::new()));
        if let Some(fault) = &fault {
            request = request.map(|body| body.with_fault(fault.clone()));
        }
        let again = match (idempotent, request.body().is_end_stream()) {
            (false, _) => Again::Never,
            (true, true) => Again::Head,
            (true, false) => SentBody::keep(&mut request).map_or(Again::Never, Again::Body),
        };
        upstream.budget.borrow_mut().deposit();

        let mut sending = Sending {
            upstream,
            request: Some(request),
            fault,
            now,
            deadline,
            options,
            idempotent,
            again,
        };
        // What it needs is put together before, so that the future holds the request once.
        async move { sending.run().await }
    }
}

/// One request on its way, with all its attempts.
struct Sending<'a> {
    upstream: &'a Upstream,
    /// Lent to each attempt: what one has not used up is still there for the next one.
    request: Option<Request<Body>>,
    /// Why the request's body failed, where it has one and it did.
    fault: Option<Arc<OnceLock<Fault>>>,
    /// When the request came.
    now: Instant,
    deadline: Instant,
    options: SendOptions,
    idempotent: bool,
    again: Again,
}

/// What there is to send a request a second time, once it was written.
#[derive(Debug)]
enum Again {
    /// It must not be sent twice, or cannot be.
    Never,
    /// It has no body.
    Head,
    Body(SentBody),
}

impl Sending<'_> {
    async fn run(&mut self) -> Result<Response<Body>, UpstreamError> {
        let upstream = self.upstream;
        let (now, deadline, options) = (self.now, self.deadline, self.options);
        let mut avoid = None;
        let mut retried = 0;
        let mut renewed = false;
        loop {
            let place = upstream.choose(avoid)?;
            let target = &upstream.targets[place];
            let attempt = Attempt {
                upstream,
                target,
                now,
                deadline,
                options,
                fresh: renewed,
                again: &self.again,
            };
            let failed = match attempt.run(&mut self.request).await {
                Ok(response) => {
                    target.shared.succeeded();
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            if let Some(&fault) = self.fault.as_ref().and_then(|fault| fault.get()) {
                return Err(UpstreamError::HttpRequestError { fault });
            }
            let disposition = failed.error.disposition();
            let failure = Failure {
                progress: failed.progress,
                reused: failed.reused,
                retryable: disposition.retryable && Instant::now() < deadline,
                replayable: self.request.is_some(),
                idempotent: self.idempotent,
                retried,
                renewed,
            };
            let verdict = retry::decide(failure, upstream.group.settings.retries);
            if disposition.blames_target && verdict != Verdict::Renew {
                Counters::count(&target.counters.failures);
                upstream.group.failed(&target.shared);
            }
            match verdict {
                Verdict::Renew => renewed = true,
                Verdict::Retry if upstream.budget.borrow_mut().withdraw() => {
                    retried += 1;
                    avoid = Some(place);
                    Counters::count(&target.counters.retries);
                }
                Verdict::Retry | Verdict::GiveUp => return Err(failed.error),
            }
        }
    }
}

impl Upstream {
    fn choose(&self, avoid: Option<usize>) -> Result<usize, UpstreamError> {
        let turn = self.turn.get();
        if avoid.is_none() {
            self.turn.set(turn.wrapping_add(1)); // retries are not part of the turns
        }
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
struct Attempt<'a> {
    upstream: &'a Upstream,
    target: &'a LocalTarget,
    /// When the request came.
    now: Instant,
    deadline: Instant,
    options: SendOptions,
    /// On a connection of its own.
    fresh: bool,
    again: &'a Again,
}

impl Attempt<'_> {
    /// Sends what is in `request`, and leaves it there, or puts it back, where it can be sent again.
    async fn run(&self, request: &mut Option<Request<Body>>) -> Result<Response<Body>, Failed> {
        Counters::count(&self.target.counters.requests);
        match &self.target.pool {
            Pool::Http1(pool) => self.http1(pool, request).await,
            // Boxed: else its size would be that of every request's future.
            Pool::Http2(pool) => Box::pin(self.http2(pool, request)).await,
        }
    }

    async fn http1(
        &self,
        pool: &Rc<Http1Pool>,
        request: &mut Option<Request<Body>>,
    ) -> Result<Response<Body>, Failed> {
        let lease = Lease::new(self.target.counters.clone());
        if let Again::Never = self.again {
            // It must not meet a connection that the server has closed already: lets the runtime look at the sockets first.
            tokio::task::yield_now().await;
        }
        let idle = if self.fresh { None } else { pool.take_idle() };
        let (connection, reused) = match idle {
            Some(connection) => (connection, true),
            None => self.open_http1(pool).await?,
        };
        let next = request.as_mut().expect("an attempt is made with a request");
        *next.version_mut() = Version::HTTP_11;
        if self.options.host == Host::Target || !next.headers().contains_key(HOST) {
            next.headers_mut()
                .insert(HOST, self.target.shared.host.clone());
        }
        if next.headers().contains_key(TE) {
            // "MUST also send a TE connection option" (RFC 9110 section 10.1.4); HTTP/2 has no Connection field.
            next.headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("te"));
        }
        // Of one without body, what is written is read back, which costs less.
        let keep = matches!(self.again, Again::Head);
        // Boxed, as what is rare and would be part of every request's future.
        let spare = matches!(self.again, Again::Body(_)).then(|| Box::new(head_of(next)));
        let (serial, sending) = connection.send(request, self.now, self.deadline, keep);
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
            });
        };
        match sending.await {
            Ok(response) => {
                connection.responded(serial, response.headers());
                Ok(self.respond(response, lease))
            }
            Err(_) if connection.timed_out() => Err(self.timed_out()),
            Err(error) => {
                let failed = self.not_answered(error, request, reused);
                self.restore(request, || {
                    spare.map(|spare| *spare).or_else(|| connection.sent())
                });
                Err(failed)
            }
        }
    }

    async fn http2(
        &self,
        pool: &Rc<Http2Pool>,
        request: &mut Option<Request<Body>>,
    ) -> Result<Response<Body>, Failed> {
        let mut lease = Lease::new(self.target.counters.clone());
        let open = if self.fresh { None } else { pool.take_open() };
        let (connection, reused) = match open {
            Some(connection) => (connection, true),
            None => self.open_http2(pool).await?,
        };
        let taken = request.take().expect("an attempt is made with a request");
        let spare = (!matches!(self.again, Again::Never)).then(|| head_of(&taken));
        let taken = match self.absolute(taken) {
            Ok(taken) => taken,
            Err(error) => {
                return Err(Failed {
                    error,
                    progress: Progress::NotSent,
                    reused: false,
                });
            }
        };
        let (sending, stream) = connection.send(taken);
        lease._stream = Some(stream);
        match timeout_at(self.deadline, sending).await {
            Ok(Ok(response)) => Ok(self.respond(response, lease)),
            Ok(Err(error)) => {
                let failed = self.not_answered(error, request, reused);
                self.restore(request, || spare);
                Err(failed)
            }
            Err(_) => Err(self.timed_out()),
        }
    }

    /// Boxed, as [`Self::connect`] is: opening is rare, and would be half of the size of every request's future.
    fn open_http1<'a>(
        &'a self,
        pool: &'a Rc<Http1Pool>,
    ) -> Boxed<'a, Result<(Rc<Http1>, bool), Failed>> {
        Box::pin(async move {
            let until = self.connect_until();
            let opened = pool.acquire(self.fresh, until, self.connect(until)).await;
            opened.map_err(|none| self.not_connected(none))
        })
    }

    fn open_http2<'a>(
        &'a self,
        pool: &'a Rc<Http2Pool>,
    ) -> Boxed<'a, Result<(Rc<Http2>, bool), Failed>> {
        Box::pin(async move {
            let until = self.connect_until();
            let failed = |source| {
                let target = self.target.shared.authority();
                UpstreamError::HttpProtocolError {
                    target,
                    source: Some(source),
                }
            };
            let opened = pool
                .acquire(self.fresh, until, self.connect(until), failed)
                .await;
            opened.map_err(|none| self.not_connected(none))
        })
    }

    fn connect(&self, until: Instant) -> impl Future<Output = Result<Stream, UpstreamError>> + '_ {
        let group = &self.upstream.group;
        let (resolver, target) = (&self.upstream.resolver, &self.target.shared);
        async move {
            Counters::count(&self.target.counters.connects);
            connect::connect(
                resolver,
                target,
                group.tls.as_ref(),
                group.settings.protocol,
                until,
            )
            .await
        }
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
    fn absolute(&self, mut request: Request<Body>) -> Result<Request<Body>, UpstreamError> {
        let target = &self.target.shared;
        let own = request
            .headers_mut()
            .remove(HOST)
            .filter(|_| self.options.host == Host::Request);
        let host = own.unwrap_or_else(|| target.host.clone());
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = absolute_uri(request.uri(), target, &host).ok_or_else(|| {
            UpstreamError::HttpProtocolError {
                target: target.authority(),
                source: None,
            }
        })?;
        Ok(request)
    }

    fn not_connected(&self, none: NoConnection<UpstreamError>) -> Failed {
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
        }
    }

    /// Puts the request back where hyper had not written any of it.
    fn not_answered(
        &self,
        mut error: TrySendError<Request<Body>>,
        request: &mut Option<Request<Body>>,
        reused: bool,
    ) -> Failed {
        *request = error.take_message();
        let progress = if request.is_some() {
            Progress::NotSent
        } else {
            Progress::Sent
        };
        Failed {
            error: send_error(error.into_error(), &self.target.shared),
            progress,
            reused,
        }
    }

    /// Puts the request back as it was, where hyper kept it and there is what it takes to send it again.
    fn restore(
        &self,
        request: &mut Option<Request<Body>>,
        head: impl FnOnce() -> Option<Request<Body>>,
    ) {
        if request.is_none() {
            *request = head();
        }
        if let Again::Body(sent) = self.again {
            let whole = sent.again();
            *request = request
                .take()
                .zip(whole)
                .map(|(request, body)| request.map(|_| body));
        }
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

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

/// A request without its body, once more.
fn head_of(request: &Request<Body>) -> Request<Body> {
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
