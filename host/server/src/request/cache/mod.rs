//! Whether a response that is stored answers the request, and what is stored of the integration's answer.
//!
//! Kept is what the integration said, before response transforms: they are applied for each viewer, to what comes from
//! store as to what is new, so that nothing that a transform writes of one caller reaches another. What a request transform
//! answers by itself is never kept.
//!
//! [`respond`] is the way through; `look` is all that a hit in memory costs; [`serve`] makes a response of a stored one. What
//! is not there is asked for by [`fetch`], as [`asking`] puts the question, and [`keep`] decides by the answer.

mod asking;
mod fetch;
mod keep;
mod serve;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::RANGE;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body as _;
use tidegate_model::cache::directives::RequestDirectives;
use tidegate_model::cache::key::{self, Asker, Target};
use tidegate_model::cache::policy::{Mode, Policy, Strategy, Wish};
use tidegate_model::cache::reuse::Reuse;
use tidegate_model::cache::status::Forwarded;
use tidegate_model::cache::{forward, invalidate, validate};
use tidegate_model::deployment::Route;

use super::policy::may_invalidate;
use super::{Exchange, GatewayError};
use crate::body::Body;
use crate::cache::doubt::Url;
use crate::cache::store::Entry;
use crate::cache::stored::Stored;
use crate::cache::{Cache, Outcome};
use crate::worker::{Local, Worker};

use asking::Asking;
use fetch::fetch;

/// Answers by a stored response, or by what the integration says. Gatekeeping has let the request through.
///
/// # Errors
/// Where the viewer wants a stored response or none, where it may not ask for another one, and the integration's, where
/// nothing stored may stand in for it.
///
/// # Cancel safety
/// As [`fetch`].
pub async fn respond(
    worker: &Rc<Worker>,
    local: &Rc<Local>,
    route: &Route,
    policy: &Arc<Policy>,
    exchange: &mut Arc<Exchange>,
    body: &mut Body,
) -> Result<Response<Body>, GatewayError> {
    if worker.cache.behind.is_so() {
        Box::pin(worker.cache.behind.over()).await;
    }
    let mut found = look(worker, local, route, policy, exchange, body, Tier::Memory)?;
    // What follows is boxed: else its size would be that of every request's future.
    if let Lookup::Promote(key) = &found {
        Box::pin(worker.cache.promote(key)).await;
        found = look(worker, local, route, policy, exchange, body, Tier::Disk)?;
    }
    match found {
        Lookup::Served(response) => Ok(response),
        Lookup::Ask(asking) => Box::pin(fetch(worker, local, route, exchange, body, asking)).await,
        Lookup::Promote(_) => unreachable!("the disk has been asked"),
    }
}

/// What the store says of a request.
enum Lookup {
    /// It is answered.
    Served(Response<Body>),
    /// The disk may have what memory has not, under this key.
    Promote(Vec<u8>),
    /// The integration is to be asked.
    Ask(Box<Asking>),
}

/// How far has been looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tier {
    Memory,
    Disk,
}

