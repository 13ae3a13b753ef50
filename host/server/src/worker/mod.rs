//! One worker thread: its instances, its connections to upstreams, and its view of what the node serves.
//!
//! Nothing here is shared between threads. A new snapshot reaches a worker through [`Worker::adopt`]; requests under way
//! keep the view that they began with.

mod sinks;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use tidegate_model::deployment::{BindingId, Route, Stage};
use tidegate_model::headers::{Peer, Via};
use tidegate_sandbox::standing::{Rule, StandingPlan, Template};
use tidegate_sandbox::{Decision, Fault, FunctionPool, Pool, Reading, wit};
use tokio::task::JoinSet;

pub use sinks::{SinkTasks, Sinks};

use crate::body::Body;
use crate::cache::{Cache, Outcome};
use crate::deploy::Deployed;
use crate::link::dial::Dialer;
use crate::listen::{Connection, Service};
use crate::request::exchange::{Exchange, Viewer, draw};
use crate::request::{self, recorded};
use crate::serving::{Canary, Serving, Side};
use crate::sync::nodes::Nodes;
use crate::telemetry::metrics::RouteMetrics;
use crate::telemetry::sparing::Sparing;
use crate::upstream::{Handle, TargetAddress, Upstreams};

/// What a worker was told when the node started.
#[derive(Clone)]
pub struct Settings {
    /// The largest request body.
    pub body_bytes_max: u64,
    /// How long a request's body may pause.
    pub body_timeout: Duration,
    /// The node's entry in `Via`.
    pub via: Via,
    /// On an origin: the nodes that may still decide by what was served before.
    pub kept_for: Option<Arc<Nodes>>,
}

/// One worker thread's state.
pub struct Worker {
    pub settings: Settings,
    pub upstreams: Upstreams,
    pub cache: Arc<Cache>,
    /// On an edge: the way to the origins.
    pub dialer: Option<Rc<Dialer>>,
    /// Questions behind viewers that have been served.
    behind: RefCell<JoinSet<()>>,
    /// Which of the metrics' shards is this thread's.
    shard: usize,
    sinks: SinkTasks,
    serving: RefCell<View>,
    /// On an origin: views of the snapshots before, newest first, which edges may still decide by.
    before: RefCell<Vec<Rc<Local>>>,
    peers: RefCell<HashMap<(IpAddr, bool, u16), Rc<Peer>>>,
}

/// A worker's view of what the node serves from.
struct View {
    stable: Rc<Local>,
    canary: Option<(Arc<Canary>, Rc<Local>)>,
}

/// A worker's view of one snapshot.
pub struct Local {
    pub deployed: Arc<Deployed>,
    /// Which side of a canary this is, while there is one.
    side: Option<Side>,
    /// By [`BindingId`].
    pools: Vec<Rc<Pool>>,
    /// By [`BindingId`]; what is no integration's is `Call`.
    integrations: Vec<Integration>,
    /// By [`BindingId`]: an integration that answers by itself.
    asks_nobody: Vec<bool>,
    functions: HashMap<String, FunctionPool>,
    /// By the address of the stage, which the snapshot keeps alive.
    stages: HashMap<*const Stage, Rc<StageLocal>>,
    unrouted: MetricsHandle,
    sparing: Sparing,
    /// Beside `sparing`, so that who is refused hides no failure.
    failures: Sparing,
}

/// How an integration is carried out.
pub enum Integration {
    /// It is called for each request.
    Call,
    /// Its plan stands: send the request on.
    Forward(Forwarding),
    /// Its plan stands: invoke a function.
    Invoke {
        name: String,
        pool: FunctionPool,
        timeout: Option<Duration>,
    },
    /// Its plan stands: answer with this.
    Respond(wit::Response),
}

/// A standing plan to send requests on.
pub struct Forwarding {
    pub destination: Destination,
    pub method: Option<Method>,
    pub rules: Vec<Rule>,
    pub pass_query: bool,
    pub timeout: Option<Duration>,
}

