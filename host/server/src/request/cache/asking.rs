//! A question to the integration: what it is about, how it is put, and who else waits for its answer.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, Response};
use tidegate_model::cache::directives::RequestDirectives;
use tidegate_model::cache::policy::{Mode, Policy};
use tidegate_model::cache::range;
use tidegate_model::cache::reuse::Span;
use tidegate_model::cache::status::{self, Forwarded};
use tidegate_model::cache::targeted::{SURROGATE_CAPABILITY, surrogate_capability};
use tidegate_model::cache::{forward, validate, vary};
use tidegate_model::deployment::Route;
use tokio::time::timeout_at;

use super::{needs_whole, seconds, serve, url_of, usable};
use crate::body::Body;
use crate::cache::flight::{Joined, Landed, Leader};
use crate::cache::store::Mark;
use crate::cache::stored::Stored;
use crate::cache::{Cache, Outcome};
use crate::request::Exchange;
use crate::worker::{Local, Worker};

/// A question to the integration.
pub struct Asking {
    pub(super) policy: Arc<Policy>,
    pub(super) why: Forwarded,
    pub(super) key: Vec<u8>,
    pub(super) method: Method,
    /// As it was asked for.
    pub(super) host: Option<String>,
    /// The request's fields, as they came.
    pub(super) request: HeaderMap,
    pub(super) directives: RequestDirectives,
    /// What is stored and may still hold.
    pub(super) stored: Option<Arc<Stored>>,
    /// Whether that may be served where the integration fails: not after it was changed.
    pub(super) stands_in: bool,
    /// Whether the answer may be stored.
    pub(super) keeps: bool,
    /// Whether it waits where another request asks the same.
    pub(super) waits: bool,
    /// Whether others may wait for it.
    pub(super) leads: bool,
    /// The viewer is told that its wish was not heard.
    pub(super) warns: bool,
    /// A part is not enough for what comes after.
    pub(super) whole: bool,
    /// An edge asks, which keeps the answer too.
    pub(super) for_edge: bool,
    pub(super) mark: Mark,
    began_at: u64,
}

/// What the integration is asked, of what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// As the viewer has it.
    Plain,
    /// Whether what is stored still holds.
    Validate,
    /// What is missing of it.
    Rest(u64),
}

impl Asking {
    pub(super) fn new(
        cache: &Cache,
        local: &Local,
        route: &Route,
        policy: &Arc<Policy>,
        exchange: &Exchange,
        why: Forwarded,
    ) -> Self {
        Self {
            policy: policy.clone(),
            why,
            key: Vec::new(),
            method: exchange.head.method.clone(),
            host: exchange.host().map(str::to_owned),
            request: exchange.head.headers.clone(),
            directives: RequestDirectives::default(),
            stored: None,
            stands_in: false,
            keeps: false,
            waits: false,
            leads: false,
            warns: false,
            whole: needs_whole(local, route),
            for_edge: exchange.for_edge,
            mark: cache.store.mark(&url_of(exchange)),
            began_at: seconds(exchange.began_at),
        }
    }

    pub(super) fn is_http(&self) -> bool {
        self.policy.mode == Mode::Http
    }

    /// What is asked of the integration first.
    pub(super) fn question(&self) -> Question {
        let Some(stored) = &self.stored else {
            return Question::Plain;
        };
        if let Some(part) = stored.part() {
            let fresh = stored.span.time_left(seconds(SystemTime::now())) > 0;
            let whole_wanted = self.method == Method::GET && !self.request.contains_key(RANGE);
            let held = part.as_far_as(stored.body().len() as u64);
            return match held.and_then(|held| held.rest()) {
                Some(range::Asked::From(first, _)) if fresh && whole_wanted => {
                    Question::Rest(first)
                }
                _ => Question::Plain,
            };
        }
        if self.method == Method::GET && validate::has_validator(&stored.headers()) {
            return Question::Validate;
        }
        Question::Plain
    }