/// Looks for a stored response.
fn look(
    worker: &Rc<Worker>,
    local: &Rc<Local>,
    route: &Route,
    policy: &Arc<Policy>,
    exchange: &Exchange,
    body: &Body,
    tier: Tier,
) -> Result<Lookup, GatewayError> {
    let cache = &worker.cache;
    let request = &exchange.head.headers;
    let http = policy.mode == Mode::Http;
    let method = &exchange.head.method;
    // What is taken as a GET is one for all that follows, but for the integration and for its key.
    let as_get = policy.takes_any_method() && !method.is_safe();
    let method = if as_get { &Method::GET } else { method };
    let empty = body.is_end_stream() && exchange.body.as_ref().is_none_or(bytes::Bytes::is_empty);
    let why_not = match *method {
        Method::GET if empty || as_get => None,
        Method::HEAD if empty && http => None,
        // "content received in a GET request has no generally defined semantics" (RFC 9110 §9.3.1): an origin that gives
        // it some would answer others by it.
        Method::GET | Method::HEAD => Some(Forwarded::Bypass),
        _ => Some(Forwarded::Method),
    };
    if let Some(why) = why_not {
        let mut asking = Asking::new(cache, local, route, policy, exchange, why);
        if http && *method == Method::POST && !forward::has_overrides(request) {
            asking.keeps = true; // for later GETs, where the origin says that they would be answered so
            asking.key = key_of(local, route, policy, exchange);
        }
        return Ok(Lookup::Ask(Box::new(asking)));
    }
    if validate::is_for_the_origin(request) {
        let asking = Asking::new(cache, local, route, policy, exchange, Forwarded::Request);
        return Ok(Lookup::Ask(Box::new(asking)));
    }

    let (directives, wish) = match &policy.mode {
        Mode::Http => (RequestDirectives::read(request), Wish::None),
        Mode::Stage(stage) => {
            let may_invalidate = || may_invalidate(exchange);
            let wish = stage.wish(&RequestDirectives::read(request), may_invalidate);
            (RequestDirectives::default(), wish)
        }
    };
    if wish == Wish::Unauthorized(Strategy::Fail) {
        return Err(GatewayError::InvalidationForbidden);
    }
    let warns = wish == Wish::Unauthorized(Strategy::Warn);
    let key = key_of(local, route, policy, exchange);
    let now = seconds(exchange.began_at);
    let entry = cache.store.get(&key);
    if entry.is_none() && tier == Tier::Memory && cache.store.may_promote(&key) {
        return Ok(Lookup::Promote(key));
    }
    let found = entry.as_deref().and_then(|entry| entry.select(request));
    let reuse = found.map(|stored| match wish {
        Wish::Invalidate => Reuse::Validate,
        _ => reuse(cache, stored, &directives, now),
    });
    let why = match (found, reuse) {
        (Some(stored), Some(Reuse::Fresh | Reuse::Stale | Reuse::StaleWhileRevalidate))
            if !serve::has(stored, method, request) =>
        {
            Forwarded::Partial
        }
        (
            Some(stored),
            Some(reuse @ (Reuse::Fresh | Reuse::Stale | Reuse::StaleWhileRevalidate)),
        ) => {
            let whole = needs_whole(local, route);
            let mut response = serve::hit(stored, exchange, now, whole);
            if warns {
                serve::warn(response.headers_mut());
            }
            let outcome = match reuse {
                Reuse::Fresh => Outcome::Hit,
                _ => Outcome::Stale,
            };
            worker.count_cached(outcome);
            if reuse == Reuse::StaleWhileRevalidate {
                let mut asking =
                    Asking::new(cache, local, route, policy, exchange, Forwarded::Stale);
                asking.key = key;
                asking.keeps = true;
                asking.stored = Some(stored.clone());
                asking.stands_in = true;
                fetch::behind(worker, local, exchange, asking);
            }
            return Ok(Lookup::Served(response));
        }
        (Some(stored), _) if stored.span.time_left(now) > 0 => Forwarded::Request,
        (Some(_), _) => Forwarded::Stale,
        (None, _) => match &entry {
            Some(entry) if !entry.responses.is_empty() => Forwarded::VaryMiss,
            _ => Forwarded::UriMiss,
        },
    };
    // "a cache … SHOULD either respond using a stored response consistent with the other constraints of the request or
    // respond with a 504" (RFC 9111 §5.2.1.7)
    if directives.only_if_cached {
        return Err(GatewayError::NotStored);
    }
    let mut asking = Asking::new(cache, local, route, policy, exchange, why);
    asking.key = key;
    asking.directives = directives;
    asking.warns = warns;
    // "MUST NOT store any part of either this request or any response to it" (§5.2.1.5)
    asking.keeps = !directives.no_store;
    asking.stands_in = found.is_some_and(|stored| !cache.store.is_doubtful(stored));
    asking.method = method.clone();
    // A validator is for GET.
    asking.stored = found
        .filter(|_| wish != Wish::Invalidate && !as_get)
        .cloned();
    if wish == Wish::Invalidate
        && let Some(stored) = found
    {
        // Also where another URL has the same key, and where the process ends before the new one is written.
        cache.store.doubt_stored(stored);
        asking.mark = cache.store.mark(&url_of(exchange));
    }
    let apart = entry.is_some_and(|entry| entry.apart_until > now);
    asking.waits = asking.keeps && *method == Method::GET && !apart && wish != Wish::Invalidate;
    asking.leads = asking.waits && !request.contains_key(RANGE);
    Ok(Lookup::Ask(Box::new(asking)))
}