/// Where to.
pub enum Destination {
    /// Scheme and authority are the same for all requests.
    Fixed { handle: Handle, path: PathText },
    /// They are put together for each.
    FromTemplate { uri: Template, binding: BindingId },
}

/// The path and query to ask for.
pub enum PathText {
    Fixed(PathAndQuery),
    Template(Template),
}

/// A stage, as this worker sees it.
pub struct StageLocal {
    pub sinks: Arc<Sinks>,
    /// By the route's place.
    routes: Vec<MetricsHandle>,
    /// What matched no route.
    unrouted: MetricsHandle,
    /// By the route's place: whether something looks at the request's fields after they were forwarded.
    keeps_headers: Vec<bool>,
    /// By the route's place: what functions are told of stage and route, in fields of the gateway's own.
    told: Vec<Vec<(HeaderName, HeaderValue)>>,
}

/// This thread's shard of a route's metrics.
#[derive(Clone)]
pub struct MetricsHandle(Arc<RouteMetrics>, usize);

impl MetricsHandle {
    /// Counts a request.
    pub fn observe(&self, status: http::StatusCode, latency: Duration) {
        self.0.observe(self.1, status, latency);
    }

    /// Counts a request that took no time worth telling.
    pub fn count(&self, status: http::StatusCode) {
        self.0.observe(self.1, status, Duration::ZERO);
    }
}

impl Worker {
    /// A worker that serves from `serving`.
    pub fn new(
        settings: Settings,
        upstreams: Upstreams,
        cache: Arc<Cache>,
        dialer: Option<Rc<Dialer>>,
        shard: usize,
        serving: &Arc<Serving>,
    ) -> Self {
        let sinks = SinkTasks::default();
        let view = View::new(serving, &upstreams, &sinks, shard, &[]);
        serving.adopted.by_one_more();
        Self {
            sinks,
            settings,
            upstreams,
            cache,
            dialer,
            behind: RefCell::default(),
            shard,
            serving: RefCell::new(view),
            before: RefCell::default(),
            peers: RefCell::default(),
        }
    }

    /// What a request with these fields is served from, all of it.
    pub fn local(&self, headers: &HeaderMap) -> Rc<Local> {
        let serving = self.serving.borrow();
        match &serving.canary {
            Some((canary, local)) if canary.split.takes(headers, draw()) => local.clone(),
            _ => serving.stable.clone(),
        }
    }

    /// Serves from something else from now on. Instances of bindings that did not change go on.
    pub fn adopt(&self, serving: &Arc<Serving>) {
        let next = {
            let before = self.serving.borrow();
            let canary = before.canary.iter().map(|(_, local)| &**local);
            let known: Vec<&Local> = std::iter::once(&*before.stable).chain(canary).collect();
            View::new(serving, &self.upstreams, &self.sinks, self.shard, &known)
        };
        let before = self.serving.replace(next);
        serving.adopted.by_one_more();
        if let Some(nodes) = &self.settings.kept_for {
            let served = nodes.served();
            self.keep_before(before.stable, &served);
            if let Some((_, canary)) = before.canary {
                self.keep_before(canary, &served);
            }
        }
    }

    /// What an edge decided by: the snapshot of that identifier, where it is served or was not long ago.
    pub fn published(&self, snapshot: &str) -> Option<Rc<Local>> {
        let serving = self.serving.borrow();
        let canary = serving.canary.iter().map(|(_, local)| local);
        let mut current = std::iter::once(&serving.stable).chain(canary);
        if let Some(local) = current.find(|local| *local.deployed.published == *snapshot) {
            return Some(local.clone());
        }
        let before = self.before.borrow();
        let same = |local: &&Rc<Local>| *local.deployed.published == *snapshot;
        before.iter().find(same).cloned()
    }

