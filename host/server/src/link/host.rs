//! What an origin answers over the link: requests that edges have admitted, and what nodes tell each other.

use std::cell::Cell;
use std::fmt::Display;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use rustls_pki_types::CertificateDer;
use tidegate_model::uri;
use tidegate_sandbox::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::told::TOLD;
use super::{ARTIFACTS, EVENTS, FILES, PING, RENEW, REPORT};
use crate::body::{Body, BoxError};
use crate::drain::Drain;
use crate::identity::{Authority, Identity, JOIN_PATH, Peer, REQUEST_BYTES_MAX, Role};
use crate::request::{forwarded, reply};
use crate::services::quota::ledger::{Settle, Settled, Settlement, settle};
use crate::sync::follow::Event;
use crate::sync::nodes::{Nodes, Report};
use crate::sync::publish::Publisher;
use crate::sync::purges::{Missed, Position, Purges};
use crate::telemetry::sparing::Sparing;
use crate::worker::Worker;

/// What all workers of an origin share for the nodes that link to it.
pub struct Shared {
    pub name: String,
    pub identity: Identity,
    /// Signs certificates; at one origin only.
    pub authority: Option<Arc<Authority>>,
    pub publisher: Arc<Publisher>,
    pub purges: Arc<Purges>,
    pub nodes: Arc<Nodes>,
    /// The way to the ledger of quotas: this node's, or that of the origin that it follows.
    pub ledger: mpsc::Sender<Settle>,
    pub runtime: Arc<Runtime>,
    /// Files that are being sent: each is in memory as a whole.
    pub sending: Arc<Semaphore>,
}

/// Answers on one worker.
pub struct Host {
    pub worker: Rc<Worker>,
    pub shared: Arc<Shared>,
    pub drain: Rc<Drain>,
    /// Joins that are being answered: strangers ask for those.
    pub joining: Cell<usize>,
    /// Of log lines about strangers.
    pub sparing: Sparing,
}

impl Host {
    /// Who a connection's certificate says it is.
    pub(super) fn peer_of(&self, certificate: &CertificateDer<'_>) -> Option<Peer> {
        let peer = self.shared.identity.peer_of(certificate);
        peer.inspect_err(|error| tracing::warn!(%error, "link: certificate refused"))
            .ok()
    }

    /// Says why a connection is not served: of another authority's node as well as of a stranger's.
    pub(super) fn turned_away(&self, from: SocketAddr, why: &dyn Display) {
        self.sparing.tell(|left_out| {
            tracing::warn!(%from, cause = %why, left_out, "link: turned away");
        });
    }

    /// Answers a request; `peer` is who the connection's certificate names.
    pub(super) async fn answer(
        &self,
        peer: Option<&Peer>,
        request: Request<Body>,
    ) -> Response<Body> {
        match peer {
            None => self.join(request).await,
            // Only what an edge forwards has the field: it removes what viewers send of that name.
            Some(_) if request.headers().contains_key(TOLD) => {
                forwarded::handle(&self.worker, request).await
            }
            Some(peer) => self.of_nodes(peer, request).await,
        }
    }