    /// Makes the request one whose answer others may get.
    pub(super) fn prepare(&self, headers: &mut HeaderMap, question: Question, leads: bool) {
        if !self.keeps {
            return;
        }
        if self.method != Method::POST {
            forward::remove_overrides(headers, &self.policy);
        }
        if self.is_http() {
            // Ours alone: an origin answers by it, and not to who made it up only.
            headers.insert(SURROGATE_CAPABILITY, surrogate_capability());
        }
        match (question, &self.stored) {
            (Question::Validate, Some(stored)) => {
                headers.remove(RANGE);
                validate::ask_by(headers, &stored.headers());
            }
            (Question::Rest(first), Some(stored)) => {
                let rest = range::Asked::From(first, None).to_string();
                if let Ok(rest) = HeaderValue::from_str(&rest) {
                    headers.insert(RANGE, rest);
                }
                let fields = stored.headers();
                let etag = validate::strong_etag(&fields).map(HeaderValue::from_bytes);
                if let Some(Ok(etag)) = etag {
                    headers.insert(IF_RANGE, etag);
                }
            }
            // What the viewer holds is compared with the answer when it has come: it is for the others too.
            _ if leads => {
                headers.remove(IF_NONE_MATCH);
                headers.remove(IF_MODIFIED_SINCE);
            }
            _ => {}
        }
    }
}

/// What waiting came to.
pub enum Waited {
    Served(Response<Body>),
    /// It asks for itself: for others as well, where it leads.
    Asks(Option<Leader>),
}

impl Asking {
    /// Waits for who asks the same, at most as long as the node says; leads where nobody does.
    pub(super) async fn wait(&mut self, worker: &Worker) -> Waited {
        if !self.waits {
            return Waited::Asks(None);
        }
        let cache = &worker.cache;
        let deadline = tokio::time::Instant::now() + cache.wait;
        loop {
            let flight = self.flight(cache);
            let mut follower = match cache.flights.join(&flight) {
                Joined::Leads(leader) => {
                    // Who led until a moment ago may have stored it.
                    if let Some(response) = self.served(worker, None) {
                        leader.land(Landed::Stored);
                        return Waited::Served(response);
                    }
                    return Waited::Asks(Some(leader).filter(|_| self.leads));
                }
                Joined::Follows(follower) => follower,
            };
            let waiting = cache.waits();
            let landed = timeout_at(deadline, follower.landed()).await;
            drop(waiting);
            match landed {
                Ok(Landed::Abandoned) => {}
                Ok(Landed::Stored) => {
                    if let Some(response) = self.served(worker, Some(self.began_at)) {
                        return Waited::Served(response);
                    }
                    // It varies on what this request says otherwise: those that say the same wait for each other.
                    if self.flight(cache) == flight {
                        return Waited::Asks(None);
                    }
                }
                Ok(Landed::Apart) | Err(_) => return Waited::Asks(None),
            }
        }
    }

    /// The response to another request, where it is one to this.
    fn served(&self, worker: &Worker, waited_since: Option<u64>) -> Option<Response<Body>> {
        let now = seconds(SystemTime::now());
        let entry = worker.cache.store.get(&self.key)?;
        let stored = usable(
            &worker.cache,
            &entry,
            &self.method,
            &self.request,
            &self.directives,
            now,
            waited_since,
        )?;
        worker.count_cached(Outcome::Collapsed);
        let told = status::collapsed(self.why);
        Some(self.respond(stored, now, &told))
    }

    pub(super) fn respond(&self, stored: &Arc<Stored>, now: u64, told: &str) -> Response<Body> {
        let asked = serve::Asked {
            method: &self.method,
            headers: &self.request,
            whole: self.whole,
            for_edge: self.for_edge,
        };
        let mut response = serve::response(stored, &asked, now, told);
        if self.warns {
            serve::warn(response.headers_mut());
        }
        response
    }

    /// By what requests wait for each other: the key, and what the stored response varies on.
    fn flight(&self, cache: &Cache) -> Vec<u8> {
        let mut flight = self.key.clone();
        let entry = cache.store.get(&self.key);
        let newest = entry.as_ref().and_then(|entry| entry.responses.first());
        if let Some(by) = newest.and_then(|stored| stored.selected_by()) {
            flight.extend_from_slice(&vary::selecting(&by.names, &self.request));
        }
        flight
    }

    pub(super) fn try_lead(&self, cache: &Cache) -> Option<Leader> {
        match cache.flights.join(&self.flight(cache)) {
            Joined::Leads(leader) => Some(leader),
            Joined::Follows(_) => None,
        }
    }
}

impl Asking {
    /// What is stored, where it may be served though the integration fails.
    pub(super) fn stand_in(
        &self,
        now: u64,
        covers: fn(&Span, &RequestDirectives, u64) -> bool,
    ) -> Option<&Arc<Stored>> {
        let stored = self.stored.as_ref().filter(|_| self.stands_in)?;
        let covers = covers(&stored.span, &self.directives, now);
        (covers && serve::has(stored, &self.method, &self.request)).then_some(stored)
    }
}