    /// Keeps the last few snapshots, and those before them that a node still decides by.
    fn keep_before(&self, local: Rc<Local>, served: &BTreeSet<String>) {
        let current = self.serving.borrow().stable.deployed.published.clone();
        let mut before = self.before.borrow_mut();
        before.retain(|other| {
            let id = &other.deployed.published;
            *id != current && *id != local.deployed.published
        });
        if local.deployed.published != current {
            before.insert(0, local);
        }
        let newest = before.len().min(BEFORE_MAX);
        let older = before.split_off(newest);
        let served = |other: &Rc<Local>| served.contains(&*other.deployed.published);
        before.extend(older.into_iter().filter(served).take(SERVED_MAX));
    }

    /// Counts what the cache did for a request.
    pub fn count_cached(&self, outcome: Outcome) {
        self.cache.count(self.shard, outcome);
    }

    /// Does something that no viewer waits for; nothing where there is much of that already.
    pub fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        let mut behind = self.behind.borrow_mut();
        while behind.try_join_next().is_some() {}
        if behind.len() < BEHIND_MAX {
            behind.spawn_local(work);
        }
    }

    /// Writes the log records that wait; the worker has served its last request.
    pub async fn finish(&self) {
        self.behind.borrow_mut().abort_all();
        self.sinks.finish().await;
    }

    /// What upstreams are told of a viewer.
    pub fn peer(&self, viewer: &Viewer) -> Rc<Peer> {
        let key = (viewer.peer.ip(), viewer.tls, viewer.port);
        if let Some(peer) = self.peers.borrow().get(&key) {
            return peer.clone();
        }
        let peer = Rc::new(Peer::new(viewer.peer.ip(), viewer.tls, viewer.port));
        let mut peers = self.peers.borrow_mut();
        if peers.len() >= PEERS_MAX {
            peers.clear();
        }
        peers.insert(key, peer.clone());
        peer
    }
}

impl Service for Worker {
    async fn call(
        self: Rc<Self>,
        request: Request<Incoming>,
        connection: Rc<Connection>,
    ) -> Response<Body> {
        request::handle(&self, request, &connection).await
    }

    fn refused(&self, connection: &Connection, status: http::StatusCode) -> Option<String> {
        let local = self.serving.borrow().stable.clone();
        local.unrouted.count(status);
        let id = request::RequestId::random();
        local.tell_sparingly(|left_out| {
            let (request_id, peer) = (id.as_str(), connection.peer);
            let (status, cause) = (status.as_u16(), unreadable(status));
            tracing::info!(request_id, %peer, status, cause, left_out, "request refused");
        });
        Some(id.as_str().to_owned())
    }
}

/// Why a request was answered before it could be read whole.
fn unreadable(status: http::StatusCode) -> &'static str {
    match status {
        http::StatusCode::REQUEST_TIMEOUT => "the header section did not come in time",
        http::StatusCode::URI_TOO_LONG => "the request's target is too long",
        http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            "the header section is over the limit (`head` or `headers` in [limits])"
        }
        _ => "what was sent is not HTTP",
    }
}

impl View {
    /// `before` is what the worker served from until now: its instances are taken over.
    fn new(
        serving: &Arc<Serving>,
        upstreams: &Upstreams,
        sinks: &SinkTasks,
        shard: usize,
        before: &[&Local],
    ) -> Self {
        let local = |deployed: &Arc<Deployed>, side, known: &[&Local]| {
            let deployed = deployed.clone();
            Rc::new(Local::new(deployed, side, upstreams, sinks, shard, known))
        };
        let side = serving.canary.clone().map(Side::Stable);
        let stable = local(&serving.stable, side, before);
        let canary = serving.canary.as_ref().map(|canary| {
            // What both have in common has one pool.
            let known: Vec<&Local> = before.iter().copied().chain([&*stable]).collect();
            let side = Some(Side::Canary(canary.clone()));
            (canary.clone(), local(&canary.deployed, side, &known))
        });
        Self { stable, canary }
    }
}

