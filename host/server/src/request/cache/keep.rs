//! What the integration's answer means for the viewer and for the store.

use std::sync::Arc;

use http::header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, DATE, SET_COOKIE};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;
use tidegate_model::cache::freshness::{Lifetime, initial_age};
use tidegate_model::cache::policy::Mode;
use tidegate_model::cache::range::{self, Part};
use tidegate_model::cache::reuse::Span;
use tidegate_model::cache::status::{self, Forwarded};
use tidegate_model::cache::storable::{Answered, Storability, storability};
use tidegate_model::cache::targeted::{SURROGATE_CONTROL, Told};
use tidegate_model::cache::vary::{self, Vary};
use tidegate_model::cache::{date, validate};

use super::asking::{Asking, Question};
use super::{invalidate, is_same, path_and_query, serve, url_of};
use crate::body::Body;
use crate::cache::Outcome;
use crate::cache::fill::Fill;
use crate::cache::flight::{Landed, Leader};
use crate::cache::stored::{Content, Fields, Rare, SelectedBy, Stored};
use crate::request::{Exchange, GatewayError};
use crate::worker::Worker;

/// The circumstances of an answer.
pub struct Came<'a> {
    pub worker: &'a Worker,
    pub exchange: &'a Exchange,
    pub asked_at: u64,
    pub now: u64,
}

/// What becomes of it.
pub enum Taken {
    Response(Response<Body>),
    /// The answer is about something else than what is stored.
    Again,
}