/// After a response to an unsafe request: what is stored of its URL, and of those that it names, is doubtful.
///
/// Source: RFC 9111 §4.4.
///
/// `host` is the request's: its fields may be gone by then. It returns when the changes would outlive the process.
pub async fn invalidate(
    worker: &Worker,
    exchange: &Exchange,
    host: Option<&str>,
    status: StatusCode,
    response: &HeaderMap,
) {
    if !invalidate::invalidates(&exchange.head.method, status) {
        return;
    }
    let scope = &exchange.stage.scope;
    let doubt = |path_and_query: &str| {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        worker.cache.store.doubt(&Url { scope, path, query });
    };
    worker.cache.store.doubt(&url_of(exchange));
    let own = path_and_query(exchange);
    for location in invalidate::also(response, &own, |other| is_same(host, other)) {
        doubt(&location);
        // An origin that knows where it is reached writes its stage as well.
        let stage = &exchange.head.uri.path()[..exchange.path_offset];
        if let Some(below) = location.strip_prefix(stage).filter(|_| !stage.is_empty()) {
            doubt(below);
        }
    }
    settle(worker).await;
}

/// Waits until the changes would outlive the process. They hold already.
async fn settle(worker: &Worker) {
    if !worker.cache.store.settle(SETTLE_WAIT).await {
        tracing::warn!(
            "a change may be forgotten with the process: the cache's disk does not take it"
        );
    }
}

/// Whether a stored response may be used, what was changed since it was asked for included.
fn reuse(cache: &Cache, stored: &Arc<Stored>, directives: &RequestDirectives, now: u64) -> Reuse {
    if cache.store.is_doubtful(stored) {
        return Reuse::Validate;
    }
    stored.span.reuse(directives, now, stored.is_purged())
}

fn key_of(local: &Local, route: &Route, policy: &Policy, exchange: &Exchange) -> Vec<u8> {
    let principal = exchange.account.principal.as_ref();
    let caller = principal.map_or(("", ""), |principal| {
        let key = principal.usage_identifier_key.as_deref();
        (principal.id.as_str(), key.unwrap_or_default())
    });
    let asker = Asker {
        tls: exchange.viewer.tls,
        port: exchange.viewer.port,
        caller: policy.by_caller.then_some(caller),
    };
    let path = exchange.matched_path();
    let target = Target {
        scope: &exchange.stage.scope,
        host: exchange.host().unwrap_or_default(),
        path,
        query: exchange.head.uri.query(),
    };
    let mut key = Vec::with_capacity(96);
    let parameter = |name: &str| route.parameter(name, &exchange.params, path);
    key::write_by_parameters(
        &mut key,
        &target,
        &asker,
        policy,
        &exchange.head.headers,
        parameter,
    );
    let method = &exchange.head.method;
    if policy.takes_any_method() && !method.is_safe() {
        key.push(METHOD);
        key.extend_from_slice(method.as_str().as_bytes());
    }
    if local.is_canary() {
        key.push(CANARY); // what a version on trial made goes with it
    }
    if exchange.for_edge {
        key.push(EDGE); // stored with what is for caches only
    }
    key
}

fn url_of(exchange: &Exchange) -> Url<'_> {
    Url {
        scope: &exchange.stage.scope,
        path: exchange.matched_path(),
        query: exchange.head.uri.query(),
    }
}

fn path_and_query(exchange: &Exchange) -> String {
    match exchange.head.uri.query() {
        Some(query) => format!("{}?{query}", exchange.matched_path()),
        None => exchange.matched_path().to_owned(),
    }
}

fn is_same(host: Option<&str>, other: &str) -> bool {
    host.is_some_and(|host| host.eq_ignore_ascii_case(other))
}

/// Whether something after the cache wants the whole of a response: a part is not enough then.
fn needs_whole(local: &Local, route: &Route) -> bool {
    route
        .pipeline
        .response_transforms
        .iter()
        .any(|&id| local.pool(id).binding().needs.response_body)
}

/// The response among those of an entry that a request selects and may use, or may use since it has waited for it.
fn usable<'e>(
    cache: &Cache,
    entry: &'e Entry,
    method: &Method,
    request: &HeaderMap,
    directives: &RequestDirectives,
    now: u64,
    waited_since: Option<u64>,
) -> Option<&'e Arc<Stored>> {
    let stored = entry.select(request)?;
    if !serve::has(stored, method, request) || cache.store.is_doubtful(stored) {
        return None;
    }
    let reusable = reuse(cache, stored, directives, now) != Reuse::Validate;
    let new = waited_since.is_some_and(|since| stored.span.received_at() >= since)
        && !stored.is_purged()
        && stored.span.serves_who_waited(directives);
    (reusable || new).then_some(stored)
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Longer than a disk that is well needs for a few bytes.
const SETTLE_WAIT: Duration = Duration::from_secs(1);
/// After the last piece of a key.
const CANARY: u8 = b'c';
const EDGE: u8 = b'e';
const METHOD: u8 = b'm';