impl Local {
    fn new(
        deployed: Arc<Deployed>,
        side: Option<Side>,
        upstreams: &Upstreams,
        sinks: &SinkTasks,
        shard: usize,
        before: &[&Self],
    ) -> Self {
        let pools: Vec<_> = deployed
            .bindings
            .iter()
            .map(|binding| pool_of(binding, before))
            .collect();
        let functions: HashMap<_, _> = deployed
            .functions
            .iter()
            .map(|(name, linked)| (name.clone(), linked.pool(before)))
            .collect();
        let integrations: Vec<Integration> = pools
            .iter()
            .enumerate()
            .map(|(place, pool)| integration(place, pool, &functions, &deployed, upstreams))
            .collect();
        let bindings = integrations.iter().zip(&deployed.snapshot.bindings);
        let asks_nobody = bindings
            .map(|(integration, binding)| {
                matches!(integration, Integration::Respond(_)) || binding.plugin == MOCK
            })
            .collect();
        let unrouted = MetricsHandle(deployed.metrics.unrouted.clone(), shard);
        let mut local = Self {
            pools,
            integrations,
            asks_nobody,
            functions,
            stages: HashMap::new(),
            unrouted,
            sparing: Sparing::default(),
            failures: Sparing::default(),
            side,
            deployed: deployed.clone(),
        };
        for (stage, metrics) in deployed
            .snapshot
            .stages
            .iter()
            .zip(&deployed.metrics.stages)
        {
            let view = local.stage_local(sinks, stage, metrics, shard);
            local.stages.insert(Arc::as_ptr(stage), Rc::new(view));
        }
        local
    }

    /// The instances of a binding.
    pub fn pool(&self, id: BindingId) -> &Pool {
        &self.pools[id.0 as usize]
    }

    /// Has a step call written down, where somebody records its plugin.
    pub fn record<R: Clone>(
        &self,
        id: BindingId,
        exchange: &Exchange,
        answer: &Result<R, Fault>,
        value: fn(R) -> serde_json::Value,
    ) {
        let recorder = &self.deployed.recorder;
        if let (false, Ok(answer)) = (recorder.is_idle(), answer) {
            let binding = self.deployed.snapshot.binding(id);
            recorder.take(&binding.plugin, |wanted, number| {
                recorded::case(binding, exchange, value(answer.clone()), wanted, number)
            });
        }
    }

    /// Whether an edge answers by itself: the integration asks nobody, or there is none, and no function stands around it.
    pub fn answers_here(&self, route: &Route) -> bool {
        let integration = route.pipeline.integration;
        route.pipeline.middleware.is_empty()
            && integration.is_none_or(|id| self.asks_nobody[id.0 as usize])
    }

    /// Whether the request transforms of a route only change requests, and answer none.
    pub fn transforms_by_rules(&self, route: &Route) -> bool {
        let transforms = &route.pipeline.request_transforms;
        transforms
            .iter()
            .all(|&id| matches!(self.pool(id).binding().setup.decision, Decision::Rules(_)))
    }

    /// How an integration is carried out.
    pub fn integration(&self, id: BindingId) -> &Integration {
        &self.integrations[id.0 as usize]
    }

    /// The instances of a function.
    pub fn function(&self, name: &str) -> Option<&FunctionPool> {
        self.functions.get(name)
    }

    /// A stage of this snapshot.
    pub fn stage(&self, stage: &Arc<Stage>) -> Rc<StageLocal> {
        self.stages
            .get(&Arc::as_ptr(stage))
            .expect("a request's stage is of its own snapshot")
            .clone()
    }

    /// Whether requests are served from here while it is on trial.
    pub fn is_canary(&self) -> bool {
        matches!(self.side, Some(Side::Canary(_)))
    }

    /// Counts a response, while a canary is compared with what it may replace.
    pub fn compare(&self, status: http::StatusCode, latency: Duration) {
        if let Some(side) = &self.side {
            side.count(status, latency);
        }
    }