impl Came<'_> {
    /// What an answer means for the viewer and for the store.
    pub async fn take(
        self,
        asking: &mut Asking,
        question: Question,
        response: Response<Body>,
        leader: &mut Option<Leader>,
    ) -> Result<Taken, GatewayError> {
        let (head, body) = response.into_parts();
        let status = head.status;
        if status == StatusCode::NOT_MODIFIED
            && question == Question::Validate
            && let Some(stored) = &asking.stored
        {
            if !validate::answers(&head.headers, &stored.headers()) {
                self.worker.cache.store.forget(&asking.key, stored);
                return Ok(Taken::Again);
            }
            let renewed = self.renew(asking, stored, &head);
            land(leader, Landed::Stored);
            self.worker.count_cached(Outcome::Revalidated);
            let told = status::forwarded(asking.why, Some(304), Ok(()));
            return Ok(Taken::Response(asking.respond(&renewed, self.now, &told)));
        }
        // "error is any situation that would result in a 500, 502, 503, or 504" (RFC 5861 §4)
        if matches!(status.as_u16(), 500 | 502 | 503 | 504)
            && let Some(stored) = asking.stand_in(self.now, Span::covers_errors)
        {
            land(leader, Landed::Apart);
            self.worker.count_cached(Outcome::Stale);
            let told = status::hit(stored.span.time_left(self.now));
            return Ok(Taken::Response(asking.respond(stored, self.now, &told)));
        }
        if status == StatusCode::PARTIAL_CONTENT
            && matches!(question, Question::Rest(_))
            && let Some(stored) = &asking.stored
        {
            let part = range::content_range(&head.headers);
            let fields = stored.headers();
            let held = stored.part();
            let held = held.and_then(|part| part.as_far_as(stored.body().len() as u64));
            let continues = held.zip(part).is_some_and(|(held, part)| {
                held.is_continued_by(&fields, &part, &head.headers)
                    && part.total.is_some_and(|total| part.last + 1 == total)
            });
            if !continues {
                self.worker.cache.store.forget(&asking.key, stored);
                return Ok(Taken::Again);
            }
            let begun = stored.content();
            return Ok(Taken::Response(
                self.complete(asking, fields, head, body, begun, leader),
            ));
        }
        if asking.method == Method::HEAD && asking.is_http() {
            self.compare(asking, &head);
        }
        if !asking.method.is_safe() && asking.is_http() {
            let host = asking.host.as_deref();
            invalidate(self.worker, self.exchange, host, status, &head.headers).await;
        }
        self.worker.count_cached(match asking.why {
            Forwarded::Bypass | Forwarded::Method => Outcome::Bypass,
            _ => Outcome::Miss,
        });
        self.pass_on(asking, head, body, leader).await
    }

    /// The answer goes to the viewer, and into the store where it may.
    async fn pass_on(
        &self,
        asking: &mut Asking,
        mut head: Parts,
        body: Body,
        leader: &mut Option<Leader>,
    ) -> Result<Taken, GatewayError> {
        let told = Told::read(&head.headers);
        let verdict = self.verdict(asking, &head, &told, &body);
        if asking.is_http() && !asking.for_edge {
            head.headers.remove(SURROGATE_CONTROL); // "for surrogates only"
        }
        let warns = |headers: &mut HeaderMap| {
            if asking.warns {
                serve::warn(headers);
            }
        };
        let lifetime = match verdict {
            Ok(lifetime) => lifetime,
            Err(why) => {
                if leader.is_some() {
                    let until = self.now + APART_FOR;
                    self.worker.cache.store.keep_apart(&asking.key, until);
                }
                // What is stored for such requests is no longer what they get.
                if let Some(stored) = asking.stored.as_ref().filter(|_| {
                    asking.keeps && asking.method == Method::GET && !head.status.is_server_error()
                }) {
                    self.worker.cache.store.forget(&asking.key, stored);
                }
                land(leader, Landed::Apart);
                let entry = status::forwarded(asking.why, None, Err(why));
                serve::tell(&mut head.headers, &entry);
                warns(&mut head.headers);
                return Ok(Taken::Response(Response::from_parts(head, body)));
            }
        };
        if asking.method == Method::POST {
            // What was stored before the request that it answers is doubtful; this is not.
            asking.mark = self.worker.cache.store.mark(&url_of(self.exchange));
        }
        let fill = self.fill(asking, &head, &told, lifetime, leader.take());
        let entry = status::forwarded(asking.why, None, Ok(()));
        let conditional = validate::is_conditional(&asking.request) && asking.method == Method::GET;
        let known = body.size_hint().exact().is_some();
        if conditional
            && known
            && head.status.is_success()
            && validate::is_not_modified(&asking.request, &head.headers)
        {
            let stored = fill.read(body).await.map_err(GatewayError::ResponseBody)?;
            return Ok(Taken::Response(asking.respond(&stored, self.now, &entry)));
        }
        serve::tell(&mut head.headers, &entry);
        warns(&mut head.headers);
        Ok(Taken::Response(Response::from_parts(head, fill.of(body))))
    }

    /// For how long the answer is stored, or a word for why it is not.
    fn verdict(
        &self,
        asking: &Asking,
        head: &Parts,
        told: &Told,
        body: &Body,
    ) -> Result<Lifetime, &'static str> {
        if !asking.keeps {
            return Err("");
        }
        let Parts {
            status, headers, ..
        } = head;
        let lifetime = asking.policy.lifetime(*status, headers, told, self.now);
        let answered = Answered {
            method: &asking.method,
            request: &asking.request,
            status: *status,
            response: headers,
            told,
            lifetime,
            of_one_caller: asking.policy.is_of_one_caller(&asking.request),
            shares_set_cookie: asking.policy.shares_set_cookie,
        };
        if let Storability::Not(why) = storability(&answered) {
            return Err(why);
        }
        if asking.method == Method::POST && !self.is_own_representation(asking, headers) {
            return Err("method");
        }
        // "A cache MUST NOT store incomplete or partial-content responses if it does not support the Range and
        // Content-Range header fields" (RFC 9111 §3.3); several parts at once are none that is known here.
        if *status == StatusCode::PARTIAL_CONTENT && range::content_range(headers).is_none() {
            return Err("status");
        }
        let bytes = body.size_hint().lower();
        if bytes > self.worker.cache.body_bytes_max {
            return Err("too-large");
        }
        Ok(lifetime)
    }

    fn is_own_representation(&self, asking: &Asking, headers: &HeaderMap) -> bool {
        let is_host = |host: &str| is_same(asking.host.as_deref(), host);
        let below = path_and_query(self.exchange);
        let whole = self.exchange.head.uri.path_and_query();
        validate::is_own_representation(headers, &below, is_host)
            || whole.is_some_and(|whole| {
                validate::is_own_representation(headers, whole.as_str(), is_host)
            })
    }

    fn fill(
        &self,
        asking: &Asking,
        head: &Parts,
        told: &Told,
        lifetime: Lifetime,
        leader: Option<Leader>,
    ) -> Fill {
        let part = match head.status {
            StatusCode::PARTIAL_CONTENT => range::content_range(&head.headers),
            _ => None,
        };
        let span = self.span(asking, &head.headers, told, lifetime);
        Fill {
            cache: self.worker.cache.clone(),
            key: asking.key.clone(),
            stored: self.stored(asking, head.status, &head.headers, told, span, part),
            leader,
            apart_until: self.now + APART_FOR,
            begun: bytes::Bytes::new(),
        }
    }

    fn span(&self, asking: &Asking, headers: &HeaderMap, told: &Told, lifetime: Lifetime) -> Span {
        match &asking.policy.mode {
            Mode::Http => {
                let age = initial_age(headers, self.asked_at, self.now);
                Span::new(told, lifetime, age, self.now)
            }
            Mode::Stage(stage) => Span::fixed(stage.ttl, self.now),
        }
    }

    /// A response as it is stored, without its body.
    fn stored(
        &self,
        asking: &Asking,
        status: StatusCode,
        headers: &HeaderMap,
        told: &Told,
        span: Span,
        part: Option<Part>,
    ) -> Stored {
        let mut kept = headers.clone();
        for name in told.directives.fields_not_stored() {
            kept.remove(name);
        }
        for name in NOT_STORED {
            kept.remove(name);
        }
        if asking.is_http() {
            if !asking.for_edge {
                kept.remove(SURROGATE_CONTROL);
            }
        } else if !asking.policy.shares_set_cookie {
            kept.remove(SET_COOKIE);
        }
        // "A recipient with a clock that receives a response message without a Date header field MUST record the time it
        // was received and append a corresponding Date header field" (RFC 9110 §6.6.1)
        if !kept.contains_key(DATE)
            && let Ok(date) = HeaderValue::from_str(&date::format(self.now))
        {
            kept.insert(DATE, date);
        }
        let selected_by = match Vary::read(headers) {
            Vary::Fields(names) => Some(SelectedBy {
                values: vary::selecting(&names, &asking.request),
                names: names.into_boxed_slice(),
            }),
            Vary::Nothing | Vary::Everything => None, // everything is not stored
        };
        let rare = Rare {
            part,
            selected_by,
            tags: tags(headers),
        };
        Stored {
            status,
            fields: Fields::pack(&kept, &self.worker.cache.store.shapes),
            body: Content::Own(Box::default()),
            span,
            rare: rare.boxed(),
            purged: false.into(),
            encrypted: asking.policy.encrypted,
            asked: asking.mark,
        }
    }

    /// What is stored still holds: its fields are updated, and its time begins anew.
    ///
    /// Source: RFC 9111 §4.3.4.
    fn renew(&self, asking: &Asking, stored: &Arc<Stored>, head: &Parts) -> Arc<Stored> {
        let mut fields = stored.headers();
        validate::update(&mut fields, &head.headers);
        // How old it was is for the old one to say.
        if !head.headers.contains_key(AGE) {
            fields.remove(AGE);
        }
        let told = Told::read(&fields);
        let lifetime = asking
            .policy
            .lifetime(stored.status, &fields, &told, self.now);
        let span = self.span(asking, &fields, &told, lifetime);
        let mut renewed = self.stored(asking, stored.status, &fields, &told, span, stored.part());
        renewed.body = stored.shared();
        let renewed = Arc::new(renewed);
        let answered = Answered {
            method: &asking.method,
            request: &asking.request,
            status: stored.status,
            response: &fields,
            told: &told,
            lifetime,
            of_one_caller: asking.policy.is_of_one_caller(&asking.request),
            shares_set_cookie: asking.policy.shares_set_cookie,
        };
        let store = &self.worker.cache.store;
        match storability(&answered) {
            Storability::Storable => {
                store.put(&asking.key, renewed.clone());
            }
            // Another viewer's fields do not make it less than it was; its own do.
            Storability::Not("authorization" | "cookie") => {}
            Storability::Not(_) => store.forget(&asking.key, stored),
        }
        renewed
    }

    /// The rest of what is stored has come: the whole goes to the viewer, and into the store.
    ///
    /// Source: RFC 9111 §3.4.
    fn complete(
        &self,
        asking: &Asking,
        mut fields: HeaderMap,
        head: Parts,
        body: Body,
        begun: bytes::Bytes,
        leader: &mut Option<Leader>,
    ) -> Response<Body> {
        validate::update(&mut fields, &head.headers);
        fields.remove(CONTENT_RANGE);
        fields.remove(CONTENT_LENGTH);
        let told = Told::read(&fields);
        let lifetime = asking
            .policy
            .lifetime(StatusCode::OK, &fields, &told, self.now);
        let span = self.span(asking, &fields, &told, lifetime);
        let fill = Fill {
            cache: self.worker.cache.clone(),
            key: asking.key.clone(),
            stored: self.stored(asking, StatusCode::OK, &fields, &told, span, None),
            leader: leader.take(),
            apart_until: self.now + APART_FOR,
            begun,
        };
        self.worker.count_cached(Outcome::Miss);
        serve::tell(
            &mut fields,
            &status::forwarded(Forwarded::Partial, Some(206), Ok(())),
        );
        let mut response = Response::new(fill.of(body));
        *response.headers_mut() = fields;
        response
    }

    /// The answer to HEAD says whether what a GET would give has changed.
    ///
    /// Source: RFC 9111 §4.3.5.
    fn compare(&self, asking: &Asking, head: &Parts) {
        let Some(stored) = &asking.stored else {
            return;
        };
        if head.status != StatusCode::OK || stored.part().is_some() {
            return;
        }
        let fields = stored.headers();
        let length = head.headers.get(CONTENT_LENGTH);
        let same_length = length
            .is_none_or(|length| length.as_bytes() == stored.body().len().to_string().as_bytes());
        if same_length && validate::is_about(&head.headers, &fields) {
            self.renew(asking, stored, head);
        } else {
            self.worker.cache.store.forget(&asking.key, stored);
        }
    }
}