    async fn join(&self, request: Request<Body>) -> Response<Body> {
        if (request.method(), request.uri().path()) != (&Method::POST, JOIN_PATH) {
            return refuse(StatusCode::UNAUTHORIZED, "this needs a node's certificate");
        }
        let Some(authority) = self.shared.authority.clone() else {
            let message = "this origin signs no certificates: ask the first one of the region";
            return refuse(StatusCode::NOT_FOUND, message);
        };
        if self.joining.get() >= JOINING_MAX {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "too many join at once");
        }
        self.joining.set(self.joining.get() + 1);
        let _leaving = Leaving(&self.joining);
        let read = request.into_body().collect(REQUEST_BYTES_MAX as u64);
        let Ok(Ok(body)) = tokio::time::timeout(JOIN_TIMEOUT, read).await else {
            return refuse(StatusCode::BAD_REQUEST, "the request did not come whole");
        };
        // It flushes to the disk.
        let joined = tokio::task::spawn_blocking(move || authority.answer_join(&body)).await;
        match joined {
            Ok(Ok(answer)) => json(answer),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a node was not let in");
                let mut response = reply::json(&error.answer());
                *response.status_mut() = error.status();
                response
            }
            Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    async fn of_nodes(&self, peer: &Peer, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::GET, PING) => no_content(),
            (&Method::GET, EVENTS) => self.events(peer, request.uri().query().unwrap_or_default()),
            (&Method::POST, REPORT) => self.report(peer, request.into_body()).await,
            (&Method::POST, RENEW) => self.renew(peer, request.into_body()).await,
            (&Method::GET, path) => {
                if let Some(hash) = path.strip_prefix(FILES) {
                    return self.file(peer, hash).await;
                }
                if let Some(rest) = path.strip_prefix(ARTIFACTS) {
                    return self.artifact(rest).await;
                }
                refuse(StatusCode::NOT_FOUND, "no such resource of the link")
            }
            _ => refuse(StatusCode::NOT_FOUND, "no such resource of the link"),
        }
    }

    /// A file of the current snapshot. Functions are for origins only.
    async fn file(&self, peer: &Peer, hash: &str) -> Response<Body> {
        let may_have = self.shared.publisher.tells(|manifest| {
            manifest.files.contains_key(hash)
                && (peer.role == Role::Origin || !manifest.origins_only.contains(hash))
        });
        if !may_have {
            return refuse(StatusCode::NOT_FOUND, "no such file in the snapshot");
        }
        let permit = self.shared.sending.clone().acquire_owned().await.ok();
        let (publisher, hash) = (self.shared.publisher.clone(), hash.to_owned());
        match tokio::task::spawn_blocking(move || publisher.files.read(&hash)).await {
            Ok(Ok(content)) => Response::new(sent(content, permit)),
            Ok(Err(error)) => {
                tracing::error!("a file of the snapshot cannot be given out: {error:#}");
                refuse(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read")
            }
            Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    /// Machine code of a component, where it fits the node that asks.
    async fn artifact(&self, rest: &str) -> Response<Body> {
        let absent = || refuse(StatusCode::NOT_FOUND, "no such artifact");
        let Some((compatibility, hash)) = rest.split_once('/') else {
            return absent();
        };
        let publisher = &self.shared.publisher;
        let bound = publisher.tells(|manifest| manifest.components.contains(hash));
        if compatibility != self.shared.runtime.compatibility() || !bound {
            return absent();
        }
        let permit = self.shared.sending.clone().acquire_owned().await.ok();
        let (runtime, hash) = (self.shared.runtime.clone(), hash.to_owned());
        match tokio::task::spawn_blocking(move || runtime.artifact(&hash)).await {
            Ok(Some(code)) => Response::new(sent(Bytes::from(code), permit)),
            _ => absent(),
        }
    }

    async fn report(&self, peer: &Peer, body: Body) -> Response<Body> {
        let report = match body.collect(REPORT_BYTES_MAX).await {
            Ok(body) => serde_json::from_slice::<Report>(&body),
            Err(_) => return refuse(StatusCode::BAD_REQUEST, "the report did not come whole"),
        };
        match report {
            Ok(mut report) => {
                let settlement = report.quotas.take();
                let mut leases = self.shared.nodes.report(peer, report);
                if let Some(settlement) = settlement {
                    leases.quotas = self.settle(peer, settlement).await;
                }
                json(serde_json::to_vec(&leases).unwrap_or_default())
            }
            Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    }

    /// Settles quotas for a node, or for one that it speaks for: that is an origin's, since it passes on what edges ask it.
    async fn settle(&self, peer: &Peer, settlement: Settlement) -> Option<Settled> {
        let may = peer.role == Role::Origin || settlement.node == peer.name;
        if !may || !settlement.is_bounded() {
            tracing::warn!(node = peer.name, "link: a settlement of quotas is refused");
            return None;
        }
        let settled = settle(&self.shared.ledger, settlement).await;
        settled
            .inspect_err(|problem| tracing::debug!(problem, "quotas are not settled"))
            .ok()
    }

    async fn renew(&self, peer: &Peer, body: Body) -> Response<Body> {
        let Some(authority) = self.shared.authority.clone() else {
            return refuse(StatusCode::NOT_FOUND, "this origin signs no certificates");
        };
        let Ok(csr) = body.collect(REQUEST_BYTES_MAX as u64).await else {
            return refuse(StatusCode::BAD_REQUEST, "the request did not come whole");
        };
        let peer = peer.clone();
        let renewed = tokio::task::spawn_blocking(move || authority.answer_renewal(&peer, &csr));
        match renewed.await {
            Ok(Ok(answer)) => json(answer),
            Ok(Err(error)) => refuse(error.status(), &error.to_string()),
            Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    /// A response without end: a line for each event, from where the node stands.
    fn events(&self, peer: &Peer, query: &str) -> Response<Body> {
        let parameter = |name| uri::query_parameter(query, name).map(std::borrow::Cow::into_owned);
        let number = parameter("purge").and_then(|number| number.parse().ok());
        let position = Position {
            epoch: parameter("epoch").unwrap_or_default(),
            number: number.unwrap_or_default(),
        };
        let has = parameter("snapshot").unwrap_or_default();
        let (sender, receiver) = mpsc::channel(EVENTS_WAITING);
        let (shared, peer, drain) = (self.shared.clone(), peer.clone(), self.drain.clone());
        tokio::task::spawn_local(async move {
            let mut watcher = drain.watch();
            tokio::select! {
                () = watcher.draining() => {}
                _ = tell(&shared, &peer, position, has, &sender) => {}
            }
        });
        Response::new(Body::Boxed(UnsyncBoxBody::new(Lines(receiver))))
    }
}

/// Tells a node what happens; ends where it has left.
async fn tell(
    shared: &Shared,
    peer: &Peer,
    mut position: Position,
    mut has: String,
    lines: &mpsc::Sender<Bytes>,
) -> Option<()> {
    let mut published = shared.publisher.watch();
    let mut purged = shared.purges.watch();
    let _followed = shared.nodes.follow(peer);
    let serves = shared.publisher.current();
    let sequence = serves.map(|current| current.manifest.sequence);
    let name = shared.name.clone();
    say(lines, &Event::Hello { name, sequence }).await?;
    let mut tried = None; // as who begins to follow has it
    loop {
        // A packet that is lost is missed only when a later one arrives: two follow what is told, a moment apart.
        let mut pauses = ECHOES.into_iter().chain(std::iter::repeat(BEAT_EVERY));
        // Purges first: what was purged before a node knew of it is gone before it is told anything else.
        purged.borrow_and_update();
        published.borrow_and_update();
        match shared.purges.since(&position) {
            Missed::These(missed) if missed.len() <= MISSED_MAX => {
                for one in missed {
                    position.number = one.number;
                    let at = position.clone();
                    say(
                        lines,
                        &Event::Purge {
                            query: one.query,
                            at,
                        },
                    )
                    .await?;
                }
            }
            Missed::These(_) | Missed::Unknown => {
                position = shared.purges.position();
                let at = position.clone();
                say(lines, &Event::PurgeAll { at }).await?;
            }
        }
        if let Some(current) = shared
            .publisher
            .current()
            .filter(|current| *current.id != *has)
        {
            has = current.id.to_string();
            let manifest = Box::new(current.manifest.clone());
            say(lines, &Event::Snapshot { manifest }).await?;
        }
        let trial = shared.publisher.trial();
        if trial != tried {
            tried.clone_from(&trial);
            let trial = trial.map(|trial| Box::new((*trial).clone()));
            say(lines, &Event::Trial { trial }).await?;
        }
        loop {
            say(lines, &Event::Beat).await?;
            tokio::select! {
                _ = purged.changed() => break,
                _ = published.changed() => break,
                () = tokio::time::sleep(pauses.next()?) => {}
            }
        }
    }
}

async fn say(lines: &mpsc::Sender<Bytes>, event: &Event) -> Option<()> {
    let mut line = serde_json::to_vec(event).ok()?;
    line.push(b'\n');
    lines.send(line.into()).await.ok()
}

/// Lines as they are sent.
struct Lines(mpsc::Receiver<Bytes>);

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0
            .poll_recv(cx)
            .map(|line| Some(Ok(Frame::data(line?))))
    }
}

struct Leaving<'a>(&'a Cell<usize>);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A file, in memory until it has been sent.
fn sent(content: Bytes, permit: Option<OwnedSemaphorePermit>) -> Body {
    let frame = stream::once(async move {
        let _permit = permit;
        Ok::<_, BoxError>(Frame::data(content))
    });
    Body::Boxed(UnsyncBoxBody::new(StreamBody::new(frame)))
}

fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn json(content: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from(content)));
    let media_type = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

fn refuse(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = reply::json(&serde_json::json!({ "message": message }));
    *response.status_mut() = status;
    response
}

/// Strangers, of one worker.
const JOINING_MAX: usize = 16;
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
const REPORT_BYTES_MAX: u64 = 1 << 20;
/// Events that a slow node has not taken; more wait where they are made.
const EVENTS_WAITING: usize = 16;
/// Each is looked for among all that is stored, and flushed: who missed more forgets everything, which is done sooner.
const MISSED_MAX: usize = 100;
const BEAT_EVERY: Duration = Duration::from_secs(1);
const ECHOES: [Duration; 2] = [Duration::from_millis(8), Duration::from_millis(16)];