    /// Writes a log line that strangers can cause, where there is room for one; it is told how many were left out before.
    pub fn tell_sparingly(&self, write: impl FnOnce(Option<u64>)) {
        self.sparing.tell(write);
    }

    /// As [`Self::tell_sparingly`], of requests that failed for a reason of ours: strangers may know which do.
    pub fn tell_failure(&self, write: impl FnOnce(Option<u64>)) {
        self.failures.tell(write);
    }

    /// Requests that no stage took.
    pub fn unrouted(&self) -> &MetricsHandle {
        &self.unrouted
    }

    /// The request's fields, to be forwarded: moved, unless something looks at them later.
    pub fn request_headers(&self, exchange: &mut Exchange) -> HeaderMap {
        let stage = self.stages.get(&Arc::as_ptr(&exchange.stage));
        let kept = |place: usize| stage.is_none_or(|stage| stage.keeps_headers[place]);
        match exchange.route {
            Some(place) if !kept(place) => std::mem::take(&mut exchange.head.headers),
            _ => exchange.head.headers.clone(),
        }
    }

    /// What a function is told of the request's stage and route.
    pub fn told_to_functions(&self, exchange: &Exchange) -> &[(HeaderName, HeaderValue)] {
        let stage = self.stages.get(&Arc::as_ptr(&exchange.stage));
        match (stage, exchange.route) {
            (Some(stage), Some(place)) => &stage.told[place],
            _ => &[],
        }
    }

    fn stage_local(
        &self,
        sinks: &SinkTasks,
        stage: &Stage,
        metrics: &crate::telemetry::metrics::StageMetrics,
        shard: usize,
    ) -> StageLocal {
        let lost = &self.deployed.metrics.records_lost;
        let start = |id: &BindingId| sinks.start(self.pools[id.0 as usize].clone(), lost.clone());
        let sinks = stage.log_sinks.iter().map(start).collect();
        let sinks_read = stage.log_sinks.iter().any(|&id| {
            self.pool(id)
                .binding()
                .setup
                .reads
                .iter()
                .any(Reading::needs_headers)
        });
        let keeps_headers = stage
            .entries
            .iter()
            .map(|route| sinks_read || self.reads_later(route))
            .collect();
        StageLocal {
            sinks: Arc::new(Sinks(sinks)),
            routes: metrics
                .routes
                .iter()
                .map(|route| MetricsHandle(route.clone(), shard))
                .collect(),
            unrouted: MetricsHandle(metrics.unrouted.clone(), shard),
            keeps_headers,
            told: stage
                .entries
                .iter()
                .map(|route| told(stage, route))
                .collect(),
        }
    }

    fn reads_later(&self, route: &Route) -> bool {
        route.pipeline.response_transforms.iter().any(|&id| {
            match &self.pool(id).binding().setup.decision {
                Decision::Rules(rules) => rules.iter().any(Rule::reads_headers),
                Decision::Call | Decision::Plan(_) => true,
            }
        })
    }
}

/// What has no place in a field (RFC 9110 section 5.5) is not told.
fn told(stage: &Stage, route: &Route) -> Vec<(HeaderName, HeaderValue)> {
    let of_stage = [
        ("tidegate-api-id".to_owned(), &stage.api_id),
        ("tidegate-stage".to_owned(), &stage.name),
        ("tidegate-route".to_owned(), &route.key),
    ];
    let variables = stage
        .variables
        .iter()
        .map(|(name, value)| (format!("tidegate-stage-variable-{name}"), value));
    let field = |(name, value): (String, &String)| {
        Some((
            HeaderName::try_from(name).ok()?,
            HeaderValue::from_str(value).ok()?,
        ))
    };
    of_stage
        .into_iter()
        .chain(variables)
        .filter_map(field)
        .collect()
}

impl StageLocal {
    /// The metrics of a route, or of what matched none.
    pub fn route(&self, place: Option<usize>) -> &MetricsHandle {
        place.map_or(&self.unrouted, |place| &self.routes[place])
    }
}