fn land(leader: &mut Option<Leader>, landed: Landed) {
    if let Some(leader) = leader.take() {
        leader.land(landed);
    }
}

/// The names that an origin gave a response, to purge it by.
fn tags(headers: &HeaderMap) -> Box<[Box<[u8]>]> {
    let of = |name: &str, separator: u8| {
        headers
            .get_all(name)
            .iter()
            .flat_map(move |line| line.as_bytes().split(move |byte| *byte == separator))
            .map(<[u8]>::trim_ascii)
            .filter(|tag| !tag.is_empty())
            .map(Box::from)
            .collect::<Vec<_>>()
    };
    let mut tags: Vec<Box<[u8]>> = of("surrogate-key", b' ');
    tags.extend(of("cache-tag", b','));
    tags.truncate(TAGS_MAX);
    tags.into_boxed_slice()
}

/// Fields that are about one connection, or one proxy (RFC 9111 §3.1); those of hops are gone already.
const NOT_STORED: [HeaderName; 3] = [
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("proxy-authorization"),
];
/// Seconds for which requests do not wait for each other after an answer that was for one of them only.
const APART_FOR: u64 = 10;
/// What is more is nobody's purge; Fastly takes 16 KiB of them, CloudFlare as many as fit in a field.
const TAGS_MAX: usize = 256;