impl crate::deploy::LinkedFunction {
    fn pool(&self, before: &[&Local]) -> FunctionPool {
        let unchanged = |local: &&&Local| {
            local
                .deployed
                .functions
                .get(&self.options.name)
                .is_some_and(|other| Arc::ptr_eq(&other.account, &self.account))
        };
        match before
            .iter()
            .find(unchanged)
            .and_then(|local| local.functions.get(&self.options.name))
        {
            Some(pool) => pool.clone(),
            None => FunctionPool::new(
                self.function.clone(),
                self.options.clone(),
                self.services.clone(),
                self.account.clone(),
            ),
        }
    }
}

fn pool_of(binding: &Arc<tidegate_sandbox::Binding>, before: &[&Local]) -> Rc<Pool> {
    let same = |pool: &&Rc<Pool>| Arc::ptr_eq(pool.binding(), binding);
    match before.iter().flat_map(|local| &local.pools).find(same) {
        Some(pool) => pool.clone(),
        None => Rc::new(Pool::new(binding.clone())),
    }
}

fn integration(
    place: usize,
    pool: &Pool,
    functions: &HashMap<String, FunctionPool>,
    deployed: &Deployed,
    upstreams: &Upstreams,
) -> Integration {
    let Decision::Plan(plan) = &pool.binding().setup.decision else {
        return Integration::Call;
    };
    let milliseconds =
        |timeout: Option<u32>| timeout.map(|timeout| Duration::from_millis(timeout.into()));
    match plan {
        StandingPlan::Respond(response) => Integration::Respond(response.clone()),
        StandingPlan::Invoke {
            function,
            timeout_ms,
        } => {
            match functions.get(function) {
                Some(pool) => Integration::Invoke {
                    name: function.clone(),
                    pool: pool.clone(),
                    timeout: milliseconds(*timeout_ms),
                },
                // A deployment names only functions that it has; edges have none, and ask an origin instead.
                None => Integration::Call,
            }
        }
        StandingPlan::Forward {
            uri,
            method,
            rules,
            pass_query,
            timeout_ms,
        } => {
            let binding = BindingId(u32::try_from(place).expect("bindings are counted in 32 bits"));
            let destination = fixed_destination(uri, deployed, upstreams).unwrap_or_else(|| {
                Destination::FromTemplate {
                    uri: uri.clone(),
                    binding,
                }
            });
            Integration::Forward(Forwarding {
                destination,
                method: method.clone(),
                rules: rules.clone(),
                pass_query: *pass_query,
                timeout: milliseconds(*timeout_ms),
            })
        }
    }
}

/// The destination of a URI whose scheme and authority are literal. The deployment has checked that it is allowed.
fn fixed_destination(
    uri: &Template,
    deployed: &Deployed,
    upstreams: &Upstreams,
) -> Option<Destination> {
    let (origin, rest) = uri.split_origin()?;
    let origin: http::Uri = origin.parse().ok()?;
    let authority = origin.authority()?.as_str();
    let handle = match upstreams.named(authority) {
        Some(handle) => handle,
        None if deployed.pinned.contains(authority) => {
            upstreams.resolve(&TargetAddress::of(&origin)?).ok()?
        }
        None => return None,
    };
    let path = match rest.literal() {
        Some("") => PathText::Fixed(PathAndQuery::from_static("/")),
        Some(path) => PathText::Fixed(path.parse().ok()?),
        None => PathText::Template(rest),
    };
    Some(Destination::Fixed { handle, path })
}

/// Questions behind viewers at once, of one worker.
const BEHIND_MAX: usize = 64;
/// The plugin that makes responses up.
const MOCK: &str = "mock";
/// An edge learns of a new snapshot within a round trip, in which there may be some swaps.
const BEFORE_MAX: usize = 8;
/// Older ones that nodes still decide by, since they cannot load what came after.
const SERVED_MAX: usize = 8;
/// Viewers whose forwarding fields are kept ready.
const PEERS_MAX: usize = 1024;
